/** What `npm run dev` says at the end: where everything is, and what to type next. */
import { neon, neonConfig } from '@neondatabase/serverless';

export interface Banner {
  /** Of the API, without a slash at its end. */
  url: string;
  /** The console, signed in. */
  consoleUrl: string;
  /** What was started, one line each. */
  facts: string[];
  /** Sent with every request, such as `Authorization: Bearer …`. */
  headers: string[];
  /** A payment of each method that can still be refunded, if the database has one. */
  payments: Partial<Record<string, string>>;
  /** Of the simulated gateways, without a slash at its end. Absent: refunds are settled by hand. */
  simulatorUrl?: string;
}

/**
 * By method, the id of the newest payment of which at least one yuan can still be refunded. Asked in the way of
 * the API, over HTTP; throws what the driver throws.
 */
export async function findRefundablePayments(
  databaseUrl: string,
  endpoint: string | undefined,
): Promise<Banner['payments']> {
  if (endpoint !== undefined) neonConfig.fetchEndpoint = endpoint;
  const rows = await neon(databaseUrl)`
    SELECT DISTINCT ON (payment_method) payment_method AS method, payments.id::text FROM payments
    WHERE status = 1 AND coalesce(payment_time, created_at) > now() - interval '300 days' AND amount - 1 >= (
      SELECT coalesce(sum(amount), 0) FROM payment_refunds
      WHERE payment_id = payments.id AND payment_refunds.status <> 2)
    ORDER BY payment_method, payments.id DESC`;
  return Object.fromEntries(rows.map(({ method, id }) => [String(method), String(id)]));
}

/** What to type, with comments. */
export function formatBanner({
  url,
  consoleUrl,
  facts,
  headers,
  payments,
  simulatorUrl,
}: Banner): string {
  const curl = (path: string, ...options: string[]) =>
    ['curl', `'${url}${path}'`, ...headers.map((header) => `-H '${header}'`), ...options].join(' ');
  const refund = (paymentId: string) =>
    `  ${curl(
      `/payments/${paymentId}/refund`,
      "-H 'Content-Type: application/json'",
      "-H 'Idempotency-Key: try-1'",
      `-d '{"amount": "1.00", "reason": "试退一元"}'`,
    )}`;
  const first = payments.wechat ?? payments.alipay ?? payments.bank ?? '1';
  const other = first === payments.alipay ? undefined : payments.alipay;
  return [
    '',
    ...facts,
    '',
    'The console, signed in. Open it in a browser:',
    `  ${consoleUrl}`,
    '',
    'The latest payments:',
    `  ${curl('/payments?size=3')}`,
    'One of them:',
    `  ${curl(`/payments/${first}`)}`,
    'Refund one yuan of it. Sent again, it finds the first refund and makes no second one:',
    refund(first),
    ...(other === undefined ? [] : ['The same by Alipay:', refund(other)]),
    ...(simulatorUrl === undefined ? [] : simulatorHints(simulatorUrl)),
    '',
    'Ctrl-C stops everything.',
    '',
  ].join('\n');
}

function simulatorHints(simulatorUrl: string): string[] {
  return [
    '',
    'WeChat Pay and Alipay are simulated: a refund is 处理中, and 成功 within seconds. Look at the payment again.',
    'Before a refund, say what is to become of it: ABNORMAL, CLOSED (fails), HANG, DROP (its answer is lost),',
    'SYSTEM_ERROR or NOT_ENOUGH:',
    `  curl -X PUT '${simulatorUrl}/next' -d ABNORMAL`,
    'Money for NOT_ENOUGH, and what the gateways have in their books:',
    `  curl -X PUT '${simulatorUrl}/topup'`,
    `  curl '${simulatorUrl}/control'`,
  ];
}
