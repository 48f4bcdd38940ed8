/**
 * What POST /payments/:id/refunds/:refund_id/abnormal guarantees: the money of an abnormal refund goes on to another
 * account, and the card of a payer is nowhere but at the gateway.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { Refund } from '../../src/refunds/refund';
import { startWorld } from '../gateways/world';
import { insertPayment, signToken } from '../harness';

const world = await startWorld();
const { app } = world;

beforeEach(async () => {
  await world.stopClock();
  await world.configure({ callbacks: false, settle: { afterMs: 2_000, outcome: 'SUCCESS' } });
});
afterEach(async () => {
  vi.restoreAllMocks();
  await app.faults();
  await world.faults();
  await app.idle();
  app.refundQueue.messages = [];
  vi.useRealTimers();
});

const CARD = {
  type: 'USER_BANK_CARD',
  bank_type: 'ICBC_DEBIT',
  bank_account: '6222 0200 4400 1234 567',
  real_name: '王小明',
};
const MERCHANT = { type: 'MERCHANT_BANK_CARD' };

const complete = (path: string, body: unknown = MERCHANT) =>
  app.call('POST', `${path}/abnormal`, z.unknown(), { body });

/** A refund whose payer's account is void. */
async function abnormal() {
  await world.faults({ operation: 'refund', outcome: 'ABNORMAL' });
  const refund = await world.start();
  await app.idle();
  expect(await refund.look()).toMatchObject({
    status: 0,
    gateway: { state: 'blocked', attention: 'ABNORMAL' },
  });
  app.refundQueue.messages = [];
  return refund;
}

const Payouts = z.object({
  refunds: z.array(z.object({ outRefundNo: z.string(), payout: z.unknown() })),
});
const payoutOf = async (outRefundNo: string) => {
  const { refunds } = Payouts.parse(await world.ask('GET', ''));
  return refunds.find((one) => one.outRefundNo === outRefundNo)?.payout;
};

test.each([
  [
    'a card of the payer',
    CARD,
    { type: 'USER_BANK_CARD', bankAccount: '6222020044001234567', realName: '王小明' },
  ],
  [
    'the account of the merchant',
    MERCHANT,
    { type: 'MERCHANT_BANK_CARD', bankAccount: null, realName: null },
  ],
])(
  'sends the money to %s, and the refund is at work again until it succeeds',
  async (_, body, payout) => {
    const refund = await abnormal();
    const reply = await complete(refund.path, body);
    expect(reply).toMatchObject({ status: 200, code: 0, message: '已提交' });
    expect(Refund.parse(reply.data)).toMatchObject({
      status: 0,
      gateway: { state: 'accepted', attention: null, last_error_code: null },
    });
    expect(await payoutOf(refund.outRefundNo)).toEqual(payout);
    await world.pass(120);
    expect(await refund.look()).toMatchObject({ status: 1, gateway: { attempts: 1 } });
    expect(await refund.book()).toMatchObject({ sent: 1, movedTimes: 1 });
  },
);

test('neither stores nor logs the card', async () => {
  const log: string[] = [];
  for (const level of ['info', 'warn', 'error'] as const) {
    vi.spyOn(console, level).mockImplementation((line: string) => log.push(line));
  }
  for (const fault of [
    [],
    [{ operation: 'abnormal', status: 400, code: 'PARAM_ERROR' }],
    [{ operation: 'abnormal', drop: 'after' }],
  ]) {
    const refund = await abnormal();
    await world.faults(...fault);
    await complete(refund.path, CARD);
    await app.idle();
  }
  const tables = await app.sql`
    SELECT string_agg(table_to_xml(oid, true, false, '')::text, '') AS text
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`;
  const written = JSON.stringify([log, tables, app.refundQueue.messages]);
  expect(written).toContain('"operation\\":\\"abnormal\\"');
  // Long enough not to be part of a random number.
  for (const secret of ['王小明', '6222020044001234567', '6222 0200 4400', 'ICBC_DEBIT']) {
    expect(written).not.toContain(secret);
  }
});

test('makes two database requests, and one where the refund is not abnormal', async () => {
  const refund = await abnormal();
  expect(await app.databaseRequests(() => complete(refund.path))).toBe(2);
  expect(await app.databaseRequests(() => complete(refund.path))).toBe(1);
});

test.each([
  ['PARAM_ERROR', 400],
  ['INVALID_REQUEST', 400],
  ['NOT_ENOUGH', 403],
  ['USER_ACCOUNT_ABNORMAL', 403],
  ['RESOURCE_NOT_EXISTS', 404],
  ['SIGN_ERROR', 401],
  ['NO_AUTH', 403],
])('that is refused with %s leaves the refund abnormal, and says why', async (code, status) => {
  const refund = await abnormal();
  await world.faults({ operation: 'abnormal', status, code });
  const reply = await complete(refund.path, CARD);
  expect([reply.status, reply.code, reply.data]).toEqual([
    409,
    40912,
    { code, explanation: expect.stringMatching(/\p{Script=Han}/u) },
  ]);
  expect(await refund.look()).toMatchObject({
    status: 0,
    gateway: { state: 'blocked', attention: 'ABNORMAL', last_error_code: code },
  });
  // The next try may be right.
  expect(await complete(refund.path)).toMatchObject({
    status: 200,
    data: { gateway: { state: 'accepted' } },
  });
});

test.each([
  ['does not answer', { drop: 'before' }],
  ['has a fault', { status: 500, code: 'SYSTEM_ERROR' }],
  ['is asked too often', { status: 429, code: 'FREQUENCY_LIMITED' }],
  ['answers what does not verify', { sign: 'altered' }],
])('says "later" where the gateway %s, and a query finds out', async (_, fault) => {
  const refund = await abnormal();
  await world.faults({ operation: 'abnormal', ...fault });
  const reply = await complete(refund.path);
  expect([reply.status, reply.code, reply.headers.get('Retry-After')]).toEqual([503, 50303, '2']);
  expect(await refund.look()).toMatchObject({
    status: 0,
    gateway: { state: 'blocked', attention: 'ABNORMAL' },
  });
  const taken = 'sign' in fault;
  await world.pass(3_700);
  expect(await refund.look()).toMatchObject({ status: taken ? 1 : 0, gateway: { attempts: 1 } });
});

test('whose answer could not be recorded is found out by a query', async () => {
  const refund = await abnormal();
  await app.faults({ delayMs: 0 }, { drop: 'before', times: 2 });
  expect(await complete(refund.path)).toMatchObject({ status: 503, code: 50300 });
  await app.faults();
  await world.wait(11);
  const { data } = await app.call('POST', `${refund.path}/sync`, Refund);
  expect(data).toMatchObject({ status: 1, gateway: { state: 'succeeded' } });
});

describe('refuses', () => {
  let before = 0;
  beforeEach(async () => {
    before = (await world.books()).requests['wechat.abnormal'] ?? 0;
  });

  test('a refund that is not abnormal', async () => {
    await world.configure({ settle: { afterMs: null, outcome: 'SUCCESS' } });
    const accepted = await world.start();
    await app.idle();
    expect(await complete(accepted.path)).toMatchObject({
      status: 409,
      code: 40910,
      data: { state: 'accepted' },
    });
    await world.faults({ operation: 'refund', status: 403, code: 'NOT_ENOUGH' });
    const blocked = await world.start();
    await app.idle();
    expect(await complete(blocked.path)).toMatchObject({
      status: 409,
      code: 40910,
      data: { state: 'blocked' },
    });
    expect((await world.books()).requests['wechat.abnormal'] ?? 0).toBe(before);
  });

  test('a refund that WeChat Pay knows, and whose money does not wait', async () => {
    const refund = await abnormal();
    await app.sql`
      UPDATE gateway_refunds SET attention = 'MISSING' WHERE refund_id = ${refund.refundId}`;
    expect(await complete(refund.path)).toMatchObject({ status: 409, code: 40910 });
    expect((await world.books()).requests['wechat.abnormal'] ?? 0).toBe(before);
  });

  test('a refund of a gateway that cannot do it', async () => {
    const refund = await world.start('alipay');
    await app.idle();
    await app.sql`
      UPDATE gateway_refunds SET state = 'blocked', ask_only = true, attention = 'ABNORMAL', attention_at = now(),
        gateway_refund_no = '1', next_attempt_at = now()
      WHERE refund_id = ${refund.refundId}`;
    expect(await complete(refund.path)).toMatchObject({ status: 409, code: 40910 });
  });

  test('a refund that is abnormal while its gateway is not configured', async () => {
    const refund = await abnormal();
    const env: Record<string, string> = { WECHAT_MCHID: '' };
    const reply = await app.call('POST', `${refund.path}/abnormal`, z.unknown(), {
      body: MERCHANT,
      env,
    });
    expect([reply.status, reply.code]).toEqual([409, 40910]);
  });

  test('a refund that there is not, or that is another payment’s', async () => {
    const [{ refundId, paymentId }, other] = [await abnormal(), await abnormal()];
    const code = async (path: string) => (await complete(path)).code;
    expect(await code(`/payments/9223372036854775807/refunds/${refundId}`)).toBe(40401);
    expect(await code(`/payments/${paymentId}/refunds/9223372036854775807`)).toBe(40402);
    expect(await code(`/payments/${other.paymentId}/refunds/${refundId}`)).toBe(40402);
    expect((await world.books()).requests['wechat.abnormal'] ?? 0).toBe(before);
  });

  test('a refund that is settled by hand', async () => {
    const paymentId = await insertPayment(app.sql, { payment_method: 'bank' });
    const { data } = await world.refund(paymentId);
    const path = `/payments/${paymentId}/refunds/${data.id}`;
    expect(await complete(path)).toMatchObject({ status: 409, code: 40911 });
  });

  test('whoever may not settle refunds', async () => {
    const { path } = await abnormal();
    const headers = {
      Authorization: `Bearer ${await signToken({ scope: 'payments:read refunds:correct' })}`,
    };
    const reply = await app.call('POST', `${path}/abnormal`, z.unknown(), {
      body: MERCHANT,
      headers,
    });
    expect([reply.status, reply.code, reply.data]).toEqual([
      403,
      40300,
      { required_scope: 'refunds:settle' },
    ]);
  });
});
