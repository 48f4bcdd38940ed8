/** 1 to 64 connections on workerd's own socket: requests a second, p50, p99, and errors, of which there must be none. */
import autocannon from 'autocannon';
import { fill, paidIds } from './data.ts';
import {
  type Call,
  calls,
  cycle,
  ms,
  type Section,
  type Stack,
  takeTurns,
  timePerCall,
} from './stack.ts';

const DATABASE = 'bench_load';
const ROWS = 100_000;
const CONNECTIONS = [1, 8, 32, 64];
const CACHED = 100;

export async function measureLoad(stack: Stack, quick: boolean): Promise<Section> {
  const client = await stack.createDatabase(DATABASE);
  await fill(client, ROWS);
  const refundable = await paidIds(client, 20_000);
  const inCache = await paidIds(client, CACHED, refundable.length);
  const seconds = quick ? 1 : 3;
  const section: Section = {
    title: 'Load',
    heads: ['requests/s', 'p50 · p99'],
    results: [],
    notes: [
      `${ROWS} payments, ${seconds} s each. Worker, endpoint, PostgreSQL and the load all run on this machine. The mix: 6 lists, 3 details from the cache, 1 refund.`,
    ],
  };

  await stack.withWorkers(DATABASE, async (workers) => {
    const call = calls(workers);
    const cached = takeTurns(inCache);
    const refundId = takeTurns(refundable);
    const turn = cycle(10);
    const list = () => call.list();
    const detail = () => call.detail(cached());
    const refund = () => call.refund(refundId());
    const mix = () => {
      const number = turn();
      if (number === 10) return refund();
      return number % 3 === 0 ? detail() : list();
    };
    await timePerCall(detail, 2 * CACHED, 8);
    for (const [name, next] of Object.entries({
      list,
      'detail from the cache': detail,
      refund,
      mix,
    })) {
      for (const connections of CONNECTIONS) {
        const { requests, errors, latencies } = await shoot(next, connections, seconds);
        const at = (share: number) =>
          latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ??
          Number.NaN;
        section.results.push({
          name: `${name}, ${connections} connection${connections === 1 ? '' : 's'}`,
          ours: `${Math.round(requests / seconds)}`,
          beside: `${ms(at(0.5))} · ${ms(at(0.99))}`,
          goal: {
            text: errors === 0 ? 'no errors' : `no errors (are ${errors})`,
            met: errors === 0,
          },
        });
      }
    }
  });
  return section;
}

async function shoot(
  next: () => Call,
  connections: number,
  seconds: number,
): Promise<{ requests: number; errors: number; latencies: number[] }> {
  const latencies: number[] = [];
  const { origin } = next().url;
  const expected = new Set<number>([200, 201]);
  let wrong = 0;
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const instance = autocannon(
      {
        url: origin,
        connections,
        duration: seconds,
        requests: [
          {
            setupRequest(request) {
              const { url, method = 'GET', headers, body } = next();
              return Object.assign(request, {
                path: url.pathname + url.search,
                method,
                headers,
                body,
              });
            },
          },
        ],
      },
      (error: unknown, finished) => (error ? reject(error) : resolve(finished)),
    );
    // Its own histogram counts whole milliseconds.
    instance.on('response', (_client, status, _bytes, milliseconds) => {
      latencies.push(milliseconds);
      if (!expected.has(status)) wrong += 1;
    });
  });
  return {
    requests: latencies.length,
    errors: wrong + result.errors + result.timeouts,
    latencies: latencies.toSorted((a, b) => a - b),
  };
}
