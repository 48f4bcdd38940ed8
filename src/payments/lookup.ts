/**
 * GET /lookup: the payments that one number names, whoever gave the number: an order, we, or a gateway. Matches are
 * exact, and each is found by an index. Part of a number finds nothing.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { type AppEnv, envelope, validate } from '../http';
import { prepared } from '../prepared';
import { utcOf } from '../time';
import { once, requiredParameter } from './filter';
import { Id, IdText, Payment } from './payment';

/** As long as the longest number that is stored, callback_no. */
const MAX_LENGTH = 100;

const MAX_PAYMENTS = 20;

/** What a copied number may have in it without anybody seeing it: white space of any width, and zero-width characters. */
const INVISIBLE = /[\s\p{Default_Ignorable_Code_Point}]/gu;

/** What may stand around a copied number: quotes, and the ' with which our CSV keeps spreadsheets from calculating. */
const QUOTES = /^['"‘’‚‛“”„‟＇＂]+|['"‘’‚‛“”„‟＇＂]+$/g;

/** The number, as it is searched. Unknown parameters are refused. */
export const LookupQuery = z.strictObject({
  number: requiredParameter(
    once()
      // What is taken away below takes its time, too.
      .refine((text) => text.length <= 5 * MAX_LENGTH, `最多 ${MAX_LENGTH} 个字符`)
      .transform((text) => text.replace(INVISIBLE, '').replace(QUOTES, ''))
      .refine((number) => number !== '', '须为单号')
      .refine((number) => [...number].length <= MAX_LENGTH, `最多 ${MAX_LENGTH} 个字符`)
      .refine((number) => /^\P{Cc}*$/u.test(number), '不能包含控制字符')
      .meta({ type: 'string', minLength: 1 }),
  ).describe(
    `单号: of an order, a payment, a refund, a callback or a gateway, or an id. White space, invisible characters and quotes around it are removed; then at most ${MAX_LENGTH} characters, and no control characters`,
  ),
});

/** What a number can be, in the order in which payments are shown. The first that fits counts. */
const LookupKind = z.literal([
  'order_no',
  'payment_no',
  'refund_no',
  'callback_no',
  'out_refund_no',
  'gateway_refund_no',
  'out_trade_no',
  'trade_no',
  'payment_id',
  'refund_id',
  'order_id',
]);

/** The payments that a number names, each once, by kind, newest first. */
export const Lookup = z.object({
  number: z.string().describe('As it was searched'),
  list: z
    .array(
      z.object({
        kind: LookupKind.describe('What the number is'),
        refund_id: IdText.nullable().describe('The refund that it names; null where it names none'),
        payment: Payment,
      }),
    )
    .max(MAX_PAYMENTS),
});
type Lookup = z.infer<typeof Lookup>;

export const lookUp = new Hono<AppEnv>().get(
  '/lookup',
  authorize('payments:read'),
  validate({ query: LookupQuery }),
  async (c) => {
    const { number } = c.req.valid('query');
    const { rows } = await inDatabase(c, 'lookup', (db) =>
      db.execute<Found>(lookupStatement(number)),
    );
    const [row] = rows;
    if (!row) throw new Error('a function with OUT parameters has one row');
    const list = toList(row);
    c.get('log').rows = list.length;
    return c.json(envelope('获取成功', { number, list }));
  },
);

/** The hits in their order, and their payments in that of the list, with created_at in microseconds since the epoch. */
type Found = {
  hits: (Omit<Lookup['list'][number], 'payment'> & { payment_id: string })[];
  listed: Payment[];
};

const lookupStatement = prepared<string>((bind) => {
  const id = bind((number) => Id.safeParse(number).data ?? null);
  return sql`SELECT * FROM lookup_number(${bind((number) => number)}, ${id}::bigint)`;
});

function toList({ hits, listed }: Found): Lookup['list'] {
  const payments = new Map(listed.map((payment) => [payment.id, payment]));
  return hits.flatMap(({ payment_id, ...hit }) => {
    const payment = payments.get(payment_id);
    if (!payment) return [];
    return [{ ...hit, payment: { ...payment, created_at: utcOf(BigInt(payment.created_at)) } }];
  });
}
