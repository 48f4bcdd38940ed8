/** The Payment that a client sees (specification, section 3): what is true of it wherever it is shown. */
import * as z from 'zod';

/** What a BIGINT key can be: a decimal without leading zeros, from 1 to 9223372036854775807. */
export const Id = z
  .string()
  .regex(/^[1-9]\d{0,18}$/, '须为正整数')
  .transform(BigInt)
  .refine((id) => id <= 9_223_372_036_854_775_807n, '须为正整数');

/** 0 待支付, 1 支付成功, 2 支付失败, 3 已退款. */
export const PaymentStatus = z.literal([0, 1, 2, 3]);

/** The methods of the specification, section 2.2. */
export const PaymentMethod = z.literal(['alipay', 'wechat', 'bank']);

/** A payment in the list. Ids are strings because they exceed 2^53, amounts decimal strings of yuan, times RFC 3339 UTC. */
export const Payment = z.object({
  id: z.string(),
  order_no: z.string().nullable(),
  payment_no: z.string(),
  payment_method: z.string(),
  amount: z.string(),
  status: z.number(),
  payment_time: z.string().nullable(),
  created_at: z.string(),
});
export type Payment = z.infer<typeof Payment>;
