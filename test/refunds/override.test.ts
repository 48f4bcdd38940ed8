/**
 * What PATCH /payments/:id/refunds/:refund_id guarantees where a gateway has the refund: only the gateway's word ends
 * it, or a person with the scope and a reason; and what was forced is never sent afterwards.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { Attention } from '../../src/gateways/attention';
import { Refund } from '../../src/refunds/refund';
import { startWorld } from '../gateways/world';
import { insertPayment, signToken } from '../harness';

const world = await startWorld();
const { app } = world;

beforeEach(async () => {
  await world.stopClock();
  await world.configure({ callbacks: false, settle: { afterMs: null, outcome: 'SUCCESS' } });
});
afterEach(async () => {
  await app.faults();
  await world.faults();
  await world.ask('POST', '/release');
  await app.idle();
  app.refundQueue.messages = [];
  await app.sql`DELETE FROM gateway_health`;
  vi.useRealTimers();
});

const REASON = '已在柜台退还现金';

const patch = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  app.call('PATCH', path, z.unknown(), { body, headers });
const force = (path: string, status: 1 | 2, headers = {}) =>
  patch(path, { status, override_reason: REASON }, headers);

/** By what the gateway did with the refund, the state that it is in then. */
const STATES: [state: string, faults: Record<string, unknown>[]][] = [
  ['accepted', []],
  ['unknown', [{ operation: 'refund', drop: 'after' }]],
  ['refused', [{ operation: 'refund', status: 403, code: 'USER_ACCOUNT_ABNORMAL' }]],
  ['blocked', [{ operation: 'refund', status: 403, code: 'NOT_ENOUGH' }]],
  ['blocked', [{ operation: 'refund', outcome: 'ABNORMAL' }]],
];

async function inState(faults: Record<string, unknown>[], state: string) {
  await world.faults(...faults);
  const refund = await world.start();
  await app.idle();
  expect(await refund.look()).toMatchObject({ status: 0, gateway: { state } });
  return refund;
}

describe.each(STATES)('a refund that is %s after %j', (state, faults) => {
  test('is not settled by hand', async () => {
    const refund = await inState(faults, state);
    for (const status of [1, 2]) {
      const reply = await patch(refund.path, { status });
      expect([reply.status, reply.code, reply.data]).toEqual([409, 40907, { state }]);
    }
    expect(await refund.look()).toMatchObject({ status: 0, gateway: { state } });
    expect(await refund.events()).toEqual([]);
  });

  test.each([
    [1, 'succeeded'],
    [2, 'failed'],
  ] as const)('can be forced to %i, with who and why on record', async (status, ended) => {
    const refund = await inState(faults, state);
    const reply = await force(refund.path, status);
    expect(reply).toMatchObject({ status: 200, code: 0, message: '更新成功' });
    const gateway = { state: ended, next_attempt_at: null, attention: null };
    expect(Refund.parse(reply.data)).toMatchObject({ status, gateway });
    expect(await refund.look()).toMatchObject({ status, gateway });
    expect(await refund.events()).toEqual([
      { actor: 'tester', to_status: status, reason: REASON, cause: 'person' },
    ]);
  });

  test('is never sent again once it is forced', async () => {
    const refund = await inState(faults, state);
    const sent = (await refund.book())?.sent;
    await force(refund.path, 2);
    await world.pass(2 * 86_400);
    await app.merge();
    await world.settleDown();
    expect((await refund.book())?.sent).toBe(sent);
    expect(await refund.look()).toMatchObject({
      status: 2,
      gateway: { state: 'failed', attempts: 1 },
    });
  });
});

describe('a forced end', () => {
  test('needs refunds:override beside refunds:settle', async () => {
    const refund = await inState([], 'accepted');
    for (const [scope, required_scope] of [
      ['refunds:settle refunds:correct', 'refunds:override'],
      ['refunds:override', 'refunds:settle'],
    ] as const) {
      const headers = { Authorization: `Bearer ${await signToken({ scope })}` };
      const requests = await app.databaseRequests(async () => {
        const reply = await force(refund.path, 2, headers);
        expect([reply.status, reply.code, reply.data]).toEqual([403, 40300, { required_scope }]);
        expect(reply.headers.get('WWW-Authenticate')).toContain(`scope="${required_scope}"`);
      });
      expect(requests).toBe(0);
    }
    expect(await refund.look()).toMatchObject({ status: 0 });
  });

  test('takes one database request', async () => {
    const refund = await inState([], 'accepted');
    expect(await app.databaseRequests(() => force(refund.path, 1))).toBe(1);
  });

  test('that comes again is answered alike; another one is refused', async () => {
    const refund = await inState([], 'accepted');
    const first = await force(refund.path, 2);
    expect(await force(refund.path, 2)).toMatchObject({ status: 200, data: first.data });
    expect(await force(refund.path, 1)).toMatchObject({
      status: 409,
      code: 40903,
      data: { status: 2 },
    });
    expect(await refund.events()).toHaveLength(1);
  });

  test('whose answer was lost is found by the second try', async () => {
    const refund = await inState([], 'accepted');
    await app.faults({ drop: 'after' });
    expect(await force(refund.path, 1)).toMatchObject({ status: 200, data: { status: 1 } });
    expect(await refund.events()).toHaveLength(1);
  });

  test('of success completes the payment', async () => {
    const refund = await inState([], 'accepted');
    await force(refund.path, 1);
    const rows = await app.sql`SELECT status FROM payments WHERE id = ${refund.paymentId}`;
    expect(rows).toEqual([{ status: 3 }]);
  });

  test('is refused while the refund is being sent, and until its lease is over', async () => {
    await world.faults({ operation: 'refund', hold: 'after' });
    const refund = await world.start();
    await world.ask('GET', '/held?count=1');
    for (const status of [1, 2] as const) {
      expect(await force(refund.path, status)).toMatchObject({
        status: 409,
        code: 40907,
        data: { state: 'sending' },
      });
    }
    expect(await refund.look()).toMatchObject({ status: 0, gateway: { state: 'sending' } });
    expect(await refund.events()).toEqual([]);
    await world.wait(125);
    expect(await force(refund.path, 1)).toMatchObject({
      status: 200,
      data: { gateway: { state: 'succeeded' } },
    });
  });

  test('or a send: whichever comes first, the other does not happen', async () => {
    for (let round = 0; round < 10; round += 1) {
      const paymentId = await world.payment();
      await app.faults({ delayMs: 0 }, { hold: 'before' });
      await world.faults({ operation: 'refund', hold: 'after' });
      const { data } = await world.refund(paymentId);
      await app.held(1);
      const path = `/payments/${paymentId}/refunds/${data.id}`;
      const [forced] = await Promise.all([force(path, 2), app.release()]);
      if (forced.code !== 0) await world.ask('GET', '/held?count=1');
      await world.ask('POST', '/release');
      await app.idle();
      const { status, gateway } = await world.look(paymentId, data.id);
      const { refunds } = await world.books();
      const sent = refunds.some(({ outRefundNo }) => outRefundNo === data.refund_no);
      expect([forced.code, status, gateway?.state, sent]).toEqual(
        forced.code === 0 ? [0, 2, 'failed', false] : [40907, 0, 'accepted', true],
      );
    }
  });

  test('needs no reason, and keeps none, where no gateway has the refund', async () => {
    const paymentId = await insertPayment(app.sql, { payment_method: 'bank' });
    const { data } = await world.refund(paymentId);
    expect(await force(`/payments/${paymentId}/refunds/${data.id}`, 1)).toMatchObject({
      status: 200,
      data: { status: 1, gateway: null },
    });
    const events = await app.sql`
      SELECT reason, cause FROM payment_refund_events WHERE refund_id = ${data.id} AND from_status = 0`;
    expect(events).toEqual([{ reason: null, cause: null }]);
  });

  test.each(['', '   ', 'a\nb', 'x'.repeat(256), 1, null])(
    'with a reason of %j is refused',
    async (reason) => {
      const refund = await inState([], 'accepted');
      const reply = await patch(refund.path, { status: 2, override_reason: reason });
      expect([reply.status, reply.code]).toEqual([400, 40000]);
    },
  );

  test('of a refund that is another payment’s is refused', async () => {
    const [refund, other] = [await inState([], 'accepted'), await inState([], 'accepted')];
    expect(await force(`/payments/${other.paymentId}/refunds/${refund.refundId}`, 2)).toMatchObject(
      { status: 404, code: 40402 },
    );
    expect(await refund.look()).toMatchObject({ status: 0, gateway: { state: 'accepted' } });
  });
});

test('a forced failure that the gateway pays all the same is pointed out until it is corrected', async () => {
  const refund = await inState([], 'accepted');
  await force(refund.path, 2);
  await world.settle(refund.outRefundNo, 'SUCCESS');
  const paid = await world.callback({ outRefundNo: refund.outRefundNo });
  expect((await world.bring(paid)).status).toBe(204);

  const attention = async () => {
    const { data } = await app.call('GET', '/gateway/attention', Attention);
    return data.refunds.find((one) => one.refund.id === refund.refundId)?.attention;
  };
  expect(await refund.look()).toMatchObject({
    status: 2,
    gateway: { state: 'failed', attention: 'PAID_AFTER_FAILED' },
  });
  expect(await attention()).toBe('PAID_AFTER_FAILED');

  const corrected = await app.call('POST', `${refund.path}/correction`, Refund, {
    body: { status: 1, reason: '渠道已打款' },
  });
  expect(corrected).toMatchObject({ status: 200, data: { status: 1 } });
  expect(await attention()).toBeUndefined();
  const rows = await app.sql`SELECT status FROM payments WHERE id = ${refund.paymentId}`;
  expect(rows).toEqual([{ status: 3 }]);
});

test('a forced failure goes on being asked about, and money that moved is pointed out without a callback', async () => {
  await world.faults({ operation: 'refund', drop: 'after' });
  const refund = await world.start('alipay');
  await app.idle();
  app.refundQueue.messages = [];
  expect(await force(refund.path, 2)).toMatchObject({ status: 200 });
  await world.pass(120);
  expect(await refund.look()).toMatchObject({
    status: 2,
    gateway: { state: 'failed', attention: 'PAID_AFTER_FAILED' },
  });
});

test('a refund whose sender died can be forced, whatever has become of the keys', async () => {
  await world.faults({ operation: 'refund', hold: 'before' });
  const refund = await world.start();
  await world.ask('GET', '/held?count=1');
  const before = { ...app.env };
  Object.assign(app.env, { WECHAT_MCHID: '1900000999' });
  try {
    await world.wait(125);
    app.refundQueue.messages.push({
      body: { payment_id: refund.paymentId, refund_no: refund.refundNo },
      dueAt: Date.now(),
      attempts: 1,
    });
    await app.deliver();
    expect(await refund.look()).toMatchObject({
      gateway: { state: 'sending', attention: 'ACCOUNT_CHANGED' },
    });
    expect(await force(refund.path, 2)).toMatchObject({ status: 200 });
  } finally {
    Object.assign(app.env, before);
  }
});
