/**
 * What tests can make a gateway do wrong: a queue of faults, taken in order by the requests that they
 * are meant for, and requests held until released. One for each world.
 */
import type { Fault, Gateway, NextWord, Operation } from './contract.ts';

/** How long `waitForHeld` waits before it answers with what there is. */
const HELD_WAIT_MS = 10_000;

export class Faults {
  private queue: { fault: Fault; left: number; endsAt: number | null }[] = [];
  private readonly held = new Set<() => void>();
  private readonly watchers = new Set<() => void>();

  get size(): number {
    return this.queue.length;
  }

  get heldCount(): number {
    return this.held.size;
  }

  set(faults: Fault[]): void {
    this.queue = faults.map((fault) => ({
      fault,
      left:
        fault.times === 'always'
          ? Number.POSITIVE_INFINITY
          : (fault.times ?? (fault.forMs === undefined ? 1 : Number.POSITIVE_INFINITY)),
      endsAt: null,
    }));
  }

  /** The first fault that is meant for this request; undefined when it is to succeed. */
  take(gateway: Gateway, operation: Operation, now: number): Fault | undefined {
    this.queue = this.queue.filter(({ endsAt }) => endsAt === null || now < endsAt);
    const entry = this.queue.find(
      ({ fault }) =>
        (fault.gateway ?? gateway) === gateway && (fault.operation ?? operation) === operation,
    );
    if (entry === undefined) return undefined;
    entry.left -= 1;
    if (entry.fault.forMs !== undefined) entry.endsAt ??= now + entry.fault.forMs;
    if (entry.left <= 0) this.queue.splice(this.queue.indexOf(entry), 1);
    return entry.fault;
  }

  /** Waits until released. */
  async hold(): Promise<void> {
    await new Promise<void>((resolve) => {
      const release = () => {
        this.held.delete(release);
        resolve();
      };
      this.held.add(release);
      for (const check of this.watchers) check();
    });
  }

  release(): void {
    for (const release of [...this.held]) release();
  }

  /** Resolves once `count` requests are held; false when they were not within ten seconds. */
  async waitForHeld(count: number): Promise<boolean> {
    if (this.held.size >= count) return true;
    return new Promise((resolve) => {
      const finish = (reached: boolean) => {
        clearTimeout(timer);
        this.watchers.delete(check);
        resolve(reached);
      };
      const check = () => {
        if (this.held.size >= count) finish(true);
      };
      const timer = setTimeout(() => finish(false), HELD_WAIT_MS);
      timer.unref();
      this.watchers.add(check);
    });
  }
}

/** NOT_ENOUGH is no fault: it lasts until the account is topped up, so the world keeps it. */
export function faultOfWord(
  word: Exclude<NextWord, 'NOT_ENOUGH'>,
  gateway: Gateway,
  settleMs: number,
): Fault {
  switch (word) {
    case 'SUCCESS':
      return { none: true };
    case 'ABNORMAL':
      return { outcome: 'ABNORMAL', afterMs: settleMs };
    case 'CLOSED':
      // Alipay closes no refund: it refuses the request.
      if (gateway === 'alipay') return { status: 200, code: 'ACQ.TRADE_HAS_FINISHED' };
      return { outcome: 'CLOSED', afterMs: settleMs };
    case 'HANG':
      return { hold: 'after' };
    case 'DROP':
      return { drop: 'after' };
    case 'SYSTEM_ERROR':
      if (gateway === 'alipay') return { statusAfter: 200, code: 'ACQ.SYSTEM_ERROR' };
      return { statusAfter: 500, code: 'SYSTEM_ERROR' };
  }
}
