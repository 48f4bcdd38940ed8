/**
 * The daily merge: one row for each past day, status and method in the end, and the same totals at
 * every moment, whoever is writing. It waits for nobody.
 */
import { expect, it } from 'vitest';
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

it('fails visibly and changes nothing where the database does not answer', async () => {
  const app = await startApp();
  await insert(app, '2026-10-01');
  const before = await rowsOf(app);
  await app.faults({ status: 500 });
  await expect(app.merge()).rejects.toThrow('the daily totals were not merged');
  expect(await rowsOf(app)).toEqual(before);
});
