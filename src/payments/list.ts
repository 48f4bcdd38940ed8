/**
 * GET /payments: the list, newest first, by page or by cursor. Total and rows come from one
 * statement and so from one snapshot. A cursor continues after the last row exactly, to the
 * microsecond, however many rows are inserted meanwhile.
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
import { readWrittenTime, utc, utcMicros } from '../time';
import { count, matches, seek, shapeOf } from './count';
import {
  after,
  builtOnce,
  ENDS_BEFORE_START,
  endsAfterStart,
  filterParameters,
  hasNumbers,
  once,
  parameter,
} from './filter';
import { Id, Payment } from './payment';

// The meta of these is for OpenAPI, which describes what a query string means rather than its text.
const wholeNumber = (min: number, max: number) =>
  once()
    .refine((text) => /^(0|[1-9]\d{0,9})$/.test(text), `须为 ${min} 到 ${max} 的整数`)
    .transform(Number)
    .refine((value) => min <= value && value <= max, `须为 ${min} 到 ${max} 的整数`)
    .meta({ type: 'integer', minimum: min, maximum: max });

/** Where a page ended: the last row's created_at with all its microseconds, and its id. */
const Cursor = once().transform((text, context) => {
  const [, createdAt = '', id = ''] = /^(.+\.\d{6}Z) (\d+)$/.exec(decodeCursor(text)) ?? [];
  const lastId = Id.safeParse(id);
  if (readWrittenTime(createdAt, 'UTC') && lastId.success) return { createdAt, id: lastId.data };
  context.addIssue('须为上一页返回的 next_cursor');
  return z.NEVER;
});

/** A mistyped filter must not widen the result, so unknown parameters are refused. */
export const ListQuery = (zone: string) =>
  z
    .strictObject({
      page: parameter(wholeNumber(1, 2_147_483_647)).describe('页码, 1 by default'),
      size: parameter(wholeNumber(1, 100)).describe(`每页数量, ${DEFAULT_SIZE} by default`),
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
    const page = toPage(rows, sizeOf(query));
    c.get('log').rows = page.list.length;
    return c.json(envelope('获取成功', page));
  },
);

const sizeOf = ({ size = DEFAULT_SIZE }: ListQuery) => size;

/** How many payments the pages before this one show. */
const offsetOf = (query: ListQuery) => ((query.page ?? 1) - 1) * sizeOf(query);

/**
 * A payment of the page, its created_at with all microseconds for the cursor, beside the total. Of an
 * empty page there is one row still, the total beside nulls.
 */
type Row = { total: string } & (Payment | { [Column in keyof Payment]: null });

/**
 * The total beside each row of the page, and one row more than the page holds where another follows
 * it. The daily totals count, and a later page begins, as one by cursor does, after a payment: the
 * last of the page before, which they find. With an order_no or a payment_no, which they do not know,
 * a handful of payments match: those are counted, and skipped by OFFSET.
 */
const pageStatement = prepared<ListQuery>(
  (bind, query) => {
    const numbered = hasNumbers(query, bind);
    const filter = and(numbered, matches(query, bind));
    const sought = numbered === undefined && offsetOf(query) > 0;
    const total = numbered
      ? sql`SELECT count(*) AS total FROM payments WHERE ${filter}`
      : count(query, bind);
    const behind =
      query.cursor &&
      sql`${bind(({ cursor }) => cursor?.createdAt)}::timestamptz, ${bind(({ cursor }) => cursor?.id)}::bigint`;
    const previous = bind((given) => offsetOf(given) - 1);
    return sql`
      WITH total AS (${total})${sought ? sql`, ${seek(query, bind, previous)}` : sql``}
      SELECT total.total, page.id, orders.order_no, page.payment_no, page.payment_method,
        page.amount, page.status, ${utc(sql`page.payment_time`)} AS payment_time,
        ${utcMicros(sql`page.created_at`)} AS created_at
      FROM total
      LEFT JOIN (
        SELECT * FROM payments
        WHERE ${and(filter, behind && after(behind), sought ? after(sql`SELECT created_at, id FROM sought`) : undefined) ?? sql`true`}
        ORDER BY ${desc(payments.createdAt)}, ${desc(payments.id)}
        LIMIT ${bind((given) => sizeOf(given) + 1)} OFFSET ${numbered ? bind(offsetOf) : sql`0`}
      ) AS page ON true
      LEFT JOIN orders ON orders.id = page.order_id
      ORDER BY page.created_at DESC, page.id DESC`;
  },
  (query) =>
    [
      shapeOf(query),
      query.order_no !== undefined,
      query.payment_no !== undefined,
      query.cursor !== undefined,
      offsetOf(query) > 0,
    ].join(),
);

function toPage(rows: Row[], size: number): PaymentPage {
  const found = rows.filter((row) => row.id !== null);
  const shown = found.slice(0, size);
  const last = found.length > size ? shown.at(-1) : undefined;
  return {
    total: Number(rows[0]?.total),
    list: shown.map(toPayment),
    next_cursor: last ? encodeCursor(`${last.created_at} ${last.id}`) : null,
  };
}

function toPayment(row: Payment): Payment {
  return {
    id: row.id,
    order_no: row.order_no,
    payment_no: row.payment_no,
    payment_method: row.payment_method,
    amount: row.amount,
    status: row.status,
    payment_time: row.payment_time,
    created_at: `${row.created_at.slice(0, 23)}Z`,
  };
}

function encodeCursor(text: string): string {
  return new TextEncoder().encode(text).toBase64({ alphabet: 'base64url', omitPadding: true });
}

function decodeCursor(cursor: string): string {
  try {
    return new TextDecoder().decode(Uint8Array.fromBase64(cursor, { alphabet: 'base64url' }));
  } catch {
    return '';
  }
}
