/**
 * The signatures of WeChat Pay API v3: signs requests, and verifies what WeChat Pay has signed, answers
 * and callbacks alike. A message is verified over the bytes as received, with the key that is configured
 * under the serial that the message names. A key is never fetched because a message names it. Clock, keys
 * and bytes are arguments.
 */

import { writeLog } from '../../log';
import { sign, verify } from '../keys';

/** WeChat Pay's public keys and certificates by their serial. During a change of keys there are several. */
export type VerifyKeys = ReadonlyMap<string, CryptoKey>;

/** Who signs the requests. */
export interface Signer {
  mchid: string;
  /** The serial of the merchant's certificate, in upper-case hex. */
  serialNo: string;
  privateKey: CryptoKey;
}

/** What is signed of a request: the strings that are sent. */
export interface SignedRequest {
  method: 'GET' | 'POST';
  /** With the query, without the host. */
  path: string;
  /** Empty where there is none. */
  body: string;
}

/** Why a message proves nothing. `probe`: WeChat Pay tests whether wrong signatures are refused. */
export type SignatureFault = 'headers' | 'clock' | 'unknown_serial' | 'signature' | 'probe';

/** A message whose time is further from ours, in either direction, may be an old one sent again. */
const MAX_DRIFT_SECONDS = 300;

const PROBE = 'WECHATPAY/SIGNTEST/';

const NEWLINE = 10;

/** The Authorization header of a request. `timestamp` is in seconds since the epoch. */
export async function authorization(
  signer: Signer,
  { method, path, body }: SignedRequest,
  timestamp: number,
  nonce: string,
): Promise<string> {
  const message = `${method}\n${path}\n${timestamp}\n${nonce}\n${body}\n`;
  const fields = {
    mchid: signer.mchid,
    nonce_str: nonce,
    timestamp,
    serial_no: signer.serialNo,
    signature: await sign(signer.privateKey, message),
  };
  const list = Object.entries(fields).map(([name, value]) => `${name}="${value}"`);
  return `WECHATPAY2-SHA256-RSA2048 ${list.join(',')}`;
}

/** The headers that a signature needs, by their names. Null where one is missing. */
export function signatureHeaders(headers: Headers) {
  const timestamp = headers.get('Wechatpay-Timestamp');
  const nonce = headers.get('Wechatpay-Nonce');
  const serial = headers.get('Wechatpay-Serial');
  const signature = headers.get('Wechatpay-Signature');
  if (!timestamp || !nonce || !serial || !signature) return null;
  return { timestamp, nonce, serial, signature };
}

/** Null if WeChat Pay has signed these bytes within the last minutes. `now` is in milliseconds. */
export async function signatureFault(
  headers: Headers,
  body: Uint8Array,
  keys: VerifyKeys,
  now: number,
): Promise<SignatureFault | null> {
  const signed = signatureHeaders(headers);
  if (!signed || !/^\d{1,12}$/.test(signed.timestamp)) return 'headers';
  if (signed.signature.startsWith(PROBE)) return 'probe';

  const drift = Math.round(now / 1000) - Number(signed.timestamp);
  if (Math.abs(drift) > MAX_DRIFT_SECONDS) {
    writeLog('warn', 'gateway_clock', { gateway: 'wechat', drift_seconds: drift });
    return 'clock';
  }
  const key = keys.get(signed.serial);
  if (!key) {
    // The operator has to configure this key: WeChat Pay has begun to sign with it.
    const serial = signed.serial.slice(0, 64);
    writeLog('warn', 'gateway_unknown_serial', { gateway: 'wechat', serial });
    return 'unknown_serial';
  }
  const before = new TextEncoder().encode(`${signed.timestamp}\n${signed.nonce}\n`);
  const bytes = new Uint8Array(before.length + body.length + 1);
  bytes.set(before);
  bytes.set(body, before.length);
  bytes.set([NEWLINE], before.length + body.length);
  return (await verify(key, signed.signature, bytes)) ? null : 'signature';
}
