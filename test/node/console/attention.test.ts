/** What needs a person: causes, their texts and their order. */
import { expect, test } from 'vitest';
import { byCause, causeOf, isDismissible, textFor } from '../../../console/attention/groups.ts';
import { explain } from '../../../src/gateways/explanations.ts';

test.each([
  ['NOT_ENOUGH', 'NOT_ENOUGH'],
  ['ACQ.SELLER_BALANCE_NOT_ENOUGH', 'SELLER_BALANCE_NOT_ENOUGH'],
  ['isv.invalid-signature', 'invalid-signature'],
])('the cause of %s is %s', (code, cause) => {
  expect(causeOf(code)).toBe(cause);
  expect(explain(cause)).toBe(explain(code));
});

test.each([
  ['MISSING', 'own'],
  ['ACQ.MISSING', 'own'],
  ['isv.invalid-signature', 'family'],
  ['ACQ.SOMETHING', 'others'],
  ['constructor', 'others'],
])('the text for %s is its %s', (code, expected) => {
  expect(textFor({ MISSING: 'own', 'isv.': 'family', '': 'others' }, code)).toBe(expected);
});

test('a map without a text for the others has none', () => {
  expect(textFor({}, 'MISSING')).toBe('');
});

test('causes are in the order of their oldest entry, entries by their age', () => {
  const entry = (attention: string, since: string) => ({ attention, since });
  const groups = byCause([
    entry('OLD', '2026-11-03T00:00:00Z'),
    entry('MISSING', '2026-11-02T00:00:00Z'),
    entry('OLD', '2026-11-01T00:00:00.500Z'),
    entry('OLD', '2026-11-01T00:00:00Z'),
  ]);
  expect(groups.map(({ code }) => code)).toEqual(['OLD', 'MISSING']);
  expect(groups[0]?.entries.map(({ since }) => since)).toEqual([
    '2026-11-01T00:00:00Z',
    '2026-11-01T00:00:00.500Z',
    '2026-11-03T00:00:00Z',
  ]);
});

test.each([
  ['CONTRADICTION', true],
  ['PAID_AFTER_FAILED', true],
  ['MISSING', false],
  ['AMOUNT', false],
])('of refunds, %s can be dismissed: %s', (code, expected) => {
  expect(isDismissible(code)).toBe(expected);
});
