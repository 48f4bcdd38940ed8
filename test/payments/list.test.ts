/**
 * Proves what GET /payments shows and in which order: every filter, both ways to go through the
 * pages, times to the microsecond, and the same rows and total as plain SQL gives.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { Payment } from '../../src/payments/payment';
import { insertPayment, startApp, type TestApp } from '../harness';

const Page = z.strictObject({
  total: z.int(),
  total_amount: z.string(),
  list: z.array(z.strictObject(Payment.shape)),
  next_cursor: z.string().nullable(),
});
type Page = z.infer<typeof Page>;

const Ids = z.array(z.object({ id: z.string() }));

type Query = Record<string, string | number>;

async function list(app: TestApp, query: Query | string = {}): Promise<Page> {
  const search =
    typeof query === 'string'
      ? query
      : new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]));
  const reply = await app.call('GET', `/payments?${search}`, Page);
  expect([reply.status, reply.code, reply.message]).toEqual([200, 0, '获取成功']);
  return reply.data;
}

const ids = (page: Page) => page.list.map((payment) => payment.id);

/** Everything from the first page on, cursor by cursor. `between` runs after each page. */
async function walk(app: TestApp, query: Query, between = async (_last: Payment) => {}) {
  const seen: string[] = [];
  let page = await list(app, query);
  for (;;) {
    seen.push(...ids(page));
    const last = page.list.at(-1);
    if (page.next_cursor === null || last === undefined) return seen;
    await between(last);
    page = await list(app, { ...query, cursor: page.next_cursor });
  }
}

/** As the list is to be ordered, by plain SQL. */
async function orderedIds(app: TestApp): Promise<string[]> {
  const rows = await app.sql`SELECT id FROM payments ORDER BY created_at DESC, id DESC`;
  return Ids.parse(rows).map(({ id }) => id);
}

describe('TestGetPaymentList', () => {
  it('shows a payment as the specification says, newest first', async () => {
    const app = await startApp();
    await app.sql`INSERT INTO orders (id, order_no) VALUES (9007199254740993, 'ORD20261101')`;
    const first = await insertPayment(app.sql, {
      order_id: '9007199254740993',
      payment_no: 'PAY-1',
      amount: '12345678901234.50',
      payment_time: '2026-11-01T08:00:01.9999+08:00',
      created_at: '2026-11-01T08:00:00.123456+08:00',
    });
    const second = await insertPayment(app.sql, {
      order_id: '42',
      payment_no: 'PAY-2',
      payment_method: 'wechat',
      amount: '7',
      status: 0,
      payment_time: null,
      created_at: '2026-11-01T00:00:00.123457Z',
    });

    expect(await list(app)).toEqual({
      total: 2,
      total_amount: '12345678901241.50',
      list: [
        {
          id: second,
          order_no: null,
          payment_no: 'PAY-2',
          payment_method: 'wechat',
          amount: '7.00',
          status: 0,
          payment_time: null,
          created_at: '2026-11-01T00:00:00.123Z',
          refunded_amount: '0.00',
          refundable_amount: '0.00',
        },
        {
          id: first,
          order_no: 'ORD20261101',
          payment_no: 'PAY-1',
          payment_method: 'alipay',
          amount: '12345678901234.50',
          status: 1,
          payment_time: '2026-11-01T00:00:01.999Z',
          created_at: '2026-11-01T00:00:00.123Z',
          refunded_amount: '0.00',
          refundable_amount: '12345678901234.50',
        },
      ],
      next_cursor: null,
    });
  });

  it('shows ids that no JavaScript number can hold', async () => {
    const app = await startApp();
    await app.sql`INSERT INTO payments (id, order_id, payment_no, payment_method, amount)
      VALUES (9223372036854775807, 9223372036854775807, 'P1', 'bank', 9999999999999999.99),
        (9223372036854775806, 9007199254740993, 'P2', 'bank', 0)`;
    await app.sql`INSERT INTO orders (id, order_no)
      VALUES (9223372036854775807, 'LAST'), (9007199254740992, 'NEAR')`;

    expect((await list(app)).list).toMatchObject([
      { id: '9223372036854775807', order_no: 'LAST', amount: '9999999999999999.99' },
      { id: '9223372036854775806', order_no: null, amount: '0.00' },
    ]);
    expect(await walk(app, { size: 1 })).toEqual(['9223372036854775807', '9223372036854775806']);
  });

  it('is empty where there is nothing', async () => {
    const app = await startApp();
    expect(await list(app)).toEqual({
      total: 0,
      total_amount: '0.00',
      list: [],
      next_cursor: null,
    });
    expect(await list(app, { page: 7 })).toEqual({
      total: 0,
      total_amount: '0.00',
      list: [],
      next_cursor: null,
    });
  });

  it('asks the database once for a list, and not at all for a bad request', async () => {
    const app = await startApp();
    for (let payment = 0; payment < 3; payment += 1) await insertPayment(app.sql);
    expect(await app.databaseRequests(() => list(app, { size: 2, status: 1 }))).toBe(1);
    expect(await app.databaseRequests(() => app.call('GET', '/payments?page=0', z.unknown()))).toBe(
      0,
    );
  });
});

describe('pages', () => {
  let app: TestApp;
  let all: string[];

  beforeAll(async () => {
    app = await startApp();
    // 23 payments, of which 10 share one created_at and the rest another.
    for (let payment = 0; payment < 23; payment += 1) {
      await insertPayment(app.sql, { created_at: `2026-11-0${payment % 7 < 3 ? 1 : 2}` });
    }
    all = await orderedIds(app);
  });

  it('are the first ten by default', async () => {
    const page = await list(app);
    expect(ids(page)).toEqual(all.slice(0, 10));
    expect(page.total).toBe(23);
    expect(page.next_cursor).not.toBeNull();
  });

  it.each([
    [1, 10],
    [2, 10],
    [3, 10],
    [1, 1],
    [23, 1],
    [5, 5],
    [1, 23],
    [1, 22],
    [1, 100],
  ])('page %i of %i payments each holds what it should', async (page, size) => {
    const shown = await list(app, { page, size });
    expect(ids(shown)).toEqual(all.slice((page - 1) * size, page * size));
    expect(shown.total).toBe(23);
    expect(shown.next_cursor === null).toBe(page * size >= 23);
  });

  it.each([
    [4, 10],
    [24, 1],
    [2, 23],
    [2_147_483_647, 100],
  ])('page %i of %i payments each is empty, with the true total', async (page, size) => {
    expect(await list(app, { page, size })).toMatchObject({
      total: 23,
      list: [],
      next_cursor: null,
    });
  });
});

describe('filters', () => {
  let app: TestApp;
  const names = new Map<string, string>();
  /** The payments shown, by name, in the order in which they are shown. */
  const shown = async (query: Query | string) => {
    const page = await list(app, query);
    expect(page.total).toBe(page.list.length);
    return ids(page).map((id) => names.get(id));
  };

  beforeAll(async () => {
    app = await startApp();
    await app.sql`INSERT INTO orders (id, order_no) VALUES (1, 'ORD-1'), (2, 'ORD-2'), (3, 'ORD-3')`;
    for (const [name, row] of Object.entries({
      a: { order_id: '1', payment_no: 'PAY-A', payment_method: 'alipay', status: 0 },
      b: { order_id: '1', payment_no: 'PAY-B', payment_method: 'wechat', status: 1 },
      c: { order_id: '2', payment_no: 'PAY-C', payment_method: 'bank', status: 2 },
      d: { order_id: '2', payment_no: 'PAY-D', payment_method: 'wechat', status: 3 },
      e: { order_id: '9', payment_no: '支付 E+1&2', payment_method: 'wechat', status: 1 },
    })) {
      names.set(await insertPayment(app.sql, row), name);
    }
  });

  it.each<[Query, string]>([
    [{ status: 1 }, 'eb'],
    [{ status: '0,2' }, 'ca'],
    [{ status: '3,2,1,0' }, 'edcba'],
    [{ status: '1,1' }, 'eb'],
    [{ payment_method: 'wechat' }, 'edb'],
    [{ payment_method: 'bank,alipay' }, 'ca'],
    [{ order_no: 'ORD-1' }, 'ba'],
    [{ order_no: 'ORD-3' }, ''],
    [{ order_no: 'ORD-9' }, ''],
    [{ order_no: 'ord-1' }, ''],
    [{ order_no: 'ORD-' }, ''],
    [{ order_no: 'ORD-_' }, ''],
    [{ order_no: '%' }, ''],
    [{ order_no: ' ORD-1' }, ''],
    [{ payment_no: 'PAY-D' }, 'd'],
    [{ payment_no: 'pay-d' }, ''],
    [{ payment_no: '支付 E+1&2' }, 'e'],
    [{ order_no: 'ORD-1', status: 1 }, 'b'],
    [{ order_no: 'ORD-1', payment_no: 'PAY-C' }, ''],
    [{ order_no: 'ORD-2', payment_no: 'PAY-C', status: '2,3', payment_method: 'bank' }, 'c'],
    [{ status: '1,3', payment_method: 'wechat,bank' }, 'edb'],
    [{ status: '1,3', payment_method: 'wechat', start_time: '2026-10-31', size: 100 }, 'edb'],
    [{ status: '1,3', payment_method: 'wechat', end_time: '2026-10-31' }, ''],
    [{ status: '', payment_method: '', order_no: '', payment_no: '', page: '', size: '' }, 'edcba'],
    [{ start_time: '', end_time: '', cursor: '', page: 1 }, 'edcba'],
  ])('%j', async (query, expected) => {
    expect((await shown(query)).join('')).toBe(expected);
  });
});

describe('times', () => {
  let app: TestApp;
  const TIMES = [
    '2026-10-31T15:59:59.999999Z',
    '2026-10-31T16:00:00Z', // 2026-11-01 00:00 in Shanghai
    '2026-11-01T00:00:00Z',
    '2026-11-01T00:00:00.000001Z',
    '2026-11-01T00:00:00.999999Z',
    '2026-11-01T00:00:01Z',
    '2026-11-01T15:59:59.999999Z',
    '2026-11-01T16:00:00Z', // 2026-11-02 00:00 in Shanghai
  ];

  beforeAll(async () => {
    app = await startApp();
    for (const created_at of TIMES) await insertPayment(app.sql, { created_at });
  });

  // From the first to the last of TIMES that are shown.
  it.each([
    ['start_time=2026-11-01', 1, 7],
    ['end_time=2026-11-01', 0, 6],
    ['start_time=2026-11-01&end_time=2026-11-01', 1, 6],
    ['start_time=2026-11-02', 7, 7],
    ['end_time=2026-10-31', 0, 0],
    ['start_time=2026-11-01 08:00:00&end_time=2026-11-01 08:00:00', 2, 4],
    ['start_time=2026-11-01T08:00:00&end_time=2026-11-01T08:00:00', 2, 4],
    ['start_time=2026-11-01+08:00:00&end_time=2026-11-01+08:00:00', 2, 4],
    ['start_time=2026-11-01T00:00:00Z&end_time=2026-11-01T00:00:00Z', 2, 4],
    ['start_time=2026-11-01T08:00:00%2B08:00&end_time=2026-11-01T00:00:00Z', 2, 4],
    // A `+` that nobody encoded arrives as a space.
    ['start_time=2026-11-01T08:00:00+08:00&end_time=2026-11-01T08:00:00+08:00', 2, 4],
    ['start_time=2026-11-01 08:00:00+08:00&end_time=2026-11-01T05:45:00+05:45', 2, 4],
    ['start_time=2026-11-01T00:00:00.0Z&end_time=2026-11-01T00:00:00.0Z', 2, 3],
    ['start_time=2026-11-01T00:00:00.000Z&end_time=2026-11-01T00:00:00.000Z', 2, 3],
    ['start_time=2026-11-01T00:00:00.000000Z&end_time=2026-11-01T00:00:00.000000Z', 2, 2],
    ['start_time=2026-11-01T00:00:00.000001Z', 3, 7],
    ['start_time=2026-11-01T00:00:00.000002Z', 4, 7],
    ['end_time=2026-11-01T00:00:00.000001Z', 0, 3],
    ['end_time=2026-11-01T00:00:00.999998Z', 0, 3],
    ['end_time=2026-11-01T00:00:00.999999Z', 0, 4],
    ['end_time=2026-11-01T00:00:00.9Z', 0, 4],
    ['end_time=2026-11-01T00:00:00Z', 0, 4],
    ['end_time=2026-11-01T00:00:01Z', 0, 5],
    ['start_time=0001-01-01', 0, 7],
    ['start_time=0001-01-01T00:00:00%2B14:00&end_time=9999-12-31T23:59:59-14:00', 0, 7],
    ['end_time=9999-12-31', 0, 7],
  ])('?%s', async (query, first, last) => {
    const page = await list(app, query.replaceAll(' ', '%20'));
    const expected = TIMES.slice(first, last + 1).map((time) => new Date(time).toISOString());
    expect(page.list.map((payment) => payment.created_at)).toEqual(expected.reverse());
    expect(page.total).toBe(expected.length);
  });

  it('without an offset are meant in TIME_ZONE', async () => {
    const count = async (zone: string, query: string) => {
      const reply = await app.call('GET', `/payments?${query}`, Page, { env: { TIME_ZONE: zone } });
      return reply.data.total;
    };
    const day = 'start_time=2026-11-01&end_time=2026-11-01';
    expect(await count('UTC', day)).toBe(6);
    expect(await count('America/New_York', day)).toBe(2);
    expect(await count('Asia/Shanghai', day)).toBe(6);
    const second = 'start_time=2026-11-01 00:00:00&end_time=2026-11-01 00:00:00';
    expect(await count('UTC', second)).toBe(3);
    expect(await count('Asia/Shanghai', second)).toBe(1);
    const instant = 'start_time=2026-11-01T00:00:00Z&end_time=2026-11-01T00:00:00Z';
    expect(await count('America/New_York', instant)).toBe(3);
  });
});

describe('a cursor', () => {
  /** The app before this many payments, each some microseconds newer than the one before. */
  const startWith = async (count: number, stepMicros: number) => {
    const app = await startApp();
    await app.sql`
      INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
      SELECT n, 'PAY' || n, (ARRAY['alipay', 'wechat', 'bank'])[1 + n % 3], n, n % 4,
        timestamptz '2026-11-01T00:00:00Z' + ${stepMicros} * n * interval '1 microsecond'
      FROM generate_series(1, ${count}::int) AS n`;
    return app;
  };

  it('goes through 1,000 payments a microsecond apart while others are inserted', async () => {
    const app = await startWith(1000, 1);
    const all = await orderedIds(app);
    expect(all).toHaveLength(1000);

    let inserted = 0;
    const seen = await walk(app, { size: 37 }, async (last) => {
      inserted += 1;
      // One at the very top, and one in the very microsecond at which the page ended, before its row in the order.
      await app.sql`
        INSERT INTO payments (order_id, payment_no, payment_method, amount, created_at)
        SELECT 1, 'NEW' || ${inserted}::text || place, 'bank', 1, created_at
        FROM (SELECT 'a' AS place, now() AS created_at
          UNION ALL SELECT 'b', created_at FROM payments WHERE id = ${last.id}) AS new`;
    });
    expect(inserted).toBe(27);
    expect(seen).toEqual(all);
  });

  it('goes through payments of one and the same microsecond', async () => {
    const app = await startWith(50, 0);
    const all = await orderedIds(app);
    expect(all).toEqual(Array.from({ length: 50 }, (_, index) => String(50 - index)));
    expect(await walk(app, { size: 7 })).toEqual(all);
    expect(await walk(app, { size: 10 })).toEqual(all);
  });

  it('sees what was inserted behind it, once', async () => {
    const app = await startWith(4, 1_000_000);
    let late: string | undefined;
    const seen = await walk(app, { size: 2 }, async () => {
      late ??= await insertPayment(app.sql, { created_at: '2026-10-01' });
    });
    expect(seen).toEqual(['4', '3', '2', '1', late]);
  });

  it('outlives the payment at which it points', async () => {
    const app = await startWith(6, 1);
    const seen = await walk(app, { size: 2 }, async (last) => {
      await app.sql`DELETE FROM payments WHERE id = ${last.id}`;
    });
    expect(seen).toEqual(['6', '5', '4', '3', '2', '1']);
  });

  it('keeps to the filters, with their total', async () => {
    const app = await startWith(60, 1);
    const query = { status: '1,2', payment_method: 'bank', size: 4 };
    const all = ids(await list(app, { ...query, size: 100 }));
    expect(all).toHaveLength(10);
    const first = await list(app, query);
    const second = await list(app, { ...query, cursor: first.next_cursor ?? '' });
    expect([first.total, second.total]).toEqual([10, 10]);
    expect(await walk(app, query)).toEqual(all);
  });

  it('goes on from a page that was asked for by number', async () => {
    const app = await startWith(30, 1);
    const page = await list(app, { page: 2, size: 10 });
    const next = await list(app, { size: 10, cursor: page.next_cursor ?? '' });
    expect(next).toEqual(await list(app, { page: 3, size: 10 }));
    expect(next.next_cursor).toBeNull();
  });

  it('is only letters, digits, - and _, which a URL takes as they are', async () => {
    const app = await startWith(20, 1);
    for (let page = 1; page <= 19; page += 1) {
      expect((await list(app, { page, size: 1 })).next_cursor).toMatch(/^[\w-]+$/);
    }
  });
});

describe('against plain SQL', () => {
  // 300 payments at 80 instants of a week: several share each, and some are at midnight in Shanghai.
  const insert = (app: TestApp) =>
    app.sql.transaction([
      app.sql`INSERT INTO orders (id, order_no) SELECT n, 'ORD' || n FROM generate_series(1, 4) AS n`,
      app.sql`
        INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
        SELECT 1 + n * 7 % 6, 'PAY' || n, (ARRAY['alipay', 'wechat', 'bank'])[1 + n * 31 % 11 % 3], n,
          n * 17 % 13 % 4, timestamptz '2026-10-31T16:00:00Z' + (n * 7919 % 40) * interval '4 hours'
            + (n / 40 % 2) * interval '1 microsecond'
        FROM generate_series(1, 300) AS n`,
    ]);

  /** A time as the API takes it, and the first instant after it, as PostgreSQL reckons. */
  const time = fc
    .tuple(
      fc.integer({ min: 0, max: 8 }),
      fc.integer({ min: 0, max: 23 }),
      fc.constantFrom('day', 'second', 'microsecond'),
    )
    .map(([day, hour, precision]) => {
      const date = `2026-11-0${day + 1}`;
      const clock = `${String(hour).padStart(2, '0')}:00:00`;
      if (precision === 'day') return { text: date, from: `${date} 00:00:00+08`, length: '1 day' };
      return precision === 'second'
        ? { text: `${date} ${clock}`, from: `${date} ${clock}+08`, length: '1 second' }
        : {
            text: `${date}T${clock}.000000Z`,
            from: `${date} ${clock}+00`,
            length: '1 microsecond',
          };
    });

  /** Absent so many times as often as present. */
  const absent = <T>(weight: number, values: fc.Arbitrary<T>) =>
    fc.oneof({ weight, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: values });
  const someOf = <T>(...values: T[]) =>
    fc.uniqueArray(fc.constantFrom(...values), { minLength: 1 });
  const numbered = (name: string, max: number) =>
    fc.integer({ min: 1, max }).map((number) => `${name}${number}`);

  const queries = fc.record({
    page: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 12 })),
    size: fc.integer({ min: 1, max: 100 }),
    status: absent(1, someOf(0, 1, 2, 3)),
    payment_method: absent(1, someOf('alipay', 'wechat', 'bank')),
    order_no: absent(3, numbered('ORD', 6)),
    payment_no: absent(19, numbered('PAY', 310)),
    start: absent(1, time),
    end: absent(1, time),
  });

  it('gives the same total and rows, and goes on by cursor as by page', async () => {
    const app = await startApp();
    await insert(app);
    const Counted = z.object({ total: z.string(), amount: z.string() });
    const Expected = z.tuple([z.tuple([Counted]), Ids]);
    const Refusal = z.object({ errors: z.tuple([z.object({ path: z.literal('end_time') })]) });

    await fc.assert(
      fc.asyncProperty(queries, async (query) => {
        const { page, size, status, payment_method, order_no, payment_no, start, end } = query;
        const filters = {
          ...(status && { status: status.join(',') }),
          ...(payment_method && { payment_method: payment_method.join(',') }),
          ...(order_no !== undefined && { order_no }),
          ...(payment_no !== undefined && { payment_no }),
          ...(start && { start_time: start.text }),
          ...(end && { end_time: end.text }),
          size,
        };
        const instant = (written: { from: string }) => Date.parse(`${written.from}:00`);
        if (
          start &&
          end &&
          instant(end) + (end.length === '1 day' ? 86_399_999 : 0) < instant(start)
        ) {
          const search = new URLSearchParams({ ...filters, size: String(size) });
          expect((await app.call('GET', `/payments?${search}`, Refusal)).code).toBe(40000);
          return;
        }

        const parameters = [
          status ?? null,
          payment_method ?? null,
          order_no ?? null,
          payment_no ?? null,
          start?.from ?? null,
          end?.from ?? null,
          end?.length ?? null,
        ];
        const from = `FROM payments LEFT JOIN orders ON orders.id = order_id WHERE
          ($1::int[] IS NULL OR status = ANY($1)) AND ($2::text[] IS NULL OR payment_method = ANY($2))
          AND ($3::text IS NULL OR order_no = $3) AND ($4::text IS NULL OR payment_no = $4)
          AND ($5::timestamptz IS NULL OR created_at >= $5)
          AND ($6::timestamptz IS NULL OR created_at < $6::timestamptz + $7::interval)`;
        const [[{ total, amount }], rows] = Expected.parse(
          await app.sql.transaction([
            app.sql.query(
              `SELECT count(*) AS total, coalesce(sum(amount), 0.00) AS amount ${from}`,
              parameters,
            ),
            app.sql.query(
              `SELECT payments.id ${from} ORDER BY created_at DESC, payments.id DESC
                LIMIT ${size} OFFSET ${(page - 1) * size}`,
              parameters,
            ),
          ]),
        );

        const shown = await list(app, { ...filters, page });
        expect([shown.total, shown.total_amount]).toEqual([Number(total), amount]);
        expect(ids(shown)).toEqual(rows.map(({ id }) => id));
        expect(shown.next_cursor === null).toBe(page * size >= Number(total));
        if (shown.next_cursor === null) return;
        expect(await list(app, { ...filters, cursor: shown.next_cursor })).toEqual(
          await list(app, { ...filters, page: page + 1 }),
        );
      }),
      { numRuns: 60 },
    );
  });
});
