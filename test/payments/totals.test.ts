/**
 * Proves that GET /payments, which counts by the daily totals and seeks its pages, answers exactly
 * what COUNT, SUM and OFFSET over payments and refunds would: for every filter and page, at the edges of days and
 * time, and in every snapshot while others write and merge.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { startApp, type TestApp } from '../harness';

const Page = z.object({
  total: z.number(),
  total_amount: z.string(),
  list: z.array(
    z.object({ id: z.string(), refunded_amount: z.string(), refundable_amount: z.string() }),
  ),
});

/** Instants, a microsecond before and after each, and around midnight in Asia/Shanghai and in UTC. */
const INSTANTS = [
  ...[
    // Local mean time, 8:05:43 ahead of UTC, ends with the century.
    ...['1900-12-30T15:54:17', '1900-12-31T15:54:17', '1900-12-31T16:00:00'],
    // Summer time: midnight was skipped in 1940 and came twice; nights were shorter and longer in 1986.
    ...['1940-05-31T16:00:00', '1940-06-30T15:00:00', '1940-10-12T15:00:00', '1940-10-12T16:00:00'],
    ...['1986-05-03T16:00:00', '1986-05-04T15:00:00', '1986-09-13T15:00:00', '1986-09-14T16:00:00'],
    ...['2026-07-31T16:00:00', '2026-08-16T12:00:00', '2026-08-31T16:00:00', '2026-09-20T04:00:00'],
    ...['2026-09-29T16:00:00', '2026-10-02T00:00:00', '2026-10-17T20:00:00', '2026-10-30T16:00:00'],
    ...['2026-10-31T16:00:00', '2026-11-01T00:00:00', '2026-11-01T16:00:00', '2026-11-02T00:00:00'],
    ...['2026-11-02T04:30:00', '2026-11-02T16:00:00', '2026-11-03T03:00:00', '2026-11-03T16:00:00'],
  ].flatMap((second) => {
    const before = new Date(Date.parse(`${second}Z`) - 1).toISOString().slice(0, 19);
    return [`${before}.999999Z`, `${second}.000000Z`, `${second}.000001Z`];
  }),
  ...['0001-01-01T00:00:00.000000Z', '9999-12-31T23:59:59.999999Z'],
];

const METHODS = ['alipay', 'wechat', 'bank'];
const PAYMENTS = 300;

/**
 * Several payments at each instant, of every status, and of the API's methods and another one. Two of
 * three have refunds, of any status. The totals of every other day are merged, and so in those of their
 * month.
 */
async function insertPayments(app: TestApp): Promise<void> {
  await app.sql`
    INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
    SELECT n, 'PAY' || n, (${[...METHODS, 'cash']}::text[])[1 + n * 31 % 11 % 4], n + 0.5, n * 17 % 13 % 4,
      (${INSTANTS}::timestamptz[])[1 + n * 7919 % ${INSTANTS.length}::int]
    FROM generate_series(1, ${PAYMENTS}::int) AS n`;
  await app.sql`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, status)
    SELECT id, 'R' || part || '-' || id, CASE WHEN id % 2 = 0 THEN amount / 2 ELSE amount / 4 END, id % 7 % 3
    FROM payments, generate_series(1, 2) AS part WHERE id % 3 > 0 AND amount % 2 = 0.5`;
  await app.sql`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, status)
    SELECT id, 'R-' || id, amount, 1 FROM payments WHERE id % 3 > 0 AND amount % 2 > 1`;
  await app.sql`
    WITH removed AS (DELETE FROM payment_daily_totals WHERE extract(day FROM day) % 2 = 0 RETURNING *)
    INSERT INTO payment_daily_totals (day, status, payment_method, refund_state, writer, payments, amount)
    SELECT day, status, payment_method, refund_state, 0, sum(payments), sum(amount) FROM removed GROUP BY 1, 2, 3, 4`;
}

interface Filter {
  status?: number[] | undefined;
  payment_method?: string[] | undefined;
  refund_state?: string[] | undefined;
  start_time?: string | undefined;
  end_time?: string | undefined;
}

const absent = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined, freq: 2 });
const someOf = <T>(values: T[]) => fc.uniqueArray(fc.constantFrom(...values), { minLength: 1 });
const time = fc.oneof(
  fc.constantFrom(...INSTANTS),
  fc.constantFrom('2026-11-01', '2026-11-02', '2026-11-03'),
  // Beyond what the API tells from infinity.
  fc.constantFrom('0001-01-01T00:00:00+14:00', '9999-12-31T23:59:59-14:00'),
);
const range = fc.oneof(
  fc.record({ start_time: absent(time), end_time: absent(time) }),
  // Within one day, often.
  fc
    .tuple(fc.nat(INSTANTS.length - 1), fc.nat(5))
    .map(([from, more]) => ({ start_time: INSTANTS[from], end_time: INSTANTS[from + more] })),
);
const filters: fc.Arbitrary<Filter> = fc
  .record({
    status: absent(someOf([0, 1, 2, 3])),
    payment_method: absent(someOf(METHODS)),
    refund_state: absent(someOf(['none', 'partial', 'full'])),
    range,
  })
  .map(({ range: times, ...filter }) => ({ ...filter, ...times }));
const zones = fc.constantFrom('Asia/Shanghai', 'UTC', 'America/New_York');

function searchOf(filter: Filter, page: number, size: number): string {
  const given = Object.entries({ ...filter, page, size }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, String(value)]],
  );
  return new URLSearchParams(given).toString();
}

/** Payments with what their refunds add up to. */
const PAID = `(
  SELECT *, CASE WHEN refunded = 0 THEN 'none' WHEN refunded < amount THEN 'partial' ELSE 'full' END AS refund_state,
    CASE WHEN status = 1 THEN amount - reserved ELSE 0.00 END AS refundable
  FROM payments, LATERAL (
    SELECT coalesce(sum(amount) FILTER (WHERE status = 1), 0.00) AS refunded,
      coalesce(sum(amount) FILTER (WHERE status <> 2), 0.00) AS reserved
    FROM payment_refunds WHERE payment_id = payments.id
  ) AS refunds
) AS paid`;

/** How PostgreSQL finds the payments in a plain way; times as README says of written ones. */
function bruteForce(filter: Filter, zone: string) {
  const { status, payment_method, refund_state, start_time, end_time } = filter;
  const instant = (text: string, precisions = 0) =>
    text.length === 10
      ? `(timestamp '${text}' + ${precisions} * interval '1 day') AT TIME ZONE '${zone}'`
      : `timestamptz '${text}' + ${precisions} * interval '1 ${text.includes('.') ? 'microsecond' : 'second'}'`;
  const conditions = [
    'true',
    ...(status ? [`status IN (${status})`] : []),
    ...(payment_method ? [`payment_method IN ('${payment_method.join("','")}')`] : []),
    ...(refund_state ? [`refund_state IN ('${refund_state.join("','")}')`] : []),
    ...(start_time ? [`created_at >= ${instant(start_time)}`] : []),
    ...(end_time ? [`created_at < ${instant(end_time, 1)}`] : []),
  ];
  return `FROM ${PAID} WHERE ${conditions.join(' AND ')}`;
}

/** How many days, statuses, methods and refund states have other totals than payments, and months than their merged days. */
const WRONG_TOTALS = `
  SELECT count(*) AS wrong FROM (
    SELECT of, since, status, payment_method, refund_state FROM (
      SELECT 'day' AS of, day AS since, status, payment_method, refund_state, payments, amount FROM payment_daily_totals
      UNION ALL
      SELECT 'day', (created_at AT TIME ZONE 'Asia/Shanghai')::date, status, payment_method,
        array_position('{none,partial,full}', refund_state) - 1, -1, -amount
      FROM ${PAID}
      UNION ALL
      SELECT 'month', month, status, payment_method, refund_state, payments, amount FROM payment_monthly_totals
      UNION ALL
      SELECT 'month', date_trunc('month', day::timestamp)::date, status, payment_method, refund_state, -payments, -amount
      FROM payment_daily_totals WHERE writer = 0
    ) AS both_ways
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(payments) <> 0 OR sum(amount) <> 0
  ) AS different`;

const Rows = z.array(z.object({ id: z.string() }));
const Amounts = z.array(
  z.object({ id: z.string(), amount: z.string(), refunded: z.string(), refundable: z.string() }),
);

const fenOf = (yuan: string) => BigInt(yuan.replace('.', ''));

describe('every page and total', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp();
    await insertPayments(app);
  });

  it('is what COUNT and OFFSET give', async () => {
    let pages = 0;
    await fc.assert(
      fc.asyncProperty(
        filters,
        fc.integer({ min: 1, max: 100 }),
        zones,
        async (filter, size, zone) => {
          const rows = Amounts.parse(
            await app.sql.query(
              `SELECT id, amount, refunded, refundable ${bruteForce(filter, zone)} ORDER BY created_at DESC, id DESC`,
            ),
          );
          const list = async (page: number) =>
            app.call('GET', `/payments?${searchOf(filter, page, size)}`, z.unknown(), {
              env: { TIME_ZONE: zone },
            });
          const first = await list(1);
          // An end before its start, which the API refuses.
          if (first.code === 40000) {
            expect(rows).toEqual([]);
            return;
          }
          // All of them, or the first and last, and two after the last.
          const last = Math.max(1, Math.ceil(rows.length / size));
          const numbers = Array.from({ length: last + 2 }, (_, index) => index + 1);
          for (const page of numbers.filter((number) => number < 4 || number > last - 4)) {
            pages += 1;
            const { total, total_amount, list: shown } = Page.parse((await list(page)).data);
            expect(total).toBe(rows.length);
            expect(fenOf(total_amount)).toBe(
              rows.reduce((sum, row) => sum + fenOf(row.amount), 0n),
            );
            expect(shown).toEqual(
              rows.slice((page - 1) * size, page * size).map(({ id, refunded, refundable }) => ({
                id,
                refunded_amount: refunded,
                refundable_amount: refundable,
              })),
            );
          }
        },
      ),
      { numRuns: 60 },
    );
    expect(pages).toBeGreaterThan(100);
  });

  it('is empty, with the true total, as far beyond the last as one can ask', async () => {
    const { data } = await app.call('GET', '/payments?page=2147483647&size=100', Page);
    expect(data).toMatchObject({ total: PAYMENTS, list: [] });
  });

  it('is empty after TRUNCATE, and counts anew from there', async () => {
    const other = await startApp();
    await insertPayments(other);
    // Its record of refunds, which refuses to be truncated, depends on payments.
    await other.sql`ALTER TABLE payment_refund_events DISABLE TRIGGER USER`;
    await other.sql`TRUNCATE payments CASCADE`;
    expect((await other.call('GET', '/payments', Page)).data).toMatchObject({ total: 0, list: [] });
    await insertPayments(other);
    expect((await other.call('GET', '/payments', Page)).data.total).toBe(PAYMENTS);
  });
});

describe('while others write and merge', () => {
  it('every snapshot has the same total and rows by either way', async () => {
    const app = await startApp();
    await insertPayments(app);
    const pick = <T>(values: T[]) => values[Math.floor(Math.random() * values.length)] as T;
    let open = true;
    let transactions = 0;

    const WRITERS = 4;
    const write = async (writer: number) => {
      while (open) {
        // Payments of its own, so that writers wait for each other nowhere but, if at all, in the totals.
        const mine = `id % ${WRITERS} = ${writer} AND id / ${WRITERS} % 12 = ${pick([...Array(12).keys()])}`;
        const changes = [
          `INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
           SELECT 1, gen_random_uuid(), '${pick(METHODS)}', 1, ${pick([0, 1, 2, 3])}, '${pick(INSTANTS)}'
           FROM generate_series(1, ${pick([1, 2, 5])})`,
          `UPDATE payments SET status = (status + 1) % 4, updated_at = now() WHERE ${mine}`,
          `UPDATE payments SET payment_method = '${pick(METHODS)}', amount = amount + 1 WHERE ${mine}`,
          `UPDATE payments SET created_at = '${pick(INSTANTS)}' WHERE ${mine}`,
          `DELETE FROM payments WHERE ${mine} AND id % 5 = 0 AND NOT EXISTS (SELECT FROM payment_refunds WHERE payment_id = payments.id)`,
          `INSERT INTO payment_refunds (payment_id, refund_no, amount, status)
           SELECT id, left(gen_random_uuid()::text, 30), refundable / ${pick([1, 2, 3])}, ${pick([0, 1, 1, 2])}
           FROM ${PAID} WHERE ${mine} AND refundable > 1`,
          `UPDATE payment_refunds SET status = ${pick([1, 2])} WHERE status = 0 AND ${mine.replaceAll('id', 'payment_id')}`,
          `DELETE FROM payment_refunds WHERE ${mine.replaceAll('id', 'payment_id')}`,
        ];
        const chosen = [pick(changes), pick(changes), pick(changes)];
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
    const Wrong = z.tuple([z.object({ wrong: z.string() })]);
    const Total = z.object({ total: z.coerce.number(), total_amount: z.string() });
    const Shown = z.tuple([z.object({ ...Total.shape, page: Rows })]);
    const compare = fc.asyncProperty(
      filters,
      fc.integer({ min: 1, max: 30 }),
      fc.integer({ min: 1, max: 12 }),
      async (filter, size, number) => {
        const statement = await app.listStatement(searchOf(filter, number, size));
        // An end before its start.
        if (!statement) return;
        const plain = bruteForce(filter, 'Asia/Shanghai');
        const [ours, counted, rows, wrong] = await app.sql.transaction(
          [
            app.sql.query(statement.query, statement.params),
            app.sql.query(
              `SELECT count(*) AS total, coalesce(sum(amount), 0.00) AS total_amount ${plain}`,
            ),
            app.sql.query(
              `SELECT id ${plain} ORDER BY created_at DESC, id DESC LIMIT ${size + 1} OFFSET ${(number - 1) * size}`,
            ),
            app.sql.query(WRONG_TOTALS),
          ],
          { isolationLevel: 'RepeatableRead', readOnly: true },
        );
        const [shown] = Shown.parse(ours);
        expect(Total.parse(shown)).toEqual(z.tuple([Total]).parse(counted)[0]);
        expect(shown.page).toEqual(Rows.parse(rows));
        expect(Wrong.parse(wrong)[0].wrong).toBe('0');
        snapshots += 1;
      },
    );
    try {
      await fc.assert(compare, { numRuns: 50 });
    } finally {
      open = false;
      // A writer that was refused, by a deadlock say, fails the test here.
      await others;
    }
    expect(snapshots).toBeGreaterThan(25);
    expect(transactions).toBeGreaterThan(snapshots);
  });
});
