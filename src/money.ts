/**
 * The one definition of an amount: yuan as a decimal string with at most two decimals and at most
 * 16 digits before them, which is what NUMERIC(18,2) holds. Amounts are compared and summed in SQL
 * only; here they are checked and passed on as text.
 */
import * as z from 'zod';

const DECIMAL = /^(0|[1-9]\d{0,15})(\.\d{1,2})?$/;

/** A DECIMAL above zero, without look-ahead, which some regex engines do not have. */
const POSITIVE = String.raw`^(0\.(0[1-9]|[1-9]\d?)|[1-9]\d{0,15}(\.\d{1,2})?)$`;

/** An amount as clients read it: yuan, with its two decimals. */
export const Amount = z
  .string()
  .regex(/^(0|[1-9]\d{0,15})\.\d{2}$/)
  .describe('Yuan, with two decimals');

/** Decimals of up to 15 significant digits survive a double unchanged (IEEE 754 binary64); longer ones may not. */
const EXACT_DIGITS = 15;

const NOT_AN_AMOUNT = '须为十进制金额：字符串，或不超过 15 位有效数字的数值';

/** An amount as a client writes it: a decimal string, or a JSON number that a float cannot have changed. */
const written = z
  .union([z.string(), z.number().refine((value) => isExact(String(value)), NOT_AN_AMOUNT)], {
    error: (issue) => (issue.input === undefined ? '必填' : NOT_AN_AMOUNT),
  })
  .transform(String)
  .pipe(z.string().regex(DECIMAL, '须为十进制金额，整数部分最多 16 位，小数最多 2 位'));

const DESCRIPTION = `Yuan: a decimal string, or a number of at most ${EXACT_DIGITS} significant digits; at most two decimals`;

/** An amount that a client writes, zero included. Becomes the decimal string. */
export const NonNegativeAmount = written
  // For OpenAPI, which sees no further than the union: the pattern is that of the string, the minimum that of the number.
  .meta({ pattern: DECIMAL.source, minimum: 0, description: DESCRIPTION });

/** An amount above zero that a client writes. Becomes the decimal string. */
export const PositiveAmount = written
  .refine((text) => /[1-9]/.test(text), '须大于 0')
  .meta({
    pattern: POSITIVE,
    exclusiveMinimum: 0,
    description: DESCRIPTION,
  });

/** Whether a decimal, as it is written, has so few significant digits that a float keeps its value. */
export function isExact(decimal: string): boolean {
  return (
    decimal.replace(/e.*$/i, '').replace(/[-.]/g, '').replace(/^0+/, '').length <= EXACT_DIGITS
  );
}
