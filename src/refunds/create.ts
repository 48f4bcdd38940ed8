/**
 * POST /payments/:id/refund: creates a refund. The payment row is locked before the sum is taken,
 * so parallel requests can never refund more than was paid; with an Idempotency-Key a retry finds
 * the first refund. It starts as 处理中. Where a gateway carries it out, the outbox is written in the same
 * statement, and src/gateways/outbox.ts takes over after the commit. Else settle.ts ends it.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize, limitRate } from '../auth';
import { type Database, DeadlineError, inDatabase } from '../database';
import { NotConfiguredError } from '../env';
import { gatewaysOf } from '../gateways/gateways';
import { advanceInBackground, announceRefund, sweepSometimes } from '../gateways/outbox';
import { ApiError, type AppEnv, envelope, jsonBody, validate } from '../http';
import { NonNegativeAmount, PositiveAmount } from '../money';
import { withPurges } from '../payments/detail-cache';
import { PaymentPath } from '../payments/payment';
import { prepared } from '../prepared';
import { taskOf } from '../task';
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

/** No gateway takes refunds by itself. */
const NO_OFFERS = '{}';

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
    const task = taskOf(c);
    const { offers } = await gatewaysOf(c.env);
    const request = {
      paymentId,
      refundNo,
      ...c.req.valid('json'),
      hasKey: key !== undefined,
      offers,
      actor: c.get('actor'),
      requestId: c.get('requestId'),
    };
    const message = { payment_id: String(paymentId), refund_no: refundNo };
    if (offers !== NO_OFFERS) task.waitUntil(announceRefund(task, message));

    const found = await withPurges(task, paymentId, () =>
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
    if (found.inserted && found.refund.gateway) {
      task.waitUntil(advanceInBackground(task, message));
      sweepSometimes(task);
    }

    // Without a key nobody else knows this refund_no: a row not inserted now was inserted by a try whose answer was lost.
    if (found.inserted || key === undefined) return c.json(envelope('创建成功', found.refund), 201);
    c.header('Idempotent-Replayed', 'true');
    return c.json(envelope('创建成功', found.refund), 200);
  },
);

function refusal(found: Found): ApiError {
  const { status, refundable_amount, limit, refundable_until } = found;
  if (status !== 1) return new ApiError(40900, { status });
  if (!found.amount_fits) return new ApiError(40901, { refundable_amount });
  if (limit !== null) return new ApiError(40904, { limit });
  if (found.gateway_ready === false) {
    return new ApiError(50301, null, new NotConfiguredError('the gateway of this payment'));
  }
  if (refundable_until !== null) return new ApiError(40908, { refundable_until });
  if (found.amount_is_countable === false) {
    return new ApiError(40909, { max_amount: MAX_GATEWAY_AMOUNT });
  }
  // Another payment's refund has this refund_no.
  return new ApiError(40902);
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

/** 2^53 fen, less one: beyond it a JSON number is not exact, and WeChat Pay takes fen as JSON numbers. */
export const MAX_GATEWAY_AMOUNT = '90071992547409.91';

/** How many refunds a payment may have in all, so that its detail stays small. */
export const MAX_REFUNDS = 200;

interface Insertion extends Lock {
  refundNo: string;
  amount: string;
  refundable_amount?: string | undefined;
  reason: string;
  /** Whether refundNo was made of a key, and so could be made by another database of the same merchant. */
  hasKey: boolean;
  /** Of the gateways that send refunds by themselves (Gateways). */
  offers: string;
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
  /** Whether the gateway of this payment has its keys; null where no gateway sends its refunds. */
  gateway_ready: boolean | null;
  /** When the gateway's time for refunds ended, if it is over. */
  refundable_until: string | null;
  /** Whether the gateway can take what was paid as a number; null where no gateway does. */
  amount_is_countable: boolean | null;
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

/**
 * A row that this statement inserts is not among those that it reads, so `created` and `earlier` never both
 * have it. The refund of a gateway gets its row of the outbox here, so there is none without the other.
 */
const insertStatement = prepared<Insertion>((bind) => {
  const paymentId = bind((given) => given.paymentId);
  const refundNo = bind((given) => given.refundNo);
  const amount = sql`${bind((given) => given.amount)}::numeric`;
  const reason = bind((given) => given.reason);
  const offers = bind((given) => given.offers);
  return sql`
    WITH payment AS (
      SELECT id, status, unrefunded, payment_method, ${offers}::jsonb -> payment_method AS offer,
        coalesce(payment_time, created_at) AS paid_at, amount <= ${sql.raw(MAX_GATEWAY_AMOUNT)} AS is_countable,
        CASE WHEN status = 1 THEN greatest(unrefunded, 0) ELSE 0 END AS refundable,
        CASE WHEN active >= ${sql.raw(String(MAX_ACTIVE))} THEN ${sql.raw(String(MAX_ACTIVE))}
          WHEN made >= ${sql.raw(String(MAX_REFUNDS))} THEN ${sql.raw(String(MAX_REFUNDS))} END AS reached
      FROM payments, LATERAL (
        SELECT payments.amount - coalesce(sum(amount) FILTER (WHERE status <> 2), 0) AS unrefunded,
          count(*) FILTER (WHERE status <> 2) AS active, count(*) AS made
        FROM payment_refunds WHERE payment_id = payments.id
      ) AS refunds
      WHERE id = ${paymentId}
    ), rules AS (
      SELECT *, (offer -> 'ready')::boolean AS gateway_ready, is_countable OR offer IS NULL AS amount_is_countable,
        CASE WHEN paid_at + (offer ->> 'days')::int * interval '1 day' < now()
          THEN rfc3339(paid_at + (offer ->> 'days')::int * interval '1 day') END AS refundable_until
      FROM payment
    ), fitting AS (
      SELECT *, ${amount} <= unrefunded
        AND refundable = coalesce(${bind((given) => given.refundable_amount)}::numeric, refundable) AS amount_fits
      FROM rules
    ), created AS (
      INSERT INTO payment_refunds (payment_id, refund_no, amount, reason)
      SELECT id, ${refundNo}::varchar, ${amount}, ${reason}::varchar
      FROM fitting
      WHERE status = 1 AND amount_fits AND reached IS NULL AND gateway_ready IS NOT false
        AND refundable_until IS NULL AND amount_is_countable AND ${mayWrite(bind)}
      ON CONFLICT (refund_no) DO NOTHING
      RETURNING *
    ), queued AS (
      INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no)
      SELECT created.id, payment_method,
        refund_no || CASE WHEN ${bind(({ hasKey }) => String(hasKey))}::boolean THEN '_' || (SELECT id FROM gateway_identity) ELSE '' END
      FROM created, fitting WHERE offer IS NOT NULL
      RETURNING *
    ), recorded AS (
      INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id)
      SELECT id, ${bind(({ actor }) => actor)}::varchar, NULL, status, ${bind(({ requestId }) => requestId)}::varchar
      FROM created
    ), earlier AS (
      SELECT * FROM payment_refunds WHERE refund_no = ${refundNo} AND payment_id = ${paymentId}
    )
    SELECT json_build_object('status', fitting.status, 'refundable_amount', refundable::numeric(18, 2)::text,
      'amount_fits', amount_fits, 'limit', reached, 'gateway_ready', gateway_ready,
      'refundable_until', refundable_until, 'amount_is_countable', amount_is_countable,
      'refund', ${refundOrNull(sql`(SELECT refund_gateway_json(ROW(queued.*)::gateway_refunds) FROM queued)`)}, 'inserted', inserted,
      'same_request', payment_refunds.amount = ${amount} AND reason = ${reason}, 'late', ${isLate(bind)}) AS value
    FROM fitting
    LEFT JOIN (
      SELECT true AS inserted, * FROM created UNION ALL SELECT false, * FROM earlier
    ) AS payment_refunds ON true`;
});
