/**
 * GET /gateway/attention: what a person has to look at, oldest first. Refunds that are blocked, that took 14 days,
 * that a gateway contradicted; payments that the gateway tells something else about; and gateways whose refunds
 * are paused. What was solved leaves the list by itself, and what is over when somebody dismisses it (dismiss.ts).
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { type AppEnv, envelope, validate } from '../http';
import { json, text } from '../json';
import { parameter } from '../payments/filter';
import { wholeNumber } from '../payments/page';
import { IdText } from '../payments/payment';
import { Refund, refundOrNull } from '../refunds/refund';
import { gatewayHealth, gatewayPayments, gatewayRefunds } from '../schema';
import { UtcTime, utc } from '../time';
import { explain } from './explanations';

const DEFAULT_SIZE = 50;

/** How many of each are shown. */
export const AttentionQuery = z.strictObject({
  size: parameter(wholeNumber(1, 200)).meta({ default: DEFAULT_SIZE, description: '每类数量' }),
});

const Why = z.object({
  attention: z.string().describe('Why, as a code'),
  explanation: z.string().describe('What it means'),
  since: UtcTime,
});

/** What a person has to look at. */
export const Attention = z.object({
  refunds_total: z.int().nonnegative(),
  refunds: z.array(z.object({ ...Why.shape, refund: Refund })),
  payments_total: z.int().nonnegative(),
  payments: z.array(z.object({ ...Why.shape, payment_id: IdText })),
  gateways: z
    .array(
      z.object({
        gateway: z.string(),
        paused_until: UtcTime,
        code: z.string().nullable(),
        explanation: z.string(),
      }),
    )
    .describe('Whose refunds are not sent until then, since each of them would be refused'),
});
type Attention = z.infer<typeof Attention>;

export const listAttention = new Hono<AppEnv>().get(
  '/gateway/attention',
  authorize('payments:read'),
  validate({ query: AttentionQuery }),
  async (c) => {
    const { size = DEFAULT_SIZE } = c.req.valid('query');
    const { rows } = await inDatabase(c, 'attention', (db) =>
      db.execute<{ found: Found }>(attentionStatement(size)),
    );
    const [row] = rows;
    if (!row) throw new Error('a SELECT without FROM has one row');
    const { refunds, payments, gateways, ...totals } = row.found;
    const attention: Attention = {
      ...totals,
      refunds: refunds.map((one) => ({ ...one, explanation: explain(one.attention) })),
      payments: payments.map((one) => ({ ...one, explanation: explain(one.attention) })),
      gateways: gateways.map((one) => ({ ...one, explanation: explain(one.code ?? '') })),
    };
    c.get('log').rows = refunds.length + payments.length;
    return c.json(envelope('获取成功', attention));
  },
);

type Unexplained<T> = Omit<T, 'explanation'>;
type Found = Pick<Attention, 'refunds_total' | 'payments_total'> & {
  refunds: Unexplained<Attention['refunds'][number]>[];
  payments: Unexplained<Attention['payments'][number]>[];
  gateways: Unexplained<Attention['gateways'][number]>[];
};

/** One statement, and so one snapshot. The partial indexes hold what needs attention, and nothing else. */
function attentionStatement(size: number) {
  return sql`
    SELECT json_build_object(
      'refunds_total', (SELECT count(*) FROM gateway_refunds WHERE attention IS NOT NULL),
      'refunds', (
        SELECT coalesce(json_agg(json_build_object('attention', ${gatewayRefunds.attention},
          'since', ${utc(gatewayRefunds.attentionAt)}, 'refund', ${refundOrNull()}
        ) ORDER BY ${gatewayRefunds.attentionAt}, ${gatewayRefunds.refundId}), '[]')
        FROM (
          SELECT * FROM gateway_refunds WHERE attention IS NOT NULL ORDER BY attention_at, refund_id LIMIT ${size}
        ) AS gateway_refunds JOIN payment_refunds ON payment_refunds.id = refund_id
      ),
      'payments_total', (SELECT count(*) FROM gateway_payments WHERE attention IS NOT NULL),
      'payments', (
        SELECT coalesce(json_agg(json_build_object('attention', attention, 'since', ${utc(gatewayPayments.attentionAt)},
          'payment_id', ${text(gatewayPayments.paymentId)}
        ) ORDER BY attention_at, payment_id), '[]')
        FROM (
          SELECT * FROM gateway_payments WHERE attention IS NOT NULL ORDER BY attention_at, payment_id LIMIT ${size}
        ) AS gateway_payments
      ),
      'gateways', (
        SELECT coalesce(json_agg(${json<typeof Attention.shape.gateways.element>({
          gateway: gatewayHealth.gateway,
          paused_until: utc(gatewayHealth.pausedUntil),
          code: gatewayHealth.code,
          explanation: sql`NULL`,
        })} ORDER BY gateway), '[]')
        FROM gateway_health WHERE paused_until IS NOT NULL
      )
    ) AS found`;
}
