/** The Worker between miniflare's own KV and Queue, as wrangler.toml binds them: no fakes. */
import { env as bindings } from 'cloudflare:workers';
import { expect, test, vi } from 'vitest';
import { z } from 'zod';
import { PaymentDetail } from '../src/payments/detail';
import { insertPayment, startApp } from './harness';

const app = await startApp();
const { DETAIL_CACHE, PURGE_QUEUE } = bindings;
const env = { DETAIL_CACHE, PURGE_QUEUE };

test('fills KV, purges it on a refund, and purges it again from the queue', async () => {
  const id = await insertPayment(app.sql);
  const key = `payment:detail:${id}`;
  const { body } = await app.call('GET', `/payments/${id}`, PaymentDetail, { env });
  await app.idle();
  expect(await DETAIL_CACHE.get(key)).toBe(JSON.stringify(body));

  await app.call('POST', `/payments/${id}/refund`, z.unknown(), {
    env,
    body: { amount: '1', reason: '拍错了' },
  });
  expect(await DETAIL_CACHE.get(key)).toBeNull();

  await DETAIL_CACHE.put(key, JSON.stringify(body));
  await vi.waitUntil(async () => (await DETAIL_CACHE.get(key)) === null, { timeout: 20_000 });
});
