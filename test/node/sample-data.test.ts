/** The sample data: consistent with itself, the same every time, and only where there is nothing yet. */
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { insertSampleData } from '../../dev/sample-data.ts';

const administrator = new pg.Client(inject('databaseUrl'));
const clients: pg.Client[] = [];

beforeAll(() => administrator.connect());
afterAll(async () => {
  for (const client of clients) await client.end();
  await administrator.end();
});

/** A client of a new, migrated database. */
async function connect(): Promise<pg.Client> {
  const database = `sample_${crypto.randomUUID().replaceAll('-', '')}`;
  await administrator.query(`CREATE DATABASE ${database} TEMPLATE template_payments`);
  const client = new pg.Client(inject('databaseUrl').replace(/\/[^/]*$/, `/${database}`));
  await client.connect();
  clients.push(client);
  return client;
}

it('fills an empty database once', async () => {
  const client = await connect();
  const inserted = await insertSampleData(client);
  expect(inserted).toBeGreaterThan(1900);
  expect(inserted).toBeLessThan(2100);
  expect(await insertSampleData(client)).toBe(0);
  const { rows } = await client.query('SELECT count(*)::int AS payments FROM payments');
  expect(rows).toEqual([{ payments: inserted }]);
});

it('shows every method and status, refund state, unknown order and repeated attempt', async () => {
  const client = await connect();
  await insertSampleData(client);
  const { rows } = await client.query(`
    SELECT count(DISTINCT payment_method)::int AS methods, count(DISTINCT status)::int AS statuses,
      (SELECT count(DISTINCT status)::int FROM payment_refunds) AS refund_states,
      (SELECT count(DISTINCT status)::int FROM payment_callbacks) AS callback_states,
      bool_or(NOT EXISTS (SELECT FROM orders WHERE orders.id = order_id)) AS unknown_order,
      count(*) > count(DISTINCT order_id) AS repeated, min(order_id) > 2 ^ 53 AS beyond_floats,
      now() - min(created_at) BETWEEN '85 days' AND '90 days' AND max(created_at) < now() AS last_90_days
    FROM payments`);
  expect(rows).toEqual([
    {
      ...{ methods: 3, statuses: 4, refund_states: 3, callback_states: 3, unknown_order: true },
      ...{ repeated: true, beyond_floats: true, last_90_days: true },
    },
  ]);
});

it('contradicts itself nowhere', async () => {
  const client = await connect();
  await insertSampleData(client);
  const { rows } = await client.query(`
    SELECT payments.* FROM payments
    LEFT JOIN LATERAL (
      SELECT coalesce(sum(amount) FILTER (WHERE status = 1), 0) AS refunded,
        coalesce(sum(amount) FILTER (WHERE status <> 2), 0) AS taken, count(*) AS refunds,
        bool_or(created_at < payment_time OR updated_at > now()) AS misdated,
        bool_or(refund_no !~ '^[A-Za-z0-9]{1,50}$') AS misnumbered
      FROM payment_refunds WHERE payment_id = payments.id
    ) AS refund ON true
    LEFT JOIN LATERAL (
      SELECT status FROM payment_callbacks WHERE payment_id = payments.id ORDER BY created_at DESC, id DESC LIMIT 1
    ) AS last_callback ON true
    WHERE taken > amount OR misdated OR misnumbered
      OR (payments.status = 3) <> (refunded = amount)
      OR (payments.status = 3) <> (refund_time IS NOT NULL)
      OR (payments.status IN (1, 3)) <> (payment_time IS NOT NULL)
      OR (refunds > 0 AND payments.status NOT IN (1, 3))
      OR (payments.status IN (1, 3)) <> (last_callback.status IS NOT DISTINCT FROM 1)
      OR (payments.status = 0 AND last_callback.status <> 0)
      OR greatest(created_at, updated_at, payment_time, refund_time) > now()
      OR created_at > least(payment_time, refund_time)`);
  expect(rows).toEqual([]);
});

it('is the same every time, counted from now', async () => {
  const summary = async () => {
    const client = await connect();
    await insertSampleData(client);
    const { rows } = await client.query(`
      SELECT payment_method, amount, payments.status, max(created_at) OVER () - created_at AS age,
        (SELECT json_agg(json_build_array(refund.amount, reason, refund.status)) FROM payment_refunds AS refund WHERE payment_id = payments.id)
      FROM payments ORDER BY id`);
    return JSON.stringify(rows);
  };
  expect(await summary()).toBe(await summary());
});
