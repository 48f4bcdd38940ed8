/** What GET /payments/:id shows, and when it asks the database. The cache's staleness is in detail-cache.test.ts. */
import { afterEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { PaymentDetail } from '../../src/payments/detail';
import { FakeKv } from '../fakes';
import { insertCallbacks, insertPayment, insertRefunds, signToken, startApp } from '../harness';

const app = await startApp();

afterEach(() => {
  app.kv.down = false;
  return app.faults();
});

const detail = (id: string, headers: Record<string, string> = {}) =>
  app.call('GET', `/payments/${id}`, PaymentDetail.strict(), { headers });

const cacheStatus = async (id: string, headers: Record<string, string> = {}) => {
  const reply = await detail(id, headers);
  await app.idle();
  return reply.headers.get('Cache-Status');
};

describe('TestGetPaymentDetail', () => {
  test('shows the payment with its callbacks and refunds, oldest first', async () => {
    const id = await insertPayment(app.sql, {
      order_id: '1987654321012345678',
      payment_no: 'PAY-DETAIL',
      amount: '1234567890123456.78',
      created_at: '2026-11-01T08:00:00.123987+08:00',
    });
    await app.sql`INSERT INTO orders (id, order_no) VALUES (1987654321012345678, 'ORD-1')`;
    await app.sql`
      INSERT INTO payment_callbacks (id, payment_id, callback_no, status, created_at) VALUES
        (9007199254740995, ${id}, 'CB-3', 1, '2026-11-01T00:00:03Z'),
        (9007199254740993, ${id}, 'CB-1', 0, '2026-11-01T00:00:02Z'),
        (9007199254740994, ${id}, 'CB-2', 2, '2026-11-01T00:00:02Z')`;
    await app.sql`
      INSERT INTO payment_refunds (id, payment_id, refund_no, amount, reason, status, created_at) VALUES
        (9007199254740999, ${id}, 'RF-2', 1000000000000000.01, '少发', 0, '2026-11-02T00:00:00Z'),
        (9007199254740998, ${id}, 'RF-1', 0.10, '补差价', 1, '2026-11-02T00:00:00Z'),
        (9007199254741001, ${id}, 'RF-0', 5, NULL, 2, '2026-11-01T12:00:00Z')`;

    const reply = await detail(id);

    expect(reply).toMatchObject({ status: 200, code: 0, message: '获取成功' });
    expect(reply.data).toEqual({
      id,
      order_id: '1987654321012345678',
      order_no: 'ORD-1',
      payment_no: 'PAY-DETAIL',
      payment_method: 'alipay',
      amount: '1234567890123456.78',
      status: 1,
      payment_time: '2026-11-01T00:00:01.000Z',
      refund_time: null,
      created_at: '2026-11-01T00:00:00.123Z',
      updated_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      refunded_amount: '0.10',
      refundable_amount: '234567890123456.67',
      callbacks_total: 3,
      callbacks: [
        {
          id: '9007199254740993',
          callback_no: 'CB-1',
          status: 0,
          created_at: '2026-11-01T00:00:02.000Z',
        },
        {
          id: '9007199254740994',
          callback_no: 'CB-2',
          status: 2,
          created_at: '2026-11-01T00:00:02.000Z',
        },
        {
          id: '9007199254740995',
          callback_no: 'CB-3',
          status: 1,
          created_at: '2026-11-01T00:00:03.000Z',
        },
      ],
      refunds_total: 3,
      refunds: [
        {
          id: '9007199254741001',
          refund_no: 'RF-0',
          amount: '5.00',
          reason: null,
          status: 2,
          created_at: '2026-11-01T12:00:00.000Z',
          gateway: null,
          events_total: 0,
          events: [],
        },
        {
          id: '9007199254740998',
          refund_no: 'RF-1',
          amount: '0.10',
          reason: '补差价',
          status: 1,
          created_at: '2026-11-02T00:00:00.000Z',
          gateway: null,
          events_total: 0,
          events: [],
        },
        {
          id: '9007199254740999',
          refund_no: 'RF-2',
          amount: '1000000000000000.01',
          reason: '少发',
          status: 0,
          created_at: '2026-11-02T00:00:00.000Z',
          gateway: null,
          events_total: 0,
          events: [],
        },
      ],
    });
  });

  test('shows null for an order that is unknown, and empty lists', async () => {
    const id = await insertPayment(app.sql, { order_id: '42', payment_time: null });
    expect((await detail(id)).data).toMatchObject({
      order_id: '42',
      order_no: null,
      payment_time: null,
      callbacks_total: 0,
      callbacks: [],
      refunds_total: 0,
      refunds: [],
    });
  });

  test.for([0, 2, 3])('says that nothing is refundable in status %i', async (status) => {
    const id = await insertPayment(app.sql, { status });
    expect((await detail(id)).data.refundable_amount).toBe('0.00');
  });

  test('shows under each refund who did what, in which request', async () => {
    const id = await insertPayment(app.sql);
    const as = async (sub: string, requestId: string) => ({
      Authorization: `Bearer ${await signToken({ sub })}`,
      'X-Request-Id': requestId,
    });
    const refund = await app.call('POST', `/payments/${id}/refund`, z.object({ id: z.string() }), {
      headers: await as('客服-小王', 'req-1'),
      body: { amount: '1', reason: '拍错了' },
    });
    await app.call('PATCH', `/payments/${id}/refunds/${refund.data.id}`, z.unknown(), {
      headers: await as('finance@example.com', 'req-2'),
      body: { status: 1 },
    });
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const { data } = await detail(id);
    expect(data.refunds.map(({ events }) => events)).toEqual([
      [
        {
          actor: '客服-小王',
          from_status: null,
          to_status: 0,
          request_id: 'req-1',
          reason: null,
          cause: null,
          created_at: time,
        },
        {
          actor: 'finance@example.com',
          from_status: 0,
          to_status: 1,
          request_id: 'req-2',
          reason: null,
          cause: null,
          created_at: time,
        },
      ],
    ]);
  });

  test('shows the newest 200 callbacks and refunds, oldest first, and how many there are', async () => {
    const id = await insertPayment(app.sql);
    await insertCallbacks(app.sql, id, 250);
    await insertRefunds(app.sql, id, 250);
    const { data, body } = await detail(id);
    const newest = (prefix: string) => Array.from({ length: 200 }, (_, i) => `${prefix}${i + 51}`);
    expect([data.callbacks_total, data.refunds_total]).toEqual([250, 250]);
    expect(data.callbacks.map(({ callback_no }) => callback_no)).toEqual(newest(`CB-${id}-`));
    expect(data.refunds.map(({ refund_no }) => refund_no)).toEqual(newest(`RF-${id}-`));
    // All of them count, not only those that are shown.
    expect(data.refundable_amount).toBe('97.50');
    expect(JSON.stringify(body).length).toBeLessThan(100_000);
  });

  test('reads no more callbacks than it shows, however many there are', async () => {
    const id = await insertPayment(app.sql);
    await insertCallbacks(app.sql, id, 20_000);
    // Other payments have one each: that is what a plan for any payment expects.
    await app.sql`
      WITH others AS (
        INSERT INTO payments (order_id, payment_no, payment_method, amount, status)
        SELECT n, 'OTHER-' || n, 'alipay', 1, 1 FROM generate_series(1, 10000) AS n
        RETURNING id, payment_no
      )
      INSERT INTO payment_callbacks (payment_id, callback_no, status)
      SELECT id, payment_no, 1 FROM others`;
    // Again where another's snapshot was in the way: from an index alone pages are read that all see.
    do await app.sql`VACUUM (ANALYZE) payment_callbacks`;
    while ((await pagesNotSeenByAll()) > 0);
    const [, , read] = await app.sql.transaction([
      app.sql`SELECT set_config('plan_cache_mode', 'force_generic_plan', true)`,
      app.sql`SELECT payment_detail(${id})`,
      app.sql`
        SELECT (seq_tup_read + idx_tup_fetch)::int AS rows FROM pg_stat_xact_user_tables
        WHERE relid = 'payment_callbacks'::regclass`,
    ]);
    expect(read).toEqual([{ rows: 200 }]);
  });

  test('shows the newest 50 events of a refund, oldest first, and how many there are', async () => {
    const id = await insertPayment(app.sql);
    const [refundId = ''] = await insertRefunds(app.sql, id, 1);
    await app.sql`
      INSERT INTO payment_refund_events (refund_id, actor, to_status, request_id, created_at)
      SELECT ${refundId}::bigint, 'somebody', 0, n, timestamptz '2026-11-02T00:00:00Z' + n / 2 * interval '1 second'
      FROM generate_series(1, 60) AS n`;
    const [refund] = (await detail(id)).data.refunds;
    expect(refund?.events_total).toBe(60);
    expect(refund?.events.map(({ request_id }) => request_id)).toEqual(
      Array.from({ length: 50 }, (_, i) => String(i + 11)),
    );
  });

  test('answers 40401 for a payment that does not exist', async () => {
    const reply = await app.call('GET', '/payments/9223372036854775807', z.null());
    expect(reply).toMatchObject({ status: 404, code: 40401 });
  });
});

describe('the cache', () => {
  test('serves the second request without the database, byte for byte', async () => {
    const id = await insertPayment(app.sql);
    let bodies: unknown[] = [];
    const miss = await app.databaseRequests(async () => {
      bodies = [(await detail(id)).body];
      await app.idle();
    });
    const hit = await app.databaseRequests(async () => {
      const reply = await detail(id);
      expect(reply.headers.get('Cache-Status')).toBe('payment-detail; hit');
      expect(reply.headers.get('Content-Type')).toBe('application/json');
      bodies.push(reply.body);
    });
    expect([miss, hit]).toEqual([1, 0]);
    expect(bodies[1]).toEqual(bodies[0]);
  });

  test.each([
    ['says how old a detail is', { select_began_at: Date.now() - 65_000 }, /^6[5-9]$|^[7-9]\d$/],
    [
      'takes one of a clock that is ahead for new',
      { select_began_at: Date.now() + 600_000 },
      /^0$/,
    ],
    ['does not guess the age of one that an older Worker stored', null, /^null$/],
  ])('%s', async (_, metadata, age) => {
    const id = await insertPayment(app.sql);
    const { body } = await detail(id);
    const DETAIL_CACHE = new FakeKv().at('here');
    const stored = { expirationTtl: 1800, metadata };
    await DETAIL_CACHE.put(`payment:detail:${id}`, JSON.stringify(body), stored);
    const reply = await app.call('GET', `/payments/${id}`, PaymentDetail.strict(), {
      env: { DETAIL_CACHE },
    });
    expect(reply.headers.get('Cache-Status')).toBe('payment-detail; hit');
    expect(String(reply.headers.get('Age'))).toMatch(age);
  });

  test('is read past and filled anew on Cache-Control: no-cache', async () => {
    const id = await insertPayment(app.sql);
    // Within a second of the first fill KV refuses the second write, so the first is made by hand.
    expect(await cacheStatus(id, { 'Cache-Control': 'max-age=0, no-cache' })).toBe(
      'payment-detail; fwd=bypass',
    );
    expect(await cacheStatus(id)).toBe('payment-detail; hit');
  });

  test('does not keep a pending payment', async () => {
    const id = await insertPayment(app.sql, { status: 0 });
    expect(await cacheStatus(id)).toBe('payment-detail; fwd=miss');
    expect(await cacheStatus(id)).toBe('payment-detail; fwd=miss');
  });

  test.for(['not ours', '{"code":0,"message":"获取成功","data":{"id":"0","order_id":"1"}}', ''])(
    'takes a value that is not ours for a miss: %s',
    async (value) => {
      const id = await insertPayment(app.sql);
      await app.env.DETAIL_CACHE.put(`payment:detail:${id}`, value, { expirationTtl: 1800 });
      expect(await cacheStatus(id)).toBe('payment-detail; fwd=miss');
    },
  );

  test('keeps a value for 1800 s under payment:detail:{id}', async () => {
    const id = await insertPayment(app.sql);
    const puts: unknown[][] = [];
    const recording = {
      ...app.env.DETAIL_CACHE,
      put: async (...put: unknown[]) => void puts.push(put),
    };
    const { body } = await app.call('GET', `/payments/${id}`, z.unknown(), {
      env: { DETAIL_CACHE: recording },
    });
    await app.idle();
    expect(puts).toEqual([
      [
        `payment:detail:${id}`,
        JSON.stringify(body),
        { expirationTtl: 1800, metadata: { select_began_at: expect.any(Number) } },
      ],
    ]);
  });

  test('may be down: details, refunds and settlements work without it', async () => {
    const id = await insertPayment(app.sql);
    app.kv.down = true;
    expect(await cacheStatus(id)).toBe('payment-detail; fwd=miss');
    const refund = await app.call('POST', `/payments/${id}/refund`, z.object({ id: z.string() }), {
      body: { amount: '100', reason: '全额退款' },
    });
    const settled = await app.call(
      'PATCH',
      `/payments/${id}/refunds/${refund.data.id}`,
      z.unknown(),
      {
        body: { status: 1 },
      },
    );
    expect([refund.status, settled.status]).toEqual([201, 200]);
    expect((await detail(id)).data).toMatchObject({ status: 3, refundable_amount: '0.00' });
  });
});

describe('a fault of the database', () => {
  test('that passes is met by a second try', async () => {
    const id = await insertPayment(app.sql);
    await app.faults({ drop: 'before' });
    expect(await app.databaseRequests(() => detail(id))).toBe(2);
  });

  test('that lasts is 50300, and a detail that is cached is served all the same', async () => {
    const [cached, other] = [await insertPayment(app.sql), await insertPayment(app.sql)];
    await detail(cached);
    await app.idle();
    await app.faults({ status: 503, times: 'always' });
    expect((await detail(cached)).status).toBe(200);
    const reply = await app.call('GET', `/payments/${other}`, z.null());
    expect(reply).toMatchObject({ status: 503, code: 50300 });
    expect(reply.headers.get('Retry-After')).toMatch(/^\d+$/);
  });
});

async function pagesNotSeenByAll(): Promise<number> {
  const rows = await app.sql`
    SELECT relpages - relallvisible AS pages FROM pg_class WHERE oid = 'payment_callbacks'::regclass`;
  return z.tuple([z.object({ pages: z.int() })]).parse(rows)[0].pages;
}
