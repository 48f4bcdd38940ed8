/** The Worker between what a deployment gives it: miniflare's own KV and Queue, and a database role of its own. */
import { env as bindings } from 'cloudflare:workers';
import { neon } from '@neondatabase/serverless';
import { expect, test, vi } from 'vitest';
import { z } from 'zod';
import guide from '../docs/deploy.md?raw';
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

test('needs no more of the database than the rights that docs/deploy.md grants', async () => {
  const role = `api_${crypto.randomUUID().replaceAll('-', '')}`;
  const [, grants = ''] = /```sql\n(CREATE ROLE [\s\S]*?)```/.exec(guide) ?? [];
  const login = `CREATE ROLE ${role}_1 LOGIN PASSWORD 'api' IN ROLE ${role};`;
  for (const statement of `${grants}${login}`.split(';')) {
    await app.sql.query(statement.replaceAll('payments_api', role));
  }
  const own = { DATABASE_URL: app.env.DATABASE_URL.replace(/\/\/[^@]*@/, `//${role}_1:api@`) };
  const id = await insertPayment(app.sql);

  const Created = z.object({ id: z.string() });
  const refund = await app.call('POST', `/payments/${id}/refund`, Created, {
    env: own,
    body: { amount: '100', reason: '全额退款' },
  });
  const settled = await app.call(
    'PATCH',
    `/payments/${id}/refunds/${refund.data.id}`,
    z.unknown(),
    {
      env: own,
      body: { status: 1 },
    },
  );
  const path = `/payments/${id}/refunds/${refund.data.id}`;
  const again = await app.call('PATCH', path, z.unknown(), { env: own, body: { status: 1 } });
  const detail = await app.call('GET', `/payments/${id}`, PaymentDetail, {
    env: own,
    headers: { 'Cache-Control': 'no-cache' },
  });
  const list = await app.call('GET', '/payments', z.unknown(), { env: own });
  const corrected = await app.call('POST', `${path}/correction`, z.unknown(), {
    env: own,
    body: { status: 2, reason: '收款账户已注销' },
  });
  const replies = [refund, settled, again, detail, list, corrected];
  expect(replies.map((reply) => reply.status)).toEqual([201, 200, 200, 200, 200, 200]);
  expect(detail.data.status).toBe(3);
  await app.merge(own);

  for (const statement of [
    'UPDATE payments SET amount = 1',
    'UPDATE payments SET status = 3',
    "INSERT INTO payment_refunds (payment_id, refund_no, amount, status) VALUES (1, 'F', 1, 1)",
    "INSERT INTO payment_refunds (id, payment_id, refund_no, amount) VALUES (9, 1, 'F', 1)",
    "INSERT INTO payment_refunds (payment_id, refund_no, amount, created_at) VALUES (1, 'F', 1, now())",
    "INSERT INTO payment_refund_events (refund_id, actor, to_status, request_id, created_at) VALUES (1, 'x', 1, 'x', now())",
    'UPDATE payment_refund_totals SET reserved = 0',
    'SELECT follow_refunds()',
    'DELETE FROM payments',
    'UPDATE payment_refunds SET amount = 1',
    'UPDATE payment_refund_events SET actor = actor',
    'CREATE TABLE mine ()',
  ]) {
    await expect(neon(own.DATABASE_URL).query(statement)).rejects.toThrow(/permission denied/);
  }
});
