/**
 * Whatever a client sends, to any endpoint that takes something: a correct answer or a 4xx in the
 * envelope, never a 500, no row changed by what was refused, and nothing in an answer that a browser
 * would execute.
 */
import { createExecutionContext } from 'cloudflare:test';
import { env as bindings } from 'cloudflare:workers';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { z } from 'zod';
import worker from '../src/index';
import { expectConforming } from './contract';
import { insertPayment, signToken, startApp } from './harness';

const app = await startApp();
// The gateways have their keys, so that their callbacks are read; no refund is sent by itself.
const { GATEWAY_VARIABLES } = z
  .object({ GATEWAY_VARIABLES: z.record(z.string(), z.string()) })
  .parse(bindings);
Object.assign(app.env, GATEWAY_VARIABLES, { CALLBACK_BASE_URL: 'https://pay.example.com' });
const paymentId = await insertPayment(app.sql, { amount: '9999999999999999.99' });
const unpaidId = await insertPayment(app.sql, { status: 0 });
const token = await signToken();

const nasty = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme', maxLength: 300 }),
  fc.constantFrom(
    '\u0000',
    '\ud800',
    '\udfff',
    '%00',
    '%',
    '%zz',
    '%c3%28',
    '\r\nX-Injected: 1',
    '%0d%0aX-Injected:%201',
    "' OR 1=1 --",
    '1; DROP TABLE payments; --',
    '$1',
    '{{7*7}}',
    '<script>alert(1)</script>',
    '../../etc/passwd',
    '__proto__',
    'constructor',
    'toString',
    'null',
    'undefined',
    'NaN',
    'Infinity',
    '-Infinity',
    'true',
    '1e2',
    '0x10',
    ' 5',
    '1.0',
    '-0',
    '00',
    '0.1',
    '١',
    '１',
    '9223372036854775807',
    '9223372036854775808',
    '-9223372036854775808',
    '9007199254740993',
    '1e400',
    'infinity',
    '-infinity',
    'now',
    'epoch',
    '0000-00-00',
    '2026-02-30',
    '9999-12-31T23:59:60Z',
    '2026-01-01T00:00:00+99:99',
    'a'.repeat(100_000),
    '🙂'.repeat(256),
  ),
  fc.double().map(String),
  fc.bigInt().map(String),
  fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
);

const parameter = fc.constantFrom(
  'number',
  'order',
  'page',
  'size',
  'cursor',
  'order_no',
  'payment_no',
  'status',
  'payment_method',
  'refund_state',
  'start_time',
  'end_time',
);
const query = fc
  .array(
    fc.tuple(
      fc.oneof({ weight: 8, arbitrary: parameter }, { weight: 1, arbitrary: nasty }),
      nasty,
      fc.boolean(),
    ),
    { maxLength: 5 },
  )
  .map((pairs) =>
    pairs
      .map(
        ([name, value, encoded]) =>
          `${encoded ? encode(name) : name}=${encoded ? encode(value) : value}`,
      )
      .join('&'),
  );

/** encodeURIComponent, but for lone surrogates, which it refuses. */
const encode = (text: string) => encodeURIComponent(text.toWellFormed());

const json = fc.oneof(
  fc.jsonValue({ maxDepth: 6 }),
  fc.record(
    {
      amount: fc.oneof(nasty, fc.double(), fc.integer(), fc.jsonValue()),
      reason: fc.oneof(nasty, fc.jsonValue()),
      refundable_amount: fc.oneof(nasty, fc.double(), fc.jsonValue()),
      status: fc.oneof(nasty, fc.constantFrom(1, 2)),
    },
    { requiredKeys: [] },
  ),
  fc.record(
    { type: nasty, bank_type: nasty, bank_account: nasty, real_name: nasty },
    { requiredKeys: [] },
  ),
  fc.record({ status: fc.oneof(nasty, fc.double(), fc.jsonValue()) }),
  fc.dictionary(nasty, fc.constant(1), { maxKeys: 50 }),
);
// Some that are right, so that what is behind the checks is reached as well.
const proper = fc.oneof(
  fc.record({
    amount: fc.constantFrom('0.01', 1, '5000000000000000.00', 0.1),
    reason: fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 9 }),
  }),
  fc.record({ status: fc.constantFrom(1, 2) }),
  fc.record({ status: fc.constantFrom(1, 2), reason: fc.constantFrom('退回', 'x') }),
  fc.record({ status: fc.constantFrom(1, 2), override_reason: fc.constantFrom('退回', 'x') }),
  fc.constant({ type: 'MERCHANT_BANK_CARD' }),
);
const body = fc.oneof(
  { weight: 4, arbitrary: proper.map((value) => JSON.stringify(value)) },
  { weight: 2, arbitrary: json.map((value) => JSON.stringify(value)) },
  fc.nat(20_000).map((depth) => '['.repeat(depth) + ']'.repeat(depth)),
  fc.constantFrom(
    '',
    '{',
    '{"amount":1e999,"reason":"x"}',
    '{"amount":-0,"reason":"x"}',
    '{"__proto__":{"amount":1},"reason":"x"}',
    '{"reason":"\\ud800","amount":1}',
    '{"reason":"\\u0000","amount":1}',
  ),
  nasty,
);

const id = fc.oneof(
  { weight: 3, arbitrary: fc.constant(paymentId) },
  { weight: 1, arbitrary: fc.constant(unpaidId) },
  { weight: 2, arbitrary: nasty.map(encode) },
  { weight: 1, arbitrary: nasty },
);
const path = fc.oneof(
  query.map((text) => `/payments?${text}`),
  query.map((text) => `/lookup?${text}`),
  query.map((text) => `/refunds?${text}`),
  nasty.map((text) => `/lookup?number=${encode(text)}`),
  query.map((text) => `/payments/export?${text}`),
  query.map((text) => `/payments/statistics?${text}`),
  fc.tuple(id, query).map(([one, text]) => `/payments/${one}?${text}`),
  id.map((one) => `/payments/${one}/refund`),
  fc.tuple(id, id).map(([one, other]) => `/payments/${one}/refunds/${other}`),
  id.map((one) => `/payments/${one}/attention/dismissal`),
  fc
    .tuple(id, id, fc.constantFrom('correction', 'sync', 'retry', 'abnormal'))
    .map(([one, other, what]) => `/payments/${one}/refunds/${other}/${what}`),
  query.map((text) => `/gateway/attention?${text}`),
  fc
    .oneof(fc.constantFrom('wechat', 'alipay'), nasty.map(encode))
    .map((gateway) => `/callbacks/${gateway}`),
  fc.tuple(id, query).map(([one, text]) => `/payments/${one}/callbacks?${text}`),
  fc.tuple(id, query).map(([one, text]) => `/payments/${one}/refunds?${text}`),
  fc.tuple(id, query).map(([one, text]) => `/payments/${one}/gateway?${text}`),
  // Not /health/ready, which takes nothing but may rightly say that a busy machine was too slow.
  fc.constantFrom('/health', '/openapi.json'),
  nasty.map((text) => `/${text}`),
);
const method = fc.constantFrom(
  'GET',
  'GET',
  'POST',
  'POST',
  'PATCH',
  'PATCH',
  'PUT',
  'DELETE',
  'HEAD',
  'OPTIONS',
);
const headerValue = nasty.map((text) => text.replace(/[^\x20-\x7e\x80-\xff]/g, '').slice(0, 9000));
const headers = fc.record(
  {
    'Content-Type': fc.oneof(
      { weight: 6, arbitrary: fc.constant('application/json') },
      { weight: 1, arbitrary: headerValue },
    ),
    'Idempotency-Key': headerValue,
    'X-Request-Id': headerValue,
    'Cache-Control': headerValue,
    Origin: headerValue,
    'Wechatpay-Timestamp': fc.oneof(
      headerValue,
      fc.constant(String(Math.floor(Date.now() / 1000))),
    ),
    'Wechatpay-Nonce': headerValue,
    'Wechatpay-Serial': headerValue,
    'Wechatpay-Signature': headerValue,
    Authorization: fc.oneof(
      { weight: 20, arbitrary: fc.constant(`Bearer ${token}`) },
      { weight: 1, arbitrary: headerValue },
    ),
  },
  { requiredKeys: ['Content-Type', 'Authorization'] },
);

const authorization = { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` };
const refund = (payment: string) => `/payments/${payment}/refund`;

/** One request for each status that must be met, so that no run depends on chance to meet it. */
const EXAMPLES: Record<number, [string, string, typeof authorization, string]> = {
  200: ['GET', '/payments', authorization, ''],
  201: ['POST', refund(paymentId), authorization, '{"amount":"0.01","reason":"x"}'],
  400: ['GET', '/payments?page=x', authorization, ''],
  401: ['GET', '/payments', { ...authorization, Authorization: 'Bearer x' }, ''],
  404: ['GET', '/payments/9223372036854775807', authorization, ''],
  405: ['DELETE', '/payments', authorization, ''],
  409: ['POST', refund(unpaidId), authorization, '{"amount":"0.01","reason":"x"}'],
  413: ['POST', refund(paymentId), authorization, `"${'x'.repeat(100_000)}"`],
  415: ['POST', refund(paymentId), { ...authorization, 'Content-Type': 'text/plain' }, '{}'],
};

/** Requests that reach the gateways' callbacks, and their limits. */
const CALLBACKS: [string, string, typeof authorization, string][] = ['wechat', 'alipay'].flatMap(
  (gateway) =>
    ['', '{', 'sign=x&sign_type=RSA2&notify_id=1', 'x'.repeat(64 * 1024 + 1)].map(
      (text): [string, string, typeof authorization, string] => [
        'POST',
        `/callbacks/${gateway}`,
        authorization,
        text,
      ],
    ),
);

/** The payments, which no request here changes, and the record of what was changed. */
const state = () => app.sql`
  SELECT md5(string_agg(p::text, ',' ORDER BY id)) AS payments,
    (SELECT count(*)::int FROM payment_refunds) AS refunds,
    (SELECT count(*)::int FROM payment_refund_events WHERE from_status IS NULL) AS created
  FROM payments p`;

test('whatever is sent is answered properly', async () => {
  let made = 0;
  const statuses = new Set<number>();
  const [before] = await state();
  await fc.assert(
    fc.asyncProperty(method, path, headers, body, async (verb, target, given, text) => {
      const request = new Request(`https://api.test${target}`, {
        method: verb,
        headers: given,
        ...(verb === 'GET' || verb === 'HEAD' ? {} : { body: text }),
      });
      const response = await worker.fetch(request, app.env, createExecutionContext());
      await expectConforming(request, response);

      statuses.add(response.status);
      expect(response.status).toBeLessThan(500);
      expect(response.headers.get('X-Injected')).toBeNull();
      expect(response.headers.get('X-Content-Type-Options')).toBe('nosniff');
      expect(response.headers.get('X-Request-Id')).toMatch(/^[\w-]{1,64}$/);
      const answer = await response.text();
      expect(answer.length).toBeLessThan(200_000);
      // A file that broke off has begun with a 200, too.
      const file = response.headers.get('Content-Type')?.startsWith('text/csv');
      if (file && verb !== 'HEAD') expect(answer).toMatch(/\r\n# 共 \d+ 条,*\r\n$/);
      if (response.status === 201) made += 1;
    }),
    { numRuns: 10_000, examples: [...Object.values(EXAMPLES), ...CALLBACKS] },
  );
  const [after] = await state();
  expect(after?.payments).toEqual(before?.payments);
  expect(after).toMatchObject({ refunds: made, created: made });
  // The cases reach every check and get past all of them, too.
  expect([...statuses]).toEqual(expect.arrayContaining(Object.keys(EXAMPLES).map(Number)));
}, 300_000);
