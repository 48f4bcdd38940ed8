/**
 * The Refund that a client sees (specification, section 3), and the states it can be in:
 * 0 处理中 → 1 成功 or 2 失败, once; a correction moves it between 1 and 2. A refund that has not failed
 * takes its amount out of what is left. The database refuses any other move (drizzle/0011_*.sql). A refund that
 * a gateway carries out has a second state, that at the gateway, which moves the first one.
 */
import { desc, type SQL, sql } from 'drizzle-orm';
import * as z from 'zod';
import type { Limits } from '../database';
import { ApiError } from '../http';
import { json, text } from '../json';
import { Amount } from '../money';
import { IdText } from '../payments/payment';
import { type Bind, prepared } from '../prepared';
import { paymentRefundEvents, paymentRefunds } from '../schema';
import { UtcTime, utc } from '../time';

/** What a gateway can report of a refund. */
export const RefundOutcome = z
  .literal([1, 2], '须为 1（成功）或 2（失败）')
  .describe('1 成功, 2 失败');

/** What a refund can be in. */
export const RefundStatus = z.literal([0, 1, 2]).describe('0 处理中, 1 成功, 2 失败');

/** What a refund can be in at its gateway (gateway_refunds.state). */
export const GatewayState = z
  .literal([
    'queued',
    'sending',
    'accepted',
    'unknown',
    'refused',
    'blocked',
    'succeeded',
    'failed',
  ])
  .describe(
    'queued to be sent, sending, accepted by the gateway, unknown outcome, refused and being asked about, blocked until a person acts, succeeded, failed',
  );

/** What is known of a refund at its gateway. */
export const RefundGateway = z.object({
  name: z.string().describe('The payment_method'),
  state: GatewayState,
  refund_no: z.string().nullable().describe("The gateway's number"),
  out_refund_no: z.string().describe('Our number, as the gateway knows it'),
  attempts: z.int().nonnegative().describe('How often it was sent'),
  last_error_code: z.string().nullable().describe("The gateway's code, or ours"),
  last_error: z.string().nullable().describe('What it means'),
  next_attempt_at: UtcTime.nullable().describe('When it is sent or asked about next'),
  attention: z.string().nullable().describe('Why a person has to look at it'),
});

/** What a client reads of a refund. */
export const Refund = z.object({
  id: IdText,
  payment_id: IdText,
  refund_no: z.string().describe('退款单号'),
  amount: Amount,
  reason: z.string().nullable().describe('退款原因'),
  status: RefundStatus,
  created_at: UtcTime,
  gateway: RefundGateway.nullable().describe('null where the refund is settled by hand'),
});
export type Refund = z.infer<typeof Refund>;

/** Who moved the refund to which status; from_status is null for its creation. */
export const RefundEvent = z.object({
  actor: z.string().describe('The sub of the token'),
  from_status: RefundStatus.nullable().describe('null for its creation'),
  to_status: RefundStatus,
  request_id: z.string(),
  reason: z.string().nullable().describe('Of a correction or a forced settlement; else null'),
  cause: z
    .literal(['answer', 'query', 'callback', 'person'])
    .nullable()
    .describe(
      'How the gateway said it: in its answer, asked by query, by callback. person: forced. Else null',
    ),
  created_at: UtcTime,
});

const MAX_EVENTS = 50;

/** A refund of a payment that is known, with what was done to it. */
export const DetailRefund = z.object({
  ...Refund.omit({ payment_id: true }).shape,
  events_total: z.int().nonnegative().describe('All events, shown here or not'),
  events: z.array(RefundEvent).max(MAX_EVENTS).describe(`The newest ${MAX_EVENTS}, oldest first`),
});
export type DetailRefund = z.infer<typeof DetailRefund>;

const { id, ...fields } = {
  id: text(paymentRefunds.id),
  refund_no: paymentRefunds.refundNo,
  amount: text(paymentRefunds.amount),
  reason: paymentRefunds.reason,
  status: paymentRefunds.status,
  created_at: utc(paymentRefunds.createdAt),
};

/** The RefundGateway of a row of payment_refunds, as JSON, as it was when the statement began. */
const gateway = sql`refund_gateway(${paymentRefunds.id})`;

/** The fields of the Refund of a row of payment_refunds, for json(). */
export const refundFields = { id, payment_id: text(paymentRefunds.paymentId), ...fields, gateway };

/**
 * The Refund of a row of payment_refunds, as JSON; null where there is no row. `changed` is the RefundGateway
 * that the same statement has made, where it made one: the statement itself does not see it yet.
 */
export function refundOrNull(changed: SQL = sql`NULL::json`): SQL {
  const refund = json<typeof Refund>({
    ...refundFields,
    gateway: sql`coalesce(${changed}, ${gateway})`,
  });
  return sql`CASE WHEN ${paymentRefunds.id} IS NOT NULL THEN ${refund} END`;
}

/** A refund at its gateway. */
export type GatewayRefund = Refund & { gateway: NonNullable<Refund['gateway']> };

/** What refundStatement() finds: no row where there is no such payment. */
export type FoundRefund = { refund: Refund | null };

/** Finds a refund of a payment. */
export const refundStatement = prepared<{ paymentId: bigint; refundId: bigint }>(
  (bind) => sql`
    SELECT ${refundOrNull()} AS refund
    FROM payments LEFT JOIN payment_refunds
      ON payment_refunds.id = ${bind(({ refundId }) => refundId)} AND payment_refunds.payment_id = payments.id
    WHERE payments.id = ${bind(({ paymentId }) => paymentId)}`,
);

/** The refund, which a gateway has. Throws 40401, 40402, or 40911 where it is settled by hand. */
export function demandGateway(found: FoundRefund | undefined): GatewayRefund {
  if (!found) throw new ApiError(40401);
  if (!found.refund) throw new ApiError(40402);
  const { gateway, ...refund } = found.refund;
  if (!gateway) throw new ApiError(40911);
  return { ...refund, gateway };
}

const event = json<typeof RefundEvent>({
  actor: paymentRefundEvents.actor,
  from_status: paymentRefundEvents.fromStatus,
  to_status: paymentRefundEvents.toStatus,
  request_id: paymentRefundEvents.requestId,
  reason: paymentRefundEvents.reason,
  cause: sql`${paymentRefundEvents.cause}`,
  created_at: utc(paymentRefundEvents.createdAt),
});

const eventsOfRefund = sql`
      FROM ${paymentRefundEvents} WHERE ${paymentRefundEvents.refundId} = ${paymentRefunds.id}`;

/** The DetailRefund of a row of payment_refunds, as JSON. */
export const refundWithEvents: SQL = json<typeof DetailRefund>({
  id,
  ...fields,
  gateway,
  events_total: sql`(SELECT count(*) ${eventsOfRefund})`,
  events: sql`(
      SELECT coalesce(json_agg(${event} ORDER BY ${paymentRefundEvents.createdAt}, ${paymentRefundEvents.id}), '[]')
      FROM (
        SELECT * ${eventsOfRefund}
        ORDER BY ${desc(paymentRefundEvents.createdAt)}, ${desc(paymentRefundEvents.id)} LIMIT ${sql.raw(String(MAX_EVENTS))}
      ) AS ${paymentRefundEvents})`,
});

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
