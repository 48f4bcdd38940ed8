/**
 * The one definition of a time that a person wrote, and of a time that a client reads.
 * A written time denotes the interval that its precision leaves open: a date is a whole day, a
 * minute a whole minute, a second a whole second. Instants are microseconds since the epoch, which is
 * what TIMESTAMPTZ keeps.
 */
import { type SQL, type SQLWrapper, sql } from 'drizzle-orm';
import * as z from 'zod';

/** A time as clients read it; utc() makes it. */
export const UtcTime = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/)
  .meta({ format: 'date-time', description: 'RFC 3339, UTC, milliseconds' });

/** From the first instant meant (inclusive) to the first one after (exclusive), in microseconds since the epoch. */
export interface WrittenTime {
  from: bigint;
  until: bigint;
}

const WRITTEN =
  /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(Z|[-+ ]\d{2}:\d{2})?)?$/i;

const DAY_MS = 86_400_000;
const MICROS_PER_MS = 1000n;
const MICROS_PER_MINUTE = 60_000_000n;
/** Decimals of a second that TIMESTAMPTZ keeps. */
const DECIMALS_KEPT = 6;

/**
 * Reads RFC 3339, or the same without seconds, or without an offset, or a date alone; without an
 * offset it is meant in `zone` (IANA). Years 0001 to 9999. At most nine decimals, and those after the
 * sixth are cut off. A space stands for the `+` of an offset too, which is what a `+` that nobody
 * encoded becomes in a query string. Null when it is none of these.
 */
export function readWrittenTime(text: string, zone: string): WrittenTime | null {
  const match = WRITTEN.exec(text);
  if (!match) return null;
  const [, year, month, day, hour, minute, second, decimals, offset] = match;

  const date = wallClock(Number(year), Number(month), Number(day));
  if (date === null) return null;
  if (hour === undefined) {
    return {
      from: BigInt(instantOf(date, zone)) * MICROS_PER_MS,
      until: BigInt(instantOf(date + DAY_MS, zone)) * MICROS_PER_MS,
    };
  }

  const seconds = Number(second ?? 0);
  if (Number(hour) > 23 || Number(minute) > 59 || seconds > 59) return null;
  const local = date + ((Number(hour) * 60 + Number(minute)) * 60 + seconds) * 1000;
  const offsetMs = offset === undefined ? undefined : readOffset(offset);
  if (offsetMs === null) return null;
  const instant = offsetMs === undefined ? instantOf(local, zone) : local - offsetMs;
  const kept = (decimals ?? '').slice(0, DECIMALS_KEPT);
  const from = BigInt(instant) * MICROS_PER_MS + BigInt(kept.padEnd(DECIMALS_KEPT, '0'));
  const precision =
    second === undefined ? MICROS_PER_MINUTE : 10n ** BigInt(DECIMALS_KEPT - kept.length);
  return { from, until: from + precision };
}

/**
 * What clocks in the zone show at an instant, as if that were UTC; both are microseconds since the
 * epoch. The difference of two readings is in calendar days, whatever the clocks did meanwhile.
 */
export function clockReading(micros: bigint, zone: string): bigint {
  return micros + BigInt(offsetAt(msOf(micros), zone)) * MICROS_PER_MS;
}

/** Whether an instant, in microseconds since the epoch, lies in the years that RFC 3339 has. */
export function isShowable(micros: bigint): boolean {
  return YEAR_1 <= micros && micros < YEAR_10000;
}

/** A TIMESTAMPTZ literal. What lies outside the years 1 to 9999 UTC (offsets reach there) is infinitely far. */
export function timestamptz(micros: bigint): string {
  if (micros < YEAR_1) return '-infinity';
  if (micros >= YEAR_10000) return 'infinity';
  const rest = modulo(micros, MICROS_PER_MS).toString().padStart(3, '0');
  return new Date(msOf(micros)).toISOString().replace('Z', `${rest}Z`);
}

/** A column as clients read times: RFC 3339, UTC, milliseconds. Null stays null. */
export function utc(column: SQLWrapper): SQL<string> {
  return sql<string>`to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
}

/** A column in microseconds since the epoch, as text: what JSON's numbers hold is less. */
export function epochMicros(column: SQLWrapper): SQL<string> {
  return sql<string>`(extract(epoch FROM ${column}) * 1000000)::bigint::text`;
}

/** Microseconds since the epoch, within the years 1 to 9999, as clients read times. */
export function utcOf(micros: bigint): string {
  return `${timestamptz(micros).slice(0, 23)}Z`;
}

const YEAR_1 = BigInt(Date.parse('0001-01-01T00:00:00Z')) * MICROS_PER_MS;
const YEAR_10000 = BigInt(Date.parse('+010000-01-01T00:00:00Z')) * MICROS_PER_MS;

/** The date as if it were UTC, in milliseconds; null when the calendar has no such day. */
function wallClock(year: number, month: number, day: number): number | null {
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  const exists = year >= 1 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  return exists ? date.getTime() : null;
}

function readOffset(text: string): number | null {
  if (/^z$/i.test(text)) return 0;
  const hours = Number(text.slice(1, 3));
  const minutes = Number(text.slice(4, 6));
  if (hours > 23 || minutes > 59) return null;
  return (text.startsWith('-') ? -1 : 1) * (hours * 60 + minutes) * 60_000;
}

/**
 * The instant at which clocks in the zone show this wall-clock time. Where they show it twice, the
 * earlier one; where they skip it, the instant of the skip is passed by as much as the time lies in it.
 */
function instantOf(local: number, zone: string): number {
  const before = local - offsetAt(local - DAY_MS, zone);
  const after = local - offsetAt(local + DAY_MS, zone);
  const shows = (instant: number) => instant + offsetAt(instant, zone) === local;
  return shows(before) || !shows(after) ? before : after;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function offsetAt(instant: number, zone: string): number {
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat('en', { timeZone: zone, timeZoneName: 'longOffset' });
    formats.set(zone, format);
  }
  const name = format.formatToParts(instant).find((part) => part.type === 'timeZoneName')?.value;
  const match = /^GMT(?:([-+])(\d{2}):(\d{2})(?::(\d{2}))?)?$/.exec(name ?? '');
  if (!match) throw new Error(`no offset in "${name}"`);
  const [, sign, hours = '0', minutes = '0', seconds = '0'] = match;
  const magnitude = (Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds);
  return (sign === '-' ? -1 : 1) * magnitude * 1000;
}

/** The millisecond that a microsecond lies in. */
function msOf(micros: bigint): number {
  return Number((micros - modulo(micros, MICROS_PER_MS)) / MICROS_PER_MS);
}

function modulo(value: bigint, divisor: bigint): bigint {
  return ((value % divisor) + divisor) % divisor;
}
