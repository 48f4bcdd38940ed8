/**
 * Proves that GET /payments/statistics gives what GROUP BY over payments and refunds gives, for any
 * range in any zone, and in one request to the database.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { PaymentStatistics } from '../../src/payments/statistics';
import { insertPayment, startApp, type TestApp } from '../harness';

const Statistics = PaymentStatistics.strict();

async function statistics(app: TestApp, start_time: string, end_time: string, env = {}) {
  const search = new URLSearchParams({ start_time, end_time });
  const reply = await app.call('GET', `/payments/statistics?${search}`, Statistics, { env });
  expect([reply.status, reply.message]).toEqual([200, '获取成功']);
  return reply.data.days;
}

/** Refused because of these, each with what is wrong. */
async function refusal(app: TestApp, search: string, env = {}) {
  const Errors = z.object({ errors: z.array(z.object({ path: z.string(), message: z.string() })) });
  const reply = await app.call('GET', `/payments/statistics?${search}`, Errors, { env });
  expect([reply.status, reply.code]).toEqual([400, 40000]);
  return Object.fromEntries(reply.data.errors.map(({ path, message }) => [path, message]));
}

describe('a day', () => {
  it('has its payments by method and status and its refunds by status, as they are now', async () => {
    const app = await startApp();
    const day = { created_at: '2026-11-01T12:00:00+08:00' };
    const id = await insertPayment(app.sql, { ...day, amount: '9999999999999999.99' });
    await insertPayment(app.sql, { ...day, amount: '9999999999999999.99' });
    await insertPayment(app.sql, { ...day, payment_method: 'wechat', status: 0, amount: '0' });
    await insertPayment(app.sql, { ...day, status: 3, amount: '0.10' });
    // The last instant of 2026-11-02, and one after the range.
    await insertPayment(app.sql, { created_at: '2026-11-02T15:59:59.999999Z', amount: '7' });
    await insertPayment(app.sql, { created_at: '2026-11-02T16:00:00Z' });
    await app.sql`
      INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
      VALUES (${id}, 'R1', 10, 1, '2026-11-01T16:00:00Z'), (${id}, 'R2', 0.1, 1, '2026-11-02T00:00:00Z'),
        (${id}, 'R3', 5, 0, '2026-11-02T00:00:00Z'), (${id}, 'R4', 70, 2, '2026-11-02T15:59:59.999999Z'),
        (${id}, 'R5', 1, 0, '2026-10-30T15:59:59.999999Z'), (${id}, 'R6', 1, 0, '2026-11-04T00:00:00Z')`;
    await app.sql`
      INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
      VALUES (${id}, 'R7', 2, 0, '2026-10-31T00:00:00+08:00')`;

    expect(await statistics(app, '2026-10-31', '2026-11-02')).toEqual([
      { day: '2026-10-31', payments: [], refunds: [{ status: 0, count: 1, amount: '2.00' }] },
      {
        day: '2026-11-01',
        payments: [
          { payment_method: 'alipay', status: 1, count: 2, amount: '19999999999999999.98' },
          { payment_method: 'alipay', status: 3, count: 1, amount: '0.10' },
          { payment_method: 'wechat', status: 0, count: 1, amount: '0.00' },
        ],
        refunds: [],
      },
      {
        day: '2026-11-02',
        payments: [{ payment_method: 'alipay', status: 1, count: 1, amount: '7.00' }],
        refunds: [
          { status: 0, count: 1, amount: '5.00' },
          { status: 1, count: 2, amount: '10.10' },
          { status: 2, count: 1, amount: '70.00' },
        ],
      },
    ]);
  });

  it('is left out where nothing was paid or refunded, or no longer is', async () => {
    const app = await startApp();
    expect(await statistics(app, '2026-11-01', '2026-11-30')).toEqual([]);
    await insertPayment(app.sql, { created_at: '2026-11-05' });
    await insertPayment(app.sql, { created_at: '2026-11-07', payment_method: 'bank' });
    await app.sql`DELETE FROM payments WHERE payment_method = 'bank'`;
    const days = await statistics(app, '2026-11-01', '2026-11-30');
    expect(days.map(({ day }) => day)).toEqual(['2026-11-05']);
  });

  it('is asked of the database once, with whatever days there are', async () => {
    const app = await startApp();
    await insertPayment(app.sql);
    const year = () => statistics(app, '2026-01-01T12:00:00Z', '2026-12-31T12:00:00Z');
    expect(await app.databaseRequests(year)).toBe(1);
  });
});

describe('a range', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp();
  });

  it('may have 400 days and no more', async () => {
    expect(await statistics(app, '2025-01-01', '2026-02-04')).toEqual([]);
    const message = '时间范围不能超过 400 天';
    const tooLong = 'start_time=2025-01-01&end_time=2026-02-05';
    expect(await refusal(app, tooLong)).toEqual({ end_time: message });
    expect(await refusal(app, `${tooLong}&x=1`)).toEqual({ end_time: message, x: '未知的参数' });
    // Inclusive to the precision written.
    for (const last of ['2026-02-04T23:59', '2026-02-04T23:59:59', '2026-02-04T23:59:59.999999']) {
      expect(await statistics(app, '2025-01-01', last)).toEqual([]);
    }
    for (const late of ['2026-02-05T00:00', '2026-02-05T00:00:00', '2026-02-05T00:00:00.000000']) {
      const query = `start_time=2025-01-01&end_time=${late}`;
      expect(await refusal(app, query), late).toEqual({ end_time: message });
    }
  });

  const NEW_YORK = 'America/New_York';
  it.each([
    // The clocks go back twice and forth once, so an hour more is 400 days.
    [NEW_YORK, '2026-11-01', '2027-12-05', '2027-12-06T00:00:00'],
    [NEW_YORK, '2026-11-01T04:00:00Z', '2027-12-06T04:59:59Z', '2027-12-06T05:00:00Z'],
    // They go forth twice and back once, so an hour less is.
    [NEW_YORK, '2026-03-01', '2027-04-04', '2027-04-05T00:00:00'],
    [NEW_YORK, '2026-03-01T05:00:00Z', '2027-04-05T03:59:59Z', '2027-04-05T04:00:00Z'],
    // They do both as often.
    [NEW_YORK, '2026-06-01', '2027-07-05', '2027-07-06T00:00:00'],
    // Behind the last day they skip midnight, or a whole day.
    ['America/Sao_Paulo', '2017-09-30', '2018-11-03', '2018-11-04T01:00:00'],
    ['Pacific/Apia', '2010-11-25', '2011-12-29', '2011-12-31T00:00:00'],
    // Behind it they show midnight twice, or the last hour of the day.
    ['America/Havana', '2025-09-27', '2026-10-31', '2026-11-01T00:00:00'],
    ['America/Sao_Paulo', '2017-01-14', '2018-02-17', '2018-02-18T00:00:00'],
  ])('has days as the clocks do: in %s from %s to %s', async (zone, start, end, late) => {
    const env = { TIME_ZONE: zone };
    expect(await statistics(app, start, end, env)).toEqual([]);
    const query = new URLSearchParams({ start_time: start, end_time: late }).toString();
    expect(await refusal(app, query, env)).toEqual({ end_time: '时间范围不能超过 400 天' });
  });

  it('needs both ends, in order, and nothing else', async () => {
    expect(await refusal(app, '')).toEqual({ start_time: '必填', end_time: '必填' });
    expect(await refusal(app, 'start_time=&end_time=2026-11-01')).toEqual({ start_time: '必填' });
    expect(await refusal(app, 'start_time=2026-11-02&end_time=2026-11-01&page=1')).toEqual({
      end_time: '不能早于 start_time',
      page: '未知的参数',
    });
    const written = '须为 RFC 3339 时间、YYYY-MM-DD、YYYY-MM-DD HH:mm 或 YYYY-MM-DD HH:mm:ss';
    expect(
      await refusal(app, 'start_time=1&end_time=2026-11-01&end_time=2026-11-02&status=1'),
    ).toEqual({ start_time: written, end_time: '不能重复', status: '未知的参数' });
  });
});

/** Around midnight in Asia/Shanghai, in UTC and in New York, a microsecond before and after each. */
const INSTANTS = [0, 1, 2, 3, 4].flatMap((day) =>
  ['04:00:00', '05:00:00', '00:00:00', '16:00:00', '10:30:00'].flatMap((clock) => {
    const second = Date.parse(`2026-10-30T${clock}Z`) + day * 86_400_000;
    const before = new Date(second - 1).toISOString().slice(0, 19);
    const at = new Date(second).toISOString().slice(0, 19);
    return [`${before}.999999Z`, `${at}.000000Z`, `${at}.000001Z`];
  }),
);
const time = fc.oneof(
  fc.constantFrom(...INSTANTS),
  fc.constantFrom('2026-10-30', '2026-10-31', '2026-11-01', '2026-11-02', '2026-11-03'),
);
const range = fc.oneof(
  fc.tuple(time, time),
  // Within one day, often.
  fc
    .tuple(fc.nat(INSTANTS.length - 1), fc.nat(6))
    .map(([from, more]) => [INSTANTS[from], INSTANTS[from + more] ?? INSTANTS[from]] as const),
);

describe('against GROUP BY', () => {
  it('gives the same days, which add up to the total of the list', async () => {
    const app = await startApp();
    await app.sql`
      INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
      SELECT n, 'PAY' || n, (ARRAY['alipay', 'wechat', 'bank', 'cash'])[1 + n * 31 % 11 % 4],
        n * 7919 % 10007 / 100.0, n * 17 % 13 % 4, (${INSTANTS}::timestamptz[])[1 + n * 7919 % ${INSTANTS.length}::int]
      FROM generate_series(1, 400) AS n`;
    await app.sql`
      INSERT INTO payment_refunds (payment_id, refund_no, amount, status, created_at)
      SELECT id, 'R' || id, id / 100.0, id % 3, (${INSTANTS}::timestamptz[])[1 + id * 31 % ${INSTANTS.length}::int]
      FROM payments WHERE id % 2 = 0`;

    const zones = fc.constantFrom('Asia/Shanghai', 'UTC', 'America/New_York');
    let days = 0;
    await fc.assert(
      fc.asyncProperty(range, zones, async ([start = '', end = ''], zone) => {
        const env = { TIME_ZONE: zone };
        const search = new URLSearchParams({ start_time: start, end_time: end });
        const Total = z.object({ total: z.number() });
        const list = await app.call('GET', `/payments?${search}`, z.unknown(), { env });
        if (list.code === 40000) {
          expect(await refusal(app, search.toString(), env)).toHaveProperty('end_time');
          return;
        }
        const instant = (text: string, precisions = 0) =>
          text.length === 10
            ? `(timestamp '${text}' + ${precisions} * interval '1 day') AT TIME ZONE '${zone}'`
            : `timestamptz '${text}' + ${precisions} * interval '1 microsecond'`;
        const within = `WHERE created_at >= ${instant(start)} AND created_at < ${instant(end, 1)}`;
        const columns = `to_char(created_at AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD') AS day, status,
          count(*)::int AS count, sum(amount)::text AS amount`;
        const [paid, refunded] = await app.sql.transaction([
          app.sql.query(
            `SELECT ${columns}, payment_method FROM payments ${within} GROUP BY day, payment_method, status
             ORDER BY day, payment_method, status`,
          ),
          app.sql.query(
            `SELECT ${columns} FROM payment_refunds ${within} GROUP BY day, status ORDER BY day, status`,
          ),
        ]);

        const shown = await statistics(app, start, end, env);
        days += shown.length;
        expect(shown.map(({ day }) => day)).toEqual(
          [...new Set([...(paid ?? []), ...(refunded ?? [])].map(({ day }) => day))].sort(),
        );
        const flat = <T>(part: (day: (typeof shown)[number]) => T[]) =>
          shown.flatMap((day) => part(day).map((sum) => ({ day: day.day, ...sum })));
        expect(flat(({ payments }) => payments)).toEqual(paid);
        expect(flat(({ refunds }) => refunds)).toEqual(refunded);
        expect(
          shown.flatMap(({ payments }) => payments).reduce((sum, { count }) => sum + count, 0),
        ).toBe(Total.parse(list.data).total);
      }),
      { numRuns: 150 },
    );
    expect(days).toBeGreaterThan(100);
  });
});
