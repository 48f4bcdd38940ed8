/**
 * Payments as a shop has them: three years, more of them lately, almost all successful, and of the later
 * half none by bank any more; none by bank has failed. One in ten has callbacks, every refunded one a
 * refund, one in fifty of the others a refund of half of it, of which one in ten is at a gateway; every payment has its order. Bulk-loaded: indexes are made after the rows, and the totals by a recount instead of by the
 * triggers on payments.
 */
import type pg from 'pg';

const CHUNK = 1_000_000;

export const YEARS = 3;

/** Fills an empty, migrated database with payments 1 to `rows`, and returns how long that took. */
export async function fill(client: pg.Client, rows: number): Promise<{ seconds: number }> {
  const began = performance.now();
  // Neither triggers nor foreign keys: what is inserted here is known to be right.
  await client.query(`SET session_replication_role = replica; SELECT setseed(0.5)`);
  const { rows: indexes } = await client.query<{ name: string; definition: string }>(`
    SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
    FROM pg_index
    WHERE indrelid = 'payments'::regclass
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)`);
  for (const { name } of indexes) await client.query(`DROP INDEX ${name}`);

  for (let from = 1; from <= rows; from += CHUNK) {
    const until = Math.min(from + CHUNK - 1, rows);
    await client.query(
      `INSERT INTO orders (id, order_no)
       SELECT i, 'ORD' || lpad(i::text, 12, '0') FROM generate_series(${from}, ${until}) AS i`,
    );
    await client.query(`
      INSERT INTO payments
        (id, order_id, payment_no, payment_method, amount, status, payment_time, refund_time, created_at, updated_at)
      SELECT i, i, 'PAY' || lpad(i::text, 12, '0'),
        CASE WHEN m < 0.5 THEN 'alipay' WHEN m < 0.9 OR i > ${rows / 2} OR status = 2 THEN 'wechat' ELSE 'bank' END,
        round((10 + 990 * a * a)::numeric, 2), status,
        CASE WHEN status IN (1, 3) THEN at + interval '9 seconds' END,
        CASE WHEN status = 3 THEN at + interval '2 days' END, at, at
      FROM (
        SELECT i, random() AS m, random() AS a,
          CASE WHEN s < 0.87 THEN 1 WHEN s < 0.93 THEN 2 WHEN s < 0.97 THEN 3 ELSE 0 END AS status,
          now() - interval '${YEARS} years' * (1 - power(i::float8 / ${rows}, 0.7))
            - random() * interval '1 minute' AS at
        FROM (SELECT i, random() AS s FROM generate_series(${from}, ${until}) AS i)
      )`);
  }
  await client.query(`
    INSERT INTO payment_callbacks (payment_id, callback_no, status, created_at)
    SELECT id, 'CB' || id, 1, payment_time FROM payments WHERE id % 10 = 0 AND status IN (1, 3);
    INSERT INTO payment_refunds (payment_id, refund_no, amount, reason, status, created_at)
    SELECT id, 'R' || id, amount, '商品有瑕疵', 1, refund_time FROM payments WHERE status = 3;
    INSERT INTO payment_refunds (payment_id, refund_no, amount, reason, status, created_at)
    SELECT id, 'R' || id, round(amount / 2, 2), '少发一件', 1, created_at FROM payments WHERE status = 1 AND id % 50 = 0;
    INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no, gateway_refund_no, state, next_attempt_at)
    SELECT id, 'alipay', refund_no, '503' || payment_id, 'succeeded', NULL FROM payment_refunds WHERE payment_id % 10 = 0;
    INSERT INTO gateway_payments (payment_id, trade_no)
    SELECT id, '420' || id FROM payments WHERE id % 10 = 0;
    INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id, created_at)
    SELECT id, 'bench', from_status, to_status, 'bench', created_at
    FROM payment_refunds, (VALUES (NULL::integer, 0), (0, 1)) AS moves (from_status, to_status)`);
  for (const { definition } of indexes) await client.query(definition);
  await client.query(`SELECT setval('payments_id_seq', ${rows})`);
  await client.query('RESET session_replication_role');
  await client.query('SELECT recount_payments()');
  await client.query('VACUUM (ANALYZE)');
  // A recount writes a month as often as it has days; the daily merge leaves room to be used again.
  await client.query('VACUUM FULL payment_monthly_totals');
  return { seconds: (performance.now() - began) / 1000 };
}

/**
 * Ids of successful payments, the newest first after `skip` of them: a refund of 0.01 leaves something
 * of each, and their details are cached.
 */
export async function paidIds(client: pg.Client, count: number, skip = 0): Promise<number[]> {
  const { rows } = await client.query<{ id: number }>(
    `SELECT id::integer FROM payments WHERE status = 1 ORDER BY id DESC LIMIT ${count} OFFSET ${skip}`,
  );
  return rows.map(({ id }) => id);
}
