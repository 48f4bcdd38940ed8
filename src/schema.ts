/**
 * What is true of stored data. The three tables of the specification (section 2.1) stand here column for
 * column, with the constraints that keep money consistent whoever writes. Beside them stand the record of
 * who did what to a refund, the sums of each payment's refunds, and the totals by day and by month. What the
 * gateways know of payments and refunds has tables of its own.
 * Amounts are NUMERIC in yuan, times are TIMESTAMPTZ. `orders` belongs to the order module: nothing
 * references it, and the migration creates it only if it is absent.
 */
import { sql } from 'drizzle-orm';
import {
  type AnyPgColumn,
  bigint,
  bigserial,
  boolean,
  check,
  customType,
  date,
  index,
  integer,
  jsonb,
  numeric,
  pgTable,
  primaryKey,
  timestamp,
  unique,
  varchar,
} from 'drizzle-orm/pg-core';

const time = (name: string) => timestamp(name, { withTimezone: true, mode: 'string' });
const createdAt = () => time('created_at').notNull().defaultNow();
const updatedAt = () => time('updated_at').defaultNow();
const bytea = customType<{ data: Uint8Array }>({ dataType: () => 'bytea' });
const amount = () => numeric('amount', { precision: 18, scale: 2 }).notNull();

/** NUMERIC takes NaN, which is greater than every number, so a lower bound alone lets it in. */
const MAX_AMOUNT = sql.raw('9999999999999999.99');
const NOT_NAN = (column: AnyPgColumn) => sql`${column} <> 'NaN'`;

/** RFC 3339 has the years 1 to 9999 only. NULL passes. */
const isShowable = (column: AnyPgColumn) =>
  sql`${column} >= '0001-01-01 00:00:00+00' AND ${column} < '10000-01-01 00:00:00+00'`;

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
    check('payments_id_check', sql`${table.id} > 0`),
    check('payments_amount_check', sql`${table.amount} BETWEEN 0 AND ${MAX_AMOUNT}`),
    check('payments_status_check', sql`${table.status} IN (0, 1, 2, 3)`),
    check('payments_payment_time_check', isShowable(table.paymentTime)),
    check('payments_refund_time_check', isShowable(table.refundTime)),
    check('payments_created_at_check', isShowable(table.createdAt)),
    check('payments_updated_at_check', isShowable(table.updatedAt)),
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
    // For the list of a method and a status. The list of a method alone merges its four statuses.
    index('idx_payments_payment_method_status_created_at_id').on(
      table.paymentMethod,
      table.status,
      table.createdAt.desc().nullsFirst(),
      table.id.desc().nullsFirst(),
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
    check('payment_callbacks_id_check', sql`${table.id} > 0`),
    check('payment_callbacks_created_at_check', isShowable(table.createdAt)),
    check('payment_callbacks_status_check', sql`${table.status} IN (0, 1, 2)`),
    index('idx_payment_callbacks_payment_id').on(table.paymentId),
    index('idx_payment_callbacks_status').on(table.status),
    index('idx_payment_callbacks_created_at').on(table.createdAt),
    // With it, a page of what belongs to one payment is read without sorting all that belongs to it.
    index('idx_payment_callbacks_payment_id_created_at_id').on(
      table.paymentId,
      table.createdAt.desc().nullsFirst(),
      table.id.desc().nullsFirst(),
    ),
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
    check('payment_refunds_id_check', sql`${table.id} > 0`),
    check('payment_refunds_created_at_check', isShowable(table.createdAt)),
    check(
      'payment_refunds_amount_check',
      sql`${table.amount} > 0 AND ${table.amount} <= ${MAX_AMOUNT}`,
    ),
    check('payment_refunds_status_check', sql`${table.status} IN (0, 1, 2)`),
    index('idx_payment_refunds_payment_id').on(table.paymentId),
    index('idx_payment_refunds_status').on(table.status),
    index('idx_payment_refunds_created_at').on(table.createdAt),
    // Both for the list of all refunds, which is read in either direction.
    index('idx_payment_refunds_created_at_id').on(table.createdAt, table.id),
    index('idx_payment_refunds_status_created_at_id').on(table.status, table.createdAt, table.id),
    index('idx_payment_refunds_payment_id_created_at_id').on(
      table.paymentId,
      table.createdAt.desc().nullsFirst(),
      table.id.desc().nullsFirst(),
    ),
  ],
);

/** What a gateway said, and how: its answer to a refund, its answer to a query, a callback. `person`: somebody forced it. */
type EventCause = 'answer' | 'query' | 'callback' | 'person';

/**
 * Who moved a refund from which status to which, and in which request. from_status is null for its
 * creation; a correction has the reason that was given for it. `cause` is null where a caller of the API
 * settled a refund that no gateway has. Written in the transaction of the change; the database refuses
 * UPDATE and DELETE.
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
    reason: varchar('reason', { length: 255 }),
    cause: varchar('cause', { length: 20 }).$type<EventCause>(),
  },
  (table) => [
    check('payment_refund_events_created_at_check', isShowable(table.createdAt)),
    check('payment_refund_events_reason_check', sql`btrim(${table.reason}) <> ''`),
    index('idx_payment_refund_events_refund_id').on(table.refundId),
  ],
);

/**
 * The sums of a payment's refunds, for payments that have refunds or are 已退款: triggers keep them, under
 * the payment's row lock. `reserved` sums the refunds that have not failed, `succeeded` those that
 * succeeded. refund_state says how much has been refunded: 0 none, 1 partial, 2 full. The other columns
 * repeat the payment's, so that one index has both the filter and the order of the list.
 */
export const paymentRefundTotals = pgTable(
  'payment_refund_totals',
  {
    paymentId: bigint('payment_id', { mode: 'bigint' })
      .primaryKey()
      .references(() => payments.id, { onDelete: 'cascade', onUpdate: 'cascade' }),
    reserved: numeric('reserved', { precision: 38, scale: 2 }).notNull(),
    succeeded: numeric('succeeded', { precision: 38, scale: 2 }).notNull(),
    amount: amount(),
    status: integer('status').notNull(),
    paymentMethod: varchar('payment_method', { length: 20 }).notNull(),
    createdAt: time('created_at').notNull(),
    refundState: integer('refund_state')
      .notNull()
      .generatedAlwaysAs(
        sql`CASE WHEN succeeded = 0 THEN 0 WHEN succeeded < amount THEN 1 ELSE 2 END`,
      ),
  },
  (table) => [
    check('payment_refund_totals_reserved_check', NOT_NAN(table.reserved)),
    check('payment_refund_totals_succeeded_check', NOT_NAN(table.succeeded)),
    check('payment_refund_totals_amount_check', NOT_NAN(table.amount)),
    index('idx_payment_refund_totals_state_status_created_at_id').on(
      table.refundState,
      table.status,
      table.createdAt.desc().nullsFirst(),
      table.paymentId.desc().nullsFirst(),
    ),
    index('idx_payment_refund_totals_state_method_status_created_at_id').on(
      table.refundState,
      table.paymentMethod,
      table.status,
      table.createdAt.desc().nullsFirst(),
      table.paymentId.desc().nullsFirst(),
    ),
  ],
);

/**
 * The number of payments of a business day (Asia/Shanghai), and the sum of their amounts, by status,
 * method and refund state. Triggers keep it in the transaction that writes. `writer` is the backend of
 * that transaction, so that no two transactions share a row; only the sum over all writers has a meaning.
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
    refundState: integer('refund_state').notNull().default(0),
  },
  (table) => [
    primaryKey({
      name: 'payment_daily_totals_pk',
      columns: [table.day, table.status, table.paymentMethod, table.refundState, table.writer],
    }),
    check('payment_daily_totals_amount_check', NOT_NAN(table.amount)),
    // Writer 0 has the rows that the merge has made of those of other writers.
    index('idx_payment_daily_totals_unmerged').on(table.day).where(sql`${table.writer} <> 0`),
  ],
);

/**
 * The sums of the merged daily totals of each month, named by its first day. Triggers on the merged rows
 * keep them. So a sum over years reads a few hundred rows here, and the daily rows that are not merged yet.
 */
export const paymentMonthlyTotals = pgTable(
  'payment_monthly_totals',
  {
    month: date('month').notNull(),
    status: integer('status').notNull(),
    paymentMethod: varchar('payment_method', { length: 20 }).notNull(),
    payments: bigint('payments', { mode: 'bigint' }).notNull(),
    amount: numeric('amount', { precision: 38, scale: 2 }).notNull(),
    refundState: integer('refund_state').notNull().default(0),
  },
  (table) => [
    primaryKey({
      name: 'payment_monthly_totals_pk',
      columns: [table.month, table.status, table.paymentMethod, table.refundState],
    }),
    check('payment_monthly_totals_amount_check', NOT_NAN(table.amount)),
  ],
);

/**
 * The number of refunds that were made on a business day (Asia/Shanghai), and the sum of their amounts, by status.
 * Kept and merged as paymentDailyTotals is, `writer` included.
 */
export const refundDailyTotals = pgTable(
  'refund_daily_totals',
  {
    day: date('day').notNull(),
    status: integer('status').notNull(),
    writer: integer('writer').notNull(),
    refunds: bigint('refunds', { mode: 'bigint' }).notNull(),
    amount: numeric('amount', { precision: 38, scale: 2 }).notNull(),
  },
  (table) => [
    primaryKey({
      name: 'refund_daily_totals_pk',
      columns: [table.day, table.status, table.writer],
    }),
    check('refund_daily_totals_amount_check', NOT_NAN(table.amount)),
    index('idx_refund_daily_totals_unmerged').on(table.day).where(sql`${table.writer} <> 0`),
  ],
);

/**
 * What a gateway calls a payment, for payments of which it is known. No row: out_trade_no is payment_no.
 * `attention` says why a person should look at the payment, as in gateway_refunds.
 */
export const gatewayPayments = pgTable(
  'gateway_payments',
  {
    paymentId: bigint('payment_id', { mode: 'bigint' })
      .primaryKey()
      .references(() => payments.id, { onDelete: 'cascade', onUpdate: 'cascade' }),
    /** Our number of the payment at the gateway, where it is not payment_no. */
    outTradeNo: varchar('out_trade_no', { length: 64 }),
    /** The gateway's number: transaction_id, trade_no. */
    tradeNo: varchar('trade_no', { length: 64 }),
    /** Whose account took the payment: mchid, or app_id/seller_id. */
    account: varchar('account', { length: 64 }),
    attention: varchar('attention', { length: 64 }),
    attentionAt: time('attention_at'),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [
    index('idx_gateway_payments_out_trade_no').on(table.outTradeNo),
    index('idx_gateway_payments_trade_no')
      .on(table.tradeNo)
      .where(sql`${table.tradeNo} IS NOT NULL`),
    index('idx_gateway_payments_attention')
      .on(table.attentionAt, table.paymentId)
      .where(sql`${table.attention} IS NOT NULL`),
  ],
);

/**
 * A refund that a gateway carries out: the outbox, and what is known of it there. No row: the refund is
 * settled by hand. The functions of drizzle/0015_gateway_functions.sql write it, under the payment's row
 * lock; docs/gateways.md has the states and the moves between them.
 */
export const gatewayRefunds = pgTable(
  'gateway_refunds',
  {
    refundId: bigint('refund_id', { mode: 'bigint' })
      .primaryKey()
      .references(() => paymentRefunds.id, { onDelete: 'cascade', onUpdate: 'cascade' }),
    gateway: varchar('gateway', { length: 20 }).notNull(),
    /** Our number of the refund at the gateway: the same one, however often the refund is sent. */
    outRefundNo: varchar('out_refund_no', { length: 64 }).notNull().unique(),
    state: varchar('state', { length: 20 }).notNull().default('queued'),
    /**
     * With what it was sent first: the account, both numbers of the payment, and what was paid. Every repeat and every
     * query has the same, whatever others change meanwhile: else a second refund could be made, or the first not found.
     */
    account: varchar('account', { length: 64 }),
    tradeNo: varchar('trade_no', { length: 64 }),
    outTradeNo: varchar('out_trade_no', { length: 64 }),
    total: numeric('total', { precision: 18, scale: 2 }),
    /** The gateway's number of the refund. */
    gatewayRefundNo: varchar('gateway_refund_no', { length: 64 }),
    /** How often it was sent. */
    attempts: integer('attempts').notNull().default(0),
    /** When it is to be sent or asked about; the end of the lease while it is being sent. Null at the end. */
    nextAttemptAt: time('next_attempt_at').defaultNow(),
    /** For which next_attempt_at a queue message is under way. */
    messageDueAt: time('message_due_at'),
    sweptAt: time('swept_at'),
    sentAt: time('sent_at'),
    /** When the last send was over. Earlier than sent_at: its end is not known. */
    sendEndedAt: time('send_ended_at'),
    askedAt: time('asked_at'),
    lastErrorCode: varchar('last_error_code', { length: 64 }),
    /** Our own text for it. A gateway's text may repeat what we signed. */
    lastError: varchar('last_error', { length: 255 }),
    /** While it is blocked: it is only asked about, never sent. */
    askOnly: boolean('ask_only').notNull().default(false),
    /** Whether it was sent once more after it had been refused. */
    resent: boolean('resent').notNull().default(false),
    /** Why a person has to look at it; null where nobody has to. */
    attention: varchar('attention', { length: 64 }),
    attentionAt: time('attention_at'),
    /** When the gateway paid it back, by its own clock. */
    succeededAt: time('succeeded_at'),
    /** Who began it: this API, or the gateway's console. */
    origin: varchar('origin', { length: 10 }).$type<'api' | 'gateway'>().notNull().default('api'),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [
    check(
      'gateway_refunds_state_check',
      sql`${table.state} IN ('queued', 'sending', 'accepted', 'unknown', 'refused', 'blocked', 'succeeded', 'failed')`,
    ),
    check('gateway_refunds_origin_check', sql`${table.origin} IN ('api', 'gateway')`),
    check(
      'gateway_refunds_next_attempt_at_check',
      sql`(${table.nextAttemptAt} IS NULL) = (${table.state} IN ('succeeded', 'failed'))`,
    ),
    index('idx_gateway_refunds_gateway_refund_no')
      .on(table.gatewayRefundNo)
      .where(sql`${table.gatewayRefundNo} IS NOT NULL`),
    index('idx_gateway_refunds_next_attempt_at')
      .on(table.nextAttemptAt)
      .where(sql`${table.state} NOT IN ('succeeded', 'failed')`),
    index('idx_gateway_refunds_attention')
      .on(table.attentionAt, table.refundId)
      .where(sql`${table.attention} IS NOT NULL`),
  ],
);

/** Each call of a gateway about a refund, once its answer is recorded. Codes only, no texts of the gateway. */
export const gatewayRequests = pgTable(
  'gateway_requests',
  {
    id: bigserial('id', { mode: 'bigint' }).primaryKey(),
    refundId: bigint('refund_id', { mode: 'bigint' })
      .notNull()
      .references(() => gatewayRefunds.refundId, { onDelete: 'cascade', onUpdate: 'cascade' }),
    operation: varchar('operation', { length: 20 }).notNull(),
    attempt: integer('attempt').notNull(),
    startedAt: time('started_at').notNull(),
    endedAt: time('ended_at').notNull(),
    httpStatus: integer('http_status'),
    outcome: varchar('outcome', { length: 20 }).notNull(),
    code: varchar('code', { length: 64 }),
    gatewayRequestId: varchar('gateway_request_id', { length: 128 }),
  },
  (table) => [index('idx_gateway_requests_refund_id').on(table.refundId)],
);

/**
 * The inbox: each callback whose signature was good, once, however often it comes. The raw body holds
 * personal data and is removed after 30 days.
 */
export const gatewayNotifications = pgTable(
  'gateway_notifications',
  {
    id: bigserial('id', { mode: 'bigint' }).primaryKey(),
    gateway: varchar('gateway', { length: 20 }).notNull(),
    notificationKey: varchar('notification_key', { length: 128 }).notNull(),
    event: varchar('event', { length: 64 }).notNull(),
    /** Which key had signed it. */
    serial: varchar('serial', { length: 64 }),
    /** The headers or parameters with which the signature of the body can be verified again. */
    signature: jsonb('signature').$type<Record<string, string>>().notNull(),
    body: bytea('body'),
    bodySha256: varchar('body_sha256', { length: 64 }).notNull(),
    outTradeNo: varchar('out_trade_no', { length: 64 }),
    outRefundNo: varchar('out_refund_no', { length: 64 }),
    /** The payment that it is about, without a foreign key: what was received stays. */
    paymentId: bigint('payment_id', { mode: 'bigint' }),
    deliveries: integer('deliveries').notNull().default(1),
    receivedAt: time('received_at').notNull().defaultNow(),
    /** Null until something came of it; then the gateway is told that it was taken. */
    processedAt: time('processed_at'),
    result: varchar('result', { length: 32 }).notNull().default('received'),
  },
  (table) => [
    unique('gateway_notifications_key_unique').on(table.gateway, table.notificationKey),
    index('idx_gateway_notifications_payment_id').on(table.paymentId),
    // A callback that came before its refund was committed. Few are without a payment.
    index('idx_gateway_notifications_out_refund_no')
      .on(table.outRefundNo)
      .where(sql`${table.paymentId} IS NULL`),
    index('idx_gateway_notifications_received_at')
      .on(table.receivedAt)
      .where(sql`${table.body} IS NOT NULL`),
  ],
);

/** How a gateway is doing. A row exists once something went wrong for all of its refunds. */
export const gatewayHealth = pgTable('gateway_health', {
  gateway: varchar('gateway', { length: 20 }).primaryKey(),
  /** Nothing is sent before. After it, one request a minute is, until one succeeds. */
  pausedUntil: time('paused_until'),
  code: varchar('code', { length: 64 }),
  /** Refunds in a row, of different payments, that were refused with a code that may be our own fault. */
  refusals: integer('refusals').notNull().default(0),
  refusedPaymentId: bigint('refused_payment_id', { mode: 'bigint' }),
  updatedAt: updatedAt(),
});

/**
 * One row: a random name of this database. It goes into the numbers of refunds that are made from an
 * idempotency key, so that two databases of one merchant never make the same.
 */
export const gatewayIdentity = pgTable('gateway_identity', {
  id: varchar('id', { length: 8 }).primaryKey(),
});

/** The order module's table, as far as this module reads it. */
export const orders = pgTable('orders', {
  id: bigserial('id', { mode: 'bigint' }).primaryKey(),
  orderNo: varchar('order_no', { length: 64 }).notNull().unique(),
});
