/**
 * What GET /refunds guarantees. Its total, sum and rows are those of COUNT, SUM and ORDER BY, for every filter and in
 * every snapshot, while others write and merge. A cursor skips and repeats nothing in either order.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { RefundList } from '../../src/refunds/all';
import { RefundPage } from '../../src/refunds/list';
import { insertPayment, insertRefunds, signToken, startApp, type TestApp } from '../harness';

const strict = RefundList.extend({
  list: z.array(RefundList.shape.list.element.strict()),
}).strict();

const listOf = async (app: TestApp, search: string, env = {}) => {
  const reply = await app.call('GET', `/refunds?${search}`, strict, { env });
  expect([reply.status, reply.message]).toEqual([200, '获取成功']);
  return reply.data;
};

/** A microsecond before and after midnight in Asia/Shanghai and in UTC, and noon, on some days. */
const INSTANTS = [
  ...['2026-10-30', '2026-10-31', '2026-11-01', '2026-11-02', '2026-11-10'].flatMap((day) =>
    ['00:00:00', '04:00:00', '16:00:00'].flatMap((clock) => {
      const before = new Date(Date.parse(`${day}T${clock}Z`) - 1).toISOString().slice(0, 19);
      return [
        `${before}.999999Z`,
        `${day}T${clock}.000000Z`,
        ...(clock === '04:00:00' ? [] : [`${day}T${clock}.000001Z`]),
      ];
    }),
  ),
  ...['0001-01-01T00:00:00.000000Z', '1986-05-03T16:00:00.000000Z', '9999-12-31T23:59:59.999999Z'],
];
const REFUNDS = 400;

/** Refunds of every status, several at each instant. The totals of every other day are merged. */
async function insertMany(app: TestApp): Promise<void> {
  await app.sql`
    INSERT INTO payments (order_id, payment_no, payment_method, amount, status)
    SELECT n, 'PAY' || n, 'bank', 1000, 1 FROM generate_series(1, 20) AS n`;
  await app.sql`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
    SELECT 1 + n % 20, 'R' || n, n % 5 + 0.01, n % 7 % 3, (${INSTANTS}::timestamptz[])[1 + n * 7919 % ${INSTANTS.length}::int]
    FROM generate_series(1, ${REFUNDS}::int) AS n`;
  await app.sql`
    WITH removed AS (DELETE FROM refund_daily_totals WHERE extract(day FROM day) % 2 = 0 RETURNING *)
    INSERT INTO refund_daily_totals (day, status, writer, refunds, amount)
    SELECT day, status, 0, sum(refunds), sum(amount) FROM removed GROUP BY 1, 2`;
}

interface Filter {
  status?: number[] | undefined;
  start_time?: string | undefined;
  end_time?: string | undefined;
  order?: 'newest' | 'oldest' | undefined;
}

const absent = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined, freq: 2 });
const time = fc.constantFrom(...INSTANTS, '2026-10-31', '2026-11-01', '2026-11-02');
const range = fc.oneof(
  fc.record({ start_time: absent(time), end_time: absent(time) }),
  // Within one day, often.
  fc
    .tuple(fc.nat(INSTANTS.length - 1), fc.nat(4))
    .map(([from, more]) => ({ start_time: INSTANTS[from], end_time: INSTANTS[from + more] })),
);
const filters: fc.Arbitrary<Filter> = fc
  .record({
    status: absent(fc.uniqueArray(fc.constantFrom(0, 1, 2), { minLength: 1 })),
    order: absent(fc.constantFrom('newest', 'oldest')),
    range,
  })
  .map(({ range: times, ...filter }) => ({ ...filter, ...times }));

const searchOf = (filter: object) =>
  new URLSearchParams(
    Object.entries(filter).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, String(value)]],
    ),
  ).toString();

/** How PostgreSQL finds the refunds in a plain way. */
function bruteForce({ status, start_time, end_time }: Filter, zone: string) {
  const instant = (text: string, precisions = 0) =>
    text.length === 10
      ? `(timestamp '${text}' + ${precisions} * interval '1 day') AT TIME ZONE '${zone}'`
      : `timestamptz '${text}' + ${precisions} * interval '1 microsecond'`;
  const conditions = [
    'true',
    ...(status ? [`status IN (${status})`] : []),
    ...(start_time ? [`created_at >= ${instant(start_time)}`] : []),
    ...(end_time ? [`created_at < ${instant(end_time, 1)}`] : []),
  ];
  return `FROM payment_refunds WHERE ${conditions.join(' AND ')}`;
}

const orderBy = ({ order }: Filter) =>
  order === 'oldest' ? 'ORDER BY created_at, id' : 'ORDER BY created_at DESC, id DESC';

const Ids = z.array(z.object({ id: z.string() }));
const Totals = z.object({ total: z.coerce.number(), total_amount: z.string() });
const Counted = z.tuple([Totals]);

const counted = (plain: string) =>
  `SELECT count(*) AS total, coalesce(sum(amount), 0.00)::text AS total_amount ${plain}`;

describe('totals, sums and pages', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp();
    await insertMany(app);
  });

  it('are those of COUNT, SUM and ORDER BY, whatever is written between', async () => {
    let walks = 0;
    const zones = fc.constantFrom('Asia/Shanghai', 'UTC', 'America/New_York');
    const writes = fc.constantFrom(
      'SELECT 1',
      `UPDATE payment_refunds SET status = 1 WHERE status = 0 AND id % 9 = 0`,
      `UPDATE payment_refunds SET created_at = created_at + interval '7 hours' WHERE id % 11 = 0 AND created_at < '9000-01-01'`,
      `UPDATE payment_refunds SET amount = amount + 0.01 WHERE id % 13 = 0`,
      `UPDATE payment_refunds SET payment_id = payment_id % 20 + 1, updated_at = now() WHERE id % 17 = 0`,
      `DELETE FROM payment_refunds WHERE id % 19 = 0`,
      `INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
       SELECT 1 + n % 20, left(gen_random_uuid()::text, 30), 0.07, n % 3, '2026-11-01T15:59:59.999999Z' FROM generate_series(1, 9) AS n`,
      'SELECT recount_payments()',
    );
    await fc.assert(
      fc.asyncProperty(
        filters,
        fc.integer({ min: 1, max: 100 }),
        zones,
        writes,
        async (filter, size, zone, write) => {
          await app.sql.query(write);
          const plain = bruteForce(filter, zone);
          const ids = Ids.parse(await app.sql.query(`SELECT id ${plain} ${orderBy(filter)}`));
          const env = { TIME_ZONE: zone };
          const first = await app.call('GET', `/refunds?${searchOf(filter)}`, z.unknown(), { env });
          // An end before its start, which the API refuses.
          if (first.code === 40000) {
            expect(ids).toEqual([]);
            return;
          }
          const [{ total, total_amount }] = Counted.parse(await app.sql.query(counted(plain)));
          const walked: string[] = [];
          for (let cursor: string | null = ''; cursor !== null; ) {
            const page = await listOf(
              app,
              `${searchOf({ ...filter, size })}&cursor=${cursor}`,
              env,
            );
            expect([page.total, page.total_amount]).toEqual([total, total_amount]);
            expect(page.list.length).toBe(Math.min(size, ids.length - walked.length));
            walked.push(...page.list.map(({ id }) => id));
            cursor = page.next_cursor;
          }
          expect(walked).toEqual(ids.map(({ id }) => id));
          walks += 1;
        },
      ),
      { numRuns: 60 },
    );
    expect(walks).toBeGreaterThan(20);
  });

  it('are nothing after TRUNCATE, and count anew from there', async () => {
    const other = await startApp();
    await insertMany(other);
    await other.sql`ALTER TABLE payment_refund_events DISABLE TRIGGER USER`;
    await other.sql`TRUNCATE payments CASCADE`;
    const nothing = { total: 0, total_amount: '0.00', list: [], next_cursor: null };
    expect(await listOf(other, '')).toEqual(nothing);
    await insertRefunds(other.sql, await insertPayment(other.sql), 3);
    expect(await listOf(other, '')).toMatchObject({ total: 3, total_amount: '0.03' });
  });
});

describe('while others write and merge', () => {
  it('every snapshot has the same total, sum and rows by either way', async () => {
    const app = await startApp();
    await insertMany(app);
    const pick = <T>(values: T[]) => values[Math.floor(Math.random() * values.length)] as T;
    let open = true;
    let transactions = 0;
    const WRITERS = 4;
    const write = async (writer: number) => {
      while (open) {
        // Payments of its own, so that writers wait for each other nowhere but, if at all, in the totals.
        const mine = `payment_id % ${WRITERS} = ${writer}`;
        const changes = [
          `INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
           SELECT id, left(gen_random_uuid()::text, 30), 0.01, ${pick([0, 1, 2])}, '${pick(INSTANTS)}'
           FROM payments WHERE id % ${WRITERS} = ${writer}`,
          `UPDATE payment_refunds SET status = ${pick([1, 2])} WHERE status = 0 AND ${mine}`,
          `UPDATE payment_refunds SET created_at = '${pick(INSTANTS)}' WHERE ${mine} AND id % 5 = ${pick([0, 1, 2])}`,
          `UPDATE payment_refunds SET amount = amount + 0.01 WHERE ${mine} AND id % 7 = 0`,
          `DELETE FROM payment_refunds WHERE ${mine} AND id % 3 = ${pick([0, 1])}`,
        ];
        const chosen = [pick(changes), pick(changes)];
        await app.sql.transaction(chosen.map((statement) => app.sql.query(statement)));
        transactions += 1;
      }
    };
    const merge = async () => {
      while (open) await app.merge();
    };
    const others = Promise.all([
      ...Array.from({ length: WRITERS }, (_, number) => write(number)),
      merge(),
    ]);

    let snapshots = 0;
    const Ours = z.tuple([
      z.object({
        ...Totals.shape,
        found: z.array(z.object({ refund: z.object({ id: z.string() }) })),
      }),
    ]);
    try {
      await fc.assert(
        fc.asyncProperty(filters, fc.integer({ min: 1, max: 100 }), async (filter, size) => {
          const search = searchOf({ ...filter, size });
          const [statement] = await app.statements(`/refunds?${search}`, 'AS found');
          // An end before its start.
          if (!statement) return;
          const plain = bruteForce(filter, 'Asia/Shanghai');
          const [ours, plainly, rows] = await app.sql.transaction(
            [
              app.sql.query(statement.query, statement.params),
              app.sql.query(counted(plain)),
              app.sql.query(`SELECT id ${plain} ${orderBy(filter)} LIMIT ${size + 1}`),
            ],
            { isolationLevel: 'RepeatableRead', readOnly: true },
          );
          const [{ found, ...totals }] = Ours.parse(ours);
          expect([totals]).toEqual(Counted.parse(plainly));
          expect(found.map(({ refund }) => refund.id)).toEqual(Ids.parse(rows).map(({ id }) => id));
          snapshots += 1;
        }),
        { numRuns: 60 },
      );
    } finally {
      open = false;
      // A writer that was refused, by a deadlock say, fails the test here.
      await others;
    }
    expect(snapshots).toBeGreaterThan(25);
    expect(transactions).toBeGreaterThan(snapshots);
  });

  it.each(['newest', 'oldest'])('a walk from the %s skips and repeats nothing', async (order) => {
    const app = await startApp();
    const id = await insertPayment(app.sql);
    // Two have each created_at, so an odd size cuts between two that differ by their id only.
    const ids = await insertRefunds(app.sql, id, 60);
    const insertAround = () => app.sql`
      INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
      SELECT ${id}::bigint, left(gen_random_uuid()::text, 30), 0.01, 1, at
      FROM unnest('{2026-11-01 01:00:00Z, 2026-11-01 01:00:10.000001Z, 2026-11-02 01:00:00Z}'::timestamptz[]) AS at`;
    for (const search of ['size=7', 'size=1&status=1', 'size=9&status=1,0']) {
      const walked: string[] = [];
      for (let cursor: string | null = ''; cursor !== null; ) {
        const page = await listOf(app, `${search}&order=${order}&cursor=${cursor}`);
        walked.push(...page.list.map((refund) => refund.id));
        cursor = page.next_cursor;
        // Where the walk has been and where it goes on; what was there before is in it once, in its order.
        if (walked.length < 80) await insertAround();
      }
      expect(new Set(walked).size).toBe(walked.length);
      const old = walked.filter((one) => ids.includes(one));
      expect(old).toEqual(order === 'oldest' ? ids : ids.toReversed());
      await app.sql`DELETE FROM payment_refunds WHERE refund_no NOT LIKE 'RF-%'`;
    }
  });
});

describe('a refund', () => {
  it('is as it is elsewhere, with its payment, its order, and who made it', async () => {
    const app = await startApp();
    await app.sql`INSERT INTO orders (id, order_no) VALUES (77, 'ORD-77')`;
    const id = await insertPayment(app.sql, {
      payment_no: 'PAY-77',
      order_id: '77',
      payment_method: 'bank',
    });
    const made = await app.call('POST', `/payments/${id}/refund`, z.looseObject({}), {
      body: { amount: '12.34', reason: '商品有瑕疵' },
    });
    const about = { payment_no: 'PAY-77', order_no: 'ORD-77', payment_method: 'bank' };
    expect(await listOf(app, '')).toEqual({
      total: 1,
      total_amount: '12.34',
      list: [{ ...made.data, ...about, actor: 'tester' }],
      next_cursor: null,
    });
    // Whoever settled it did not make it.
    const headers = {
      Authorization: `Bearer ${await signToken({ sub: 'another', scope: 'refunds:settle' })}`,
    };
    await app.call('PATCH', `/payments/${id}/refunds/${made.data.id}`, z.unknown(), {
      body: { status: 1 },
      headers,
    });
    expect((await listOf(app, 'status=1')).list).toMatchObject([{ status: 1, actor: 'tester' }]);
    expect(await listOf(app, 'status=0')).toMatchObject({ total: 0, total_amount: '0.00' });
  });

  it('of an unknown order, that nobody is on record for, says null', async () => {
    const app = await startApp();
    const id = await insertPayment(app.sql);
    await insertRefunds(app.sql, id, 1);
    const { list } = await listOf(app, '');
    expect(list).toMatchObject([{ order_no: null, actor: null, gateway: null, payment_id: id }]);
    const ofPayment = await app.call('GET', `/payments/${id}/refunds`, RefundPage);
    const [{ events: _, events_total: __, ...same } = {}] = ofPayment.data.list;
    expect(list[0]).toMatchObject(same);
  });
});

describe('a request', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp();
    await insertMany(app);
  });

  it('shows 20 unless told, newest first', async () => {
    const first = await listOf(app, '');
    expect(first.list).toHaveLength(20);
    expect(first).toEqual(await listOf(app, 'order=newest&size=20&status=&start_time='));
    expect((await listOf(app, 'size=100')).list.slice(0, 20)).toEqual(first.list);
  });

  it('makes one round trip', async () => {
    const { next_cursor } = await listOf(app, 'size=1');
    for (const search of [
      '',
      'status=0&order=oldest&size=100',
      `cursor=${next_cursor}`,
      'status=0,1&start_time=2026-10-30T12:00:00Z&end_time=2026-11-02T12:00:00Z',
    ]) {
      expect(await app.databaseRequests(() => listOf(app, search))).toBe(1);
    }
  });

  it('is followed by a merge where it met too many rows, in the background', async () => {
    const other = await startApp();
    await other.sql`
      INSERT INTO refund_daily_totals (day, status, writer, refunds, amount)
      SELECT '2026-10-01', 1, n, 1, 2.5 FROM generate_series(1, 3001) AS n`;
    expect(await other.databaseRequests(() => listOf(other, '').then(other.idle))).toBe(2);
    const rows = await other.sql`SELECT writer, refunds, amount FROM refund_daily_totals`;
    expect(rows).toEqual([{ writer: 0, refunds: '3001', amount: '7502.50' }]);
  });

  it('needs payments:read', async () => {
    const headers = { Authorization: `Bearer ${await signToken({ scope: 'refunds:create' })}` };
    const reply = await app.call('GET', '/refunds', z.unknown(), { headers });
    expect(reply).toMatchObject({ code: 40300, data: { required_scope: 'payments:read' } });
  });

  it.each([
    ['status=3', 'status'],
    ['status=0,', 'status'],
    ['status=0&status=1', 'status'],
    ['order=NEWEST', 'order'],
    ['order=asc', 'order'],
    ['order=newest&order=newest', 'order'],
    ['size=0', 'size'],
    ['size=101', 'size'],
    ['cursor=*', 'cursor'],
    ['start_time=x', 'start_time'],
    ['start_time=2026-11-02&end_time=2026-11-01', 'end_time'],
    ['page=1', 'page'],
    ['payment_method=bank', 'payment_method'],
  ])('is refused without asking the database: ?%s', async (search, path) => {
    const Errors = z.object({
      errors: z.array(z.object({ path: z.string(), message: z.string() })),
    });
    const refuse = async () => {
      const { code, data } = await app.call('GET', `/refunds?${search}`, Errors);
      expect([code, data.errors.map((error) => error.path)]).toEqual([40000, [path]]);
      for (const { message } of data.errors) expect(message).toMatch(/\p{Script=Han}/u);
    };
    expect(await app.databaseRequests(refuse)).toBe(0);
  });
});
