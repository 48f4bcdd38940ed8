/**
 * GET /openapi.json: the contract of the API as OpenAPI 3.1. Requests and answers are described by
 * the schemas that validate the ones and type the others; what no schema knows stands here: which
 * errors an operation has, its headers, its examples. Made when it is first asked for.
 */
import { Hono } from 'hono';
import * as z from 'zod';
import type { Scope } from './auth';
import { Attention, AttentionQuery } from './gateways/attention';
import { CallbackPath } from './gateways/callbacks';
import { Dismissal, Dismissed } from './gateways/dismiss';
import { GatewayLog } from './gateways/log';
import { Readiness } from './health';
import { type AppEnv, ERRORS, type ErrorCode, REQUEST_ID, UNKNOWN_OUTCOME } from './http';
import { Amount } from './money';
import { CallbackPage } from './payments/callbacks';
import { ChildrenQuery } from './payments/children';
import { PaymentDetail } from './payments/detail';
import { ExportQuery } from './payments/export';
import { ListQuery, PaymentPage } from './payments/list';
import { Lookup, LookupQuery } from './payments/lookup';
import { Callback, IdText, Payment, PaymentPath, PaymentStatus } from './payments/payment';
import { Day, Paid, PaymentStatistics, Refunded, StatisticsQuery } from './payments/statistics';
import { AbnormalAccount } from './refunds/abnormal';
import { ListedRefund, RefundList, RefundListQuery } from './refunds/all';
import { Correction } from './refunds/correct';
import {
  MAX_ACTIVE,
  MAX_GATEWAY_AMOUNT,
  MAX_REFUNDS,
  RefundHeaders,
  RefundRequest,
} from './refunds/create';
import { RefundPage } from './refunds/list';
import {
  DetailRefund,
  GatewayState,
  Refund,
  RefundEvent,
  RefundGateway,
  RefundOutcome,
  RefundStatus,
} from './refunds/refund';
import { RefundPath, Settlement } from './refunds/settle';
import { Session, SessionToken, SignedOut, SignIn } from './session';
import { UtcTime } from './time';

let text: string | undefined;

export const getOpenApi = new Hono<AppEnv>().get('/openapi.json', (c) => {
  text ??= JSON.stringify(document());
  return c.body(text, 200, { 'Content-Type': 'application/json' });
});

/** What answers hold, under the names that clients see. */
const ANSWERS = {
  Id: IdText,
  Amount,
  Time: UtcTime,
  PaymentStatus,
  RefundStatus,
  Payment,
  PaymentPage,
  PaymentDetail,
  Lookup,
  Callback,
  CallbackPage,
  DetailRefund,
  RefundPage,
  RefundEvent,
  RefundGateway,
  Refund,
  ListedRefund,
  RefundList,
  GatewayLog,
  Attention,
  Dismissed,
  PaymentStatistics,
  DayStatistics: Day,
  PaymentSum: Paid,
  RefundSum: Refunded,
  Session,
  SignIn,
  SignedOut,
};

/** What request bodies hold. */
const BODIES = { RefundRequest, Settlement, Correction, AbnormalAccount, Dismissal, SessionToken };

interface Operation {
  operationId: string;
  summary: string;
  description?: string;
  /** What the token must allow; null: any good token will do. Nobody needs a token where there is none. */
  scope?: Scope | null;
  param?: z.ZodObject;
  query?: z.ZodObject;
  header?: z.ZodObject;
  /** Headers that no schema validates. */
  headers?: (keyof typeof HEADERS)[];
  body?: keyof typeof BODIES;
  /** Of parameters, by their names, and of the body. */
  examples?: Record<string, unknown>;
  success: Record<number, Success>;
  errors: ErrorCode[];
  /** Whether an error may lack its Retry-After, since the outcome of the request is unknown. */
  outcomeUnknown?: boolean;
}

interface Success {
  description: string;
  /** application/json where there is none. */
  mediaType?: string;
  schema?: object;
  /** Instead of both: the schemas by media type, none where there is no body. */
  contents?: Record<string, object>;
  headers?: (keyof typeof HEADERS)[];
  example?: unknown;
}

const READING: ErrorCode[] = [40000, 40100, 40300, 50000, 50300, 50301, 50400];
const WRITING: ErrorCode[] = [...READING, 40001, 41300, 41500, 42900];
/** Of what is asked of a gateway's refund. */
const AT_GATEWAY: ErrorCode[] = [...READING, 42900, 40401, 40402, 40911];

/** Every operation, by method and path as the router has it. */
function operations(): Record<string, Operation> {
  return {
    'GET /health': {
      operationId: 'getHealth',
      summary: 'Answers without touching anything',
      success: {
        200: {
          description: 'The Worker runs',
          ...envelope('服务正常', object({ status: { const: 'ok' } }), { status: 'ok' }),
        },
      },
      errors: [],
    },
    'GET /health/ready': {
      operationId: 'getReadiness',
      summary: 'Whether database and KV answer within a second',
      success: {
        200: {
          description: 'Both do',
          ...envelope(
            '服务就绪',
            object({ status: { const: 'ok' }, database: { const: 'ok' }, kv: { const: 'ok' } }),
            { status: 'ok', database: 'ok', kv: 'ok' },
          ),
        },
      },
      errors: [50301, 50302],
    },
    'GET /openapi.json': {
      operationId: 'getOpenApi',
      summary: 'This document',
      success: { 200: { description: 'OpenAPI 3.1', schema: { type: 'object' } } },
      errors: [],
    },
    'GET /lookup': {
      operationId: 'lookUp',
      summary: 'Find payments by one number, whoever gave it',
      description:
        'Exact matches only. At most 20 payments, in the order of the kinds, newest first. A payment that the number names in several ways is there once.',
      scope: 'payments:read',
      query: LookupQuery,
      examples: { number: REFUND.refund_no },
      success: {
        200: {
          description: 'The payments, none where nothing has that number',
          ...envelope('获取成功', ref('Lookup'), {
            number: REFUND.refund_no,
            list: [{ kind: 'refund_no', refund_id: REFUND.id, payment: PAYMENT }],
          }),
        },
      },
      errors: READING,
    },
    'GET /payments': {
      operationId: 'listPayments',
      summary: 'List payments (支付记录列表), newest first',
      description: 'Unknown parameters are refused. An empty value counts as absent.',
      scope: 'payments:read',
      query: ListQuery('UTC'),
      examples: {
        page: 2,
        size: 20,
        cursor: 'MTc5NTMxMjk4NDEyMzQ1NiA0Mg',
        ...FILTERS,
      },
      success: {
        200: {
          description: 'A page, and the total of all of them',
          ...envelope('获取成功', ref('PaymentPage'), {
            total: 1,
            total_amount: PAYMENT.amount,
            list: [PAYMENT],
            next_cursor: null,
          }),
        },
      },
      errors: READING,
    },
    'GET /payments/export': {
      operationId: 'exportPayments',
      summary: 'Export payments as CSV, newest first',
      description:
        'RFC 4180, UTF-8 with a BOM, times in the zone of the deployment. The last line is `# 共 N 条`; a file without it is not whole.',
      scope: 'payments:export',
      query: ExportQuery('UTC'),
      examples: FILTERS,
      success: {
        200: {
          description: 'The file, while it is being read',
          mediaType: 'text/csv',
          schema: { type: 'string' },
          headers: ['Content-Disposition'],
        },
      },
      errors: READING,
    },
    'GET /payments/statistics': {
      operationId: 'getStatistics',
      summary: 'Payments and refunds by day, method and status',
      description:
        'Days ascend. A day on which nothing was paid or refunded is left out, and so is a sum of nothing.',
      scope: 'payments:read',
      query: StatisticsQuery('UTC'),
      examples: { start_time: '2026-11-01', end_time: '2026-11-22' },
      success: {
        200: {
          description: 'The days of the range',
          ...envelope('获取成功', ref('PaymentStatistics'), {
            days: [
              {
                day: '2026-11-22',
                payments: [{ payment_method: 'alipay', status: 1, count: 2, amount: '200.00' }],
                refunds: [{ status: 0, count: 1, amount: REFUND.amount }],
              },
            ],
          }),
        },
      },
      errors: READING,
    },
    'GET /payments/:id': {
      operationId: 'getPayment',
      summary: 'A payment (支付记录详情) with its newest callbacks and refunds, oldest first',
      scope: 'payments:read',
      param: PaymentPath,
      headers: ['Cache-Control'],
      examples: { id: PAYMENT.id },
      success: {
        200: {
          description: 'The payment',
          ...envelope('获取成功', ref('PaymentDetail'), PAYMENT_DETAIL),
          headers: ['Cache-Status', 'Age'],
        },
      },
      errors: [...READING, 40401],
    },
    'GET /payments/:id/callbacks': {
      operationId: 'listCallbacks',
      summary: 'All callbacks of a payment, newest first',
      description: 'Unknown parameters are refused. An empty value counts as absent.',
      scope: 'payments:read',
      param: PaymentPath,
      query: ChildrenQuery,
      examples: { id: PAYMENT.id, size: 20, cursor: CHILDREN_CURSOR },
      success: {
        200: {
          description: 'A page, and the total of all of them',
          ...envelope('获取成功', ref('CallbackPage'), {
            total: 1,
            list: PAYMENT_DETAIL.callbacks,
            next_cursor: null,
          }),
        },
      },
      errors: [...READING, 40401],
    },
    'GET /payments/:id/refunds': {
      operationId: 'listRefunds',
      summary: 'All refunds of a payment, newest first, with who did what to them',
      description: 'Unknown parameters are refused. An empty value counts as absent.',
      scope: 'payments:read',
      param: PaymentPath,
      query: ChildrenQuery,
      examples: { id: PAYMENT.id, size: 20, cursor: CHILDREN_CURSOR },
      success: {
        200: {
          description: 'A page, and the total of all of them',
          ...envelope('获取成功', ref('RefundPage'), {
            total: 1,
            list: PAYMENT_DETAIL.refunds,
            next_cursor: null,
          }),
        },
      },
      errors: [...READING, 40401],
    },
    'GET /payments/:id/gateway': {
      operationId: 'getGatewayLog',
      summary: 'What passed between us and the gateway about a payment, newest first',
      description:
        "The newest 200 requests about its refunds, and the newest 200 notifications. Never cached; without the bodies of either side's messages.",
      scope: 'payments:read',
      param: PaymentPath,
      examples: { id: PAYMENT.id },
      success: {
        200: {
          description: 'Requests and notifications, none where no gateway was asked',
          ...envelope('获取成功', ref('GatewayLog'), {
            requests_total: 1,
            requests: [
              {
                refund_id: REFUND.id,
                refund_no: REFUND.refund_no,
                operation: 'send',
                attempt: 1,
                started_at: '2026-11-22T13:18:44.140Z',
                ended_at: '2026-11-22T13:18:44.190Z',
                http_status: 403,
                outcome: 'blocked',
                code: BLOCKED.last_error_code,
                explanation: BLOCKED.last_error,
                gateway_request_id: '08A1B2C3D406',
              },
            ],
            notifications_total: 1,
            notifications: [
              {
                event: 'TRANSACTION.SUCCESS',
                refund_id: null,
                refund_no: null,
                received_at: '2026-11-22T02:03:09.000Z',
                processed_at: '2026-11-22T02:03:09.010Z',
                deliveries: 1,
                result: 'paid',
              },
            ],
          }),
        },
      },
      errors: [...READING, 40401],
    },
    'GET /refunds': {
      operationId: 'listAllRefunds',
      summary: 'List the refunds of all payments, newest or oldest first',
      description: 'Unknown parameters are refused. An empty value counts as absent.',
      scope: 'payments:read',
      query: RefundListQuery('UTC'),
      examples: {
        status: [0],
        start_time: FILTERS.start_time,
        end_time: FILTERS.end_time,
        order: 'oldest',
        size: 50,
        cursor: CHILDREN_CURSOR,
      },
      success: {
        200: {
          description: 'A page, and the total and the sum of all of them',
          ...envelope('获取成功', ref('RefundList'), {
            total: 1,
            total_amount: REFUND.amount,
            list: [
              {
                ...REFUND,
                payment_no: PAYMENT.payment_no,
                order_no: PAYMENT.order_no,
                payment_method: PAYMENT.payment_method,
                actor: 'finance@example.com',
              },
            ],
            next_cursor: null,
          }),
        },
      },
      errors: READING,
    },
    'POST /payments/:id/refund': {
      operationId: 'createRefund',
      summary: 'Create a refund (创建退款)',
      description: 'The refunds of a payment that have not failed never exceed its amount.',
      scope: 'refunds:create',
      param: PaymentPath,
      header: RefundHeaders,
      body: 'RefundRequest',
      examples: {
        id: PAYMENT.id,
        'Idempotency-Key': 'order-77-return',
        body: { amount: REFUND.amount, reason: REFUND.reason },
      },
      success: {
        201: {
          description: 'Created',
          ...envelope('创建成功', ref('Refund'), REFUND),
        },
        200: {
          description: 'The refund that the first request with this Idempotency-Key created',
          ...envelope('创建成功', ref('Refund'), REFUND),
          headers: ['Idempotent-Replayed'],
        },
      },
      errors: [...WRITING, 40401, 40900, 40901, 40902, 40904, 40908, 40909],
      outcomeUnknown: true,
    },
    'PATCH /payments/:id/refunds/:refund_id': {
      operationId: 'settleRefund',
      summary: 'Record how a refund that no gateway carries out ended, once',
      description:
        'A refund that a gateway has is settled by the gateway (40907). With override_reason, and the scope refunds:override as well, a person can force its end, but not while it is being sent. To force 2 can pay twice.',
      scope: 'refunds:settle',
      param: RefundPath,
      body: 'Settlement',
      examples: { id: PAYMENT.id, refund_id: REFUND.id, body: { status: 1 } },
      success: {
        200: {
          description: 'Settled, now or before',
          ...envelope('更新成功', ref('Refund'), { ...REFUND, status: 1 }),
        },
      },
      errors: [...WRITING, 40401, 40402, 40903, 40907],
    },
    'POST /payments/:id/refunds/:refund_id/correction': {
      operationId: 'correctRefund',
      summary: 'Correct how a refund ended, with a reason',
      description:
        'A refund that succeeded and came back becomes 失败, and one that was recorded as failed and arrived becomes 成功 if the payment still has that money. At most once in each direction on a business day.',
      scope: 'refunds:correct',
      param: RefundPath,
      body: 'Correction',
      examples: {
        id: PAYMENT.id,
        refund_id: REFUND.id,
        body: { status: 2, reason: '收款账户已注销，款项退回' },
      },
      success: {
        200: {
          description: 'Corrected, now or before',
          ...envelope('更新成功', ref('Refund'), { ...REFUND, status: 2 }),
        },
      },
      errors: [...WRITING, 40401, 40402, 40901, 40905, 40906],
    },
    'POST /payments/:id/refunds/:refund_id/sync': {
      operationId: 'syncRefund',
      summary: 'Ask the gateway now what became of a refund',
      description:
        'Settles the refund by the answer. Every ten seconds at most, and not while it is being sent; then the answer is what is known.',
      scope: 'refunds:settle',
      param: RefundPath,
      examples: { id: PAYMENT.id, refund_id: REFUND.id },
      success: {
        200: {
          description: 'The refund as it is now',
          ...envelope('查询成功', ref('Refund'), { ...REFUND, status: 1, gateway: SUCCEEDED }),
        },
      },
      errors: AT_GATEWAY,
    },
    'POST /payments/:id/refunds/:refund_id/retry': {
      operationId: 'retryRefund',
      summary: 'Send a blocked refund again at once, with the same number',
      description: 'An outcome that is being found out is asked about at once.',
      scope: 'refunds:settle',
      param: RefundPath,
      examples: { id: PAYMENT.id, refund_id: REFUND.id },
      success: {
        200: {
          description: 'The refund, which is being sent',
          ...envelope('已重新提交', ref('Refund'), { ...REFUND, gateway: BLOCKED }),
        },
      },
      errors: [...AT_GATEWAY, 40910],
    },
    'POST /payments/:id/refunds/:refund_id/abnormal': {
      operationId: 'completeAbnormalRefund',
      summary: 'Say where the money of an abnormal refund shall go',
      description:
        "For WeChat Pay: the payer's account is void. Card data goes through to the gateway, encrypted, and is neither stored nor logged.",
      scope: 'refunds:settle',
      param: RefundPath,
      body: 'AbnormalAccount',
      examples: {
        id: PAYMENT.id,
        refund_id: REFUND.id,
        body: { type: 'MERCHANT_BANK_CARD' },
      },
      success: {
        200: {
          description: 'The refund, which is at work again',
          ...envelope('已提交', ref('Refund'), { ...REFUND, gateway: ACCEPTED }),
        },
      },
      errors: [...AT_GATEWAY, 40001, 41300, 41500, 40910, 40912, 50303],
    },
    'GET /gateway/attention': {
      operationId: 'listAttention',
      summary: 'What a person has to look at: refunds, payments and gateways',
      description:
        'Oldest first. What was solved leaves the list by itself. What is over leaves it when somebody dismisses it.',
      scope: 'payments:read',
      query: AttentionQuery,
      examples: { size: 50 },
      success: {
        200: {
          description: 'What there is, and the totals',
          ...envelope('获取成功', ref('Attention'), {
            refunds_total: 1,
            refunds: [
              {
                attention: 'NOT_ENOUGH',
                explanation: '商户可用余额不足，充值后自动重试',
                since: REFUND.created_at,
                refund: { ...REFUND, gateway: BLOCKED },
              },
            ],
            payments_total: 0,
            payments: [],
            gateways: [],
          }),
        },
      },
      errors: READING,
    },
    'POST /payments/:id/attention/dismissal': {
      operationId: 'dismissAttention',
      summary: 'Take off the list of what needs attention what somebody has looked at',
      description:
        'The payment, and its refunds that have ended. No money and no status moves. What is still open stays on the list until it is solved.',
      scope: 'refunds:correct',
      param: PaymentPath,
      body: 'Dismissal',
      examples: { id: PAYMENT.id, body: { reason: '已与支付渠道核对，无差异' } },
      success: {
        200: {
          description: 'How many entries left the list',
          ...envelope('更新成功', ref('Dismissed'), { dismissed: 1 }),
        },
      },
      errors: [...WRITING, 40401],
    },
    'GET /session': {
      operationId: 'getSession',
      summary: 'Who is calling, and what they may do',
      scope: null,
      success: {
        200: {
          description: 'What the token says',
          ...envelope('获取成功', ref('Session'), SESSION),
        },
      },
      errors: [40000, 40100, 50000, 50301],
    },
    'GET /console/session': {
      operationId: 'getSignIn',
      summary: 'How one can sign in to the console',
      success: {
        200: {
          description: 'Whether an identity provider signs people in',
          ...envelope('获取成功', ref('SignIn'), { provider: true }),
        },
      },
      errors: [50301],
    },
    'POST /console/session': {
      operationId: 'signIn',
      summary: 'Sign in to the console: keep a token in a cookie that no script can read',
      description:
        'The cookie counts for requests of our own pages only (Sec-Fetch-Site: same-origin), and ends with the token. It needs https, or plain http on localhost.',
      body: 'SessionToken',
      examples: { body: { token: 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJl' } },
      success: {
        200: {
          description: 'The cookie is set',
          ...envelope('登录成功', ref('Session'), SESSION),
        },
      },
      errors: [40000, 40001, 40100, 41300, 41500, 50000, 50301],
    },
    'DELETE /console/session': {
      operationId: 'signOut',
      summary: 'Sign out of the console: remove the cookie',
      description: 'The token itself is good until it expires.',
      success: {
        200: {
          description: 'There is no cookie any more',
          ...envelope('已退出登录', ref('SignedOut'), { logout_url: null }),
        },
      },
      errors: [],
    },
    'POST /callbacks/:gateway': {
      operationId: 'takeCallback',
      summary: 'A gateway tells what became of a refund or a payment',
      description:
        "For the gateways only: no token, but their signature, over a body of at most 64 KiB. The answers are in the gateways' own words, and never say why a callback is refused.",
      param: CallbackPath,
      examples: { gateway: 'wechat' },
      success: {
        200: { description: 'Taken, for Alipay', contents: { 'text/plain': { const: 'success' } } },
        204: { description: 'Taken, for WeChat Pay', contents: {} },
        400: { description: 'Refused, for Alipay', contents: { 'text/plain': { const: 'fail' } } },
        401: { description: 'Refused, for WeChat Pay', contents: { 'application/json': FAIL } },
        413: {
          description: 'Too large',
          contents: { 'application/json': FAIL, 'text/plain': { const: 'fail' } },
        },
        503: {
          description: 'To be brought again',
          contents: { 'application/json': FAIL, 'text/plain': { const: 'fail' } },
        },
      },
      errors: [40400],
    },
  };
}

/** What WeChat Pay wants to read of a callback that failed. */
const FAIL = object({ code: { const: 'FAIL' }, message: { type: 'string' } });

const REQUEST = '0d9f6f0e-3c55-4d0f-9d0c-0c1f8a1f7c11';

const CHILDREN_CURSOR = 'ODQ4NjY4MTY0MTIzNDU2IDQy';

const FILTERS = {
  order_no: 'ORD202611220001',
  payment_no: 'PAY202611220001',
  status: [1, 3],
  payment_method: ['alipay'],
  refund_state: ['partial'],
  start_time: '2026-11-01',
  end_time: '2026-11-22T23:59:59+08:00',
};

const PAYMENT = {
  id: '42',
  order_no: 'ORD202611220001',
  payment_no: 'PAY202611220001',
  payment_method: 'alipay',
  amount: '100.00',
  status: 1,
  payment_time: '2026-11-22T02:03:09.000Z',
  created_at: '2026-11-22T02:03:04.123Z',
  refunded_amount: '0.00',
  refundable_amount: '87.66',
};

const REFUND = {
  id: '409',
  payment_id: PAYMENT.id,
  refund_no: 'R20261122131844123a1b2c3d4e5f60718',
  amount: '12.34',
  reason: '商品有瑕疵',
  status: 0,
  created_at: '2026-11-22T13:18:44.123Z',
  gateway: null,
};

const ACCEPTED = {
  name: 'wechat',
  state: 'accepted',
  refund_no: '50300000000000000000000000001',
  out_refund_no: REFUND.refund_no,
  attempts: 1,
  last_error_code: null,
  last_error: null,
  next_attempt_at: '2026-11-22T14:18:44.123Z',
  attention: null,
};

const SUCCEEDED = { ...ACCEPTED, state: 'succeeded', next_attempt_at: null };

const BLOCKED = {
  ...ACCEPTED,
  state: 'blocked',
  refund_no: null,
  last_error_code: 'NOT_ENOUGH',
  last_error: '商户可用余额不足，充值后自动重试',
  attention: 'NOT_ENOUGH',
};

const { payment_id: _, ...OF_PAYMENT } = REFUND;

const PAYMENT_DETAIL = {
  ...PAYMENT,
  order_id: '1987654321012345678',
  refund_time: null,
  updated_at: '2026-11-22T02:03:09.000Z',
  callbacks_total: 1,
  callbacks: [
    {
      id: '7',
      callback_no: 'CB202611220001',
      status: 1,
      created_at: '2026-11-22T02:03:09.000Z',
    },
  ],
  refunds_total: 1,
  refunds: [
    {
      ...OF_PAYMENT,
      events_total: 1,
      events: [
        {
          actor: 'finance@example.com',
          from_status: null,
          to_status: 0,
          request_id: REQUEST,
          reason: null,
          cause: null,
          created_at: REFUND.created_at,
        },
      ],
    },
  ],
};

const SESSION = {
  actor: 'finance@example.com',
  scopes: ['payments:read', 'refunds:create'],
  expires_at: '2026-11-22T14:18:44.000Z',
  time_zone: 'Asia/Shanghai',
};

/** What `data` of an error holds; of any other error it is null. */
function errorData() {
  const refundNo = z
    .object({ refund_no: z.string() })
    .nullable()
    .describe('Of a refund: the refund_no by which to find out whether it was made')
    .meta({ examples: [null, { refund_no: REFUND.refund_no }] });
  return {
    40000: z
      .object({ errors: z.array(z.object({ path: z.string(), message: z.string() })) })
      .meta({ examples: [{ errors: [{ path: 'size', message: '须为 1 到 100 的整数' }] }] }),
    40300: z
      .object({ required_scope: z.string() })
      .meta({ examples: [{ required_scope: 'payments:read' }] }),
    40900: z.object({ status: PaymentStatus }).meta({ examples: [{ status: 3 }] }),
    40901: z
      .object({
        refundable_amount: Amount,
        missing_amount: Amount.describe('Of a correction: how much is missing').optional(),
      })
      .meta({ examples: [{ refundable_amount: '0.01' }] }),
    40903: z.object({ status: RefundOutcome }).meta({ examples: [{ status: 2 }] }),
    40904: z
      .object({ limit: z.literal([MAX_ACTIVE, MAX_REFUNDS]) })
      .describe(`${MAX_ACTIVE} refunds that have not failed, ${MAX_REFUNDS} in all`)
      .meta({ examples: [{ limit: MAX_ACTIVE }] }),
    40907: z.object({ state: GatewayState }).meta({ examples: [{ state: 'accepted' }] }),
    40908: z
      .object({ refundable_until: UtcTime })
      .meta({ examples: [{ refundable_until: '2026-11-22T02:03:09.000Z' }] }),
    40909: z
      .object({ max_amount: Amount })
      .meta({ examples: [{ max_amount: MAX_GATEWAY_AMOUNT }] }),
    40910: z.object({ state: GatewayState }).meta({ examples: [{ state: 'accepted' }] }),
    40912: z
      .object({ code: z.string(), explanation: z.string() })
      .meta({ examples: [{ code: 'PARAM_ERROR', explanation: '请求参数被支付渠道拒绝' }] }),
    40905: z.object({ status: z.literal(0) }).meta({ examples: [{ status: 0 }] }),
    50000: refundNo,
    50300: refundNo,
    50302: Readiness.meta({ examples: [{ database: 'ok', kv: 'failed' }] }),
    50400: refundNo,
  } satisfies Partial<Record<ErrorCode, z.ZodType>>;
}

const REQUEST_ID_SCHEMA = { type: 'string', pattern: REQUEST_ID.source };

/** Headers of requests and of answers that no schema validates. */
const HEADERS = {
  'X-Request-Id': {
    description: 'Names the request in the log; another is made where it does not match',
    schema: REQUEST_ID_SCHEMA,
    example: REQUEST,
  },
  'Cache-Control': {
    description: 'no-cache reads the database and refills the cache',
    schema: { type: 'string' },
    example: 'no-cache',
  },
  'Cache-Status': {
    description: 'RFC 9211: how the detail cache was used',
    schema: { enum: ['hit', 'fwd=miss', 'fwd=bypass'].map((how) => `payment-detail; ${how}`) },
    example: 'payment-detail; hit',
  },
  Age: {
    description: 'RFC 9111: seconds since a detail from the cache was read from the database',
    schema: { type: 'string', pattern: '^\\d+$' },
    example: '0',
  },
  'Content-Disposition': {
    description: 'Names the file',
    schema: { type: 'string', pattern: '^attachment; filename="payments-\\d{14}\\.csv"$' },
    example: 'attachment; filename="payments-20261122131844.csv"',
  },
  'Idempotent-Replayed': {
    description: 'The answer is that of an earlier request',
    schema: { const: 'true' },
    example: 'true',
  },
  'WWW-Authenticate': {
    description:
      'RFC 6750: that there is no token, or what is wrong with it, or which scope it lacks',
    schema: { type: 'string' },
    example: 'Bearer error="insufficient_scope", scope="payments:read"',
  },
  'Retry-After': {
    description: 'Seconds after which to try again',
    schema: { type: 'string', pattern: '^\\d+$' },
    example: '2',
  },
  Allow: {
    description: 'The methods that the path takes',
    schema: { type: 'string' },
    example: 'GET, HEAD',
  },
};

/** The headers that every answer with the code has. */
function headersOf(code: ErrorCode): (keyof typeof HEADERS)[] {
  switch (code) {
    case 40100:
    case 40300:
      return ['WWW-Authenticate'];
    case 40500:
      return ['Allow'];
    case 42900:
    case 50300:
    case 50303:
    case 50400:
      return ['Retry-After'];
    default:
      return [];
  }
}

function document() {
  const paths: Record<string, Record<string, object>> = {};
  for (const [route, operation] of Object.entries(operations())) {
    const [method = '', path = ''] = route.toLowerCase().split(' ');
    const template = path.replace(/:(\w+)/g, '{$1}');
    paths[template] = { ...paths[template], [method]: describeOperation(operation) };
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Payment management (支付管理)',
      version: '1.0.0',
      description:
        'Success is {code: 0, message, data}; failure has the HTTP status that fits, and {code, message, data, request_id}.',
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: {
        ...components(ANSWERS, 'output'),
        ...components(BODIES, 'input'),
        ...errorSchemas(),
      },
      responses: {
        NotFound: errorResponse([40400]),
        MethodNotAllowed: errorResponse([40500]),
      },
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          bearerFormat: 'JWT',
          description: 'Each operation names the scope that the token must have.',
        },
      },
    },
  };
}

function describeOperation(operation: Operation) {
  const { operationId, summary, description, scope, body, examples = {} } = operation;
  const parameters = [
    ...parametersOf('path', operation.param, examples),
    ...parametersOf('query', operation.query, examples),
    ...parametersOf('header', operation.header, examples),
    ...(['X-Request-Id', ...(operation.headers ?? [])] as const).map((name) => ({
      name,
      in: 'header',
      ...HEADERS[name],
    })),
  ];
  return {
    operationId,
    summary,
    ...(description === undefined ? {} : { description }),
    security: scope === undefined ? [] : [{ bearer: scope === null ? [] : [scope] }],
    parameters,
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: true,
            content: content({ schema: ref(body), example: examples.body }),
          },
        }),
    responses: {
      ...successes(operation.success),
      ...failures(operation.errors, operation.outcomeUnknown),
    },
  };
}

/** One parameter for each property of the schema. A list is separated by commas. */
function parametersOf(
  place: 'path' | 'query' | 'header',
  schema: z.ZodObject | undefined,
  examples: Record<string, unknown>,
) {
  if (schema === undefined) return [];
  const { properties = {}, required = [] } = jsonSchema(schema, 'input');
  return Object.entries(properties).flatMap(([name, property]) => {
    if (typeof property === 'boolean') return [];
    const { description, ...schema } = property;
    return {
      name,
      in: place,
      required: required.includes(name),
      description,
      ...(schema.type === 'array' ? { style: 'form', explode: false } : {}),
      schema,
      ...(name in examples ? { example: examples[name] } : {}),
    };
  });
}

function successes(answers: Record<number, Success>) {
  return Object.fromEntries(
    Object.entries(answers).map(([status, { description, headers = [], contents, ...answer }]) => [
      status,
      {
        description,
        headers: describeHeaders(headers),
        content: contents
          ? Object.fromEntries(Object.entries(contents).map(([type, schema]) => [type, { schema }]))
          : content(answer),
      },
    ]),
  );
}

function failures(codes: ErrorCode[], outcomeUnknown = false) {
  return Object.fromEntries(
    Map.groupBy(codes, (code) => ERRORS[code][0])
      .entries()
      .map(([status, together]) => [status, errorResponse(together, outcomeUnknown)]),
  );
}

/** The answer of one status: a header that only some of its codes have is not required. */
function errorResponse(codes: ErrorCode[], outcomeUnknown = false) {
  const schemas = codes.map((code) => ref(`Error${code}`));
  const headers = [...new Set(codes.flatMap(headersOf))];
  const always = headers.filter(
    (name) =>
      codes.every((code) => headersOf(code).includes(name)) &&
      !(outcomeUnknown && name === 'Retry-After' && codes.some((code) => code in UNKNOWN_OUTCOME)),
  );
  const [only] = schemas;
  return {
    description: codes.map((code) => `${code} ${ERRORS[code][1]}`).join(', '),
    headers: describeHeaders(headers, always),
    content: content({ schema: schemas.length === 1 && only ? only : { oneOf: schemas } }),
  };
}

function describeHeaders(
  names: (keyof typeof HEADERS)[],
  // Only a detail from the cache has an Age.
  always: (keyof typeof HEADERS)[] = names.filter((name) => name !== 'Age'),
) {
  const described = [...names, 'X-Request-Id' as const].map((name) => [
    name,
    { ...HEADERS[name], required: name === 'X-Request-Id' || always.includes(name) },
  ]);
  return Object.fromEntries(described);
}

function errorSchemas() {
  const data: Record<string, z.ZodType> = errorData();
  const unknown: Record<string, string> = UNKNOWN_OUTCOME;
  return Object.fromEntries(
    Object.entries(ERRORS).map(([code, [, message]]) => [
      `Error${code}`,
      object({
        code: { type: 'integer', const: Number(code) },
        message: code in unknown ? { enum: [message, unknown[code]] } : { const: message },
        data: jsonSchema(data[code] ?? z.null(), 'output'),
        request_id: REQUEST_ID_SCHEMA,
      }),
    ]),
  );
}

/** The schemas as components that refer to each other by their names. */
function components(schemas: Record<string, z.ZodType>, io: 'input' | 'output') {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(schemas)) registry.add(schema, { id });
  const made = z.toJSONSchema(registry, { io, override, uri: (id) => ref(id).$ref });
  return Object.fromEntries(
    Object.entries(made.schemas).map(([id, { $schema: _, $id: __, ...schema }]) => [id, schema]),
  );
}

function jsonSchema(schema: z.ZodType, io: 'input' | 'output') {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, override });
  return rest;
}

/** zod calls every number a number. */
function override({ jsonSchema }: { jsonSchema: z.core.JSONSchema.BaseSchema }): void {
  const values = jsonSchema.enum ?? [jsonSchema.const];
  if (values.every(Number.isInteger)) jsonSchema.type = 'integer';
}

function envelope(message: string, data: object, example: unknown) {
  return {
    schema: object({ code: { type: 'integer', const: 0 }, message: { const: message }, data }),
    example: { code: 0, message, data: example },
  };
}

function object(properties: Record<string, object>) {
  return {
    type: 'object',
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  };
}

function ref(name: string) {
  return { $ref: `#/components/schemas/${name}` };
}

function content({
  mediaType = 'application/json',
  schema = {},
  example,
}: Pick<Success, 'mediaType' | 'schema' | 'example'>) {
  return { [mediaType]: { schema, ...(example === undefined ? {} : { example }) } };
}
