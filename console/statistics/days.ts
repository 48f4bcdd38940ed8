/**
 * The figures of the statistics page: every day of a range, and what any of them add up to. Received is what
 * is 支付成功 or 已退款, by the day of the payment; refunds count on the day on which they were made. All sums are
 * fen. Test vectors in Node check this file, so it imports nothing of the page.
 */
import { day as dayOf, shiftDay } from '../format.ts';
import { fenOf } from '../money.ts';

/** The zone of the API's business days, whatever the deployment's zone is. */
export const BUSINESS_ZONE = 'Asia/Shanghai';

/** The colours of a bar, from its foot up. */
export const SERIES = ['alipay', 'wechat', 'bank', 'other'] as const;
export type Series = (typeof SERIES)[number];

/** How many, and how much of it. */
export interface Sum {
  count: number;
  fen: bigint;
}

/** What the days from `from` to `to`, both included, add up to. */
export interface Figures {
  from: string;
  to: string;
  methods: Record<Series, Sum>;
  paid: Sum;
  refunded: Sum;
  refunding: Sum;
  /** Received less refunded, in fen. */
  net: bigint;
}

interface ApiSum {
  status: number;
  count: number;
  amount: string;
}

/** A day as GET /payments/statistics answers it. */
export interface ApiDay {
  day: string;
  payments: (ApiSum & { payment_method: string })[];
  refunds: ApiSum[];
}

/** A range as the API takes it. */
export interface Range {
  start_time: string;
  end_time: string;
}

const DEFAULT_DAYS = 30;

/** The range of an address: where an end is missing, thirty days with today, or with the end that is there. */
export function rangeOf(start: string | undefined, end: string | undefined, today: string): Range {
  const end_time = end ?? today;
  const last = isDay(end_time.slice(0, 10)) ? end_time.slice(0, 10) : today;
  return { start_time: start ?? shiftDay(last, 1 - DEFAULT_DAYS), end_time };
}

function isDay(text: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(text));
}

/** The business day of a time as the address has it; without an offset, its date. */
function businessDay(text: string): string {
  const instant = /(Z|[-+]\d{2}:\d{2})$/i.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(instant) ? text.slice(0, 10) : dayOf(instant, BUSINESS_ZONE);
}

/** How many days a range has, at most `most`; for what is shown before the answer is there. */
export function dayCount({ start_time, end_time }: Range, most: number): number {
  const days =
    (Date.parse(businessDay(end_time)) - Date.parse(businessDay(start_time))) / 86_400_000 + 1;
  return Number.isNaN(days) ? 1 : Math.min(Math.max(days, 1), most);
}

/**
 * A row for each day of a range, the oldest first, days without data included. Days that are still to come
 * are left out. A day that the API has is never left out.
 */
export function fillDays(days: readonly ApiDay[], range: Range, today: string): Figures[] {
  const known = new Map(days.map((one) => [one.day, one]));
  const ends = [...known.keys()].sort();
  const until = businessDay(range.end_time);
  const first = earliest(ends[0], businessDay(range.start_time));
  const last = latest(ends.at(-1), until > today ? today : until);
  const rows: Figures[] = [];
  for (let day = first; day <= last; day = shiftDay(day, 1)) {
    rows.push(figuresOf(known.get(day) ?? { day, payments: [], refunds: [] }));
  }
  return rows;
}

function earliest(one: string | undefined, other: string): string {
  return one !== undefined && one < other ? one : other;
}

function latest(one: string | undefined, other: string): string {
  return one !== undefined && one > other ? one : other;
}

/** 支付成功, and what was paid before it was refunded whole. */
const RECEIVED = [1, 3];

function figuresOf({ day, payments, refunds }: ApiDay): Figures {
  const received = payments.filter(({ status }) => RECEIVED.includes(status));
  const refunded = sumOf(refunds.filter(({ status }) => status === 1));
  const paid = sumOf(received);
  const of = (series: Series) =>
    sumOf(received.filter(({ payment_method }) => seriesOf(payment_method) === series));
  return {
    from: day,
    to: day,
    methods: { alipay: of('alipay'), wechat: of('wechat'), bank: of('bank'), other: of('other') },
    paid,
    refunded,
    refunding: sumOf(refunds.filter(({ status }) => status === 0)),
    net: paid.fen - refunded.fen,
  };
}

function seriesOf(method: string): Series {
  return SERIES.find((one) => one === method) ?? 'other';
}

function sumOf(sums: readonly ApiSum[]): Sum {
  return addUp(sums.map(({ count, amount }) => ({ count, fen: fenOf(amount) })));
}

function addUp(sums: readonly Sum[]): Sum {
  return sums.reduce(
    (total, { count, fen }) => ({ count: total.count + count, fen: total.fen + fen }),
    {
      count: 0,
      fen: 0n,
    },
  );
}

/** What several rows add up to; undefined for none. */
export function totalOf(rows: readonly Figures[]): Figures | undefined {
  const [first, last] = [rows[0], rows.at(-1)];
  if (!first || !last) return undefined;
  const of = (pick: (row: Figures) => Sum) => addUp(rows.map(pick));
  const paid = of((row) => row.paid);
  const refunded = of((row) => row.refunded);
  return {
    from: first.from,
    to: last.to,
    methods: {
      alipay: of((row) => row.methods.alipay),
      wechat: of((row) => row.methods.wechat),
      bank: of((row) => row.methods.bank),
      other: of((row) => row.methods.other),
    },
    paid,
    refunded,
    refunding: of((row) => row.refunding),
    net: paid.fen - refunded.fen,
  };
}

/** Whether nothing was paid and nothing refunded. */
export function isNothing({ paid, refunded, refunding }: Figures): boolean {
  return paid.count + refunded.count + refunding.count === 0;
}

/** Whether a day is a Monday, on which a week begins. */
export function isMonday(day: string): boolean {
  return new Date(`${day}T00:00:00Z`).getUTCDay() === 1;
}

/** The rows of days, week by week; the first and the last week may be cut by the range. */
export function weeksOf(rows: readonly Figures[]): Figures[] {
  const weeks: Figures[][] = [];
  for (const row of rows) {
    const week = weeks.at(-1);
    if (week === undefined || isMonday(row.from)) weeks.push([row]);
    else week.push(row);
  }
  return weeks.map(totalOf).filter((week) => week !== undefined);
}

/**
 * The filter that finds what some of the rows count. A day is named by its date, or with its offset where the
 * deployment's zone is another than the business's. An end that cuts its day stays as the address has it.
 */
export function rangeWithin(
  { from, to }: Pick<Figures, 'from' | 'to'>,
  rows: readonly Figures[],
  range: Range,
  zone: string,
): Range {
  const sameZone = zone === BUSINESS_ZONE;
  const cuts = (end: string) => !sameZone || !isDay(end);
  const start_time = sameZone ? from : `${from}T00:00:00+08:00`;
  const end_time = sameZone ? to : `${to}T23:59:59+08:00`;
  const isFirst = from === rows[0]?.from;
  const isLast = to === rows.at(-1)?.to;
  return {
    start_time: isFirst && cuts(range.start_time) ? range.start_time : start_time,
    end_time: isLast && cuts(range.end_time) ? range.end_time : end_time,
  };
}
