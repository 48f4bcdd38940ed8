/** What GET /health and GET /health/ready say, when, and how little they ask of database and KV for it. */
import { createExecutionContext } from 'cloudflare:test';
import { exports } from 'cloudflare:workers';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import worker from '../src/index';
import { startApp } from './harness';

const app = await startApp();
const nobody = { Authorization: undefined };

const Parts = z.strictObject({
  status: z.literal('ok').optional(),
  database: z.literal(['ok', 'failed']),
  kv: z.literal(['ok', 'failed']),
});

/** Without a token. */
const ready = () => app.call('GET', '/health/ready', Parts, { headers: nobody });

const NOT_READY = { status: 503, code: 50302, message: '服务未就绪' };

let log: string[];

beforeEach(() => {
  // Every test begins long after the last check of the one before.
  vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'], now: Date.now() + 3_600_000 });
  // Faked timers leave AbortSignal.timeout alone.
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), ms);
    return controller.signal;
  });
  log = [];
  vi.spyOn(console, 'error').mockImplementation((line: string) => log.push(line));
});

afterEach(async () => {
  app.kv.down = false;
  app.kv.onHang = null;
  await app.faults();
  await app.release();
  await app.idle();
  vi.restoreAllMocks();
});

describe('GET /health', () => {
  test('answers without touching anything, configured or not', async () => {
    app.kv.operations = [];
    const bare = { ...app.env };
    for (const name of Object.keys(bare)) Reflect.deleteProperty(bare, name);
    const requests = await app.databaseRequests(async () => {
      for (const env of [app.env, bare]) {
        const request = new Request('https://api.test/health', {
          headers: { Origin: 'https://a.test' },
        });
        const response = await worker.fetch(request, env, createExecutionContext());
        expect(response.status).toBe(200);
        expect(await response.json()).toEqual({
          code: 0,
          message: '服务正常',
          data: { status: 'ok' },
        });
      }
    });
    expect([requests, app.kv.operations]).toEqual([0, []]);
  });
});

describe('GET /health/ready', () => {
  test('is ok where database and KV answer', async () => {
    const reply = await ready();
    expect(reply.status).toBe(200);
    expect(reply.body).toEqual({
      code: 0,
      message: '服务就绪',
      data: { status: 'ok', database: 'ok', kv: 'ok' },
    });
    expect(reply.headers.get('Cache-Control')).toBe('no-store');
  });

  test('answers HEAD as well', async () => {
    const request = new Request('https://api.test/health/ready', { method: 'HEAD' });
    const response = await worker.fetch(request, app.env, createExecutionContext());
    expect([response.status, await response.text()]).toEqual([200, '']);
  });

  test('says that the database is down, and only the log says why', async () => {
    await app.faults({ drop: 'before', times: 'always' });
    const requests = await app.databaseRequests(async () => {
      const reply = await ready();
      expect(reply).toMatchObject(NOT_READY);
      expect(reply.data).toEqual({ database: 'failed', kv: 'ok' });
    });
    expect(requests).toBe(1);
    const why = log.filter((line) => line.includes('"event":"not_ready"'));
    expect(why).toHaveLength(1);
    expect(JSON.parse(why[0] ?? '')).toMatchObject({
      part: 'database',
      error: { name: 'DrizzleQueryError', cause: { name: 'NeonDbError' } },
    });
  });

  test('says that the database refuses the login, and nobody the password', async () => {
    const DATABASE_URL = app.env.DATABASE_URL.replace(/:[^:@/]+@/, ':S3CRET@');
    const reply = await app.call('GET', '/health/ready', Parts, { env: { DATABASE_URL } });
    expect(reply.data).toEqual({ database: 'failed', kv: 'ok' });
    expect(log.join()).toContain('password authentication failed');
    expect(log.join()).not.toContain('S3CRET');
  });

  test('waits a second for a slow database, whoever asks and whenever', async () => {
    await app.faults({ hold: 'before' });
    const first = ready();
    await app.held(1);
    expect(AbortSignal.timeout).toHaveBeenCalledExactlyOnceWith(1000);
    await vi.advanceTimersByTimeAsync(900);
    const second = ready();
    await vi.advanceTimersByTimeAsync(100);
    for (const reply of [await first, await second, await ready()]) {
      expect(reply).toMatchObject(NOT_READY);
      expect(reply.data).toEqual({ database: 'failed', kv: 'ok' });
    }
  });

  test('says that KV is down', async () => {
    app.kv.down = true;
    const reply = await ready();
    expect(reply).toMatchObject(NOT_READY);
    expect(reply.data).toEqual({ database: 'ok', kv: 'failed' });
    expect(log.join()).toContain('KV failed: 500');
  });

  test('waits a second for a KV that hangs', async () => {
    const hung = Promise.withResolvers<void>();
    app.kv.onHang = hung.resolve;
    const asking = ready();
    await hung.promise;
    expect(AbortSignal.timeout).toHaveBeenCalledExactlyOnceWith(1000);
    await vi.advanceTimersByTimeAsync(1000);
    expect((await asking).data.kv).toBe('failed');
  });

  test('waits no longer where the request that began the check was killed', async () => {
    // Then no timer of its own ends the check.
    vi.spyOn(AbortSignal, 'timeout').mockReturnValueOnce(new AbortController().signal);
    await app.faults({ hold: 'before' });
    const killed = ready();
    await app.held(1);
    const other = ready();
    await vi.advanceTimersByTimeAsync(1000);
    expect((await other).data).toEqual({ database: 'failed', kv: 'ok' });
    await killed;
  });

  test('asks the database once for fifty who ask at once, and again after five seconds', async () => {
    const askFifty = () =>
      app.databaseRequests(async () => {
        const replies = await Promise.all(Array.from({ length: 50 }, ready));
        expect(new Set(replies.map((reply) => reply.status))).toEqual(new Set([200]));
      });
    app.kv.operations = [];
    expect(await askFifty()).toBe(1);
    vi.setSystemTime(Date.now() + 4_999);
    expect(await askFifty()).toBe(0);
    vi.setSystemTime(Date.now() + 1);
    expect(await askFifty()).toBe(1);
    expect(app.kv.operations).toEqual(['get', 'get']);
  });

  test('tells a failure again for five seconds as well, and then that it is over', async () => {
    await app.faults({ drop: 'before' });
    expect((await ready()).status).toBe(503);
    expect((await ready()).status).toBe(503);
    vi.setSystemTime(Date.now() + 5_000);
    expect((await ready()).status).toBe(200);
  });

  test('is shared by requests that the runtime keeps apart', async () => {
    const replies = await Promise.all(
      Array.from({ length: 20 }, () => exports.default.fetch('https://api.test/health/ready')),
    );
    expect(new Set(replies.map((reply) => reply.status))).toEqual(new Set([200]));
  });

  test('of a deployment that is not configured is what any answer of it is', async () => {
    await ready();
    const requests = await app.databaseRequests(async () => {
      const reply = await app.call('GET', '/health/ready', z.null(), { env: { DATABASE_URL: '' } });
      expect([reply.status, reply.code]).toEqual([503, 50301]);
    });
    expect(requests).toBe(0);
  });
});
