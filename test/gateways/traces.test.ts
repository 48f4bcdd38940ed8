/**
 * What calls of gateways and callbacks leave in the log and in the dataset: enough to find out what happened, and no
 * body, key, signature, card or payer.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { GATEWAY_BLOBS, GATEWAY_DOUBLES } from '../../src/metrics';
import { startWorld } from './world';

const world = await startWorld();
const { app } = world;

let lines: string[];
let points: AnalyticsEngineDataPoint[];

beforeEach(async () => {
  await world.stopClock();
  await world.configure({ callbacks: false, settle: { afterMs: null, outcome: 'SUCCESS' } });
  lines = [];
  points = [];
  app.env.GATEWAY_METRICS = { writeDataPoint: (point) => void points.push(point ?? {}) };
  for (const level of ['info', 'warn', 'error'] as const) {
    vi.spyOn(console, level).mockImplementation((line: string) => lines.push(line));
  }
});
afterEach(async () => {
  await app.faults();
  await world.faults();
  await app.idle();
  app.refundQueue.messages = [];
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const Line = z.looseObject({ level: z.string(), event: z.string() });
const linesOf = (event: string) =>
  lines.map((line) => Line.parse(JSON.parse(line))).filter((line) => line.event === event);

const pointsOf = (index: string) =>
  points
    .filter(({ indexes }) => indexes?.join() === index)
    .map(({ blobs = [], doubles = [] }) => ({
      ...Object.fromEntries(GATEWAY_BLOBS.map((name, place) => [name, blobs[place]])),
      ...Object.fromEntries(GATEWAY_DOUBLES.map((name, place) => [name, doubles[place]])),
    }));

/** Keys, and what the simulator writes about a payer, into its answers, and into signed texts. */
const SECRETS = [
  ...Object.values(world.env).flatMap((value) =>
    typeof value === 'string' && value.length > 100 ? [value.slice(60, 100)] : [],
  ),
  String(world.env.WECHAT_API_V3_KEY),
  ...['PRIVATE KEY', 'PUBLIC KEY', 'oSIMULATOR', '支付用户零钱', '2088000000000002', 'buyer_id'],
  ...['biz_content', 'WECHATPAY2', 'ciphertext', 'sub_msg', '拍错了', '王小明', '62220200'],
];

function expectNothingSecret(...more: string[]) {
  const texts = JSON.stringify([lines, points]);
  for (const secret of [...SECRETS, ...more]) expect(texts).not.toContain(secret);
}

const duration = { duration_ms: expect.any(Number) };

describe.each(['wechat', 'alipay'] as const)('%s', (gateway) => {
  test('leaves a line and a point of each call', async () => {
    await world.faults({ operation: 'refund', drop: 'after' });
    const refund = await world.start(gateway);
    await app.idle();
    await world.settle(refund.outRefundNo, 'SUCCESS').catch(() => {});
    await world.pass(60);
    expect(await refund.look()).toMatchObject({ status: 1 });

    const [send, query] = linesOf('gateway_call');
    expect(send).toEqual({
      level: 'warn',
      event: 'gateway_call',
      request_id: expect.stringMatching(/^[\w-]{36}$/),
      refund_no: refund.outRefundNo,
      gateway,
      operation: 'send',
      outcome: 'unknown',
      code: 'NO_ANSWER',
      http_status: null,
      attempt: 1,
      gateway_request_id: null,
      ...duration,
    });
    expect(query).toMatchObject({
      level: 'info',
      operation: 'query',
      outcome: 'succeeded',
      code: null,
      http_status: 200,
      gateway_request_id: expect.any(String),
    });
    expect(pointsOf(`${gateway} send`)).toEqual([
      {
        gateway,
        operation: 'send',
        outcome: 'unknown',
        code: 'NO_ANSWER',
        http_status: 0,
        attempt: 1,
        ...duration,
      },
    ]);
    expect(pointsOf(`${gateway} query`)).toMatchObject([
      { gateway, operation: 'query', outcome: 'succeeded', code: '', http_status: 200, attempt: 1 },
    ]);
    expect(JSON.stringify(points)).not.toContain(refund.outRefundNo);
    expectNothingSecret();
  });

  test('leaves a line and a point of each callback, and says there why it is refused', async () => {
    const payment_no = `P-traces-${gateway}`;
    await world.payment({ payment_no, payment_method: gateway, status: 0 });
    const good = await world.callback({ gateway, outTradeNo: payment_no });
    const bad = await world.callback({ gateway, outTradeNo: payment_no, alter: 'signature' });
    await app.faults({ drop: 'before', times: 'always' });
    await world.bring(good);
    await app.faults();
    await world.bring(good);
    await world.bring(bad);

    const event = gateway === 'wechat' ? 'TRANSACTION.SUCCESS' : 'trade_status_sync.TRADE_SUCCESS';
    const common = { gateway, operation: 'callback', attempt: null, ...duration };
    const line = {
      event: 'gateway_callback',
      request_id: expect.stringMatching(/^[\w-]{36}$/),
      ...common,
    };
    const [taken, refused] = gateway === 'wechat' ? [204, 401] : [200, 400];
    const error = expect.objectContaining({ name: expect.any(String) });
    expect(linesOf('gateway_callback')).toEqual([
      { ...line, level: 'warn', outcome: 'fault', code: event, http_status: 503, error },
      { ...line, level: 'info', outcome: 'paid', code: event, http_status: taken },
      { ...line, level: 'warn', outcome: 'signature', code: null, http_status: refused },
    ]);
    expect(pointsOf(`${gateway} callback`)).toEqual([
      { ...common, outcome: 'fault', code: event, http_status: 503, attempt: 0 },
      { ...common, outcome: 'paid', code: event, http_status: taken, attempt: 0 },
      { ...common, outcome: 'signature', code: '', http_status: refused, attempt: 0 },
    ]);
    const body = Uint8Array.fromBase64(good.bodyBase64);
    expectNothingSecret(
      good.headers['Wechatpay-Signature'] ?? 'sign=',
      body.toHex().slice(0, 60),
      good.bodyBase64.slice(0, 60),
      payment_no,
    );
  });

  test('is no matter for the dataset: where writing to it fails, the refund goes on', async () => {
    app.env.GATEWAY_METRICS = {
      writeDataPoint() {
        throw new TypeError('too many blobs');
      },
    };
    const refund = await world.start(gateway);
    await app.idle();
    expect((await refund.look()).gateway?.state).toMatch(/^(accepted|succeeded)$/);
    const told = await world.callback({ gateway: 'wechat', kind: 'echo' });
    expect((await world.bring(told)).status).toBe(204);
    expect(linesOf('metrics_not_written').length).toBeGreaterThan(0);
  });
});

test('a card that completes an abnormal refund is in no line and no point', async () => {
  await world.faults({ operation: 'refund', outcome: 'ABNORMAL' });
  const refund = await world.start();
  await app.idle();
  const body = {
    type: 'USER_BANK_CARD',
    bank_type: 'ICBC_DEBIT',
    bank_account: '6222020044001234567',
    real_name: '王小明',
  };
  await app.call('POST', `${refund.path}/abnormal`, z.unknown(), { body });
  expect(linesOf('gateway_call').at(-1)).toMatchObject({
    operation: 'abnormal',
    outcome: 'accepted',
  });
  expect(pointsOf('wechat abnormal')).toMatchObject([{ outcome: 'accepted', http_status: 200 }]);
  expectNothingSecret('ICBC_DEBIT');
});

test('a point has these columns, in this order for as long as there are points', () => {
  expect(GATEWAY_BLOBS).toEqual(['gateway', 'operation', 'outcome', 'code']);
  expect(GATEWAY_DOUBLES).toEqual(['http_status', 'duration_ms', 'attempt']);
});
