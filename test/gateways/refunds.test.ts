/** A refund on its way to its gateway and back, with nobody touching it. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { startWorld } from './world';

const world = await startWorld();
const { app } = world;

const Polled = z.object({ poll: z.object({ step: z.number() }) });

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

test('a refund that a gateway works on is polled without the database, at growing distances', async () => {
  await world.configure({ settle: { afterMs: null, outcome: 'SUCCESS' }, callbacks: false });
  const refund = await world.start();
  await app.idle();
  const polls = () => app.refundQueue.messages.filter(({ body }) => Polled.safeParse(body).success);
  app.refundQueue.messages = polls();
  const { requests: before } = await world.books();

  const minutes: number[] = [];
  const databaseRequests = await app.databaseRequests(async () => {
    for (let poll = 1; poll <= 9; poll++) {
      const [{ dueAt } = { dueAt: Number.NaN }] = polls();
      minutes.push(Math.round((dueAt - Date.now()) / 60_000));
      vi.setSystemTime(dueAt);
      await world.ask('PUT', '', { now: Date.now() });
      await app.deliver();
    }
  });
  expect(databaseRequests).toBe(0);
  expect(minutes).toEqual([1, 1, 1, 1, 1, 5, 10, 20, 30]);
  const { requests: after } = await world.books();
  expect((after['wechat.query'] ?? 0) - (before['wechat.query'] ?? 0)).toBe(9);

  await world.settle(refund.outRefundNo, 'SUCCESS');
  await world.pass(3_600);
  expect(await refund.look()).toMatchObject({ status: 1 });
  await world.configure({ settle: { afterMs: 2_000, outcome: 'SUCCESS' }, callbacks: true });
});
