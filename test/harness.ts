/**
 * The whole Worker for a test file: over a real database of its own and the real Neon driver, with
 * the fakes in place of KV and Queue, and with the controls of the local Neon endpoint.
 */
import {
  createExecutionContext,
  createScheduledController,
  waitOnExecutionContext,
} from 'cloudflare:test';
import { env as bindings } from 'cloudflare:workers';
import { type NeonQueryFunction, neon, neonConfig } from '@neondatabase/serverless';
import { type JWTPayload, SignJWT } from 'jose';
import { afterEach, vi } from 'vitest';
import { z } from 'zod';
import type { ControlState, Fault } from '../dev/neon-faults';
import type { Bindings } from '../src/env';
import worker from '../src/index';
import { expectConforming } from './contract';
import { FakeKv, FakeQueue } from './fakes';

/** What any answer of the API looks like. */
const Answer = z.object({
  code: z.number(),
  message: z.string(),
  data: z.unknown(),
  request_id: z.string().optional(),
});

/** What the driver sends for a statement that is no batch. */
const Statement = z.object({ query: z.string(), params: z.array(z.string().nullable()) });
type Statement = z.infer<typeof Statement>;
export interface Reply<Data> {
  status: number;
  headers: Headers;
  code: number;
  message: string;
  data: Data;
  body: z.infer<typeof Answer>;
}

export interface Call {
  /** `Authorization: undefined` sends none at all. */
  headers?: Record<string, string | undefined>;
  /** Sent as JSON; a string or bytes are sent as they are. */
  body?: unknown;
  /** Other bindings than the test's. */
  env?: Partial<Bindings>;
}

const { NEON_FETCH_ENDPOINT, AUTH_SECRET, ...workerEnv }: Bindings = bindings;
if (!NEON_FETCH_ENDPOINT || !AUTH_SECRET) throw new Error('vitest.config.ts sets them');
const endpoint = NEON_FETCH_ENDPOINT;
const authSecret = AUTH_SECRET;
neonConfig.fetchEndpoint = endpoint;

// The request log is kept back, and shown for tests that fail. To send each line to the reporter would take a
// fifth of the time of a test that makes many requests.
const log: (() => void)[] = [];
for (const level of ['info', 'warn', 'error'] as const) {
  const write = console[level];
  console[level] = (...data: unknown[]) => log.push(() => write(...data));
}
afterEach(({ task }) => {
  if (task.result?.state === 'fail') for (const write of log) write();
  log.length = 0;
});

/** 2100: tests that move the clock outlive an hour. */
const FAR_FUTURE = 4_102_444_800;

/** Signs claims as the deployment's own secret does; by default with everything that a token needs. */
export function signToken(claims: JWTPayload = {}, secret = authSecret): Promise<string> {
  const scope =
    'payments:read payments:export refunds:create refunds:settle refunds:correct refunds:override';
  return new SignJWT({ sub: 'tester', scope, exp: FAR_FUTURE, ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(new TextEncoder().encode(secret));
}

/** A connection string like the maintenance database's, for another database. */
export function databaseUrl(database: string): string {
  return workerEnv.DATABASE_URL.replace(/\/[^/]*$/, `/${database}`);
}

export type TestApp = Awaited<ReturnType<typeof startApp>>;

/** A migrated, empty database, and the app before it. `template` makes it a copy of another one. */
export async function startApp(template = 'template_payments') {
  const database = `test_${crypto.randomUUID().replaceAll('-', '')}`;
  await neon(workerEnv.DATABASE_URL).query(`CREATE DATABASE ${database} TEMPLATE ${template}`);

  const kv = new FakeKv();
  const queue = new FakeQueue('payment-detail-purges');
  const refundQueue = new FakeQueue('payment-refunds');
  const env: Bindings = {
    ...workerEnv,
    AUTH_SECRET: authSecret,
    DATABASE_URL: databaseUrl(database),
    NEON_FETCH_ENDPOINT: endpoint,
    DETAIL_CACHE: kv.at('SHA'),
    PURGE_QUEUE: queue.binding(),
    REFUND_QUEUE: refundQueue.binding(),
    // Tests write more than a person does; the limit has a test of its own.
    WRITE_RATE_LIMIT: { limit: async () => ({ success: true }) },
  };
  const token = await signToken();
  const control = new URL(`/control/${database}`, endpoint);
  const background = new Set<ExecutionContext>();
  let consumer = 'SHA';
  const deliver = async (other: Partial<Bindings> = {}) => {
    const consumed = { ...env, ...other, DETAIL_CACHE: kv.at(consumer) };
    await queue.deliver(worker.queue, consumed);
    await refundQueue.deliver(worker.queue, consumed);
  };

  /** Sends a request with a token for everything; fails unless the answer is one that OpenAPI says. */
  async function send(
    method: string,
    path: string,
    { headers = {}, body, env: other }: Call = {},
  ): Promise<Response> {
    const request = new Request(`https://api.test${path}`, {
      method,
      headers: Object.entries({
        Authorization: `Bearer ${token}`,
        'Content-Type': body === undefined ? undefined : 'application/json',
        ...headers,
      }).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
      ...(body === undefined
        ? {}
        : {
            body:
              typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
          }),
    });
    const ctx = createExecutionContext();
    background.add(ctx);
    const response = await worker.fetch(request, { ...env, ...other }, ctx);
    await expectConforming(request, response);
    return response;
  }

  /** The same for an answer in the envelope, whose data are as the schema says. */
  async function call<Data>(
    method: string,
    path: string,
    schema: z.ZodType<Data>,
    options?: Call,
  ): Promise<Reply<Data>> {
    const response = await send(method, path, options);
    const answer = Answer.parse(await response.json());
    return {
      status: response.status,
      headers: response.headers,
      code: answer.code,
      message: answer.message,
      data: schema.parse(answer.data),
      body: answer,
    };
  }

  /** The statements with this text in them that GET `path` sends to the database until it is answered whole. */
  async function statements(path: string, text: string): Promise<Statement[]> {
    const fetch = vi.spyOn(globalThis, 'fetch');
    try {
      await (await send('GET', path)).text();
      return fetch.mock.calls.flatMap(([, init]) => {
        const body = Statement.safeParse(JSON.parse(String(init?.body ?? null)));
        return body.success && body.data.query.includes(text) ? [body.data] : [];
      });
    } finally {
      fetch.mockRestore();
    }
  }

  return {
    database,
    env,
    kv,
    queue,
    refundQueue,
    send,
    call,

    /** SQL against the test's database, for what a test prepares and looks at. */
    sql: neon(env.DATABASE_URL),

    /** The statement that GET /payments sends to the database, whatever others send meanwhile; none where it refuses. */
    listStatement: async (search: string) =>
      (await statements(`/payments?${search}`, 'AS page'))[0],

    statements,

    /** EXPLAIN of a statement that `statements` or `listStatement` gave. */
    async explain(
      statement: Statement | undefined,
      { options = 'ANALYZE, FORMAT JSON', settings = [] as string[] } = {},
    ) {
      if (!statement) throw new Error('nothing was sent');
      const results = await this.sql.transaction([
        ...settings.map((setting) => this.sql.query(`SET LOCAL ${setting}`)),
        this.sql.query(`EXPLAIN (${options}) ${statement.query}`, statement.params),
      ]);
      return results.at(-1);
    },

    /** The daily cron. */
    async merge(other: Partial<Bindings> = {}): Promise<void> {
      const ctx = createExecutionContext();
      background.add(ctx);
      await worker.scheduled(createScheduledController(), { ...env, ...other }, ctx);
    },

    /** Waits until everything that requests left in waitUntil is done. */
    async idle(): Promise<void> {
      for (const ctx of background) await waitOnExecutionContext(ctx);
      background.clear();
    },

    /** Delivers the messages of both queues that are due. */
    deliver,

    /** The location in which the queue is consumed from now on. */
    consumeIn(location: string): void {
      consumer = location;
    },

    /** Lets faked time pass, from one message that the queues have due to the next. */
    async pass(seconds: number): Promise<void> {
      const until = Date.now() + seconds * 1000;
      while (Date.now() < until) {
        const due = [...queue.messages, ...refundQueue.messages].map((message) => message.dueAt);
        const next = Math.min(until, ...due.filter((time) => time > Date.now()));
        await vi.advanceTimersByTimeAsync(next - Date.now());
        await deliver();
      }
    },

    /** What the next requests to the database meet. */
    async faults(...faults: Fault[]): Promise<void> {
      const response = await fetch(control, { method: 'PUT', body: JSON.stringify({ faults }) });
      if (!response.ok) throw new Error(await response.text());
    },

    /** Resolves when the endpoint holds this many requests. */
    async held(count: number): Promise<void> {
      const response = await fetch(`${control}/held?count=${count}`);
      if (!response.ok) throw new Error(await response.text());
      const state: ControlState = await response.json();
      if (state.held !== count) throw new Error(`${state.held} requests are held, not ${count}`);
    },

    /** How many statements the endpoint has sent to the database. */
    async statementsSent(): Promise<number> {
      const state: ControlState = await (await fetch(control)).json();
      return state.statements;
    },

    async release(): Promise<void> {
      await fetch(`${control}/release`, { method: 'POST' });
    },

    /** Ends the endpoint's sessions, so that the next ones take over a changed default. */
    async newSessions(): Promise<void> {
      await fetch(`${control}/sessions`, { method: 'DELETE' });
    },

    /** Resolves to the pid of a backend that meets the condition on pg_stat_activity, as soon as one does. */
    async backend(condition: string): Promise<number> {
      const Backends = z.array(z.object({ pid: z.number() }));
      return await vi.waitUntil(async () => {
        const found = await this.sql.query(
          `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND ${condition}`,
        );
        return Backends.parse(found)[0]?.pid;
      });
    },

    /** How many requests reached the database meanwhile. */
    async databaseRequests(work: () => Promise<unknown>): Promise<number> {
      const before = await requests();
      await work();
      return (await requests()) - before;
    },
  };

  async function requests(): Promise<number> {
    const state: ControlState = await (await fetch(control)).json();
    return state.requests;
  }
}

type Sql = NeonQueryFunction<false, false>;

const Inserted = z.tuple([z.object({ id: z.string() })]);

export interface PaymentRow {
  order_id: string;
  payment_no: string;
  payment_method: string;
  amount: string;
  status: number;
  payment_time: string | null;
  created_at: string;
}

let payments = 0;

/** Inserts a payment, by default a successful one of 100.00 by alipay, and returns its id. */
export async function insertPayment(sql: Sql, row: Partial<PaymentRow> = {}): Promise<string> {
  payments += 1;
  const payment = {
    order_id: '9007199254740993',
    payment_no: `PAY${String(payments).padStart(10, '0')}`,
    payment_method: 'alipay',
    amount: '100.00',
    status: 1,
    payment_time: '2026-11-01T00:00:01Z',
    created_at: '2026-11-01T00:00:00Z',
    ...row,
  };
  const [{ id }] = Inserted.parse(
    await sql`
      INSERT INTO payments (order_id, payment_no, payment_method, amount, status, payment_time, created_at)
      VALUES (${payment.order_id}, ${payment.payment_no}, ${payment.payment_method}, ${payment.amount},
        ${payment.status}, ${payment.payment_time}, ${payment.created_at})
      RETURNING id`,
  );
  return id;
}

const InsertedAll = z.array(z.object({ id: z.string() }));

/** Inserts callbacks CB-<name>-1, -2, … of a payment, oldest first, two in each second; returns their ids. */
export async function insertCallbacks(
  sql: Sql,
  paymentId: string,
  count: number,
  name = paymentId,
) {
  const rows = await sql`
    INSERT INTO payment_callbacks (payment_id, callback_no, status, created_at)
    SELECT ${paymentId}::bigint, 'CB-' || ${name}::text || '-' || n, 1,
      timestamptz '2026-11-01T01:00:00.000001Z' + n / 2 * interval '1 second'
    FROM generate_series(1, ${count}::int) AS n ORDER BY n
    RETURNING id`;
  return InsertedAll.parse(rows).map(({ id }) => id);
}

/** The same for refunds RF-<name>-1, -2, …, of 0.01 each, that have succeeded. */
export async function insertRefunds(sql: Sql, paymentId: string, count: number, name = paymentId) {
  const rows = await sql`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, reason, status, created_at)
    SELECT ${paymentId}::bigint, 'RF-' || ${name}::text || '-' || n, 0.01, '补差价', 1,
      timestamptz '2026-11-01T01:00:00.000001Z' + n / 2 * interval '1 second'
    FROM generate_series(1, ${count}::int) AS n ORDER BY n
    RETURNING id`;
  return InsertedAll.parse(rows).map(({ id }) => id);
}
