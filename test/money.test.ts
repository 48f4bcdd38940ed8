/**
 * Proves that an amount is taken exactly as it was written or not at all: what a float may have
 * changed, or what could be read in two ways, is refused.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PositiveAmount } from '../src/money';

/** Reads an amount from JSON text, where it is told apart how a number was written. */
const read = (json: string) => PositiveAmount.safeParse(JSON.parse(json));

/** In fen, to compare values however they are written. */
function fen(amount: string): bigint {
  const [yuan = '', decimals = ''] = amount.split('.');
  return BigInt(yuan + decimals.padEnd(2, '0'));
}

/** Sums of fen as floats make them: 0.1 + 0.2 is one of them. */
const sumOfFen = fc.tuple(fc.nat(99_999), fc.nat(99_999)).map(([a, b]) => a / 100 + b / 100);

describe('an amount', () => {
  it.each([
    ['"12.34"', '12.34'],
    ['"12.3"', '12.3'],
    ['"12"', '12'],
    ['"0.01"', '0.01'],
    ['"0.10"', '0.10'],
    ['"1.00"', '1.00'],
    ['"9999999999999999.99"', '9999999999999999.99'],
    ['12.34', '12.34'],
    ['0.01', '0.01'],
    ['100', '100'],
    ['9999999999999.99', '9999999999999.99'],
    ['999999999999999', '999999999999999'],
    // By the time they are read, these are the numbers 100, 1 and 12.3.
    ['1e2', '100'],
    ['1.0', '1'],
    ['12.30', '12.3'],
  ])('of %s is taken as %s', (json, amount) => {
    expect(read(json)).toEqual({ success: true, data: amount });
  });

  it.each([
    // Zero and below
    '0',
    '-0',
    '0.00',
    '-1',
    '-0.01',
    '"0"',
    '"0.0"',
    '"0.00"',
    '"-0"',
    '"-1"',
    '"-0.01"',
    // Too fine or too large
    '12.345',
    '0.001',
    '1e-7',
    '1e21',
    '1e400',
    '"12.345"',
    '"12.340"',
    '"0.001"',
    '"10000000000000000"',
    '"999999999999999999.99"',
    // More than 15 digits: a double cannot tell 1000000000000000 from 1000000000000000.01
    '1000000000000000',
    '10000000000000.12',
    '9007199254740993',
    '999999999999999999.99',
    '0.30000000000000004',
    // Other ways to write a number
    '"1e2"',
    '"1E2"',
    '"0x10"',
    '"0b1"',
    '"1_000"',
    '"1,000"',
    '"1,5"',
    '" 5"',
    '"5 "',
    '"5\\n"',
    '"\u00a05"',
    '"1\u200b"',
    '"1."',
    '".5"',
    '"."',
    '"+1"',
    '"--1"',
    '"012"',
    '"00.5"',
    '"1.2.3"',
    '"¥5"',
    '"5元"',
    '"５"',
    '"١"',
    '"五"',
    '"½"',
    '""',
    '" "',
    '"NaN"',
    '"Infinity"',
    '"-Infinity"',
    '"null"',
    // No number at all
    'true',
    'false',
    'null',
    '[]',
    '[1]',
    '["1"]',
    '{}',
    '{"amount":1}',
  ])('of %s is refused', (json) => {
    expect(read(json).success).toBe(false);
  });

  it('that is missing is named as such', () => {
    expect(PositiveAmount.safeParse(undefined).error?.issues).toMatchObject([{ message: '必填' }]);
  });

  it('is the same value as a number and as a string of any number of decimals', () => {
    fc.assert(
      fc.property(fc.bigInt(1n, 999_999_999_999_999n), (value) => {
        const exact = `${value / 100n}.${String(value % 100n).padStart(2, '0')}`;
        for (const text of new Set([
          exact,
          exact.replace(/0$/, ''),
          exact.replace(/\.?00?$/, ''),
        ])) {
          expect(read(`"${text}"`).data).toBe(text);
          expect(fen(read(text).data ?? '')).toBe(value);
        }
      }),
    );
  });

  it('is never another value than the number that was given', () => {
    fc.assert(
      fc.property(fc.oneof(fc.double(), sumOfFen), (value) => {
        const { data } = PositiveAmount.safeParse(value);
        if (data === undefined) return;
        expect(data).toMatch(/^\d{1,15}(\.\d{1,2})?$/);
        expect(Number(data)).toBe(value);
      }),
    );
  });
});
