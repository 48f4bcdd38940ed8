/**
 * PATCH /payments/:id/refunds/:refund_id: records how a refund that no gateway carries out ended, once. One that a
 * gateway has is settled by the gateway's word. A person with the scope for it can force its end, with a reason on
 * record; then it is out of the outbox, and nothing sends it again. When the successful refunds add up to what was
 * paid, the database makes the payment 已退款 in the same transaction (refresh_refund_totals() in drizzle/0011_*.sql).
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize, demandScope, limitRate } from '../auth';
import { type Database, DeadlineError, inDatabase } from '../database';
import { type FollowUp, followInBackground } from '../gateways/outbox';
import { ApiError, type AppEnv, envelope, jsonBody, validate } from '../http';
import { withPurges } from '../payments/detail-cache';
import { Id, PaymentPath } from '../payments/payment';
import { prepared } from '../prepared';
import { taskOf } from '../task';
import { writtenText } from '../text';
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
export const Settlement = z.strictObject(
  {
    status: RefundOutcome,
    override_reason: writtenText(
      'Forces the end of a refund that a gateway has; needs refunds:override as well. 强制登记原因',
    ).optional(),
  },
  '须为 JSON 对象',
);

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
    const { status, override_reason } = c.req.valid('json');
    if (override_reason !== undefined) demandScope(c, 'refunds:override');
    const settlement = {
      paymentId,
      refundId,
      status,
      overrideReason: override_reason ?? null,
      actor: c.get('actor'),
      requestId: c.get('requestId'),
    };

    const task = taskOf(c);
    const found = await withPurges(task, paymentId, () =>
      inDatabase(c, 'settle', (db, limits) => settle(db, { ...settlement, ...limits })),
    );

    if (!found) throw new ApiError(40401);
    if (!found.refund) throw new ApiError(40402);
    const { gateway, refund_no } = found.refund;
    if (found.poll) {
      const message = { payment_id: String(paymentId), refund_no };
      followInBackground(task, message, { due_at: null, poll: found.poll });
    }
    if (found.refund.status === 0 && gateway) throw new ApiError(40907, { state: gateway.state });
    if (found.refund.status !== status) throw new ApiError(40903, { status: found.refund.status });
    return c.json(envelope('更新成功', found.refund));
  },
);

interface Outcome extends Lock {
  refundId: bigint;
  status: 1 | 2;
  /** Null where nothing is to be forced. */
  overrideReason: string | null;
  actor: string;
  requestId: string;
}

/**
 * The refund as it is now, and whether the request has been given up. `poll`: its failure was forced although it had
 * been sent, so the gateway goes on being asked whether it paid.
 */
type Found = { refund: Refund | null; late: boolean; poll: FollowUp['poll'] };

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
  if (found?.late && found.refund?.status === 0 && !found.refund.gateway) throw new DeadlineError();
  return found;
}

/**
 * `overridden` takes the refund of a gateway out of the outbox, but not while it is being sent: its money may be
 * moving at this moment. The trigger on payment_refunds lets nothing else settle it.
 * The refund comes as it is now: from `settled`, which the rest of the statement does not see, or from
 * `ended`, where FOR SHARE finds even what somebody without the payment's lock has just made of it.
 */
const settleStatement = prepared<Outcome>((bind) => {
  const paymentId = bind((given) => given.paymentId);
  const refundId = bind((given) => given.refundId);
  const status = bind((given) => given.status);
  const reason = bind((given) => given.overrideReason);
  return sql`
    WITH overridden AS (
      SELECT * FROM override_gateway_refund(
        CASE WHEN ${reason}::varchar IS NOT NULL AND ${mayWrite(bind)} THEN ${refundId}::bigint END,
        ${paymentId}, ${status}::integer)
    ), settled AS (
      UPDATE payment_refunds SET status = ${status}, updated_at = now()
      WHERE id = ${refundId} AND payment_id = ${paymentId} AND status = 0 AND (
        id IN (SELECT refund_id FROM overridden)
        OR ${mayWrite(bind)} AND NOT EXISTS (SELECT FROM gateway_refunds WHERE refund_id = ${refundId})
      )
      RETURNING *
    ), recorded AS (
      INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id, reason, cause)
      SELECT id, ${bind(({ actor }) => actor)}::varchar, 0, status, ${bind(({ requestId }) => requestId)}::varchar,
        CASE WHEN forced THEN ${reason}::varchar END, CASE WHEN forced THEN 'person' END
      FROM settled, (SELECT EXISTS (SELECT FROM overridden) AS forced) AS way
    ), ended AS (
      SELECT * FROM payment_refunds
      WHERE id = ${refundId} AND payment_id = ${paymentId} AND NOT EXISTS (SELECT FROM settled)
      FOR SHARE
    )
    SELECT json_build_object('refund', ${refundOrNull(sql`(SELECT refund_gateway_json(ROW(overridden.*)::gateway_refunds) FROM overridden)`)}, 'late', ${isLate(bind)},
      'poll', (
        SELECT json_build_object('gateway', gateway, 'account', account, 'request', gateway_refund_request(refund_id))
        FROM overridden WHERE state = 'failed' AND attempts > 0
      ), 'refreshed',
      (SELECT CASE WHEN ${mayWrite(bind)} THEN refresh_refund_totals(payment_id)::text END FROM ended)) AS value
    FROM payments
    LEFT JOIN (SELECT * FROM settled UNION ALL SELECT * FROM ended) AS payment_refunds ON true
    WHERE payments.id = ${paymentId}`;
});
