/**
 * Counts the payments of a filter and sums their amounts, and finds the nth of them, by the monthly and
 * daily totals, without scanning payments. All are exact. The totals know whole business days; the partial
 * days at the ends of a range are counted by index. These are parts of a statement, so they count the very
 * payments that the rest of that statement sees.
 */
import { and, type Column, gte, lt, type SQL, type SQLWrapper, sql } from 'drizzle-orm';
import { arrayLiteral, type Bind } from '../prepared';
import { paymentDailyTotals, paymentMonthlyTotals, paymentRefundTotals, payments } from '../schema';
import { among, endOf, type Filter, inStates, startOf, within } from './filter';
import { keysOf } from './keys';
import { stateNumber } from './payment';

/** A partial day at an end of a range: its first instant, the first one after it, and the condition that it is. */
interface PartialDay {
  from: SQL;
  until: SQL;
  contains: (createdAt: Column) => SQL | undefined;
}

/**
 * Splits the range of a filter into its whole business days and the partial days at its two ends. They do
 * not overlap, and every instant of the range is in one of them.
 */
export function splitRange(filter: Filter, bind: Bind<Filter>) {
  const { start_time, end_time } = filter;
  const from = start_time && sql`${bind(startOf)}::timestamptz`;
  const until = end_time && sql`${bind(endOf)}::timestamptz`;
  // The whole days: from the first that begins in the range, to before the one in which the range ends.
  const firstDay = from && sql`payment_day_from(${from})`;
  const endDay = until && sql`payment_day(${until})`;
  const daysBegin = firstDay && sql`payment_day_start(${firstDay})`;
  const daysEnd = endDay && sql`payment_day_start(${endDay})`;
  const partialDays: PartialDay[] = [];
  if (from && daysBegin) {
    const contains = (createdAt: Column) =>
      and(within(createdAt, filter, bind), lt(createdAt, daysBegin));
    partialDays.push({ from, until: daysBegin, contains });
  }
  if (until && daysEnd) {
    // A range within one day is all in the partial day above, and nothing is left for this one.
    const begin = daysBegin ? sql`greatest(${daysBegin}, ${daysEnd})` : daysEnd;
    const contains = (createdAt: Column) =>
      and(within(createdAt, filter, bind), gte(createdAt, begin));
    partialDays.push({ from: begin, until, contains });
  }
  return {
    /** The whole days as a condition on a table of daily totals. */
    wholeDays: (day: Column) => and(...between(day, firstDay, endDay)),
    firstDay,
    endDay,
    partialDays,
  };
}

/** From the first day or month, to before the last; an end that is not given is open. */
function between(column: Column, first: SQL | undefined, end: SQL | undefined) {
  return [first && gte(column, first), end && lt(column, end)];
}

/**
 * Where the payments of a filter are counted; no two places overlap. Whole months are counted by their
 * merged totals and by the daily rows that are not merged yet. The whole days before and after them are
 * counted by the daily totals, the partial days by payments.
 */
function placesOf(filter: Filter, bind: Bind<Filter>) {
  const { firstDay, endDay, partialDays } = splitRange(filter, bind);
  const firstMonth = firstDay && sql`payment_month_from(${firstDay})`;
  const endMonth = endDay && sql`payment_month(${endDay})`;
  const { day, writer } = paymentDailyTotals;
  const daily = totalsOf(paymentDailyTotals, filter, bind);
  // Where there is no whole month, the days before it are all there are.
  const before = firstMonth && (endDay ? sql`least(${firstMonth}, ${endDay})` : firstMonth);
  const behind = endMonth && (firstMonth ? sql`greatest(${firstMonth}, ${endMonth})` : endMonth);
  return {
    merged:
      and(
        ...between(paymentMonthlyTotals.month, firstMonth, endMonth),
        totalsOf(paymentMonthlyTotals, filter, bind),
      ) ?? sql`true`,
    unmerged: and(sql`${writer} <> 0`, ...between(day, firstMonth, endMonth), daily),
    days: [
      ...(before ? [and(...between(day, firstDay, before), daily)] : []),
      ...(behind ? [and(...between(day, behind, endDay), daily)] : []),
    ],
    partialDays,
  };
}

/** Statuses, methods and refund states as a condition on totals. */
function totalsOf(
  totals: typeof paymentDailyTotals | typeof paymentMonthlyTotals,
  filter: Filter,
  bind: Bind<Filter>,
): SQL | undefined {
  return and(among(totals, filter, bind), inStates(totals.refundState, filter, bind));
}

/**
 * Queries that give `payments` and `amount` of a partial day. With a refund state, the day is counted by
 * payment_refund_totals; if that includes `none`, by all payments of the day less those of other states.
 */
function countPartialDay({ contains }: PartialDay, filter: Filter, bind: Bind<Filter>): SQL[] {
  const states = filter.refund_state;
  const ofPayments = sql`
      SELECT count(*) AS payments, sum(amount) AS amount
      FROM payments WHERE ${and(among(payments, filter, bind), contains(payments.createdAt))}`;
  if (!states) return [ofPayments];
  const numbers = bind((given) => arrayLiteral(given.refund_state?.map(stateNumber) ?? []));
  const sign = sql`((refund_state = ANY (${numbers}::integer[]))::integer - (0 = ANY (${numbers}::integer[]))::integer)`;
  return [
    ...(states.includes('none') ? [ofPayments] : []),
    sql`
      SELECT coalesce(sum(${sign}), 0) AS payments, coalesce(sum(${sign} * amount), 0) AS amount
      FROM payment_refund_totals
      WHERE ${and(sql`refund_state IN (1, 2)`, among(paymentRefundTotals, filter, bind), contains(paymentRefundTotals.createdAt))}`,
  ];
}

/**
 * A query for one row: `total`, `total_amount`, and how many rows of totals it had to read that are not
 * merged. Without a range, payment_totals() (drizzle/0013_kept_plans.sql) does it, with a plan that is kept.
 */
export function count(filter: Filter, bind: Bind<Filter>): SQL {
  if (!filter.start_time && !filter.end_time) {
    const statuses = bind(({ status }) => status && arrayLiteral(status));
    const methods = bind(({ payment_method }) => payment_method && arrayLiteral(payment_method));
    const states = bind(
      ({ refund_state }) => refund_state && arrayLiteral(refund_state.map(stateNumber)),
    );
    return sql`
      SELECT * FROM payment_totals(${statuses}::integer[], ${methods}::text[], ${states}::integer[])`;
  }
  const { merged, unmerged, days, partialDays } = placesOf(filter, bind);
  return sql`
    SELECT coalesce(sum(payments), 0) AS total, coalesce(sum(amount), 0) AS total_amount, coalesce(sum(unmerged), 0) AS unmerged
    FROM (${all([
      sql`SELECT payments, amount, 0 AS unmerged FROM payment_monthly_totals WHERE ${merged}`,
      sql`SELECT payments, amount, 1 FROM payment_daily_totals WHERE ${unmerged}`,
      ...days.map(
        (where) =>
          sql`SELECT payments, amount, (writer <> 0)::integer FROM payment_daily_totals WHERE ${where}`,
      ),
      ...partialDays.flatMap((partialDay) =>
        countPartialDay(partialDay, filter, bind).map(
          (counted) => sql`SELECT payments, amount, 0 FROM (${counted}) AS partial_day`,
        ),
      ),
    ])}) AS counted`;
}

function all(queries: SQL[]): SQL {
  return sql.join(queries, sql` UNION ALL `);
}

/**
 * Common table expressions, the last of them `sought`: created_at and id of the payment of the filter
 * after exactly `newer` others in the list, or no row where there are fewer. Running sums find the segment
 * in which it is counted, then its day; an index finds the payment within the day. Nothing else of the
 * table is read.
 */
export function seek(filter: Filter, bind: Bind<Filter>, newer: SQLWrapper): SQL {
  const { merged, unmerged, days, partialDays } = placesOf(filter, bind);
  const months = sql`
      SELECT payment_day_start(month), payment_day_start((month + interval '1 month')::date) - ${MICROSECOND},
        sum(payments)::bigint
      FROM (
        SELECT month, payments FROM payment_monthly_totals WHERE ${merged}
        UNION ALL
        SELECT payment_month(day), payments FROM payment_daily_totals WHERE ${unmerged}
      ) AS monthly
      GROUP BY month HAVING sum(payments) > 0`;
  const parts = partialDays.map(
    (partialDay) => sql`
      SELECT ${partialDay.from}, ${partialDay.until} - ${MICROSECOND}, sum(payments)::bigint
      FROM (${all(countPartialDay(partialDay, filter, bind))}) AS counted
      HAVING sum(payments) > 0`,
  );
  // Of a partial day all payments are counted here: more than match, but in the same order.
  const ofSegment = and(
    sql`day BETWEEN (SELECT payment_day(oldest) FROM segment_found) AND (SELECT payment_day(newest) FROM segment_found)`,
    totalsOf(paymentDailyTotals, filter, bind),
  );
  return sql`
    segment (oldest, newest, payments) AS (${all([months, ...days.map(eachDay), ...parts])}
    ), segment_found AS (${holding(newer, sql`segment`)}
    ), day_of_segment (oldest, newest, payments) AS (${eachDay(ofSegment)}
    ), day_found AS (${holding(sql`(SELECT skipped FROM segment_found)`, sql`day_of_segment`)}
    ), sought AS (${keysOf(filter, bind, {
      // The later end would do. With both, the planner knows that little of the table lies between.
      where: ({ createdAt }) =>
        sql`${createdAt} BETWEEN (SELECT oldest FROM day_found) AND (SELECT newest FROM day_found)`,
      limit: sql`1`,
      offset: sql`(SELECT skipped FROM day_found)`,
    })}
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

/** The segment with the payment that comes after `newer` others, and how many of these are in the segment. */
function holding(newer: SQLWrapper, segments: SQL): SQL {
  return sql`
      SELECT oldest, newest, ${newer}::bigint - newer AS skipped
      FROM (
        SELECT *, sum(payments) OVER (ORDER BY newest DESC)::bigint - payments AS newer FROM ${segments}
      ) AS running
      WHERE newer <= ${newer} AND ${newer} < newer + payments`;
}
