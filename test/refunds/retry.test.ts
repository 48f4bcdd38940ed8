/**
 * What POST /payments/:id/refunds/:refund_id/retry guarantees: what waits for a person is sent again at once, with
 * the number it had; what may have been carried out is asked about first.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { Refund } from '../../src/refunds/refund';
import { startWorld } from '../gateways/world';
import { insertPayment, signToken } from '../harness';

const world = await startWorld();
const { app } = world;

beforeEach(async () => {
  await world.stopClock();
  await world.configure({ callbacks: false, settle: { afterMs: 0, outcome: 'SUCCESS' } });
});
afterEach(async () => {
  await world.faults();
  await world.ask('POST', '/release');
  await app.idle();
  app.refundQueue.messages = [];
  await app.sql`DELETE FROM gateway_health`;
  vi.useRealTimers();
});

const retry = (path: string) => app.call('POST', `${path}/retry`, Refund);

const NOT_ENOUGH = {
  wechat: { status: 403, code: 'NOT_ENOUGH' },
  alipay: { status: 200, code: 'ACQ.SELLER_BALANCE_NOT_ENOUGH' },
};

/** A refund that waits for money on the merchant's account. */
async function blocked(gateway: 'wechat' | 'alipay' = 'wechat') {
  await world.faults({ operation: 'refund', ...NOT_ENOUGH[gateway] });
  const refund = await world.start(gateway);
  await app.idle();
  expect(await refund.look()).toMatchObject({ status: 0, gateway: { state: 'blocked' } });
  app.refundQueue.messages = [];
  return refund;
}

test.each(['wechat', 'alipay'] as const)(
  'sends a blocked refund of %s again, with the same number',
  async (gateway) => {
    const refund = await blocked(gateway);
    await world.wait(61);
    const reply = await retry(refund.path);
    expect(reply).toMatchObject({ status: 200, code: 0, message: '已重新提交' });
    expect(reply.data.gateway).toMatchObject({ state: 'queued', attempts: 1 });
    await app.idle();
    expect(await refund.look()).toMatchObject({
      status: 1,
      gateway: { state: 'succeeded', attempts: 2, attention: null },
    });
    expect(await refund.book()).toMatchObject({ sent: 1, movedTimes: 1 });
  },
);

test('keeps the distance to the send before', async () => {
  const refund = await blocked();
  await world.wait(20);
  await retry(refund.path);
  await app.idle();
  expect(await refund.look()).toMatchObject({ gateway: { state: 'queued', attempts: 1 } });
  await world.pass(41);
  expect(await refund.look()).toMatchObject({ status: 1, gateway: { attempts: 2 } });
});

test('makes one database request, and its background a claim and a record', async () => {
  const refund = await blocked();
  await world.wait(61);
  const requests = await app.databaseRequests(async () => {
    await retry(refund.path);
    await app.idle();
  });
  expect(requests).toBe(1 + 2);
});

test('that comes twice sends once', async () => {
  const refund = await blocked();
  await world.wait(61);
  const replies = await Promise.all(
    Array.from({ length: 5 }, () => app.call('POST', `${refund.path}/retry`, z.unknown())),
  );
  for (const { code } of replies) expect([0, 40910]).toContain(code);
  await app.idle();
  expect(await refund.look()).toMatchObject({ status: 1, gateway: { attempts: 2 } });
  expect(await refund.book()).toMatchObject({ sent: 1 });
});

test('asks about a refund whose outcome is not known, before anything is sent', async () => {
  await world.faults({ operation: 'refund', drop: 'after' });
  const refund = await world.start();
  await app.idle();
  app.refundQueue.messages = [];
  await world.wait(11);
  const { data } = await retry(refund.path);
  expect(data.gateway).toMatchObject({ state: 'unknown' });
  await app.idle();
  expect(await refund.look()).toMatchObject({ status: 1, gateway: { attempts: 1 } });
  expect(await refund.book()).toMatchObject({ sent: 1 });
});

test('asks about a refund that was refused, before it fails', async () => {
  await world.faults({ operation: 'refund', status: 403, code: 'USER_ACCOUNT_ABNORMAL' });
  const refund = await world.start();
  await app.idle();
  app.refundQueue.messages = [];
  await world.wait(61);
  const { data } = await retry(refund.path);
  expect(data.gateway).toMatchObject({ state: 'refused' });
  await app.idle();
  expect(await refund.look()).toMatchObject({
    status: 2,
    gateway: { state: 'failed', attempts: 1 },
  });
});

test('does not end the pause of a gateway', async () => {
  await world.faults({ operation: 'refund', status: 401, code: 'SIGN_ERROR' });
  const refund = await world.start();
  await app.idle();
  app.refundQueue.messages = [];
  await world.wait(61);
  await retry(refund.path);
  await app.idle();
  expect(await refund.look()).toMatchObject({ gateway: { state: 'queued', attempts: 1 } });
  await world.pass(900);
  expect(await refund.look()).toMatchObject({ status: 1, gateway: { attempts: 2 } });
});

describe('refuses', () => {
  const refused = async (path: string) => {
    const { status, code, data } = await app.call('POST', `${path}/retry`, z.unknown());
    return [status, code, data];
  };

  test('a refund that is being sent', async () => {
    await world.faults({ operation: 'refund', hold: 'after' });
    const refund = await world.start();
    await world.ask('GET', '/held?count=1');
    expect(await refused(refund.path)).toEqual([409, 40910, { state: 'sending' }]);
  });

  test('a refund that the gateway is working on, or whose money waits for a person', async () => {
    await world.configure({ settle: { afterMs: null, outcome: 'SUCCESS' } });
    const refund = await world.start();
    await app.idle();
    expect(await refused(refund.path)).toEqual([409, 40910, { state: 'accepted' }]);
    await world.settle(refund.outRefundNo, 'ABNORMAL');
    await world.wait(11);
    await app.call('POST', `${refund.path}/sync`, Refund);
    expect(await refused(refund.path)).toEqual([409, 40910, { state: 'blocked' }]);
    expect(await refund.book()).toMatchObject({ sent: 1 });
  });

  test('a refund that has ended', async () => {
    const refund = await world.start();
    await app.idle();
    expect(await refused(refund.path)).toEqual([409, 40910, { state: 'succeeded' }]);
    await world.faults({ operation: 'refund', outcome: 'CLOSED' });
    const other = await world.start();
    await app.idle();
    expect(await refused(other.path)).toEqual([409, 40910, { state: 'failed' }]);
  });

  test('a refund that there is not, or that is another payment’s', async () => {
    const [refund, other] = [await blocked(), await blocked()];
    const { refundId, paymentId } = refund;
    expect(await refused(`/payments/9223372036854775807/refunds/${refundId}`)).toEqual([
      404,
      40401,
      null,
    ]);
    expect(await refused(`/payments/${paymentId}/refunds/9223372036854775807`)).toEqual([
      404,
      40402,
      null,
    ]);
    expect(await refused(`/payments/${other.paymentId}/refunds/${refundId}`)).toEqual([
      404,
      40402,
      null,
    ]);
    expect(await refund.look()).toMatchObject({ gateway: { state: 'blocked' } });
  });

  test('a refund that is settled by hand', async () => {
    const paymentId = await insertPayment(app.sql, { payment_method: 'bank' });
    const { data } = await world.refund(paymentId);
    expect(await refused(`/payments/${paymentId}/refunds/${data.id}`)).toEqual([409, 40911, null]);
  });

  test('whoever may not settle refunds', async () => {
    const { path } = await blocked();
    const headers = { Authorization: `Bearer ${await signToken({ scope: 'refunds:override' })}` };
    const { status, code, data } = await app.call('POST', `${path}/retry`, z.unknown(), {
      headers,
    });
    expect([status, code, data]).toEqual([403, 40300, { required_scope: 'refunds:settle' }]);
  });
});
