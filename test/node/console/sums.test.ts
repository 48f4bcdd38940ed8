/** Sums of amounts: exact at any size. */
import { expect, test } from 'vitest';
import { amountOf, sumOf } from '../../../console/money.ts';

test.each([
  [[], '0.00'],
  [['0.01'], '0.01'],
  [['0.10', '0.20'], '0.30'],
  [['9999999999999999.99', '0.01'], '10000000000000000.00'],
  [['-1.50', '1.00'], '-0.50'],
])('the sum of %j is %s', (amounts, sum) => {
  expect(amountOf(sumOf(amounts))).toBe(sum);
});

test('what is no amount of the API is a fault', () => {
  expect(() => sumOf(['1.5'])).toThrow();
});
