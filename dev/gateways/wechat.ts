/**
 * WeChat Pay API v3 as a merchant sees it: refunds, their queries and apply-abnormal-refund, order
 * queries and closing. Signatures are made and verified by wechatpay-axios-plugin, never by our code.
 */

import { Formatter, Rsa } from 'wechatpay-axios-plugin';
import { z } from 'zod';
import type { Operation, Order, Refund } from './contract.ts';
import {
  type Call,
  type Content,
  type Driver,
  type GatewayRequest,
  type Outcome,
  Refusal,
} from './driver.ts';
import type { PlatformKey, SimulatorKeys } from './keys.ts';
import { answerKey, describe, describeOrder, platformKeys, seal } from './wechat-answers.ts';
import type { World } from './world.ts';

type Keys = SimulatorKeys['wechat'];

const DAY_MS = 86_400_000;
const MAX_SKEW_SECONDS = 300;
const GAP_MS = 60_000;
const MAX_REFUNDS = 50;
const REFUND_DAYS = 365;

const ROUTES: [string, RegExp, Operation][] = [
  ['POST', /^\/v3\/refund\/domestic\/refunds$/, 'refund'],
  ['GET', /^\/v3\/refund\/domestic\/refunds\/([^/]+)$/, 'query'],
  ['POST', /^\/v3\/refund\/domestic\/refunds\/([^/]+)\/apply-abnormal-refund$/, 'abnormal'],
  ['GET', /^\/v3\/pay\/transactions\/(?:out-trade-no|id)\/([^/]+)$/, 'order'],
  ['POST', /^\/v3\/pay\/transactions\/out-trade-no\/([^/]+)\/close$/, 'close'],
];

const OutRefundNo = z.string().regex(/^[0-9A-Za-z_\-|*@]{1,64}$/);
const RefundBody = z
  .strictObject({
    transaction_id: z.string().min(1).max(32).optional(),
    out_trade_no: z
      .string()
      .regex(/^[0-9A-Za-z_\-|*]{6,32}$/)
      .optional(),
    out_refund_no: OutRefundNo,
    reason: z
      .string()
      .refine((reason) => Buffer.byteLength(reason) <= 80)
      // No character of four bytes is supported.
      .refine((reason) => !/[\u{10000}-\u{10ffff}]/u.test(reason))
      .optional(),
    notify_url: z
      .url({ protocol: /^https?$/ })
      .max(256)
      .refine((url) => !url.includes('?'))
      .optional(),
    funds_account: z.enum(['AVAILABLE', 'UNSETTLED']).optional(),
    amount: z.strictObject({
      refund: z.int().min(1),
      total: z.int().min(1),
      currency: z.literal('CNY'),
      from: z
        .array(
          z.strictObject({ account: z.enum(['AVAILABLE', 'UNAVAILABLE']), amount: z.int().min(1) }),
        )
        .optional(),
    }),
  })
  .refine((body) => (body.transaction_id === undefined) !== (body.out_trade_no === undefined))
  .refine(({ amount: { from = [], refund } }) => {
    return from.length === 0 || from.reduce((sum, { amount }) => sum + amount, 0) === refund;
  });
type RefundBody = z.infer<typeof RefundBody>;

const AbnormalBody = z.strictObject({
  out_refund_no: OutRefundNo,
  type: z.enum(['USER_BANK_CARD', 'MERCHANT_BANK_CARD']),
  bank_type: z.string().max(16).optional(),
  bank_account: z.string().max(1024).optional(),
  real_name: z.string().max(1024).optional(),
});

export function wechatDriver(keys: Keys): Driver {
  return {
    gateway: 'wechat',
    operationOf: (request) => findRoute(request)?.operation ?? null,
    read(request, world) {
      verify(request, world, keys);
      return readCall(request, keys);
    },
    error: (status, code) => ({ status, value: { code, message: `simulated ${code}` } }),
    seal: (content, request, world, spoil) => seal(content, request, world, spoil, keys),
  };
}

function findRoute({ method, path }: GatewayRequest) {
  const pathname = path.split('?')[0] ?? '';
  for (const [verb, pattern, operation] of ROUTES) {
    const match = verb === method ? pattern.exec(pathname) : null;
    if (match !== null) return { operation, name: decodeURIComponent(match[1] ?? '') };
  }
  return undefined;
}

const AUTHORIZATION = /^WECHATPAY2-SHA256-RSA2048 ((?:[a-z_]+="[^"]*",?)+)$/;

function verify(request: GatewayRequest, world: World, keys: Keys): void {
  const { method, path, headers, body } = request;
  if (!headers['user-agent'] || !headers.accept?.includes('application/json')) {
    throw new Refusal(400, 'PARAM_ERROR', { rejected: true });
  }
  const list = AUTHORIZATION.exec(headers.authorization ?? '')?.[1] ?? '';
  const fields = new Map(
    [...list.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, name = '', value = '']) => [name, value]),
  );
  const [mchid, serial, timestamp, nonce, signature] = [
    ...['mchid', 'serial_no', 'timestamp', 'nonce_str', 'signature'],
  ].map((name) => fields.get(name) ?? '');
  const isFresh =
    /^\d{10}$/.test(timestamp ?? '') &&
    Math.abs(world.signingTime() / 1_000 - Number(timestamp)) <= MAX_SKEW_SECONDS;
  const text = Formatter.request(method, path, timestamp ?? '', nonce ?? '', body);
  const isSigned =
    mchid === keys.mchid &&
    serial === keys.merchantSerial &&
    isFresh &&
    /^.{16,32}$/.test(nonce ?? '') &&
    Rsa.verify(text, signature ?? '', keys.merchantPublicKey);
  if (!isSigned) throw new Refusal(401, 'SIGN_ERROR', { rejected: true });
  if (method === 'POST' && !headers['content-type']?.startsWith('application/json')) {
    throw new Refusal(400, 'PARAM_ERROR', { rejected: true });
  }
  const wanted = headers['wechatpay-serial'];
  if (wanted !== undefined && !platformKeys(keys).some(({ serial: own }) => own === wanted)) {
    throw new Refusal(400, 'PARAM_ERROR', { rejected: true });
  }
}

function readCall(request: GatewayRequest, keys: Keys): Call {
  const route = findRoute(request);
  if (route === undefined) throw new Refusal(404, 'RESOURCE_NOT_EXISTS', { rejected: true });
  const { operation, name } = route;
  const query = new URLSearchParams(request.path.split('?')[1]);
  const isById = request.path.startsWith('/v3/pay/transactions/id/');
  const order = isById ? { tradeNo: name } : { outTradeNo: name };
  switch (operation) {
    case 'refund': {
      const body = parse(RefundBody, request.body);
      return {
        operation,
        outRefundNo: body.out_refund_no,
        order: { outTradeNo: body.out_trade_no, tradeNo: body.transaction_id },
        total: body.amount.total,
        execute: (world, outcome) => refund(body, world, outcome),
      };
    }
    case 'query':
      if (request.path.includes('?')) throw new Refusal(400, 'PARAM_ERROR');
      return {
        operation,
        outRefundNo: name,
        order: {},
        total: null,
        execute: (world) => describe(findVisible(name, world), world),
      };
    case 'abnormal': {
      const body = parse(AbnormalBody, request.body);
      return {
        operation,
        outRefundNo: body.out_refund_no,
        order: {},
        total: null,
        execute: (world) => applyAbnormal(name, body, world, answerKey(request, keys)),
      };
    }
    case 'order':
      if (query.get('mchid') !== keys.mchid) throw new Refusal(400, 'PARAM_ERROR');
      return {
        operation,
        outRefundNo: null,
        order,
        total: null,
        execute: (world) => describeOrder(find(order, world, 'ORDER_NOT_EXIST'), world, keys),
      };
    case 'close': {
      const { mchid } = parse(z.strictObject({ mchid: z.string() }), request.body);
      if (mchid !== keys.mchid) throw new Refusal(400, 'PARAM_ERROR');
      return {
        operation,
        outRefundNo: null,
        order,
        total: null,
        execute: (world) => close(order, world),
      };
    }
  }
}

function parse<T>(schema: z.ZodType<T>, text: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    throw new Refusal(400, 'PARAM_ERROR');
  }
}

function find(names: Call['order'], world: World, code: string): Order {
  const order = world.findOrder('wechat', names);
  if (order === undefined) throw new Refusal(404, code);
  return order;
}

function refund(body: RefundBody, world: World, outcome: Outcome): Content {
  const now = world.clock.now();
  const { failingPerSecond, wechatGap, settle } = world.options;
  world.failures = world.failures.filter((at) => now - at < 1_000);
  if (failingPerSecond !== null && world.failures.length >= failingPerSecond) {
    throw new Refusal(429, 'FREQUENCY_LIMITED');
  }
  try {
    const { amount, out_refund_no: outRefundNo } = body;
    const names = { outTradeNo: body.out_trade_no, tradeNo: body.transaction_id };
    const order = find(names, world, 'RESOURCE_NOT_EXISTS');
    const wait = (at: number | null) => at !== null && now - at < GAP_MS;
    if (wechatGap === 'requests' && wait(order.askedAt)) {
      throw new Refusal(429, 'FREQUENCY_LIMITED');
    }
    order.askedAt = now;

    const known = findRefund(outRefundNo, world);
    if (known !== undefined) {
      known.sent += 1;
      const isSame =
        known.tradeNo === order.tradeNo &&
        known.fen === amount.refund &&
        order.total === amount.total &&
        known.reason === (body.reason ?? null);
      if (!isSame) throw new Refusal(400, 'INVALID_REQUEST');
      return describe(known, world);
    }
    if (order.state !== 'paid') throw new Refusal(404, 'RESOURCE_NOT_EXISTS');
    const isRefused =
      order.total !== amount.total ||
      amount.refund > world.left(order) ||
      now - order.paidAt > REFUND_DAYS * DAY_MS ||
      world.refundsOf(order).length >= MAX_REFUNDS ||
      (wechatGap !== 'off' && wait(order.refundedAt));
    if (isRefused) throw new Refusal(400, 'INVALID_REQUEST');
    if (!order.payerReachable) throw new Refusal(403, 'USER_ACCOUNT_ABNORMAL');
    if (!world.canPay('wechat', outRefundNo, amount.refund)) throw new Refusal(403, 'NOT_ENOUGH');

    const added = world.addRefund(
      order,
      {
        outRefundNo,
        fen: amount.refund,
        reason: body.reason ?? null,
        notifyUrl: body.notify_url ?? null,
      },
      outcome === null ? settle : { outcome: outcome.outcome, afterMs: outcome.afterMs ?? 0 },
    );
    return describe(added, world);
  } catch (error) {
    if (error instanceof Refusal && error.status !== 429) world.failures.push(now);
    throw error;
  }
}

function findRefund(outRefundNo: string, world: World): Refund | undefined {
  return world.refunds.find((one) => one.gateway === 'wechat' && one.outRefundNo === outRefundNo);
}

function findVisible(outRefundNo: string, world: World): Refund {
  const found = findRefund(outRefundNo, world);
  const { wechatVisibleAfterMs } = world.options;
  if (found === undefined || world.clock.now() - found.createdAt < wechatVisibleAfterMs) {
    throw new Refusal(404, 'RESOURCE_NOT_EXISTS');
  }
  return found;
}

function applyAbnormal(
  refundId: string,
  body: z.infer<typeof AbnormalBody>,
  world: World,
  key: PlatformKey,
): Content {
  const found = findRefund(body.out_refund_no, world);
  if (found?.refundId !== refundId) throw new Refusal(404, 'RESOURCE_NOT_EXISTS');
  const { type, bank_type, bank_account, real_name } = body;
  const isToUser = type === 'USER_BANK_CARD';
  for (const field of [bank_type, bank_account, real_name]) {
    if ((field !== undefined) !== isToUser) throw new Refusal(400, 'PARAM_ERROR');
  }
  if (found.state !== 'ABNORMAL') throw new Refusal(400, 'INVALID_REQUEST');
  const decrypt = (text: string | undefined) => {
    try {
      return text === undefined ? null : Rsa.decrypt(text, key.privateKey);
    } catch {
      throw new Refusal(400, 'PARAM_ERROR');
    }
  };
  found.payout = { type, bankAccount: decrypt(bank_account), realName: decrypt(real_name) };
  world.settle(found, 'PROCESSING');
  world.settleLater(found, 'SUCCESS', world.options.settle.afterMs);
  return describe(found, world);
}

function close(names: Call['order'], world: World): Content {
  const order = find(names, world, 'ORDER_NOT_EXIST');
  if (order.state === 'paid') throw new Refusal(400, 'ORDER_PAID');
  order.state = 'closed';
  return { status: 204, value: null };
}
