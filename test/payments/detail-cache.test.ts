/**
 * How stale a detail can be after a change was committed, for everything that can go wrong between
 * the database and a KV at its worst. The clock is virtual: a test reads the detail each second and
 * notes the last time that it saw the old one. Where no other location is named, everything happens
 * in one, the consumer of the queue too: then KV's own minute plays no part, and what is measured is ours.
 */
import { createExecutionContext } from 'cloudflare:test';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import worker from '../../src/index';
import { PaymentDetail } from '../../src/payments/detail';
import { insertPayment, signToken, startApp } from '../harness';

const app = await startApp();

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'] });
});

afterEach(async () => {
  vi.useRealTimers();
  app.kv.down = false;
  app.kv.onHang = null;
  app.queue.down = false;
  app.queue.messages = [];
  await app.faults();
});

const read = async (id: string, location = 'SHA', headers: Record<string, string> = {}) => {
  const reply = await app.call('GET', `/payments/${id}`, PaymentDetail, {
    headers,
    env: { DETAIL_CACHE: app.kv.at(location) },
  });
  return reply.data.refundable_amount;
};

/** A payment of 100.00 whose detail has been in the cache of these locations for a while. */
async function cachedPayment(...locations: string[]): Promise<string> {
  const id = await insertPayment(app.sql);
  for (const location of locations) {
    await read(id, location);
    await app.idle();
    await app.pass(2);
  }
  return id;
}

const refund = (id: string) =>
  app.call('POST', `/payments/${id}/refund`, z.unknown(), {
    body: { amount: '40', reason: '部分退款' },
  });

/** Seconds from now until the detail, read each second in this location, has been seen old for the last time. */
async function staleness(id: string, location = 'SHA', since = Date.now()): Promise<number> {
  let stale = 0;
  while (Date.now() - since < 150_000) {
    if ((await read(id, location)) === '100.00') stale = (Date.now() - since) / 1000;
    await app.pass(1);
  }
  // Nothing may bring the old one back later, up to the TTL and beyond.
  for (const minutes of [5, 10, 14, 15]) {
    await app.pass(minutes * 60 - 150);
    if ((await read(id, location)) === '100.00') stale = (Date.now() - since) / 1000;
  }
  return stale;
}

/** Begins to read the detail and stops right after the database has answered, with the old state in hand. */
async function slowReader(id: string, location = 'SHA') {
  await app.faults({ hold: 'after' });
  const reading = read(id, location, { 'Cache-Control': 'no-cache' });
  await app.held(1);
  return async () => {
    await app.release();
    await reading;
    await app.idle();
  };
}

describe('after a refund is committed, the old detail is seen', () => {
  test('not at all, where nothing goes wrong', async () => {
    const id = await cachedPayment('SHA');
    await refund(id);
    expect(await staleness(id)).toBe(0);
    expect(await read(id)).toBe('60.00');
  });

  test('for 5 s, where a slow reader puts it back just in time', async () => {
    const id = await cachedPayment('SHA');
    const finish = await slowReader(id);
    await refund(id);
    const committedAt = Date.now();
    await app.pass(2);
    await finish();
    expect(await read(id)).toBe('100.00');
    expect(await staleness(id, 'SHA', committedAt)).toBeLessThanOrEqual(5);
  });

  test('not at all, where the reader is too slow to be let in', async () => {
    const id = await cachedPayment('SHA');
    const finish = await slowReader(id);
    await refund(id);
    const committedAt = Date.now();
    await app.pass(20);
    await finish();
    expect(await staleness(id, 'SHA', committedAt)).toBe(0);
  });

  test('for 5 s, where KV refuses the purge because of a write in the same second', async () => {
    const id = await insertPayment(app.sql);
    await read(id);
    await app.idle();
    await refund(id);
    const stale = await staleness(id);
    expect(stale).toBeGreaterThan(0);
    expect(stale).toBeLessThanOrEqual(5);
  });

  test('for 8 s, where a put that was long under way makes KV refuse the late purge too', async () => {
    const id = await cachedPayment('SHA');
    const old = await app.env.DETAIL_CACHE.get(`payment:detail:${id}`, { cacheTtl: 30 });
    await refund(id);
    const committedAt = Date.now();
    await app.pass(4);
    await vi.advanceTimersByTimeAsync(500);
    await app.env.DETAIL_CACHE.put(`payment:detail:${id}`, old ?? '', { expirationTtl: 1800 });
    const stale = await staleness(id, 'SHA', committedAt);
    expect(stale).toBeGreaterThanOrEqual(5);
    expect(stale).toBeLessThanOrEqual(8);
  });

  test('for 5 s, where the Worker dies between commit and purge', async () => {
    const id = await cachedPayment('SHA');
    await refundAndDie(id);
    const stale = await staleness(id);
    expect(stale).toBeGreaterThan(0);
    expect(stale).toBeLessThanOrEqual(5);
  });

  test('for 6 s, where the Worker dies after a commit that came late', async () => {
    const id = await cachedPayment('SHA');
    await app.faults({ hold: 'before' });
    const dying = refundAndDie(id);
    await app.held(1);
    // The first late purge comes while the commit is still under way; a reader fills the cache once more.
    await app.pass(6);
    expect(await read(id)).toBe('100.00');
    await app.idle();
    await app.pass(1);
    await app.release();
    await dying;
    const stale = await staleness(id);
    expect(stale).toBeGreaterThan(0);
    expect(stale).toBeLessThanOrEqual(6);
  });

  test('for 5 s, where the queue is down and a slow reader puts it back', async () => {
    const id = await cachedPayment('SHA');
    const finish = await slowReader(id);
    app.queue.down = true;
    await refund(id);
    const committedAt = Date.now();
    await app.pass(2);
    const finished = finish();
    await app.pass(1);
    expect(await staleness(id, 'SHA', committedAt)).toBeLessThanOrEqual(5);
    await finished;
  });

  test('for a minute, in another location', async () => {
    const id = await cachedPayment('SHA', 'LHR');
    await app.pass(30);
    // Read again a second before the refund: so the location looks into KV once more just before it could know.
    await read(id, 'LHR');
    await app.pass(1);
    await refund(id);
    const stale = await staleness(id, 'LHR');
    expect(stale).toBeGreaterThan(30);
    expect(stale).toBeLessThanOrEqual(60);
  });

  test('for 65 s, where a slow reader in another location puts it back', async () => {
    const id = await cachedPayment('SHA');
    const finish = await slowReader(id, 'LHR');
    await refund(id);
    const committedAt = Date.now();
    await app.pass(2);
    await finish();
    const stale = await staleness(id, 'LHR', committedAt);
    expect(stale).toBeGreaterThan(5);
    expect(stale).toBeLessThanOrEqual(65);
  });

  test('until KV is back and the purge is tried again, where KV is down', async () => {
    const id = await cachedPayment('SHA');
    app.kv.down = true;
    app.kv.deletes = [];
    await refund(id);
    const committedAt = Date.now();
    await app.pass(20);
    app.kv.down = false;
    const stale = await staleness(id, 'SHA', committedAt);
    expect(stale).toBeGreaterThan(19);
    expect(stale).toBeLessThanOrEqual(27);
    // At once; from the first message after 5, 7, 11, 19, 35 s; from the second after 13, 15, 19, 27 s.
    const tries = app.kv.deletes.map((time) => Math.round((time - committedAt) / 1000));
    expect(tries).toEqual([0, 5, 7, 11, 13, 15, 19, 27, 35]);
  });

  test('for 5 s and KV’s minute, where the queue is consumed in another location', async () => {
    const id = await cachedPayment('SHA');
    const finish = await slowReader(id);
    app.consumeIn('IAD');
    await refund(id);
    const committedAt = Date.now();
    await app.pass(2);
    await finish();
    const stale = await staleness(id, 'SHA', committedAt);
    app.consumeIn('SHA');
    expect(stale).toBeGreaterThan(30);
    expect(stale).toBeLessThanOrEqual(65);
  });

  test('not at all, where the answer of the database is late but the commit was not', async () => {
    const id = await cachedPayment('SHA');
    await app.faults({ statusAfter: 503, times: 2 });
    const reply = await refund(id);
    expect(reply.code).toBe(50300);
    expect(await staleness(id)).toBe(0);
  });
});

/** Refunds, and dies when the database has answered: no purge, nothing of waitUntil goes on. */
async function refundAndDie(id: string): Promise<void> {
  const { promise: death, resolve: die } = Promise.withResolvers<void>();
  const dead: Pick<KVNamespace, 'delete'> = {
    delete() {
      die();
      return new Promise<never>(() => {});
    },
  };
  const request = new Request(`https://api.test/payments/${id}/refund`, {
    method: 'POST',
    headers: {
      Authorization: `Bearer ${await signToken()}`,
      'Content-Type': 'application/json',
    },
    body: JSON.stringify({ amount: '40', reason: '部分退款' }),
  });
  const env = { ...app.env, DETAIL_CACHE: { ...app.env.DETAIL_CACHE, ...dead } };
  void worker.fetch(request, env, createExecutionContext());
  await death;
}

describe('a KV that hangs', () => {
  test('holds up a detail for a second', async () => {
    const id = await cachedPayment('SHA');
    const hung = Promise.withResolvers<void>();
    app.kv.onHang = hung.resolve;
    const reading = read(id);
    await hung.promise;
    await vi.advanceTimersByTimeAsync(1000);
    expect(await reading).toBe('100.00');
    // The fill hangs as well, and is given up.
    await vi.advanceTimersByTimeAsync(1000);
    await app.idle();
  });

  test('holds up a refund for a second', async () => {
    const id = await cachedPayment('SHA');
    const hung = Promise.withResolvers<void>();
    app.kv.onHang = hung.resolve;
    const refunding = refund(id);
    await hung.promise;
    await vi.advanceTimersByTimeAsync(1000);
    expect((await refunding).status).toBe(201);
  });
});

describe('the purge queue', () => {
  test('is given two messages: after the window of a fill, and after the deadline and that window', async () => {
    const id = await insertPayment(app.sql);
    const sentAt = Date.now();
    await refund(id);
    await app.idle();
    const sent = app.queue.messages.map(({ body, dueAt }) => ({
      body,
      seconds: (dueAt - sentAt) / 1000,
    }));
    expect(sent).toEqual([
      { body: { payment_id: id }, seconds: 5 },
      { body: { payment_id: id }, seconds: 13 },
    ]);
  });

  test('deletes once for all messages of a payment in a batch', async () => {
    const ids = [await insertPayment(app.sql), await insertPayment(app.sql)];
    for (const id of [...ids, ...ids]) await refund(id);
    await app.idle();
    app.kv.operations = [];
    await vi.advanceTimersByTimeAsync(6000);
    await app.deliver();
    expect(app.kv.operations).toEqual(['delete', 'delete']);
  });

  test('drops a message that is not a purge instead of trying it for ever', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    app.queue.messages = [{ body: { payment_id: 1 }, dueAt: Date.now(), attempts: 1 }];
    await app.deliver();
    expect(app.queue.messages).toEqual([]);
    expect(log.mock.calls.flat().join()).toContain('detail_purge_malformed');
    log.mockRestore();
  });
});
