/**
 * What POST /callbacks/:gateway guarantees. Nothing is believed that is not signed. What is believed is kept and
 * done in one database request. The gateway reads the words that make it come again or stay away.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { PaymentDetail } from '../../src/payments/detail';
import { type Posted, startWorld } from './world';

const world = await startWorld();
const { app } = world;

beforeEach(() => world.stopClock());
afterEach(async () => {
  await app.faults();
  await world.faults();
  await app.idle();
  app.refundQueue.messages = [];
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** What the gateway reads of each answer: status, type and body. */
const WORDS = {
  wechat: {
    taken: [204, null, ''],
    refused: [401, 'application/json', '{"code":"FAIL","message":"回调未通过校验"}'],
    tooLarge: [413, 'application/json', '{"code":"FAIL","message":"回调内容过大"}'],
    again: [503, 'application/json', '{"code":"FAIL","message":"暂时无法处理，请稍后重试"}'],
  },
  alipay: {
    taken: [200, 'text/plain', 'success'],
    refused: [400, 'text/plain', 'fail'],
    tooLarge: [413, 'text/plain', 'fail'],
    again: [503, 'text/plain', 'fail'],
  },
} as const;
const GATEWAYS = ['wechat', 'alipay'] as const;

async function words(response: Response) {
  return [response.status, response.headers.get('Content-Type'), await response.text()];
}

const bring = async (posted: Posted, env?: Record<string, string>) =>
  words(await world.bring(posted, env));

let numbers = 0;
const newNumber = () => {
  numbers += 1;
  return `P-callbacks-${numbers}`;
};

/** A payment that waits to be paid, and the callback that says that it is. */
async function unpaid(
  gateway: 'wechat' | 'alipay',
  wish: Record<string, unknown> = {},
  status = 0,
) {
  const payment_no = newNumber();
  const paymentId = await world.payment({
    payment_no,
    payment_method: gateway,
    status,
    payment_time: null,
  });
  const callback = await world.callback({ gateway, outTradeNo: payment_no, ...wish });
  return { paymentId, payment_no, callback };
}

const statusOf = async (paymentId: string) => {
  const rows = await app.sql`SELECT status FROM payments WHERE id = ${paymentId}`;
  return z.tuple([z.object({ status: z.number() })]).parse(rows)[0].status;
};

/** What is kept beside the payment. */
const noted = async (paymentId: string) =>
  (
    await app.sql`SELECT trade_no, account, attention FROM gateway_payments WHERE payment_id = ${paymentId}`
  )[0];

const inbox = async (key: string) =>
  (
    await app.sql`
      SELECT event, serial, signature, encode(body, 'hex') AS body, body_sha256, out_trade_no, out_refund_no,
        payment_id::text, deliveries, result, processed_at IS NOT NULL AS processed
      FROM gateway_notifications WHERE notification_key = ${key}`
  )[0];

const detail = async (paymentId: string, headers = {}) =>
  (await app.call('GET', `/payments/${paymentId}`, PaymentDetail, { headers })).data;

const post = (path: string, body: string | Uint8Array, headers = {}) =>
  app.send('POST', path, { body, headers: { Authorization: undefined, ...headers } });

describe.each(GATEWAYS)('%s', (gateway) => {
  const expected = WORDS[gateway];

  test('is believed by its signature, without a token', async () => {
    const { paymentId, callback } = await unpaid(gateway);
    expect(await bring(callback)).toEqual(expected.taken);
    expect(await statusOf(paymentId)).toBe(1);
  });

  test('is answered 413 for a body of more than 64 KiB, before anything is looked at', async () => {
    const requests = await app.databaseRequests(async () => {
      const limit = new Uint8Array(64 * 1024);
      expect(await words(await post(`/callbacks/${gateway}`, limit))).toEqual(expected.refused);
      const more = new Uint8Array(64 * 1024 + 1);
      expect(await words(await post(`/callbacks/${gateway}`, more))).toEqual(expected.tooLarge);
    });
    expect(requests).toBe(0);
  });

  test.each([
    ['nothing', ''],
    ['an object', '{}'],
    ['a form', 'a=b'],
    ['broken percent-encoding', 'sign=%&%zz=%c3%28&sign_type=RSA2'],
    ['bytes that are no text', new Uint8Array([0xff, 0xfe, 0, 0x80])],
    ['much nesting', '['.repeat(30_000)],
    ['many parameters', 'a=1&'.repeat(10_000)],
  ])('is refused with %s for a body, and without a signature', async (_, body) => {
    expect(
      await app.databaseRequests(async () => {
        expect(await words(await post(`/callbacks/${gateway}`, body))).toEqual(expected.refused);
      }),
    ).toBe(0);
  });

  test.each(
    gateway === 'wechat'
      ? ([
          ...['body', 'signature', 'ciphertext', 'stale', 'unknown_serial', 'probe'],
          ...['mchid', 'appid'],
        ] as const)
      : (['body', 'signature', 'app_id', 'seller_id'] as const),
  )('is refused without asking the database: %s', async (alter) => {
    const { paymentId, callback } = await unpaid(gateway, { alter });
    expect(
      await app.databaseRequests(async () => {
        expect(await bring(callback)).toEqual(expected.refused);
      }),
    ).toBe(0);
    expect(await statusOf(paymentId)).toBe(0);
  });

  test('takes one database request', async () => {
    // What sweeps now sweeps for the next ten minutes.
    await bring(await world.callback({ gateway: 'wechat', kind: 'echo' }));
    await app.idle();
    const { callback } = await unpaid(gateway);
    for (const _ of ['first', 'repeated']) {
      const requests = await app.databaseRequests(async () => {
        expect(await bring(callback)).toEqual(expected.taken);
        await app.idle();
      });
      expect(requests).toBe(1);
    }
  });

  test('is kept as it came, byte for byte, once, and counted', async () => {
    const id = `EV-kept-of-${gateway}`;
    const { paymentId, payment_no, callback } = await unpaid(gateway, { id });
    const bytes = Uint8Array.fromBase64(callback.bodyBase64);
    for (const _ of [1, 2, 3]) expect(await bring(callback)).toEqual(expected.taken);
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)).toHex();
    expect(await inbox(id)).toMatchObject({
      body: bytes.toHex(),
      body_sha256: hash,
      out_trade_no: payment_no,
      out_refund_no: null,
      payment_id: paymentId,
      deliveries: 3,
      processed: true,
    });
    const { callbacks, callbacks_total } = await detail(paymentId);
    expect(callbacks_total).toBe(1);
    expect(callbacks).toMatchObject([{ callback_no: id, status: 1 }]);
  });

  test('that comes ten times at once is done once', async () => {
    const id = `EV-at-once-of-${gateway}`;
    const { paymentId, callback } = await unpaid(gateway, { id });
    const answers = await Promise.all(Array.from({ length: 10 }, () => bring(callback)));
    expect(answers).toEqual(Array(10).fill(expected.taken));
    expect(await inbox(id)).toMatchObject({ deliveries: 10, processed: true });
    expect((await detail(paymentId)).callbacks).toHaveLength(1);
  });

  test('makes a payment paid, with the gateway’s number and its account', async () => {
    const { paymentId, callback } = await unpaid(gateway, { tradeNo: '4200001234567890' });
    await bring(callback);
    expect(await noted(paymentId)).toEqual({
      trade_no: '4200001234567890',
      account:
        gateway === 'wechat'
          ? world.env.WECHAT_MCHID
          : `${world.env.ALIPAY_APP_ID}/${world.env.ALIPAY_SELLER_ID}`,
      attention: null,
    });
    const { status, payment_time } = await detail(paymentId);
    expect(status).toBe(1);
    expect(Date.parse(payment_time ?? '')).toBeCloseTo(Date.now(), -4);
  });

  test('makes a payment paid that had been given up, and points it out', async () => {
    const { paymentId, callback } = await unpaid(gateway, {}, 2);
    expect(await bring(callback)).toEqual(expected.taken);
    expect(await statusOf(paymentId)).toBe(1);
    expect(await noted(paymentId)).toMatchObject({ attention: 'PAID_AFTER_CLOSED' });
  });

  test.each([9_999, 10_001, 1_000_000])(
    'with another amount, %i fen, moves nothing, and is pointed out',
    async (total) => {
      const { paymentId, callback } = await unpaid(gateway, { total });
      expect(await bring(callback)).toEqual(expected.taken);
      expect(await statusOf(paymentId)).toBe(0);
      expect(await noted(paymentId)).toEqual({
        trade_no: null,
        account: null,
        attention: 'AMOUNT',
      });
    },
  );

  test('says nothing about a payment by another method with its number', async () => {
    const payment_method = gateway === 'wechat' ? 'alipay' : 'wechat';
    const payment_no = newNumber();
    const paymentId = await world.payment({ payment_no, payment_method, status: 0 });
    const callback = await world.callback({ gateway, outTradeNo: payment_no, total: 10_000 });
    expect(await bring(callback)).toEqual(expected.again);
    expect(await statusOf(paymentId)).toBe(0);
    expect(await noted(paymentId)).toBeUndefined();
  });

  test('finds the payment by the number that the gateway was given for it', async () => {
    const { paymentId, payment_no, callback } = await unpaid(gateway);
    await app.sql`INSERT INTO gateway_payments (payment_id, out_trade_no) VALUES (${paymentId}, ${`${payment_no}-x`})`;
    // Its own number is another payment's there.
    expect(await bring(callback)).toEqual(expected.again);
    expect(await statusOf(paymentId)).toBe(0);
    const named = await world.callback({ gateway, outTradeNo: `${payment_no}-x`, total: 10_000 });
    expect(await bring(named)).toEqual(expected.taken);
    expect(await statusOf(paymentId)).toBe(1);
  });

  test('empties the cache of the payment’s detail', async () => {
    // One that waits to be paid is never cached.
    const { paymentId, callback } = await unpaid(gateway, {}, 2);
    for (const cache of ['fwd=miss', 'hit']) {
      const reply = await app.call('GET', `/payments/${paymentId}`, PaymentDetail);
      expect(reply.headers.get('Cache-Status')).toContain(cache);
      expect(reply.data.status).toBe(2);
      await app.idle();
    }
    // KV takes one write a second.
    vi.setSystemTime(Date.now() + 1_000);
    await bring(callback);
    await app.idle();
    expect(await detail(paymentId)).toMatchObject({ status: 1, callbacks_total: 1 });
  });

  test.each([
    ['is down', { drop: 'before', times: 'always' }],
    ['refuses', { status: 503, times: 'always' }],
  ] as const)('comes again where the database %s', async (_, fault) => {
    const { paymentId, callback } = await unpaid(gateway);
    await app.faults(fault);
    expect(await bring(callback)).toEqual(expected.again);
    await app.faults();
    expect(await statusOf(paymentId)).toBe(0);
    expect(await bring(callback)).toEqual(expected.taken);
    expect(await statusOf(paymentId)).toBe(1);
  });

  test('whose answer was lost is processed once', async () => {
    const id = `EV-lost-of-${gateway}`;
    const { paymentId, callback } = await unpaid(gateway, { id });
    await app.faults({ drop: 'after', times: 'always' });
    expect(await bring(callback)).toEqual(expected.again);
    await app.faults();
    expect(await statusOf(paymentId)).toBe(1);
    expect(await bring(callback)).toEqual(expected.taken);
    expect((await detail(paymentId)).callbacks).toHaveLength(1);
  });

  test('is answered within its five seconds while the database is slow', async () => {
    const { paymentId, callback } = await unpaid(gateway);
    const limits: number[] = [];
    const deadline = new AbortController();
    vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
      limits.push(ms);
      return deadline.signal;
    });
    await app.faults({ hold: 'before' });
    const answering = bring(callback);
    await app.held(1);
    deadline.abort(new DOMException('', 'TimeoutError'));
    expect(await answering).toEqual(expected.again);
    expect(limits).toHaveLength(1);
    expect(limits[0]).toBeLessThan(4_500);
    vi.restoreAllMocks();
    expect(await statusOf(paymentId)).toBe(0);
    expect(await bring(callback)).toEqual(expected.taken);
  });

  test('is answered in its words where it, or the whole deployment, is not configured', async () => {
    const { paymentId, callback } = await unpaid(gateway);
    const own: Record<string, string> =
      gateway === 'wechat' ? { WECHAT_MCHID: '' } : { ALIPAY_APP_ID: '' };
    for (const env of [own, { DATABASE_URL: '' }]) {
      expect(await bring(callback, env)).toEqual(expected.again);
    }
    expect(await statusOf(paymentId)).toBe(0);
    // Refunds of before are followed, so a gateway that is not in GATEWAYS is listened to.
    expect(await bring(callback, { GATEWAYS: '' })).toEqual(expected.taken);
  });

  test('is there for POST only', async () => {
    const { status, headers, code } = await app.call('GET', `/callbacks/${gateway}`, z.null());
    expect([status, code, headers.get('Allow')]).toEqual([405, 40500, 'POST']);
  });
});

test.each(['paypal', 'WeChat', 'bank', '__proto__', 'constructor', '%00'])(
  'a gateway named %s does not exist',
  async (name) => {
    const { status, code } = await app.call('POST', `/callbacks/${name}`, z.null(), {
      headers: { Authorization: undefined },
      body: '{}',
    });
    expect([status, code]).toEqual([404, 40400]);
  },
);

describe('WeChat Pay', () => {
  const { taken, refused } = WORDS.wechat;

  test.each([
    ['the self-test of the console', 'echo', 'SECURITY_ECHO.SUCCESS'],
    ['an event that nobody knows', 'unknown', 'SIMULATED.UNKNOWN'],
  ])('has %s taken and kept', async (_, kind, event) => {
    const id = `EV-${kind}`;
    expect(await bring(await world.callback({ kind, id }))).toEqual(taken);
    expect(await inbox(id)).toMatchObject({
      event,
      result: 'nothing_to_do',
      processed: true,
      payment_id: null,
    });
  });

  test('has the XML of a refund in the console refused', async () => {
    expect(await bring(await world.callback({ kind: 'xml' }))).toEqual(refused);
  });

  test('may sign with the certificate or with the public key while they change, and each is noted', async () => {
    for (const key of ['public_key', 'certificate']) {
      const id = `EV-by-${key}`;
      const { callback } = await unpaid('wechat', { key, id });
      expect(await bring(callback)).toEqual(taken);
      const { 'Wechatpay-Serial': serial, 'Wechatpay-Signature': signature } = callback.headers;
      expect(await inbox(id)).toMatchObject({ serial, signature: { serial, signature } });
    }
  });

  test.each([
    ['SUCCESS', 1, 'succeeded', 1],
    ['CLOSED', 2, 'failed', 2],
    ['ABNORMAL', 0, 'blocked', 0],
  ] as const)('settles a refund by %s', async (outcome, status, state, shown) => {
    const paymentId = await world.payment();
    await world.configure({ callbacks: false, settle: { afterMs: null, outcome: 'SUCCESS' } });
    const { data } = await world.refund(paymentId);
    await app.idle();
    const outRefundNo = data.gateway?.out_refund_no;
    const id = `EV-refund-${outcome}`;
    const callback = await world.callback({ outRefundNo, outcome, id });
    expect(await bring(callback)).toEqual(taken);
    expect(await inbox(id)).toMatchObject({ out_refund_no: outRefundNo, result: 'settled' });

    const { callbacks, refunds } = await detail(paymentId, { 'Cache-Control': 'no-cache' });
    expect(callbacks).toMatchObject([{ callback_no: id, status: shown }]);
    expect(refunds).toMatchObject([{ status, gateway: { state } }]);
    const moves = refunds[0]?.events.map(({ actor, to_status, cause }) => [
      actor,
      to_status,
      cause,
    ]);
    expect(moves?.slice(1)).toEqual(status === 0 ? [] : [['wechat', status, 'callback']]);
    await world.configure({ callbacks: true, settle: { afterMs: 2_000, outcome: 'SUCCESS' } });
  });
});

describe('Alipay', () => {
  const { taken } = WORDS.alipay;

  test('has a trade that nobody paid in time closed', async () => {
    const { paymentId, payment_no } = await unpaid('alipay');
    await world.order({
      gateway: 'alipay',
      outTradeNo: payment_no,
      total: 10_000,
      state: 'closed',
    });
    const closed = await world.callback({
      gateway: 'alipay',
      outTradeNo: payment_no,
      id: 'EV-closed',
    });
    expect(await bring(closed)).toEqual(taken);
    expect(await statusOf(paymentId)).toBe(2);
    expect((await detail(paymentId)).callbacks).toMatchObject([
      { callback_no: 'EV-closed', status: 2 },
    ]);
  });

  test('does not have a payment closed that was paid', async () => {
    const { paymentId, payment_no } = await unpaid('alipay', {}, 1);
    await world.order({
      gateway: 'alipay',
      outTradeNo: payment_no,
      total: 10_000,
      state: 'closed',
    });
    expect(
      await bring(await world.callback({ gateway: 'alipay', outTradeNo: payment_no })),
    ).toEqual(taken);
    expect(await statusOf(paymentId)).toBe(1);
  });

  test.each([100, 101, 128])(
    'with a notify_id of %i characters is shown by it, or by its hash',
    async (length) => {
      const id = 'n'.repeat(length);
      const { paymentId, callback } = await unpaid('alipay', { id });
      for (const _ of [1, 2]) expect(await bring(callback)).toEqual(taken);
      const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(id));
      const callback_no = length <= 100 ? id : new Uint8Array(hash).toHex();
      expect((await detail(paymentId)).callbacks).toMatchObject([{ callback_no }]);
      expect(await inbox(id)).toMatchObject({ deliveries: 2 });
    },
  );

  test('about another trade’s refund with our number says nothing about our payment', async () => {
    const paymentId = await world.payment({ payment_method: 'alipay' });
    await world.configure({ callbacks: false });
    const { data } = await world.refund(paymentId, '40.00');
    await app.idle();
    const { payment_no, paymentId: other } = await unpaid('alipay');
    for (const total of [10_000, 5_000]) {
      const callback = await world.callback({
        gateway: 'alipay',
        outRefundNo: data.gateway?.out_refund_no,
        outTradeNo: payment_no,
        total,
        tradeNo: '2026000000000000000000000009',
        status: 'TRADE_SUCCESS',
      });
      expect(await bring(callback)).toEqual(taken);
    }
    expect(await noted(paymentId)).toBeUndefined();
    expect(await statusOf(other)).toBe(0);
    await world.configure({ callbacks: true });
  });

  test('about a refund settles nothing, and has it asked about', async () => {
    const paymentId = await world.payment({ payment_method: 'alipay' });
    await world.configure({ callbacks: false });
    await world.faults({ operation: 'refund', drop: 'after' });
    const { data } = await world.refund(paymentId, '40.00');
    await app.idle();
    app.refundQueue.messages = [];
    const outRefundNo = data.gateway?.out_refund_no;
    const callback = await world.callback({ gateway: 'alipay', outRefundNo, id: 'EV-asks' });
    expect(await bring(callback)).toEqual(taken);
    await app.idle();
    expect(await world.look(paymentId, data.id)).toMatchObject({
      status: 0,
      gateway: { state: 'unknown' },
    });
    expect(app.refundQueue.messages).toMatchObject([{ body: { refund_no: data.refund_no } }]);
    expect((await detail(paymentId)).callbacks).toMatchObject([
      { callback_no: 'EV-asks', status: 1 },
    ]);
    await world.pass(60);
    expect(await world.look(paymentId, data.id)).toMatchObject({ status: 1 });
    const { refunds } = await detail(paymentId, { 'Cache-Control': 'no-cache' });
    expect(refunds[0]?.events.at(-1)).toMatchObject({ to_status: 1, cause: 'query' });
    await world.configure({ callbacks: true });
  });
});
