/**
 * POST /payments/:id/attention/dismissal: takes a payment, and those of its refunds that have ended, off the list
 * of what a person has to look at, since somebody has. It moves no money and no status. What is still open, such
 * as a blocked refund, stays on the list until it is solved. The reason is kept with the refunds.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize, limitRate } from '../auth';
import { inDatabase } from '../database';
import { ApiError, type AppEnv, envelope, jsonBody, validate } from '../http';
import { withPurges } from '../payments/detail-cache';
import { PaymentPath } from '../payments/payment';
import { taskOf } from '../task';
import { writtenText } from '../text';

/** What was found out. */
export const Dismissal = z.strictObject({ reason: writtenText('处理说明') }, '须为 JSON 对象');

/** How many entries left the list. */
export const Dismissed = z.object({ dismissed: z.int().nonnegative() });

export const dismissAttention = new Hono<AppEnv>().post(
  '/payments/:id/attention/dismissal',
  authorize('refunds:correct'),
  limitRate,
  jsonBody,
  validate({ param: PaymentPath, json: Dismissal }),
  async (c) => {
    const { id } = c.req.valid('param');
    const { reason } = c.req.valid('json');
    const dismissed = await withPurges(taskOf(c), id, () =>
      inDatabase(c, 'dismiss', async (db, { lockTimeout }) => {
        const { rows } = await db.execute<{ dismissed: number }>(sql`
          SELECT dismiss_gateway_attention(id, ${c.get('actor')}, ${reason}, ${c.get('requestId')}, ${lockTimeout}) AS dismissed
          FROM payments WHERE id = ${id}`);
        return rows[0]?.dismissed;
      }),
    );
    if (dismissed === undefined) throw new ApiError(40401);
    return c.json(envelope('更新成功', { dismissed }));
  },
);
