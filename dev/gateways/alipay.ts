/**
 * Alipay's gateway.do as a merchant sees it: refunds and their queries, trade queries and closing.
 * Signatures are made and verified by node:crypto, never by our code.
 */

import { createVerify } from 'node:crypto';
import { z } from 'zod';
import { alipayError, beijing, node, seal, yuan } from './alipay-answers.ts';
import type { Operation, Order, Refund } from './contract.ts';
import {
  type Call,
  type Content,
  type Driver,
  type GatewayRequest,
  type Outcome,
  Refusal,
} from './driver.ts';
import type { SimulatorKeys } from './keys.ts';
import type { World } from './world.ts';

type Keys = SimulatorKeys['alipay'];

/** A timestamp in UTC is eight hours off, and must be caught. */
const MAX_SKEW_MS = 600_000;
const GAP_MS = 3_000;
const WINDOW_MS = 365 * 86_400_000;

const OPERATIONS: Record<string, Operation> = {
  'alipay.trade.refund': 'refund',
  'alipay.trade.fastpay.refund.query': 'query',
  'alipay.trade.query': 'order',
  'alipay.trade.close': 'close',
};

/** Of the signed request; whatever else is in it is refused. */
const Parameters = z.strictObject({
  app_id: z.string(),
  method: z.string(),
  format: z.literal('JSON').optional(),
  charset: z.literal('utf-8'),
  sign_type: z.literal('RSA2'),
  timestamp: z.string(),
  version: z.literal('1.0'),
  biz_content: z.string(),
  notify_url: z.url().optional(),
  app_cert_sn: z.string().optional(),
  alipay_root_cert_sn: z.string().optional(),
});

const names = {
  out_trade_no: z.string().min(1).max(64).optional(),
  trade_no: z.string().min(1).max(64).optional(),
};
const RefundContent = z.strictObject({
  ...names,
  refund_amount: z.string().regex(/^(?=.*[1-9])\d{1,9}(\.\d{1,2})?$/),
  out_request_no: z.string().min(1).max(64).optional(),
  refund_reason: z.string().max(256).optional(),
  query_options: z.array(z.enum(['refund_detail_item_list', 'deposit_back_info'])).optional(),
});
const QueryContent = z.strictObject({
  ...names,
  out_request_no: z.string().min(1).max(64),
  query_options: z
    .array(z.enum(['refund_detail_item_list', 'gmt_refund_pay', 'deposit_back_info']))
    .optional(),
});
const TradeContent = z.strictObject(names);

export function alipayDriver(keys: Keys): Driver {
  return {
    gateway: 'alipay',
    operationOf: (request) => OPERATIONS[parameters(request)?.get('method') ?? ''] ?? null,
    read: (request, world) => readCall(verify(request, world, keys)),
    error: alipayError,
    seal(content, request, world, spoil) {
      const all = parameters(request);
      const inCertificateMode = all?.has('app_cert_sn') ?? false;
      return seal(content, all?.get('method') ?? '', inCertificateMode, world, spoil, keys);
    },
  };
}

/** Of the query and the form; undefined where one is named twice, and at any other address. */
function parameters({ path, body }: GatewayRequest): Map<string, string> | undefined {
  const [pathname, search = ''] = path.split('?');
  if (pathname !== '/gateway.do') return undefined;
  const query = new URLSearchParams(search);
  const all = [...query, ...new URLSearchParams(body)];
  const map = new Map(all);
  return map.size === all.length ? map : undefined;
}

function verify(request: GatewayRequest, world: World, keys: Keys): z.infer<typeof Parameters> {
  const all = parameters(request);
  if (request.method !== 'POST' || all === undefined) throw reject('isv.invalid-parameter');
  const { sign, ...rest } = Object.fromEntries(all);
  const parsed = Parameters.safeParse(rest);
  if (!parsed.success) throw reject('isv.invalid-parameter');
  const { data } = parsed;
  if (data.app_id !== keys.appId) throw reject('isv.invalid-app-id');
  const isCertified = data.app_cert_sn !== undefined || data.alipay_root_cert_sn !== undefined;
  if (
    isCertified &&
    (data.app_cert_sn !== keys.certificates?.appCertSn ||
      data.alipay_root_cert_sn !== keys.certificates?.rootCertSn)
  ) {
    throw reject('isv.invalid-app-cert-sn');
  }
  const text = Object.entries(rest)
    .filter(([, value]) => value !== '')
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
  const isSigned = createVerify('RSA-SHA256')
    .update(text, 'utf8')
    .verify(keys.appPublicKey, sign ?? '', 'base64');
  // The real one repeats everything that was signed, so nobody should log it.
  if (!isSigned) throw reject('isv.invalid-signature', `验签出错, 待验签字符串: ${text}`);
  const isWellFormed = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/.test(data.timestamp);
  const at = Date.parse(`${data.timestamp.replace(' ', 'T')}+08:00`);
  if (!isWellFormed || !(Math.abs(at - world.signingTime()) <= MAX_SKEW_MS)) {
    throw reject('isv.invalid-timestamp');
  }
  return data;
}

function reject(code: string, detail?: string): Refusal {
  return new Refusal(200, code, { rejected: true, detail });
}

function readCall({ method, biz_content }: z.infer<typeof Parameters>): Call {
  const operation = OPERATIONS[method];
  switch (operation) {
    case 'refund': {
      const content = parse(RefundContent, biz_content);
      return {
        operation,
        outRefundNo: content.out_request_no ?? content.out_trade_no ?? null,
        order: toNames(content),
        total: null,
        execute: (world, outcome) => refund(content, world, outcome),
      };
    }
    case 'query': {
      const content = parse(QueryContent, biz_content);
      return {
        operation,
        outRefundNo: content.out_request_no,
        order: toNames(content),
        total: null,
        execute: (world) => query(content, world),
      };
    }
    case 'order': {
      const content = parse(TradeContent, biz_content);
      return {
        operation,
        outRefundNo: null,
        order: toNames(content),
        total: null,
        execute: (world) => describeOrder(find(toNames(content), world), world),
      };
    }
    case 'close': {
      const content = parse(TradeContent, biz_content);
      return {
        operation,
        outRefundNo: null,
        order: toNames(content),
        total: null,
        execute: (world) => close(find(toNames(content), world)),
      };
    }
    default:
      throw reject('isv.invalid-method');
  }
}

function toNames(content: { out_trade_no?: string | undefined; trade_no?: string | undefined }) {
  return { outTradeNo: content.out_trade_no, tradeNo: content.trade_no };
}

function parse<T extends z.infer<typeof TradeContent>>(schema: z.ZodType<T>, text: string): T {
  try {
    const content = schema.parse(JSON.parse(text));
    if (content.out_trade_no !== undefined || content.trade_no !== undefined) return content;
  } catch {
    // Answered below, as for a content that names no order.
  }
  throw new Refusal(200, 'ACQ.INVALID_PARAMETER');
}

function find(order: Call['order'], world: World): Order {
  const found = world.findOrder('alipay', order);
  if (found === undefined) throw new Refusal(200, 'ACQ.TRADE_NOT_EXIST');
  return found;
}

function refund(content: z.infer<typeof RefundContent>, world: World, outcome: Outcome): Content {
  const now = world.clock.now();
  const fen = toFen(content.refund_amount);
  const order = find(toNames(content), world);
  const outRefundNo = content.out_request_no ?? order.outTradeNo;
  const known = findRefund(outRefundNo, order, world);
  if (known !== undefined) {
    known.sent += 1;
    if (known.fen !== fen) throw new Refusal(200, 'ACQ.DISCORDANT_REPEAT_REQUEST');
    return describe(known, order, world, false);
  }
  if (content.out_request_no === undefined && fen !== order.total) {
    throw new Refusal(200, 'ACQ.INVALID_PARAMETER');
  }
  if (order.state === 'unpaid') throw new Refusal(200, 'ACQ.TRADE_STATUS_ERROR');
  if (order.state === 'closed') throw new Refusal(200, 'ACQ.TRADE_HAS_CLOSE');
  if (order.state === 'finished' || now - order.paidAt > WINDOW_MS) {
    throw new Refusal(200, 'ACQ.TRADE_HAS_FINISHED');
  }
  if (fen > world.left(order)) throw new Refusal(200, 'ACQ.REFUND_AMT_NOT_EQUAL_TOTAL');
  const isTooSoon = order.refundedAt !== null && now - order.refundedAt < GAP_MS;
  if (world.options.alipayGap && isTooSoon) throw new Refusal(200, 'isv.app-call-limited');
  if (!world.canPay('alipay', outRefundNo, fen)) {
    throw new Refusal(200, 'ACQ.SELLER_BALANCE_NOT_ENOUGH');
  }
  const asked = { outRefundNo, fen, reason: content.refund_reason ?? null, notifyUrl: null };
  const added = world.addRefund(order, asked, {
    outcome: outcome?.outcome ?? 'SUCCESS',
    afterMs: outcome?.afterMs ?? 0,
  });
  return describe(added, order, world, added.state === 'SUCCESS');
}

/** Fen of a decimal number of yuan that is known to be well-formed. */
function toFen(amount: string): number {
  const [whole = '', fraction = ''] = amount.split('.');
  return Number(`${whole}${fraction.padEnd(2, '0')}`);
}

/** A number is unique within its trade. */
function findRefund(outRefundNo: string, order: Order, world: World): Refund | undefined {
  return world.refundsOf(order).find((one) => one.outRefundNo === outRefundNo);
}

function describe(refund: Refund, order: Order, world: World, hasMoved: boolean): Content {
  const { fundChange } = world.options;
  const change = fundChange === 'normal' && hasMoved ? 'Y' : 'N';
  const fee = yuan(world.moved(order));
  return node({
    buyer_logon_id: 'sim***@example.test',
    ...(fundChange === 'missing' ? {} : { fund_change: change }),
    out_trade_no: order.outTradeNo,
    refund_fee: fee,
    send_back_fee: yuan(hasMoved ? refund.fen : 0),
    // Braces and quotes inside a string: a reader that counts braces cuts here.
    store_name: 'a/b "}" {c',
    trade_no: order.tradeNo,
  });
}

function query(content: z.infer<typeof QueryContent>, world: World): Content {
  const order = world.findOrder('alipay', toNames(content));
  const found = order && findRefund(content.out_request_no, order, world);
  const { alipayVisibleAfterMs, alipayRefundStatus } = world.options;
  const isVisible =
    found !== undefined &&
    found.state !== 'CLOSED' &&
    world.clock.now() - found.createdAt >= alipayVisibleAfterMs;
  if (!isVisible || order === undefined) return node({});
  const statuses = { SUCCESS: 'SUCCESS', PROCESSING: 'PROCESSING', ABNORMAL: 'FAIL', CLOSED: '' };
  return node({
    out_request_no: found.outRefundNo,
    out_trade_no: order.outTradeNo,
    refund_amount: yuan(found.fen),
    ...(alipayRefundStatus ? { refund_status: `REFUND_${statuses[found.state]}` } : {}),
    total_amount: yuan(order.total ?? found.fen),
    trade_no: order.tradeNo,
    refund_reason: found.reason ?? '',
    ...(content.query_options?.includes('gmt_refund_pay') && found.succeededAt !== null
      ? { gmt_refund_pay: beijing(found.succeededAt) }
      : {}),
  });
}

function describeOrder(order: Order, world: World): Content {
  const isAllRefunded = order.total !== null && world.moved(order) === order.total;
  const status = {
    paid: isAllRefunded ? 'TRADE_CLOSED' : 'TRADE_SUCCESS',
    finished: 'TRADE_FINISHED',
    unpaid: 'WAIT_BUYER_PAY',
    closed: 'TRADE_CLOSED',
  }[order.state];
  return node({
    out_trade_no: order.outTradeNo,
    trade_no: order.tradeNo,
    trade_status: status,
    total_amount: yuan(order.total ?? world.moved(order)),
    ...(order.state === 'paid' ? { send_pay_date: beijing(order.paidAt) } : {}),
  });
}

function close(order: Order): Content {
  if (order.state !== 'unpaid') throw new Refusal(200, 'ACQ.TRADE_STATUS_ERROR');
  order.state = 'closed';
  return node({ out_trade_no: order.outTradeNo, trade_no: order.tradeNo });
}
