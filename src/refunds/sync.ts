/**
 * POST /payments/:id/refunds/:refund_id/sync: asks the gateway now what became of a refund, settles it by the
 * answer and shows it. A refund is asked about every ten seconds at most, and not while it is being sent: then
 * the answer is what is known. It makes two round trips to the database, one before the gateway's and one after.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import { authorize, limitRate } from '../auth';
import { inDatabase } from '../database';
import { gatewaysOf } from '../gateways/gateways';
import { type Claim, claimStatement, measured } from '../gateways/outbox';
import { type AppEnv, envelope, NO_PARAMETERS, validate } from '../http';
import { taskOf } from '../task';
import { recordCall } from './record';
import { demandGateway, type FoundRefund, refundStatement } from './refund';
import { RefundPath } from './settle';

export const syncRefund = new Hono<AppEnv>().post(
  '/payments/:id/refunds/:refund_id/sync',
  authorize('refunds:settle'),
  limitRate,
  validate({ param: RefundPath, query: NO_PARAMETERS }),
  async (c) => {
    const { id: paymentId, refund_id: refundId } = c.req.valid('param');
    const { configured, rules } = await gatewaysOf(c.env);

    const [found, claim] = await inDatabase(c, 'claim', async (db, limits) => {
      const number = sql`(SELECT refund_no FROM payment_refunds WHERE id = ${refundId} AND payment_id = ${paymentId})`;
      const [claimed, { rows }] = await db.batch([
        db.execute<{ value: Claim | null }>(
          claimStatement(number, rules, { ask: true, resend: false }, limits),
        ),
        db.execute<FoundRefund>(refundStatement({ paymentId, refundId })),
      ]);
      return [rows[0], claimed.rows[0]?.value] as const;
    });
    const refund = demandGateway(found);
    const gateway = configured.get(refund.gateway.name);
    if (claim?.operation !== 'query' || !gateway) return c.json(envelope('查询成功', refund));

    const call = await measured(taskOf(c), gateway.name, claim, () =>
      gateway.query(claim.request, claim.decisive),
    );
    return c.json(envelope('查询成功', await recordCall(c, refund, call, rules)));
  },
);
