/**
 * One call of the WeChat Pay API: signed, with a deadline, and never redirected, since fetch would carry
 * the signed body to another address. An answer comes back with the reason for which it proves nothing, if
 * there is one. What an answer means is not decided here (outcomes.ts).
 */
import * as z from 'zod';
import { describeError, writeLog } from '../../log';
import type { Configuration } from './configuration';
import { authorization, type SignatureFault, signatureFault } from './signature';

const TIMEOUT_MS = 10_000;

/** An answer, or the lack of one. */
export interface Answer {
  /** Null where no complete answer came. */
  status: number | null;
  /** WeChat Pay's id of the request. It ends in the detailed number of an error. */
  requestId: string | null;
  /** The code of the fault for which the answer proves nothing; null where its signature is verified. */
  fault: string | null;
  /** The JSON of the body; undefined where it is none. */
  body: unknown;
}

const FAULT_CODES: Record<SignatureFault, string> = {
  headers: 'UNSIGNED',
  clock: 'CLOCK',
  unknown_serial: 'UNKNOWN_SERIAL',
  signature: 'BAD_SIGNATURE',
  probe: 'BAD_SIGNATURE',
};

const RequestId = z.string().regex(/^[\x21-\x7e]{1,128}$/);

/**
 * Calls the API. `path` begins with `/v3/`, with its query if there is one. `content` is the JSON of the
 * request's body. Nothing is sent after `signal`.
 */
export async function call(
  configuration: Configuration,
  method: 'GET' | 'POST',
  path: string,
  content?: unknown,
  signal?: AbortSignal,
): Promise<Answer> {
  const url = new URL(path, configuration.apiBase);
  // The string that is signed is the string that is sent.
  const body = content === undefined ? '' : JSON.stringify(content);
  const signed = { method, path: url.pathname + url.search, body };
  const nonce = crypto.randomUUID().replaceAll('-', '').toUpperCase();
  const timestamp = Math.floor(Date.now() / 1000);

  const headers = {
    Authorization: await authorization(configuration, signed, timestamp, nonce),
    Accept: 'application/json',
    'Content-Type': 'application/json',
    'User-Agent': 'payment-management',
    // The answer comes signed by this key, and secrets in the request are encrypted for it.
    'Wechatpay-Serial': configuration.answerSerial,
  };
  let response: Response;
  let bytes: Uint8Array;
  try {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    const limit = signal ? AbortSignal.any([signal, timeout]) : timeout;
    const init = { method, headers, redirect: 'manual', signal: limit } as const;
    response = await fetch(url, body === '' ? init : { ...init, body });
    bytes = new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    writeLog('warn', 'gateway_no_answer', { gateway: 'wechat', error: describeError(error) });
    return { status: null, requestId: null, fault: 'NO_ANSWER', body: undefined };
  }

  const fault = await signatureFault(response.headers, bytes, configuration.verifyKeys, Date.now());
  return {
    status: response.status,
    requestId: RequestId.safeParse(response.headers.get('Request-Id')).data ?? null,
    fault: fault && FAULT_CODES[fault],
    body: parseJson(bytes),
  };
}

/** The JSON of these bytes of UTF-8; undefined for anything else. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    // The parser's message quotes the text.
    return undefined;
  }
}
