/** What the console says, in the language that is shown. `{name}` in a text is filled by fill(). */
import { signal } from '@preact/signals';
import { type Texts, zh } from './texts.zh';

/** The language that is shown. */
export const texts = signal<Texts>(zh);

const LANGUAGE = 'console-language';

/** Shows the language that was chosen last; the other one is loaded on demand. */
export async function startTexts(): Promise<void> {
  if (localStorage.getItem(LANGUAGE) === 'en') await speak('en');
  document.documentElement.lang = texts.value.language;
}

/** Shows a language from now on. */
export async function speak(language: 'zh' | 'en'): Promise<void> {
  try {
    texts.value = language === 'en' ? (await import('./texts.en')).en : zh;
  } catch {
    // The file of an older deployment is gone: Chinese until the page is loaded anew.
    return;
  }
  document.documentElement.lang = texts.value.language;
  localStorage.setItem(LANGUAGE, language);
}

/** Fills the places of a text with other texts. */
export function fill(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ''));
}
