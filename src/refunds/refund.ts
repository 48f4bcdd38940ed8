/**
 * The Refund that a client sees (specification, section 3), and the states it can be in:
 * 0 处理中 → 1 成功 or 2 失败, once; a correction moves it between 1 and 2. A refund that has not failed
 * takes its amount out of what is left. The database refuses any other move (drizzle/0011_*.sql).
 */
import { type SQL, sql } from 'drizzle-orm';
import * as z from 'zod';
import type { Limits } from '../database';
import { json, text } from '../json';
import { Amount } from '../money';
import { IdText } from '../payments/payment';
import { type Bind, prepared } from '../prepared';
import { paymentRefunds, payments } from '../schema';
import { UtcTime, utc } from '../time';

/** What a gateway can report of a refund. */
export const RefundOutcome = z
  .literal([1, 2], '须为 1（成功）或 2（失败）')
  .describe('1 成功, 2 失败');

/** What a refund can be in. */
export const RefundStatus = z.literal([0, 1, 2]).describe('0 处理中, 1 成功, 2 失败');

/** What a client reads of a refund. */
export const Refund = z.object({
  id: IdText,
  payment_id: IdText,
  refund_no: z.string().describe('退款单号'),
  amount: Amount,
  reason: z.string().nullable().describe('退款原因'),
  status: RefundStatus,
  created_at: UtcTime,
});
export type Refund = z.infer<typeof Refund>;

/** What a refund shows of itself wherever it is shown, of a row of payment_refunds. */
export const refundFields = {
  id: text(paymentRefunds.id),
  refund_no: paymentRefunds.refundNo,
  amount: text(paymentRefunds.amount),
  reason: paymentRefunds.reason,
  status: paymentRefunds.status,
  created_at: utc(paymentRefunds.createdAt),
};

const { id, ...others } = refundFields;
const refund = json<typeof Refund>({ id, payment_id: text(paymentRefunds.paymentId), ...others });

/** The Refund of a row of payment_refunds, as JSON; null where there is no row. */
export const refundOrNull: SQL = sql`CASE WHEN ${paymentRefunds.id} IS NOT NULL THEN ${refund} END`;

/** What the refunds of a row of payments that have not failed leave of its amount, for any status of the payment. */
const unrefundedAmount: SQL = sql`(${payments.amount} - (SELECT coalesce(sum(${paymentRefunds.amount}), 0) FROM ${paymentRefunds} WHERE ${paymentRefunds.paymentId} = ${payments.id} AND ${paymentRefunds.status} <> 2))`;

/** The sum of the refunds of a row of payments that succeeded. */
export const refundedAmount: SQL<string> = sql<string>`(SELECT coalesce(sum(${paymentRefunds.amount}), 0.00) FROM ${paymentRefunds} WHERE ${paymentRefunds.paymentId} = ${payments.id} AND ${paymentRefunds.status} = 1)::text`;

/** What a refund may still take of a row of payments; 0.00 unless it is 支付成功. */
export const refundableAmount: SQL<string> = sql<string>`(CASE WHEN ${payments.status} = 1 THEN greatest(${unrefundedAmount}, 0) ELSE 0 END)::numeric(18, 2)::text`;

/** Who takes the lock on which payment, and within which limits. */
export interface Lock extends Limits {
  paymentId: bigint;
}

/**
 * The first statement of every batch that changes a payment's refunds: takes the payment's row lock,
 * under which all such batches stand in line, and notes for mayWrite() that it did. lock_timeout is set
 * for this transaction before the row is locked. The note is taken outside the subquery that locks: in
 * its own select list it would be computed before the lock is granted.
 */
export const lockPayment = prepared<Lock>(
  (bind) => sql`
    SELECT set_config('payments.locked', id::text, true)
    FROM (
      SELECT id, set_config('lock_timeout', ${bind(({ lockTimeout }) => lockTimeout)}, true)
      FROM payments WHERE id = ${bind(({ paymentId }) => paymentId)}
      FOR UPDATE
    ) AS locked`,
);

/**
 * Whether this transaction holds the lock, and the request has not been given up. A payment that was
 * committed after lockPayment() looked is not locked. A request that was stuck in the network beyond its
 * deadline must not write, since all its purges are over by then.
 */
export function mayWrite(bind: Bind<Lock>): SQL {
  return sql`(current_setting('payments.locked', true) = ${bind(({ paymentId }) => String(paymentId))} AND NOT ${isLate(bind)})`;
}

/** Whether the request has been given up by now. */
export function isLate(bind: Bind<Lock>): SQL {
  return sql`(clock_timestamp() >= to_timestamp(${bind(({ deadline }) => deadline)}::float8 / 1000))`;
}
