/** The simulated WeChat Pay, as an independent SDK sees it. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { Rsa } from 'wechatpay-axios-plugin';
import { type Simulator, startSimulator } from '../../../dev/gateways/simulator.ts';
import {
  CERTIFICATE,
  DAY,
  isSigned,
  keys,
  MINUTE,
  open,
  PUBLIC_KEY_ID,
  REFUND,
  SECOND,
  startWorld,
  variables,
  verifyKeys,
} from './client.ts';

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ keys });
});
afterAll(() => simulator.stop());

const newWorld = () => startWorld(simulator.url);

test('takes a signed refund, and signs the answer', async () => {
  const world = newWorld();
  await world.order();
  const answer = await world.wechatRefund();
  expect(answer).toMatchObject({ http: 200, out_refund_no: 'R1' });
  expect(JSON.parse(answer.raw)).toMatchObject({
    status: 'PROCESSING',
    amount: { refund: 1_234, total: 10_000 },
  });
  expect(answer.headers.get('Request-Id')).toMatch(/-\d+$/);
  expect(isSigned(answer.headers, answer.raw)).toBe(true);
});

test.each([
  ['a body that was changed', { body: JSON.stringify({ ...REFUND, reason: '别的' }) }],
  ['another merchant', { mchid: '1900000002' }],
  ['another serial', { serial: 'ABCDEF' }],
  ['a timestamp that is 301 seconds old', { ago: 301 }],
])('answers 401 SIGN_ERROR to %s', async (_, spoil) => {
  const world = newWorld();
  await world.order();
  const answer = await world.wechatRefund({}, spoil);
  expect(answer).toMatchObject({ http: 401, code: 'SIGN_ERROR' });
  expect(isSigned(answer.headers, answer.raw)).toBe(true);
  const { rejected, refunds } = await world.state();
  expect(rejected).toEqual([{ gateway: 'wechat', operation: 'refund', code: 'SIGN_ERROR' }]);
  expect(refunds).toEqual([]);
});

test.each<[string, Record<string, unknown>]>([
  ['an unknown field', { sub_mchid: '1' }],
  ['an amount that is a string', { amount: { ...REFUND.amount, refund: '1234' } }],
  ['an amount that is no integer', { amount: { ...REFUND.amount, refund: 12.34 } }],
  ['no currency', { amount: { refund: 1, total: 10_000 } }],
  ['a reason of 81 bytes', { reason: '字'.repeat(27) }],
  ['a character of four bytes', { reason: '🎁' }],
  ['a notify_url with a query', { notify_url: 'https://a.test/?x=1' }],
  ['both numbers of the order', { transaction_id: '42' }],
  ['a number with a dot', { out_refund_no: 'R.1' }],
])('answers 400 PARAM_ERROR to %s', async (_, changes) => {
  const world = newWorld();
  await world.order();
  expect(await world.wechatRefund(changes)).toMatchObject({ http: 400, code: 'PARAM_ERROR' });
});

test('moves money once for the same number, however often it is sent', async () => {
  const world = newWorld();
  await world.order();
  const first = await world.wechatRefund();
  await world.advance(2 * SECOND);
  const second = await world.wechatRefund();
  expect(JSON.parse(second.raw)).toMatchObject({
    status: 'SUCCESS',
    refund_id: JSON.parse(first.raw).refund_id,
  });
  expect(await world.refund()).toMatchObject({ sent: 2, movedTimes: 1, moved: 1_234 });
});

test('answers 400 INVALID_REQUEST to another amount, a wrong total and too much', async () => {
  const world = newWorld();
  await world.order();
  await world.configure({ wechatGap: 'off' });
  await world.wechatRefund();
  const refused = { http: 400, code: 'INVALID_REQUEST' };
  const amount = (refund: number, total = 10_000) => ({
    amount: { refund, total, currency: 'CNY' },
  });
  expect(await world.wechatRefund(amount(1_235))).toMatchObject(refused);
  const other = { out_refund_no: 'R2' };
  expect(await world.wechatRefund({ ...other, ...amount(1, 8_766) })).toMatchObject(refused);
  expect(await world.wechatRefund({ ...other, ...amount(8_767) })).toMatchObject(refused);
  expect(await world.wechatRefund({ ...other, ...amount(8_766) })).toMatchObject({ http: 200 });
});

test('answers 400 INVALID_REQUEST to the 51st refund, and after 365 days', async () => {
  const world = newWorld();
  await world.order();
  await world.configure({ wechatGap: 'off' });
  const amount = { refund: 1, total: 10_000, currency: 'CNY' };
  for (let count = 1; count <= 50; count++) {
    const answer = await world.wechatRefund({ out_refund_no: `R${count}`, amount });
    expect(answer.http).toBe(200);
  }
  const refused = { http: 400, code: 'INVALID_REQUEST' };
  expect(await world.wechatRefund({ out_refund_no: 'R51', amount })).toMatchObject(refused);

  await world.order({ outTradeNo: 'ORDER0002' });
  await world.advance(365 * DAY + SECOND);
  expect(
    await world.wechatRefund({ out_trade_no: 'ORDER0002', out_refund_no: 'R52' }),
  ).toMatchObject(refused);
});

test('takes another refund of the order only after a minute', async () => {
  const world = newWorld();
  await world.order();
  await world.wechatRefund();
  const other = { out_refund_no: 'R2' };
  expect(await world.wechatRefund(other)).toMatchObject({ code: 'INVALID_REQUEST' });
  await world.advance(MINUTE);
  expect(await world.wechatRefund(other)).toMatchObject({ http: 200 });
});

test('answers 404 RESOURCE_NOT_EXISTS for unknown and unpaid orders', async () => {
  const world = newWorld();
  const refused = { http: 404, code: 'RESOURCE_NOT_EXISTS' };
  expect(await world.wechatRefund()).toMatchObject(refused);
  await world.order({ state: 'unpaid' });
  expect(await world.wechatRefund()).toMatchObject(refused);
  await world.configure({ anyOrder: true });
  expect(await world.wechatRefund({ out_trade_no: 'ORDER0002' })).toMatchObject({ http: 200 });
});

test('answers NOT_ENOUGH until it is topped up, and USER_ACCOUNT_ABNORMAL for a void account', async () => {
  const world = newWorld();
  await world.order();
  await world.control('PUT', 'next', 'NOT_ENOUGH');
  expect(await world.wechatRefund()).toMatchObject({ http: 403, code: 'NOT_ENOUGH' });
  expect(await world.wechatRefund()).toMatchObject({ http: 403, code: 'NOT_ENOUGH' });
  await world.control('PUT', 'topup');
  expect(await world.wechatRefund()).toMatchObject({ http: 200 });
  await world.order({ outTradeNo: 'ORDER0002', payerReachable: false });
  expect(
    await world.wechatRefund({ out_trade_no: 'ORDER0002', out_refund_no: 'R2' }),
  ).toMatchObject({ http: 403, code: 'USER_ACCOUNT_ABNORMAL' });
});

test('answers SYSTEM_ERROR with and without having accepted', async () => {
  const world = newWorld();
  await world.order();
  await world.faults({ status: 500, code: 'SYSTEM_ERROR' }, { statusAfter: 500 });
  const broken = { http: 500, code: 'SYSTEM_ERROR' };
  expect(await world.wechatRefund()).toMatchObject(broken);
  expect((await world.state()).refunds).toEqual([]);
  expect(await world.wechatRefund()).toMatchObject(broken);
  expect(await world.refund()).toMatchObject({ state: 'PROCESSING', sent: 1 });
});

test('cuts the connection before or after accepting, and holds an answer', async () => {
  const world = newWorld();
  await world.order();
  await world.faults({ drop: 'before' }, { drop: 'after' }, { hold: 'after' });
  await expect(world.wechatRefund()).rejects.toThrow();
  expect((await world.state()).refunds).toEqual([]);
  await expect(world.wechatRefund()).rejects.toThrow();
  expect(await world.refund()).toMatchObject({ sent: 1 });
  const held = world.wechatRefund();
  await world.control('GET', 'control/held?count=1');
  expect(await world.refund()).toMatchObject({ sent: 2 });
  await world.control('POST', 'control/release');
  expect(await held).toMatchObject({ http: 200 });
});

test('answers 429 for ten seconds, with and without having accepted', async () => {
  const world = newWorld();
  await world.order();
  const busy = { code: 'FREQUENCY_LIMITED', forMs: 10 * SECOND };
  await world.faults({ status: 429, ...busy }, { statusAfter: 429, ...busy });
  expect(await world.wechatRefund()).toMatchObject({ http: 429, code: 'FREQUENCY_LIMITED' });
  expect((await world.state()).refunds).toEqual([]);
  await world.advance(10 * SECOND);
  expect(await world.wechatRefund()).toMatchObject({ http: 429 });
  expect(await world.refund()).toMatchObject({ state: 'PROCESSING' });
  await world.advance(10 * SECOND);
  expect(await world.wechatRefund()).toMatchObject({ http: 200 });
});

test('answers 429 after six failures in a second, and to a repeat within the minute', async () => {
  const world = newWorld();
  await world.configure({ failingPerSecond: 6 });
  for (let count = 0; count < 6; count++) {
    expect(await world.wechatRefund()).toMatchObject({ http: 404 });
  }
  expect(await world.wechatRefund()).toMatchObject({ http: 429 });
  await world.advance(SECOND);
  await world.order();
  await world.configure({ wechatGap: 'requests' });
  expect(await world.wechatRefund()).toMatchObject({ http: 200 });
  expect(await world.wechatRefund()).toMatchObject({ http: 429 });
  await world.advance(MINUTE);
  expect(await world.wechatRefund()).toMatchObject({ http: 200 });
});

test.each(['SUCCESS', 'ABNORMAL', 'CLOSED'] as const)(
  'shows PROCESSING, then %s after the set time',
  async (outcome) => {
    const world = newWorld();
    await world.order();
    await world.configure({ settle: { afterMs: DAY, outcome } });
    await world.wechatRefund();
    await world.advance(DAY - 1);
    expect(JSON.parse((await world.wechatQuery()).raw)).toMatchObject({ status: 'PROCESSING' });
    await world.advance(1);
    const found = JSON.parse((await world.wechatQuery()).raw);
    expect(found).toMatchObject({ status: outcome });
    expect('success_time' in found).toBe(outcome === 'SUCCESS');
    const [callback] = await world.due();
    expect(callback?.event).toBe(`REFUND.${outcome}`);
    expect(await world.refund()).toMatchObject({ movedTimes: outcome === 'SUCCESS' ? 1 : 0 });
  },
);

test('decrypts the card of an abnormal refund, and goes on', async () => {
  const world = newWorld();
  await world.order();
  await world.faults({ outcome: 'ABNORMAL' });
  await world.wechatRefund();
  const { refundId } = await world.refund();
  const path = `/v3/refund/domestic/refunds/${refundId}/apply-abnormal-refund`;
  const encrypt = (text: string) => Rsa.encrypt(text, verifyKeys[PUBLIC_KEY_ID] ?? '');
  const body = {
    out_refund_no: 'R1',
    type: 'USER_BANK_CARD',
    bank_type: 'ICBC_DEBIT',
    bank_account: encrypt('6222020000000000'),
    real_name: encrypt('张三'),
  };
  const answer = await world.wechat('POST', path, body, { key: PUBLIC_KEY_ID });
  expect(JSON.parse(answer.raw)).toMatchObject({ status: 'PROCESSING' });
  expect((await world.refund()).payout).toEqual({
    type: 'USER_BANK_CARD',
    bankAccount: '6222020000000000',
    realName: '张三',
  });
  await world.advance(2 * SECOND);
  expect(await world.refund()).toMatchObject({ state: 'SUCCESS', movedTimes: 1 });
});

test('finds no refund of an unknown number, nor one that is not visible yet', async () => {
  const world = newWorld();
  await world.order();
  await world.configure({ wechatVisibleAfterMs: 5 * SECOND });
  const missing = { http: 404, code: 'RESOURCE_NOT_EXISTS' };
  await world.wechatRefund();
  expect(await world.wechatQuery()).toMatchObject(missing);
  await world.advance(5 * SECOND);
  expect(await world.wechatQuery()).toMatchObject({ http: 200 });
  expect(await world.wechatQuery('R2')).toMatchObject(missing);
});

test('spoils the signature of an answer in four ways', async () => {
  const world = newWorld();
  await world.order();
  const now = Math.floor((await world.state()).now / SECOND);
  await world.faults(
    { sign: 'none' },
    { sign: 'stale' },
    { sign: 'altered' },
    { sign: 'unknown_serial' },
  );
  const unsigned = await world.wechatRefund();
  expect(unsigned.headers.get('Wechatpay-Signature')).toBeNull();
  const stale = await world.wechatRefund();
  expect(isSigned(stale.headers, stale.raw)).toBe(true);
  expect(Number(stale.headers.get('Wechatpay-Timestamp'))).toBe(now - 3_600);
  const altered = await world.wechatRefund();
  expect(isSigned(altered.headers, altered.raw)).toBe(false);
  expect(JSON.parse(altered.raw)).toMatchObject({ status: 'SUCCESS' });
  const unknown = await world.wechatRefund();
  expect(verifyKeys[unknown.headers.get('Wechatpay-Serial') ?? '']).toBeUndefined();
});

test('answers by the key that the request names, callbacks by the share', async () => {
  const world = newWorld();
  await world.order();
  for (const key of [PUBLIC_KEY_ID, CERTIFICATE]) {
    const { headers, raw } = await world.wechatRefund({}, { key });
    expect(headers.get('Wechatpay-Serial')).toBe(key);
    expect(isSigned(headers, raw)).toBe(true);
  }
  expect(await world.wechatRefund({}, { key: 'PUB_KEY_ID_0' })).toMatchObject({ http: 400 });
  await world.configure({ newKeyShare: 0.5 });
  const serials = [];
  for (let count = 0; count < 4; count++) {
    serials.push(open(await world.callback({ outRefundNo: 'R1' })).serial);
  }
  expect(serials.filter((serial) => serial === PUBLIC_KEY_ID)).toHaveLength(2);
  expect(serials.filter((serial) => serial === CERTIFICATE)).toHaveLength(2);
});

test('tells of a payment, queries it, and closes one that is unpaid', async () => {
  const world = newWorld();
  await world.order({ payerTotal: 9_500 });
  const payment = open(await world.callback({ outTradeNo: 'ORDER0001' }));
  expect(payment).toMatchObject({
    event: 'TRANSACTION.SUCCESS',
    plain: { trade_state: 'SUCCESS', amount: { total: 10_000, payer_total: 9_500 } },
  });
  const path = `/v3/pay/transactions/out-trade-no/ORDER0001?mchid=${variables.WECHAT_MCHID}`;
  expect(await world.wechat('GET', path)).toMatchObject({ trade_state: 'SUCCESS' });
  await world.wechatRefund();
  expect(await world.wechat('GET', path)).toMatchObject({ trade_state: 'REFUND' });

  await world.order({ outTradeNo: 'ORDER0002', state: 'unpaid' });
  const close = '/v3/pay/transactions/out-trade-no/ORDER0002/close';
  const answer = await world.wechat('POST', close, { mchid: variables.WECHAT_MCHID });
  expect(answer.http).toBe(204);
  expect(isSigned(answer.headers, '')).toBe(true);
});

test('redirects, and answers what is not WeChat Pay’s', async () => {
  const world = newWorld();
  await world.order();
  await world.faults({ redirect: 'https://elsewhere.test/' }, { status: 502, body: '<html>' });
  expect((await world.wechatRefund()).http).toBe(307);
  expect(await world.wechatRefund()).toMatchObject({ http: 502, raw: '<html>' });
});
