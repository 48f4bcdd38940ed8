/**
 * A page of what belongs to one payment, its callbacks or its refunds, newest first. Total and rows
 * come from one statement and so from one snapshot. A cursor continues after the last row exactly, to
 * the microsecond, however many rows are inserted meanwhile.
 */
import { type AnyColumn, desc, type SQL, sql } from 'drizzle-orm';
import type { PgTable } from 'drizzle-orm/pg-core';
import * as z from 'zod';
import { type Bind, prepared } from '../prepared';
import { payments } from '../schema';
import { epochMicros, timestamptz } from '../time';
import { parameter } from './filter';
import { after } from './keys';
import { Cursor, cursorAfter, wholeNumber } from './page';

const DEFAULT_SIZE = 20;

/** The parameters of both. Unknown ones are refused. */
export const ChildrenQuery = z.strictObject({
  size: parameter(wholeNumber(1, 100)).meta({ default: DEFAULT_SIZE, description: '每页数量' }),
  cursor: parameter(Cursor).describe('The next_cursor of the page before'),
});

/** What is asked for: the page, and the payment that it is of. */
export interface ChildrenRequest extends z.output<typeof ChildrenQuery> {
  paymentId: bigint;
}

/** The schema of a page of these. */
export const pageOf = <T extends z.ZodObject>(child: T) =>
  z.object({
    total: z.int().nonnegative().describe('总记录数'),
    list: z.array(child),
    next_cursor: z.string().nullable().describe('Continues after the last row; null at the end'),
  });

/** What childrenStatement() finds: the rows of the page, and one more where another page follows it. */
export type Found<Child> = { total: string; found: { child: Child; created: string }[] };

/**
 * Makes the statement that finds the page, and no row where there is no such payment. `child` makes
 * JSON of a row of `table`. The ids of the page come first, and alone: the index on (payment_id,
 * created_at, id) holds them in their order, so a page takes no longer where a payment has 100,000 rows.
 * Only the total does: it is counted, by index.
 */
export function childrenStatement(
  table: PgTable & Record<'id' | 'paymentId' | 'createdAt', AnyColumn>,
  child: SQL,
): (request: ChildrenRequest) => SQL {
  const newestFirst = sql`${desc(table.createdAt)}, ${desc(table.id)}`;
  return prepared<ChildrenRequest>(
    (bind, { cursor }) => sql`
      SELECT (SELECT count(*) FROM ${table} WHERE ${table.paymentId} = ${payments.id}) AS total, (
        SELECT coalesce(json_agg(json_build_object('child', ${child}, 'created', ${epochMicros(table.createdAt)}) ORDER BY ${newestFirst}), '[]')
        FROM ${table} WHERE ${table.id} = ANY (ARRAY(
          SELECT ${table.id} FROM ${table}
          WHERE ${table.paymentId} = ${payments.id} AND ${cursor ? after(cursorOf(bind))(table) : sql`true`}
          ORDER BY ${newestFirst} LIMIT ${bind(({ size = DEFAULT_SIZE }) => size + 1)}
        ))
      ) AS found
      FROM payments WHERE ${payments.id} = ${bind(({ paymentId }) => paymentId)}`,
    ({ cursor }) => String(cursor !== undefined),
  );
}

function cursorOf(bind: Bind<ChildrenRequest>): SQL {
  const createdAt = bind(({ cursor }) => cursor && timestamptz(cursor.createdAt));
  return sql`${createdAt}::timestamptz, ${bind(({ cursor }) => cursor?.id)}::bigint`;
}

/** The page that a client gets. */
export function toPage<Child extends { id: string }>(
  { total, found }: Found<Child>,
  { size = DEFAULT_SIZE }: ChildrenRequest,
) {
  const shown = found.slice(0, size);
  const last = found.length > size ? shown.at(-1) : undefined;
  return {
    total: Number(total),
    list: shown.map(({ child }) => child),
    next_cursor: last ? cursorAfter(last.created, last.child.id) : null,
  };
}
