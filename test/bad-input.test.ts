/**
 * Proves that a bad request is refused with its code, with everything that is wrong named at once,
 * and that none leaves a trace in the database.
 */
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type Call, insertPayment, startApp, type TestApp } from './harness';

/** Path of the parameter, header or field that is wrong. */
const Errors = z.object({
  errors: z.array(z.strictObject({ path: z.string(), message: z.string() })),
});
const Digest = z.tuple([z.object({ digest: z.string() })]);

let app: TestApp;
let stored: string;

/** Payment n + 1 is in status n; payment 2, of 100.00, has refund 1 in progress and refund 2 that succeeded. */
beforeAll(async () => {
  app = await startApp();
  for (const status of [0, 1, 2, 3]) {
    expect(await insertPayment(app.sql, { status })).toBe(String(status + 1));
  }
  await app.sql`INSERT INTO payment_refunds (payment_id, refund_no, amount, reason, status)
    VALUES (2, 'R1', 10.00, '商品缺货', 0), (2, 'R2', 20.00, '尺码不符', 1)`;
  await app.sql`INSERT INTO payment_callbacks (payment_id, callback_no, status) VALUES (2, 'C1', 1)`;
  stored = await digest();
});

afterEach(() => app.idle());

/** All that is stored in any table, in one word. */
async function digest(): Promise<string> {
  const [{ digest }] = Digest.parse(
    await app.sql`
      SELECT md5(string_agg(table_to_xml(oid, true, false, '')::text, '' ORDER BY relname)) AS digest
      FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`,
  );
  return digest;
}

/** Refused with 40000 because of these and nothing else, before the database is asked. */
async function expectRefused(method: string, path: string, paths: string[], call: Call = {}) {
  const requests = await app.databaseRequests(async () => {
    const reply = await app.call(method, path, Errors, call);
    expect([reply.status, reply.code, reply.message]).toEqual([400, 40000, '请求参数有误']);
    const { errors } = reply.data;
    expect(new Set(errors.map((error) => error.path))).toEqual(new Set(paths));
    for (const { message } of errors) expect(message).toMatch(/\p{Script=Han}/u);
    expect(JSON.stringify(reply.body).length).toBeLessThan(2000);
  });
  expect(requests).toBe(0);
  expect(await digest()).toBe(stored);
}

const cursor = (text: string) =>
  `cursor=${btoa(text).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}`;
const CURSOR = cursor('1793491200000000 1');

describe('GET /payments refuses', () => {
  it.each([
    // Numbers in other clothes
    ['page=0', ['page']],
    ['page=-1', ['page']],
    ['page=-0', ['page']],
    ['page=%2B1', ['page']],
    ['page=+1', ['page']],
    ['page=%201', ['page']],
    ['page=1%20', ['page']],
    ['page=1.0', ['page']],
    ['page=1.5', ['page']],
    ['page=1e2', ['page']],
    ['page=0x10', ['page']],
    ['page=01', ['page']],
    ['page=1_000', ['page']],
    ['page=NaN', ['page']],
    ['page=Infinity', ['page']],
    ['page=null', ['page']],
    ['page=true', ['page']],
    ['page=%EF%BC%91', ['page']],
    ['page=%D9%A1', ['page']],
    ['page=2147483648', ['page']],
    ['page=9007199254740993', ['page']],
    ['page=999999999999999999.99', ['page']],
    ['size=0', ['size']],
    ['size=-1', ['size']],
    ['size=101', ['size']],
    ['size=1e2', ['size']],
    ['size=0x10', ['size']],
    ['size=12.345', ['size']],
    ['size=ten', ['size']],
    // What is not offered
    ['status=4', ['status']],
    ['status=-1', ['status']],
    ['status=01', ['status']],
    ['status=1.0', ['status']],
    ['status=paid', ['status']],
    ['status=1,', ['status']],
    ['status=,1', ['status']],
    ['status=1,,2', ['status']],
    ['status=1,%202', ['status']],
    ['status=1;2', ['status']],
    ['status=1,4', ['status']],
    ['status=constructor', ['status']],
    ['payment_method=cash', ['payment_method']],
    ['payment_method=Alipay', ['payment_method']],
    ['payment_method=alipay,cash', ['payment_method']],
    ['payment_method=alipay%20', ['payment_method']],
    ['payment_method=__proto__', ['payment_method']],
    // Unknown and repeated parameters
    ['Page=1', ['Page']],
    ['page%20=1', ['page ']],
    ['orderno=1', ['orderno']],
    ['order_no[]=1', ['order_no[]']],
    ['unknown=', ['unknown']],
    ['unknown', ['unknown']],
    ['=1', ['']],
    ['constructor=1', ['constructor']],
    ['toString=1', ['toString']],
    ['__proto__=1', ['__proto__']],
    ['__proto__[page]=1', ['__proto__[page]']],
    [`${'x'.repeat(100)}=1`, [`${'x'.repeat(64)}…`]],
    ['page=1&page=2', ['page']],
    ['page=1&page=1', ['page']],
    ['page=&page=', ['page']],
    ['size=1&size=2', ['size']],
    ['status=1&status=2', ['status']],
    ['order_no=a&order_no=b', ['order_no']],
    ['payment_method=bank&payment_method=bank', ['payment_method']],
    ['start_time=2026-11-01&start_time=2026-11-02', ['start_time']],
    [`${CURSOR}&${CURSOR}`, ['cursor']],
    // Text that no number can be
    ['order_no=%00', ['order_no']],
    ['payment_no=a%00b', ['payment_no']],
    ['order_no=a%0Ab', ['order_no']],
    ['order_no=%C2%85', ['order_no']],
    [`order_no=${'x'.repeat(65)}`, ['order_no']],
    [`payment_no=${'x'.repeat(51)}`, ['payment_no']],
    ['order_no=%', ['order_no']],
    ['order_no=%zz', ['order_no']],
    ['order_no=%E4%BD', ['order_no']],
    ['order_no=%FF', ['order_no']],
    ['payment_no=%C0%AF', ['payment_no']],
    ['payment_no=%ED%A0%80', ['payment_no']],
    ['%ZZ=1', ['%ZZ', '%ZZ']],
    // Times that are none
    ['start_time=yesterday', ['start_time']],
    ['start_time=2026-02-29', ['start_time']],
    ['start_time=2026-13-01', ['start_time']],
    ['start_time=0000-01-01', ['start_time']],
    ['start_time=10000-01-01', ['start_time']],
    ['start_time=1793523600', ['start_time']],
    ['start_time=infinity', ['start_time']],
    ['end_time=2026-11-01T24:00:00Z', ['end_time']],
    ['end_time=2026-11-01T23:59:60Z', ['end_time']],
    ['end_time=2026-11-01T08', ['end_time']],
    ['end_time=2026-11-01T08:60', ['end_time']],
    ['end_time=2026-11-01T00:00:00.1234567890Z', ['end_time']],
    ['start_time=2026-11-01T08:31&end_time=2026-11-01T08:30', ['end_time']],
    ['end_time=2026-11-01T00:00:00%2B24:00', ['end_time']],
    ['end_time=2026-11-01%00', ['end_time']],
    ['start_time=2026-11-02&end_time=2026-11-01', ['end_time']],
    ['start_time=2026-11-01T00:00:00.000001Z&end_time=2026-11-01T00:00:00.000000Z', ['end_time']],
    ['start_time=2026-11-01T08:00:01%2B08:00&end_time=2026-11-01T00:00:00Z', ['end_time']],
    // Cursors that we did not make
    [`page=1&${CURSOR}`, ['cursor']],
    ['cursor=1', ['cursor']],
    ['cursor=!!!', ['cursor']],
    ['cursor=%E4%B8%AD', ['cursor']],
    [cursor('nonsense'), ['cursor']],
    [cursor('{"created_at":"2026-11-01T00:00:00Z","id":"1"}'), ['cursor']],
    [cursor('1793491200000000'), ['cursor']],
    [cursor('1793491200000000 '), ['cursor']],
    [cursor('1793491200000000 0'), ['cursor']],
    [cursor('1793491200000000 -1'), ['cursor']],
    [cursor('1793491200000000 01'), ['cursor']],
    [cursor('1793491200000000 1.5'), ['cursor']],
    [cursor('1793491200000000 9223372036854775808'), ['cursor']],
    [cursor('1793491200000000 1\n'), ['cursor']],
    [cursor('1793491200000000 1 OR 1=1'), ['cursor']],
    [cursor('2026-11-01T00:00:00.000000Z 1'), ['cursor']],
    [cursor('1793491200000000.5 1'), ['cursor']],
    [cursor('1793491200000000000 1'), ['cursor']],
    [cursor('- 1'), ['cursor']],
    [cursor('2026-02-30T00:00:00.000000Z 1'), ['cursor']],
    [cursor('2026-11-01T00:00:00.0000000Z 1'), ['cursor']],
    [cursor('2026-11-01T00:00:00+23:00 1'), ['cursor']],
    [cursor('infinity 1'), ['cursor']],
    [cursor('now 1'), ['cursor']],
    // Everything at once
    [
      'page=0&size=101&cursor=1&order_no=%00&payment_no=a&payment_no=b&status=9&payment_method=cash&start_time=x&end_time=y',
      [
        'cursor',
        'end_time',
        'order_no',
        'page',
        'payment_method',
        'payment_no',
        'size',
        'start_time',
        'status',
      ],
    ],
    [`page=1&${CURSOR}&size=1&size=2`, ['cursor', 'size']],
    ['page=1&page=2&start_time=2026-11-02&end_time=2026-11-01', ['end_time', 'page']],
    ['page=0&unknown=1&start_time=2026-11-02&end_time=2026-11-01', ['end_time', 'page', 'unknown']],
  ])('?%s', (query, paths) => expectRefused('GET', `/payments?${query}`, paths));

  it('a cursor of 10,000 characters', () =>
    expectRefused('GET', `/payments?${cursor('x'.repeat(7500))}`, ['cursor']));
});

describe('GET /payments/export refuses', () => {
  it.each([
    ['page=1', ['page']],
    ['size=10', ['size']],
    [CURSOR, ['cursor']],
    ['format=xlsx', ['format']],
    ['status=4&payment_method=cash', ['status', 'payment_method']],
    ['start_time=2026-11-02&end_time=2026-11-01&x=1', ['end_time', 'x']],
    ['order_no=a%00&payment_no=a&payment_no=b', ['order_no', 'payment_no']],
  ])('?%s', (query, paths) => expectRefused('GET', `/payments/export?${query}`, paths));
});

const IDS = [
  '0',
  '-1',
  '-0',
  '+1',
  '00',
  '01',
  '1.0',
  '1.5',
  '1e2',
  '0x10',
  '%201',
  '1%20',
  '1%00',
  '1%2F2',
  '%31%ZZ',
  '%FF',
  '%EF%BC%91',
  'NaN',
  'null',
  'undefined',
  '__proto__',
  'constructor',
  '9223372036854775808',
  '99999999999999999999',
  '999999999999999999.99',
];

describe.each([
  ['GET', '/payments/:id', ['id'], {}],
  ['POST', '/payments/:id/refund', ['id'], { body: { amount: '1.00', reason: '退款' } }],
  ['PATCH', '/payments/:id/refunds/1', ['id'], { body: { status: 1 } }],
  ['PATCH', '/payments/2/refunds/:id', ['refund_id'], { body: { status: 1 } }],
  ['POST', '/payments/:id/refunds/:id/sync', ['id', 'refund_id'], {}],
  ['POST', '/payments/:id/refunds/:id/retry', ['id', 'refund_id'], {}],
  [
    'POST',
    '/payments/:id/refunds/:id/abnormal',
    ['id', 'refund_id'],
    { body: { type: 'MERCHANT_BANK_CARD' } },
  ],
])('%s %s refuses the id', (method, path, paths, call) => {
  it.each(IDS)('%s', (id) => expectRefused(method, path.replaceAll(':id', id), paths, call));
});

const refund = (body: unknown, headers: Record<string, string> = {}): Call => ({ body, headers });

describe('POST /payments/:id/refund refuses', () => {
  it.each<[unknown, string[]]>([
    // Amounts (money.test.ts has more)
    ['{"reason":"退款"}', ['amount']],
    ['{"amount":null,"reason":"退款"}', ['amount']],
    ['{"amount":0,"reason":"退款"}', ['amount']],
    ['{"amount":-0,"reason":"退款"}', ['amount']],
    ['{"amount":-1,"reason":"退款"}', ['amount']],
    ['{"amount":12.345,"reason":"退款"}', ['amount']],
    ['{"amount":999999999999999999.99,"reason":"退款"}', ['amount']],
    ['{"amount":1e400,"reason":"退款"}', ['amount']],
    ['{"amount":true,"reason":"退款"}', ['amount']],
    ['{"amount":[1],"reason":"退款"}', ['amount']],
    ['{"amount":{"yuan":1},"reason":"退款"}', ['amount']],
    ['{"amount":"","reason":"退款"}', ['amount']],
    ['{"amount":"1e2","reason":"退款"}', ['amount']],
    ['{"amount":"0x10","reason":"退款"}', ['amount']],
    ['{"amount":" 5","reason":"退款"}', ['amount']],
    ['{"amount":"1.","reason":"退款"}', ['amount']],
    ['{"amount":"+1","reason":"退款"}', ['amount']],
    ['{"amount":"0.00","reason":"退款"}', ['amount']],
    ['{"amount":"NaN","reason":"退款"}', ['amount']],
    ['{"amount":"1.00\\u0000","reason":"退款"}', ['amount']],
    // Keys that are there twice, so that another reader may take the other value
    ['{"amount":1,"amount":0,"reason":"退款"}', ['amount']],
    ['{"amount":"1.00","amount":"1.00","reason":"退款"}', ['amount']],
    ['{"amount":"1.00","\\u0061mount":"100.00","reason":"退款"}', ['amount']],
    ['{"reason":"a","amount":"1.00","reason":"a","amount" : "2.00"}', ['amount', 'reason']],
    ['{"amount":"1.00","reason":"退款","":1,"":2}', ['']],
    ['{"amount":"1.00","reason":"退款","__proto__":1,"__proto__":2}', ['__proto__']],
    ['{"amount":"1.00","reason":"退款","x":{"y":[{"z":1},{"z":{},"z":[]}]}}', ['x', 'x.y.1.z']],
    ['[{"amount":1,"reason":1},{"amount":1,"amount":2}]', ['', '1.amount']],
    // Reasons
    ['{"amount":"1.00"}', ['reason']],
    ['{"amount":"1.00","reason":null}', ['reason']],
    ['{"amount":"1.00","reason":""}', ['reason']],
    ['{"amount":"1.00","reason":"  \\t\\n"}', ['reason']],
    ['{"amount":"1.00","reason":"\\u3000\\u00a0\\ufeff"}', ['reason']],
    ['{"amount":"1.00","reason":1}', ['reason']],
    ['{"amount":"1.00","reason":["退款"]}', ['reason']],
    ['{"amount":"1.00","reason":{"text":"退款"}}', ['reason']],
    ['{"amount":"1.00","reason":"a\\u0000b"}', ['reason']],
    ['{"amount":"1.00","reason":"a\\nb"}', ['reason']],
    ['{"amount":"1.00","reason":"a\\u007fb"}', ['reason']],
    ['{"amount":"1.00","reason":"a\\u0085b"}', ['reason']],
    ['{"amount":"1.00","reason":"a\\ud800b"}', ['reason']],
    ['{"amount":"1.00","reason":"a\\udc00\\ud800b"}', ['reason']],
    // text.test.ts has more
    ['{"amount":"1.00","reason":"\\u200b"}', ['reason']],
    ['{"amount":"1.00","reason":"\\u2800"}', ['reason']],
    ['{"amount":"1.00","reason":"\\u202e元001款退"}', ['reason']],
    // Fields that there are not
    ['{"amount":"1.00","reason":"退款","status":1}', ['status']],
    ['{"amount":"1.00","reason":"退款","payment_id":"3"}', ['payment_id']],
    ['{"amount":"1.00","reason":"退款","":1}', ['']],
    ['{"amount":"1.00","reason":"退款","__proto__":{"status":1}}', ['__proto__']],
    ['{"amount":"1.00","reason":"退款","constructor":1}', ['constructor']],
    ['{"__proto__":{"amount":"1.00","reason":"退款"}}', ['amount', 'reason', '__proto__']],
    ['{"Amount":"1.00","Reason":"退款"}', ['amount', 'reason', 'Amount', 'Reason']],
    ['{"data":{"amount":"1.00","reason":"退款"}}', ['amount', 'reason', 'data']],
    ['{}', ['amount', 'reason']],
    ['[]', ['']],
    ['null', ['']],
    ['"{}"', ['']],
  ])('%s', (body, paths) => expectRefused('POST', '/payments/2/refund', paths, { body }));

  it('a reason of 256 code points', () =>
    expectRefused('POST', '/payments/2/refund', ['reason'], {
      body: { amount: '1.00', reason: '🙂'.repeat(256) },
    }));

  it.each([
    ['nothing', ''],
    ['spaces', '  '],
    ['256 characters', 'k'.repeat(256)],
    ['a tab', 'a\tb'],
    ['umlauts', 'schlüssel'],
    ['Chinese', '键'],
    ['DEL', 'a\x7fb'],
  ])('an Idempotency-Key of %s', (_, key) =>
    expectRefused('POST', '/payments/2/refund', ['Idempotency-Key'], {
      headers: { 'Idempotency-Key': key },
      body: { amount: '1.00', reason: '退款' },
    }),
  );

  it('everything that is wrong at once', () =>
    expectRefused(
      'POST',
      '/payments/0/refund',
      ['id', 'Idempotency-Key', 'amount', 'reason', 'x'],
      {
        headers: { 'Idempotency-Key': 'a\tb' },
        body: { amount: '1e2', reason: ' ', x: { y: 1 } },
      },
    ));
});

describe('PATCH /payments/:id/refunds/:refund_id refuses', () => {
  it.each<[unknown, string[]]>([
    ['{}', ['status']],
    ['{"status":0}', ['status']],
    ['{"status":3}', ['status']],
    ['{"status":-1}', ['status']],
    ['{"status":1.5}', ['status']],
    ['{"status":1e2}', ['status']],
    ['{"status":"1"}', ['status']],
    ['{"status":null}', ['status']],
    ['{"status":true}', ['status']],
    ['{"status":[1]}', ['status']],
    ['{"status":{"status":1}}', ['status']],
    ['{"status":1,"status":0}', ['status']],
    ['{"Status":1}', ['status', 'Status']],
    ['{"status":1,"amount":"1.00"}', ['amount']],
    ['{"status":1,"__proto__":{}}', ['__proto__']],
    ['{"__proto__":{"status":1}}', ['status', '__proto__']],
    ['[1]', ['']],
    ['1', ['']],
    ['null', ['']],
  ])('%s', (body, paths) => expectRefused('PATCH', '/payments/2/refunds/1', paths, { body }));

  it('everything that is wrong at once', () =>
    expectRefused('PATCH', '/payments/0/refunds/x', ['id', 'refund_id', 'status', 'x'], {
      body: { status: '1', x: 1 },
    }));
});

describe('POST /payments/:id/refunds/:refund_id/abnormal refuses', () => {
  const card = {
    type: 'USER_BANK_CARD',
    bank_type: 'ICBC_DEBIT',
    bank_account: '6222020044001234567',
    real_name: '王小明',
  };
  it.each<[unknown, string[]]>([
    ['{}', ['type']],
    ['{"type":null}', ['type']],
    ['{"type":"merchant_bank_card"}', ['type']],
    ['{"type":"BALANCE"}', ['type']],
    ['{"type":["MERCHANT_BANK_CARD"]}', ['type']],
    ['{"type":"USER_BANK_CARD"}', ['bank_type', 'bank_account', 'real_name']],
    [
      '{"type":"MERCHANT_BANK_CARD","type":"USER_BANK_CARD"}',
      ['type', 'bank_type', 'bank_account', 'real_name'],
    ],
    [{ type: 'MERCHANT_BANK_CARD', bank_account: '1' }, ['bank_account']],
    [{ type: 'MERCHANT_BANK_CARD', status: 1 }, ['status']],
    [{ ...card, bank_type: '' }, ['bank_type']],
    [{ ...card, bank_type: 'x'.repeat(33) }, ['bank_type']],
    [{ ...card, bank_account: '6222-0200' }, ['bank_account']],
    [{ ...card, bank_account: '６２２２' }, ['bank_account']],
    [{ ...card, bank_account: 6222020044001 }, ['bank_account']],
    [{ ...card, bank_account: '1'.repeat(65) }, ['bank_account']],
    [{ ...card, real_name: '   ' }, ['real_name']],
    [{ ...card, real_name: null }, ['real_name']],
    [{ ...card, real_name: '王'.repeat(256) }, ['real_name']],
    [{ ...card, cvv: '123' }, ['cvv']],
    ['[]', ['']],
    ['null', ['']],
    ['"MERCHANT_BANK_CARD"', ['']],
  ])('%j', (body, paths) =>
    expectRefused('POST', '/payments/2/refunds/1/abnormal', paths, { body }),
  );

  it('everything that is wrong at once, and repeats nothing of a card', async () => {
    const path = '/payments/0/refunds/x/abnormal?y=1';
    const body = { ...card, bank_account: '6222x', x: 1 };
    await expectRefused('POST', path, ['id', 'refund_id', 'y', 'bank_account', 'x'], { body });
    const reply = await app.call('POST', path, z.unknown(), { body });
    expect(JSON.stringify(reply.body)).not.toMatch(/6222|王小明|ICBC/);
  });
});

describe.each(['sync', 'retry'])('POST /payments/:id/refunds/:refund_id/%s refuses', (what) => {
  it.each([
    ['?status=1', ['status']],
    ['?force', ['force']],
    ['?a=1&b=2&a=3', ['a', 'b']],
    ['?=1', ['']],
    ['?__proto__=1', ['__proto__']],
    ['?%ff=1', ['%ff']],
  ])('%s', (query, paths) => expectRefused('POST', `/payments/2/refunds/1/${what}${query}`, paths));
});

describe('GET /gateway/attention refuses', () => {
  it.each([
    ['size=0', ['size']],
    ['size=201', ['size']],
    ['size=-1', ['size']],
    ['size=1e2', ['size']],
    ['size=ten', ['size']],
    ['size=1&size=2', ['size']],
    ['page=1', ['page']],
    ['gateway=wechat&size=0', ['gateway', 'size']],
    ['__proto__=1', ['__proto__']],
    ['size=%', ['size']],
  ])('?%s', (query, paths) => expectRefused('GET', `/gateway/attention?${query}`, paths));
});

describe('a write refuses parameters in the query, which its body does not have', () => {
  it.each([
    ['?amount=5', ['amount']],
    ['?status=1', ['status']],
    ['?status=', ['status']],
    ['?a=1&b=2&a=3', ['a', 'b']],
    ['?x', ['x']],
    ['?=1', ['']],
    ['?__proto__=1', ['__proto__']],
    ['?%ff=1', ['%ff']],
  ])('%s', async (query, paths) => {
    const body = { amount: '1.00', reason: '退款' };
    await expectRefused('POST', `/payments/2/refund${query}`, paths, { body });
    const settlement = { body: { status: 1 } };
    await expectRefused('PATCH', `/payments/2/refunds/1${query}`, paths, settlement);
  });

  it('beside everything else that is wrong', () =>
    expectRefused('PATCH', '/payments/0/refunds/1?status=1', ['id', 'status', 'x'], {
      body: { status: 1, x: 1 },
    }));
});

describe('the state of what is stored', () => {
  const half = { amount: '50.00', reason: '退款' };
  const merchant = { body: { type: 'MERCHANT_BANK_CARD' } };
  it.each<[string, string, Call, [number, number, unknown]]>([
    ['GET', '/payments/5', {}, [404, 40401, null]],
    ['GET', '/payments/9223372036854775807', {}, [404, 40401, null]],
    ['POST', '/payments/5/refund', refund(half), [404, 40401, null]],
    ['POST', '/payments/1/refund', refund(half), [409, 40900, { status: 0 }]],
    ['POST', '/payments/3/refund', refund(half), [409, 40900, { status: 2 }]],
    ['POST', '/payments/4/refund', refund(half), [409, 40900, { status: 3 }]],
    [
      'POST',
      '/payments/4/refund',
      refund(half, { 'Idempotency-Key': 'k' }),
      [409, 40900, { status: 3 }],
    ],
    [
      'POST',
      '/payments/2/refund',
      refund({ ...half, amount: '70.01' }),
      [409, 40901, { refundable_amount: '70.00' }],
    ],
    [
      'POST',
      '/payments/2/refund',
      refund({ ...half, amount: '9999999999999999.99' }),
      [409, 40901, { refundable_amount: '70.00' }],
    ],
    ['PATCH', '/payments/5/refunds/1', { body: { status: 1 } }, [404, 40401, null]],
    ['PATCH', '/payments/1/refunds/1', { body: { status: 1 } }, [404, 40402, null]],
    ['PATCH', '/payments/2/refunds/3', { body: { status: 1 } }, [404, 40402, null]],
    [
      'PATCH',
      '/payments/2/refunds/9223372036854775807',
      { body: { status: 2 } },
      [404, 40402, null],
    ],
    ['PATCH', '/payments/2/refunds/2', { body: { status: 2 } }, [409, 40903, { status: 1 }]],
    ['POST', '/payments/5/refunds/1/sync', {}, [404, 40401, null]],
    ['POST', '/payments/1/refunds/1/sync', {}, [404, 40402, null]],
    ['POST', '/payments/2/refunds/1/sync', {}, [409, 40911, null]],
    ['POST', '/payments/5/refunds/1/retry', {}, [404, 40401, null]],
    ['POST', '/payments/1/refunds/1/retry', {}, [404, 40402, null]],
    ['POST', '/payments/2/refunds/1/retry', {}, [409, 40911, null]],
    ['POST', '/payments/5/refunds/1/abnormal', merchant, [404, 40401, null]],
    ['POST', '/payments/1/refunds/1/abnormal', merchant, [404, 40402, null]],
    ['POST', '/payments/2/refunds/1/abnormal', merchant, [409, 40911, null]],
  ])('refuses %s %s %j', async (method, path, call, expected) => {
    const reply = await app.call(method, path, z.unknown(), call);
    expect([reply.status, reply.code, reply.data]).toEqual(expected);
    expect(await digest()).toBe(stored);
  });
});

describe('what only looks bad', () => {
  it.each([
    '/payments/%31',
    '/payments/1?unknown=1',
    '/payments?',
    '/payments?&&',
    '/payments?page',
    '/payments?page=&size=&cursor=&order_no=&payment_no=&status=&payment_method=&start_time=&end_time=',
    '/payments?%70age=1',
    '/payments?page=2147483647&size=100',
    '/payments?status=1,1,2',
    '/payments?order_no=%F0%9F%99%82',
    `/payments?order_no=${'%F0%9F%99%82'.repeat(64)}`,
    "/payments?order_no='%20OR%201=1--",
    '/payments?start_time=0001-01-01T00:00:00%2B14:00&end_time=9999-12-31T23:59:59-14:00',
    '/payments?start_time=2026-11-01&end_time=2026-11-01',
    '/payments?start_time=2026-11-01T08:30:59&end_time=2026-11-01%2008:30',
    '/payments?start_time=2026-11-01T08:30 08:00&end_time=2026-11-01T08:30:00.123456789Z',
    `/payments?page=&${CURSOR}`,
  ])('GET %s', async (path) => {
    const reply = await app.call('GET', path, z.unknown());
    expect([reply.status, reply.code]).toEqual([200, 0]);
  });

  it.each([
    ['255 code points outside the BMP', '🙂'.repeat(255), '🙂'.repeat(255)],
    ['white space around it', ' \n\u3000退款\t', '退款'],
    ['quotes and backslashes', `'; DROP TABLE payments; -- "\\`, `'; DROP TABLE payments; -- "\\`],
    ['right-to-left text', 'استرداد', 'استرداد'],
    ['what looks like a second key', '","reason":"","amount":"', '","reason":"","amount":"'],
    ['an emoji of several code points', '👨‍👩‍👧', '👨‍👩‍👧'],
  ])('a reason with %s', async (_, reason, kept) => {
    const other = await startApp();
    const id = await insertPayment(other.sql);
    const body = { amount: '1.00', reason };
    const reply = await other.call(
      'POST',
      `/payments/${id}/refund`,
      z.object({ reason: z.string() }),
      {
        body,
        headers: { 'Idempotency-Key': `${' k'.repeat(127)}~` },
      },
    );
    expect([reply.status, reply.data.reason]).toEqual([201, kept]);
    await other.idle();
  });
});
