/**
 * What tests can make the Neon endpoint do wrong, kept per database so that test files running side by
 * side do not disturb each other: a queue of faults, counters, and requests held until released.
 */

/**
 * Taken by the next request to /sql for the database, or by the next `times`; the following fault
 * waits its turn. `{"delayMs": 0}` is no fault at all, to let a request through.
 */
export type Fault = { times?: number | 'always' } & (
  | { delayMs: number; when?: 'before' | 'after' }
  /** Answers this instead of executing. Without a body, one of the shape that Neon sends. */
  | { status: number; body?: unknown }
  /** Executes, then answers this: a gateway that lost the database's answer. */
  | { statusAfter: number; body?: unknown }
  /** Cuts the connection: `before` executing, or `after` the commit (the lost answer). */
  | { drop: 'before' | 'after' }
  /**
   * Waits for `release`. A client that gives up meanwhile takes its request with it, as on Neon;
   * with `late` it is executed all the same, like one that was stuck in the network.
   */
  | { hold: 'before' | 'after'; late?: boolean }
);

export interface ControlState {
  /** Requests to /sql since the last reset, failed ones included. */
  requests: number;
  /** Statements sent to PostgreSQL for them, without BEGIN, COMMIT and ROLLBACK. */
  statements: number;
  /** The last of them. */
  lastStatement: { query: string; params: (string | null)[] } | null;
  /** Requests being held right now. */
  held: number;
  /** Faults not yet used up. */
  faults: number;
}

/** How long `held()` waits before it answers with what there is. */
const HELD_WAIT_MS = 10_000;

export class Control {
  requests = 0;
  statements = 0;
  lastStatement: ControlState['lastStatement'] = null;
  private faults: Fault[] = [];
  private readonly held = new Set<() => void>();
  private readonly watchers = new Set<() => void>();

  state(): ControlState {
    return {
      requests: this.requests,
      statements: this.statements,
      lastStatement: this.lastStatement,
      held: this.held.size,
      faults: this.faults.length,
    };
  }

  setFaults(faults: Fault[]): void {
    this.faults = faults.map((fault) => ({ ...fault }));
  }

  /** The fault of the next request; undefined when it is to succeed. */
  takeFault(): Fault | undefined {
    const fault = this.faults[0];
    if (fault === undefined || fault.times === 'always') return fault;
    const left = (fault.times ?? 1) - 1;
    if (left <= 0) this.faults.shift();
    else fault.times = left;
    return fault;
  }

  /** Waits until released, or until `signal` says that nobody is waiting for the answer any more. */
  async hold(signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return;
    await new Promise<void>((resolve) => {
      const release = () => {
        signal?.removeEventListener('abort', release);
        this.held.delete(release);
        resolve();
      };
      signal?.addEventListener('abort', release);
      this.held.add(release);
      for (const check of this.watchers) check();
    });
  }

  release(): number {
    const { size } = this.held;
    for (const release of [...this.held]) release();
    return size;
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
      this.watchers.add(check);
    });
  }

  reset(): void {
    this.requests = 0;
    this.statements = 0;
    this.lastStatement = null;
    this.faults = [];
    this.release();
  }
}
