/**
 * POST /payments/:id/refund: creates a refund. The payment row is locked before the sum is taken,
 * so parallel requests can never refund more than was paid; with an Idempotency-Key a retry finds
 * the first refund. Talks to no gateway: the refund starts as 处理中 and settle.ts ends it.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize, limitRate } from '../auth';
import { type Database, inDatabase } from '../database';
import { ApiError, type AppEnv, envelope, jsonBody, validate } from '../http';
import { PositiveAmount } from '../money';
import { withPurges } from '../payments/detail-cache';
import { PaymentPath } from '../payments/payment';
import { prepared } from '../prepared';
import {
  isLocked,
  type Lock,
  lockPayment,
  type Refund,
  refundableAmount,
  refundOrNull,
  unrefundedAmount,
} from './refund';

/** Length counts code points, as VARCHAR(255) does. */
const Reason = z
  .string({ error: (issue) => (issue.input === undefined ? '必填' : '须为字符串') })
  .trim()
  .refine((text) => text.isWellFormed(), '不是有效的 Unicode 文本')
  .refine((text) => /^\P{Cc}*$/u.test(text), '不能包含控制字符')
  .refine((text) => 1 <= [...text].length && [...text].length <= 255, '须为 1 到 255 个字符')
  .meta({
    pattern: '^(?=.*\\S)\\P{Cc}*$',
    minLength: 1,
    maxLength: 255,
    description: '退款原因; white space around it is removed',
  });

/** What a client asks for. */
export const RefundRequest = z.strictObject(
  { amount: PositiveAmount, reason: Reason },
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
      inDatabase(c, 'refund', (db, lockTimeout) => insertRefund(db, { ...request, lockTimeout }), {
        refund_no: refundNo,
      }),
    );

    if (!found) throw new ApiError(40401);
    if (!found.refund) {
      throw found.status === 1
        ? new ApiError(40901, { refundable_amount: found.refundable_amount })
        : new ApiError(40900, { status: found.status });
    }
    if (!found.same_request) throw new ApiError(40902);

    // Without a key nobody else knows this refund_no: a row not inserted now was inserted by a try whose answer was lost.
    if (found.inserted || key === undefined) return c.json(envelope('创建成功', found.refund), 201);
    c.header('Idempotent-Replayed', 'true');
    return c.json(envelope('创建成功', found.refund), 200);
  },
);

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

interface Insertion extends Lock {
  refundNo: string;
  amount: string;
  reason: string;
  actor: string;
  requestId: string;
}

/** What the payment is like, and the refund with this refund_no, were it made now or before. */
type Found = {
  status: number;
  refundable_amount: string;
  refund: Refund | null;
  /** Whether it was made now. */
  inserted: boolean | null;
  /** Whether it is what this request asks for. */
  same_request: boolean | null;
};

/**
 * One transaction at READ COMMITTED. Each of its statements sees what was committed before that
 * statement began, and the first waits for the payment's row lock. So the second sums the refunds
 * after every earlier holder of the lock has committed, and no other can come in between. (As one
 * statement, the sum would keep the snapshot taken before the wait.) UNIQUE (refund_no) makes a
 * replay insert nothing, and then the first refund is found, whatever the sum says by now.
 */
async function insertRefund(db: Database, insertion: Insertion): Promise<Found | undefined> {
  const [locked, inserted] = await db.batch([
    db.execute(lockPayment(insertion)),
    db.execute<Found>(insertStatement(insertion)),
  ]);
  // A payment that appeared after the first statement was not locked by it: it did not exist yet.
  return locked.rows.length === 0 ? undefined : inserted.rows[0];
}

/** A row that this statement inserts is not among those that it reads, so `created` and `earlier` never both have it. */
const insertStatement = prepared<Insertion>((bind) => {
  const paymentId = bind((given) => given.paymentId);
  const refundNo = bind((given) => given.refundNo);
  const amount = sql`${bind((given) => given.amount)}::numeric`;
  const reason = bind((given) => given.reason);
  return sql`
    WITH created AS (
      INSERT INTO payment_refunds (payment_id, refund_no, amount, reason)
      SELECT id, ${refundNo}::varchar, ${amount}, ${reason}::varchar
      FROM payments
      WHERE id = ${paymentId}
        AND status = 1
        AND ${isLocked(bind)}
        AND ${amount} <= ${unrefundedAmount}
      ON CONFLICT (refund_no) DO NOTHING
      RETURNING *
    ), recorded AS (
      INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id)
      SELECT id, ${bind(({ actor }) => actor)}::varchar, NULL, status, ${bind(({ requestId }) => requestId)}::varchar
      FROM created
    ), earlier AS (
      SELECT * FROM payment_refunds WHERE refund_no = ${refundNo} AND payment_id = ${paymentId}
    )
    SELECT payments.status, ${refundableAmount} AS refundable_amount, ${refundOrNull} AS refund, inserted,
      payment_refunds.amount = ${amount} AND reason = ${reason} AS same_request
    FROM payments
    LEFT JOIN (
      SELECT true AS inserted, * FROM created UNION ALL SELECT false, * FROM earlier
    ) AS payment_refunds ON true
    WHERE payments.id = ${paymentId}`;
});
