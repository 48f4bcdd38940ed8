/**
 * The delivery of callbacks: repeated by each gateway's schedule until they are answered as it wants.
 * They are posted to a URL, or collected for a test that delivers them itself and says what came back.
 */
import { randomUUID } from 'node:crypto';
import type { Clock } from './clock.ts';
import type { DeliveryState, Gateway, Posted } from './contract.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** How long after each failed attempt the next one follows. */
const REPEATS_MS: Record<Gateway, number[]> = {
  wechat: [
    ...[15 * SECOND, 15 * SECOND, 30 * SECOND, 3 * MINUTE, 10 * MINUTE, 20 * MINUTE],
    ...[30 * MINUTE, 30 * MINUTE, 30 * MINUTE, HOUR],
    ...[3 * HOUR, 3 * HOUR, 3 * HOUR, 6 * HOUR, 6 * HOUR],
  ],
  alipay: [4 * MINUTE, 10 * MINUTE, 10 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, 15 * HOUR],
};

/** A later answer counts as none. */
const ANSWER_WAIT_MS = 5_000;

export interface Message {
  gateway: Gateway;
  /** REFUND.SUCCESS and the like; Alipay's trade_status. */
  event: string;
  /** Its number of the refund or the order. */
  number: string | null;
  path: string;
  /** Never repeated, as a probe, which is to be refused. */
  once?: boolean;
  /** Signed anew for each attempt; the gateway's id of the message stays the same. */
  build(now: number): { headers: Record<string, string>; body: string };
}

interface Delivery extends Pick<DeliveryState, 'id' | 'state' | 'attempts'> {
  message: Message;
}

export class Callbacks {
  private readonly clock: Clock;
  private readonly signingTime: () => number;
  private readonly target: () => string | null;
  private readonly deliveries: Delivery[] = [];
  private readonly stopping = new AbortController();

  constructor(clock: Clock, signingTime: () => number, target: () => string | null) {
    this.clock = clock;
    this.signingTime = signingTime;
    this.target = target;
  }

  state(): DeliveryState[] {
    return this.deliveries.map(({ id, message, state, attempts }) => {
      const { gateway, event, number } = message;
      return { id, gateway, event, number, state, attempts };
    });
  }

  queue(message: Message, delayMs = 0): string {
    const delivery: Delivery = { id: randomUUID(), message, state: 'waiting', attempts: [] };
    this.deliveries.push(delivery);
    if (delayMs === 0) void this.attempt(delivery);
    else this.clock.schedule(delayMs, () => this.attempt(delivery));
    return delivery.id;
  }

  /** The messages that are due now, for a test to deliver. What it doesn't answer in 5 s has failed. */
  drain(): Posted[] {
    return this.deliveries
      .filter(({ state }) => state === 'due')
      .map((delivery) => {
        delivery.state = 'out';
        const attempt = delivery.attempts.length;
        this.clock.schedule(ANSWER_WAIT_MS, () => {
          if (delivery.state === 'out' && delivery.attempts.length === attempt) {
            this.conclude(delivery, { status: null, body: '' });
          }
        });
        const posted = post(delivery.message, this.signingTime());
        return { ...posted, id: delivery.id, attempt: attempt + 1 };
      });
  }

  /** What the application answered to a message that `drain` had given out. False: it was not out. */
  answer(id: string, answer: { status: number; body: string; tookMs: number }): boolean {
    const delivery = this.deliveries.find((one) => one.id === id);
    if (delivery?.state !== 'out') return false;
    const isLate = answer.tookMs > ANSWER_WAIT_MS;
    this.conclude(delivery, isLate ? { status: null, body: '' } : answer);
    return true;
  }

  stop(): void {
    this.stopping.abort();
  }

  private async attempt(delivery: Delivery): Promise<void> {
    const target = this.target();
    if (target === null) {
      delivery.state = 'due';
      return;
    }
    delivery.state = 'out';
    const { path, headers, bodyBase64 } = post(delivery.message, this.signingTime());
    const answer = await fetch(new URL(path, target), {
      method: 'POST',
      headers,
      body: Buffer.from(bodyBase64, 'base64'),
      redirect: 'manual',
      signal: AbortSignal.any([this.stopping.signal, AbortSignal.timeout(ANSWER_WAIT_MS)]),
    })
      .then(async (response) => ({ status: response.status, body: await response.text() }))
      .catch(() => ({ status: null, body: '' }));
    if (!this.stopping.signal.aborted) this.conclude(delivery, answer);
  }

  private conclude(delivery: Delivery, answer: { status: number | null; body: string }): void {
    const { gateway, once = false } = delivery.message;
    const { status } = answer;
    delivery.attempts.push({ at: this.clock.now(), status, body: answer.body.slice(0, 1_000) });
    const isTaken =
      gateway === 'wechat'
        ? status === 200 || status === 204
        : status === 200 && answer.body === 'success';
    const wait = REPEATS_MS[gateway][delivery.attempts.length - 1];
    if (isTaken) {
      delivery.state = 'taken';
    } else if (once || wait === undefined) {
      delivery.state = 'given up';
    } else {
      delivery.state = 'waiting';
      this.clock.schedule(wait, () => this.attempt(delivery));
    }
  }
}

/** Builds a message outside the deliveries, as for a test that sends it when it likes. */
export function post(message: Message, now: number): Omit<Posted, 'id' | 'attempt'> {
  const { gateway, event, number, path } = message;
  const { headers, body } = message.build(now);
  return {
    gateway,
    event,
    number,
    path,
    headers,
    bodyBase64: Buffer.from(body).toString('base64'),
  };
}
