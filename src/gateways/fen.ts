/** Yuan become fen, and fen yuan, at a gateway's border only, and by string work: a float would lose one. */

/** `12.34` becomes 1234. Throws a RangeError for what is no amount, or is more fen than a double counts exactly. */
export function toFen(yuan: string): number {
  const [, whole, decimals] = /^(\d+)\.(\d{2})$/.exec(yuan) ?? [];
  const fen = Number(`${whole}${decimals}`);
  if (!Number.isSafeInteger(fen)) throw new RangeError('not an amount in yuan');
  return fen;
}

/** 1234 becomes `12.34`. Throws a RangeError for what is no whole number of fen, or below zero. */
export function toYuan(fen: number): string {
  if (!Number.isSafeInteger(fen) || fen < 0) throw new RangeError('not an amount in fen');
  return String(fen).padStart(3, '0').replace(/(..)$/, '.$1');
}
