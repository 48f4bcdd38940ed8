/**
 * The time of a world, and what is due in it. A virtual clock stands still until it is moved, and what
 * falls due on the way happens in order, each at its own time. A real one runs, from wherever it is set.
 */
import { setTimeout as sleep } from 'node:timers/promises';

interface Due {
  at: number;
  run: () => void | Promise<void>;
}

/** The longest delay that a timer takes. */
const MAX_TIMER_MS = 2_147_483_647;

export class Clock {
  private kind: 'virtual' | 'real' = 'virtual';
  /** Milliseconds since 1970; with a real clock what has to be added to the machine's. */
  private base = Date.now();
  private due: Due[] = [];
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;

  now(): number {
    return this.kind === 'virtual' ? this.base : Date.now() + this.base;
  }

  use(kind: 'virtual' | 'real'): void {
    if (kind === this.kind) return;
    const now = this.now();
    this.kind = kind;
    this.set(now);
    this.arm();
  }

  schedule(delayMs: number, run: Due['run']): void {
    this.due.push({ at: this.now() + delayMs, run });
    // Stable, so what is due at the same moment happens in the order in which it was scheduled.
    this.due.sort((a, b) => a.at - b.at);
    this.arm();
  }

  /** Moves the clock on. Resolves when everything that fell due is done, callbacks included. */
  async advance(ms: number): Promise<void> {
    await this.moveTo(this.now() + ms);
  }

  /** Sets the clock, also back. What is due by then happens at the times that it was due at. */
  async moveTo(target: number): Promise<void> {
    for (let next = this.due[0]; next !== undefined && next.at <= target; next = this.due[0]) {
      this.due.shift();
      if (next.at > this.now()) this.set(next.at);
      await next.run();
    }
    this.set(target);
    this.arm();
    // A request whose answer was scheduled gets a turn before the test goes on.
    await sleep(0);
  }

  stop(): void {
    this.stopped = true;
    this.due = [];
    clearTimeout(this.timer);
  }

  private set(now: number): void {
    this.base = this.kind === 'virtual' ? now : now - Date.now();
  }

  private arm(): void {
    clearTimeout(this.timer);
    const next = this.due[0];
    if (this.kind === 'virtual' || this.stopped || next === undefined) return;
    const delay = Math.min(Math.max(next.at - this.now(), 0), MAX_TIMER_MS);
    this.timer = setTimeout(() => {
      const ready = this.due.filter(({ at }) => at <= this.now());
      this.due = this.due.slice(ready.length);
      for (const { run } of ready) void run();
      this.arm();
    }, delay);
    this.timer.unref();
  }
}
