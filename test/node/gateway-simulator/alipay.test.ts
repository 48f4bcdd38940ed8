/** The simulated Alipay, as its own SDK sees it. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeKeys } from '../../../dev/gateways/keys.ts';
import { type Simulator, startSimulator } from '../../../dev/gateways/simulator.ts';
import {
  bare,
  beijing,
  certificateVariables,
  fetchAlipay,
  HOUR,
  keys,
  MINUTE,
  openForm,
  SECOND,
  startWorld,
} from './client.ts';

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ keys });
});
afterAll(() => simulator.stop());

const newWorld = () => startWorld(simulator.url);

const order = { gateway: 'alipay' } as const;

test('refunds with fund_change Y, then N on a repeat, refund_fee cumulative', async () => {
  const world = newWorld();
  await world.order(order);
  const first = await world.alipayRefund();
  expect(first).toMatchObject({ code: '10000', fund_change: 'Y', refund_fee: '12.34' });
  expect(first.store_name).toBe('a/b "}" {c');
  expect(await world.alipayRefund()).toMatchObject({ fund_change: 'N', refund_fee: '12.34' });
  await world.advance(3 * SECOND);
  const second = await world.alipayRefund({ out_request_no: 'R2', refund_amount: '20' });
  expect(second).toMatchObject({ fund_change: 'Y', refund_fee: '32.34' });
  expect(await world.refund()).toMatchObject({ sent: 2, movedTimes: 1, moved: 1_234 });
});

test('answers 40002 to a timestamp in UTC, a malformed one and a wrong signature', async () => {
  const world = newWorld();
  await world.order(order);
  const content = { out_trade_no: 'ORDER0001', out_request_no: 'R1', refund_amount: '1.00' };
  const utc = beijing((await world.state()).now - 8 * HOUR);
  for (const timestamp of [utc, 'yesterday']) {
    const answer = await world.alipay('alipay.trade.refund', content, { timestamp });
    expect(answer).toMatchObject({ code: '40002', sub_code: 'isv.invalid-timestamp' });
  }
  const other = await makeKeys();
  const privateKey = bare(other.variables.ALIPAY_PRIVATE_KEY ?? '');
  const forged = await world.alipay('alipay.trade.refund', content, {}, { privateKey });
  expect(forged).toMatchObject({ code: '40002', sub_code: 'isv.invalid-signature' });
  expect((await world.state()).rejected).toHaveLength(3);
});

test('names its certificate in certificate mode, and refuses a wrong one', async () => {
  const world = newWorld();
  await world.order(order);
  const send = (appCertSn = '') =>
    fetchAlipay(world.base, world.state, {
      app_cert_sn: appCertSn,
      alipay_root_cert_sn: certificateVariables.ALIPAY_ROOT_CERT_SN ?? '',
    });
  const answer = await send(certificateVariables.ALIPAY_APP_CERT_SN);
  expect(answer).toContain(`"alipay_cert_sn":"${keys.alipay.certificates?.alipayCertSn}"`);
  await world.faults({ sign: 'unknown_serial' });
  expect(await send(certificateVariables.ALIPAY_APP_CERT_SN)).toContain(
    `"alipay_cert_sn":"${'0'.repeat(32)}"`,
  );
  expect(await send('0123')).toContain('isv.invalid-app-cert-sn');
});

test('leaves fund_change out', async () => {
  const world = newWorld();
  await world.order(order);
  await world.configure({ fundChange: 'missing' });
  expect(await world.alipayRefund()).not.toHaveProperty('fund_change');
});

test('answers DISCORDANT_REPEAT_REQUEST to the same number with another amount', async () => {
  const world = newWorld();
  await world.order(order);
  await world.alipayRefund();
  expect(await world.alipayRefund({ refund_amount: '12.35' })).toMatchObject({
    code: '40004',
    sub_code: 'ACQ.DISCORDANT_REPEAT_REQUEST',
  });
});

test('answers 20000 and ACQ.SYSTEM_ERROR, with and without having refunded', async () => {
  const world = newWorld();
  await world.order(order);
  await world.faults(
    { status: 200, code: 'isp.unknow-error' },
    { status: 200, code: 'ACQ.SYSTEM_ERROR' },
    { statusAfter: 200, code: 'aop.ACQ.SYSTEM_ERROR' },
  );
  expect(await world.alipayRefund()).toMatchObject({ code: '20000' });
  expect(await world.alipayRefund()).toMatchObject({ code: '40004' });
  expect((await world.state()).refunds).toEqual([]);
  expect(await world.alipayRefund()).toMatchObject({ sub_code: 'aop.ACQ.SYSTEM_ERROR' });
  expect(await world.refund()).toMatchObject({ movedTimes: 1 });
});

test('answers SELLER_BALANCE_NOT_ENOUGH until it is topped up', async () => {
  const world = newWorld();
  await world.order(order);
  await world.configure({ balance: 1_000 });
  const refused = { sub_code: 'ACQ.SELLER_BALANCE_NOT_ENOUGH' };
  expect(await world.alipayRefund()).toMatchObject(refused);
  await world.control('PUT', 'topup', '234');
  expect(await world.alipayRefund()).toMatchObject({ fund_change: 'Y' });
  expect((await world.state()).options.balance).toBe(0);
});

test('refuses by the state of the trade, the amount and the distance', async () => {
  const world = newWorld();
  const code = async (changes: Record<string, unknown>) =>
    (await world.alipayRefund(changes)).sub_code;
  expect(await code({})).toBe('ACQ.TRADE_NOT_EXIST');
  await world.order({ ...order, state: 'finished' });
  expect(await code({})).toBe('ACQ.TRADE_HAS_FINISHED');
  await world.order({ ...order, state: 'unpaid' });
  expect(await code({})).toBe('ACQ.TRADE_STATUS_ERROR');
  await world.order(order);
  expect(await code({ refund_amount: '100.01' })).toBe('ACQ.REFUND_AMT_NOT_EQUAL_TOTAL');
  expect(await code({ refund_amount: '0.00' })).toBe('ACQ.INVALID_PARAMETER');
  expect(await code({ refund_amount: 12.34 })).toBe('ACQ.INVALID_PARAMETER');
  expect(await code({ unknown: '1' })).toBe('ACQ.INVALID_PARAMETER');
  expect(await code({})).toBeUndefined();
  expect(await world.alipayRefund({ out_request_no: 'R2' })).toMatchObject({ code: '40005' });
});

test('shows no refund for ten seconds, nor one of an unknown number', async () => {
  const world = newWorld();
  await world.order(order);
  await world.alipayRefund();
  await world.advance(9 * SECOND);
  expect(await world.alipayQuery()).toEqual({
    code: '10000',
    msg: 'Success',
    traceId: expect.any(String),
  });
  await world.advance(SECOND);
  expect(await world.alipayQuery()).toMatchObject({
    refund_status: 'REFUND_SUCCESS',
    refund_amount: '12.34',
  });
  expect(await world.alipayQuery('R2')).not.toHaveProperty('refund_amount');
  await world.configure({ alipayRefundStatus: false });
  const found = await world.alipayQuery();
  expect(found).toMatchObject({ refund_amount: '12.34' });
  expect(found).not.toHaveProperty('refund_status');
});

test('answers an unknown caller by error_response, without signature', async () => {
  const world = newWorld();
  const answer = await fetchAlipay(world.base, world.state, { app_id: '2021000000000009' });
  expect(answer).toMatch(/^\{"error_response":\{"code":"40002"/);
  expect(answer).not.toContain('"sign"');
  await world.order(order);
  await world.faults({ sign: 'altered' });
  await expect(world.alipayRefund()).rejects.toThrow('验签失败');
});

test('notifies of partial refunds as TRADE_SUCCESS, of the whole as TRADE_CLOSED', async () => {
  const world = newWorld();
  await world.order(order);
  await world.alipayRefund();
  await world.advance(3 * SECOND);
  await world.alipayRefund({ out_request_no: 'R2', refund_amount: '87.66' });
  const [partial, whole] = (await world.due()).map(openForm);
  expect(partial).toMatchObject({
    verified: true,
    fields: {
      trade_status: 'TRADE_SUCCESS',
      out_biz_no: 'R1',
      refund_fee: '12.34',
      total_amount: '100.00',
      body: '',
      subject: 'A%2BB 测试 50%+1 & 更多',
    },
  });
  expect(whole).toMatchObject({
    verified: true,
    fields: { trade_status: 'TRADE_CLOSED', out_biz_no: 'R2', refund_fee: '100.00' },
  });
  const paid = await world.callback({ gateway: 'alipay', outTradeNo: 'ORDER0001' });
  const { fields } = openForm(paid);
  expect(fields).toMatchObject({ trade_status: 'TRADE_SUCCESS' });
  expect(fields).not.toHaveProperty('out_biz_no');
  const forged = { outRefundNo: 'R1', alter: 'body' } as const;
  expect(openForm(await world.callback(forged)).verified).toBe(false);
});

test('leaves an empty parameter out of the signed text', async () => {
  const world = newWorld();
  await world.order(order);
  await world.configure({ alipayEmptyParameter: 'unsigned' });
  await world.alipayRefund();
  const [callback] = await world.due();
  if (callback === undefined) throw new Error('no callback');
  const { fields, verified } = openForm(callback);
  expect(verified).toBe(false);
  const { body: _, ...filled } = fields;
  const form = Buffer.from(new URLSearchParams(filled).toString()).toString('base64');
  expect(openForm({ bodyBase64: form }).verified).toBe(true);
});

test('repeats from 4 minutes to 15 hours with the same notify_id until `success`', async () => {
  const world = newWorld();
  await world.order(order);
  await world.alipayRefund();
  const waits = [4 * MINUTE, 10 * MINUTE, 10 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, 15 * HOUR];
  const ids = new Set<string | undefined>();
  for (const wait of waits) {
    const [callback] = await world.due();
    if (callback === undefined) throw new Error('no callback');
    ids.add(openForm(callback).fields.notify_id);
    await world.answer(callback.id, 200, 'success\n');
    await world.advance(wait - 1);
    expect(await world.due()).toEqual([]);
    await world.advance(1);
  }
  expect(ids.size).toBe(1);
  const [last] = await world.due();
  await world.answer(last?.id ?? '', 200, 'success');
  expect((await world.state()).callbacks).toMatchObject([{ state: 'taken' }]);
});

test('never notifies of refunds where the product does not', async () => {
  const world = newWorld();
  await world.order(order);
  await world.configure({ alipayRefundNotifications: false });
  await world.alipayRefund();
  expect(await world.due()).toEqual([]);
});

test('notifies of TRADE_FINISHED after refunds, and of TRADE_CLOSED without payment', async () => {
  const world = newWorld();
  await world.order(order);
  await world.alipayRefund();
  const wish = { gateway: 'alipay', outTradeNo: 'ORDER0001' } as const;
  const finished = openForm(await world.callback({ ...wish, status: 'TRADE_FINISHED' }));
  expect(finished.fields).toMatchObject({ trade_status: 'TRADE_FINISHED' });
  await world.order({ ...order, outTradeNo: 'ORDER0002', state: 'closed' });
  const closed = openForm(await world.callback({ ...wish, outTradeNo: 'ORDER0002' }));
  expect(closed.fields).toMatchObject({ trade_status: 'TRADE_CLOSED', refund_fee: '0.00' });
  expect(closed.fields).not.toHaveProperty('gmt_payment');
});

test('shows a refund that is processing, then failed, and tells of a trade', async () => {
  const world = newWorld();
  await world.order(order);
  await world.configure({ alipayVisibleAfterMs: 0 });
  await world.faults({ outcome: 'ABNORMAL', afterMs: MINUTE });
  expect(await world.alipayRefund()).toMatchObject({ fund_change: 'N', refund_fee: '0.00' });
  expect(await world.alipayQuery()).toMatchObject({ refund_status: 'REFUND_PROCESSING' });
  await world.advance(MINUTE);
  expect(await world.alipayQuery()).toMatchObject({ refund_status: 'REFUND_FAIL' });
  expect(await world.alipay('alipay.trade.query', { out_trade_no: 'ORDER0001' })).toMatchObject({
    trade_status: 'TRADE_SUCCESS',
    total_amount: '100.00',
  });
});
