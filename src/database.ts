/**
 * The one way to the database: Drizzle over Neon's HTTP driver, which has neither a time-out nor a
 * retry of its own. A request's work has one deadline, and one second try where the first met a
 * fault that passes; errors come back as the codes a client sees. Whatever runs here twice must be
 * idempotent: reads are, refunds and settlements by construction.
 */
import { NeonDbError, neon, neonConfig } from '@neondatabase/serverless';
import { DrizzleQueryError } from 'drizzle-orm';
import { drizzle, type NeonHttpDatabase } from 'drizzle-orm/neon-http';
import type { Context } from 'hono';
import { type Settings, settings } from './env';
import { ApiError, type AppEnv } from './http';
import { writeLog } from './log';

/** Drizzle over the connection of one request. */
export type Database = NeonHttpDatabase;

const NEON_ENDPOINT = neonConfig.fetchEndpoint;

// The whole answer is read here, so that a connection lost in the middle of it is known as such.
// What comes back is all of a Response that the driver looks at: a real one would be built for nothing.
neonConfig.fetchFunction = async (url: string, init: RequestInit) => {
  const response = await fetch(url, init);
  const body = await response.text();
  return {
    ok: response.ok,
    status: response.status,
    text: async () => body,
    json: async () => JSON.parse(body),
  };
};

/**
 * Runs one request's database work: one statement, or one batch (READ COMMITTED, whatever the
 * database's default is). `work` may be called twice; `lockTimeout` is for its lock_timeout: half of
 * the time that is left, since getting a row takes two waits (its place in the queue, then its
 * holder). So what was given up on does not commit later than its purges expect.
 * A try that takes longer than SLOW_QUERY_MS is logged under the name `statement`.
 * Throws ApiError 50300 (unreachable or refusing) or 50400 (too slow), both with
 * `dataIfUnavailable`, or 50000 (a fault of ours).
 */
export async function inDatabase<T>(
  c: Context<AppEnv>,
  statement: string,
  work: (db: Database, lockTimeout: string) => Promise<T>,
  dataIfUnavailable: Record<string, string> | null = null,
): Promise<T> {
  const { DATABASE_TIMEOUT_MS, SLOW_QUERY_MS } = settings(c.env);
  const deadline = Date.now() + DATABASE_TIMEOUT_MS;
  const signal = AbortSignal.timeout(DATABASE_TIMEOUT_MS);
  const db = connect(settings(c.env), signal);

  const log = c.get('log');
  const attempt = async (number: 1 | 2) => {
    log.databaseRequests += 1;
    const began = performance.now();
    try {
      return await work(db, `${Math.max(1, Math.floor((deadline - Date.now()) / 2))}ms`);
    } finally {
      const ms = performance.now() - began;
      log.databaseMs += ms;
      if (ms > SLOW_QUERY_MS) {
        writeLog('warn', 'slow_query', {
          request_id: c.get('requestId'),
          statement,
          attempt: number,
          ms: Math.round(ms),
        });
      }
    }
  };
  try {
    return await attempt(1).catch((error: unknown) => {
      if (signal.aborted || !passes(fault(error))) throw error;
      return attempt(2);
    });
  } catch (error) {
    const code = signal.aborted ? 50400 : codeOf(fault(error));
    throw new ApiError(code, code === 50000 ? null : dataIfUnavailable, error);
  }
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
  | { kind: 'ours' };

function fault(error: unknown): Fault {
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
      return [500, 502, 503, 504].includes(fault.status);
    case 'sql':
      return SERIALIZATION_FAILURES.includes(fault.sqlstate);
    case 'refused':
    case 'ours':
      return false;
  }
}

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
