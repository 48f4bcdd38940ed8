/** What POST /payments/:id/refunds/:refund_id/correction guarantees: reasons on record, money conserved. */
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { PaymentDetail } from '../../src/payments/detail';
import { Refund } from '../../src/refunds/refund';
import { insertPayment, signToken, startApp, type TestApp } from '../harness';

let app: TestApp;
beforeAll(async () => {
  app = await startApp();
});
afterEach(() => app.faults());

const correct = (
  paymentId: string,
  refundId: string,
  body: unknown,
  headers: Record<string, string> = {},
) =>
  app.call('POST', `/payments/${paymentId}/refunds/${refundId}/correction`, z.unknown(), {
    body,
    headers,
  });

let refunds = 0;
const insertRefund = async (paymentId: string, amount: string, status: number) => {
  refunds += 1;
  const rows = await app.sql`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, status)
    VALUES (${paymentId}, ${`C${refunds}`}, ${amount}, ${status}) RETURNING id`;
  return z.tuple([z.object({ id: z.string() })]).parse(rows)[0].id;
};

const detailOf = async (paymentId: string) =>
  (
    await app.call('GET', `/payments/${paymentId}`, PaymentDetail, {
      headers: { 'Cache-Control': 'no-cache' },
    })
  ).data;

const CAME_BACK = { status: 2, reason: '收款账户已注销，款项退回' };
const ARRIVED = { status: 1, reason: '银行确认已到账' };

describe('a refund that came back', () => {
  it('fails after all, and its payment is 支付成功 again', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100.00', 1);
    expect(await detailOf(paymentId)).toMatchObject({ status: 3 });

    const reply = await correct(paymentId, refundId, CAME_BACK);

    expect(reply).toMatchObject({ status: 200, message: '更新成功' });
    expect(Refund.strict().parse(reply.data)).toMatchObject({ id: refundId, status: 2 });
    const detail = await detailOf(paymentId);
    expect(detail).toMatchObject({
      status: 1,
      refund_time: null,
      refunded_amount: '0.00',
      refundable_amount: '100.00',
    });
    expect(detail.refunds[0]?.events).toMatchObject([
      { actor: 'tester', from_status: 1, to_status: 2, reason: CAME_BACK.reason },
    ]);
  });
});

describe('a refund that arrived after all', () => {
  it('succeeds, and completes what was paid', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100.00', 2);
    expect((await correct(paymentId, refundId, ARRIVED)).status).toBe(200);
    expect(await detailOf(paymentId)).toMatchObject({ status: 3, refundable_amount: '0.00' });
  });

  it('is refused if the money has been refunded meanwhile, with what is missing', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '60.00', 2);
    await insertRefund(paymentId, '70.00', 0);
    expect(await correct(paymentId, refundId, ARRIVED)).toMatchObject({
      status: 409,
      code: 40901,
      data: { refundable_amount: '30.00', missing_amount: '30.00' },
    });
    expect((await detailOf(paymentId)).refunds[0]).toMatchObject({ status: 2, events: [] });
  });
});

describe('a correction', () => {
  it('that comes again is answered alike and changes nothing', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '50.00', 1);
    const first = await correct(paymentId, refundId, CAME_BACK);
    const second = await correct(paymentId, refundId, CAME_BACK);
    expect(second).toMatchObject({ status: 200, data: first.data });
    expect((await detailOf(paymentId)).refunds[0]?.events).toHaveLength(1);
  });

  it('whose answer was lost is found by the second try', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '50.00', 1);
    await app.faults({ drop: 'after' });
    expect((await correct(paymentId, refundId, CAME_BACK)).status).toBe(200);
    expect((await detailOf(paymentId)).refunds[0]?.events).toHaveLength(1);
  });

  it('goes once in each direction a day', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '50.00', 1);
    expect((await correct(paymentId, refundId, CAME_BACK)).status).toBe(200);
    expect((await correct(paymentId, refundId, ARRIVED)).status).toBe(200);
    expect(await correct(paymentId, refundId, CAME_BACK)).toMatchObject({
      status: 409,
      code: 40906,
      data: null,
    });
    await app.sql.transaction([
      app.sql`ALTER TABLE payment_refund_events DISABLE TRIGGER USER`,
      app.sql`UPDATE payment_refund_events SET created_at = created_at - interval '1 day' WHERE refund_id = ${refundId}`,
      app.sql`ALTER TABLE payment_refund_events ENABLE TRIGGER USER`,
    ]);
    expect((await correct(paymentId, refundId, CAME_BACK)).status).toBe(200);
  });

  it('of a refund that is 处理中 is refused: it is settled', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '50.00', 0);
    const reply = await correct(paymentId, refundId, ARRIVED);
    expect(reply).toMatchObject({ status: 409, code: 40905, data: { status: 0 } });
  });

  it('of what is not there is refused', async () => {
    const [paymentId, other] = [await insertPayment(app.sql), await insertPayment(app.sql)];
    const refundId = await insertRefund(other, '50.00', 1);
    expect((await correct('9223372036854775807', refundId, CAME_BACK)).code).toBe(40401);
    expect((await correct(paymentId, refundId, CAME_BACK)).code).toBe(40402);
  });

  it('needs a reason that people can read, and a scope of its own', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '50.00', 1);
    expect((await correct(paymentId, refundId, { status: 2 })).code).toBe(40000);
    expect((await correct(paymentId, refundId, { status: 2, reason: '\u200b' })).code).toBe(40000);
    const token = await signToken({ scope: 'payments:read refunds:create refunds:settle' });
    const headers = { Authorization: `Bearer ${token}` };
    expect(await correct(paymentId, refundId, CAME_BACK, headers)).toMatchObject({
      code: 40300,
      data: { required_scope: 'refunds:correct' },
    });
  });

  it('takes one database request and purges the cached detail', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '50.00', 1);
    await app.call('GET', `/payments/${paymentId}`, z.unknown());
    await app.idle();
    expect(await app.databaseRequests(() => correct(paymentId, refundId, CAME_BACK))).toBe(1);
    expect(app.kv.operations.at(-1)).toBe('delete');
  });

  it('in parallel happens once, whichever direction wins', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '50.00', 1);
    const replies = await Promise.all(
      Array.from({ length: 10 }, () => correct(paymentId, refundId, CAME_BACK)),
    );
    expect(replies.map(({ status }) => status)).toEqual(Array(10).fill(200));
    expect((await detailOf(paymentId)).refunds[0]?.events).toHaveLength(1);
  });
});
