/**
 * Counts payments without reading them, and finds the nth of them: from the daily totals, exactly.
 * Time is cut into segments. Most are whole business days, whose payments the totals know; what a
 * range takes of a day at either end is counted by index. All of it is parts of a statement, so it
 * counts the very payments that the rest of that statement sees.
 */
import { and, desc, gte, inArray, lt, type SQL, sql } from 'drizzle-orm';
import type { Database } from '../database';
import { paymentDailyTotals, payments } from '../schema';
import { timestamptz, type WrittenTime } from '../time';

/** What the totals tell apart, and a range of created_at. */
export interface Countable {
  status?: number[] | undefined;
  payment_method?: string[] | undefined;
  start_time?: WrittenTime | undefined;
  end_time?: WrittenTime | undefined;
}

/** The same as a condition on payments. */
export function matches({ status, payment_method, start_time, end_time }: Countable) {
  return and(
    status && inArray(payments.status, status),
    payment_method && inArray(payments.paymentMethod, payment_method),
    start_time && gte(payments.createdAt, timestamptz(start_time.from)),
    end_time && lt(payments.createdAt, timestamptz(end_time.until)),
  );
}

/**
 * Cuts the time of a filter: the whole business days in it, as a condition on the daily totals, and what
 * it takes of a day at either end, each with the condition on payments, the first instant, and the first
 * one after. No two of them overlap, and every matching payment is in one.
 */
export function cut(filter: Countable) {
  const { status, payment_method, start_time, end_time } = filter;
  const from = start_time && sql`${timestamptz(start_time.from)}::timestamptz`;
  const until = end_time && sql`${timestamptz(end_time.until)}::timestamptz`;
  // The days that lie in the range as a whole: from the first that begins in it, to before the one in which it ends.
  const firstDay = from && sql`payment_day_from(${from})`;
  const endDay = until && sql`payment_day(${until})`;
  const wholeDays = and(
    firstDay && gte(paymentDailyTotals.day, firstDay),
    endDay && lt(paymentDailyTotals.day, endDay),
    status && inArray(paymentDailyTotals.status, status),
    payment_method && inArray(paymentDailyTotals.paymentMethod, payment_method),
  );
  const daysBegin = firstDay && sql`payment_day_start(${firstDay})`;
  const daysEnd = endDay && sql`payment_day_start(${endDay})`;
  const ends: { within: SQL | undefined; from: SQL; until: SQL }[] = [];
  if (from && daysBegin) {
    const within = and(matches(filter), lt(payments.createdAt, daysBegin));
    ends.push({ within, from, until: daysBegin });
  }
  if (until && daysEnd) {
    // Where the range lies within one day, it is all in the end above, and nothing is left for this one.
    const begin = daysBegin ? sql`greatest(${daysBegin}, ${daysEnd})` : daysEnd;
    const within = and(matches(filter), gte(payments.createdAt, begin));
    ends.push({ within, from: begin, until });
  }
  return { wholeDays: wholeDays ?? sql`true`, ends };
}

type Segments = ReturnType<typeof segmentsOf>;

/**
 * A common table expression: the segments in which payments match, each with its first and last
 * instant and their number. They do not overlap, and every matching payment is in one of them. Whole
 * days are a segment each, for seek(), or, which is less to do, all together.
 */
export function segmentsOf(db: Database, filter: Countable, days: 'each' | 'together') {
  const { wholeDays, ends } = cut(filter);
  const segments = [
    sql`
      SELECT payment_day_start(min(day)) AS oldest,
        payment_day_start(max(day) + 1) - ${MICROSECOND} AS newest, sum(payments)::bigint AS payments
      FROM ${paymentDailyTotals} WHERE ${wholeDays}
      GROUP BY ${days === 'each' ? sql`day` : sql`()`} HAVING sum(payments) > 0`,
    ...ends.map(
      ({ within, from, until }) => sql`
      SELECT ${from}, ${until} - ${MICROSECOND}, count(*)
      FROM ${payments} WHERE ${within}
      HAVING count(*) > 0`,
    ),
  ];
  return db
    .$with('segment', {
      oldest: sql`oldest`.as('oldest'),
      newest: sql`newest`.as('newest'),
      payments: sql`payments`.as('payments'),
    })
    .as(sql.join(segments, sql` UNION ALL `));
}

/** The finest step of TIMESTAMPTZ. */
const MICROSECOND = sql`interval '1 microsecond'`;

/** How many payments are in the segments. */
export function totalOf(db: Database, segments: Segments) {
  const total = sql<number>`coalesce(sum(${segments.payments}), 0)`.mapWith(Number);
  return db
    .select({ total: total.as('total') })
    .from(segments)
    .as('total');
}

/**
 * A common table expression: created_at and id of the matching payment before which `newer` others
 * come in the list, or no row where there are fewer. The running sum finds its segment, an index the
 * payment within; nothing else of the table is read.
 */
export function seek(db: Database, segments: Segments, filter: Countable, newer: number) {
  // The later end would do. With both, the planner knows that little of the table lies between.
  const within = sql`${payments.createdAt} BETWEEN (SELECT oldest FROM place) AND (SELECT newest FROM place)`;
  return db
    .$with('sought', { createdAt: sql`created_at`.as('created_at'), id: sql`id`.as('id') })
    .as(sql`
      WITH place AS (
        SELECT oldest, newest, ${newer}::bigint - newer AS skipped
        FROM (
          SELECT *, sum(payments) OVER (ORDER BY newest DESC)::bigint - payments AS newer
          FROM ${segments}
        ) AS running
        WHERE newer <= ${newer} AND ${newer} < newer + payments
      )
      SELECT ${payments.createdAt}, ${payments.id} FROM ${payments}
      WHERE ${and(matches(filter), within)}
      ORDER BY ${desc(payments.createdAt)}, ${desc(payments.id)}
      LIMIT 1 OFFSET (SELECT skipped FROM place)`);
}
