/**
 * Counts payments without reading them, and finds the nth of them: from the monthly and daily totals,
 * exactly. Those know whole days; what a range takes of a day at either end is counted by index. All of
 * it is parts of a statement, so it counts the very payments that the rest of that statement sees.
 */
import {
  and,
  type Column,
  desc,
  gte,
  inArray,
  lt,
  type SQL,
  type SQLWrapper,
  sql,
} from 'drizzle-orm';
import type { Bind } from '../prepared';
import { paymentDailyTotals, paymentMonthlyTotals, payments } from '../schema';
import { timestamptz, type WrittenTime } from '../time';
import type { Payment } from './payment';

/** What the totals tell apart, and a range of created_at. */
export interface Countable {
  status?: Payment['status'][] | undefined;
  payment_method?: string[] | undefined;
  start_time?: WrittenTime | undefined;
  end_time?: WrittenTime | undefined;
}

/** The same as a condition on payments. */
export function matches(filter: Countable, bind: Bind<Countable>) {
  const { start_time, end_time } = filter;
  return and(
    among(payments, filter, bind),
    start_time && gte(payments.createdAt, bind(startOf)),
    end_time && lt(payments.createdAt, bind(endOf)),
  );
}

/** Of the statuses and methods that the filter names, in any table that has both. */
function among(
  { status, paymentMethod }: { status: Column; paymentMethod: Column },
  filter: Countable,
  bind: Bind<Countable>,
) {
  const statuses = filter.status?.map((_, i) => bind((given) => given.status?.[i]));
  const methods = filter.payment_method?.map((_, i) => bind((given) => given.payment_method?.[i]));
  return and(statuses && inArray(status, statuses), methods && inArray(paymentMethod, methods));
}

const startOf = ({ start_time }: Countable) => start_time && timestamptz(start_time.from);
const endOf = ({ end_time }: Countable) => end_time && timestamptz(end_time.until);

/** What tells apart the texts that the functions of this file make. */
export function shapeOf({ status, payment_method, start_time, end_time }: Countable): string {
  return [status?.length, payment_method?.length, !!start_time, !!end_time].join();
}

/**
 * Cuts the time of a filter: the whole business days in it, as a condition on the daily totals, and what
 * it takes of a day at either end, each with the condition on payments, the first instant, and the first
 * one after. No two of them overlap, and every matching payment is in one.
 */
export function cut(filter: Countable, bind: Bind<Countable>) {
  const { start_time, end_time } = filter;
  const from = start_time && sql`${bind(startOf)}::timestamptz`;
  const until = end_time && sql`${bind(endOf)}::timestamptz`;
  // The days that lie in the range as a whole: from the first that begins in it, to before the one in which it ends.
  const firstDay = from && sql`payment_day_from(${from})`;
  const endDay = until && sql`payment_day(${until})`;
  const daysBegin = firstDay && sql`payment_day_start(${firstDay})`;
  const daysEnd = endDay && sql`payment_day_start(${endDay})`;
  const ends: { within: SQL | undefined; from: SQL; until: SQL }[] = [];
  if (from && daysBegin) {
    const within = and(matches(filter, bind), lt(payments.createdAt, daysBegin));
    ends.push({ within, from, until: daysBegin });
  }
  if (until && daysEnd) {
    // Where the range lies within one day, it is all in the end above, and nothing is left for this one.
    const begin = daysBegin ? sql`greatest(${daysBegin}, ${daysEnd})` : daysEnd;
    const within = and(matches(filter, bind), gte(payments.createdAt, begin));
    ends.push({ within, from: begin, until });
  }
  return {
    wholeDays: and(...between(paymentDailyTotals.day, firstDay, endDay)),
    firstDay,
    endDay,
    ends,
  };
}

/** From the first day or month, to before the last; an end that is not given is open. */
function between(column: Column, first: SQL | undefined, end: SQL | undefined) {
  return [first && gte(column, first), end && lt(column, end)];
}

/**
 * Where the payments that match are counted, no two places overlapping: whole months (of one the merged
 * totals know all but what is not merged yet), the whole days before the first and after the last of
 * those, and what the range takes of a day at either end. The first three are conditions on totals.
 */
function places(filter: Countable, bind: Bind<Countable>) {
  const { firstDay, endDay, ends } = cut(filter, bind);
  const firstMonth = firstDay && sql`payment_month_from(${firstDay})`;
  const endMonth = endDay && sql`payment_month(${endDay})`;
  const { day, writer } = paymentDailyTotals;
  const daily = among(paymentDailyTotals, filter, bind);
  // Where there is no whole month, the days before it are all there are.
  const before = firstMonth && (endDay ? sql`least(${firstMonth}, ${endDay})` : firstMonth);
  const behind = endMonth && (firstMonth ? sql`greatest(${firstMonth}, ${endMonth})` : endMonth);
  return {
    merged:
      and(
        ...between(paymentMonthlyTotals.month, firstMonth, endMonth),
        among(paymentMonthlyTotals, filter, bind),
      ) ?? sql`true`,
    unmerged: and(sql`${writer} <> 0`, ...between(day, firstMonth, endMonth), daily),
    days: [
      ...(before ? [and(...between(day, firstDay, before), daily)] : []),
      ...(behind ? [and(...between(day, behind, endDay), daily)] : []),
    ],
    ends,
  };
}

/** A query for how many payments match. */
export function count(filter: Countable, bind: Bind<Countable>): SQL {
  const { merged, unmerged, days, ends } = places(filter, bind);
  return sql`
    SELECT coalesce(sum(payments), 0) FROM (${all([
      sql`SELECT payments FROM payment_monthly_totals WHERE ${merged}`,
      ...[unmerged, ...days].map(
        (where) => sql`SELECT payments FROM payment_daily_totals WHERE ${where}`,
      ),
      ...ends.map(({ within }) => sql`SELECT count(*) FROM payments WHERE ${within}`),
    ])}) AS counted`;
}

function all(queries: SQL[]): SQL {
  return sql.join(queries, sql` UNION ALL `);
}

/**
 * Common table expressions, the last of them `sought`: created_at and id of the matching payment before
 * which `newer` others come in the list, or no row where there are fewer. Running sums find the place in
 * which it is counted and in that its day, an index the payment within the day. Nothing else of the table
 * is read.
 */
export function seek(filter: Countable, bind: Bind<Countable>, newer: SQLWrapper): SQL {
  const { merged, unmerged, days, ends } = places(filter, bind);
  const months = sql`
      SELECT payment_day_start(month), payment_day_start((month + interval '1 month')::date) - ${MICROSECOND},
        sum(payments)::bigint
      FROM (
        SELECT month, payments FROM payment_monthly_totals WHERE ${merged}
        UNION ALL
        SELECT payment_month(day), payments FROM payment_daily_totals WHERE ${unmerged}
      ) AS monthly
      GROUP BY month HAVING sum(payments) > 0`;
  const parts = ends.map(
    ({ within, from, until }) => sql`
      SELECT ${from}, ${until} - ${MICROSECOND}, count(*)
      FROM payments WHERE ${within}
      HAVING count(*) > 0`,
  );
  // Of a day at either end of the range all payments are counted here: more than match, but in the same order.
  const ofPlace = and(
    sql`day BETWEEN (SELECT payment_day(oldest) FROM place) AND (SELECT payment_day(newest) FROM place)`,
    among(paymentDailyTotals, filter, bind),
  );
  // The later end would do. With both, the planner knows that little of the table lies between.
  const within = sql`${payments.createdAt} BETWEEN (SELECT oldest FROM spot) AND (SELECT newest FROM spot)`;
  return sql`
    segment (oldest, newest, payments) AS (${all([months, ...days.map(eachDay), ...parts])}
    ), place AS (${holding(newer, sql`segment`)}
    ), day_of_place (oldest, newest, payments) AS (${eachDay(ofPlace)}
    ), spot AS (${holding(sql`(SELECT skipped FROM place)`, sql`day_of_place`)}
    ), sought AS (
      SELECT created_at, id FROM payments
      WHERE ${and(matches(filter, bind), within)}
      ORDER BY ${desc(payments.createdAt)}, ${desc(payments.id)}
      LIMIT 1 OFFSET (SELECT skipped FROM spot)
    )`;
}

/** Each whole day that has payments: its first and last instant, and their number. */
function eachDay(where: SQL | undefined): SQL {
  return sql`
      SELECT payment_day_start(day), payment_day_start(day + 1) - ${MICROSECOND}, sum(payments)::bigint
      FROM payment_daily_totals WHERE ${where}
      GROUP BY day HAVING sum(payments) > 0`;
}

/** The finest step of TIMESTAMPTZ. */
const MICROSECOND = sql`interval '1 microsecond'`;

/** The segment that holds the payment before which `newer` others come, and how many of these are in it. */
function holding(newer: SQLWrapper, segments: SQL): SQL {
  return sql`
      SELECT oldest, newest, ${newer}::bigint - newer AS skipped
      FROM (
        SELECT *, sum(payments) OVER (ORDER BY newest DESC)::bigint - payments AS newer FROM ${segments}
      ) AS running
      WHERE newer <= ${newer} AND ${newer} < newer + payments`;
}
