/** The texts of both languages: alike, whole, and all of them used. */
import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { en } from '../../../console/texts.en.ts';
import { zh } from '../../../console/texts.zh.ts';
import { EXPLAINED_CODES, explain } from '../../../src/gateways/explanations.ts';

/** Every text by its path. */
function textsOf(value: unknown, path: string[] = []): [string, string][] {
  if (typeof value === 'string') return [[path.join(' > '), value]];
  if (typeof value !== 'object' || value === null) throw new Error(`no text: ${path.join(' > ')}`);
  return Object.entries(value).flatMap(([key, inner]) => textsOf(inner, [...path, key]));
}

/** Every object of texts by its path, the outermost first. */
function mapsOf(value: object, path: string[] = []): [string[], string[]][] {
  const inner = Object.entries(value).flatMap(([key, one]) =>
    typeof one === 'object' && !Array.isArray(one) ? mapsOf(one, [...path, key]) : [],
  );
  return [[path, Object.keys(value)], ...inner];
}

/** Where Chinese shows the API's own texts, and has none. */
const ONLY_ENGLISH = /^(errors|attention > codes) > |^wrongValue$/;
const both = (texts: object) => textsOf(texts).filter(([path]) => !ONLY_ENGLISH.test(path));
const chinese = both(zh);
const english = new Map(textsOf(en));

test('both languages have the same texts', () => {
  expect(both(en).map(([path]) => path)).toEqual(chinese.map(([path]) => path));
});

test.each(chinese)('%s has the same places in both languages', (path, text) => {
  const places = (of = '') => [...of.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();
  expect(places(english.get(path))).toEqual(places(text));
});

test('no text is empty', () => {
  const empty = [...textsOf(en), ...chinese].filter(([, text]) => text.trim() === '');
  expect(empty).toEqual([]);
});

test('English has no Chinese characters and no full-width punctuation', () => {
  const foreign = textsOf(en).filter(([, text]) => /[\u3000-\u9fff\uff00-\uffef]/.test(text));
  expect(foreign.map(([path]) => path)).toEqual(['nav > otherLanguage', 'nav > switchLanguage']);
});

test('every error of the API has a text in English', () => {
  const codes = [...readFileSync('src/http.ts', 'utf8').matchAll(/^ {2}(\d{5}): \[\d{3}, '/gm)];
  expect(codes.length).toBeGreaterThan(20);
  expect(Object.keys(en.errors).filter((code) => code !== '0')).toEqual(
    codes.map(([, code]) => code),
  );
});

test('English explains what the API explains, and any other code', () => {
  const codes = Object.keys(en.attention.codes);
  expect(codes.filter((code) => code !== '').sort()).toEqual([...EXPLAINED_CODES].sort());
  expect(codes).toContain('');
  expect(explain(EXPLAINED_CODES[0] ?? '')).not.toBe(explain(''));
});

/** Looked up by what the API or the page has, so that no code names each of their keys. */
const BY_KEY = [
  'nav > themes',
  'search > kinds',
  'paymentStatus',
  'paymentStatusTip',
  'refundStatus',
  'refundStatusTip',
  'callbackStatus',
  'callbackStatusTip',
  'gatewayState',
  'gatewayStateTip',
  'method',
  'refundState',
  'list > days',
  'detail > notRefundable',
  'detail > field',
  'detail > settle',
  'event > cause',
  'event > operation',
  'event > outcome',
  'refund > problem',
  'settle > title',
  'settle > text',
  'abnormal > types',
  'abnormal > fields',
  'keys > list',
  'work > orders',
  'work > settle',
  'work > outcome',
  'attention > codes',
  'attention > refundTodo',
  'attention > paymentTodo',
  'attention > gatewayTodo',
  'errors',
  'statistics > series',
];

const code = globSync('console/**/*.{ts,tsx}', { exclude: ['console/texts*.ts'] })
  .map((file) => readFileSync(file, 'utf8'))
  .join('\n');

/** Whether code says `section.key`, takes `key` out of the section, or does either by another name of the section. */
function isUsed(section: string, key: string): boolean {
  const renamed = [...code.matchAll(new RegExp(`\\b${section}: (\\w+)`, 'g'))].map(([, as]) => as);
  const names = [section, ...renamed].join('|');
  return (
    new RegExp(`\\b(${names})\\??\\.${key}\\b`).test(code) ||
    new RegExp(`[{,]\\s*${key}\\b[^{}]*\\} = (\\w+\\.)*(${names})\\b`).test(code)
  );
}

test('every text is used', () => {
  const unused = mapsOf(zh).flatMap(([path, keys]) => {
    if (BY_KEY.includes(path.join(' > '))) return [];
    const section = path.at(-1);
    return keys
      .filter((key) =>
        section
          ? !isUsed(section, key)
          : !isUsed('value', key) && !isUsed('texts', key) && !isUsed('words', key),
      )
      .map((key) => [...path, key].join(' > '));
  });
  expect(unused).toEqual([]);
});
