/**
 * The messages of gateway.do (protocol v2): signs a request's parameters and verifies an answer. An
 * answer is verified over its bytes as they came, and decoded and parsed only then. Clock, keys and
 * bytes are arguments. What the fields mean is decided in outcomes.ts.
 * Protocol: alipay/alipay-sdk-nodejs-all src/util.ts; GBK: smartwalle/alipay PR #257
 */
import * as z from 'zod';
import { sign, verify } from '../keys';
import type { AlipayAccount } from './configuration';
import { type Charset, charsetOf, decode, toBeijing } from './values';

/** The form of a request, with its signature. `bizContent` is the JSON that is signed, and sent as it is. */
export async function signedForm(
  account: AlipayAccount,
  method: string,
  bizContent: string,
  now: Date,
): Promise<string> {
  const parameters = {
    method,
    app_id: account.appId,
    charset: 'utf-8',
    version: '1.0',
    sign_type: 'RSA2',
    timestamp: toBeijing(now),
    ...account.certificateNumbers,
    biz_content: bizContent,
  };
  const signature = await sign(account.privateKey, signedText(parameters));
  return new URLSearchParams({ ...parameters, sign: signature }).toString();
}

/** Sorted by name, without empty values, not percent-encoded. A request's sign_type is signed too. */
function signedText(parameters: Record<string, string>): string {
  return Object.entries(parameters)
    .filter(([, value]) => value !== '')
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
}

/** An answer. Only a verified one says anything about money. */
export type Answer =
  /** `content` is JSON, not yet checked. `isError`: it stood in error_response, which only refuses. */
  | { kind: 'verified'; content: unknown; isError: boolean }
  /** Without any signature: Alipay refuses so before it knows whose request it is. */
  | { kind: 'unsigned'; content: unknown }
  /** Nothing of it may be believed. `fault` is our code for why. */
  | { kind: 'unusable'; fault: 'UNREADABLE' | 'SIGNATURE' | 'UNKNOWN_SERIAL' };

/** Reads the answer to `method`. `contentType` is the header, which declares the charset. */
export async function readAnswer(
  account: AlipayAccount,
  method: string,
  contentType: string | null,
  body: Uint8Array<ArrayBuffer>,
): Promise<Answer> {
  try {
    const charset = charsetOfAnswer(contentType, body);
    const members = topLevelMembers(body, charset);
    const read = (bytes: Uint8Array): unknown => JSON.parse(decode(bytes, charset));

    const response = members.get(`${method.replaceAll('.', '_')}_response`);
    const node = response ?? members.get('error_response');
    if (!node) return { kind: 'unusable', fault: 'UNREADABLE' };

    const signature = members.get('sign');
    if (!signature) return { kind: 'unsigned', content: read(node) };
    const number = members.get('alipay_cert_sn');
    const keys = account.keysFor(number ? z.string().parse(read(number)) || null : null);
    if (keys.length === 0) return { kind: 'unusable', fault: 'UNKNOWN_SERIAL' };
    if (!(await verifies(keys, z.string().parse(read(signature)), node))) {
      return { kind: 'unusable', fault: 'SIGNATURE' };
    }
    return { kind: 'verified', content: read(node), isError: !response };
  } catch {
    // No JSON, text that is in neither charset, or a signature that is no string.
    return { kind: 'unusable', fault: 'UNREADABLE' };
  }
}

/** Whether one of the keys made the signature of these bytes. */
export async function verifies(
  keys: readonly CryptoKey[],
  signature: string,
  signed: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  for (const key of keys) {
    if (await verify(key, signature, signed)) return true;
  }
  return false;
}

/** The declared charset. An answer that is declared as UTF-8, or not at all, and is none has come in GBK. */
function charsetOfAnswer(contentType: string | null, body: Uint8Array): Charset {
  const [, name = 'utf-8'] = /charset="?([\w-]+)/i.exec(contentType ?? '') ?? [];
  if (charsetOf(name) === 'gb18030') return 'gb18030';
  try {
    decode(body, 'utf-8');
    return 'utf-8';
  } catch {
    return 'gb18030';
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN = [0x7b, 0x5b];
const CLOSE = [0x7d, 0x5d];
const SPACE = [0x20, 0x09, 0x0a, 0x0d];
const AFTER_LITERAL = [COMMA, ...CLOSE, ...SPACE];
/** In GBK this byte and all above it begin a character, whose second byte may be a backslash or a brace. */
const GBK_LEAD = 0x81;

/**
 * The members of a JSON object, each value as the bytes between its first and its last character: what
 * Alipay has signed. JSON.parse would lose them (escaped slashes, order, white space). Throws a
 * SyntaxError for anything but one object, and for a name that comes twice.
 */
function topLevelMembers(
  json: Uint8Array<ArrayBuffer>,
  charset: Charset,
): Map<string, Uint8Array<ArrayBuffer>> {
  const members = new Map<string, Uint8Array<ArrayBuffer>>();
  let at = 0;
  const byte = () => json[at] ?? -1;

  skipSpace();
  expect(OPEN[0]);
  do {
    skipSpace();
    const name = z.string().parse(JSON.parse(decode(value(), charset)));
    if (members.has(name)) throw new SyntaxError('a name comes twice');
    skipSpace();
    expect(COLON);
    skipSpace();
    members.set(name, value());
    skipSpace();
  } while (taken(COMMA));
  expect(CLOSE[0]);
  skipSpace();
  if (at < json.length) throw new SyntaxError('something follows the object');
  return members;

  /** Moves behind the value that begins here. Only its end is looked for: JSON.parse checks the rest. */
  function value(): Uint8Array<ArrayBuffer> {
    const begin = at;
    if (byte() === QUOTE) skipString();
    else if (OPEN.includes(byte())) skipNested();
    else while (at < json.length && !AFTER_LITERAL.includes(byte())) at += 1;
    return json.subarray(begin, at);
  }

  function skipNested(): void {
    let depth = 0;
    do {
      if (at >= json.length) throw new SyntaxError('a value has no end');
      if (byte() === QUOTE) {
        skipString();
        continue;
      }
      if (OPEN.includes(byte())) depth += 1;
      if (CLOSE.includes(byte())) depth -= 1;
      at += 1;
    } while (depth > 0);
  }

  function skipString(): void {
    at += 1;
    while (byte() !== QUOTE) {
      if (at >= json.length) throw new SyntaxError('a string has no end');
      const isPair = byte() === BACKSLASH || (charset === 'gb18030' && byte() >= GBK_LEAD);
      at += isPair ? 2 : 1;
    }
    at += 1;
  }

  function skipSpace(): void {
    while (SPACE.includes(byte())) at += 1;
  }

  function taken(expected: number | undefined): boolean {
    if (byte() !== expected) return false;
    at += 1;
    return true;
  }

  function expect(expected: number | undefined): void {
    if (!taken(expected)) throw new SyntaxError('not an object');
  }
}
