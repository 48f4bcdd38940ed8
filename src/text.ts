/**
 * The one definition of a text in which a person states something, such as a refund's reason. A
 * reader of the record sees what is stored: at least one character is visible, and nothing in it
 * changes the order or the shape in which the rest is shown. It may be in any script.
 */
import * as z from 'zod';

/** For OpenAPI: no control characters (Cc), written without \p, which some regex engines do not have. */
export const NO_CONTROL_CHARACTERS = String.raw`^[^\x00-\x1f\x7f-\x9f]*$`;

/**
 * Letters, numbers, punctuation and symbols are visible. White space, marks without a base, format
 * characters, private use and unassigned code points are not. The ones taken away are blank too:
 * what Unicode lets every renderer ignore (DI, with the Hangul fillers), the blank Braille pattern,
 * the placeholder of an object, the blank hieroglyphs and the null notehead.
 */
const VISIBLE =
  /[[\p{L}\p{N}\p{P}\p{S}]--[\p{Default_Ignorable_Code_Point}\u2800\ufffc\u{13441}\u{13442}\u{1d159}]]/v;

/**
 * What changes the order of what is around it: the marks, embeddings, overrides and isolates of the
 * Unicode Bidirectional Algorithm (UAX #9). With U+206A to U+206F, deprecated, which change the shape
 * of digits and brackets. No script needs them.
 */
const REORDERING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]/;

const MAX_LENGTH = 255;

/**
 * For OpenAPI: the length without the white space around, which maxLength would count, and no
 * control characters within. No look-around and no \p, which some regex engines do not have; so what
 * is visible, and in which direction it runs, stands in the description only.
 */
const PATTERN = String.raw`^\s*[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]{0,${MAX_LENGTH - 2}}[^\s\x00-\x1f\x7f-\x9f])?\s*$`;

/**
 * A text of 1 to 255 characters once the white space around it is removed. `description` is for
 * OpenAPI. Length counts code points, as VARCHAR(255) does.
 */
export const writtenText = (description: string) =>
  z
    .string({ error: (issue) => (issue.input === undefined ? '必填' : '须为字符串') })
    .trim()
    .refine((text) => text.isWellFormed(), '不是有效的 Unicode 文本')
    .refine((text) => /^\P{Cc}*$/u.test(text), '不能包含控制字符')
    .refine((text) => !REORDERING.test(text), '不能包含改变文字方向的字符')
    .refine((text) => text === '' || VISIBLE.test(text), '须有可见的文字')
    .refine(
      (text) => 1 <= [...text].length && [...text].length <= MAX_LENGTH,
      `须为 1 到 ${MAX_LENGTH} 个字符`,
    )
    .meta({
      pattern: PATTERN,
      minLength: 1,
      description: `${description}; 1 to ${MAX_LENGTH} characters after the white space around it is removed, at least one of them visible; no control characters, none that change the direction of text`,
    });
