/**
 * Completes an abnormal refund: the payer's card is void, and the money waits for another account. The
 * number and the holder of a card leave here encrypted for WeChat Pay only.
 */
import type { AbnormalAccount, News } from '../gateway';
import { toBase64 } from '../keys';
import { type Answer, call } from './client';
import type { Configuration } from './configuration';
import { newsOf, refundNews } from './outcomes';

/** POST …/{refund_id}/apply-abnormal-refund: afterwards the refund is PROCESSING again. */
export async function completeAbnormal(
  configuration: Configuration,
  { gatewayRefundNo, outRefundNo }: { gatewayRefundNo: string; outRefundNo: string },
  account: AbnormalAccount,
): Promise<{ answer: Answer; news: News }> {
  const answer = await call(
    configuration,
    'POST',
    `/v3/refund/domestic/refunds/${encodeURIComponent(gatewayRefundNo)}/apply-abnormal-refund`,
    { out_refund_no: outRefundNo, ...(await destination(configuration, account)) },
  );
  const news = newsOf('abnormal', answer, (body) =>
    refundNews(
      body,
      (refund) => refund.refund_id === gatewayRefundNo && refund.out_refund_no === outRefundNo,
    ),
  );
  return { answer, news };
}

async function destination(configuration: Configuration, account: AbnormalAccount) {
  if (account.type === 'MERCHANT_BANK_CARD') return { type: account.type };
  const encrypt = await encryptor(configuration);
  return {
    type: account.type,
    bank_type: account.bankType,
    bank_account: await encrypt(account.bankAccount),
    real_name: await encrypt(account.realName),
  };
}

/** RSA-OAEP with SHA-1, for the key that the request names. */
async function encryptor({ verifyKeys, answerSerial }: Configuration) {
  const algorithm = { name: 'RSA-OAEP', hash: 'SHA-1' };
  const known = verifyKeys.get(answerSerial);
  if (!known) throw new Error('there is no key to encrypt for');
  const spki = await crypto.subtle.exportKey('spki', known);
  if (!(spki instanceof ArrayBuffer)) throw new Error('no public key');
  const key = await crypto.subtle.importKey('spki', spki, algorithm, false, ['encrypt']);
  return async (secret: string) =>
    toBase64(await crypto.subtle.encrypt(algorithm, key, new TextEncoder().encode(secret)));
}
