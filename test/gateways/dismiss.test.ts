/** What POST /payments/:id/attention/dismissal guarantees: it takes off the list what is over, and nothing else. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { Attention } from '../../src/gateways/attention';
import { signToken } from '../harness';
import { startWorld } from './world';

const world = await startWorld();
const { app } = world;
const anything = z.unknown();

beforeEach(() => world.stopClock());
afterEach(async () => {
  await world.faults();
  vi.useRealTimers();
});

const shown = async (paymentId: string) => {
  const { data } = await app.call('GET', '/gateway/attention', Attention);
  const ofRefunds = data.refunds.filter(({ refund }) => refund.payment_id === paymentId);
  const ofPayment = data.payments.filter((one) => one.payment_id === paymentId);
  return [...ofRefunds, ...ofPayment].map(({ attention }) => attention);
};
const dismiss = (paymentId: string, body: unknown = { reason: '已核对' }) =>
  app.call('POST', `/payments/${paymentId}/attention/dismissal`, anything, { body });

test('a contradiction that was looked into leaves the list, and the reason stays', async () => {
  const refund = await world.start();
  await world.pass(60);
  await world.bring(await world.callback({ outRefundNo: refund.outRefundNo, outcome: 'CLOSED' }));
  expect(await shown(refund.paymentId)).toEqual(['CONTRADICTION']);

  const path = `/payments/${refund.paymentId}`;
  expect(await dismiss(refund.paymentId)).toMatchObject({ status: 200, data: { dismissed: 1 } });
  expect(await shown(refund.paymentId)).toEqual([]);
  expect(await refund.look()).toMatchObject({ status: 1, gateway: { state: 'succeeded' } });
  const { data } = await app.call(
    'GET',
    `${path}/refunds`,
    z.looseObject({ list: z.array(anything) }),
  );
  expect(data.list).toMatchObject([
    {
      events: expect.arrayContaining([
        expect.objectContaining({ actor: 'tester', reason: '已核对', cause: 'person' }),
      ]),
    },
  ]);
  expect(await dismiss(refund.paymentId)).toMatchObject({ status: 200, data: { dismissed: 0 } });
});

test('a payment with another amount at its gateway leaves it, too', async () => {
  const payment_no = 'P-of-another-amount';
  const paymentId = await world.payment({ payment_no, status: 0 });
  await world.order({ gateway: 'wechat', outTradeNo: payment_no, total: 9_999 });
  await world.bring(await world.callback({ gateway: 'wechat', outTradeNo: payment_no }));
  expect(await shown(paymentId)).toEqual(['AMOUNT']);
  expect(await dismiss(paymentId)).toMatchObject({ status: 200, data: { dismissed: 1 } });
  expect(await shown(paymentId)).toEqual([]);
});

test('a refund that is still open stays on the list', async () => {
  await world.faults({ operation: 'refund', status: 403, code: 'NOT_ENOUGH' });
  const refund = await world.start();
  await app.idle();
  expect(await dismiss(refund.paymentId)).toMatchObject({ status: 200, data: { dismissed: 0 } });
  expect(await shown(refund.paymentId)).toEqual(['NOT_ENOUGH']);
});

test('takes one round trip, a reason, a payment and the scope for corrections', async () => {
  const paymentId = await world.payment();
  expect(await app.databaseRequests(() => dismiss(paymentId))).toBe(1);
  for (const body of [{}, { reason: '' }, { reason: 1 }, { reason: '已核对', more: 1 }, []]) {
    expect(await dismiss(paymentId, body)).toMatchObject({ status: 400, code: 40000 });
  }
  expect(await dismiss('9223372036854775807')).toMatchObject({ status: 404, code: 40401 });
  const token = await signToken({ scope: 'payments:read refunds:settle' });
  const reply = await app.call('POST', `/payments/${paymentId}/attention/dismissal`, anything, {
    headers: { Authorization: `Bearer ${token}` },
    body: { reason: '已核对' },
  });
  expect(reply).toMatchObject({ status: 403, data: { required_scope: 'refunds:correct' } });
});
