/**
 * The merge of payment_daily_totals: it makes one row of those that the writers have left for a day.
 * Totals stay what they are at every moment, and whoever writes payments waits for one small statement at
 * most. The daily cron merges the past days. A list that met too many rows starts a merge after its answer.
 * So the backlog stays small at any rate of writes, and nothing wakes a sleeping database for it.
 */
import { type SQL, sql } from 'drizzle-orm';
import type { Context } from 'hono';
import { connect } from '../database';
import { type Bindings, type Settings, settings } from '../env';
import type { AppEnv } from '../http';
import { describeError, writeLog } from '../log';

/** What one statement merges at most. It bounds how long a writer can wait: about 0.1 s. */
const MAX_ROWS = 10_000;

/** How long the cron waits for another merge. */
const LOCK_PAUSE_MS = 500;

/** Cloudflare ends a cron after 15 minutes. */
const CRON_MS = 10 * 60_000;

/** So many rows cost a list about half a millisecond. A hundred backends leave fewer in a day. */
const TOO_MANY_ROWS = 3_000;

/** How long an isolate waits before it starts another merge. */
const PAUSE_MS = 5_000;

/** The writer of merged rows: no backend has this pid. */
const MERGED = 0;

/** Held while merging, so that a second merge at the same time does nothing. Any constant does. */
const ADVISORY_LOCK = 7_230_519;

/** Consumes the daily cron: merges the past days until nothing of them is left to merge. */
export async function mergeDailyTotals(env: Bindings): Promise<void> {
  const until = Date.now() + CRON_MS;
  let merged = 0;
  try {
    for (let more = true; more && Date.now() < until; ) {
      const { removed, locked } = await mergeSome(settings(env), sql`day < payment_day(now())`);
      merged += removed;
      more = removed === MAX_ROWS || !locked;
      // Another merge is at work, and over in a moment.
      if (!locked) await new Promise((resolve) => setTimeout(resolve, LOCK_PAUSE_MS));
    }
    writeLog('info', 'daily_totals_merged', { rows: merged });
  } catch (error) {
    writeLog('error', 'daily_totals_not_merged', { rows: merged, error: describeError(error) });
    // The run counts as failed, and the platform's log shows a message that is safe.
    throw new Error('the daily totals were not merged');
  }
}

let startedAt = Number.NEGATIVE_INFINITY;

/** Merges in the background, today's rows too, if a list had to read too many rows that are not merged. */
export function mergeIfNeeded(c: Context<AppEnv>, unmergedRows: number): void {
  if (unmergedRows <= TOO_MANY_ROWS || Date.now() - startedAt < PAUSE_MS) return;
  startedAt = Date.now();
  c.executionCtx.waitUntil(
    mergeSome(settings(c.env), sql`true`).then(
      ({ removed }) => writeLog('info', 'daily_totals_merged', { rows: removed }),
      (error: unknown) =>
        writeLog('warn', 'daily_totals_not_merged', { rows: 0, error: describeError(error) }),
    ),
  );
}

/**
 * Merges up to MAX_ROWS rows of some days and returns their number, and whether no other merge was at work. One statement: rows leave and their sum arrives in
 * one commit, and any snapshot has either. What leaves is what DELETE returns, the newest version of a
 * row, even one younger than the statement's snapshot; being locked, it does not change any more.
 * The row of a transaction in progress is passed over. To wait for it could be a deadlock, since
 * that transaction may need a row that is locked here. So the merge waits for nobody. A writer that
 * waits for the merge finds its row gone and makes a new one; only at REPEATABLE READ, which nothing
 * of ours uses, is it told to try again.
 * A sum of zero makes no row; a merged row that has become zero goes with the next run.
 */
async function mergeSome(
  configured: Settings,
  days: SQL,
): Promise<{ removed: number; locked: boolean }> {
  const db = connect(configured, AbortSignal.timeout(configured.DATABASE_TIMEOUT_MS));
  const { rows } = await db.execute<{ removed: number; locked: boolean }>(sql`
    WITH lock AS MATERIALIZED (
      SELECT pg_try_advisory_xact_lock(${ADVISORY_LOCK}) AS held
    ), picked AS (
      SELECT day, status, payment_method, refund_state, writer FROM payment_daily_totals
      WHERE (SELECT held FROM lock) AND ${days} AND (writer <> ${MERGED} OR (payments = 0 AND amount = 0))
      ORDER BY day LIMIT ${MAX_ROWS}
      FOR UPDATE SKIP LOCKED
    ), removed AS (
      DELETE FROM payment_daily_totals AS old USING picked
      WHERE (old.day, old.status, old.payment_method, old.refund_state, old.writer)
        = (picked.day, picked.status, picked.payment_method, picked.refund_state, picked.writer)
      RETURNING old.*
    ), merged AS (
      INSERT INTO payment_daily_totals AS kept (day, status, payment_method, refund_state, writer, payments, amount)
      SELECT day, status, payment_method, refund_state, ${MERGED}::int, sum(payments), sum(amount) FROM removed
      GROUP BY day, status, payment_method, refund_state HAVING sum(payments) <> 0 OR sum(amount) <> 0
      ON CONFLICT (day, status, payment_method, refund_state, writer) DO UPDATE
      SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount
    )
    SELECT (SELECT count(*)::int FROM removed) AS removed, held AS locked FROM lock`);
  const [merge] = rows;
  if (!merge) throw new Error('a SELECT from one row has one row');
  return merge;
}
