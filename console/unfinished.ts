/**
 * Refunds whose outcome this tab does not know, by payment. They are kept until an answer is final, so that a
 * reload, or a session that has to be renewed, asks with the same key and makes no second refund.
 */

const KEY = 'console-refund-';

/** What was sent, as it was sent. */
export interface Attempt {
  /** The Idempotency-Key. */
  key: string;
  amount: string;
  reason: string;
  /** What the dialogue showed as left: a refund is only made if that is true. */
  refundable_amount: string;
}

/** Before it is sent. */
export function keepAttempt(paymentId: string, attempt: Attempt): void {
  sessionStorage.setItem(KEY + paymentId, JSON.stringify(attempt));
}

/** When the answer is final. */
export function forgetAttempt(paymentId: string): void {
  sessionStorage.removeItem(KEY + paymentId);
}

/** The one of this payment, if there is any. */
export function attemptOf(paymentId: string): Attempt | undefined {
  try {
    const value: unknown = JSON.parse(sessionStorage.getItem(KEY + paymentId) ?? 'null');
    return isAttempt(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isAttempt(value: unknown): value is Attempt {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['key', 'amount', 'reason', 'refundable_amount'].every(
      (field) => typeof Reflect.get(value, field) === 'string',
    )
  );
}
