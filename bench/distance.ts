/** 30 ms between the Worker and the database: how many round trips a request costs, beside `SELECT 1`. */
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
  send,
  takeTurns,
  timePerCall,
} from './stack.ts';

const DATABASE = 'bench_distance';
const ROWS = 10_000;
const DISTANCE_MS = 30;
const GOAL = 1.2;

export async function measureDistance(stack: Stack, quick: boolean): Promise<Section> {
  const client = await stack.createDatabase(DATABASE);
  await fill(client, ROWS);
  const refundable = await paidIds(client, 1000);
  const rounds = quick ? 5 : 25;

  return await stack.withWorkers(DATABASE, async (workers) => {
    const call = calls(workers);
    const missed = cycle(ROWS);
    const refundId = takeTurns(refundable);
    const kinds: [string, () => Call][] = [
      ['list', () => call.list()],
      ['detail, cache miss', () => call.detail(missed())],
      ['refund', () => call.refund(refundId())],
    ];
    for (const [, ours] of kinds) await timePerCall(ours, 50);
    await timePerCall(call.select, 50);
    await send(call.select());

    await stack.faults(DATABASE, [{ delayMs: DISTANCE_MS, times: 'always' }]);
    const floors: number[] = [];
    const times = kinds.map((): number[] => []);
    for (let round = 0; round < rounds; round++) {
      floors.push(await timePerCall(call.select, 3));
      for (const [index, [, ours]] of kinds.entries())
        times[index]?.push(await timePerCall(ours, 3));
    }
    await stack.faults(DATABASE, []);

    const results: Result[] = kinds.map(([name], index) => {
      const ours = times[index] ?? [];
      const ratio = medianRatio(ours, floors);
      return {
        name,
        ours: ms(median(ours)),
        beside: ms(median(floors)),
        ratio,
        goal: atMost(ratio, GOAL),
      };
    });
    return {
      title: `${DISTANCE_MS} ms between the Worker and the database`,
      heads: ['per request', 'one round trip'],
      results,
      notes: [
        `${rounds} rounds of 3 requests each. The endpoint waits ${DISTANCE_MS} ms before each request that reaches it; hops between Neon's proxy and its compute are not in it.`,
      ],
      raw: Object.fromEntries([
        ['SELECT 1, ms', floors],
        ...kinds.map(([name], index) => [`${name}, ms`, times[index] ?? []]),
      ]),
    };
  });
}
