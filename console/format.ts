/**
 * How times, numbers and foreign text look. Times are always in the business's zone, wherever the browser
 * is; session.ts knows the zone.
 */

const formatters = new Map<string, Intl.DateTimeFormat>();

function formatterOf(zone: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = JSON.stringify([zone, options]);
  const formatter =
    formatters.get(key) ?? new Intl.DateTimeFormat('en-US', { ...options, timeZone: zone });
  formatters.set(key, formatter);
  return formatter;
}

const CLOCK = {
  year: 'numeric',
  month: '2-digit',
  day: '2-digit',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
} as const;

/** `2026-11-25 12:05:09`, the clock of the zone. */
export function dateTime(instant: string | number, zone: string): string {
  const part = new Map(
    formatterOf(zone, CLOCK)
      .formatToParts(new Date(instant))
      .map(({ type, value }) => [type, value]),
  );
  const year = (part.get('year') ?? '').padStart(4, '0');
  return `${year}-${part.get('month')}-${part.get('day')} ${part.get('hour')}:${part.get('minute')}:${part.get('second')}`;
}

/** `2026-11-25`, the day on the calendar of the zone. */
export function day(instant: string | number, zone: string): string {
  return dateTime(instant, zone).slice(0, 10);
}

/** `UTC+8`, for the heads of tables. */
export function offset(zone: string, instant: number = Date.now()): string {
  const name = formatterOf(zone, { timeZoneName: 'shortOffset' })
    .formatToParts(new Date(instant))
    .find(({ type }) => type === 'timeZoneName')?.value;
  return (name ?? 'UTC').replace('GMT', 'UTC');
}

/** A date some days away: `shiftDay('2026-03-01', -1)` is `2026-02-28`. */
export function shiftDay(date: string, days: number): string {
  const at = new Date(`${date}T00:00:00Z`);
  at.setUTCDate(at.getUTCDate() + days);
  return at.toISOString().slice(0, 10);
}

/** The first day of the month of a date, `months` away. */
export function monthStart(date: string, months = 0): string {
  const at = new Date(`${date.slice(0, 7)}-01T00:00:00Z`);
  at.setUTCMonth(at.getUTCMonth() + months);
  return at.toISOString().slice(0, 10);
}

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
];

/** `3分钟前`, `in 2 minutes`. */
export function relative(instant: string, now: number, language: string): string {
  const seconds = Math.round((new Date(instant).getTime() - now) / 1000);
  const [unit, size] = STEPS.find(([, step]) => Math.abs(seconds) >= step) ?? ['second', 1];
  return new Intl.RelativeTimeFormat(language, { numeric: 'auto' }).format(
    Math.trunc(seconds / size),
    unit,
  );
}

/** `1,729`. */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** Characters that cannot be seen or that turn the direction of what follows. */
const INVISIBLE = /([\u200B-\u200F\u202A-\u202E\u2066-\u2069\uFEFF])/;

/** Splits text at such characters; each of these is named: `U+200B`. */
export function visibleParts(text: string): { text: string; mark: boolean }[] {
  return text
    .split(INVISIBLE)
    .filter((part) => part !== '')
    .map((part) =>
      INVISIBLE.test(part)
        ? {
            text: `U+${part.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`,
            mark: true,
          }
        : { text: part, mark: false },
    );
}

/** A long number with its middle left out; people compare beginnings and ends. */
export function shortened(number: string): string {
  const characters = [...number];
  if (characters.length <= LONGEST) return number;
  return `${characters.slice(0, 13).join('')}…${characters.slice(-8).join('')}`;
}

const LONGEST = 24;
