/**
 * README.md and README.zh-CN.md say the same: their code blocks are alike but for comments, their
 * tables have the same cells as far as these are not prose, and they have the same headings and links.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const [english, chinese] = ['README.md', 'README.zh-CN.md'].map((name) =>
  readFileSync(join(import.meta.dirname, '../..', name), 'utf8'),
);

const FENCED = /^```.*\n[\s\S]*?^```$/gm;

function codeBlocks(text = ''): string[] {
  return (text.match(FENCED) ?? []).map((block) => block.replaceAll(/ +# .*$/gm, ''));
}

/** Of each cell what no translation changes: code, numbers and links. Their order may differ. */
function tables(text = ''): string[][][] {
  return text
    .replaceAll(FENCED, '')
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').map((cell) => cell.match(UNTRANSLATED)?.sort() ?? []));
}

const UNTRANSLATED = /`[^`]+`|\]\([^)]+\)|\d+(\.\d+)?/g;

function headings(text = ''): string[] {
  return (text.replaceAll(FENCED, '').match(/^#+ /gm) ?? []).map((marks) => marks.trim());
}

/** But for those to each other. */
function links(text = ''): string[] {
  return (text.replaceAll(FENCED, '').match(/\]\([^)]+\)/g) ?? [])
    .filter((link) => !link.includes('README'))
    .sort();
}

test.each([
  ['code blocks', codeBlocks, 2],
  ['tables', tables, 15],
  ['headings', headings, 8],
  ['links', links, 12],
] as const)('both have the same %s', (_, partsOf, least) => {
  expect(partsOf(chinese)).toEqual(partsOf(english));
  expect(partsOf(english).length).toBeGreaterThanOrEqual(least);
});
