/**
 * The simulated gateways as independent SDKs see them: wechatpay-axios-plugin's signatures and
 * alipay-sdk. The numbers in the titles are those of the checklist that the simulator was built by.
 */
import { createPublicKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { AlipaySdk } from 'alipay-sdk';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Aes, Formatter, Rsa } from 'wechatpay-axios-plugin';
import { z } from 'zod';
import type { Posted } from '../../dev/gateways/callbacks.ts';
import type { CallbackWish, NewOrder, SimulatorState } from '../../dev/gateways/control.ts';
import type { Fault } from '../../dev/gateways/faults.ts';
import { makeKeys, testKeys, type Variables } from '../../dev/gateways/keys.ts';
import { type Simulator, startSimulator } from '../../dev/gateways/simulator.ts';
import { DEV_OPTIONS, type Refund, type WorldOptions } from '../../dev/gateways/world.ts';

const { keys, variables, certificateVariables } = testKeys();
const VerifyKeys = z.record(z.string(), z.string());
const verifyKeys = VerifyKeys.parse(JSON.parse(variables.WECHAT_VERIFY_KEYS ?? ''));
const PUBLIC_KEY_ID = keys.wechat.publicKey.serial;
const CERTIFICATE = keys.wechat.certificate?.serial ?? '';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ keys });
});
afterAll(() => simulator.stop());

const Fields = z.record(z.string(), z.unknown());

let worlds = 0;

/** A world of its own, with what a test says to it. */
function newWorld(url = simulator.url, from: Variables = variables) {
  worlds += 1;
  const base = `${url}/w${worlds}`;

  async function control<T>(method: string, path: string, body?: unknown): Promise<T> {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const response = await fetch(`${base}/${path}`, {
      method,
      ...(body === undefined ? {} : { body: text }),
    });
    const answered = await response.text();
    if (!response.ok) throw new Error(answered);
    return JSON.parse(answered);
  }

  const state = () => control<SimulatorState>('GET', 'control');

  return {
    base,
    control,
    state,
    configure: (changes: Partial<WorldOptions> & { now?: number }) =>
      control('PUT', 'control', changes),
    faults: (...faults: Fault[]) => control('PUT', 'control/faults', { faults }),
    advance: (ms: number) => control<SimulatorState>('POST', 'control/advance', { ms }),
    order: (order: Partial<NewOrder> = {}) =>
      control('POST', 'control/orders', {
        gateway: 'wechat',
        outTradeNo: 'ORDER0001',
        total: 10_000,
        ...order,
      }),
    due: () => control<Posted[]>('GET', 'control/callbacks'),
    answer: (id: string, status: number, body = '') =>
      control('POST', 'control/callbacks/answer', { id, status, body }),
    callback: (wish: CallbackWish) => control<Posted>('POST', 'control/callback', wish),
    async refund(outRefundNo = 'R1'): Promise<Refund> {
      const { refunds } = await state();
      const found = refunds.find((refund) => refund.outRefundNo === outRefundNo);
      if (found === undefined) throw new Error(`no refund ${outRefundNo}`);
      return found;
    },

    /** Sends a signed request to WeChat; `spoil` changes it after it was signed. */
    async wechat(
      method: string,
      path: string,
      body?: unknown,
      spoil: { body?: string; mchid?: string; serial?: string; key?: string; ago?: number } = {},
    ) {
      const text = body === undefined ? '' : JSON.stringify(body);
      const timestamp = Math.floor((await state()).now / SECOND) - (spoil.ago ?? 0);
      const nonce = Formatter.nonce();
      const signature = Rsa.sign(
        Formatter.request(method, path, timestamp, nonce, text),
        from.WECHAT_PRIVATE_KEY ?? '',
      );
      const mchid = spoil.mchid ?? from.WECHAT_MCHID ?? '';
      const serial = spoil.serial ?? from.WECHAT_SERIAL_NO ?? '';
      const response = await fetch(`${base}/wechat${path}`, {
        method,
        redirect: 'manual',
        headers: {
          Accept: 'application/json',
          'User-Agent': 'test',
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...(spoil.key === undefined ? {} : { 'Wechatpay-Serial': spoil.key }),
          Authorization: Formatter.authorization(mchid, nonce, signature, timestamp, serial),
        },
        ...(body === undefined ? {} : { body: spoil.body ?? text }),
      });
      const raw = await response.text();
      const value = raw.startsWith('{') ? Fields.parse(JSON.parse(raw)) : {};
      return { ...value, http: response.status, headers: response.headers, raw };
    },
    wechatRefund(
      changes: Record<string, unknown> = {},
      spoil: { body?: string; key?: string; mchid?: string; serial?: string; ago?: number } = {},
    ) {
      return this.wechat('POST', '/v3/refund/domestic/refunds', { ...REFUND, ...changes }, spoil);
    },
    wechatQuery(number = 'R1') {
      return this.wechat('GET', `/v3/refund/domestic/refunds/${number}`);
    },

    /** Calls Alipay by its own SDK, which verifies the answer. */
    async alipay(
      method: string,
      bizContent: Record<string, unknown>,
      extra: Record<string, string> = {},
      config: Record<string, string> = {},
    ) {
      const sdk = new AlipaySdk({
        appId: from.ALIPAY_APP_ID ?? '',
        keyType: 'PKCS8',
        privateKey: bare(from.ALIPAY_PRIVATE_KEY ?? ''),
        alipayPublicKey: bare(from.ALIPAY_PUBLIC_KEY ?? ''),
        gateway: `${base}/alipay/gateway.do`,
        camelcase: false,
        ...config,
      });
      const timestamp = beijing((await state()).now);
      const options = { bizContentAutoSnakeCase: false, validateSign: true };
      const result = await sdk.exec(method, { bizContent, timestamp, ...extra }, options);
      return Fields.parse(result);
    },
    alipayRefund(changes: Record<string, unknown> = {}) {
      return this.alipay('alipay.trade.refund', {
        out_trade_no: 'ORDER0001',
        out_request_no: 'R1',
        refund_amount: '12.34',
        ...changes,
      });
    },
    alipayQuery(number = 'R1') {
      return this.alipay('alipay.trade.fastpay.refund.query', {
        out_trade_no: 'ORDER0001',
        out_request_no: number,
      });
    },
  };
}

const REFUND = {
  out_trade_no: 'ORDER0001',
  out_refund_no: 'R1',
  reason: '商品缺货',
  notify_url: 'https://pay.example.test/callbacks/wechat',
  amount: { refund: 1_234, total: 10_000, currency: 'CNY' },
};

/** A key as the SDK wants it. */
function bare(key: string): string {
  return key.replace(/-----[A-Z ]+-----|\s/g, '');
}

function beijing(time: number): string {
  return new Date(time + 8 * HOUR).toISOString().slice(0, 19).replace('T', ' ');
}

function publicKeyOf(pem: string) {
  return pem.includes('CERTIFICATE') ? new X509Certificate(pem).publicKey : createPublicKey(pem);
}

type WechatHeaders = { get(name: string): string | null };

/** By the plugin, with the key that the serial names. */
function isSigned(headers: WechatHeaders, body: string): boolean {
  const pem = verifyKeys[headers.get('Wechatpay-Serial') ?? ''];
  if (pem === undefined) return false;
  const timestamp = headers.get('Wechatpay-Timestamp') ?? '';
  const text = Formatter.response(timestamp, headers.get('Wechatpay-Nonce') ?? '', body);
  return Rsa.verify(text, headers.get('Wechatpay-Signature') ?? '', publicKeyOf(pem));
}

/** Verifies a callback of WeChat's and decrypts it. */
function open({ headers, bodyBase64 }: Pick<Posted, 'headers' | 'bodyBase64'>) {
  const body = Buffer.from(bodyBase64, 'base64').toString();
  const Envelope = z.object({
    id: z.string(),
    event_type: z.string(),
    resource: z.object({
      ciphertext: z.string(),
      nonce: z.string(),
      associated_data: z.string().optional(),
    }),
  });
  const { id, event_type, resource } = Envelope.parse(JSON.parse(body));
  const plain = Aes.AesGcm.decrypt(
    resource.ciphertext,
    variables.WECHAT_API_V3_KEY ?? '',
    resource.nonce,
    resource.associated_data,
  );
  return {
    id,
    event: event_type,
    verified: isSigned(new Headers(headers), body),
    serial: headers['Wechatpay-Serial'],
    aad: resource.associated_data,
    plain: Fields.parse(JSON.parse(plain)),
  };
}

/** Verifies a notification of Alipay's by its SDK. */
function openForm({ bodyBase64 }: Pick<Posted, 'bodyBase64'>) {
  const form = new URLSearchParams(Buffer.from(bodyBase64, 'base64').toString());
  const fields = Object.fromEntries(form);
  const sdk = new AlipaySdk({
    appId: variables.ALIPAY_APP_ID ?? '',
    privateKey: bare(variables.ALIPAY_PRIVATE_KEY ?? ''),
    keyType: 'PKCS8',
    alipayPublicKey: variables.ALIPAY_PUBLIC_KEY ?? '',
  });
  return { fields, verified: sdk.checkNotifySignV2(fields) };
}

describe('WeChat Pay', () => {
  test('1, 17: takes a signed refund, and signs the answer', async () => {
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
    ['1: a body that was changed', { body: JSON.stringify({ ...REFUND, reason: '别的' }) }],
    ['2: another merchant', { mchid: '1900000002' }],
    ['2: another serial', { serial: 'ABCDEF' }],
    ['2: a timestamp that is 301 seconds old', { ago: 301 }],
  ])('%s → 401 SIGN_ERROR, signed', async (_, spoil) => {
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
  ])('3: %s → 400 PARAM_ERROR', async (_, changes) => {
    const world = newWorld();
    await world.order();
    expect(await world.wechatRefund(changes)).toMatchObject({ http: 400, code: 'PARAM_ERROR' });
  });

  test('4: the same number again is the same refund, and moves money once', async () => {
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

  test('5, 6, 7: other amounts, a wrong total and too much → 400 INVALID_REQUEST', async () => {
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

  test('7: the 51st refund, and one after 365 days → 400 INVALID_REQUEST', async () => {
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

  test('8: another refund of the order waits a minute', async () => {
    const world = newWorld();
    await world.order();
    await world.wechatRefund();
    const other = { out_refund_no: 'R2' };
    expect(await world.wechatRefund(other)).toMatchObject({ code: 'INVALID_REQUEST' });
    await world.advance(MINUTE);
    expect(await world.wechatRefund(other)).toMatchObject({ http: 200 });
  });

  test('9: unknown and unpaid orders → 404 RESOURCE_NOT_EXISTS', async () => {
    const world = newWorld();
    const refused = { http: 404, code: 'RESOURCE_NOT_EXISTS' };
    expect(await world.wechatRefund()).toMatchObject(refused);
    await world.order({ state: 'unpaid' });
    expect(await world.wechatRefund()).toMatchObject(refused);
    await world.configure({ anyOrder: true });
    expect(await world.wechatRefund({ out_trade_no: 'ORDER0002' })).toMatchObject({ http: 200 });
  });

  test('10: NOT_ENOUGH until it is topped up; USER_ACCOUNT_ABNORMAL', async () => {
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

  test('11: SYSTEM_ERROR, with and without having accepted', async () => {
    const world = newWorld();
    await world.order();
    await world.faults({ status: 500, code: 'SYSTEM_ERROR' }, { statusAfter: 500 });
    const broken = { http: 500, code: 'SYSTEM_ERROR' };
    expect(await world.wechatRefund()).toMatchObject(broken);
    expect((await world.state()).refunds).toEqual([]);
    expect(await world.wechatRefund()).toMatchObject(broken);
    expect(await world.refund()).toMatchObject({ state: 'PROCESSING', sent: 1 });
  });

  test('12: cuts the connection before or after accepting, and holds an answer', async () => {
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

  test('13: 429 for ten seconds, with and without having accepted', async () => {
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

  test('13: 429 after six failures in a second, and for a repeat within the minute', async () => {
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
    '14, 16: PROCESSING, then %s after the set time',
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

  test('15: apply-abnormal-refund decrypts the card and goes on', async () => {
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

  test('16: a query finds nothing for an unknown number, nor for one not yet visible', async () => {
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

  test('17: spoils the signature of an answer in four ways', async () => {
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

  test('18: answers by the key that the request names, callbacks by the share', async () => {
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

  test.each([
    ['normal', 'refund'],
    ['empty', ''],
    ['absent', undefined],
  ] as const)('19: a callback is signed and encrypted; associated_data %s', async (how, aad) => {
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

  test('20: a callback comes before the answer, and one for a number not sent yet', async () => {
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

  test('21: callbacks contradict the books, and come twice', async () => {
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

  test('22: repeats 15 times in 24 hours and 4 minutes, then never', async () => {
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

  test('22: an answer after five seconds counts as none, 204 ends the repeats', async () => {
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

  test('23: none is delivered where callbacks are off', async () => {
    const world = newWorld();
    await world.order();
    await world.configure({ callbacks: false });
    await world.wechatRefund();
    await world.advance(2 * DAY);
    expect(await world.due()).toEqual([]);
    expect(await world.refund()).toMatchObject({ state: 'SUCCESS' });
  });

  test('24, 25: probes, forgeries, the self-test, an unknown event and XML', async () => {
    const world = newWorld();
    await world.order();
    await world.wechatRefund();
    const probe = await world.callback({ outRefundNo: 'R1', alter: 'probe' });
    expect(probe.headers['Wechatpay-Signature']).toMatch(/^WECHATPAY\/SIGNTEST\//);
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

  test('26: tells of a payment, queries it, and closes one that is unpaid', async () => {
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
});

describe('Alipay', () => {
  const order = { gateway: 'alipay' } as const;

  test('30, 32, 38: refunds with fund_change Y, then N on a repeat, refund_fee cumulative', async () => {
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

  test('30: a timestamp in UTC, a malformed one and a wrong signature → 40002', async () => {
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

  test('31: certificate mode names its certificate; a wrong one is refused', async () => {
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

  test('32: fund_change can be missing', async () => {
    const world = newWorld();
    await world.order(order);
    await world.configure({ fundChange: 'missing' });
    expect(await world.alipayRefund()).not.toHaveProperty('fund_change');
  });

  test('33: the same number with another amount → ACQ.DISCORDANT_REPEAT_REQUEST', async () => {
    const world = newWorld();
    await world.order(order);
    await world.alipayRefund();
    expect(await world.alipayRefund({ refund_amount: '12.35' })).toMatchObject({
      code: '40004',
      sub_code: 'ACQ.DISCORDANT_REPEAT_REQUEST',
    });
  });

  test('34: 20000 and ACQ.SYSTEM_ERROR, with and without having refunded', async () => {
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

  test('35: SELLER_BALANCE_NOT_ENOUGH until it is topped up', async () => {
    const world = newWorld();
    await world.order(order);
    await world.configure({ balance: 1_000 });
    const refused = { sub_code: 'ACQ.SELLER_BALANCE_NOT_ENOUGH' };
    expect(await world.alipayRefund()).toMatchObject(refused);
    await world.control('PUT', 'topup', '234');
    expect(await world.alipayRefund()).toMatchObject({ fund_change: 'Y' });
    expect((await world.state()).options.balance).toBe(0);
  });

  test('36: refuses by the state of the trade, the amount and the distance', async () => {
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

  test('37: a query is empty for ten seconds and for unknown numbers', async () => {
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

  test('38: an unknown caller is answered by error_response, without signature', async () => {
    const world = newWorld();
    const answer = await fetchAlipay(world.base, world.state, { app_id: '2021000000000009' });
    expect(answer).toMatch(/^\{"error_response":\{"code":"40002"/);
    expect(answer).not.toContain('"sign"');
    await world.order(order);
    await world.faults({ sign: 'altered' });
    await expect(world.alipayRefund()).rejects.toThrow('验签失败');
  });

  test('39: notifies of partial refunds as TRADE_SUCCESS, of the whole as TRADE_CLOSED', async () => {
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

  test('39: an empty parameter may be left out of the signed text', async () => {
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

  test('40: repeats from 4 minutes to 15 hours with the same notify_id until `success`', async () => {
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

  test('41: a product that never notifies of refunds', async () => {
    const world = newWorld();
    await world.order(order);
    await world.configure({ alipayRefundNotifications: false });
    await world.alipayRefund();
    expect(await world.due()).toEqual([]);
  });

  test('42: TRADE_FINISHED after refunds, and TRADE_CLOSED of an unpaid trade', async () => {
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
});

describe('a world', () => {
  test('keeps its books, clock and faults to itself', async () => {
    const [one, other] = [newWorld(), newWorld()];
    await one.order();
    await one.faults({ drop: 'before', times: 'always' });
    await one.advance(HOUR);
    const state = await other.state();
    expect(state).toMatchObject({ orders: [], faults: 0, requests: {} });
    expect((await one.state()).now - state.now).toBeGreaterThan(59 * MINUTE);
    await one.control('DELETE', 'control');
    expect(await one.state()).toMatchObject({ orders: [], faults: 0 });
  });

  test('has an origin of its own, where no path names it', async () => {
    const world = newWorld();
    await world.order();
    const { origin } = await world.control<{ origin: string }>('POST', 'control/origin');
    expect(await world.control('POST', 'control/origin')).toEqual({ origin });
    const there = { ...world, base: origin };
    const control = await fetch(`${origin}/control`);
    expect(await control.json()).toMatchObject({ orders: [{ outTradeNo: 'ORDER0001' }] });
    const next = await fetch(`${origin}/next`, { method: 'PUT', body: 'CLOSED' });
    expect(next.status).toBe(200);
    const wechat = await fetch(`${origin}/v3/refund/domestic/refunds/R1`);
    expect(await wechat.json()).toMatchObject({ code: 'PARAM_ERROR' });
    const alipay = await fetch(`${there.base}/gateway.do`, { method: 'POST' });
    expect(await alipay.text()).toContain('error_response');
  });

  test('never refunds more than was paid, however many ask at once', async () => {
    const world = newWorld();
    await world.order();
    await world.configure({ wechatGap: 'off', settle: { afterMs: 0, outcome: 'SUCCESS' } });
    const amount = { refund: 3_000, total: 10_000, currency: 'CNY' };
    const answers = await Promise.all(
      ['R1', 'R2', 'R3', 'R4', 'R5', 'R1'].map((out_refund_no) =>
        world.wechatRefund({ out_refund_no, amount }),
      ),
    );
    expect(answers.filter(({ http }) => http === 200)).toHaveLength(4);
    const { refunds } = await world.state();
    expect(refunds.map(({ moved, movedTimes }) => [moved, movedTimes])).toEqual([
      [3_000, 1],
      [3_000, 1],
      [3_000, 1],
    ]);
  });

  test('refuses a fault and an option that would do nothing', async () => {
    const world = newWorld();
    const refused = expect.objectContaining({ message: expect.stringContaining('error') });
    await expect(world.control('PUT', 'control/faults', { faults: [{ hang: 1 }] })).rejects.toEqual(
      refused,
    );
    await expect(world.control('PUT', 'control', { clok: 'real' })).rejects.toEqual(refused);
    const callbackUrl = 'https://elsewhere.test/';
    await expect(world.control('PUT', 'control', { callbackUrl })).rejects.toEqual(refused);
    await expect(world.control('PUT', 'next', 'NONSENSE')).rejects.toEqual(refused);
  });

  test('signs by the machine’s clock for an application whose clock stands', async () => {
    const world = newWorld();
    await world.order();
    await world.configure({ signingClock: 'machine' });
    await world.advance(DAY);
    expect(await world.wechatRefund({}, { ago: DAY / SECOND })).toMatchObject({ http: 200 });
    expect(await world.wechatRefund()).toMatchObject({ http: 401 });
  });

  test('takes faults for the gateway and the operation that they name', async () => {
    const world = newWorld();
    await world.order();
    await world.faults(
      { operation: 'query', gateway: 'alipay', drop: 'before' },
      { operation: 'query', status: 500 },
      { operation: 'refund', none: true },
      { operation: 'refund', status: 500, times: 2 },
    );
    expect(await world.wechatRefund()).toMatchObject({ http: 200 });
    expect(await world.wechatRefund()).toMatchObject({ http: 500 });
    expect(await world.wechatQuery()).toMatchObject({ http: 500 });
    expect(await world.wechatRefund()).toMatchObject({ http: 500 });
    expect(await world.wechatRefund()).toMatchObject({ http: 200 });
    expect(await world.state()).toMatchObject({
      faults: 1,
      requests: { 'wechat.refund': 4, 'wechat.query': 1 },
    });
  });
});

describe('for development', () => {
  /** Keys and a simulator as `npm run dev` has them, and an application that takes callbacks. */
  async function startDev(answers: number[] = []) {
    const { keys: made, variables: from } = await makeKeys();
    const received: { url: string | undefined; headers: unknown; body: string }[] = [];
    const application = createServer(async (request, response) => {
      const body = await text(request);
      received.push({ url: request.url, headers: request.headers, body });
      response.writeHead(answers.shift() ?? 204).end();
    });
    await once(application.listen(0, '127.0.0.1'), 'listening');
    const address = application.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const dev = await startSimulator({
      keys: made,
      options: { ...DEV_OPTIONS, callbackUrl: `http://127.0.0.1:${port}/`, callbackDelayMs: 0 },
      findOrder: async (gateway, { outTradeNo }) =>
        gateway === 'alipay' && outTradeNo === 'ORDER0001'
          ? { outTradeNo, total: 10_000, state: 'paid' }
          : undefined,
    });
    return {
      received,
      world: newWorld(dev.url, from),
      async [Symbol.asyncDispose]() {
        await dev.stop();
        application.closeAllConnections();
        application.close();
      },
    };
  }

  test('takes any order, settles by itself and posts the callback', async () => {
    await using dev = await startDev();
    await dev.world.configure({ settle: { afterMs: 50, outcome: 'SUCCESS' } });
    const answer = await dev.world.wechatRefund();
    expect(JSON.parse(answer.raw)).toMatchObject({ status: 'PROCESSING' });
    await vi.waitUntil(() => dev.received.length > 0);
    expect(dev.received[0]?.url).toBe('/callbacks/wechat');
    const taken = { state: 'taken', attempts: [{ status: 204 }] };
    await vi.waitFor(async () => {
      expect((await dev.world.state()).callbacks).toMatchObject([taken]);
    });
  });

  test('finds an order elsewhere, and repeats a notification until it is taken', async () => {
    await using dev = await startDev([503]);
    expect(await dev.world.alipayRefund()).toMatchObject({ fund_change: 'Y' });
    await vi.waitUntil(() => dev.received.length === 1);
    await vi.waitUntil(async () => (await dev.world.state()).callbacks[0]?.state === 'waiting');
    await dev.world.advance(4 * MINUTE);
    expect(dev.received).toHaveLength(2);
    const ids = dev.received.map(({ body }) => new URLSearchParams(body).get('notify_id'));
    expect(new Set(ids).size).toBe(1);
  });

  test('one word decides what becomes of the next refund', async () => {
    await using dev = await startDev();
    const { world } = dev;
    await world.configure({ settle: { afterMs: 0, outcome: 'SUCCESS' } });
    const send = async (word: string, number: number) => {
      await world.control('PUT', 'next', word);
      const names = { out_trade_no: `ORDER000${number}`, out_refund_no: `R${number}` };
      const answer = await world.wechatRefund(names).catch(() => undefined);
      return answer && { http: answer.http, ...Fields.parse(JSON.parse(answer.raw)) };
    };
    expect(await send('SUCCESS', 1)).toMatchObject({ status: 'SUCCESS' });
    expect(await send('ABNORMAL', 2)).toMatchObject({ status: 'ABNORMAL' });
    expect(await send('CLOSED', 3)).toMatchObject({ status: 'CLOSED' });
    expect(await send('NOT_ENOUGH', 4)).toMatchObject({ http: 403 });
    expect(await send('SYSTEM_ERROR', 5)).toMatchObject({ http: 500 });
    expect(await send('DROP', 6)).toBeUndefined();
    const hung = send('HANG', 7);
    await world.control('GET', 'control/held?count=1');
    await world.control('POST', 'control/release');
    expect(await hung).toMatchObject({ http: 200 });
    const { refunds } = await world.state();
    expect(refunds.map(({ state }) => state)).toEqual([
      ...['SUCCESS', 'ABNORMAL', 'CLOSED', 'SUCCESS', 'SUCCESS', 'SUCCESS'],
    ]);
  });

  test('stops while a request is held', async () => {
    const dev = await startDev();
    await dev.world.control('PUT', 'next', 'HANG');
    const held = dev.world.wechatRefund().catch(() => 'cut');
    await dev.world.control('GET', 'control/held?count=1');
    await dev[Symbol.asyncDispose]();
    expect(await held).toBe('cut');
  });
});

/** A signed request by hand, as the raw text of its answer. */
async function fetchAlipay(
  base: string,
  state: () => Promise<SimulatorState>,
  extra: Record<string, string>,
): Promise<string> {
  const parameters: Record<string, string> = {
    app_id: variables.ALIPAY_APP_ID ?? '',
    method: 'alipay.trade.refund',
    format: 'JSON',
    charset: 'utf-8',
    sign_type: 'RSA2',
    version: '1.0',
    timestamp: beijing((await state()).now),
    biz_content: JSON.stringify({
      out_trade_no: 'ORDER0001',
      out_request_no: 'R1',
      refund_amount: '12.34',
    }),
    ...extra,
  };
  const text = Object.entries(parameters)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
  const pem = `-----BEGIN PRIVATE KEY-----\n${variables.ALIPAY_PRIVATE_KEY}\n-----END PRIVATE KEY-----`;
  const response = await fetch(`${base}/alipay/gateway.do`, {
    method: 'POST',
    body: new URLSearchParams({ ...parameters, sign: Rsa.sign(text, pem) }),
  });
  return response.text();
}
