/**
 * A client of the simulated gateways that is none of ours: requests are signed, and answers and callbacks
 * verified, by wechatpay-axios-plugin and alipay-sdk.
 */
import { createPublicKey, X509Certificate } from 'node:crypto';
import { AlipaySdk } from 'alipay-sdk';
import { Aes, Formatter, Rsa } from 'wechatpay-axios-plugin';
import { z } from 'zod';
import type {
  CallbackWish,
  Fault,
  NewOrder,
  Posted,
  Refund,
  SimulatorState,
  WorldOptions,
} from '../../../dev/gateways/contract.ts';
import { testKeys, type Variables } from '../../../dev/gateways/keys.ts';

export const { keys, variables, certificateVariables } = testKeys();
const VerifyKeys = z.record(z.string(), z.string());
export const verifyKeys = VerifyKeys.parse(JSON.parse(variables.WECHAT_VERIFY_KEYS ?? ''));
export const PUBLIC_KEY_ID = keys.wechat.publicKey.serial;
export const CERTIFICATE = keys.wechat.certificate?.serial ?? '';

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const Fields = z.record(z.string(), z.unknown());

let worlds = 0;

/** A world of its own, with what a test says to it. */
export function startWorld(url: string, from: Variables = variables) {
  worlds += 1;
  const base = `${url}/w${worlds}`;

  async function control<T>(method: string, path: string, body?: unknown): Promise<T> {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const response = await fetch(`${base}/${path}`, {
      method,
      ...(body === undefined ? {} : { body: text }),
    });
    const answered = await response.text();
    if (!response.ok) throw new Error(answered);
    return JSON.parse(answered);
  }

  const state = () => control<SimulatorState>('GET', 'control');

  return {
    base,
    control,
    state,
    configure: (changes: Partial<WorldOptions> & { now?: number }) =>
      control('PUT', 'control', changes),
    faults: (...faults: Fault[]) => control('PUT', 'control/faults', { faults }),
    advance: (ms: number) => control<SimulatorState>('POST', 'control/advance', { ms }),
    order: (order: Partial<NewOrder> = {}) =>
      control('POST', 'control/orders', {
        gateway: 'wechat',
        outTradeNo: 'ORDER0001',
        total: 10_000,
        ...order,
      }),
    due: () => control<Posted[]>('GET', 'control/callbacks'),
    answer: (id: string, status: number, body = '') =>
      control('POST', 'control/callbacks/answer', { id, status, body }),
    callback: (wish: CallbackWish) => control<Posted>('POST', 'control/callback', wish),
    async refund(outRefundNo = 'R1'): Promise<Refund> {
      const { refunds } = await state();
      const found = refunds.find((refund) => refund.outRefundNo === outRefundNo);
      if (found === undefined) throw new Error(`no refund ${outRefundNo}`);
      return found;
    },

    /** Sends a signed request to WeChat; `spoil` changes it after it was signed. */
    async wechat(
      method: string,
      path: string,
      body?: unknown,
      spoil: { body?: string; mchid?: string; serial?: string; key?: string; ago?: number } = {},
    ) {
      const text = body === undefined ? '' : JSON.stringify(body);
      const timestamp = Math.floor((await state()).now / SECOND) - (spoil.ago ?? 0);
      const nonce = Formatter.nonce();
      const signature = Rsa.sign(
        Formatter.request(method, path, timestamp, nonce, text),
        from.WECHAT_PRIVATE_KEY ?? '',
      );
      const mchid = spoil.mchid ?? from.WECHAT_MCHID ?? '';
      const serial = spoil.serial ?? from.WECHAT_SERIAL_NO ?? '';
      const response = await fetch(`${base}/wechat${path}`, {
        method,
        redirect: 'manual',
        headers: {
          Accept: 'application/json',
          'User-Agent': 'test',
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...(spoil.key === undefined ? {} : { 'Wechatpay-Serial': spoil.key }),
          Authorization: Formatter.authorization(mchid, nonce, signature, timestamp, serial),
        },
        ...(body === undefined ? {} : { body: spoil.body ?? text }),
      });
      const raw = await response.text();
      const value = raw.startsWith('{') ? Fields.parse(JSON.parse(raw)) : {};
      return { ...value, http: response.status, headers: response.headers, raw };
    },
    wechatRefund(
      changes: Record<string, unknown> = {},
      spoil: { body?: string; key?: string; mchid?: string; serial?: string; ago?: number } = {},
    ) {
      return this.wechat('POST', '/v3/refund/domestic/refunds', { ...REFUND, ...changes }, spoil);
    },
    wechatQuery(number = 'R1') {
      return this.wechat('GET', `/v3/refund/domestic/refunds/${number}`);
    },

    /** Calls Alipay by its own SDK, which verifies the answer. */
    async alipay(
      method: string,
      bizContent: Record<string, unknown>,
      extra: Record<string, string> = {},
      config: Record<string, string> = {},
    ) {
      const sdk = new AlipaySdk({
        appId: from.ALIPAY_APP_ID ?? '',
        keyType: 'PKCS8',
        privateKey: bare(from.ALIPAY_PRIVATE_KEY ?? ''),
        alipayPublicKey: bare(from.ALIPAY_PUBLIC_KEY ?? ''),
        gateway: `${base}/alipay/gateway.do`,
        camelcase: false,
        ...config,
      });
      const timestamp = beijing((await state()).now);
      const options = { bizContentAutoSnakeCase: false, validateSign: true };
      const result = await sdk.exec(method, { bizContent, timestamp, ...extra }, options);
      return Fields.parse(result);
    },
    alipayRefund(changes: Record<string, unknown> = {}) {
      return this.alipay('alipay.trade.refund', {
        out_trade_no: 'ORDER0001',
        out_request_no: 'R1',
        refund_amount: '12.34',
        ...changes,
      });
    },
    alipayQuery(number = 'R1') {
      return this.alipay('alipay.trade.fastpay.refund.query', {
        out_trade_no: 'ORDER0001',
        out_request_no: number,
      });
    },
  };
}

export const REFUND = {
  out_trade_no: 'ORDER0001',
  out_refund_no: 'R1',
  reason: '商品缺货',
  notify_url: 'https://pay.example.test/callbacks/wechat',
  amount: { refund: 1_234, total: 10_000, currency: 'CNY' },
};

/** A key as the SDK wants it. */
export function bare(key: string): string {
  return key.replace(/-----[A-Z ]+-----|\s/g, '');
}

export function beijing(time: number): string {
  return new Date(time + 8 * HOUR).toISOString().slice(0, 19).replace('T', ' ');
}

function publicKeyOf(pem: string) {
  return pem.includes('CERTIFICATE') ? new X509Certificate(pem).publicKey : createPublicKey(pem);
}

type WechatHeaders = { get(name: string): string | null };

/** By the plugin, with the key that the serial names. */
export function isSigned(headers: WechatHeaders, body: string): boolean {
  const pem = verifyKeys[headers.get('Wechatpay-Serial') ?? ''];
  if (pem === undefined) return false;
  const timestamp = headers.get('Wechatpay-Timestamp') ?? '';
  const text = Formatter.response(timestamp, headers.get('Wechatpay-Nonce') ?? '', body);
  return Rsa.verify(text, headers.get('Wechatpay-Signature') ?? '', publicKeyOf(pem));
}

/** Verifies a callback of WeChat's and decrypts it. */
export function open({ headers, bodyBase64 }: Pick<Posted, 'headers' | 'bodyBase64'>) {
  const body = Buffer.from(bodyBase64, 'base64').toString();
  const Envelope = z.object({
    id: z.string(),
    event_type: z.string(),
    resource: z.object({
      ciphertext: z.string(),
      nonce: z.string(),
      associated_data: z.string().optional(),
    }),
  });
  const { id, event_type, resource } = Envelope.parse(JSON.parse(body));
  const plain = Aes.AesGcm.decrypt(
    resource.ciphertext,
    variables.WECHAT_API_V3_KEY ?? '',
    resource.nonce,
    resource.associated_data,
  );
  return {
    id,
    event: event_type,
    verified: isSigned(new Headers(headers), body),
    serial: headers['Wechatpay-Serial'],
    aad: resource.associated_data,
    plain: Fields.parse(JSON.parse(plain)),
  };
}

/** Verifies a notification of Alipay's by its SDK. */
export function openForm({ bodyBase64 }: Pick<Posted, 'bodyBase64'>) {
  const form = new URLSearchParams(Buffer.from(bodyBase64, 'base64').toString());
  const fields = Object.fromEntries(form);
  const sdk = new AlipaySdk({
    appId: variables.ALIPAY_APP_ID ?? '',
    privateKey: bare(variables.ALIPAY_PRIVATE_KEY ?? ''),
    keyType: 'PKCS8',
    alipayPublicKey: variables.ALIPAY_PUBLIC_KEY ?? '',
  });
  return { fields, verified: sdk.checkNotifySignV2(fields) };
}

/** A signed request by hand, as the raw text of its answer. */
export async function fetchAlipay(
  base: string,
  state: () => Promise<SimulatorState>,
  extra: Record<string, string>,
): Promise<string> {
  const parameters: Record<string, string> = {
    app_id: variables.ALIPAY_APP_ID ?? '',
    method: 'alipay.trade.refund',
    format: 'JSON',
    charset: 'utf-8',
    sign_type: 'RSA2',
    version: '1.0',
    timestamp: beijing((await state()).now),
    biz_content: JSON.stringify({
      out_trade_no: 'ORDER0001',
      out_request_no: 'R1',
      refund_amount: '12.34',
    }),
    ...extra,
  };
  const text = Object.entries(parameters)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
  const pem = `-----BEGIN PRIVATE KEY-----\n${variables.ALIPAY_PRIVATE_KEY}\n-----END PRIVATE KEY-----`;
  const response = await fetch(`${base}/alipay/gateway.do`, {
    method: 'POST',
    body: new URLSearchParams({ ...parameters, sign: Rsa.sign(text, pem) }),
  });
  return response.text();
}
