/** Which rows are selected. Pure, and without imports, so that its vectors run in Node. */

/**
 * The selection after a row was switched. With an anchor, every row between the anchor and this one is switched with
 * it; an anchor that is not on the page counts as none.
 */
export function switched(
  selected: ReadonlySet<string>,
  ids: readonly string[],
  change: { id: string; on: boolean; anchor?: string | undefined },
): Set<string> {
  const { id, on, anchor } = change;
  const to = ids.indexOf(id);
  const from = anchor === undefined ? -1 : ids.indexOf(anchor);
  const range = from === -1 ? [id] : ids.slice(Math.min(from, to), Math.max(from, to) + 1);
  const next = new Set(selected);
  for (const one of range) {
    if (on) next.add(one);
    else next.delete(one);
  }
  return next;
}

/** Whether all rows of the page are selected, some of them, or none. */
export function coverage(
  selected: ReadonlySet<string>,
  ids: readonly string[],
): 'all' | 'some' | 'none' {
  const count = ids.filter((id) => selected.has(id)).length;
  if (count === 0) return 'none';
  return count === ids.length ? 'all' : 'some';
}
