/**
 * Proves that the migrations make the specification's tables, column for column, with its indexes
 * under its names; that the constraints hold whoever writes; that the list is read in index order;
 * and that an order module's own `orders` table is left alone.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import payments from '../drizzle/0000_payments.sql';
import refundEvents from '../drizzle/0001_refund_events.sql';
import appendOnly from '../drizzle/0002_refund_events_append_only.sql';
import dailyTotals from '../drizzle/0003_payment_daily_totals.sql';
import dailyTotalsTriggers from '../drizzle/0004_payment_daily_totals_triggers.sql';
import monthlyTotals from '../drizzle/0005_payment_monthly_totals.sql';
import monthlyTotalsTriggers from '../drizzle/0006_payment_monthly_totals_triggers.sql';
import byMethod from '../drizzle/0007_payments_by_method_with_status.sql';
import finite from '../drizzle/0008_payments_created_at_finite.sql';
import revoked from '../drizzle/0009_trigger_functions_revoked.sql';
import refundTotals from '../drizzle/0010_refund_totals.sql';
import refundTotalsTriggers from '../drizzle/0011_refund_totals_triggers.sql';
import children from '../drizzle/0012_children_by_payment.sql';
import keptPlans from '../drizzle/0013_kept_plans.sql';
import gateways from '../drizzle/0014_gateways.sql';
import gatewayFunctions from '../drizzle/0015_gateway_functions.sql';
import numbers from '../drizzle/0016_numbers.sql';
import refundDays from '../drizzle/0017_refund_daily_totals.sql';
import refundDaysTriggers from '../drizzle/0018_refund_daily_totals_triggers.sql';
import { insertPayment, startApp, type TestApp } from './harness';

const anything = z.unknown();

/** Section 2.1 of the specification. */
const SPECIFICATION = `
CREATE TABLE payments (
    id BIGSERIAL PRIMARY KEY,
    order_id BIGINT NOT NULL,
    payment_no VARCHAR(50) NOT NULL UNIQUE,
    payment_method VARCHAR(20) NOT NULL,
    amount DECIMAL NOT NULL,
    status INT DEFAULT 0,
    payment_time TIMESTAMPTZ,
    refund_time TIMESTAMPTZ,
    created_at TIMESTAMPTZ,
    updated_at TIMESTAMPTZ
);
CREATE INDEX idx_payments_order_id ON payments(order_id);
CREATE INDEX idx_payments_payment_method ON payments(payment_method);
CREATE INDEX idx_payments_status ON payments(status);
CREATE INDEX idx_payments_created_at ON payments(created_at);
CREATE TABLE payment_callbacks (
    id BIGSERIAL PRIMARY KEY,
    payment_id BIGINT NOT NULL,
    callback_no VARCHAR(100) NOT NULL UNIQUE,
    status INT NOT NULL,
    created_at TIMESTAMPTZ,
    updated_at TIMESTAMPTZ
);
CREATE INDEX idx_payment_callbacks_payment_id ON payment_callbacks(payment_id);
CREATE INDEX idx_payment_callbacks_status ON payment_callbacks(status);
CREATE INDEX idx_payment_callbacks_created_at ON payment_callbacks(created_at);
CREATE TABLE payment_refunds (
    id BIGSERIAL PRIMARY KEY,
    payment_id BIGINT NOT NULL,
    refund_no VARCHAR(50) NOT NULL UNIQUE,
    amount DECIMAL NOT NULL,
    reason VARCHAR(255),
    status INT DEFAULT 0,
    created_at TIMESTAMPTZ,
    updated_at TIMESTAMPTZ
);
CREATE INDEX idx_payment_refunds_payment_id ON payment_refunds(payment_id);
CREATE INDEX idx_payment_refunds_status ON payment_refunds(status);
CREATE INDEX idx_payment_refunds_created_at ON payment_refunds(created_at);
`;

/** Several statements, as one transaction. */
async function run(app: TestApp, ...statements: string[]) {
  return app.sql.transaction(statements.map((statement) => app.sql.query(statement)));
}

const migrationStatements = [
  payments,
  refundEvents,
  appendOnly,
  dailyTotals,
  dailyTotalsTriggers,
  monthlyTotals,
  monthlyTotalsTriggers,
  byMethod,
  finite,
  revoked,
  refundTotals,
  refundTotalsTriggers,
  children,
  keptPlans,
  gateways,
  gatewayFunctions,
  numbers,
  refundDays,
  refundDaysTriggers,
].flatMap((migration) => migration.split('--> statement-breakpoint'));

describe('the migrations', () => {
  const Columns = z.array(
    z.object({ column: z.string(), type: z.string(), length: z.number().nullable() }),
  );
  const Indexes = z.array(z.object({ name: z.string(), columns: z.string() }));

  const columns = async (app: TestApp, schema: string) =>
    Columns.parse(
      await app.sql`
        SELECT table_name || '.' || column_name AS column, data_type AS type,
          character_maximum_length AS length
        FROM information_schema.columns
        WHERE table_schema = ${schema}
          AND table_name IN ('payments', 'payment_callbacks', 'payment_refunds')
        ORDER BY table_name, ordinal_position`,
    );
  const indexes = async (app: TestApp, schema: string) =>
    Indexes.parse(
      await app.sql`
        SELECT indexname AS name, tablename || regexp_replace(indexdef, '^.*USING', '') AS columns
        FROM pg_indexes WHERE schemaname = ${schema} AND indexname LIKE 'idx%' ORDER BY indexname`,
    );

  it('make the columns and the indexes of the specification, and twenty-two more indexes', async () => {
    const app = await startApp();
    await run(
      app,
      'CREATE SCHEMA specification',
      'SET LOCAL search_path TO specification',
      ...SPECIFICATION.split(';').filter((statement) => statement.trim() !== ''),
    );

    expect(await columns(app, 'public')).toEqual(await columns(app, 'specification'));
    const specified = await indexes(app, 'specification');
    const made = await indexes(app, 'public');
    expect(specified).toHaveLength(10);
    expect(made).toEqual(expect.arrayContaining(specified));
    const names = made.map(({ name }) => name);
    expect(names.filter((name) => specified.every((index) => index.name !== name))).toEqual([
      'idx_gateway_notifications_out_refund_no',
      'idx_gateway_notifications_payment_id',
      'idx_gateway_notifications_received_at',
      'idx_gateway_payments_attention',
      'idx_gateway_payments_out_trade_no',
      'idx_gateway_payments_trade_no',
      'idx_gateway_refunds_attention',
      'idx_gateway_refunds_gateway_refund_no',
      'idx_gateway_refunds_next_attempt_at',
      'idx_gateway_requests_refund_id',
      'idx_payment_callbacks_payment_id_created_at_id',
      'idx_payment_daily_totals_unmerged',
      'idx_payment_refund_events_refund_id',
      'idx_payment_refund_totals_state_method_status_created_at_id',
      'idx_payment_refund_totals_state_status_created_at_id',
      'idx_payment_refunds_created_at_id',
      'idx_payment_refunds_payment_id_created_at_id',
      'idx_payment_refunds_status_created_at_id',
      'idx_payments_created_at_id',
      'idx_payments_payment_method_status_created_at_id',
      'idx_payments_status_created_at_id',
      'idx_refund_daily_totals_unmerged',
    ]);
  });

  it('keep an orders table that is already there, and the API works over it', async () => {
    const app = await startApp();
    await run(
      app,
      'DROP SCHEMA public CASCADE',
      'CREATE SCHEMA public',
      `CREATE TABLE orders (id bigint PRIMARY KEY, order_no varchar(32), note text, placed timestamptz DEFAULT now())`,
      `INSERT INTO orders (id, order_no, note) VALUES (9007199254740993, 'ORD-1', '加急'), (7, NULL, NULL)`,
    );
    const orders = () => app.sql`SELECT * FROM orders ORDER BY id`;
    const before = await orders();

    await run(app, ...migrationStatements);

    expect(await orders()).toEqual(before);
    expect(before).toMatchObject([{ id: '7' }, { order_no: 'ORD-1', note: '加急' }]);
    const id = await insertPayment(app.sql, { order_id: '9007199254740993' });
    const nameless = await insertPayment(app.sql, { order_id: '7' });
    const order_no = z.object({ order_no: z.string().nullable() });
    const list = z.object({ total: z.number(), list: z.array(order_no) });
    expect((await app.call('GET', '/payments?order_no=ORD-1', list)).data).toEqual({
      total: 1,
      list: [{ order_no: 'ORD-1' }],
    });
    expect((await app.call('GET', `/payments/${id}`, order_no)).data.order_no).toBe('ORD-1');
    expect((await app.call('GET', `/payments/${nameless}`, order_no)).data.order_no).toBeNull();
    const refund = await app.call('POST', `/payments/${id}/refund`, z.object({ id: z.string() }), {
      body: { amount: '1.00', reason: '商品缺货' },
    });
    expect(refund.status).toBe(201);
    const settlement = await app.call(
      'PATCH',
      `/payments/${id}/refunds/${refund.data.id}`,
      anything,
      {
        body: { status: 1 },
      },
    );
    expect(settlement.status).toBe(200);
    await app.idle();
  });

  it('applied to a database that has the tables change nothing', async () => {
    const app = await startApp();
    const id = await insertPayment(app.sql);
    await expect(run(app, ...migrationStatements)).rejects.toMatchObject({ code: '42P07' });
    expect(await app.sql`SELECT id FROM payments`).toEqual([{ id }]);
  });
});

describe('the constraints', () => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startApp();
    expect(await insertPayment(app.sql, { payment_no: 'P1' })).toBe('1');
    await run(
      app,
      `INSERT INTO payment_refunds (payment_id, refund_no, amount) VALUES (1, 'R1', 1)`,
      `INSERT INTO payment_callbacks (payment_id, callback_no, status) VALUES (1, 'C1', 0)`,
    );
  });

  const NOT_NULL = '23502';
  const FOREIGN_KEY = '23503';
  const UNIQUE = '23505';
  const CHECK = '23514';
  const TOO_LARGE = '22003';
  const TOO_LONG = '22001';

  const payment = (columns: string, values: string) =>
    `INSERT INTO payments (order_id, payment_method, ${columns}) VALUES (1, 'bank', ${values})`;
  const refund = (columns: string, values: string) =>
    `INSERT INTO payment_refunds (refund_no, ${columns}) VALUES ('R2', ${values})`;
  const callback = (columns: string, values: string) =>
    `INSERT INTO payment_callbacks (callback_no, ${columns}) VALUES ('C2', ${values})`;

  it.each([
    [CHECK, payment('payment_no, amount', "'P2', -0.01")],
    [CHECK, payment('payment_no, amount, status', "'P2', 1, 4")],
    [CHECK, payment('payment_no, amount, status', "'P2', 1, -1")],
    [NOT_NULL, payment('payment_no, amount, status', "'P2', 1, NULL")],
    [NOT_NULL, payment('payment_no, amount, created_at', "'P2', 1, NULL")],
    [NOT_NULL, payment('payment_no', "'P2'")],
    [UNIQUE, payment('payment_no, amount', "'P1', 1")],
    [TOO_LARGE, payment('payment_no, amount', "'P2', 10000000000000000")],
    [TOO_LONG, payment('payment_no, amount', `'${'P'.repeat(51)}', 1`)],
    [CHECK, refund('payment_id, amount', '1, 0')],
    [CHECK, refund('payment_id, amount', '1, -1')],
    [CHECK, refund('payment_id, amount, status', '1, 1, 3')],
    [NOT_NULL, refund('payment_id, amount, status', '1, 1, NULL')],
    [NOT_NULL, refund('payment_id, amount, created_at', '1, 1, NULL')],
    [CHECK, refund('payment_id, amount, created_at', "1, 1, 'infinity'")],
    [FOREIGN_KEY, refund('payment_id, amount', '2, 1')],
    [UNIQUE, "INSERT INTO payment_refunds (refund_no, payment_id, amount) VALUES ('R1', 1, 1)"],
    [TOO_LONG, refund('payment_id, amount, reason', `1, 1, '${'退'.repeat(256)}'`)],
    [CHECK, callback('payment_id, status', '1, 3')],
    [CHECK, callback('payment_id, status, created_at', "1, 1, '-infinity'")],
    [NOT_NULL, callback('payment_id', '1')],
    [FOREIGN_KEY, callback('payment_id, status', '2, 1')],
    [UNIQUE, "INSERT INTO payment_callbacks (callback_no, payment_id, status) VALUES ('C1', 1, 1)"],
    [FOREIGN_KEY, 'DELETE FROM payments WHERE id = 1'],
    [CHECK, 'UPDATE payments SET status = 9 WHERE id = 1'],
    [CHECK, 'UPDATE payment_refunds SET amount = 0 WHERE id = 1'],
  ])('refuse with %s: %s', async (code, statement) => {
    await expect(run(app, statement)).rejects.toMatchObject({ code });
  });

  it('leave the rest to the defaults', async () => {
    await run(app, payment('payment_no, amount', "'P3', 0"));
    const [row] = await app.sql`
      SELECT status, amount, created_at = updated_at AND created_at <= now() AS now, payment_time, refund_time
      FROM payments WHERE payment_no = 'P3'`;
    expect(row).toEqual({
      status: 0,
      amount: '0.00',
      now: true,
      payment_time: null,
      refund_time: null,
    });
  });
});

describe('the list', () => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startApp();
    await run(
      app,
      `INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
        SELECT n, 'PAY' || n, CASE WHEN n % 40 = 0 THEN 'wechat' ELSE 'bank' END, 1,
          CASE WHEN n % 50 = 0 THEN 3 ELSE 1 END, timestamptz '2026-11-01T00:00:00Z' + n / 3 * interval '1 second'
        FROM generate_series(1, 5000) AS n`,
      'ANALYZE payments',
    );
  });

  const Plan = z.object({
    'Node Type': z.string(),
    'Index Name': z.string().optional(),
    'Index Cond': z.string().optional(),
    get Plans() {
      return z.array(Plan).optional();
    },
  });
  type Plan = z.infer<typeof Plan>;

  /**
   * The plan of the very statement that a request sends. In a table this small, sorting is as cheap
   * as the right index; with it made dear, it is left only where no index has the order.
   */
  async function planOf(path: string): Promise<Plan> {
    const [statement] = await app.statements(path, 'AS page');
    const dear = ['seqscan', 'bitmapscan', 'sort', 'incremental_sort'];
    const result = await app.explain(statement, {
      options: 'FORMAT JSON',
      settings: dear.map((name) => `enable_${name} = off`),
    });
    const Explained = z.tuple([z.object({ 'QUERY PLAN': z.tuple([z.object({ Plan })]) })]);
    return Explained.parse(result)[0]['QUERY PLAN'][0].Plan;
  }

  const nodes = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];

  const CURSOR = btoa(`${Date.parse('2026-11-01T00:10:00Z')}000 1800`).replaceAll('=', '');

  it.each([
    ['/payments?page=1&start_time=2000-01-01', 'idx_payments_created_at_id', undefined],
    [
      `/payments?cursor=${CURSOR}`,
      'idx_payments_created_at_id',
      /ROW\(.*created_at, .*id\) < ROW\(/,
    ],
    [
      '/payments?payment_method=wechat&status=1',
      'idx_payments_payment_method_status_created_at_id',
      /payment_method.* = .*status = /,
    ],
    ['/payments?end_time=2026-11-01T00:20:00Z', 'idx_payments_created_at_id', /created_at < /],
    ['/payments?status=3', 'idx_payments_status_created_at_id', /status = /],
    [
      `/payments?status=3&cursor=${CURSOR}`,
      'idx_payments_status_created_at_id',
      /status = .*ROW\(/,
    ],
  ])('%s reads its rows in the order of %s, without sorting', async (path, index, condition) => {
    const [keys] = nodes(await planOf(path)).filter((node) => node['Node Type'] === 'Limit');
    const below = (keys?.Plans ?? []).flatMap(nodes);
    expect(below).toHaveLength(1);
    expect(below[0]?.['Node Type']).toMatch(/^Index (Only )?Scan$/);
    expect(below[0]?.['Index Name']).toBe(index);
    if (condition) expect(below[0]?.['Index Cond']).toMatch(condition);
  });

  it.each([
    ['/payments?payment_method=wechat', 'idx_payments_payment_method_status_created_at_id'],
    ['/payments?payment_method=bank,alipay', 'idx_payments_payment_method_status_created_at_id'],
    ['/payments?status=1,3', 'idx_payments_status_created_at_id'],
    [
      '/payments?status=1,3&payment_method=bank,wechat',
      'idx_payments_payment_method_status_created_at_id',
    ],
    [
      `/payments?refund_state=partial&cursor=${CURSOR}`,
      'idx_payment_refund_totals_state_status_created_at_id',
    ],
    [
      '/payments?refund_state=full&payment_method=bank',
      'idx_payment_refund_totals_state_method_status_created_at_id',
    ],
  ])('%s reads each of its rows in the order of %s, and merges them', async (path, index) => {
    const [merged, ...each] = nodes(await planOf(path)).filter(
      (node) => node['Node Type'] === 'Limit',
    );
    expect(merged?.Plans?.[0]?.['Node Type']).toBe('Sort');
    expect(each).toHaveLength(1);
    const below = (each[0]?.Plans ?? []).flatMap(nodes);
    const scans = below.filter((node) => node['Node Type'] !== 'Result');
    expect(scans.map((node) => node['Index Name'])).toEqual([index]);
  });
});
