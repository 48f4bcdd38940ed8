/** Keys of one letter, and `g` with another. None works while a field has the focus or a dialogue is open. */
import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';

/** What keys do, by what is pressed: `r`, `g p`, `Enter`. */
export type Keys = Record<string, ((event: KeyboardEvent) => void) | undefined>;

const OFF = 'console-keys';

/** Whether single keys work (WCAG 2.1.4). */
export const keysOn = signal(localStorage.getItem(OFF) !== 'off');

/** Turns single keys on or off, for later visits too. */
export function switchKeys(on: boolean): void {
  keysOn.value = on;
  if (on) localStorage.removeItem(OFF);
  else localStorage.setItem(OFF, 'off');
}

/** The newest last: a page's keys come before those of the frame. */
const active: { current: Keys }[] = [];

/** A `g` that waits for its second letter. */
let pending = '';
const SEQUENCE_MS = 1_500;
let pendingUntil = 0;

/** Makes keys work while the component is shown. */
export function useKeys(keys: Keys): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    active.push(latest);
    return () => {
      active.splice(active.indexOf(latest), 1);
    };
  }, []);
}

/** Listens from now on. */
export function startKeys(): void {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!keysOn.value || isTyping(event.target) || document.querySelector('dialog[open]')) return;
    const sequence = Date.now() < pendingUntil ? `${pending} ${event.key}` : event.key;
    pendingUntil = 0;
    const act = actionOf(sequence) ?? actionOf(event.key);
    if (act) {
      // A link or a button that has the focus takes Enter itself.
      if (event.key === 'Enter' && isInteractive(event.target)) return;
      event.preventDefault();
      act(event);
    } else if (event.key === 'g') {
      pending = 'g';
      pendingUntil = Date.now() + SEQUENCE_MS;
    }
  });
}

function actionOf(key: string) {
  return active.findLast(({ current }) => current[key])?.current[key];
}

/** Whether a key belongs to an input method: Safari ends the composition before it sends the Enter that did. */
export function isComposing(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === 229;
}

function isTyping(target: EventTarget | null): boolean {
  if (target instanceof HTMLInputElement)
    return target.type !== 'checkbox' && target.type !== 'radio';
  return (
    target instanceof HTMLTextAreaElement ||
    target instanceof HTMLSelectElement ||
    (target instanceof HTMLElement && target.isContentEditable)
  );
}

function isInteractive(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest('a, button, input, summary') !== null;
}
