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
import { json, text } from '../json';
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
      page: parameter(wholeNumber(1, 2_147_483_647)).meta({ default: 1, description: '页码' }),
      size: parameter(wholeNumber(1, 100)).meta({ default: DEFAULT_SIZE, description: '每页数量' }),
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
    const [row] = rows;
    if (!row) throw new Error('a SELECT without FROM has one row');
    const page = toPage(row, sizeOf(query));
    c.get('log').rows = page.list.length;
    return c.json(envelope('获取成功', page));
  },
);

const sizeOf = ({ size = DEFAULT_SIZE }: ListQuery) => size;

/** How many payments the pages before this one show. */
const offsetOf = (query: ListQuery) => ((query.page ?? 1) - 1) * sizeOf(query);

/** The payments of the page, and one more where another follows it, each created_at with all microseconds. */
type Row = { total: string; found: Payment[] };

/**
 * Total and page in one statement, and so in one snapshot. The totals of days and months count, and a
 * later page begins, as one by cursor does, after a payment: the last of the page before, which they
 * find. With an order_no or a payment_no, which they do not know, a handful of payments match: those
 * are counted, and skipped by OFFSET.
 * The ids of the page come first, and alone: an index holds them, so the planner does not rather go
 * through all newer payments for a method that is no longer in use. As an array they are looked up by
 * the primary key, whatever else the planner thinks of them.
 */
const pageStatement = prepared<ListQuery>(
  (bind, query) => {
    const numbered = hasNumbers(query, bind);
    const filter = and(numbered, matches(query, bind));
    const sought = numbered === undefined && offsetOf(query) > 0;
    const total = numbered
      ? sql`SELECT count(*) FROM payments WHERE ${filter}`
      : count(query, bind);
    const previous = bind((given) => offsetOf(given) - 1);
    const cursor = sql`${bind((given) => given.cursor?.createdAt)}::timestamptz, ${bind((given) => given.cursor?.id)}::bigint`;
    const behind = sought
      ? after(sql`SELECT created_at, id FROM sought`)
      : query.cursor && after(cursor);
    const newestFirst = sql`${desc(payments.createdAt)}, ${desc(payments.id)}`;
    const payment = json<typeof Payment>({
      id: text(payments.id),
      order_no: sql`(SELECT order_no FROM orders WHERE orders.id = ${payments.orderId})`,
      payment_no: payments.paymentNo,
      payment_method: payments.paymentMethod,
      amount: text(payments.amount),
      status: payments.status,
      payment_time: utc(payments.paymentTime),
      created_at: utcMicros(payments.createdAt),
    });
    return sql`
      ${sought ? sql`WITH ${seek(query, bind, previous)}` : sql``}
      SELECT (${total}) AS total, (
        SELECT coalesce(json_agg(${payment} ORDER BY ${newestFirst}), '[]')
        FROM payments WHERE id = ANY (ARRAY(
          SELECT id FROM payments
          WHERE ${and(filter, behind) ?? sql`true`}
          ORDER BY ${newestFirst}
          LIMIT ${bind((given) => sizeOf(given) + 1)} OFFSET ${numbered ? bind(offsetOf) : sql`0`}
        ))
      ) AS found`;
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

function toPage({ total, found }: Row, size: number): PaymentPage {
  const shown = found.slice(0, size);
  const last = found.length > size ? shown.at(-1) : undefined;
  return {
    total: Number(total),
    list: shown.map((payment) => ({
      ...payment,
      created_at: `${payment.created_at.slice(0, 23)}Z`,
    })),
    next_cursor: last ? encodeCursor(`${last.created_at} ${last.id}`) : null,
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
