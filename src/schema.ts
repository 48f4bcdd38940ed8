/**
 * What is true of stored data: the three tables of the specification (section 2.1), column for
 * column, with the constraints that keep money consistent whoever writes; who did what to a refund; and
 * two that count the payments by day and by month. Amounts are NUMERIC(18,2) in yuan, times are
 * TIMESTAMPTZ. `orders` belongs to the order module: nothing references it, and the migration creates it
 * only where it is absent.
 */
import { sql } from 'drizzle-orm';
import {
  bigint,
  bigserial,
  check,
  date,
  index,
  integer,
  numeric,
  pgTable,
  primaryKey,
  timestamp,
  varchar,
} from 'drizzle-orm/pg-core';

const time = (name: string) => timestamp(name, { withTimezone: true, mode: 'string' });
const createdAt = () => time('created_at').notNull().defaultNow();
const updatedAt = () => time('updated_at').defaultNow();
const amount = () => numeric('amount', { precision: 18, scale: 2 }).notNull();

/** status: 0 待支付, 1 支付成功, 2 支付失败, 3 已退款. */
export const payments = pgTable(
  'payments',
  {
    id: bigserial('id', { mode: 'bigint' }).primaryKey(),
    orderId: bigint('order_id', { mode: 'bigint' }).notNull(),
    paymentNo: varchar('payment_no', { length: 50 }).notNull().unique(),
    paymentMethod: varchar('payment_method', { length: 20 }).notNull(),
    amount: amount(),
    status: integer('status').$type<0 | 1 | 2 | 3>().notNull().default(0),
    paymentTime: time('payment_time'),
    refundTime: time('refund_time'),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [
    check('payments_amount_check', sql`${table.amount} >= 0`),
    check('payments_status_check', sql`${table.status} IN (0, 1, 2, 3)`),
    // Infinity has no digits: no list could show it.
    check('payments_created_at_check', sql`isfinite(${table.createdAt})`),
    index('idx_payments_order_id').on(table.orderId),
    index('idx_payments_payment_method').on(table.paymentMethod),
    index('idx_payments_status').on(table.status),
    index('idx_payments_created_at').on(table.createdAt),
    // NULLS FIRST is what plain DESC means, and only an index with the very order of the list's ORDER BY serves it.
    index('idx_payments_created_at_id').on(
      table.createdAt.desc().nullsFirst(),
      table.id.desc().nullsFirst(),
    ),
    index('idx_payments_status_created_at_id').on(
      table.status,
      table.createdAt.desc().nullsFirst(),
      table.id.desc().nullsFirst(),
    ),
    // Without it, the list of a method that is no longer in use would begin by reading all newer payments.
    // The status is there to be filtered by, behind what gives the order.
    index('idx_payments_payment_method_created_at_id_status').on(
      table.paymentMethod,
      table.createdAt.desc().nullsFirst(),
      table.id.desc().nullsFirst(),
      table.status,
    ),
  ],
);

/** status: 0 处理中, 1 成功, 2 失败. */
export const paymentCallbacks = pgTable(
  'payment_callbacks',
  {
    id: bigserial('id', { mode: 'bigint' }).primaryKey(),
    paymentId: bigint('payment_id', { mode: 'bigint' })
      .notNull()
      .references(() => payments.id),
    callbackNo: varchar('callback_no', { length: 100 }).notNull().unique(),
    status: integer('status').notNull(),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [
    check('payment_callbacks_status_check', sql`${table.status} IN (0, 1, 2)`),
    index('idx_payment_callbacks_payment_id').on(table.paymentId),
    index('idx_payment_callbacks_status').on(table.status),
    index('idx_payment_callbacks_created_at').on(table.createdAt),
  ],
);

/** status: 0 处理中, 1 成功, 2 失败. UNIQUE (refund_no) is what makes a refund idempotent. */
export const paymentRefunds = pgTable(
  'payment_refunds',
  {
    id: bigserial('id', { mode: 'bigint' }).primaryKey(),
    paymentId: bigint('payment_id', { mode: 'bigint' })
      .notNull()
      .references(() => payments.id),
    refundNo: varchar('refund_no', { length: 50 }).notNull().unique(),
    amount: amount(),
    reason: varchar('reason', { length: 255 }),
    status: integer('status').$type<0 | 1 | 2>().notNull().default(0),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [
    check('payment_refunds_amount_check', sql`${table.amount} > 0`),
    check('payment_refunds_status_check', sql`${table.status} IN (0, 1, 2)`),
    index('idx_payment_refunds_payment_id').on(table.paymentId),
    index('idx_payment_refunds_status').on(table.status),
    index('idx_payment_refunds_created_at').on(table.createdAt),
  ],
);

/**
 * Who moved a refund from which status to which, and in which request; from_status is null for its
 * creation. Written in the transaction of the change; the database refuses UPDATE and DELETE.
 */
export const paymentRefundEvents = pgTable(
  'payment_refund_events',
  {
    id: bigserial('id', { mode: 'bigint' }).primaryKey(),
    refundId: bigint('refund_id', { mode: 'bigint' })
      .notNull()
      .references(() => paymentRefunds.id),
    actor: varchar('actor', { length: 255 }).notNull(),
    fromStatus: integer('from_status'),
    toStatus: integer('to_status').notNull(),
    requestId: varchar('request_id', { length: 64 }).notNull(),
    createdAt: createdAt(),
  },
  (table) => [index('idx_payment_refund_events_refund_id').on(table.refundId)],
);

/**
 * How many payments a business day (Asia/Shanghai) has, of which amount together, by status and
 * method: triggers on payments keep it, in the transaction that writes. `writer` is that
 * transaction's backend, so that no two share a row; only the sum over all writers means anything.
 */
export const paymentDailyTotals = pgTable(
  'payment_daily_totals',
  {
    day: date('day').notNull(),
    status: integer('status').notNull(),
    paymentMethod: varchar('payment_method', { length: 20 }).notNull(),
    writer: integer('writer').notNull(),
    payments: bigint('payments', { mode: 'bigint' }).notNull(),
    // A BIGINT of payments of NUMERIC(18,2) each cannot overflow it.
    amount: numeric('amount', { precision: 38, scale: 2 }).notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.day, table.status, table.paymentMethod, table.writer] }),
    // Writer 0 are the rows that the daily merge has made of those of other writers.
    index('idx_payment_daily_totals_unmerged').on(table.day).where(sql`${table.writer} <> 0`),
  ],
);

/**
 * What the merged rows of the daily totals add up to in each month, named by its first day: triggers
 * on those keep it. So a sum over years reads a few hundred rows here, and those that are not merged yet.
 */
export const paymentMonthlyTotals = pgTable(
  'payment_monthly_totals',
  {
    month: date('month').notNull(),
    status: integer('status').notNull(),
    paymentMethod: varchar('payment_method', { length: 20 }).notNull(),
    payments: bigint('payments', { mode: 'bigint' }).notNull(),
    amount: numeric('amount', { precision: 38, scale: 2 }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.month, table.status, table.paymentMethod] })],
);

/** The order module's table, as far as this module reads it. */
export const orders = pgTable('orders', {
  id: bigserial('id', { mode: 'bigint' }).primaryKey(),
  orderNo: varchar('order_no', { length: 64 }).notNull().unique(),
});
