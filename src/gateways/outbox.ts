/**
 * The outbox: brings a refund to its gateway and follows it to its end. The row in gateway_refunds says what is
 * to be done and when. A queue message comes at that moment, and sweeps find what a lost message left behind.
 * Whoever acts must first win the claim of the row, so duplicate messages do nothing. An unknown outcome is asked
 * about, and the same number is sent again; nothing fails by age.
 * The rules are in the database (drizzle/0015_gateway_functions.sql). This file calls, and carries messages.
 */
import { type SQL, sql } from 'drizzle-orm';
import * as z from 'zod';
import { callFunction, type Limits, runInDatabase } from '../database';
import { type Bindings, settings } from '../env';
import { describeError, writeLog } from '../log';
import { gatewayPoint } from '../metrics';
import { withPurges } from '../payments/detail-cache';
import { backgroundTask, type Task } from '../task';
import { explain } from './explanations';
import type { GatewayRefund, Reply } from './gateway';
import { gatewaysOf } from './gateways';

/** So long after the end of its batch the message for a new refund comes, and finds what was committed. */
const FIRST_DELAY_SECONDS = 7;

/** From one poll to the next, 24 h in all. After that the daily sweep goes on. */
const POLL_DELAYS_SECONDS = [
  ...[60, 60, 60, 60, 60, 300, 600, 1200, 1800],
  ...[1, 2, 4, 8, 8].map((hours) => hours * 3600),
];

/** What is due later than this is left to the daily sweep. */
const MAX_DELAY_SECONDS = 8 * 3600;

/**
 * Nothing is sent so long after the claim was asked for: an isolate that was frozen must not send when the lease of
 * two minutes is over and others have drawn their conclusions. The longest database deadline and the time-out of a
 * call fit into it.
 */
const MAX_CLAIM_MS = 45_000;

/** How long an isolate waits before it sweeps again. */
const SWEEP_PAUSE_MS = 600_000;

/** What the database gives to a sweep at a time. */
const SWEEP_SIZE = 100;

const MAX_RETRY_DELAY_SECONDS = 300;

const Request = z.object({
  outRefundNo: z.string(),
  outTradeNo: z.string(),
  tradeNo: z.string().nullable(),
  amount: z.string(),
  total: z.string(),
  reason: z.string().nullable(),
}) satisfies z.ZodType<GatewayRefund>;

const Polled = z.object({ gateway: z.string(), account: z.string(), request: Request });

const Message = z.object({
  payment_id: z.string().regex(/^\d+$/),
  refund_no: z.string(),
  /** Where it is there, the gateway is asked without the database, which may sleep. */
  poll: Polled.extend({ step: z.int().nonnegative() }).optional(),
});
type Message = z.infer<typeof Message>;

const SweepMessage = z.object({ sweep: z.literal(true) });

/** What the database says after news: when something is due, or that polling begins. */
export interface FollowUp {
  /** What the refund is in now; absent where that was not asked. */
  state?: string;
  /** Milliseconds since the epoch; null where a message is on its way, or nothing is left to do. */
  due_at: number | null;
  poll?: z.infer<typeof Polled> | null;
}

/** What claim_gateway_refund() gives. */
export type Claim =
  | { operation: 'none' }
  | { operation: 'wait'; due_at: number | null }
  | {
      operation: 'send' | 'query';
      gateway: string;
      attempt: number;
      request: GatewayRefund;
      decisive: boolean;
    };

/** A call that was made. */
export interface Call {
  operation: 'send' | 'query' | 'poll' | 'abnormal';
  attempt: number;
  /** Milliseconds since the epoch. */
  began: number;
  ended: number;
  reply: Reply;
}

/**
 * Sends the message that brings a refund on even if this isolate dies after the commit. Called while the
 * refund's batch runs. For a refund that is refused or settled by hand, the message does nothing.
 */
export async function announceRefund({ env }: Task, message: Message): Promise<void> {
  const { REFUND_QUEUE, DATABASE_TIMEOUT_MS } = settings(env);
  try {
    const delaySeconds = Math.ceil(DATABASE_TIMEOUT_MS / 1000) + FIRST_DELAY_SECONDS;
    await REFUND_QUEUE.send(message, { delaySeconds });
  } catch (error) {
    writeLog('error', 'gateway_message_not_sent', { error: describeError(error) });
  }
}

/** Does what is due for a refund, and sees to what follows. Never throws: a message or a sweep tries again. */
export async function advanceInBackground(task: Task, message: Message): Promise<void> {
  try {
    await advance(task, message);
  } catch (error) {
    writeLog('error', 'gateway_refund_not_advanced', {
      request_id: task.requestId,
      refund_no: message.refund_no,
      error: describeError(error),
    });
  }
}

/**
 * Does what is due for a refund, and sees to what follows. `resend`: the message comes again, so the messages that
 * follow from it may never have been sent. Throws where the database or the queue fails.
 */
async function advance(task: Task, message: Message, resend = false): Promise<void> {
  const { configured, rules } = await gatewaysOf(task.env);
  // A query that finds nothing may be followed by a send at once. What follows a send belongs to a message.
  for (;;) {
    const signal = AbortSignal.timeout(MAX_CLAIM_MS);
    const claim = await claimRefund(task, message.refund_no, rules, resend);
    if (claim === null || claim.operation === 'none') return;
    if (claim.operation === 'wait') return await follow(task, message, claim);

    const gateway = configured.get(claim.gateway);
    if (!gateway) throw new Error('the database claims for gateways that are configured only');
    const { operation } = claim;
    const call = await measured(task, gateway.name, claim, () =>
      operation === 'send'
        ? gateway.send(claim.request, signal)
        : gateway.query(claim.request, claim.decisive),
    );
    const followUp = await record(task, message, call, rules, resend);
    if (!followUp) return;
    const isDue = followUp.due_at !== null && followUp.due_at <= Date.now();
    if (!isDue || operation === 'send') return await follow(task, message, followUp);
  }
}

async function claimRefund(
  task: Task,
  refundNo: string,
  rules: string,
  resend: boolean,
): Promise<Claim | null> {
  let tries = 0;
  return await runInDatabase(task, 'claim', (db, limits) => {
    tries += 1;
    const how = { ask: false, resend: resend || tries > 1 };
    return callFunction<Claim>(db, claimStatement(refundNo, rules, how, limits));
  });
}

/** follow() behind an answer. Never throws: the sweep finds a refund whose message was not sent. */
export function followInBackground(task: Task, message: Message, followUp: FollowUp): void {
  task.waitUntil(
    follow(task, message, followUp).catch((error: unknown) =>
      writeLog('error', 'gateway_message_not_sent', { error: describeError(error) }),
    ),
  );
}

/** Sends the message for what is due next. */
async function follow(
  { env }: Task,
  { payment_id, refund_no }: Message,
  { due_at, poll }: FollowUp,
): Promise<void> {
  const { REFUND_QUEUE } = settings(env);
  if (poll) {
    const message: Message = { payment_id, refund_no, poll: { ...poll, step: 0 } };
    await REFUND_QUEUE.send(message, { delaySeconds: POLL_DELAYS_SECONDS[0] ?? 0 });
  }
  if (due_at === null) return;
  const delaySeconds = Math.max(1, Math.ceil((due_at - Date.now()) / 1000));
  if (delaySeconds > MAX_DELAY_SECONDS) return;
  await REFUND_QUEUE.send({ payment_id, refund_no } satisfies Message, { delaySeconds });
}

interface Asked {
  operation: Call['operation'];
  attempt: number;
  request: Pick<GatewayRefund, 'outRefundNo'>;
}

/** Makes a call of a gateway with a line in the log and a data point. */
export async function measured(
  { env, requestId }: Task,
  gateway: string,
  { operation, attempt, request: { outRefundNo } }: Asked,
  work: () => Promise<Reply>,
): Promise<Call> {
  const began = Date.now();
  const reply = await work();
  const ended = Date.now();
  const { news, httpStatus, gatewayRequestId } = reply;
  const point = {
    gateway,
    operation,
    outcome: news.kind,
    code: 'code' in news ? news.code : null,
    http_status: httpStatus,
    duration_ms: ended - began,
    attempt,
  };
  const level = ['unknown', 'blocked', 'abnormal'].includes(news.kind) ? 'warn' : 'info';
  writeLog(level, 'gateway_call', {
    request_id: requestId,
    refund_no: outRefundNo,
    ...point,
    gateway_request_id: gatewayRequestId,
  });
  writeGatewayPoint(env, point);
  return { operation, attempt, began, ended, reply };
}

/** Leaves a data point; a failure is logged only. */
export function writeGatewayPoint(env: Bindings, point: Parameters<typeof gatewayPoint>[0]): void {
  try {
    env.GATEWAY_METRICS?.writeDataPoint(gatewayPoint(point));
  } catch (error) {
    writeLog('warn', 'metrics_not_written', { error: describeError(error) });
  }
}

/** Records what came of a call. Null where the refund has gone. */
async function record(
  task: Task,
  message: Message,
  call: Call,
  rules: string,
  resend = false,
): Promise<FollowUp | null> {
  let tries = 0;
  return await withPurges(task, BigInt(message.payment_id), () =>
    runInDatabase(task, 'record', (db, limits) => {
      tries += 1;
      const how = { requestId: task.requestId, resend: resend || tries > 1 };
      return callFunction<FollowUp>(
        db,
        recordStatement(message.refund_no, call, rules, how, limits),
      );
    }),
  );
}

/** Claims a refund by its refund_no (claim_gateway_refund()). */
export function claimStatement(
  refundNo: string | SQL,
  rules: string,
  { ask, resend }: { ask: boolean; resend: boolean },
  { lockTimeout }: Limits,
): SQL {
  return sql`SELECT claim_gateway_refund(${refundNo}, ${rules}::jsonb, ${ask}, ${resend}, ${lockTimeout}) AS value`;
}

/** Records a call and settles by it (record_gateway_answer()). */
export function recordStatement(
  refundNo: string,
  { reply: { news, httpStatus, gatewayRequestId }, ...call }: Call,
  rules: string,
  { requestId, resend }: { requestId: string; resend: boolean },
  { lockTimeout }: Limits,
): SQL {
  const made = JSON.stringify({ ...call, httpStatus, gatewayRequestId });
  const explanation = 'code' in news ? explain(news.code) : null;
  return sql`SELECT record_gateway_answer(${refundNo}, ${made}::jsonb, ${JSON.stringify(news)}::jsonb,
    ${explanation}, ${rules}::jsonb, ${requestId}, ${resend}, ${lockTimeout}) AS value`;
}

/**
 * Asks the gateway about a refund that it has taken. The database is touched only when the answer is another
 * than "still working".
 */
async function poll(
  task: Task,
  message: Message,
  { step, gateway: name, account, request }: NonNullable<Message['poll']>,
): Promise<void> {
  const { configured, rules } = await gatewaysOf(task.env);
  const gateway = configured.get(name);
  // Of another account's refunds this one says nothing. The sweep points it out.
  if (gateway?.account !== account) return;

  const asked = { operation: 'poll', attempt: 0, request } as const;
  const call = await measured(task, name, asked, () => gateway.query(request, false));
  const { news } = call.reply;
  const isWorking =
    ['accepted', 'unknown', 'later'].includes(news.kind) ||
    (news.kind === 'blocked' && news.where === 'gateway');
  if (!isWorking) {
    const followUp = await record(task, message, call, rules);
    if (!followUp) return;
    // One whose failure was forced may become visible yet.
    const goesOn =
      followUp.state === 'accepted' || (news.kind === 'missing' && followUp.state === 'failed');
    if (!goesOn) return await follow(task, message, followUp);
  }
  const delaySeconds = POLL_DELAYS_SECONDS[step + 1];
  if (delaySeconds === undefined) return;
  const next = { ...message, poll: { step: step + 1, gateway: name, account, request } };
  await settings(task.env).REFUND_QUEUE.send(next satisfies Message, { delaySeconds });
}

/**
 * Consumes the refund queue, one message after the other: a gateway allows only a few failing requests a
 * second. What fails is tried again with growing delay.
 */
export async function consumeRefunds(
  batch: MessageBatch<unknown>,
  env: Bindings,
  ctx: ExecutionContext,
): Promise<void> {
  for (const message of batch.messages) {
    const task = backgroundTask(env, (work) => ctx.waitUntil(work));
    try {
      const parsed = Message.safeParse(message.body);
      if (SweepMessage.safeParse(message.body).success) await sweep(task);
      else if (!parsed.success) writeLog('error', 'gateway_message_malformed', {});
      else if (parsed.data.poll) await poll(task, parsed.data, parsed.data.poll);
      else {
        await advance(task, parsed.data, message.attempts > 1);
        sweepSometimes(task);
      }
      message.ack();
    } catch (error) {
      writeLog('warn', 'gateway_message_retried', {
        attempts: message.attempts,
        error: describeError(error),
      });
      message.retry({ delaySeconds: Math.min(2 ** message.attempts, MAX_RETRY_DELAY_SECONDS) });
    }
  }
}

/** Consumes the dead letters: says so, and leaves the refunds to the sweep. */
export function consumeDeadRefunds(batch: MessageBatch<unknown>): void {
  for (const message of batch.messages) {
    const parsed = Message.safeParse(message.body);
    writeLog('error', 'gateway_message_dead', {
      refund_no: parsed.success ? parsed.data.refund_no : null,
    });
    message.ack();
  }
}

let sweptAt = Number.NEGATIVE_INFINITY;

/** Sweeps in the background, at most once in ten minutes: called by what has just used the database. */
export function sweepSometimes(task: Task): void {
  if (settings(task.env).GATEWAYS.length === 0 || Date.now() - sweptAt < SWEEP_PAUSE_MS) return;
  sweptAt = Date.now();
  task.waitUntil(
    sweep(task).catch((error: unknown) =>
      writeLog('error', 'gateway_sweep_failed', { error: describeError(error) }),
    ),
  );
}

/**
 * Finds refunds that are overdue, whose message was lost, and sends a message for each. A sweep that was full
 * sends one for the next hundred.
 */
async function sweep(task: Task): Promise<void> {
  const found = await runInDatabase(task, 'sweep', async (db) => {
    const { rows } = await db.execute<{ value: { payment_id: string; refund_no: string } }>(
      sql`SELECT sweep_gateway_refunds() AS value`,
    );
    return rows.map(({ value }) => value);
  });
  if (found.length === 0) return;
  writeLog('warn', 'gateway_refunds_swept', { refunds: found.length });
  const { REFUND_QUEUE } = settings(task.env);
  await REFUND_QUEUE.sendBatch(found.map((body) => ({ body: body satisfies Message })));
  if (found.length === SWEEP_SIZE) await REFUND_QUEUE.send({ sweep: true });
}

/** Consumes the daily cron: sweeps, and removes the raw bodies of old callbacks. Never throws. */
export async function dailySweep(task: Task): Promise<void> {
  try {
    await sweep(task);
    const notifications = await purgeNotifications(task);
    if (notifications > 0) writeLog('info', 'gateway_notifications_purged', { notifications });
  } catch (error) {
    writeLog('error', 'gateway_sweep_failed', { error: describeError(error) });
  }
}

/** What the database removes at a time. */
const PURGE_SIZE = 1000;

/** More of them than any day brings. */
const MAX_PURGES = 1000;

/** Removes the raw bodies of old callbacks until none is left, and returns how many there were. */
async function purgeNotifications(task: Task): Promise<number> {
  let removed = 0;
  for (let purges = 1; purges <= MAX_PURGES; purges++) {
    const count = await runInDatabase(task, 'purge', async (db) =>
      Number(await callFunction<string>(db, sql`SELECT purge_gateway_notifications() AS value`)),
    );
    removed += count;
    if (count < PURGE_SIZE) break;
  }
  return removed;
}
