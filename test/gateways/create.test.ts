/**
 * What POST /payments/:id/refund guarantees where a gateway carries the refund out: it is in the outbox or it is not
 * there, and what the gateway would not take is refused at once.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { Refund } from '../../src/refunds/refund';
import { insertPayment } from '../harness';
import { startWorld } from './world';

const world = await startWorld();
const { app } = world;

beforeEach(() => world.stopClock());
afterEach(async () => {
  await app.faults();
  await world.faults();
  await app.idle();
  app.refundQueue.messages = [];
  app.refundQueue.down = false;
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const DAY_MS = 86_400_000;

const body = { amount: '1.00', reason: '拍错了' };
const ask = (paymentId: string, env: Record<string, string> = {}, headers = {}) =>
  app.call('POST', `/payments/${paymentId}/refund`, z.unknown(), { body, headers, env });

const refundsOf = (paymentId: string) =>
  app.sql`
    SELECT refund_no, gateway, state, out_refund_no FROM payment_refunds
    LEFT JOIN gateway_refunds ON refund_id = id WHERE payment_id = ${paymentId} ORDER BY id`;

/** Keeps what is logged, line by line. */
function logged(): string[] {
  const lines: string[] = [];
  for (const level of ['info', 'warn', 'error'] as const) {
    vi.spyOn(console, level).mockImplementation((line: string) => lines.push(line));
  }
  return lines;
}

describe.each([
  ['wechat', 'alipay', 'WECHAT_PRIVATE_KEY'],
  ['alipay', 'wechat', 'ALIPAY_PRIVATE_KEY'],
] as const)('%s without proper keys', (broken, working, variable) => {
  test.each([
    ['missing', ''],
    ['wrong', 'S3CRET-that-is-no-key'],
  ])('(%s) refuses its own refunds only, and the log names the variable', async (_, value) => {
    const lines = logged();
    const [stopped, other] = [
      await world.payment({ payment_method: broken }),
      await world.payment({ payment_method: working }),
    ];
    const env = { [variable]: value };
    const refused = await ask(stopped, env);
    expect([refused.status, refused.code, refused.data]).toEqual([503, 50301, null]);
    expect(await refundsOf(stopped)).toEqual([]);
    expect(await ask(other, env)).toMatchObject({
      status: 201,
      data: { gateway: { name: working } },
    });
    // By hand, as ever.
    const bank = await insertPayment(app.sql, { payment_method: 'bank' });
    expect(await ask(bank, env)).toMatchObject({ status: 201, data: { gateway: null } });

    const about = lines.filter((line) => line.includes('"event":"gateway_not_configured"'));
    expect(about.length).toBeGreaterThan(0);
    for (const line of about) expect(JSON.parse(line)).toMatchObject({ gateway: broken });
    expect(about.join()).toContain(variable);
    expect(lines.join()).not.toContain('S3CRET');
    await app.idle();
  });
});

test.each(['', 'alipay', ' alipay , '])(
  'a method that is not in GATEWAYS=%j is settled by hand',
  async (GATEWAYS) => {
    const paymentId = await world.payment({ payment_method: 'wechat' });
    const reply = await ask(paymentId, { GATEWAYS });
    expect(reply).toMatchObject({ status: 201, data: { gateway: null } });
    await app.idle();
    await world.pass(120);
    expect(await refundsOf(paymentId)).toMatchObject([{ gateway: null }]);
    const { id } = Refund.parse(reply.data);
    const settled = await app.call('PATCH', `/payments/${paymentId}/refunds/${id}`, Refund, {
      body: { status: 1 },
    });
    expect(settled).toMatchObject({ status: 200, data: { status: 1, gateway: null } });
  },
);

test('a name in GATEWAYS that is none is logged, and harms nobody', async () => {
  const lines = logged();
  const GATEWAYS = 'wechat,paypal,__proto__';
  const paymentId = await world.payment({ payment_method: 'wechat' });
  expect(await ask(paymentId, { GATEWAYS })).toMatchObject({
    status: 201,
    data: { gateway: { name: 'wechat' } },
  });
  const names = lines
    .filter((line) => line.includes('gateway_not_configured'))
    .map((line) => z.object({ gateway: z.string() }).parse(JSON.parse(line)).gateway);
  expect(names).toEqual(['paypal', '__proto__']);
});

describe('a payment that is too old', () => {
  test.each(['wechat', 'alipay'])(
    'for %s is refused, with the end of its time',
    async (payment_method) => {
      const paid = new Date(Date.now() - 366 * DAY_MS);
      const paymentId = await world.payment({ payment_method, payment_time: paid.toISOString() });
      const reply = await ask(paymentId);
      const until = new Date(paid.getTime() + 365 * DAY_MS);
      expect([reply.status, reply.code]).toEqual([409, 40908]);
      const { refundable_until } = z.object({ refundable_until: z.string() }).parse(reply.data);
      expect(Date.parse(refundable_until)).toBe(until.getTime());
      expect(await refundsOf(paymentId)).toEqual([]);
      // By hand it can be refunded all the same.
      expect(await ask(paymentId, { GATEWAYS: '' })).toMatchObject({ status: 201 });
    },
  );

  test('is taken up to the last day, counted from its creation where it has no time of payment', async () => {
    const created_at = new Date(Date.now() - 365 * DAY_MS + 60_000).toISOString();
    const young = await world.payment({ payment_time: null, created_at });
    expect(await ask(young)).toMatchObject({ status: 201 });
    const before = new Date(Date.now() - 365 * DAY_MS - 60_000).toISOString();
    const old = await world.payment({ payment_time: null, created_at: before });
    expect(await ask(old)).toMatchObject({ status: 409, code: 40908 });
  });
});

test('a payment that fen cannot count is refused, and by hand it is not', async () => {
  const paymentId = await insertPayment(app.sql, {
    payment_method: 'wechat',
    amount: '90071992547409.92',
    payment_time: new Date().toISOString(),
  });
  expect(await ask(paymentId)).toMatchObject({
    status: 409,
    code: 40909,
    data: { max_amount: '90071992547409.91' },
  });
  expect(await refundsOf(paymentId)).toEqual([]);
  expect(await ask(paymentId, { GATEWAYS: '' })).toMatchObject({ status: 201 });
});

test('a refund from before is never sent', async () => {
  const paymentId = await world.payment({ payment_method: 'wechat' });
  await app.sql`INSERT INTO payment_refunds (payment_id, refund_no, amount) VALUES (${paymentId}, 'R-from-before', 30)`;
  const { data } = await world.refund(paymentId, '70.00');
  await world.pass(86_400);
  await app.merge();
  await world.settleDown();
  const { refunds } = await world.books();
  const sent = refunds.filter(({ outRefundNo }) => outRefundNo.startsWith('R-from-before'));
  expect(sent).toEqual([]);
  expect(await world.look(paymentId, data.id)).toMatchObject({ status: 1 });
});

describe('the number that a gateway is given', () => {
  const identity = async () => {
    const rows = await app.sql`SELECT id FROM gateway_identity`;
    return z.tuple([z.object({ id: z.string().regex(/^[0-9a-f]{8}$/) })]).parse(rows)[0].id;
  };

  test('is that of the refund, where it is random', async () => {
    const { data } = await world.refund(await world.payment());
    expect(data.gateway?.out_refund_no).toBe(data.refund_no);
  });

  test('has the mark of this database behind it where it is made of a key, and stays the same', async () => {
    const paymentId = await world.payment();
    const headers = { 'Idempotency-Key': 'one' };
    const { status, data } = await world.refund(paymentId, '40.00', headers);
    expect([status, data.gateway?.out_refund_no]).toEqual([
      201,
      `${data.refund_no}_${await identity()}`,
    ]);
    // WeChat Pay takes 64 letters, digits and some signs.
    expect(data.gateway?.out_refund_no).toMatch(/^[0-9A-Za-z_]{1,64}$/);
    await world.pass(60);
    const again = await world.refund(paymentId, '40.00', headers);
    expect(again.status).toBe(200);
    expect(again.data).toMatchObject({
      id: data.id,
      status: 1,
      gateway: { out_refund_no: data.gateway?.out_refund_no },
    });
    const { refunds } = await world.books();
    const sent = refunds.filter(({ outRefundNo }) => outRefundNo.startsWith(data.refund_no));
    expect(sent).toMatchObject([
      { outRefundNo: data.gateway?.out_refund_no, sent: 1, movedTimes: 1 },
    ]);
  });
});

describe('a refund', () => {
  test('takes one database request, and its background a claim and a record', async () => {
    // What sweeps now sweeps for the next ten minutes.
    await world.start();
    await app.idle();
    const paymentId = await world.payment();
    const requests = await app.databaseRequests(async () => {
      await world.refund(paymentId);
      await app.idle();
    });
    expect(requests).toBe(1 + 2);
  });

  test('is in the outbox or it is not there', async () => {
    const paymentId = await world.payment();
    await app.sql`ALTER TABLE gateway_refunds ADD CONSTRAINT full_up CHECK (false) NOT VALID`;
    const reply = await ask(paymentId);
    await app.sql`ALTER TABLE gateway_refunds DROP CONSTRAINT full_up`;
    expect(reply.code).toBe(50000);
    expect(await refundsOf(paymentId)).toEqual([]);
  });

  test('whose sender dies after the commit is brought on by its message', async () => {
    const paymentId = await world.payment();
    // The claim in the background fails, and nothing tries it again.
    await app.faults({ delayMs: 0 }, { drop: 'before', times: 2 });
    const { data } = await world.refund(paymentId);
    await app.idle();
    await app.faults();
    expect(await world.look(paymentId, data.id)).toMatchObject({
      gateway: { state: 'queued', attempts: 0 },
    });
    await world.pass(30);
    expect(await world.look(paymentId, data.id)).toMatchObject({
      status: 1,
      gateway: { attempts: 1 },
    });
  });

  test('whose message could not be sent is sent all the same, or found by the sweep', async () => {
    app.refundQueue.down = true;
    const paymentId = await world.payment();
    await app.faults({ delayMs: 0 }, { drop: 'before', times: 2 });
    const { status, data } = await world.refund(paymentId);
    expect(status).toBe(201);
    await app.idle();
    await app.faults();
    app.refundQueue.down = false;
    expect(app.refundQueue.messages).toEqual([]);
    await world.wait(301);
    await app.merge();
    await world.settleDown();
    await world.pass(60);
    expect(await world.look(paymentId, data.id)).toMatchObject({
      status: 1,
      gateway: { attempts: 1 },
    });
  });

  test('that is refused leaves a message that does nothing', async () => {
    const paymentId = await world.payment({ status: 3 });
    expect((await ask(paymentId)).code).toBe(40900);
    await app.idle();
    expect(app.refundQueue.messages).toHaveLength(1);
    const { requests } = await world.books();
    await world.pass(60);
    expect((await world.books()).requests).toEqual(requests);
    expect(app.refundQueue.messages).toEqual([]);
  });

  test('that is replayed is not sent twice', async () => {
    const paymentId = await world.payment();
    const headers = { 'Idempotency-Key': 'again' };
    const replies = await Promise.all(
      Array.from({ length: 8 }, () => world.refund(paymentId, '100.00', headers)),
    );
    expect(new Set(replies.map(({ data }) => data.id)).size).toBe(1);
    await world.pass(120);
    const { refunds } = await world.books();
    const sent = refunds.filter(
      ({ outRefundNo }) => outRefundNo === replies[0]?.data.gateway?.out_refund_no,
    );
    expect(sent).toMatchObject([{ sent: 1, movedTimes: 1 }]);
  });
});
