/**
 * Proves that a written time is read as the interval that a person means by it, in whatever zone and
 * on whatever side of a change of the clocks: by vectors, against Intl, and against PostgreSQL.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { clockReading, readWrittenTime, timestamptz } from '../src/time';
import { startApp } from './harness';

const SHANGHAI = 'Asia/Shanghai';
const NEW_YORK = 'America/New_York';

/** The interval as two literals. */
function read(text: string, zone = SHANGHAI): [string, string] | null {
  const time = readWrittenTime(text, zone);
  return time && [timestamptz(time.from), timestamptz(time.until)];
}

describe('a time with an offset', () => {
  it.each([
    ['2026-11-01T08:30:00Z', '2026-11-01T08:30:00.000000Z', '2026-11-01T08:30:01.000000Z'],
    ['2026-11-01t08:30:00z', '2026-11-01T08:30:00.000000Z', '2026-11-01T08:30:01.000000Z'],
    ['2026-11-01 08:30:00Z', '2026-11-01T08:30:00.000000Z', '2026-11-01T08:30:01.000000Z'],
    ['2026-11-01T08:30:00+08:00', '2026-11-01T00:30:00.000000Z', '2026-11-01T00:30:01.000000Z'],
    ['2026-11-01T08:30:00+05:45', '2026-11-01T02:45:00.000000Z', '2026-11-01T02:45:01.000000Z'],
    ['2026-11-01T08:30:00-03:30', '2026-11-01T12:00:00.000000Z', '2026-11-01T12:00:01.000000Z'],
    ['2026-11-01T08:30:00-00:00', '2026-11-01T08:30:00.000000Z', '2026-11-01T08:30:01.000000Z'],
    ['2026-11-01T08:30:00+00:00', '2026-11-01T08:30:00.000000Z', '2026-11-01T08:30:01.000000Z'],
    // A `+` that nobody encoded.
    ['2026-11-01T08:30:00 08:00', '2026-11-01T00:30:00.000000Z', '2026-11-01T00:30:01.000000Z'],
    ['2026-11-01 08:30:00.5 08:00', '2026-11-01T00:30:00.500000Z', '2026-11-01T00:30:00.600000Z'],
    // To the minute.
    ['2026-11-01T08:30Z', '2026-11-01T08:30:00.000000Z', '2026-11-01T08:31:00.000000Z'],
    ['2026-11-01t08:30z', '2026-11-01T08:30:00.000000Z', '2026-11-01T08:31:00.000000Z'],
    ['2026-11-01 08:30+08:00', '2026-11-01T00:30:00.000000Z', '2026-11-01T00:31:00.000000Z'],
    ['2026-11-01T08:30-03:30', '2026-11-01T12:00:00.000000Z', '2026-11-01T12:01:00.000000Z'],
    ['2026-11-01T08:30 08:00', '2026-11-01T00:30:00.000000Z', '2026-11-01T00:31:00.000000Z'],
    ['2026-12-31T23:59Z', '2026-12-31T23:59:00.000000Z', '2027-01-01T00:00:00.000000Z'],
    ['9999-12-31T23:59Z', '9999-12-31T23:59:00.000000Z', 'infinity'],
    ['2026-12-31T23:59:59-23:59', '2027-01-01T23:58:59.000000Z', '2027-01-01T23:59:00.000000Z'],
    ['1969-12-31T23:59:59.999999Z', '1969-12-31T23:59:59.999999Z', '1970-01-01T00:00:00.000000Z'],
    // What an offset carries out of the years 1 to 9999 is infinitely far.
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000000Z', '0001-01-01T00:00:01.000000Z'],
    ['0001-01-01T00:00:00+14:00', '-infinity', '-infinity'],
    ['9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.999999Z', 'infinity'],
    ['9999-12-31T23:59:59-14:00', 'infinity', 'infinity'],
  ])('reads %s', (text, from, until) => {
    expect(read(text)).toEqual([from, until]);
    expect(read(text, NEW_YORK)).toEqual([from, until]);
  });
});

describe('a time without an offset', () => {
  it.each([
    ['2026-11-01', SHANGHAI, '2026-10-31T16:00:00.000000Z', '2026-11-01T16:00:00.000000Z'],
    ['2026-11-01', 'UTC', '2026-11-01T00:00:00.000000Z', '2026-11-02T00:00:00.000000Z'],
    ['2028-02-29', SHANGHAI, '2028-02-28T16:00:00.000000Z', '2028-02-29T16:00:00.000000Z'],
    ['2000-02-29', 'UTC', '2000-02-29T00:00:00.000000Z', '2000-03-01T00:00:00.000000Z'],
    ['2026-11-01 08:30:00', SHANGHAI, '2026-11-01T00:30:00.000000Z', '2026-11-01T00:30:01.000000Z'],
    ['2026-11-01T08:30:00', SHANGHAI, '2026-11-01T00:30:00.000000Z', '2026-11-01T00:30:01.000000Z'],
    ['2026-11-01 08:30', SHANGHAI, '2026-11-01T00:30:00.000000Z', '2026-11-01T00:31:00.000000Z'],
    ['2026-11-01T08:30', SHANGHAI, '2026-11-01T00:30:00.000000Z', '2026-11-01T00:31:00.000000Z'],
    ['2026-11-01T23:59', SHANGHAI, '2026-11-01T15:59:00.000000Z', '2026-11-01T16:00:00.000000Z'],
    ['2026-11-01T00:00', 'UTC', '2026-11-01T00:00:00.000000Z', '2026-11-01T00:01:00.000000Z'],
    [
      '2026-11-01 08:30:00',
      'Asia/Kathmandu',
      '2026-11-01T02:45:00.000000Z',
      '2026-11-01T02:45:01.000000Z',
    ],
    // Before 1901 clocks in Shanghai showed local mean time, +08:05:43.
    ['0001-01-01', SHANGHAI, '-infinity', '0001-01-01T15:54:17.000000Z'],
    ['0001-01-02', SHANGHAI, '0001-01-01T15:54:17.000000Z', '0001-01-02T15:54:17.000000Z'],
    ['1900-12-31 23:59:59', SHANGHAI, '1900-12-31T15:54:16.000000Z', '1900-12-31T15:54:17.000000Z'],
    ['9999-12-31', SHANGHAI, '9999-12-30T16:00:00.000000Z', '9999-12-31T16:00:00.000000Z'],
    ['9999-12-31', 'UTC', '9999-12-31T00:00:00.000000Z', 'infinity'],
    ['9999-12-31', NEW_YORK, '9999-12-31T05:00:00.000000Z', 'infinity'],
    ['9999-12-31 23:59:59', NEW_YORK, 'infinity', 'infinity'],
  ])('reads %s in %s', (text, zone, from, until) => {
    expect(read(text, zone)).toEqual([from, until]);
  });
});

describe('a change of the clocks', () => {
  it.each([
    // [02:00, 03:00) is skipped: what lies in it is as far behind the skip as it is into the gap.
    [NEW_YORK, '2026-03-08 01:59:59', '2026-03-08T06:59:59Z', '2026-03-08T07:00:00Z'],
    [NEW_YORK, '2026-03-08 01:59', '2026-03-08T06:59:00Z', '2026-03-08T07:00:00Z'],
    [NEW_YORK, '2026-03-08 02:30:00', '2026-03-08T07:30:00Z', '2026-03-08T07:30:01Z'],
    [NEW_YORK, '2026-03-08 03:00:00', '2026-03-08T07:00:00Z', '2026-03-08T07:00:01Z'],
    [NEW_YORK, '2026-03-08', '2026-03-08T05:00:00Z', '2026-03-09T04:00:00Z'],
    // [01:00, 02:00) is shown twice: the first is meant, and the day has 25 hours.
    [NEW_YORK, '2026-11-01 00:59:59', '2026-11-01T04:59:59Z', '2026-11-01T05:00:00Z'],
    [NEW_YORK, '2026-11-01 01:59', '2026-11-01T05:59:00Z', '2026-11-01T06:00:00Z'],
    [NEW_YORK, '2026-11-01 01:30:00', '2026-11-01T05:30:00Z', '2026-11-01T05:30:01Z'],
    [NEW_YORK, '2026-11-01 02:00:00', '2026-11-01T07:00:00Z', '2026-11-01T07:00:01Z'],
    [NEW_YORK, '2026-11-01', '2026-11-01T04:00:00Z', '2026-11-02T05:00:00Z'],
    // Midnight is skipped: the day begins at 01:00.
    ['America/Sao_Paulo', '2018-11-03', '2018-11-03T03:00:00Z', '2018-11-04T03:00:00Z'],
    ['America/Sao_Paulo', '2018-11-04', '2018-11-04T03:00:00Z', '2018-11-05T02:00:00Z'],
    ['Asia/Beirut', '2022-03-27', '2022-03-26T22:00:00Z', '2022-03-27T21:00:00Z'],
    // At midnight the clocks go back to 23:00 of the same day.
    ['America/Sao_Paulo', '2018-02-17', '2018-02-17T02:00:00Z', '2018-02-18T03:00:00Z'],
    // Midnight is shown twice: the day begins with the first.
    ['America/Havana', '2026-10-31', '2026-10-31T04:00:00Z', '2026-11-01T04:00:00Z'],
    ['America/Havana', '2026-11-01', '2026-11-01T04:00:00Z', '2026-11-02T05:00:00Z'],
    // China had summer time from 1986 to 1991.
    [SHANGHAI, '1986-05-03', '1986-05-02T16:00:00Z', '1986-05-03T16:00:00Z'],
    [SHANGHAI, '1986-05-04', '1986-05-03T16:00:00Z', '1986-05-04T15:00:00Z'],
    [SHANGHAI, '1990-07-01 12:00:00', '1990-07-01T03:00:00Z', '1990-07-01T03:00:01Z'],
    [SHANGHAI, '1991-09-15', '1991-09-14T15:00:00Z', '1991-09-15T16:00:00Z'],
    [SHANGHAI, '1992-07-01 12:00:00', '1992-07-01T04:00:00Z', '1992-07-01T04:00:01Z'],
    // Samoa left out a whole day to get to the other side of the date line.
    ['Pacific/Apia', '2011-12-29', '2011-12-29T10:00:00Z', '2011-12-30T10:00:00Z'],
    ['Pacific/Apia', '2011-12-30', '2011-12-30T10:00:00Z', '2011-12-30T10:00:00Z'],
    ['Pacific/Apia', '2011-12-31', '2011-12-30T10:00:00Z', '2011-12-31T10:00:00Z'],
  ])('in %s: %s', (zone, text, from, until) => {
    const literal = (time: string) => time.replace('Z', '.000000Z');
    expect(read(text, zone)).toEqual([literal(from), literal(until)]);
  });
});

describe('decimals', () => {
  it.each([
    ['.1', '.100000', '.200000'],
    ['.12', '.120000', '.130000'],
    ['.123', '.123000', '.124000'],
    ['.1234', '.123400', '.123500'],
    ['.12345', '.123450', '.123460'],
    ['.123456', '.123456', '.123457'],
    ['.000000', '.000000', '.000001'],
    // Beyond what is stored: cut, not rounded.
    ['.1234567', '.123456', '.123457'],
    ['.12345678', '.123456', '.123457'],
    ['.123456789', '.123456', '.123457'],
    ['.123456999', '.123456', '.123457'],
    ['.000000001', '.000000', '.000001'],
  ])('%s denote an interval as long as the last of them', (decimals, from, until) => {
    const expected = [`2026-11-01T00:30:00${from}Z`, `2026-11-01T00:30:00${until}Z`];
    expect(read(`2026-11-01T08:30:00${decimals}+08:00`)).toEqual(expected);
    expect(read(`2026-11-01 08:30:00${decimals}`)).toEqual(expected);
  });

  it('carry into the next second', () => {
    expect(read('2026-12-31T23:59:59.9Z')?.[1]).toBe('2027-01-01T00:00:00.000000Z');
    expect(read('2026-12-31T23:59:59.999999999Z')).toEqual([
      '2026-12-31T23:59:59.999999Z',
      '2027-01-01T00:00:00.000000Z',
    ]);
  });
});

describe('what is no time', () => {
  it.each([
    '',
    ' ',
    'yesterday',
    '1793523600',
    '2026',
    '2026-11',
    '2026-11-01T08',
    '2026-11-01T08Z',
    '2026-11-01T08:',
    '2026-11-01T08:30:',
    '2026-11-01T8:30',
    '2026-11-01T08:3',
    '2026-11-01T08:60',
    '2026-11-01T24:00',
    '2026-11-01T08:30.5',
    '2026-11-01T0830',
    '2026-11-01 08:30 Z',
    '2026-11-01T08:30+24:00',
    '2026-11-01Z',
    '2026-11-01+08:00',
    '2026-11-01  08:30:00',
    '2026-11-01T08:30:00 Z',
    '2026-11-01T08:30:00+0800',
    '2026-11-01T08:30:00+08',
    '2026-11-01T08:30:00+24:00',
    '2026-11-01T08:30:00+08:60',
    '2026-11-01T08:30:00  08:00',
    '2026-11-01T08:30:00.',
    '2026-11-01T08:30:00,5Z',
    '2026-11-01T08:30:00.1234567890Z',
    '2026-11-01T08:30:00.1234567890',
    '2026-11-01T24:00:00Z',
    '2026-11-01T23:60:00Z',
    '2026-12-31T23:59:60Z',
    '2027-02-29',
    '1900-02-29',
    '2026-02-30T00:00:00Z',
    '2026-04-31',
    '2026-00-01',
    '2026-13-01',
    '2026-01-00',
    '2026-01-32',
    '2026-1-1',
    '26-01-01',
    '0000-12-31',
    '0000-12-31T23:59:59-14:00',
    '10000-01-01',
    '+002026-01-01',
    '-2026-01-01',
    '2026/11/01',
    ' 2026-11-01',
    '2026-11-01 ',
    '2026-11-01\n',
    '２０２６-11-01',
    '2026-11-01T08:30:00Ｚ',
    '2026-11-01T08:30:00[Asia/Shanghai]',
    'infinity',
    '-infinity',
    'now',
    'epoch',
  ])('%j is refused', (text) => {
    expect(readWrittenTime(text, SHANGHAI)).toBeNull();
  });
});

const ZONES = [
  SHANGHAI,
  NEW_YORK,
  'America/Sao_Paulo',
  'America/St_Johns',
  'Asia/Kathmandu',
  'Asia/Tokyo',
  'Australia/Lord_Howe',
  'Europe/Berlin',
  'Europe/London',
  'Pacific/Apia',
  'UTC',
];

/** What the clocks in the zone show, as Intl says. */
function show(instantMs: number, zone: string): string {
  const format = new Intl.DateTimeFormat('en', {
    timeZone: zone,
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
  });
  const parts = new Map(format.formatToParts(instantMs).map(({ type, value }) => [type, value]));
  const [year, month, day] = [parts.get('year'), parts.get('month'), parts.get('day')];
  return `${year}-${month}-${day} ${parts.get('hour')}:${parts.get('minute')}:${parts.get('second')}`;
}

/** Where clocks show a time twice, the earlier instant is meant; anywhere else there is only one. */
function readsBack(instantMs: number, zone: string): boolean {
  const text = show(instantMs, zone);
  const from = readWrittenTime(text, zone)?.from ?? 0n;
  const ms = Number(from / 1000n);
  return ms === instantMs || (ms < instantMs && show(ms, zone) === text);
}

const secondsUntil = (year: number) =>
  fc.integer({
    min: Date.parse('1900-01-01T00:00:00Z') / 1000,
    max: Date.parse(`${year}-01-01T00:00:00Z`) / 1000,
  });

describe('against Intl', () => {
  it('reads back any instant from what the clocks show then', () => {
    fc.assert(
      fc.property(secondsUntil(2100), fc.constantFrom(...ZONES), (second, zone) => {
        expect(readsBack(second * 1000, zone)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    [NEW_YORK, '2026-03-08'],
    [NEW_YORK, '2026-11-01'],
    [SHANGHAI, '1986-05-04'],
    [SHANGHAI, '1991-09-15'],
    [SHANGHAI, '1901-01-01'],
    ['America/Sao_Paulo', '2018-02-18'],
    ['America/Sao_Paulo', '2018-11-04'],
    ['Australia/Lord_Howe', '2026-04-05'],
    ['Australia/Lord_Howe', '2026-10-04'],
    ['Pacific/Apia', '2011-12-30'],
  ])('reads back every five minutes in %s around %s', (zone, day) => {
    const start = Date.parse(`${day}T00:00:00Z`);
    const instants = Array.from({ length: 577 }, (_, index) => start + (index - 288) * 300_000);
    expect(instants.filter((instant) => !readsBack(instant, zone))).toEqual([]);
  });
});

describe('what the clocks in a zone show at an instant', () => {
  it.each([
    ['2026-11-01T00:00:00.000001Z', SHANGHAI, '2026-11-01T08:00:00.000001Z'],
    ['2026-11-01T05:59:59.999999Z', NEW_YORK, '2026-11-01T01:59:59.999999Z'],
    ['2026-11-01T06:00:00.000000Z', NEW_YORK, '2026-11-01T01:00:00.000000Z'],
    ['1969-12-31T23:59:59.999999Z', 'UTC', '1969-12-31T23:59:59.999999Z'],
    ['1900-12-31T15:54:16.999999Z', SHANGHAI, '1900-12-31T23:59:59.999999Z'],
  ])('%s in %s', (instant, zone, shown) => {
    const micros = readWrittenTime(instant, 'UTC')?.from ?? 0n;
    expect(timestamptz(clockReading(micros, zone))).toBe(shown);
  });
});

describe('against PostgreSQL', () => {
  it('agrees with AT TIME ZONE', async () => {
    const { sql } = await startApp();
    // Of later years two editions of the time zone database may say different things.
    const sample = fc.sample(fc.tuple(secondsUntil(2020), fc.constantFrom(...ZONES)), 500);
    const written = sample.map(([second, zone]) => ({ text: show(second * 1000, zone), zone }));
    // Within a day of a change of the clocks a time can be ambiguous, and there we decide otherwise.
    const rows = z.array(z.object({ text: z.string(), zone: z.string(), utc: z.string() })).parse(
      await sql`
        SELECT text, zone, to_char(instant AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS utc
        FROM json_to_recordset(${JSON.stringify(written)}) AS written(text text, zone text),
          LATERAL (SELECT text::timestamp AS local, text::timestamp AT TIME ZONE zone AS instant)
        WHERE (instant - interval '24 hours') AT TIME ZONE zone = local - interval '1 day'
          AND (instant + interval '24 hours') AT TIME ZONE zone = local + interval '1 day'`,
    );
    expect(rows.length).toBeGreaterThan(450);
    const ours = rows.map(({ text, zone }) => ({ text, zone, utc: read(text, zone)?.[0] }));
    expect(ours).toEqual(rows);
  });

  it('writes literals that PostgreSQL reads as the same microsecond', async () => {
    const { sql } = await startApp();
    const microsOf = (text: string) => BigInt(Date.parse(text)) * 1000n;
    const [first, last] = [
      microsOf('0001-01-01T00:00:00Z'),
      microsOf('+010000-01-01T00:00:00Z') - 1n,
    ];
    const sample = fc.sample(fc.bigInt(first, last), 300);
    const micros = [first, last, -1n, 0n, 1n, 999n, -1000n, ...sample];
    const rows = z.array(z.object({ micros: z.string() })).parse(
      await sql`
        SELECT (extract(epoch FROM literal::timestamptz) * 1000000)::bigint::text AS micros
        FROM json_array_elements_text(${JSON.stringify(micros.map(timestamptz))}) AS literal`,
    );
    expect(rows.map((row) => row.micros)).toEqual(micros.map(String));
    expect(timestamptz(first - 1n)).toBe('-infinity');
    expect(timestamptz(last + 1n)).toBe('infinity');
  });
});
