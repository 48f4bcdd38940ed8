/**
 * Reads a callback of WeChat Pay. The signature is verified over the bytes as received before anything is
 * parsed; then the resource is decrypted, which proves it a second time, and compared with the account. A
 * callback of an event that is not known here is authentic all the same, and says nothing.
 */
import * as z from 'zod';
import { toYuan } from '../fen';
import { CallbackRefusedError, type Notification } from '../gateway';
import { fromBase64 } from '../keys';
import { parseJson } from './client';
import type { Configuration } from './configuration';
import { Fen, Reference, statusNews, Time } from './outcomes';
import { signatureFault, signatureHeaders } from './signature';

const Envelope = z.object({
  id: z.string().regex(/^[\x21-\x7e]{1,100}$/),
  event_type: z.string().regex(/^[\x21-\x7e]{1,64}$/),
  resource: z.object({
    algorithm: z.literal('AEAD_AES_256_GCM'),
    ciphertext: z.string(),
    nonce: z.string(),
    associated_data: z.string().nullish(),
  }),
});

const Refund = z.object({
  mchid: z.string(),
  out_trade_no: Reference,
  out_refund_no: Reference,
  refund_id: Reference,
  refund_status: z.string(),
  success_time: Time,
  amount: z.object({ refund: Fen, total: Fen }),
});

const Payment = z.object({
  mchid: z.string(),
  appid: z.string(),
  out_trade_no: Reference,
  transaction_id: Reference,
  trade_state: z.string(),
  success_time: Time,
  // Not payer_total, which is lower where the payer had a coupon.
  amount: z.object({ total: Fen, currency: z.string().default('CNY') }),
});

/** Reads a callback. `now` is in milliseconds. Throws CallbackRefusedError. */
export async function readCallback(
  configuration: Configuration,
  headers: Headers,
  body: Uint8Array,
  now: number,
): Promise<Notification> {
  const fault = await signatureFault(headers, body, configuration.verifyKeys, now);
  const signature = signatureHeaders(headers);
  if (fault || !signature) throw new CallbackRefusedError(fault ?? 'headers');

  const envelope = parse(Envelope, body);
  const plaintext = await decrypt(configuration.apiV3Key, envelope.resource);
  return {
    key: envelope.id,
    event: envelope.event_type,
    serial: signature.serial,
    signature,
    ...contents(configuration, envelope.event_type, plaintext),
  };
}

function contents(
  { mchid, appid }: Configuration,
  event: string,
  plaintext: Uint8Array,
): Pick<Notification, 'refund' | 'payment'> {
  switch (event) {
    case 'REFUND.SUCCESS':
    case 'REFUND.ABNORMAL':
    case 'REFUND.CLOSED': {
      const refund = parse(Refund, plaintext);
      if (refund.mchid !== mchid) throw new CallbackRefusedError('other_account');
      return { refund: refundNotification(event, refund), payment: null };
    }
    case 'TRANSACTION.SUCCESS': {
      const payment = parse(Payment, plaintext);
      if (payment.mchid !== mchid || payment.appid !== appid) {
        throw new CallbackRefusedError('other_account');
      }
      return { refund: null, payment: paymentNotification(payment) };
    }
    default:
      return { refund: null, payment: null };
  }
}

function refundNotification(
  event: string,
  refund: z.output<typeof Refund>,
): Notification['refund'] {
  const { refund_status: status, refund_id, success_time } = refund;
  return {
    outRefundNo: refund.out_refund_no,
    outTradeNo: refund.out_trade_no,
    amount: toYuan(refund.amount.refund),
    total: toYuan(refund.amount.total),
    // One that contradicts itself proves nothing: a CLOSED that is none would free money.
    news: event === `REFUND.${status}` ? statusNews(status, refund_id, success_time ?? null) : null,
  };
}

function paymentNotification(payment: z.output<typeof Payment>): Notification['payment'] {
  // REFUND: a refund has begun, maybe of a part. It was paid.
  if (!['SUCCESS', 'REFUND'].includes(payment.trade_state)) return null;
  return {
    outTradeNo: payment.out_trade_no,
    tradeNo: payment.transaction_id,
    amount: toYuan(payment.amount.total),
    currency: payment.amount.currency,
    state: 'paid',
    at: payment.success_time ?? null,
  };
}

function parse<T extends z.ZodType>(schema: T, bytes: Uint8Array): z.output<T> {
  const result = schema.safeParse(parseJson(bytes));
  if (!result.success) throw new CallbackRefusedError('body');
  return result.data;
}

async function decrypt(
  key: CryptoKey,
  { ciphertext, nonce, associated_data }: z.output<typeof Envelope>['resource'],
): Promise<Uint8Array> {
  const encoder = new TextEncoder();
  const iv = encoder.encode(nonce);
  const additionalData = encoder.encode(associated_data ?? '');
  try {
    const algorithm = { name: 'AES-GCM', iv, additionalData };
    return new Uint8Array(await crypto.subtle.decrypt(algorithm, key, fromBase64(ciphertext)));
  } catch {
    throw new CallbackRefusedError('ciphertext');
  }
}
