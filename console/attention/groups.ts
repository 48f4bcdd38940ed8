/** What needs a person, by its cause. Without imports, so that its vectors run in Node. */

/** The part of a code that is explained: `ACQ.SYSTEM_ERROR` is SYSTEM_ERROR, as the API has it. */
export function causeOf(code: string): string {
  return code.slice(code.lastIndexOf('.') + 1);
}

/** The text for a code: its own, else that of its family (`isv.…`), else the one for all others. */
export function textFor(texts: Record<string, string>, code: string): string {
  const own = (name: string) => (Object.hasOwn(texts, name) ? texts[name] : undefined);
  return own(causeOf(code)) ?? own(`${code.split('.')[0]}.`) ?? own('') ?? '';
}

/** Entries of one cause, oldest first; the causes in the order of their oldest entry. */
export function byCause<T extends { attention: string; since: string }>(
  entries: readonly T[],
): { code: string; entries: T[] }[] {
  const sorted = entries.toSorted((a, b) => Date.parse(a.since) - Date.parse(b.since));
  return [...Map.groupBy(sorted, ({ attention }) => attention)].map(([code, list]) => ({
    code,
    entries: list,
  }));
}

/** Whether a person's word takes it off the list: what is over and moves no money any more. */
export function isDismissible(code: string): boolean {
  return ['CONTRADICTION', 'PAID_AFTER_FAILED'].includes(causeOf(code));
}
