/** What PATCH /payments/:id/refunds/:refund_id guarantees: one outcome, once, and the payment follows. */
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { Refund } from '../../src/refunds/refund';
import { insertPayment, startApp } from '../harness';

const app = await startApp();

afterEach(() => app.faults());

const settle = (paymentId: string, refundId: string, status: number) =>
  app.call('PATCH', `/payments/${paymentId}/refunds/${refundId}`, z.unknown(), {
    body: { status },
  });

async function insertRefund(paymentId: string, amount: string, status = 0): Promise<string> {
  const rows = z.tuple([z.object({ id: z.string() })]).parse(
    await app.sql`
      INSERT INTO payment_refunds (payment_id, refund_no, amount, reason, status)
      VALUES (${paymentId}, ${`R${crypto.randomUUID().replaceAll('-', '')}`}, ${amount}, '拍错了', ${status})
      RETURNING id`,
  );
  return rows[0].id;
}

const State = z.tuple([
  z.object({ status: z.number(), refunded: z.boolean(), refunds: z.array(z.number()) }),
]);

/** The payment's status, whether it has a refund time, and its refunds' statuses in the order of their ids. */
async function stateOf(paymentId: string) {
  const [state] = State.parse(
    await app.sql`
      SELECT status, refund_time IS NOT NULL AS refunded, (
        SELECT coalesce(json_agg(r.status ORDER BY r.id), '[]')
        FROM payment_refunds r WHERE r.payment_id = p.id) AS refunds
      FROM payments p WHERE id = ${paymentId}`,
  );
  return state;
}

const rowsOf = (paymentId: string) => app.sql`
  SELECT p::text AS payment, r::text AS refund
  FROM payments p JOIN payment_refunds r ON r.payment_id = p.id WHERE p.id = ${paymentId} ORDER BY r.id`;

describe('an outcome', () => {
  test('is answered with the refund and recorded', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '40');

    const reply = await settle(paymentId, refundId, 1);

    expect(reply).toMatchObject({ status: 200, code: 0, message: '更新成功' });
    expect(Refund.strict().parse(reply.data)).toMatchObject({
      id: refundId,
      payment_id: paymentId,
      amount: '40.00',
      status: 1,
    });
    expect(await stateOf(paymentId)).toEqual({ status: 1, refunded: false, refunds: [1] });
  });

  test('that completes what was paid makes the payment refunded', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundIds = [
      await insertRefund(paymentId, '99.99'),
      await insertRefund(paymentId, '0.01'),
    ];
    for (const refundId of refundIds) await settle(paymentId, refundId, 1);
    expect(await stateOf(paymentId)).toEqual({ status: 3, refunded: true, refunds: [1, 1] });
  });

  test('of failure leaves the payment and gives the amount free again', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100');
    await settle(paymentId, refundId, 2);
    expect(await stateOf(paymentId)).toEqual({ status: 1, refunded: false, refunds: [2] });

    const again = await app.call('POST', `/payments/${paymentId}/refund`, z.unknown(), {
      body: { amount: '100', reason: '重新退款' },
    });
    expect(again.status).toBe(201);
  });

  test('that comes again is answered alike and changes nothing', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100');
    const first = await settle(paymentId, refundId, 1);
    const rows = await rowsOf(paymentId);
    const second = await settle(paymentId, refundId, 1);
    expect(second).toMatchObject({ status: 200, data: first.data });
    expect(await rowsOf(paymentId)).toEqual(rows);
  });

  test.for([
    { was: 1, next: 2 },
    { was: 2, next: 1 },
  ])('of $was does not become $next', async ({ was, next }) => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100', was);
    const rows = await rowsOf(paymentId);
    const reply = await settle(paymentId, refundId, next);
    expect(reply).toMatchObject({ status: 409, code: 40903, data: { status: was } });
    expect(await rowsOf(paymentId)).toEqual(rows);
  });

  test('of a refund that is unknown, or another payment’s, is refused', async () => {
    const [paymentId, otherId] = [await insertPayment(app.sql), await insertPayment(app.sql)];
    const refundId = await insertRefund(otherId, '1');
    expect(await settle('9223372036854775807', refundId, 1)).toMatchObject({ code: 40401 });
    expect(await settle(paymentId, '9223372036854775807', 1)).toMatchObject({ code: 40402 });
    expect(await settle(paymentId, refundId, 1)).toMatchObject({ status: 404, code: 40402 });
    expect(await stateOf(otherId)).toMatchObject({ refunds: [0] });
  });

  test('takes one database request', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '1');
    expect(await app.databaseRequests(() => settle(paymentId, refundId, 1))).toBe(1);
  });

  test('whose answer was lost is found by the second try', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100');
    await app.faults({ drop: 'after' });
    expect(await settle(paymentId, refundId, 1)).toMatchObject({
      status: 200,
      data: { status: 1 },
    });
    expect(await stateOf(paymentId)).toEqual({ status: 3, refunded: true, refunds: [1] });
  });
});

describe('in parallel', () => {
  test('opposite outcomes of one refund: exactly one of them wins', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100');
    const statuses = [1, 2, 1, 2, 1, 2, 1, 2];
    const replies = await Promise.all(
      statuses.map((status) => settle(paymentId, refundId, status)),
    );

    const won = (await stateOf(paymentId)).refunds[0];
    replies.forEach((reply, index) => {
      expect(reply.code).toBe(statuses[index] === won ? 0 : 40903);
    });
  });

  test('the payment is refunded exactly when its refunds that succeeded add up to it', async () => {
    const outcome = fc.constantFrom(1, 1, 1, 2);
    const share = fc.record({ fen: fc.integer({ min: 1, max: 99_999 }), outcome });
    await fc.assert(
      fc.asyncProperty(fc.array(share, { minLength: 1, maxLength: 8 }), async (shares) => {
        const yuan = (fen: number) => (fen / 100).toFixed(2);
        const total = shares.reduce((sum, { fen }) => sum + fen, 0);
        const paymentId = await insertPayment(app.sql, { amount: yuan(total) });
        const refunds: string[] = [];
        for (const { fen } of shares) refunds.push(await insertRefund(paymentId, yuan(fen)));
        await Promise.all(
          shares.map((one, index) => settle(paymentId, refunds[index] ?? '', one.outcome)),
        );

        const refunded = shares.every((one) => one.outcome === 1);
        expect(await stateOf(paymentId)).toEqual({
          status: refunded ? 3 : 1,
          refunded,
          refunds: shares.map((one) => one.outcome),
        });
      }),
      { numRuns: 40 },
    );
  });
});
