/** What GET /payments/:id/gateway guarantees: what passed about this payment, newest first, and nothing that is personal. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { GatewayLog } from '../../src/gateways/log';
import { insertPayment, signToken } from '../harness';
import { startWorld } from './world';

const world = await startWorld();
const { app } = world;

beforeEach(() => world.stopClock());
afterEach(async () => {
  await world.faults();
  await app.idle();
  app.refundQueue.messages = [];
  vi.useRealTimers();
});

const strict = GatewayLog.extend({
  requests: z.array(GatewayLog.shape.requests.element.strict()),
  notifications: z.array(GatewayLog.shape.notifications.element.strict()),
}).strict();

const log = async (id: string) => {
  const reply = await app.call('GET', `/payments/${id}/gateway`, strict);
  expect(reply).toMatchObject({ status: 200, code: 0, message: '获取成功' });
  expect(reply.headers.get('Cache-Control')).toBe('no-store');
  expect(reply.headers.get('Cache-Status')).toBeNull();
  return reply.data;
};

const EMPTY = { requests_total: 0, requests: [], notifications_total: 0, notifications: [] };

interface Notified {
  payment_id?: string | null;
  out_refund_no?: string | null;
  gateway?: string;
  received_at?: string;
}

/** A notification as it lies in the inbox. */
const notify = ({
  payment_id = null,
  out_refund_no = null,
  gateway = 'wechat',
  received_at = '2026-11-25T00:00:00Z',
}: Notified) =>
  app.sql`
    INSERT INTO gateway_notifications (gateway, notification_key, event, signature, body, body_sha256, payment_id, out_refund_no, received_at, deliveries, result)
    VALUES (${gateway}, ${crypto.randomUUID()}, 'REFUND.SUCCESS', '{"Wechatpay-Signature": "S3CRET"}', 'S3CRET', 'S3CRET', ${payment_id},
      ${out_refund_no}, ${received_at}, 2, 'unknown_number')`;

test('shows the requests and the notification of a refund that went well', async () => {
  await world.configure({ callbacks: true, settle: { afterMs: 1000, outcome: 'SUCCESS' } });
  const refund = await world.start();
  await world.pass(120);
  const { requests, notifications, ...totals } = await log(refund.paymentId);
  expect(totals).toEqual({
    requests_total: requests.length,
    notifications_total: notifications.length,
  });
  const named = { refund_id: refund.refundId, refund_no: refund.refundNo };
  expect(requests.at(-1)).toMatchObject({
    ...{ ...named, operation: 'send', attempt: 1, http_status: 200, outcome: 'accepted' },
    ...{ code: null, explanation: null, gateway_request_id: expect.any(String) },
  });
  expect(notifications).toEqual([
    {
      ...{ ...named, event: 'REFUND.SUCCESS', deliveries: 1, result: 'settled' },
      ...{ received_at: expect.any(String), processed_at: expect.any(String) },
    },
  ]);
});

test('says what went wrong, newest first', async () => {
  await world.faults(
    { operation: 'refund', status: 403, code: 'NOT_ENOUGH' },
    { operation: 'refund', drop: 'before' },
  );
  const refund = await world.start();
  await app.idle();
  await world.wait(61);
  await app.call('POST', `${refund.path}/retry`, z.unknown());
  await app.idle();
  const { requests } = await log(refund.paymentId);
  expect(
    requests.map(({ operation, attempt, http_status, outcome, code, explanation }) => [
      ...[operation, attempt, http_status],
      ...[outcome, code, explanation],
    ]),
  ).toEqual([
    ['send', 2, null, 'unknown', 'NO_ANSWER', '支付渠道没有应答，结果未知'],
    ['send', 1, 403, 'blocked', 'NOT_ENOUGH', '商户可用余额不足，充值后自动重试'],
  ]);
});

describe('a notification', () => {
  test('of the payment alone names no refund', async () => {
    const id = await insertPayment(app.sql);
    await notify({ payment_id: id });
    expect(await log(id)).toEqual({
      ...EMPTY,
      notifications_total: 1,
      notifications: [
        {
          ...{ event: 'REFUND.SUCCESS', refund_id: null, refund_no: null },
          ...{ received_at: '2026-11-25T00:00:00.000Z', processed_at: null },
          ...{ deliveries: 2, result: 'unknown_number' },
        },
      ],
    });
  });

  test('that came before its refund was committed is found by its number', async () => {
    await world.configure({ callbacks: false, settle: { afterMs: null, outcome: 'SUCCESS' } });
    const [refund, other] = [await world.start(), await world.start()];
    await app.idle();
    await notify({ out_refund_no: refund.outRefundNo });
    // The same number at another gateway, a number that nothing has, and one of another payment.
    await notify({ out_refund_no: refund.outRefundNo, gateway: 'alipay' });
    await notify({ out_refund_no: 'nothing' });
    await notify({ out_refund_no: refund.outRefundNo, payment_id: other.paymentId });
    const mine = await log(refund.paymentId);
    expect(mine.notifications.map(({ refund_id }) => refund_id)).toEqual([refund.refundId]);
    const others = await log(other.paymentId);
    expect(others.notifications.map(({ refund_no }) => refund_no)).toEqual([null]);
  });

  test('shows neither its body nor its signature', async () => {
    const id = await insertPayment(app.sql);
    await notify({ payment_id: id });
    expect(await (await app.send('GET', `/payments/${id}/gateway`)).text()).not.toMatch(/S3CRET/);
  });
});

test('the newest 200 of each are there, and the totals of all', async () => {
  const id = await insertPayment(app.sql, { payment_method: 'wechat' });
  await app.sql`INSERT INTO payment_refunds (id, payment_id, refund_no, amount) VALUES (9001, ${id}, 'MANY-1', 1), (9002, ${id}, 'MANY-2', 1)`;
  await app.sql`INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no) VALUES (9001, 'wechat', 'MANY-1'), (9002, 'wechat', 'MANY-2')`;
  await app.sql`
    INSERT INTO gateway_requests (refund_id, operation, attempt, started_at, ended_at, outcome)
    SELECT 9001 + n % 2, 'query', n, timestamptz '2026-11-25Z' + n / 2 * interval '1 minute', '2026-11-26Z', 'accepted'
    FROM generate_series(1, 301) AS n`;
  await app.sql`
    INSERT INTO gateway_notifications (gateway, notification_key, event, signature, body_sha256, payment_id, received_at, deliveries)
    SELECT 'wechat', 'MANY-' || n, 'x', '{}', 'x', ${id}::bigint, timestamptz '2026-11-25Z' + n / 2 * interval '1 minute', n
    FROM generate_series(1, 301) AS n`;
  const found = await log(id);
  expect([found.requests_total, found.notifications_total]).toEqual([301, 301]);
  const newest = Array.from({ length: 200 }, (_, index) => 301 - index);
  expect(found.requests.map(({ attempt }) => attempt)).toEqual(newest);
  expect(found.notifications.map(({ deliveries }) => deliveries)).toEqual(newest);
});

describe('a request', () => {
  test('makes one database request, and gets nothing for a payment without a gateway', async () => {
    const id = await insertPayment(app.sql, { payment_method: 'bank' });
    const requests = await app.databaseRequests(async () => {
      expect(await log(id)).toEqual(EMPTY);
    });
    expect(requests).toBe(1);
  });

  test('gets 40401 for a payment that does not exist', async () => {
    const reply = await app.call('GET', '/payments/9223372036854775807/gateway', z.null());
    expect([reply.status, reply.code]).toEqual([404, 40401]);
  });

  test.each(['/payments/0/gateway', '/payments/x/gateway', '/payments/1/gateway?size=1'])(
    'is refused: %s',
    async (path) => {
      expect((await app.call('GET', path, z.unknown())).code).toBe(40000);
    },
  );

  test('needs payments:read', async () => {
    const headers = { Authorization: `Bearer ${await signToken({ scope: 'refunds:settle' })}` };
    const reply = await app.call('GET', '/payments/1/gateway', z.unknown(), { headers });
    expect(reply).toMatchObject({ code: 40300, data: { required_scope: 'payments:read' } });
  });
});
