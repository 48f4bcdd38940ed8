/** The pace of sends: freely while a minute has fewer than 60, and never one thing twice by itself. */
import { describe, expect, test } from 'vitest';
import { sendAll, type Verdict, waitBefore } from '../../../console/refunds/pace.ts';

const every = (count: number, ms: number) => Array.from({ length: count }, (_, i) => i * ms);

describe('waitBefore', () => {
  test.each([
    ['nothing sent', [], 0, 0],
    ['59 at once', every(59, 0), 0, 0],
    ['60 at once', every(60, 0), 0, 60_000],
    ['60 at once, later', every(60, 0), 45_000, 15_000],
    ['60 at once, a minute ago', every(60, 0), 60_000, 0],
    ['60 in 6 seconds', every(60, 100), 6_000, 54_000],
    ['more than are counted', every(100, 100), 10_000, 54_000],
    ['one a second', every(100, 1_000), 100_000, 0],
  ])('%s', (_, sent, now, expected) => {
    expect(waitBefore(sent, now)).toBe(expected);
  });
});

/** A world whose time passes only by waiting and sending. */
function worldOf(options: { answer?: (item: number) => Verdict; stopAt?: number } = {}) {
  const world = {
    time: 0,
    items: [] as number[],
    waits: [] as number[],
    sent: [] as number[],
    send: async (item: number): Promise<Verdict> => {
      world.items.push(item);
      world.time += 100;
      return options.answer?.(item) ?? 'go on';
    },
    wait: async (ms: number) => {
      world.waits.push(ms);
      world.time += ms;
    },
    stopped: () => world.items.length === options.stopAt,
    now: () => world.time,
  };
  return world;
}

describe('sendAll', () => {
  test('sends 60 freely, then waits for the oldest to be a minute old', async () => {
    const world = worldOf();
    await sendAll(every(62, 1), world);
    expect(world.items).toEqual(every(62, 1));
    expect(world.waits).toEqual([54_000]);
  });

  test('counts what an earlier batch sent', async () => {
    const world = worldOf();
    await sendAll(every(40, 1), world);
    await sendAll(every(21, 1), world);
    expect(world.waits).toEqual([54_000]);
  });

  test('never has more than 60 in any minute', async () => {
    const times: number[] = [];
    const world = worldOf();
    const { send } = world;
    world.send = (item) => {
      times.push(world.time);
      return send(item);
    };
    await sendAll(every(200, 1), world);
    for (const [index, time] of times.entries()) {
      const next = times[index + 60];
      if (next !== undefined) expect(next - time).toBeGreaterThanOrEqual(60_000);
    }
  });

  test('sends what was refused for its pace again, after the wait it was told', async () => {
    let refusals = 2;
    const world = worldOf({
      answer: (item) => (item === 1 && refusals-- > 0 ? { again: 7 } : 'go on'),
    });
    await sendAll([0, 1, 2], world);
    expect(world.items).toEqual([0, 1, 1, 1, 2]);
    expect(world.waits).toEqual([7_000, 7_000]);
  });

  test('stops where it is told to', async () => {
    const world = worldOf({ answer: (item) => (item === 1 ? 'stop' : 'go on') });
    await sendAll([0, 1, 2], world);
    expect(world.items).toEqual([0, 1]);
  });

  test('sends nothing more after it was stopped, not even what waits to be sent again', async () => {
    const world = worldOf({ answer: () => ({ again: 60 }), stopAt: 1 });
    await sendAll([0, 1], world);
    expect(world.items).toEqual([0]);
  });

  test('sends nothing more after it was stopped while it waited for its pace', async () => {
    const world = worldOf({ stopAt: 60 });
    await sendAll(every(61, 1), world);
    expect(world.items).toHaveLength(60);
  });
});
