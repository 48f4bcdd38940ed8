/** What the API answers, as its document says (npm run openapi). Types only: no code of the client is loaded. */
export type {
  Attention,
  Callback,
  CallbackPage,
  DetailRefund,
  Payment,
  PaymentDetail,
  PaymentPage,
  PaymentStatistics,
  Refund,
  RefundEvent,
  RefundGateway,
  RefundPage,
} from '../test/client';

import type { Payment, Refund } from '../test/client';

/** What GET /lookup answers. */
export interface Lookup {
  number: string;
  list: { kind: string; refund_id: string | null; payment: Payment }[];
}

/** A refund of the work list. */
export type ListedRefund = Refund & {
  payment_no: string;
  order_no: string | null;
  payment_method: string;
  actor: string | null;
};

/** What GET /refunds answers. */
export interface RefundWorkPage {
  total: number;
  total_amount: string;
  list: ListedRefund[];
  next_cursor: string | null;
}

/** What GET /payments/:id/gateway answers. */
export interface GatewayLog {
  requests_total: number;
  requests: {
    refund_id: string;
    refund_no: string;
    operation: string;
    attempt: number;
    started_at: string;
    ended_at: string;
    http_status: number | null;
    outcome: string;
    code: string | null;
    explanation: string | null;
    gateway_request_id: string | null;
  }[];
  notifications_total: number;
  notifications: {
    event: string;
    refund_id: string | null;
    refund_no: string | null;
    received_at: string;
    processed_at: string | null;
    deliveries: number;
    result: string;
  }[];
}
