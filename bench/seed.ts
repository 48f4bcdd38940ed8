/**
 * The seed's six benchmarks by name, in the Workers runtime: time per operation one after another and
 * with 32 connections, each beside its floor. Ours and the floor take turns in every round.
 */
import { fill, paidIds } from './data.ts';
import {
  atMost,
  type Call,
  calls,
  cycle,
  median,
  medianRatio,
  ms,
  type Result,
  type Section,
  type Stack,
  takeTurns,
  timePerCall,
} from './stack.ts';

const DATABASE = 'bench_seed';
const ROWS = 100_000;
const CONNECTIONS = 32;
/** Payments whose detail is in the cache. */
const CACHED = 100;
const GOAL_MS = 1;

interface Benchmark {
  name: string;
  ours: () => Call;
  floor: () => Call;
  limit: number;
  /** Its time alone is to be below 1 ms too, not only that in parallel. */
  fast?: true;
  /** Only its ratio is of interest: its time has been measured before. */
  aside?: true;
}

export async function measureSeed(stack: Stack, quick: boolean): Promise<Section> {
  const client = await stack.createDatabase(DATABASE);
  await fill(client, ROWS);
  const refundable = await paidIds(client, 10_000);
  // None of them is refunded, which would purge it.
  const inCache = await paidIds(client, CACHED, refundable.length);
  const rounds = quick ? 3 : 9;

  return await stack.withWorkers(DATABASE, async (workers) => {
    const call = calls(workers);
    const cached = takeTurns(inCache);
    // The oldest, each of them once only, so none is in the cache.
    const missed = cycle(ROWS);
    const filled = cycle(ROWS);
    const refundId = takeTurns(refundable);
    const [list, detail] = ['GetPaymentList', 'GetPaymentDetail'];
    const benchmarks: Benchmark[] = [
      { name: list, ours: () => call.list(), floor: call.select, limit: 1.5 },
      {
        name: detail,
        ours: () => call.detail(cached()),
        floor: () => call.cached(cached()),
        limit: 1.3,
        fast: true,
      },
      {
        name: `${detail}, cache miss`,
        ours: () => call.detail(missed()),
        floor: call.select,
        limit: 1.5,
      },
      {
        name: 'CreateRefund',
        ours: () => call.refund(refundId()),
        floor: () => call.insert(refundId()),
        limit: 2,
      },
      {
        name: `${detail}, cache miss, floor with KV`,
        ours: () => call.detail(missed()),
        floor: () => call.selectAndFill(filled()),
        limit: 1.5,
        aside: true,
      },
      {
        name: 'CreateRefund, floor with limiter, queue and KV',
        ours: () => call.refund(refundId()),
        floor: () => call.insertAndPurge(refundId()),
        limit: 2,
        aside: true,
      },
    ];

    const results: Result[] = [];
    const raw: Record<string, number[]> = {};
    for (const [prefix, connections, count] of [
      ['Benchmark', 1, quick ? 50 : 150],
      ['BenchmarkParallel', CONNECTIONS, quick ? 320 : 640],
    ] as const) {
      for (const { name, ours, floor, limit, fast, aside } of benchmarks) {
        // The cache has what it is to have, and both are compiled.
        await timePerCall(ours, 2 * CACHED, connections);
        await timePerCall(floor, 2 * CACHED, connections);
        const times: number[] = [];
        const floors: number[] = [];
        for (let round = 0; round < rounds; round++) {
          times.push(await timePerCall(ours, count, connections));
          floors.push(await timePerCall(floor, count, connections));
        }
        const ratio = medianRatio(times, floors);
        const timed = !aside && (fast || connections > 1);
        results.push({
          name: prefix + name,
          ours: ms(median(times)),
          beside: ms(median(floors)),
          ratio,
          goal: {
            text: `${timed ? `< ${GOAL_MS} ms, ` : ''}ratio ≤ ${limit}`,
            met: (!timed || median(times) < GOAL_MS) && atMost(ratio, limit).met,
          },
        });
        raw[`${prefix}${name}, ms`] = times;
        raw[`floor of ${prefix}${name}, ms`] = floors;
      }
    }
    return {
      title: 'The six benchmarks of the specification',
      heads: ['per operation', 'floor'],
      results,
      notes: [
        `${ROWS} payments; ${rounds} rounds; Parallel: ${CONNECTIONS} connections, time = wall time / operations.`,
        'Floors: a bare KV get for a detail from the cache, `SELECT 1` for what reads the database, one plain INSERT for a refund; same router, driver and endpoint.',
        "Filling, purging, queueing and counting go to Miniflare's KV, queue and limiter, which are SQLite in the same workerd process; in production that work is elsewhere. So a miss and a refund stand beside a second floor too, which asks those for the same and does nothing else with the answers.",
      ],
      raw,
    };
  });
}
