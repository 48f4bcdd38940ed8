/**
 * The daily merge of payment_daily_totals: of the rows that each writer has left for a past day, it
 * makes one. Totals stay what they are at every moment, and whoever writes payments waits for this
 * one statement at most. A run that is missed or fails costs nothing but room.
 */
import { sql } from 'drizzle-orm';
import { connect } from '../database';
import { type Bindings, settings } from '../env';
import { describeError, writeLog } from '../log';

/** Bounds a run to about a second. What is more waits for the next one. */
const MAX_ROWS = 50_000;

/** The writer of merged rows: no backend has this pid. */
const MERGED = 0;

/** Held while merging, so that a second merge at the same time does nothing. Any constant does. */
const ADVISORY_LOCK = 7_230_519;

/**
 * Consumes the daily cron. One statement: rows leave and their sum arrives in one commit, and any
 * snapshot has either. What leaves is what DELETE returns, the newest version of a row, even one
 * younger than the statement's snapshot; being locked, it does not change any more.
 * The row of a transaction in progress is passed over. To wait for it could be a deadlock, since
 * that transaction may need a row that is locked here. So the merge waits for nobody. A writer that
 * waits for the merge finds its row gone and makes a new one; only at REPEATABLE READ, which nothing
 * of ours uses, is it told to try again.
 * Where the sum is nothing, no row is made; a merged row that has become nothing goes with the next run.
 */
export async function mergeDailyTotals(_: ScheduledController, env: Bindings): Promise<void> {
  const configured = settings(env);
  const db = connect(configured, AbortSignal.timeout(configured.DATABASE_TIMEOUT_MS));
  try {
    const { rows } = await db.execute(sql`
      WITH picked AS (
        SELECT day, status, payment_method, writer FROM payment_daily_totals
        WHERE (SELECT pg_try_advisory_xact_lock(${ADVISORY_LOCK}))
          AND day < payment_day(now())
          AND (writer <> ${MERGED} OR (payments = 0 AND amount = 0))
        ORDER BY day LIMIT ${MAX_ROWS}
        FOR UPDATE SKIP LOCKED
      ), removed AS (
        DELETE FROM payment_daily_totals AS old USING picked
        WHERE (old.day, old.status, old.payment_method, old.writer)
          = (picked.day, picked.status, picked.payment_method, picked.writer)
        RETURNING old.*
      ), merged AS (
        INSERT INTO payment_daily_totals AS kept (day, status, payment_method, writer, payments, amount)
        SELECT day, status, payment_method, ${MERGED}::int, sum(payments), sum(amount) FROM removed
        GROUP BY day, status, payment_method HAVING sum(payments) <> 0 OR sum(amount) <> 0
        ON CONFLICT (day, status, payment_method, writer) DO UPDATE
        SET payments = kept.payments + excluded.payments, amount = kept.amount + excluded.amount
      )
      SELECT count(*)::int AS removed FROM removed`);
    writeLog('info', 'daily_totals_merged', { rows: rows[0]?.removed });
  } catch (error) {
    writeLog('error', 'daily_totals_not_merged', { error: describeError(error) });
    // The run counts as failed, and the platform's log shows a message that is safe.
    throw new Error('the daily totals were not merged');
  }
}
