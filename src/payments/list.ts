/**
 * GET /payments: the list, newest first, by page or by cursor. Total and rows come from one
 * statement and so from one snapshot. A cursor continues after the last row exactly, to the
 * microsecond, however many rows are inserted meanwhile.
 */
import { and, count, desc, eq, type SQL, sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { type Database, inDatabase } from '../database';
import { settings } from '../env';
import { type AppEnv, envelope, validate } from '../http';
import { orders, payments } from '../schema';
import { readWrittenTime, utc, utcMicros } from '../time';
import { matches, seek, segmentsOf, totalOf } from './count';
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
import { Id, type Payment } from './payment';

const wholeNumber = (min: number, max: number) =>
  once()
    .regex(/^(0|[1-9]\d{0,9})$/, `须为 ${min} 到 ${max} 的整数`)
    .transform(Number)
    .refine((value) => min <= value && value <= max, `须为 ${min} 到 ${max} 的整数`);

/** Where a page ended: the last row's created_at with all its microseconds, and its id. */
const Cursor = once().transform((text, context) => {
  const [, createdAt = '', id = ''] = /^(.+\.\d{6}Z) (\d+)$/.exec(decodeCursor(text)) ?? [];
  const lastId = Id.safeParse(id);
  if (readWrittenTime(createdAt, 'UTC') && lastId.success) return { createdAt, id: lastId.data };
  context.addIssue('须为上一页返回的 next_cursor');
  return z.NEVER;
});

/** A mistyped filter must not widen the result, so unknown parameters are refused. */
const ListQuery = (zone: string) =>
  z
    .strictObject({
      page: parameter(wholeNumber(1, 2_147_483_647)),
      size: parameter(wholeNumber(1, 100)),
      cursor: parameter(Cursor),
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

export const listPayments = new Hono<AppEnv>().get(
  '/payments',
  authorize('payments:read'),
  validate((env) => ({ query: listQueryOf(settings(env).TIME_ZONE) })),
  async (c) => {
    const query = c.req.valid('query');
    const rows = await inDatabase(c, (db) => selectPage(db, query));
    return c.json(envelope('获取成功', toPage(rows, query.size ?? DEFAULT_SIZE)));
  },
);

const DEFAULT_SIZE = 10;

/**
 * The total beside each row of the page, and one row more than the page holds where another follows
 * it. The daily totals count, and a later page begins, as one by cursor does, after a payment: the
 * last of the page before, which they find. With an order_no or a payment_no, which they do not know,
 * a handful of payments match: those are counted, and skipped by OFFSET.
 */
function selectPage(db: Database, query: ListQuery) {
  const size = query.size ?? DEFAULT_SIZE;
  const offset = ((query.page ?? 1) - 1) * size;
  const numbered = hasNumbers(query);
  const filter = and(numbered, matches(query));

  const segments = numbered ? undefined : segmentsOf(db, query, offset > 0 ? 'each' : 'together');
  const previous = segments && offset > 0 ? seek(db, segments, query, offset - 1) : undefined;
  const total = segments ? totalOf(db, segments) : countAll(db, filter);
  const page = db
    .select({
      id: payments.id,
      orderId: payments.orderId,
      paymentNo: payments.paymentNo,
      paymentMethod: payments.paymentMethod,
      amount: payments.amount,
      status: payments.status,
      paymentTime: payments.paymentTime,
      createdAt: payments.createdAt,
    })
    .from(payments)
    .where(
      and(
        filter,
        query.cursor &&
          after(sql`${query.cursor.createdAt}::timestamptz, ${query.cursor.id}::bigint`),
        previous && after(sql`SELECT created_at, id FROM ${previous}`),
      ),
    )
    .orderBy(desc(payments.createdAt), desc(payments.id))
    .limit(size + 1)
    .offset(segments ? 0 : offset)
    .as('page');

  return db
    .with(...[segments, previous].filter((part) => part !== undefined))
    .select({
      total: total.total,
      orderNo: orders.orderNo,
      payment: {
        id: page.id,
        paymentNo: page.paymentNo,
        paymentMethod: page.paymentMethod,
        amount: page.amount,
        status: page.status,
        paymentTime: utc(page.paymentTime),
        createdAt: utcMicros(page.createdAt),
      },
    })
    .from(total)
    .leftJoin(page, sql`true`)
    .leftJoin(orders, eq(orders.id, page.orderId))
    .orderBy(desc(page.createdAt), desc(page.id));
}

function countAll(db: Database, filter: SQL | undefined) {
  return db
    .select({ total: count().as('total') })
    .from(payments)
    .where(filter)
    .as('total');
}

type Row = Awaited<ReturnType<typeof selectPage>>[number];

function toPage(rows: Row[], size: number) {
  const shown = rows.slice(0, size);
  const last = rows.length > size ? shown.at(-1)?.payment : null;
  return {
    total: rows[0]?.total ?? 0,
    // Of an empty page there is still one row, the total beside no payment.
    list: shown.flatMap(({ payment, orderNo }) => (payment ? [toPayment(payment, orderNo)] : [])),
    next_cursor: last ? encodeCursor(`${last.createdAt} ${last.id}`) : null,
  };
}

function toPayment(payment: NonNullable<Row['payment']>, orderNo: string | null): Payment {
  return {
    id: String(payment.id),
    order_no: orderNo,
    payment_no: payment.paymentNo,
    payment_method: payment.paymentMethod,
    amount: payment.amount,
    status: payment.status,
    payment_time: payment.paymentTime,
    created_at: `${payment.createdAt.slice(0, 23)}Z`,
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
