/**
 * GET /payments/:id/refunds: all refunds of a payment, newest first, page by page, each with who did
 * what to it.
 */
import { Hono } from 'hono';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { ApiError, type AppEnv, envelope, validate } from '../http';
import { ChildrenQuery, childrenStatement, type Found, pageOf, toPage } from '../payments/children';
import { PaymentPath } from '../payments/payment';
import { paymentRefunds } from '../schema';
import { DetailRefund, refundWithEvents } from './refund';

/** A page of the refunds of a payment. */
export const RefundPage = pageOf(DetailRefund);

export const listRefunds = new Hono<AppEnv>().get(
  '/payments/:id/refunds',
  authorize('payments:read'),
  validate({ param: PaymentPath, query: ChildrenQuery }),
  async (c) => {
    const request = { paymentId: c.req.valid('param').id, ...c.req.valid('query') };
    const { rows } = await inDatabase(c, 'refunds', (db) =>
      db.execute<Found<DetailRefund>>(refundsStatement(request)),
    );
    const [row] = rows;
    if (!row) throw new ApiError(40401);
    const page = toPage(row, request);
    c.get('log').rows = page.list.length;
    return c.json(envelope('获取成功', page));
  },
);

const refundsStatement = childrenStatement(paymentRefunds, refundWithEvents);
