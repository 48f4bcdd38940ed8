/** What `npm run db:migrate` guarantees: all migrations or none, and none passed over. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, expect, inject, test } from 'vitest';
import { migrate } from '../../drizzle/migrate.ts';

let url: string;
let folder: string;
let client: pg.Client;

beforeEach(async () => {
  const database = `migrate_${crypto.randomUUID().replaceAll('-', '')}`;
  const admin = new pg.Client({ connectionString: inject('databaseUrl') });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${database}`);
  await admin.end();
  url = inject('databaseUrl').replace(/\/[^/]*$/, `/${database}`);
  client = new pg.Client({ connectionString: url });
  await client.connect();
  folder = await mkdtemp(join(tmpdir(), 'payments-migrations-'));
  await cp(join(import.meta.dirname, '../../drizzle'), folder, { recursive: true });
});

afterEach(async () => {
  await client.end();
  await rm(folder, { recursive: true });
});

/** Adds a migration to the folder, generated at this time (milliseconds since the epoch). */
async function addMigration(tag: string, when: number, sql: string): Promise<void> {
  const path = join(folder, 'meta/_journal.json');
  const journal: { entries: object[] } = JSON.parse(await readFile(path, 'utf8'));
  const entry = { idx: journal.entries.length, version: '7', when, tag, breakpoints: true };
  journal.entries.push(entry);
  await writeFile(path, JSON.stringify(journal));
  await writeFile(join(folder, `${tag}.sql`), sql);
}

const tables = async () => {
  const { rows } = await client.query<{ name: string }>(
    "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY 1",
  );
  return rows.map(({ name }) => name);
};

const ALL = [
  'gateway_health',
  'gateway_identity',
  'gateway_notifications',
  'gateway_payments',
  'gateway_refunds',
  'gateway_requests',
  'orders',
  'payment_callbacks',
  'payment_daily_totals',
  'payment_monthly_totals',
  'payment_refund_events',
  'payment_refund_totals',
  'payment_refunds',
  'payments',
  'refund_daily_totals',
];

test('applies what is missing, and nothing the second time', async () => {
  const applied = await migrate(url, folder);
  expect(await tables()).toEqual(ALL);
  expect(await migrate(url, folder)).toBe(applied);
});

test('leaves everything as it was when one of them fails', async () => {
  await addMigration('9998_first', Date.now(), 'CREATE TABLE first ();');
  await addMigration('9999_broken', Date.now() + 1, 'CREATE TABLE broken (;');
  await expect(migrate(url, folder)).rejects.toThrow();
  expect(await tables()).toEqual([]);
});

test('fails for a migration that drizzle skips because a newer one has been applied', async () => {
  await migrate(url, folder);
  await addMigration('9999_older', 1, 'CREATE TABLE older ();');
  await expect(migrate(url, folder)).rejects.toThrow(/not applied/);
  expect(await tables()).toEqual(ALL);
});

test("refuses Neon's pooler, which would take the lock in another session", async () => {
  const pooled = 'postgres://owner@ep-cool-1-pooler.eu-central-1.aws.neon.tech/payments';
  await expect(migrate(pooled, folder)).rejects.toThrow(/without -pooler/);
});

test('may be run by two deployments at once', async () => {
  const [one, other] = await Promise.all([migrate(url, folder), migrate(url, folder)]);
  expect(one).toBe(other);
  expect(await tables()).toEqual(ALL);
});

test('keeps an orders table that is there already, with its other columns and rows', async () => {
  await client.query('CREATE TABLE orders (id bigint PRIMARY KEY, order_no text, buyer text)');
  await client.query("INSERT INTO orders VALUES (1, 'ORD-1', '张三')");
  await migrate(url, folder);
  const { rows } = await client.query('SELECT * FROM orders');
  expect(rows).toEqual([{ id: '1', order_no: 'ORD-1', buyer: '张三' }]);
});
