/**
 * A world: the books of both gateways, their clock, their faults and their callbacks, apart from every
 * other world. Whatever is asked of it, a refund number moves money at most once, and the refunds of an
 * order never exceed what was paid.
 */
import { randomInt } from 'node:crypto';
import { Callbacks } from './callbacks.ts';
import { Clock } from './clock.ts';
import {
  type Changes,
  type Fault,
  type Gateway,
  type NextWord,
  type Operation,
  type Order,
  type Refund,
  type RefundState,
  WorldOptions,
} from './contract.ts';
import { Faults, faultOfWord } from './faults.ts';

export class World {
  readonly clock = new Clock();
  readonly faults = new Faults();
  readonly callbacks: Callbacks;
  readonly orders: Order[] = [];
  readonly refunds: Refund[] = [];
  /** By `<gateway>.<operation>`. */
  readonly requests: Record<string, number> = {};
  /** Requests that were refused before anything was done. */
  readonly rejected: { gateway: Gateway; operation: Operation | null; code: string }[] = [];
  /** When WeChat's refund requests failed, for `failingPerSecond`. */
  failures: number[] = [];
  /** WeChat's callbacks, for `newKeyShare`. */
  callbacksSigned = 0;
  /** Called after a refund has reached a final state or ABNORMAL. */
  onSettled: (refund: Refund) => void = () => {};
  options: WorldOptions;
  private next: NextWord | null = null;
  private readonly notEnough = new Set<string>();

  constructor(options: WorldOptions) {
    this.options = options;
    this.clock.use(options.clock);
    this.callbacks = new Callbacks(
      this.clock,
      () => this.signingTime(),
      () => this.options.callbackUrl,
    );
  }

  /** The time that signatures carry, and are checked by. */
  signingTime(): number {
    return this.options.signingClock === 'world' ? this.clock.now() : Date.now();
  }

  configure(changes: Changes): void {
    this.options = WorldOptions.parse({ ...this.options, ...changes });
    this.clock.use(this.options.clock);
  }

  setNext(word: NextWord): void {
    this.next = word;
  }

  /** The fault of a request: the next word goes to the next refund, whichever gateway it is for. */
  takeFault(gateway: Gateway, operation: Operation, outRefundNo: string | null): Fault | undefined {
    const word = this.next;
    if (word === null || operation !== 'refund') {
      return this.faults.take(gateway, operation, this.clock.now());
    }
    this.next = null;
    if (word === 'NOT_ENOUGH') {
      this.notEnough.add(`${gateway} ${outRefundNo}`);
      return undefined;
    }
    return faultOfWord(word, gateway, this.options.settle.afterMs ?? 0);
  }

  /** Registers an order, or replaces it. */
  putOrder(order: Omit<Order, 'refundedAt' | 'askedAt'>): Order {
    const index = this.orders.findIndex(
      ({ gateway, outTradeNo }) => gateway === order.gateway && outTradeNo === order.outTradeNo,
    );
    const before = this.orders[index];
    const { refundedAt = null, askedAt = null } = before ?? {};
    const registered = { ...order, refundedAt, askedAt };
    if (before === undefined) this.orders.push(registered);
    else this.orders[index] = registered;
    return registered;
  }

  /** The gateway's number wins where both are named. */
  findOrder(
    gateway: Gateway,
    names: { outTradeNo?: string | undefined; tradeNo?: string | undefined },
  ): Order | undefined {
    return this.orders.find(
      (order) =>
        order.gateway === gateway &&
        (names.tradeNo !== undefined
          ? order.tradeNo === names.tradeNo
          : order.outTradeNo === names.outTradeNo),
    );
  }

  refundsOf(order: Order): Refund[] {
    return this.refunds.filter(
      ({ gateway, tradeNo }) => gateway === order.gateway && tradeNo === order.tradeNo,
    );
  }

  /** Fen that no refund has taken yet. A closed one gave its part back. */
  left(order: Order): number {
    const taken = this.refundsOf(order).filter(({ state }) => state !== 'CLOSED');
    return (order.total ?? Number.MAX_SAFE_INTEGER) - sum(taken.map(({ fen }) => fen));
  }

  /** Fen that have moved. */
  moved(order: Order): number {
    return sum(this.refundsOf(order).map(({ moved }) => moved));
  }

  canPay(gateway: Gateway, outRefundNo: string, fen: number): boolean {
    if (this.notEnough.has(`${gateway} ${outRefundNo}`)) return false;
    return this.options.balance === null || this.options.balance >= fen;
  }

  /** Fen more for both accounts; without a number, enough for everything. */
  topUp(fen: number | null): void {
    this.notEnough.clear();
    const { balance } = this.options;
    this.configure({ balance: fen === null || balance === null ? null : balance + fen });
  }

  /** Books a refund that is accepted. `afterMs` null: it stays PROCESSING until it is settled. */
  addRefund(
    order: Order,
    asked: { outRefundNo: string; fen: number; reason: string | null; notifyUrl: string | null },
    { outcome, afterMs }: { outcome: RefundState; afterMs: number | null },
  ): Refund {
    if (asked.fen > this.left(order)) throw new Error('a refund exceeds what was paid');
    const now = this.clock.now();
    const refund: Refund = {
      gateway: order.gateway,
      ...asked,
      refundId: makeNumber(order.gateway === 'wechat' ? '503' : '', now),
      outTradeNo: order.outTradeNo,
      tradeNo: order.tradeNo,
      state: 'PROCESSING',
      createdAt: now,
      succeededAt: null,
      sent: 1,
      movedTimes: 0,
      moved: 0,
      payout: null,
    };
    this.refunds.push(refund);
    order.refundedAt = now;
    if (this.options.balance !== null) this.options.balance -= asked.fen;
    this.settleLater(refund, outcome, afterMs);
    return refund;
  }

  settleLater(refund: Refund, outcome: RefundState, afterMs: number | null): void {
    if (outcome === 'PROCESSING' || afterMs === null) return;
    if (afterMs === 0) this.settle(refund, outcome);
    else
      this.clock.schedule(afterMs, () => {
        // Meanwhile a test may have settled it by hand.
        if (refund.state === 'PROCESSING') this.settle(refund, outcome);
      });
  }

  /** Throws where the move is not one that a gateway makes. */
  settle(refund: Refund, outcome: RefundState): void {
    const isOpen = refund.state === 'PROCESSING' || refund.state === 'ABNORMAL';
    if (!isOpen) throw new Error(`a refund that is ${refund.state} stays so`);
    refund.state = outcome;
    if (outcome === 'PROCESSING') return;
    if (outcome === 'CLOSED' && this.options.balance !== null) this.options.balance += refund.fen;
    if (outcome === 'SUCCESS') {
      refund.succeededAt = this.clock.now();
      refund.movedTimes += 1;
      refund.moved += refund.fen;
    }
    this.onSettled(refund);
  }

  stop(): void {
    this.clock.stop();
    this.callbacks.stop();
    this.faults.release();
  }
}

/** A number of a gateway's own: 28 digits, of which the first eight are the date. */
export function makeNumber(prefix: string, now: number): string {
  const date = new Date(now + 28_800_000).toISOString().slice(0, 10).replaceAll('-', '');
  const random = Array.from({ length: 20 - prefix.length }, () => randomInt(10)).join('');
  return `${prefix}${date}${random}`;
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
