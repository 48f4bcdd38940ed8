/**
 * The API against a model, in random sequences of refunds, replays, settlements, corrections, reads,
 * passing time and KV outages. Always: money is conserved, statuses move only as they may, every answer is
 * the model's. A detail read when the purges have had their time equals the model.
 */
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { PaymentDetail } from '../src/payments/detail';
import { insertPayment, startApp, type TestApp } from './harness';

/** The last purge after a change, KV's own delay, and what the queue may wait between two tries while KV is down. */
const SETTLED_SECONDS = 13 + 60 + 300;

interface Refund {
  id: string;
  fen: number;
  status: 0 | 1 | 2;
  key: string | undefined;
  /** To what it has been corrected. */
  corrected: Set<1 | 2>;
}

interface Model {
  paidFen: number;
  refunds: Refund[];
  /** When the detail last changed, or KV last was down. */
  unsettledAt: number;
}

interface Real {
  app: TestApp;
  paymentId: string;
}

const yuan = (fen: number) => `${Math.floor(fen / 100)}.${String(fen % 100).padStart(2, '0')}`;
const sum = (refunds: Refund[]) => refunds.reduce((total, { fen }) => total + fen, 0);
const leftFen = ({ paidFen, refunds }: Model) =>
  paidFen - sum(refunds.filter(({ status }) => status !== 2));
const isRefunded = ({ paidFen, refunds }: Model) =>
  sum(refunds.filter(({ status }) => status === 1)) === paidFen;
const reasonOf = (fen: number) => `退款 ${fen} 分`;

type Command = fc.AsyncCommand<Model, Real>;

const Created = z.object({ id: z.string(), amount: z.string(), status: z.number() });

class CreateRefund implements Command {
  constructor(
    readonly fen: number,
    readonly key: string | undefined,
  ) {}
  check = () => true;
  toString = () => `refund(${yuan(this.fen)}, ${this.key ?? 'no key'})`;

  async run(model: Model, { app, paymentId }: Real): Promise<void> {
    const { status, code, data } = await app.call(
      'POST',
      `/payments/${paymentId}/refund`,
      z.unknown(),
      {
        body: { amount: yuan(this.fen), reason: reasonOf(this.fen) },
        headers: this.key === undefined ? {} : { 'Idempotency-Key': this.key },
      },
    );
    const first = model.refunds.find(({ key }) => key !== undefined && key === this.key);
    if (first) {
      if (first.fen !== this.fen) return expect(code).toBe(40902);
      expect(status).toBe(200);
      expect(data).toMatchObject({ id: first.id, amount: yuan(first.fen), status: first.status });
    } else if (isRefunded(model)) {
      expect({ code, data }).toEqual({ code: 40900, data: { status: 3 } });
    } else if (this.fen > leftFen(model)) {
      expect({ code, data }).toEqual({
        code: 40901,
        data: { refundable_amount: yuan(leftFen(model)) },
      });
    } else {
      expect(status).toBe(201);
      const { id } = Created.parse(data);
      model.refunds.push({ id, fen: this.fen, status: 0, key: this.key, corrected: new Set() });
      model.unsettledAt = Date.now();
    }
  }
}

class Settle implements Command {
  constructor(
    readonly index: number,
    readonly outcome: 1 | 2,
  ) {}
  check = (model: Readonly<Model>) => model.refunds.length > 0;
  toString = () => `settle(#${this.index}, ${this.outcome})`;

  async run(model: Model, { app, paymentId }: Real): Promise<void> {
    const refund = model.refunds[this.index % model.refunds.length];
    if (!refund) throw new Error('check() saw to it');
    const { status, code, data } = await app.call(
      'PATCH',
      `/payments/${paymentId}/refunds/${refund.id}`,
      z.unknown(),
      { body: { status: this.outcome } },
    );
    if (refund.status === 0) {
      refund.status = this.outcome;
      model.unsettledAt = Date.now();
    }
    if (refund.status === this.outcome) {
      expect(status).toBe(200);
      expect(data).toMatchObject({ id: refund.id, status: this.outcome });
    } else {
      expect({ code, data }).toEqual({ code: 40903, data: { status: refund.status } });
    }
  }
}

class Correct implements Command {
  constructor(
    readonly index: number,
    readonly outcome: 1 | 2,
  ) {}
  check = (model: Readonly<Model>) => model.refunds.length > 0;
  toString = () => `correct(#${this.index}, ${this.outcome})`;

  async run(model: Model, { app, paymentId }: Real): Promise<void> {
    const refund = model.refunds[this.index % model.refunds.length];
    if (!refund) throw new Error('check() saw to it');
    const { status, code, data } = await app.call(
      'POST',
      `/payments/${paymentId}/refunds/${refund.id}/correction`,
      z.unknown(),
      { body: { status: this.outcome, reason: '与渠道对账' } },
    );
    if (refund.status === 0) return expect(code).toBe(40905);
    if (refund.status !== this.outcome) {
      if (refund.corrected.has(this.outcome)) return expect(code).toBe(40906);
      if (this.outcome === 1 && refund.fen > leftFen(model)) {
        return expect({ code, data }).toEqual({
          code: 40901,
          data: {
            refundable_amount: yuan(leftFen(model)),
            missing_amount: yuan(refund.fen - leftFen(model)),
          },
        });
      }
      refund.status = this.outcome;
      refund.corrected.add(this.outcome);
      model.unsettledAt = Date.now();
    }
    expect(status).toBe(200);
    expect(data).toMatchObject({ id: refund.id, status: this.outcome });
  }
}

class ReadDetail implements Command {
  constructor(readonly location: string) {}
  check = () => true;
  toString = () => `detail(${this.location})`;

  async run(model: Model, { app, paymentId }: Real): Promise<void> {
    const { data } = await app.call('GET', `/payments/${paymentId}`, PaymentDetail, {
      env: { DETAIL_CACHE: app.kv.at(this.location) },
    });
    await app.idle();
    const refundedFen = data.refunds
      .filter(({ status }) => status !== 2)
      .reduce((total, { amount }) => total + Math.round(Number(amount) * 100), 0);
    expect(refundedFen).toBeLessThanOrEqual(model.paidFen);
    if (Date.now() - model.unsettledAt < SETTLED_SECONDS * 1000) return;

    expect(data).toMatchObject({
      status: isRefunded(model) ? 3 : 1,
      refundable_amount: isRefunded(model) ? '0.00' : yuan(leftFen(model)),
    });
    expect(data.refunds.map(({ id, amount, status }) => ({ id, amount, status }))).toEqual(
      model.refunds.map(({ id, fen, status }) => ({ id, amount: yuan(fen), status })),
    );
  }
}

class PassTime implements Command {
  constructor(readonly seconds: number) {}
  check = () => true;
  toString = () => `pass(${this.seconds} s)`;

  async run(model: Model, { app }: Real): Promise<void> {
    await app.pass(this.seconds);
    if (app.kv.down) model.unsettledAt = Date.now();
  }
}

class SwitchKv implements Command {
  constructor(readonly down: boolean) {}
  check = () => true;
  toString = () => (this.down ? 'KV goes down' : 'KV comes back');

  async run(model: Model, { app }: Real): Promise<void> {
    if (app.kv.down) model.unsettledAt = Date.now();
    app.kv.down = this.down;
  }
}

const commands = fc.commands(
  [
    fc
      .tuple(fc.integer({ min: 1, max: 6_000 }), fc.constantFrom(undefined, 'a', 'b', 'c'))
      .map(([fen, key]) => new CreateRefund(fen, key)),
    // Few amounts and keys, so that replays with the same and with another amount are frequent.
    fc
      .tuple(fc.constantFrom(2_500, 5_000, 10_000), fc.constantFrom('a', 'b'))
      .map(([fen, key]) => new CreateRefund(fen, key)),
    fc
      .tuple(fc.nat(10), fc.constantFrom<1 | 2>(1, 1, 2))
      .map(([index, outcome]) => new Settle(index, outcome)),
    fc
      .tuple(fc.nat(10), fc.constantFrom<1 | 2>(1, 2))
      .map(([index, outcome]) => new Correct(index, outcome)),
    fc.constantFrom('SHA', 'LHR').map((location) => new ReadDetail(location)),
    fc.constantFrom('SHA', 'LHR').map((location) => new ReadDetail(location)),
    fc.constantFrom(1, 3, 10, 60).map((seconds) => new PassTime(seconds)),
    fc.constantFrom(true, false, false).map((down) => new SwitchKv(down)),
  ],
  { maxCommands: 40 },
);

/** Whatever happened before, in the end every location shows what is true. */
const SETTLED_AT_LAST: Command[] = [
  new SwitchKv(false),
  new PassTime(SETTLED_SECONDS),
  new ReadDetail('SHA'),
  new ReadDetail('LHR'),
];

const app = await startApp();
app.consumeIn('IAD');

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const Rows = z.array(z.object({ id: z.string(), amount: z.string(), status: z.number() }));

test('every sequence of requests does what the model does', async () => {
  await fc.assert(
    fc.asyncProperty(commands, async (sequence) => {
      app.kv.down = false;
      app.queue.messages = [];
      const model: Model = { paidFen: 10_000, refunds: [], unsettledAt: 0 };
      const paymentId = await insertPayment(app.sql, { amount: yuan(model.paidFen) });

      const real = { app, paymentId };
      await fc.asyncModelRun(() => ({ model, real }), sequence);
      for (const command of SETTLED_AT_LAST) await command.run(model, real);

      const rows = Rows.parse(
        await app.sql`
          SELECT id, amount, status FROM payment_refunds WHERE payment_id = ${paymentId} ORDER BY id`,
      );
      expect(rows).toEqual(
        model.refunds.map(({ id, fen, status }) => ({ id, amount: yuan(fen), status })),
      );
    }),
    { numRuns: 200 },
  );
}, 300_000);
