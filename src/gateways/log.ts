/**
 * GET /payments/:id/gateway: what passed between us and the gateway about one payment, newest first: our requests
 * about its refunds, and the gateway's notifications. Read from the database each time. No body and no signature of
 * a notification is in it; the API's role may not even read them.
 */
import { sql } from 'drizzle-orm';
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize } from '../auth';
import { inDatabase } from '../database';
import { ApiError, type AppEnv, envelope, NO_PARAMETERS, validate } from '../http';
import { json, text } from '../json';
import { IdText, PaymentPath } from '../payments/payment';
import { prepared } from '../prepared';
import { UtcTime, utc } from '../time';
import { explain } from './explanations';

const MAX_SHOWN = 200;

const GatewayRequest = z.object({
  refund_id: IdText,
  refund_no: z.string().describe('退款单号'),
  operation: z.string().describe('send, query, poll, abnormal'),
  attempt: z.int().nonnegative().describe('How often the refund had been sent by then'),
  started_at: UtcTime,
  ended_at: UtcTime,
  http_status: z.int().nullable().describe('null where no answer came'),
  outcome: z.string(),
  code: z.string().nullable().describe("The gateway's code, or ours"),
  explanation: z.string().nullable().describe('What the code means'),
  gateway_request_id: z.string().nullable().describe("The gateway's own name of the request"),
});

const GatewayNotification = z.object({
  event: z.string(),
  refund_id: IdText.nullable().describe('null where it is about the payment'),
  refund_no: z.string().nullable().describe('退款单号'),
  received_at: UtcTime,
  processed_at: UtcTime.nullable().describe('null where the gateway is to bring it again'),
  deliveries: z.int().positive().describe('How often it came'),
  result: z.string().describe('What it did'),
});

/** The newest requests and notifications of a payment, and how many there are in all. */
export const GatewayLog = z.object({
  requests_total: z.int().nonnegative().describe('All requests, shown here or not'),
  requests: z.array(GatewayRequest).max(MAX_SHOWN),
  notifications_total: z.int().nonnegative().describe('All notifications, shown here or not'),
  notifications: z.array(GatewayNotification).max(MAX_SHOWN),
});
type GatewayLog = z.infer<typeof GatewayLog>;

export const getGatewayLog = new Hono<AppEnv>().get(
  '/payments/:id/gateway',
  authorize('payments:read'),
  validate({ param: PaymentPath, query: NO_PARAMETERS }),
  async (c) => {
    const { id } = c.req.valid('param');
    const { rows } = await inDatabase(c, 'gateway_log', (db) =>
      db.execute<{ found: Found }>(logStatement(id)),
    );
    const [row] = rows;
    if (!row) throw new ApiError(40401);
    const log: GatewayLog = {
      ...row.found,
      requests: row.found.requests.map(({ gateway_request_id, ...request }) => ({
        ...request,
        explanation: request.code === null ? null : explain(request.code),
        gateway_request_id,
      })),
    };
    c.get('log').rows = log.requests.length + log.notifications.length;
    return c.json(envelope('获取成功', log));
  },
);

type Found = Omit<GatewayLog, 'requests'> & {
  requests: Omit<GatewayLog['requests'][number], 'explanation'>[];
};

const requestJson = json<ReturnType<typeof GatewayRequest.omit<{ explanation: true }>>>({
  refund_id: text(sql`refund_id`),
  refund_no: sql`refund_no`,
  operation: sql`operation`,
  attempt: sql`attempt`,
  started_at: utc(sql`started_at`),
  ended_at: utc(sql`ended_at`),
  http_status: sql`http_status`,
  outcome: sql`outcome`,
  code: sql`code`,
  gateway_request_id: sql`gateway_request_id`,
});

const notificationJson = json<typeof GatewayNotification>({
  event: sql`event`,
  refund_id: text(sql`refund_id`),
  refund_no: sql`refund_no`,
  received_at: utc(sql`received_at`),
  processed_at: utc(sql`processed_at`),
  deliveries: sql`deliveries`,
  result: sql`result`,
});

/**
 * One statement, and so one snapshot; no row where there is no such payment. A notification that came before its
 * refund was committed has no payment yet, and is found by the number of the refund.
 */
const logStatement = prepared<bigint>((bind) => {
  const id = sql`${bind((paymentId) => paymentId)}::bigint`;
  const limit = sql.raw(String(MAX_SHOWN));
  return sql`
    WITH refund AS (
      SELECT id AS refund_id, refund_no, gateway, out_refund_no
      FROM payment_refunds JOIN gateway_refunds ON refund_id = id
      WHERE payment_id = ${id}
    ), request AS (
      SELECT id, refund_id, refund_no, operation, attempt, started_at, ended_at, http_status, outcome, code, gateway_request_id
      FROM refund JOIN gateway_requests USING (refund_id)
    ), notified AS (
      SELECT id, gateway, out_refund_no, event, received_at, processed_at, deliveries, result
      FROM gateway_notifications WHERE payment_id = ${id}
      UNION ALL
      SELECT id, gateway, out_refund_no, event, received_at, processed_at, deliveries, result
      FROM refund JOIN gateway_notifications USING (gateway, out_refund_no) WHERE payment_id IS NULL
    ), notification AS (
      SELECT * FROM notified LEFT JOIN refund USING (gateway, out_refund_no)
    )
    SELECT json_build_object(
      'requests_total', (SELECT count(*) FROM request),
      'requests', (
        SELECT coalesce(json_agg(${requestJson} ORDER BY started_at DESC, id DESC), '[]')
        FROM (SELECT * FROM request ORDER BY started_at DESC, id DESC LIMIT ${limit}) AS newest
      ),
      'notifications_total', (SELECT count(*) FROM notification),
      'notifications', (
        SELECT coalesce(json_agg(${notificationJson} ORDER BY received_at DESC, id DESC), '[]')
        FROM (SELECT * FROM notification ORDER BY received_at DESC, id DESC LIMIT ${limit}) AS newest
      )
    ) AS found
    FROM payments WHERE id = ${id}`;
});
