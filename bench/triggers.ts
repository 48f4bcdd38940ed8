/**
 * What the triggers on payments cost a writer: single-row inserts by 16 clients with and without them,
 * by turns. Says so where payments has none.
 */
import pg from 'pg';
import { fill } from './data.ts';
import { median, medianRatio, type Section, type Stack } from './stack.ts';

const DATABASE = 'bench_triggers';
const CLIENTS = 16;

export async function measureTriggers(stack: Stack, quick: boolean): Promise<Section> {
  const client = await stack.createDatabase(DATABASE);
  await fill(client, 100_000);
  const { rows: triggers } = await client.query<{ name: string }>(
    `SELECT tgname AS name FROM pg_trigger WHERE tgrelid = 'payments'::regclass AND NOT tgisinternal`,
  );
  const section: Section = {
    title: 'What the triggers cost',
    heads: ['with triggers', 'without'],
    results: [],
    notes: [
      triggers.length === 0
        ? 'There is no trigger on payments.'
        : `Triggers: ${triggers.map(({ name }) => name).join(', ')}. Single-row INSERTs, a transaction each, by ${CLIENTS} clients; without waiting for the disk, which makes the triggers' share larger than it is where commits wait.`,
    ],
  };
  if (triggers.length === 0) return section;

  const writers = await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      const writer = new pg.Client(stack.connectionString(DATABASE));
      writer.on('error', () => {});
      await writer.connect();
      return writer;
    }),
  );
  const seconds = quick ? 0.5 : 3;
  const on: number[] = [];
  const off: number[] = [];
  await insertsPerSecond(writers, seconds);
  for (let round = 0; round < (quick ? 2 : 8); round++) {
    await client.query('ALTER TABLE payments ENABLE TRIGGER USER');
    on.push(await insertsPerSecond(writers, seconds));
    await client.query('ALTER TABLE payments DISABLE TRIGGER USER');
    off.push(await insertsPerSecond(writers, seconds));
  }
  await Promise.all(writers.map((writer) => writer.end()));

  section.results.push({
    name: `inserts by ${CLIENTS} clients`,
    ours: `${Math.round(median(on))}/s`,
    beside: `${Math.round(median(off))}/s`,
    ratio: medianRatio(on, off),
  });
  section.raw = { 'with triggers, inserts/s': on, 'without, inserts/s': off };
  return section;
}

let inserted = 0;

async function insertsPerSecond(writers: pg.Client[], seconds: number): Promise<number> {
  const before = inserted;
  const began = performance.now();
  await Promise.all(
    writers.map(async (writer) => {
      while (performance.now() - began < seconds * 1000) {
        inserted += 1;
        await writer.query({
          name: 'insert',
          text: `INSERT INTO payments (order_id, payment_no, payment_method, amount, status) VALUES (1, $1, 'alipay', 12.34, 1)`,
          values: [`NEW${inserted}`],
        });
      }
    }),
  );
  return (inserted - before) / ((performance.now() - began) / 1000);
}
