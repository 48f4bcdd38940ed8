/**
 * The rules of the outbox, in the database alone: every move of a refund at its gateway, whoever brings the news,
 * and when a refund may be claimed, swept and purged. The clock of the functions stands still until a test moves it.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { News } from '../../src/gateways/gateway';
import { insertPayment, startApp } from '../harness';

const app = await startApp();
await app.sql`CREATE TABLE test_clock AS SELECT timestamptz '2026-12-01 00:00:00Z' AS now`;
await app.sql`
  CREATE OR REPLACE FUNCTION gateway_clock() RETURNS timestamptz LANGUAGE sql VOLATILE
  RETURN (SELECT now FROM test_clock)`;

beforeEach(async () => {
  await app.sql`UPDATE test_clock SET now = '2026-12-01 00:00:00Z'`;
  await app.sql`DELETE FROM gateway_health`;
});

const pass = (seconds: number) =>
  app.sql`UPDATE test_clock SET now = now + ${seconds}::float8 * interval '1 second'`;

const RULES = {
  wechat: { account: '1900000001', gap: 60, proof: 60 },
  alipay: { account: '2021/2088', gap: 3, proof: 60 },
};
const ACCOUNTS: Record<string, string> = {
  wechat: RULES.wechat.account,
  alipay: RULES.alipay.account,
};

const HOUR = 3_600;
const DAY = 24 * HOUR;

/** What a refund can be in: `abnormal` is blocked and only asked about, `blocked` waits to be sent again. */
const STATES = {
  queued: { state: 'queued' },
  sending: { state: 'sending' },
  accepted: { state: 'accepted' },
  unknown: { state: 'unknown' },
  refused: { state: 'refused', last_error_code: 'TRADE_NOT_EXIST' },
  blocked: { state: 'blocked', attention: 'NOT_ENOUGH' },
  abnormal: { state: 'blocked', attention: 'ABNORMAL', ask_only: true },
  succeeded: { state: 'succeeded' },
  failed: { state: 'failed' },
} as const;
type StateName = keyof typeof STATES;
const NAMES = [
  'queued',
  'sending',
  'accepted',
  'unknown',
  'refused',
  'blocked',
  'abnormal',
  'succeeded',
  'failed',
] as const;

interface Wish {
  state: string;
  gateway: string;
  account: string | null;
  attention: string | null;
  ask_only: boolean;
  last_error_code: string | null;
  attempts: number;
  resent: boolean;
  /** Seconds before now; null: never sent. */
  sentAgo: number | null;
  /** How long the send took; null: its end is not known. */
  took: number | null;
  /** From now, in seconds. */
  dueIn: number;
  createdAgo: number;
  attentionAgo: number;
}

let refunds = 0;
const Ids = z.tuple([z.object({ id: z.string() })]);

/** Puts a refund into a state. By default it was sent twice, the last time five minutes ago. */
async function put(wish: Partial<Wish> = {}, paymentId?: string) {
  const made: Wish = {
    state: 'queued',
    gateway: 'wechat',
    account: ACCOUNTS[wish.gateway ?? 'wechat'] ?? null,
    attention: null,
    ask_only: false,
    last_error_code: null,
    attempts: 2,
    resent: false,
    sentAgo: 300,
    took: wish.state === 'sending' ? null : 1,
    dueIn: 0,
    createdAgo: 600,
    attentionAgo: 300,
    ...wish,
  };
  const payment = paymentId ?? (await insertPayment(app.sql, { payment_method: made.gateway }));
  refunds += 1;
  const no = `R${refunds}`;
  const status = { succeeded: 1, failed: 2 }[made.state] ?? 0;
  const [{ id }] = Ids.parse(
    await app.sql`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, reason, status)
    VALUES (${payment}, ${no}, 1.00, '拍错了', ${status}) RETURNING id`,
  );
  await app.sql`
    INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no, state, account, attempts, next_attempt_at, sent_at,
      send_ended_at, last_error_code, ask_only, resent, attention, attention_at, created_at)
    SELECT ${id}, ${made.gateway}, ${no}, ${made.state}, ${made.account}, ${made.attempts},
      CASE WHEN ${status === 0}::boolean THEN now + ${made.dueIn}::float8 * interval '1 second' END,
      now - ${made.sentAgo}::float8 * interval '1 second',
      now - ${made.sentAgo === null || made.took === null ? null : made.sentAgo - made.took}::float8 * interval '1 second',
      ${made.last_error_code}, ${made.ask_only}, ${made.resent}, ${made.attention}::varchar,
      CASE WHEN ${made.attention}::varchar IS NOT NULL THEN now - ${made.attentionAgo}::float8 * interval '1 second' END,
      now - ${made.createdAgo}::float8 * interval '1 second'
    FROM test_clock`;
  return { id, no, payment };
}

const Row = z.object({
  state: z.string(),
  status: z.number(),
  attention: z.string().nullable(),
  ask_only: z.boolean(),
  resent: z.boolean(),
  attempts: z.number(),
  account: z.string().nullable(),
  gateway_refund_no: z.string().nullable(),
  last_error_code: z.string().nullable(),
  last_error: z.string().nullable(),
  /** From now, in seconds. */
  due: z.number().nullable(),
});

async function look({ id }: { id: string }): Promise<z.infer<typeof Row>> {
  const rows = await app.sql`
    SELECT gateway_refunds.state, status, attention, ask_only, resent, attempts, account, gateway_refund_no,
      last_error_code, last_error, extract(epoch FROM next_attempt_at - now)::float8 AS due
    FROM gateway_refunds JOIN payment_refunds ON payment_refunds.id = refund_id, test_clock WHERE refund_id = ${id}`;
  return Row.parse(rows[0]);
}

const events = ({ id }: { id: string }) =>
  app.sql`SELECT actor, from_status, to_status, cause FROM payment_refund_events WHERE refund_id = ${id} ORDER BY id`;

const CAUSES = ['answer', 'older answer', 'query', 'callback'] as const;
type Cause = (typeof CAUSES)[number];

interface Heard {
  news: News;
  httpStatus?: number;
}

/** Brings news about a refund that was sent twice; `older answer` is the answer to the first send. */
async function hear(
  { id, no }: { id: string; no: string },
  cause: Cause,
  { news, httpStatus }: Heard,
) {
  if (cause === 'callback') {
    await app.sql`
      SELECT settle_gateway_refund(${id}::bigint, ${JSON.stringify(news)}::jsonb, '说明', 'callback', NULL, NULL, NULL,
        ${JSON.stringify(RULES.wechat)}::jsonb, 'request')`;
    return;
  }
  const call = {
    operation: cause === 'query' ? 'query' : 'send',
    attempt: cause === 'older answer' ? 1 : 2,
    began: 1000,
    ended: 1000,
    httpStatus: httpStatus ?? 200,
    gatewayRequestId: 'GW-1',
  };
  await app.sql`
    SELECT record_gateway_answer(${no}, ${JSON.stringify(call)}::jsonb, ${JSON.stringify(news)}::jsonb, '说明',
      ${JSON.stringify(RULES)}::jsonb, 'request', false, '5s')`;
}

const SUCCEEDED: News = { kind: 'succeeded', gatewayRefundNo: '50300', at: '2026-11-30T23:00:00Z' };
const ACCEPTED: News = { kind: 'accepted', gatewayRefundNo: '50300' };
const CLOSED: News = { kind: 'closed', gatewayRefundNo: '50300', code: 'CLOSED' };
const ABNORMAL: News = { kind: 'abnormal', gatewayRefundNo: '50300', code: 'ABNORMAL' };
const REFUSED: News = { kind: 'refused', code: 'TRADE_NOT_EXIST' };
const PARAM: News = { kind: 'blocked', code: 'PARAM_ERROR', where: 'refund' };
const KEYS: News = { kind: 'blocked', code: 'SIGN_ERROR', where: 'gateway' };
const LATER: News = { kind: 'later', code: 'REFUND_CHARGE_ERROR' };
const MISSING: News = { kind: 'missing', code: 'RESOURCE_NOT_EXISTS' };
const UNKNOWN: News = { kind: 'unknown', code: 'SYSTEM_ERROR' };
const INVALID: News = { kind: 'refused', code: 'INVALID_REQUEST' };

/** A state, and what is pointed out to a person; `asks`: it is never sent again, only asked about. */
type Outcomes = Record<StateName, string>;

const UNTOUCHED: Outcomes = {
  queued: 'queued',
  sending: 'sending',
  accepted: 'accepted',
  unknown: 'unknown',
  refused: 'refused',
  blocked: 'blocked NOT_ENOUGH',
  abnormal: 'blocked asks ABNORMAL',
  succeeded: 'succeeded',
  failed: 'failed',
};
const open = (outcome: string, succeeded: string, failed: string): Outcomes => ({
  queued: outcome,
  sending: outcome,
  accepted: outcome,
  unknown: outcome,
  refused: outcome,
  blocked: outcome,
  abnormal: outcome,
  succeeded,
  failed,
});

/** What becomes of a refund by news of `kind`: for each cause, from each state. */
const MOVES: [kind: string, heard: Heard & { sentAgo?: number }, Record<Cause, Outcomes>][] = [
  [
    'succeeded',
    { news: SUCCEEDED },
    every(open('succeeded', 'succeeded', 'failed PAID_AFTER_FAILED')),
  ],
  ['closed', { news: CLOSED }, every(open('failed', 'succeeded CONTRADICTION', 'failed'))],
  // The gateway is at work on what was given up.
  [
    'accepted',
    { news: ACCEPTED },
    every(open('accepted', 'succeeded', 'failed PAID_AFTER_FAILED')),
  ],
  [
    'abnormal',
    { news: ABNORMAL },
    every(open('blocked asks ABNORMAL', 'succeeded CONTRADICTION', 'failed PAID_AFTER_FAILED')),
  ],
  ['refused', { news: REFUSED }, said({ sending: 'refused' }, {})],
  [
    'blocked, this refund',
    { news: PARAM },
    said(
      { sending: 'blocked PARAM_ERROR' },
      {
        accepted: 'blocked asks PARAM_ERROR',
        unknown: 'blocked asks PARAM_ERROR',
        refused: 'blocked asks PARAM_ERROR',
      },
    ),
  ],
  ['blocked, the gateway', { news: KEYS }, said({ sending: 'blocked SIGN_ERROR' }, {})],
  ['later', { news: LATER }, said({ sending: 'queued' }, {})],
  [
    'missing, too early',
    { news: MISSING, sentAgo: 30 },
    said({}, { accepted: 'accepted MISSING' }),
  ],
  [
    'missing, proven',
    { news: MISSING },
    {
      ...said(
        {},
        {
          accepted: 'accepted MISSING',
          unknown: 'queued',
          refused: 'failed',
        },
      ),
      // Nobody knows when it looked.
      callback: { ...UNTOUCHED, accepted: 'accepted MISSING' },
    },
  ],
  ['unknown', { news: UNKNOWN, httpStatus: 500 }, said({ sending: 'unknown' }, {})],
  ['unknown by 429', { news: UNKNOWN, httpStatus: 429 }, said({ sending: 'unknown' }, {})],
];

/** The same whoever brings it: it is a last word, or shows that the gateway has the refund. */
function every(outcomes: Outcomes): Record<Cause, Outcomes> {
  return { answer: outcomes, 'older answer': outcomes, query: outcomes, callback: outcomes };
}

/** Of what is no last word, the answer to an older send never counts. */
function said(answer: Partial<Outcomes>, asked: Partial<Outcomes>): Record<Cause, Outcomes> {
  return {
    answer: { ...UNTOUCHED, ...answer },
    'older answer': UNTOUCHED,
    query: { ...UNTOUCHED, ...asked },
    callback: { ...UNTOUCHED, ...asked },
  };
}

describe.each(MOVES)('%s', (_, { sentAgo = 300, ...heard }, expected) => {
  test.each(CAUSES)('by %s', async (cause) => {
    const became = await Promise.all(
      NAMES.map(async (name) => {
        const refund = await put({ ...STATES[name], sentAgo });
        await hear(refund, cause, heard);
        const { state, status, attention, ask_only } = await look(refund);
        // succeeded is 1, failed is 2, everything else 0.
        expect([name, state, status]).toEqual([
          name,
          state,
          { succeeded: 1, failed: 2 }[state] ?? 0,
        ]);

        const moved = state !== STATES[name].state && status !== 0;
        const written = {
          actor: 'wechat',
          from_status: 0,
          to_status: status,
          cause: cause.split(' ').at(-1),
        };
        expect([name, await events(refund)]).toEqual([name, moved ? [written] : []]);
        const outcome = [state, ask_only && state === 'blocked' ? 'asks' : '', attention ?? ''];
        return [name, outcome.filter(Boolean).join(' ')];
      }),
    );
    expect(Object.fromEntries(became)).toEqual(expected[cause]);
  });
});

describe('news', () => {
  test('that end a refund are written once, with the gateway’s number and the time', async () => {
    const refund = await put({ state: 'sending', sentAgo: 1 });
    await hear(refund, 'callback', { news: SUCCEEDED });
    await hear(refund, 'answer', { news: SUCCEEDED });
    await hear(refund, 'query', { news: SUCCEEDED });
    expect(await events(refund)).toHaveLength(1);
    expect(await look(refund)).toMatchObject({ gateway_refund_no: '50300', due: null });
    const rows = await app.sql`
      SELECT rfc3339(succeeded_at) AS at FROM gateway_refunds WHERE refund_id = ${refund.id}`;
    expect(rows).toEqual([{ at: '2026-11-30T23:00:00.000Z' }]);
  });

  test('of a whole refund make the payment 已退款', async () => {
    const payment = await insertPayment(app.sql, { amount: '1.00', payment_method: 'wechat' });
    await hear(await put({ state: 'accepted' }, payment), 'query', { news: SUCCEEDED });
    expect(await app.sql`SELECT status FROM payments WHERE id = ${payment}`).toEqual([
      { status: 3 },
    ]);
  });

  test('of a sender whose lease ran out do not undo a later send', async () => {
    const refund = await put({ state: 'sending', sentAgo: 1 });
    for (const news of [REFUSED, PARAM, LATER, UNKNOWN])
      await hear(refund, 'older answer', { news });
    expect(await look(refund)).toMatchObject({ state: 'sending', last_error_code: null, due: 0 });
    const rows =
      await app.sql`SELECT send_ended_at FROM gateway_refunds WHERE refund_id = ${refund.id}`;
    expect(rows).toEqual([{ send_ended_at: null }]);
  });

  test('by calls are all on record, without a text', async () => {
    const refund = await put({ state: 'sending', sentAgo: 1 });
    await hear(refund, 'answer', { news: UNKNOWN, httpStatus: 500 });
    await hear(refund, 'query', { news: SUCCEEDED });
    const rows = await app.sql`
      SELECT operation, attempt, http_status, outcome, code, gateway_request_id FROM gateway_requests
      WHERE refund_id = ${refund.id} ORDER BY id`;
    const common = { attempt: 2, gateway_request_id: 'GW-1' };
    expect(rows).toEqual([
      { ...common, operation: 'send', http_status: 500, outcome: 'unknown', code: 'SYSTEM_ERROR' },
      { ...common, operation: 'query', http_status: 200, outcome: 'succeeded', code: null },
    ]);
  });

  test('keep the explanation of the last code, until the refund is accepted', async () => {
    const refund = await put({ state: 'sending', sentAgo: 1 });
    await hear(refund, 'answer', { news: UNKNOWN });
    expect(await look(refund)).toMatchObject({
      last_error_code: 'SYSTEM_ERROR',
      last_error: '说明',
    });
    await hear(refund, 'query', { news: ACCEPTED });
    expect(await look(refund)).toMatchObject({ last_error_code: null, last_error: null });
  });

  test('about a refund that there is not are nobody’s', async () => {
    const rows = await app.sql`
      SELECT record_gateway_answer('NONE', '{"operation":"query","began":0,"ended":0}', '{"kind":"missing"}', NULL, '{}', 'r', false, '5s') AS value`;
    expect(rows).toEqual([{ value: null }]);
  });

  test('contradicting an end are taken back by a query that agrees with it', async () => {
    const paid = await put({ state: 'succeeded' });
    await hear(paid, 'callback', { news: CLOSED });
    await hear(paid, 'callback', { news: SUCCEEDED });
    expect(await look(paid)).toMatchObject({ attention: 'CONTRADICTION' });
    await hear(paid, 'query', { news: SUCCEEDED });
    expect(await look(paid)).toMatchObject({ attention: null });

    const failed = await put({ state: 'failed' });
    await hear(failed, 'callback', { news: SUCCEEDED });
    await hear(failed, 'callback', { news: CLOSED });
    expect(await look(failed)).toMatchObject({ attention: 'PAID_AFTER_FAILED' });
    await hear(failed, 'query', { news: CLOSED });
    expect(await look(failed)).toMatchObject({ attention: null });
  });

  test('that it is at work, late, are no contradiction where the gateway had closed the refund', async () => {
    const closed = await put({ state: 'failed', last_error_code: 'CLOSED' });
    await hear(closed, 'older answer', { news: ACCEPTED });
    expect(await look(closed)).toMatchObject({ attention: null });
    await hear(closed, 'query', { news: ACCEPTED });
    expect(await look(closed)).toMatchObject({ attention: 'PAID_AFTER_FAILED' });
  });

  test('that contradict an end are measured by the corrected status', async () => {
    const refund = await put({ state: 'failed' });
    await hear(refund, 'callback', { news: SUCCEEDED });
    await app.sql.transaction([
      app.sql`
        INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id, reason)
        VALUES (${refund.id}, 'tester', 2, 1, 'request', '已到账')`,
      app.sql`UPDATE payment_refunds SET status = 1 WHERE id = ${refund.id}`,
    ]);
    expect(await look(refund)).toMatchObject({ status: 1, attention: null });
    await hear(refund, 'callback', { news: SUCCEEDED });
    expect(await look(refund)).toMatchObject({ status: 1, attention: null });
  });

  test('that are unknown do not hide the code of a refusal', async () => {
    const refund = await put({ state: 'refused', last_error_code: 'INVALID_REQUEST' });
    await hear(refund, 'query', { news: UNKNOWN });
    await hear(refund, 'query', { news: MISSING });
    expect(await look(refund)).toMatchObject({ state: 'queued', resent: true });
  });

  test('of a query from before the last send prove nothing', async () => {
    const refund = await put({ ...STATES.refused });
    const call = { operation: 'query', attempt: 1, began: 0, ended: 0, httpStatus: 404 };
    await app.sql`
      SELECT record_gateway_answer(${refund.no}, ${JSON.stringify(call)}::jsonb, ${JSON.stringify(MISSING)}::jsonb, '说明',
        ${JSON.stringify(RULES)}::jsonb, 'request', false, '5s')`;
    expect(await look(refund)).toMatchObject({ state: 'refused', status: 0 });
  });

  test('that stay unknown for an hour are pointed out, and at once where they never pass', async () => {
    const refund = await put({ state: 'unknown', createdAgo: 3_500 });
    await hear(refund, 'query', { news: UNKNOWN });
    expect(await look(refund)).toMatchObject({ attention: null });
    await pass(200);
    await hear(refund, 'query', { news: UNKNOWN });
    expect(await look(refund)).toMatchObject({ attention: 'UNKNOWN' });
    for (const code of ['MISMATCH', 'UNKNOWN_SERIAL']) {
      const young = await put({ state: 'unknown' });
      await hear(young, 'query', { news: { kind: 'unknown', code } });
      expect(await look(young)).toMatchObject({ attention: code });
    }
  });

  test('that are refused of a try to complete an abnormal refund leave it abnormal', async () => {
    const refund = await put({ ...STATES.abnormal });
    const call = { operation: 'abnormal', attempt: 2, began: 0, ended: 0, httpStatus: 400 };
    for (const news of [INVALID, PARAM, KEYS, LATER, UNKNOWN]) {
      await app.sql`
        SELECT record_gateway_answer(${refund.no}, ${JSON.stringify(call)}::jsonb, ${JSON.stringify(news)}::jsonb, '说明',
          ${JSON.stringify(RULES)}::jsonb, 'request', false, '5s')`;
      expect(await look(refund)).toMatchObject({
        state: 'blocked',
        ask_only: true,
        attention: 'ABNORMAL',
      });
    }
    expect(await app.sql`SELECT * FROM gateway_health`).toEqual([]);
  });
});

describe('what follows is due', () => {
  test.each<[string, Partial<Wish>, Cause, Heard, number]>([
    ['60 s after a refusal', { state: 'sending', sentAgo: 1 }, 'answer', { news: REFUSED }, 60],
    ['a minute after "later"', { state: 'sending', sentAgo: 1 }, 'answer', { news: LATER }, 60],
    [
      'a minute after 429',
      { state: 'sending', sentAgo: 1 },
      'answer',
      { news: UNKNOWN, httpStatus: 429 },
      60,
    ],
    [
      '15 s after an unknown outcome',
      { state: 'sending', sentAgo: 1 },
      'answer',
      { news: UNKNOWN },
      15,
    ],
    [
      'later the longer it is unknown',
      { state: 'unknown', sentAgo: 600 },
      'query',
      { news: UNKNOWN },
      300,
    ],
    [
      'an hour at most while it is unknown',
      { state: 'unknown', sentAgo: DAY },
      'query',
      { news: UNKNOWN },
      HOUR,
    ],
    [
      'later after each send where an unknown one is proven missing',
      { state: 'unknown', sentAgo: 300 },
      'query',
      { news: MISSING },
      30,
    ],
    [
      '60 s after the send where "missing" is too early',
      { state: 'unknown', sentAgo: 31, took: 1 },
      'query',
      { news: MISSING },
      30,
    ],
    [
      'an hour after it was accepted',
      { state: 'sending', sentAgo: 1 },
      'answer',
      { news: ACCEPTED },
      HOUR,
    ],
    [
      'later the longer it is accepted',
      { state: 'accepted', sentAgo: 2 * HOUR },
      'query',
      { news: ACCEPTED },
      2 * HOUR,
    ],
    [
      'a day at most while it is accepted',
      { state: 'accepted', sentAgo: 9 * DAY },
      'query',
      { news: ACCEPTED },
      DAY,
    ],
    [
      'an hour after it was blocked',
      { state: 'sending', sentAgo: 1 },
      'answer',
      { news: PARAM },
      HOUR,
    ],
    [
      'a day after it was blocked for a day',
      { ...STATES.blocked, state: 'sending', sentAgo: 1, attentionAgo: DAY },
      'answer',
      { news: PARAM },
      DAY,
    ],
    ['an hour after it was abnormal', { state: 'accepted' }, 'query', { news: ABNORMAL }, HOUR],
    [
      'a day after it was abnormal for a day',
      { ...STATES.abnormal, attentionAgo: DAY },
      'query',
      { news: ABNORMAL },
      DAY,
    ],
  ])('%s', async (_, wish, cause, heard, due) => {
    const refund = await put(wish);
    await hear(refund, cause, heard);
    expect((await look(refund)).due).toBe(due);
  });

  test('of INVALID_REQUEST one more send, 90 s after the first, and then it has failed', async () => {
    const refund = await put({
      state: 'refused',
      last_error_code: 'INVALID_REQUEST',
      sentAgo: 71,
      took: 1,
    });
    await hear(refund, 'query', { news: MISSING });
    expect(await look(refund)).toMatchObject({ state: 'queued', resent: true, due: 20 });
    const again = await put({ state: 'refused', last_error_code: 'INVALID_REQUEST', resent: true });
    await hear(again, 'query', { news: MISSING });
    expect(await look(again)).toMatchObject({ state: 'failed', status: 2 });
  });
});

const Claimed = z.tuple([
  z.object({
    value: z
      .looseObject({
        operation: z.string(),
        attempt: z.number().optional(),
        decisive: z.boolean().optional(),
        due_at: z.number().nullish(),
      })
      .nullable(),
  }),
]);

async function claim({ no }: { no: string }, ask = false, rules: object = RULES) {
  const [{ value }] = Claimed.parse(
    await app.sql`SELECT claim_gateway_refund(${no}, ${JSON.stringify(rules)}::jsonb, ${ask}, false, '5s') AS value`,
  );
  return value;
}

/** A refund that has just been asked for. */
const fresh = { state: 'queued', attempts: 0, sentAgo: null, account: null };

describe('a claim', () => {
  test('gives one sender a lease of two minutes, and then the gateway is asked', async () => {
    const refund = await put(fresh);
    const claims = await Promise.all(Array.from({ length: 10 }, () => claim(refund)));
    const won = claims.filter((one) => one?.operation === 'send');
    expect(won).toMatchObject([{ attempt: 1, gateway: 'wechat', decisive: false }]);
    expect(await look(refund)).toMatchObject({
      state: 'sending',
      attempts: 1,
      account: ACCOUNTS.wechat,
      due: 120,
    });

    await pass(119);
    expect(await claim(refund)).toMatchObject({ operation: 'wait' });
    await pass(12);
    expect(await claim(refund)).toMatchObject({ operation: 'query', attempt: 1 });
    expect(await look(refund)).toMatchObject({ state: 'unknown', attempts: 1 });
  });

  test.each([
    ['queued', {}, 'send'],
    ['blocked', {}, 'send'],
    ['abnormal', {}, 'query'],
    ['accepted', {}, 'query'],
    ['unknown', {}, 'query'],
    ['refused', {}, 'query'],
    ['sending', {}, 'query'],
    ['succeeded', {}, 'none'],
    ['failed', {}, 'none'],
  ] as const)('of one that is %s and due', async (name, wish, operation) => {
    const refund = await put({ ...STATES[name], ...wish });
    expect(await claim(refund)).toMatchObject({ operation });
  });

  test('of a refund that is settled by hand, or is none, is for nothing', async () => {
    const payment = await insertPayment(app.sql, { payment_method: 'wechat' });
    await app.sql`INSERT INTO payment_refunds (payment_id, refund_no, amount) VALUES (${payment}, 'BY-HAND', 1)`;
    expect(await claim({ no: 'BY-HAND' })).toEqual({ operation: 'none' });
    expect(await claim({ no: 'NONE' })).toBeNull();
  });

  test.each([
    ['wechat', 60],
    ['alipay', 3],
  ])('for %s leaves %i s after the end of the payment’s last send', async (gateway, gap) => {
    const before = await put({ state: 'accepted', gateway, sentAgo: 8, took: 8 });
    const refund = await put({ ...fresh, gateway }, before.payment);
    expect(await claim(refund)).toMatchObject({ operation: 'wait' });
    expect((await look(refund)).due).toBe(gap);
    await pass(gap);
    expect(await claim(refund)).toMatchObject({ operation: 'send' });
  });

  test('counts a send whose end nobody knows until its lease is over', async () => {
    const before = await put({ state: 'sending', sentAgo: 10, dueIn: 110 });
    const refund = await put(fresh, before.payment);
    expect(await claim(refund)).toMatchObject({ operation: 'wait' });
    expect((await look(refund)).due).toBe(110 + 60);
    // Another payment's refund need not wait.
    expect(await claim(await put(fresh))).toMatchObject({ operation: 'send' });
  });

  test('asks no sooner than ten seconds after the send was over', async () => {
    const refund = await put({ state: 'unknown', sentAgo: 5, took: 1 });
    expect(await claim(refund)).toMatchObject({ operation: 'wait' });
    expect((await look(refund)).due).toBe(6);
  });

  test('decides about a refused refund only where no other refund could be what shows', async () => {
    const alone = await put({ state: 'refused' });
    expect(await claim(alone)).toMatchObject({ operation: 'query', decisive: true });
    const beside = await put({ state: 'refused' });
    await put({ state: 'failed' }, beside.payment);
    expect(await claim(beside)).toMatchObject({ decisive: true });
    const one = await put({ state: 'refused' });
    await put({ state: 'succeeded' }, one.payment);
    expect(await claim(one)).toMatchObject({ decisive: false });
    expect(await claim(await put({ state: 'unknown' }))).toMatchObject({ decisive: false });
  });

  test.each([
    [
      'another account is configured',
      'ACCOUNT_CHANGED',
      { wechat: { ...RULES.wechat, account: '1900000002' } },
    ],
    ['its gateway is not configured', 'NOT_CONFIGURED', { alipay: RULES.alipay }],
  ])('is for nothing while %s, and says so until it is back', async (_, attention, rules) => {
    for (const name of ['queued', 'unknown', 'accepted', 'blocked'] as const) {
      const refund = await put({ ...STATES[name], attention: null });
      for (const ask of [false, true]) {
        expect(await claim(refund, ask, rules)).toMatchObject({ operation: 'wait' });
      }
      expect(await look(refund)).toMatchObject({
        state: STATES[name].state,
        attention,
        due: HOUR,
        attempts: 2,
      });
      await pass(HOUR);
      expect((await claim(refund))?.operation).toMatch(/^(send|query)$/);
      expect(await look(refund)).toMatchObject({ attention: null });
    }
  });

  test('that finds no keys does not hide why a person has to look at a refund', async () => {
    const refunds = [
      await put({ state: 'failed', attention: 'PAID_AFTER_FAILED' }),
      await put({ state: 'succeeded', attention: 'CONTRADICTION' }),
      await put(STATES.abnormal),
    ];
    for (const refund of refunds) {
      const { attention } = await look(refund);
      await claim(refund, true, {});
      expect(await look(refund)).toMatchObject({ attention });
      // Nor does asking hide it, before there is an answer.
      await claim(refund, true);
      expect(await look(refund)).toMatchObject({ attention });
    }
  });

  test('of what was never sent has no account yet, so a new one sends it', async () => {
    const refund = await put(fresh);
    const account = '1900000002';
    expect(await claim(refund, false, { wechat: { ...RULES.wechat, account } })).toMatchObject({
      operation: 'send',
    });
    expect(await look(refund)).toMatchObject({ account });
  });

  test('hands out one message for a moment, not two', async () => {
    const refund = await put({ ...fresh, dueIn: 30 });
    expect((await claim(refund))?.due_at).toEqual(expect.any(Number));
    expect((await claim(refund))?.due_at).toBeNull();
  });
});

describe('somebody who wants to know', () => {
  test('has the gateway asked though nothing is due, but not twice in ten seconds', async () => {
    const refund = await put({ state: 'accepted', dueIn: HOUR });
    expect(await claim(refund, true)).toMatchObject({ operation: 'query' });
    expect(await claim(refund, true)).toMatchObject({ operation: 'wait' });
    await pass(10);
    expect(await claim(refund, true)).toMatchObject({ operation: 'query' });
    expect(await look(refund)).toMatchObject({ due: HOUR - 10 });
  });

  test('never has anything sent', async () => {
    for (const name of ['queued', 'blocked'] as const) {
      expect(await claim(await put(STATES[name]), true)).toMatchObject({ operation: 'query' });
    }
    expect(await claim(await put(fresh), true)).toMatchObject({ operation: 'wait' });
  });

  test('waits while it is being sent, and ten seconds longer', async () => {
    expect(
      await claim(await put({ state: 'sending', sentAgo: 1, dueIn: 119 }), true),
    ).toMatchObject({ operation: 'wait' });
    expect(await claim(await put({ state: 'unknown', sentAgo: 9, took: 1 }), true)).toMatchObject({
      operation: 'wait',
    });
  });

  test('has an ended refund asked about only if something contradicts its end', async () => {
    expect(await claim(await put({ state: 'failed' }), true)).toEqual({ operation: 'none' });
    const refund = await put({ state: 'failed', attention: 'PAID_AFTER_FAILED' });
    expect(await claim(refund, false)).toEqual({ operation: 'none' });
    expect(await claim(refund, true)).toMatchObject({ operation: 'query' });
    expect(await look(refund)).toMatchObject({ state: 'failed', due: null });
  });
});

const Health = z.array(
  z.object({ code: z.string().nullable(), paused: z.number().nullable(), refusals: z.number() }),
);
const health = async (gateway = 'wechat') =>
  Health.parse(
    await app.sql`
      SELECT code, extract(epoch FROM paused_until - now)::float8 AS paused, refusals
      FROM gateway_health, test_clock WHERE gateway = ${gateway}`,
  );

describe('a gateway that refuses every refund', () => {
  test('is paused for ten minutes, and then tried once a minute until one works', async () => {
    await hear(await put({ state: 'sending', sentAgo: 1 }), 'answer', { news: KEYS });
    expect(await health()).toMatchObject([{ code: 'SIGN_ERROR', paused: 600 }]);

    const [one, other] = [await put(fresh), await put(STATES.accepted)];
    for (const refund of [one, other]) {
      expect(await claim(refund)).toMatchObject({ operation: 'wait' });
      // Within five minutes after the pause, so that not all come at once.
      const { due } = await look(refund);
      expect(due).toBeGreaterThanOrEqual(600);
      expect(due).toBeLessThan(900);
    }
    expect(await claim(await put({ ...fresh, gateway: 'alipay' }))).toMatchObject({
      operation: 'send',
    });

    await pass(900);
    expect(await claim(one)).toMatchObject({ operation: 'send' });
    expect(await claim(other)).toMatchObject({ operation: 'wait' });
    expect((await look(other)).due).toBeGreaterThanOrEqual(60);
    await pass(360);
    expect(await claim(other)).toMatchObject({ operation: 'query' });
    await hear(other, 'query', { news: ACCEPTED });
    expect(await health()).toEqual([{ code: null, paused: null, refusals: 0 }]);
    expect(await claim(await put(fresh))).toMatchObject({ operation: 'send' });
  });

  test('is not taken for well by a callback, or by an answer that proves nothing', async () => {
    await hear(await put({ state: 'sending', sentAgo: 1 }), 'answer', { news: KEYS });
    await hear(await put(STATES.accepted), 'callback', { news: SUCCEEDED });
    await hear(await put(STATES.accepted), 'query', { news: UNKNOWN });
    expect(await health()).toMatchObject([{ paused: 600 }]);
  });

  test('with INVALID_REQUEST for five payments in a row is paused for an hour', async () => {
    const refuse = async (payment?: string) =>
      hear(await put({ state: 'sending', sentAgo: 1 }, payment), 'answer', { news: INVALID });
    for (let count = 0; count < 4; count += 1) await refuse();
    expect(await health()).toMatchObject([{ paused: null, refusals: 4 }]);
    await refuse();
    expect(await health()).toMatchObject([{ paused: HOUR, code: 'INVALID_REQUEST', refusals: 5 }]);
  });

  test('with INVALID_REQUEST fails no refund of those that this program may have got wrong', async () => {
    const hit = await put({ state: 'refused', last_error_code: 'INVALID_REQUEST', resent: true });
    await app.sql`INSERT INTO gateway_health (gateway, refusals) VALUES ('wechat', 5)`;
    await hear(hit, 'query', { news: MISSING });
    expect(await look(hit)).toMatchObject({ state: 'refused', attention: 'INVALID_REQUEST' });
    expect(await health()).toMatchObject([{ refusals: 5 }]);
    // When it is mended, somebody sends it again.
    await app.sql`SELECT retry_gateway_refund(${hit.id}, ${hit.payment}, '5s')`;
    expect(await claim(hit)).toMatchObject({ operation: 'send' });
  });

  test('with INVALID_REQUEST for one payment is not paused, since that is about the payment', async () => {
    const payment = await insertPayment(app.sql, { payment_method: 'wechat' });
    for (let count = 0; count < 6; count += 1) {
      await hear(await put({ state: 'sending', sentAgo: 1 }, payment), 'answer', { news: INVALID });
    }
    expect(await health()).toMatchObject([{ paused: null, refusals: 1 }]);
  });

  test('begins to count anew after a refund that worked, not after one that is missing', async () => {
    const refuse = async () =>
      hear(await put({ state: 'sending', sentAgo: 1 }), 'answer', { news: INVALID });
    await refuse();
    await hear(await put(STATES.unknown), 'query', { news: MISSING });
    expect(await health()).toMatchObject([{ refusals: 1 }]);
    await hear(await put({ state: 'sending', sentAgo: 1 }), 'answer', { news: ACCEPTED });
    expect(await health()).toMatchObject([{ refusals: 0 }]);
  });
});

const sweep = async () =>
  (await app.sql`SELECT sweep_gateway_refunds() ->> 'refund_no' AS no`).map(({ no }) => String(no));

describe('a sweep', () => {
  test('finds what is overdue by more than five minutes, and nothing that has ended', async () => {
    await app.sql`UPDATE gateway_refunds SET swept_at = '2026-12-01 00:00:00Z'`;
    const overdue = await put({ state: 'unknown', dueIn: -301 });
    for (const wish of [{ dueIn: -299 }, { dueIn: 60 }, STATES.succeeded, STATES.failed])
      await put(wish);
    expect(await sweep()).toEqual([overdue.no]);
  });

  test('takes a hundred at a time, and leaves them alone for ten minutes', async () => {
    await app.sql`UPDATE gateway_refunds SET swept_at = '2026-12-02 00:00:00Z'`;
    const made = await Promise.all(Array.from({ length: 130 }, () => put({ dueIn: -400 })));
    const first = await sweep();
    const second = await sweep();
    expect([first.length, second.length, (await sweep()).length]).toEqual([100, 30, 0]);
    expect(new Set([...first, ...second])).toEqual(new Set(made.map(({ no }) => no)));
    await pass(601);
    expect(await sweep()).toHaveLength(100);
  });

  test('points out what is open for 14 days, and fails nothing', async () => {
    const old = await put({ state: 'accepted', createdAgo: 14 * DAY + 1 });
    const blocked = await put({ ...STATES.blocked, createdAgo: 15 * DAY });
    const ended = await put({ state: 'succeeded', createdAgo: 15 * DAY });
    const younger = await put({ state: 'accepted', createdAgo: 14 * DAY - 1 });
    await sweep();
    expect(await look(old)).toMatchObject({ state: 'accepted', status: 0, attention: 'OLD' });
    expect(await look(blocked)).toMatchObject({ attention: 'NOT_ENOUGH' });
    expect(await look(ended)).toMatchObject({ attention: null });
    expect(await look(younger)).toMatchObject({ attention: null });
  });
});

test('the raw bodies of callbacks are removed after 30 days, and their hashes stay', async () => {
  await app.sql`
    INSERT INTO gateway_notifications (gateway, notification_key, event, signature, body, body_sha256, received_at)
    SELECT 'wechat', 'EV-' || age, 'X', '{"nonce":"n"}', 'body', 'hash', now - age * interval '1 day'
    FROM test_clock, generate_series(29, 32) AS age`;
  const [purged] = await app.sql`SELECT purge_gateway_notifications()::int AS count`;
  expect(purged).toEqual({ count: 2 });
  const rows = await app.sql`
    SELECT notification_key, body IS NULL AS purged, signature, body_sha256 FROM gateway_notifications ORDER BY id`;
  const kept = { purged: false, signature: { nonce: 'n' }, body_sha256: 'hash' };
  const gone = { purged: true, signature: {}, body_sha256: 'hash' };
  expect(rows).toEqual([
    { ...kept, notification_key: 'EV-29' },
    { ...kept, notification_key: 'EV-30' },
    { ...gone, notification_key: 'EV-31' },
    { ...gone, notification_key: 'EV-32' },
  ]);
});

describe('SQL of others', () => {
  const guarded = { code: '23514', constraint: 'payment_refunds_settled_by_gateway' };
  const OPEN = NAMES.filter((name) => name !== 'succeeded' && name !== 'failed');

  test.each(OPEN)('does not settle a refund that its gateway has: %s', async (name) => {
    const { id } = await put(STATES[name]);
    for (const status of [1, 2]) {
      const update = app.sql`UPDATE payment_refunds SET status = ${status} WHERE id = ${id}`;
      await expect(update).rejects.toMatchObject(guarded);
    }
  });

  test('settles a refund that no gateway has', async () => {
    const payment = await insertPayment(app.sql, { payment_method: 'wechat' });
    await app.sql`INSERT INTO payment_refunds (payment_id, refund_no, amount) VALUES (${payment}, 'BY-SQL', 1)`;
    await app.sql`UPDATE payment_refunds SET status = 2 WHERE refund_no = 'BY-SQL'`;
  });

  test('cannot make a refund wait for nothing, or an ended one for something', async () => {
    const [waits, ended] = [await put(STATES.accepted), await put(STATES.failed)];
    const check = { code: '23514', constraint: 'gateway_refunds_next_attempt_at_check' };
    await expect(
      app.sql`UPDATE gateway_refunds SET next_attempt_at = NULL WHERE refund_id = ${waits.id}`,
    ).rejects.toMatchObject(check);
    await expect(
      app.sql`UPDATE gateway_refunds SET next_attempt_at = now() WHERE refund_id = ${ended.id}`,
    ).rejects.toMatchObject(check);
  });
});
