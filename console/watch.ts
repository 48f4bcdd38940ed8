/** Asks again while something is under way and somebody looks: with growing distance, and not while the page is hidden. */
import { useEffect, useRef } from 'preact/hooks';

const FIRST_MS = 2_000;
const GROWTH = 1.6;
const LONGEST_MS = 60_000;

/** Calls `ask` while `active`. `key` starts anew from the shortest distance where it changes. */
export function useWatch(active: boolean, key: string, ask: () => Promise<void>): void {
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    if (!active) return;
    let distance = FIRST_MS;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const wait = () => {
      clearTimeout(timer);
      if (document.visibilityState !== 'visible') return;
      timer = setTimeout(async () => {
        distance = Math.min(distance * GROWTH, LONGEST_MS);
        await latest.current();
        if (timer !== undefined) wait();
      }, distance);
    };
    const look = () => {
      distance = FIRST_MS;
      wait();
    };
    wait();
    document.addEventListener('visibilitychange', look);
    return () => {
      clearTimeout(timer);
      timer = undefined;
      document.removeEventListener('visibilitychange', look);
    };
  }, [active, key]);
}
