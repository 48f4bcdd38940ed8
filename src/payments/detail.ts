/**
 * GET /payments/:id: one payment with its callbacks and refunds, oldest first. Served from the
 * detail cache where it is there, without touching the database; else from one statement, and so
 * from one snapshot, and then cached. A pending payment is not cached: others are about to change it.
 */
import { type AnyColumn, type SQL, sql } from 'drizzle-orm';
import type { PgTable } from 'drizzle-orm/pg-core';
import { Hono, type TypedResponse } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { settings } from '../env';
import { ApiError, type AppEnv, envelope, validate } from '../http';
import { json, text } from '../json';
import { timed } from '../log';
import { prepared } from '../prepared';
import {
  Refund,
  RefundStatus,
  refundableAmount,
  refundedAmount,
  refundFields,
} from '../refunds/refund';
import { orders, paymentCallbacks, paymentRefundEvents, paymentRefunds, payments } from '../schema';
import { UtcTime, utc } from '../time';
import { fillDetail, readDetail } from './detail-cache';
import { IdText, Payment, PaymentPath } from './payment';

/** What the gateway told about the payment. */
export const Callback = z.object({
  id: IdText,
  callback_no: z.string().describe('回调单号'),
  status: z.literal([0, 1, 2]).describe('0 处理中, 1 成功, 2 失败'),
  created_at: UtcTime,
});

/** Who moved the refund to which status; from_status is null for its creation. */
export const RefundEvent = z.object({
  actor: z.string().describe('The sub of the token'),
  from_status: RefundStatus.nullable().describe('null for its creation'),
  to_status: RefundStatus,
  request_id: z.string(),
  reason: z.string().nullable().describe('Of a correction; null for any other move'),
  created_at: UtcTime,
});

/** A refund within its payment, with what was done to it. */
export const DetailRefund = z.object({
  ...Refund.omit({ payment_id: true }).shape,
  events: z.array(RefundEvent),
});

/** A payment with everything that belongs to it. */
export const PaymentDetail = z.object({
  id: IdText,
  order_id: IdText,
  ...Payment.omit({ id: true }).shape,
  refund_time: UtcTime.nullable().describe('退款时间'),
  updated_at: UtcTime.nullable().describe('更新时间'),
  callbacks: z.array(Callback),
  refunds: z.array(DetailRefund),
});
type PaymentDetail = z.infer<typeof PaymentDetail>;

/**
 * What typed clients are told of the body. The type exists for them alone: nothing here reads it, and
 * the body that it is about is text, made of a PaymentDetail now or when it was stored.
 */
type Answer = Response & TypedResponse<ReturnType<typeof envelope<PaymentDetail>>, 200, 'json'>;

export const getPayment = new Hono<AppEnv>().get(
  '/payments/:id',
  authorize('payments:read'),
  validate({ param: PaymentPath }),
  async (c) => {
    const { id } = c.req.valid('param');
    const bypass = /(^|,)\s*no-cache\s*(,|$)/i.test(c.req.header('Cache-Control') ?? '');
    const outcome = (body: string, cache: 'hit' | 'miss' | 'bypass'): Answer => {
      c.get('log').cache = cache;
      c.header('Cache-Status', `payment-detail; ${cache === 'hit' ? 'hit' : `fwd=${cache}`}`);
      const response: Response = c.body(body, 200, { 'Content-Type': 'application/json' });
      return response as Answer;
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
    reason: paymentRefundEvents.reason,
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
    refunded_amount: refundedAmount,
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
