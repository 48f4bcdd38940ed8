/**
 * GET /payments/:id: one payment with its callbacks and refunds, oldest first. Served from the
 * detail cache where it is there, without touching the database; else from one statement, and so
 * from one snapshot, and then cached. A pending payment is not cached: others are about to change it.
 */
import { type AnyColumn, type SQL, sql } from 'drizzle-orm';
import type { PgTable } from 'drizzle-orm/pg-core';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { settings } from '../env';
import { ApiError, type AppEnv, envelope, validate } from '../http';
import { json, text } from '../json';
import { timed } from '../log';
import { prepared } from '../prepared';
import { refundableAmount, refundFields } from '../refunds/refund';
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
    const cached = bypass ? null : await timed(c.get('log'), 'kvMs', readDetail(DETAIL_CACHE, id));
    if (cached !== null) return outcome(cached, 'hit');

    const selectBeganAt = Date.now();
    const { rows } = await inDatabase(c, 'detail', (db) =>
      db.execute<{ payment: PaymentDetail }>(detailStatement({ id })),
    );
    const [found] = rows;
    if (!found) throw new ApiError(40401);

    const body = JSON.stringify(envelope('获取成功', found.payment));
    if (found.payment.status !== PENDING) {
      c.executionCtx.waitUntil(fillDetail(DETAIL_CACHE, id, body, selectBeganAt));
    }
    return outcome(body, bypass ? 'bypass' : 'miss');
  },
);

const PENDING = 0;

/** The whole answer is one JSON value that PostgreSQL makes, in one snapshot. */
const detailStatement = prepared<{ id: bigint }>((bind) => {
  const callback = json<typeof Callback>({
    id: text(paymentCallbacks.id),
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
    ...refundFields,
    events: oldestFirst(
      event,
      paymentRefundEvents,
      paymentRefundEvents.refundId,
      paymentRefunds.id,
    ),
  });
  const detail = json<typeof PaymentDetail>({
    id: text(payments.id),
    order_id: text(payments.orderId),
    order_no: orders.orderNo,
    payment_no: payments.paymentNo,
    payment_method: payments.paymentMethod,
    amount: text(payments.amount),
    status: payments.status,
    payment_time: utc(payments.paymentTime),
    refund_time: utc(payments.refundTime),
    created_at: utc(payments.createdAt),
    updated_at: utc(payments.updatedAt),
    refundable_amount: refundableAmount,
    callbacks: oldestFirst(callback, paymentCallbacks, paymentCallbacks.paymentId, payments.id),
    refunds: oldestFirst(refund, paymentRefunds, paymentRefunds.paymentId, payments.id),
  });
  return sql`
    SELECT ${detail} AS payment
    FROM payments LEFT JOIN orders ON orders.id = payments.order_id
    WHERE payments.id = ${bind(({ id }) => id)}`;
});

/** The children of a row as a JSON array, in the order in which they were made. */
function oldestFirst(
  child: SQL,
  table: PgTable & { createdAt: AnyColumn; id: AnyColumn },
  parentId: AnyColumn,
  id: AnyColumn,
): SQL {
  return sql`(
    SELECT coalesce(json_agg(${child} ORDER BY ${table.createdAt}, ${table.id}), '[]')
    FROM ${table} WHERE ${parentId} = ${id})`;
}
