/**
 * The work list of refunds. Its address is the query of GET /refunds. Those that no gateway carries out are selected
 * and settled here, several at once.
 */
import { useSignal } from '@preact/signals';
import type { RefObject } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { changeQuery, DayRange, FilterBar, parameter, Toggles } from '../filters';
import { count, offset } from '../format';
import { useKeys } from '../keys';
import {
  DEFAULT_SIZE,
  openRow,
  PageLink,
  Summary,
  skeletonRows,
  useRows,
  WrongAddress,
} from '../lists';
import { amountOf, sumOf, yuan } from '../money';
import {
  Foreign,
  Heading,
  Identifier,
  Money,
  methodName,
  ReadFailure,
  RefundStatus,
  Time,
} from '../parts';
import { useGet } from '../resource';
import { addressBefore, go, place, withQuery } from '../router';
import { may, zone } from '../session';
import { fill, texts } from '../texts';
import type { ListedRefund, RefundList } from '../types';
import { coverage, switched } from './selection';
import { SettleDialog } from './settle';

const LIST = '/console/refunds';

/** What the API filters by. */
const FILTERS = ['status', 'start_time', 'end_time'];

/** /console/refunds */
export function RefundListPage() {
  const { work, list, title } = texts.value;
  const query = Object.fromEntries(place.value.searchParams);
  const size = query.size ?? DEFAULT_SIZE;
  const { answer, isOther, failure, busy, reload } = useGet<RefundList>(
    withQuery('/refunds', { ...query, size }),
  );
  const data = answer?.data;
  // After a failure the refunds of the address before stay, and must not be settled for those of this one.
  const isLeftOver = failure !== undefined && isOther;

  useEffect(() => {
    document.title = `${work.title} · ${title}`;
  }, [work, title]);

  return (
    <>
      <Heading>{work.title}</Heading>
      <FilterBar names={FILTERS}>
        <Toggles legend={list.status} name="status" values={texts.value.refundStatus} />
        <DayRange legend={list.created} />
        <Order />
      </FilterBar>
      {failure?.code === 40000 ? (
        <WrongAddress errors={failure.errors} list={LIST} />
      ) : (
        failure && <ReadFailure failure={failure} stale={data !== undefined} reload={reload} />
      )}
      <Summary data={isLeftOver ? undefined : data} size={size} />
      {data?.total === 0 && !busy ? (
        <Nothing />
      ) : (
        (data || busy) && (
          <div inert={isLeftOver}>
            <Rows
              key={place.value.search}
              rows={data?.list}
              busy={busy || isLeftOver}
              size={skeletonRows(size)}
              reload={reload}
            />
          </div>
        )
      )}
      {data && <Pager next={data.next_cursor} />}
    </>
  );
}

/** The newest first, or the oldest: one of them at a time. */
function Order() {
  const { work } = texts.value;
  // Without it, the API begins with the newest.
  const chosen = parameter('order') ?? 'newest';
  return (
    <fieldset>
      <legend>{work.order}</legend>
      <div class="toggles">
        {Object.entries(work.orders).map(([order, word]) => (
          <button
            key={order}
            type="button"
            class="toggle"
            aria-pressed={order === chosen}
            onClick={() => changeQuery({ order: order === 'newest' ? undefined : order })}
          >
            {word}
          </button>
        ))}
      </div>
    </fieldset>
  );
}

/** A cursor leads on only: the way back is the history's, and without one the first page. */
function Pager({ next }: { next: string | null }) {
  const { list, work } = texts.value;
  const { cursor, ...query } = Object.fromEntries(place.value.searchParams);
  const first = cursor === undefined ? undefined : withQuery(LIST, query);
  const before = first === undefined ? undefined : addressBefore();
  const isBefore = before !== undefined && isPageOf(before, query);
  const following = next === null ? undefined : withQuery(LIST, { ...query, cursor: next });
  useKeys({
    '[': () => {
      if (isBefore) history.back();
      else if (first) go(first);
    },
    ']': () => {
      if (following) go(following);
    },
  });
  if (first === undefined && following === undefined) return null;
  return (
    <nav class="pager" aria-label={list.pager}>
      {isBefore ? (
        <button type="button" aria-keyshortcuts="[" onClick={() => history.back()}>
          {list.previous}
        </button>
      ) : (
        <PageLink href={first} text={first ? work.firstPage : list.previous} keys="[" />
      )}
      <PageLink href={following} text={list.next} keys="]" />
    </nav>
  );
}

/** Whether an address is another page of the list with this query. */
function isPageOf({ pathname, searchParams }: URL, query: Record<string, string>): boolean {
  const { cursor: _, ...its } = Object.fromEntries(searchParams);
  return pathname === LIST && withQuery('', its) === withQuery('', query);
}

/** Nothing that fits, nothing left to do, or nothing at all yet and then what to do. */
function Nothing() {
  const { work, common } = texts.value;
  const set = FILTERS.filter((name) => parameter(name) !== undefined);
  if (set.length === 0) {
    return (
      <div class="nothing">
        <p>
          <b>{work.firstDay}</b>
        </p>
        <p class="muted">{work.firstDayHelp}</p>
      </div>
    );
  }
  if (set.length === 1 && parameter('status') === '0') {
    return (
      <div class="nothing">
        <p>
          <b>{work.allEnded}</b>
        </p>
        <p class="muted">{work.allEndedHelp}</p>
        <a class="button" href={LIST}>
          {work.all}
        </a>
      </div>
    );
  }
  return (
    <div class="nothing">
      <p>
        <b>{work.empty}</b>
      </p>
      <a class="button" href={LIST}>
        {common.clearFilters}
      </a>
    </div>
  );
}

function Rows(props: {
  rows: ListedRefund[] | undefined;
  busy: boolean;
  size: number;
  reload: () => Promise<void>;
}) {
  const { rows, busy, size, reload } = props;
  const { columns, selectPage } = texts.value.work;
  const { body, current, onReach, onOpen } = useRows(rows);
  const selected = useSignal<ReadonlySet<string>>(new Set());
  const anchor = useSignal<string | undefined>(undefined);
  const settling = useSignal<{ refunds: ListedRefund[]; status: 1 | 2 } | undefined>(undefined);
  const header = useRef<HTMLInputElement>(null);
  const cardsHeader = useRef<HTMLInputElement>(null);
  const selectable = may('refunds:settle');
  const ids = rows?.map(({ id }) => id) ?? [];
  // A row that a newer answer does not have is not selected any more.
  const chosen = rows?.filter(({ id }) => selected.value.has(id)) ?? [];
  const covered = coverage(selected.value, ids);
  const oldest = parameter('order') === 'oldest';
  const page = {
    covered,
    onSwitch: (on: boolean) => {
      selected.value = new Set(on ? ids : []);
      anchor.value = undefined;
    },
  };

  return (
    <>
      {selectable && (
        <Selection
          chosen={chosen}
          onSettle={(refunds, status) => {
            settling.value = { refunds, status };
          }}
          onClear={() => {
            selected.value = new Set();
          }}
        />
      )}
      {selectable && (
        // Cards have no head to hold it.
        <div class="pick-page screen-only">
          <PageBox box={cardsHeader} {...page} label={selectPage} />
        </div>
      )}
      <div class="table cards" aria-busy={busy}>
        <table class="work-list">
          <thead>
            <tr>
              {selectable && (
                <th scope="col" class="pick">
                  <PageBox box={header} {...page} label={selectPage} />
                </th>
              )}
              <th scope="col" class="created" aria-sort={oldest ? 'ascending' : 'descending'}>
                {fill(columns.created, { zone: offset(zone()) })}
              </th>
              <th scope="col" class="refund-no">
                {columns.refundNo}
              </th>
              <th scope="col" class="payment-no">
                {columns.paymentNo}
              </th>
              <th scope="col" class="method">
                {columns.method}
              </th>
              <th scope="col" class="amount">
                {columns.amount}
              </th>
              <th scope="col" class="reason">
                {columns.reason}
              </th>
              <th scope="col" class="status">
                {columns.status}
              </th>
              <th scope="col" class="actor-name">
                {columns.actor}
              </th>
            </tr>
          </thead>
          {rows ? (
            <tbody ref={body} class={busy ? 'old' : ''}>
              {rows.map((row, index) => (
                <Row
                  key={row.id}
                  row={row}
                  current={index === current}
                  onOpen={() => onOpen(row.id)}
                  {...(selectable
                    ? {
                        selection: {
                          on: selected.value.has(row.id),
                          onSwitch: (on: boolean, range: boolean) => {
                            const from = range ? anchor.value : undefined;
                            const change = { id: row.id, on, anchor: from };
                            selected.value = switched(selected.value, ids, change);
                            anchor.value = row.id;
                            onReach(index);
                          },
                        },
                      }
                    : {})}
                />
              ))}
            </tbody>
          ) : (
            <tbody class="skeleton" aria-hidden="true">
              {Array.from({ length: size }, (_, index) => (
                <tr key={index}>
                  <td colSpan={9} />
                </tr>
              ))}
            </tbody>
          )}
        </table>
      </div>
      {settling.value && (
        <SettleDialog
          {...settling.value}
          onClose={async (settled) => {
            settling.value = undefined;
            if (settled === undefined) return;
            selected.value = new Set([...selected.value].filter((id) => !settled.has(id)));
            // The button that opened the dialogue is gone where nothing is selected any more.
            requestAnimationFrame(() => {
              if (document.activeElement !== document.body) return;
              header.current?.focus();
              cardsHeader.current?.focus();
            });
            await reload();
          }}
        />
      )}
    </>
  );
}

/** Selects all rows of the page, or none. */
function PageBox(props: {
  box: RefObject<HTMLInputElement | null>;
  label: string;
  covered: ReturnType<typeof coverage>;
  onSwitch: (on: boolean) => void;
}) {
  const { box, label, covered, onSwitch } = props;
  return (
    <label>
      <input
        ref={box}
        type="checkbox"
        checked={covered === 'all'}
        indeterminate={covered === 'some'}
        onClick={(event) => onSwitch(event.currentTarget.checked)}
      />
      <span>{label}</span>
    </label>
  );
}

/** What is selected, and what can be done with it. It lies over the page, so that no row moves. */
function Selection(props: {
  chosen: ListedRefund[];
  onSettle: (refunds: ListedRefund[], status: 1 | 2) => void;
  onClear: () => void;
}) {
  const { chosen, onSettle, onClear } = props;
  const { work } = texts.value;
  const { between } = texts.value.common;
  const open = chosen.filter(({ status }) => status === 0);
  const byHand = open.filter(({ gateway }) => gateway === null);
  const byGateway = open.length - byHand.length;
  const ended = chosen.length - open.length;
  const sum = yuan(amountOf(sumOf(chosen.map(({ amount }) => amount))));
  const said = useRef(false);
  if (chosen.length > 0) said.current = true;

  const lines = [
    byGateway > 0 && fill(work.byGateway, { count: byGateway }),
    ended > 0 && fill(work.ended, { count: ended }),
  ].filter((line) => line !== false);
  const selectedText = fill(work.selected, { count: count(chosen.length), sum });
  const status = chosen.length > 0 ? [selectedText, ...lines].join(between) : work.selectedNone;
  return (
    <>
      <p class="visually-hidden" role="status">
        {said.current && status}
      </p>
      {chosen.length > 0 && (
        <section class="selection screen-only" aria-label={work.selection}>
          <div>
            <p>
              <b>{selectedText}</b>
            </p>
            {lines.length > 0 && <p class="small muted">{lines.join(between)}</p>}
          </div>
          <div class="end">
            {byHand.length > 0 ? (
              ([1, 2] as const).map((to) => (
                <button
                  key={to}
                  type="button"
                  class={to === 1 ? 'primary' : 'danger'}
                  onClick={() => onSettle(byHand, to)}
                >
                  {fill(work.settle[to] ?? '', { count: byHand.length })}
                </button>
              ))
            ) : (
              <p class="muted">{work.nothingToSettle}</p>
            )}
            <button type="button" class="quiet" onClick={onClear}>
              {work.deselect}
            </button>
          </div>
        </section>
      )}
    </>
  );
}

function Row(props: {
  row: ListedRefund;
  current: boolean;
  onOpen: () => void;
  selection?: { on: boolean; onSwitch: (on: boolean, range: boolean) => void };
}) {
  const { row, current, onOpen, selection } = props;
  const { work, detail } = texts.value;
  // The click that Space makes does not say whether Shift was held.
  const shift = useRef(false);
  return (
    <tr
      data-current={current}
      {...(selection ? { 'data-selected': selection.on } : {})}
      onClick={openRow}
    >
      {selection && (
        <td class="pick">
          <label>
            <input
              type="checkbox"
              aria-label={fill(work.selectRow, { number: row.refund_no })}
              checked={selection.on}
              onKeyDown={(event) => {
                if (event.key === ' ') shift.current = event.shiftKey;
                if (event.key === 'Enter')
                  event.currentTarget.closest('tr')?.querySelector('a')?.click();
              }}
              onClick={(event) => {
                const byKey = event.detail === 0;
                selection.onSwitch(
                  event.currentTarget.checked,
                  event.shiftKey || (byKey && shift.current),
                );
                shift.current = false;
              }}
            />
          </label>
        </td>
      )}
      <td class="created">
        <Time at={row.created_at} />
      </td>
      <td class="refund-no" data-label={work.columns.refundNo}>
        <Identifier text={row.refund_no} what={work.columns.refundNo} />
      </td>
      <td class="payment-no" data-label={work.columns.paymentNo} onClickCapture={onOpen}>
        <Identifier
          text={row.payment_no}
          what={detail.field.payment_no}
          href={`/console/payments/${row.payment_id}`}
        />
      </td>
      <td class="method">{methodName(row.payment_method)}</td>
      <td class="amount">
        <Money amount={row.amount} />
      </td>
      <td class="reason">{row.reason !== null && <Foreign text={row.reason} />}</td>
      <td class="status">
        <RefundStatus status={row.status} />
        <State row={row} />
      </td>
      <td class="actor-name" data-label={work.columns.actor}>
        {row.actor !== null && <Foreign text={row.actor} />}
      </td>
    </tr>
  );
}

/** Under the status: where the refund is at its gateway, and what can follow. */
function State({ row }: { row: ListedRefund }) {
  const { work, detail, gatewayState, gatewayStateTip } = texts.value;
  const state = row.gateway?.state;
  return (
    <>
      {state !== undefined && (
        <span class="small muted" data-tip={gatewayStateTip[state]}>
          {gatewayState[state] ?? state}
        </span>
      )}
      {state === undefined && row.status === 0 && (
        <span class="small muted" data-tip={work.byHandTip}>
          {work.byHand}
        </span>
      )}
      {row.status === 2 && may('refunds:create') && (
        <a
          class="small"
          href={withQuery(`/console/payments/${row.payment_id}`, { refund: row.id })}
        >
          {detail.refundAgain}
        </a>
      )}
    </>
  );
}
