/**
 * The Worker with both gateways: a world of the simulator for one test file. The Worker, the gateways and the
 * functions in the database have one clock, which stands still until a test moves it.
 */
import { env as bindings } from 'cloudflare:workers';
import { vi } from 'vitest';
import { z } from 'zod';
import type { Bindings } from '../../src/env';
import { Refund } from '../../src/refunds/refund';
import { insertPayment, type PaymentRow, startApp } from '../harness';

const { SIMULATOR_URL, GATEWAY_VARIABLES } = z
  .object({ SIMULATOR_URL: z.string(), GATEWAY_VARIABLES: z.record(z.string(), z.string()) })
  .parse(bindings);

const Origin = z.object({ origin: z.string() });

/** A callback as it goes over the wire. */
export const Posted = z.object({
  id: z.string().optional(),
  path: z.string(),
  headers: z.record(z.string(), z.string()),
  bodyBase64: z.string(),
});
export type Posted = z.infer<typeof Posted>;

/** What the gateways know. Amounts are fen. */
const Books = z.object({
  refunds: z.array(
    z.object({
      gateway: z.string(),
      outRefundNo: z.string(),
      outTradeNo: z.string(),
      fen: z.number(),
      reason: z.string().nullable(),
      state: z.string(),
      sent: z.number(),
      movedTimes: z.number(),
      moved: z.number(),
    }),
  ),
  requests: z.record(z.string(), z.number()),
  rejected: z.array(z.object({ gateway: z.string(), code: z.string() })),
});

/** Faults, options and wishes as dev/gateways/simulator.ts has them. */
type Wish = Record<string, unknown>;

/** An app of its own before a world of its own. */
export async function startWorld() {
  const app = await startApp();
  const control = `${SIMULATOR_URL}/${app.database}/control`;
  const ask = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const response = await fetch(`${control}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok)
      throw new Error(`${method} ${path}: ${(await response.text()).slice(0, 300)}`);
    return await response.json();
  };
  const { origin } = Origin.parse(await ask('POST', '/origin'));
  const env: Partial<Bindings> & Record<string, unknown> = {
    ...GATEWAY_VARIABLES,
    GATEWAYS: 'wechat,alipay',
    CALLBACK_BASE_URL: 'https://pay.example.com',
    WECHAT_API_BASE: origin,
    ALIPAY_API_BASE: `${origin}/gateway.do`,
  };
  Object.assign(app.env, env);

  // The clock of the functions in this database stands still, too. What they write by default tells its time.
  await app.sql`CREATE TABLE test_clock AS SELECT now() AS at`;
  await app.sql`GRANT SELECT ON test_clock TO PUBLIC`;
  await app.sql`
    CREATE OR REPLACE FUNCTION gateway_clock() RETURNS timestamptz LANGUAGE sql VOLATILE
    RETURN (SELECT at FROM test_clock)`;
  await app.sql`
    ALTER TABLE gateway_refunds ALTER created_at SET DEFAULT gateway_clock(),
      ALTER next_attempt_at SET DEFAULT gateway_clock()`;

  const world = {
    app,
    env,
    /** Of this world in the simulator. */
    url: `${SIMULATOR_URL}/${app.database}`,
    ask,

    /** A successful payment that the gateway has as an order, too; by default of 100.00, by WeChat Pay. */
    async payment(row: Partial<PaymentRow> & { payment_no?: string } = {}): Promise<string> {
      const payment = {
        payment_no: `P${crypto.randomUUID().replaceAll('-', '').slice(0, 24)}`,
        payment_method: 'wechat',
        amount: '100.00',
        payment_time: new Date(Date.now() - 60_000).toISOString(),
        ...row,
      };
      await world.order({
        gateway: payment.payment_method === 'alipay' ? 'alipay' : 'wechat',
        outTradeNo: payment.payment_no,
        total: Number(payment.amount.replace('.', '')),
      });
      return await insertPayment(app.sql, payment);
    },

    /** Registers an order at the gateway. */
    order: (order: Wish) => ask('POST', '/orders', order),

    /** Asks for a refund by the API, and leaves what follows to the background. */
    async refund(paymentId: string, amount = '100.00', headers: Record<string, string> = {}) {
      const body = { amount, reason: '拍错了' };
      return await app.call('POST', `/payments/${paymentId}/refund`, Refund, { body, headers });
    },

    /** A payment, and a refund of it that has been asked for. */
    async start(payment_method: 'wechat' | 'alipay' = 'wechat', amount = '100.00') {
      const paymentId = await world.payment({ payment_method });
      const { data } = await world.refund(paymentId, amount);
      if (!data.gateway) throw new Error('no gateway took it');
      const outRefundNo = data.gateway.out_refund_no;
      return {
        paymentId,
        refundId: data.id,
        refundNo: data.refund_no,
        outRefundNo,
        path: `/payments/${paymentId}/refunds/${data.id}`,
        look: () => world.look(paymentId, data.id),
        book: async () =>
          (await world.books()).refunds.find((one) => one.outRefundNo === outRefundNo),
        /** Who moved it to which status, and how that was known; without its creation. */
        events: () =>
          app.sql`
            SELECT actor, to_status, reason, cause FROM payment_refund_events
            WHERE refund_id = ${data.id} AND from_status IS NOT NULL ORDER BY id`,
      };
    },

    /** The refund as GET shows it now. */
    async look(paymentId: string, refundId: string): Promise<z.infer<typeof Refund>> {
      const rows = await app.sql`
        SELECT id::text, payment_id::text, refund_no, amount::text, reason, status, rfc3339(created_at) AS created_at,
          refund_gateway(id) AS gateway
        FROM payment_refunds WHERE id = ${refundId} AND payment_id = ${paymentId}`;
      return Refund.parse(rows[0]);
    },

    configure: (options: Wish) => ask('PUT', '', options),

    /** What the next requests to the gateways meet. */
    faults: (...faults: Wish[]) => ask('PUT', '/faults', { faults }),

    books: async () => Books.parse(await ask('GET', '')),

    settle: (outRefundNo: string, outcome: 'SUCCESS' | 'ABNORMAL' | 'CLOSED') =>
      ask('POST', '/settle', { outRefundNo, outcome }),

    /** Makes a callback, true or not. */
    callback: async (wish: Wish) => Posted.parse(await ask('POST', '/callback', wish)),

    /** Brings a callback to the Worker, with other bindings where they are given. */
    async bring(
      { path, headers, bodyBase64 }: Posted,
      other: Record<string, string> = {},
    ): Promise<Response> {
      const body = Uint8Array.fromBase64(bodyBase64);
      return await app.send('POST', path, {
        headers: { Authorization: undefined, 'Content-Type': undefined, ...headers },
        body,
        env: other,
      });
    },

    /** Brings the callbacks that are due, and tells the gateway what came back. Returns how many there were. */
    async bringCallbacks(): Promise<number> {
      const posted = z.array(Posted).parse(await ask('GET', '/callbacks'));
      for (const one of posted) {
        const response = await world.bring(one);
        const body = await response.text();
        await ask('POST', '/callbacks/answer', { id: one.id, status: response.status, body });
      }
      return posted.length;
    },

    /** Stops all clocks. Every test begins with it. */
    async stopClock(): Promise<void> {
      vi.useFakeTimers({ toFake: ['Date'] });
      await world.setClock();
    },

    /** Puts all clocks to the same moment. */
    async setClock(): Promise<void> {
      await app.sql`UPDATE test_clock SET at = to_timestamp(${Date.now()}::float8 / 1000)`;
      await ask('PUT', '', { now: Date.now() });
    },

    /** Moves all clocks, and leaves what falls due undone. */
    async wait(seconds: number): Promise<void> {
      vi.setSystemTime(Date.now() + seconds * 1000);
      await world.setClock();
    },

    /** What is due now: background work, messages, callbacks. Until nothing is left. */
    async settleDown(): Promise<void> {
      for (let more = true; more; ) {
        await app.idle();
        // Purges have tests of their own.
        app.queue.messages = [];
        const due = app.refundQueue.messages.some(({ dueAt }) => dueAt <= Date.now());
        if (due) await app.deliver();
        more = (await world.bringCallbacks()) > 0 || due;
      }
    },

    /** Lets time pass, from one message to the next. */
    async pass(seconds: number): Promise<void> {
      const until = Date.now() + seconds * 1000;
      await world.settleDown();
      while (Date.now() < until) {
        const due = app.refundQueue.messages.map(({ dueAt }) => dueAt);
        const next = Math.min(until, ...due.filter((time) => time > Date.now()));
        vi.setSystemTime(Math.ceil(next));
        await world.setClock();
        await world.settleDown();
      }
    },
  };
  return world;
}
