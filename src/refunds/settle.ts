/**
 * PATCH /payments/:id/refunds/:refund_id: records how a refund ended at the gateway, once. When the
 * successful refunds add up to what was paid, the database makes the payment 已退款 in the same
 * transaction (refresh_refund_totals() in drizzle/0011_*.sql).
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize, limitRate } from '../auth';
import { type Database, DeadlineError, inDatabase } from '../database';
import { ApiError, type AppEnv, envelope, jsonBody, validate } from '../http';
import { withPurges } from '../payments/detail-cache';
import { Id, PaymentPath } from '../payments/payment';
import { prepared } from '../prepared';
import {
  isLate,
  type Lock,
  lockPayment,
  mayWrite,
  type Refund,
  RefundOutcome,
  refundOrNull,
} from './refund';

/** How the refund ended. */
export const Settlement = z.strictObject({ status: RefundOutcome }, '须为 JSON 对象');

/** The refund, and the payment that it is of. */
export const RefundPath = PaymentPath.extend({ refund_id: Id.describe('退款记录ID') });

export const settleRefund = new Hono<AppEnv>().patch(
  '/payments/:id/refunds/:refund_id',
  authorize('refunds:settle'),
  limitRate,
  jsonBody,
  validate({ param: RefundPath, json: Settlement }),
  async (c) => {
    const { id: paymentId, refund_id: refundId } = c.req.valid('param');
    const { status } = c.req.valid('json');
    const settlement = {
      paymentId,
      refundId,
      status,
      actor: c.get('actor'),
      requestId: c.get('requestId'),
    };

    const found = await withPurges(c, paymentId, () =>
      inDatabase(c, 'settle', (db, limits) => settle(db, { ...settlement, ...limits })),
    );

    if (!found) throw new ApiError(40401);
    if (!found.refund) throw new ApiError(40402);
    if (found.refund.status !== status) throw new ApiError(40903, { status: found.refund.status });
    return c.json(envelope('更新成功', found.refund));
  },
);

interface Outcome extends Lock {
  refundId: bigint;
  status: 1 | 2;
  actor: string;
  requestId: string;
}

/** The refund as it is now, and whether the request has been given up. */
type Found = { refund: Refund | null; late: boolean };

/**
 * One transaction under the payment's row lock, as in create.ts. The second statement moves a refund that
 * is still 处理中; a settlement that comes again moves nothing. The payment's status follows either way:
 * by the trigger on payment_refunds, or by a call of the same function, so that a repeated settlement
 * heals a payment that others left behind.
 */
async function settle(db: Database, settlement: Outcome): Promise<Found | undefined> {
  const [locked, { rows }] = await db.batch([
    db.execute(lockPayment(settlement)),
    db.execute<{ value: Found | null }>(settleStatement(settlement)),
  ]);
  // As in create.ts: what appeared after the first statement was not there for this request.
  if (locked.rows.length === 0) return undefined;
  const found = rows[0]?.value ?? undefined;
  if (found?.late && found.refund?.status === 0) throw new DeadlineError();
  return found;
}

/**
 * The refund comes as it is now: from `settled`, which the rest of the statement does not see, or from
 * `ended`, where FOR SHARE finds even what somebody without the payment's lock has just made of it.
 */
const settleStatement = prepared<Outcome>((bind) => {
  const paymentId = bind((given) => given.paymentId);
  const refundId = bind((given) => given.refundId);
  return sql`
    WITH settled AS (
      UPDATE payment_refunds SET status = ${bind(({ status }) => status)}, updated_at = now()
      WHERE id = ${refundId} AND payment_id = ${paymentId} AND status = 0 AND ${mayWrite(bind)}
      RETURNING *
    ), recorded AS (
      INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id)
      SELECT id, ${bind(({ actor }) => actor)}::varchar, 0, status, ${bind(({ requestId }) => requestId)}::varchar
      FROM settled
    ), ended AS (
      SELECT * FROM payment_refunds
      WHERE id = ${refundId} AND payment_id = ${paymentId} AND NOT EXISTS (SELECT FROM settled)
      FOR SHARE
    )
    SELECT json_build_object('refund', ${refundOrNull}, 'late', ${isLate(bind)}, 'refreshed',
      (SELECT CASE WHEN ${mayWrite(bind)} THEN refresh_refund_totals(payment_id)::text END FROM ended)) AS value
    FROM payments
    LEFT JOIN (SELECT * FROM settled UNION ALL SELECT * FROM ended) AS payment_refunds ON true
    WHERE payments.id = ${paymentId}`;
});
