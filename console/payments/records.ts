/**
 * Whether an export is whole. The API ends a whole file with `# 共 N 条`; whatever cut the file on its way, that
 * line is missing or counts more rows than there are. Records are counted, not lines: a quoted field may contain
 * line breaks (RFC 4180). Test vectors in Node check this file, so it imports nothing of the page.
 */

/** What came of a file. `rows` are its payments. */
interface Verdict {
  complete: boolean;
  rows: number;
}

/** Counts the records of a file whose bytes come in pieces. */
export interface RecordCounter {
  push(bytes: Uint8Array): void;
  /** The payments so far; the heading is none. */
  rows(): number;
  /** When the last piece is there. */
  verdict(): Verdict;
}

const QUOTE = 0x22;
const NEWLINE = 0x0a;
/** A last line is shorter. Of longer records nothing is kept. */
const LONGEST_LAST = 256;

/** A counter for one file. */
export function recordCounter(): RecordCounter {
  let records = 0;
  let quoted = false;
  /** The beginning of the record that has not ended. */
  let open = new Uint8Array();
  let openLength = 0;
  let last = new Uint8Array();

  return {
    push(bytes) {
      let start = 0;
      let lastStart = -1;
      let lastEnd = -1;
      for (let at = 0; at < bytes.length; at++) {
        const byte = bytes[at];
        // A quote within a quoted field is written twice, which changes nothing in the end.
        if (byte === QUOTE) quoted = !quoted;
        else if (byte === NEWLINE && !quoted) {
          records++;
          lastStart = start;
          lastEnd = at;
          start = at + 1;
        }
      }
      if (lastEnd >= 0) {
        const record = bytes.subarray(lastStart, lastEnd);
        last = lastStart === 0 ? joined(open, record) : record.slice(0, LONGEST_LAST);
        open = new Uint8Array();
        openLength = 0;
      }
      open = joined(open, bytes.subarray(start));
      openLength += bytes.length - start;
    },
    rows() {
      return Math.max(0, records - 1);
    },
    verdict() {
      const stated = openLength === 0 ? statedCount(new TextDecoder().decode(last)) : undefined;
      // Of a whole file the first record is the heading and the last one the count.
      if (stated !== undefined && stated === records - 2) return { complete: true, rows: stated };
      const text = new TextDecoder().decode(last);
      return { complete: false, rows: Math.max(0, records - (text.startsWith('#') ? 2 : 1)) };
    },
  };
}

function joined(begin: Uint8Array, rest: Uint8Array) {
  const whole = new Uint8Array(Math.min(begin.length + rest.length, LONGEST_LAST));
  whole.set(begin);
  whole.set(rest.subarray(0, whole.length - begin.length), begin.length);
  return whole;
}

/** N of `# 共 N 条,,,`. */
function statedCount(record: string): number | undefined {
  const match = /^# 共 (\d+) 条,*\r?$/.exec(record);
  return match ? Number(match[1]) : undefined;
}

/** The name of a file as the API gives it. */
export function fileName(disposition: string | null): string {
  return /filename="([^"/\\]+)"/.exec(disposition ?? '')?.[1] ?? 'payments.csv';
}

/** `payments-1.csv` with a mark before its ending: `payments-1-不完整.csv`. */
export function markedName(name: string, mark: string): string {
  return name.replace(/(\.\w+)?$/, (ending) => `-${mark}${ending}`);
}
