/** The Payment that a client sees (specification, section 3): what is true of it wherever it is shown. */
import * as z from 'zod';
import { json, text } from '../json';
import { Amount } from '../money';
import { paymentCallbacks } from '../schema';
import { UtcTime, utc } from '../time';

/** A BIGINT key as JSON has it: a decimal without leading zeros. */
export const IdText = z
  .string()
  .regex(/^[1-9]\d{0,18}$/, '须为正整数')
  .describe('A 64-bit id, as a string because it may exceed 2^53');

/** The same in a request: what a BIGINT key can be, from 1 to 9223372036854775807. */
export const Id = IdText.transform(BigInt).refine(
  (id) => id <= 9_223_372_036_854_775_807n,
  '须为正整数',
);

/** The parameters of a path under /payments/:id. */
export const PaymentPath = z.object({ id: Id.describe('支付记录ID') });

/** What people call the statuses (specification, section 2.2). */
export const STATUS_NAMES: Record<number, string> = {
  0: '待支付',
  1: '支付成功',
  2: '支付失败',
  3: '已退款',
};

/** What a payment can be in. */
export const PaymentStatus = z.literal([0, 1, 2, 3]).describe(
  Object.entries(STATUS_NAMES)
    .map(([status, name]) => `${status} ${name}`)
    .join(', '),
);

/** The methods of the specification, section 2.2. */
export const PaymentMethod = z.literal(['alipay', 'wechat', 'bank']);

/** What people call them. */
export const METHOD_NAMES: Record<string, string> = {
  alipay: '支付宝',
  wechat: '微信支付',
  bank: '银行',
};

/** How much of a payment has been refunded, by its successful refunds. The database numbers them in this order. */
export const RefundState = z
  .literal(['none', 'partial', 'full'])
  .describe('none 未退款, partial 部分退款, full 全额退款');
export type RefundState = z.infer<typeof RefundState>;

/** The number of a refund state in the database (payment_refund_totals). */
export function stateNumber(state: RefundState): number {
  return [...RefundState.values].indexOf(state);
}

/** A payment in the list. */
export const Payment = z.object({
  id: IdText,
  order_no: z.string().nullable().describe('订单号; null where the order is unknown'),
  payment_no: z.string().describe('支付单号'),
  // Whatever is stored: no CHECK holds it to the methods that are offered today.
  payment_method: z.string().describe(`支付方式: ${[...PaymentMethod.values].join(', ')}`),
  amount: Amount,
  status: PaymentStatus,
  payment_time: UtcTime.nullable().describe('支付时间'),
  created_at: UtcTime,
  refunded_amount: Amount.describe('已退款金额: the sum of the refunds that succeeded'),
  refundable_amount: Amount.describe('What a refund may still take; 0.00 unless the status is 1'),
});
export type Payment = z.infer<typeof Payment>;

/** What the gateway told about a payment. */
export const Callback = z.object({
  id: IdText,
  callback_no: z.string().describe('回调单号'),
  status: z.literal([0, 1, 2]).describe('0 处理中, 1 成功, 2 失败'),
  created_at: UtcTime,
});
export type Callback = z.infer<typeof Callback>;

/** The Callback of a row of payment_callbacks, as JSON. */
export const callbackJson = json<typeof Callback>({
  id: text(paymentCallbacks.id),
  callback_no: paymentCallbacks.callbackNo,
  status: paymentCallbacks.status,
  created_at: utc(paymentCallbacks.createdAt),
});
