/**
 * The log: one JSON line a request, and one for what happens beside it. It never holds a parameter,
 * a token or a connection string; an unexpected fault is in it whole but for those.
 */
import { DrizzleQueryError } from 'drizzle-orm';
import type { MiddlewareHandler } from 'hono';
import { routePath } from 'hono/route';
import type { AppEnv } from './http';
import { dataPoint } from './metrics';

/** What the request log says of one request, filled in as the request goes on. */
export interface RequestLog {
  /** 0, or the error code answered. */
  code: number;
  databaseRequests: number;
  databaseMs: number;
  /** Waiting for KV before the answer. */
  kvMs: number;
  /** Of the list that was answered. */
  rows: number;
  /** Who is calling: the `sub` of the token. */
  actor?: string;
  /** Why a token was refused, by jose's code. */
  refusal?: string;
  /** How the detail cache was used, where it was. */
  cache?: string;
  /** The fault behind a 5xx. */
  error?: unknown;
}

/**
 * Writes one JSON line and one data point for each request. Where SERVER_TIMING is on, the answer says
 * the times as well. The clock of Workers moves with I/O only: what is computed after the last of it is
 * in none of them.
 */
export const requestLog: MiddlewareHandler<AppEnv> = async function requestLog(c, next) {
  const began = performance.now();
  const colo = c.req.raw.cf?.colo;
  const log: RequestLog = { code: 0, databaseRequests: 0, databaseMs: 0, kvMs: 0, rows: 0 };
  c.set('log', log);
  await next();

  // The last one that was entered, not the last that would match: /payments/export is a /payments/:id, too.
  const route = routePath(c);
  const line = {
    request_id: c.get('requestId'),
    method: c.req.method,
    route: route === '/*' ? null : route,
    status: c.res.status,
    code: log.code,
    duration_ms: Math.round(performance.now() - began),
    database_requests: log.databaseRequests,
    database_ms: Math.round(log.databaseMs),
    kv_ms: Math.round(log.kvMs),
    cache: log.cache ?? null,
    actor: log.actor ?? null,
  };
  writeLog(log.error === undefined ? 'info' : 'error', 'request', {
    ...line,
    ...(log.refusal === undefined ? {} : { refusal: log.refusal }),
    ...(log.error === undefined ? {} : { error: describeError(log.error) }),
  });
  try {
    c.env.METRICS?.writeDataPoint(
      dataPoint({ ...line, rows: log.rows, colo: typeof colo === 'string' ? colo : null }),
    );
  } catch (error) {
    writeLog('warn', 'metrics_not_written', { error: describeError(error) });
  }
  // Not by way of settings(): a deployment that is not configured is measured as well.
  if (c.env.SERVER_TIMING === 'on') {
    const { database_ms, kv_ms, duration_ms } = line;
    c.header('Server-Timing', `db;dur=${database_ms}, kv;dur=${kv_ms}, total;dur=${duration_ms}`);
  }
};

/** Adds the time until `work` ends, one way or the other, to one of the request's sums. */
export async function timed<T>(
  log: Pick<RequestLog, 'databaseMs' | 'kvMs'>,
  sum: 'databaseMs' | 'kvMs',
  work: Promise<T>,
): Promise<T> {
  const began = performance.now();
  try {
    return await work;
  } finally {
    log[sum] += performance.now() - began;
  }
}

/** One JSON line on the console, where Workers Logs indexes its fields. */
export function writeLog(
  level: 'info' | 'warn' | 'error',
  event: string,
  fields: Record<string, unknown>,
): void {
  console[level](JSON.stringify({ level, event, ...fields }));
}

/**
 * An error for the log: names, stack, SQLSTATE and what PostgreSQL says of the place, with all
 * causes. Left out is whatever may hold parameters or secrets: the message of a DrizzleQueryError
 * (it quotes them), of SQLSTATE class 22 (it quotes the value), `detail`, `where` and the query.
 */
export function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { name: typeof error };
  const sqlstate = textField(error, 'code');
  const quotesParameters = error instanceof DrizzleQueryError || sqlstate?.startsWith('22');
  const cause = error.cause ?? Reflect.get(error, 'sourceError');
  return {
    name: error instanceof DrizzleQueryError ? 'DrizzleQueryError' : error.name,
    ...(quotesParameters ? {} : { message: withoutSecrets(error.message) }),
    ...(sqlstate === undefined ? {} : { sqlstate }),
    ...Object.fromEntries(
      ['severity', 'schema', 'table', 'column', 'constraint', 'routine']
        .map((field) => [field, textField(error, field)])
        .filter(([, value]) => value !== undefined),
    ),
    stack: (error.stack ?? '')
      .split('\n')
      .filter((line) => /^\s+at /.test(line))
      .map((line) => line.trim()),
    ...(cause === undefined || cause === null ? {} : { cause: describeError(cause) }),
  };
}

function textField(error: Error, field: string): string | undefined {
  const value: unknown = Reflect.get(error, field);
  return typeof value === 'string' ? value : undefined;
}

function withoutSecrets(message: string): string {
  return message.replace(/postgres(ql)?:\/\/\S+/gi, 'postgres://…');
}
