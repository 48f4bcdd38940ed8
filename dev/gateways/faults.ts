/**
 * What tests can make a gateway do wrong: a queue of faults, taken in order by the requests that they
 * are meant for, and requests held until released. One for each world.
 */
import { z } from 'zod';

export const Gateway = z.enum(['wechat', 'alipay']);
export type Gateway = z.infer<typeof Gateway>;

/** `order` asks about a payment, `close` closes one, `abnormal` is WeChat's apply-abnormal-refund. */
export const Operation = z.enum(['refund', 'query', 'order', 'close', 'abnormal']);
export type Operation = z.infer<typeof Operation>;

export const RefundState = z.enum(['SUCCESS', 'PROCESSING', 'ABNORMAL', 'CLOSED']);
export type RefundState = z.infer<typeof RefundState>;

const Milliseconds = z.int().min(0).max(2_147_483_647);

/** Which requests take the fault: all, unless told. */
const Selection = {
  gateway: Gateway.optional(),
  operation: Operation.optional(),
  /** How many requests; one unless told. */
  times: z.union([z.int().min(1), z.literal('always')]).optional(),
  /** Ends this long after its first request, by the world's clock, whatever `times` says. */
  forMs: Milliseconds.optional(),
};

/** A code alone is enough: `ACQ.…` comes as 40004, `isp.…` and `aop.…` as 20000. */
const Code = z.string().min(1);

export const Fault = z.union([
  /** No fault at all, to let a request through. */
  z.strictObject({ ...Selection, none: z.literal(true) }),
  /** Cuts the connection: `before` executing, or `after` it, so that the answer is lost. */
  z.strictObject({ ...Selection, drop: z.enum(['before', 'after']) }),
  /** Waits for `release`; a request whose client has gone is executed all the same. */
  z.strictObject({ ...Selection, hold: z.enum(['before', 'after']) }),
  /** Waits, in real time. */
  z.strictObject({
    ...Selection,
    delayMs: Milliseconds,
    when: z.enum(['before', 'after']).optional(),
  }),
  /**
   * Answers this instead of executing. A `body` is sent as it is, unsigned. `unsigned` puts the code
   * into an answer without signature, which Alipay calls error_response.
   */
  z.strictObject({
    ...Selection,
    status: z.int().min(200).max(599),
    code: Code.optional(),
    body: z.string().optional(),
    unsigned: z.boolean().optional(),
  }),
  /** Executes, then answers this. */
  z.strictObject({
    ...Selection,
    statusAfter: z.int().min(200).max(599),
    code: Code.optional(),
    body: z.string().optional(),
    unsigned: z.boolean().optional(),
  }),
  /** Executes, and spoils the signature of the answer. Alipay's has no time, so it has no `stale`. */
  z.strictObject({ ...Selection, sign: z.enum(['none', 'stale', 'altered', 'unknown_serial']) }),
  /** What becomes of the refund: at once, or after so many milliseconds of PROCESSING. */
  z.strictObject({ ...Selection, outcome: RefundState, afterMs: Milliseconds.optional() }),
  /** Answers 307 to another address, without executing. */
  z.strictObject({ ...Selection, redirect: z.string() }),
]);
export type Fault = z.infer<typeof Fault>;

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

/** One word for the next refund of either gateway: `curl -X PUT $SIM/dev/next -d ABNORMAL`. */
export const NextWord = z.enum([
  'SUCCESS',
  'ABNORMAL',
  'CLOSED',
  'HANG',
  'NOT_ENOUGH',
  'DROP',
  'SYSTEM_ERROR',
]);
export type NextWord = z.infer<typeof NextWord>;

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
