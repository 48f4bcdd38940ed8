/**
 * The variables of WeChat Pay, validated, with their keys imported and proven. What is wrong is named all at
 * once and without its value, since most of the values are secrets.
 */
import * as z from 'zod';
import { NotConfiguredError } from '../../env';
import type { GatewayVariables } from '../gateway';
import { signingKey, verifyingKey, warnOfExpiry } from '../keys';
import { parseJson } from './client';
import type { Signer, VerifyKeys } from './signature';

/** WeChat Pay with its keys. */
export interface Configuration extends Signer {
  appid: string;
  /** Decrypts callbacks. */
  apiV3Key: CryptoKey;
  verifyKeys: VerifyKeys;
  /** The key that answers shall be signed with, and that secrets are encrypted for. One of verifyKeys. */
  answerSerial: string;
  /** The origin of the API. */
  apiBase: string;
  notifyUrl: string;
}

const API_BASE = 'https://api.mch.weixin.qq.com';

/** The second is for the time when the first is down. */
const API_BASES = [API_BASE, 'https://api2.mch.weixin.qq.com'];

/** WeChat Pay takes no longer notify_url. */
const NOTIFY_URL_LENGTH = 256;

const text = (pattern: RegExp, error: string) => z.string('not set').regex(pattern, error);

/** A string turned into what it stands for; `error` where `read` throws. */
const read = <T>(error: string, read: (text: string) => T | Promise<T>) =>
  z.string('not set').transform(async (text, context) => {
    try {
      return await read(text);
    } catch {
      // What was thrown may quote the value.
      context.addIssue(error);
      return z.NEVER;
    }
  });

const Variables = z.object({
  WECHAT_MCHID: text(/^\d{1,32}$/, 'not a merchant number'),
  WECHAT_APPID: text(/^[A-Za-z0-9_-]{1,32}$/, 'not an app id'),
  WECHAT_SERIAL_NO: text(/^[0-9A-F]{1,40}$/, 'not a serial number in upper-case hex'),
  WECHAT_PRIVATE_KEY: read('not a private RSA key that signs', signingKey),
  WECHAT_API_V3_KEY: read('not 32 bytes', apiV3Key),
  WECHAT_VERIFY_KEYS: read(
    'not a JSON object of serial and PEM, with at least one key',
    verifyKeys,
  ),
  WECHAT_API_BASE: read('not an address of WeChat Pay, or of this machine', apiBase).prefault(''),
  CALLBACK_BASE_URL: read('not an https URL without a query, short enough', notifyUrl),
});

/** Reads the variables. Throws NotConfiguredError. */
export async function configuration(env: GatewayVariables): Promise<Configuration> {
  const result = await Variables.safeParseAsync(env);
  if (!result.success) {
    const problems = result.error.issues.map(
      ({ path, message }) => `${path.join('.')}: ${message}`,
    );
    throw new NotConfiguredError(problems.join('; '));
  }
  const variables = result.data;
  return {
    mchid: variables.WECHAT_MCHID,
    appid: variables.WECHAT_APPID,
    serialNo: variables.WECHAT_SERIAL_NO,
    privateKey: variables.WECHAT_PRIVATE_KEY,
    apiV3Key: variables.WECHAT_API_V3_KEY,
    ...variables.WECHAT_VERIFY_KEYS,
    apiBase: variables.WECHAT_API_BASE,
    notifyUrl: variables.CALLBACK_BASE_URL,
  };
}

/** The key is the 32 characters themselves. */
async function apiV3Key(text: string): Promise<CryptoKey> {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length !== 32) throw new Error('not 32 bytes');
  return await crypto.subtle.importKey('raw', bytes, 'AES-GCM', false, ['decrypt']);
}

const Keys = z.record(z.string().regex(/^([0-9A-F]{1,40}|PUB_KEY_ID_\w+)$/), z.string());

async function verifyKeys(json: string): Promise<{ verifyKeys: VerifyKeys; answerSerial: string }> {
  const pems = Object.entries(Keys.parse(parseJson(new TextEncoder().encode(json))));
  const verifyKeys = new Map<string, CryptoKey>();
  for (const [serial, pem] of pems) verifyKeys.set(serial, await verifyingKey(pem));

  // A public key does not expire, so it is preferred to a certificate.
  const serials = pems.map(([serial]) => serial);
  const answerSerial = serials.find((serial) => serial.startsWith('PUB_KEY_ID_')) ?? serials[0];
  if (answerSerial === undefined) throw new Error('no key');

  for (const [serial, pem] of pems) warnOfExpiry('wechat', serial, pem);
  return { verifyKeys, answerSerial };
}

function apiBase(text: string): string {
  const { origin, href } = new URL(text || API_BASE);
  // A path would be signed without being part of the API's.
  if (href !== `${origin}/`) throw new Error('not an origin');
  if (!API_BASES.includes(origin) && !isThisMachine(new URL(origin))) throw new Error('not known');
  return origin;
}

function notifyUrl(text: string): string {
  const url = new URL(text);
  if (url.protocol !== 'https:' && !isThisMachine(url)) throw new Error('not https');
  const notifyUrl = `${url.origin}${url.pathname.replace(/\/$/, '')}/callbacks/wechat`;
  if (/[?#]/.test(text) || url.username !== '' || notifyUrl.length > NOTIFY_URL_LENGTH) {
    throw new Error('not a notify_url');
  }
  return notifyUrl;
}

function isThisMachine({ protocol, hostname }: URL): boolean {
  return protocol === 'http:' && ['localhost', '127.0.0.1'].includes(hostname);
}
