/**
 * Alipay, by its v2 protocol (gateway.do): sends a refund, asks about one and reads a notification.
 * The amounts are yuan. A repeat has the same parameters to the letter, but for time and signature.
 * Nothing here logs: requests and answers hold signed texts and a payer's data.
 */
import type { Gateway, GatewayKind, GatewayRefund, News, Reply } from '../gateway';
import { readNotification } from './callback';
import { type AlipayAccount, readConfiguration } from './configuration';
import { type Answer, readAnswer, signedForm } from './messages';
import { newsOfQuery, newsOfRefund } from './outcomes';
import { toCode } from './values';

const TIMEOUT_MS = 10_000;

/** What refund_reason may hold, in UTF-16 code units, the smallest of what "characters" could mean. */
const MAX_REASON_LENGTH = 256;

const TEXT = 'text/plain';

/** Alipay. Its query needs a verified answer of the same account; nothing else can show that money moved. */
export const alipay: GatewayKind = {
  gapSeconds: 3,
  proofSeconds: 60,
  // The contract says how long, up to 12 months. Alipay refuses what is too late.
  refundDays: 365,
  // Alipay repeats a notification until it reads exactly `success`.
  answers: {
    taken: { status: 200, contentType: TEXT, body: 'success' },
    refused: { status: 400, contentType: TEXT, body: 'fail' },
    tooLarge: { status: 413, contentType: TEXT, body: 'fail' },
    again: { status: 503, contentType: TEXT, body: 'fail' },
  },

  async configure(env): Promise<Gateway> {
    const account = await readConfiguration(env);
    return {
      name: 'alipay',
      account: `${account.appId}/${account.sellerId}`,

      send(refund, signal) {
        const content = {
          ...tradeOf(refund),
          refund_amount: refund.amount,
          out_request_no: refund.outRefundNo,
          ...(refund.reason !== null && { refund_reason: cut(refund.reason) }),
        };
        return call(
          account,
          'alipay.trade.refund',
          content,
          (answer) => newsOfRefund(answer, refund),
          signal,
        );
      },

      query(refund) {
        const content = {
          ...tradeOf(refund),
          out_request_no: refund.outRefundNo,
          query_options: ['gmt_refund_pay'],
        };
        return call(account, 'alipay.trade.fastpay.refund.query', content, (answer) =>
          newsOfQuery(answer, refund),
        );
      },

      readCallback: (_headers, body) => readNotification(account, body),
    };
  },
};

/** Alipay's own number wins where both are sent, so only one is. */
function tradeOf({ tradeNo, outTradeNo }: GatewayRefund): Record<string, string> {
  return tradeNo === null ? { out_trade_no: outTradeNo } : { trade_no: tradeNo };
}

/** Cuts at a code point: half of a surrogate pair is no text. */
function cut(reason: string): string {
  return reason.slice(0, MAX_REASON_LENGTH).replace(/[\ud800-\udbff]$/, '');
}

/** One request, which is not sent after `signal`. Never throws: what went wrong on the way may have gone wrong after the money moved. */
async function call(
  account: AlipayAccount,
  method: string,
  content: object,
  newsOf: (answer: Answer) => News,
  signal?: AbortSignal,
): Promise<Reply> {
  const reply: Omit<Reply, 'news'> = { httpStatus: null, gatewayRequestId: null };
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const response = await fetch(account.url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded;charset=utf-8' },
      body: await signedForm(account, method, JSON.stringify(content), new Date()),
      // To follow a redirect would carry the signed request to another address.
      redirect: 'manual',
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    reply.httpStatus = response.status;
    const trace = response.headers.get('trace_id');
    reply.gatewayRequestId = trace ? toCode(trace) : null;
    if (response.status !== 200) {
      await response.body?.cancel();
      return { ...reply, news: { kind: 'unknown', code: `HTTP_${response.status}` } };
    }
    const body = new Uint8Array(await response.arrayBuffer());
    const answer = await readAnswer(account, method, response.headers.get('content-type'), body);
    return { ...reply, news: newsOf(answer) };
  } catch (error) {
    const timedOut = error instanceof Error && error.name === 'TimeoutError';
    return { ...reply, news: { kind: 'unknown', code: timedOut ? 'TIMEOUT' : 'NO_ANSWER' } };
  }
}
