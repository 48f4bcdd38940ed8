/** What a page shows of an answer: the data, whether newer are on their way, and what went wrong. */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { type Answer, Failure, get, remembered } from './api';

/** An answer as a page sees it. */
export interface Resource<T> {
  /** The newest answer. While another address is loading, the one of the address before. */
  answer: Answer<T> | undefined;
  /** Whether the answer is of an address before. */
  isOther: boolean;
  failure: Failure | undefined;
  busy: boolean;
  /** Asks again, past the API's cache. Resolves when the answer is there. */
  reload: () => Promise<void>;
  /** Asks again in passing: without an answer all stays, and nobody is asked to sign in. */
  renew: () => Promise<void>;
}

interface State<T> {
  path: string;
  answer: Answer<T> | undefined;
  failure: Failure | undefined;
  busy: boolean;
}

/**
 * Gets a path, and again where it changes. The answer of the last time is shown at once and renewed behind it.
 * The last request wins; older ones are aborted.
 */
export function useGet<T>(path: string): Resource<T> {
  const [state, setState] = useState<State<T>>();
  const running = useRef<AbortController>(undefined);

  // In the very render that first sees the path, so that the way back shows its rows in the same frame.
  const shown: State<T> =
    state?.path === path
      ? state
      : { path, answer: remembered<T>(path) ?? state?.answer, failure: undefined, busy: true };

  const load = useCallback(
    async (fresh: boolean) => {
      running.current?.abort();
      const controller = new AbortController();
      running.current = controller;
      const keep = (change: Partial<State<T>>) =>
        setState((last) => ({
          path,
          answer: remembered<T>(path) ?? last?.answer,
          // It stays in sight until an answer is there.
          failure: last?.path === path ? last.failure : undefined,
          busy: false,
          ...change,
        }));
      keep({ busy: true });
      try {
        const answer = await get<T>(path, { signal: controller.signal, fresh });
        if (running.current === controller) keep({ answer, failure: undefined });
      } catch (error) {
        if (running.current !== controller || controller.signal.aborted) return;
        if (!(error instanceof Failure)) throw error;
        keep({ failure: error });
      }
    },
    [path],
  );

  useEffect(() => {
    load(false);
  }, [load]);
  useEffect(() => () => running.current?.abort(), []);
  useEffect(() => {
    const again = () => load(false);
    addEventListener('console:online', again);
    return () => removeEventListener('console:online', again);
  }, [load]);

  const renew = useCallback(async () => {
    const before = running.current;
    const answer = await get<T>(path, { once: true }).catch(() => undefined);
    // What was asked meanwhile is newer.
    if (answer === undefined || running.current !== before) return;
    setState({ path, answer, failure: undefined, busy: false });
  }, [path]);
  const { answer, failure, busy } = shown;
  const isOther = answer !== undefined && answer.path !== path;
  return { answer, isOther, failure, busy, reload: useCallback(() => load(true), [load]), renew };
}
