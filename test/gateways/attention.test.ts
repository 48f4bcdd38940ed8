/** What GET /gateway/attention guarantees: everything that waits for a person, oldest first, and nothing else. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { Attention } from '../../src/gateways/attention';
import { insertPayment, signToken } from '../harness';
import { startWorld } from './world';

const world = await startWorld();
const { app } = world;

beforeEach(async () => {
  await world.stopClock();
  await world.configure({ callbacks: false, settle: { afterMs: null, outcome: 'SUCCESS' } });
  // What other tests have left.
  await app.sql`UPDATE gateway_refunds SET attention = NULL, attention_at = NULL`;
  await app.sql`DELETE FROM gateway_payments`;
  await app.sql`DELETE FROM gateway_health`;
});
afterEach(async () => {
  await app.faults();
  await world.faults();
  await app.idle();
  app.refundQueue.messages = [];
  vi.useRealTimers();
});

const list = async (query = '') => {
  const reply = await app.call('GET', `/gateway/attention${query}`, Attention.strict());
  expect(reply).toMatchObject({ status: 200, code: 0, message: '获取成功' });
  return reply.data;
};

const EMPTY = { refunds_total: 0, refunds: [], payments_total: 0, payments: [], gateways: [] };

/** A refund that the gateway answered with this. */
async function answered(fault: Record<string, unknown>) {
  await world.faults({ operation: 'refund', ...fault });
  const refund = await world.start();
  await app.idle();
  return refund;
}

test('nothing waits for a person where all goes well', async () => {
  await world.start();
  await app.idle();
  expect(await list()).toEqual(EMPTY);
});

test('a blocked refund is there with its reason, and leaves when it was solved', async () => {
  const refund = await answered({ status: 403, code: 'NOT_ENOUGH' });
  const { refunds, ...others } = await list();
  expect(refunds).toEqual([
    {
      attention: 'NOT_ENOUGH',
      explanation: '商户可用余额不足，充值后自动重试',
      since: expect.stringMatching(/Z$/),
      refund: await refund.look(),
    },
  ]);
  expect(others).toEqual({ refunds_total: 1, payments_total: 0, payments: [], gateways: [] });
  await world.wait(61);
  await app.call('POST', `${refund.path}/retry`, z.unknown());
  await app.idle();
  expect(await list()).toEqual(EMPTY);
});

test('refunds and payments are there oldest first, with their totals', async () => {
  const ids = [];
  for (let count = 0; count < 3; count += 1) {
    const refund = await answered({ outcome: 'ABNORMAL' });
    ids.unshift(refund.refundId);
    await app.sql`
      UPDATE gateway_refunds SET attention_at = now() - ${count}::int * interval '1 day' WHERE refund_id = ${refund.refundId}`;
    await app.sql`
      INSERT INTO gateway_payments (payment_id, attention, attention_at)
      VALUES (${refund.paymentId}, 'AMOUNT', now() - ${count}::int * interval '1 day')`;
  }
  const { refunds, payments, ...totals } = await list();
  expect(refunds.map(({ refund }) => refund.id)).toEqual(ids);
  expect(payments.map(({ since }) => since)).toEqual(payments.map(({ since }) => since).toSorted());
  expect(totals).toMatchObject({ refunds_total: 3, payments_total: 3 });

  const first = await list('?size=1');
  expect(first).toMatchObject({ refunds_total: 3, payments_total: 3 });
  expect(first.refunds).toEqual(refunds.slice(0, 1));
  expect(first.payments).toEqual(payments.slice(0, 1));
});

test('a payment about which the gateway says something else is there', async () => {
  const payment_no = 'P-with-another-amount';
  const paymentId = await world.payment({ payment_no, status: 0 });
  const wrong = await world.callback({ gateway: 'wechat', outTradeNo: payment_no, total: 1 });
  await world.bring(wrong);
  expect((await list()).payments).toEqual([
    {
      attention: 'AMOUNT',
      explanation: expect.stringContaining('金额'),
      since: expect.stringMatching(/Z$/),
      payment_id: paymentId,
    },
  ]);
});

test('a gateway that is paused is there until it works again', async () => {
  const refund = await answered({ status: 401, code: 'SIGN_ERROR' });
  const { gateways } = await list();
  expect(gateways).toEqual([
    {
      gateway: 'wechat',
      paused_until: expect.stringMatching(/Z$/),
      code: 'SIGN_ERROR',
      explanation: expect.stringContaining('签名'),
    },
  ]);
  const pause = Date.parse(gateways[0]?.paused_until ?? '') - Date.now();
  expect(Math.round(pause / 60_000)).toBe(10);
  await world.pass(3_700);
  expect(await refund.look()).toMatchObject({ gateway: { state: 'accepted' } });
  expect(await list()).toEqual(EMPTY);
});

test('what an unknown code means is said, too', async () => {
  const refund = await answered({ outcome: 'ABNORMAL' });
  await app.sql`UPDATE gateway_refunds SET attention = 'NEVER_SEEN' WHERE refund_id = ${refund.refundId}`;
  expect((await list()).refunds[0]?.explanation).toMatch(/\p{Script=Han}/u);
});

describe('a request', () => {
  test('makes one database request', async () => {
    expect(await app.databaseRequests(() => list())).toBe(1);
  });

  test('shows 50 unless it asks for another number, 200 at most', async () => {
    const payment = await insertPayment(app.sql, { amount: '1000.00' });
    await app.sql`
      WITH made AS (
        INSERT INTO payment_refunds (payment_id, refund_no, amount)
        SELECT ${payment}, 'MANY-' || n, 0.01 FROM generate_series(1, 210) AS n RETURNING id
      )
      INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no, attention, attention_at)
      SELECT id, 'wechat', 'MANY-' || id, 'OLD', now() FROM made`;
    expect((await list()).refunds).toHaveLength(50);
    expect((await list('?size=200')).refunds).toHaveLength(200);
    const tooMany = await app.call('GET', '/gateway/attention?size=201', z.unknown());
    expect([tooMany.status, tooMany.code]).toEqual([400, 40000]);
  });

  test('needs payments:read', async () => {
    const headers = { Authorization: `Bearer ${await signToken({ scope: 'refunds:settle' })}` };
    const reply = await app.call('GET', '/gateway/attention', z.unknown(), { headers });
    expect([reply.status, reply.code, reply.data]).toEqual([
      403,
      40300,
      { required_scope: 'payments:read' },
    ]);
  });

  test('is told to come again while the database is down', async () => {
    await app.faults({ drop: 'before', times: 'always' });
    const reply = await app.call('GET', '/gateway/attention', z.unknown());
    expect([reply.status, reply.code]).toEqual([503, 50300]);
  });
});
