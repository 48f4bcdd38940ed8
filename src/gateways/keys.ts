/**
 * Keys of gateways, by WebCrypto: RSASSA-PKCS1-v1_5 with SHA-256, which both gateways sign with. A key
 * is taken as the merchant consoles hand it out: PEM or bare base64, PKCS#8 or PKCS#1, a public key or a
 * certificate.
 */
import { importSPKI, importX509 } from 'jose';
import { writeLog } from '../log';

const RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };

/** The bytes of standard base64. Throws for anything else. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Standard base64 of the bytes. */
export function toBase64(bytes: ArrayBuffer): string {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)));
}

/** A private key, proven by a signature that its public half verifies. Throws for anything else. */
export async function signingKey(text: string): Promise<CryptoKey> {
  const [, base64 = text] = /-----BEGIN [A-Z ]+-----([\s\S]*?)-----END/.exec(text) ?? [];
  const der = fromBase64(base64.replace(/\s/g, ''));
  const pkcs8 = isPkcs1(der) ? toPkcs8(der) : der;
  const key = await crypto.subtle.importKey('pkcs8', pkcs8, RSA, true, ['sign']);

  const exported = await crypto.subtle.exportKey('jwk', key);
  if (exported instanceof ArrayBuffer || !exported.n || !exported.e) throw new Error('no RSA key');
  const { kty, n, e } = exported;
  const half = await crypto.subtle.importKey('jwk', { kty, n, e }, RSA, false, ['verify']);
  const probe = new TextEncoder().encode('probe');
  const signature = await crypto.subtle.sign(RSA, key, probe);
  if (!(await crypto.subtle.verify(RSA, half, signature, probe))) {
    throw new Error('the key does not verify its own signature');
  }
  return await crypto.subtle.importKey('pkcs8', pkcs8, RSA, false, ['sign']);
}

/** A gateway's public key, from a public key or a certificate. Throws for anything else. */
export async function verifyingKey(text: string): Promise<CryptoKey> {
  if (text.includes('BEGIN CERTIFICATE')) return await importX509(text, 'RS256');
  const pem = text.includes('BEGIN PUBLIC KEY')
    ? text
    : `-----BEGIN PUBLIC KEY-----\n${text.trim()}\n-----END PUBLIC KEY-----`;
  return await importSPKI(pem, 'RS256');
}

/** The signature of the text, in base64. */
export async function sign(key: CryptoKey, text: string): Promise<string> {
  return toBase64(await crypto.subtle.sign(RSA, key, new TextEncoder().encode(text)));
}

/** Whether the base64 signature is one of these bytes by this key. False for what is no base64, too. */
export async function verify(
  key: CryptoKey,
  signature: string,
  signed: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  try {
    return await crypto.subtle.verify(RSA, key, fromBase64(signature), signed);
  } catch {
    return false;
  }
}

/** When a certificate (PEM) expires: its notAfter, RFC 5280, section 4.1. Throws for anything else. */
export function certificateExpiry(pem: string): Date {
  const [, base64 = ''] = /-----BEGIN CERTIFICATE-----([\s\S]*?)-----END/.exec(pem) ?? [];
  const [certificate] = elements(fromBase64(base64.replace(/\s/g, '')));
  const [toBeSigned] = elements(certificate?.content);
  const fields = elements(toBeSigned?.content);
  // Version [0] is left out of certificates of version 1; then serial, algorithm, issuer and validity.
  const validity = fields[fields[0]?.tag === 0xa0 ? 4 : 3];
  const notAfter = elements(validity?.content)[1];

  const text = new TextDecoder().decode(notAfter?.content);
  // UTCTime has two digits of the year: 50 to 99 are of the twentieth century.
  const century = notAfter?.tag === 0x17 ? (text < '5' ? '20' : '19') : '';
  const time = (century + text).replace(
    /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/,
    '$1-$2-$3T$4:$5:$6Z',
  );
  const expiry = new Date(time);
  if (!time.includes('T') || Number.isNaN(expiry.getTime())) throw new Error('no certificate');
  return expiry;
}

/** Its successor has to be configured before it expires. */
const EXPIRY_WARNING_MS = 30 * 86_400_000;

/** Says in the log that a certificate expires within 30 days. A public key does not expire. */
export function warnOfExpiry(gateway: string, serial: string, pem: string): void {
  if (!pem.includes('BEGIN CERTIFICATE')) return;
  const expiry = certificateExpiry(pem);
  if (expiry.getTime() - Date.now() >= EXPIRY_WARNING_MS) return;
  writeLog('warn', 'gateway_key_expires', { gateway, serial, expires: expiry.toISOString() });
}

/** The DER elements that follow each other in these bytes. */
function elements(der: Uint8Array = new Uint8Array()): { tag: number; content: Uint8Array }[] {
  const found: { tag: number; content: Uint8Array }[] = [];
  for (let at = 0; at + 1 < der.length; ) {
    const [tag = 0, first = 0] = der.subarray(at);
    // Below 0x80 it is the length itself, else how many bytes the length has.
    const start = at + 2 + (first < 0x80 ? 0 : first - 0x80);
    const long = der.subarray(at + 2, start).reduce((sum, byte) => sum * 256 + byte, 0);
    const end = start + (first < 0x80 ? first : long);
    found.push({ tag, content: der.subarray(start, end) });
    at = end;
  }
  return found;
}

/** PKCS#1 and PKCS#8 both begin with SEQUENCE, its length in three bytes, INTEGER 0; then they differ. */
const AFTER_VERSION = 7;
const INTEGER = 0x02;

/** RFC 8017, appendix A.1.2: the modulus follows the version, where PKCS#8 has the algorithm. */
function isPkcs1(der: Uint8Array): boolean {
  return der[AFTER_VERSION] === INTEGER;
}

/** RFC 5208: version 0, the algorithm rsaEncryption, and the PKCS#1 key as an OCTET STRING. */
function toPkcs8(pkcs1: Uint8Array): Uint8Array<ArrayBuffer> {
  const version = [INTEGER, 1, 0];
  const rsaEncryption = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
  const key = [0x04, ...length(pkcs1.length), ...pkcs1];
  const content = [...version, ...rsaEncryption, ...key];
  return Uint8Array.from([0x30, ...length(content.length), ...content]);
}

/** A DER length above 255. */
function length(bytes: number): number[] {
  return [0x82, bytes >> 8, bytes & 0xff];
}
