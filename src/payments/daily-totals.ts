/**
 * The merge of payment_daily_totals and of refund_daily_totals: it makes one row of those that the writers have
 * left for a day. Totals stay what they are at every moment, and whoever writes waits for one small statement at
 * most. The daily cron merges the past days. A list that met too many rows starts a merge after its answer.
 * So the backlog stays small at any rate of writes, and nothing wakes a sleeping database for it.
 */
import { type SQL, sql } from 'drizzle-orm';
import type { Context } from 'hono';
import { connect } from '../database';
import { type Bindings, type Settings, settings } from '../env';
import type { AppEnv } from '../http';
import { describeError, writeLog } from '../log';

/** A table of daily totals: its primary key without `writer`, and what it counts beside `amount`. */
interface Totals {
  table: SQL;
  key: SQL[];
  counted: SQL;
}

/** payment_daily_totals. */
export const PAYMENT_TOTALS: Totals = {
  table: sql.raw('payment_daily_totals'),
  key: ['day', 'status', 'payment_method', 'refund_state'].map(sql.raw),
  counted: sql.raw('payments'),
};

/** refund_daily_totals. */
export const REFUND_TOTALS: Totals = {
  table: sql.raw('refund_daily_totals'),
  key: ['day', 'status'].map(sql.raw),
  counted: sql.raw('refunds'),
};

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
    for (const totals of [PAYMENT_TOTALS, REFUND_TOTALS]) {
      for (let more = true; more && Date.now() < until; ) {
        const past = sql`day < payment_day(now())`;
        const { removed, locked } = await mergeSome(settings(env), totals, past);
        merged += removed;
        more = removed === MAX_ROWS || !locked;
        // Another merge is at work, and over in a moment.
        if (!locked) await new Promise((resolve) => setTimeout(resolve, LOCK_PAUSE_MS));
      }
    }
    writeLog('info', 'daily_totals_merged', { rows: merged });
  } catch (error) {
    writeLog('error', 'daily_totals_not_merged', { rows: merged, error: describeError(error) });
    // The run counts as failed, and the platform's log shows a message that is safe.
    throw new Error('the daily totals were not merged');
  }
}

const startedAt = new Map<Totals, number>();

/** Merges in the background, today's rows too, if a list had to read too many rows that are not merged. */
export function mergeIfNeeded(c: Context<AppEnv>, totals: Totals, unmergedRows: number): void {
  const paused = Date.now() - (startedAt.get(totals) ?? Number.NEGATIVE_INFINITY) < PAUSE_MS;
  if (unmergedRows <= TOO_MANY_ROWS || paused) return;
  startedAt.set(totals, Date.now());
  c.executionCtx.waitUntil(
    mergeSome(settings(c.env), totals, sql`true`).then(
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
  { table, key, counted }: Totals,
  days: SQL,
): Promise<{ removed: number; locked: boolean }> {
  const db = connect(configured, AbortSignal.timeout(configured.DATABASE_TIMEOUT_MS));
  const columns = sql.join(key, sql`, `);
  const rowOf = (alias: SQL) =>
    sql.join(
      [...key, sql`writer`].map((column) => sql`${alias}.${column}`),
      sql`, `,
    );
  const { rows } = await db.execute<{ removed: number; locked: boolean }>(sql`
    WITH lock AS MATERIALIZED (
      SELECT pg_try_advisory_xact_lock(${ADVISORY_LOCK}) AS held
    ), picked AS (
      SELECT ${columns}, writer FROM ${table}
      WHERE (SELECT held FROM lock) AND ${days} AND (writer <> ${MERGED} OR (${counted} = 0 AND amount = 0))
      ORDER BY day LIMIT ${MAX_ROWS}
      FOR UPDATE SKIP LOCKED
    ), removed AS (
      DELETE FROM ${table} AS old USING picked
      WHERE (${rowOf(sql`old`)}) = (${rowOf(sql`picked`)})
      RETURNING old.*
    ), merged AS (
      INSERT INTO ${table} AS kept (${columns}, writer, ${counted}, amount)
      SELECT ${columns}, ${MERGED}::int, sum(${counted}), sum(amount) FROM removed
      GROUP BY ${columns} HAVING sum(${counted}) <> 0 OR sum(amount) <> 0
      ON CONFLICT (${columns}, writer) DO UPDATE
      SET ${counted} = kept.${counted} + excluded.${counted}, amount = kept.amount + excluded.amount
    )
    SELECT (SELECT count(*)::int FROM removed) AS removed, held AS locked FROM lock`);
  const [merge] = rows;
  if (!merge) throw new Error('a SELECT from one row has one row');
  return merge;
}
