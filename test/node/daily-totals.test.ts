/**
 * payment_daily_totals equals what payments holds, and payment_monthly_totals what the merged of those
 * hold: after any statement, in any transaction, beside any other; after the migration of a table in
 * use; and where it does not, `npm run db:verify` says so. No writer of payments ever waits for another
 * because of it.
 */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { migrate } from '../../drizzle/migrate.ts';
import { verify } from '../../drizzle/verify.ts';

const DRIZZLE = join(import.meta.dirname, '../../drizzle');

const administrator = new pg.Client(inject('databaseUrl'));
const clients: pg.Client[] = [];

beforeAll(() => administrator.connect());
afterAll(async () => {
  for (const client of clients) await client.end();
  await administrator.end();
});

/** The URL of a new database. */
async function createDatabase(template = 'template_payments'): Promise<string> {
  const database = `totals_${crypto.randomUUID().replaceAll('-', '')}`;
  await administrator.query(`CREATE DATABASE ${database} TEMPLATE ${template}`);
  return inject('databaseUrl').replace(/\/[^/]*$/, `/${database}`);
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client(url);
  await client.connect();
  clients.push(client);
  return client;
}

/** Inserts payments number `from` to `to`, spread over four days, and every method and status. */
const insert = (from: number, to: number) => `
  INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
  SELECT n, 'P' || n, (ARRAY['alipay', 'wechat', 'bank'])[1 + n % 3], n / 8.0, n % 4,
    timestamptz '2026-10-31T15:59:59.999999Z' + n % 7 * interval '12 hours' + n % 2 * interval '1 microsecond'
  FROM generate_series(${from}, ${to}) AS n`;

/** Resolves when a backend that meets the condition on pg_stat_activity waits for a lock. */
async function waitsForLock(condition: string): Promise<void> {
  for (;;) {
    const { rows } = await administrator.query(
      `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND ${condition}`,
    );
    if (rows.length > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function isBackendOf(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return `pid = ${rows[0]?.pid}`;
}

it('follow any sequence of statements and transactions', async () => {
  const url = await createDatabase();
  const client = await connect(url);
  // It stands in the way of TRUNCATE … CASCADE.
  await client.query('ALTER TABLE payment_refund_events DISABLE TRIGGER USER');
  let inserted = 0;
  /** Inserts so many more payments, and so many of the earlier ones again. */
  const insertMore = (more: number, again = 0) => {
    inserted += more;
    return insert(inserted - more - again + 1, inserted);
  };
  const statements: Record<string, (n: number) => string> = {
    insert: insertMore,
    'insert nothing': () => insert(1, 0),
    'insert or update': (n) =>
      `${insertMore(n, n)} ON CONFLICT (payment_no) DO UPDATE SET status = 3, amount = payments.amount + 1`,
    'update status': (n) => `UPDATE payments SET status = (status + 1) % 4 WHERE id % 5 < ${n}`,
    'update method': (n) => `UPDATE payments SET payment_method = 'bank' WHERE id % 7 = ${n}`,
    'update amount': (n) => `UPDATE payments SET amount = amount + 0.01 WHERE id % 3 = ${n}`,
    'update created_at': (n) =>
      `UPDATE payments SET created_at = created_at + ${n} * interval '5 hours' WHERE id % 2 = 0`,
    'update everything': () =>
      `UPDATE payments SET status = 0, payment_method = 'cash', amount = greatest(amount, 1), created_at = '1988-08-08'`,
    'update what counts nowhere': () => 'UPDATE payments SET updated_at = now()',
    'swap two days': () =>
      `UPDATE payments SET created_at = CASE WHEN created_at < '2026-11-02' THEN timestamptz '2026-11-03' ELSE '2026-11-01' END`,
    delete: (n) =>
      `DELETE FROM payments WHERE id % 11 = ${n} AND NOT EXISTS (SELECT FROM payment_refunds WHERE payment_id = payments.id)`,
    refund: (n) => `
      INSERT INTO payment_refunds (payment_id, refund_no, amount, status)
      SELECT id, 'R' || nextval('payments_id_seq'), amount / ${n}, ${n} % 3
      FROM payments WHERE id % 4 = ${n} % 4 AND amount >= 1
        AND NOT EXISTS (SELECT FROM payment_refunds WHERE payment_id = payments.id)`,
    settle: (n) => `UPDATE payment_refunds SET status = 1 + ${n} % 2 WHERE status = 0`,
    'refund less': (n) => `UPDATE payment_refunds SET amount = amount / 2 WHERE id % 3 = ${n}`,
    'refund another payment': () => `
      UPDATE payment_refunds SET payment_id = other.id FROM (
        SELECT id FROM payments WHERE amount >= 10
          AND NOT EXISTS (SELECT FROM payment_refunds WHERE payment_id = payments.id) LIMIT 1
      ) AS other
      WHERE payment_refunds.id = (SELECT min(id) FROM payment_refunds WHERE amount <= 10)`,
    'refund another day': (n) =>
      `UPDATE payment_refunds SET created_at = created_at + ${n} * interval '5 hours' WHERE id % 2 = 0`,
    'touch refunds': () => 'UPDATE payment_refunds SET updated_at = now()',
    'delete refunds': (n) => `DELETE FROM payment_refunds WHERE id % 5 = ${n}`,
    'truncate refunds': () => 'TRUNCATE payment_refunds CASCADE',
    merge: (n) => `
      MERGE INTO payments USING (
        SELECT id, id % 4 AS part FROM payments
        WHERE id % 6 < ${n} AND NOT EXISTS (SELECT FROM payment_refunds WHERE payment_id = payments.id)
      ) AS source
      ON payments.id = source.id AND part < 3
      WHEN MATCHED AND part = 0 THEN DELETE
      WHEN MATCHED THEN UPDATE SET status = 2, created_at = '2026-11-05'
      WHEN NOT MATCHED THEN INSERT (order_id, payment_no, payment_method, amount) VALUES (1, gen_random_uuid(), 'wechat', 5)`,
    'merge the totals': (n) => `
      WITH removed AS (
        DELETE FROM payment_daily_totals WHERE writer <> 0 AND extract(day FROM day) % 6 < ${n} RETURNING *
      )
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, refund_state, writer, payments, amount)
      SELECT day, status, payment_method, refund_state, 0, sum(payments), sum(amount) FROM removed GROUP BY 1, 2, 3, 4
      ON CONFLICT (day, status, payment_method, refund_state, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount`,
    'merge the totals of refunds': (n) => `
      WITH removed AS (
        DELETE FROM refund_daily_totals WHERE writer <> 0 AND extract(day FROM day) % 6 < ${n} RETURNING *
      )
      INSERT INTO refund_daily_totals AS kept (day, status, writer, refunds, amount)
      SELECT day, status, 0, sum(refunds), sum(amount) FROM removed GROUP BY 1, 2
      ON CONFLICT (day, status, writer) DO UPDATE
      SET refunds = kept.refunds + excluded.refunds, amount = kept.amount + excluded.amount`,
    'take merged totals apart': (n) =>
      `UPDATE payment_daily_totals SET writer = -nextval('payments_id_seq') WHERE writer = 0 AND extract(day FROM day) % 6 = ${n}`,
    truncate: () => 'TRUNCATE payments CASCADE',
    recount: () => 'SELECT recount_payments()',
    savepoint: () => 'SAVEPOINT one',
    'roll back to savepoint': () => 'ROLLBACK TO one',
  };
  const transaction = fc.record({
    statements: fc.array(
      fc.tuple(fc.constantFrom(...Object.keys(statements)), fc.integer({ min: 1, max: 6 })),
      { minLength: 1, maxLength: 6 },
    ),
    end: fc.constantFrom('COMMIT', 'COMMIT', 'ROLLBACK'),
  });
  await fc.assert(
    fc.asyncProperty(transaction, async ({ statements: chosen, end }) => {
      await client.query(insertMore(20));
      await client.query('BEGIN; SAVEPOINT one');
      for (const [name, n] of chosen) await client.query(statements[name]?.(n) ?? '');
      await client.query(end);
      expect(await verify(url)).toEqual([]);
    }),
    { numRuns: 30 },
  );
});

it('stay untouched by an update that moves nothing', async () => {
  const url = await createDatabase();
  const client = await connect(url);
  await client.query(insert(1, 50));
  await client.query(
    `INSERT INTO payment_refunds (payment_id, refund_no, amount) SELECT id, 'R' || id, 0.1 FROM payments WHERE id > 8`,
  );
  const versions = async () => [
    (await client.query('SELECT xmin, ctid, * FROM payment_daily_totals ORDER BY ctid')).rows,
    (await client.query('SELECT xmin, ctid, * FROM refund_daily_totals ORDER BY ctid')).rows,
  ];
  const before = await versions();
  await client.query('UPDATE payment_refunds SET updated_at = now(), reason = refund_no');
  await client.query('UPDATE payment_refunds SET status = 1 WHERE false');
  await client.query('UPDATE payments SET updated_at = now(), payment_time = now()');
  await client.query('UPDATE payments SET status = status, amount = amount WHERE id > 10');
  await client.query('UPDATE payments SET status = 3 WHERE false');
  expect(await versions()).toEqual(before);
});

it('let two transactions touch the same days in opposite order', async () => {
  const url = await createDatabase();
  const [one, other] = [await connect(url), await connect(url)];
  const row = (day: string) =>
    `INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
     VALUES (1, gen_random_uuid(), 'bank', 1, 1, '${day}')`;
  for (const client of [one, other]) await client.query("BEGIN; SET LOCAL lock_timeout = '1ms'");
  await one.query(row('2026-11-01'));
  await other.query(row('2026-11-02'));
  await one.query(row('2026-11-02'));
  await other.query(row('2026-11-01'));
  // Each sees its own payments only.
  const refund = (day: string) => `
    INSERT INTO payment_refunds (payment_id, refund_no, amount, created_at)
    SELECT max(id), left(gen_random_uuid()::text, 30), 0.1, '${day}' FROM payments`;
  await one.query(refund('2026-11-01'));
  await other.query(refund('2026-11-02'));
  await one.query(refund('2026-11-02'));
  await other.query(refund('2026-11-01'));
  await Promise.all([one.query('COMMIT'), other.query('COMMIT')]);
  expect(await verify(url)).toEqual([]);
});

it('follow eight writers whose transactions touch several days in any order', async () => {
  const url = await createDatabase();
  const writers = await Promise.all(Array.from({ length: 8 }, () => connect(url)));
  await writers[0]?.query(insert(1, 400));
  const day = () =>
    `timestamptz '2026-11-01' + ${Math.floor(Math.random() * 5)} * interval '1 day'`;
  await Promise.all(
    writers.map(async (client, number) => {
      // Rows of its own: writers that change the same payments in any order would deadlock without totals too.
      const mine = `id % ${writers.length} = ${number} AND id / ${writers.length} % 5 =`;
      for (let transaction = 0; transaction < 15; transaction += 1) {
        await client.query('BEGIN');
        for (const part of [0, 1, 2].sort(() => Math.random() - 0.5)) {
          await client.query(
            `UPDATE payments SET created_at = ${day()}, status = (status + 1) % 4 WHERE ${mine} ${part}`,
          );
        }
        await client.query(
          `INSERT INTO payments (order_id, payment_no, payment_method, amount, created_at)
           SELECT 1, gen_random_uuid(), 'bank', 2, ${day()} FROM generate_series(1, 3)`,
        );
        if (transaction % 5 === 0) await client.query(`DELETE FROM payments WHERE ${mine} 3`);
        await client.query(transaction % 7 === 0 ? 'ROLLBACK' : 'COMMIT');
      }
    }),
  );
  expect(await verify(url)).toEqual([]);
});

it('need no right of whoever writes payments', async () => {
  const url = await createDatabase();
  const client = await connect(url);
  const role = `writer_${crypto.randomUUID().replaceAll('-', '')}`;
  await client.query(`CREATE ROLE ${role}`);
  try {
    await client.query(
      `GRANT SELECT, INSERT, UPDATE, DELETE ON payments TO ${role}; GRANT USAGE ON SEQUENCE payments_id_seq TO ${role}`,
    );
    await client.query(`SET ROLE ${role}; SET search_path = pg_catalog`);
    await client.query(insert(1, 10).replace('INTO payments', 'INTO public.payments'));
    await client.query('UPDATE public.payments SET status = 3 WHERE id > 3');
    await client.query('DELETE FROM public.payments WHERE id > 5');
    const refused = expect.objectContaining({ code: '42501' });
    await expect(client.query('DELETE FROM public.payment_daily_totals')).rejects.toEqual(refused);
    // Nor by what the triggers do with their owner's rights.
    await client.query('CREATE TEMP TABLE own ()');
    for (const name of ['follow_payments', 'follow_daily_totals', 'follow_refund_totals']) {
      const trigger = `CREATE TRIGGER t AFTER TRUNCATE ON own FOR EACH STATEMENT EXECUTE FUNCTION public.${name}()`;
      await expect(client.query(trigger)).rejects.toEqual(refused);
    }
    await client.query('RESET ROLE; RESET search_path');
    expect(await verify(url)).toEqual([]);
  } finally {
    await client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
});

it('know where a day begins, in every year of Asia/Shanghai', async () => {
  const client = await connect(await createDatabase());
  // Two hours around, because a clock that goes back over midnight would enter a day twice.
  const { rows } = await client.query(`
    SELECT day::date, step FROM generate_series(timestamp '1890-01-01', '2040-01-01', '1 day') AS day,
      unnest('{-2 hours, -1 hour, -1 microsecond, 0, 1 microsecond, 1 hour, 2 hours}'::interval[]) AS step,
      LATERAL (SELECT payment_day_start(day::date) + step AS instant) AS near
    WHERE payment_day(instant) <> day::date - (step < '0')::int
      OR payment_day_from(instant) <> day::date + (step > '0')::int`);
  expect(rows).toEqual([]);
});

/** Applies the migrations before the one of this name. */
async function migrateBefore(url: string, name: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'payments-migrations-'));
  await cp(DRIZZLE, folder, { recursive: true });
  const path = join(folder, 'meta/_journal.json');
  const journal: { entries: { tag: string }[] } = JSON.parse(await readFile(path, 'utf8'));
  const first = journal.entries.findIndex(({ tag }) => tag.endsWith(name));
  await writeFile(path, JSON.stringify({ ...journal, entries: journal.entries.slice(0, first) }));
  await migrate(url, folder);
  await rm(folder, { recursive: true });
}

it('of refunds are filled by the migration of a table in use', async () => {
  const url = await createDatabase('template0');
  await migrateBefore(url, '_refund_daily_totals');
  const [writer, other] = [await connect(url), await connect(url)];
  const refund = (from: number, to: number) => `
    INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
    SELECT id, 'R' || id, amount / 2, id % 3, created_at FROM payments WHERE id BETWEEN ${from} AND ${to} AND amount >= 0.02`;
  await writer.query(insert(1, 200));
  await writer.query(refund(1, 100));
  await writer.query(`BEGIN; ${refund(101, 150)}`);
  const database = new URL(url).pathname.slice(1);
  const migrated = migrate(url);
  await waitsForLock(`datname = '${database}' AND application_name = 'payments-migrate'`);
  const isOther = await isBackendOf(other);
  const written = other.query(refund(151, 180));
  await waitsForLock(isOther);
  await writer.query('COMMIT');
  await Promise.all([migrated, written]);
  // Sessions that knew the trigger before.
  await writer.query(refund(181, 190));
  await writer.query('UPDATE payment_refunds SET status = 1 WHERE status = 0 AND id % 2 = 0');
  expect(await verify(url)).toEqual([]);
  const { rows } = await writer.query('SELECT sum(refunds) FROM refund_daily_totals');
  expect(rows).toEqual([{ sum: '190' }]);
});

it('are filled by the migration of a table in use, whatever the isolation of the database', async () => {
  const url = await createDatabase('template0');
  await migrateBefore(url, '_payment_daily_totals');

  const writer = await connect(url);
  await writer.query(insert(1, 100));
  const database = new URL(url).pathname.slice(1);
  await writer.query(
    `ALTER DATABASE ${database} SET default_transaction_isolation = 'repeatable read'`,
  );
  await writer.query(`BEGIN; ${insert(101, 150)}`);
  const migrated = migrate(url);
  await waitsForLock(`datname = '${database}' AND application_name = 'payments-migrate'`);
  await writer.query('COMMIT');
  await migrated;
  await writer.query(insert(151, 160));
  expect(await verify(url)).toEqual([]);
  const { rows: counted } = await writer.query('SELECT sum(payments) FROM payment_daily_totals');
  expect(counted).toEqual([{ sum: '160' }]);
});

it('are counted anew without missing or repeating what is written meanwhile', async () => {
  const url = await createDatabase();
  const [holder, counter, writer] = [await connect(url), await connect(url), await connect(url)];
  await holder.query(insert(1, 100));
  await holder.query('UPDATE payment_daily_totals SET payments = payments + 1');
  await holder.query("INSERT INTO refund_daily_totals VALUES ('2026-01-01', 1, 7, 1, 1)");
  expect(await verify(url)).not.toEqual([]);

  // The count is stopped half-way, where it removes the old totals.
  await holder.query('BEGIN; SELECT FROM payment_daily_totals FOR UPDATE');
  const [isCounter, isWriter] = [await isBackendOf(counter), await isBackendOf(writer)];
  const counted = counter.query('SELECT recount_payments()');
  await waitsForLock(isCounter);
  const written = writer.query(insert(101, 200));
  await Promise.race([written, waitsForLock(isWriter)]);
  await holder.query('COMMIT');
  await Promise.all([counted, written]);
  expect(await verify(url)).toEqual([]);

  await counter.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await expect(counter.query('SELECT recount_payments()')).rejects.toMatchObject({ code: '25000' });
  await counter.query('ROLLBACK');
});

it('are verified by a command that says what differs', async () => {
  const url = await createDatabase();
  const client = await connect(url);
  const run = (env: NodeJS.ProcessEnv) =>
    new Promise<{ code: number | string; output: string }>((resolve) => {
      execFile(
        process.execPath,
        [join(DRIZZLE, 'verify.ts')],
        { env: { ...process.env, ...env } },
        (error, stdout, stderr) => resolve({ code: error?.code ?? 0, output: stdout + stderr }),
      );
    });
  await client.query(insert(1, 100));
  expect(await run({ DATABASE_URL: url })).toEqual({
    code: 0,
    output: 'The totals are right.\n',
  });

  await client.query(`
    INSERT INTO payment_daily_totals VALUES ('2026-01-02', 1, 'bank', 0, 3, 4.5);
    INSERT INTO payment_refunds (payment_id, refund_no, amount) VALUES (3, 'R3', 0.1);
    UPDATE payment_refund_totals SET reserved = 0.2 WHERE payment_id = 3;
    ALTER TABLE payments DISABLE TRIGGER USER;
    DELETE FROM payments WHERE id = 1`);
  const wrong = await run({ DATABASE_URL: url });
  expect(wrong.code).toBe(1);
  expect(wrong.output).toMatch(/2026-01-02.*3 payments of 4\.50.*0 payments of 0/);
  // The day's total is wrong, the month follows it, one payment less was deleted than counted, and a refund's sum is wrong.
  expect((await verify(url)).map(({ of }) => of)).toEqual(['day', 'day', 'refunds']);
  await client.query("INSERT INTO payment_monthly_totals VALUES ('2026-02-01', 1, 'bank', 1, 1)");
  expect((await verify(url)).map(({ of }) => of)).toEqual(['day', 'day', 'month', 'refunds']);
  await client.query('UPDATE refund_daily_totals SET amount = amount + 0.01');
  expect((await verify(url)).at(-1)).toMatchObject({
    of: 'refunds of a day',
    ...{ status: 0, kept: '1 refunds of 0.11', counted: '1 refunds of 0.10' },
  });
  await client.query('SELECT recount_payments()');
  expect(await verify(url)).toEqual([]);

  expect(await run({ DATABASE_URL: '' })).toMatchObject({ code: 1 });
});
