/**
 * Refunds at both gateways against their books, in random sequences of refunds, replays and what people do. There
 * are faults at every point of the way. Callbacks are late, lost, doubled, forged or untrue. Messages are lost, and
 * the database fails. Always: no refund moves money twice or under two numbers, what is 失败 has moved none, and what
 * is 成功 has moved its amount once. When everything works again, both books agree, and a person is shown what is
 * still open.
 */
import { env as bindings } from 'cloudflare:workers';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { z } from 'zod';
import type { Fault as DatabaseFault } from '../../dev/neon-faults';
import { Attention } from '../../src/gateways/attention';
import { Posted, startWorld } from './world';

/**
 * How many sequences, about a second each, and with which one to begin. For more:
 * `MODEL_RUNS=1000 npx vitest run test/gateways/model.test.ts`.
 */
const { MODEL_RUNS: RUNS, MODEL_SEED: SEED } = z
  .object({ MODEL_RUNS: z.coerce.number(), MODEL_SEED: z.coerce.number().optional() })
  .parse(bindings);

const PAID_FEN = 10_000;
const HOUR = 3_600;
const DAY = 86_400;

const METHODS = ['wechat', 'alipay', 'wechat', 'alipay'] as const;
type Method = (typeof METHODS)[number];

const HTML = { body: '<html>Bad Gateway</html>' };
const SLOWLY = [0, 2_000, 2 * HOUR * 1_000, 20 * HOUR * 1_000];

/** What a request to a gateway meets (Fault in dev/gateways/contract.ts). */
type Wrong = Record<string, unknown>;

/** Whatever is asked. A verified "there is no such refund" about one that is there is none of them. */
const COMMON: Record<Method, Wrong[]> = {
  wechat: [
    ...[{ drop: 'before' }, { drop: 'after' }, { redirect: 'http://127.0.0.1:9/' }],
    ...[
      { status: 500, code: 'SYSTEM_ERROR' },
      { statusAfter: 500, code: 'SYSTEM_ERROR' },
    ],
    ...[
      { status: 429, code: 'FREQUENCY_LIMITED' },
      { statusAfter: 429, code: 'RATE_LIMITED' },
    ],
    ...[
      { status: 502, ...HTML },
      { statusAfter: 502, ...HTML },
      { statusAfter: 200, body: '' },
    ],
    ...[{ sign: 'none' }, { sign: 'altered' }, { sign: 'stale' }, { sign: 'unknown_serial' }],
    { status: 401, code: 'SIGN_ERROR' },
  ],
  alipay: [
    ...[{ drop: 'before' }, { drop: 'after' }, { redirect: 'http://127.0.0.1:9/' }],
    ...[
      { status: 200, code: 'ACQ.SYSTEM_ERROR' },
      { statusAfter: 200, code: 'ACQ.SYSTEM_ERROR' },
    ],
    ...[
      { status: 200, code: 'isp.unknow-error' },
      { statusAfter: 200, code: 'ACQ.NEVER_SEEN' },
    ],
    ...[
      { status: 502, ...HTML },
      { statusAfter: 502, ...HTML },
      { statusAfter: 200, body: '' },
    ],
    ...[{ sign: 'none' }, { sign: 'altered' }, { sign: 'unknown_serial' }],
    ...[{ status: 200, code: 'isv.invalid-signature' }],
    ...[{ status: 200, code: 'isv.app-call-limited' }],
  ],
};

/** Refusals, also by a gateway that has taken the refund before, and what becomes of a refund that it takes. */
const OF_REFUNDS: Record<Method, Wrong[]> = {
  wechat: [
    ...[
      { status: 400, code: 'INVALID_REQUEST' },
      { statusAfter: 400, code: 'INVALID_REQUEST' },
    ],
    { status: 404, code: 'RESOURCE_NOT_EXISTS' },
    { statusAfter: 404, code: 'RESOURCE_NOT_EXISTS' },
    { statusAfter: 403, code: 'USER_ACCOUNT_ABNORMAL' },
    ...[
      { status: 403, code: 'NOT_ENOUGH' },
      { status: 400, code: 'PARAM_ERROR' },
    ],
    ...SLOWLY.map((afterMs) => ({ outcome: 'SUCCESS', afterMs })),
    ...SLOWLY.map((afterMs) => ({ outcome: 'ABNORMAL', afterMs })),
    ...SLOWLY.map((afterMs) => ({ outcome: 'CLOSED', afterMs })),
  ],
  alipay: [
    { status: 200, code: 'ACQ.TRADE_NOT_EXIST' },
    { statusAfter: 200, code: 'ACQ.TRADE_NOT_EXIST' },
    { statusAfter: 200, code: 'ACQ.TRADE_HAS_FINISHED' },
    { status: 200, code: 'ACQ.SELLER_BALANCE_NOT_ENOUGH' },
    ...SLOWLY.map((afterMs) => ({ outcome: 'SUCCESS', afterMs })),
    ...SLOWLY.map((afterMs) => ({ outcome: 'ABNORMAL', afterMs })),
  ],
};

/** "There is no such refund" from somebody who does not prove that it is the gateway. */
const OF_QUERIES: Record<Method, Wrong[]> = {
  wechat: [
    { status: 404, code: 'RESOURCE_NOT_EXISTS', unsigned: true },
    { status: 404, ...HTML },
  ],
  alipay: [{ status: 200, code: 'ACQ.TRADE_NOT_EXIST', unsigned: true }],
};

const fault = fc.constantFrom<Method>('wechat', 'alipay').chain((gateway) => {
  const common = fc.constantFrom(...COMMON[gateway]);
  const of = (operation: string, wrong: fc.Arbitrary<Wrong>) =>
    wrong.map((one) => ({ gateway, operation, ...one }));
  return fc.oneof(
    { weight: 3, arbitrary: of('refund', common) },
    { weight: 4, arbitrary: of('refund', fc.constantFrom(...OF_REFUNDS[gateway])) },
    of('query', common),
    of('query', fc.constantFrom(...OF_QUERIES[gateway])),
    ...(gateway === 'wechat' ? [of('order', common), of('abnormal', common)] : []),
  );
});

/** How a gateway is set up from now on (WorldOptions in dev/gateways/contract.ts). */
const option = fc.constantFrom<Wrong>(
  { callbacks: false },
  { callbacks: true },
  { wechatVisibleAfterMs: 0 },
  { wechatGap: 'requests' },
  { fundChange: 'N' },
  { fundChange: 'missing' },
  { alipayRefundStatus: false },
  { balance: 0 },
  { balance: 5_000 },
  { balance: null },
  { settle: { afterMs: 0, outcome: 'SUCCESS' } },
  { settle: { afterMs: 2_000, outcome: 'SUCCESS' } },
  { settle: { afterMs: 3 * HOUR * 1_000, outcome: 'SUCCESS' } },
  { settle: { afterMs: 2_000, outcome: 'ABNORMAL' } },
);

/** At first a refund takes its time, and is shown to queries late. */
const SLOW = {
  wechatVisibleAfterMs: 30_000,
  alipayVisibleAfterMs: 30_000,
  settle: { afterMs: 600_000, outcome: 'SUCCESS' },
};

const USUAL = {
  callbacks: true,
  wechatVisibleAfterMs: 0,
  wechatGap: 'refunds',
  fundChange: 'normal',
  alipayRefundStatus: true,
  balance: null,
  settle: { afterMs: 2_000, outcome: 'SUCCESS' },
};

const PERSONS = ['sync', 'retry', 'abnormal', 'force 1', 'force 2'] as const;
type Person = (typeof PERSONS)[number];

/** Callbacks that are not the gateway's, or are not about this refund. */
const FORGED: Record<Method, Wrong[]> = {
  wechat: [
    ...['signature', 'unknown_serial', 'mchid', 'stale', 'ciphertext', 'body', 'probe'].map(
      (alter) => ({ alter }),
    ),
    ...[{ fen: PAID_FEN + 1 }, { total: 9_999 }, { outTradeNo: 'P-of-somebody-else' }],
  ],
  alipay: ['body', 'signature', 'app_id', 'seller_id'].map((alter) => ({ alter })),
};

/** Refusals of a refund that was taken all the same, and one that was not refused. */
const TAKEN = [
  { method: 'wechat', none: true },
  { method: 'wechat', statusAfter: 404, code: 'RESOURCE_NOT_EXISTS' },
  { method: 'wechat', statusAfter: 403, code: 'USER_ACCOUNT_ABNORMAL' },
  { method: 'alipay', statusAfter: 200, code: 'ACQ.TRADE_NOT_EXIST' },
] as const;

/** What happens while a request is on its way to the gateway or its answer on the way back. */
const MEANWHILE = ['message', 'sync', 'retry', 'force 2', 'callbacks', 'sweep'] as const;

/** Often the first or the last one: -1. */
const which = fc.oneof(fc.constantFrom(0, -1), fc.nat(11));
const fen = fc.oneof(
  fc.constantFrom(1, 2_500, 5_000, 10_000),
  fc.integer({ min: 1, max: PAID_FEN }),
);

const act = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      act: fc.constant('refund'),
      which,
      fen,
      key: fc.constantFrom(undefined, undefined, 'a', 'b'),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      act: fc.constant('faults'),
      faults: fc.array(fault, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      act: fc.constant('pass'),
      seconds: fc.constantFrom(1, 5, 20, 20, 75, 75, 200, 700, 2 * HOUR, 9 * HOUR),
    }),
  },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('options'), option }) },
  {
    weight: 3,
    arbitrary: fc.record({
      act: fc.constant('person'),
      which,
      // Nothing is sure about a refund that was forced, so it is rarer.
      does: fc.constantFrom<Person>('sync', 'sync', 'retry', 'retry', 'abnormal', ...PERSONS),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      act: fc.constant('mail'),
      mail: fc.constantFrom('brought', 'brought twice', 'kept'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('forged'), which, kind: fc.nat(9) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      act: fc.constant('untrue'),
      which,
      outcome: fc.constantFrom('SUCCESS', 'CLOSED', 'ABNORMAL'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      act: fc.constant('on its way'),
      method: fc.constantFrom<Method>('wechat', 'alipay'),
      hold: fc.constantFrom('before', 'after'),
      meanwhile: fc.array(fc.constantFrom(...MEANWHILE), { maxLength: 3 }),
      ending: fc.constantFrom('answer', 'lease over', 'refused and lease over', 'gone'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      act: fc.constant('asked early'),
      taken: fc.constantFrom(...TAKEN),
      seconds: fc.constantFrom(11, 20, 61),
    }),
  },
  fc.record({ act: fc.constant('messages'), are: fc.constantFrom('lost', 'twice') }),
  fc.record({ act: fc.constant('cron') }),
  fc.record({ act: fc.constant('database down'), seconds: fc.constantFrom(10, 100, 1_000) }),
);
type Act = typeof act extends fc.Arbitrary<infer T> ? T : never;

/** What the requests to the database meet after the first so many: the Worker dies there. */
const crash = fc.record({
  after: fc.nat(4),
  wrong: fc.constantFrom<DatabaseFault>(
    { status: 500 },
    { statusAfter: 500 },
    { drop: 'before' },
    { drop: 'after' },
  ),
  times: fc.integer({ min: 1, max: 4 }),
});

const step = fc.record({
  act,
  crash: fc.option(crash, { freq: 4, nil: undefined }),
  queueDown: fc.constantFrom(false, false, false, false, false, true),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const world = await startWorld();
const { app } = world;

/** A refund as we have it. */
const Ours = z.array(
  z.object({
    id: z.string(),
    payment_id: z.string(),
    payment_no: z.string(),
    refund_no: z.string(),
    out_refund_no: z.string(),
    gateway: z.enum(METHODS),
    fen: z.number(),
    status: z.number(),
    state: z.string(),
    attention: z.string().nullable(),
    moves: z.array(
      z.object({ from: z.number().nullable(), to: z.number(), cause: z.string().nullable() }),
    ),
    calls: z.number(),
  }),
);
type Ours = z.infer<typeof Ours>[number];

type Theirs = Awaited<ReturnType<typeof world.books>>['refunds'][number];

const Created = z.object({ id: z.string() });
const Deliveries = z.object({
  callbacks: z.array(z.object({ attempts: z.array(z.object({ status: z.number().nullable() })) })),
});

/** The state of one sequence. */
const run = {
  paymentIds: [] as string[],
  /** By payment and key, the refund that the key found. */
  keys: new Map<string, string>(),
  /** As of the last look. */
  ours: [] as Ours[],
  /** How often a refund that a person forced had been sent until then. */
  sentBefore: new Map<string, number>(),
  mail: 'brought',
  databaseDown: false,
  /** What the database does to the next requests. */
  planted: [] as DatabaseFault[],
  /** Whether the database may have failed since the last look, so that an answer may be a 5xx. */
  troubled: false,
};

/** Both worlds as they are before anything has happened. */
async function begin(): Promise<void> {
  await app.faults();
  app.refundQueue.down = false;
  app.refundQueue.messages = [];
  await app.sql.transaction([
    app.sql`DELETE FROM gateway_refunds`,
    app.sql`DELETE FROM gateway_health`,
  ]);
  await world.ask('DELETE', '');
  Object.assign(run, {
    paymentIds: [],
    keys: new Map(),
    ours: [],
    sentBefore: new Map(),
    mail: 'brought',
    databaseDown: false,
    planted: [],
    troubled: false,
  });
  await world.setClock();
  await world.configure(SLOW);
  for (const payment_method of METHODS)
    run.paymentIds.push(await world.payment({ payment_method }));
}

const { setClock } = world;
/** The test's own statement is spared what the Worker's meet. */
world.setClock = async () => {
  await app.faults();
  await setClock();
  await plantFaults();
};

async function plantFaults(): Promise<void> {
  const { planted } = run;
  run.planted = [];
  if (run.databaseDown) await app.faults({ status: 500, times: 'always' });
  else if (planted.length > 0) await app.faults(...planted);
}

const Posts = z.array(Posted);
/** As run.mail says it. */
world.bringCallbacks = async () => {
  if (run.mail === 'kept') return 0;
  const posts = Posts.parse(await world.ask('GET', '/callbacks'));
  for (const post of posts) {
    const bring = async () => {
      const response = await world.bring(post);
      if (!run.troubled) expect(response.status).toBeLessThan(300);
      return { status: response.status, body: await response.text() };
    };
    const answer = await bring();
    if (run.mail === 'brought twice') await bring();
    await world.ask('POST', '/callbacks/answer', { id: post.id ?? '', ...answer });
  }
  return posts.length;
};

/** Lets time pass at once: what was due meanwhile comes late. */
async function jump(seconds: number): Promise<void> {
  vi.setSystemTime(Date.now() + seconds * 1_000);
  await world.setClock();
  await world.settleDown();
}

/** A request to the API. Only a database that fails, or a gateway that a person waits for, makes a 5xx. */
async function request(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
) {
  const answer = await app.call(method, path, z.unknown(), {
    ...(body === undefined ? {} : { body }),
    headers,
  });
  if (!run.troubled && answer.code !== 50303) expect(answer.status).toBeLessThan(500);
  return answer;
}

const yuan = (fen: number) => `${Math.floor(fen / 100)}.${String(fen % 100).padStart(2, '0')}`;
const pathOf = ({ payment_id, id }: Ours) => `/payments/${payment_id}/refunds/${id}`;
const isForced = ({ moves }: Ours) => moves.some(({ cause }) => cause === 'person');
const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);

async function readOurs(): Promise<Ours[]> {
  return Ours.parse(
    await app.sql`
      SELECT payment_refunds.id::text, payment_id::text, payment_no, refund_no, out_refund_no, gateway,
        (payment_refunds.amount * 100)::int AS fen, payment_refunds.status, state, attention,
        (SELECT json_agg(json_build_object('from', from_status, 'to', to_status, 'cause', cause) ORDER BY id)
          FROM payment_refund_events WHERE refund_id = payment_refunds.id) AS moves,
        (SELECT count(*)::int FROM gateway_requests WHERE refund_id = payment_refunds.id) AS calls
      FROM payment_refunds
      JOIN payments ON payments.id = payment_id JOIN gateway_refunds ON refund_id = payment_refunds.id
      WHERE payment_id = ANY (${run.paymentIds}::bigint[]) ORDER BY payment_refunds.id`,
  );
}

async function perform(what: Act): Promise<void> {
  switch (what.act) {
    case 'refund':
      return await refund(what);
    case 'faults':
      await world.faults(...what.faults);
      return;
    case 'pass':
      return await world.pass(what.seconds);
    case 'options':
      await world.configure(what.option);
      return;
    case 'person': {
      const open = run.ours.filter(({ status }) => status === 0);
      const among = open.length > 0 ? open : run.ours;
      const chosen = among.at(what.which % among.length);
      if (chosen) await person(chosen, what.does);
      return;
    }
    case 'mail':
      run.mail = what.mail;
      return;
    case 'forged': {
      const chosen = run.ours.at(what.which % run.ours.length);
      if (chosen) await bringForged(chosen, what.kind);
      return;
    }
    case 'untrue': {
      const chosen = run.ours.at(what.which % run.ours.length);
      if (chosen) await bringUntrue(chosen, what.outcome);
      return;
    }
    case 'on its way':
      return await onItsWay(what);
    case 'asked early':
      return await askEarly(what);
    case 'messages':
      app.refundQueue.messages =
        what.are === 'lost' ? [] : app.refundQueue.messages.flatMap((one) => [one, { ...one }]);
      return;
    case 'cron':
      return await cron();
    case 'database down':
      run.databaseDown = true;
      await world.pass(what.seconds);
      run.databaseDown = false;
      return await app.faults();
  }
}

/** Asks for a refund. The same key on the same payment finds the first one. */
async function refund(wish: { which: number; fen: number; key?: string | undefined }) {
  const paymentId = run.paymentIds.at(wish.which % run.paymentIds.length) ?? '';
  const { status, code, data } = await request(
    'POST',
    `/payments/${paymentId}/refund`,
    { amount: yuan(wish.fen), reason: '拍错了' },
    wish.key === undefined ? {} : { 'Idempotency-Key': wish.key },
  );
  if (status >= 400) {
    if (!run.troubled) expect([40900, 40901, 40902]).toContain(code);
    return;
  }
  const { id } = Created.parse(data);
  if (wish.key === undefined) {
    expect(status).toBe(201);
    expect(run.ours.map((one) => one.id)).not.toContain(id);
    return;
  }
  const name = `${paymentId} ${wish.key}`;
  expect(run.keys.get(name) ?? id).toBe(id);
  run.keys.set(name, id);
}

async function person(chosen: Ours, does: Person) {
  const path = pathOf(chosen);
  switch (does) {
    case 'sync':
    case 'retry':
      return await request('POST', `${path}/${does}`);
    case 'abnormal':
      return await request('POST', `${path}/abnormal`, { type: 'MERCHANT_BANK_CARD' });
    default:
      return await request('PATCH', path, {
        status: does === 'force 1' ? 1 : 2,
        override_reason: '与渠道核对',
      });
  }
}

/** Brings a callback that must change nothing. */
async function bringForged(chosen: Ours, kind: number): Promise<void> {
  const { gateway, out_refund_no: outRefundNo, payment_no: outTradeNo, fen } = chosen;
  const forged = FORGED[gateway];
  const wish = {
    gateway,
    outRefundNo,
    outTradeNo,
    total: PAID_FEN,
    ...forged[kind % forged.length],
  };
  const told = await world.callback(
    gateway === 'alipay'
      ? { ...wish, refunded: fen }
      : { fen, outcome: kind % 2 ? 'CLOSED' : 'SUCCESS', ...wish },
  );
  // One that is authentic and about somebody else's refund is pointed out. A sweep may follow.
  const pointedOut = 'alter' in wish ? [] : ['attention', 'attention_at', 'updated_at'];
  const row = () => app.sql`
    SELECT to_jsonb(gateway_refunds) - ${['swept_at', ...pointedOut]}::text[] AS row
    FROM gateway_refunds WHERE refund_id = ${chosen.id}`;
  await app.faults();
  const before = await row();
  const { status } = await world.bring(told);
  await app.idle();
  if ('alter' in wish) expect([400, 401]).toContain(status);
  expect(await row()).toEqual(before);
}

/**
 * Brings an authentic callback that is not true, or no longer, of those that a gateway may be thought to send:
 * what contradicts a refund that has succeeded, and from Alipay, whose notifications prove nothing, any.
 */
async function bringUntrue(chosen: Ours, outcome: string): Promise<void> {
  const { gateway, out_refund_no: outRefundNo, payment_no: outTradeNo } = chosen;
  if (gateway === 'alipay') {
    const about = { gateway, kind: 'refund', outRefundNo, outTradeNo, refunded: PAID_FEN };
    await world.bring(await world.callback(about));
    return;
  }
  const { refunds } = await world.books();
  const theirs = refunds.find((one) => one.outRefundNo === outRefundNo);
  // Of one that is open here, CLOSED is the gateway's last word, and would be believed.
  if (theirs?.state !== 'SUCCESS' || (outcome === 'CLOSED' && chosen.status !== 1)) return;
  const { status } = await world.bring(await world.callback({ gateway, outRefundNo, outcome }));
  if (!run.troubled) expect(status).toBe(204);
}

async function cron(): Promise<void> {
  try {
    await app.merge();
  } catch (error) {
    if (!run.troubled) throw error;
  }
  await world.settleDown();
}

/**
 * A refund whose request, or the answer to it, is on the way while other things happen. Until the lease is over
 * nobody else may send it, ask about it or force it. An answer that comes when the lease is over may only tell
 * more, and never undo.
 */
async function onItsWay(wish: {
  method: Method;
  hold: string;
  meanwhile: (typeof MEANWHILE)[number][];
  ending: string;
}): Promise<void> {
  await app.faults();
  run.planted = [];
  app.refundQueue.down = false;
  await world.settleDown();
  const paused =
    await app.sql`SELECT FROM gateway_health WHERE gateway = ${wish.method} AND paused_until IS NOT NULL`;
  if (paused.length > 0) return;

  const paymentId = await world.payment({ payment_method: wish.method });
  run.paymentIds.push(paymentId);
  const refused = wish.ending.startsWith('refused');
  const hold = refused ? 'after' : wish.hold;
  if (refused) await world.configure({ balance: 0 });
  await world.faults({ gateway: wish.method, operation: 'refund', hold });

  // Without an answer in time the Worker hangs up. What it has sent arrives all the same.
  const { timeout } = AbortSignal;
  const gone = vi
    .spyOn(AbortSignal, 'timeout')
    .mockImplementation((ms) =>
      timeout.call(AbortSignal, wish.ending === 'gone' && ms === 10_000 ? 100 : ms),
    );
  const { data } = await request('POST', `/payments/${paymentId}/refund`, {
    amount: '10.00',
    reason: '拍错了',
  });
  const { id } = Created.parse(data);
  const look = async () => {
    const found = (await readOurs()).find((one) => one.id === id);
    if (!found) throw new Error('the refund has gone');
    return found;
  };
  await world.ask('GET', '/held?count=1');
  const started = await look();
  const message = async () => {
    const body = { payment_id: paymentId, refund_no: started.refund_no };
    app.refundQueue.messages.push({ body, dueAt: Date.now(), attempts: 1 });
    await app.deliver();
  };
  if (wish.ending === 'gone') {
    await app.idle();
    gone.mockRestore();
    vi.setSystemTime(Date.now() + 25_000);
    await world.setClock();
    for (const _ of wish.meanwhile) await message();
    await world.ask('POST', '/release');
    return await world.settleDown();
  }
  gone.mockRestore();

  for (const one of wish.meanwhile) {
    if (one === 'message') await message();
    else if (one === 'callbacks') await world.bringCallbacks();
    else if (one === 'sweep') await app.merge();
    else {
      // A callback may have settled it.
      const { state } = await look();
      const { status } = await person(started, one);
      if (state === 'sending') expect(status).toBe(one === 'sync' ? 200 : 409);
    }
  }
  expect((await look()).calls).toBe(0);

  if (wish.ending !== 'answer') {
    if (refused) await world.configure({ balance: null });
    // The lease, then the proof that nothing is there, and the next send.
    for (const seconds of [121, 61]) {
      vi.setSystemTime(Date.now() + seconds * 1_000);
      await world.setClock();
      await message();
    }
  }
  const before = await look();
  await world.ask('POST', '/release');
  await app.idle();
  const after = await look();
  if (refused) expect({ ...after, calls: 0 }).toEqual({ ...before, calls: 0 });
}

/**
 * Somebody asks about a refund that the gateway has taken, maybe though it refused it: so soon that it may not be shown
 * yet, or when another than the gateway answers. No callback comes, and the order shows the refund before it.
 */
async function askEarly(wish: { taken: (typeof TAKEN)[number]; seconds: number }): Promise<void> {
  const { method, ...wrong } = wish.taken;
  await app.faults();
  const paymentId = await world.payment({ payment_method: method });
  run.paymentIds.push(paymentId);
  await world.faults();
  await refund({ which: -1, fen: 100 });
  await app.idle();
  await jump(61);
  await world.configure({ callbacks: false });
  await world.faults(
    { gateway: method, operation: 'refund', ...wrong },
    ...(wish.seconds === 61
      ? [{ gateway: method, operation: 'query', times: 2, ...OF_QUERIES[method][0] }]
      : []),
  );
  await refund({ which: -1, fen: 2_500 });
  await app.idle();
  await jump(wish.seconds);
  const asked = (await readOurs()).findLast(({ payment_id }) => payment_id === paymentId);
  if (asked) await person(asked, 'sync');
  await world.configure({ callbacks: true });
}

/** What is true at any time. */
async function check(): Promise<Theirs[]> {
  const before = run.ours;
  run.ours = await readOurs();
  const { refunds: theirs, rejected } = await world.books();
  expect(rejected).toEqual([]);
  const byNumber = new Map(theirs.map((one) => [one.outRefundNo, one]));
  expect(byNumber.size).toBe(theirs.length);
  expect(run.ours.map(({ out_refund_no }) => out_refund_no)).toEqual(
    expect.arrayContaining([...byNumber.keys()]),
  );
  for (const ours of run.ours) {
    const there = byNumber.get(ours.out_refund_no);
    if (there) {
      const { gateway, outTradeNo, fen } = there;
      expect({ gateway, outTradeNo, fen }).toEqual({
        gateway: ours.gateway,
        outTradeNo: ours.payment_no,
        fen: ours.fen,
      });
      expect(there.movedTimes).toBeLessThanOrEqual(1);
    }
    expect(ours.moves.map(({ from, to }) => [from, to])).toEqual(
      ours.status === 0
        ? [[null, 0]]
        : [
            [null, 0],
            [0, ours.status],
          ],
    );
    const STATUS = { succeeded: 1, failed: 2 };
    expect(ours.status).toBe(
      z.enum(['succeeded', 'failed']).safeParse(ours.state).success
        ? STATUS[ours.state as 'succeeded']
        : 0,
    );
    if (isForced(ours)) {
      const sent = there?.sent ?? 0;
      if (!run.sentBefore.has(ours.id)) run.sentBefore.set(ours.id, sent);
      expect(run.sentBefore.get(ours.id)).toBe(sent);
    } else {
      if (ours.status === 1) expect(there).toMatchObject({ movedTimes: 1, moved: ours.fen });
      if (ours.status === 2) expect(there?.state ?? 'CLOSED').toBe('CLOSED');
    }
  }
  for (const { id, status } of before) {
    const now = run.ours.find((one) => one.id === id);
    if (status !== 0) expect(now?.status).toBe(status);
  }
  for (const paymentId of run.paymentIds) {
    const refunds = run.ours.filter(({ payment_id }) => payment_id === paymentId);
    expect(
      sum(refunds.filter(({ status }) => status !== 2).map(({ fen }) => fen)),
    ).toBeLessThanOrEqual(PAID_FEN);
    const moved = refunds.map(({ out_refund_no }) => byNumber.get(out_refund_no)?.moved ?? 0);
    expect(sum(moved)).toBeLessThanOrEqual(PAID_FEN);
  }
  return theirs;
}

/** From one look to the next when everything works again, in seconds: four days in all. */
const PATIENCE = [
  ...[100, 100, 100, 200, 200, 400, 700, 1_300, HOUR, HOUR, HOUR, 3 * HOUR, 6 * HOUR, 9 * HOUR],
  ...[DAY, DAY, DAY],
];

/** Lets everything work again, and waits for what comes to an end by itself. */
async function recover(): Promise<void> {
  await app.faults();
  await world.faults();
  await world.configure(USUAL);
  app.refundQueue.down = false;
  Object.assign(run, { mail: 'brought', planted: [], troubled: false });
  await world.settleDown();
  for (const seconds of PATIENCE) {
    const open = (await readOurs()).filter(({ status }) => status === 0);
    if (open.every(({ attention }) => attention === 'ABNORMAL')) break;
    await jump(seconds);
    if (seconds >= HOUR) await cron();
  }
  await jump(DAY);
  await cron();
}

/** What is true at last. */
async function checkAtLast(): Promise<void> {
  const theirs = await check();
  const { data } = await app.call('GET', '/gateway/attention?size=200', Attention);
  const shown = new Map(data.refunds.map(({ refund, attention }) => [refund.id, attention]));
  for (const ours of run.ours) {
    const there = theirs.find((one) => one.outRefundNo === ours.out_refund_no);
    expect(shown.get(ours.id) ?? null).toBe(ours.attention);
    if (isForced(ours)) continue;
    if (ours.status !== 0) {
      expect(there?.state ?? 'CLOSED').toBe(ours.status === 1 ? 'SUCCESS' : 'CLOSED');
      expect([null, 'CONTRADICTION']).toContain(ours.attention);
      if (ours.status === 2) expect(ours.attention).toBe(null);
    } else if (there) {
      expect([there.state, ours.attention]).toEqual(['ABNORMAL', 'ABNORMAL']);
    } else {
      // The order says that money went back, and what a person forced is what may explain it.
      expect(['ORDER_SAYS_REFUNDED', 'MISSING']).toContain(ours.attention);
      expect(run.ours.some((one) => one.payment_id === ours.payment_id && isForced(one))).toBe(
        true,
      );
    }
  }
  const { callbacks } = Deliveries.parse(await world.ask('GET', ''));
  expect(callbacks.filter(({ attempts }) => attempts.length === 0)).toEqual([]);
}

beforeAll(async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  // The database gives a request up by the machine's clock, which goes on meanwhile.
  vi.setSystemTime(Date.now() + DAY * 1_000);
  await world.setClock();
});
afterAll(() => vi.useRealTimers());

test('whatever goes wrong, the gateways have moved what our books say, once', {
  timeout: 3_600_000,
}, async () => {
  const sequence = fc.array(step, { minLength: 1, maxLength: 24, size: 'max' });
  await fc.assert(
    fc.asyncProperty(sequence, async (steps: Step[]) => {
      await begin();
      for (const { act: what, crash: point, queueDown } of steps) {
        run.troubled = point !== undefined || what.act === 'database down';
        app.refundQueue.down = queueDown;
        if (point) {
          const { after, wrong, times } = point;
          run.planted = [...(after > 0 ? [{ delayMs: 0, times: after }] : []), { ...wrong, times }];
          if (what.act !== 'pass') await plantFaults();
        }
        await perform(what);
        await app.idle();
        await app.faults();
        app.refundQueue.down = false;
        await check();
      }
      await recover();
      await checkAtLast();
    }),
    { numRuns: RUNS, ...(SEED === undefined ? {} : { seed: SEED }) },
  );
});

test.each([
  ['stands still', 0],
  ['is two seconds behind the queue’s', 2],
])('brings a lost request on within minutes where the database’s clock %s', async (_, seconds) => {
  await begin();
  const moveClock = world.setClock;
  world.setClock = async () => {
    await moveClock();
    await app.sql`UPDATE test_clock SET at = at - ${seconds} * interval '1 second'`;
  };
  try {
    await world.configure(USUAL);
    await world.faults({ operation: 'refund', drop: 'before' });
    await world.setClock();
    await refund({ which: 0, fen: 2_500 });
    await world.pass(280);
    expect(await readOurs()).toMatchObject([{ status: 1 }]);
  } finally {
    world.setClock = moveClock;
  }
});
