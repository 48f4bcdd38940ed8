/**
 * What the triggers cost a writer of payments and of refunds: single-row inserts by 16 clients with and
 * without the triggers of the table, taking turns.
 */
import pg from 'pg';
import { fill } from './data.ts';
import { median, medianRatio, type Section, type Stack } from './stack.ts';

const DATABASE = 'bench_triggers';
const CLIENTS = 16;

export async function measureTriggers(stack: Stack, quick: boolean): Promise<Section> {
  const client = await stack.createDatabase(DATABASE);
  await fill(client, 100_000);
  await client.query(
    'CREATE TABLE refundable AS SELECT array_agg(id ORDER BY random()) AS paid FROM (SELECT id FROM payments WHERE status = 1 LIMIT 1000) AS paid_payments',
  );
  const writers = await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      const writer = new pg.Client(stack.connectionString(DATABASE));
      writer.on('error', () => {});
      await writer.connect();
      return writer;
    }),
  );
  const section: Section = {
    title: 'What the triggers cost',
    heads: ['with triggers', 'without'],
    results: [],
    notes: [
      `Single-row INSERTs, a transaction each, by ${CLIENTS} clients; without waiting for the disk, which makes the triggers' share larger than it is where commits wait. Refunds are of 0.01, of 1,000 payments in turn.`,
    ],
    raw: {},
  };
  const seconds = quick ? 0.5 : 3;
  for (const table of ['payments', 'payment_refunds'] as const) {
    const on: number[] = [];
    const off: number[] = [];
    await insertsPerSecond(writers, table, seconds);
    for (let round = 0; round < (quick ? 2 : 8); round++) {
      await client.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
      on.push(await insertsPerSecond(writers, table, seconds));
      await client.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
      off.push(await insertsPerSecond(writers, table, seconds));
    }
    await client.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
    section.results.push({
      name: `inserts into ${table} by ${CLIENTS} clients`,
      ours: `${Math.round(median(on))}/s`,
      beside: `${Math.round(median(off))}/s`,
      ratio: medianRatio(on, off),
    });
    Object.assign(section.raw ?? {}, {
      [`${table} with triggers, inserts/s`]: on,
      [`${table} without, inserts/s`]: off,
    });
  }
  await Promise.all(writers.map((writer) => writer.end()));
  return section;
}

const INSERTS = {
  payments: `INSERT INTO payments (order_id, payment_no, payment_method, amount, status) VALUES (1, 'NEW' || $1::integer, 'alipay', 12.34, 1)`,
  payment_refunds: `INSERT INTO payment_refunds (payment_id, refund_no, amount) SELECT paid[1 + $1::integer % cardinality(paid)], 'NEW' || $1::integer, 0.01 FROM refundable`,
};

let inserted = 0;

async function insertsPerSecond(
  writers: pg.Client[],
  table: keyof typeof INSERTS,
  seconds: number,
): Promise<number> {
  const before = inserted;
  const began = performance.now();
  await Promise.all(
    writers.map(async (writer) => {
      while (performance.now() - began < seconds * 1000) {
        inserted += 1;
        await writer.query({ name: table, text: INSERTS[table], values: [inserted] });
      }
    }),
  );
  return (inserted - before) / ((performance.now() - began) / 1000);
}
