/**
 * `npm run db:verify`: counts all payments and compares them with payment_daily_totals, and those with
 * payment_monthly_totals, in one statement and so in one snapshot, whoever is writing meanwhile. Reads
 * every payment once.
 */
import pg from 'pg';

/** The payments of one status and method of a day, or the merged ones of a month, where totals differ from them. */
export interface Difference {
  /** A day, or the first day of a month. */
  since: string;
  of: 'day' | 'month';
  status: number;
  payment_method: string;
  /** What the totals say. */
  kept: string;
  /** What the payments, or for a month the daily totals, add up to. */
  counted: string;
}

/** The differences; none when the totals are right. */
export async function verify(connectionString: string): Promise<Difference[]> {
  const client = new pg.Client({ connectionString, application_name: 'payments-verify' });
  await client.connect();
  try {
    const { rows } = await client.query<Difference>(`
      SELECT since::text, of, status, payment_method,
        coalesce(kept.payments, 0) || ' payments of ' || coalesce(kept.amount, 0) AS kept,
        coalesce(counted.payments, 0) || ' payments of ' || coalesce(counted.amount, 0) AS counted
      FROM (
        SELECT 'day' AS of, day AS since, status, payment_method, sum(payments) AS payments, sum(amount) AS amount
        FROM payment_daily_totals GROUP BY 1, 2, 3, 4
        UNION ALL
        SELECT 'month', month, status, payment_method, payments, amount FROM payment_monthly_totals
      ) AS kept
      FULL JOIN (
        SELECT 'day' AS of, payment_day(created_at) AS since, status, payment_method,
          count(*) AS payments, sum(amount) AS amount
        FROM payments GROUP BY 1, 2, 3, 4
        UNION ALL
        SELECT 'month', payment_month(day), status, payment_method, sum(payments), sum(amount)
        FROM payment_daily_totals WHERE writer = 0 GROUP BY 1, 2, 3, 4
      ) AS counted USING (of, since, status, payment_method)
      WHERE (coalesce(kept.payments, 0), coalesce(kept.amount, 0))
        <> (coalesce(counted.payments, 0), coalesce(counted.amount, 0))
      ORDER BY 2, 1, 3, 4`);
    return rows;
  } finally {
    await client.end();
  }
}

/** The rest is only counted on the console. */
const SHOWN = 50;

if (import.meta.main) {
  const connectionString = process.env.DATABASE_URL;
  if (!connectionString) {
    console.error(
      'DATABASE_URL is not set. Example: DATABASE_URL=postgres://user:password@host/database npm run db:verify',
    );
    process.exit(1);
  }
  try {
    const differences = await verify(connectionString);
    if (differences.length === 0) {
      console.log('The totals are right.');
    } else {
      console.table(differences.slice(0, SHOWN));
      console.error(
        `${differences.length} totals are wrong. SELECT recount_payments() puts them right; writers of payments wait meanwhile.`,
      );
      process.exitCode = 1;
    }
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
