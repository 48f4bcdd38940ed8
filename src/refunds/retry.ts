/**
 * POST /payments/:id/refunds/:refund_id/retry: sends a blocked refund again at once, with the same number, since
 * somebody has done what it waited for; and brings forward one whose outcome is being found out. A refund whose
 * money waits for another account is not sent again: abnormal.ts goes on with it.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import { authorize, limitRate } from '../auth';
import { inDatabase } from '../database';
import { advanceInBackground, announceRefund } from '../gateways/outbox';
import { ApiError, type AppEnv, envelope, NO_PARAMETERS, validate } from '../http';
import { withPurges } from '../payments/detail-cache';
import { taskOf } from '../task';
import { demandGateway, type FoundRefund, refundStatement } from './refund';
import { RefundPath } from './settle';

export const retryRefund = new Hono<AppEnv>().post(
  '/payments/:id/refunds/:refund_id/retry',
  authorize('refunds:settle'),
  limitRate,
  validate({ param: RefundPath, query: NO_PARAMETERS }),
  async (c) => {
    const { id: paymentId, refund_id: refundId } = c.req.valid('param');
    const task = taskOf(c);
    const [found, moved] = await withPurges(task, paymentId, () =>
      inDatabase(c, 'retry', async (db, { lockTimeout }) => {
        const [retried, { rows }] = await db.batch([
          db.execute<{ moved: number }>(
            sql`SELECT retry_gateway_refund(${refundId}, ${paymentId}, ${lockTimeout}) AS moved`,
          ),
          db.execute<FoundRefund>(refundStatement({ paymentId, refundId })),
        ]);
        return [rows[0], retried.rows[0]?.moved] as const;
      }),
    );
    const refund = demandGateway(found);
    if (moved === 0) throw new ApiError(40910, { state: refund.gateway.state });

    const message = { payment_id: refund.payment_id, refund_no: refund.refund_no };
    task.waitUntil(announceRefund(task, message));
    task.waitUntil(advanceInBackground(task, message));
    return c.json(envelope('已重新提交', refund));
  },
);
