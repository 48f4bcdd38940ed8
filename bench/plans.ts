/**
 * How PostgreSQL executes the list and the list of refunds at a million payments, for each filter: lists every sequential scan
 * and every sort of more than a thousand rows, and whatever reads as many in vain. And which indexes the
 * API does not use at all.
 */
import type pg from 'pg';
import { z } from 'zod';
import { fill, paidIds } from './data.ts';
import { type Call, calls, type Section, type Stack, send } from './stack.ts';

const DATABASE = 'bench_plans';
const FEW = 1000;

const Plan = z.object({
  'Node Type': z.string(),
  'Relation Name': z.string().optional(),
  'Actual Rows': z.number(),
  'Actual Loops': z.number(),
  'Rows Removed by Filter': z.number().default(0),
  get Plans() {
    return z.array(Plan).optional();
  },
});
type Plan = z.infer<typeof Plan>;

const Explained = z.tuple([
  z.object({ 'QUERY PLAN': z.tuple([z.object({ Plan, 'Execution Time': z.number() })]) }),
]);

export async function measurePlans(stack: Stack, quick: boolean): Promise<Section> {
  const rows = quick ? 100_000 : 1_000_000;
  const client = await stack.createDatabase(DATABASE);
  await fill(client, rows);
  const [paid = 1] = await paidIds(client, 1);
  const refunded = await client.query<{ id: number }>(
    'SELECT id::integer FROM payments WHERE status = 3 LIMIT 1',
  );
  return await stack.withWorkers(DATABASE, async (workers) => {
    const call = calls(workers);
    const { next_cursor: cursor } = JSON.parse(await send(call.list(`?page=${rows / 20}`))).data;
    const day = (age: number) => new Date(Date.now() - age * 86_400_000).toISOString().slice(0, 10);
    const results: Section['results'] = [];
    const measure = async (name: string, request: Call) => {
      await send(request);
      const { plan, ms } = await explain(client, await stack.lastStatement(DATABASE));
      const large = nodes(plan).filter(isLarge).map(describe);
      results.push({
        name,
        ours: `${ms.toFixed(2)} ms`,
        beside: large.join(', ') || 'none',
        goal: { text: 'none', met: large.length === 0 },
      });
    };
    for (const query of [
      '',
      'size=100',
      `page=${rows / 20}`,
      `page=${rows / 10}`,
      'page=2147483647',
      `cursor=${cursor}`,
      'status=2',
      'status=0,3',
      `status=2&cursor=${cursor}`,
      `status=2&page=${rows / 1000}`,
      'payment_method=bank',
      'payment_method=alipay,wechat',
      `payment_method=bank&page=${rows / 1000}`,
      'status=3&payment_method=bank',
      'status=2&payment_method=bank',
      'status=0,2&payment_method=bank,alipay',
      'refund_state=partial',
      `refund_state=partial&page=${rows / 1000}`,
      'refund_state=none',
      'refund_state=none&status=3',
      'refund_state=full&payment_method=bank',
      `status=3&payment_method=bank&cursor=${cursor}`,
      `start_time=${day(400)}&end_time=${day(371)}`,
      `start_time=${day(400)}T11:00:00&end_time=${day(371)}T13:00:00`,
      `start_time=${day(400)}T11:00:00&end_time=${day(371)}T13:00:00&status=2&page=20`,
      `start_time=${day(400)}T11:00:00&end_time=${day(400)}T12:00:00`,
      `end_time=${day(900)}&payment_method=bank`,
      `start_time=${day(900)}&page=1000`,
      'order_no=ORD000000000077',
      'payment_no=PAY000000000077',
      'order_no=ORD000000000077&status=1&start_time=2000-01-01',
    ]) {
      await measure(
        query === '' ? 'no filter' : query.replace(cursor, '…'),
        call.list(`?${query}`),
      );
    }
    for (const query of [
      '',
      'order=oldest&size=100',
      'status=0&order=oldest',
      'status=0,2',
      `status=1,2&cursor=${cursor}`,
      `start_time=${day(400)}T11:00:00&end_time=${day(371)}T13:00:00`,
    ]) {
      await measure(
        `refunds: ${query.replace(cursor, '…') || 'no filter'}`,
        call.refunds(`?${query}`),
      );
    }
    await send(call.detail(refunded.rows[0]?.id ?? 1));
    await send(call.refund(paid));
    await send(call.lookup('PAY000000000077'));
    await send(call.list('/statistics?start_time=2026-01-01&end_time=2026-10-31'));
    const unused = await unusedIndexes(client);
    return {
      title: `Plans at ${rows} payments`,
      heads: ['execution', `scans, sorts and filters above ${FEW} rows`],
      results,
      notes: [
        'EXPLAIN ANALYZE of the very statement that the list sends. What a lookup reads, test/payments/plans.test.ts says.',
        `Read by none of these lists, nor by a detail, a refund, a lookup, or the statistics, keys aside: ${unused.join(', ') || 'no index'}. Where an index is there, the specification asks for it.`,
      ],
    };
  });
}

async function explain(
  client: pg.Client,
  { query, params }: { query: string; params: (string | null)[] },
): Promise<{ plan: Plan; ms: number }> {
  const { rows } = await client.query(`EXPLAIN (ANALYZE, FORMAT JSON) ${query}`, params);
  const [
    {
      'QUERY PLAN': [explained],
    },
  ] = Explained.parse(rows);
  return { plan: explained.Plan, ms: explained['Execution Time'] };
}

function nodes(plan: Plan): Plan[] {
  return [plan, ...(plan.Plans ?? []).flatMap(nodes)];
}

const readBy = (plan: Plan) =>
  (plan['Actual Rows'] + plan['Rows Removed by Filter']) * plan['Actual Loops'];

function isLarge(plan: Plan): boolean {
  const inVain = plan['Rows Removed by Filter'] * plan['Actual Loops'] > FEW;
  return inVain || (/Seq Scan|Sort/.test(plan['Node Type']) && readBy(plan) > FEW);
}

function describe(plan: Plan): string {
  return [plan['Node Type'], plan['Relation Name'], `${readBy(plan)} rows`]
    .filter(Boolean)
    .join(' ');
}

async function unusedIndexes(client: pg.Client): Promise<string[]> {
  // A session reports what it has used at its end; the endpoint ends those that idle for two seconds.
  const others = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`;
  while ((await client.query(others)).rows.length > 0) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { rows } = await client.query<{ name: string }>(`
    SELECT indexrelname AS name FROM pg_stat_user_indexes
    WHERE idx_scan = 0
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    ORDER BY 1`);
  return rows.map(({ name }) => name);
}
