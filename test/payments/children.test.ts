import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { CallbackPage } from '../../src/payments/callbacks';
import { PaymentDetail } from '../../src/payments/detail';
import { RefundPage } from '../../src/refunds/list';
import { insertCallbacks, insertPayment, insertRefunds, signToken, startApp } from '../harness';

const app = await startApp();

const Page = z.object({
  total: z.number(),
  list: z.array(z.looseObject({ id: z.string() })),
  next_cursor: z.string().nullable(),
});
type Page = z.infer<typeof Page>;

const Errors = z.object({ errors: z.array(z.object({ path: z.string(), message: z.string() })) });

const UNKNOWN = '9223372036854775807';

const cursorAt = (position: string) => `cursor=${btoa(position).replaceAll('=', '')}`;

const idsOf = ({ list }: Page) => list.map(({ id }) => id);

describe.each([
  { of: 'callbacks', table: 'payment_callbacks', schema: CallbackPage, insert: insertCallbacks },
  { of: 'refunds', table: 'payment_refunds', schema: RefundPage, insert: insertRefunds },
] as const)('GET /payments/:id/$of', ({ of, table, schema, insert }) => {
  const page = async (id: string, search = '') => {
    const reply = await app.call('GET', `/payments/${id}/${of}?${search}`, Page);
    expect(reply).toMatchObject({ status: 200, code: 0, message: '获取成功' });
    schema.strict().parse(reply.data);
    return reply.data;
  };

  /** The ids of all pages; `between` runs after each of them. */
  const walk = async (id: string, size: number, between = async () => {}) => {
    const ids: string[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const found = await page(id, `size=${size}&cursor=${cursor}`);
      ids.push(...idsOf(found));
      cursor = found.next_cursor;
      await between();
    }
    return ids;
  };

  /** Inserts one more at this time and returns its id. */
  const insertAt = async (id: string, time: string) => {
    const [child = ''] = await insert(app.sql, id, 1, crypto.randomUUID());
    await app.sql.query(`UPDATE ${table} SET created_at = $1 WHERE id = $2`, [time, child]);
    return child;
  };

  test('lists them newest first, 20 unless told, with the total of all', async () => {
    const id = await insertPayment(app.sql);
    await insert(app.sql, await insertPayment(app.sql), 3);
    const ids = await insert(app.sql, id, 25);
    const first = await page(id);
    expect(first.total).toBe(25);
    expect(idsOf(first)).toEqual(ids.toReversed().slice(0, 20));
    const second = await page(id, `cursor=${first.next_cursor}`);
    expect([second.total, second.next_cursor]).toEqual([25, null]);
    expect(idsOf(second)).toEqual(ids.toReversed().slice(20));
  });

  test('shows the same of each as the detail', async () => {
    const id = await insertPayment(app.sql);
    const ids = await insert(app.sql, id, 3);
    if (of === 'refunds') {
      await app.sql`
        INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id)
        SELECT ${ids[1]}::bigint, 'somebody', 0, 1, n FROM generate_series(1, 60) AS n`;
    }
    const detail = await app.call('GET', `/payments/${id}`, PaymentDetail);
    expect((await page(id)).list).toEqual(detail.data[of].toReversed());
  });

  test('has an empty page of a payment without any', async () => {
    const id = await insertPayment(app.sql);
    expect(await page(id)).toEqual({ total: 0, list: [], next_cursor: null });
  });

  test('ends with a page that is exactly full', async () => {
    const id = await insertPayment(app.sql);
    await insert(app.sql, id, 4);
    const { next_cursor } = await page(id, 'size=2');
    expect((await page(id, `size=2&cursor=${next_cursor}`)).next_cursor).toBeNull();
  });

  // Two of them have each created_at, so an odd size cuts between two that differ by their id only.
  test.for([1, 7, 100])(
    'shows each once, %i a page, while newer ones are inserted',
    async (size) => {
      const id = await insertPayment(app.sql);
      const ids = await insert(app.sql, id, size === 1 ? 12 : 250);
      const walked = await walk(id, size, async () => {
        await insertAt(id, new Date().toISOString());
      });
      expect(walked).toEqual(ids.toReversed());
    },
  );

  test('continues exactly at times that differ by a microsecond, in any year', async () => {
    const id = await insertPayment(app.sql);
    const ids: string[] = [];
    for (const time of [
      '0001-01-01 00:00:00Z',
      '1969-12-31 23:59:59.999999Z',
      '1970-01-01 00:00:00Z',
      '1999-12-31 23:59:59.999999Z',
      '2000-01-01 00:00:00Z',
      '2026-11-01 00:00:00.123456Z',
      '2026-11-01 00:00:00.123457Z',
      '9999-12-31 23:59:59.999998Z',
      '9999-12-31 23:59:59.999999Z',
    ]) {
      ids.push(await insertAt(id, time));
    }
    const walked: string[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const data = await page(id, `size=1&cursor=${cursor}`);
      walked.push(...idsOf(data));
      cursor = data.next_cursor;
    }
    expect(walked).toEqual(ids.toReversed());
  });

  test('makes one round trip', async () => {
    const id = await insertPayment(app.sql);
    await insert(app.sql, id, 3);
    const { next_cursor } = await page(id, 'size=1');
    for (const search of ['', 'size=100', `cursor=${next_cursor}`]) {
      expect(await app.databaseRequests(() => page(id, search))).toBe(1);
    }
  });

  test('answers 40401 for a payment that does not exist', async () => {
    const reply = await app.call('GET', `/payments/${UNKNOWN}/${of}`, z.null());
    expect(reply).toMatchObject({ status: 404, code: 40401 });
  });

  test('needs payments:read', async () => {
    const Authorization = `Bearer ${await signToken({ scope: 'refunds:create' })}`;
    const reply = await app.call('GET', `/payments/1/${of}`, z.unknown(), {
      headers: { Authorization },
    });
    expect(reply).toMatchObject({ status: 403, code: 40300 });
  });

  test.for([
    ['/payments/0', '', 'id'],
    ['/payments/1', 'page=1', 'page'],
    ['/payments/1', 'status=1', 'status'],
    ['/payments/1', 'size=0', 'size'],
    ['/payments/1', 'size=101', 'size'],
    ['/payments/1', 'size=1000', 'size'],
    ['/payments/1', 'size=1.0', 'size'],
    ['/payments/1', 'size=1&size=2', 'size'],
    ['/payments/1', 'cursor=*', 'cursor'],
    ['/payments/1', cursorAt('1 '), 'cursor'],
    ['/payments/1', cursorAt('1 0'), 'cursor'],
    ['/payments/1', cursorAt('-0 1'), 'cursor'],
    ['/payments/1', cursorAt('01 1'), 'cursor'],
    ['/payments/1', cursorAt('1 9223372036854775808'), 'cursor'],
    ['/payments/1', cursorAt('253402300800000000 1'), 'cursor'],
    ['/payments/1', cursorAt('-62135596800000001 1'), 'cursor'],
    ['/payments/1', cursorAt('2026-11-01T00:00:00.000000Z 1'), 'cursor'],
  ] as const)('refuses %s?%s without asking the database', async ([path, search, wrong]) => {
    const requests = await app.databaseRequests(async () => {
      const reply = await app.call('GET', `${path}/${of}?${search}`, Errors);
      expect(reply).toMatchObject({ status: 400, code: 40000 });
      expect(reply.data.errors.map((error) => error.path)).toEqual([wrong]);
    });
    expect(requests).toBe(0);
  });

  test.for(['253402300799999999 1', '-62135596800000000 9223372036854775807', '0 1'])(
    'takes a cursor at the end of the years that can be shown: %s',
    async (position) => {
      const id = await insertPayment(app.sql);
      const { total } = await page(id, cursorAt(position));
      expect(total).toBe(0);
    },
  );

  test('reads of 5,000 no more than the page, except to count them', async () => {
    const id = await insertPayment(app.sql, { amount: '10000.00' });
    await insert(app.sql, id, 5_000);
    // Newer ones of another payment: the index on created_at alone would be of no use.
    await insert(app.sql, await insertPayment(app.sql, { amount: '10000.00' }), 9_000);
    // Again where another's snapshot was in the way: from an index alone pages are read that all see.
    do await app.sql.query(`VACUUM (ANALYZE, INDEX_CLEANUP ON) ${table}`);
    while ((await pagesNotSeenByAll(table)) > 0);
    const deep = cursorAt(`${Date.parse('2026-11-01T12:00:00Z')}000 1`);
    for (const search of ['', 'size=100', deep]) {
      const [statement] = await app.statements(`/payments/${id}/${of}?${search}`, 'AS found');
      const nodes = await planOf(statement);
      // The few events here may be read whole, once it is known that they are few.
      const [count, ...more] = nodes.filter(
        (node) => readBy(node) > 200 && node['Relation Name'] !== 'payment_refund_events',
      );
      expect(count).toMatchObject({ 'Node Type': 'Index Only Scan', 'Actual Rows': 5_000 });
      expect(more).toEqual([]);
    }
  }, 60_000);
});

async function pagesNotSeenByAll(table: string): Promise<number> {
  const rows = await app.sql`
    SELECT relpages - relallvisible AS pages FROM pg_class WHERE oid = ${table}::regclass`;
  return z.tuple([z.object({ pages: z.int() })]).parse(rows)[0].pages;
}

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

const Explained = z.tuple([z.object({ 'QUERY PLAN': z.tuple([z.object({ Plan })]) })]);

const nodesOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];
const readBy = (plan: Plan) =>
  (plan['Actual Rows'] + plan['Rows Removed by Filter']) * plan['Actual Loops'];

type Statement = Awaited<ReturnType<typeof app.listStatement>>;

async function planOf(statement: Statement) {
  const result = await app.explain(statement);
  return nodesOf(Explained.parse(result)[0]['QUERY PLAN'][0].Plan);
}
