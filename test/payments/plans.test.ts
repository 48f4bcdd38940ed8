/**
 * How PostgreSQL executes the list at 100,000 payments, for each filter: never by reading all
 * payments, never by sorting many, and never reading more of them than a page and the days in which
 * it and the time range begin and end, however rare they are. And the export, chunk by chunk, the
 * statistics, the list of refunds and the lookup of a number likewise.
 */
import { beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { startApp, type TestApp } from '../harness';

const PAYMENTS = 100_000;
const A_DAY = 500;

let app: TestApp;

beforeAll(async () => {
  app = await startApp();
  // 200 days that end with 2026-10-31 in Asia/Shanghai. Nobody has paid by bank since the first half of them,
  // and no payment by bank has failed.
  await app.sql`
    INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
    SELECT n, 'PAY' || n,
      CASE WHEN n * 31 % 100 < 46 THEN 'alipay' WHEN n * 31 % 100 < 88 OR n > ${PAYMENTS / 2}::int THEN 'wechat' ELSE 'bank' END,
      1, CASE WHEN n * 17 % 101 < 5 THEN 0 WHEN n * 17 % 101 < 85 THEN 1 WHEN n * 17 % 101 < 92 THEN 2 ELSE 3 END,
      timestamptz '2026-11-01 00:00+08' - (${PAYMENTS}::int - n + 1) * interval '1 day' / ${A_DAY}::int
    FROM generate_series(1, ${PAYMENTS}::int) AS n`;
  await app.sql`INSERT INTO orders (id, order_no) SELECT n, 'ORD' || n FROM generate_series(1, ${PAYMENTS}::int) AS n`;
  await app.sql`UPDATE payments SET status = 1 WHERE status = 2 AND payment_method = 'bank'`;
  await app.sql`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
    SELECT id, 'R' || id, amount, id % 3, created_at FROM payments WHERE status = 3`;
  await app.sql`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
    SELECT id, 'R' || id, amount / 2, 1, created_at FROM payments WHERE status = 1 AND id % 20 = 0`;
  await app.sql`
    INSERT INTO gateway_refunds (refund_id, gateway, out_refund_no, gateway_refund_no)
    SELECT id, 'wechat', 'OUT' || id, '503' || id FROM payment_refunds`;
  await app.sql`
    INSERT INTO gateway_payments (payment_id, out_trade_no, trade_no)
    SELECT id, 'OUTTRADE' || id, '420' || id FROM payments WHERE id % 10 = 0`;
  await app.sql`
    INSERT INTO payment_callbacks (payment_id, callback_no, status) SELECT id, 'CB' || id, 1 FROM payments WHERE id % 10 = 0`;
  // Again where another's snapshot was in the way, autovacuum's say: from an index alone pages are read that all see.
  do await app.sql`VACUUM ANALYZE payments`;
  while ((await pagesNotSeenByAll()) > 0);
  await app.sql`VACUUM ANALYZE payment_refund_totals`;
  await app.sql`VACUUM ANALYZE payment_refunds`;
  await app.sql`
    ANALYZE payment_daily_totals, refund_daily_totals, orders, gateway_refunds, gateway_payments, payment_callbacks`;
}, 60_000);

async function pagesNotSeenByAll(): Promise<number> {
  const rows = await app.sql`
    SELECT relpages - relallvisible AS pages FROM pg_class WHERE oid = 'payments'::regclass`;
  return z.tuple([z.object({ pages: z.int() })]).parse(rows)[0].pages;
}

const Plan = z.object({
  'Node Type': z.string(),
  'Relation Name': z.string().optional(),
  'Actual Rows': z.number(),
  'Actual Loops': z.number(),
  'Rows Removed by Filter': z.number().default(0),
  'Rows Removed by Index Recheck': z.number().default(0),
  get Plans() {
    return z.array(Plan).optional();
  },
});
type Plan = z.infer<typeof Plan>;

const Explained = z.tuple([z.object({ 'QUERY PLAN': z.tuple([z.object({ Plan })]) })]);

const nodes = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];
const rowsOf = (plan: Plan) => plan['Actual Rows'] * plan['Actual Loops'];
const readBy = (plan: Plan) =>
  (plan['Actual Rows'] + plan['Rows Removed by Filter'] + plan['Rows Removed by Index Recheck']) *
  plan['Actual Loops'];

type Statement = Awaited<ReturnType<TestApp['listStatement']>>;

const nodesIn = (explained: unknown) => nodes(Explained.parse(explained)[0]['QUERY PLAN'][0].Plan);
const planOf = async (statement: Statement) => nodesIn(await app.explain(statement));

const CURSOR = btoa(`${Date.parse('2026-07-01T00:00:00Z')}000 12345`).replaceAll('=', '');

it.each([
  '',
  'size=100',
  'page=5000',
  'page=10000',
  'page=10001',
  'page=2147483647',
  `cursor=${CURSOR}`,
  ...['status=1', 'status=1&page=4000', 'status=1&page=7920', `status=1&cursor=${CURSOR}`],
  ...['status=0', 'status=0&page=250', 'status=0&page=495'],
  ...['status=1,3', 'status=1,3&page=4000', `status=0,2&cursor=${CURSOR}`, 'status=0,2&page=600'],
  ...['payment_method=bank', 'payment_method=bank&page=300', 'payment_method=bank&page=600'],
  ...['payment_method=alipay,wechat', 'payment_method=alipay,wechat&page=9000'],
  ...['payment_method=bank&status=1', 'payment_method=bank&status=1&page=470'],
  ...['payment_method=bank&status=0,2', 'payment_method=bank&status=0,2&page=30'],
  ...[
    'start_time=2026-09-01&end_time=2026-09-30',
    'start_time=2026-09-01&end_time=2026-09-30&page=750',
  ],
  ...['start_time=2026-08-01', 'start_time=2026-08-01&page=2000', 'end_time=2026-08-01&page=2000'],
  // None at all, and none lately.
  ...[
    'payment_method=bank&status=2',
    'payment_method=bank&status=2,0',
    'payment_method=bank&status=3',
  ],
  ...['status=2,3&payment_method=bank,alipay', 'payment_method=bank,alipay&page=2000'],
  ...[
    'refund_state=partial',
    'refund_state=partial&page=300',
    `refund_state=partial&cursor=${CURSOR}`,
  ],
  ...['refund_state=full', 'refund_state=full&page=200', 'refund_state=full&status=1'],
  ...['refund_state=none', 'refund_state=none&page=5000', `refund_state=none&cursor=${CURSOR}`],
  ...['refund_state=none&status=3', 'refund_state=none&status=3&page=300'],
  ...['refund_state=partial,full&status=1,3', 'refund_state=partial,full&payment_method=bank'],
  'refund_state=partial,none&payment_method=bank&status=3&page=5',
  'refund_state=partial&start_time=2026-09-01T12:00:00Z&end_time=2026-09-30T12:00:00Z&page=20',
  'refund_state=none&start_time=2026-09-01T12:00:00Z&end_time=2026-09-30T12:00:00Z&page=700',
  'start_time=2026-09-01T12:00:00Z&end_time=2026-09-30T12:00:00Z',
  'start_time=2026-09-01T12:00:00Z&end_time=2026-09-30T12:00:00Z&page=700',
  'start_time=2026-09-01T12:00:00Z&end_time=2026-09-30T12:00:00Z&status=1,3&payment_method=wechat&page=300',
  'start_time=2026-09-01T03:00:00Z&end_time=2026-09-01T09:00:00Z&page=5',
  ...[
    'order_no=ORD7',
    'order_no=ORD7&page=2',
    'order_no=NONE',
    'payment_no=PAY77',
    'payment_no=NONE',
  ],
])('?%s reads little and sorts little', async (search) => {
  const plan = await planOf(await app.listStatement(search));

  const scans = plan.filter((node) => node['Relation Name'] === 'payments');
  expect(scans.map((scan) => scan['Node Type'])).not.toContain('Seq Scan');
  // Two days that are cut by the range, the day that is searched for the page, and the page.
  expect(scans.reduce((sum, scan) => sum + readBy(scan), 0)).toBeLessThan(3 * A_DAY + 1000);
  expect(read(plan, 'payment_refund_totals')).toBeLessThan(3 * A_DAY + 1000);
  for (const sort of plan.filter((node) => node['Node Type'].includes('Sort'))) {
    expect((sort.Plans ?? []).reduce((sum, input) => sum + rowsOf(input), 0)).toBeLessThan(1000);
  }
});

const read = (plan: Plan[], relation: string) =>
  plan
    .filter((node) => node['Relation Name'] === relation)
    .reduce((sum, scan) => sum + readBy(scan), 0);

// How many chunks there are, and how many keys each may read and sort for every payment that it shows.
it.each([
  ['', 101, 1],
  ['status=1', 80, 1],
  ['status=0,2', 12, 2],
  // One scan for each status.
  ['payment_method=bank', 7, 4],
  ['payment_method=bank&status=1', 6, 1],
  // A chunk is so large a part of the few there are that sorting them is as cheap as the index.
  ['refund_state=partial', 4, 4],
  ['refund_state=none&status=3', 6, 4],
  ['start_time=2026-09-01&end_time=2026-09-30', 16, 1],
  ['start_time=2026-09-01T12:00:00Z&status=1', 24, 2],
  ['order_no=ORD7', 1, 1],
  ['order_no=NONE', 1, 1],
  ['payment_no=PAY77', 1, 1],
])('an export of ?%s reads little for each chunk', async (search, chunks, most) => {
  const statements = await app.statements(`/payments/export?${search}`, 'CROSS JOIN LATERAL');
  expect(statements).toHaveLength(chunks);
  const some = [0, 1, Math.floor(chunks / 2), chunks - 1];
  for (const statement of statements.filter((_, index) => some.includes(index))) {
    const plan = await planOf(statement);
    expect(plan.map((node) => node['Node Type'])).not.toContain('Seq Scan');
    expect(read(plan, 'payments')).toBeLessThanOrEqual((most + 1) * 1001);
    expect(read(plan, 'orders')).toBeLessThanOrEqual(1001);
    expect(read(plan, 'payment_refunds')).toBeLessThanOrEqual(1001);
    for (const sort of plan.filter((node) => node['Node Type'].includes('Sort'))) {
      const sorted = (sort.Plans ?? []).reduce((sum, input) => sum + rowsOf(input), 0);
      expect(sorted).toBeLessThan(most * 1001 + 1);
    }
  }
});

it.each([
  // Neither a payment nor a refund.
  ['start_time=2026-09-01&end_time=2026-09-30', 0],
  ['start_time=2026-04-01&end_time=2026-11-30', 0],
  ['start_time=2026-09-01T12:00:00Z&end_time=2026-09-30T12:00:00Z', 2 * A_DAY],
  ['start_time=2026-09-01T03:00:00Z&end_time=2026-09-01T09:00:00Z', A_DAY],
])(
  'statistics of ?%s read payments and refunds of the days that are cut only',
  async (search, most) => {
    const [statement] = await app.statements(`/payments/statistics?${search}`, 'days_paid');
    const plan = await planOf(statement);
    expect(read(plan, 'payments')).toBeLessThanOrEqual(most);
    expect(read(plan, 'payment_refunds')).toBeLessThanOrEqual(most);
    expect(read(plan, 'payment_daily_totals')).toBeLessThan((PAYMENTS / A_DAY) * 24);
  },
);

it.each([
  ...['', 'size=100', 'order=oldest', `cursor=${CURSOR}`, `cursor=${CURSOR}&order=oldest`],
  ...['status=0', 'status=0&order=oldest', `status=2&cursor=${CURSOR}`],
  ...['status=0,2', 'status=0,2&order=oldest', `status=1,2&order=oldest&cursor=${CURSOR}`],
  ...['status=0,1,2&size=100', 'start_time=2026-09-01&end_time=2026-09-30'],
  'start_time=2026-09-01T12:00:00Z&end_time=2026-09-30T12:00:00Z&status=0',
  'start_time=2026-09-01T12:00:00Z&end_time=2026-09-30T12:00:00Z&order=oldest',
  'start_time=2026-09-01T03:00:00Z&end_time=2026-09-01T09:00:00Z&status=0,2&order=oldest',
  // None at all.
  'start_time=2026-12-01T03:00:00Z&status=0,2',
  'end_time=2020-01-01T03:00:00Z&order=oldest',
])('refunds of ?%s are counted and found without reading others', async (search) => {
  const [statement] = await app.statements(`/refunds?${search}`, 'AS found');
  const plan = await planOf(statement);
  const scans = plan.filter((node) => node['Node Type'] === 'Seq Scan');
  // The totals themselves are small.
  expect(scans.map((scan) => scan['Relation Name'])).toEqual(
    scans.map(() => expect.stringMatching(/refund_daily_totals|payment_refund_events/)),
  );
  // One scan of the keys for each status, the page itself, and two days that are cut.
  expect(read(plan, 'payment_refunds')).toBeLessThan(4 * 101 + 2 * A_DAY);
  expect(read(plan, 'payments')).toBeLessThanOrEqual(101);
  for (const sort of plan.filter((node) => node['Node Type'].includes('Sort'))) {
    expect((sort.Plans ?? []).reduce((sum, input) => sum + rowsOf(input), 0)).toBeLessThan(1000);
  }
});

/** What the session has read and not reported yet, in whatever functions. */
const READ = `
  SELECT coalesce(sum(seq_scan), 0)::int AS scanned, coalesce(sum(idx_tup_fetch), 0)::int AS fetched
  FROM pg_stat_xact_user_tables WHERE schemaname = 'public'`;

it.each([
  ...['ORD7', 'PAY77', 'CB50', '50', '99999', 'R20', 'OUT9'],
  ...['5039', 'OUTTRADE50', '42050', 'NONE'],
])('a lookup of %s finds by index whatever it finds', async (number) => {
  const [statement] = await app.statements(`/lookup?number=${number}`, 'lookup_number');
  const results = await app.sql.transaction([
    app.sql.query(READ),
    app.sql.query(statement?.query ?? '', statement?.params ?? []),
    app.sql.query(READ),
  ]);
  const Read = z.tuple([z.object({ scanned: z.int(), fetched: z.int() })]);
  const [[before], [then]] = [Read.parse(results[0]), Read.parse(results[2])];
  expect(then.scanned - before.scanned).toBe(0);
  // A few payments with what belongs to them.
  expect(then.fetched - before.fetched).toBeLessThan(50);
});
