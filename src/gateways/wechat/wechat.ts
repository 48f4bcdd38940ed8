/**
 * WeChat Pay (API v3), for a merchant of its own. It sends a refund, asks about one, completes an abnormal
 * one and reads callbacks. An answer counts only if its signature is verified and it shows the refund that
 * was asked about. What the answers mean is in outcomes.ts.
 */
import * as z from 'zod';
import { describeError, writeLog } from '../../log';
import { toFen } from '../fen';
import type { GatewayKind, GatewayRefund, News, Reply } from '../gateway';
import { completeAbnormal } from './abnormal';
import { readCallback } from './callback';
import { type Answer, call } from './client';
import { type Configuration, configuration } from './configuration';
import { codeOf, newsOf, refundNews } from './outcomes';

const failed = (message: string) => ({
  contentType: 'application/json',
  body: JSON.stringify({ code: 'FAIL', message }),
});

/** WeChat Pay. A minute lies between two refunds of one order. */
export const wechat: GatewayKind = {
  gapSeconds: 60,
  proofSeconds: 60,
  refundDays: 365,
  answers: {
    taken: { status: 204, contentType: null, body: null },
    refused: { status: 401, ...failed('回调未通过校验') },
    tooLarge: { status: 413, ...failed('回调内容过大') },
    again: { status: 503, ...failed('暂时无法处理，请稍后重试') },
  },

  async configure(env) {
    const config = await configuration(env);
    return {
      name: 'wechat',
      account: config.mchid,
      send: (refund, signal) => reply(() => send(config, refund, signal)),
      query: (refund, decisive) => reply(() => query(config, refund, decisive)),
      completeAbnormal: (refund, account) => reply(() => completeAbnormal(config, refund, account)),
      readCallback: (headers, body) => readCallback(config, headers, body, Date.now()),
    };
  },
};

/** What came of an operation. Without an answer nothing was sent. */
interface Result {
  answer: Answer | null;
  news: News;
}

async function reply(operation: () => Promise<Result>): Promise<Reply> {
  try {
    const { answer, news } = await operation();
    return {
      news,
      httpStatus: answer?.status ?? null,
      gatewayRequestId: answer?.requestId ?? null,
    };
  } catch (error) {
    writeLog('error', 'gateway_fault', { gateway: 'wechat', error: describeError(error) });
    return {
      news: { kind: 'unknown', code: 'FAULT' },
      httpStatus: null,
      gatewayRequestId: null,
    };
  }
}

/** POST /v3/refund/domestic/refunds. The same number refunds once, however often it is sent. */
async function send(
  config: Configuration,
  refund: GatewayRefund,
  signal?: AbortSignal,
): Promise<Result> {
  const amount = amountInFen(refund);
  if (!amount) return BAD_AMOUNT;
  const reason = shortReason(refund.reason ?? '');
  const answer = await call(
    config,
    'POST',
    '/v3/refund/domestic/refunds',
    {
      ...(refund.tradeNo === null
        ? { out_trade_no: refund.outTradeNo }
        : { transaction_id: refund.tradeNo }),
      out_refund_no: refund.outRefundNo,
      ...(reason === '' ? {} : { reason }),
      notify_url: config.notifyUrl,
      amount: { ...amount, currency: 'CNY' },
    },
    signal,
  );
  return { answer, news: newsOf('send', answer, (body) => newsOfOurs(body, refund, amount)) };
}

/** GET /v3/refund/domestic/refunds/{out_refund_no}, and the order too before `missing` is believed for good. */
async function query(
  config: Configuration,
  refund: GatewayRefund,
  decisive: boolean,
): Promise<Result> {
  const amount = amountInFen(refund);
  if (!amount) return BAD_AMOUNT;
  const path = `/v3/refund/domestic/refunds/${encodeURIComponent(refund.outRefundNo)}`;
  const answer = await call(config, 'GET', path);
  const news = newsOf('query', answer, (body) => newsOfOurs(body, refund, amount));
  if (news.kind !== 'missing' || !decisive) return { answer, news };

  // "No such refund" has been reported for a refund whose money had arrived.
  const order = await call(config, 'GET', orderPath(config, refund));
  const doubt = doubtFromOrder(config, order, refund);
  return doubt ? { answer: order, news: doubt } : { answer, news };
}

const BAD_AMOUNT: Result = {
  answer: null,
  news: { kind: 'blocked', code: 'AMOUNT', where: 'refund' },
};

/** Null where an amount is not one that can be sent. `total` is the order's original total. */
function amountInFen({ amount, total }: GatewayRefund): { refund: number; total: number } | null {
  try {
    return { refund: toFen(amount), total: toFen(total) };
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function newsOfOurs(
  body: unknown,
  { outRefundNo, outTradeNo, tradeNo }: GatewayRefund,
  amount: { refund: number; total: number },
): News {
  return refundNews(
    body,
    (found) =>
      found.out_refund_no === outRefundNo &&
      // The number that the refund is sent with.
      (tradeNo === null ? found.out_trade_no === outTradeNo : found.transaction_id === tradeNo) &&
      // Not payer_refund, which is lower where the payer had a coupon.
      found.amount.refund === amount.refund &&
      found.amount.total === amount.total,
  );
}

const REASON_BYTES = 80;

/** WeChat Pay takes 80 bytes, of characters of one to three bytes only. */
function shortReason(reason: string): string {
  const encoder = new TextEncoder();
  let short = '';
  let bytes = 0;
  for (const character of reason.replace(/[\u{10000}-\u{10ffff}\p{Surrogate}]/gu, '')) {
    bytes += encoder.encode(character).length;
    if (bytes > REASON_BYTES) break;
    short += character;
  }
  return short.trim();
}

function orderPath({ mchid }: Configuration, { outTradeNo, tradeNo }: GatewayRefund): string {
  const order =
    tradeNo === null
      ? `out-trade-no/${encodeURIComponent(outTradeNo)}`
      : `id/${encodeURIComponent(tradeNo)}`;
  return `/v3/pay/transactions/${order}?mchid=${mchid}`;
}

const OrderAnswer = z.object({
  mchid: z.string(),
  out_trade_no: z.string(),
  // An order that is not paid has none.
  transaction_id: z.string().optional(),
  trade_state: z.string(),
});

const STATES_WITHOUT_REFUND = ['SUCCESS', 'NOTPAY', 'CLOSED', 'REVOKED', 'USERPAYING', 'PAYERROR'];

/** What keeps the order from confirming that there was no refund; null where it confirms it. */
function doubtFromOrder(
  { mchid }: Configuration,
  order: Answer,
  { outTradeNo, tradeNo }: GatewayRefund,
): News | null {
  if (order.status !== 200) {
    const code = codeOf(order);
    const missing =
      order.status === 404 && ['RESOURCE_NOT_EXISTS', 'ORDER_NOT_EXIST'].includes(code);
    if (missing && order.fault === null) return null;
    return { kind: 'unknown', code: missing ? (order.fault ?? code) : code };
  }
  if (order.fault !== null) return { kind: 'unknown', code: order.fault };
  const answer = OrderAnswer.safeParse(order.body);
  if (!answer.success) return { kind: 'unknown', code: 'UNREADABLE' };
  const found = answer.data;
  const same =
    tradeNo === null ? found.out_trade_no === outTradeNo : found.transaction_id === tradeNo;
  if (!same || found.mchid !== mchid) return { kind: 'unknown', code: 'MISMATCH' };
  if (found.trade_state === 'REFUND') {
    return { kind: 'blocked', code: 'ORDER_SAYS_REFUNDED', where: 'refund' };
  }
  if (!STATES_WITHOUT_REFUND.includes(found.trade_state)) {
    return { kind: 'unknown', code: 'ORDER_STATE' };
  }
  return null;
}
