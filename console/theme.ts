/** Light or dark, or as the system has it. public/console/theme.js applies the choice before the first paint. */
import { signal } from '@preact/signals';

const KEY = 'console-theme';

export type Theme = 'system' | 'light' | 'dark';

/** The order in which the button goes round. */
const THEMES: Theme[] = ['system', 'light', 'dark'];

const stored = localStorage.getItem(KEY);

/** What was chosen. */
export const theme = signal<Theme>(stored === 'light' || stored === 'dark' ? stored : 'system');

/** Goes on to the next one. */
export function nextTheme(): void {
  const next = THEMES[(THEMES.indexOf(theme.peek()) + 1) % THEMES.length] ?? 'system';
  theme.value = next;
  if (next === 'system') {
    localStorage.removeItem(KEY);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(KEY, next);
    document.documentElement.dataset.theme = next;
  }
}
