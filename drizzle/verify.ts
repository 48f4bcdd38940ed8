/**
 * `npm run db:verify`: counts all payments and compares them with payment_daily_totals, those with
 * payment_monthly_totals, and all refunds with payment_refund_totals and refund_daily_totals, in one statement
 * and so in one snapshot, whoever is writing meanwhile. Reads every payment once and every refund twice.
 */
import pg from 'pg';

/** Where kept totals differ from what they total. */
export interface Difference {
  of: 'day' | 'month' | 'refunds' | 'refunds of a day';
  /** A day, the first day of a month, or the id of a payment. */
  key: string;
  status: number;
  /** Null where refunds of a day differ. */
  payment_method: string | null;
  refund_state: number | null;
  /** What the totals say. */
  kept: string;
  /** What the payments add up to; for a month, the daily totals; for a payment, its refunds. */
  counted: string;
}

/** The differences; none when the totals are right. */
export async function verify(connectionString: string): Promise<Difference[]> {
  const client = new pg.Client({ connectionString, application_name: 'payments-verify' });
  await client.connect();
  try {
    const { rows } = await client.query<Difference>(`
      WITH refunds AS (
        SELECT payment_id AS id, coalesce(sum(amount) FILTER (WHERE status <> 2), 0) AS reserved,
          coalesce(sum(amount) FILTER (WHERE status = 1), 0) AS succeeded
        FROM payment_refunds GROUP BY 1
      ), paid AS (
        SELECT id, created_at, status, payment_method, amount,
          coalesce(reserved, 0) AS reserved, coalesce(succeeded, 0) AS succeeded,
          CASE WHEN succeeded > 0 THEN CASE WHEN succeeded < amount THEN 1 ELSE 2 END ELSE 0 END AS refund_state,
          refunds.id IS NOT NULL OR status = 3 AS has_row
        FROM payments LEFT JOIN refunds USING (id)
      )
      SELECT of, since::text AS key, status, payment_method, refund_state,
        coalesce(kept.payments, 0) || ' payments of ' || coalesce(kept.amount, 0) AS kept,
        coalesce(counted.payments, 0) || ' payments of ' || coalesce(counted.amount, 0) AS counted
      FROM (
        SELECT 'day' AS of, day AS since, status, payment_method, refund_state, sum(payments) AS payments, sum(amount) AS amount
        FROM payment_daily_totals GROUP BY 1, 2, 3, 4, 5
        UNION ALL
        SELECT 'month', month, status, payment_method, refund_state, payments, amount FROM payment_monthly_totals
      ) AS kept
      FULL JOIN (
        SELECT 'day' AS of, payment_day(created_at) AS since, status, payment_method, refund_state,
          count(*) AS payments, sum(amount) AS amount
        FROM paid GROUP BY 1, 2, 3, 4, 5
        UNION ALL
        SELECT 'month', payment_month(day), status, payment_method, refund_state, sum(payments), sum(amount)
        FROM payment_daily_totals WHERE writer = 0 GROUP BY 1, 2, 3, 4, 5
      ) AS counted USING (of, since, status, payment_method, refund_state)
      WHERE (coalesce(kept.payments, 0), coalesce(kept.amount, 0))
        <> (coalesce(counted.payments, 0), coalesce(counted.amount, 0))
      UNION ALL
      SELECT 'refunds', id::text, paid.status, paid.payment_method, paid.refund_state,
        coalesce(kept.reserved || ' reserved, ' || kept.succeeded || ' succeeded', 'no row'),
        paid.reserved || ' reserved, ' || paid.succeeded || ' succeeded'
      FROM paid LEFT JOIN payment_refund_totals AS kept ON payment_id = id
      WHERE CASE WHEN payment_id IS NULL THEN has_row ELSE
        (kept.reserved, kept.succeeded, kept.amount, kept.status, kept.payment_method, kept.created_at)
          <> (paid.reserved, paid.succeeded, paid.amount, paid.status, paid.payment_method, paid.created_at) END
      UNION ALL
      SELECT 'refunds of a day', day::text, status, NULL, NULL,
        coalesce(kept.refunds, 0) || ' refunds of ' || coalesce(kept.amount, 0),
        coalesce(counted.refunds, 0) || ' refunds of ' || coalesce(counted.amount, 0)
      FROM (
        SELECT day, status, sum(refunds) AS refunds, sum(amount) AS amount FROM refund_daily_totals GROUP BY 1, 2
      ) AS kept
      FULL JOIN (
        SELECT payment_day(created_at) AS day, status, count(*) AS refunds, sum(amount) AS amount
        FROM payment_refunds GROUP BY 1, 2
      ) AS counted USING (day, status)
      WHERE (coalesce(kept.refunds, 0), coalesce(kept.amount, 0)) <> (coalesce(counted.refunds, 0), coalesce(counted.amount, 0))
      ORDER BY 1, 2, 3, 4, 5`);
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
