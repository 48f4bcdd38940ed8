/**
 * The one way to the database: Drizzle over Neon's HTTP driver, which has neither a time-out nor a
 * retry of its own. A request's work has one deadline, and one second try where the first met a
 * fault that passes; errors come back as the codes a client sees. Whatever runs here twice must be
 * idempotent: reads are, refunds and settlements by construction.
 */
import { NeonDbError, neon, neonConfig } from '@neondatabase/serverless';
import { DrizzleQueryError, type SQL } from 'drizzle-orm';
import { drizzle, type NeonHttpDatabase } from 'drizzle-orm/neon-http';
import type { Context } from 'hono';
import { type Settings, settings } from './env';
import { ApiError, type AppEnv, UnknownOutcomeError } from './http';
import { writeLog } from './log';
import { type Task, taskOf } from './task';

/** Drizzle over the connection of one request. */
export type Database = NeonHttpDatabase;

const NEON_ENDPOINT = neonConfig.fetchEndpoint;

// The whole answer is read here, so a connection lost in the middle of it is a fault of the connection, and
// so is an answer that cannot be read: the statement may have run. The driver needs no more of a Response
// than this.
neonConfig.fetchFunction = async (url: string, init: RequestInit) => {
  const response = await fetch(url, init);
  const body = await response.text();
  // The driver reads JSON of these two statuses only.
  const answer = response.ok || response.status === 400 ? readAnswer(body, response.ok) : undefined;
  return {
    ok: response.ok,
    status: response.status,
    text: async () => body,
    json: async () => answer,
  };
};

/** The JSON that the driver expects: results, or the fields of an error. Throws for anything else. */
function readAnswer(body: string, ok: boolean): unknown {
  let answer: unknown;
  try {
    answer = JSON.parse(body);
  } catch {
    // The parser's message quotes the body.
  }
  const expected = ok ? ['rows', 'results'] : ['message'];
  if (typeof answer === 'object' && answer !== null) {
    if (expected.some((key) => key in answer)) return answer;
  }
  throw new Error('the endpoint answered with something other than its JSON');
}

/** What a statement that locks and writes has to respect. */
export interface Limits {
  /**
   * For lock_timeout: half of the time that is left, since a row is waited for twice (the place in the
   * queue, then the holder of the lock).
   */
  lockTimeout: string;
  /** When the request is given up, in milliseconds since the epoch. Nothing may be written after it. */
  deadline: number;
}

/** Thrown by `work` when the database has seen that the deadline is over and has written nothing. */
export class DeadlineError extends Error {
  override name = 'DeadlineError';
}

/** A write of which the client must be able to find out what came of it. */
interface Write {
  /** The data of every 5xx. */
  data: Record<string, string>;
  /** Whether it is safe to send the same request again while the outcome is unknown. */
  repeatable: boolean;
}

/** runInDatabase() for a request. */
export function inDatabase<T>(
  c: Context<AppEnv>,
  statement: string,
  work: (db: Database, limits: Limits) => Promise<T>,
  write?: Write,
): Promise<T> {
  return runInDatabase(taskOf(c), statement, work, write === undefined ? {} : { write });
}

/**
 * Runs the database work of one task: one statement, or one batch (READ COMMITTED, whatever the
 * database's default is; the driver says so for batches only). `work` may be called twice. A try that takes longer than SLOW_QUERY_MS is
 * logged under the name `statement`. The deadline is DATABASE_TIMEOUT_MS, or `withinMs` if that is less.
 * Throws ApiError 50300 (unreachable or refusing), 50400 (too slow) or 50000 (a fault of ours), all with
 * the data of `write`. An outcome that is unknown is said to be unknown.
 */
export async function runInDatabase<T>(
  { env, requestId, log }: Task,
  statement: string,
  work: (db: Database, limits: Limits) => Promise<T>,
  { write, withinMs = Number.POSITIVE_INFINITY }: { write?: Write; withinMs?: number } = {},
): Promise<T> {
  const { DATABASE_TIMEOUT_MS, SLOW_QUERY_MS } = settings(env);
  const limitMs = Math.min(DATABASE_TIMEOUT_MS, withinMs);
  const deadline = Date.now() + limitMs;
  const signal = AbortSignal.timeout(limitMs);
  const db = connect(settings(env), signal);

  let outcomeUnknown = false;
  const attempt = async (number: 1 | 2) => {
    log.databaseRequests += 1;
    const began = performance.now();
    try {
      const lockTimeout = `${Math.max(1, Math.floor((deadline - Date.now()) / 2))}ms`;
      return await work(db, { lockTimeout, deadline });
    } catch (error) {
      outcomeUnknown ||= signal.aborted || mayHaveRun(faultOf(error));
      throw error;
    } finally {
      const ms = performance.now() - began;
      log.databaseMs += ms;
      if (ms > SLOW_QUERY_MS) {
        writeLog('warn', 'slow_query', {
          request_id: requestId,
          statement,
          attempt: number,
          ms: Math.round(ms),
        });
      }
    }
  };
  try {
    return await attempt(1).catch((error: unknown) => {
      if (signal.aborted || !passes(faultOf(error))) throw error;
      return attempt(2);
    });
  } catch (error) {
    const code = signal.aborted ? 50400 : codeOf(faultOf(error));
    if (write && !write.repeatable && outcomeUnknown) {
      throw new UnknownOutcomeError(code, write.data, error);
    }
    throw new ApiError(code, write?.data ?? null, error);
  }
}

/**
 * The one value of a statement that calls a function which locks and writes. As a batch of one, since its parts
 * must see what was committed while it waited for the lock, whatever isolation the database defaults to.
 */
export async function callFunction<T>(db: Database, statement: SQL): Promise<T | null> {
  const [{ rows }] = await db.batch([db.execute<{ value: T | null }>(statement)]);
  return rows[0]?.value ?? null;
}

/** The database as it is, for work that no request waits for: no second try, errors as the driver throws them. */
export function connect(
  { DATABASE_URL, NEON_FETCH_ENDPOINT }: Settings,
  signal: AbortSignal,
): Database {
  neonConfig.fetchEndpoint = NEON_FETCH_ENDPOINT ?? NEON_ENDPOINT;
  return drizzle(neon(DATABASE_URL, { isolationLevel: 'ReadCommitted', fetchOptions: { signal } }));
}

/** What went wrong: PostgreSQL's word, the endpoint's, no answer at all, or an error of our own. */
type Fault =
  | { kind: 'sql'; sqlstate: string }
  | { kind: 'refused' }
  | { kind: 'endpoint'; status: number }
  | { kind: 'connection' }
  | { kind: 'late' }
  | { kind: 'ours' };

function faultOf(error: unknown): Fault {
  if (error instanceof DeadlineError) return { kind: 'late' };
  // A single statement fails with a DrizzleQueryError around the driver's error, a batch with the driver's.
  const inner = error instanceof DrizzleQueryError ? error.cause : error;
  if (!(inner instanceof NeonDbError)) return { kind: 'ours' };

  // Where PostgreSQL gave none, Neon's proxy sends an empty SQLSTATE.
  if (inner.code) return { kind: 'sql', sqlstate: inner.code };
  if (inner.sourceError || LOST_CONNECTION.test(inner.message)) return { kind: 'connection' };
  const status = /^Server error \(HTTP status (\d{3})\)/.exec(inner.message)?.[1];
  return status ? { kind: 'endpoint', status: Number(status) } : { kind: 'refused' };
}

/**
 * How Neon's proxy says, in an answer 400 like that to a refused login, that it lost PostgreSQL
 * while a statement was running: the texts of tokio-postgres, which it is made with.
 */
const LOST_CONNECTION = /^(connection closed|error communicating with the server)/;

function passes(fault: Fault): boolean {
  switch (fault.kind) {
    case 'connection':
      return true;
    case 'endpoint':
      return [500, 502, 503, 504, ANSWER_TOO_LARGE].includes(fault.status);
    case 'sql':
      return SERIALIZATION_FAILURES.includes(fault.sqlstate);
    case 'late':
    case 'refused':
    case 'ours':
      return false;
  }
}

/** Whether the statement may have been committed all the same. PostgreSQL's own error means that it was not. */
function mayHaveRun(fault: Fault): boolean {
  switch (fault.kind) {
    case 'connection':
    case 'endpoint':
    case 'ours':
      return true;
    case 'sql':
      return OUTCOME_UNKNOWN.test(fault.sqlstate);
    case 'late':
    case 'refused':
      return false;
  }
}

/** Connection exceptions, statement_completion_unknown, and the shutdown of the server. */
const OUTCOME_UNKNOWN = /^(08|40003|57P0)/;

/** serialization_failure, deadlock_detected. https://www.postgresql.org/docs/18/errcodes-appendix.html */
const SERIALIZATION_FAILURES = ['40001', '40P01'];

/** lock_not_available (lock_timeout), query_canceled (statement_timeout). */
const TIMEOUTS = ['55P03', '57014'];

/** Connection exceptions, invalid authorization, no such database, insufficient resources, operator intervention. */
const UNAVAILABLE = /^(08|28|3D|53|57P)/;

/** Neon's answer was larger than its limit. */
const ANSWER_TOO_LARGE = 507;

function codeOf(fault: Fault): 50000 | 50300 | 50400 {
  switch (fault.kind) {
    case 'connection':
    case 'refused':
      return 50300;
    case 'late':
      return 50400;
    case 'endpoint':
      return fault.status === ANSWER_TOO_LARGE ? 50000 : 50300;
    case 'sql':
      if (TIMEOUTS.includes(fault.sqlstate)) return 50400;
      return UNAVAILABLE.test(fault.sqlstate) || SERIALIZATION_FAILURES.includes(fault.sqlstate)
        ? 50300
        : 50000;
    case 'ours':
      return 50000;
  }
}
