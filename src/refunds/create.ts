/**
 * POST /payments/:id/refund: creates a refund. The payment row is locked before the sum is taken,
 * so parallel requests can never refund more than was paid; with an Idempotency-Key a retry finds
 * the first refund. Talks to no gateway: the refund starts as 处理中 and settle.ts ends it.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize, limitRate } from '../auth';
import { type Database, DeadlineError, inDatabase } from '../database';
import { ApiError, type AppEnv, envelope, jsonBody, validate } from '../http';
import { NonNegativeAmount, PositiveAmount } from '../money';
import { withPurges } from '../payments/detail-cache';
import { PaymentPath } from '../payments/payment';
import { prepared } from '../prepared';
import { writtenText } from '../text';
import { isLate, type Lock, lockPayment, mayWrite, type Refund, refundOrNull } from './refund';

/** What a client asks for. */
export const RefundRequest = z.strictObject(
  {
    amount: PositiveAmount,
    reason: writtenText('退款原因'),
    refundable_amount: NonNegativeAmount.describe(
      'What the client believes a refund may take: where it differs, 40901. So two people who see the same payment cannot both refund the same part',
    ).optional(),
  },
  '须为 JSON 对象',
);

/** Where a retry is to find what the first request made. */
export const RefundHeaders = z.object({
  'Idempotency-Key': z
    .string()
    .regex(/^[\x20-\x7e]{1,255}$/, '须为 1 到 255 个可打印的 ASCII 字符')
    .describe('The same key on the same payment with the same body finds the first refund')
    .optional(),
});

export const createRefund = new Hono<AppEnv>().post(
  '/payments/:id/refund',
  authorize('refunds:create'),
  limitRate,
  jsonBody,
  validate({ param: PaymentPath, header: RefundHeaders, json: RefundRequest }),
  async (c) => {
    const { id: paymentId } = c.req.valid('param');
    const { 'Idempotency-Key': key } = c.req.valid('header');
    // Fixed before the first try, so that a second one, or a client's, finds what the first has made.
    const refundNo = key === undefined ? newRefundNo() : await refundNoOf(paymentId, key);
    const request = {
      paymentId,
      refundNo,
      ...c.req.valid('json'),
      actor: c.get('actor'),
      requestId: c.get('requestId'),
    };

    const found = await withPurges(c, paymentId, () =>
      inDatabase(
        c,
        'refund',
        (db, limits) => insertRefund(db, { ...request, ...limits }),
        // Without a key, a second request makes a second refund.
        { data: { refund_no: refundNo }, repeatable: key !== undefined },
      ),
    );

    if (!found) throw new ApiError(40401);
    if (!found.refund) throw refusal(found);
    if (!found.same_request) throw new ApiError(40902);

    // Without a key nobody else knows this refund_no: a row not inserted now was inserted by a try whose answer was lost.
    if (found.inserted || key === undefined) return c.json(envelope('创建成功', found.refund), 201);
    c.header('Idempotent-Replayed', 'true');
    return c.json(envelope('创建成功', found.refund), 200);
  },
);

function refusal({ status, refundable_amount, amount_fits, limit }: Found): ApiError {
  if (status !== 1) return new ApiError(40900, { status });
  if (!amount_fits) return new ApiError(40901, { refundable_amount });
  // Another payment's refund has this refund_no.
  return limit === null ? new ApiError(40902) : new ApiError(40904, { limit });
}

/** Letters and digits only, 50 at most, so that gateways take it as their out_refund_no. */
async function refundNoOf(paymentId: bigint, key: string): Promise<string> {
  const digest = await crypto.subtle.digest(
    'SHA-256',
    new TextEncoder().encode(`${paymentId}\n${key}`),
  );
  return `RK${new Uint8Array(digest, 0, 24).toHex()}`;
}

/** Time-ordered (UTC, to the millisecond) and random: R20261122131844123 and 64 random bits. */
function newRefundNo(): string {
  const time = new Date().toISOString().replace(/\D/g, '');
  return `R${time}${crypto.getRandomValues(new Uint8Array(8)).toHex()}`;
}

/** How many refunds of a payment may be 处理中 or 成功: the limit of WeChat Pay, and of Alipay in practice. */
export const MAX_ACTIVE = 50;

/** How many refunds a payment may have in all, so that its detail stays small. */
export const MAX_REFUNDS = 200;

interface Insertion extends Lock {
  refundNo: string;
  amount: string;
  refundable_amount?: string | undefined;
  reason: string;
  actor: string;
  requestId: string;
}

/** The payment as it is, and the refund with this refund_no, whether it was made now or before. */
type Found = {
  status: number;
  refundable_amount: string;
  /** Whether the amount is left, and the client knows how much is left. */
  amount_fits: boolean;
  /** The limit on the number of refunds that is reached. */
  limit: number | null;
  refund: Refund | null;
  /** Whether it was made now. */
  inserted: boolean | null;
  /** Whether it is what this request asks for. */
  same_request: boolean | null;
  /** Whether the request has been given up. */
  late: boolean;
};

/**
 * One transaction at READ COMMITTED. Each of its statements sees what was committed before that
 * statement began, and the first waits for the payment's row lock. So the second sums the refunds
 * after every earlier holder of the lock has committed, and no other can come in between. (As one
 * statement, the sum would keep the snapshot taken before the wait.) UNIQUE (refund_no) makes a
 * replay insert nothing, and then the first refund is found, whatever the sum says by now.
 */
async function insertRefund(db: Database, insertion: Insertion): Promise<Found | undefined> {
  const [locked, { rows }] = await db.batch([
    db.execute(lockPayment(insertion)),
    db.execute<{ value: Found | null }>(insertStatement(insertion)),
  ]);
  const found = rows[0]?.value ?? undefined;
  if (found?.refund) return found;
  // A payment that appeared after the first statement was not locked by it: it did not exist yet.
  if (locked.rows.length === 0) return undefined;
  if (found?.late) throw new DeadlineError();
  return found;
}

/** A row that this statement inserts is not among those that it reads, so `created` and `earlier` never both have it. */
const insertStatement = prepared<Insertion>((bind) => {
  const paymentId = bind((given) => given.paymentId);
  const refundNo = bind((given) => given.refundNo);
  const amount = sql`${bind((given) => given.amount)}::numeric`;
  const reason = bind((given) => given.reason);
  return sql`
    WITH payment AS (
      SELECT id, status, unrefunded,
        CASE WHEN status = 1 THEN greatest(unrefunded, 0) ELSE 0 END AS refundable,
        CASE WHEN active >= ${sql.raw(String(MAX_ACTIVE))} THEN ${sql.raw(String(MAX_ACTIVE))}
          WHEN made >= ${sql.raw(String(MAX_REFUNDS))} THEN ${sql.raw(String(MAX_REFUNDS))} END AS reached
      FROM payments, LATERAL (
        SELECT payments.amount - coalesce(sum(amount) FILTER (WHERE status <> 2), 0) AS unrefunded,
          count(*) FILTER (WHERE status <> 2) AS active, count(*) AS made
        FROM payment_refunds WHERE payment_id = payments.id
      ) AS refunds
      WHERE id = ${paymentId}
    ), fitting AS (
      SELECT *, ${amount} <= unrefunded
        AND refundable = coalesce(${bind((given) => given.refundable_amount)}::numeric, refundable) AS amount_fits
      FROM payment
    ), created AS (
      INSERT INTO payment_refunds (payment_id, refund_no, amount, reason)
      SELECT id, ${refundNo}::varchar, ${amount}, ${reason}::varchar
      FROM fitting
      WHERE status = 1 AND amount_fits AND reached IS NULL AND ${mayWrite(bind)}
      ON CONFLICT (refund_no) DO NOTHING
      RETURNING *
    ), recorded AS (
      INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id)
      SELECT id, ${bind(({ actor }) => actor)}::varchar, NULL, status, ${bind(({ requestId }) => requestId)}::varchar
      FROM created
    ), earlier AS (
      SELECT * FROM payment_refunds WHERE refund_no = ${refundNo} AND payment_id = ${paymentId}
    )
    SELECT json_build_object('status', fitting.status, 'refundable_amount', refundable::numeric(18, 2)::text,
      'amount_fits', amount_fits, 'limit', reached, 'refund', ${refundOrNull}, 'inserted', inserted,
      'same_request', payment_refunds.amount = ${amount} AND reason = ${reason}, 'late', ${isLate(bind)}) AS value
    FROM fitting
    LEFT JOIN (
      SELECT true AS inserted, * FROM created UNION ALL SELECT false, * FROM earlier
    ) AS payment_refunds ON true`;
});
