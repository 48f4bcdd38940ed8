/**
 * Amounts on their way between a person and the API. The API has decimal strings of yuan; sums and
 * comparisons here are of fen, as bigint, and never of floats.
 */

/** Why an amount that somebody typed is none. */
export type AmountProblem = 'empty' | 'unreadable' | 'commas' | 'decimals' | 'zero' | 'digits';

/** What the API takes: 16 digits of yuan. */
const MAX_FEN = 999_999_999_999_999_999n;

/** The fen of an amount of the API: `"12.34"` is 1234n. Throws where it is none, which is a fault of ours. */
export function fenOf(amount: string): bigint {
  const match = /^(-?)(\d+)\.(\d{2})$/.exec(amount);
  if (!match) throw new Error('not an amount of the API');
  const [, sign, yuan = '', fen = ''] = match;
  return BigInt(`${sign}${yuan}${fen}`);
}

/** The amount of the API for fen: 1234n is `"12.34"`. */
export function amountOf(fen: bigint): string {
  const digits = String(fen < 0n ? -fen : fen).padStart(3, '0');
  return `${fen < 0n ? '-' : ''}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}

/** `"1234.50"` as people read it: `¥1,234.50`. */
export function yuan(amount: string): string {
  const negative = amount.startsWith('-');
  const [whole = '', decimals = ''] = (negative ? amount.slice(1) : amount).split('.');
  return `${negative ? '−' : ''}¥${whole.replace(/\B(?=(\d{3})+$)/g, ',')}.${decimals}`;
}

/** The full-width forms that a Chinese keyboard makes. Others, such as ², are not what they look like. */
const PLAIN = new Map([
  ...[...'０１２３４５６７８９'].map((digit, value) => [digit, String(value)] as const),
  ['．', '.'],
  ['。', '.'],
  ['，', ','],
  ['￥', '¥'],
]);

/**
 * Reads an amount as people type or paste it: `12`, `12.3`, `１２．３`, `1,200`, `¥12`. Commas must stand in
 * groups of three, so `12,34` is refused and never read as 1,234.
 */
export function readAmount(typed: string): { fen: bigint } | { problem: AmountProblem } {
  const text = [...typed.trim()]
    .map((character) => PLAIN.get(character) ?? character)
    .join('')
    .replace(/^¥\s*/, '');
  if (text === '') return { problem: 'empty' };
  const match = /^([\d,]*)(?:\.(\d*))?$/.exec(text);
  if (!match || !/\d/.test(text)) return { problem: 'unreadable' };
  const [, whole = '', decimals = ''] = match;
  if (whole.includes(',') && !/^\d{1,3}(,\d{3})+$/.test(whole)) return { problem: 'commas' };
  if (decimals.length > 2) return { problem: 'decimals' };
  const fen = BigInt(`${whole.replaceAll(',', '') || '0'}${decimals.padEnd(2, '0')}`);
  if (fen === 0n) return { problem: 'zero' };
  if (fen > MAX_FEN) return { problem: 'digits' };
  return { fen };
}

/** The sum of amounts of the API, in fen. */
export function sumOf(amounts: readonly string[]): bigint {
  return amounts.reduce((sum, amount) => sum + fenOf(amount), 0n);
}
