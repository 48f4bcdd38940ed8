/**
 * The merge of the daily totals: one row for each past day, status, method and refund state in the end,
 * and the same totals at every moment, whoever is writing. It waits for nobody, and no rate of writes
 * leaves it behind.
 */
import { expect, it, vi } from 'vitest';
import { z } from 'zod';
import { startApp, type TestApp } from '../harness';

const Kept = z.array(
  z.object({ day: z.string(), writer: z.number(), payments: z.string(), amount: z.string() }),
);

/** The rows as they are; `writer` is 0 for a merged one and 1 for any other. */
async function rowsOf(app: TestApp) {
  return Kept.parse(
    await app.sql`
      SELECT day::text, sign(writer)::int AS writer, payments, amount FROM payment_daily_totals
      ORDER BY day, status, payment_method, writer`,
  );
}

const insert = (app: TestApp, day: string, payments = 1) => app.sql`
  INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
  SELECT 1, gen_random_uuid(), 'bank', 2.5, 1, ${`${day}T12:00:00+08:00`}::timestamptz
  FROM generate_series(1, ${payments}::int)`;

/** Several transactions at once, so that as many backends write. */
const insertAtOnce = (app: TestApp, day: string, backends: number) =>
  Promise.all(
    Array.from({ length: backends }, () =>
      app.sql.transaction([insert(app, day), app.sql`SELECT pg_sleep(0.1)`]),
    ),
  );

it('makes one row of what several writers left for a day', async () => {
  const app = await startApp();
  await insertAtOnce(app, '2026-10-01', 3);
  await insertAtOnce(app, '2026-10-02', 2);
  expect((await rowsOf(app)).length).toBeGreaterThan(2);
  await app.merge();
  const merged = [
    { day: '2026-10-01', writer: 0, payments: '3', amount: '7.50' },
    { day: '2026-10-02', writer: 0, payments: '2', amount: '5.00' },
  ];
  expect(await rowsOf(app)).toEqual(merged);

  await app.merge();
  expect(await rowsOf(app)).toEqual(merged);
  await insert(app, '2026-10-02', 4);
  await app.merge();
  expect(await rowsOf(app)).toEqual([
    merged[0],
    { day: '2026-10-02', writer: 0, payments: '6', amount: '15.00' },
  ]);
});

it('makes one row of what several writers left for a day of refunds', async () => {
  const app = await startApp();
  await app.sql`
    INSERT INTO refund_daily_totals (day, status, writer, refunds, amount)
    SELECT '2026-10-01'::date + n % 2, 1, n, 1, 2.5 FROM generate_series(1, 12000) AS n
    UNION ALL SELECT '2026-10-03', 0, n, sign(1.5 - n), 2.5 * sign(1.5 - n) FROM generate_series(1, 2) AS n
    UNION ALL SELECT (now() AT TIME ZONE 'Asia/Shanghai')::date, 2, n, 1, 1 FROM generate_series(1, 2) AS n`;
  await app.merge();
  const rows = await app.sql`
    SELECT day::text, status, writer, refunds, amount FROM refund_daily_totals WHERE status < 2 ORDER BY day`;
  const merged = { status: 1, writer: 0, refunds: '6000', amount: '15000.00' };
  expect(rows).toEqual([
    { day: '2026-10-01', ...merged },
    { day: '2026-10-02', ...merged },
  ]);
  // Today's are left.
  expect(await app.sql`SELECT FROM refund_daily_totals WHERE status = 2`).toHaveLength(2);
});

it('leaves the day that has not ended', async () => {
  const app = await startApp();
  await app.sql`
    INSERT INTO payments (order_id, payment_no, payment_method, amount) VALUES (1, 'P1', 'bank', 1)`;
  await app.merge();
  expect(await rowsOf(app)).toMatchObject([{ writer: 1, payments: '1' }]);
});

it('removes what comes to nothing', async () => {
  const app = await startApp();
  await insert(app, '2026-10-01', 2);
  await app.merge();
  await app.sql`DELETE FROM payments`;
  const [merged, left] = await rowsOf(app);
  expect([merged?.payments, left?.payments]).toEqual(['2', '-2']);
  await app.merge();
  expect(await rowsOf(app)).toMatchObject([{ writer: 0, payments: '0' }]);
  await insert(app, '2026-10-01', 3);
  await app.merge();
  expect(await rowsOf(app)).toMatchObject([{ writer: 0, payments: '3' }]);
  await app.sql`DELETE FROM payments`;
  await app.merge();
  await app.merge();
  expect(await rowsOf(app)).toEqual([]);
});

it('passes over the row of a transaction in progress, and merges it the next time', async () => {
  const app = await startApp();
  await insert(app, '2026-10-01');
  await insert(app, '2026-10-02');
  let ended = false;
  const writer = app.sql
    .transaction([
      // As adding to it does, which this transaction will only do if the same backend is given to it.
      app.sql`SELECT FROM payment_daily_totals WHERE day = '2026-10-01' FOR UPDATE`,
      insert(app, '2026-10-01'),
      app.sql`SELECT pg_sleep(0.5)`,
    ])
    .then(() => {
      ended = true;
    });
  const Sleeping = z.tuple([z.object({ count: z.string() })]);
  for (let count = '0'; count === '0'; ) {
    [{ count }] = Sleeping.parse(
      await app.sql`SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()`,
    );
  }
  await app.merge();
  expect(ended).toBe(false);
  expect(await rowsOf(app)).toMatchObject([
    { day: '2026-10-01', writer: 1, payments: '1' },
    { day: '2026-10-02', writer: 0, payments: '1' },
  ]);
  await writer;
  await app.merge();
  expect(await rowsOf(app)).toMatchObject([
    { day: '2026-10-01', writer: 0, payments: '2' },
    { day: '2026-10-02', writer: 0, payments: '1' },
  ]);
});

/** As many rows of totals as that many connections leave that each insert one payment, and end. */
const leaveRows = (app: TestApp, day: string, rows: number) => app.sql`
  INSERT INTO payment_daily_totals (day, status, payment_method, writer, payments, amount)
  SELECT ${day}::date, 0, 'bank', n, 1, 2.5 FROM generate_series(1, ${rows}::int) AS n`;

it('leaves nothing of past days, however much there is', async () => {
  const app = await startApp();
  await leaveRows(app, '2026-10-01', 25_000);
  await app.merge();
  expect(await rowsOf(app)).toEqual([
    { day: '2026-10-01', writer: 0, payments: '25000', amount: '62500.00' },
  ]);
});

it('follows a list that met too many rows, of today too, in the background and once', async () => {
  const app = await startApp();
  const Total = z.object({ total: z.number() });
  const list = () => app.call('GET', '/payments', Total);
  const listed = () => app.databaseRequests(() => list().then(app.idle));
  const today = new Date(Date.now() + 8 * 3_600_000).toISOString().slice(0, 10);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 60_000 });
  try {
    await leaveRows(app, today, 3_000);
    expect(await listed()).toBe(1);
    await leaveRows(app, '2026-10-01', 1);
    const replies = await Promise.all([list(), list(), list()]);
    expect(replies.map(({ data }) => data.total)).toEqual([3001, 3001, 3001]);
    await app.idle();
    expect(await rowsOf(app)).toEqual([
      { day: '2026-10-01', writer: 0, payments: '1', amount: '2.50' },
      { day: today, writer: 0, payments: '3000', amount: '7500.00' },
    ]);
    expect((await list()).data.total).toBe(3001);

    // Not again at once.
    await leaveRows(app, today, 4_000);
    expect(await listed()).toBe(1);
    vi.setSystemTime(Date.now() + 5_001);
    expect(await listed()).toBe(2);
    expect(await rowsOf(app)).toHaveLength(2);
  } finally {
    vi.useRealTimers();
  }
});

it('that fails in the background leaves the answer as it is', async () => {
  const app = await startApp();
  await leaveRows(app, '2026-10-01', 3_001);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 600_000 });
  try {
    await app.faults({ delayMs: 0 }, { status: 500 });
    const reply = await app.call('GET', '/payments', z.object({ total: z.number() }));
    await app.idle();
    expect(reply.data.total).toBe(3001);
    expect(await rowsOf(app)).toHaveLength(3001);
  } finally {
    vi.useRealTimers();
  }
});

it('fails visibly and changes nothing where the database does not answer', async () => {
  const app = await startApp();
  await insert(app, '2026-10-01');
  const before = await rowsOf(app);
  await app.faults({ status: 500 });
  await expect(app.merge()).rejects.toThrow('the daily totals were not merged');
  expect(await rowsOf(app)).toEqual(before);
});
