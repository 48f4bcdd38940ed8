/** Rows of the refunds' work list: ranges, and the header of the page. */
import { describe, expect, test } from 'vitest';
import { coverage, switched } from '../../../console/refunds/selection.ts';

const IDS = ['a', 'b', 'c', 'd', 'e'];

describe('switched', () => {
  test.each([
    ['one', [], { id: 'b', on: true }, ['b']],
    ['one off', ['a', 'b'], { id: 'b', on: false }, ['a']],
    ['down', ['b'], { id: 'd', on: true, anchor: 'b' }, ['b', 'c', 'd']],
    ['up', ['d'], { id: 'b', on: true, anchor: 'd' }, ['b', 'c', 'd']],
    ['a range off', IDS, { id: 'd', on: false, anchor: 'b' }, ['a', 'e']],
    ['the anchor itself', ['c'], { id: 'c', on: true, anchor: 'c' }, ['c']],
    ['an anchor of another page', [], { id: 'd', on: true, anchor: 'z' }, ['d']],
    ['beside others', ['a'], { id: 'd', on: true, anchor: 'c' }, ['a', 'c', 'd']],
  ])('%s', (_, selected, change, expected) => {
    const before = new Set(selected);
    expect([...switched(before, IDS, change)].sort()).toEqual(expected);
    expect([...before]).toEqual(selected);
  });
});

test.each([
  [[], 'none'],
  [['z'], 'none'],
  [['a', 'z'], 'some'],
  [IDS, 'all'],
])('coverage of %j', (selected, expected) => {
  expect(coverage(new Set(selected), IDS)).toBe(expected);
});

test('an empty page is not wholly selected', () => {
  expect(coverage(new Set(), [])).toBe('none');
});
