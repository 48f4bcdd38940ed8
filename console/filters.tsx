/** The parts of query bars: toggles for several values, and ranges of days. A change applies at once. */
import { useSignal } from '@preact/signals';
import { useId } from 'preact/hooks';
import { day, monthStart, shiftDay } from './format';
import { useKeys } from './keys';
import { go, place, withQuery } from './router';
import { zone } from './session';
import { fill, texts } from './texts';

/** A parameter of the address. Empty counts as absent, as in the API. */
export function parameter(name: string): string | undefined {
  return place.value.searchParams.get(name) || undefined;
}

/** Goes to the address with other parameters, at the first page, as one entry of the history. */
export function changeQuery(changes: Record<string, string | undefined>): void {
  const { pathname, searchParams } = place.peek();
  const { page: _, cursor: __, ...kept } = Object.fromEntries(searchParams);
  go(withQuery(pathname, { ...kept, ...changes }));
}

/** One button for each value; several can be chosen. */
export function Toggles(props: { legend: string; name: string; values: Record<string, string> }) {
  const { legend, name, values } = props;
  const chosen = parameter(name)?.split(',') ?? [];
  const toggle = (value: string) => {
    const next = chosen.includes(value)
      ? chosen.filter((one) => one !== value)
      : Object.keys(values).filter((one) => one === value || chosen.includes(one));
    changeQuery({ [name]: next.join(',') });
  };
  return (
    <fieldset>
      <legend>{legend}</legend>
      <div class="toggles">
        {Object.entries(values).map(([value, word]) => (
          <button
            key={value}
            type="button"
            class="toggle"
            aria-pressed={chosen.includes(value)}
            onClick={() => toggle(value)}
          >
            {word}
          </button>
        ))}
      </div>
    </fieldset>
  );
}

/** The ranges that one click chooses, each with its first and last day. */
function presetRanges(today: string) {
  return {
    today: [today, today],
    yesterday: [shiftDay(today, -1), shiftDay(today, -1)],
    week: [shiftDay(today, -6), today],
    month: [shiftDay(today, -29), today],
    thisMonth: [monthStart(today), today],
    lastMonth: [monthStart(today, -1), shiftDay(monthStart(today), -1)],
  } as const satisfies Record<
    keyof (typeof texts.value)['list']['days'],
    readonly [string, string]
  >;
}

/**
 * A range of created_at: today, yesterday, …, or two dates. One that is `required` cannot be taken away: it is
 * what the page shows, where the address says less.
 */
export function DayRange(props: {
  legend: string;
  required?: { start_time: string; end_time: string };
}) {
  const { legend, required } = props;
  const { list } = texts.value;
  const ranges = presetRanges(day(Date.now(), zone()));
  const from = required?.start_time ?? parameter('start_time');
  const to = required?.end_time ?? parameter('end_time');
  const isChosen = ([first, last]: readonly [string, string]) => from === first && to === last;
  const isPreset = Object.values(ranges).some(isChosen);
  const custom = useSignal((from !== undefined || to !== undefined) && !isPreset);
  const id = useId();

  const choose = ([first, last]: readonly [string, string]) => {
    custom.value = false;
    if (isChosen([first, last]) && !required)
      changeQuery({ start_time: undefined, end_time: undefined });
    else changeQuery({ start_time: first, end_time: last });
  };
  // While a year is being typed, it is 0002, 0020 and 0202 first.
  const change = (end: { start_time: string } | { end_time: string }) => {
    if (Object.values(end).every((date) => date === '' || date >= '1970')) {
      changeQuery({ start_time: from, end_time: to, ...end });
    }
  };
  useKeys({ t: () => choose(ranges.today) });

  return (
    <fieldset>
      <legend>{legend}</legend>
      <div class="toggles">
        {Object.entries(ranges).map(([name, range]) => (
          <button
            key={name}
            type="button"
            class="toggle"
            aria-pressed={isChosen(range)}
            {...(name === 'today' ? { 'aria-keyshortcuts': 't' } : {})}
            onClick={() => choose(range)}
          >
            {list.days[name as keyof typeof ranges]}
          </button>
        ))}
        <button
          type="button"
          class="toggle"
          aria-expanded={custom.value}
          aria-pressed={(from !== undefined || to !== undefined) && !isPreset}
          onClick={() => {
            custom.value = !custom.value;
          }}
        >
          {list.custom}
        </button>
      </div>
      {(custom.value || ((from || to) && !isPreset)) && (
        <div class="dates">
          <div class="field">
            <label for={`${id}-from`}>{list.from}</label>
            <input
              id={`${id}-from`}
              type="date"
              value={from?.slice(0, 10) ?? ''}
              max={to?.slice(0, 10)}
              onChange={(event) => change({ start_time: event.currentTarget.value })}
            />
          </div>
          <div class="field">
            <label for={`${id}-to`}>{list.to}</label>
            <input
              id={`${id}-to`}
              type="date"
              value={to?.slice(0, 10) ?? ''}
              min={from?.slice(0, 10)}
              onChange={(event) => change({ end_time: event.currentTarget.value })}
            />
          </div>
          {/* A date field follows the browser's language; this is how it is read. */}
          <p class="mono small">{fill(list.chosen, { from: from ?? '…', to: to ?? '…' })}</p>
        </div>
      )}
    </fieldset>
  );
}

/** Filters that fold where there is little room, with how many there are. */
export function FilterBar({
  names,
  children,
}: {
  names: string[];
  children: preact.ComponentChildren;
}) {
  const { list, common } = texts.value;
  const open = useSignal(false);
  const set = names.filter((name) => parameter(name) !== undefined);
  const groups = new Set(set.map((name) => (name === 'end_time' ? 'start_time' : name)));
  return (
    <div class="filter-bar screen-only">
      <button
        type="button"
        class="fold"
        aria-expanded={open.value}
        onClick={() => {
          open.value = !open.value;
        }}
      >
        {groups.size > 0 ? fill(list.filtersCount, { count: groups.size }) : list.filters}
      </button>
      <div class="filters" data-open={open.value}>
        {children}
        {set.length > 0 && (
          <button
            type="button"
            class="quiet"
            onClick={() => changeQuery(Object.fromEntries(names.map((name) => [name, undefined])))}
          >
            {common.clearFilters}
          </button>
        )}
      </div>
    </div>
  );
}
