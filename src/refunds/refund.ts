/**
 * The Refund that a client sees (specification, section 3), and the states it can be in:
 * 0 处理中 → 1 成功 or 2 失败, once. A refund that has not failed takes its amount out of what is left.
 */
import { eq, type SQL, sql } from 'drizzle-orm';
import * as z from 'zod';
import type { Database } from '../database';
import { paymentRefunds, payments } from '../schema';
import { utc } from '../time';

/** What a gateway can report of a refund. */
export const RefundOutcome = z.literal([1, 2], '须为 1（成功）或 2（失败）');

/** Ids are strings because they exceed 2^53, the amount a decimal string of yuan, times RFC 3339 UTC. */
export const Refund = z.object({
  id: z.string(),
  payment_id: z.string(),
  refund_no: z.string(),
  amount: z.string(),
  reason: z.string().nullable(),
  status: z.number(),
  created_at: z.string(),
});
export type Refund = z.infer<typeof Refund>;

/** The columns of a refund, as toRefund takes them. */
export const refundColumns = {
  id: paymentRefunds.id,
  paymentId: paymentRefunds.paymentId,
  refundNo: paymentRefunds.refundNo,
  amount: paymentRefunds.amount,
  reason: paymentRefunds.reason,
  status: paymentRefunds.status,
  createdAt: utc(paymentRefunds.createdAt),
};

interface RefundRow {
  id: bigint;
  paymentId: bigint;
  refundNo: string;
  amount: string;
  reason: string | null;
  status: number;
  createdAt: string;
}

/** The JSON of a row of refundColumns. */
export function toRefund(row: RefundRow): Refund {
  return {
    id: String(row.id),
    payment_id: String(row.paymentId),
    refund_no: row.refundNo,
    amount: row.amount,
    reason: row.reason,
    status: row.status,
    created_at: row.createdAt,
  };
}

/** What the refunds of a row of payments that have not failed leave of its amount, for any status of the payment. */
export const unrefundedAmount: SQL = sql`(${payments.amount} - (SELECT coalesce(sum(${paymentRefunds.amount}), 0) FROM ${paymentRefunds} WHERE ${paymentRefunds.paymentId} = ${payments.id} AND ${paymentRefunds.status} <> 2))`;

/** What a refund may still take of a row of payments; 0.00 unless it is 支付成功. */
export const refundableAmount: SQL<string> = sql<string>`(CASE WHEN ${payments.status} = 1 THEN greatest(${unrefundedAmount}, 0) ELSE 0 END)::numeric(18, 2)::text`;

/**
 * The first statement of every batch that changes a payment's refunds: takes the payment's row
 * lock, under which all such batches stand in line, and notes for isLocked() that it did. The wait
 * ends with lock_timeout, which is set for this transaction before the row is locked.
 */
export function lockPayment(db: Database, paymentId: bigint, lockTimeout: string) {
  return db
    .select({
      lockTimeout: sql`set_config('lock_timeout', ${lockTimeout}, true)`,
      locked: sql`set_config('payments.locked', ${String(paymentId)}, true)`,
    })
    .from(payments)
    .where(eq(payments.id, paymentId))
    .for('update');
}

/** Whether this transaction holds the lock: a payment that was committed after lockPayment() looked is not locked. */
export function isLocked(paymentId: bigint): SQL {
  return sql`current_setting('payments.locked', true) = ${String(paymentId)}`;
}
