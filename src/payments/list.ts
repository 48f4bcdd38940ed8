/**
 * GET /payments: the list, newest first, by page or by cursor, with the number and the sum of all payments
 * of the filter. All comes from one statement and so from one snapshot. A cursor continues after the last
 * row exactly, to the microsecond, however many rows are inserted meanwhile.
 */
import { and, desc, sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { settings } from '../env';
import { type AppEnv, envelope, validate } from '../http';
import { prepared } from '../prepared';
import { payments } from '../schema';
import { timestamptz, utcOf } from '../time';
import { count, seek } from './count';
import { mergeIfNeeded, PAYMENT_TOTALS } from './daily-totals';
import {
  builtOnce,
  ENDS_BEFORE_START,
  endsAfterStart,
  filterParameters,
  hasNumbers,
  matches,
  parameter,
  shapeOf,
} from './filter';
import { after, keysOf } from './keys';
import { Cursor, cursorAfter, wholeNumber } from './page';
import { Payment } from './payment';

/** A mistyped filter must not widen the result, so unknown parameters are refused. */
export const ListQuery = (zone: string) =>
  z
    .strictObject({
      page: parameter(wholeNumber(1, 2_147_483_647)).meta({ default: 1, description: '页码' }),
      size: parameter(wholeNumber(1, 100)).meta({
        default: DEFAULT_SIZE,
        description: '每页数量',
      }),
      cursor: parameter(Cursor).describe('The next_cursor of the page before, instead of page'),
      ...filterParameters(zone),
    })
    .refine(({ cursor, page }) => cursor === undefined || page === undefined, {
      path: ['cursor'],
      error: '不能与 page 同时使用',
      when: () => true,
    })
    .refine(endsAfterStart, ENDS_BEFORE_START);
type ListQuery = z.output<ReturnType<typeof ListQuery>>;

const listQueryOf = builtOnce(ListQuery);

const DEFAULT_SIZE = 10;

/** A page of the list. */
export const PaymentPage = z.object({
  total: z.int().nonnegative().describe('总记录数'),
  total_amount: z
    .string()
    .regex(/^\d+\.\d{2}$/)
    .describe('总金额 of all of them, yuan; it may have more digits than any single amount'),
  list: z.array(Payment),
  next_cursor: z.string().nullable().describe('Continues after the last row; null at the end'),
});
type PaymentPage = z.infer<typeof PaymentPage>;

export const listPayments = new Hono<AppEnv>().get(
  '/payments',
  authorize('payments:read'),
  validate((env) => ({ query: listQueryOf(settings(env).TIME_ZONE) })),
  async (c) => {
    const query = c.req.valid('query');
    const { rows } = await inDatabase(c, 'list', (db) => db.execute<Row>(pageStatement(query)));
    const [row] = rows;
    if (!row) throw new Error('an aggregate without GROUP BY has one row');
    const page = toPage(row, sizeOf(query));
    c.get('log').rows = page.list.length;
    mergeIfNeeded(c, PAYMENT_TOTALS, Number(row.unmerged));
    return c.json(envelope('获取成功', page));
  },
);

const sizeOf = ({ size = DEFAULT_SIZE }: ListQuery) => size;

/** Without any filter: what most people look at, so PostgreSQL keeps its plan (drizzle/0013_kept_plans.sql). */
const isFirstPage = ({ size: _, page = 1, ...others }: ListQuery) =>
  page === 1 && Object.values(others).every((value) => value === undefined);

/** How many payments the pages before this one show. */
const offsetOf = (query: ListQuery) => ((query.page ?? 1) - 1) * sizeOf(query);

/** The payments of the page, and one more if another page follows. Their created_at is in microseconds since the epoch. */
type Row = { total: string; total_amount: string; unmerged: string; page: Payment[] };

/**
 * Total and page in one statement, and so in one snapshot. The totals of days and months count, and find
 * the last payment of the page before; a later page begins after that one, as a page by cursor does. They
 * do not know an order_no or a payment_no. Of those a handful of payments match, which are counted, and
 * skipped by OFFSET.
 * The ids of the page come first, and alone, because an index holds them in order. payment_rows()
 * (drizzle/0013_kept_plans.sql) makes the payments of them.
 */
const pageStatement = prepared<ListQuery>(
  (bind, query) => {
    if (isFirstPage(query)) return sql`SELECT * FROM payment_first_page(${bind(sizeOf)}) AS page`;
    const numbers = hasNumbers(query, bind);
    const sought = numbers === undefined && offsetOf(query) > 0;
    const limit = sql`${bind((given) => sizeOf(given) + 1)}`;
    const cursor = sql`${bind((given) => given.cursor && timestamptz(given.cursor.createdAt))}::timestamptz, ${bind((given) => given.cursor?.id)}::bigint`;
    const previous = sought ? sql`SELECT created_at, id FROM sought` : query.cursor && cursor;
    const where = previous && after(previous);
    const numbered = and(numbers, matches(query, bind));
    const total = numbers
      ? sql`
        SELECT count(*) AS total, coalesce(sum(amount), 0.00) AS total_amount, 0 AS unmerged
        FROM payments WHERE ${numbered}`
      : count(query, bind);
    const keys = numbers
      ? sql`
          SELECT id FROM payments WHERE ${and(numbered, where?.(payments))}
          ORDER BY ${desc(payments.createdAt)}, ${desc(payments.id)} LIMIT ${limit} OFFSET ${bind(offsetOf)}`
      : keysOf(query, bind, { where, limit });
    return sql`
      ${
        sought
          ? sql`WITH ${seek(
              query,
              bind,
              bind((given) => offsetOf(given) - 1),
            )}`
          : sql``
      }
      SELECT total::text, total_amount::numeric(38, 2)::text, unmerged::text,
        payment_rows(ARRAY(SELECT id FROM (${keys}
        ) AS keys)) AS page
      FROM (${total}) AS counted`;
  },
  (query) => [shapeOf(query), query.cursor !== undefined, offsetOf(query) > 0].join(),
);

function toPage({ total, total_amount, page }: Row, size: number): PaymentPage {
  const shown = page.slice(0, size);
  const last = page.length > size ? shown.at(-1) : undefined;
  return {
    total: Number(total),
    total_amount,
    list: shown.map((payment) => ({ ...payment, created_at: utcOf(BigInt(payment.created_at)) })),
    next_cursor: last ? cursorAfter(last.created_at, last.id) : null,
  };
}
