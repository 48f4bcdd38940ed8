/** What the log says of a slow query. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { startApp } from './harness';

const app = await startApp();
const anything = z.unknown();

const Line = z.strictObject({
  level: z.literal('warn'),
  event: z.literal('slow_query'),
  request_id: z.string(),
  statement: z.string(),
  attempt: z.number(),
  ms: z.int(),
});

let log: string[];

const slow = () =>
  log
    .filter((line) => line.includes('"event":"slow_query"'))
    .map((line) => Line.parse(JSON.parse(line)));

beforeEach(() => {
  log = [];
  for (const level of ['info', 'warn', 'error'] as const) {
    vi.spyOn(console, level).mockImplementation((line: string) => log.push(line));
  }
});

afterEach(async () => {
  await app.idle();
  await app.faults();
  vi.restoreAllMocks();
});

describe('a slow query', () => {
  const env = { SLOW_QUERY_MS: '1' };

  test.for([
    ['GET', '/payments?order_no=S3CRET', 'list'],
    ['GET', '/lookup?number=S3CRET', 'lookup'],
    ['GET', '/refunds?start_time=2026-11-01T00:42:42Z', 'all_refunds'],
    ['GET', '/payments/export?payment_no=S3CRET', 'export'],
    [
      'GET',
      '/payments/statistics?start_time=2026-11-01T00:42:42Z&end_time=2026-11-01',
      'statistics',
    ],
    ['GET', '/payments/4242424242', 'detail'],
    ['GET', '/payments/4242424242/gateway', 'gateway_log'],
    ['POST', '/payments/4242424242/refund', 'refund', { amount: '42.42', reason: 'S3CRET' }],
    ['PATCH', '/payments/4242424242/refunds/4242', 'settle', { status: 1 }],
  ] as const)('of %s %s is logged by name: %s', async ([method, path, statement, body]) => {
    await app.faults({ delayMs: 20 });
    const options = { body, env, headers: { 'X-Request-Id': 'my-id' } };
    await (await app.send(method, path, options)).text();
    const [line, ...others] = slow();
    expect(others).toEqual([]);
    expect(line).toMatchObject({ request_id: 'my-id', statement, attempt: 1 });
    expect(line?.ms).toBeGreaterThan(1);
    expect(log.join()).not.toMatch(/S3CRET|4242|42\.42|select/i);
  });

  test('that is a second try says so', async () => {
    await app.faults({ status: 503 }, { delayMs: 20 });
    await app.call('GET', '/payments', anything, { env });
    expect(slow().at(-1)).toMatchObject({ statement: 'list', attempt: 2 });
  });

  test('that failed is logged as well', async () => {
    await app.faults({ hold: 'before' });
    const asking = app.call('GET', '/payments', anything, { env });
    await app.held(1);
    await app.sql`ALTER TABLE payments RENAME TO gone`;
    await app.release();
    expect((await asking).code).toBe(50000);
    await app.sql`ALTER TABLE gone RENAME TO payments`;
    expect(slow()).toMatchObject([{ statement: 'list', attempt: 1 }]);
  });

  test('that did not end is logged when it is given up', async () => {
    await app.faults({ hold: 'before' });
    const reply = await app.call('GET', '/payments', anything, {
      env: { DATABASE_TIMEOUT_MS: '100', SLOW_QUERY_MS: '50' },
    });
    expect(reply.code).toBe(50400);
    expect(slow()).toMatchObject([{ statement: 'list', attempt: 1 }]);
  });

  test('is one that takes longer than SLOW_QUERY_MS', async () => {
    await app.faults({ delayMs: 20 });
    await app.call('GET', '/payments', anything, { env: { SLOW_QUERY_MS: '20000' } });
    expect(slow()).toEqual([]);
  });
});
