/**
 * What an answer of WeChat Pay means for a refund: the only table from HTTP status and code to News. What
 * is in no table is unknown. An error is taken as a hint even where its signature is not verified, because a
 * query decides afterwards; that a refund does not exist, and whatever a 200 says, counts verified only.
 */
import * as z from 'zod';
import type { News } from '../gateway';
import type { Answer } from './client';

/** What was asked of WeChat Pay. */
export type Operation = 'send' | 'query' | 'abnormal';

/** `refund` and `gateway` are blocked, there. */
type Outcome = 'refused' | 'missing' | 'refund' | 'gateway';

/** A fault of our program or of our configuration, whatever was asked. */
const OURS: Record<string, Outcome> = {
  '400 PARAM_ERROR': 'refund',
  '401 SIGN_ERROR': 'gateway',
  '403 NO_AUTH': 'gateway',
  '404 MCH_NOT_EXISTS': 'gateway',
};

/**
 * Status and code together, since one code can come with several statuses. Not here, and so unknown: 429 and
 * 5xx, after which the refund may have been taken.
 */
const ERRORS: Record<Operation, Record<string, Outcome>> = {
  send: {
    ...OURS,
    '400 INVALID_REQUEST': 'refused',
    '403 NOT_ENOUGH': 'refund',
    '403 USER_ACCOUNT_ABNORMAL': 'refused',
    '404 RESOURCE_NOT_EXISTS': 'refused',
  },
  query: { ...OURS, '404 RESOURCE_NOT_EXISTS': 'missing' },
  // Money has left the order: whatever is refused here, the refund must never look as if it could fail.
  abnormal: {
    ...OURS,
    '400 INVALID_REQUEST': 'refund',
    '403 NOT_ENOUGH': 'refund',
    '403 USER_ACCOUNT_ABNORMAL': 'refund',
    '404 RESOURCE_NOT_EXISTS': 'refund',
  },
};

/** The News of an answer. `read` is given the body of a verified 200. */
export function newsOf(operation: Operation, answer: Answer, read: (body: unknown) => News): News {
  if (answer.status === 200) {
    return answer.fault === null ? read(answer.body) : { kind: 'unknown', code: answer.fault };
  }
  const code = codeOf(answer);
  switch (ERRORS[operation][`${answer.status} ${code}`]) {
    case 'refused':
      return { kind: 'refused', code };
    case 'refund':
      return { kind: 'blocked', code, where: 'refund' };
    case 'gateway':
      return { kind: 'blocked', code, where: 'gateway' };
    case 'missing':
      return answer.fault === null
        ? { kind: 'missing', code }
        : { kind: 'unknown', code: answer.fault };
    default:
      return { kind: 'unknown', code };
  }
}

const ErrorBody = z.object({ code: z.string() });

/** The code of an answer that is not 200. Of WeChat Pay's own only what is short and plain, never a text. */
export function codeOf({ status, body }: Answer): string {
  if (status === null) return 'NO_ANSWER';
  if (status >= 300 && status < 400) return 'REDIRECTED';
  const error = ErrorBody.safeParse(body);
  if (!error.success) return `HTTP_${status}`;
  return /^[A-Za-z0-9._-]{1,64}$/.test(error.data.code) ? error.data.code : 'UNREADABLE';
}

/** A number as WeChat Pay or we make them. */
export const Reference = z.string().min(1).max(64);

/** A time as RFC 3339; null for one that is missing or cannot be read, which must not hide the state. */
export const Time = z.iso.datetime({ offset: true }).nullish().catch(null);

/** Fen. */
export const Fen = z.int().nonnegative();

const RefundAnswer = z.object({
  refund_id: Reference,
  out_refund_no: z.string(),
  out_trade_no: z.string(),
  transaction_id: z.string(),
  status: z.string(),
  success_time: Time,
  amount: z.object({ refund: Fen, total: Fen }),
});

/**
 * The News of a refund as WeChat Pay shows it. `isOurs` compares it with the refund that was asked about: a
 * number can belong to a refund of another deployment of the same merchant.
 */
export function refundNews(
  body: unknown,
  isOurs: (refund: z.output<typeof RefundAnswer>) => boolean,
): News {
  const answer = RefundAnswer.safeParse(body);
  if (!answer.success) return { kind: 'unknown', code: 'UNREADABLE' };
  if (!isOurs(answer.data)) return { kind: 'unknown', code: 'MISMATCH' };
  return statusNews(answer.data.status, answer.data.refund_id, answer.data.success_time ?? null);
}

/** The News of a refund's status. WeChat Pay may add a status; until it is known here it counts as PROCESSING. */
export function statusNews(status: string, gatewayRefundNo: string, at: string | null): News {
  switch (status) {
    case 'SUCCESS':
      return { kind: 'succeeded', gatewayRefundNo, at };
    case 'ABNORMAL':
      return { kind: 'abnormal', gatewayRefundNo, code: 'ABNORMAL' };
    case 'CLOSED':
      return { kind: 'closed', gatewayRefundNo, code: 'CLOSED' };
    default:
      return { kind: 'accepted', gatewayRefundNo };
  }
}
