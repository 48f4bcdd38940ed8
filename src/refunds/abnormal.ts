/**
 * POST /payments/:id/refunds/:refund_id/abnormal: tells the gateway where the money of an abnormal refund shall
 * go, since the payer's own account is void. Afterwards the refund is at work again. Card data goes through to the
 * gateway, encrypted for it; nothing stores or logs it. It makes two round trips to the database, one before the
 * gateway's and one after.
 */
import { Hono } from 'hono';
import * as z from 'zod';
import { authorize, limitRate } from '../auth';
import { inDatabase } from '../database';
import { explain } from '../gateways/explanations';
import { gatewaysOf } from '../gateways/gateways';
import { measured } from '../gateways/outbox';
import { ApiError, type AppEnv, envelope, jsonBody, validate } from '../http';
import { taskOf } from '../task';
import { recordCall } from './record';
import { demandGateway, type FoundRefund, refundStatement } from './refund';
import { RefundPath } from './settle';

const word = (description: string, max: number) =>
  z
    .string({ error: (issue) => (issue.input === undefined ? '必填' : '须为字符串') })
    .trim()
    .min(1, '必填')
    .max(max, `最多 ${max} 个字符`)
    .describe(description);

/** Where the money shall go. */
export const AbnormalAccount = z.discriminatedUnion(
  'type',
  [
    z.strictObject({
      type: z.literal('USER_BANK_CARD').describe('A debit card of the payer'),
      bank_type: word("开户银行: the gateway's code of the bank", 32),
      bank_account: word('银行卡号', 64).regex(/^\d[\d ]*$/, '须为数字'),
      real_name: word('开户名', 255),
    }),
    z.strictObject({
      type: z.literal('MERCHANT_BANK_CARD').describe("The merchant's own account"),
    }),
  ],
  '须为 JSON 对象，type 为 USER_BANK_CARD 或 MERCHANT_BANK_CARD',
);

export const completeAbnormalRefund = new Hono<AppEnv>().post(
  '/payments/:id/refunds/:refund_id/abnormal',
  authorize('refunds:settle'),
  limitRate,
  jsonBody,
  validate({ param: RefundPath, json: AbnormalAccount }),
  async (c) => {
    const { id: paymentId, refund_id: refundId } = c.req.valid('param');
    const given = c.req.valid('json');
    const { configured, rules } = await gatewaysOf(c.env);

    const found = await inDatabase(c, 'find', async (db) => {
      const { rows } = await db.execute<FoundRefund>(refundStatement({ paymentId, refundId }));
      return rows[0];
    });
    const refund = demandGateway(found);
    const { state, attention, attempts, refund_no: gatewayRefundNo, name } = refund.gateway;
    if (state !== 'blocked' || attention !== 'ABNORMAL' || gatewayRefundNo === null) {
      throw new ApiError(40910, { state });
    }
    const complete = configured.get(name)?.completeAbnormal;
    if (!complete) throw new ApiError(40910, { state });

    const account =
      given.type === 'USER_BANK_CARD'
        ? {
            type: given.type,
            bankType: given.bank_type,
            bankAccount: given.bank_account.replaceAll(' ', ''),
            realName: given.real_name,
          }
        : given;
    const outRefundNo = refund.gateway.out_refund_no;
    const asked = { operation: 'abnormal', attempt: attempts, request: { outRefundNo } } as const;
    const call = await measured(taskOf(c), name, asked, () =>
      complete({ gatewayRefundNo, outRefundNo }, account),
    );
    const now = await recordCall(c, refund, call, rules);
    const { news } = call.reply;
    if (news.kind === 'blocked' || news.kind === 'refused') {
      throw new ApiError(40912, { code: news.code, explanation: explain(news.code) });
    }
    if (news.kind === 'unknown' || news.kind === 'later') throw new ApiError(50303);
    return c.json(envelope('已提交', now));
  },
);
