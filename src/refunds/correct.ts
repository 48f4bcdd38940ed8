/**
 * POST /payments/:id/refunds/:refund_id/correction: corrects a refund that ended otherwise than was
 * recorded, with a reason. 1 成功 → 2 失败 where the money came back (a closed account), and a payment that
 * was 已退款 for it is 支付成功 again. 2 → 1 where it has arrived after all, only if the payment still has
 * that money. A refund is corrected at most once in each direction on a business day.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize, limitRate } from '../auth';
import { type Database, DeadlineError, inDatabase } from '../database';
import { ApiError, type AppEnv, envelope, jsonBody, validate } from '../http';
import { withPurges } from '../payments/detail-cache';
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
import { RefundPath } from './settle';

/** How the refund ended in truth, and how one knows. */
export const Correction = z.strictObject(
  { status: RefundOutcome, reason: writtenText('更正原因') },
  '须为 JSON 对象',
);

export const correctRefund = new Hono<AppEnv>().post(
  '/payments/:id/refunds/:refund_id/correction',
  authorize('refunds:correct'),
  limitRate,
  jsonBody,
  validate({ param: RefundPath, json: Correction }),
  async (c) => {
    const { id: paymentId, refund_id: refundId } = c.req.valid('param');
    const { status, reason } = c.req.valid('json');
    const correction = {
      paymentId,
      refundId,
      status,
      reason,
      actor: c.get('actor'),
      requestId: c.get('requestId'),
    };

    const found = await withPurges(taskOf(c), paymentId, () =>
      inDatabase(c, 'correct', (db, limits) => correct(db, { ...correction, ...limits })),
    );

    if (!found) throw new ApiError(40401);
    if (!found.refund) throw new ApiError(40402);
    if (found.refund.status === status) return c.json(envelope('更新成功', found.refund));
    if (found.refund.status === 0) throw new ApiError(40905, { status: 0 });
    if (found.corrected_today) throw new ApiError(40906);
    const { refundable_amount, missing_amount } = found;
    throw new ApiError(40901, { refundable_amount, missing_amount });
  },
);

interface Correcting extends Lock {
  refundId: bigint;
  status: 1 | 2;
  reason: string;
  actor: string;
  requestId: string;
}

/** The refund as it is now, and why it could not be corrected if its status is another. */
type Found = {
  refund: Refund | null;
  corrected_today: boolean;
  /** What the payment's refunds that have not failed leave of its amount. */
  refundable_amount: string;
  /** How much of the refund's amount that is too little. */
  missing_amount: string;
  late: boolean;
};

/** One transaction under the payment's row lock, as in create.ts. The same correction again changes nothing. */
async function correct(db: Database, correction: Correcting): Promise<Found | undefined> {
  const [locked, { rows }] = await db.batch([
    db.execute(lockPayment(correction)),
    db.execute<{ value: Found | null }>(correctStatement(correction)),
  ]);
  // As in create.ts: what appeared after the first statement was not there for this request.
  if (locked.rows.length === 0) return undefined;
  const found = rows[0]?.value ?? undefined;
  if (found?.late && found.refund?.status === 3 - correction.status) throw new DeadlineError();
  return found;
}

/**
 * The event is what allows the move: the trigger on payment_refunds looks for it. The trigger also moves
 * the payment between 支付成功 and 已退款.
 */
const correctStatement = prepared<Correcting>((bind) => {
  const paymentId = bind((given) => given.paymentId);
  const status = sql`${bind((given) => given.status)}::integer`;
  return sql`
    WITH refund AS (
      SELECT * FROM payment_refunds
      WHERE id = ${bind(({ refundId }) => refundId)} AND payment_id = ${paymentId}
    ), payment AS (
      SELECT amount - (
        SELECT coalesce(sum(amount), 0) FROM payment_refunds WHERE payment_id = ${paymentId} AND status <> 2
      ) AS unrefunded
      FROM payments WHERE id = ${paymentId}
    ), today AS (
      SELECT EXISTS (
        SELECT FROM payment_refund_events, refund
        WHERE refund_id = refund.id AND from_status = 3 - ${status} AND to_status = ${status}
          AND payment_day(payment_refund_events.created_at) = payment_day(now())
      ) AS corrected
    ), recorded AS (
      INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id, reason)
      SELECT id, ${bind(({ actor }) => actor)}::varchar, status, ${status},
        ${bind(({ requestId }) => requestId)}::varchar, ${bind(({ reason }) => reason)}::varchar
      FROM refund, payment, today
      WHERE status = 3 - ${status} AND NOT corrected AND (${status} = 2 OR amount <= unrefunded)
        AND ${mayWrite(bind)}
      RETURNING refund_id
    ), corrected AS (
      UPDATE payment_refunds SET status = ${status}, updated_at = now()
      FROM recorded WHERE id = refund_id
      RETURNING payment_refunds.*
    )
    SELECT json_build_object('refund', ${refundOrNull()}, 'corrected_today', today.corrected,
      'refundable_amount', greatest(unrefunded, 0)::numeric(18, 2)::text,
      'missing_amount', greatest(payment_refunds.amount - unrefunded, 0)::numeric(18, 2)::text,
      'late', ${isLate(bind)}) AS value
    FROM payment CROSS JOIN today
    LEFT JOIN (
      SELECT * FROM corrected UNION ALL SELECT * FROM refund WHERE NOT EXISTS (SELECT FROM corrected)
    ) AS payment_refunds ON true`;
});
