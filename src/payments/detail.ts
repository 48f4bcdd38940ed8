/**
 * GET /payments/:id: one payment with its callbacks and refunds, oldest first. Served from the
 * detail cache where it is there, without touching the database; else from one statement, and so
 * from one snapshot, and then cached. A pending payment is not cached: others are about to change it.
 */
import { type AnyColumn, eq, type SQL, type SQLWrapper, sql } from 'drizzle-orm';
import type { PgTable } from 'drizzle-orm/pg-core';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { type Database, inDatabase } from '../database';
import { settings } from '../env';
import { ApiError, type AppEnv, envelope, validate } from '../http';
import { refundableAmount } from '../refunds/refund';
import { orders, paymentCallbacks, paymentRefundEvents, paymentRefunds, payments } from '../schema';
import { utc } from '../time';
import { fillDetail, readDetail } from './detail-cache';
import { Id, Payment } from './payment';

const Callback = z.object({
  id: z.string(),
  callback_no: z.string(),
  status: z.number(),
  created_at: z.string(),
});
type Callback = z.infer<typeof Callback>;

/** Who moved the refund to which status; from_status is null for its creation. */
const RefundEvent = z.object({
  actor: z.string(),
  from_status: z.number().nullable(),
  to_status: z.number(),
  request_id: z.string(),
  created_at: z.string(),
});

const DetailRefund = z.object({
  id: z.string(),
  refund_no: z.string(),
  amount: z.string(),
  reason: z.string().nullable(),
  status: z.number(),
  created_at: z.string(),
  events: z.array(RefundEvent),
});
type DetailRefund = z.infer<typeof DetailRefund>;

/** A payment with everything that belongs to it. refundable_amount is what a refund may still take. */
export const PaymentDetail = z.object({
  id: z.string(),
  order_id: z.string(),
  ...Payment.omit({ id: true }).shape,
  refund_time: z.string().nullable(),
  updated_at: z.string().nullable(),
  refundable_amount: z.string(),
  callbacks: z.array(Callback),
  refunds: z.array(DetailRefund),
});
type PaymentDetail = z.infer<typeof PaymentDetail>;

export const getPayment = new Hono<AppEnv>().get(
  '/payments/:id',
  authorize('payments:read'),
  validate({ param: z.object({ id: Id }) }),
  async (c) => {
    const { id } = c.req.valid('param');
    const bypass = /(^|,)\s*no-cache\s*(,|$)/i.test(c.req.header('Cache-Control') ?? '');
    const outcome = (body: string, cache: 'hit' | 'miss' | 'bypass') => {
      c.get('log').cache = cache;
      c.header('Cache-Status', `payment-detail; ${cache === 'hit' ? 'hit' : `fwd=${cache}`}`);
      return c.body(body, 200, { 'Content-Type': 'application/json' });
    };

    const { DETAIL_CACHE } = settings(c.env);
    const cached = bypass ? null : await readDetail(DETAIL_CACHE, id);
    if (cached !== null) return outcome(cached, 'hit');

    const selectBeganAt = Date.now();
    const [row] = await inDatabase(c, (db) => selectDetail(db, id));
    if (!row) throw new ApiError(40401);

    const body = JSON.stringify(envelope('获取成功', toPaymentDetail(row)));
    if (row.status !== PENDING) {
      c.executionCtx.waitUntil(fillDetail(DETAIL_CACHE, id, body, selectBeganAt));
    }
    return outcome(body, bypass ? 'bypass' : 'miss');
  },
);

const PENDING = 0;

/**
 * The children come as JSON made by PostgreSQL, every id, amount and time in it as text: as JSON
 * numbers they would pass through a float.
 */
function selectDetail(db: Database, id: bigint) {
  const callback = json<typeof Callback>({
    id: sql`${paymentCallbacks.id}::text`,
    callback_no: paymentCallbacks.callbackNo,
    status: paymentCallbacks.status,
    created_at: utc(paymentCallbacks.createdAt),
  });
  const event = json<typeof RefundEvent>({
    actor: paymentRefundEvents.actor,
    from_status: paymentRefundEvents.fromStatus,
    to_status: paymentRefundEvents.toStatus,
    request_id: paymentRefundEvents.requestId,
    created_at: utc(paymentRefundEvents.createdAt),
  });
  const refund = json<typeof DetailRefund>({
    id: sql`${paymentRefunds.id}::text`,
    refund_no: paymentRefunds.refundNo,
    amount: sql`${paymentRefunds.amount}::text`,
    reason: paymentRefunds.reason,
    status: paymentRefunds.status,
    created_at: utc(paymentRefunds.createdAt),
    events: oldestFirst(
      event,
      paymentRefundEvents,
      paymentRefundEvents.refundId,
      paymentRefunds.id,
    ),
  });
  return db
    .select({
      id: payments.id,
      orderId: payments.orderId,
      orderNo: orders.orderNo,
      paymentNo: payments.paymentNo,
      paymentMethod: payments.paymentMethod,
      amount: payments.amount,
      status: payments.status,
      paymentTime: utc(payments.paymentTime),
      refundTime: utc(payments.refundTime),
      createdAt: utc(payments.createdAt),
      updatedAt: utc(payments.updatedAt),
      refundableAmount,
      callbacks: oldestFirst<Callback>(
        callback,
        paymentCallbacks,
        paymentCallbacks.paymentId,
        payments.id,
      ),
      refunds: oldestFirst<DetailRefund>(
        refund,
        paymentRefunds,
        paymentRefunds.paymentId,
        payments.id,
      ),
    })
    .from(payments)
    .leftJoin(orders, eq(orders.id, payments.orderId))
    .where(eq(payments.id, id));
}

/** A JSON object whose keys are those of the schema that describes it. */
function json<T extends z.ZodObject>(fields: Record<keyof T['shape'], SQLWrapper>): SQL {
  const pairs = Object.entries<SQLWrapper>(fields).map(
    ([key, value]) => sql`${sql.raw(`'${key}'`)}, ${value}`,
  );
  return sql`json_build_object(${sql.join(pairs, sql`, `)})`;
}

/** The children of a row as a JSON array, in the order in which they were made. */
function oldestFirst<Child>(
  child: SQL,
  table: PgTable & { createdAt: AnyColumn; id: AnyColumn },
  parentId: AnyColumn,
  id: AnyColumn,
): SQL<Child[]> {
  return sql<Child[]>`(
    SELECT coalesce(json_agg(${child} ORDER BY ${table.createdAt}, ${table.id}), '[]')
    FROM ${table} WHERE ${parentId} = ${id})`;
}

type Row = Awaited<ReturnType<typeof selectDetail>>[number];

function toPaymentDetail(row: Row): PaymentDetail {
  return {
    id: String(row.id),
    order_id: String(row.orderId),
    order_no: row.orderNo,
    payment_no: row.paymentNo,
    payment_method: row.paymentMethod,
    amount: row.amount,
    status: row.status,
    payment_time: row.paymentTime,
    refund_time: row.refundTime,
    created_at: row.createdAt,
    updated_at: row.updatedAt,
    refundable_amount: row.refundableAmount,
    callbacks: row.callbacks,
    refunds: row.refunds,
  };
}
