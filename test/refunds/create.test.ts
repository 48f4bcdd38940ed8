/** What POST /payments/:id/refund guarantees about money and about being sent more than once. */
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { Refund } from '../../src/refunds/refund';
import { insertPayment, startApp } from '../harness';

const app = await startApp();

afterEach(() => app.faults());

const refund = (
  paymentId: string,
  body: { amount: string | number; reason: string },
  key?: string,
) =>
  app.call('POST', `/payments/${paymentId}/refund`, z.unknown(), {
    body,
    headers: key === undefined ? {} : { 'Idempotency-Key': key },
  });

const Rows = z.array(
  z.object({
    id: z.string(),
    refund_no: z.string(),
    amount: z.string(),
    reason: z.string(),
    status: z.number(),
  }),
);

const refundsOf = async (paymentId: string) =>
  Rows.parse(
    await app.sql`
      SELECT id, refund_no, amount, reason, status FROM payment_refunds
      WHERE payment_id = ${paymentId} ORDER BY id`,
  );

describe('TestCreateRefund', () => {
  test('answers 201 with the refund and stores it', async () => {
    const paymentId = await insertPayment(app.sql, { amount: '99.99' });

    const reply = await refund(paymentId, { amount: '12.34', reason: '商品有瑕疵' });

    expect(reply).toMatchObject({ status: 201, code: 0, message: '创建成功' });
    const created = Refund.strict().parse(reply.data);
    expect(created).toMatchObject({
      payment_id: paymentId,
      amount: '12.34',
      reason: '商品有瑕疵',
      status: 0,
    });
    expect(created.refund_no).toMatch(/^[A-Za-z0-9]{1,50}$/);
    expect(await refundsOf(paymentId)).toEqual([
      {
        id: created.id,
        refund_no: created.refund_no,
        amount: '12.34',
        reason: '商品有瑕疵',
        status: 0,
      },
    ]);
  });

  test('takes an amount written as a JSON number and trims the reason', async () => {
    const paymentId = await insertPayment(app.sql);
    const reply = await refund(paymentId, { amount: 0.1, reason: '  少发一件\n' });
    expect(reply.data).toMatchObject({ amount: '0.10', reason: '少发一件' });
  });

  test('numbers refunds without a key in the order of their creation', async () => {
    const paymentId = await insertPayment(app.sql);
    for (let round = 0; round < 3; round += 1) {
      await refund(paymentId, { amount: '1', reason: '拍错了' });
    }
    const numbers = (await refundsOf(paymentId)).map((row) => row.refund_no.slice(0, 18));
    expect(numbers).toEqual(numbers.toSorted());
  });

  test('makes one database request', async () => {
    const paymentId = await insertPayment(app.sql);
    const requests = await app.databaseRequests(() =>
      refund(paymentId, { amount: '1', reason: '拍错了' }),
    );
    expect(requests).toBe(1);
  });
});

describe('the sum of refunds', () => {
  test('reaches what was paid and refuses a fen more', async () => {
    const paymentId = await insertPayment(app.sql, { amount: '10.00' });
    await refund(paymentId, { amount: '3.33', reason: '部分退款' });

    const tooMuch = await refund(paymentId, { amount: '6.68', reason: '部分退款' });
    expect(tooMuch).toMatchObject({
      status: 409,
      code: 40901,
      data: { refundable_amount: '6.67' },
    });

    expect((await refund(paymentId, { amount: '6.67', reason: '部分退款' })).status).toBe(201);
    const nothingLeft = await refund(paymentId, { amount: '0.01', reason: '部分退款' });
    expect(nothingLeft).toMatchObject({ code: 40901, data: { refundable_amount: '0.00' } });
  });

  test('does not count refunds that failed', async () => {
    const paymentId = await insertPayment(app.sql, { amount: '10.00' });
    await app.sql`
      INSERT INTO payment_refunds (payment_id, refund_no, amount, status)
      VALUES (${paymentId}, ${`F${paymentId}`}, 10, 2), (${paymentId}, ${`S${paymentId}`}, 4, 1)`;
    expect((await refund(paymentId, { amount: '6', reason: '重新退款' })).status).toBe(201);
  });

  test.for([0, 2, 3])('takes nothing from a payment in status %i', async (status) => {
    const paymentId = await insertPayment(app.sql, { status });
    const reply = await refund(paymentId, { amount: '1', reason: '拍错了' });
    expect(reply).toMatchObject({ status: 409, code: 40900, data: { status } });
    expect(await refundsOf(paymentId)).toEqual([]);
  });

  test('takes nothing from a payment that was committed after the lock had been looked for', async () => {
    const [{ id: next } = { id: '' }] = z
      .array(z.object({ id: z.string() }))
      .parse(await app.sql`SELECT nextval('payments_id_seq') AS id`);
    // Holds up the second statement of the refund, not the first.
    const holder = app.sql.transaction([
      app.sql`LOCK TABLE payment_refunds IN EXCLUSIVE MODE`,
      app.sql`SELECT pg_sleep(60)`,
    ]);
    const holderEnds = expect(holder).rejects.toMatchObject({ code: '57P01' });
    const sleeping = await app.backend("wait_event = 'PgSleep'");
    const refunding = refund(next, { amount: '100', reason: '抢先退款' });
    await app.backend("wait_event_type = 'Lock'");
    await app.sql`
      INSERT INTO payments (id, order_id, payment_no, payment_method, amount, status)
      VALUES (${next}, 1, ${`LATE${next}`}, 'bank', 100, 1)`;
    await app.sql`SELECT pg_terminate_backend(${sleeping})`;
    await holderEnds;

    expect((await refunding).code).toBe(40401);
    expect(await refundsOf(next)).toEqual([]);
  });

  test('never exceeds what was paid where the payment is deleted and inserted again', async () => {
    const paymentId = await insertPayment(app.sql);
    // Until it is ended, the other transaction waits to insert.
    const holder = app.sql.transaction([
      app.sql`SELECT pg_advisory_xact_lock(42)`,
      app.sql`SELECT pg_sleep(60)`,
    ]);
    const holderEnds = expect(holder).rejects.toMatchObject({ code: '57P01' });
    const sleeping = await app.backend("wait_event = 'PgSleep'");
    const replaced = app.sql.transaction([
      app.sql`DELETE FROM payments WHERE id = ${paymentId}`,
      app.sql`SELECT pg_advisory_xact_lock(42)`,
      app.sql`
        INSERT INTO payments (id, order_id, payment_no, payment_method, amount, status)
        VALUES (${paymentId}, 1, ${`AGAIN${paymentId}`}, 'bank', 100, 1)`,
    ]);
    await app.backend("wait_event = 'advisory'");
    const refunding = Array.from({ length: 6 }, () =>
      refund(paymentId, { amount: '100', reason: '抢先退款' }),
    );
    const waiting = `SELECT count(*) FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%payments.locked%'`;
    await app.backend(`(${waiting}) = 6`);
    await app.sql`SELECT pg_terminate_backend(${sleeping})`;
    await Promise.all([holderEnds, replaced]);
    const replies = await Promise.all(refunding);

    // What they waited for is gone; the other payment was not there for them yet.
    expect(replies.map(({ code }) => code)).toEqual(Array(6).fill(40401));
    expect(await refundsOf(paymentId)).toEqual([]);
  });

  test('is what the client believes, or nothing is refunded', async () => {
    const paymentId = await insertPayment(app.sql);
    const send = (refundable_amount: string | number, key?: string) =>
      app.call('POST', `/payments/${paymentId}/refund`, z.unknown(), {
        body: { amount: '40', reason: '部分退款', refundable_amount },
        headers: key === undefined ? {} : { 'Idempotency-Key': key },
      });
    // Two people who look at the same payment.
    const replies = await Promise.all([send('100.00', 'first'), send(100), send('100')]);
    expect(replies.map(({ code }) => code).toSorted()).toEqual([0, 40901, 40901]);
    expect(replies.find(({ code }) => code === 40901)?.data).toEqual({
      refundable_amount: '60.00',
    });
    expect((await send('60.01')).code).toBe(40901);
    expect((await send('0')).code).toBe(40901);
    expect((await send('60')).status).toBe(201);
    expect((await send('-1')).code).toBe(40000);
  });

  test('does not have to be what the client believed when a replay is found', async () => {
    const paymentId = await insertPayment(app.sql);
    const send = () =>
      app.call('POST', `/payments/${paymentId}/refund`, z.unknown(), {
        body: { amount: '40', reason: '部分退款', refundable_amount: '100.00' },
        headers: { 'Idempotency-Key': 'believed' },
      });
    expect((await send()).status).toBe(201);
    expect((await send()).status).toBe(200);
  });

  test.for([
    { made: 50, status: 0, limit: 50 },
    { made: 200, status: 2, limit: 200 },
  ])(
    'counts no more than $limit refunds: after $made in status $status',
    async ({ made, status, limit }) => {
      const paymentId = await insertPayment(app.sql);
      await app.sql`
      INSERT INTO payment_refunds (payment_id, refund_no, amount, reason, status)
      SELECT ${paymentId}::bigint, ${`L${paymentId}-`} || n, 0.01, '多次退款', ${status}::int
      FROM generate_series(2, ${made}::int) AS n`;
      expect((await refund(paymentId, { amount: '0.01', reason: '最后一笔' }, 'last')).status).toBe(
        201,
      );
      const reply = await refund(paymentId, { amount: '0.01', reason: '再来一笔' });
      expect(reply).toMatchObject({ status: 409, code: 40904, data: { limit } });
      expect((await refund(paymentId, { amount: '0.01', reason: '最后一笔' }, 'last')).status).toBe(
        200,
      );
      expect(await refundsOf(paymentId)).toHaveLength(made);
    },
  );

  test('is exact for the largest amounts that the column holds', async () => {
    const paymentId = await insertPayment(app.sql, { amount: '9999999999999999.99' });
    await refund(paymentId, { amount: '9999999999999999.98', reason: '大额' });
    const reply = await refund(paymentId, { amount: '0.02', reason: '大额' });
    expect(reply).toMatchObject({ code: 40901, data: { refundable_amount: '0.01' } });
  });

  /** Sends all refunds at once and checks what came of them against the rows. */
  async function expectConserved(paidFen: number, amountsFen: number[]): Promise<void> {
    const yuan = (fen: number) => (fen / 100).toFixed(2);
    const paymentId = await insertPayment(app.sql, { amount: yuan(paidFen) });
    const replies = await Promise.all(
      amountsFen.map((fen) =>
        app.call('POST', `/payments/${paymentId}/refund`, z.unknown(), {
          body: { amount: yuan(fen), reason: '并发退款' },
          // On a busy machine the last of 50 waits long for its turn.
          env: { DATABASE_TIMEOUT_MS: '20000' },
        }),
      ),
    );

    const created = replies.filter((reply) => reply.status === 201);
    const refused = replies.filter((reply) => reply.code === 40901);
    expect(created.length + refused.length).toBe(amountsFen.length);

    const rows = await refundsOf(paymentId);
    const answered = created.map((reply) => Refund.parse(reply.data).id);
    expect(rows.map((row) => row.id).toSorted()).toEqual(answered.toSorted());

    const refundedFen = rows.reduce((sum, row) => sum + Math.round(Number(row.amount) * 100), 0);
    expect(refundedFen).toBeLessThanOrEqual(paidFen);
    // A refusal is right only if the amount did not fit: the smallest one refused is more than what is left at last.
    const refusedFen = amountsFen.filter((_, index) => replies[index]?.code === 40901);
    for (const fen of refusedFen) expect(fen).toBeGreaterThan(paidFen - refundedFen);
  }

  test('never exceeds what was paid, for 50 parallel refunds of any amounts', async () => {
    const fen = fc.integer({ min: 1, max: 20_000 });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 300_000 }),
        fc.array(fen, { minLength: 50, maxLength: 50 }),
        expectConserved,
      ),
      { numRuns: 40, endOnFailure: true },
    );
  }, 300_000);

  test('never exceeds what was paid where the database defaults to REPEATABLE READ', async () => {
    await app.sql.query(
      `ALTER DATABASE ${app.database} SET default_transaction_isolation = 'repeatable read'`,
    );
    await app.newSessions();
    try {
      await expectConserved(
        10_000,
        Array.from({ length: 20 }, () => 3_000),
      );
    } finally {
      await app.sql.query(`ALTER DATABASE ${app.database} RESET default_transaction_isolation`);
      await app.newSessions();
    }
  });
});

describe('an Idempotency-Key', () => {
  test('answers 20 parallel requests alike and stores one refund', async () => {
    const paymentId = await insertPayment(app.sql);
    const replies = await Promise.all(
      Array.from({ length: 20 }, () =>
        refund(paymentId, { amount: '60', reason: '重复点击' }, 'a'),
      ),
    );

    expect(await refundsOf(paymentId)).toHaveLength(1);
    expect(new Set(replies.map((reply) => JSON.stringify(reply.data))).size).toBe(1);
    expect(replies.filter((reply) => reply.status === 201)).toHaveLength(1);
    const replayed = replies.filter((reply) => reply.headers.get('Idempotent-Replayed') === 'true');
    expect(replayed.map((reply) => reply.status)).toEqual(Array(19).fill(200));
  });

  test('replays the first refund when nothing is left', async () => {
    const paymentId = await insertPayment(app.sql);
    const first = await refund(paymentId, { amount: '100', reason: '全额退款' }, 'full');
    const second = await refund(paymentId, { amount: '100.00', reason: ' 全额退款 ' }, 'full');
    expect(second).toMatchObject({ status: 200, data: first.data });
  });

  test('replays the first refund when the payment is refunded by now, with its status of now', async () => {
    const paymentId = await insertPayment(app.sql);
    await refund(paymentId, { amount: '100', reason: '全额退款' }, 'full');
    await app.sql`UPDATE payments SET status = 3 WHERE id = ${paymentId}`;
    await app.sql`UPDATE payment_refunds SET status = 1 WHERE payment_id = ${paymentId}`;
    const replay = await refund(paymentId, { amount: '100', reason: '全额退款' }, 'full');
    expect(replay).toMatchObject({ status: 200, data: { status: 1 } });
  });

  test.for([
    { amount: '1.01', reason: '拍错了' },
    { amount: '1', reason: '拍错' },
  ])('refuses another refund: %o', async (other) => {
    const paymentId = await insertPayment(app.sql);
    await refund(paymentId, { amount: '1', reason: '拍错了' }, 'key');
    const reply = await refund(paymentId, other, 'key');
    expect(reply).toMatchObject({ status: 409, code: 40902, data: null });
    expect(await refundsOf(paymentId)).toHaveLength(1);
  });

  test('means one payment: on another it makes another refund', async () => {
    const paymentIds = [await insertPayment(app.sql), await insertPayment(app.sql)];
    for (const paymentId of paymentIds) {
      const reply = await refund(paymentId, { amount: '1', reason: '拍错了' }, 'shared');
      expect(reply.status).toBe(201);
    }
  });

  test('may be any printable ASCII of 255 characters, spaces inside it', async () => {
    const paymentId = await insertPayment(app.sql);
    const key = `~ ${'k'.repeat(252)}!`;
    const reply = await refund(paymentId, { amount: '1', reason: '拍错了' }, key);
    expect(reply.status).toBe(201);
    expect(Refund.parse(reply.data).refund_no).toMatch(/^[A-Za-z0-9]{1,50}$/);
  });
});

describe('a fault of the database', () => {
  test.for([
    { drop: 'before' },
    { drop: 'after' },
    { status: 500 },
    { status: 502 },
    { status: 503 },
    { status: 504 },
    { statusAfter: 502 },
    { statusAfter: 507 },
    // 200 and yet no answer of the driver's: broken off, empty, a page, JSON of something else.
    { statusAfter: 200, body: '{"results":[{"fields":[],"rows":' },
    { statusAfter: 200, body: '' },
    { statusAfter: 200, body: '<!doctype html><title>Just a moment...</title>' },
    { statusAfter: 200, body: '{"ok":true}' },
    { statusAfter: 200, body: 'null' },
    { statusAfter: 400, body: '<html>' },
    { status: 400, body: { message: 'connection closed', code: '' } },
    { status: 400, body: { message: 'could not serialize access', code: '40001' } },
    { status: 400, body: { message: 'deadlock detected', code: '40P01' } },
  ] as const)('is met by a second try, and the refund is made once: %o', async (fault) => {
    const paymentId = await insertPayment(app.sql);
    await app.faults(fault);
    const requests = await app.databaseRequests(async () => {
      const reply = await refund(paymentId, { amount: '100', reason: '网络异常' });
      expect(reply).toMatchObject({ status: 201, data: { amount: '100.00' } });
    });
    expect(requests).toBe(2);
    expect(await refundsOf(paymentId)).toHaveLength(1);
  });

  test('that loses the answer of a request with a key ends in a replay', async () => {
    const paymentId = await insertPayment(app.sql);
    await app.faults({ drop: 'after' });
    const reply = await refund(paymentId, { amount: '100', reason: '网络异常' }, 'lost');
    expect(reply.status).toBe(200);
    expect(reply.headers.get('Idempotent-Replayed')).toBe('true');
    expect(await refundsOf(paymentId)).toHaveLength(1);
  });

  const refundNo = { refund_no: expect.stringMatching(/^R\d{17}/) };

  test.for([
    {
      fault: { status: 400, body: { message: 'password authentication failed', code: '' } },
      code: 50300,
    },
    {
      fault: { status: 400, body: { message: 'too many connections', code: '53300' } },
      code: 50300,
    },
    { fault: { status: 400, body: { message: 'statement timeout', code: '57014' } }, code: 50400 },
  ] as const)(
    'that surely made nothing is answered with the refund_no, and when to try again: $fault',
    async ({ fault, code }) => {
      const paymentId = await insertPayment(app.sql);
      await app.faults(fault);
      const made = await app.databaseRequests(async () => {
        const reply = await refund(paymentId, { amount: '1', reason: '网络异常' });
        expect(reply).toMatchObject({ status: code / 100, code, data: refundNo });
        expect(reply.message).toContain('请稍后重试');
        expect(reply.headers.get('Retry-After')).toMatch(/^\d+$/);
      });
      expect(made).toBe(1);
      expect(await refundsOf(paymentId)).toEqual([]);
    },
  );

  test.for([
    { fault: { drop: 'after', times: 2 }, code: 50300 },
    { fault: { drop: 'before', times: 2 }, code: 50300 },
    { fault: { status: 503, times: 2 }, code: 50300 },
    { fault: { statusAfter: 507, times: 2 }, code: 50000 },
    { fault: { statusAfter: 200, body: '<html>', times: 2 }, code: 50300 },
    { fault: { status: 400, body: { message: 'shutdown', code: '57P01' } }, code: 50300 },
  ] as const)(
    'that leaves the outcome unknown does not tell a client without a key to try again: $fault',
    async ({ fault, code }) => {
      const paymentId = await insertPayment(app.sql);
      await app.faults(fault);
      const reply = await refund(paymentId, { amount: '1', reason: '网络异常' });
      expect(reply).toMatchObject({ code, data: refundNo });
      expect(reply.message).toContain('请先按 refund_no 查询');
      expect(reply.message).not.toContain('请稍后重试');
      expect(reply.headers.get('Retry-After')).toBeNull();

      await app.faults(fault);
      const keyed = await refund(paymentId, { amount: '1', reason: '网络异常' }, 'keyed');
      expect(keyed).toMatchObject({ code, data: { refund_no: expect.stringMatching(/^RK/) } });
      expect(keyed.message).not.toContain('refund_no');
      if (code !== 50000) expect(keyed.headers.get('Retry-After')).toMatch(/^\d+$/);
    },
  );

  test('stays unknown where only the second try surely made nothing', async () => {
    const paymentId = await insertPayment(app.sql);
    await app.faults(
      { drop: 'after' },
      { status: 400, body: { message: 'too many connections', code: '53300' } },
    );
    const reply = await refund(paymentId, { amount: '1', reason: '网络异常' });
    expect(reply).toMatchObject({ code: 50300, data: refundNo });
    expect(reply.headers.get('Retry-After')).toBeNull();
    expect(await refundsOf(paymentId)).toHaveLength(1);
  });

  test('that is ours is answered blandly, with the refund_no, and not tried again', async () => {
    const paymentId = await insertPayment(app.sql);
    await app.faults({ status: 400, body: { message: 'relation does not exist', code: '42P01' } });
    const made = await app.databaseRequests(async () => {
      const reply = await refund(paymentId, { amount: '1', reason: '网络异常' });
      expect(reply).toMatchObject({ status: 500, code: 50000, data: refundNo });
      expect(reply.message).toBe('服务器内部错误');
    });
    expect(made).toBe(1);
  });

  test('that holds a request up beyond its deadline leaves nothing to happen afterwards', async () => {
    const paymentId = await insertPayment(app.sql);
    await app.faults({ hold: 'before', late: true });
    const reply = await app.call('POST', `/payments/${paymentId}/refund`, z.unknown(), {
      body: { amount: '1', reason: '迟到' },
      env: { DATABASE_TIMEOUT_MS: '500' },
    });
    expect(reply).toMatchObject({ status: 504, code: 50400, data: refundNo });
    const before = await app.statementsSent();
    await app.release();
    // Both statements of the batch, then its end.
    await vi.waitUntil(async () => (await app.statementsSent()) >= before + 2);
    await vi.waitUntil(async () => {
      const others = await app.sql`
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()`;
      return others.length === 0;
    });
    expect(await refundsOf(paymentId)).toEqual([]);
  });

  test('that takes longer than the deadline is 50400; the refund_no shows later that it was made', async () => {
    const paymentId = await insertPayment(app.sql);
    await app.faults({ hold: 'after' });
    const reply = await app.call(
      'POST',
      `/payments/${paymentId}/refund`,
      z.object({ refund_no: z.string() }),
      {
        body: { amount: '1', reason: '超时' },
        env: { DATABASE_TIMEOUT_MS: '500' },
      },
    );
    await app.release();
    expect(reply).toMatchObject({ status: 504, code: 50400 });
    expect(reply.headers.get('Retry-After')).toBeNull();
    expect((await refundsOf(paymentId)).map((row) => row.refund_no)).toEqual([
      reply.data.refund_no,
    ]);
  });

  test('waiting for the payment’s lock ends in time, and nothing is refunded later', async () => {
    const paymentId = await insertPayment(app.sql);
    const holder = app.sql.transaction([
      app.sql`SELECT id FROM payments WHERE id = ${paymentId} FOR UPDATE`,
      app.sql`SELECT pg_sleep(60)`,
    ]);
    const holderEnds = expect(holder).rejects.toMatchObject({ code: '57P01' });
    const sleeping = z.array(z.object({ pid: z.number() }));
    const [backend] = await vi.waitUntil(async () => {
      const rows = sleeping.parse(
        await app.sql`
          SELECT pid FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event = 'PgSleep'`,
      );
      return rows.length > 0 && rows;
    });

    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    const reply = await app.call('POST', `/payments/${paymentId}/refund`, z.unknown(), {
      body: { amount: '1', reason: '等待锁' },
      env: { DATABASE_TIMEOUT_MS: '2000' },
    });
    expect(reply).toMatchObject({ status: 504, code: 50400 });
    expect(log.mock.calls.flat().join()).toContain('"sqlstate":"55P03"');
    log.mockRestore();

    await app.sql`SELECT pg_terminate_backend(${backend?.pid})`;
    await holderEnds;
    expect(await refundsOf(paymentId)).toEqual([]);
  });
});
