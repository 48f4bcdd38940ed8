/** What a request leaves in the dataset, and that no request can fail for it. */
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Bindings } from '../src/env';
import worker from '../src/index';
import { BLOBS, DOUBLES } from '../src/metrics';
import { expectConforming } from './contract';
import { insertPayment, signToken, startApp } from './harness';

const app = await startApp();
const token = await signToken();

let points: AnalyticsEngineDataPoint[];
let log: string[];
let env: Bindings;

beforeEach(() => {
  points = [];
  log = [];
  const METRICS: AnalyticsEngineDataset = {
    writeDataPoint: (point) => void points.push(point ?? {}),
  };
  env = { ...app.env, METRICS };
  for (const level of ['info', 'warn', 'error'] as const) {
    vi.spyOn(console, level).mockImplementation((line: string) => log.push(line));
  }
});

afterEach(async () => {
  vi.restoreAllMocks();
  vi.useRealTimers();
  app.kv.onHang = null;
  await app.faults();
});

interface Sent {
  body?: unknown;
  headers?: Record<string, string>;
  env?: Partial<Bindings>;
  app?: typeof app;
}

/** Sends a request that came in by way of Shanghai. */
async function send(method: string, path: string, sent: Sent = {}): Promise<Response> {
  const ctx = createExecutionContext();
  const request = new Request(`https://api.test${path}`, {
    method,
    headers: {
      Authorization: `Bearer ${token}`,
      'Content-Type': 'application/json',
      ...sent.headers,
    },
    ...(sent.body === undefined ? {} : { body: JSON.stringify(sent.body) }),
    cf: { colo: 'SHA' },
  });
  const response = await worker.fetch(request, { ...env, ...sent.env }, ctx);
  await expectConforming(request, response);
  await waitOnExecutionContext(ctx);
  return response;
}

/** The one point that was written, by the names of its columns. */
function written() {
  expect(points).toHaveLength(1);
  const [{ indexes, blobs = [], doubles = [] } = {}] = points;
  expect([blobs.length, doubles.length]).toEqual([BLOBS.length, DOUBLES.length]);
  return {
    index: indexes?.join(),
    texts: Object.fromEntries(BLOBS.map((column, index) => [column, blobs[index]])),
    numbers: Object.fromEntries(DOUBLES.map((column, index) => [column, doubles[index]])),
  };
}

/** What a request leaves but for its times, which are whole milliseconds. */
async function measured(method: string, path: string, sent?: Sent) {
  points = [];
  await send(method, path, sent);
  const { index, texts, numbers } = written();
  const { duration_ms, database_ms, kv_ms, ...others } = numbers;
  for (const ms of [duration_ms, database_ms, kv_ms]) {
    expect(ms).toSatisfy((value) => Number.isInteger(value) && value >= 0);
  }
  return { index, ...texts, ...others };
}

const LIST = { index: '/payments', route: '/payments', method: 'GET', cache: '', colo: 'SHA' };
const DETAIL = { index: '/payments/:id', route: '/payments/:id', method: 'GET', colo: 'SHA' };
const REFUND = {
  index: '/payments/:id/refund',
  route: '/payments/:id/refund',
  method: 'POST',
  cache: '',
  colo: 'SHA',
  rows: 0,
};

describe('one data point a request', () => {
  test('has these columns, in this order for as long as there are points', () => {
    expect(BLOBS).toEqual(['route', 'method', 'cache', 'colo']);
    expect(DOUBLES).toEqual([
      'status',
      'code',
      'duration_ms',
      'database_ms',
      'database_requests',
      'kv_ms',
      'rows',
    ]);
  });

  test('of a list says how many rows it had', async () => {
    for (let count = 0; count < 3; count++) await insertPayment(app.sql);
    expect(await measured('GET', '/payments?size=2')).toEqual({
      ...LIST,
      status: 200,
      code: 0,
      database_requests: 1,
      rows: 2,
    });
    expect(await measured('GET', '/payments?order_no=NONE')).toMatchObject({ rows: 0 });
  });

  test('of a detail says how the cache was used', async () => {
    const id = await insertPayment(app.sql);
    const miss = { ...DETAIL, cache: 'miss', status: 200, code: 0, database_requests: 1, rows: 0 };
    expect(await measured('GET', `/payments/${id}`)).toEqual(miss);
    const hit = { ...miss, cache: 'hit', database_requests: 0 };
    expect(await measured('GET', `/payments/${id}`)).toEqual(hit);
    const headers = { 'Cache-Control': 'no-cache' };
    const bypass = { ...miss, cache: 'bypass' };
    expect(await measured('GET', `/payments/${id}`, { headers })).toEqual(bypass);
  });

  test('of a refund tells made, replayed and refused apart by status and code', async () => {
    const id = await insertPayment(app.sql);
    const path = `/payments/${id}/refund`;
    const body = { amount: '60.00', reason: '部分退款' };
    const headers = { 'Idempotency-Key': 'one' };
    const made = { ...REFUND, status: 201, code: 0, database_requests: 1 };
    expect(await measured('POST', path, { body, headers })).toEqual(made);
    expect(await measured('POST', path, { body, headers })).toEqual({ ...made, status: 200 });
    const refused = { ...made, status: 409, code: 40901 };
    expect(await measured('POST', path, { body })).toEqual(refused);
  });

  test('has the time that KV took', async () => {
    const id = await insertPayment(app.sql);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    const hung = Promise.withResolvers<void>();
    app.kv.onHang = hung.resolve;
    const asking = send('GET', `/payments/${id}`);
    await hung.promise;
    app.kv.onHang = null;
    await vi.advanceTimersByTimeAsync(1000);
    await asking;
    expect(written().numbers).toMatchObject({ kv_ms: 1000, database_ms: 0, duration_ms: 1000 });
  });

  test('has the time that the database took', async () => {
    await app.faults({ delayMs: 20 });
    await send('GET', '/payments');
    const { database_ms, duration_ms } = written().numbers;
    expect(database_ms).toBeGreaterThan(1);
    expect(duration_ms).toBeGreaterThanOrEqual(database_ms ?? Infinity);
  });

  test('of what is no route has none', async () => {
    const nowhere = { ...LIST, index: '', route: '', database_requests: 0, rows: 0 };
    expect(await measured('GET', '/S3CRET')).toEqual({ ...nowhere, status: 404, code: 40400 });
    expect(await measured('PUT', '/payments')).toEqual({
      ...nowhere,
      method: 'PUT',
      status: 405,
      code: 40500,
    });
  });

  test('of a fault of ours, and of a deployment that is not configured, says so', async () => {
    const broken = await startApp();
    await broken.sql`DROP TABLE payments CASCADE`;
    const fault = { ...LIST, status: 500, code: 50000, database_requests: 1, rows: 0 };
    const { DATABASE_URL } = broken.env;
    expect(await measured('GET', '/payments', { env: { DATABASE_URL } })).toEqual(fault);
    const bare = { ...LIST, status: 503, code: 50301, database_requests: 0, rows: 0 };
    expect(await measured('GET', '/payments', { env: { DATABASE_URL: '' } })).toEqual(bare);
  });

  test('never holds a parameter, the actor or the token', async () => {
    const id = await insertPayment(app.sql);
    const headers = { 'Idempotency-Key': 'S3CRET', 'User-Agent': 'S3CRET' };
    await send('GET', '/payments?order_no=S3CRET&status=S3CRET', { headers });
    await send('GET', '/payments/S3CRET', { headers });
    await send('POST', `/payments/${id}/refund`, {
      headers,
      body: { amount: '1', reason: 'S3CRET' },
    });
    expect(points).toHaveLength(3);
    const text = JSON.stringify(points);
    for (const secret of ['S3CRET', 'tester', token]) expect(text).not.toContain(secret);
  });

  test('fits into what Cloudflare takes', async () => {
    await send('PATCH', '/payments/1/refunds/1', { body: { status: 1 } });
    const [{ indexes = [], blobs = [], doubles = [] } = {}] = points;
    expect(indexes).toHaveLength(1);
    expect(String(indexes[0]).length).toBeLessThanOrEqual(96);
    expect(blobs.length).toBeLessThanOrEqual(20);
    expect(doubles.length).toBeLessThanOrEqual(20);
  });

  test.for<[string, (env: Bindings) => void]>([
    ['there is no dataset', (env) => Reflect.deleteProperty(env, 'METRICS')],
    [
      'writing to it fails',
      (env) => {
        env.METRICS = {
          writeDataPoint() {
            throw new TypeError('too many blobs');
          },
        };
      },
    ],
  ])('is no matter for the request where %s', async ([, change]) => {
    const headers = { 'X-Request-Id': 'same' };
    const before = await send('GET', '/payments', { headers });
    change(env);
    const after = await send('GET', '/payments', { headers });
    expect([after.status, [...after.headers], await after.text()]).toEqual([
      before.status,
      [...before.headers],
      await before.text(),
    ]);
  });

  test('that could not be written is logged', async () => {
    const METRICS: AnalyticsEngineDataset = {
      writeDataPoint() {
        throw new TypeError('too many blobs');
      },
    };
    await send('GET', '/payments', { env: { METRICS } });
    expect(log.filter((line) => line.includes('"event":"metrics_not_written"'))).toHaveLength(1);
  });
});
