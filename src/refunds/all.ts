/**
 * GET /refunds: the refunds of all payments, newest or oldest first, with the number and the sum of all refunds of
 * the filter. All comes from one statement and so from one snapshot. refund_daily_totals count whole business days,
 * and an index the partial days at the ends of a range, so both are exact at any number of refunds. A cursor continues after the last row exactly, to the microsecond, however many rows are inserted.
 */
import { and, type SQL, sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { settings } from '../env';
import { type AppEnv, envelope, validate } from '../http';
import { json } from '../json';
import { splitRange } from '../payments/count';
import { mergeIfNeeded, REFUND_TOTALS } from '../payments/daily-totals';
import {
  builtOnce,
  END_TIME,
  ENDS_BEFORE_START,
  endsAfterStart,
  once,
  parameter,
  START_TIME,
  severalOf,
  within,
  writtenTime,
} from '../payments/filter';
import { Cursor, cursorAfter, wholeNumber } from '../payments/page';
import { arrayLiteral, type Bind, prepared } from '../prepared';
import { paymentRefunds, payments, refundDailyTotals } from '../schema';
import { epochMicros, timestamptz } from '../time';
import { Refund, RefundStatus, refundFields } from './refund';

const DEFAULT_SIZE = 20;

const ORDERS = ['newest', 'oldest'] as const;

const ORDER_MESSAGE = `须为 ${ORDERS.join('、')} 之一`;

/** A mistyped filter must not widen the result, so unknown parameters are refused. */
export const RefundListQuery = (zone: string) =>
  z
    .strictObject({
      status: parameter(severalOf(RefundStatus)).describe(`退款状态: ${RefundStatus.description}`),
      start_time: parameter(writtenTime(zone)).describe(START_TIME),
      end_time: parameter(writtenTime(zone)).describe(END_TIME),
      order: parameter(once().pipe(z.enum(ORDERS, ORDER_MESSAGE)))
        .meta({ default: ORDERS[0] })
        .describe('By created_at'),
      size: parameter(wholeNumber(1, 100)).meta({ default: DEFAULT_SIZE, description: '每页数量' }),
      cursor: parameter(Cursor).describe('The next_cursor of the page before, of the same order'),
    })
    .refine(endsAfterStart, ENDS_BEFORE_START);
type RefundListQuery = z.output<ReturnType<typeof RefundListQuery>>;

const refundListQueryOf = builtOnce(RefundListQuery);

/** A refund with what tells its payment apart, and with who made it. */
export const ListedRefund = z.object({
  ...Refund.shape,
  payment_no: z.string().describe('支付单号'),
  order_no: z.string().nullable().describe('订单号; null where the order is unknown'),
  payment_method: z.string().describe('支付方式'),
  actor: z.string().nullable().describe('Who made it; null where that is not on record'),
});
type ListedRefund = z.infer<typeof ListedRefund>;

/** A page of the list of all refunds. */
export const RefundList = z.object({
  total: z.int().nonnegative().describe('总记录数'),
  total_amount: z
    .string()
    .regex(/^\d+\.\d{2}$/)
    .describe('总金额 of all of them, yuan; it may have more digits than any single amount'),
  list: z.array(ListedRefund),
  next_cursor: z.string().nullable().describe('Continues after the last row; null at the end'),
});
type RefundList = z.infer<typeof RefundList>;

export const listAllRefunds = new Hono<AppEnv>().get(
  '/refunds',
  authorize('payments:read'),
  validate((env) => ({ query: refundListQueryOf(settings(env).TIME_ZONE) })),
  async (c) => {
    const query = c.req.valid('query');
    const { rows } = await inDatabase(c, 'all_refunds', (db) => db.execute<Row>(statement(query)));
    const [row] = rows;
    if (!row) throw new Error('an aggregate without GROUP BY has one row');
    const page = toPage(row, sizeOf(query));
    c.get('log').rows = page.list.length;
    mergeIfNeeded(c, REFUND_TOTALS, Number(row.unmerged));
    return c.json(envelope('获取成功', page));
  },
);

const sizeOf = ({ size = DEFAULT_SIZE }: RefundListQuery) => size;

/** The refunds of the page, and one more if another page follows. */
type Row = {
  total: string;
  total_amount: string;
  unmerged: string;
  found: { refund: ListedRefund; created: string }[];
};

const listedRefund = json<typeof ListedRefund>({
  ...refundFields,
  payment_no: payments.paymentNo,
  order_no: sql`(SELECT order_no FROM orders WHERE orders.id = ${payments.orderId})`,
  payment_method: payments.paymentMethod,
  actor: sql`(
        SELECT actor FROM payment_refund_events AS event
        WHERE event.refund_id = ${paymentRefunds.id} AND from_status IS NULL
        ORDER BY event.created_at, event.id LIMIT 1)`,
});

/** The ids of the page come first, and alone: an index holds them in order. */
const statement = prepared<RefundListQuery>(
  (bind, query) => {
    const order = directionOf(query);
    return sql`
      SELECT total::text, total_amount::numeric(38, 2)::text, unmerged::text, (
        SELECT coalesce(json_agg(json_build_object('refund', ${listedRefund}, 'created', ${epochMicros(paymentRefunds.createdAt)})
          ORDER BY ${paymentRefunds.createdAt} ${order}, ${paymentRefunds.id} ${order}), '[]')
        FROM payment_refunds JOIN payments ON ${payments.id} = ${paymentRefunds.paymentId}
        WHERE ${paymentRefunds.id} = ANY (ARRAY(SELECT id FROM (${keys(query, bind)}
        ) AS keys))
      ) AS found
      FROM (${count(query, bind)}) AS counted`;
  },
  ({ status, start_time, end_time, order, cursor }) =>
    [
      status && status.length > 1,
      ...[start_time, end_time, cursor].map((value) => value !== undefined),
      order,
    ].join(),
);

const directionOf = ({ order }: RefundListQuery) =>
  order === 'oldest' ? sql.raw('ASC') : sql.raw('DESC');

const statusesOf = ({ status }: RefundListQuery) => arrayLiteral(status ?? []);

/** A query for one row: `total`, `total_amount`, and how many rows of totals it had to read that are not merged. */
function count(query: RefundListQuery, bind: Bind<RefundListQuery>): SQL {
  const { wholeDays, partialDays } = splitRange(query, bind);
  const ofStatus = query.status && sql`status = ANY (${bind(statusesOf)}::integer[])`;
  const days = and(wholeDays(refundDailyTotals.day), ofStatus) ?? sql`true`;
  return sql`
        SELECT coalesce(sum(refunds), 0) AS total, coalesce(sum(amount), 0) AS total_amount, coalesce(sum(unmerged), 0) AS unmerged
        FROM (
          SELECT refunds, amount, (writer <> 0)::integer AS unmerged FROM refund_daily_totals WHERE ${days}
          ${sql.join(
            partialDays.map(
              ({ contains }) => sql`
          UNION ALL
          SELECT count(*), sum(amount), 0 FROM payment_refunds WHERE ${and(contains(paymentRefunds.createdAt), ofStatus)}`,
            ),
          )}
        ) AS parts`;
}

/** A query for the ids of the page in its order. Several statuses are each read in theirs, and merged. */
function keys(query: RefundListQuery, bind: Bind<RefundListQuery>): SQL {
  const { createdAt, id } = paymentRefunds;
  const order = directionOf(query);
  const limit = bind((given) => sizeOf(given) + 1);
  const time = bind(({ cursor }) => cursor && timestamptz(cursor.createdAt));
  const position = sql`(${time}::timestamptz, ${bind(({ cursor }) => cursor?.id)}::bigint)`;
  const beyond = query.order === 'oldest' ? sql`>` : sql`<`;
  const range =
    and(
      within(createdAt, query, bind),
      query.cursor && sql`(${createdAt}, ${id}) ${beyond} ${position}`,
    ) ?? sql`true`;
  if (query.status === undefined || query.status.length === 1) {
    const ofStatus = query.status && sql`status = ${bind(({ status }) => status?.[0])}`;
    return sql`
          SELECT id FROM payment_refunds WHERE ${and(ofStatus, range)}
          ORDER BY created_at ${order}, id ${order} LIMIT ${limit}`;
  }
  return sql`
          SELECT key.id FROM unnest(${bind(statusesOf)}::integer[]) AS wanted, LATERAL (
            SELECT created_at, id FROM payment_refunds WHERE status = wanted AND ${range}
            ORDER BY created_at ${order}, id ${order} LIMIT ${limit}
          ) AS key
          ORDER BY key.created_at ${order}, key.id ${order} LIMIT ${limit}`;
}

function toPage({ total, total_amount, found }: Row, size: number): RefundList {
  const shown = found.slice(0, size);
  const last = found.length > size ? shown.at(-1) : undefined;
  return {
    total: Number(total),
    total_amount,
    list: shown.map(({ refund }) => refund),
    next_cursor: last ? cursorAfter(last.created, last.refund.id) : null,
  };
}
