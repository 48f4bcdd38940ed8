/** What Alipay writes: its answers and notifications, and the signatures over both. */
import { createSign, randomBytes } from 'node:crypto';
import type { Message } from './callbacks.ts';
import type { Order, Refund } from './contract.ts';
import type { Content, ErrorOptions, Reply, Spoil } from './driver.ts';
import type { SimulatorKeys } from './keys.ts';
import type { World } from './world.ts';

type Keys = SimulatorKeys['alipay'];

/** Whose answers cannot be signed, or not under a method's name. */
const UNKNOWN_CALLER = ['isv.invalid-app-id', 'isv.invalid-parameter', 'isv.invalid-method'];

const NOTIFY_PATH = '/callbacks/alipay';

/** An answer that says 10000. */
export function node(value: Record<string, unknown>): Content {
  return { status: 200, value: { code: '10000', msg: 'Success', ...value } };
}

/** By sub_code. A status that is not 200 comes from something before the gateway, unsigned. */
export function alipayError(
  status: number,
  code: string,
  { unsigned = UNKNOWN_CALLER.includes(code), detail = 'simulated' }: ErrorOptions = {},
): Content {
  const [number, msg] = outer(code);
  return { status, value: { code: number, msg, sub_code: code, sub_msg: detail }, unsigned };
}

function outer(code: string): [string, string] {
  if (/^(isp|aop)\./.test(code)) return ['20000', 'Service Currently Unavailable'];
  if (/^(ACQ|isv)\.ACQ/.test(code) || code.startsWith('ACQ.')) return ['40004', 'Business Failed'];
  if (code === 'isv.app-call-limited') return ['40005', 'Call Limited'];
  if (code.startsWith('isv.insufficient')) return ['40006', 'Insufficient Permissions'];
  if (code.startsWith('isv.missing')) return ['40001', 'Missing Required Arguments'];
  return ['40002', 'Invalid Arguments'];
}

/** Signs the node as it is written: with its slashes escaped. */
export function seal(
  { status, value, unsigned }: Content,
  method: string,
  inCertificateMode: boolean,
  world: World,
  spoil: Spoil | null,
  keys: Keys,
): Reply {
  const requestId = randomBytes(16).toString('hex');
  const headers = {
    'Content-Type': 'text/html;charset=utf-8',
    Date: new Date(world.clock.now()).toUTCString(),
    trace_id: requestId,
  };
  if (status !== 200) return { status, headers, body: `<html>${status}</html>` };
  const text = JSON.stringify(value).replaceAll('/', '\\/');
  if (unsigned || method === '') return { status, headers, body: `{"error_response":${text}}` };
  const signature = createSign('RSA-SHA256')
    .update(text, 'utf8')
    .sign(keys.platformPrivateKey, 'base64');
  const own = spoil === 'unknown_serial' ? '0'.repeat(32) : keys.certificates?.alipayCertSn;
  const serial = inCertificateMode ? `,"alipay_cert_sn":"${own}"` : '';
  const shown = spoil === 'altered' ? falsify(text) : text;
  const sign = spoil === 'none' ? '' : `,"sign":"${signature}"`;
  const name = `${method.replaceAll('.', '_')}_response`;
  return { status, headers, body: `{"${name}":${shown}${serial}${sign}}` };
}

/** Says that the money is back: whoever does not verify believes it. */
function falsify(text: string): string {
  const falsified = text
    .replace('"fund_change":"N"', '"fund_change":"Y"')
    .replace(/REFUND_(PROCESSING|FAIL)/, 'REFUND_SUCCESS');
  return falsified === text ? text.replace('"msg":', '"msg": ') : falsified;
}

/** Yuan with two decimals. */
export function yuan(fen: number): string {
  const digits = String(fen).padStart(3, '0');
  return `${digits.slice(0, -2)}.${digits.slice(-2)}`;
}

/** Beijing time as `yyyy-MM-dd HH:mm:ss`. */
export function beijing(time: number): string {
  return new Date(time + 28_800_000).toISOString().slice(0, 19).replace('T', ' ');
}

export interface AlipayNotification {
  order: Order;
  status: string;
  /** The refund that it is about. */
  refund: Pick<Refund, 'outRefundNo' | 'succeededAt'> | null;
  /** Of the order, so far. Fen. */
  refunded: number;
}

type AlipayAlteration = 'body' | 'signature' | 'app_id' | 'seller_id';

interface Delivered {
  alter?: AlipayAlteration | undefined;
  /** Its notify_id, to repeat one. */
  id?: string | undefined;
}

/** What Alipay tells after a refund: TRADE_CLOSED when nothing is left. */
export function refundNotification(refund: Refund, order: Order, world: World): AlipayNotification {
  const refunded = world.moved(order);
  const status = refunded === order.total ? 'TRADE_CLOSED' : 'TRADE_SUCCESS';
  return { order, status, refund, refunded };
}

/** The notify_id stays the same at each attempt; the time and the signature are new. */
export function alipayMessage(
  { order, status, refund, refunded }: AlipayNotification,
  world: World,
  keys: Keys,
  { alter, id = randomBytes(17).toString('hex') }: Delivered = {},
): Message {
  const total = yuan(order.total ?? refunded);
  const fixed: Record<string, string> = {
    notify_type: 'trade_status_sync',
    notify_id: id,
    app_id: alter === 'app_id' ? '2021999999999999' : keys.appId,
    auth_app_id: keys.appId,
    charset: 'utf-8',
    version: '1.0',
    trade_no: order.tradeNo,
    out_trade_no: order.outTradeNo,
    seller_id: alter === 'seller_id' ? '2088999999999999' : keys.sellerId,
    buyer_id: '2088000000000002',
    total_amount: total,
    // A literal %2B, which breaks when it is decoded twice, and spaces that travel as plus signs.
    subject: 'A%2BB 测试 50%+1 & 更多',
    body: '',
    gmt_create: beijing(order.paidAt - 30_000),
    trade_status: status,
    ...(order.state === 'paid' || order.state === 'finished'
      ? {
          gmt_payment: beijing(order.paidAt),
          receipt_amount: yuan(order.payerTotal ?? order.total ?? refunded),
          buyer_pay_amount: yuan(order.payerTotal ?? order.total ?? refunded),
        }
      : {}),
    // Plain payments have it too.
    refund_fee: yuan(refunded),
    ...(refund === null
      ? {}
      : {
          out_biz_no: refund.outRefundNo,
          gmt_refund: `${beijing(refund.succeededAt ?? world.clock.now())}.123`,
        }),
    ...(status === 'TRADE_CLOSED' ? { gmt_close: beijing(world.clock.now()) } : {}),
  };
  const signsEmpty = world.options.alipayEmptyParameter === 'signed';
  return {
    gateway: 'alipay',
    event: status,
    number: refund?.outRefundNo ?? order.outTradeNo,
    path: NOTIFY_PATH,
    build(now) {
      const all = { ...fixed, notify_time: beijing(now) };
      const text = Object.entries(all)
        .filter(([, value]) => signsEmpty || value !== '')
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, value]) => `${name}=${value}`)
        .join('&');
      const sign = createSign('RSA-SHA256')
        .update(text, 'utf8')
        .sign(keys.platformPrivateKey, 'base64');
      const form = new URLSearchParams({
        ...all,
        ...(alter === 'body' ? { total_amount: '0.01' } : {}),
        sign: alter === 'signature' ? `${sign.startsWith('A') ? 'B' : 'A'}${sign.slice(1)}` : sign,
        sign_type: 'RSA2',
      });
      return {
        headers: { 'Content-Type': 'application/x-www-form-urlencoded; charset=utf-8' },
        body: form.toString(),
      };
    },
  };
}
