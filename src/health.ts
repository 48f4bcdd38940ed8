/**
 * GET /health answers without touching anything; GET /health/ready says whether database and KV
 * answer, within a second. Both are open to everybody. An isolate asks database and KV once in five
 * seconds at most, however many ask it, so that nobody can load them by asking.
 */
import { sql } from 'drizzle-orm';
import { type Context, Hono } from 'hono';
import * as z from 'zod';
import { connect } from './database';
import { type Settings, settings } from './env';
import { ApiError, type AppEnv, envelope } from './http';
import { describeError, timed, writeLog } from './log';

/** Both parts together, and everybody who waits for them. */
const DEADLINE_MS = 1_000;

/** How long an outcome is told again. */
const FRESH_MS = 5_000;

/** The least that KV allows. */
const KV_TTL_SECONDS = 30;

const Part = z.literal(['ok', 'failed']);

/** Which parts answer. */
export const Readiness = z.object({ database: Part, kv: Part });
type Readiness = z.infer<typeof Readiness>;

export const health = new Hono<AppEnv>()
  .get('/health', (c) => c.json(envelope('服务正常', { status: 'ok' })))
  .get('/health/ready', async (c) => {
    const { database, kv } = await check(c);
    if (database === 'failed' || kv === 'failed') throw new ApiError(50302, { database, kv });
    return c.json(envelope('服务就绪', { status: 'ok', database, kv }));
  });

/** A part has failed until it has succeeded, so what the deadline cuts off has failed. */
interface Check extends Readiness {
  begunAt: number;
  /** Never rejects. */
  ended: Promise<unknown>;
}

/** The last check of this isolate, under way or ended. */
let last: Check | undefined;

/**
 * The last check, or a new one. Each request waits with a timer of its own: if the one that began
 * the check was killed, nobody is told of its end.
 */
async function check(c: Context<AppEnv>): Promise<Check> {
  const deployment = settings(c.env);
  if (!last || Date.now() - last.begunAt >= FRESH_MS) last = begin(c, deployment);
  const current = last;
  let timer: ReturnType<typeof setTimeout> | null = null;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, current.begunAt + DEADLINE_MS - Date.now());
  });
  await Promise.race([current.ended, late]);
  clearTimeout(timer);
  return current;
}

function begin(c: Context<AppEnv>, deployment: Settings): Check {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const late = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
  });
  const current: Check = {
    begunAt: Date.now(),
    database: 'failed',
    kv: 'failed',
    ended: Promise.resolve(),
  };
  const log = c.get('log');
  const part = async (name: keyof Readiness, work: Promise<unknown>) => {
    try {
      await timed(log, `${name}Ms`, Promise.race([work, late]));
      current[name] = 'ok';
    } catch (error) {
      writeLog('error', 'not_ready', { part: name, error: describeError(error) });
    }
  };
  log.databaseRequests += 1;
  current.ended = Promise.all([
    part('database', connect(deployment, signal).execute(sql`SELECT 1`)),
    // No such key exists, and a location remembers that for a while: what is known is that its KV answers.
    part('kv', deployment.DETAIL_CACHE.get('health', { cacheTtl: KV_TTL_SECONDS })),
  ]);
  // Others may be waiting for it when the request that began it is gone.
  c.executionCtx.waitUntil(current.ended);
  return current;
}
