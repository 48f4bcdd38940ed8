/**
 * Sends one thing after the other, no faster than the API takes writes of one person. Pure but for what it is given,
 * and without imports, so that its vectors run in Node.
 */

/** What the API takes of one person in a minute (WRITE_RATE_LIMIT). */
const LIMIT = 60;
const PERIOD_MS = 60_000;

/** How long the next send has to wait, after those at the times of `sent`, oldest first. */
export function waitBefore(sent: readonly number[], now: number): number {
  const oldest = sent.at(-LIMIT);
  return oldest === undefined ? 0 : Math.max(0, oldest + PERIOD_MS - now);
}

/** What a send tells the others: go on, stop, or wait so many seconds and send this one again. */
export type Verdict = 'go on' | 'stop' | { again: number };

/** What sendAll() needs of the world. */
export interface World<T> {
  send: (item: T) => Promise<Verdict>;
  /** Resolves after so many milliseconds, or sooner where it was stopped. */
  wait: (ms: number) => Promise<void>;
  stopped: () => boolean;
  now: () => number;
  /** When the last sends were, oldest first. They count for the next batch as well. */
  sent: number[];
}

/** Sends the items until all were sent or something says stop. Only what was refused for its pace is sent again. */
export async function sendAll<T>(items: readonly T[], world: World<T>): Promise<void> {
  for (const item of items) {
    for (;;) {
      const pause = waitBefore(world.sent, world.now());
      if (pause > 0) await world.wait(pause);
      if (world.stopped()) return;
      world.sent.push(world.now());
      world.sent.splice(0, world.sent.length - LIMIT);
      const verdict = await world.send(item);
      if (verdict === 'stop') return;
      if (verdict === 'go on') break;
      await world.wait(verdict.again * 1000);
      if (world.stopped()) return;
    }
  }
}
