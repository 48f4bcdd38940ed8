/** How much needs a person: the number in the navigation, from the same answer as the page. */
import { type ReadonlySignal, signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { get } from '../api';
import type { Attention } from '../types';

/** The most that the API lists of each kind. */
export const ATTENTION = '/gateway/attention?size=200';

/** Not more often, so that a database that sleeps when nobody works may sleep. */
const EVERY_MS = 5 * 60_000;

/** How often it is looked at whether it is time. */
const TICK_MS = 30_000;

const attentionCount = signal(0);
let askedAt = 0;

/** Everything that waits; 0 also while that is not known. */
export const waiting: ReadonlySignal<number> = attentionCount;

/** Keeps what an answer says. */
export function noteAttention({ refunds_total, payments_total, gateways }: Attention): void {
  askedAt = Date.now();
  attentionCount.value = refunds_total + payments_total + gateways.length;
}

/** Asks when the console opens, and every five minutes while somebody looks. */
export function useAttentionCount(active: boolean): void {
  useEffect(() => {
    if (!active) return;
    const look = async () => {
      if (document.visibilityState !== 'visible' || Date.now() - askedAt < EVERY_MS) return;
      // A question that fails waits its turn, too.
      askedAt = Date.now();
      // In passing: without an answer the number stays, and nobody is asked to sign in.
      const answer = await get<Attention>(ATTENTION, { once: true }).catch(() => undefined);
      if (answer) noteAttention(answer.data);
    };
    look();
    const timer = setInterval(look, TICK_MS);
    document.addEventListener('visibilitychange', look);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', look);
    };
  }, [active]);
}
