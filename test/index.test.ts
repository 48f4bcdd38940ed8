/** The Worker between what a deployment gives it: miniflare's own KV and Queue, and a database role of its own. */
import { env as bindings } from 'cloudflare:workers';
import { neon } from '@neondatabase/serverless';
import { afterEach, expect, test, vi } from 'vitest';
import { z } from 'zod';
import guide from '../docs/deploy.md?raw';
import { Attention } from '../src/gateways/attention';
import { GatewayLog } from '../src/gateways/log';
import { PaymentDetail } from '../src/payments/detail';
import { startWorld } from './gateways/world';
import { insertPayment } from './harness';

const world = await startWorld();
const { app } = world;
const { DETAIL_CACHE, PURGE_QUEUE } = bindings;
const env = { DETAIL_CACHE, PURGE_QUEUE };
const owner = app.env.DATABASE_URL;

afterEach(async () => {
  app.env.DATABASE_URL = owner;
  await world.faults();
  vi.useRealTimers();
});

test('fills KV, purges it on a refund, and purges it again from the queue', async () => {
  const id = await insertPayment(app.sql, { payment_method: 'bank' });
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

/** From now on the Worker logs in as a role that has the rights in docs/deploy.md. Returns its connection string. */
async function loginAsGranted(): Promise<string> {
  const role = `api_${crypto.randomUUID().replaceAll('-', '')}`;
  const [, grants = ''] = /```sql\n(CREATE ROLE [\s\S]*?)```/.exec(guide) ?? [];
  const login = `CREATE ROLE ${role}_1 LOGIN PASSWORD 'api' IN ROLE ${role};`;
  for (const statement of `${grants}${login}`.split(';')) {
    await app.sql.query(statement.replaceAll('payments_api', role));
  }
  app.env.DATABASE_URL = owner.replace(/\/\/[^@]*@/, `//${role}_1:api@`);
  return app.env.DATABASE_URL;
}

const Created = z.object({ id: z.string() });

test('needs no more of the database than the rights that docs/deploy.md grants', async () => {
  const url = await loginAsGranted();
  const id = await insertPayment(app.sql, { payment_method: 'bank' });
  const refund = await app.call('POST', `/payments/${id}/refund`, Created, {
    body: { amount: '100', reason: '全额退款' },
  });
  const path = `/payments/${id}/refunds/${refund.data.id}`;
  const settled = await app.call('PATCH', path, z.unknown(), { body: { status: 1 } });
  const again = await app.call('PATCH', path, z.unknown(), { body: { status: 1 } });
  const detail = await app.call('GET', `/payments/${id}`, PaymentDetail, {
    headers: { 'Cache-Control': 'no-cache' },
  });
  const list = await app.call('GET', '/payments', z.unknown());
  const refunds = await app.call('GET', '/refunds', z.unknown());
  const found = await app.call('GET', `/lookup?number=${id}`, z.unknown());
  const corrected = await app.call('POST', `${path}/correction`, z.unknown(), {
    body: { status: 2, reason: '收款账户已注销' },
  });
  const replies = [refund, settled, again, detail, list, refunds, found, corrected];
  expect(replies.map((reply) => reply.status)).toEqual([201, 200, 200, 200, 200, 200, 200, 200]);
  expect(detail.data.status).toBe(3);
  await app.merge();

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
    "UPDATE gateway_refunds SET state = 'failed'",
    "INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no, state) VALUES (1, 'wechat', 'F', 'failed')",
    'DELETE FROM gateway_refunds',
    "SELECT settle_gateway_refund(1, '{}', '', 'answer', 1, now(), 200, '{}', 'x')",
    "SELECT note_gateway_payment(1, 'x', 'x', NULL)",
    "SELECT pause_gateway('wechat', 'x', now())",
    "SELECT gateway_follow_up(1, 'queued', false)",
    "INSERT INTO gateway_notifications (gateway, notification_key, event, signature, body_sha256) VALUES ('wechat', 'x', 'x', '{}', 'x')",
    'SELECT body FROM gateway_notifications',
    'SELECT signature FROM gateway_notifications',
    'SELECT * FROM gateway_notifications',
    'DELETE FROM gateway_requests',
    "UPDATE gateway_payments SET trade_no = 'x'",
    'UPDATE gateway_health SET paused_until = NULL',
    "UPDATE gateway_identity SET id = 'x'",
  ]) {
    await expect(neon(url).query(statement), statement).rejects.toThrow(/permission denied/);
  }
});

test('brings refunds to their gateways with the same rights', async () => {
  await world.stopClock();
  await loginAsGranted();
  const start = async (payment_method = 'wechat') => {
    const paymentId = await world.payment({ payment_method });
    const { status, data } = await world.refund(paymentId);
    expect(status).toBe(201);
    const path = `/payments/${paymentId}/refunds/${data.id}`;
    return {
      gateway: data.gateway,
      look: () => world.look(paymentId, data.id),
      log: async () => (await app.call('GET', `/payments/${paymentId}/gateway`, GatewayLog)).data,
      act: async (action: string, body?: unknown) => {
        const method = action === '' ? 'PATCH' : 'POST';
        return (await app.call(method, `${path}${action}`, z.unknown(), { body })).status;
      },
    };
  };

  // Sent, asked about and told by callbacks, with nobody's help.
  for (const refund of [await start('wechat'), await start('alipay')]) {
    await world.pass(120);
    expect(await refund.look()).toMatchObject({ status: 1, gateway: { state: 'succeeded' } });
    expect((await refund.log()).requests.map(({ operation }) => operation)).toContain('send');
  }

  await world.faults({ operation: 'refund', status: 403, code: 'NOT_ENOUGH' });
  const blocked = await start();
  await world.pass(60);
  const { data } = await app.call('GET', '/gateway/attention', Attention);
  expect(data.refunds.map(({ attention }) => attention)).toEqual(['NOT_ENOUGH']);
  expect(await blocked.act('/retry')).toBe(200);
  await world.pass(120);
  expect(await blocked.look()).toMatchObject({ status: 1, gateway: { state: 'succeeded' } });

  await world.faults({ operation: 'refund', outcome: 'ABNORMAL' });
  const abnormal = await start();
  await world.pass(120);
  expect(await abnormal.act('/sync')).toBe(200);
  expect(await abnormal.look()).toMatchObject({ gateway: { attention: 'ABNORMAL' } });
  expect(await abnormal.act('/abnormal', { type: 'MERCHANT_BANK_CARD' })).toBe(200);
  await world.pass(120);
  expect(await abnormal.look()).toMatchObject({ status: 1, gateway: { state: 'succeeded' } });

  await world.faults({ operation: 'refund', status: 403, code: 'NOT_ENOUGH' });
  const forced = await start();
  await world.pass(60);
  expect(await forced.act('', { status: 2, override_reason: '已退现金' })).toBe(200);
  expect(await forced.look()).toMatchObject({ status: 2, gateway: { state: 'failed' } });

  // Its messages are lost, and callbacks are old.
  await world.faults({ operation: 'refund', drop: 'before' });
  const lost = await start();
  await app.idle();
  app.refundQueue.messages = [];
  await app.sql`UPDATE gateway_notifications SET received_at = received_at - interval '31 days'`;
  await world.pass(1_800);
  await app.merge();
  await world.pass(120);
  expect(await lost.look()).toMatchObject({ status: 1, gateway: { state: 'succeeded' } });
  const [kept] = await app.sql`
    SELECT count(*) > 0 AS old, count(body)::int AS raw FROM gateway_notifications WHERE received_at < now() - interval '30 days'`;
  expect(kept).toEqual({ old: true, raw: 0 });
});
