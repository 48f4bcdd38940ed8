/**
 * Refunds whose outcome this tab does not know, by payment. Each is kept until an answer is final. So after a reload,
 * or with a new session, the same key is sent again, and no second refund is made.
 */

const KEY = 'console-refund-';

/** What was sent, as it was sent. */
export interface Attempt {
  /** Whose wish it was: nobody else may carry it out. */
  actor: string;
  /** The Idempotency-Key. */
  key: string;
  amount: string;
  reason: string;
  /** What the dialogue showed as left: a refund is only made if that is true. */
  refundable_amount: string;
}

/** Before it is sent. */
export function keepAttempt(paymentId: string, attempt: Attempt): void {
  try {
    sessionStorage.setItem(KEY + paymentId, JSON.stringify(attempt));
  } catch {
    // Without storage a reload forgets it. The refundable amount that is sent still guards the money.
  }
}

/** When the answer is final. */
export function forgetAttempt(paymentId: string): void {
  sessionStorage.removeItem(KEY + paymentId);
}

/** The one of this payment and this actor, if there is any. */
export function attemptOf(paymentId: string, actor: string): Attempt | undefined {
  try {
    const value: unknown = JSON.parse(sessionStorage.getItem(KEY + paymentId) ?? 'null');
    return isAttempt(value) && value.actor === actor ? value : undefined;
  } catch {
    return undefined;
  }
}

function isAttempt(value: unknown): value is Attempt {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['actor', 'key', 'amount', 'reason', 'refundable_amount'].every(
      (field) => typeof Reflect.get(value, field) === 'string',
    )
  );
}
