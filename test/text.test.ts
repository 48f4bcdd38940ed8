/**
 * Proves that a text in which a person states something shows what is stored: it has something to
 * see, it reads in the order in which it is stored, and it may be in any script.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { writtenText } from '../src/text';

const schema = writtenText('text');

/** What is wrong with it, or nothing. */
const problems = (text: unknown) =>
  schema.safeParse(text).error?.issues.map(({ message }) => message) ?? [];

const INVISIBLE = '须有可见的文字';
const REORDERED = '不能包含改变文字方向的字符';

/** Code points of which no reader sees anything by themselves. */
const UNSEEN = [
  ['soft hyphen', 0x00ad],
  ['combining grapheme joiner', 0x034f],
  ['Hangul choseong filler', 0x115f],
  ['Hangul jungseong filler', 0x1160],
  ['Khmer inherent vowel', 0x17b4],
  ['Mongolian variation selector', 0x180b],
  ['Mongolian vowel separator', 0x180e],
  ['zero width space', 0x200b],
  ['zero width non-joiner', 0x200c],
  ['zero width joiner', 0x200d],
  ['word joiner', 0x2060],
  ['invisible plus', 0x2064],
  ['reserved, ignorable', 0x2065],
  ['blank Braille pattern', 0x2800],
  ['Hangul filler', 0x3164],
  ['variation selector 16', 0xfe0f],
  ['zero width no-break space', 0xfeff],
  ['halfwidth Hangul filler', 0xffa0],
  ['interlinear annotation anchor', 0xfff9],
  ['object replacement character', 0xfffc],
  ['noncharacter', 0xffff],
  ['combining acute accent', 0x0301],
  ['Devanagari vowel sign AA', 0x093e],
  ['enclosing keycap', 0x20e3],
  ['Egyptian full blank', 0x13441],
  ['Egyptian half blank', 0x13442],
  ['musical null notehead', 0x1d159],
  ['musical begin beam', 0x1d173],
  ['tag A', 0xe0041],
  ['variation selector 17', 0xe0100],
  ['private use', 0xe000],
  ['private use, plane 16', 0x10fffd],
  ['unassigned', 0x0378],
  ['line separator', 0x2028],
  ['no-break space', 0x00a0],
  ['ideographic space', 0x3000],
] as const;

describe('a text in which there is nothing to see is refused', () => {
  it.each(UNSEEN.filter(([, code]) => String.fromCodePoint(code).trim() !== ''))(
    'of %s only',
    (_, code) => {
      const one = String.fromCodePoint(code);
      expect(problems(one)).toEqual([INVISIBLE]);
      expect(problems(` ${one}${one} ${one}`)).toEqual([INVISIBLE]);
      expect(problems(`${one}退${one}`)).toEqual([]);
    },
  );

  it('of any of these together', () => {
    const unseen = fc.constantFrom(...UNSEEN.map(([, code]) => String.fromCodePoint(code)));
    fc.assert(
      fc.property(fc.array(unseen, { maxLength: 40 }), (text) => {
        expect(problems(text.join(''))).not.toEqual([]);
      }),
    );
  });
});

describe('a text that a reader sees in another order than it is stored in is refused', () => {
  it.each([
    '061C',
    '200E',
    '200F',
    '202A',
    '202B',
    '202C',
    '202D',
    '202E',
    '2066',
    '2067',
    '2068',
    '2069',
    '206A',
    '206F',
  ])('with U+%s', (code) => {
    const control = String.fromCodePoint(Number.parseInt(code, 16));
    expect(problems(`退款 ${control}100 元`)).toEqual([REORDERED]);
    expect(problems(control)).toContain(REORDERED);
  });
});

describe('a text in any script is taken as it is', () => {
  it.each([
    ['Chinese', '商品有瑕疵，申请全额退款。'],
    ['Chinese beyond the BMP', '𠮷野家'],
    ['Chinese with a variation selector', '葛\u{e0100}城'],
    ['Japanese', 'サイズが合わない'],
    ['Korean', '단순 변심'],
    ['Korean in conjoining jamo', '환불'],
    ['Hindi with ZWJ', 'क्‍षतिग्रस्त सामान'],
    ['Sinhala with ZWJ', 'ශ්‍රී ලංකා'],
    ['Arabic with vowels', 'اِسْتِرْدَاد'],
    ['Persian with ZWNJ', 'کالا معیوب می‌باشد'],
    ['Hebrew', 'החזר כספי'],
    ['Thai', 'สินค้าชำรุด'],
    ['Khmer', 'សំណង'],
    ['Mongolian with a variation selector', 'ᠮᠣᠩᠭ᠋ᠣᠯ'],
    ['Vietnamese, decomposed', 'Hoàn tiền'.normalize('NFD')],
    ['Braille', '⠗⠑⠋⠥⠝⠙⠀⠏⠇⠎'],
    ['a family', '👨‍👩‍👧'],
    ['a heart with a variation selector', '❤️'],
    ['a skin tone', '👍🏽'],
    ['a flag of two letters', '🇨🇳'],
    ['a flag of tags', '🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}'],
    ['a keycap', '1️⃣'],
    ['a number', '7'],
    ['punctuation', '…'],
    ['a symbol', '￥'],
    ['a modifier letter', 'ʰ'],
  ])('%s', (_, text) => {
    expect(schema.parse(text)).toBe(text);
    expect(schema.parse(` \n\u3000${text}\t`)).toBe(text);
  });
});

describe('the limits', () => {
  it.each<[unknown, string[]]>([
    [undefined, ['必填']],
    [null, ['须为字符串']],
    [1, ['须为字符串']],
    ['', ['须为 1 到 255 个字符']],
    [' \u3000\u00a0\ufeff\n', ['须为 1 到 255 个字符']],
    ['🙂'.repeat(255), []],
    [` ${'🙂'.repeat(255)} `, []],
    ['🙂'.repeat(256), ['须为 1 到 255 个字符']],
    ['a\u0000b', ['不能包含控制字符']],
    ['a\u0085b', ['不能包含控制字符']],
    ['a\ud800b', ['不是有效的 Unicode 文本']],
  ])('%j comes to %j', (text, expected) => {
    expect(problems(text)).toEqual(expected);
  });
});
