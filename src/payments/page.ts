/**
 * What the lists share that go on by cursor: the size of a page, and the place where one ended. A cursor
 * is exact to the microsecond, so nothing is skipped or repeated while rows are being inserted.
 */
import * as z from 'zod';
import { isShowable } from '../time';
import { once } from './filter';
import { Id } from './payment';

/** A row's place in a list: its created_at in microseconds since the epoch, and its id. */
export interface Position {
  createdAt: bigint;
  id: bigint;
}

/** A parameter that is a whole number. The meta is for OpenAPI, which describes what a query string means. */
export const wholeNumber = (min: number, max: number) =>
  once()
    .refine((text) => /^(0|[1-9]\d{0,9})$/.test(text), `须为 ${min} 到 ${max} 的整数`)
    .transform(Number)
    .refine((value) => min <= value && value <= max, `须为 ${min} 到 ${max} 的整数`)
    .meta({ type: 'integer', minimum: min, maximum: max });

/** The next_cursor of the page before. */
export const Cursor = once().transform((text, context): Position => {
  const [, micros = '', id = ''] = /^(0|-?[1-9]\d{0,17}) (\d{1,19})$/.exec(decode(text)) ?? [];
  const lastId = Id.safeParse(id);
  if (micros !== '' && isShowable(BigInt(micros)) && lastId.success) {
    return { createdAt: BigInt(micros), id: lastId.data };
  }
  context.addIssue('须为上一页返回的 next_cursor');
  return z.NEVER;
});

/** The cursor of the page after the row with this created_at, in microseconds since the epoch, and id. */
export function cursorAfter(createdAt: string, id: string): string {
  const bytes = new TextEncoder().encode(`${createdAt} ${id}`);
  return bytes.toBase64({ alphabet: 'base64url', omitPadding: true });
}

function decode(cursor: string): string {
  try {
    return new TextDecoder().decode(Uint8Array.fromBase64(cursor, { alphabet: 'base64url' }));
  } catch {
    return '';
  }
}
