/** The list of payments. Its address is the query of GET /payments, so a bookmark is a saved view. */
import { signal, useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { get } from '../api';
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
import {
  Bar,
  Fill,
  Foreign,
  Heading,
  Identifier,
  Money,
  methodName,
  PaymentStatus,
  ReadFailure,
  Time,
} from '../parts';
import { useGet } from '../resource';
import { go, place, withQuery } from '../router';
import { may, zone } from '../session';
import { fill, texts } from '../texts';
import type { Payment, PaymentPage } from '../types';
import { ExportButton } from './export';

/** What the API filters by. */
const FILTERS = [
  'status',
  'payment_method',
  'refund_state',
  'start_time',
  'end_time',
  'order_no',
  'payment_no',
];

/** The payments of the list that was shown last, so that a detail knows the one before and the one after. */
export const listed = signal<{ href: string; ids: string[] } | undefined>(undefined);

/** What the API is asked for at an address of the list. */
export function pathOf({ searchParams }: URL): string {
  return withQuery('/payments', { size: DEFAULT_SIZE, ...Object.fromEntries(searchParams) });
}

/** /console/payments */
export function PaymentListPage() {
  const { list, title } = texts.value;
  const query = Object.fromEntries(place.value.searchParams);
  const size = query.size ?? DEFAULT_SIZE;
  const path = pathOf(place.value);
  const { answer, isOther, failure, busy, reload } = useGet<PaymentPage>(path);
  const page = Number(query.page ?? 1);
  const data = answer?.data;
  // After a failure the rows of the address before stay, and must not be taken for those of this one.
  const isLeftOver = failure !== undefined && isOther;
  const pages = Math.max(1, Math.ceil((data?.total ?? 0) / Number(size)));
  const filtered = FILTERS.some((name) => query[name]);

  useEffect(() => {
    document.title = `${list.title} · ${title}`;
  }, [list, title]);
  useEffect(() => {
    const href = place.peek().pathname + place.peek().search;
    if (data && !isOther) listed.value = { href, ids: data.list.map(({ id }) => id) };
  }, [data, isOther]);

  const hrefOf = (to: number) => {
    if (!Number.isInteger(to) || !(1 <= to && to <= pages) || to === page) return undefined;
    const { cursor: _, ...kept } = query;
    return withQuery('/console/payments', { ...kept, page: to === 1 ? undefined : String(to) });
  };
  const goPage = (to: number) => {
    const href = hrefOf(to);
    if (href) go(href);
  };
  useKeys({ '[': () => goPage(page - 1), ']': () => goPage(page + 1) });

  return (
    <>
      <Heading>{list.title}</Heading>
      <FilterBar names={FILTERS}>
        <Toggles legend={list.status} name="status" values={texts.value.paymentStatus} />
        <Toggles legend={list.method} name="payment_method" values={texts.value.method} />
        <Toggles legend={list.refundState} name="refund_state" values={texts.value.refundState} />
        <DayRange legend={list.created} />
        <NumberFilters />
      </FilterBar>
      {failure?.code === 40000 ? (
        <WrongAddress errors={failure.errors} list="/console/payments" />
      ) : (
        failure && <ReadFailure failure={failure} stale={data !== undefined} reload={reload} />
      )}
      <Newer path={path} page={page} data={data} reload={reload} />
      <Summary data={isLeftOver ? undefined : data} size={size}>
        {may('payments:export') && data && !isOther && data.total > 0 && (
          <ExportButton query={query} total={data.total} />
        )}
      </Summary>
      {data?.total === 0 && !busy ? (
        <Nothing filtered={filtered} />
      ) : (
        (data || busy) && (
          <Rows rows={data?.list} busy={busy || isLeftOver} size={skeletonRows(size)} />
        )
      )}
      {data && data.list.length === 0 && data.total > 0 && !busy && (
        <p class="nothing muted">{fill(list.beyond, { count: count(pages) })}</p>
      )}
      {data && data.total > Number(size) && (
        <nav class="pager" aria-label={list.pager}>
          <PageLink href={hrefOf(Math.min(page - 1, pages))} text={list.previous} keys="[" />
          <input
            key={page}
            type="text"
            inputMode="numeric"
            aria-label={list.page}
            defaultValue={String(page)}
            onKeyDown={(event) => {
              if (event.key !== 'Enter') return;
              const typed = Math.trunc(Number(event.currentTarget.value)) || page;
              const to = Math.min(Math.max(typed, 1), pages);
              event.currentTarget.value = String(to);
              goPage(to);
            }}
          />
          <span>{fill(list.pages, { count: count(pages) })}</span>
          <PageLink href={hrefOf(page + 1)} text={list.next} keys="]" />
        </nav>
      )}
    </>
  );
}

/** What a link filters by number, which no button of the query bar shows. */
function NumberFilters() {
  const { list, detail, common } = texts.value;
  const numbers = (['order_no', 'payment_no'] as const).filter((name) => parameter(name));
  if (numbers.length === 0) return null;
  return (
    <div class="chips">
      {numbers.map((name) => (
        <button
          key={name}
          type="button"
          class="toggle"
          aria-pressed="true"
          data-tip={common.clearFilters}
          onClick={() => changeQuery({ [name]: undefined })}
        >
          <span>
            <Fill
              text={list.onlyNumber}
              name={detail.field[name]}
              number={<Foreign text={parameter(name) ?? ''} />}
            />{' '}
            ✕
          </span>
        </button>
      ))}
    </div>
  );
}

/** New payments do not move the rows that somebody reads: they are offered, when the tab comes back. */
function Newer(props: {
  path: string;
  page: number;
  data: PaymentPage | undefined;
  reload: () => Promise<void>;
}) {
  const { path, page, data, reload } = props;
  const newer = useSignal(false);
  useEffect(() => {
    newer.value = false;
    if (page !== 1 || !data) return;
    const look = async () => {
      if (document.visibilityState !== 'visible') return;
      // A question in passing: without an answer nothing is lost.
      const now = await get<PaymentPage>(path, { once: true }).catch(() => undefined);
      newer.value = now !== undefined && now.data.list[0]?.id !== data.list[0]?.id;
    };
    document.addEventListener('visibilitychange', look);
    return () => document.removeEventListener('visibilitychange', look);
  }, [newer, path, page, data]);
  if (!newer.value) return null;
  const { list, common } = texts.value;
  return (
    <Bar
      actions={
        <button
          type="button"
          onClick={async () => {
            newer.value = false;
            await reload();
          }}
        >
          {common.refresh}
        </button>
      }
    >
      {list.newer}
    </Bar>
  );
}

/** Nothing that fits; or nothing at all yet, and then what to do. */
function Nothing({ filtered }: { filtered: boolean }) {
  const { list, common } = texts.value;
  return (
    <div class="nothing">
      <p>
        <b>{filtered ? list.empty : list.firstDay}</b>
      </p>
      {filtered ? (
        <a class="button" href="/console/payments">
          {common.clearFilters}
        </a>
      ) : (
        <p class="muted">{list.firstDayHelp}</p>
      )}
    </div>
  );
}

function Rows({ rows, busy, size }: { rows: Payment[] | undefined; busy: boolean; size: number }) {
  const { columns } = texts.value.list;
  const { body, current, onOpen } = useRows(rows);

  return (
    <div class="table cards" aria-busy={busy}>
      <table class="payments">
        <colgroup>
          <col class="w-time" />
          <col class="w-number" />
          <col class="w-long" />
          <col class="w-method" />
          <col class="w-amount" />
          <col class="w-amount" />
          <col class="w-status" />
        </colgroup>
        <thead>
          <tr>
            <th scope="col" aria-sort="descending">
              {fill(columns.created, { zone: offset(zone()) })}
            </th>
            <th scope="col">{columns.orderNo}</th>
            <th scope="col">{columns.paymentNo}</th>
            <th scope="col">{columns.method}</th>
            <th scope="col" class="amount">
              {columns.amount}
            </th>
            <th scope="col" class="amount">
              {columns.refunded}
            </th>
            <th scope="col">{columns.status}</th>
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
              />
            ))}
          </tbody>
        ) : (
          <tbody class="skeleton" aria-hidden="true">
            {Array.from({ length: size }, (_, index) => (
              <tr key={index}>
                <td colSpan={7} />
              </tr>
            ))}
          </tbody>
        )}
      </table>
    </div>
  );
}

function Row({ row, current, onOpen }: { row: Payment; current: boolean; onOpen: () => void }) {
  const { list, detail } = texts.value;
  return (
    // The link in it is what the keyboard reaches; the click on the row is a convenience of the mouse.
    <tr data-current={current} onClick={openRow}>
      <td class="o-5">
        <Time at={row.created_at} />
      </td>
      <td class="o-3">
        {row.order_no === null ? (
          <span class="muted">{list.unknownOrder}</span>
        ) : (
          <Identifier text={row.order_no} what={detail.field.order_no} />
        )}
      </td>
      <td class="o-1" onClickCapture={onOpen}>
        <Identifier
          text={row.payment_no}
          what={detail.field.payment_no}
          href={`/console/payments/${row.id}`}
        />
      </td>
      <td class="o-6 end-of-card">{methodName(row.payment_method)}</td>
      <td class="amount o-2 end-of-card">
        <Money amount={row.amount} />
      </td>
      <td class="amount o-7" data-label={list.columns.refunded}>
        {row.refunded_amount !== '0.00' && <Money amount={row.refunded_amount} />}
      </td>
      <td class="o-4 end-of-card">
        <PaymentStatus status={row.status} refunded={row.refunded_amount} />
      </td>
    </tr>
  );
}
