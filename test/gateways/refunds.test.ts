/** A refund on its way to its gateway and back, with nobody touching it. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { startWorld } from './world';

const world = await startWorld();

beforeEach(() => world.stopClock());
afterEach(async () => {
  vi.useRealTimers();
  await world.faults();
});

describe.each(['wechat', 'alipay'])('a refund by %s', (payment_method) => {
  test('is sent, and succeeds by itself', async () => {
    const paymentId = await world.payment({ payment_method });
    const { status, data } = await world.refund(paymentId);
    expect(status).toBe(201);
    expect(data).toMatchObject({ status: 0, gateway: { name: payment_method, state: 'queued' } });
    await world.pass(120);
    expect(await world.look(paymentId, data.id)).toMatchObject({
      status: 1,
      gateway: { state: 'succeeded', attempts: 1, next_attempt_at: null, attention: null },
    });
    const { refunds, rejected } = await world.books();
    expect(rejected).toEqual([]);
    expect(refunds.find(({ outRefundNo }) => outRefundNo === data.refund_no)).toMatchObject({
      moved: 10_000,
      movedTimes: 1,
      sent: 1,
    });
  });
});
