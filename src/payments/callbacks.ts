/** GET /payments/:id/callbacks: all callbacks of a payment, newest first, page by page. */
import { Hono } from 'hono';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { ApiError, type AppEnv, envelope, validate } from '../http';
import { paymentCallbacks } from '../schema';
import { ChildrenQuery, childrenStatement, type Found, pageOf, toPage } from './children';
import { Callback, callbackJson, PaymentPath } from './payment';

/** A page of the callbacks of a payment. */
export const CallbackPage = pageOf(Callback);

export const listCallbacks = new Hono<AppEnv>().get(
  '/payments/:id/callbacks',
  authorize('payments:read'),
  validate({ param: PaymentPath, query: ChildrenQuery }),
  async (c) => {
    const request = { paymentId: c.req.valid('param').id, ...c.req.valid('query') };
    const { rows } = await inDatabase(c, 'callbacks', (db) =>
      db.execute<Found<Callback>>(callbacksStatement(request)),
    );
    const [row] = rows;
    if (!row) throw new ApiError(40401);
    const page = toPage(row, request);
    c.get('log').rows = page.list.length;
    return c.json(envelope('获取成功', page));
  },
);

const callbacksStatement = childrenStatement(paymentCallbacks, callbackJson);
