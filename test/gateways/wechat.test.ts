/**
 * Proves that WeChat Pay reads our requests and that we believe nothing but what it has signed: byte for
 * byte by vectors of an implementation that is not ours, then each of them altered. The network is a
 * stand-in that signs with the gateway's test key.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { toFen, toYuan } from '../../src/gateways/fen';
import { CallbackRefusedError, type GatewayRefund, type News } from '../../src/gateways/gateway';
import {
  certificateExpiry,
  fromBase64,
  sign,
  signingKey,
  verify,
  verifyingKey,
} from '../../src/gateways/keys';
import { readCallback } from '../../src/gateways/wechat/callback';
import { call } from '../../src/gateways/wechat/client';
import { configuration } from '../../src/gateways/wechat/configuration';
import { authorization, signatureFault } from '../../src/gateways/wechat/signature';
import { wechat } from '../../src/gateways/wechat/wechat';
import keys from './vectors/keys.json';
import answers from './vectors/wechat-answers.json';
import callbacks from './vectors/wechat-callbacks.json';
import requests from './vectors/wechat-requests.json';

const { merchant, platform_public_key, platform_certificate, mchid, appid } = keys.wechat;
const PUBLIC_KEY = platform_public_key.id;
const CERTIFICATE = platform_certificate.serial_no;
const NOW = answers.now * 1000;

const ENV = {
  WECHAT_MCHID: mchid,
  WECHAT_APPID: appid,
  WECHAT_SERIAL_NO: merchant.serial_no,
  WECHAT_PRIVATE_KEY: merchant.private_key_pkcs8,
  WECHAT_API_V3_KEY: keys.wechat.api_v3_key,
  WECHAT_VERIFY_KEYS: JSON.stringify({
    [CERTIFICATE]: platform_certificate.certificate,
    [PUBLIC_KEY]: platform_public_key.public_key,
  }),
  CALLBACK_BASE_URL: 'https://pay.example.test',
};

const config = await configuration(ENV);
const gateway = await wechat.configure(ENV);
const platformKey = await signingKey(platform_public_key.private_key_for_simulators);
const merchantKey = await verifyingKey(merchant.certificate);
const encoder = new TextEncoder();

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'], now: NOW });
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const REFUND: GatewayRefund = {
  outRefundNo: 'R20261125010203456a1b2c3d4e5f60718',
  outTradeNo: 'P20261125000001',
  tradeNo: null,
  amount: '12.34',
  total: '100.00',
  reason: '商品缺货，退一件',
};

/** What WeChat Pay answers of REFUND. */
const FOUND = {
  refund_id: '50300000000000000000000000001',
  out_refund_no: REFUND.outRefundNo,
  out_trade_no: REFUND.outTradeNo,
  transaction_id: '4200000000202611250000000001',
  status: 'PROCESSING',
  amount: { refund: 1234, total: 10000, payer_total: 9000, payer_refund: 1100, currency: 'CNY' },
};

/** Changes the headers or the body of an answer after it is signed. */
interface Tampering {
  headers?: Record<string, string>;
  body?: string;
}

async function answer(status: number, content: unknown, tampering: Tampering = {}) {
  const body = content === undefined ? '' : JSON.stringify(content);
  const timestamp = String(NOW / 1000);
  const headers = {
    'Request-Id': '08F1-0-268435468',
    'Wechatpay-Timestamp': timestamp,
    'Wechatpay-Nonce': 'n',
    'Wechatpay-Serial': PUBLIC_KEY,
    'Wechatpay-Signature': await sign(platformKey, `${timestamp}\nn\n${body}\n`),
    ...tampering.headers,
  };
  return new Response(status === 204 ? null : (tampering.body ?? body), { status, headers });
}

const unsigned = (status: number, body: string) => new Response(body, { status });

/** Answers the requests in order, and keeps them. A missing answer is a lost connection. */
function network(...replies: (Response | Promise<Response>)[]) {
  const seen: { url: URL; init: RequestInit; body: string; headers: Headers }[] = [];
  vi.spyOn(globalThis, 'fetch').mockImplementation(async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    seen.push({ url, init, body: String(init.body ?? ''), headers: new Headers(init.headers) });
    const reply = replies.shift();
    if (!reply) throw new Error('Network connection lost.');
    return reply;
  });
  return seen;
}

/** The JSON lines that are logged. */
function logged() {
  const lines: Record<string, unknown>[] = [];
  for (const level of ['info', 'warn', 'error'] as const) {
    vi.spyOn(console, level).mockImplementation((line) => lines.push(JSON.parse(line)));
  }
  return lines;
}

const flip = (bytes: Uint8Array, at: number) =>
  bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));

describe('a request', () => {
  test.for(requests.requests)('is signed as others sign it: $name', async (vector) => {
    const { method, path_and_query: path, body, timestamp, nonce } = vector;
    const signed = { method: z.enum(['GET', 'POST']).parse(method), path, body };
    expect(await authorization(config, signed, Number(timestamp), nonce)).toBe(
      vector.authorization,
    );
  });

  test.for(requests.requests)('is sent as it was signed: $name', async (vector) => {
    const seen = network(answer(200, {}));
    const content: unknown = vector.body === '' ? undefined : JSON.parse(vector.body);
    const method = z.enum(['GET', 'POST']).parse(vector.method);
    await call(config, method, vector.path_and_query, content);

    const [{ url, init, body, headers } = expect.fail('nothing was sent')] = seen;
    expect([init.method, url.href, body]).toEqual([
      method,
      `https://api.mch.weixin.qq.com${vector.path_and_query}`,
      vector.body,
    ]);
    const [, nonce, timestamp, serial, signature = ''] =
      /^WECHATPAY2-SHA256-RSA2048 mchid="1900000001",nonce_str="([0-9A-F]{32})",timestamp="(\d+)",serial_no="(\w+)",signature="(.+)"$/.exec(
        headers.get('Authorization') ?? '',
      ) ?? [];
    expect([timestamp, serial]).toEqual([String(NOW / 1000), merchant.serial_no]);
    const message = `${method}\n${vector.path_and_query}\n${timestamp}\n${nonce}\n${body}\n`;
    expect(await verify(merchantKey, signature, new Uint8Array(encoder.encode(message)))).toBe(
      true,
    );
  });

  test('has the headers that WeChat Pay demands, a deadline, and follows no redirect', async () => {
    const seen = network(answer(200, FOUND));
    await gateway.query(REFUND, false);
    const [{ init, headers } = expect.fail('nothing was sent')] = seen;
    expect(headers.get('Accept')).toBe('application/json');
    expect(headers.get('Content-Type')).toBe('application/json');
    expect(headers.get('User-Agent')).not.toBe('');
    expect(init.redirect).toBe('manual');
    expect(init.signal).toBeInstanceOf(AbortSignal);
  });

  test.for([
    ['a public key', ENV.WECHAT_VERIFY_KEYS, PUBLIC_KEY],
    [
      'the first certificate where there is no public key',
      JSON.stringify({ [CERTIFICATE]: platform_certificate.certificate }),
      CERTIFICATE,
    ],
  ] as const)('asks for an answer signed by %s', async ([, WECHAT_VERIFY_KEYS, serial]) => {
    const seen = network(answer(200, FOUND));
    await (await wechat.configure({ ...ENV, WECHAT_VERIFY_KEYS })).query(REFUND, false);
    expect(seen[0]?.headers.get('Wechatpay-Serial')).toBe(serial);
  });

  test('has another nonce each time', async () => {
    const seen = network(answer(200, FOUND), answer(200, FOUND));
    await gateway.query(REFUND, false);
    await gateway.query(REFUND, false);
    const [first, second] = seen.map(({ headers }) => headers.get('Authorization'));
    expect(first).not.toBe(second);
  });
});

describe('the signature of an answer', () => {
  const read = ({ headers, body_base64 }: (typeof answers.answers)[number]) => ({
    headers: new Headers(Object.entries(headers)),
    body: fromBase64(body_base64),
  });
  const faultOf = (headers: Headers, body: Uint8Array, now = NOW) =>
    signatureFault(headers, body, config.verifyKeys, now);

  test.for(answers.answers)('is accepted: $name', async (vector) => {
    const { headers, body } = read(vector);
    expect(await faultOf(headers, body)).toBeNull();
  });

  test.for(answers.answers)('is refused with a byte of the body changed: $name', async (vector) => {
    const { headers, body } = read(vector);
    const altered = body.length === 0 ? Uint8Array.of(32) : flip(body, body.length - 3);
    expect(await faultOf(headers, altered)).toBe('signature');
  });

  test.for(
    answers.answers.flatMap((vector) =>
      [
        ['Wechatpay-Timestamp', String(NOW / 1000 + 1), 'signature'],
        ['Wechatpay-Timestamp', `${NOW / 1000}.0`, 'headers'],
        ['Wechatpay-Timestamp', '', 'headers'],
        ['Wechatpay-Nonce', 'another', 'signature'],
        ['Wechatpay-Nonce', '', 'headers'],
        ['Wechatpay-Signature', 'not base64!', 'signature'],
        ['Wechatpay-Signature', '', 'headers'],
        [
          'Wechatpay-Signature',
          vector.headers['Wechatpay-Signature'].replace(/^./, (c) => (c === 'A' ? 'B' : 'A')),
          'signature',
        ],
        // A key that is configured, though not the one that signed.
        [
          'Wechatpay-Serial',
          vector.headers['Wechatpay-Serial'] === PUBLIC_KEY ? CERTIFICATE : PUBLIC_KEY,
          'signature',
        ],
        ['Wechatpay-Serial', 'PUB_KEY_ID_9', 'unknown_serial'],
        ['Wechatpay-Serial', 'constructor', 'unknown_serial'],
        ['Wechatpay-Serial', '', 'headers'],
      ].map(([name = '', value = '', fault]) => ({ vector, name, value, fault })),
    ),
  )('is refused with another $name: $vector.name', async ({ vector, name, value, fault }) => {
    const { headers, body } = read(vector);
    headers.set(name, value);
    expect(await faultOf(headers, body)).toBe(fault);
  });

  test.for(answers.answers)('is refused after 300 seconds: $name', async (vector) => {
    const { headers, body } = read(vector);
    expect(await faultOf(headers, body, NOW + 300_000)).toBeNull();
    expect(await faultOf(headers, body, NOW - 300_000)).toBeNull();
    expect(await faultOf(headers, body, NOW + 301_000)).toBe('clock');
    expect(await faultOf(headers, body, NOW - 301_000)).toBe('clock');
  });

  test('that is refused for its clock or its key leaves in the log what an operator needs', async () => {
    const lines = logged();
    const [vector = expect.fail('no vector')] = answers.answers;
    const { headers, body } = read(vector);
    await faultOf(headers, body, NOW + 301_000);
    headers.set('Wechatpay-Serial', 'PUB_KEY_ID_9');
    await faultOf(headers, body);
    expect(lines).toEqual([
      { level: 'warn', event: 'gateway_clock', gateway: 'wechat', drift_seconds: 301 },
      {
        level: 'warn',
        event: 'gateway_unknown_serial',
        gateway: 'wechat',
        serial: 'PUB_KEY_ID_9',
      },
    ]);
  });
});

describe('a refund', () => {
  test('is sent with our number, in fen, and with the total of the order', async () => {
    const seen = network(answer(200, FOUND));
    expect(await gateway.send(REFUND)).toEqual({
      news: { kind: 'accepted', gatewayRefundNo: FOUND.refund_id },
      httpStatus: 200,
      gatewayRequestId: '08F1-0-268435468',
    });
    expect(seen.map(({ init, url, body }) => [init.method, url.pathname, body])).toEqual([
      ['POST', '/v3/refund/domestic/refunds', requests.requests[0]?.body],
    ]);
  });

  test('is sent with the number of WeChat Pay where it is known, and only with that', async () => {
    const seen = network(answer(200, FOUND));
    await gateway.send({ ...REFUND, tradeNo: FOUND.transaction_id, reason: null });
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual({
      transaction_id: FOUND.transaction_id,
      out_refund_no: REFUND.outRefundNo,
      notify_url: 'https://pay.example.test/callbacks/wechat',
      amount: { refund: 1234, total: 10000, currency: 'CNY' },
    });
  });

  test.for<[string, string, string | undefined]>([
    ['that is short is sent whole', '退一件', '退一件'],
    [
      'is cut after 80 bytes, not within a character',
      `ab${'退'.repeat(40)}`,
      `ab${'退'.repeat(26)}`,
    ],
    ['of exactly 80 bytes is sent whole', `ab${'退'.repeat(26)}`, `ab${'退'.repeat(26)}`],
    ['of ASCII is cut after 80 characters', 'x'.repeat(255), 'x'.repeat(80)],
    [
      'loses characters of four bytes, and is cut afterwards',
      `😀${'é'.repeat(50)}`,
      'é'.repeat(40),
    ],
    ['loses half a surrogate pair', 'a\ud83d', 'a'],
    ['that is empty is left out', '', undefined],
    ['of emoji only is left out', '😀 𠀀', undefined],
  ])('whose reason %s', async ([, reason, sent]) => {
    const seen = network(answer(200, FOUND));
    await gateway.send({ ...REFUND, reason });
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual(
      expect.objectContaining({ out_refund_no: REFUND.outRefundNo }),
    );
    expect(JSON.parse(seen[0]?.body ?? '').reason).toBe(sent);
  });

  test.for(['90071992547409.92', '12.3', '1e2', '-1.00', ''])(
    'of %j yuan is blocked without a request',
    async (amount) => {
      const seen = network();
      const blocked = {
        news: { kind: 'blocked', code: 'AMOUNT', where: 'refund' },
        httpStatus: null,
        gatewayRequestId: null,
      };
      expect(await gateway.send({ ...REFUND, amount })).toEqual(blocked);
      expect(await gateway.send({ ...REFUND, total: amount })).toEqual(blocked);
      expect(await gateway.query({ ...REFUND, amount }, true)).toEqual(blocked);
      expect(seen).toEqual([]);
    },
  );
});

/** Yuan and fen of the same amount. */
test.for<[string, number]>([
  ['12.34', 1234],
  ['0.01', 1],
  ['0.10', 10],
  ['0.30', 30],
  // As floats, 0.29 * 100 and 1.15 * 100 are below 29 and 115.
  ['0.29', 29],
  ['1.15', 115],
  ['100.00', 10000],
  ['90071992547409.91', 9007199254740991],
])('%s yuan are %d fen', ([yuan, fen]) => {
  expect(toFen(yuan)).toBe(fen);
  expect(toYuan(fen)).toBe(yuan);
});

test.for(['90071992547409.92', '1234', String(0.1 + 0.2), '0.3', '-0.01', ' 1.00', '1.000', ''])(
  '%j is no amount in yuan',
  (yuan) => {
    expect(() => toFen(yuan)).toThrow(RangeError);
  },
);

test.for([9007199254740992, -1, 12.34, Number.NaN])('%d is no amount in fen', (fen) => {
  expect(() => toYuan(fen)).toThrow(RangeError);
});

const ID = FOUND.refund_id;
const AT = '2026-11-25T09:02:05+08:00';
const unknown = (code: string): News => ({ kind: 'unknown', code });
const blocked = (code: string, where: 'refund' | 'gateway' = 'refund'): News => ({
  kind: 'blocked',
  code,
  where,
});
const operations = {
  send: (refund = REFUND) => gateway.send(refund),
  query: (refund = REFUND) => gateway.query(refund, false),
};
const both = ['send', 'query'] as const;

describe.for(both)('a verified 200 to a %s', (operation) => {
  test.for<[string, object, News]>([
    [
      'SUCCESS is success',
      { status: 'SUCCESS', success_time: AT },
      { kind: 'succeeded', gatewayRefundNo: ID, at: AT },
    ],
    [
      'SUCCESS without a time is success',
      { status: 'SUCCESS' },
      { kind: 'succeeded', gatewayRefundNo: ID, at: null },
    ],
    [
      'SUCCESS at a time that cannot be read is success',
      { status: 'SUCCESS', success_time: '昨天' },
      { kind: 'succeeded', gatewayRefundNo: ID, at: null },
    ],
    ['PROCESSING is accepted', {}, { kind: 'accepted', gatewayRefundNo: ID }],
    [
      'PROCESSING with a time of success is accepted',
      { success_time: AT },
      { kind: 'accepted', gatewayRefundNo: ID },
    ],
    [
      'a status that is new is accepted',
      { status: 'REVIEWING' },
      { kind: 'accepted', gatewayRefundNo: ID },
    ],
    [
      'ABNORMAL is abnormal, not failed',
      { status: 'ABNORMAL' },
      { kind: 'abnormal', gatewayRefundNo: ID, code: 'ABNORMAL' },
    ],
    [
      'CLOSED is closed',
      { status: 'CLOSED' },
      { kind: 'closed', gatewayRefundNo: ID, code: 'CLOSED' },
    ],
    [
      'a field that is new changes nothing',
      { more: {} },
      { kind: 'accepted', gatewayRefundNo: ID },
    ],
    ['no status proves nothing', { status: undefined }, unknown('UNREADABLE')],
    ['no number proves nothing', { refund_id: '' }, unknown('UNREADABLE')],
    ['half a fen proves nothing', { amount: { refund: 1234.5, total: 1 } }, unknown('UNREADABLE')],
    ['an amount as text proves nothing', { amount: { refund: '1234' } }, unknown('UNREADABLE')],
    ['another refund is not ours', { status: 'CLOSED', out_refund_no: 'R2' }, unknown('MISMATCH')],
    ['another order is not ours', { status: 'CLOSED', out_trade_no: 'P2' }, unknown('MISMATCH')],
    [
      'another amount is not ours',
      { status: 'CLOSED', amount: { ...FOUND.amount, refund: 1233 } },
      unknown('MISMATCH'),
    ],
    [
      'another total is not ours',
      { status: 'CLOSED', amount: { ...FOUND.amount, total: 8766 } },
      unknown('MISMATCH'),
    ],
    [
      'refund and total swapped are not ours',
      { status: 'SUCCESS', amount: { refund: 10000, total: 1234 } },
      unknown('MISMATCH'),
    ],
  ])('with %s', async ([, changes, news]) => {
    network(answer(200, { ...FOUND, ...changes }));
    expect(await operations[operation]()).toMatchObject({ news, httpStatus: 200 });
  });

  test('is compared by the number of WeChat Pay where that was sent', async () => {
    const refund = { ...REFUND, tradeNo: FOUND.transaction_id };
    const other = { ...FOUND, transaction_id: '42' };
    network(answer(200, { ...FOUND, out_trade_no: 'P2' }), answer(200, other));
    expect((await operations[operation](refund)).news.kind).toBe('accepted');
    expect((await operations[operation](refund)).news).toEqual(unknown('MISMATCH'));
  });
});

describe.for(both)('what is no verified answer to a %s proves nothing:', (operation) => {
  const success = { ...FOUND, status: 'SUCCESS', success_time: AT };
  const signed = (tampering: Tampering) => () => answer(200, success, tampering);

  test.for<[string, (() => Response | Promise<Response>) | null, number | null, string]>([
    ['no connection', null, null, 'NO_ANSWER'],
    ['a SUCCESS without a signature', () => Response.json(success), 200, 'UNSIGNED'],
    [
      'a SUCCESS that was a CLOSED',
      signed({ body: JSON.stringify({ ...success, status: 'CLOSED' }) }),
      200,
      'BAD_SIGNATURE',
    ],
    ['another nonce', signed({ headers: { 'Wechatpay-Nonce': 'm' } }), 200, 'BAD_SIGNATURE'],
    ['another key', signed({ headers: { 'Wechatpay-Serial': CERTIFICATE } }), 200, 'BAD_SIGNATURE'],
    [
      'a key that nobody knows',
      signed({ headers: { 'Wechatpay-Serial': 'PUB_KEY_ID_9' } }),
      200,
      'UNKNOWN_SERIAL',
    ],
    [
      'an old answer',
      signed({ headers: { 'Wechatpay-Timestamp': String(NOW / 1000 - 301) } }),
      200,
      'CLOCK',
    ],
    [
      'a probe',
      signed({ headers: { 'Wechatpay-Signature': 'WECHATPAY/SIGNTEST/AA==' } }),
      200,
      'BAD_SIGNATURE',
    ],
    ['a 204', () => answer(204, undefined), 204, 'HTTP_204'],
    ['a 202', () => answer(202, success), 202, 'HTTP_202'],
    ['a list', () => answer(200, [success]), 200, 'UNREADABLE'],
    ['a page', () => unsigned(404, '<html>not found</html>'), 404, 'HTTP_404'],
    ['a page of a proxy', () => unsigned(502, '<html>'), 502, 'HTTP_502'],
    ['an empty error', () => unsigned(403, ''), 403, 'HTTP_403'],
    ['a code that is a text', () => answer(400, { code: '参数错误 a b' }), 400, 'UNREADABLE'],
    ['a code too long', () => answer(400, { code: 'A'.repeat(65) }), 400, 'UNREADABLE'],
    [
      'a redirect',
      () => new Response(null, { status: 302, headers: { Location: 'https://evil.test/' } }),
      302,
      'REDIRECTED',
    ],
  ])('%s', async ([, reply, httpStatus, code]) => {
    const seen = network(...(reply ? [reply()] : []));
    expect(await operations[operation]()).toMatchObject({ news: unknown(code), httpStatus });
    expect(seen).toHaveLength(1);
  });

  test('a body that is cut off', async () => {
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(encoder.encode('{"status":"SUC'));
        controller.error(new Error('Network connection lost.'));
      },
    });
    network(new Response(body));
    expect(await operations[operation]()).toEqual({
      news: unknown('NO_ANSWER'),
      httpStatus: null,
      gatewayRequestId: null,
    });
  });
});

describe('an error', () => {
  const refused = (code: string): News => ({ kind: 'refused', code });
  /** Status, code, news of a send, news of a query. */
  test.for<[number, string, News, News]>([
    [400, 'PARAM_ERROR', blocked('PARAM_ERROR'), blocked('PARAM_ERROR')],
    [400, 'INVALID_REQUEST', refused('INVALID_REQUEST'), unknown('INVALID_REQUEST')],
    [401, 'SIGN_ERROR', blocked('SIGN_ERROR', 'gateway'), blocked('SIGN_ERROR', 'gateway')],
    [403, 'NO_AUTH', blocked('NO_AUTH', 'gateway'), blocked('NO_AUTH', 'gateway')],
    [403, 'NOT_ENOUGH', blocked('NOT_ENOUGH'), unknown('NOT_ENOUGH')],
    [
      403,
      'USER_ACCOUNT_ABNORMAL',
      refused('USER_ACCOUNT_ABNORMAL'),
      unknown('USER_ACCOUNT_ABNORMAL'),
    ],
    [
      404,
      'RESOURCE_NOT_EXISTS',
      refused('RESOURCE_NOT_EXISTS'),
      { kind: 'missing', code: 'RESOURCE_NOT_EXISTS' },
    ],
    [
      404,
      'MCH_NOT_EXISTS',
      blocked('MCH_NOT_EXISTS', 'gateway'),
      blocked('MCH_NOT_EXISTS', 'gateway'),
    ],
    // The money may be on its way.
    ...(
      [
        [429, 'FREQUENCY_LIMITED'],
        [429, 'RATELIMIT_EXCEEDED'],
        [429, 'RATE_LIMITED'],
        [429, 'NOT_ENOUGH'],
        [500, 'SYSTEM_ERROR'],
        [500, 'INVALID_REQUEST'],
        [503, 'RESOURCE_NOT_EXISTS'],
        // Known codes with another status, and codes that are new.
        [400, 'NOT_ENOUGH'],
        [403, 'RESOURCE_NOT_EXISTS'],
        [404, 'ORDER_NOT_EXIST'],
        [400, 'RESOURCE_NOT_EXISTS'],
        [202, 'RESOURCE_NOT_EXISTS'],
        [403, 'RULE_LIMIT'],
        [409, 'CONFLICT'],
        [400, 'constructor'],
      ] as const
    ).map(([status, code]): [number, string, News, News] => [
      status,
      code,
      unknown(code),
      unknown(code),
    ]),
  ])('%d %s', async ([status, code, ofSend, ofQuery]) => {
    const body = { code, message: '余额不足 13800000000' };
    network(answer(status, body), answer(status, body));
    const rest = { httpStatus: status, gatewayRequestId: '08F1-0-268435468' };
    expect(await gateway.send(REFUND)).toEqual({ news: ofSend, ...rest });
    expect(await gateway.query(REFUND, false)).toEqual({ news: ofQuery, ...rest });
  });

  test('of a send is a hint even without a signature, since a query decides', async () => {
    network(unsigned(403, '{"code":"NOT_ENOUGH"}'));
    expect((await gateway.send(REFUND)).news).toEqual(blocked('NOT_ENOUGH'));
  });

  test.for<[string, Tampering, string]>([
    ['unsigned', { headers: { 'Wechatpay-Signature': '' } }, 'UNSIGNED'],
    ['altered', { body: '{"code":"RESOURCE_NOT_EXISTS"}' }, 'BAD_SIGNATURE'],
    ['old', { headers: { 'Wechatpay-Timestamp': '1795500000' } }, 'CLOCK'],
  ])('that says there is no refund proves nothing when %s', async ([, tampering, code]) => {
    const notThere = { code: 'RESOURCE_NOT_EXISTS', message: 'x' };
    network(answer(404, notThere, tampering));
    expect((await gateway.query(REFUND, true)).news).toEqual(unknown(code));
  });
});

describe('a query that decides', () => {
  const notThere = () => answer(404, { code: 'RESOURCE_NOT_EXISTS', message: 'x' });
  const missing: News = { kind: 'missing', code: 'RESOURCE_NOT_EXISTS' };
  const ORDER = { mchid, appid, out_trade_no: REFUND.outTradeNo, trade_state: 'SUCCESS' };
  const paid = { ...ORDER, transaction_id: FOUND.transaction_id };
  const order =
    (status: number, content: unknown, tampering: Tampering = {}) =>
    () =>
      answer(status, content, tampering);
  const bad = { headers: { 'Wechatpay-Nonce': 'm' } };

  test.for<[string, () => Response | Promise<Response>, News]>([
    ['is paid: the refund is missing', order(200, paid), missing],
    [
      'is not paid: the refund is missing',
      order(200, { ...ORDER, trade_state: 'NOTPAY' }),
      missing,
    ],
    ['is closed: the refund is missing', order(200, { ...ORDER, trade_state: 'CLOSED' }), missing],
    [
      'has a refund: a person has to look',
      order(200, { ...paid, trade_state: 'REFUND' }),
      blocked('ORDER_SAYS_REFUNDED'),
    ],
    ['does not exist: the refund is missing', order(404, { code: 'ORDER_NOT_EXIST' }), missing],
    ['is no resource: the refund is missing', order(404, { code: 'RESOURCE_NOT_EXISTS' }), missing],
    [
      'does not exist, unverified: unknown',
      order(404, { code: 'ORDER_NOT_EXIST' }, bad),
      unknown('BAD_SIGNATURE'),
    ],
    ['is paid, unverified: unknown', order(200, paid, bad), unknown('BAD_SIGNATURE')],
    [
      'has a state that is new: unknown',
      order(200, { ...paid, trade_state: 'ACCEPT' }),
      unknown('ORDER_STATE'),
    ],
    ['has no state: unknown', order(200, { mchid }), unknown('UNREADABLE')],
    ['is another one: unknown', order(200, { ...paid, out_trade_no: 'P2' }), unknown('MISMATCH')],
    ['is of another merchant: unknown', order(200, { ...paid, mchid: '19' }), unknown('MISMATCH')],
    ['cannot be asked now: unknown', order(500, { code: 'SYSTEM_ERROR' }), unknown('SYSTEM_ERROR')],
    ['may not be asked: unknown', order(403, { code: 'NO_AUTH' }), unknown('NO_AUTH')],
    ['is at a page that is not there: unknown', () => unsigned(404, '<html>'), unknown('HTTP_404')],
  ])('asks about the order, which %s', async ([, reply, news]) => {
    const seen = network(notThere(), reply());
    expect((await gateway.query(REFUND, true)).news).toEqual(news);
    expect(seen.map(({ init, url }) => `${init.method} ${url.pathname}${url.search}`)).toEqual([
      `GET /v3/refund/domestic/refunds/${REFUND.outRefundNo}`,
      'GET /v3/pay/transactions/out-trade-no/P20261125000001?mchid=1900000001',
    ]);
  });

  test('knows nothing when the order does not answer', async () => {
    network(notThere());
    expect((await gateway.query(REFUND, true)).news).toEqual(unknown('NO_ANSWER'));
  });

  test('asks about the order by the number of WeChat Pay where it is known', async () => {
    const refund = { ...REFUND, tradeNo: FOUND.transaction_id };
    const seen = network(notThere(), answer(200, paid), notThere(), answer(200, ORDER));
    expect((await gateway.query(refund, true)).news).toEqual(missing);
    expect(seen[1]?.url.pathname).toBe(`/v3/pay/transactions/id/${FOUND.transaction_id}`);
    expect((await gateway.query(refund, true)).news).toEqual(unknown('MISMATCH'));
  });

  test('does not ask about the order of a refund that is there', async () => {
    const seen = network(answer(200, FOUND));
    expect((await gateway.query(REFUND, true)).news.kind).toBe('accepted');
    expect(seen).toHaveLength(1);
  });

  test('does not ask about the order where nothing is decided', async () => {
    const seen = network(notThere());
    expect((await gateway.query(REFUND, false)).news).toEqual(missing);
    expect(seen).toHaveLength(1);
  });
});

describe('an abnormal refund', () => {
  const refund = { gatewayRefundNo: ID, outRefundNo: REFUND.outRefundNo };
  const card = {
    type: 'USER_BANK_CARD',
    bankType: 'ICBC_DEBIT',
    bankAccount: '6222020000000000001',
    realName: '张三',
  } as const;
  const complete = (account: Parameters<NonNullable<typeof gateway.completeAbnormal>>[1]) =>
    gateway.completeAbnormal?.(refund, account);

  test('goes to a card of the payer, which only WeChat Pay can read', async () => {
    const lines = logged();
    const seen = network(answer(200, FOUND));
    expect(await complete(card)).toMatchObject({
      news: { kind: 'accepted', gatewayRefundNo: ID },
      httpStatus: 200,
    });

    const [{ init, url, body, headers } = expect.fail('nothing was sent')] = seen;
    expect([init.method, url.pathname]).toEqual([
      'POST',
      `/v3/refund/domestic/refunds/${ID}/apply-abnormal-refund`,
    ]);
    expect(headers.get('Wechatpay-Serial')).toBe(PUBLIC_KEY);
    const { bank_account, real_name, ...plain } = z
      .record(z.string(), z.string())
      .parse(JSON.parse(body));
    expect(plain).toEqual({
      out_refund_no: REFUND.outRefundNo,
      type: 'USER_BANK_CARD',
      bank_type: 'ICBC_DEBIT',
    });
    expect(await decrypt(bank_account)).toBe(card.bankAccount);
    expect(await decrypt(real_name)).toBe(card.realName);
    expect(JSON.stringify(lines)).not.toContain(card.bankAccount);
  });

  test('goes to the account of the merchant', async () => {
    const seen = network(answer(200, FOUND));
    await complete({ type: 'MERCHANT_BANK_CARD' });
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual({
      out_refund_no: REFUND.outRefundNo,
      type: 'MERCHANT_BANK_CARD',
    });
  });

  test.for<[string, number, object, News]>([
    ['another refund', 200, { ...FOUND, refund_id: '5' }, unknown('MISMATCH')],
    ['another number', 200, { ...FOUND, out_refund_no: 'R2' }, unknown('MISMATCH')],
    ['a wrong card', 400, { code: 'INVALID_REQUEST' }, blocked('INVALID_REQUEST')],
    ['no such refund', 404, { code: 'RESOURCE_NOT_EXISTS' }, blocked('RESOURCE_NOT_EXISTS')],
    ['no right to do it', 403, { code: 'NO_AUTH' }, blocked('NO_AUTH', 'gateway')],
    ['a fault', 500, { code: 'SYSTEM_ERROR' }, unknown('SYSTEM_ERROR')],
  ])('never looks as if it could fail, after %s', async ([, status, content, news]) => {
    network(answer(status, content));
    expect((await complete(card))?.news).toEqual(news);
  });

  test('is not sent with what cannot be encrypted, and nothing of it is logged', async () => {
    const lines = logged();
    const seen = network(answer(200, FOUND));
    const realName = '张'.repeat(100);
    expect((await complete({ ...card, realName }))?.news).toEqual(unknown('FAULT'));
    expect(seen).toEqual([]);
    expect(lines).toMatchObject([{ level: 'error', event: 'gateway_fault', gateway: 'wechat' }]);
    expect(JSON.stringify(lines)).not.toContain('张');
  });

  async function decrypt(base64: string | undefined): Promise<string> {
    const pem = platform_public_key.private_key_for_simulators.replace(/-----.*-----|\s/g, '');
    const oaep = { name: 'RSA-OAEP', hash: 'SHA-1' };
    const key = await crypto.subtle.importKey('pkcs8', fromBase64(pem), oaep, false, ['decrypt']);
    const plain = await crypto.subtle.decrypt(oaep, key, fromBase64(base64 ?? ''));
    return new TextDecoder().decode(plain);
  }
});

describe('a callback', () => {
  const read = (headers: Headers, body: Uint8Array, now = NOW) =>
    readCallback(config, headers, body, now);
  const vector = ({ headers, raw_body_base64 }: (typeof callbacks.callbacks)[number]) => ({
    headers: new Headers(Object.entries(headers)),
    body: fromBase64(raw_body_base64),
  });
  const accepted = callbacks.callbacks.filter(({ expect }) => expect === 'ok');
  const reasons = {
    'bad-signature': ['signature', 'probe'],
    clock: ['clock'],
    'unknown-serial': ['unknown_serial'],
    undecryptable: ['ciphertext'],
  };

  const refund = {
    outRefundNo: REFUND.outRefundNo,
    outTradeNo: REFUND.outTradeNo,
    amount: '12.34',
    total: '100.00',
  };
  test.for<[number, string, object]>([
    [0, 'REFUND.SUCCESS', { ...refund, news: { kind: 'succeeded', gatewayRefundNo: ID, at: AT } }],
    [1, 'REFUND.SUCCESS', { ...refund, news: { kind: 'succeeded', gatewayRefundNo: ID, at: AT } }],
    [
      2,
      'REFUND.ABNORMAL',
      { ...refund, news: { kind: 'abnormal', gatewayRefundNo: ID, code: 'ABNORMAL' } },
    ],
    [
      3,
      'REFUND.CLOSED',
      { ...refund, news: { kind: 'closed', gatewayRefundNo: ID, code: 'CLOSED' } },
    ],
  ])('of a refund is read (vector %d, %s)', async ([index, event, refund]) => {
    const [chosen = expect.fail('no vector')] = accepted.slice(index);
    const { headers, body } = vector(chosen);
    expect(await gateway.readCallback(headers, body)).toEqual({
      key: `EV-2026112501020300000${index}`,
      event,
      serial: headers.get('Wechatpay-Serial'),
      signature: {
        timestamp: headers.get('Wechatpay-Timestamp'),
        nonce: headers.get('Wechatpay-Nonce'),
        serial: headers.get('Wechatpay-Serial'),
        signature: headers.get('Wechatpay-Signature'),
      },
      refund,
      payment: null,
    });
  });

  test('of a payment is read, with the price and not with what the payer paid after a coupon', async () => {
    const [chosen = expect.fail('no vector')] = accepted.slice(4);
    const { headers, body } = vector(chosen);
    expect(await read(headers, body)).toMatchObject({
      event: 'TRANSACTION.SUCCESS',
      refund: null,
      payment: {
        outTradeNo: 'P20261125000003',
        tradeNo: '4200000000202611250000000003',
        amount: '100.00',
        currency: 'CNY',
        state: 'paid',
        at: '2026-11-25T09:00:00+08:00',
      },
    });
  });

  test.for(callbacks.callbacks.filter(({ expect }) => expect !== 'ok'))(
    'is refused: $name',
    async (chosen) => {
      const { headers, body } = vector(chosen);
      const [, expected] =
        Object.entries(reasons).find(([name]) => name === chosen.expect) ??
        expect.fail(`unexpected ${chosen.expect}`);
      expect(expected).toContain(await reasonOf(read(headers, body)));
    },
  );

  test('that is a probe is refused as one, for the log', async () => {
    const probes = callbacks.callbacks.filter(({ name }) => name === 'signature probe');
    expect(probes).toHaveLength(1);
    for (const probe of probes) {
      const { headers, body } = vector(probe);
      expect(await reasonOf(read(headers, body))).toBe('probe');
    }
  });

  describe.for(accepted)('that is accepted ($name) is refused', (chosen) => {
    test('with one byte of its body changed', async () => {
      const { headers, body } = vector(chosen);
      for (const at of [0, 40, body.length >> 1, body.length - 1]) {
        expect(await reasonOf(read(headers, flip(body, at)))).toBe('signature');
      }
    });

    test('with its JSON written anew', async () => {
      const { headers, body } = vector(chosen);
      const anew = JSON.stringify(JSON.parse(new TextDecoder().decode(body)), null, 2);
      expect(await reasonOf(read(headers, encoder.encode(anew)))).toBe('signature');
    });

    test.for([
      ['Wechatpay-Timestamp', String(NOW / 1000 - 1), 'signature'],
      ['Wechatpay-Timestamp', '', 'headers'],
      ['Wechatpay-Nonce', 'another', 'signature'],
      ['Wechatpay-Nonce', '', 'headers'],
      ['Wechatpay-Signature', 'AAAA', 'signature'],
      ['Wechatpay-Signature', '', 'headers'],
      ['Wechatpay-Serial', 'other', 'unknown_serial'],
      ['Wechatpay-Serial', '', 'headers'],
    ] as const)('with the %s %j', async ([name, value, reason]) => {
      const { headers, body } = vector(chosen);
      headers.set(name, value);
      expect(await reasonOf(read(headers, body))).toBe(reason);
      headers.delete(name);
      expect(await reasonOf(read(headers, body))).toBe('headers');
    });

    test('under the serial of another key of ours', async () => {
      const { headers, body } = vector(chosen);
      const other = headers.get('Wechatpay-Serial') === PUBLIC_KEY ? CERTIFICATE : PUBLIC_KEY;
      headers.set('Wechatpay-Serial', other);
      expect(await reasonOf(read(headers, body))).toBe('signature');
    });

    test('301 seconds before and after its time', async () => {
      const { headers, body } = vector(chosen);
      expect(await reasonOf(read(headers, body, NOW + 301_000))).toBe('clock');
      expect(await reasonOf(read(headers, body, NOW - 301_000))).toBe('clock');
      await expect(read(headers, body, NOW + 300_000)).resolves.toBeDefined();
    });
  });

  const REFUND_TEXT = {
    mchid,
    out_trade_no: 'P1',
    transaction_id: '42',
    out_refund_no: 'R1',
    refund_id: '50',
    refund_status: 'SUCCESS',
    success_time: AT,
    amount: { total: 10000, refund: 1, payer_total: 9000, payer_refund: 1 },
  };
  const PAYMENT_TEXT = {
    mchid,
    appid,
    out_trade_no: 'P1',
    transaction_id: '42',
    trade_state: 'SUCCESS',
    success_time: AT,
    amount: { total: 10000, payer_total: 1 },
  };

  test('is read without associated data', async () => {
    const { headers, body } = await callback('REFUND.SUCCESS', REFUND_TEXT);
    expect((await read(headers, body)).refund).toMatchObject({ amount: '0.01', total: '100.00' });
  });

  test.for<[string, string, object]>([
    ['a refund of another merchant', 'REFUND.CLOSED', { ...REFUND_TEXT, mchid: '1900000002' }],
    ['a payment of another merchant', 'TRANSACTION.SUCCESS', { ...PAYMENT_TEXT, mchid: '1' }],
    ['a payment of another app', 'TRANSACTION.SUCCESS', { ...PAYMENT_TEXT, appid: 'wx2' }],
  ])('about %s is refused', async ([, event, text]) => {
    const { headers, body } = await callback(event, text);
    expect(await reasonOf(read(headers, body))).toBe('other_account');
  });

  test.for([
    ['REFUND.SUCCESS', 'CLOSED'],
    ['REFUND.CLOSED', 'SUCCESS'],
    ['REFUND.SUCCESS', 'REVIEWING'],
  ] as const)('%s with the status %s proves nothing', async ([event, refund_status]) => {
    const { headers, body } = await callback(event, { ...REFUND_TEXT, refund_status });
    expect((await read(headers, body)).refund).toMatchObject({ outRefundNo: 'R1', news: null });
  });

  test('of a payment that has been refunded in part says that it was paid', async () => {
    const text = { ...PAYMENT_TEXT, trade_state: 'REFUND' };
    const { headers, body } = await callback('TRANSACTION.SUCCESS', text);
    expect((await read(headers, body)).payment).toMatchObject({ state: 'paid', amount: '100.00' });
  });

  test('of a payment whose state is not paid says nothing about it', async () => {
    const text = { ...PAYMENT_TEXT, trade_state: 'USERPAYING' };
    const { headers, body } = await callback('TRANSACTION.SUCCESS', text);
    expect((await read(headers, body)).payment).toBeNull();
  });

  test.for(['SECURITY_ECHO.SUCCESS', 'REFUND.LATER', 'COUPON.USE'])(
    'of the event %s is authentic and says nothing',
    async (event) => {
      const { headers, body } = await callback(event, { anything: 1 });
      expect(await read(headers, body)).toMatchObject({ event, refund: null, payment: null });
    },
  );

  test.for<[string, string]>([
    ['is no JSON', '<xml><return_code>SUCCESS</return_code></xml>'],
    ['is empty', ''],
    ['has no resource', '{"id":"EV-1","event_type":"REFUND.SUCCESS"}'],
    ['is a list', '[]'],
  ])('whose body %s is refused, though it is signed', async ([, text]) => {
    const { headers, body } = await signed(text);
    expect(await reasonOf(read(headers, body))).toBe('body');
  });

  test.for<[string, object]>([
    ['without a number', { ...REFUND_TEXT, out_refund_no: '' }],
    ['without an amount', { ...REFUND_TEXT, amount: {} }],
    ['with half a fen', { ...REFUND_TEXT, amount: { refund: 0.5, total: 1 } }],
    ['with an amount below zero', { ...REFUND_TEXT, amount: { refund: -1, total: 1 } }],
  ])('of a refund %s is refused', async ([, text]) => {
    const { headers, body } = await callback('REFUND.SUCCESS', text);
    expect(await reasonOf(read(headers, body))).toBe('body');
  });

  test('is answered without a reason', () => {
    const { taken, refused, tooLarge, again } = wechat.answers;
    expect(taken).toEqual({ status: 204, contentType: null, body: null });
    expect([refused, tooLarge, again].map(({ status }) => status)).toEqual([401, 413, 503]);
    for (const { contentType, body } of [refused, tooLarge, again]) {
      expect(contentType).toBe('application/json');
      expect(JSON.parse(body ?? '')).toEqual({ code: 'FAIL', message: expect.any(String) });
    }
  });

  async function reasonOf(reading: Promise<unknown>): Promise<string> {
    const error: unknown = await reading.then(
      () => expect.fail('it was accepted'),
      (error: unknown) => error,
    );
    if (!(error instanceof CallbackRefusedError)) throw error;
    return error.reason;
  }

  async function signed(text: string) {
    const response = await answer(200, undefined, {
      headers: {
        'Wechatpay-Signature': await sign(platformKey, `${NOW / 1000}\nn\n${text}\n`),
      },
    });
    return { headers: response.headers, body: encoder.encode(text) };
  }

  async function callback(event_type: string, text: object) {
    const raw = encoder.encode(keys.wechat.api_v3_key);
    const key = await crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['encrypt']);
    const nonce = 'abcdefghijkl';
    const algorithm = { name: 'AES-GCM', iv: encoder.encode(nonce) };
    const bytes = encoder.encode(JSON.stringify(text));
    const encrypted = await crypto.subtle.encrypt(algorithm, key, bytes);
    const ciphertext = btoa(String.fromCharCode(...new Uint8Array(encrypted)));
    return signed(
      JSON.stringify({
        id: 'EV-1',
        event_type,
        resource: { algorithm: 'AEAD_AES_256_GCM', ciphertext, nonce },
      }),
    );
  }
});

describe('the configuration', () => {
  test('names the account whose refunds it sees', () => {
    expect([gateway.name, gateway.account]).toEqual(['wechat', mchid]);
  });

  test.for<[keyof typeof ENV | 'WECHAT_API_BASE', unknown]>([
    ['WECHAT_MCHID', undefined],
    ['WECHAT_MCHID', 'secret-mchid'],
    ['WECHAT_APPID', 'secret app'],
    ['WECHAT_SERIAL_NO', 'abcdef-secret'],
    ['WECHAT_SERIAL_NO', merchant.serial_no.toLowerCase()],
    ['WECHAT_PRIVATE_KEY', 'secret'],
    ['WECHAT_PRIVATE_KEY', platform_public_key.public_key],
    ['WECHAT_API_V3_KEY', 'secret-of-31-bytes-aaaaaaaaaaaa'],
    ['WECHAT_API_V3_KEY', 'secret, 16 bytes'],
    ['WECHAT_API_V3_KEY', '密'.repeat(32)],
    ['WECHAT_VERIFY_KEYS', 'secret'],
    ['WECHAT_VERIFY_KEYS', '{}'],
    ['WECHAT_VERIFY_KEYS', '["secret"]'],
    ['WECHAT_VERIFY_KEYS', JSON.stringify({ [PUBLIC_KEY]: 'secret' })],
    ['WECHAT_VERIFY_KEYS', JSON.stringify({ secret: platform_public_key.public_key })],
    ['CALLBACK_BASE_URL', 'secret'],
    ['CALLBACK_BASE_URL', 'http://secret.example.test'],
    ['CALLBACK_BASE_URL', 'https://secret.example.test/?a=1'],
    ['CALLBACK_BASE_URL', 'https://user:secret@example.test'],
    ['CALLBACK_BASE_URL', `https://secret.example.test/${'a'.repeat(220)}`],
    ['WECHAT_API_BASE', 'https://api.secret.example.test'],
    ['WECHAT_API_BASE', 'http://api.mch.weixin.qq.com'],
    ['WECHAT_API_BASE', 'https://api.mch.weixin.qq.com.secret.test'],
    ['WECHAT_API_BASE', 'https://api.mch.weixin.qq.com/secret'],
    ['WECHAT_API_BASE', 'https://secret@api.mch.weixin.qq.com'],
    ['WECHAT_API_BASE', 'http://localhost.secret.test'],
  ])('refuses a wrong %s and names it without its value', async ([name, value]) => {
    const error: unknown = await wechat.configure({ ...ENV, [name]: value }).catch((e) => e);
    expect(error).toMatchObject({
      name: 'NotConfiguredError',
      message: expect.stringMatching(new RegExp(`^${name}: [^;]+$`)),
    });
    if (typeof value === 'string') expect(String(error)).not.toContain(value);
    expect(String(error)).not.toContain('secret');
  });

  test('names everything that is missing at once', async () => {
    const error: unknown = await wechat.configure({}).catch((e) => e);
    for (const name of Object.keys(ENV)) expect(String(error)).toContain(`${name}: not set`);
  });

  test.for([
    'https://api2.mch.weixin.qq.com',
    'http://localhost:8788',
    'http://127.0.0.1:8788/',
    '',
  ])('takes %j as the address of the API', async (WECHAT_API_BASE) => {
    const seen = network(answer(200, FOUND));
    await (await wechat.configure({ ...ENV, WECHAT_API_BASE })).query(REFUND, false);
    const origin = WECHAT_API_BASE || 'https://api.mch.weixin.qq.com';
    expect(seen[0]?.url.origin).toBe(new URL(origin).origin);
  });

  test.for([
    ['https://pay.example.test/', 'https://pay.example.test/callbacks/wechat'],
    ['https://example.test/pay', 'https://example.test/pay/callbacks/wechat'],
    ['http://localhost:8787', 'http://localhost:8787/callbacks/wechat'],
  ] as const)('asks WeChat Pay to call back below %s', async ([CALLBACK_BASE_URL, notifyUrl]) => {
    expect((await configuration({ ...ENV, CALLBACK_BASE_URL })).notifyUrl).toBe(notifyUrl);
  });

  test('takes a private key as PKCS#1, too', async () => {
    const env = { ...ENV, WECHAT_PRIVATE_KEY: merchant.private_key_pkcs1 };
    const [vector = expect.fail('no vector')] = requests.requests;
    const signed = { method: 'POST', path: vector.path_and_query, body: vector.body } as const;
    const { timestamp, nonce } = vector;
    expect(await authorization(await configuration(env), signed, Number(timestamp), nonce)).toBe(
      vector.authorization,
    );
  });

  test('warns of a certificate in its last 30 days', async () => {
    const expiry = certificateExpiry(platform_certificate.certificate).getTime();
    const lines = logged();
    vi.setSystemTime(expiry - 30 * 86_400_000);
    await wechat.configure(ENV);
    expect(lines).toEqual([]);

    vi.setSystemTime(expiry - 30 * 86_400_000 + 1);
    await wechat.configure(ENV);
    expect(lines).toEqual([
      {
        level: 'warn',
        event: 'gateway_key_expires',
        gateway: 'wechat',
        serial: CERTIFICATE,
        expires: new Date(expiry).toISOString(),
      },
    ]);
  });
});

/** As of 2050 the year has four digits. By `openssl req -x509 -days 10000`. */
const YEAR_2054 = `-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIUKjDYPSLyuvIX4YaqcBNAsj0BGMwwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAgFw0yNjExMjUxNTExMTBaGA8yMDU0MDQxMjE1MTExMFow
DDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCCixh9uwngO
xkU7pm4ksJ11bZhjwijZjogXXo9Y6CZCIqJ9rfj/A2q5anoAly4+ju+J6hmGB1Vz
Bgxyii/acLWjUzBRMB0GA1UdDgQWBBTdcR3/gBWoblbXeP/Ssfnjn6mupDAfBgNV
HSMEGDAWgBTdcR3/gBWoblbXeP/Ssfnjn6mupDAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIQDyYTla8ynL/SbQ0jDwqilOUCd/CowVl6oblCykjfd9
jwIgYSQt/YiMKCIXoRrGrFCKSKvSpVjr/jXTesIrsBoXruA=
-----END CERTIFICATE-----`;

describe('the expiry of a certificate', () => {
  // By `openssl x509 -noout -enddate`.
  test.for<[string, string, string]>([
    ['the merchant', merchant.certificate, '2036-11-22T04:36:38.000Z'],
    ['WeChat Pay', platform_certificate.certificate, '2036-11-22T04:36:38.000Z'],
    ['an app, version 1', keys.alipay.app.certificate, '2036-11-22T04:36:39.000Z'],
    ['the year 2054', YEAR_2054, '2054-04-12T15:11:10.000Z'],
    ['Alipay', keys.alipay.platform.certificate, '2036-11-22T04:36:39.000Z'],
  ])('of %s is read', ([, pem, expiry]) => {
    expect(certificateExpiry(pem).toISOString()).toBe(expiry);
  });

  test('of the last century is read', () => {
    const [, base64 = ''] = platform_certificate.certificate.split(/-----[A-Z ]+-----/);
    const der = atob(base64.replace(/\s/g, ''));
    expect(der).toContain('361122043638Z');
    const expired = btoa(der.replace('361122043638Z', '991231235959Z'));
    const pem = `-----BEGIN CERTIFICATE-----\n${expired}\n-----END CERTIFICATE-----`;
    expect(certificateExpiry(pem).toISOString()).toBe('1999-12-31T23:59:59.000Z');
  });

  test.for([
    '',
    'secret',
    platform_public_key.public_key,
    '-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----',
  ])('is not read from %j', (pem) => {
    expect(() => certificateExpiry(pem)).toThrow();
  });
});
