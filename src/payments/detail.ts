/**
 * GET /payments/:id: one payment with its newest callbacks and refunds, oldest first. (callbacks.ts and
 * refunds/list.ts show all of them.) Served from the detail cache where it is there, without touching
 * the database; else from one statement, and so from one snapshot, and then cached. A pending payment
 * is not cached: others are about to change it.
 */
import { sql } from 'drizzle-orm';
import { Hono, type TypedResponse } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { settings } from '../env';
import { ApiError, type AppEnv, envelope, validate } from '../http';
import { timed } from '../log';
import { prepared } from '../prepared';
import { DetailRefund } from '../refunds/refund';
import { UtcTime } from '../time';
import { fillDetail, readDetail } from './detail-cache';
import { Callback, IdText, Payment, PaymentPath } from './payment';

/** How many callbacks and refunds a detail shows, so that it stays small. */
const MAX_CHILDREN = 200;

/** A payment with what belongs to it. */
export const PaymentDetail = z.object({
  id: IdText,
  order_id: IdText,
  ...Payment.omit({ id: true }).shape,
  refund_time: UtcTime.nullable().describe('退款时间'),
  updated_at: UtcTime.nullable().describe('更新时间'),
  callbacks_total: z.int().nonnegative().describe('All callbacks, shown here or not'),
  callbacks: z
    .array(Callback)
    .max(MAX_CHILDREN)
    .describe(
      `The newest ${MAX_CHILDREN}, oldest first. Where callbacks_total is larger, GET /payments/{id}/callbacks has the others`,
    ),
  refunds_total: z.int().nonnegative().describe('All refunds, shown here or not'),
  refunds: z
    .array(DetailRefund)
    .max(MAX_CHILDREN)
    .describe(
      `The newest ${MAX_CHILDREN}, oldest first. Where refunds_total is larger, GET /payments/{id}/refunds has the others`,
    ),
});
type PaymentDetail = z.infer<typeof PaymentDetail>;

/**
 * What typed clients are told of the body. The type exists for them alone: nothing here reads it, and
 * the body that it is about is text, made of a PaymentDetail now or when it was stored.
 */
type Answer = Response & TypedResponse<ReturnType<typeof envelope<PaymentDetail>>, 200, 'json'>;

export const getPayment = new Hono<AppEnv>().get(
  '/payments/:id',
  authorize('payments:read'),
  validate({ param: PaymentPath }),
  async (c) => {
    const { id } = c.req.valid('param');
    const bypass = /(^|,)\s*no-cache\s*(,|$)/i.test(c.req.header('Cache-Control') ?? '');
    const outcome = (body: string, cache: 'hit' | 'miss' | 'bypass'): Answer => {
      c.get('log').cache = cache;
      c.header('Cache-Status', `payment-detail; ${cache === 'hit' ? 'hit' : `fwd=${cache}`}`);
      const response: Response = c.body(body, 200, { 'Content-Type': 'application/json' });
      return response as Answer;
    };

    const { DETAIL_CACHE } = settings(c.env);
    const cached = bypass ? null : await timed(c.get('log'), 'kvMs', readDetail(DETAIL_CACHE, id));
    if (cached !== null) {
      if (cached.age !== undefined) c.header('Age', String(cached.age));
      return outcome(cached.body, 'hit');
    }

    const selectBeganAt = Date.now();
    const { rows } = await inDatabase(c, 'detail', (db) =>
      db.execute<{ payment: PaymentDetail | null }>(detailStatement({ id })),
    );
    const payment = rows[0]?.payment;
    if (!payment) throw new ApiError(40401);

    const body = JSON.stringify(envelope('获取成功', payment));
    if (payment.status !== PENDING) {
      c.executionCtx.waitUntil(fillDetail(DETAIL_CACHE, id, body, selectBeganAt));
    }
    return outcome(body, bypass ? 'bypass' : 'miss');
  },
);

const PENDING = 0;

/**
 * The whole answer is one JSON value, made in one snapshot by payment_detail(). Its query stands in
 * drizzle/0013_kept_plans.sql, which says why.
 */
const detailStatement = prepared<{ id: bigint }>(
  (bind) => sql`SELECT payment_detail(${bind(({ id }) => id)}) AS payment`,
);
