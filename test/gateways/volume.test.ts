/** A thousand refunds while both gateways lose answers, take their time and say everything twice. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { Posted, startWorld } from './world';

const world = await startWorld();
const { app } = world;

const REFUNDS = 1_000;
const PAYMENTS = 250;
const AT_ONCE = 25;
const HOUR = 3_600;

/** The same on every run: mulberry32. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

beforeEach(async () => {
  await world.stopClock();
  // The database gives a request up by the machine's clock, which goes on meanwhile.
  vi.setSystemTime(Date.now() + HOUR * 1_000);
  await world.setClock();
});
afterEach(() => vi.useRealTimers());

/** Of the next requests: each tenth loses its answer, each tenth refund is PROCESSING for a while. */
function faults(random: () => number, count: number) {
  return Array.from({ length: count }, () => {
    const roll = random();
    if (roll < 0.05) return { drop: 'after' };
    if (roll < 0.1) return { drop: 'before' };
    if (roll >= 0.2) return { none: true };
    return {
      operation: 'refund',
      outcome: 'SUCCESS',
      afterMs: Math.ceil(random() * 4 * HOUR * 1_000),
    };
  });
}

const Posts = z.array(Posted);

const Totals = z.tuple([
  z.object({
    refunds: z.number(),
    succeeded: z.number(),
    fen: z.number(),
    attention: z.number(),
    settled: z.number(),
  }),
]);

/** Lets time pass at once: what was due meanwhile comes late. */
async function jump(seconds: number): Promise<void> {
  vi.setSystemTime(Date.now() + seconds * 1_000);
  await world.setClock();
  await world.settleDown();
}

async function bringTwice(post: z.infer<typeof Posted>): Promise<void> {
  const [first, second] = await Promise.all([world.bring(post), world.bring(post)]);
  // On a busy machine one may be told to come again. It does.
  const { status } = first.ok ? second : first;
  const body = await (first.ok ? second : first).text();
  await world.ask('POST', '/callbacks/answer', { id: post.id, status, body });
}

test('1,000 refunds with lost answers, long processing and doubled callbacks: both books agree to the fen', async () => {
  const random = dice(20_261_125);
  world.bringCallbacks = async () => {
    const posts = Posts.parse(await world.ask('GET', '/callbacks'));
    for (let n = 0; n < posts.length; n += AT_ONCE) {
      await Promise.all(posts.slice(n, n + AT_ONCE).map(bringTwice));
    }
    return posts.length;
  };

  const paymentIds: string[] = [];
  for (let n = 0; n < PAYMENTS; n += AT_ONCE) {
    const batch = Array.from({ length: Math.min(AT_ONCE, PAYMENTS - n) }, (_, index) =>
      world.payment({ payment_method: (n + index) % 2 ? 'alipay' : 'wechat' }),
    );
    paymentIds.push(...(await Promise.all(batch)));
  }

  let asked = 0;
  for (let n = 0; n < REFUNDS; n += AT_ONCE) {
    await world.faults(...faults(random, 200));
    const answers = await Promise.all(
      Array.from({ length: AT_ONCE }, (_, index) => {
        const fen = 1 + Math.floor(random() * 2_500);
        asked += fen;
        const amount = `${Math.floor(fen / 100)}.${String(fen % 100).padStart(2, '0')}`;
        return world.refund(paymentIds[(n + index) % PAYMENTS] ?? '', amount);
      }),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(AT_ONCE).fill(201));
    await world.settleDown();
    // By then most refunds of a payment are over when its next one is asked for.
    if ((n + AT_ONCE) % PAYMENTS === 0) await jump(70);
  }

  // What was lost is asked about, and what is PROCESSING comes to its end.
  for (const minutes of [2, 2, 5, 10, 30, 60, 60, 60, 120, 600]) {
    await world.faults(...faults(random, minutes < 30 ? 500 : 0));
    await jump(minutes * 60);
  }

  const [ours] = Totals.parse(
    await app.sql`
      SELECT count(*)::int AS refunds, count(*) FILTER (WHERE status = 1)::int AS succeeded,
        (sum(amount) FILTER (WHERE status = 1) * 100)::int AS fen, count(attention)::int AS attention,
        (SELECT count(*)::int FROM payment_refund_events WHERE from_status = 0) AS settled
      FROM payment_refunds JOIN gateway_refunds ON refund_id = payment_refunds.id`,
  );
  expect(ours).toEqual({
    refunds: REFUNDS,
    succeeded: REFUNDS,
    fen: asked,
    attention: 0,
    settled: REFUNDS,
  });

  const { refunds, rejected } = await world.books();
  expect(rejected).toEqual([]);
  expect(refunds).toHaveLength(REFUNDS);
  expect(refunds.every(({ movedTimes, moved, fen }) => movedTimes === 1 && moved === fen)).toBe(
    true,
  );
  expect(refunds.reduce((sum, { moved }) => sum + moved, 0)).toBe(asked);
  const rows = await app.sql`
    SELECT out_refund_no, (amount * 100)::int AS fen
    FROM payment_refunds JOIN gateway_refunds ON refund_id = payment_refunds.id`;
  const byNumber = new Map(refunds.map(({ outRefundNo, moved }) => [outRefundNo, moved]));
  expect(rows.filter((row) => byNumber.get(row.out_refund_no) !== row.fen)).toEqual([]);
}, 900_000);
