/** What POST /payments/:id/refunds/:refund_id/sync guarantees: the gateway's word now, or what is known. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { PaymentDetail } from '../../src/payments/detail';
import { Refund } from '../../src/refunds/refund';
import { startWorld } from '../gateways/world';
import { insertPayment, signToken } from '../harness';

const world = await startWorld();
const { app } = world;

beforeEach(async () => {
  await world.stopClock();
  // Nothing tells us by itself how a refund ended.
  await world.configure({ callbacks: false, settle: { afterMs: null, outcome: 'SUCCESS' } });
});
afterEach(async () => {
  await app.faults();
  await world.faults();
  await app.idle();
  app.refundQueue.messages = [];
  vi.useRealTimers();
});

const sync = (path: string) => app.call('POST', `${path}/sync`, Refund);

/** A refund that WeChat Pay has taken, and has carried out meanwhile. */
async function carriedOut() {
  const refund = await world.start();
  await app.idle();
  await world.wait(11);
  await world.settle(refund.outRefundNo, 'SUCCESS');
  expect(await refund.look()).toMatchObject({ status: 0, gateway: { state: 'accepted' } });
  return refund;
}

test('settles a refund by the answer of its gateway', async () => {
  const refund = await carriedOut();
  const reply = await sync(refund.path);
  expect(reply).toMatchObject({ status: 200, code: 0, message: '查询成功' });
  expect(reply.data).toMatchObject({
    status: 1,
    gateway: { state: 'succeeded', next_attempt_at: null },
  });
  expect(await refund.events()).toEqual([
    { actor: 'wechat', to_status: 1, reason: null, cause: 'query' },
  ]);
  const payment = await app.sql`SELECT status FROM payments WHERE id = ${refund.paymentId}`;
  expect(payment).toEqual([{ status: 3 }]);
});

test('makes two database requests, and one where the gateway is not asked', async () => {
  const refund = await carriedOut();
  expect(await app.databaseRequests(() => sync(refund.path))).toBe(2);
  // It has ended.
  expect(await app.databaseRequests(() => sync(refund.path))).toBe(1);
});

test('does not ask within ten seconds of the send, or of the last question', async () => {
  const refund = await world.start();
  await app.idle();
  await world.wait(9);
  const questions = async () => (await world.books()).requests['wechat.query'] ?? 0;
  const before = await questions();
  expect(await app.databaseRequests(() => sync(refund.path))).toBe(1);
  await world.wait(2);
  for (let count = 0; count < 5; count += 1) {
    const { data } = await sync(refund.path);
    expect(data).toMatchObject({ status: 0, gateway: { state: 'accepted' } });
  }
  expect((await questions()) - before).toBe(1);
});

test('asks once for many who want to know at the same moment', async () => {
  const refund = await carriedOut();
  const { requests: before } = await world.books();
  const replies = await Promise.all(Array.from({ length: 10 }, () => sync(refund.path)));
  expect(replies.map(({ status }) => status)).toEqual(Array(10).fill(200));
  const { requests } = await world.books();
  expect((requests['wechat.query'] ?? 0) - (before['wechat.query'] ?? 0)).toBe(1);
  expect(await refund.events()).toHaveLength(1);
});

test('does not ask while the refund is being sent', async () => {
  await world.faults({ operation: 'refund', hold: 'after' });
  const refund = await world.start();
  await world.ask('GET', '/held?count=1');
  await world.wait(30);
  expect((await sync(refund.path)).data).toMatchObject({ gateway: { state: 'sending' } });
  await world.ask('POST', '/release');
});

test('does not ask about a refund that was never sent', async () => {
  await world.faults({ operation: 'refund', hold: 'before' });
  const first = await world.start('wechat', '10.00');
  await world.ask('GET', '/held?count=1');
  const { data } = await world.refund(first.paymentId, '20.00');
  await world.wait(15);
  const reply = await sync(`/payments/${first.paymentId}/refunds/${data.id}`);
  expect(reply.data).toMatchObject({ gateway: { state: 'queued', attempts: 0 } });
  await world.ask('POST', '/release');
});

test.each([
  ['does not answer', { drop: 'before' }, 'NO_ANSWER'],
  ['has a fault', { status: 500, code: 'SYSTEM_ERROR' }, 'SYSTEM_ERROR'],
  ['answers what does not verify', { sign: 'altered' }, 'BAD_SIGNATURE'],
])('answers what is known where the gateway %s', async (_, fault, code) => {
  const refund = await carriedOut();
  await world.faults({ operation: 'query', ...fault });
  const { status, data } = await sync(refund.path);
  expect(status).toBe(200);
  expect(data).toMatchObject({
    status: 0,
    gateway: { state: 'accepted', last_error_code: code },
  });
  await world.wait(11);
  expect((await sync(refund.path)).data).toMatchObject({ status: 1 });
});

test('has what the gateway never got sent again, with the same number', async () => {
  await world.faults({ operation: 'refund', drop: 'before' });
  const refund = await world.start();
  await app.idle();
  app.refundQueue.messages = [];
  await world.wait(61);
  expect((await sync(refund.path)).data).toMatchObject({
    status: 0,
    gateway: { state: 'queued', attempts: 1 },
  });
  await world.pass(10);
  expect(await refund.look()).toMatchObject({ gateway: { state: 'accepted', attempts: 2 } });
  expect(await refund.book()).toMatchObject({ sent: 1 });
});

test('says by name that the gateway cannot be asked', async () => {
  const refund = await carriedOut();
  const others: [Record<string, string>, string][] = [
    [{ WECHAT_MCHID: '' }, 'NOT_CONFIGURED'],
    [{ WECHAT_MCHID: '1900000999' }, 'ACCOUNT_CHANGED'],
  ];
  for (const [env, attention] of others) {
    const { data } = await app.call('POST', `${refund.path}/sync`, Refund, { env });
    expect(data).toMatchObject({ status: 0, gateway: { state: 'accepted', attention } });
  }
  expect((await sync(refund.path)).data).toMatchObject({ status: 1, gateway: { attention: null } });
});

test('whose answer could not be recorded is repeated later', async () => {
  const refund = await carriedOut();
  await app.faults({ delayMs: 0 }, { drop: 'before', times: 2 });
  const { status, code } = await app.call('POST', `${refund.path}/sync`, z.unknown());
  expect([status, code]).toEqual([503, 50300]);
  await app.faults();
  expect(await refund.look()).toMatchObject({ status: 0 });
  await world.wait(11);
  expect((await sync(refund.path)).data).toMatchObject({ status: 1 });
});

test('empties the cache of the payment’s detail', async () => {
  const refund = await carriedOut();
  const detail = () => app.call('GET', `/payments/${refund.paymentId}`, PaymentDetail);
  expect((await detail()).data.refunds).toMatchObject([{ status: 0 }]);
  await app.idle();
  await world.wait(1);
  await sync(refund.path);
  expect((await detail()).data.refunds).toMatchObject([{ status: 1 }]);
});

describe('refuses', () => {
  test('a refund that there is not, or that is another payment’s', async () => {
    const [refund, other] = [await carriedOut(), await carriedOut()];
    const asked = async (path: string) => (await app.call('POST', `${path}/sync`, z.null())).code;
    expect(await asked(`/payments/9223372036854775807/refunds/${refund.refundId}`)).toBe(40401);
    expect(await asked(`/payments/${refund.paymentId}/refunds/9223372036854775807`)).toBe(40402);
    expect(await asked(`/payments/${other.paymentId}/refunds/${refund.refundId}`)).toBe(40402);
    expect(await refund.look()).toMatchObject({ status: 0 });
  });

  test('a refund that is settled by hand', async () => {
    const paymentId = await insertPayment(app.sql, { payment_method: 'bank' });
    const { data } = await world.refund(paymentId);
    expect(data.gateway).toBeNull();
    const path = `/payments/${paymentId}/refunds/${data.id}/sync`;
    const { status, code } = await app.call('POST', path, z.null());
    expect([status, code]).toEqual([409, 40911]);
  });

  test('whoever may not settle refunds, before the database is asked', async () => {
    const { path } = await carriedOut();
    const scope = 'payments:read refunds:create refunds:correct refunds:override';
    const headers = { Authorization: `Bearer ${await signToken({ scope })}` };
    const requests = await app.databaseRequests(async () => {
      const reply = await app.call('POST', `${path}/sync`, z.unknown(), { headers });
      expect([reply.status, reply.code, reply.data]).toEqual([
        403,
        40300,
        { required_scope: 'refunds:settle' },
      ]);
    });
    expect(requests).toBe(0);
  });
});

test('asking during a pause leaves the message of the refund in charge', async () => {
  await world.faults({ operation: 'refund', drop: 'after' });
  const refund = await world.start();
  await app.idle();
  await app.sql`
    INSERT INTO gateway_health (gateway, paused_until, code)
    VALUES ('wechat', gateway_clock() + interval '100 seconds', 'SIGN_ERROR')`;
  await world.wait(12);
  expect(await app.call('POST', `${refund.path}/sync`, Refund)).toMatchObject({
    status: 200,
    data: { gateway: { state: 'unknown' } },
  });
  await world.pass(600);
  expect(await refund.look()).toMatchObject({ gateway: { state: 'accepted' } });
});
