/** What work may use and where it says what it did, whether a request waits for it or nobody does. */
import type { Context } from 'hono';
import type { Bindings } from './env';
import type { AppEnv } from './http';
import type { RequestLog } from './log';

export interface Task {
  env: Bindings;
  /** Names the work in the log and on record: that of the request, or one of its own. */
  requestId: string;
  log: Pick<RequestLog, 'databaseRequests' | 'databaseMs' | 'kvMs'>;
  /** Lets work go on when the answer has been sent, up to 30 s. */
  waitUntil(work: Promise<unknown>): void;
}

/** The task of a request. */
export function taskOf(c: Context<AppEnv>): Task {
  return {
    env: c.env,
    requestId: c.get('requestId'),
    log: c.get('log'),
    waitUntil: (work) => c.executionCtx.waitUntil(work),
  };
}

/** A task that no request waits for: of a queue, of a cron, or behind an answer. */
export function backgroundTask(env: Bindings, waitUntil: Task['waitUntil']): Task {
  return {
    env,
    requestId: crypto.randomUUID(),
    log: { databaseRequests: 0, databaseMs: 0, kvMs: 0 },
    waitUntil,
  };
}
