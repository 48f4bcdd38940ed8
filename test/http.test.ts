/**
 * Proves what every endpoint shares on the wire: the envelope, request ids, routing errors, the order
 * of the checks, what a body may be, and that the request log says what went wrong and never what a
 * client or a secret said.
 */
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import type { Bindings } from '../src/env';
import worker from '../src/index';
import { expectConforming } from './contract';
import { type Call, insertPayment, signToken, startApp, type TestApp } from './harness';

let app: TestApp;
/** Payments in status 支付成功 and 待支付, and one that does not exist. */
let paid: string;
let pending: string;
const UNKNOWN = '9223372036854775807';

beforeAll(async () => {
  app = await startApp();
  paid = await insertPayment(app.sql);
  pending = await insertPayment(app.sql, { status: 0 });
});

afterEach(() => app.idle());

const anything = z.unknown();
const REFUND = { amount: '1.00', reason: '商品缺货' };

const token = await signToken();

/** Sends a request as it is, for what the harness does not let through. */
async function send(path: string, init: RequestInit = {}, env: Bindings = app.env) {
  const ctx = createExecutionContext();
  const request = new Request(`https://api.test${path}`, init);
  if (!request.headers.has('Authorization')) {
    request.headers.set('Authorization', `Bearer ${token}`);
  }
  const response = await worker.fetch(request, env, ctx);
  await expectConforming(request, response);
  await waitOnExecutionContext(ctx);
  return response;
}

describe('the envelope', () => {
  it("of a success is the specification's: code, message, data", async () => {
    const reply = await app.call('GET', `/payments/${paid}`, anything);
    expect(reply.status).toBe(200);
    expect(reply.headers.get('Content-Type')).toMatch(/^application\/json\b/);
    expect(Object.keys(reply.body)).toEqual(['code', 'message', 'data']);
    expect(reply.body).toMatchObject({ code: 0, message: '获取成功' });
  });

  it('of a failure has the request id as well', async () => {
    const reply = await app.call('GET', `/payments/${UNKNOWN}`, anything);
    expect(reply.status).toBe(404);
    expect(reply.headers.get('Content-Type')).toMatch(/^application\/json\b/);
    expect(reply.body).toEqual({
      code: 40401,
      message: '支付记录不存在',
      data: null,
      request_id: reply.headers.get('X-Request-Id'),
    });
  });
});

describe('X-Request-Id', () => {
  it.each(['a', 'A-Z_09', '-', 'x'.repeat(64)])('%s is taken over', async (id) => {
    const headers = { 'X-Request-Id': id };
    const success = await app.call('GET', '/payments', anything, { headers });
    expect(success.headers.get('X-Request-Id')).toBe(id);
    const failure = await app.call('GET', '/nowhere', anything, { headers });
    expect(failure.headers.get('X-Request-Id')).toBe(id);
    expect(failure.body.request_id).toBe(id);
  });

  it.each(['', ' ', 'x'.repeat(65), 'a b', 'a,b', 'a.b', 'ä', '中', '<script>', 'a;b', '"a"'])(
    '%j is replaced',
    async (id) => {
      const response = await send('/nowhere', { headers: { 'X-Request-Id': id } });
      expect(response.headers.get('X-Request-Id')).toMatch(
        /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
      );
    },
  );

  it('is another for each request', async () => {
    const ids = await Promise.all(
      Array.from({ length: 20 }, async () => (await send('/health')).headers.get('X-Request-Id')),
    );
    expect(new Set(ids).size).toBe(20);
  });
});

describe('routing', () => {
  it.each([
    '/payment',
    '/Payments',
    '/payments/',
    '/payments/1/',
    '/payments/1/refunds/',
    '/payments/1/callbacks/1',
    '/payments/1/refund/1',
    '/payments/1/refunds/1/1',
    '//payments',
    '/payments//refund',
    '/health/x',
    '/constructor',
    '/__proto__',
    '/%',
  ])('answers 40400 for %s', async (path) => {
    for (const method of ['GET', 'POST', 'HEAD']) {
      expect((await send(path, { method })).status).toBe(404);
    }
    expect((await app.call('GET', path, z.null())).code).toBe(40400);
  });

  it.each([
    ['/payments', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/lookup', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/refunds', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/payments/export', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/payments/statistics', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/payments/1', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/payments/1/refund', 'POST', ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/payments/1/refunds/1', 'PATCH', ['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS']],
    ['/payments/1/refunds', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/payments/1/gateway', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/payments/1/callbacks', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/openapi.json', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/health', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
    ['/health/ready', 'GET, HEAD', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']],
  ])('answers 40500 for other methods of %s, and which there are', async (path, allow, methods) => {
    for (const method of methods) {
      const reply = await app.call(method, path, z.null());
      expect([reply.status, reply.code]).toEqual([405, 40500]);
      expect(reply.headers.get('Allow')).toBe(allow);
    }
  });

  it('does not take a payment that is not there for a path that is not there', async () => {
    const reply = await app.call('GET', `/payments/${UNKNOWN}`, anything);
    expect(reply.code).toBe(40401);
    expect(reply.headers.get('Allow')).toBeNull();
  });

  it.each(['/health', '/openapi.json', '/payments', '/payments/export', '/payments/1'])(
    'answers HEAD %s as GET, without a body',
    async (path) => {
      const response = await send(path, { method: 'HEAD' });
      expect(response.status).toBe(200);
      expect(response.headers.get('X-Request-Id')).not.toBeNull();
      expect(await response.text()).toBe('');
    },
  );

  it('answers HEAD of a path that only takes POST with 405', async () => {
    const response = await send('/payments/1/refund', { method: 'HEAD' });
    expect(response.status).toBe(405);
    expect(response.headers.get('Allow')).toBe('POST');
  });
});

describe('the order of the checks', () => {
  const LARGE = 'x'.repeat(16 * 1024 + 1);
  const TEXT = { 'Content-Type': 'text/plain' };
  const nobody = { ...TEXT, Authorization: 'Basic dTpw' };
  const reader = signToken({ scope: 'payments:read' });
  const limited = { WRITE_RATE_LIMIT: { limit: async () => ({ success: false }) } };

  // Each request lacks one thing fewer than the one before.
  it.each<[number, string, string, Call]>([
    [40400, 'POST', '/nowhere/abc/refund', { body: LARGE, headers: nobody }],
    [40500, 'PUT', '/payments/abc/refund', { body: LARGE, headers: nobody }],
    [40100, 'POST', '/payments/abc/refund', { body: LARGE, headers: nobody, env: limited }],
    [42900, 'POST', '/payments/abc/refund', { body: LARGE, headers: TEXT, env: limited }],
    [41300, 'POST', '/payments/abc/refund', { body: LARGE, headers: TEXT }],
    [41500, 'POST', '/payments/abc/refund', { body: '{', headers: TEXT }],
    [40001, 'POST', '/payments/abc/refund', { body: '{' }],
    [40000, 'POST', '/payments/abc/refund', { body: REFUND }],
    [40000, 'POST', `/payments/${UNKNOWN}/refund`, { body: {} }],
    [40401, 'POST', `/payments/${UNKNOWN}/refund`, { body: REFUND }],
    [40900, 'POST', '/payments/2/refund', { body: { ...REFUND, amount: '100.01' } }],
    [40901, 'POST', '/payments/1/refund', { body: { ...REFUND, amount: '100.01' } }],
    [40500, 'PUT', '/payments/abc/refunds/0', { body: LARGE, headers: nobody }],
    [40100, 'PATCH', '/payments/abc/refunds/0', { body: LARGE, headers: nobody, env: limited }],
    [42900, 'PATCH', '/payments/abc/refunds/0', { body: LARGE, headers: TEXT, env: limited }],
    [41300, 'PATCH', '/payments/abc/refunds/0', { body: LARGE, headers: TEXT }],
    [41500, 'PATCH', '/payments/abc/refunds/0', { body: '{', headers: TEXT }],
    [40001, 'PATCH', '/payments/abc/refunds/0', { body: '{' }],
    [40000, 'PATCH', `/payments/${UNKNOWN}/refunds/0`, { body: { status: 1 } }],
    [40401, 'PATCH', `/payments/${UNKNOWN}/refunds/1`, { body: { status: 1 } }],
    [40402, 'PATCH', '/payments/1/refunds/1', { body: { status: 1 } }],
  ])('comes to %i for %s %s', async (code, method, path, call) => {
    expect([paid, pending]).toEqual(['1', '2']);
    expect((await app.call(method, path, anything, call)).code).toBe(code);
  });

  it('looks at the scope after the token and before the rate', async () => {
    const headers = { ...TEXT, Authorization: `Bearer ${await reader}` };
    for (const path of ['/payments/abc/refund', '/payments/abc/refunds/0']) {
      const method = path.endsWith('refund') ? 'POST' : 'PATCH';
      const call = { body: LARGE, headers, env: limited };
      expect((await app.call(method, path, anything, call)).code).toBe(40300);
    }
  });
});

describe('a body', () => {
  const refund = (init: RequestInit) =>
    send(`/payments/${UNKNOWN}/refund`, { method: 'POST', ...init });
  const JSON_TYPE = { 'Content-Type': 'application/json' };
  const Code = z.object({ code: z.number() });
  const codeOf = async (response: Response) => Code.parse(await response.json()).code;

  /** A valid body of this size. */
  const bodyOf = (bytes: number) => {
    const body = JSON.stringify(REFUND);
    return body.padEnd(bytes - (new TextEncoder().encode(body).length - body.length), ' ');
  };

  /** A body without a length that comes in pieces. */
  const chunked = (text: string, piece: number) => {
    const bytes = new TextEncoder().encode(text);
    let sent = 0;
    return new ReadableStream<Uint8Array>({
      pull(controller) {
        if (sent >= bytes.length) return controller.close();
        controller.enqueue(bytes.slice(sent, sent + piece));
        sent += piece;
      },
    });
  };

  it('may have 16 KiB, and not a byte more', async () => {
    expect(new TextEncoder().encode(bodyOf(16_384)).length).toBe(16_384);
    expect(await codeOf(await refund({ headers: JSON_TYPE, body: bodyOf(16_384) }))).toBe(40401);
    expect(await codeOf(await refund({ headers: JSON_TYPE, body: bodyOf(16_385) }))).toBe(41300);
  });

  it.each([1000, 16_384, 100_000])(
    'is counted as it comes, in pieces of %i bytes',
    async (piece) => {
      const fits = await refund({ headers: JSON_TYPE, body: chunked(bodyOf(16_384), piece) });
      expect(await codeOf(fits)).toBe(40401);
      const large = await refund({ headers: JSON_TYPE, body: chunked(bodyOf(16_385), piece) });
      expect([large.status, await codeOf(large)]).toEqual([413, 41300]);
    },
  );

  it('is not read on when it is too large', async () => {
    let pulled = 0;
    const long = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled += 1;
        controller.enqueue(new Uint8Array(1024));
        if (pulled === 100) controller.close();
      },
    });
    expect(await codeOf(await refund({ headers: JSON_TYPE, body: long }))).toBe(41300);
    expect(pulled).toBeLessThan(30);
  });

  it.each(['1', '0', '1000000', 'x'])(
    'is measured, whatever Content-Length says: %s',
    async (length) => {
      const headers = { ...JSON_TYPE, 'Content-Length': length };
      expect(await codeOf(await refund({ headers, body: bodyOf(16_384) }))).toBe(40401);
      expect(await codeOf(await refund({ headers, body: bodyOf(16_385) }))).toBe(41300);
    },
  );

  it.each([
    'application/json',
    'APPLICATION/JSON',
    'application/json; charset=utf-8',
    'application/json;charset="UTF-8"',
    ' application/json ; x=y',
    'application/json; charset=utf8;',
    'application/json; x="a; charset=gbk, b"; charset=utf-8',
  ])('may be said to be %j', async (type) => {
    const response = await refund({ headers: { 'Content-Type': type }, body: bodyOf(100) });
    expect(await codeOf(response)).toBe(40401);
  });

  it.each([
    '',
    'text/plain',
    'text/json',
    'application/jsonp',
    'application/vnd.api+json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'json',
    '*/*',
    'text/plain; application/json',
    'application/json, text/plain',
    // Two headers arrive as one.
    'application/json; x=y, text/plain',
    'application/json; x=y, application/json; charset=utf-16',
    // Another reader would decode the bytes in another way.
    'application/json; charset=gbk',
    'application/json; charset="utf-16le"',
    'application/json; charset=utf-8; Charset=gbk',
    'application/json; charset',
    'application/json; charset=',
    'application/json; charset = gbk',
    "application/json; charset*=gbk''gbk",
    'application/json; charset="ut\\f-8"',
  ])('may not be said to be %j', async (type) => {
    const response = await refund({ headers: { 'Content-Type': type }, body: bodyOf(100) });
    expect([response.status, await codeOf(response)]).toEqual([415, 41500]);
  });

  it('is refused in no time, however many parameters its type has', async () => {
    const headers = { 'Content-Type': `application/json${'; '.repeat(4000)}x` };
    expect(await codeOf(await refund({ headers, body: bodyOf(100) }))).toBe(41500);
  });

  it.each([
    ['gzip', 41500],
    ['deflate', 41500],
    ['br', 41500],
    ['identity, gzip', 41500],
    ['x', 41500],
    ['identity', 40401],
    ['Identity', 40401],
    ['', 40401],
  ])('may not be compressed: with Content-Encoding %j it comes to %i', async (encoding, code) => {
    const headers = { ...JSON_TYPE, 'Content-Encoding': encoding };
    expect(await codeOf(await refund({ headers, body: bodyOf(100) }))).toBe(code);
  });

  it('is searched for keys that are there twice in no time, however deep it is', async () => {
    const depth = 2000;
    const body = `${'{"a":1,"a":'.repeat(depth / 2)}${'['.repeat(depth)}${']'.repeat(depth)}${'}'.repeat(depth / 2)}`;
    const Errors = z.object({ errors: z.array(z.object({ path: z.string() })) });
    const { data } = await app.call('POST', '/payments/1/refund', Errors, { body });
    expect(data.errors).toHaveLength(100);
    expect(data.errors.slice(0, 3).map(({ path }) => path)).toEqual(['a', 'a.a', 'a.a.a']);
  });

  it('has to be said to be JSON', async () => {
    expect(await codeOf(await refund({ body: new TextEncoder().encode(bodyOf(100)) }))).toBe(41500);
    expect(await codeOf(await refund({}))).toBe(41500);
  });

  it.each([
    ['nothing', ''],
    ['spaces', '  \n'],
    ['half an object', '{"amount":"1.00",'],
    ['two values', '{} {}'],
    ['a trailing comma', '{"amount":1,}'],
    ['single quotes', "{'amount':1}"],
    ['a comment', '{}//'],
    ['NaN', '{"amount":NaN}'],
    ['hexadecimal', '{"amount":0x10}'],
    ['a leading zero', '{"amount":012}'],
    ['a leading plus', '{"amount":+1}'],
    ['a bare point', '{"amount":.5}'],
    ['undefined', 'undefined'],
    ['a raw control character', '{"reason":"a\nb"}'],
    ['a form', 'amount=1&reason=x'],
    ['a raw NUL', '{"amount":1}\0'],
    ['invalid UTF-8', Uint8Array.of(0x22, 0xff, 0x22)],
    ['a surrogate in UTF-8', Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22)],
    ['an overlong slash', Uint8Array.of(0x22, 0xc0, 0xaf, 0x22)],
    ['a cut character', Uint8Array.of(0x22, 0xe5, 0x95)],
    ['UTF-16', Uint8Array.of(0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00)],
  ])('is no JSON when it is %s', async (_, body) => {
    const response = await refund({ headers: JSON_TYPE, body });
    expect([response.status, await codeOf(response)]).toEqual([400, 40001]);
  });

  it('with more that is wrong than anybody would read names the first hundred', async () => {
    const fields = Array.from({ length: 1000 }, (_, index) => [`field${index}`, 1]);
    const body = Object.fromEntries(fields);
    const Errors = z.object({ errors: z.array(z.object({ path: z.string() })) });
    const { data } = await app.call('PATCH', '/payments/1/refunds/1', Errors, { body });
    expect(data.errors).toHaveLength(100);
    expect(data.errors[0]).toMatchObject({ path: 'status' });
  });

  it.each(['null', 'true', '1', '"text"', '[]', '[{"amount":"1.00","reason":"x"}]'])(
    'is refused as a whole when it is no object: %s',
    async (body) => {
      const errors = [{ path: '', message: '须为 JSON 对象' }];
      const refund = await app.call('POST', '/payments/1/refund', anything, { body });
      expect([refund.code, refund.data]).toEqual([40000, { errors }]);
      const settlement = await app.call('PATCH', '/payments/1/refunds/1', anything, { body });
      expect([settlement.code, settlement.data]).toEqual([40000, { errors }]);
    },
  );

  it("that breaks off is its sender's fault", async () => {
    const body = new ReadableStream({
      pull(controller) {
        controller.enqueue(new TextEncoder().encode('{"amount"'));
        controller.error(new Error('gone'));
      },
    });
    expect(await codeOf(await refund({ headers: JSON_TYPE, body }))).toBe(40001);
  });

  it.each([
    '12.34000000000000001',
    '1234567890123456',
    '0.1000000000000000055',
    '1.000000000000000e2',
    '-0.1234567890123456',
    '1234567890123456E-9',
  ])('with an amount that a float may have changed is refused: %s', async (amount) => {
    const body = `{"amount":${amount},"reason":"退款"}`;
    const reply = await app.call('POST', `/payments/${UNKNOWN}/refund`, anything, { body });
    expect(reply.code).toBe(40000);
    expect(JSON.stringify(reply.data)).toContain('"path":"amount"');
  });

  it('names where in it such a number is', async () => {
    const body = '{"status":1,"x":{"y":[2,"1234567890123456",{"z":1234567890123456}]}}';
    const { data } = await app.call('PATCH', '/payments/1/refunds/1', anything, { body });
    expect(data).toEqual({
      errors: [
        { path: 'x.y.2.z', message: '数值的有效数字过多，请改用字符串' },
        { path: 'x', message: '未知的参数' },
      ],
    });
  });

  it('may begin with a byte order mark', async () => {
    const body = `\ufeff${JSON.stringify(REFUND)}`;
    expect(await codeOf(await refund({ headers: JSON_TYPE, body }))).toBe(40401);
  });
});

describe('the request log', () => {
  const Line = z.strictObject({
    level: z.literal(['info', 'warn', 'error']),
    event: z.string(),
    request_id: z.string(),
    method: z.string(),
    route: z.string().nullable(),
    status: z.number(),
    code: z.number(),
    duration_ms: z.int().nonnegative(),
    database_requests: z.number(),
    database_ms: z.int().nonnegative(),
    kv_ms: z.int().nonnegative(),
    cache: z.string().nullable(),
    actor: z.string().nullable(),
    refusal: z.string().optional(),
    error: z.record(z.string(), z.unknown()).optional(),
  });

  let lines: string[];

  beforeEach(() => {
    lines = [];
    for (const level of ['debug', 'log', 'info', 'warn', 'error'] as const) {
      vi.spyOn(console, level).mockImplementation((...args: unknown[]) => {
        lines.push(args.map(String).join(' '));
      });
    }
  });

  afterEach(() => {
    vi.restoreAllMocks();
  });

  /** The one line that a request leaves, beside what the cache may have to say. */
  async function logged(work: () => Promise<unknown>): Promise<z.infer<typeof Line>> {
    lines = [];
    await work();
    await app.idle();
    const requests = lines.filter((line) => line.includes('"event":"request"'));
    expect(requests).toHaveLength(1);
    return Line.parse(JSON.parse(requests[0] ?? ''));
  }

  const SECRET = 'S3CRET';
  const headers = {
    Authorization: `Bearer ${token}`,
    Cookie: `session=${SECRET}`,
    'Idempotency-Key': SECRET,
    'User-Agent': SECRET,
    [`X-${SECRET}`]: SECRET,
  };
  const secretRefund = { amount: '1.00', reason: SECRET };

  it('has one line for each request, with its id, and what it came to', async () => {
    const line = await logged(() =>
      app.call('GET', '/payments', anything, { headers: { 'X-Request-Id': 'my-id' } }),
    );
    expect(line).toEqual({
      level: 'info',
      event: 'request',
      request_id: 'my-id',
      method: 'GET',
      route: '/payments',
      status: 200,
      code: 0,
      duration_ms: expect.any(Number),
      database_requests: 1,
      database_ms: expect.any(Number),
      kv_ms: 0,
      cache: null,
      actor: 'tester',
    });
    expect(line.database_ms).toBeLessThanOrEqual(line.duration_ms + 1);
  });

  it('says how the cache was used', async () => {
    const id = await insertPayment(app.sql);
    const read = (cacheControl: string) =>
      logged(() =>
        app.call('GET', `/payments/${id}`, anything, {
          headers: { 'Cache-Control': cacheControl },
        }),
      );
    expect(await read('max-age=0')).toMatchObject({ cache: 'miss', database_requests: 1 });
    expect(await read('max-age=0')).toMatchObject({ cache: 'hit', database_requests: 0 });
    expect(await read('no-cache')).toMatchObject({ cache: 'bypass', database_requests: 1 });
  });

  it.each<[number, string, string | null, string, Call]>([
    [0, 'GET', '/health', '/health?S3CRET=S3CRET', { headers }],
    [0, 'GET', '/payments', '/payments?order_no=S3CRET&payment_no=S3CRET', { headers }],
    [0, 'POST', '/payments/:id/refund', '/payments/1/refund', { headers, body: secretRefund }],
    [40000, 'GET', '/payments', '/payments?status=S3CRET&S3CRET=1', { headers }],
    [40000, 'GET', '/payments/:id', '/payments/S3CRET', { headers }],
    [40000, 'POST', '/payments/:id/refund', '/payments/1/refund', { headers, body: { S3CRET: 1 } }],
    [40001, 'POST', '/payments/:id/refund', '/payments/1/refund', { headers, body: 'S3CRET' }],
    [40100, 'GET', '/payments', '/payments', { headers: { Authorization: 'Bearer S3CRET' } }],
    [40100, 'GET', '/payments', '/payments', { headers: { Authorization: 'S3CRET' } }],
    [
      40100,
      'GET',
      '/payments',
      '/payments',
      { headers: { Authorization: `Bearer ${token}S3CRET` } },
    ],
    [40400, 'GET', null, '/S3CRET', { headers }],
    [40401, 'GET', '/payments/:id', `/payments/${UNKNOWN}?S3CRET`, { headers }],
    [40500, 'DELETE', null, '/payments/S3CRET', { headers }],
    [
      40902,
      'POST',
      '/payments/:id/refund',
      '/payments/1/refund',
      { headers, body: { ...secretRefund, amount: '2.00' } },
    ],
    [
      40901,
      'POST',
      '/payments/:id/refund',
      '/payments/1/refund',
      { headers: { Cookie: SECRET }, body: { ...secretRefund, amount: '100.00' } },
    ],
    [
      41500,
      'POST',
      '/payments/:id/refund',
      '/payments/1/refund',
      { headers: { 'Content-Type': SECRET }, body: SECRET },
    ],
    [
      41300,
      'PATCH',
      '/payments/:id/refunds/:refund_id',
      '/payments/1/refunds/1',
      { headers, body: SECRET.repeat(9999) },
    ],
  ])('of a %i to %s %s keeps what was said to itself', async (code, method, route, path, call) => {
    const line = await logged(() => app.call(method, path, anything, call));
    expect(line).toMatchObject({ level: 'info', event: 'request', method, route, code });
    expect(lines.join()).not.toContain(SECRET);
    expect(lines.join()).not.toContain(token);
  });

  it('has SQLSTATE, stack and table of a statement that failed, and the client only a bland text', async () => {
    const broken = await startApp();
    await broken.sql`DROP TABLE payments CASCADE`;
    for (const [method, path, body] of [
      ['GET', `/payments?order_no=${SECRET}&payment_no=${SECRET}`],
      ['GET', '/payments/4242424242'],
      ['POST', '/payments/4242424242/refund', secretRefund],
      ['PATCH', '/payments/4242424242/refunds/4242424242', { status: 1 }],
    ] as const) {
      let seen: unknown;
      const line = await logged(async () => {
        const reply = await broken.call(method, path, anything, { headers, body });
        await broken.idle();
        expect(reply.status).toBe(500);
        seen = { ...reply.body, request_id: null };
      });
      expect(seen).toEqual({
        code: 50000,
        message: '服务器内部错误',
        data: method === 'POST' ? { refund_no: expect.stringMatching(/^RK/) } : null,
        request_id: null,
      });
      expect(JSON.stringify(seen)).not.toMatch(/payments|relation|42P01|postgres/i);
      expect(line).toMatchObject({
        level: 'error',
        status: 500,
        code: 50000,
        database_requests: 1,
      });
      const error = JSON.stringify(line.error);
      expect(error).toContain('"sqlstate":"42P01"');
      expect(error).toContain('relation \\"payments\\" does not exist');
      expect(error).toMatch(/"stack":\["at /);
      expect(error).not.toMatch(/S3CRET|4242424242|postgres:\/\/\w/);
    }
  });

  it.each([
    ['22P02', { message: `invalid input syntax for type bigint: "${SECRET}"` }],
    [
      '22001',
      { message: `value too long: ${SECRET}`, where: `unnamed parameter $1 = '${SECRET}'` },
    ],
    ['23505', { message: 'duplicate key', detail: `Key (refund_no)=(${SECRET}) already exists.` }],
    ['23514', { message: 'violates check', detail: `Failing row contains (1, ${SECRET}).` }],
    ['42601', { message: 'syntax error', internalQuery: SECRET, hint: SECRET }],
    ['XX000', { message: `could not connect to postgresql://me:${SECRET}@host/db` }],
  ])('leaves out what PostgreSQL repeats of the parameters with %s', async (code, fields) => {
    for (const [method, path, body] of [
      ['GET', `/payments?payment_no=${SECRET}`],
      ['POST', '/payments/1/refund', secretRefund],
    ] as const) {
      await app.faults({ status: 400, body: { severity: 'ERROR', code, ...fields } });
      const line = await logged(() => app.call(method, path, anything, { headers, body }));
      expect(line.code).toBe(50000);
      expect(JSON.stringify(line.error)).toContain(`"sqlstate":"${code}"`);
      expect(lines.join()).not.toContain(SECRET);
    }
  });

  it('of a database that refuses the login does not say the password', async () => {
    const DATABASE_URL = app.env.DATABASE_URL.replace(/:[^:@/]+@/, `:${SECRET}@`);
    const line = await logged(() =>
      app.call('GET', '/payments', anything, { env: { DATABASE_URL } }),
    );
    expect(DATABASE_URL).toContain(SECRET);
    expect(line).toMatchObject({ level: 'error', status: 503, code: 50300 });
    expect(JSON.stringify(line.error)).toContain('password authentication failed');
    expect(lines.join()).not.toContain(SECRET);
  });

  describe('of a deployment that is not configured', () => {
    it.each<[string, keyof Bindings, Partial<Bindings>]>([
      ['is no connection string', 'DATABASE_URL', { DATABASE_URL: SECRET }],
      ['is empty', 'DATABASE_URL', { DATABASE_URL: '' }],
      ['has no user', 'DATABASE_URL', { DATABASE_URL: `postgres://${SECRET}/db` }],
      ['has no database', 'DATABASE_URL', { DATABASE_URL: `postgres://me:${SECRET}@host` }],
      ['is not of PostgreSQL', 'DATABASE_URL', { DATABASE_URL: `mysql://me:${SECRET}@host/db` }],
      ['is no zone', 'TIME_ZONE', { TIME_ZONE: `Mars/${SECRET}` }],
      ['is no zone but an offset', 'TIME_ZONE', { TIME_ZONE: '+08:00' }],
      ['is an abbreviation of two zones', 'TIME_ZONE', { TIME_ZONE: 'CST' }],
      ['is no number', 'DATABASE_TIMEOUT_MS', { DATABASE_TIMEOUT_MS: `8${SECRET}` }],
      ['is too short', 'DATABASE_TIMEOUT_MS', { DATABASE_TIMEOUT_MS: '99' }],
      ['is too long', 'DATABASE_TIMEOUT_MS', { DATABASE_TIMEOUT_MS: '20001' }],
      ['is no number', 'SLOW_QUERY_MS', { SLOW_QUERY_MS: `2${SECRET}` }],
      ['is too short', 'SLOW_QUERY_MS', { SLOW_QUERY_MS: '0' }],
      ['is too short', 'AUTH_SECRET', { AUTH_SECRET: SECRET }],
      ['is no URL', 'NEON_FETCH_ENDPOINT', { NEON_FETCH_ENDPOINT: SECRET }],
      ['is not http', 'NEON_FETCH_ENDPOINT', { NEON_FETCH_ENDPOINT: `ftp://${SECRET}/sql` }],
    ])('names the variable that %s: %s', async (_, name, env) => {
      const line = await logged(async () => {
        const reply = await app.call('GET', '/payments', z.null(), { env });
        expect([reply.status, reply.code, reply.message]).toEqual([503, 50301, '服务尚未完成配置']);
      });
      expect(line).toMatchObject({
        level: 'error',
        status: 503,
        code: 50301,
        database_requests: 0,
      });
      expect(JSON.stringify(line.error)).toContain(`${name}: `);
      expect(lines.join()).not.toContain(SECRET);
    });

    it('names everything that is missing, for every endpoint', async () => {
      const missing = ['DETAIL_CACHE', 'PURGE_QUEUE', 'WRITE_RATE_LIMIT', 'DATABASE_URL'];
      const env = { ...app.env };
      for (const name of missing) Reflect.deleteProperty(env, name);
      for (const [method, path, body] of [
        ['GET', '/payments'],
        ['GET', '/payments/1'],
        ['POST', '/payments/1/refund', secretRefund],
        ['PATCH', '/payments/1/refunds/1', { status: 1 }],
      ] as const) {
        lines = [];
        const init = {
          method,
          headers: { 'Content-Type': 'application/json' },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        };
        expect((await send(path, init, env)).status).toBe(503);
        const line = Line.parse(JSON.parse(lines.at(-1) ?? ''));
        expect(line).toMatchObject({ code: 50301, database_requests: 0 });
        for (const name of missing) {
          expect(JSON.stringify(line.error)).toContain(`${name}: `);
        }
      }
    });
  });
});
