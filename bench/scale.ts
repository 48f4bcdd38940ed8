/**
 * Time against rows: pages of the list, and of the list of refunds, beside the same pages by COUNT and OFFSET on
 * the same data; a detail miss, a lookup and a refund beside their floors. Every page is compared with its counterpart once
 * before it is timed: same total, same first row.
 */
import { fill, paidIds, YEARS } from './data.ts';
import {
  type Call,
  calls,
  median,
  ms,
  type Result,
  type Section,
  type Stack,
  send,
  takeTurns,
  timePerCall,
} from './stack.ts';

const SAMPLES = 21;
/** Where one sample takes seconds, COUNT/OFFSET gets fewer, but never fewer than this. */
const MIN_SAMPLES = 5;
const PATIENCE_MS = 40_000;
const WARM_UP = 3;
/** Beside a floor that costs little, so many samples for each of the others. */
const TURNS = 5;
const PAGE_SIZE = 10;

/** One line of the chart: milliseconds by number of rows. */
export interface Series {
  name: string;
  points: { rows: number; ms: number }[];
}

interface Measured {
  name: string;
  ours: number;
  beside: number;
}

export async function measureScale(
  stack: Stack,
  scales: number[],
  quick: boolean,
): Promise<{ section: Section; chart: Series[] }> {
  const raw: Record<string, number[]> = {};
  const notes: string[] = [];
  const byRows = new Map<number, Measured[]>();
  for (const rows of scales) {
    const { measured, note } = await measureRows(stack, rows, quick, raw);
    byRows.set(rows, measured);
    notes.push(note);
  }
  const results = [...byRows].flatMap(([rows, measured]) =>
    measured.map(({ name, ours, beside }): Result => {
      const result = {
        name: `${count(rows)}: ${name}`,
        ours: ms(ours),
        beside: ms(beside),
        ratio: ours / beside,
      };
      const floor = FLOORS[name];
      if (floor !== undefined) {
        return { ...result, goal: { text: `≤ ${floor} × SELECT 1`, met: ours / beside <= floor } };
      }
      const limit = LIMITS[name];
      const [smallest, atSmallest] = byRows.entries().next().value ?? [rows, []];
      const least = atSmallest.find((other) => other.name === name)?.ours ?? ours;
      const pageOne = measured.find((other) => other.name === 'page 1')?.ours;
      if (name in RARE && pageOne !== undefined) {
        const times = ours / pageOne;
        const text = `≤ ${RARE_LIMIT} × page 1 (is ${times.toFixed(1)} ×)`;
        return { ...result, goal: { text, met: times <= RARE_LIMIT } };
      }
      if (limit === undefined || rows === smallest) return result;
      const growth = ours / least;
      return {
        ...result,
        goal: {
          text: `≤ ${limit} × of ${count(smallest)} (is ${growth.toFixed(1)} ×)`,
          met: growth <= limit,
        },
      };
    }),
  );
  return {
    section: {
      title: 'Time against rows',
      heads: ['ours', 'COUNT/OFFSET, or the floor'],
      results,
      notes: [
        ...notes,
        `Each a median of ${quick ? MIN_SAMPLES : SAMPLES}, first ours, then the other; where one takes seconds, of at least ${MIN_SAMPLES}. A page that PostgreSQL answers with an error or not within 20 s ends the run.`,
      ],
      raw,
    },
    chart: ['page 1', 'middle page', 'last page'].flatMap((name) =>
      (['ours', 'beside'] as const).map((side) => ({
        name: `${name}, ${side === 'ours' ? 'ours' : 'COUNT/OFFSET'}`,
        points: [...byRows].flatMap(([rows, measured]) =>
          measured.filter((one) => one.name === name).map((one) => ({ rows, ms: one[side] })),
        ),
      })),
    ),
  };
}

/** How much more than at the smallest scale a page may take. */
const LIMITS: Record<string, number> = { 'page 1': 1.5, 'middle page': 5, 'refunds, page 1': 1.5 };

/** How much more than a bare SELECT 1 a request may take, at every scale. */
const FLOORS: Record<string, number> = {
  'lookup of a payment_no': 1.5,
  'lookup of a gateway number': 1.5,
  'lookup of nothing': 1.5,
};

/** Filters that match few payments, or none, or none lately, and how much more than page 1 theirs may take. */
const RARE: Record<string, { query: string; where: string }> = {
  'by bank and failed: none': {
    query: '?payment_method=bank&status=2',
    where: "payment_method = 'bank' AND status = 2",
  },
  'by bank: none lately': { query: '?payment_method=bank', where: "payment_method = 'bank'" },
  'by bank or alipay, pending or failed': {
    query: '?payment_method=bank,alipay&status=0,2',
    where: "payment_method IN ('bank', 'alipay') AND status IN (0, 2)",
  },
  'partly refunded': {
    query: '?refund_state=partial',
    where: `id IN (SELECT payment_id FROM payment_refund_totals WHERE refund_state = 1)`,
  },
  'refunded by status only: none': {
    query: '?refund_state=none&status=3',
    where: `status = 3 AND NOT EXISTS (SELECT FROM payment_refunds WHERE payment_id = payments.id AND payment_refunds.status = 1)`,
  },
};
const RARE_LIMIT = 5;

async function measureRows(
  stack: Stack,
  rows: number,
  quick: boolean,
  raw: Record<string, number[]>,
): Promise<{ measured: Measured[]; note: string }> {
  const database = `bench_scale_${rows}`;
  const client = await stack.createDatabase(database);
  try {
    const { seconds } = await fill(client, rows);
    console.log(`${count(rows)} payments loaded in ${seconds.toFixed(0)} s`);
    const { rows: sizes } = await client.query<{ size: string; table: string }>(
      `SELECT pg_size_pretty(pg_database_size(current_database())) AS size,
         pg_size_pretty(pg_total_relation_size('payments')) AS table`,
    );
    const refundable = await paidIds(client, 1000);
    const measured = await stack.withWorkers(database, async (workers) => {
      const call = calls(workers);
      let next = 0;
      const refundId = takeTurns(refundable);
      const pair = (name: string, query: string, where: string, page: number) => ({
        name,
        ours: () => call.list(query),
        beside: () => call.query(countAndOffset(where, page)),
      });
      const { from, to, days } = middleMonth();
      const middle = Math.max(1, Math.floor(rows / PAGE_SIZE / 2));
      const last = Math.ceil(rows / PAGE_SIZE);
      const pages = [
        pair('page 1', '', 'true', 1),
        pair('status=2', '?status=2', 'status = 2', 1),
        pair(`${days} days`, `?start_time=${from}&end_time=${to}`, between(from, to), 1),
        pair('middle page', `?page=${middle}`, 'true', middle),
        pair('last page', `?page=${last}`, 'true', last),
        ...Object.entries(RARE).map(([name, { query, where }]) => pair(name, query, where, 1)),
      ];
      for (const { name, ours, beside } of pages) await requireSame(name, ours(), beside());
      const refunds = [
        {
          name: 'refunds, page 1',
          ours: () => call.refunds('?size=10'),
          beside: () => call.query(refundsByCount('true')),
        },
        {
          name: 'refunds that succeeded, oldest first',
          ours: () => call.refunds('?size=10&status=1&order=oldest'),
          beside: () => call.query(refundsByCount('status = 1', 'ASC')),
        },
      ];
      for (const { name, ours, beside } of refunds) await requireSame(name, ours(), beside());
      const number = () => 1 + Math.floor((next++ % 200) * (rows / 200));
      const others = [
        ...refunds,
        {
          name: 'lookup of a payment_no',
          ours: () => call.lookup(`PAY${String(number()).padStart(12, '0')}`),
          beside: call.select,
        },
        {
          name: 'lookup of a gateway number',
          ours: () => call.lookup(`503${50 * (1 + (next++ % 200))}`),
          beside: call.select,
        },
        { name: 'lookup of nothing', ours: () => call.lookup('NOTHING'), beside: call.select },
        {
          name: 'detail, cache miss',
          // Spread over all of them, and none twice.
          ours: () => call.detail(number()),
          beside: call.select,
        },
        {
          name: 'refund',
          ours: () => call.refund(refundId()),
          beside: () => call.insert(refundId()),
        },
      ];
      const measured: Measured[] = [];
      for (const { name, ours, beside } of [...pages, ...others]) {
        const samples = await (name in FLOORS ? sampleByTurns : sample)(ours, beside, quick);
        raw[`${count(rows)}, ${name}, ours, ms`] = samples.ours;
        raw[`${count(rows)}, ${name}, beside, ms`] = samples.beside;
        measured.push({ name, ours: median(samples.ours), beside: median(samples.beside) });
      }
      return measured;
    });
    const note = `${count(rows)} payments: loaded, indexed and vacuumed in ${seconds.toFixed(0)} s; ${sizes[0]?.table} with their indexes, the database ${sizes[0]?.size}.`;
    return { measured, note };
  } finally {
    // At once, because the next scale wants the disk; where everything has been stopped, it is gone.
    await stack.dropDatabase(client).catch(() => {});
  }
}

/** What the list does without its daily totals: the same rows, total and join. */
function countAndOffset(where: string, page: number): string {
  return `
    SELECT total.total::integer, page.*, orders.order_no
    FROM (SELECT count(*) AS total FROM payments WHERE ${where}) AS total
    LEFT JOIN (
      SELECT id::text, order_id, payment_no, payment_method, amount, status, payment_time, created_at
      FROM payments WHERE ${where}
      ORDER BY payments.created_at DESC, payments.id DESC
      LIMIT ${PAGE_SIZE} OFFSET ${(page - 1) * PAGE_SIZE}
    ) AS page ON true
    LEFT JOIN orders ON orders.id = page.order_id`;
}

/** What the list of refunds does without its daily totals. */
function refundsByCount(where: string, order = 'DESC'): string {
  return `
    SELECT total.total::integer, page.*
    FROM (SELECT count(*) AS total, sum(amount) FROM payment_refunds WHERE ${where}) AS total
    LEFT JOIN (
      SELECT payment_refunds.id::text, payment_no, payment_refunds.amount, reason FROM payment_refunds
      JOIN payments ON payments.id = payment_id
      WHERE payment_refunds.id IN (SELECT id FROM payment_refunds WHERE ${where} ORDER BY created_at ${order}, id ${order} LIMIT ${PAGE_SIZE})
      ORDER BY payment_refunds.created_at ${order}, payment_refunds.id ${order}
    ) AS page ON true`;
}

/** Thirty whole days in Asia/Shanghai, in the middle of the data. */
function middleMonth(): { from: string; to: string; days: number } {
  const days = 30;
  const middle = Date.now() - (YEARS / 2) * 365 * 86_400_000;
  const date = (time: number) => new Date(time).toISOString().slice(0, 10);
  return { from: date(middle), to: date(middle + (days - 1) * 86_400_000), days };
}

function between(from: string, to: string): string {
  const start = (date: string) => `timestamptz '${date} 00:00+08'`;
  return `created_at >= ${start(from)} AND created_at < ${start(to)} + interval '1 day'`;
}

async function requireSame(name: string, ours: Call, beside: Call): Promise<void> {
  const { data }: { data: { total: number; list: { id: string }[] } } = JSON.parse(
    await send(ours),
  );
  const [row]: { total: number; id: string | null }[] = JSON.parse(await send(beside));
  if (data.total !== row?.total || (data.list[0]?.id ?? null) !== row.id) {
    throw new Error(
      `${name}: ${data.total} and ${data.list[0]?.id}, but by COUNT and OFFSET ${row?.total} and ${row?.id}`,
    );
  }
}

async function sample(
  ours: () => Call,
  beside: () => Call,
  quick: boolean,
): Promise<{ ours: number[]; beside: number[] }> {
  const take = async (call: () => Call) => {
    const samples: number[] = [];
    await timePerCall(call, WARM_UP);
    const began = performance.now();
    for (let count = 0; count < (quick ? MIN_SAMPLES : SAMPLES); count++) {
      if (count >= MIN_SAMPLES && performance.now() - began > PATIENCE_MS) break;
      samples.push(await timePerCall(call, 1));
    }
    return samples;
  };
  // Not by turns: who comes after a query that reads the whole table finds the caches filled with that.
  return { ours: await take(ours), beside: await take(beside) };
}

/** Whom a SELECT 1 follows finds the caches as they were, and so both sides meet the same noise. */
async function sampleByTurns(
  ours: () => Call,
  beside: () => Call,
  quick: boolean,
): Promise<{ ours: number[]; beside: number[] }> {
  const samples: { ours: number[]; beside: number[] } = { ours: [], beside: [] };
  // PL/pgSQL keeps a plan from the sixth call of a session on.
  await timePerCall(ours, 2 * WARM_UP);
  for (let count = 0; count < (quick ? MIN_SAMPLES : SAMPLES) * TURNS; count++) {
    samples.ours.push(await timePerCall(ours, 1));
    samples.beside.push(await timePerCall(beside, 1));
  }
  return samples;
}

function count(rows: number): string {
  if (rows % 1_000_000 === 0) return `${rows / 1_000_000}M`;
  return rows % 1000 === 0 ? `${rows / 1000}k` : String(rows);
}
