/** What PATCH /payments/:id/refunds/:refund_id guarantees: one outcome, once, and the payment follows. */
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { Refund } from '../../src/refunds/refund';
import { insertPayment, signToken, startApp } from '../harness';

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
  test('finds what somebody who does not lock the payment has just made of the refund', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '40');
    // Until it is ended, the other transaction waits to commit.
    const blocker = app.sql.transaction([
      app.sql`SELECT pg_advisory_xact_lock(1)`,
      app.sql`SELECT pg_sleep(60)`,
    ]);
    const blockerEnds = expect(blocker).rejects.toMatchObject({ code: '57P01' });
    const sleeping = await app.backend("wait_event = 'PgSleep'");
    const other = app.sql.transaction([
      app.sql`UPDATE payment_refunds SET status = 1 WHERE id = ${refundId}`,
      app.sql`SELECT pg_advisory_xact_lock(1)`,
    ]);
    await app.backend("wait_event = 'advisory'");
    const settling = settle(paymentId, refundId, 1);
    await app.backend("wait_event = 'transactionid'");
    await app.sql`SELECT pg_terminate_backend(${sleeping})`;
    await Promise.all([blockerEnds, other]);

    expect(await settling).toMatchObject({ status: 200, data: { id: refundId, status: 1 } });
  });

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

const Events = z.array(
  z.object({ actor: z.string(), from_status: z.number().nullable(), to_status: z.number() }),
);
const eventsOf = async (refundId: string) =>
  Events.parse(
    await app.sql`
      SELECT actor, from_status, to_status FROM payment_refund_events
      WHERE refund_id = ${refundId} ORDER BY id`,
  );

describe('the record of who did what', () => {
  test('has one event of a settlement that two actors send at once, again and again', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100');
    const replies = await Promise.all(
      Array.from({ length: 20 }, async (_, index) =>
        app.call('PATCH', `/payments/${paymentId}/refunds/${refundId}`, z.unknown(), {
          headers: { Authorization: `Bearer ${await signToken({ sub: `actor-${index % 2}` })}` },
          body: { status: 1 },
        }),
      ),
    );
    expect(replies.map((reply) => reply.status)).toEqual(Array(20).fill(200));
    expect(await eventsOf(refundId)).toEqual([
      { actor: expect.stringMatching(/^actor-[01]$/), from_status: 0, to_status: 1 },
    ]);
  });

  test('has nothing of what was refused', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100', 2);
    expect((await settle(paymentId, refundId, 1)).code).toBe(40903);
    expect(await eventsOf(refundId)).toEqual([]);
  });

  test('is written with the refund or not at all', async () => {
    const paymentId = await insertPayment(app.sql);
    await app.sql`ALTER TABLE payment_refund_events ADD CONSTRAINT full_up CHECK (false) NOT VALID`;
    const reply = await app.call('POST', `/payments/${paymentId}/refund`, z.unknown(), {
      body: { amount: '1', reason: '拍错了' },
    });
    await app.sql`ALTER TABLE payment_refund_events DROP CONSTRAINT full_up`;
    expect(reply.code).toBe(50000);
    expect(await app.sql`SELECT id FROM payment_refunds WHERE payment_id = ${paymentId}`).toEqual(
      [],
    );
  });

  test.for([
    "UPDATE payment_refund_events SET actor = 'somebody else'",
    'DELETE FROM payment_refund_events',
    'TRUNCATE payment_refund_events',
    'UPDATE payment_refund_events SET actor = actor WHERE false',
  ])('cannot be changed: %s', async (statement) => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100');
    await settle(paymentId, refundId, 1);
    await expect(app.sql.query(statement)).rejects.toMatchObject({ code: '23001' });
    expect(await eventsOf(refundId)).toHaveLength(1);
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
