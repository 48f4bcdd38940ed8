/**
 * POST /callbacks/:gateway: a gateway tells what became of a refund or a payment. Its signature is checked over
 * the bytes received, before anything else and without the database. Then one statement keeps the callback and
 * does what it says. The answer is in the words that the gateway wants; where the fault is ours, or what it is
 * about is not there yet, it says "come again". Nobody is told why a callback is refused.
 */
import { sql } from 'drizzle-orm';
import { type Context, Hono } from 'hono';
import * as z from 'zod';
import { callFunction, runInDatabase } from '../database';
import { ApiError, type AppEnv, readBody } from '../http';
import { describeError, writeLog } from '../log';
import { purgeAfter } from '../payments/detail-cache';
import { taskOf } from '../task';
import { explain } from './explanations';
import { CallbackRefusedError, type Gateway, type GatewayKind, type Notification } from './gateway';
import { gatewayKind, gatewaysOf } from './gateways';
import { type FollowUp, followInBackground, sweepSometimes, writeGatewayPoint } from './outbox';

/** Which gateway calls. Its address is an open one, so the path alone says it. */
export const CallbackPath = z.object({ gateway: z.string().describe('wechat, alipay') });

const MAX_BODY_BYTES = 64 * 1024;

/** A gateway waits five seconds for its answer. */
const DEADLINE_MS = 3_500;

export const takeCallback = new Hono<AppEnv>().post('/callbacks/:gateway', async (c) => {
  const name = c.req.param('gateway');
  const kind = gatewayKind(name);
  if (!kind) throw new ApiError(40400);

  const began = Date.now();
  const { answer, outcome, code, error } = await take(c, name);
  const point = {
    gateway: name,
    operation: 'callback',
    outcome,
    code,
    http_status: kind.answers[answer].status,
    duration_ms: Date.now() - began,
    attempt: null,
  };
  writeLog(answer === 'taken' ? 'info' : 'warn', 'gateway_callback', {
    request_id: c.get('requestId'),
    ...point,
    ...(error === undefined ? {} : { error: describeError(error) }),
  });
  writeGatewayPoint(c.env, point);
  const { status, contentType, body } = kind.answers[answer];
  return c.newResponse(body, status, contentType === null ? {} : { 'Content-Type': contentType });
});

interface Taken {
  answer: keyof GatewayKind['answers'];
  /** For the log: what came of it, or why it was refused. */
  outcome: string;
  /** The gateway's word for what happened. */
  code: string | null;
  error?: unknown;
}

async function take(c: Context<AppEnv>, name: string): Promise<Taken> {
  let event: string | null = null;
  try {
    const body = await readBody(c.req.raw.body, MAX_BODY_BYTES);
    const { configured, rules } = await gatewaysOf(c.env);
    const gateway = configured.get(name);
    if (!gateway) return { answer: 'again', outcome: 'not_configured', code: null };

    const notification = await gateway.readCallback(c.req.raw.headers, body);
    event = notification.event;
    const { result, again } = await process(c, gateway, notification, body, rules);
    return { answer: again ? 'again' : 'taken', outcome: result, code: event };
  } catch (error) {
    if (error instanceof CallbackRefusedError) {
      return { answer: 'refused', outcome: error.reason, code: event };
    }
    if (error instanceof ApiError && error.code === 41300) {
      return { answer: 'tooLarge', outcome: 'too_large', code: null };
    }
    if (error instanceof ApiError && error.code === 40001) {
      return { answer: 'refused', outcome: 'broken_off', code: null };
    }
    const fault = error instanceof ApiError ? (error.cause ?? error) : error;
    c.get('log').error = fault;
    return { answer: 'again', outcome: 'fault', code: event, error: fault };
  }
}

/** NUL and lone surrogates, as JSON has them: PostgreSQL stores neither. */
const UNSTORABLE = /(?:^|[^\\])(?:\\\\)*\\u(?:0000|d[89a-f])/;

/** What take_gateway_notification() gives. */
interface Processed {
  result: string;
  again: boolean;
  payment_id: string | null;
  refund_no: string | null;
  follow_up: FollowUp | null;
}

/** Keeps the callback and does what it says, in one statement. What follows goes on behind the answer. */
async function process(
  c: Context<AppEnv>,
  { name, account }: Gateway,
  notification: Notification,
  body: Uint8Array,
  rules: string,
): Promise<Processed> {
  const task = taskOf(c);
  const news = notification.refund?.news;
  const explanation = news && 'code' in news ? explain(news.code) : null;
  const text = JSON.stringify(notification);
  if (UNSTORABLE.test(text)) throw new CallbackRefusedError('body');
  const raw = `\\x${body.toHex()}`;
  const processed = await runInDatabase(
    task,
    'callback',
    async (db, { lockTimeout }) => {
      const value = await callFunction<Processed>(
        db,
        sql`SELECT take_gateway_notification(${name}, ${account}, ${text}::jsonb, ${raw}::bytea,
          ${explanation}, ${rules}::jsonb, ${c.get('requestId')}, ${lockTimeout}) AS value`,
      );
      if (!value) throw new Error('the function always returns a value');
      return value;
    },
    { withinMs: DEADLINE_MS },
  );

  const { payment_id, refund_no, follow_up } = processed;
  if (payment_id !== null) task.waitUntil(purgeAfter(task, BigInt(payment_id)));
  if (payment_id !== null && refund_no !== null && follow_up) {
    followInBackground(task, { payment_id, refund_no }, follow_up);
  }
  sweepSometimes(task);
  return processed;
}
