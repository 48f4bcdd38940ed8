/**
 * POST /payments/:id/refund: creates a refund. The payment row is locked before the sum is taken,
 * so parallel requests can never refund more than was paid; with an Idempotency-Key a retry finds
 * the first refund. Talks to no gateway: the refund starts as 处理中 and settle.ts ends it.
 */
import { and, eq, sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize, limitRate } from '../auth';
import { type Database, inDatabase } from '../database';
import { ApiError, type AppEnv, envelope, jsonBody, validate } from '../http';
import { PositiveAmount } from '../money';
import { withPurges } from '../payments/detail-cache';
import { Id } from '../payments/payment';
import { paymentRefunds, payments } from '../schema';
import {
  isLocked,
  lockPayment,
  refundableAmount,
  refundColumns,
  toRefund,
  unrefundedAmount,
} from './refund';

/** Length counts code points, as VARCHAR(255) does. */
const Reason = z
  .string({ error: (issue) => (issue.input === undefined ? '必填' : '须为字符串') })
  .trim()
  .refine((text) => text.isWellFormed(), '不是有效的 Unicode 文本')
  .refine((text) => /^\P{Cc}*$/u.test(text), '不能包含控制字符')
  .refine((text) => 1 <= [...text].length && [...text].length <= 255, '须为 1 到 255 个字符');

const RefundBody = z.strictObject({ amount: PositiveAmount, reason: Reason }, '须为 JSON 对象');

const RefundHeaders = z.object({
  'Idempotency-Key': z
    .string()
    .regex(/^[\x20-\x7e]{1,255}$/, '须为 1 到 255 个可打印的 ASCII 字符')
    .optional(),
});

export const createRefund = new Hono<AppEnv>().post(
  '/payments/:id/refund',
  authorize('refunds:create'),
  limitRate,
  jsonBody,
  validate({ param: z.object({ id: Id }), header: RefundHeaders, json: RefundBody }),
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

    const { inserted, found } = await withPurges(c, paymentId, () =>
      inDatabase(c, (db, lockTimeout) => insertRefund(db, request, lockTimeout), {
        refund_no: refundNo,
      }),
    );

    if (!found) throw new ApiError(40401);
    if (!found.refund) {
      throw found.status === 1
        ? new ApiError(40901, { refundable_amount: found.refundableAmount })
        : new ApiError(40900, { status: found.status });
    }
    if (!found.sameRequest) throw new ApiError(40902);

    // Without a key nobody else knows this refund_no: a row not inserted now was inserted by a try whose answer was lost.
    if (inserted || key === undefined)
      return c.json(envelope('创建成功', toRefund(found.refund)), 201);
    c.header('Idempotent-Replayed', 'true');
    return c.json(envelope('创建成功', toRefund(found.refund)), 200);
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

interface RefundRequest {
  paymentId: bigint;
  refundNo: string;
  amount: string;
  reason: string;
  actor: string;
  requestId: string;
}

/**
 * One transaction at READ COMMITTED. Each of its statements sees what was committed before that
 * statement began, and the first waits for the payment's row lock. So the second sums the refunds
 * after every earlier holder of the lock has committed, and no other can come in between. (As one
 * statement, a sub-select would keep the snapshot taken before the wait.) UNIQUE (refund_no) makes
 * a replay insert nothing; the third then finds the first refund, whatever the sum says by now.
 */
async function insertRefund(db: Database, request: RefundRequest, lockTimeout: string) {
  const { paymentId, refundNo, amount, reason, actor, requestId } = request;
  const [[locked], inserted, [found]] = await db.batch([
    lockPayment(db, paymentId, lockTimeout),
    db.execute(sql`
      WITH created AS (
        INSERT INTO payment_refunds (payment_id, refund_no, amount, reason)
        SELECT ${payments.id}, ${refundNo}::varchar, ${amount}::numeric, ${reason}::varchar
        FROM ${payments}
        WHERE ${payments.id} = ${paymentId}
          AND ${payments.status} = 1
          AND ${isLocked(paymentId)}
          AND ${amount}::numeric <= ${unrefundedAmount}
        ON CONFLICT (refund_no) DO NOTHING
        RETURNING id, status
      )
      INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id)
      SELECT id, ${actor}::varchar, NULL, status, ${requestId}::varchar FROM created`),
    db
      .select({
        status: payments.status,
        refundableAmount,
        sameRequest: sql<boolean>`${paymentRefunds.amount} = ${amount}::numeric AND ${paymentRefunds.reason} = ${reason}`,
        refund: refundColumns,
      })
      .from(payments)
      .leftJoin(
        paymentRefunds,
        and(eq(paymentRefunds.refundNo, refundNo), eq(paymentRefunds.paymentId, payments.id)),
      )
      .where(eq(payments.id, paymentId)),
  ]);
  // A payment that appeared after the first statement was not locked by it: it did not exist yet.
  return { inserted: inserted.rowCount === 1, found: locked && found };
}
