/**
 * What the database guarantees about money whoever writes, with whatever SQL: refunds never exceed what
 * was paid, a refund moves only as it may, and a payment is 已退款 exactly when its refunds say so.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { insertPayment, startApp, type TestApp } from '../harness';

let app: TestApp;
beforeAll(async () => {
  app = await startApp();
});

const CHECK = '23514';
const exceeded = { code: CHECK, constraint: 'payment_refunds_within_amount' };
const illegal = { code: CHECK, constraint: 'payment_refunds_legal_move' };

let refunds = 0;
const insertRefund = async (paymentId: string, amount: string, status = 0) => {
  refunds += 1;
  const rows = await app.sql`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, status)
    VALUES (${paymentId}, ${`G${refunds}`}, ${amount}, ${status}) RETURNING id`;
  return z.tuple([z.object({ id: z.string() })]).parse(rows)[0].id;
};

const stateOf = async (paymentId: string) => {
  const rows = await app.sql`
    SELECT status, refund_time IS NOT NULL AS refunded FROM payments WHERE id = ${paymentId}`;
  return z.tuple([z.object({ status: z.number(), refunded: z.boolean() })]).parse(rows)[0];
};

describe('a refund by SQL', () => {
  it.each([0, 1])('of more than was paid is refused in status %i', async (status) => {
    const paymentId = await insertPayment(app.sql);
    await expect(insertRefund(paymentId, '99999.00', status)).rejects.toMatchObject(exceeded);
    await insertRefund(paymentId, '60.00', status);
    await expect(insertRefund(paymentId, '40.01', status)).rejects.toMatchObject(exceeded);
    await insertRefund(paymentId, '40.00', status);
  });

  it('of any amount may be there if it failed', async () => {
    const paymentId = await insertPayment(app.sql);
    await insertRefund(paymentId, '99999.00', 2);
  });

  it('cannot be raised, nor moved to a payment that has less', async () => {
    const [paymentId, small] = [
      await insertPayment(app.sql),
      await insertPayment(app.sql, { amount: '30.00' }),
    ];
    const refundId = await insertRefund(paymentId, '40.00');
    const raise = app.sql`UPDATE payment_refunds SET amount = 100.01 WHERE id = ${refundId}`;
    await expect(raise).rejects.toMatchObject(exceeded);
    const move = app.sql`UPDATE payment_refunds SET payment_id = ${small} WHERE id = ${refundId}`;
    await expect(move).rejects.toMatchObject(exceeded);
  });

  it('in several rows of one statement is summed', async () => {
    const paymentId = await insertPayment(app.sql);
    const twice = app.sql`
      INSERT INTO payment_refunds (payment_id, refund_no, amount)
      SELECT ${paymentId}::bigint, 'TWICE' || n, 60 FROM generate_series(1, 2) AS n`;
    await expect(twice).rejects.toMatchObject(exceeded);
  });

  it('is summed with those of others that are committed meanwhile', async () => {
    const paymentId = await insertPayment(app.sql);
    const attempts = await Promise.allSettled(
      Array.from({ length: 20 }, () => insertRefund(paymentId, '30.00')),
    );
    expect(attempts.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
  });

  it('is not missed by a transaction at REPEATABLE READ that cannot see it', async () => {
    const paymentId = await insertPayment(app.sql);
    // Until it is ended, the other transaction waits to insert.
    const holder = app.sql.transaction([
      app.sql`SELECT pg_advisory_xact_lock(7)`,
      app.sql`SELECT pg_sleep(60)`,
    ]);
    const holderEnds = expect(holder).rejects.toMatchObject({ code: '57P01' });
    const sleeping = await app.backend("wait_event = 'PgSleep'");
    const late = app.sql.transaction(
      [
        app.sql`SELECT count(*) FROM payment_refunds`,
        app.sql`SELECT pg_advisory_xact_lock(7)`,
        app.sql`INSERT INTO payment_refunds (payment_id, refund_no, amount) VALUES (${paymentId}, 'LATE', 60)`,
      ],
      { isolationLevel: 'RepeatableRead' },
    );
    const lateFails = expect(late).rejects.toMatchObject({ code: '40001' });
    await app.backend("wait_event = 'advisory'");
    await insertRefund(paymentId, '60.00');
    await app.sql`SELECT pg_terminate_backend(${sleeping})`;
    await Promise.all([holderEnds, lateFails]);
    const rows = await app.sql`
      SELECT sum(amount) AS sum FROM payment_refunds WHERE payment_id = ${paymentId}`;
    expect(rows).toEqual([{ sum: '60.00' }]);
  });
});

describe('a payment changed at REPEATABLE READ', () => {
  it('fails if its first refund is newer than the snapshot', async () => {
    const paymentId = await insertPayment(app.sql);
    // Until it is ended, the other transaction waits to update.
    const holder = app.sql.transaction([
      app.sql`SELECT pg_advisory_xact_lock(8)`,
      app.sql`SELECT pg_sleep(60)`,
    ]);
    const holderEnds = expect(holder).rejects.toMatchObject({ code: '57P01' });
    const sleeping = await app.backend("wait_event = 'PgSleep'");
    const late = app.sql.transaction(
      [
        app.sql`SELECT count(*) FROM payment_refunds`,
        app.sql`SELECT pg_advisory_xact_lock(8)`,
        app.sql`UPDATE payments SET amount = 50, payment_method = 'bank' WHERE id = ${paymentId}`,
      ],
      { isolationLevel: 'RepeatableRead' },
    );
    const lateFails = expect(late).rejects.toMatchObject({ code: '40001' });
    await app.backend("wait_event = 'advisory'");
    await insertRefund(paymentId, '100.00');
    await app.sql`SELECT pg_terminate_backend(${sleeping})`;
    await Promise.all([holderEnds, lateFails]);
  });
});

describe('the amount of a payment', () => {
  it('cannot fall below what its refunds have taken', async () => {
    const paymentId = await insertPayment(app.sql);
    await insertRefund(paymentId, '60.00');
    const lower = app.sql`UPDATE payments SET amount = 59.99 WHERE id = ${paymentId}`;
    await expect(lower).rejects.toMatchObject(exceeded);
    await app.sql`UPDATE payments SET amount = 60 WHERE id = ${paymentId}`;
  });

  it.each([
    `INSERT INTO payments (order_id, payment_no, payment_method, amount) VALUES (1, 'NAN', 'bank', 'NaN')`,
    `UPDATE payments SET amount = 'NaN'`,
    `INSERT INTO payment_refunds (payment_id, refund_no, amount) SELECT id, 'NAN', 'NaN' FROM payments LIMIT 1`,
    `UPDATE payment_refunds SET amount = 'NaN'`,
    `UPDATE payment_refund_totals SET reserved = 'NaN'`,
    `UPDATE payment_daily_totals SET amount = 'NaN'`,
    `UPDATE payment_monthly_totals SET amount = 'NaN'`,
  ])('and any other amount is a number: %s', async (statement) => {
    await insertRefund(await insertPayment(app.sql), '1.00');
    await app.merge();
    await expect(app.sql.query(statement)).rejects.toMatchObject({ code: CHECK });
  });
});

describe('a refund moves by SQL', () => {
  it.each([
    { was: 0, next: 1 },
    { was: 0, next: 2 },
  ])('from $was to $next', async ({ was, next }) => {
    const refundId = await insertRefund(await insertPayment(app.sql), '1.00', was);
    await app.sql`UPDATE payment_refunds SET status = ${next} WHERE id = ${refundId}`;
  });

  it.each([
    { was: 1, next: 0 },
    { was: 2, next: 0 },
    { was: 1, next: 2 },
    { was: 2, next: 1 },
  ])('from $was to $next not', async ({ was, next }) => {
    const refundId = await insertRefund(await insertPayment(app.sql), '1.00', was);
    const move = app.sql`UPDATE payment_refunds SET status = ${next} WHERE id = ${refundId}`;
    await expect(move).rejects.toMatchObject(illegal);
  });

  it('from 1 to 2 with the reason on record', async () => {
    const refundId = await insertRefund(await insertPayment(app.sql), '1.00', 1);
    const [, moved] = await app.sql.transaction([
      app.sql`
        INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id, reason)
        VALUES (${refundId}, 'dba', 1, 2, 'by-hand', '账户已注销')`,
      app.sql`UPDATE payment_refunds SET status = 2 WHERE id = ${refundId} RETURNING status`,
    ]);
    expect(moved).toEqual([{ status: 2 }]);
  });

  it('once for each reason on record', async () => {
    const refundId = await insertRefund(await insertPayment(app.sql), '1.00', 1);
    const event = (from: number, to: number, reason: string) => app.sql`
      INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id, reason)
      VALUES (${refundId}, 'dba', ${from}, ${to}, 'by-hand', ${reason})`;
    const move = (to: number) =>
      app.sql`UPDATE payment_refunds SET status = ${to} WHERE id = ${refundId}`;
    const again = [event(1, 2, '退回'), move(2), event(2, 1, '到账'), move(1), move(2)];
    await expect(app.sql.transaction(again)).rejects.toMatchObject(illegal);
    const blank = [event(1, 2, ' '), move(2)];
    await expect(app.sql.transaction(blank)).rejects.toMatchObject({ code: CHECK });
  });

  it('from 2 to 1 only if the money is still there', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '60.00', 2);
    await insertRefund(paymentId, '60.00');
    const corrected = app.sql.transaction([
      app.sql`
        INSERT INTO payment_refund_events (refund_id, actor, from_status, to_status, request_id, reason)
        VALUES (${refundId}, 'dba', 2, 1, 'by-hand', '已到账')`,
      app.sql`UPDATE payment_refunds SET status = 1 WHERE id = ${refundId}`,
    ]);
    await expect(corrected).rejects.toMatchObject(exceeded);
  });
});

describe('a payment becomes 已退款', () => {
  it('when refunds by SQL complete what was paid', async () => {
    const paymentId = await insertPayment(app.sql);
    await insertRefund(paymentId, '60.00', 1);
    expect(await stateOf(paymentId)).toEqual({ status: 1, refunded: false });
    await insertRefund(paymentId, '40.00', 1);
    expect(await stateOf(paymentId)).toEqual({ status: 3, refunded: true });
  });

  it('when two settlements do, one of them by SQL', async () => {
    const paymentId = await insertPayment(app.sql);
    const [one, other] = [
      await insertRefund(paymentId, '60.00'),
      await insertRefund(paymentId, '40.00'),
    ];
    const path = `/payments/${paymentId}/refunds/${one}`;
    await app.call('PATCH', path, z.unknown(), { body: { status: 1 } });
    await app.sql`UPDATE payment_refunds SET status = 1 WHERE id = ${other}`;
    expect(await stateOf(paymentId)).toEqual({ status: 3, refunded: true });
  });

  it('when its amount is corrected down to what was refunded', async () => {
    const paymentId = await insertPayment(app.sql);
    await insertRefund(paymentId, '90.00', 1);
    await app.sql`UPDATE payments SET amount = 90 WHERE id = ${paymentId}`;
    expect(await stateOf(paymentId)).toEqual({ status: 3, refunded: true });
  });

  it('by a repeated settlement, if it was left behind', async () => {
    const paymentId = await insertPayment(app.sql);
    const refundId = await insertRefund(paymentId, '100.00');
    await app.sql.transaction([
      app.sql`ALTER TABLE payment_refunds DISABLE TRIGGER USER`,
      app.sql`UPDATE payment_refunds SET status = 1 WHERE id = ${refundId}`,
      app.sql`ALTER TABLE payment_refunds ENABLE TRIGGER USER`,
    ]);
    expect(await stateOf(paymentId)).toEqual({ status: 1, refunded: false });
    const path = `/payments/${paymentId}/refunds/${refundId}`;
    const reply = await app.call('PATCH', path, z.unknown(), { body: { status: 1 } });
    expect(reply.status).toBe(200);
    expect(await stateOf(paymentId)).toEqual({ status: 3, refunded: true });
  });

  it('not for nothing: a payment of 0.00 stays as it is', async () => {
    const paymentId = await insertPayment(app.sql, { amount: '0.00' });
    await insertRefund(paymentId, '1.00', 2);
    expect(await stateOf(paymentId)).toEqual({ status: 1, refunded: false });
  });

  it('and stays so without refunds if somebody else made it so', async () => {
    const paymentId = await insertPayment(app.sql, { status: 3 });
    await insertRefund(paymentId, '1.00', 2);
    await app.sql`UPDATE payments SET amount = 200 WHERE id = ${paymentId}`;
    expect((await stateOf(paymentId)).status).toBe(3);
  });
});

describe('a payment that was over-refunded before', () => {
  it('may become less so, and no more so', async () => {
    const paymentId = await insertPayment(app.sql);
    await app.sql.transaction([
      app.sql`SET LOCAL session_replication_role = replica`,
      app.sql`
        INSERT INTO payment_refunds (payment_id, refund_no, amount)
        VALUES (${paymentId}, 'OVER1', 80), (${paymentId}, 'OVER2', 70)`,
    ]);
    await app.sql`SELECT recount_payments()`;
    await expect(insertRefund(paymentId, '0.01')).rejects.toMatchObject(exceeded);
    await app.sql`UPDATE payment_refunds SET amount = 60 WHERE refund_no = 'OVER2'`;
    await app.sql`UPDATE payment_refunds SET status = 1 WHERE refund_no = 'OVER1'`;
    await app.sql`UPDATE payment_refunds SET status = 2 WHERE refund_no = 'OVER2'`;
    const detail = z.object({ refunded_amount: z.string(), refundable_amount: z.string() });
    expect((await app.call('GET', `/payments/${paymentId}`, detail)).data).toEqual({
      refunded_amount: '80.00',
      refundable_amount: '20.00',
    });
  });
});

describe('a time that no client could be shown', () => {
  it.each([
    `INSERT INTO payments (order_id, payment_no, payment_method, amount, created_at) VALUES (1, 'T1', 'bank', 1, to_timestamp(1795608000000))`,
    `INSERT INTO payments (order_id, payment_no, payment_method, amount, created_at) VALUES (1, 'T2', 'bank', 1, '0044-03-15 BC')`,
    `INSERT INTO payments (order_id, payment_no, payment_method, amount, created_at) VALUES (1, 'T3', 'bank', 1, 'infinity')`,
    `UPDATE payments SET payment_time = to_timestamp(1795608000000)`,
    `UPDATE payments SET refund_time = '-infinity'`,
    `UPDATE payments SET updated_at = '10000-01-01 00:00+00'`,
    `UPDATE payment_refunds SET created_at = to_timestamp(1795608000000)`,
    `INSERT INTO payment_callbacks (payment_id, callback_no, status, created_at) SELECT id, 'T4', 1, to_timestamp(1795608000000) FROM payments LIMIT 1`,
    `INSERT INTO payment_refund_events (refund_id, actor, to_status, request_id, created_at) SELECT id, 'x', 1, 'x', to_timestamp(1795608000000) FROM payment_refunds LIMIT 1`,
  ])('is refused: %s', async (statement) => {
    await insertRefund(await insertPayment(app.sql), '1.00');
    await expect(app.sql.query(statement)).rejects.toMatchObject({ code: CHECK });
  });

  it.each(['payments', 'payment_refunds', 'payment_callbacks'])(
    'as is an id of %s that is not positive',
    async (table) => {
      const paymentId = await insertPayment(app.sql);
      await insertRefund(paymentId, '1.00');
      await app.sql`
        INSERT INTO payment_callbacks (payment_id, callback_no, status) VALUES (${paymentId}, ${`C${paymentId}`}, 1)`;
      const update = `UPDATE ${table} SET id = 0 WHERE id = (SELECT max(id) FROM ${table})`;
      await expect(app.sql.query(update)).rejects.toMatchObject({ code: CHECK });
    },
  );

  it.each([
    '0001-01-01T00:00:00.000001Z',
    '1969-12-31T23:59:59.999999Z',
    '9999-12-31T23:59:59.999999Z',
  ])('may otherwise be as odd as %s, and is a place to continue from', async (created_at) => {
    const other = await startApp();
    const ids = [
      await insertPayment(other.sql, { created_at }),
      await insertPayment(other.sql, { created_at }),
    ];
    const Page = z.object({
      list: z.array(z.object({ id: z.string(), created_at: z.string() })),
      next_cursor: z.string().nullable(),
    });
    const first = (await other.call('GET', '/payments?size=1', Page)).data;
    const second = await other.call('GET', `/payments?size=1&cursor=${first.next_cursor}`, Page);
    const shown = [...first.list, ...second.data.list];
    expect(shown.map(({ id }) => id)).toEqual(ids.toReversed());
    expect(shown[0]?.created_at).toBe(`${created_at.slice(0, 23)}Z`);
    const page = await other.call('GET', '/payments?size=1&page=2', Page);
    expect(page.data.list).toEqual(second.data.list);
  });
});
