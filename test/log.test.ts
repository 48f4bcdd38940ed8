/** Who is told how long database and KV took. */
import { afterEach, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { insertPayment, startApp } from './harness';

const app = await startApp();
const anything = z.unknown();
const env = { SERVER_TIMING: 'on' };

afterEach(async () => {
  vi.useRealTimers();
  app.kv.onHang = null;
  await app.faults();
  await app.idle();
});

test.for(['/payments', '/payments/1', '/payments?page=0', '/nowhere', '/health'])(
  'Server-Timing of %s is there where SERVER_TIMING is on',
  async (path) => {
    const { headers } = await app.call('GET', path, anything, { env });
    expect(headers.get('Server-Timing')).toMatch(/^db;dur=\d+, kv;dur=\d+, total;dur=\d+$/);
  },
);

test.for(['', 'off', 'ON', 'true', '1'])('Server-Timing is not there with %j', async (value) => {
  const { headers } = await app.call('GET', '/payments', anything, {
    env: { SERVER_TIMING: value },
  });
  expect(headers.get('Server-Timing')).toBeNull();
});

test('Server-Timing is not there by default', async () => {
  const { headers } = await app.call('GET', '/payments', anything);
  expect(headers.get('Server-Timing')).toBeNull();
});

test('Server-Timing has the time that the database took', async () => {
  await app.faults({ delayMs: 20 });
  const { headers } = await app.call('GET', '/payments', anything, { env });
  const [, db, total] =
    /^db;dur=(\d+), kv;dur=0, total;dur=(\d+)$/.exec(headers.get('Server-Timing') ?? '') ?? [];
  expect(Number(db)).toBeGreaterThan(1);
  expect(Number(total)).toBeGreaterThanOrEqual(Number(db));
});

test.for([
  ['GET', (id: string) => `/payments/${id}`],
  ['POST', (id: string) => `/payments/${id}/refund`],
] as const)('Server-Timing of %s has the time that KV took', async ([method, path]) => {
  const id = await insertPayment(app.sql);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  const hung = Promise.withResolvers<void>();
  app.kv.onHang = hung.resolve;
  const body = method === 'POST' ? { amount: '1', reason: '部分退款' } : undefined;
  const asking = app.call(method, path(id), anything, { env, body });
  await hung.promise;
  app.kv.onHang = null;
  await vi.advanceTimersByTimeAsync(1000);
  const { headers } = await asking;
  expect(headers.get('Server-Timing')).toBe('db;dur=0, kv;dur=1000, total;dur=1000');
});
