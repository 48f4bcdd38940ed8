/** The callbacks of the simulated WeChat Pay, verified and decrypted by an independent SDK. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CallbackWish } from '../../../dev/gateways/contract.ts';
import { type Simulator, startSimulator } from '../../../dev/gateways/simulator.ts';
import { DAY, HOUR, keys, MINUTE, open, SECOND, startWorld, variables } from './client.ts';

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ keys });
});
afterAll(() => simulator.stop());

const newWorld = () => startWorld(simulator.url);

test.each([
  ['normal', 'refund'],
  ['empty', ''],
  ['absent', undefined],
] as const)('signs and encrypts a callback, associated_data %s', async (how, aad) => {
  const world = newWorld();
  await world.order({ payerTotal: 9_000 });
  await world.configure({ associatedData: how });
  await world.wechatRefund();
  await world.advance(2 * SECOND);
  const [callback] = await world.due();
  if (callback === undefined) throw new Error('no callback');
  expect(callback.path).toBe('/callbacks/wechat');
  expect(open(callback)).toMatchObject({
    event: 'REFUND.SUCCESS',
    verified: true,
    aad,
    plain: {
      out_refund_no: 'R1',
      refund_status: 'SUCCESS',
      amount: { refund: 1_234, total: 10_000, payer_total: 9_000, payer_refund: 1_110 },
    },
  });
});

test('calls back before it answers, and about a number that was not sent yet', async () => {
  const world = newWorld();
  await world.order();
  await world.configure({ settle: { afterMs: 0, outcome: 'SUCCESS' } });
  const early = await world.callback({ outRefundNo: 'R1', outTradeNo: 'ORDER0001', fen: 1_234 });
  expect(open(early)).toMatchObject({ verified: true, plain: { out_refund_no: 'R1' } });
  await world.faults({ hold: 'after' });
  const held = world.wechatRefund();
  await world.control('GET', 'control/held?count=1');
  expect(await world.due()).toMatchObject([{ event: 'REFUND.SUCCESS', attempt: 1 }]);
  await world.control('POST', 'control/release');
  expect(JSON.parse((await held).raw)).toMatchObject({ status: 'SUCCESS' });
});

test('calls back twice, and against its own books', async () => {
  const world = newWorld();
  await world.order();
  await world.faults({ outcome: 'SUCCESS' });
  await world.wechatRefund();
  const wish: CallbackWish = { outRefundNo: 'R1', outcome: 'ABNORMAL', id: 'SAME', repeat: true };
  await world.callback({ ...wish, twice: true });
  const due = await world.due();
  expect(due.map(({ event }) => event)).toEqual([
    'REFUND.SUCCESS',
    'REFUND.ABNORMAL',
    'REFUND.ABNORMAL',
  ]);
  expect(due.slice(1).map((one) => open(one).id)).toEqual(['SAME', 'SAME']);
  expect(await world.refund()).toMatchObject({ state: 'SUCCESS', movedTimes: 1 });
});

test('repeats 15 times in 24 hours and 4 minutes, then never', async () => {
  const world = newWorld();
  await world.order();
  await world.wechatRefund();
  await world.advance(2 * SECOND);
  const waits = [
    ...[15 * SECOND, 15 * SECOND, 30 * SECOND, 3 * MINUTE, 10 * MINUTE, 20 * MINUTE],
    ...[30 * MINUTE, 30 * MINUTE, 30 * MINUTE, HOUR],
    ...[3 * HOUR, 3 * HOUR, 3 * HOUR, 6 * HOUR, 6 * HOUR],
  ];
  expect(waits.reduce((sum, wait) => sum + wait)).toBe(DAY + 4 * MINUTE);
  const ids = new Set<string>();
  for (const [index, wait] of [...waits, DAY].entries()) {
    const [callback] = await world.due();
    if (callback === undefined) throw new Error(`no attempt ${index + 1}`);
    expect(callback.attempt).toBe(index + 1);
    expect(open(callback).verified).toBe(true);
    ids.add(open(callback).id);
    await world.answer(callback.id, 503);
    await world.advance(wait);
  }
  expect(ids.size).toBe(1);
  expect(await world.due()).toEqual([]);
  expect((await world.state()).callbacks).toMatchObject([{ state: 'given up' }]);
});

test('takes an answer after five seconds for none, and stops after a 204', async () => {
  const world = newWorld();
  await world.order();
  await world.wechatRefund();
  await world.advance(2 * SECOND);
  await world.due();
  await world.advance(5 * SECOND);
  expect(await world.due()).toEqual([]);
  await world.advance(15 * SECOND);
  const [again] = await world.due();
  await world.answer(again?.id ?? '', 204);
  expect((await world.advance(DAY)).callbacks).toMatchObject([
    { state: 'taken', attempts: [{ status: null }, { status: 204 }] },
  ]);
});

test('never calls back where callbacks are off', async () => {
  const world = newWorld();
  await world.order();
  await world.configure({ callbacks: false });
  await world.wechatRefund();
  await world.advance(2 * DAY);
  expect(await world.due()).toEqual([]);
  expect(await world.refund()).toMatchObject({ state: 'SUCCESS' });
});

test('makes probes, forgeries, the self-test, an unknown event and XML', async () => {
  const world = newWorld();
  await world.order();
  await world.wechatRefund();
  await world.callback({ outRefundNo: 'R1', alter: 'probe', repeat: true });
  const [probe] = await world.due();
  expect(probe?.headers['Wechatpay-Signature']).toMatch(/^WECHATPAY\/SIGNTEST\//);
  await world.answer(probe?.id ?? '', 401);
  expect((await world.state()).callbacks).toMatchObject([
    { state: 'given up', attempts: [{ status: 401 }] },
  ]);
  for (const alter of ['body', 'signature', 'unknown_serial'] as const) {
    expect(open(await world.callback({ outRefundNo: 'R1', alter })).verified).toBe(false);
  }
  const cut = await world.callback({ outRefundNo: 'R1', alter: 'ciphertext' });
  expect(() => open(cut)).toThrow();
  const foreign = open(await world.callback({ outRefundNo: 'R1', alter: 'mchid' }));
  expect(foreign.verified).toBe(true);
  expect(foreign.plain.mchid).not.toBe(variables.WECHAT_MCHID);
  expect(open(await world.callback({ kind: 'echo' })).event).toBe('SECURITY_ECHO.SUCCESS');
  expect(open(await world.callback({ kind: 'unknown' })).verified).toBe(true);
  const xml = await world.callback({ kind: 'xml' });
  expect(Buffer.from(xml.bodyBase64, 'base64').toString()).toMatch(/^<xml>/);
});
