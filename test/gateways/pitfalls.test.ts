/**
 * What has broken in other systems that refund by WeChat Pay and Alipay, each by its name. None of it may
 * happen here.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { Attention } from '../../src/gateways/attention';
import { Refund } from '../../src/refunds/refund';
import { startWorld } from './world';

const world = await startWorld();
const { app } = world;

beforeEach(() => world.stopClock());
afterEach(async () => {
  await world.faults();
  await world.configure({
    settle: { afterMs: 2_000, outcome: 'SUCCESS' },
    callbacks: true,
    wechatVisibleAfterMs: 0,
    balance: null,
    alipayRefundStatus: true,
    fundChange: 'normal',
  });
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const DAY = 86_400;
const METHODS = ['wechat', 'alipay'] as const;

/** A payment, and a refund of it that has been asked for. */
async function start(payment_method: string = 'wechat', amount = '100.00') {
  const paymentId = await world.payment({ payment_method });
  const { data } = await world.refund(paymentId, amount);
  const { gateway } = data;
  if (!gateway) throw new Error('no gateway took it');
  const outRefundNo = gateway.out_refund_no;
  const path = `/payments/${paymentId}/refunds/${data.id}`;
  return {
    paymentId,
    path,
    outRefundNo,
    refund_no: data.refund_no,
    look: () => world.look(paymentId, data.id),
    book: async () =>
      (await world.books()).refunds.filter((one) => one.outRefundNo === outRefundNo),
    events: () =>
      app.sql`SELECT to_status, cause FROM payment_refund_events WHERE refund_id = ${data.id} ORDER BY id`,
  };
}

describe.each(METHODS)('%s', (method) => {
  const [cut, fault] =
    method === 'wechat'
      ? [{ drop: 'after' }, { statusAfter: 500, code: 'SYSTEM_ERROR' }]
      : [{ drop: 'after' }, { statusAfter: 200, code: 'ACQ.SYSTEM_ERROR' }];

  test.each([
    ['a lost answer', cut],
    ['SYSTEM_ERROR after it was taken', fault],
    ['an answer that does not verify', { sign: 'altered' }],
    ['an answer without a signature', { sign: 'none' }],
    ['an HTML page', { statusAfter: 502, body: '<html>Bad Gateway</html>' }],
    ['an empty body', { statusAfter: 200, body: '' }],
    ['a code that nobody knows', { statusAfter: 200, code: 'ACQ.NEVER_SEEN' }],
  ])('unknown taken as failed: %s', async (_, wrong) => {
    await world.faults({ operation: 'refund', ...wrong });
    await world.configure({ callbacks: false });
    const refund = await start(method);
    await app.idle();
    expect(await refund.look()).toMatchObject({ status: 0, gateway: { state: 'unknown' } });

    await world.pass(180);
    expect(await refund.look()).toMatchObject({ status: 1, gateway: { state: 'succeeded' } });
    expect(await refund.book()).toMatchObject([{ movedTimes: 1, moved: 10_000 }]);
  });

  test('new number on retry', async () => {
    await world.faults({ operation: 'refund', drop: 'before', times: 3 });
    const refund = await start(method);
    await world.pass(1_800);
    expect(await refund.look()).toMatchObject({ status: 1, gateway: { attempts: 4 } });
    const books = await world.books();
    const of = books.refunds.filter((one) => one.outTradeNo === refund.outRefundNo);
    expect(of).toEqual([]);
    expect(await refund.book()).toMatchObject([{ movedTimes: 1 }]);
  });

  test('hand settlement (PATCH) of a gateway refund frees money', async () => {
    await world.faults({ operation: 'refund', hold: 'after' });
    const refund = await start(method);
    const { status, code, data } = await app.call('PATCH', refund.path, z.unknown(), {
      body: { status: 2 },
    });
    expect([status, code]).toEqual([409, 40907]);
    expect(data).toHaveProperty('state');
    // An older Worker, or SQL of others.
    await expect(
      app.sql`UPDATE payment_refunds SET status = 2 WHERE refund_no = ${refund.refund_no}`,
    ).rejects.toThrow(/settle it/);
    await ask('POST', '/release');
    await world.pass(60);
    expect(await refund.look()).toMatchObject({ status: 1 });
  });

  test('a redirect followed with the signed body', async () => {
    const elsewhere = `${world.url}_elsewhere`;
    const path = method === 'wechat' ? 'wechat/v3/refund/domestic/refunds' : 'alipay/gateway.do';
    await world.faults({ operation: 'refund', redirect: `${elsewhere}/${path}` });
    const refund = await start(method);
    await app.idle();
    expect(await refund.look()).toMatchObject({ status: 0, gateway: { state: 'unknown' } });
    expect(await (await fetch(`${elsewhere}/control`)).json()).toHaveProperty('requests', {});
    await world.pass(300);
    expect(await refund.look()).toMatchObject({ status: 1 });
  });

  test('retries that end silently', async () => {
    await world.faults({ operation: 'refund', drop: 'before', times: 'always' });
    const refund = await start(method);
    await world.pass(3_600);
    await app.sql`
      UPDATE gateway_refunds SET created_at = created_at - interval '14 days'
      WHERE out_refund_no = ${refund.outRefundNo}`;
    // All messages are lost, too.
    app.refundQueue.messages = [];
    await world.pass(2 * 3_600);
    await app.merge();
    await world.settleDown();
    expect(await refund.look()).toMatchObject({ status: 0, gateway: { attention: 'OLD' } });
    await world.faults();
    await world.pass(2 * 3_600);
    expect(await refund.look()).toMatchObject({ status: 1, gateway: { attention: null } });
  });

  test('the account changed between send and query', async () => {
    await world.faults({ operation: 'refund', drop: 'after' });
    await world.configure({ callbacks: false });
    const refund = await start(method);
    await app.idle();
    const other =
      method === 'wechat'
        ? { WECHAT_MCHID: '1900000999' }
        : { ALIPAY_SELLER_ID: '2088000000000999' };
    const before = { ...app.env };
    Object.assign(app.env, other);
    await world.pass(300);
    expect(await refund.look()).toMatchObject({
      status: 0,
      gateway: { attention: 'ACCOUNT_CHANGED' },
    });
    Object.assign(app.env, before);
    await world.pass(2 * 3600);
    expect(await refund.look()).toMatchObject({ status: 1, gateway: { attention: null } });
  });

  test('a forced failure during a send', async () => {
    await world.faults({ operation: 'refund', hold: 'after' });
    const refund = await start(method);
    await held(1);
    const forced = await app.call('PATCH', refund.path, z.unknown(), {
      body: { status: 2, override_reason: '付款人已收到现金' },
    });
    expect([forced.status, forced.code]).toEqual([409, 40907]);
    await ask('POST', '/release');
    await world.pass(60);
    expect(await refund.look()).toMatchObject({ status: 1 });
  });

  test('sign text in logs, a gateway’s error text stored or logged', async () => {
    const log: string[] = [];
    for (const level of ['info', 'warn', 'error'] as const) {
      vi.spyOn(console, level).mockImplementation((line: string) => log.push(line));
    }
    await world.faults({
      operation: 'refund',
      status: method === 'wechat' ? 401 : 200,
      code: method === 'wechat' ? 'SIGN_ERROR' : 'isv.invalid-signature',
    });
    const refund = await start(method);
    await world.pass(2 * 3_600);
    expect((await refund.look()).status).toBe(1);
    const stored = await app.sql`SELECT * FROM gateway_requests`;
    const texts = `${log.join('\n')}${JSON.stringify(stored)}`;
    for (const secret of [
      'biz_content',
      'WECHATPAY2',
      'PRIVATE KEY',
      'sign=',
      'sub_msg',
      '验签',
      'signature=',
      '拍错了',
    ]) {
      expect(texts).not.toContain(secret);
    }
  });
});

const ask = world.ask;
const held = (count: number) => ask('GET', `/held?count=${count}`);

test('accepted taken as refunded', async () => {
  await world.configure({ settle: { afterMs: null, outcome: 'SUCCESS' } });
  const refund = await start();
  await world.pass(3 * 3600);
  expect(await refund.look()).toMatchObject({ status: 0, gateway: { state: 'accepted' } });
  await world.settle(refund.outRefundNo, 'SUCCESS');
  await world.pass(3 * 3600);
  expect(await refund.look()).toMatchObject({ status: 1 });
});

test('ABNORMAL taken as failed', async () => {
  await world.configure({ settle: { afterMs: 2_000, outcome: 'ABNORMAL' } });
  const refund = await start();
  await world.pass(DAY);
  expect(await refund.look()).toMatchObject({
    status: 0,
    gateway: { state: 'blocked', attention: 'ABNORMAL', attempts: 1 },
  });
  const { data } = await app.call('GET', '/gateway/attention', Attention);
  expect(data.refunds.map(({ refund }) => refund.refund_no)).toContain(refund.refund_no);
});

test('404 right after sending taken as failed', async () => {
  // With another refund of the payment, the gateway's order says nothing about this one.
  const paymentId = await world.payment();
  await world.refund(paymentId, '10.00');
  await world.pass(120);
  await world.configure({ wechatVisibleAfterMs: 30_000, callbacks: false });
  await world.faults({ operation: 'refund', statusAfter: 404, code: 'RESOURCE_NOT_EXISTS' });
  const { data: refund } = await world.refund(paymentId, '20.00');
  await world.pass(15);
  const path = `/payments/${paymentId}/refunds/${refund.id}/sync`;
  const { data: asked } = await app.call('POST', path, Refund);
  expect(asked).toMatchObject({ status: 0, gateway: { state: 'refused' } });
  await world.pass(DAY);
  expect(await world.look(paymentId, refund.id)).toMatchObject({ status: 1 });
});

test('callback before the create answer', async () => {
  await world.configure({ settle: { afterMs: 0, outcome: 'SUCCESS' } });
  await world.faults({ operation: 'refund', hold: 'after' });
  const refund = await start();
  await held(1);
  expect(await world.bringCallbacks()).toBe(1);
  expect(await refund.look()).toMatchObject({ status: 1, gateway: { state: 'succeeded' } });
  await ask('POST', '/release');
  await world.pass(60);
  expect(await refund.look()).toMatchObject({ status: 1, gateway: { attention: null } });
  expect(await refund.events()).toEqual([
    { to_status: 0, cause: null },
    { to_status: 1, cause: 'callback' },
  ]);
});

test('callback before our commit (answer 5xx: it returns)', async () => {
  const payment_no = 'P-not-there-yet';
  await world.order({ gateway: 'wechat', outTradeNo: payment_no, total: 10_000 });
  const early = await world.callback({ gateway: 'wechat', outTradeNo: payment_no });
  expect((await world.bring(early)).status).toBe(503);

  const paymentId = await world.payment({ payment_no, status: 0 });
  expect((await world.bring(early)).status).toBe(204);
  const [payment] = await app.sql`SELECT status FROM payments WHERE id = ${paymentId}`;
  expect(payment).toEqual({ status: 1 });
});

test('a callback about somebody else’s payment, which is taken when nothing has appeared for a minute', async () => {
  await world.order({ gateway: 'wechat', outTradeNo: 'P-of-another-shop', total: 10_000 });
  const other = await world.callback({ gateway: 'wechat', outTradeNo: 'P-of-another-shop' });
  expect((await world.bring(other)).status).toBe(503);
  await world.pass(61);
  expect((await world.bring(other)).status).toBe(204);
});

test('duplicate and contradictory callbacks', async () => {
  const refund = await start();
  await world.pass(60);
  const outRefundNo = refund.outRefundNo;
  const success = await world.callback({ outRefundNo, outcome: 'SUCCESS' });
  for (const _ of [1, 2]) expect((await world.bring(success)).status).toBe(204);
  const closed = await world.callback({ outRefundNo, outcome: 'CLOSED' });
  const abnormal = await world.callback({ outRefundNo, outcome: 'ABNORMAL' });
  for (const one of [closed, abnormal, closed]) expect((await world.bring(one)).status).toBe(204);
  expect(await refund.look()).toMatchObject({
    status: 1,
    gateway: { state: 'succeeded', attention: 'CONTRADICTION' },
  });
  expect(await refund.events()).toHaveLength(2);

  // Somebody asks, and the gateway says that all is well.
  vi.setSystemTime(Date.now() + 60_000);
  await world.setClock();
  const { data } = await app.call('POST', `${refund.path}/sync`, Refund);
  expect(data.gateway).toMatchObject({ state: 'succeeded', attention: null });
});

test('fen/yuan swapped, 0.1+0.2, total = remaining instead of original', async () => {
  const paymentId = await world.payment({ amount: '0.30' });
  const { data: one } = await world.refund(paymentId, '0.1');
  await world.pass(120);
  const { data: other } = await world.refund(paymentId, '0.20');
  await world.pass(120);
  const { refunds } = await world.books();
  const fen = (no: string) => refunds.find(({ outRefundNo }) => outRefundNo === no)?.fen;
  // The simulator refuses a total that is not the order's 30 fen.
  expect([fen(one.refund_no), fen(other.refund_no)]).toEqual([10, 20]);
  expect(await world.look(paymentId, other.id)).toMatchObject({ status: 1 });
});

test('payer_total compared with the price', async () => {
  const payment_no = 'P-with-a-coupon';
  await world.order({
    gateway: 'wechat',
    outTradeNo: payment_no,
    total: 10_000,
    payerTotal: 9_500,
  });
  const paymentId = await world.payment({ payment_no, status: 0 });
  await world.order({
    gateway: 'wechat',
    outTradeNo: payment_no,
    total: 10_000,
    payerTotal: 9_500,
  });
  const paid = await world.callback({ gateway: 'wechat', outTradeNo: payment_no });
  expect((await world.bring(paid)).status).toBe(204);
  const [payment] = await app.sql`SELECT status FROM payments WHERE id = ${paymentId}`;
  expect(payment).toEqual({ status: 1 });
});

test('cumulative refund_fee taken as this refund’s', async () => {
  const paymentId = await world.payment({ payment_method: 'alipay' });
  const { data: first } = await world.refund(paymentId, '30.00');
  await world.pass(60);
  await world.faults({ operation: 'refund', drop: 'before', times: 'always' });
  const { data: second } = await world.refund(paymentId, '70.00');
  const outTradeNo = first.gateway?.out_refund_no;
  const { refunds } = await world.books();
  const trade = refunds.find(({ outRefundNo }) => outRefundNo === outTradeNo)?.outTradeNo;
  const lie = await world.callback({
    gateway: 'alipay',
    kind: 'refund',
    outTradeNo: trade,
    outRefundNo: second.gateway?.out_refund_no,
    refunded: 10_000,
  });
  expect(await (await world.bring(lie)).text()).toBe('success');
  await world.pass(60);
  expect(await world.look(paymentId, second.id)).toMatchObject({ status: 0 });
  await world.faults();
  await world.pass(3_600);
  expect(await world.look(paymentId, second.id)).toMatchObject({ status: 1 });
});

test('TRADE_CLOSED of a paid payment taken as unpaid', async () => {
  const refund = await start('alipay');
  await world.pass(60);
  const [payment] = await app.sql`SELECT status FROM payments WHERE id = ${refund.paymentId}`;
  expect(payment).toEqual({ status: 3 });
  for (const status of ['TRADE_CLOSED', 'TRADE_FINISHED', 'TRADE_SUCCESS']) {
    const { refunds } = await world.books();
    const outTradeNo = refunds.find((one) => one.outRefundNo === refund.outRefundNo)?.outTradeNo;
    const told = await world.callback({ gateway: 'alipay', kind: 'payment', outTradeNo, status });
    expect(await (await world.bring(told)).text()).toBe('success');
    const [after] = await app.sql`SELECT status FROM payments WHERE id = ${refund.paymentId}`;
    expect(after).toEqual({ status: 3 });
  }
});

test('two partial refunds within a minute', async () => {
  const paymentId = await world.payment();
  const { data: first } = await world.refund(paymentId, '10.00');
  await app.idle();
  const { data: second } = await world.refund(paymentId, '20.00');
  await world.pass(30);
  expect(await world.look(paymentId, first.id)).toMatchObject({ status: 1 });
  expect(await world.look(paymentId, second.id)).toMatchObject({
    status: 0,
    gateway: { state: 'queued', attempts: 0 },
  });
  await world.pass(120);
  expect(await world.look(paymentId, second.id)).toMatchObject({
    status: 1,
    gateway: { attempts: 1 },
  });
});

test('a 429 taken as not accepted', async () => {
  await world.configure({ callbacks: false });
  await world.faults({ operation: 'refund', statusAfter: 429, code: 'FREQUENCY_LIMITED' });
  const refund = await start();
  await app.idle();
  const { requests: before } = await world.books();
  await world.pass(50);
  expect((await world.books()).requests).toEqual(before);
  expect(await refund.look()).toMatchObject({
    status: 0,
    gateway: { state: 'unknown', attempts: 1 },
  });
  await world.pass(120);
  expect(await refund.look()).toMatchObject({ status: 1, gateway: { attempts: 1 } });
  expect(await refund.book()).toMatchObject([{ sent: 1, movedTimes: 1 }]);
});

test('a query’s answer without a status taken as "not there"', async () => {
  await world.configure({ alipayRefundStatus: false, callbacks: false });
  await world.faults({ operation: 'refund', drop: 'after' });
  const refund = await start('alipay');
  await world.pass(3_600);
  expect(await refund.look()).toMatchObject({
    status: 0,
    gateway: { state: 'blocked', attention: 'REFUND_STATUS_ABSENT', attempts: 1 },
  });
  await world.configure({ alipayRefundStatus: true });
  await world.pass(2 * 3_600);
  expect(await refund.look()).toMatchObject({ status: 1, gateway: { attempts: 1 } });
});

test('another deployment’s refund under our number', async () => {
  await world.faults({ operation: 'refund', drop: 'before', times: 'always' });
  const refund = await start('wechat', '30.00');
  await app.idle();
  const { outRefundNo } = refund;
  const [row] = await app.sql`SELECT payment_no FROM payments WHERE id = ${refund.paymentId}`;
  const wishes = [
    { fen: 5_000, outTradeNo: row?.payment_no },
    { fen: 3_000, outTradeNo: 'P-of-somebody-else', total: 10_000 },
    { fen: 3_000, outTradeNo: row?.payment_no, total: 9_999 },
  ];
  for (const wish of wishes) {
    const told = await world.callback({
      gateway: 'wechat',
      outRefundNo,
      outcome: 'SUCCESS',
      ...wish,
    });
    expect((await world.bring(told)).status).toBe(204);
    expect(await refund.look()).toMatchObject({ status: 0 });
  }
});

test('a repeated notification dropped because its id is in the inbox though it was never processed', async () => {
  await world.configure({ callbacks: false, settle: { afterMs: null, outcome: 'SUCCESS' } });
  const refund = await start();
  await app.idle();
  await world.settle(refund.outRefundNo, 'SUCCESS');
  const id = 'EV-that-comes-twice';
  await app.sql`
    INSERT INTO gateway_notifications (gateway, notification_key, event, signature, body_sha256)
    VALUES ('wechat', ${id}, 'REFUND.SUCCESS', '{}', '')`;
  const told = await world.callback({ outRefundNo: refund.outRefundNo, id });
  expect((await world.bring(told)).status).toBe(204);
  expect(await refund.look()).toMatchObject({ status: 1 });
});
