/**
 * The detail cache: `payment:detail:{id}` in Workers KV, 1800 s (specification, section 4).
 *
 * KV is eventually consistent, caches misses, takes one write per second and key, and cannot
 * compare and set. So nothing about money is ever decided from it, and staleness is bounded thus:
 * a fill is dropped when its SELECT began too long ago, and every change is followed by a purge at
 * once and by later ones that remove what a slow reader put back in between. What remains: KV may
 * serve an old detail for about a minute after the last purge, another location always may. And a
 * body stored before a deployment is served as it was until its TTL ends.
 */
import * as z from 'zod';
import { type Bindings, type PurgeMessage, type Settings, settings } from '../env';
import { describeError, timed, writeLog } from '../log';
import type { Task } from '../task';

const TTL_SECONDS = 1800;

/** KV's least: how long a location may go on serving what it read, a miss included. */
const EDGE_TTL_SECONDS = 30;

/** A value that took longer from its SELECT to its fill is not stored: a later purge might miss it. */
const FILL_WINDOW_MS = 2_000;

/** From a change to the purge that removes late fills: the window, and time for such a put to arrive. */
const LATE_PURGE_SECONDS = 5;

/** Nobody waits longer than this for KV or the queue: by then the database would have answered. */
const TIMEOUT_MS = 1_000;

const key = (paymentId: bigint | string) => `payment:detail:${paymentId}`;

/** A stored response body. */
interface CachedDetail {
  body: string;
  /** Whole seconds since its SELECT began; undefined where an older Worker stored it. */
  age: number | undefined;
}

const Metadata = z.object({ select_began_at: z.int() });

/** The stored detail of this payment, or null for a miss, an error, or a value that is not ours. */
export async function readDetail(
  cache: KVNamespace,
  paymentId: bigint,
): Promise<CachedDetail | null> {
  try {
    const { value: body, metadata } = await inTime(
      cache.getWithMetadata(key(paymentId), { type: 'text', cacheTtl: EDGE_TTL_SECONDS }),
    );
    if (body === null || !isDetail(body, paymentId)) return null;
    const stored = Metadata.safeParse(metadata);
    if (!stored.success) return { body, age: undefined };
    // The clock of the location that stored it may be ahead.
    const elapsed = Math.max(0, Date.now() - stored.data.select_began_at);
    return { body, age: Math.floor(elapsed / 1000) };
  } catch (error) {
    writeLog('warn', 'detail_cache_read_failed', { error: describeError(error) });
    return null;
  }
}

async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), TIMEOUT_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** How the body of a detail begins; what begins otherwise was not written by detail.ts. */
function isDetail(body: string, paymentId: bigint): boolean {
  return (
    body.startsWith(`{"code":0,"message":"获取成功","data":{"id":"${paymentId}",`) &&
    body.endsWith('}}')
  );
}

/** Stores a response body whose SELECT began at `selectBeganAt` (Date.now()), unless that is too long ago. */
export async function fillDetail(
  cache: KVNamespace,
  paymentId: bigint,
  body: string,
  selectBeganAt: number,
): Promise<void> {
  if (Date.now() - selectBeganAt > FILL_WINDOW_MS) return;
  try {
    const metadata: z.infer<typeof Metadata> = { select_began_at: selectBeganAt };
    await inTime(cache.put(key(paymentId), body, { expirationTtl: TTL_SECONDS, metadata }));
  } catch (error) {
    writeLog('warn', 'detail_cache_fill_failed', { error: describeError(error) });
  }
}

/** Removes the detail now. A failure is logged and does not matter for long: the late purges follow. */
async function purgeDetail(cache: KVNamespace, paymentId: bigint): Promise<void> {
  try {
    await inTime(cache.delete(key(paymentId)));
  } catch (error) {
    writeLog('warn', 'detail_cache_purge_failed', { error: describeError(error) });
  }
}

/**
 * Runs a change of a payment with all its purges: the late ones are on their way before the change
 * is sent, so that a crash after its commit still ends in one; the one at once follows whatever
 * came of it, because a change whose answer was lost may have been committed. For a change that
 * was refused they do no harm.
 */
export async function withPurges<T>(
  { env, log, waitUntil }: Task,
  paymentId: bigint,
  change: () => Promise<T>,
): Promise<T> {
  const deployment = settings(env);
  waitUntil(schedulePurges(deployment, paymentId));
  try {
    return await change();
  } finally {
    await timed(log, 'kvMs', purgeDetail(deployment.DETAIL_CACHE, paymentId));
  }
}

/** The purges of a change that was known only after it was committed. */
export async function purgeAfter({ env, log, waitUntil }: Task, paymentId: bigint): Promise<void> {
  const deployment = settings(env);
  waitUntil(schedulePurges(deployment, paymentId));
  await timed(log, 'kvMs', purgeDetail(deployment.DETAIL_CACHE, paymentId));
}

/**
 * Sees to the late purges. The first comes LATE_PURGE_SECONDS from now. The second comes that long
 * after the database deadline, because a slow batch may commit when the first has already been.
 */
async function schedulePurges(
  { DETAIL_CACHE, PURGE_QUEUE, DATABASE_TIMEOUT_MS }: Settings,
  paymentId: bigint,
): Promise<void> {
  const delays = [LATE_PURGE_SECONDS, Math.ceil(DATABASE_TIMEOUT_MS / 1000) + LATE_PURGE_SECONDS];
  const body: PurgeMessage = { payment_id: String(paymentId) };
  try {
    await inTime(PURGE_QUEUE.sendBatch(delays.map((delaySeconds) => ({ body, delaySeconds }))));
  } catch (error) {
    writeLog('error', 'detail_purge_not_queued', { error: describeError(error) });
    await Promise.all(
      delays.map(async (seconds) => {
        await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
        await purgeDetail(DETAIL_CACHE, paymentId);
      }),
    );
  }
}

const Message = z.object({ payment_id: z.string().regex(/^\d+$/) });

/** The longest wait between two tries of a purge. With wrangler.toml's max_retries they outlast the TTL. */
const MAX_RETRY_DELAY_SECONDS = 300;

/** Consumes the purge queue: one delete for each payment of the batch, tried again with growing delay. */
export async function purgeQueued(batch: MessageBatch<unknown>, env: Bindings): Promise<void> {
  const { DETAIL_CACHE } = settings(env);
  const deletes = new Map<string, Promise<void>>();
  await Promise.all(
    batch.messages.map(async (message) => {
      const parsed = Message.safeParse(message.body);
      if (!parsed.success) {
        writeLog('error', 'detail_purge_malformed', {});
        message.ack();
        return;
      }
      const paymentId = parsed.data.payment_id;
      const deleted = deletes.get(paymentId) ?? DETAIL_CACHE.delete(key(paymentId));
      deletes.set(paymentId, deleted);
      try {
        await deleted;
        message.ack();
      } catch (error) {
        writeLog('warn', 'detail_purge_retried', {
          attempts: message.attempts,
          error: describeError(error),
        });
        message.retry({ delaySeconds: Math.min(2 ** message.attempts, MAX_RETRY_DELAY_SECONDS) });
      }
    }),
  );
}
