/**
 * Alipay's adapter against messages that alipay-sdk has made (vectors), and against ones that are made
 * here with the platform's test key: nothing that does not verify counts, nothing that is in no table
 * settles a refund, and what is sent is byte for byte what Alipay expects.
 */
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { NotConfiguredError } from '../../src/env';
import { alipay } from '../../src/gateways/alipay/alipay';
import { readConfiguration } from '../../src/gateways/alipay/configuration';
import { readAnswer, signedForm } from '../../src/gateways/alipay/messages';
import { fromBeijing, toBeijing, toTwoDecimals } from '../../src/gateways/alipay/values';
import {
  CallbackRefusedError,
  type Gateway,
  type GatewayRefund,
  type News,
  type Notification,
} from '../../src/gateways/gateway';
import { signingKey, toBase64 } from '../../src/gateways/keys';
import answerVectors from './vectors/alipay-answers.json';
import notificationVectors from './vectors/alipay-notifications.json';
import requestVectors from './vectors/alipay-requests.json';
import { alipay as keys, wechat } from './vectors/keys.json';

const common = {
  ALIPAY_APP_ID: keys.app_id,
  ALIPAY_SELLER_ID: keys.seller_id,
  ALIPAY_PRIVATE_KEY: keys.app.private_key_pkcs1_base64,
};
const publicKeyMode = { ...common, ALIPAY_PUBLIC_KEY: keys.platform.public_key_base64 };
const certificateMode = {
  ...common,
  ALIPAY_CERTS: JSON.stringify({ [keys.alipay_cert_sn]: keys.platform.certificate }),
  ALIPAY_APP_CERT_SN: keys.app_cert_sn,
  ALIPAY_ROOT_CERT_SN: keys.alipay_root_cert_sn,
};

/** Proper keys that are not Alipay's. */
const otherKey = wechat.platform_public_key.public_key;
const otherCertificate = wechat.platform_certificate.certificate;

/** The refund of the vectors. */
const refund: GatewayRefund = {
  outRefundNo: 'R20261125010203456a1b2c3d4e5f60719',
  outTradeNo: 'P20261125000004',
  tradeNo: null,
  amount: '12.34',
  total: '100.00',
  reason: '商品缺货，退一件 & 100%+',
};

/** 04:52:42 of the 25th in Beijing, which is the 24th in UTC. */
const VECTORS_TIME = new Date('2026-11-24T20:52:42.999Z');

const REFUND = 'alipay.trade.refund';
const QUERY = 'alipay.trade.fastpay.refund.query';

/** All of GBK that the tests write. 誠 ends in a backslash, 亄 in an opening brace. */
const GBK: Record<string, number[]> = {
  测: [0xb2, 0xe2],
  试: [0xca, 0xd4],
  誠: [0xd5, 0x5c],
  亄: [0x81, 0x7b],
};

let gateway: Gateway;
let platformKey: CryptoKey;

beforeAll(async () => {
  gateway = await alipay.configure(publicKeyMode);
  platformKey = await signingKey(keys.platform.private_key_for_simulators);
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const utf8 = (text: string) => new Uint8Array(new TextEncoder().encode(text));
const gbk = (text: string) =>
  Uint8Array.from([...text].flatMap((character) => GBK[character] ?? [...utf8(character)]));
const concat = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));

/** Signs as the platform does. */
async function signature(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return toBase64(await crypto.subtle.sign('RSASSA-PKCS1-v1_5', platformKey, bytes));
}

/** The body of an answer whose node is exactly these bytes. */
async function signedAnswer(
  node: string | Uint8Array<ArrayBuffer>,
  { name = 'alipay_trade_refund_response', certificate = '' } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = typeof node === 'string' ? utf8(node) : node;
  const number = certificate && `,"alipay_cert_sn":"${certificate}"`;
  const end = `${number},"sign":"${await signature(bytes)}"}`;
  return concat(utf8(`{"${name}":`), bytes, utf8(end));
}

/** Lets Alipay answer so, and says what fetch was called with. */
function stubFetch(body: BodyInit | null, init: ResponseInit = {}) {
  return vi.spyOn(globalThis, 'fetch').mockImplementation(async () => new Response(body, init));
}

/** What a refund's answer comes to. */
async function newsOfSend(fields: object, of = refund): Promise<News> {
  stubFetch(await signedAnswer(JSON.stringify(fields)));
  return (await gateway.send(of)).news;
}

/** What a query's answer comes to. */
async function newsOfQuery(fields: object, of = refund): Promise<News> {
  const name = 'alipay_trade_fastpay_refund_query_response';
  stubFetch(await signedAnswer(JSON.stringify(fields), { name }));
  return (await gateway.query(of, true)).news;
}

const failed = (sub_code: string) => ({ code: '40004', msg: 'Business Failed', sub_code });

describe('a request', () => {
  it.each(requestVectors.requests)(
    'is signed and written as $name of alipay-sdk',
    async (vector) => {
      const variables = vector.mode === 'certificate' ? certificateMode : publicKeyMode;
      const account = await readConfiguration(variables);
      const { method, biz_content } = vector.params;
      const form = await signedForm(account, method, biz_content, VECTORS_TIME);
      expect(form).toBe(vector.form);
      expect(new URLSearchParams(form).get('sign')).toBe(vector.sign);
    },
  );

  it('for a refund is the vector, byte for byte', async () => {
    vi.useFakeTimers({ now: VECTORS_TIME, toFake: ['Date'] });
    const fetch = stubFetch('{}');
    await gateway.send(refund);
    expect(fetch).toHaveBeenCalledExactlyOnceWith('https://openapi.alipay.com/gateway.do', {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded;charset=utf-8' },
      body: requestVectors.requests[0]?.form,
      redirect: 'manual',
      signal: expect.any(AbortSignal),
    });
  });

  it('has the same parameters on every repeat, but for time and signature', async () => {
    const fetch = stubFetch('{}');
    const contents: (string | null)[] = [];
    for (const now of ['2026-11-25T00:00:00Z', '2026-11-26T00:00:00Z']) {
      vi.useFakeTimers({ now: new Date(now), toFake: ['Date'] });
      await gateway.send(refund);
      contents.push(bizContent(fetch));
    }
    expect(contents[1]).toBe(contents[0]);
  });

  it("names the trade by Alipay's number where it is known, and by ours only where it is not", async () => {
    const fetch = stubFetch('{}');
    await gateway.send({ ...refund, tradeNo: '2026112522001400000500000004', reason: null });
    expect(bizContent(fetch)).toBe(
      '{"trade_no":"2026112522001400000500000004","refund_amount":"12.34",' +
        '"out_request_no":"R20261125010203456a1b2c3d4e5f60719"}',
    );
    await gateway.query(refund, false);
    expect(bizContent(fetch)).toBe(
      '{"out_trade_no":"P20261125000004","out_request_no":"R20261125010203456a1b2c3d4e5f60719",' +
        '"query_options":["gmt_refund_pay"]}',
    );
  });

  it('holds at most 256 UTF-16 units of the reason, and no half of a character', async () => {
    const fetch = stubFetch('{}');
    await gateway.send({ ...refund, reason: `x${'😀'.repeat(254)}` });
    const content: unknown = JSON.parse(bizContent(fetch) ?? '');
    expect(content).toMatchObject({ refund_reason: `x${'😀'.repeat(127)}` });
  });

  it('names its certificates in certificate mode only', async () => {
    const fetch = stubFetch('{}');
    await (await alipay.configure(certificateMode)).send(refund);
    await gateway.send(refund);
    const [first, second] = fetch.mock.calls.map(
      ([, init]) => new URLSearchParams(String(init?.body)),
    );
    expect(first?.get('app_cert_sn')).toBe(keys.app_cert_sn);
    expect(first?.get('alipay_root_cert_sn')).toBe(keys.alipay_root_cert_sn);
    expect(second?.has('app_cert_sn')).toBe(false);
    expect(second?.has('alipay_root_cert_sn')).toBe(false);
  });

  /** The biz_content of the last call. */
  function bizContent(fetch: ReturnType<typeof stubFetch>): string | null {
    return new URLSearchParams(String(fetch.mock.lastCall?.[1]?.body)).get('biz_content');
  }
});

describe('an answer', () => {
  const outcomes: Record<string, News> = {
    'refund done': { kind: 'succeeded', gatewayRefundNo: null, at: null },
    'same refund again: no money moved': { kind: 'unknown', code: 'FUND_CHANGE_N' },
    'unknown outcome': { kind: 'unknown', code: 'isp.unknow-error' },
    'unknown outcome, business layer': { kind: 'unknown', code: 'ACQ.SYSTEM_ERROR' },
    'seller has not enough': {
      kind: 'blocked',
      code: 'ACQ.SELLER_BALANCE_NOT_ENOUGH',
      where: 'refund',
    },
    'refund query, found; slashes escaped as the gateway does': {
      kind: 'succeeded',
      gatewayRefundNo: null,
      at: '2026-11-25T09:02:05+08:00',
    },
    'refund query, nothing there (yet)': { kind: 'missing', code: 'NOTHING_FOUND' },
  };

  describe.each(answerVectors.answers)('of alipay-sdk, $name,', ({ name, node, raw }) => {
    const isQuery = node.includes('query');
    const method = isQuery ? QUERY : REFUND;
    const ask = (of: Gateway) => (isQuery ? of.query(refund, false) : of.send(refund));

    it('is accepted in both modes', async () => {
      stubFetch(raw);
      expect((await ask(gateway)).news).toEqual(outcomes[name]);
      expect((await ask(await alipay.configure(certificateMode))).news).toEqual(outcomes[name]);
    });

    it('does not verify with any byte of its node altered', async () => {
      const account = await readConfiguration(publicKeyMode);
      const body = utf8(raw);
      const begin = raw.indexOf(':') + 1;
      const end = utf8(
        raw.slice(0, raw.lastIndexOf(raw.includes('cert_sn') ? ',"alipay' : ',"sign')),
      ).length;
      for (let at = begin; at < end; at += 1) {
        const altered = body.slice();
        altered[at] = (body[at] ?? 0) ^ 1;
        const answer = await readAnswer(account, method, null, altered);
        expect(answer.kind).toBe('unusable');
      }
    });

    it('is unknown with its signature altered, cut, or by another key', async () => {
      const sign = raw.indexOf('"sign":"') + 8;
      const first = raw[sign] === 'A' ? 'B' : 'A';
      stubFetch(`${raw.slice(0, sign)}${first}${raw.slice(sign + 1)}`);
      expect((await ask(gateway)).news).toEqual({ kind: 'unknown', code: 'SIGNATURE' });

      stubFetch(`${raw.slice(0, sign)}"}`);
      expect((await ask(gateway)).news).toEqual({ kind: 'unknown', code: 'SIGNATURE' });

      const others = { ...publicKeyMode, ALIPAY_PUBLIC_KEY: otherKey };
      stubFetch(raw);
      expect((await ask(await alipay.configure(others))).news).toMatchObject({ code: 'SIGNATURE' });
    });

    it('is unknown when it is cut at any place', async () => {
      const account = await readConfiguration(publicKeyMode);
      for (let length = 0; length < raw.length; length += 1) {
        const answer = await readAnswer(account, method, null, utf8(raw.slice(0, length)));
        expect(answer).toEqual({ kind: 'unusable', fault: 'UNREADABLE' });
      }
    });
  });

  it('that names another certificate is unknown, whatever it says', async () => {
    const certified = await alipay.configure(certificateMode);
    stubFetch(
      await signedAnswer(JSON.stringify(failed('ACQ.TRADE_NOT_EXIST')), { certificate: 'f00' }),
    );
    expect((await certified.send(refund)).news).toEqual({
      kind: 'unknown',
      code: 'UNKNOWN_SERIAL',
    });
    expect((await certified.query(refund, true)).news).toMatchObject({ kind: 'unknown' });
  });

  it('is verified by any of several configured certificates, by the number it names', async () => {
    const certificates = { ['0'.repeat(32)]: keys.app.certificate };
    const ALIPAY_CERTS = JSON.stringify(certificates);
    // The app's own certificate stands for one that Alipay no longer uses: it must not verify this.
    await expect(alipay.configure({ ...certificateMode, ALIPAY_CERTS })).rejects.toThrow('own key');

    const both = JSON.stringify({
      ['0'.repeat(32)]: otherCertificate,
      [keys.alipay_cert_sn]: keys.platform.certificate,
    });
    const certified = await alipay.configure({ ...certificateMode, ALIPAY_CERTS: both });
    const node = '{"code":"10000","fund_change":"Y"}';
    for (const certificate of [keys.alipay_cert_sn, '']) {
      stubFetch(await signedAnswer(node, { certificate }));
      expect((await certified.send(refund)).news.kind).toBe('succeeded');
    }
    stubFetch(await signedAnswer(node, { certificate: '0'.repeat(32) }));
    expect((await certified.send(refund)).news).toEqual({ kind: 'unknown', code: 'SIGNATURE' });
  });

  it('is taken as the bytes that came: escaped slashes, braces and quotes in strings, white space', async () => {
    const node =
      '{ "code" : "10000",\n "fund_change":"Y", "note":"a\\/b \\"}\\" { ] \\\\", "list":[{"n":-1.5e3},[]],' +
      ' "yes":true }';
    stubFetch(await signedAnswer(node));
    expect((await gateway.send(refund)).news.kind).toBe('succeeded');
  });

  it('is read wherever its members stand, with new ones beside them', async () => {
    const node = '{"code":"10000","fund_change":"Y"}';
    const sign = await signature(utf8(node));
    stubFetch(
      ` {"new":{"sign":"x"}, "count":12 ,"sign" : "${sign.replaceAll('/', '\\/')}","none":null,` +
        `"alipay_trade_refund_response" : ${node} }\n`,
    );
    expect((await gateway.send(refund)).news.kind).toBe('succeeded');
  });

  it.each([
    ['nothing', () => ''],
    ['a page', () => '<html>busy</html>'],
    ['an empty object', () => '{}'],
    ['an array', () => '[]'],
    ['text after the object', (raw: string) => `${raw}{}`],
    ['the node twice', (raw: string) => raw.replace('{', '{"alipay_trade_refund_response":{},')],
    ['the signature twice', (raw: string) => raw.replace('{', '{"sign":"",')],
    ['the answer to another method', (raw: string) => raw.replace('trade_refund', 'trade_query')],
    ['a signature that is no string', (raw: string) => raw.replace(/"sign":.*/, '"sign":1}')],
    ['a node that is no object', (raw: string) => raw.replace(/:\{.*?\}/, ':"x"')],
  ])('is unknown when it is %s', async (_, alter) => {
    const done = new TextDecoder().decode(await signedAnswer('{"code":"10000","fund_change":"Y"}'));
    stubFetch(alter(done));
    expect((await gateway.send(refund)).news.kind).toBe('unknown');
  });

  it.each([null, 'text/html;charset=GBK', 'text/html;charset=utf-8'])(
    'in GBK is verified over its bytes and then decoded, with Content-Type %s',
    async (contentType) => {
      const headers: HeadersInit = contentType ? { 'Content-Type': contentType } : {};
      for (const text of ['测试', '测试誠', '亄', '誠誠"'.replace('"', '\\"')]) {
        const node = gbk(`{"code":"40004","sub_msg":"${text}","sub_code":"ACQ.TRADE_HAS_CLOSE"}`);
        expect(
          new TextDecoder('gb18030', { fatal: true, ignoreBOM: false }).decode(node),
        ).toContain(text);
        stubFetch(await signedAnswer(node), { headers });
        expect((await gateway.send(refund)).news).toEqual({
          kind: 'refused',
          code: 'ACQ.TRADE_HAS_CLOSE',
        });

        const altered = node.slice();
        altered[altered.length - 40] = (altered.at(-40) ?? 0) ^ 1;
        stubFetch(
          concat(
            utf8('{"alipay_trade_refund_response":'),
            altered,
            (await signedAnswer(node)).slice(32 + node.length),
          ),
          { headers },
        );
        expect((await gateway.send(refund)).news.kind).toBe('unknown');
      }
    },
  );
});

describe('no answer', () => {
  it.each([301, 302, 307, 308, 400, 404, 429, 500, 502, 503, 504])(
    'but HTTP %i is unknown, even with a signed body, and nothing is followed',
    async (status) => {
      const headers = { Location: 'https://example.test/', trace_id: '0b1c2d' };
      const fetch = stubFetch(await signedAnswer('{"code":"10000","fund_change":"Y"}'), {
        status,
        headers,
      });
      expect(await gateway.send(refund)).toEqual({
        news: { kind: 'unknown', code: `HTTP_${status}` },
        httpStatus: status,
        gatewayRequestId: '0b1c2d',
      });
      expect(fetch).toHaveBeenCalledOnce();
      expect(fetch.mock.lastCall?.[1]?.redirect).toBe('manual');
    },
  );

  it('at all is unknown, with no status', async () => {
    vi.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('Network connection lost.'));
    const nothing = { httpStatus: null, gatewayRequestId: null };
    const news = { kind: 'unknown', code: 'NO_ANSWER' };
    expect(await gateway.send(refund)).toEqual({ news, ...nothing });
    expect(await gateway.query(refund, true)).toEqual({ news, ...nothing });
  });

  it('in ten seconds is unknown', async () => {
    const timeout = vi
      .spyOn(AbortSignal, 'timeout')
      .mockReturnValue(AbortSignal.abort(new DOMException('', 'TimeoutError')));
    vi.spyOn(globalThis, 'fetch').mockImplementation(async (_, init) => {
      init?.signal?.throwIfAborted();
      return new Response();
    });
    expect((await gateway.send(refund)).news).toEqual({ kind: 'unknown', code: 'TIMEOUT' });
    expect(timeout).toHaveBeenCalledWith(10_000);
  });

  it('to the end is unknown', async () => {
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(utf8('{"alipay_trade_refund_response":{"code":"10000"'));
        controller.error(new Error('cut'));
      },
    });
    stubFetch(body);
    expect(await gateway.send(refund)).toMatchObject({
      news: { kind: 'unknown', code: 'NO_ANSWER' },
      httpStatus: 200,
    });
  });
});

describe('a refund that was sent', () => {
  it('has succeeded only where this call moved money', async () => {
    expect(await newsOfSend({ code: '10000', fund_change: 'Y' })).toMatchObject({
      kind: 'succeeded',
    });
    for (const fund_change of ['N', '', 'y', undefined, null]) {
      expect(await newsOfSend({ code: '10000', fund_change })).toEqual({
        kind: 'unknown',
        code: 'FUND_CHANGE_N',
      });
    }
  });

  it('is not settled by refund_fee, which is the sum of all refunds of the trade', async () => {
    const fields = { code: '10000', fund_change: 'N', refund_fee: '12.34', send_back_fee: '12.34' };
    expect(await newsOfSend(fields)).toMatchObject({ kind: 'unknown' });
    const second = { code: '10000', fund_change: 'Y', refund_fee: '32.34' };
    expect(await newsOfSend(second)).toMatchObject({ kind: 'succeeded' });
  });

  it('is unknown where the answer is about another trade', async () => {
    const done = { code: '10000', fund_change: 'Y' };
    const mismatch = { kind: 'unknown', code: 'MISMATCH' };
    expect(await newsOfSend({ ...done, out_trade_no: 'P2' })).toEqual(mismatch);
    expect(await newsOfSend({ ...done, trade_no: '2' }, { ...refund, tradeNo: '1' })).toEqual(
      mismatch,
    );
    expect(await newsOfSend({ ...done, trade_no: '1' }, { ...refund, tradeNo: '1' })).not.toEqual(
      mismatch,
    );
  });

  it.each([
    ['ACQ.SYSTEM_ERROR', 'unknown'],
    ['aop.ACQ.SYSTEM_ERROR', 'unknown'],
    ['ACQ.REFUND_CHARGE_ERROR', 'later'],
    ['ACQ.SELLER_BALANCE_NOT_ENOUGH', 'blocked'],
    ['aop.ACQ.SELLER_BALANCE_NOT_ENOUGH', 'blocked'],
    ['ACQ.INVALID_PARAMETER', 'blocked'],
    ['ACQ.TRADE_NOT_EXIST', 'refused'],
    ['TRADE_NOT_EXIST', 'refused'],
    ['aop.ACQ.TRADE_NOT_EXIST', 'refused'],
    ['ACQ.TRADE_HAS_FINISHED', 'refused'],
    ['ACQ.TRADE_STATUS_ERROR', 'refused'],
    ['ACQ.TRADE_NOT_ALLOW_REFUND', 'refused'],
    ['ACQ.TRADE_HAS_CLOSE', 'refused'],
    ['ACQ.REFUND_AMT_NOT_EQUAL_TOTAL', 'refused'],
    ['ACQ.REASON_TRADE_REFUND_FEE_ERR', 'refused'],
    ['ACQ.REASON_TRADE_BEEN_FREEZEN', 'refused'],
    ['ACQ.NOT_ALLOW_PARTIAL_REFUND', 'refused'],
    ['ACQ.BUYER_ERROR', 'refused'],
    ['ACQ.BUYER_NOT_EXIST', 'refused'],
    ['ACQ.BUYER_ENABLE_STATUS_FORBID', 'refused'],
    // In no table
    ['ACQ.ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND', 'unknown'],
    ['ACQ.TRADE_NOT_EXIST_', 'unknown'],
    ['ACQ.NEW.CODE', 'unknown'],
    ['ACQ.constructor', 'unknown'],
    ['ACQ.trade_not_exist', 'unknown'],
    ['ACQ.', 'unknown'],
  ])('and met 40004 %s is %s', async (code, kind) => {
    expect(await newsOfSend(failed(code))).toEqual({
      kind,
      code,
      ...(kind === 'blocked' && { where: 'refund' }),
    });
  });

  it.each(['ACQ.DISCORDANT_REPEAT_REQUEST', 'aop.ACQ.DISCORDANT_REPEAT_REQUEST'])(
    'and met 40004 %s is asked about, and not sent again',
    async (code) => {
      const news = { kind: 'blocked', code, where: 'refund', askOnly: true };
      expect(await newsOfSend(failed(code))).toEqual(news);
    },
  );

  it.each([
    ['20000', 'isp.unknow-error', { kind: 'unknown' }],
    ['20000', 'aop.unknow-error', { kind: 'unknown' }],
    ['20000', 'aop.ACQ.SYSTEM_ERROR', { kind: 'unknown' }],
    ['20000', 'ACQ.TRADE_NOT_EXIST', { kind: 'unknown' }],
    ['20001', 'aop.invalid-auth-token', { kind: 'unknown' }],
    ['40001', 'isv.missing-signature', { kind: 'blocked', where: 'gateway' }],
    ['40002', 'isv.invalid-signature', { kind: 'blocked', where: 'gateway' }],
    ['40003', 'isv.insufficient-isv-permissions', { kind: 'blocked', where: 'gateway' }],
    ['40006', 'isv.insufficient-user-permissions', { kind: 'blocked', where: 'gateway' }],
    ['40005', 'isv.app-call-limited', { kind: 'later' }],
    ['10003', 'ACQ.USERPAYING', { kind: 'unknown' }],
    ['99999', 'ACQ.TRADE_NOT_EXIST', { kind: 'unknown' }],
    ['', 'ACQ.TRADE_NOT_EXIST', { kind: 'unknown' }],
  ])('and met %s %s is %o', async (code, sub_code, news) => {
    expect(await newsOfSend({ code, sub_code })).toEqual({ ...news, code: sub_code });
  });

  it('is known by the code where there is no sub_code', async () => {
    expect(await newsOfSend({ code: '40005' })).toEqual({ kind: 'later', code: '40005' });
    expect(await newsOfSend({ code: '40004' })).toEqual({ kind: 'unknown', code: '40004' });
    expect(await newsOfSend({ code: '40004', sub_code: '' })).toEqual({
      kind: 'unknown',
      code: '40004',
    });
  });

  it.each([
    [{}],
    [{ code: 10000, fund_change: 'Y' }],
    [[]],
    [{ code: '10000', fund_change: true }],
  ])('is unknown where the node is %j', async (fields) => {
    expect(await newsOfSend(fields)).toEqual({ kind: 'unknown', code: 'UNREADABLE' });
  });

  it('is said to have failed by codes only, never by a text', async () => {
    const text = '验签出错，待验签字符串：app_id=2021000000000001&biz_content={"refund_amount"';
    stubFetch(
      await signedAnswer(
        JSON.stringify({
          code: '40002',
          msg: text,
          sub_code: 'isv.invalid-signature',
          sub_msg: text,
        }),
      ),
      { headers: { trace_id: 'x y' } },
    );
    expect(await gateway.send(refund)).toEqual({
      news: { kind: 'blocked', code: 'isv.invalid-signature', where: 'gateway' },
      httpStatus: 200,
      gatewayRequestId: 'UNREADABLE',
    });
    expect(await newsOfSend(failed(text))).toEqual({ kind: 'unknown', code: 'UNREADABLE' });
    expect(await newsOfSend(failed(`ACQ.${'X'.repeat(61)}`))).toMatchObject({ code: 'UNREADABLE' });
  });

  describe('and met a refusal without a signature', () => {
    const unsigned = async (name: string, code: string, sub_code: string) => {
      stubFetch(JSON.stringify({ [name]: { code, msg: 'x', sub_code, fund_change: 'Y' } }));
      return [(await gateway.send(refund)).news, (await gateway.query(refund, true)).news];
    };

    it.each(['40001', '40002', '40003', '40006'])(
      '%s pauses the gateway and fails nothing',
      async (code) => {
        const blocked = { kind: 'blocked', code: 'isv.invalid-app-id', where: 'gateway' };
        expect(await unsigned('error_response', code, 'isv.invalid-app-id')).toEqual([
          blocked,
          blocked,
        ]);
      },
    );

    it.each([
      ['40004', 'ACQ.TRADE_NOT_EXIST'],
      ['40004', 'ACQ.SELLER_BALANCE_NOT_ENOUGH'],
      ['40005', 'isv.app-call-limited'],
      ['20000', 'isp.unknow-error'],
      ['10000', ''],
    ])('%s %s is unknown', async (code, subCode) => {
      const unknown = { kind: 'unknown', code: 'UNSIGNED' };
      expect(await unsigned('error_response', code, subCode)).toEqual([unknown, unknown]);
      expect((await unsigned('alipay_trade_refund_response', code, subCode))[0]).toEqual(unknown);
    });
  });

  it('takes a signed error_response as a refusal, and never as done', async () => {
    const name = 'error_response';
    stubFetch(await signedAnswer(JSON.stringify(failed('ACQ.TRADE_HAS_CLOSE')), { name }));
    expect((await gateway.send(refund)).news.kind).toBe('refused');
    stubFetch(await signedAnswer('{"code":"10000","fund_change":"Y"}', { name }));
    expect((await gateway.send(refund)).news).toEqual({ kind: 'unknown', code: 'UNREADABLE' });
    stubFetch(await signedAnswer('{"code":"10000"}', { name }));
    expect((await gateway.query(refund, true)).news).toEqual({
      kind: 'unknown',
      code: 'UNREADABLE',
    });
  });
});

describe('a refund that is asked about', () => {
  const data = {
    out_request_no: refund.outRefundNo,
    out_trade_no: refund.outTradeNo,
    refund_amount: '12.34',
  };

  it.each<[string, News]>([
    ['REFUND_SUCCESS', { kind: 'succeeded', gatewayRefundNo: null, at: null }],
    ['REFUND_PROCESSING', { kind: 'accepted', gatewayRefundNo: null }],
    ['REFUND_FAIL', { kind: 'abnormal', gatewayRefundNo: null, code: 'REFUND_FAIL' }],
    ['REFUND_NEW', { kind: 'unknown', code: 'REFUND_NEW' }],
    ['a text', { kind: 'unknown', code: 'UNREADABLE' }],
  ])('and has %s is %o', async (refund_status, news) => {
    expect(await newsOfQuery({ code: '10000', ...data, refund_status })).toEqual(news);
    expect(await newsOfQuery({ code: '10000', refund_status })).toEqual(news);
  });

  it.each([
    ['2026-11-25 09:02:05', '2026-11-25T09:02:05+08:00'],
    ['2026-11-25 09:02:05.123', '2026-11-25T09:02:05.123+08:00'],
    ['2026-02-30 09:02:05', null],
    ['yesterday', null],
    ['', null],
  ])('was refunded at %s in Beijing', async (gmt_refund_pay, at) => {
    const fields = { code: '10000', ...data, refund_status: 'REFUND_SUCCESS', gmt_refund_pay };
    expect(await newsOfQuery(fields)).toMatchObject({ kind: 'succeeded', at });
  });

  it('is missing only where nothing of it is in the answer', async () => {
    const missing = { kind: 'missing', code: 'NOTHING_FOUND' };
    expect(await newsOfQuery({ code: '10000', msg: 'Success' })).toEqual(missing);
    expect(await newsOfQuery({ code: '10000', out_trade_no: refund.outTradeNo })).toEqual(missing);
    expect(await newsOfQuery({ code: '10000', refund_status: '', refund_amount: '' })).toEqual(
      missing,
    );
  });

  it.each([
    [{ refund_amount: '12.34' }],
    [{ out_request_no: refund.outRefundNo }],
    [{ gmt_refund_pay: '2026-11-25 09:02:05' }],
    [data],
  ])('and comes as %o without a status waits for a person', async (fields) => {
    const blocked = { kind: 'blocked', code: 'REFUND_STATUS_ABSENT', where: 'refund' };
    expect(await newsOfQuery({ code: '10000', ...fields })).toEqual(blocked);
    expect(await newsOfQuery({ code: '10000', refund_status: '', ...fields })).toEqual(blocked);
  });

  it.each([
    [{ refund_amount: '12.35' }],
    [{ refund_amount: '1234' }],
    [{ refund_amount: '0.00' }],
    [{ refund_amount: 'x' }],
    [{ refund_amount: '99999999999999999.00' }],
    [{ out_request_no: 'R2' }],
    [{ out_trade_no: 'P2' }],
  ])('is unknown where the answer has %o', async (fields) => {
    for (const refund_status of ['REFUND_SUCCESS', 'REFUND_PROCESSING', 'REFUND_FAIL', undefined]) {
      const news = await newsOfQuery({ code: '10000', ...data, refund_status, ...fields });
      expect(news).toEqual({ kind: 'unknown', code: 'MISMATCH' });
    }
  });

  it('has the amount however many decimals are written', async () => {
    const done = { code: '10000', refund_status: 'REFUND_SUCCESS' };
    for (const [amount, written] of [
      ['12.30', '12.3'],
      ['12.00', '12'],
    ] as const) {
      const news = await newsOfQuery({ ...done, refund_amount: written }, { ...refund, amount });
      expect(news.kind).toBe('succeeded');
    }
  });

  it.each([
    ['ACQ.TRADE_NOT_EXIST', 'missing'],
    ['aop.ACQ.TRADE_NOT_EXIST', 'missing'],
    ['ACQ.TRADE_HAS_FINISHED', 'unknown'],
    ['ACQ.TRADE_STATUS_ERROR', 'unknown'],
    ['ACQ.BUYER_ERROR', 'unknown'],
    ['ACQ.SYSTEM_ERROR', 'unknown'],
    ['ACQ.INVALID_PARAMETER', 'blocked'],
  ])('and met 40004 %s is %s', async (code, kind) => {
    expect(await newsOfQuery(failed(code))).toMatchObject({ kind, code });
  });

  it('is missing only where 40004 says that the trade is', async () => {
    expect(await newsOfQuery({ code: '20000', sub_code: 'ACQ.TRADE_NOT_EXIST' })).toMatchObject({
      kind: 'unknown',
    });
  });
});

describe('a notification', () => {
  const vectors = notificationVectors.notifications;
  const read = (form: string, of = gateway) => of.readCallback(new Headers(), utf8(form));
  const refusal = async (reading: Promise<Notification>) => {
    const error: unknown = await reading.catch((thrown: unknown) => thrown);
    return error instanceof CallbackRefusedError ? error.reason : error;
  };

  /** The parameters of the first vector, unsigned. */
  const paid = () => {
    const parameters = new URLSearchParams(vectors[0]?.form);
    parameters.delete('sign');
    parameters.delete('sign_type');
    return Object.fromEntries(parameters);
  };

  /** Signs these parameters as the platform does; of `encode`, each value's bytes. */
  async function signedForm(
    parameters: Record<string, string | undefined>,
    { encode = utf8, unsigned = [] as string[] } = {},
  ): Promise<string> {
    const pairs = Object.entries(parameters).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, encode(value)] as const],
    );
    const text = pairs
      .filter(([name]) => !unsigned.includes(name))
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([name, value], at) => [utf8(`${at > 0 ? '&' : ''}${name}=`), value]);
    const escaped = (bytes: Uint8Array) =>
      Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
    const sign = encodeURIComponent(await signature(concat(...text)));
    return [
      ...pairs.map(([name, value]) => `${name}=${escaped(value)}`),
      `sign=${sign}`,
      'sign_type=RSA2',
    ].join('&');
  }

  const payment = {
    outTradeNo: 'P20261125000004',
    tradeNo: '2026112522001400000500000004',
    amount: '100.00',
    currency: 'CNY',
    state: 'paid',
    at: '2026-11-25T09:00:00+08:00',
  };
  const refunded = (outRefundNo: string) => ({
    outRefundNo,
    outTradeNo: 'P20261125000004',
    amount: null,
    total: '100.00',
    news: null,
  });
  const expected: Record<string, object> = {
    'payment succeeded': { payment, refund: null },
    'partial refund: the status stays TRADE_SUCCESS': {
      payment,
      refund: refunded('R20261125010203456a1b2c3d4e5f60719'),
    },
    'second partial refund: refund_fee is what was refunded altogether': {
      payment,
      refund: refunded('R20261125020203456a1b2c3d4e5f60720'),
    },
    'last refund: TRADE_CLOSED': {
      event: 'trade_status_sync.TRADE_CLOSED',
      payment: null,
      refund: refunded('R20261125030203456a1b2c3d4e5f60721'),
    },
    'closed without payment': { payment: { ...payment, state: 'closed', at: null }, refund: null },
    'refund window over': {
      event: 'trade_status_sync.TRADE_FINISHED',
      payment,
      refund: null,
    },
    'a parameter with an empty value is part of the signed text': { payment, refund: null },
    'value decoded twice would break: subject has a literal %2B': { payment, refund: null },
  };

  it.each(vectors.filter((vector) => !vector.expect))(
    'of alipay-sdk, $name, is refused',
    async ({ form }) => {
      expect(await refusal(read(form))).toBe('signature');
    },
  );

  describe.each(vectors.filter((vector) => vector.expect))(
    'of alipay-sdk, $name,',
    ({ name, form }) => {
      const parameters = new URLSearchParams(form);

      it('is accepted in both modes', async () => {
        const notification = {
          key: parameters.get('notify_id'),
          serial: null,
          signature: { sign: parameters.get('sign'), sign_type: 'RSA2' },
          ...expected[name],
        };
        expect(expected).toHaveProperty([name]);
        expect(await read(form)).toMatchObject(notification);
        const certified = await alipay.configure(certificateMode);
        expect(await read(form, certified)).toMatchObject(notification);
      });

      it('says the same or nothing with any byte altered', async () => {
        const { signature: _, ...before } = await read(form);
        const body = utf8(form);
        for (let at = 0; at < body.length; at += 1) {
          const altered = body.slice();
          altered[at] = (body[at] ?? 0) ^ 1;
          const after = await gateway.readCallback(new Headers(), altered).catch(() => before);
          expect(after).toMatchObject(before);
        }
      });

      it('is refused with any parameter altered, left out, emptied or doubled', async () => {
        for (const [name, value] of parameters) {
          const alter = (change: (copy: URLSearchParams) => void) => {
            const copy = new URLSearchParams(parameters);
            change(copy);
            return refusal(read(copy.toString()));
          };
          const left = /^(signature|body)$/;
          expect(await alter((copy) => copy.set(name, `x${value}`))).toMatch(left);
          expect(await alter((copy) => copy.delete(name))).toMatch(left);
          if (value) expect(await alter((copy) => copy.set(name, ''))).toMatch(left);
          expect(await alter((copy) => copy.append(name, value))).toBe('body');
          expect(await alter((copy) => copy.append(name, ''))).toBe('body');
        }
      });
    },
  );

  it('is verified over the text of the vectors', async () => {
    for (const { form, signed_text, expect: accepted } of vectors) {
      if (!accepted) continue;
      const parameters = new URLSearchParams(form);
      const resigned = await signature(utf8(signed_text));
      expect(parameters.get('sign')).toBe(resigned);
    }
  });

  it('in GBK is verified over its bytes and then decoded', async () => {
    for (const charset of ['GBK', 'gb2312', 'GB18030']) {
      const parameters = { ...paid(), charset, subject: '测试誠', body: '亄&=+%2B' };
      const form = await signedForm(parameters, { encode: gbk });
      expect(await read(form)).toMatchObject({ payment });
      expect(await refusal(read(form.replace('%b2%e2', '%b2%e3')))).toBe('signature');
    }
  });

  it('is refused where its bytes are no text in its charset, or the charset is none of Alipay', async () => {
    const outTradeNo = { out_trade_no: '测试' };
    expect(
      await refusal(read(await signedForm({ ...paid(), ...outTradeNo }, { encode: gbk }))),
    ).toBe('body');
    expect(await refusal(read(await signedForm({ ...paid(), charset: 'utf-7' })))).toBe('body');
  });

  it('takes a plus as a space, and %2B as a plus, once', async () => {
    const form = await signedForm({ ...paid(), out_trade_no: 'A%2BB+C D' });
    expect(await read(form)).toMatchObject({ payment: { outTradeNo: 'A%2BB+C D' } });
  });

  it.each([
    ['app_id', '2021000000000002'],
    ['app_id', undefined],
    ['seller_id', '2088000000000009'],
    ['seller_id', ''],
    ['seller_id', undefined],
  ])('with %s %s is refused, since it is not for this account', async (name, value) => {
    const form = await signedForm({ ...paid(), [name]: value });
    expect(await refusal(read(form))).toBe(name === 'app_id' && !value ? 'body' : 'other_account');
  });

  it.each([
    ['notify_id', undefined],
    ['notify_id', ''],
    ['notify_id', 'x'.repeat(129)],
    ['notify_type', undefined],
    ['total_amount', undefined],
    ['total_amount', '1.234'],
    ['total_amount', '-1.00'],
    ['out_trade_no', ''],
  ])('with %s %s is refused, since it cannot be read', async (name, value) => {
    const form = await signedForm({ ...paid(), [name]: value });
    // The event needs one of notify_type and trade_status.
    const parameters =
      name === 'notify_type' ? { ...paid(), notify_type: '', trade_status: '' } : null;
    expect(await refusal(read(parameters ? await signedForm(parameters) : form))).toBe('body');
  });

  it('is accepted with a notify_id of 128 characters', async () => {
    const notify_id = 'x'.repeat(128);
    expect(await read(await signedForm({ ...paid(), notify_id }))).toMatchObject({
      key: notify_id,
    });
  });

  it.each([
    ['', 'body'],
    ['x', 'signature'],
    ['{"app_id":"2021000000000001"}', 'signature'],
    ['%', 'signature'],
    ['a=1&a=2', 'body'],
    ['a=1&%61=2', 'body'],
  ])('%s is refused: %s', async (form, reason) => {
    expect(['body', 'signature']).toContain(await refusal(read(form)));
    if (reason === 'body' && form) expect(await refusal(read(form))).toBe('body');
  });

  it('is refused when it asks for the older signature', async () => {
    const form = await signedForm(paid());
    for (const type of ['RSA', 'rsa2', '', 'RSA2 ']) {
      const asked = form.replace('sign_type=RSA2', `sign_type=${encodeURIComponent(type)}`);
      expect(await refusal(read(asked))).toBe('signature');
    }
  });

  it('may be signed without its empty parameters, and these say nothing', async () => {
    const form = await signedForm({ ...paid(), body: '' }, { unsigned: ['body'] });
    expect(await read(form)).toMatchObject({ payment });
    const widened = `${form}&out_biz_no=&gmt_refund=&msg_method=`;
    expect(await read(widened)).toMatchObject({ payment, refund: null });
  });

  it('is verified by the certificate that it names, be the number signed or not', async () => {
    const certified = await alipay.configure(certificateMode);
    const parameters = { ...paid(), alipay_cert_sn: keys.alipay_cert_sn, body: '' };
    for (const unsigned of [[], ['body'], ['alipay_cert_sn'], ['alipay_cert_sn', 'body']]) {
      const form = await signedForm(parameters, { unsigned });
      expect(await read(form, certified)).toMatchObject({ serial: keys.alipay_cert_sn, payment });
      const renamed = form.replace(/alipay_cert_sn=[^&]*/, 'alipay_cert_sn=f00');
      expect(await refusal(read(renamed, certified))).toBe('unknown_serial');
    }
  });

  it('is refused where one value contains another parameter: the signed text is the same', async () => {
    const closed = { ...paid(), trade_status: 'TRADE_CLOSED' };
    const form = await signedForm(closed);
    expect(await read(form)).toMatchObject({ payment: null });
    // gmt_payment goes into the value before it, and the payment would look unpaid.
    const joined = form
      .replace(/gmt_payment=[^&]*&/, '')
      .replace(/(gmt_create=[^&]*)/, '$1%26gmt_payment%3d2026-11-25+09%3a00%3a00');
    expect(await refusal(read(joined))).toBe('body');
  });

  it('is refused where a name contains other parameters: the signed text is the same', async () => {
    const hidden = 'x&total_amount=100.00&trade_no=2026&trade_status=TRADE_SUCCESS&u=';
    const form = await signedForm({
      ...paid(),
      trade_status: 'WAIT_BUYER_PAY',
      subject: hidden,
      version: '1.0',
    });
    // What the buyer wrote as the subject becomes parameters, and the true ones hide in a name.
    const signed = [...new URLSearchParams(form)]
      .filter(([name]) => name !== 'sign' && name !== 'sign_type')
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => `${name}=${value}`)
      .join('&');
    const [before = '', after = ''] = signed.split(hidden);
    const u = `${encodeURIComponent(`u=${after.slice(0, after.lastIndexOf('='))}`)}=1.0`;
    const forged = `${new URLSearchParams(before)}x&total_amount=100.00&trade_no=2026&trade_status=TRADE_SUCCESS&${u}`;
    const signature = [...new URLSearchParams(form)].filter(([name]) => name.startsWith('sign'));
    expect(await refusal(read(`${forged}&${new URLSearchParams(signature)}`))).toBe('body');
  });

  it('is refused where it has more parameters than any notification', async () => {
    const many = Array.from({ length: 101 }, (_, i) => `p${i}=1`).join('&');
    expect(await refusal(read(many))).toBe('body');
  });

  it.each<[string, Record<string, string | undefined>, string | null]>([
    ['nothing of a payment', {}, 'closed'],
    ['an empty refund', { refund_fee: '0.00', gmt_close: '2026-11-25 12:00:00' }, 'closed'],
    ['empty values', { refund_fee: '', gmt_refund: '', gmt_payment: '' }, 'closed'],
    ['a time of payment', { gmt_payment: '2026-11-25 09:00:00' }, null],
    ['a time of refund', { gmt_refund: '2026-11-25 09:00:00' }, null],
    ['a refund', { refund_fee: '0.01' }, null],
    ['a refund that cannot be read', { refund_fee: 'x' }, null],
  ])('TRADE_CLOSED with %s is %o, %s', async (_, fields, state) => {
    const { gmt_payment: _paid, ...unpaid } = paid();
    const form = await signedForm({ ...unpaid, trade_status: 'TRADE_CLOSED', ...fields });
    expect((await read(form)).payment?.state ?? null).toBe(state);
  });

  it('WAIT_BUYER_PAY and a new status change nothing', async () => {
    for (const trade_status of ['WAIT_BUYER_PAY', 'TRADE_PENDING', 'TRADE_NEW']) {
      expect(await read(await signedForm({ ...paid(), trade_status }))).toMatchObject({
        event: `trade_status_sync.${trade_status}`,
        payment: null,
        refund: null,
      });
    }
  });

  it.each([
    [{ refund_fee: '0.00', gmt_close: '2026-11-25 12:00:00' }],
    [{ refund_fee: '12.34' }],
    [{ out_biz_no: 'R1' }],
    [{ gmt_refund: '2026-11-25 12:00:00' }],
  ])('with %o names no refund', async (fields) => {
    expect(await read(await signedForm({ ...paid(), ...fields }))).toMatchObject({ refund: null });
  });

  it.each([
    ['100', '100.00'],
    ['100.5', '100.50'],
    ['0.01', '0.01'],
  ])('of %s is one of %s', async (total_amount, amount) => {
    expect(await read(await signedForm({ ...paid(), total_amount }))).toMatchObject({
      payment: { amount },
    });
  });

  it('about a returned card refund, or about no trade, is stored and changes nothing', async () => {
    const message = {
      app_id: keys.app_id,
      charset: 'utf-8',
      notify_id: '2026112500262130900000000000001',
      utc_timestamp: '1795568526123',
      version: '1.1',
    };
    const msg_method = 'alipay.trade.refund.depositback.completed';
    const biz_content = '{"trade_no":"2026112522001400000500000004","dback_status":"F"}';
    const nothing = { key: message.notify_id, payment: null, refund: null };
    expect(await read(await signedForm({ ...message, msg_method, biz_content }))).toMatchObject({
      ...nothing,
      event: msg_method,
    });
    const other = { ...message, notify_type: 'open_app_auth_notify' };
    expect(await read(await signedForm(other))).toMatchObject({
      ...nothing,
      event: 'open_app_auth_notify',
    });
    const foreign = { ...message, msg_method, app_id: '2021000000000002' };
    expect(await refusal(read(await signedForm(foreign)))).toBe('other_account');
  });

  it('is answered with exactly `success` when it is taken, and never otherwise', () => {
    const { taken, ...others } = alipay.answers;
    expect(taken).toEqual({ status: 200, contentType: 'text/plain', body: 'success' });
    expect(Object.values(others).map(({ status, body }) => [status, body])).toEqual([
      [400, 'fail'],
      [413, 'fail'],
      [503, 'fail'],
    ]);
  });
});

describe('the configuration', () => {
  it('takes keys as the console hands them out', async () => {
    const pem = (label: string, base64: string) =>
      `-----BEGIN ${label}-----\n${base64.replace(/.{64}/g, '$&\n')}\n-----END ${label}-----\n`;
    const privateKeys = [
      keys.app.private_key_pkcs1_base64,
      keys.app.private_key_pkcs8_base64,
      pem('RSA PRIVATE KEY', keys.app.private_key_pkcs1_base64),
      pem('PRIVATE KEY', keys.app.private_key_pkcs8_base64),
    ];
    const publicKeys = [
      keys.platform.public_key_base64,
      pem('PUBLIC KEY', keys.platform.public_key_base64),
    ];
    for (const ALIPAY_PRIVATE_KEY of privateKeys) {
      for (const ALIPAY_PUBLIC_KEY of publicKeys) {
        const configured = await alipay.configure({
          ...common,
          ALIPAY_PRIVATE_KEY,
          ALIPAY_PUBLIC_KEY,
        });
        stubFetch(answerVectors.answers[0]?.raw ?? '');
        expect((await configured.send(refund)).news.kind).toBe('succeeded');
      }
    }
  });

  it('takes the first certificate of a file that holds its issuer too', async () => {
    const ALIPAY_CERTS = JSON.stringify({
      [keys.alipay_cert_sn]: `${keys.platform.certificate}\n${keys.root_bundle}`,
    });
    const certified = await alipay.configure({ ...certificateMode, ALIPAY_CERTS });
    stubFetch(answerVectors.answers[1]?.raw ?? '');
    expect((await certified.send(refund)).news).toMatchObject({ code: 'FUND_CHANGE_N' });
  });

  it('says whose refunds are seen', () => {
    expect(gateway.name).toBe('alipay');
    expect(gateway.account).toBe('2021000000000001/2088000000000001');
    expect(alipay).toMatchObject({ gapSeconds: 3, proofSeconds: 60, refundDays: 365 });
  });

  it.each([
    'https://openapi.alipay.com/gateway.do',
    'https://openapi-sandbox.dl.alipaydev.com/gateway.do',
    'http://localhost:8799/alipay/gateway.do',
    'http://127.0.0.1:8799/gateway.do',
  ])('sends to %s', async (ALIPAY_API_BASE) => {
    const configured = await alipay.configure({ ...publicKeyMode, ALIPAY_API_BASE });
    const fetch = stubFetch('{}');
    await configured.send(refund);
    expect(fetch.mock.lastCall?.[0]).toBe(ALIPAY_API_BASE);
  });

  it.each([
    'https://openapi.alipay.com/',
    'http://openapi.alipay.com/gateway.do',
    'https://openapi.alipay.com.example.test/gateway.do',
    'https://localhost/gateway.do',
    'http://localhost.example.test/gateway.do',
    'http://localhost@example.test/gateway.do',
    'http://user:password@localhost/gateway.do',
    'gateway.do',
  ])('does not send to %s', async (ALIPAY_API_BASE) => {
    await expect(alipay.configure({ ...publicKeyMode, ALIPAY_API_BASE })).rejects.toThrow(
      new NotConfiguredError("ALIPAY_API_BASE: not one of Alipay's addresses"),
    );
  });

  it('names every wrong variable, and no value', async () => {
    const wrong = {
      ALIPAY_APP_ID: 'wrong-app',
      ALIPAY_SELLER_ID: 'wrong-seller',
      ALIPAY_PRIVATE_KEY: 'wrong-key',
      ALIPAY_PUBLIC_KEY: '',
      ALIPAY_CERTS: '{"wrong-certs":"wrong"}',
      ALIPAY_APP_CERT_SN: 'wrong-sn',
      ALIPAY_ROOT_CERT_SN: 'wrong-sn',
      ALIPAY_API_BASE: 'wrong-url',
    };
    const error: unknown = await alipay.configure(wrong).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(NotConfiguredError);
    const text = String(error);
    for (const name of Object.keys(wrong)) {
      if (name !== 'ALIPAY_PUBLIC_KEY') expect(text).toContain(`${name}: `);
    }
    expect(text).not.toContain('wrong');
  });

  it.each<[string, Record<string, unknown>]>([
    ['ALIPAY_APP_ID: not set', { ...publicKeyMode, ALIPAY_APP_ID: undefined }],
    ['ALIPAY_SELLER_ID', { ...publicKeyMode, ALIPAY_SELLER_ID: keys.app_id }],
    ['ALIPAY_PRIVATE_KEY', { ...publicKeyMode, ALIPAY_PRIVATE_KEY: undefined }],
    ['ALIPAY_PRIVATE_KEY', { ...publicKeyMode, ALIPAY_PRIVATE_KEY: '' }],
    ['ALIPAY_PRIVATE_KEY', { ...publicKeyMode, ALIPAY_PRIVATE_KEY: keys.app.public_key_base64 }],
    [
      'ALIPAY_PUBLIC_KEY',
      { ...publicKeyMode, ALIPAY_PUBLIC_KEY: keys.app.private_key_pkcs8_base64 },
    ],
    ['ALIPAY_PUBLIC_KEY or ALIPAY_CERTS', common],
    [
      'ALIPAY_PUBLIC_KEY or ALIPAY_CERTS',
      { ...publicKeyMode, ALIPAY_CERTS: certificateMode.ALIPAY_CERTS },
    ],
    ["own key, not Alipay's", { ...publicKeyMode, ALIPAY_PUBLIC_KEY: keys.app.public_key_base64 }],
    ['ALIPAY_APP_CERT_SN: not set', { ...certificateMode, ALIPAY_APP_CERT_SN: '' }],
    ['ALIPAY_ROOT_CERT_SN: not set', { ...certificateMode, ALIPAY_ROOT_CERT_SN: undefined }],
    ['ALIPAY_APP_CERT_SN: set without', { ...publicKeyMode, ALIPAY_APP_CERT_SN: keys.app_cert_sn }],
    ['ALIPAY_CERTS', { ...certificateMode, ALIPAY_CERTS: '{}' }],
    ['ALIPAY_CERTS', { ...certificateMode, ALIPAY_CERTS: 'not JSON' }],
    [
      'ALIPAY_CERTS',
      {
        ...certificateMode,
        ALIPAY_CERTS: JSON.stringify({ [keys.alipay_cert_sn]: 'no certificate' }),
      },
    ],
  ])('is refused with %s', async (message, variables) => {
    await expect(alipay.configure(variables)).rejects.toThrow(message);
    await expect(alipay.configure(variables)).rejects.toThrow(NotConfiguredError);
  });
});

describe('a time in Beijing', () => {
  it.each([
    ['2026-11-24T20:52:42.999Z', '2026-11-25 04:52:42'],
    ['2026-12-31T16:00:00Z', '2027-01-01 00:00:00'],
    ['2026-07-01T00:00:00Z', '2026-07-01 08:00:00'],
  ])('of %s is %s', (utc, beijing) => {
    expect(toBeijing(new Date(utc))).toBe(beijing);
    expect(fromBeijing(beijing)).toBe(`${beijing.replace(' ', 'T')}+08:00`);
  });

  it.each(['', '2026-11-25', '2026-11-25T09:00:00', '2026-11-25 25:00:00', '25.11.2026 09:00:00'])(
    'is not %s',
    (text) => {
      expect(fromBeijing(text)).toBeNull();
    },
  );
});

describe('an amount of Alipay', () => {
  it.each(['', '.5', '5.', '1,000.00', '1e2', '+1', '-1', '1.234', ' 1', '１'])(
    'is not %s',
    (text) => {
      expect(toTwoDecimals(text)).toBeNull();
    },
  );
});
