/**
 * The Refund that a client sees (specification, section 3), and the states it can be in:
 * 0 处理中 → 1 成功 or 2 失败, once. A refund that has not failed takes its amount out of what is left.
 */
import { type SQL, sql } from 'drizzle-orm';
import * as z from 'zod';
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
export const unrefundedAmount: SQL = sql`(${payments.amount} - (SELECT coalesce(sum(${paymentRefunds.amount}), 0) FROM ${paymentRefunds} WHERE ${paymentRefunds.paymentId} = ${payments.id} AND ${paymentRefunds.status} <> 2))`;

/** What a refund may still take of a row of payments; 0.00 unless it is 支付成功. */
export const refundableAmount: SQL<string> = sql<string>`(CASE WHEN ${payments.status} = 1 THEN greatest(${unrefundedAmount}, 0) ELSE 0 END)::numeric(18, 2)::text`;

/** Who takes the lock on which payment, and how long that may take, as lock_timeout has it. */
export interface Lock {
  paymentId: bigint;
  lockTimeout: string;
}

/**
 * The first statement of every batch that changes a payment's refunds: takes the payment's row
 * lock, under which all such batches stand in line, and notes for isLocked() that it did. The wait
 * ends with lock_timeout, which is set for this transaction before the row is locked.
 */
export const lockPayment = prepared<Lock>(
  (bind) => sql`
    SELECT set_config('lock_timeout', ${bind(({ lockTimeout }) => lockTimeout)}, true),
      set_config('payments.locked', ${bind(({ paymentId }) => String(paymentId))}, true)
    FROM payments WHERE id = ${bind(({ paymentId }) => paymentId)}
    FOR UPDATE`,
);

/** Whether this transaction holds the lock: a payment that was committed after lockPayment() looked is not locked. */
export function isLocked(bind: Bind<Lock>): SQL {
  return sql`current_setting('payments.locked', true) = ${bind(({ paymentId }) => String(paymentId))}`;
}
