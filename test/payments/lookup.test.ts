/** What GET /lookup guarantees: the payments that a number names, exactly, whoever gave it, each once. */
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { PaymentPage } from '../../src/payments/list';
import { Lookup } from '../../src/payments/lookup';
import { insertPayment, signToken, startApp, type TestApp } from '../harness';

let app: TestApp;
let paymentId: string;

/** One payment that has every number there is, and a hundred others that have their own. */
beforeAll(async () => {
  app = await startApp();
  for (let other = 0; other < 100; other += 1) await insertPayment(app.sql);
  await app.sql`INSERT INTO orders (id, order_no) VALUES (8001, 'ORD-8001')`;
  paymentId = await insertPayment(app.sql, { order_id: '8001', payment_no: 'PAY-8001' });
  await app.sql`
    INSERT INTO payment_refunds (id, payment_id, refund_no, amount) VALUES
      (7001, ${paymentId}, 'REF-7001', 12.34), (7002, ${paymentId}, 'REF-7002', 1)`;
  await app.sql`INSERT INTO payment_callbacks (payment_id, callback_no, status) VALUES (${paymentId}, 'CB-8001', 1)`;
  await app.sql`
    INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no, gateway_refund_no) VALUES
      (7001, 'alipay', 'OUT-7001', '50300-7001'), (7002, 'alipay', 'OUT-7002', NULL)`;
  await app.sql`
    INSERT INTO gateway_payments (payment_id, out_trade_no, trade_no) VALUES (${paymentId}, 'OUTTRADE-8001', '42000-8001')`;
});

const find = async (number: string) => {
  const reply = await app.call(
    'GET',
    `/lookup?number=${encodeURIComponent(number)}`,
    Lookup.strict(),
  );
  expect([reply.status, reply.message]).toEqual([200, '获取成功']);
  return reply.data;
};

const kinds = async (number: string) =>
  (await find(number)).list.map(({ kind, refund_id, payment }) => [kind, refund_id, payment.id]);

describe('a number', () => {
  it.each([
    ['order_no', 'ORD-8001', null],
    ['payment_no', 'PAY-8001', null],
    ['refund_no', 'REF-7001', '7001'],
    ['callback_no', 'CB-8001', null],
    ['out_refund_no', 'OUT-7001', '7001'],
    ['gateway_refund_no', '50300-7001', '7001'],
    ['out_trade_no', 'OUTTRADE-8001', null],
    ['trade_no', '42000-8001', null],
    ['refund_id', '7002', '7002'],
    ['order_id', '8001', null],
  ])('that is a %s finds its payment: %s', async (kind, number, refundId) => {
    expect(await kinds(number)).toEqual([[kind, refundId, paymentId]]);
  });

  it('that is the id of a payment finds it', async () => {
    expect(await kinds(paymentId)).toEqual([['payment_id', null, paymentId]]);
  });

  it('shows a payment as the list does', async () => {
    const listed = await app.call('GET', '/payments?payment_no=PAY-8001', PaymentPage);
    const { number, list } = await find('REF-7001');
    expect(number).toBe('REF-7001');
    expect(list[0]?.payment).toEqual(listed.data.list[0]);
    expect(list[0]?.payment).toMatchObject({ order_no: 'ORD-8001', refundable_amount: '86.66' });
  });

  it.each([
    'ORD-800',
    'RD-8001',
    'ord-8001',
    'ORD_8001',
    'ORD%',
    '%',
    'x'.repeat(100),
    '0',
    '-1',
    '08001',
    '8001.0',
    '9223372036854775807',
    '9223372036854775808',
    '1'.repeat(100),
    '🙂'.repeat(100),
    "ORD-8001';--",
    '\\x00',
  ])('that nothing has finds nothing: %s', async (number) => {
    expect(await find(number)).toEqual({ number, list: [] });
  });

  it.each([
    [' PAY-8001 '],
    ['PAY-8001\r\n'],
    ['\tPAY-8001'],
    ['PAY-8001\t'],
    ["'PAY-8001"],
    ['"PAY-8001"'],
    ['"\'PAY-8001"'],
    ['“PAY-8001”'],
    ['‘PAY-8001’'],
    ['＂PAY-8001＇'],
    ['\u3000PAY-8001\u3000'],
    ['PAY\u200b-\u200d80\ufeff01\u2060'],
    ['\u202dPAY-8001\u202c'],
    ['PAY -\u00a0800 1'],
    [`${' '.repeat(200)}PAY-8001`],
  ])('is found however it was copied: %j', async (copied) => {
    const { number, list } = await find(copied);
    expect(number).toBe('PAY-8001');
    expect(list.map(({ payment }) => payment.id)).toEqual([paymentId]);
  });

  it.each([
    '',
    ' ',
    '\u200b',
    '""',
    "'",
    '“”',
    '\u3000\t',
    'x'.repeat(101),
    '🙂'.repeat(101),
    'a\u0000',
    'a\u001fb',
    'a\u0085b',
  ])('that cannot be one is refused without asking the database: %j', async (number) => {
    const Errors = z.object({ errors: z.tuple([z.object({ path: z.literal('number') })]) });
    const refuse = async () => {
      const path = `/lookup?number=${encodeURIComponent(number)}`;
      expect((await app.call('GET', path, Errors)).code).toBe(40000);
    };
    expect(await app.databaseRequests(refuse)).toBe(0);
  });

  it.each(['', 'number=1&number=2', 'number=1&size=2', 'no=1'])(
    'has to be there once and alone: ?%s',
    async (search) => {
      expect((await app.call('GET', `/lookup?${search}`, z.unknown())).code).toBe(40000);
    },
  );
});

describe('several payments', () => {
  it('are there by kind, the newest first, each under the first kind that fits', async () => {
    const at = (day: number) => ({ created_at: `2026-11-0${day}T00:00:00Z` });
    await app.sql`INSERT INTO orders (id, order_no) VALUES (555, '31415')`;
    const second = await insertPayment(app.sql, { order_id: '555', ...at(2) });
    const third = await insertPayment(app.sql, { order_id: '555', ...at(3) });
    // At the same time as the third, so the greater id goes first; and its payment_no is the number, too.
    const fourth = await insertPayment(app.sql, {
      order_id: '555',
      payment_no: '31415',
      ...at(3),
    });
    const refunded = await insertPayment(app.sql, at(5));
    await app.sql`INSERT INTO payment_refunds (id, payment_id, refund_no, amount) VALUES (31415, ${refunded}, '31415', 1)`;
    await app.sql`INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no) VALUES (31415, 'alipay', '31415')`;
    const ordered = await insertPayment(app.sql, { order_id: '31415', ...at(1) });
    expect(await kinds('31415')).toEqual([
      ['order_no', null, fourth],
      ['order_no', null, third],
      ['order_no', null, second],
      ['refund_no', '31415', refunded],
      ['order_id', null, ordered],
    ]);
  });

  it('are twenty at most', async () => {
    await app.sql`
      INSERT INTO payments (order_id, payment_no, payment_method, amount, created_at)
      SELECT 271828, 'MANY-' || n, 'bank', 1, timestamptz '2026-11-01Z' + n * interval '1 microsecond' FROM generate_series(1, 30) AS n`;
    const { list } = await find('271828');
    expect(list.map(({ payment }) => payment.payment_no)).toEqual(
      Array.from({ length: 20 }, (_, index) => `MANY-${30 - index}`),
    );
  });

  it('that one number of a gateway names are each there with its refund', async () => {
    const ids = [await insertPayment(app.sql), await insertPayment(app.sql)];
    for (const [index, id] of ids.entries()) {
      await app.sql`INSERT INTO payment_refunds (id, payment_id, refund_no, amount) VALUES (${6001 + index}, ${id}, ${`TWICE-${index}`}, 1)`;
      await app.sql`INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no, gateway_refund_no) VALUES (${6001 + index}, 'alipay', ${`OUT-TWICE-${index}`}, 'TWICE')`;
    }
    expect(await kinds('TWICE')).toEqual([
      ['gateway_refund_no', '6002', ids[1]],
      ['gateway_refund_no', '6001', ids[0]],
    ]);
  });
});

describe('a request', () => {
  it('makes one round trip, whatever it finds', async () => {
    for (const number of ['PAY-8001', '8001', 'nothing']) {
      expect(await app.databaseRequests(() => find(number))).toBe(1);
    }
  });

  it('needs payments:read', async () => {
    const headers = { Authorization: `Bearer ${await signToken({ scope: 'refunds:create' })}` };
    const reply = await app.call('GET', '/lookup?number=1', z.unknown(), { headers });
    expect(reply).toMatchObject({ code: 40300, data: { required_scope: 'payments:read' } });
  });
});
