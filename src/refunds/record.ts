/** What sync.ts and abnormal.ts do after their call of a gateway: record it, and show the refund as it is then. */
import type { Context } from 'hono';
import { inDatabase } from '../database';
import { type Call, type FollowUp, followInBackground, recordStatement } from '../gateways/outbox';
import type { AppEnv } from '../http';
import { withPurges } from '../payments/detail-cache';
import { taskOf } from '../task';
import { demandGateway, type FoundRefund, type GatewayRefund, refundStatement } from './refund';

/** Records the call, settles the refund by what it said, and sees to what follows. One round trip. */
export async function recordCall(
  c: Context<AppEnv>,
  { id, payment_id, refund_no }: GatewayRefund,
  call: Call,
  rules: string,
): Promise<GatewayRefund> {
  const task = taskOf(c);
  const ids = { paymentId: BigInt(payment_id), refundId: BigInt(id) };
  const [found, followUp] = await withPurges(task, ids.paymentId, () =>
    inDatabase(c, 'record', async (db, limits) => {
      const [recorded, { rows }] = await db.batch([
        db.execute<{ value: FollowUp | null }>(
          recordStatement(
            refund_no,
            call,
            rules,
            { requestId: task.requestId, resend: false },
            limits,
          ),
        ),
        db.execute<FoundRefund>(refundStatement(ids)),
      ]);
      return [rows[0], recorded.rows[0]?.value] as const;
    }),
  );
  if (followUp) followInBackground(task, { payment_id, refund_no }, followUp);
  return demandGateway(found);
}
