/**
 * GET /payments/export: the list's payments, newest first, as CSV for people (RFC 4180, UTF-8 with a
 * BOM, times in TIME_ZONE). It streams in constant memory: 1,000 rows a round trip, the next when the
 * client has taken the last; each chunk is a snapshot of its own. The last line says how many rows
 * there are, or that it broke off. Cloudflare allows 10,000 subrequests, so a file has 10 million rows
 * at most; their 4 ms of CPU each (bench/RESULTS.md) are within limits.cpu_ms of wrangler.toml.
 */
import { and, desc, type SQL, sql } from 'drizzle-orm';
import { type Context, Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { settings } from '../env';
import { ApiError, type AppEnv, validate } from '../http';
import { describeError, writeLog } from '../log';
import { prepared } from '../prepared';
import { payments } from '../schema';
import { epochMicros, timestamptz } from '../time';
import {
  builtOnce,
  ENDS_BEFORE_START,
  endsAfterStart,
  filterParameters,
  hasNumbers,
  matches,
  shapeOf,
} from './filter';
import { after, keysOf } from './keys';
import type { Position } from './page';
import { METHOD_NAMES, STATUS_NAMES } from './payment';

/** The filters of the list. */
export const ExportQuery = (zone: string) =>
  z.strictObject(filterParameters(zone)).refine(endsAfterStart, ENDS_BEFORE_START);
type ExportQuery = z.output<ReturnType<typeof ExportQuery>>;

const exportQueryOf = builtOnce(ExportQuery);

export const exportPayments = new Hono<AppEnv>().get(
  '/payments/export',
  authorize('payments:export'),
  validate((env) => ({ query: exportQueryOf(settings(env).TIME_ZONE) })),
  async (c) => {
    const zone = settings(c.env).TIME_ZONE;
    const query = c.req.valid('query');
    const fetchChunk = async (previous?: Position) => {
      const chunk = chunkStatement({ ...query, zone, previous });
      const { rows } = await inDatabase(c, 'export', (db) => db.execute<Row>(chunk));
      return rows;
    };
    // Before the status is sent: a database that is down answers with its code.
    const first = await fetchChunk();
    return c.body(streamOf(writeFile(c, first, fetchChunk)), 200, {
      'Content-Type': 'text/csv; charset=utf-8',
      'Content-Disposition': `attachment; filename="payments-${stamp(zone)}.csv"`,
    });
  },
);

const CHUNK_ROWS = 1000;

/** What a chunk is of, and where the one before it ended; the first has none before it. */
type Chunk = ExportQuery & { zone: string; previous?: Position | undefined };

type Row = {
  id: string;
  order_id: string;
  order_no: string | null;
  payment_no: string;
  payment_method: string;
  amount: string;
  refunded_amount: string;
  refunding_amount: string;
  status: number;
  payment_time: string | null;
  refund_time: string | null;
  created_at: string;
  updated_at: string | null;
  /** created_at in microseconds since the epoch. */
  position: string;
};

/**
 * The rows after a position. First their keys alone, which an index holds in order. Then for each key its
 * payment (where LIMIT keeps the planner from making a join of it), order number and refunds: to look
 * them up costs the same in a database of any size, while a join could read all there are.
 */
const chunkStatement = prepared<Chunk>(
  (bind, chunk) => {
    const where =
      chunk.previous &&
      after(
        sql`${bind(({ previous }) => previous && timestamptz(previous.createdAt))}::timestamptz, ${bind(({ previous }) => previous?.id)}::bigint`,
      );
    const numbers = hasNumbers(chunk, bind);
    const limit = sql.raw(String(CHUNK_ROWS));
    const keys = numbers
      ? sql`
        SELECT created_at, id FROM payments WHERE ${and(numbers, matches(chunk, bind), where?.(payments))}
        ORDER BY ${desc(payments.createdAt)}, ${desc(payments.id)} LIMIT ${limit}`
      : keysOf(chunk, bind, { where, limit });
    const zone = bind(({ zone }) => zone);
    const local = (time: SQL) =>
      sql`to_char(${time} AT TIME ZONE ${zone}, 'YYYY-MM-DD HH24:MI:SS')`;
    return sql`
      SELECT key.id::text, payment.order_id::text,
        (SELECT order_no FROM orders WHERE orders.id = payment.order_id) AS order_no,
        payment.payment_no, payment.payment_method, payment.amount,
        refunds.succeeded AS refunded_amount, refunds.in_progress AS refunding_amount, payment.status,
        ${local(sql`payment.payment_time`)} AS payment_time, ${local(sql`payment.refund_time`)} AS refund_time,
        ${local(sql`payment.created_at`)} AS created_at, ${local(sql`payment.updated_at`)} AS updated_at,
        ${epochMicros(sql`key.created_at`)} AS position
      FROM (${keys}
      ) AS key
      CROSS JOIN LATERAL (SELECT * FROM payments WHERE payments.id = key.id LIMIT 1) AS payment
      CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount) FILTER (WHERE status = 1), 0.00) AS succeeded,
          coalesce(sum(amount) FILTER (WHERE status = 0), 0.00) AS in_progress
        FROM payment_refunds WHERE payment_id = key.id
      ) AS refunds
      ORDER BY key.created_at DESC, key.id DESC`;
  },
  (chunk) => [shapeOf(chunk), !!chunk.previous].join(),
);

const BOM = '\uFEFF';

/**
 * The parts of the file, as they are asked for. A whole one says so too, because what is cut off from
 * outside, by a proxy or at the limit of CPU, cannot. Whatever ends it once it has begun, the client
 * leaving included, is logged.
 */
async function* writeFile(
  c: Context<AppEnv>,
  first: Row[],
  fetchChunk: (previous: Position) => Promise<Row[]>,
): AsyncGenerator<string> {
  let rows = 0;
  let outcome: 'complete' | 'failed' | 'cancelled' = 'cancelled';
  let fault: unknown;
  try {
    yield BOM + toRecord(Object.keys(COLUMNS));
    let chunk = first;
    for (let last = chunk.at(-1); last; last = chunk.at(-1)) {
      rows += chunk.length;
      yield chunk.map((row) => toRecord(Object.values(COLUMNS).map((cell) => cell(row)))).join('');
      const previous = { createdAt: BigInt(last.position), id: BigInt(last.id) };
      chunk = chunk.length < CHUNK_ROWS ? [] : await fetchChunk(previous);
    }
    outcome = 'complete';
    yield toLastRecord(`# 共 ${rows} 条`);
  } catch (error) {
    outcome = 'failed';
    fault = error instanceof ApiError ? (error.cause ?? error) : error;
    yield toLastRecord(`# 导出中断：以上 ${rows} 条并非全部，请重新导出或缩小筛选范围`);
  } finally {
    writeLog(fault === undefined ? 'info' : 'error', 'export', {
      request_id: c.get('requestId'),
      actor: c.get('actor'),
      outcome,
      rows,
      database_requests: c.get('log').databaseRequests,
      database_ms: Math.round(c.get('log').databaseMs),
      ...(fault === undefined ? {} : { error: describeError(fault) }),
    });
  }
}

const COLUMNS: Record<string, (row: Row) => string | null> = {
  支付记录ID: (row) => asText(row.id),
  订单ID: (row) => asText(row.order_id),
  订单号: (row) => row.order_no && asText(row.order_no),
  支付单号: (row) => asText(row.payment_no),
  支付方式: (row) => METHOD_NAMES[row.payment_method] ?? asText(row.payment_method),
  支付金额: (row) => row.amount,
  已退款金额: (row) => row.refunded_amount,
  退款处理中金额: (row) => row.refunding_amount,
  支付状态: (row) => STATUS_NAMES[row.status] ?? String(row.status),
  支付时间: (row) => row.payment_time,
  退款时间: (row) => row.refund_time,
  创建时间: (row) => row.created_at,
  更新时间: (row) => row.updated_at,
};

/**
 * Text that a spreadsheet leaves as it is. What it would calculate gets a single quote in front
 * (https://owasp.org/www-community/attacks/CSV_Injection). What begins with a digit and is no number of
 * at most 11 of them would be shown as a power of ten, rounded, or taken for a date: it gets a tab behind,
 * as in the bills of Alipay. Whoever reads the file as numbers or trims its cells does not notice.
 */
function asText(text: string): string {
  if (/^[=+\-@\t\r\n]/.test(text)) return `'${text}`;
  return /^\d/.test(text) && !/^(0|[1-9]\d{0,10})$/.test(text) ? `${text}\t` : text;
}

/** A line of RFC 4180. */
function toRecord(cells: (string | null)[]): string {
  return `${cells.map((cell) => quote(cell ?? '')).join()}\r\n`;
}

function quote(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** As many cells as any other has, which RFC 4180 asks for and strict readers insist on. */
function toLastRecord(text: string): string {
  return toRecord([text, ...Array(Object.keys(COLUMNS).length - 1).fill('')]);
}

/** Asks for a part when the client is ready for it, and for no more once it has gone. */
function streamOf(parts: AsyncGenerator<string>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      },
      async cancel() {
        await parts.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Now, in the zone of the file's times, as digits. */
function stamp(zone: string): string {
  const swedish = new Intl.DateTimeFormat('sv', {
    timeZone: zone,
    dateStyle: 'short',
    timeStyle: 'medium',
  });
  return swedish.format(new Date()).replaceAll(/\D/g, '');
}
