/** What lists share: the row that has the focus, links to other pages, and an address that is not understood. */
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { changeQuery } from './filters';
import { count } from './format';
import { useKeys } from './keys';
import { yuan } from './money';
import { Bar, Fill } from './parts';
import { place, returned } from './router';
import { texts } from './texts';

/** In which list which row was opened: the way back leads to it. */
const opened = new Map<string, string>();

/**
 * The row that has the focus. `j` and `k` move it, Enter opens it, and on the way back it is the one that was opened.
 * The focus is on a row's first control. The browser restores the scroll position.
 */
export function useRows(rows: { id: string }[] | undefined) {
  const current = useSignal(-1);
  const body = useRef<HTMLTableSectionElement>(null);
  const href = place.value.pathname + place.value.search;

  const controlOf = (index: number) =>
    body.current?.rows[index]?.querySelector<HTMLElement>('input, a') ?? undefined;
  const focusRow = (index: number) => {
    const control = controlOf(index);
    if (!control) return;
    current.value = index;
    control.focus();
    control.scrollIntoView({ block: 'nearest' });
  };
  useLayoutEffect(() => {
    current.value = -1;
    const id = opened.get(href);
    if (!returned.peek() || id === undefined || !rows) return;
    const index = rows.findIndex((row) => row.id === id);
    current.value = index;
    controlOf(index)?.focus({ preventScroll: true });
    // Only when the page is shown: newer rows behind it move nothing.
  }, [href, rows === undefined]);
  useKeys({
    j: () => focusRow(Math.min(current.value + 1, (rows?.length ?? 0) - 1)),
    k: () => focusRow(Math.max(current.value - 1, 0)),
    Enter: () => body.current?.rows[current.value]?.querySelector('a')?.click(),
  });

  return {
    body,
    current: current.value,
    /** Notes that a row was reached by other means, so that `j` goes on from there. */
    onReach: (index: number) => {
      current.value = index;
    },
    onOpen: (id: string) => opened.set(href, id),
  };
}

/** Opens a row as the link in it does, unless a control in it was meant or text is being selected. */
export function openRow(event: MouseEvent & { currentTarget: HTMLElement }): void {
  const selecting = getSelection()?.isCollapsed === false;
  if (event.target instanceof Element && event.target.closest('a, button, input, label')) return;
  if (selecting) return;
  const link = event.currentTarget.querySelector('a');
  if (link && (event.ctrlKey || event.metaKey)) open(link.href, '_blank', 'noopener');
  else link?.click();
}

const SIZES = ['20', '50', '100'];

/** Rows on a page where the address does not say. */
export const DEFAULT_SIZE = '50';

/** How many there are, with their sum, and how many are shown on a page. */
export function Summary(props: {
  /** Absent while the numbers are not known. */
  data: { total: number; total_amount: string } | undefined;
  size: string;
  children?: ComponentChildren;
}) {
  const { data, size, children } = props;
  const { list } = texts.value;
  return (
    <div class="summary">
      <p role="status">
        {data && (
          <Fill
            text={list.total}
            count={<b>{count(data.total)}</b>}
            sum={<b class="money">{yuan(data.total_amount)}</b>}
          />
        )}
      </p>
      <div class="end screen-only">
        <label for="size">{list.size}</label>
        <select
          id="size"
          value={size}
          onChange={({ currentTarget: { value } }) =>
            changeQuery({ size: value === DEFAULT_SIZE ? undefined : value })
          }
        >
          {SIZES.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
        {children}
      </div>
    </div>
  );
}

/** The size that the address asks for, or the usual one: what the API refuses must not make a million rows here. */
export function skeletonRows(size: string): number {
  const rows = Number(size);
  return Number.isInteger(rows) && 1 <= rows && rows <= 100 ? rows : 50;
}

/** A link to another page of a list; without an address where there is no such page. */
export function PageLink(props: { href: string | undefined; text: string; keys: string }) {
  const { href, text, keys } = props;
  return (
    <a
      class="button"
      aria-keyshortcuts={keys}
      {...(href === undefined ? { role: 'link', 'aria-disabled': 'true' as const } : { href })}
    >
      {text}
    </a>
  );
}

/** An address that the API does not understand, such as one that was cut while it was sent on. */
export function WrongAddress(props: {
  errors: { path: string; message: string }[];
  /** The list without filters. */
  list: string;
}) {
  const { list: words, common, wrongValue } = texts.value;
  return (
    <Bar
      tone="danger"
      alert
      actions={
        <a class="button" href={props.list}>
          {common.clearFilters}
        </a>
      }
    >
      {props.errors.map(({ path, message }) => (
        <p key={path}>
          <Fill
            text={words.wrongParameter}
            path={<code>{path}</code>}
            message={wrongValue || message}
          />
        </p>
      ))}
    </Bar>
  );
}
