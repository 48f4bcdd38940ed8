/**
 * Refunds at gateways. How long one takes from the request to 成功 while the gateway takes 50 ms for each
 * request. How many callbacks are settled a second. What a signature costs.
 */
import { z } from 'zod';
import { DEV_OPTIONS } from '../dev/gateways/contract.ts';
import { testKeys } from '../dev/gateways/keys.ts';
import { startSimulator } from '../dev/gateways/simulator.ts';
import { fill } from './data.ts';
import {
  type Call,
  median,
  medianRatio,
  ms,
  type Result,
  type Section,
  type Stack,
  send,
  type Workers,
} from './stack.ts';

const DATABASE = 'bench_gateways';
const ROWS = 10_000;
const GATEWAY_MS = 50;
const CONNECTIONS = 8;
const Posted = z.object({
  path: z.string(),
  headers: z.record(z.string(), z.string()),
  bodyBase64: z.string(),
});

/** So often a signature is made by a request that makes them. */
const SIGNATURES = 100;

export async function measureGateways(stack: Stack, quick: boolean): Promise<Section> {
  const client = await stack.createDatabase(DATABASE);
  await fill(client, ROWS);
  const { keys, variables } = testKeys();
  const options = {
    ...DEV_OPTIONS,
    callbackDelayMs: 0,
    settle: { afterMs: 0, outcome: 'SUCCESS' as const },
  };
  const simulator = await startSimulator({ keys, world: 'bench', options });
  const ask = async (method: string, path: string, body: object): Promise<unknown> => {
    const response = await fetch(`${simulator.url}/control${path}`, {
      method,
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(await response.text());
    return await response.json();
  };
  const payments = async (method: string, count: number, skip = 0) => {
    const { rows } = await client.query<{ id: string; no: string; fen: string }>(
      `SELECT id, payment_no AS no, (amount * 100)::bigint AS fen FROM payments
       WHERE status = 1 AND payment_method = $1 AND payment_time > now() - interval '300 days'
       ORDER BY id DESC LIMIT $2 OFFSET $3`,
      [method, count, skip],
    );
    return rows;
  };
  const bindings = {
    ...variables,
    GATEWAYS: 'wechat,alipay',
    CALLBACK_BASE_URL: 'http://127.0.0.1',
    WECHAT_API_BASE: simulator.url,
    ALIPAY_API_BASE: `${simulator.url}/gateway.do`,
  };
  try {
    return await stack.withWorkers(
      DATABASE,
      async (workers) => {
        await ask('PUT', '', { callbackUrl: workers.api.origin });
        const results: Result[] = [];
        const raw: Record<string, number[]> = {};

        const rounds = quick ? 3 : 30;
        const always = { delayMs: GATEWAY_MS, times: 'always' };
        for (const method of ['wechat', 'alipay']) {
          await ask('PUT', '/faults', { faults: [always] });
          const times: number[] = [];
          for (const { id } of await payments(method, rounds)) {
            const began = performance.now();
            const refund = await create(workers, id, '0.01');
            await settled(client, refund);
            times.push(performance.now() - began);
          }
          raw[method] = times;
          results.push({
            name: `from POST to 成功, ${method}`,
            ours: ms(median(times)),
            beside: `${GATEWAY_MS} ms`,
            ratio: median(times) / GATEWAY_MS,
          });
        }
        await ask('PUT', '/faults', { faults: [] });
        await ask('PUT', '', {
          callbackUrl: null,
          callbacks: false,
          settle: { afterMs: null, outcome: 'SUCCESS' },
        });
        results.push(await callbacksPerSecond(workers, quick ? 50 : 400, payments, ask, raw));
        results.push(await signature(workers, quick ? 2 : 15, raw));
        return {
          title: 'Refunds at gateways',
          heads: ['ours', 'beside'],
          results,
          notes: [
            `The simulated gateways verify and sign, in the process of the bench. They take ${GATEWAY_MS} ms for each request. WeChat Pay settles by a callback that is posted at once, Alipay by its answer.`,
            `Callbacks: ${CONNECTIONS} connections, each callback about another refund; beside it, as many plain INSERTs by the floor, in turn. A signature: RSASSA-PKCS1-v1_5 with 2,048 bits in workerd, ${SIGNATURES} in a request, minus a request without any.`,
          ],
          raw,
        };
      },
      bindings,
    );
  } finally {
    await simulator.stop();
    await stack.dropDatabase(client);
  }
}

async function create(
  { api, authorization }: Workers,
  paymentId: string,
  amount: string,
): Promise<string> {
  const body = await send({
    url: new URL(`/payments/${paymentId}/refund`, api),
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json' },
    body: JSON.stringify({ amount, reason: 'bench' }),
    status: 201,
  });
  const { data }: { data: { refund_no: string } } = JSON.parse(body);
  return data.refund_no;
}

type Client = Awaited<ReturnType<Stack['createDatabase']>>;

async function settled(client: Client, refundNo: string): Promise<void> {
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; ) {
    const { rowCount } = await client.query(
      'SELECT FROM payment_refunds WHERE refund_no = $1 AND status = 1',
      [refundNo],
    );
    if (rowCount === 1) return;
  }
  throw new Error(`${refundNo} is not settled`);
}

async function callbacksPerSecond(
  workers: Workers,
  count: number,
  payments: (
    method: string,
    count: number,
    skip?: number,
  ) => Promise<{ id: string; no: string; fen: string }[]>,
  ask: (method: string, path: string, body: object) => Promise<unknown>,
  raw: Record<string, number[]>,
): Promise<Result> {
  const ours: number[] = [];
  const floors: number[] = [];
  for (let round = 0; round < 3; round++) {
    const calls: Call[] = [];
    const paid = await payments('wechat', count, 100 + round * count);
    for (const { id, no, fen } of paid) {
      const outRefundNo = await create(workers, id, '0.01');
      const wish = {
        gateway: 'wechat',
        outRefundNo,
        outTradeNo: no,
        fen: 1,
        total: Number(fen),
        outcome: 'SUCCESS',
      };
      const posted = Posted.parse(await ask('POST', '/callback', wish));
      calls.push({
        url: new URL(posted.path, workers.api),
        method: 'POST',
        headers: posted.headers,
        body: Buffer.from(posted.bodyBase64, 'base64').toString(),
        status: 204,
      });
    }
    ours.push(await perSecond(calls));
    floors.push(
      await perSecond(
        paid.map(({ id }) => ({
          url: new URL(`/insert/${id}`, workers.floor),
          method: 'POST',
          status: 201,
        })),
      ),
    );
  }
  raw['callbacks a second'] = ours;
  raw['INSERTs a second'] = floors;
  return {
    name: 'callbacks a second',
    ours: median(ours).toFixed(0),
    beside: median(floors).toFixed(0),
    ratio: medianRatio(ours, floors),
  };
}

async function perSecond(calls: Call[]): Promise<number> {
  const left = [...calls];
  const began = performance.now();
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      for (let call = left.pop(); call; call = left.pop()) await send(call);
    }),
  );
  return (calls.length / (performance.now() - began)) * 1000;
}

async function signature(
  { floor }: Workers,
  rounds: number,
  raw: Record<string, number[]>,
): Promise<Result> {
  const timed = async (count: number) => {
    const began = performance.now();
    await send({ url: new URL(`/sign/${count}`, floor), method: 'POST' });
    return performance.now() - began;
  };
  await timed(SIGNATURES);
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const without = await timed(0);
    times.push(((await timed(SIGNATURES)) - without) / SIGNATURES);
  }
  raw['a signature'] = times;
  return { name: 'a signature', ours: ms(median(times)) };
}
