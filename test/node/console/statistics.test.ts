/** The sums and the drawing of the statistics page. */
import { describe, expect, test } from 'vitest';
import {
  type ApiDay,
  dayCount,
  fillDays,
  isNothing,
  rangeOf,
  rangeWithin,
  totalOf,
  weeksOf,
} from '../../../console/statistics/days.ts';
import { axisOf, labelsOf, needsWeeks, stack } from '../../../console/statistics/geometry.ts';

const paid = (payment_method: string, status: number, count: number, amount: string) => ({
  payment_method,
  status,
  count,
  amount,
});

/** 2026-11-23 is a Monday. */
const DAYS: ApiDay[] = [
  {
    day: '2026-11-22',
    payments: [
      paid('alipay', 0, 9, '900.00'),
      paid('alipay', 1, 2, '0.10'),
      paid('alipay', 3, 1, '0.20'),
      paid('wechat', 2, 9, '900.00'),
      paid('paypal', 1, 1, '5.00'),
    ],
    refunds: [
      { status: 0, count: 3, amount: '0.07' },
      { status: 1, count: 1, amount: '0.20' },
      { status: 2, count: 9, amount: '900.00' },
    ],
  },
  {
    day: '2026-11-24',
    payments: [paid('bank', 1, 1, '90071992547409.93')],
    refunds: [],
  },
];
const RANGE = { start_time: '2026-11-21', end_time: '2026-11-30' };

describe('the days of a range', () => {
  test('has a row for each day, without those that are still to come', () => {
    const rows = fillDays(DAYS, RANGE, '2026-11-25');
    expect(rows.map(({ from }) => from)).toEqual([
      '2026-11-21',
      '2026-11-22',
      '2026-11-23',
      '2026-11-24',
      '2026-11-25',
    ]);
    expect(rows.map(isNothing)).toEqual([true, false, true, false, true]);
  });

  test('leaves out no day that the API has, whatever the range and the clock say', () => {
    const range = { start_time: '2026-11-23', end_time: '2026-11-23' };
    const rows = fillDays(DAYS, range, '2026-11-23');
    expect(rows.map(({ from }) => from)).toEqual(['2026-11-22', '2026-11-23', '2026-11-24']);
  });

  test('reads a time with an offset as a day in Shanghai', () => {
    const range = { start_time: '2026-11-20T16:00Z', end_time: '2026-11-21T15:59:59Z' };
    expect(fillDays([], range, '2026-11-25').map(({ from }) => from)).toEqual(['2026-11-21']);
  });

  test('counts what was received: 支付成功 and 已退款, and refunds by their status', () => {
    const day = fillDays(DAYS, RANGE, '2026-11-25')[1];
    expect(day).toMatchObject({
      paid: { count: 4, fen: 530n },
      refunded: { count: 1, fen: 20n },
      refunding: { count: 3, fen: 7n },
      net: 510n,
      methods: {
        alipay: { count: 3, fen: 30n },
        wechat: { count: 0, fen: 0n },
        other: { count: 1, fen: 500n },
      },
    });
  });

  test('adds up without losing a fen', () => {
    expect(totalOf(fillDays(DAYS, RANGE, '2026-11-25'))).toMatchObject({
      from: '2026-11-21',
      to: '2026-11-25',
      paid: { count: 5, fen: 9_007_199_254_741_523n },
      net: 9_007_199_254_741_503n,
      methods: { bank: { count: 1, fen: 9_007_199_254_740_993n } },
    });
    expect(totalOf([])).toBeUndefined();
  });

  test('begins a week on Monday, and keeps the sum', () => {
    const weeks = weeksOf(fillDays(DAYS, RANGE, '2026-11-25'));
    expect(weeks.map(({ from, to }) => [from, to])).toEqual([
      ['2026-11-21', '2026-11-22'],
      ['2026-11-23', '2026-11-25'],
    ]);
    expect(weeks.map(({ paid }) => paid.fen)).toEqual([530n, 9_007_199_254_740_993n]);
  });

  test('is thirty days where the address has none', () => {
    const today = '2026-11-25';
    expect(rangeOf(undefined, undefined, today)).toEqual({
      start_time: '2026-10-27',
      end_time: today,
    });
    expect(rangeOf('2026-11-01', undefined, today).end_time).toBe(today);
    expect(rangeOf(undefined, '2026-03-30 12:00', today).start_time).toBe('2026-03-01');
    expect(rangeOf(undefined, 'abc', today)).toEqual({ start_time: '2026-10-27', end_time: 'abc' });
  });

  test('is as long as its skeleton', () => {
    expect(dayCount(RANGE, 40)).toBe(10);
    expect(dayCount({ start_time: '2026-01-01', end_time: '2026-12-31' }, 40)).toBe(40);
    expect(dayCount({ start_time: 'abc', end_time: '2026-12-31' }, 40)).toBe(1);
  });
});

describe('the filter of a row', () => {
  const rows = fillDays(DAYS, RANGE, '2026-11-25');
  const within = (from: string, to: string, range = RANGE, zone = 'Asia/Shanghai') =>
    Object.values(rangeWithin({ from, to }, rows, range, zone));

  test('is the day itself', () => {
    expect(within('2026-11-21', '2026-11-21')).toEqual(['2026-11-21', '2026-11-21']);
    expect(within('2026-11-25', '2026-11-25')).toEqual(['2026-11-25', '2026-11-25']);
    expect(within('2026-11-23', '2026-11-25')).toEqual(['2026-11-23', '2026-11-25']);
  });

  test('keeps an end that cuts its day', () => {
    const range = { start_time: '2026-11-21 08:00', end_time: '2026-11-25 09:00' };
    expect(within('2026-11-21', '2026-11-22', range)).toEqual(['2026-11-21 08:00', '2026-11-22']);
    expect(within('2026-11-24', '2026-11-25', range)).toEqual(['2026-11-24', '2026-11-25 09:00']);
  });

  test('names the instants where the days of the list are of another zone', () => {
    expect(within('2026-11-22', '2026-11-22', RANGE, 'America/New_York')).toEqual([
      '2026-11-22T00:00:00+08:00',
      '2026-11-22T23:59:59+08:00',
    ]);
    expect(within('2026-11-21', '2026-11-25', RANGE, 'America/New_York')).toEqual([
      '2026-11-21',
      '2026-11-30',
    ]);
  });
});

describe('the chart', () => {
  const day = (amounts: Record<string, string>) => {
    const payments = Object.entries(amounts).map(([method, amount]) => paid(method, 1, 1, amount));
    const rows = fillDays(
      [{ day: '2026-11-23', payments, refunds: [] }],
      { start_time: '2026-11-23', end_time: '2026-11-23' },
      '2026-11-23',
    );
    const bar = rows[0];
    if (!bar) throw new Error('there is one row');
    return bar;
  };

  test('has an axis of round numbers, whose top is above every bar', () => {
    expect(axisOf([day({ bank: '142000.00' })])).toEqual({
      top: 150_000,
      ticks: [0, 50_000, 100_000, 150_000],
    });
    expect(axisOf([day({ bank: '0.30' })]).top).toBeCloseTo(0.3);
    expect(axisOf([day({})])).toEqual({ top: 1, ticks: [0] });
  });

  test('stacks the methods with a pixel between them', () => {
    expect(stack(day({ alipay: '25.00', bank: '50.00' }), 100, 200)).toEqual([
      { series: 'alipay', y: 150, height: 50 },
      { series: 'bank', y: 50, height: 99 },
    ]);
  });

  test('shows the least amount as a pixel', () => {
    expect(stack(day({ wechat: '0.01' }), 150_000, 200)).toEqual([
      { series: 'wechat', y: 199, height: 1 },
    ]);
  });

  test('draws 400 days as weeks where a day has no three pixels', () => {
    expect(needsWeeks(400, 1_240)).toBe(false);
    expect(needsWeeks(400, 260)).toBe(true);
    expect(needsWeeks(60, 260)).toBe(false);
  });

  test('names every day, else every Monday, else months', () => {
    const dates = fillDays([], { start_time: '2026-10-27', end_time: '2027-02-04' }, '2027-02-04');
    const named = (rows: typeof dates, band: number) => labelsOf(rows, band).map(({ day }) => day);
    expect(named(dates.slice(0, 3), 60)).toEqual(['2026-10-27', '2026-10-28', '2026-10-29']);
    expect(named(dates.slice(0, 15), 8)).toEqual(['2026-11-02', '2026-11-09']);
    expect(named(dates, 3)).toEqual(['2026-11-01', '2026-12-01', '2027-01-01', '2027-02-01']);
    expect(named(dates, 1)).toEqual(['2026-11-01', '2027-01-01']);
    expect(named(weeksOf(dates), 12)).toEqual([
      '2026-11-01',
      '2026-12-01',
      '2027-01-01',
      '2027-02-01',
    ]);
  });
});
