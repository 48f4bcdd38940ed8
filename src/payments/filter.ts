/**
 * Which payments a query string asks for: the parameters that the list, the export and the statistics
 * read in the same way, and the SQL conditions that they mean. Each is given once at most, and an empty
 * value counts as absent. keys.ts finds the payments of a filter in order, count.ts counts them.
 */
import { and, type Column, eq, gte, lt, type SQL, sql } from 'drizzle-orm';
import * as z from 'zod';
import { arrayLiteral, type Bind } from '../prepared';
import { paymentRefundTotals, payments } from '../schema';
import { NO_CONTROL_CHARACTERS } from '../text';
import { readWrittenTime, timestamptz, type WrittenTime } from '../time';
import { type Payment, PaymentMethod, PaymentStatus, RefundState, stateNumber } from './payment';

/**
 * A parameter that may be absent. The type is what typed clients may send; repeated, it arrives as an
 * array, and once() refuses it.
 */
export const parameter = <T extends z.ZodType>(schema: T) =>
  z.preprocess(
    (value: string | undefined) => (value === '' ? undefined : value),
    schema.optional(),
  );

/** A parameter that has to be there. */
export const requiredParameter = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value: string) => (value === '' ? undefined : value), schema);

/** The text of a parameter. */
export const once = () =>
  z.string({ error: ({ input }) => (input === undefined ? '必填' : '不能重复') });

// The meta of these is for OpenAPI, which describes what a query string means rather than its text.

/** Length counts code points, as VARCHAR does. */
const exactText = (maxLength: number) =>
  once()
    .refine((text) => [...text].length <= maxLength, `最多 ${maxLength} 个字符`)
    .refine((text) => /^\P{Cc}*$/u.test(text), '不能包含控制字符')
    .meta({ maxLength, pattern: NO_CONTROL_CHARACTERS });

/** One or several of these, separated by commas. */
export const severalOf = <T extends string | number>(values: z.ZodLiteral<T>) => {
  const known = new Map([...values.values].map((value) => [String(value), value]));
  const message = `须为 ${[...known.keys()].join('、')} 中的一个或多个，以逗号分隔`;
  return once()
    .refine((text) => text.split(',').every((item) => known.has(item)), message)
    .transform((text) => [...new Set(text.split(','))].flatMap((item) => known.get(item) ?? []))
    .meta({
      type: 'array',
      items: {
        type: typeof [...values.values][0] === 'number' ? 'integer' : 'string',
        enum: [...values.values],
      },
      minItems: 1,
    });
};

/** A time as src/time.ts reads it; without an offset it is meant in `zone`. */
export const writtenTime = (zone: string) =>
  once().transform((text, context): WrittenTime => {
    const time = readWrittenTime(text, zone);
    if (time) return time;
    context.addIssue('须为 RFC 3339 时间、YYYY-MM-DD、YYYY-MM-DD HH:mm 或 YYYY-MM-DD HH:mm:ss');
    return z.NEVER;
  });

/** What the two ends of a range of created_at mean. */
export const START_TIME =
  "开始时间 of created_at: RFC 3339, YYYY-MM-DD, YYYY-MM-DD HH:mm or YYYY-MM-DD HH:mm:ss; without an offset it is in the deployment's zone. Decimals of a second, 1 to 9, are cut to microseconds";
export const END_TIME =
  '结束时间, inclusive to the precision written: a date means the whole day, a minute the whole minute';

/** The filters, each of which may be absent; times without an offset are meant in `zone`. */
export const filterParameters = (zone: string) => ({
  order_no: parameter(exactText(64)).describe('订单号'),
  payment_no: parameter(exactText(50)).describe('支付单号'),
  status: parameter(severalOf(PaymentStatus)).describe(`支付状态: ${PaymentStatus.description}`),
  payment_method: parameter(severalOf(PaymentMethod)).describe('支付方式'),
  refund_state: parameter(severalOf(RefundState)).describe(
    `退款情况, by refunded_amount: ${RefundState.description}`,
  ),
  start_time: parameter(writtenTime(zone)).describe(START_TIME),
  end_time: parameter(writtenTime(zone)).describe(END_TIME),
});

interface TimeRange {
  start_time?: WrittenTime | undefined;
  end_time?: WrittenTime | undefined;
}

/** For refine(), with what it then says. */
export function endsAfterStart({ start_time, end_time }: TimeRange): boolean {
  return !(start_time && end_time && start_time.from >= end_time.until);
}
export const ENDS_BEFORE_START = {
  path: ['end_time'],
  error: '不能早于 start_time',
  // Beside whatever else is wrong, too.
  when: () => true,
};

/** A schema costs more to build than to use, so each zone's is built once. */
export function builtOnce<Schema>(build: (zone: string) => Schema): (zone: string) => Schema {
  const schemas = new Map<string, Schema>();
  return (zone) => {
    const schema = schemas.get(zone) ?? build(zone);
    schemas.set(zone, schema);
    return schema;
  };
}

/** Which payments are asked for. Statuses, methods and states are one or several; what is absent filters nothing. */
export interface Filter {
  order_no?: string | undefined;
  payment_no?: string | undefined;
  status?: Payment['status'][] | undefined;
  payment_method?: string[] | undefined;
  refund_state?: RefundState[] | undefined;
  start_time?: WrittenTime | undefined;
  end_time?: WrittenTime | undefined;
}

/** What tells apart the texts of the statements that a filter makes. */
export function shapeOf(filter: Filter): string {
  const { order_no, payment_no, status, payment_method, refund_state, start_time, end_time } =
    filter;
  return [
    ...[status, payment_method, refund_state].map((values) => values && values.length > 1),
    refund_state?.includes('none'),
    ...[order_no, payment_no, start_time, end_time].map((value) => value !== undefined),
  ].join();
}

/** The payment_no, and the order_no, as a condition on payments. Undefined where neither is given. */
export function hasNumbers({ order_no, payment_no }: Filter, bind: Bind<Filter>): SQL | undefined {
  return and(
    order_no === undefined
      ? undefined
      : sql`${payments.orderId} IN (SELECT id FROM orders WHERE order_no = ${bind((given) => given.order_no)})`,
    payment_no === undefined
      ? undefined
      : eq(
          payments.paymentNo,
          bind((given) => given.payment_no),
        ),
  );
}

/** Statuses and methods as a condition on any table that has both. */
export function among(
  { status, paymentMethod }: { status: Column; paymentMethod: Column },
  filter: Filter,
  bind: Bind<Filter>,
): SQL | undefined {
  return and(
    filter.status && isOneOf(status, 'integer', bind, (given) => given.status ?? []),
    filter.payment_method &&
      isOneOf(paymentMethod, 'text', bind, (given) => given.payment_method ?? []),
  );
}

/** The refund states as a condition on a table that has them as numbers. */
export function inStates(refundState: Column, { refund_state }: Filter, bind: Bind<Filter>) {
  return (
    refund_state &&
    isOneOf(refundState, 'integer', bind, (given) => (given.refund_state ?? []).map(stateNumber))
  );
}

/** However many values there are, the text is the same. */
function isOneOf(
  column: Column,
  type: 'integer' | 'text',
  bind: Bind<Filter>,
  valuesOf: (given: Filter) => (string | number)[],
): SQL {
  return sql`${column} = ANY (${bind((given) => arrayLiteral(valuesOf(given)))}::${sql.raw(type)}[])`;
}

/** The range of created_at as a condition on a table that has it. */
export function within(createdAt: Column, filter: Filter, bind: Bind<Filter>): SQL | undefined {
  return and(
    filter.start_time && gte(createdAt, bind(startOf)),
    filter.end_time && lt(createdAt, bind(endOf)),
  );
}

/** All of a filter but its numbers, as a condition on payments. */
export function matches(filter: Filter, bind: Bind<Filter>): SQL | undefined {
  const states = inStates(paymentRefundTotals.refundState, filter, bind);
  const found = sql`SELECT FROM ${paymentRefundTotals} WHERE ${paymentRefundTotals.paymentId} = ${payments.id}`;
  return and(
    among(payments, filter, bind),
    within(payments.createdAt, filter, bind),
    // A payment without a row has no refund.
    states &&
      (filter.refund_state?.includes('none')
        ? sql`(EXISTS (${found} AND ${states}) OR NOT EXISTS (${found}))`
        : sql`EXISTS (${found} AND ${states})`),
  );
}

/** The first instant of a filter, and the first after it, as TIMESTAMPTZ literals. */
export const startOf = ({ start_time }: Filter) => start_time && timestamptz(start_time.from);
export const endOf = ({ end_time }: Filter) => end_time && timestamptz(end_time.until);
