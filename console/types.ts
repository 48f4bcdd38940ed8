/** What the API answers, as its document says (npm run openapi). Types only: no code of the client is loaded. */
export type {
  Attention,
  Callback,
  DetailRefund,
  GatewayLog,
  ListedRefund,
  Lookup,
  Payment,
  PaymentDetail,
  PaymentPage,
  PaymentStatistics,
  Refund,
  RefundEvent,
  RefundList,
} from '../test/client';
