/**
 * Alipay's notifications: forms about a payment and its refunds, or messages. The signature is verified
 * over the bytes of the decoded values, in the charset in which they came. A notification never settles
 * a refund: its refund_fee is the sum of all of them. It only names one to ask about.
 * https://docs.open.alipay.com/204/105301; signed text: alipay/alipay-easysdk Signer.java
 */
import * as z from 'zod';
import { CallbackRefusedError, type Notification } from '../gateway';
import type { AlipayAccount } from './configuration';
import { verifies } from './messages';
import { charsetOf, decode, fromBeijing, toCode, toTwoDecimals } from './values';

/** The parameters that are read. Empty ones count as absent: they may not have been signed. */
const Parameters = z.object({
  notify_id: z.string().max(128),
  app_id: z.string(),
  seller_id: z.string().optional(),
  /** Of a notification about a trade. */
  notify_type: z.string().optional(),
  trade_status: z.string().optional(),
  /** Of a message, such as alipay.trade.refund.depositback.completed. */
  msg_method: z.string().optional(),
  trade_no: z.string().optional(),
  out_trade_no: z.string().optional(),
  total_amount: z.string().optional(),
  gmt_payment: z.string().optional(),
  /** Our number of the refund. */
  out_biz_no: z.string().optional(),
  gmt_refund: z.string().optional(),
  refund_fee: z.string().optional(),
  alipay_cert_sn: z.string().optional(),
});
type Parameters = z.output<typeof Parameters>;

/** What is not part of the signed text. */
const SIGNATURE_PARAMETERS = ['sign', 'sign_type'];

/** Reads a notification of this account. Throws CallbackRefusedError. */
export async function readNotification(
  account: AlipayAccount,
  body: Uint8Array,
): Promise<Notification> {
  const form = readForm(body);
  await verifySignature(account, form);

  const parameters = readParameters(form);
  const { msg_method, notify_type, trade_status } = parameters;
  const event = msg_method ?? [notify_type, trade_status].filter(Boolean).join('.');
  if (!event) throw new CallbackRefusedError('body');
  if (parameters.app_id !== account.appId) throw new CallbackRefusedError('other_account');
  // Only what is about a trade names its seller. Anything else is stored and changes nothing.
  const isTrade = trade_status !== undefined && !msg_method;
  if ((isTrade || parameters.seller_id) && parameters.seller_id !== account.sellerId) {
    throw new CallbackRefusedError('other_account');
  }

  return {
    key: parameters.notify_id,
    event: toCode(event),
    serial: parameters.alipay_cert_sn ?? null,
    signature: { sign: form.get('sign') ?? '', sign_type: form.get('sign_type') ?? '' },
    refund: isTrade ? refundOf(parameters) : null,
    payment: isTrade ? paymentOf(parameters) : null,
  };
}

/** Names and values, decoded once. Each character stands for a byte until the charset is known. */
type Form = ReadonlyMap<string, string>;

/** More than any notification has. */
const MAX_PARAMETERS = 100;

function readForm(body: Uint8Array): Form {
  const form = new Map<string, string>();
  const pairs = Array.from(body, (byte) => String.fromCharCode(byte))
    .join('')
    .split('&');
  if (pairs.length > MAX_PARAMETERS) throw new CallbackRefusedError('body');
  for (const pair of pairs) {
    const [, encoded = '', value = ''] = /^([^=]*)=?(.*)$/s.exec(pair) ?? [];
    const name = percentDecode(encoded);
    // A name with other characters could hold parameters that the signed text shows as such.
    if (!/^[\w.]+$/.test(name) || form.has(name)) throw new CallbackRefusedError('body');
    form.set(name, percentDecode(value));
  }
  return form;
}

function percentDecode(text: string): string {
  return text
    .replaceAll('+', ' ')
    .replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function toBytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

async function verifySignature(account: AlipayAccount, form: Form): Promise<void> {
  const signature = form.get('sign');
  // RSA, the older type, signs with SHA-1.
  if (!signature || form.get('sign_type') !== 'RSA2') throw new CallbackRefusedError('signature');

  const number = form.get('alipay_cert_sn') || null;
  const keys = account.keysFor(number);
  if (keys.length === 0) throw new CallbackRefusedError('unknown_serial');
  for (const text of signedTexts(form)) {
    if (await verifies(keys, signature, toBytes(text))) return;
  }
  throw new CallbackRefusedError('signature');
}

/**
 * The texts that may have been signed. The SDKs disagree whether empty parameters and the certificate's
 * number belong to it. Neither matters: empty ones are not read, and the number only chooses the key.
 */
function* signedTexts(form: Form): Generator<string> {
  const all = [...form]
    .filter(([name]) => !SIGNATURE_PARAMETERS.includes(name))
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
  const filled = all.filter(([, value]) => value !== '');
  const withoutNumber = (pairs: [string, string][]) =>
    pairs.filter(([name]) => name !== 'alipay_cert_sn');

  for (const pairs of [all, filled, withoutNumber(all), withoutNumber(filled)]) {
    yield pairs.map(([name, value]) => `${name}=${value}`).join('&');
  }
}

function readParameters(form: Form): Parameters {
  const charset = charsetOf(form.get('charset') || 'utf-8');
  const filled = [...form].filter(([, value]) => value !== '');
  // The signed text does not show where a value ends. One that contains another parameter could be two
  // that somebody has joined to hide the second.
  if (!charset || filled.some(([, value]) => HIDDEN_PARAMETER.test(value))) {
    throw new CallbackRefusedError('body');
  }
  try {
    const decoded = filled.map(([name, value]) => [name, decode(toBytes(value), charset)]);
    return Parameters.parse(Object.fromEntries(decoded));
  } catch {
    throw new CallbackRefusedError('body');
  }
}

const HIDDEN_PARAMETER = new RegExp(`&(${Object.keys(Parameters.shape).join('|')})=`);

/** refund_fee and gmt_close are no sign of a refund: plain payments carry them, too. */
function refundOf(parameters: Parameters): Notification['refund'] {
  const { out_biz_no, gmt_refund, out_trade_no } = parameters;
  if (!out_biz_no || !gmt_refund) return null;
  return {
    outRefundNo: out_biz_no,
    outTradeNo: out_trade_no ?? null,
    amount: null,
    total: toTwoDecimals(parameters.total_amount),
    news: null,
  };
}

function paymentOf(parameters: Parameters): Notification['payment'] {
  const state = stateOf(parameters);
  if (!state) return null;
  const { out_trade_no, trade_no = null, total_amount, gmt_payment } = parameters;
  const amount = toTwoDecimals(total_amount);
  if (!out_trade_no || !amount) throw new CallbackRefusedError('body');
  const at = fromBeijing(gmt_payment);
  return { outTradeNo: out_trade_no, tradeNo: trade_no, amount, currency: 'CNY', state, at };
}

function stateOf(parameters: Parameters): 'paid' | 'closed' | null {
  switch (parameters.trade_status) {
    case 'TRADE_SUCCESS':
    case 'TRADE_FINISHED':
      return 'paid';
    case 'TRADE_CLOSED':
      return wasPaid(parameters) ? null : 'closed';
    default:
      return null;
  }
}

/** A trade is closed when nobody has paid it in time, and also when all of it is refunded. */
function wasPaid({ gmt_payment, gmt_refund, refund_fee = '0' }: Parameters): boolean {
  return Boolean(gmt_payment || gmt_refund) || !/^0+(\.0*)?$/.test(refund_fee);
}
