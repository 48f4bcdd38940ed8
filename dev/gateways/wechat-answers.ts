/** What WeChat Pay writes: the objects of its answers and callbacks, and the signatures over both. */

import { randomUUID } from 'node:crypto';
import { Aes, Formatter, Rsa } from 'wechatpay-axios-plugin';
import type { Message } from './callbacks.ts';
import type { Order, Refund, RefundState } from './contract.ts';
import type { Content, GatewayRequest, Reply, Spoil } from './driver.ts';
import type { PlatformKey, SimulatorKeys } from './keys.ts';
import type { World } from './world.ts';

type Keys = SimulatorKeys['wechat'];

/** An hour, which is too old also for an application whose clock lags behind the world's. */
const STALE_SECONDS = 3_600;

/** The path of a callback whose refund named no notify_url. */
const CALLBACK_PATH = '/callbacks/wechat';

export function platformKeys({ publicKey, certificate }: Keys): PlatformKey[] {
  return certificate === null ? [publicKey] : [publicKey, certificate];
}

/** The key that the request asks for; the certificate's where it names none. */
export function answerKey({ headers }: Pick<GatewayRequest, 'headers'>, keys: Keys): PlatformKey {
  const named = platformKeys(keys).find(({ serial }) => serial === headers['wechatpay-serial']);
  return named ?? keys.certificate ?? keys.publicKey;
}

/** Signs an answer, errors and the empty 204 included. */
export function seal(
  { status, value }: Content,
  request: GatewayRequest,
  world: World,
  spoil: Spoil | null,
  keys: Keys,
): Reply {
  const body = value === null ? '' : JSON.stringify(value);
  const signature = sign(body, answerKey(request, keys), world.signingTime(), spoil);
  return {
    status,
    headers: {
      ...(value === null ? {} : { 'Content-Type': 'application/json; charset=utf-8' }),
      'Request-Id': `${randomUUID().replaceAll('-', '').toUpperCase()}-${status === 200 ? 0 : 268435470}`,
      ...(spoil === 'none' ? {} : signature),
    },
    body: spoil === 'altered' ? falsify(body) : body,
  };
}

/** Says that the money is back: whoever does not verify believes it. */
function falsify(body: string): string {
  const falsified = body.replace(/"status":"(?!SUCCESS)\w+"/, '"status":"SUCCESS"');
  return falsified === body ? `${body} ` : falsified;
}

function sign(
  body: string,
  { serial, privateKey }: PlatformKey,
  now: number,
  spoil: Spoil | null,
): Record<string, string> {
  const nonce = Formatter.nonce();
  const timestamp = Math.floor(now / 1_000) - (spoil === 'stale' ? STALE_SECONDS : 0);
  return {
    'Wechatpay-Timestamp': String(timestamp),
    'Wechatpay-Nonce': nonce,
    'Wechatpay-Serial': spoil === 'unknown_serial' ? `PUB_KEY_ID_${'9'.repeat(32)}` : serial,
    'Wechatpay-Signature-Type': 'WECHATPAY2-SHA256-RSA2048',
    'Wechatpay-Signature': Rsa.sign(Formatter.response(timestamp, nonce, body), privateKey),
  };
}

export function describe(refund: Refund, world: World): Content {
  const { fen } = refund;
  const order = world.findOrder('wechat', { tradeNo: refund.tradeNo });
  return {
    status: 200,
    value: {
      refund_id: refund.refundId,
      out_refund_no: refund.outRefundNo,
      transaction_id: refund.tradeNo,
      out_trade_no: refund.outTradeNo,
      channel: 'ORIGINAL',
      user_received_account: '支付用户零钱',
      ...(refund.succeededAt === null ? {} : { success_time: beijing(refund.succeededAt) }),
      create_time: beijing(refund.createdAt),
      status: refund.state,
      funds_account: 'UNSETTLED',
      amount: {
        ...amounts(fen, order),
        from: [],
        settlement_total: order?.total ?? fen,
        settlement_refund: fen,
        discount_refund: 0,
        refund_fee: 0,
        currency: 'CNY',
      },
      promotion_detail: [],
    },
  };
}

/** A coupon's share is refunded in proportion. */
function amounts(fen: number, order: Pick<Order, 'total' | 'payerTotal'> | undefined) {
  const total = order?.total ?? fen;
  const payerTotal = order?.payerTotal ?? total;
  const payerRefund = Math.floor((fen * payerTotal) / total);
  return { total, refund: fen, payer_total: payerTotal, payer_refund: payerRefund };
}

export function describeOrder(order: Order, world: World, keys: Keys): Content {
  const isRefunded = world.refundsOf(order).some(({ state }) => state !== 'CLOSED');
  const paidState = isRefunded ? 'REFUND' : 'SUCCESS';
  const states = { paid: paidState, finished: paidState, unpaid: 'NOTPAY', closed: 'CLOSED' };
  return { status: 200, value: transaction(order, states[order.state], keys) };
}

function transaction(order: Order, tradeState: string, keys: Keys): Record<string, unknown> {
  const isPaid = order.state === 'paid' || order.state === 'finished';
  return {
    mchid: keys.mchid,
    appid: keys.appid,
    out_trade_no: order.outTradeNo,
    trade_state: tradeState,
    trade_state_desc: tradeState,
    attach: '',
    ...(isPaid
      ? {
          transaction_id: order.tradeNo,
          trade_type: 'JSAPI',
          bank_type: 'OTHERS',
          success_time: beijing(order.paidAt),
          payer: { openid: 'oSIMULATOR00000000000000000001' },
        }
      : {}),
    amount: {
      total: order.total,
      payer_total: order.payerTotal ?? order.total,
      currency: 'CNY',
      payer_currency: 'CNY',
    },
  };
}

/** RFC 3339 in Beijing time, without fractions. */
function beijing(time: number): string {
  return new Date(time + 28_800_000).toISOString().replace(/\.\d+Z$/, '+08:00');
}

/** A callback before it is encrypted. */
export interface WechatCallback {
  event: string;
  plain: Record<string, unknown>;
  originalType: string;
  number: string | null;
  path: string;
}

/** How a test spoils a callback; null: not at all. */
type WechatAlteration =
  | 'body'
  | 'signature'
  | 'ciphertext'
  | 'stale'
  | 'unknown_serial'
  | 'probe'
  | 'mchid'
  | 'appid';

interface Delivered {
  alter?: WechatAlteration | undefined;
  key?: 'public_key' | 'certificate' | undefined;
  /** Its id, to repeat one. */
  id?: string | undefined;
}

/** A callback about a refund. It may say another state than the books. */
export function refundCallback(
  refund: Pick<Refund, 'outRefundNo' | 'refundId' | 'outTradeNo' | 'tradeNo' | 'fen'> & {
    notifyUrl?: string | null;
    succeededAt?: number | null;
  },
  state: RefundState,
  order: Pick<Order, 'total' | 'payerTotal'> | undefined,
  now: number,
  keys: Keys,
): WechatCallback {
  const succeededAt = refund.succeededAt ?? now;
  return {
    event: `REFUND.${state}`,
    originalType: 'refund',
    number: refund.outRefundNo,
    path: refund.notifyUrl ? new URL(refund.notifyUrl).pathname : CALLBACK_PATH,
    plain: {
      mchid: keys.mchid,
      out_trade_no: refund.outTradeNo,
      transaction_id: refund.tradeNo,
      out_refund_no: refund.outRefundNo,
      refund_id: refund.refundId,
      refund_status: state,
      ...(state === 'SUCCESS' ? { success_time: beijing(succeededAt) } : {}),
      user_received_account: '支付用户零钱',
      amount: amounts(refund.fen, order),
    },
  };
}

export function paymentCallback(order: Order, keys: Keys): WechatCallback {
  return {
    event: 'TRANSACTION.SUCCESS',
    originalType: 'transaction',
    number: order.outTradeNo,
    path: CALLBACK_PATH,
    plain: transaction({ ...order, state: 'paid' }, 'SUCCESS', keys),
  };
}

/** The console's self-test, or an event that nobody knows yet. */
export function otherCallback(event: string): WechatCallback {
  return {
    event,
    originalType: event === 'SECURITY_ECHO.SUCCESS' ? 'security_echo' : 'unknown',
    number: null,
    path: CALLBACK_PATH,
    plain: { echo_id: randomUUID(), note: 'simulated' },
  };
}

/** A notification of the second version, as the console sends it for a refund made there. */
export function xmlMessage(keys: Keys): Message {
  const body = `<xml><return_code>SUCCESS</return_code><mch_id><![CDATA[${keys.mchid}]]></mch_id><req_info><![CDATA[c2ltdWxhdGVk]]></req_info></xml>`;
  return {
    gateway: 'wechat',
    event: 'xml',
    number: null,
    path: CALLBACK_PATH,
    build: () => ({ headers: { 'Content-Type': 'text/xml' }, body }),
  };
}

/** Encrypts once, and signs at each attempt. */
export function wechatMessage(
  { event, plain, originalType, number, path }: WechatCallback,
  world: World,
  keys: Keys,
  { alter, key: named, id = randomUUID() }: Delivered = {},
): Message {
  const nonce = Formatter.nonce(12);
  const { associatedData } = world.options;
  const data = associatedData === 'normal' ? originalType : '';
  const other = alter === 'mchid' || alter === 'appid' ? { [alter]: `${keys[alter]}9` } : {};
  const text = JSON.stringify({ ...plain, ...other });
  const ciphertext = Aes.AesGcm.encrypt(text, keys.apiV3Key, nonce, data);
  const body = JSON.stringify({
    id,
    create_time: beijing(world.clock.now()),
    resource_type: 'encrypt-resource',
    event_type: event,
    summary: '模拟',
    resource: {
      original_type: originalType,
      algorithm: 'AEAD_AES_256_GCM',
      ciphertext: alter === 'ciphertext' ? flip(ciphertext) : ciphertext,
      ...(associatedData === 'absent' ? {} : { associated_data: data }),
      nonce,
    },
  });
  const key =
    named === undefined
      ? callbackKey(world, keys)
      : ((named === 'certificate' ? keys.certificate : null) ?? keys.publicKey);
  const spoil = alter === 'stale' || alter === 'unknown_serial' ? alter : null;
  return {
    gateway: 'wechat',
    event,
    number,
    path,
    once: alter === 'probe',
    build(now) {
      const headers = sign(body, key, now, spoil);
      headers['Content-Type'] = 'application/json';
      const signature = headers['Wechatpay-Signature'] ?? '';
      if (alter === 'signature') headers['Wechatpay-Signature'] = flip(signature);
      if (alter === 'probe') headers['Wechatpay-Signature'] = `WECHATPAY/SIGNTEST/${signature}`;
      return { headers, body: alter === 'body' ? body.replace('模拟', '伪造') : body };
    },
  };
}

/** Shares are exact: of ten callbacks at 0.3, three take the new key. */
function callbackKey(world: World, keys: Keys): PlatformKey {
  const { newKeyShare } = world.options;
  const before = world.callbacksSigned;
  world.callbacksSigned += 1;
  const isNew = Math.floor((before + 1) * newKeyShare) > Math.floor(before * newKeyShare);
  return isNew || keys.certificate === null ? keys.publicKey : keys.certificate;
}

function flip(base64: string): string {
  const bytes = Buffer.from(base64, 'base64');
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  return bytes.toString('base64');
}
