/**
 * Times, amounts and codes as Alipay writes them: Beijing time without an offset, yuan with any number
 * of decimals up to two, and codes that are stored only if they look like codes.
 */
import * as z from 'zod';

const BEIJING_OFFSET_MS = 8 * 3_600_000;

/** `2026-11-25 04:52:42`, in Beijing. China has had no summer time since 1991. */
export function toBeijing(now: Date): string {
  const shifted = new Date(now.getTime() + BEIJING_OFFSET_MS).toISOString();
  return shifted.slice(0, 19).replace('T', ' ');
}

const Rfc3339 = z.iso.datetime({ offset: true });

/** `2026-11-25 09:00:00` becomes `2026-11-25T09:00:00+08:00`. Null for what is no such time. */
export function fromBeijing(text: string | undefined): string | null {
  if (!text || !/^(19[7-9]\d|2\d{3})-\d{2}-\d{2} /.test(text)) return null;
  const { data } = Rfc3339.safeParse(`${text.replace(' ', 'T')}+08:00`);
  return data ?? null;
}

/** `100`, `100.0` and `100.00` become `100.00`. Null for what is no amount. */
export function toTwoDecimals(yuan: string | undefined): string | null {
  const [, whole, decimals = ''] = /^(\d+)(?:\.(\d{1,2}))?$/.exec(yuan ?? '') ?? [];
  return whole === undefined ? null : `${whole}.${decimals.padEnd(2, '0')}`;
}

/** A code that may be stored and logged. Anything longer or stranger could be a text that repeats our request. */
export function toCode(text: string): string {
  return /^[A-Za-z0-9._-]{1,64}$/.test(text) ? text : 'UNREADABLE';
}

/** The encodings that Alipay writes. It answers in GBK at times although utf-8 was asked for. */
export type Charset = 'utf-8' | 'gb18030';

/** The decoder's label for a charset's name. Null for a charset that Alipay does not use. */
export function charsetOf(name: string): Charset | null {
  const lower = name.toLowerCase();
  if (lower === 'utf-8' || lower === 'utf8') return 'utf-8';
  // gb18030 contains the other two. TextDecoder's gbk differs between Node and workerd in rare characters.
  return ['gbk', 'gb2312', 'gb18030'].includes(lower) ? 'gb18030' : null;
}

/** Throws a TypeError for bytes that are no text in this charset. */
export function decode(bytes: Uint8Array, charset: Charset): string {
  return new TextDecoder(charset, { fatal: true, ignoreBOM: false }).decode(bytes);
}
