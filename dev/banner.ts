/** What `npm run dev` says at the end: where everything is, and what to type next. */
import { neon, neonConfig } from '@neondatabase/serverless';

export interface Banner {
  /** Of the API, without a slash at its end. */
  url: string;
  /** What was started, one line each. */
  facts: string[];
  /** Sent with every request, such as `Authorization: Bearer …`. */
  headers: string[];
  /** A payment that can still be refunded, if the database has one. */
  paymentId?: string;
}

/**
 * The id of the newest payment of which at least one yuan can still be refunded; undefined where there
 * is none. Asked in the way of the API, over HTTP; throws what the driver throws.
 */
export async function findRefundablePayment(
  databaseUrl: string,
  endpoint: string | undefined,
): Promise<string | undefined> {
  if (endpoint !== undefined) neonConfig.fetchEndpoint = endpoint;
  const rows = await neon(databaseUrl)`
    SELECT id::text FROM payments
    WHERE status = 1 AND amount - 1 >= (
      SELECT coalesce(sum(amount), 0) FROM payment_refunds
      WHERE payment_id = payments.id AND payment_refunds.status <> 2)
    ORDER BY payments.id DESC LIMIT 1`;
  const id: unknown = rows[0]?.id;
  return typeof id === 'string' ? id : undefined;
}

export function formatBanner({ url, facts, headers, paymentId = '1' }: Banner): string {
  const curl = (path: string, ...options: string[]) =>
    ['curl', `'${url}${path}'`, ...headers.map((header) => `-H '${header}'`), ...options].join(' ');
  return [
    '',
    ...facts,
    '',
    'The latest payments:',
    `  ${curl('/payments?size=3')}`,
    'One of them:',
    `  ${curl(`/payments/${paymentId}`)}`,
    'Refund one yuan of it. Sent again, it finds the first refund and makes no second one:',
    `  ${curl(
      `/payments/${paymentId}/refund`,
      "-H 'Content-Type: application/json'",
      "-H 'Idempotency-Key: try-1'",
      `-d '{"amount": "1.00", "reason": "试退一元"}'`,
    )}`,
    '',
    'Ctrl-C stops everything.',
    '',
  ].join('\n');
}
