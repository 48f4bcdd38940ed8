/**
 * GET /payments/statistics: what was paid and what was refunded, day by day. Days are business days
 * (Asia/Shanghai) whatever TIME_ZONE is; of a day that the range cuts, its part within the range
 * counts. One statement reads whole days from the daily totals and the rest from payments and refunds. So the
 * counts of a range add up to the `total` of either list. The limit on the range bounds the answer.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { settings } from '../env';
import { type AppEnv, envelope, validate } from '../http';
import { json, text } from '../json';
import { prepared } from '../prepared';
import { RefundStatus } from '../refunds/refund';
import { paymentDailyTotals, paymentRefunds, payments, refundDailyTotals } from '../schema';
import { clockReading } from '../time';
import { splitRange } from './count';
import {
  builtOnce,
  END_TIME,
  ENDS_BEFORE_START,
  endsAfterStart,
  requiredParameter,
  START_TIME,
  writtenTime,
} from './filter';
import { PaymentStatus } from './payment';

const MAX_DAYS = 400;
const MAX_MICROS = BigInt(MAX_DAYS) * 86_400_000_000n;

/** Both times mean what they mean in the list. */
export const StatisticsQuery = (zone: string) =>
  z
    .strictObject({
      start_time: requiredParameter(writtenTime(zone)).describe(START_TIME),
      end_time: requiredParameter(writtenTime(zone)).describe(
        `${END_TIME}; at most ${MAX_DAYS} days of the deployment's zone later`,
      ),
    })
    .refine(endsAfterStart, ENDS_BEFORE_START)
    // By the clocks of the zone: a day that a change of them makes 23 or 25 hours long is one day. And
    // by the last instant meant, because the next one may be behind an hour, or a day, that they skip.
    .refine(
      ({ start_time, end_time }) =>
        clockReading(end_time.until - 1n, zone) - clockReading(start_time.from, zone) < MAX_MICROS,
      {
        path: ['end_time'],
        error: `时间范围不能超过 ${MAX_DAYS} 天`,
        // Beside an unknown parameter, too, but not where there is no range.
        when: ({ issues }) => issues.every(({ code }) => code === 'unrecognized_keys'),
      },
    );
type StatisticsQuery = z.output<ReturnType<typeof StatisticsQuery>>;

const statisticsQueryOf = builtOnce(StatisticsQuery);

const Sum = {
  count: z.int().positive(),
  amount: z
    .string()
    .regex(/^\d+\.\d{2}$/)
    .describe('Yuan; it may have more digits than any single amount'),
};

/** What was paid by a method and is in a status. */
export const Paid = z.object({ payment_method: z.string(), status: PaymentStatus, ...Sum });

/** The refunds in a status, as they are now. */
export const Refunded = z.object({ status: RefundStatus, ...Sum });

/** A business day: its payments, and the refunds that were made on it. */
export const Day = z.object({
  day: z.iso.date().describe('A business day in Asia/Shanghai'),
  payments: z.array(Paid),
  refunds: z.array(Refunded),
});
type Day = z.infer<typeof Day>;

/** Days ascending. A day on which nothing was paid or refunded is left out, and so is a sum of nothing. */
export const PaymentStatistics = z.object({ days: z.array(Day) });

export const getStatistics = new Hono<AppEnv>().get(
  '/payments/statistics',
  authorize('payments:read'),
  validate((env) => ({ query: statisticsQueryOf(settings(env).TIME_ZONE) })),
  async (c) => {
    const query = c.req.valid('query');
    const { rows } = await inDatabase(c, 'statistics', (db) =>
      db.execute<Day>(daysStatement(query)),
    );
    return c.json(envelope('获取成功', { days: rows }));
  },
);

/** A day is in one part of the range only, so nothing has to be added up twice. */
const daysStatement = prepared<StatisticsQuery>((bind, range) => {
  const { wholeDays, partialDays } = splitRange(range, bind);
  const paid = [
    sql`
      SELECT day, payment_method, status, sum(payments)::bigint AS count, sum(amount) AS amount
      FROM payment_daily_totals WHERE ${wholeDays(paymentDailyTotals.day)}
      GROUP BY 1, 2, 3 HAVING sum(payments) > 0`,
    ...partialDays.map(
      ({ contains }) => sql`
      SELECT payment_day(created_at), payment_method, status, count(*), sum(amount)
      FROM payments WHERE ${contains(payments.createdAt)}
      GROUP BY 1, 2, 3`,
    ),
  ];
  const refunded = [
    sql`
      SELECT day, status, sum(refunds)::bigint AS count, sum(amount) AS amount
      FROM refund_daily_totals WHERE ${wholeDays(refundDailyTotals.day)}
      GROUP BY 1, 2 HAVING sum(refunds) > 0`,
    ...partialDays.map(
      ({ contains }) => sql`
      SELECT payment_day(created_at), status, count(*), sum(amount)
      FROM payment_refunds WHERE ${contains(paymentRefunds.createdAt)}
      GROUP BY 1, 2`,
    ),
  ];
  const sum = { status: sql`status`, count: sql`count`, amount: text(sql`amount`) };
  return sql`
    WITH paid AS (${sql.join(paid, sql` UNION ALL `)}
    ), refunded AS (${sql.join(refunded, sql` UNION ALL `)}
    )
    SELECT to_char(day, 'YYYY-MM-DD') AS day,
      coalesce(payments, '[]') AS payments, coalesce(refunds, '[]') AS refunds
    FROM (
      SELECT day, json_agg(${json<typeof Paid>({ payment_method: sql`payment_method`, ...sum })}
        ORDER BY payment_method, status) AS payments
      FROM paid GROUP BY day
    ) AS days_paid
    FULL JOIN (
      SELECT day, json_agg(${json<typeof Refunded>(sum)} ORDER BY status) AS refunds
      FROM refunded GROUP BY day
    ) AS days_refunded USING (day)
    ORDER BY day`;
});
