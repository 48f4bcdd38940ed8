/**
 * Where we are. Links are plain `<a href>`: the Navigation API turns those within the console into a change of
 * `place`, and restores the scroll position on the way back. A browser without it loads the page, which works too.
 */
import { signal } from '@preact/signals';

/** The address that is shown. */
export const place = signal(new URL(location.href));

/** Whether we came to it by back or forward. */
export const returned = signal(false);

const api = 'navigation' in window ? window.navigation : undefined;

/** Whether another place was gone to since the page was loaded. */
export const wentOn = signal(false);

/** While it is true, the page is not left by the history: something is being sent one by one. */
export const held = signal(false);

/** Follows links within the console from now on. `rendered` resolves when the page of a new place is shown. */
export function startRouter(rendered: () => Promise<void>): void {
  api?.addEventListener('navigate', (event) => {
    const url = new URL(event.destination.url);
    if (held.peek() && event.cancelable && !event.hashChange) {
      event.preventDefault();
      return;
    }
    if (!event.canIntercept || event.hashChange || event.downloadRequest !== null) return;
    if (event.formData || event.navigationType === 'reload' || !isPage(url)) return;
    event.intercept({
      // Where the focus goes is up to the pages: a filter that was changed keeps it.
      focusReset: 'manual',
      async handler() {
        wentOn.value = true;
        returned.value = event.navigationType === 'traverse';
        place.value = url;
        await rendered();
      },
    });
  });
}

/** The Worker answers these; and after signing out nothing of the session may stay in memory. */
const LOADED = ['/console/sign-in', '/console/signed-in', '/console/signed-out'];

/** Pages that this one can show in its place. */
function isPage({ origin, pathname }: URL): boolean {
  if (origin !== location.origin) return false;
  if (LOADED.includes(pathname)) return false;
  return pathname === '/console' || pathname.startsWith('/console/');
}

/** Goes to an address as a link would. `replace` leaves no entry in the history. */
export function go(href: string, options: { replace?: boolean } = {}): void {
  if (api) api.navigate(href, { history: options.replace ? 'replace' : 'auto' });
  else if (options.replace) location.replace(href);
  else location.assign(href);
}

/** The query as an address has it: empty values left out, and commas as they are. */
export function withQuery(path: string, query: Record<string, string | undefined>): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => Boolean(pair[1]));
  const text = new URLSearchParams(given).toString().replaceAll('%2C', ',');
  return text === '' ? path : `${path}?${text}`;
}

/** Where the work list of refunds begins: those that are 处理中, the oldest first. */
export const WORK_LIST = '/console/refunds?status=0&order=oldest';

/** The address that back leads to, where it is known to be one of this console. */
export function addressBefore(): URL | undefined {
  const index = api?.currentEntry?.index;
  const url = index ? api?.entries()[index - 1]?.url : undefined;
  return url ? new URL(url) : undefined;
}
