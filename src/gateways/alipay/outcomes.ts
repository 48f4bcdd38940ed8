/**
 * The one table from an answer of Alipay to News. What is not in it, or does not verify, is `unknown`:
 * the money may be on its way. Of the answer's texts only codes go on: sub_msg can repeat everything
 * that we signed.
 * Codes: https://opendocs.alipay.com/common/02km9f, AlipayTradeRefundErrorResponseModel.java of
 * alipay/alipay-sdk-java-all
 */
import * as z from 'zod';
import type { GatewayRefund, News } from '../gateway';
import type { Answer } from './messages';
import { fromBeijing, toCode, toTwoDecimals } from './values';

/** Alipay leaves a field out, or sends it empty. */
const text = z
  .string()
  .nullish()
  .transform((value) => value || undefined);

const Result = z.object({ code: z.string(), sub_code: text });
type Result = z.output<typeof Result>;

const RefundResult = Result.extend({ fund_change: text, trade_no: text, out_trade_no: text });

const QueryResult = Result.extend({
  refund_status: text,
  refund_amount: text,
  out_request_no: text,
  gmt_refund_pay: text,
  trade_no: text,
  out_trade_no: text,
});
type QueryResult = z.output<typeof QueryResult>;

const SUCCESS = '10000';
const BUSINESS_FAILED = '40004';

/** Missing or wrong parameters, missing rights: keys or configuration. Nothing was executed. */
const CONFIGURATION = ['40001', '40002', '40003', '40006'];

/** What a refused request comes to, by its sub_code. */
type Verdict = 'unknown' | 'later' | 'refused' | 'blocked' | 'known';

/** The sub_codes of 40004, by their last part: `aop.ACQ.SYSTEM_ERROR` has been seen as well. */
const VERDICTS = new Map<string, Verdict>([
  ['SYSTEM_ERROR', 'unknown'],
  ['REFUND_CHARGE_ERROR', 'later'],
  // The number is known with another amount. The first one may have moved money.
  ['DISCORDANT_REPEAT_REQUEST', 'known'],
  ['SELLER_BALANCE_NOT_ENOUGH', 'blocked'],
  // A fault of this program.
  ['INVALID_PARAMETER', 'blocked'],
  ['TRADE_NOT_EXIST', 'refused'],
  ['TRADE_HAS_FINISHED', 'refused'],
  ['TRADE_STATUS_ERROR', 'refused'],
  ['TRADE_NOT_ALLOW_REFUND', 'refused'],
  ['TRADE_HAS_CLOSE', 'refused'],
  // More than is left, or only the whole can be refunded.
  ['REFUND_AMT_NOT_EQUAL_TOTAL', 'refused'],
  ['REASON_TRADE_REFUND_FEE_ERR', 'refused'],
  ['REASON_TRADE_BEEN_FREEZEN', 'refused'],
  ['NOT_ALLOW_PARTIAL_REFUND', 'refused'],
]);

/** What the answer to alipay.trade.refund says. */
export function newsOfRefund(answer: Answer, refund: GatewayRefund): News {
  const result = resultOf(answer, RefundResult);
  if ('kind' in result) return result;
  if (result.code !== SUCCESS) return newsOfFailure(result);

  if (!isOurTrade(result, refund)) return unknown('MISMATCH');
  // refund_fee is the sum of all refunds of the trade, so it says nothing about this one.
  if (result.fund_change === 'Y') return { kind: 'succeeded', gatewayRefundNo: null, at: null };
  return unknown('FUND_CHANGE_N');
}

/** What the answer to alipay.trade.fastpay.refund.query says. */
export function newsOfQuery(answer: Answer, refund: GatewayRefund): News {
  const result = resultOf(answer, QueryResult);
  if ('kind' in result) return result;
  if (result.code !== SUCCESS) return newsOfFailedQuery(result);

  if (!isOurRefund(result, refund)) return unknown('MISMATCH');
  switch (result.refund_status) {
    case 'REFUND_SUCCESS':
      return { kind: 'succeeded', gatewayRefundNo: null, at: fromBeijing(result.gmt_refund_pay) };
    case 'REFUND_PROCESSING':
      return { kind: 'accepted', gatewayRefundNo: null };
    case 'REFUND_FAIL':
      return { kind: 'abnormal', gatewayRefundNo: null, code: 'REFUND_FAIL' };
    case undefined:
      break;
    default:
      return unknown(toCode(result.refund_status));
  }
  // Finished refunds have been seen without their status, so only an answer with nothing of the
  // refund in it says that there is none.
  const { refund_amount, out_request_no, gmt_refund_pay } = result;
  return refund_amount || out_request_no || gmt_refund_pay
    ? { kind: 'blocked', code: 'REFUND_STATUS_ABSENT', where: 'refund' }
    : { kind: 'missing', code: 'NOTHING_FOUND' };
}

/** The fields of a verified answer, or the News of one that proves nothing. */
function resultOf<T extends Result>(answer: Answer, schema: z.ZodType<T>): T | News {
  if (answer.kind === 'unusable') return unknown(answer.fault);
  if (answer.kind === 'unsigned') return newsOfUnsigned(answer.content);
  const { data } = schema.safeParse(answer.content);
  if (!data || (answer.isError && data.code === SUCCESS)) return unknown('UNREADABLE');
  return data;
}

/**
 * Without our right keys Alipay cannot sign for us. To believe such a refusal is harmless: the gateway
 * is paused and nothing fails. Anything else without a signature is not believed.
 */
function newsOfUnsigned(content: unknown): News {
  const { data } = Result.safeParse(content);
  return data && CONFIGURATION.includes(data.code) ? newsOfFailure(data) : unknown('UNSIGNED');
}

function newsOfFailure(result: Result): News {
  const code = toCode(result.sub_code ?? result.code);
  if (CONFIGURATION.includes(result.code)) return { kind: 'blocked', code, where: 'gateway' };
  // Called too often, and not executed.
  if (result.code === '40005') return { kind: 'later', code };

  switch (verdictOf(result)) {
    case 'known':
      return { kind: 'blocked', code, where: 'refund', askOnly: true };
    case 'blocked':
      return { kind: 'blocked', code, where: 'refund' };
    case 'refused':
      return { kind: 'refused', code };
    case 'later':
      return { kind: 'later', code };
    case 'unknown':
      return unknown(code);
  }
}

/** A query is never refused for good: the refund may be there all the same. */
function newsOfFailedQuery(result: Result): News {
  const news = newsOfFailure(result);
  if (news.kind !== 'refused') return news;
  return lastPart(result) === 'TRADE_NOT_EXIST'
    ? { kind: 'missing', code: news.code }
    : unknown(news.code);
}

function verdictOf(result: Result): Verdict {
  if (result.code !== BUSINESS_FAILED) return 'unknown';
  const name = lastPart(result);
  if (/^BUYER_[A-Z_]+$/.test(name)) return 'refused';
  return VERDICTS.get(name) ?? 'unknown';
}

function lastPart({ sub_code = '' }: Result): string {
  return sub_code.slice(sub_code.lastIndexOf('.') + 1);
}

function isOurTrade(
  { trade_no, out_trade_no }: { trade_no: string | undefined; out_trade_no: string | undefined },
  refund: GatewayRefund,
): boolean {
  return (
    (!out_trade_no || out_trade_no === refund.outTradeNo) &&
    (!trade_no || !refund.tradeNo || trade_no === refund.tradeNo)
  );
}

function isOurRefund(result: QueryResult, refund: GatewayRefund): boolean {
  const { out_request_no, refund_amount } = result;
  return (
    isOurTrade(result, refund) &&
    (!out_request_no || out_request_no === refund.outRefundNo) &&
    (!refund_amount || toTwoDecimals(refund_amount) === toTwoDecimals(refund.amount))
  );
}

function unknown(code: string): News {
  return { kind: 'unknown', code };
}
