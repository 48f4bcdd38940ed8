/** What was received and refunded, day by day: totals, a chart, and the same in a table whose numbers lead to the list. */
import { useEffect, useRef } from 'preact/hooks';
import type { Answer } from '../api';
import { DayRange, parameter } from '../filters';
import { count, day, offset } from '../format';
import { amountOf, yuan } from '../money';
import { Badge, Bar, Heading, ReadFailure } from '../parts';
import { useGet } from '../resource';
import { withQuery } from '../router';
import { zone } from '../session';
import { fill, texts } from '../texts';
import type { PaymentStatistics } from '../types';
import { Chart, weekday } from './chart';
import {
  BUSINESS_ZONE,
  dayCount,
  type Figures,
  fillDays,
  isMonday,
  isNothing,
  type Range,
  rangeOf,
  rangeWithin,
  SERIES,
  type Series,
  type Sum,
  totalOf,
} from './days';

/** /console/statistics */
export function StatisticsPage() {
  const { statistics, title } = texts.value;
  const range = rangeOf(parameter('start_time'), parameter('end_time'), day(Date.now(), zone()));
  const { answer, failure, busy, reload } = useGet<PaymentStatistics>(
    withQuery('/payments/statistics', { ...range }),
  );
  const shown = useRangeOf(answer, range);
  const today = day(Date.now(), BUSINESS_ZONE);
  const rows = answer && fillDays(answer.data.days, shown, today);
  const total = rows && totalOf(rows);

  useEffect(() => {
    document.title = `${statistics.title} · ${title}`;
  }, [statistics, title]);

  // Figures of another range than the one above them would be taken for its own.
  const isOther =
    failure !== undefined &&
    (!failure.passes || shown.start_time !== range.start_time || shown.end_time !== range.end_time);
  return (
    <>
      <Heading>{statistics.title}</Heading>
      <div class="filters screen-only">
        <DayRange legend={statistics.range} required={range} />
      </div>
      <p class="print-only">
        {fill(texts.value.list.chosen, { from: shown.start_time, to: shown.end_time })}
      </p>
      {zone() !== BUSINESS_ZONE && (
        <Bar>{fill(statistics.otherZone, { zone: `${zone()} (${offset(zone())})` })}</Bar>
      )}
      {failure && (
        <ReadFailure failure={failure} stale={rows !== undefined && !isOther} reload={reload} />
      )}
      {rows && total && !isOther ? (
        <div class={busy ? 'statistics old' : 'statistics'} aria-busy={busy}>
          <Totals total={total} range={shown} />
          {isNothing(total) ? (
            <div class="nothing">
              <p>
                <b>{statistics.empty}</b>
              </p>
              <p class="muted">{statistics.emptyHelp}</p>
            </div>
          ) : (
            <>
              <Chart
                key={`${shown.start_time} ${shown.end_time}`}
                rows={rows}
                total={total}
                today={today}
                hrefOf={(bar) =>
                  withQuery('/console/payments', { ...rangeWithin(bar, rows, shown, zone()) })
                }
              />
              <Days rows={rows} total={total} today={today} range={shown} />
            </>
          )}
        </div>
      ) : (
        !failure && <Skeleton days={dayCount(range, MOST_SKELETON_ROWS)} />
      )}
    </>
  );
}

/** The range of the answer that is shown: while another one is loading, the one of the answer before. */
function useRangeOf(answer: Answer<PaymentStatistics> | undefined, range: Range): Range {
  const last = useRef({ answer, range });
  if (last.current.answer !== answer) last.current = { answer, range };
  return answer ? last.current.range : range;
}

/** The filters of the list that find what is received. */
const RECEIVED = { status: '1,3' };

const refundsOf = (status: number, range: Range) =>
  withQuery('/console/refunds', { status: String(status), ...range });

/** What the range adds up to, on top. */
function Totals({ total, range }: { total: Figures; range: Range }) {
  const { statistics } = texts.value;
  const { paid, refunded, refunding, net } = total;
  const average = paid.count > 0 ? amountOf(paid.fen / BigInt(paid.count)) : undefined;
  return (
    <dl class="tiles">
      <div class="card main-tile">
        <dt>{statistics.paid}</dt>
        <dd class="figure">
          <a href={withQuery('/console/payments', { ...RECEIVED, ...range })}>
            {yuan(amountOf(paid.fen))}
          </a>
        </dd>
        <dd class="muted small">{statistics.paidTip}</dd>
      </div>
      <div class="card">
        <dt data-tip={statistics.refundedTip}>{statistics.refunded}</dt>
        <dd class="figure">
          <a href={refundsOf(1, range)}>{yuan(amountOf(refunded.fen))}</a>
        </dd>
        <dd class="muted small">{fill(statistics.payments, { count: count(refunded.count) })}</dd>
      </div>
      <div class="card">
        <dt>{statistics.net}</dt>
        <dd class="figure">{yuan(amountOf(net))}</dd>
        <dd class="muted small">{statistics.netTip}</dd>
      </div>
      <div class="card">
        <dt>{statistics.count}</dt>
        <dd class="figure">{count(paid.count)}</dd>
        <dd class="muted small">
          {average === undefined ? ' ' : fill(statistics.perPayment, { amount: yuan(average) })}
        </dd>
      </div>
      <div class="card">
        <dt data-tip={texts.value.refundStatusTip[0]}>{statistics.refunding}</dt>
        <dd class="figure">
          <a href={refundsOf(0, range)}>{yuan(amountOf(refunding.fen))}</a>
        </dd>
        <dd class="muted small">{fill(statistics.payments, { count: count(refunding.count) })}</dd>
      </div>
    </dl>
  );
}

/** The same as the chart in numbers, the newest day first. Each leads to what it counts. */
function Days(props: { rows: Figures[]; total: Figures; today: string; range: Range }) {
  const { rows, total, today, range } = props;
  const { statistics } = texts.value;
  const series = SERIES.filter((one) => total.methods[one].count > 0);
  return (
    <section class="stack-16" aria-labelledby="days-title">
      <div class="head">
        <h2 id="days-title">{statistics.table}</h2>
        <p class="muted small">{statistics.caption}</p>
      </div>
      <div class="table days">
        <table>
          <thead>
            <tr>
              <th scope="col" class="w-day" aria-sort="descending">
                {statistics.columns.day}
              </th>
              <th scope="col" class="amount w-count">
                {statistics.columns.count}
              </th>
              {series.map((one) => (
                <th key={one} scope="col" class="amount">
                  {statistics.series[one]}
                </th>
              ))}
              <th scope="col" class="amount">
                {statistics.paid}
              </th>
              <th scope="col" class="amount">
                {statistics.refunded}
              </th>
              <th scope="col" class="amount">
                {statistics.refunding}
              </th>
              <th scope="col" class="amount">
                {statistics.net}
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.toReversed().map((row) => (
              <Row
                key={row.from}
                row={row}
                series={series}
                range={rangeWithin(row, rows, range, zone())}
                unfinished={row.from === today}
              />
            ))}
          </tbody>
          <tfoot>
            <Row row={total} series={series} range={range} unfinished={false} sum />
          </tfoot>
        </table>
      </div>
    </section>
  );
}

/** A day, or the sum of all of them. */
function Row(props: {
  row: Figures;
  series: Series[];
  range: Range;
  unfinished: boolean;
  sum?: boolean;
}) {
  const { row, series, range, unfinished, sum = false } = props;
  const { statistics } = texts.value;
  const payments = (query: Record<string, string>) =>
    withQuery('/console/payments', { ...query, ...range });
  return (
    // Weeks are told apart by the line under their Monday, since the newest day is on top.
    <tr class={!sum && isMonday(row.from) ? 'week-start' : ''}>
      <th scope="row">
        {sum ? (
          statistics.sum
        ) : (
          <>
            <a href={payments({})}>
              <time dateTime={row.from}>{row.from}</time> {weekday(row.from)}
            </a>
            {unfinished && (
              <Badge
                shape="running"
                tone="running"
                word={statistics.unfinished}
                tip={statistics.unfinishedTip}
              />
            )}
          </>
        )}
      </th>
      <td class="amount" data-label={statistics.columns.count}>
        <a href={payments(RECEIVED)}>{count(row.paid.count)}</a>
      </td>
      {series.map((one) => (
        <Amount
          key={one}
          label={statistics.series[one]}
          sum={row.methods[one]}
          // A method that the list has no filter for has no list.
          {...(one === 'other' ? {} : { href: payments({ ...RECEIVED, payment_method: one }) })}
        />
      ))}
      <td class="amount paid" data-label={statistics.paid}>
        <a href={payments(RECEIVED)}>{yuan(amountOf(row.paid.fen))}</a>
      </td>
      <Amount label={statistics.refunded} sum={row.refunded} href={refundsOf(1, range)} />
      <Amount label={statistics.refunding} sum={row.refunding} href={refundsOf(0, range)} />
      <td class="amount" data-label={statistics.net}>
        {yuan(amountOf(row.net))}
      </td>
    </tr>
  );
}

/** A cell with a sum; blank where there is nothing. */
function Amount({ label, sum, href }: { label: string; sum: Sum; href?: string }) {
  if (sum.count === 0) return <td class="amount" />;
  const amount = yuan(amountOf(sum.fen));
  return (
    <td class="amount" data-label={label}>
      {href ? <a href={href}>{amount}</a> : amount}
    </td>
  );
}

const MOST_SKELETON_ROWS = 40;

/** As high as what comes, so that nothing moves. */
function Skeleton({ days }: { days: number }) {
  return (
    <div class="statistics" aria-busy="true">
      <p class="visually-hidden" role="status">
        {texts.value.common.loading}
      </p>
      <div class="tiles" aria-hidden="true">
        {Array.from({ length: 5 }, (_, index) => (
          <div key={index} class={index === 0 ? 'card main-tile' : 'card'} />
        ))}
      </div>
      <div class="card chart" aria-hidden="true">
        <div class="head" />
        <div class="readout" />
        <div class="plot" />
      </div>
      <div class="head" aria-hidden="true" />
      <div class="table days" aria-hidden="true">
        <table>
          <tbody class="skeleton">
            {Array.from({ length: days + 1 }, (_, index) => (
              <tr key={index}>
                <td />
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
