/**
 * Who is signed in. The session is a cookie that no script sees; this asks the API whose it is. A token in
 * the address's fragment, or pasted into the sign-in page, is exchanged for the cookie and forgotten.
 */
import { signal } from '@preact/signals';
import { expired, Failure, forgetAll, get, sessionRenewed, write } from './api';
import { fill, texts } from './texts';

/** What GET /session says. */
export interface Session {
  actor: string;
  scopes: string[];
  expires_at: string;
  time_zone: string;
}

/** The session; null where nobody is signed in, undefined before that is known. */
export const session = signal<Session | null | undefined>(undefined);

/** Why it is not known who is signed in. */
export const sessionFailure = signal<Failure | undefined>(undefined);

/** What may be done here: actions without a scope are not shown. */
export function may(scope: string): boolean {
  return session.value?.scopes.includes(scope) ?? false;
}

/** Takes a scope away that the API said is missing, so that its action disappears. */
export function lacks(scope: string): void {
  const known = session.peek();
  if (known) session.value = { ...known, scopes: known.scopes.filter((one) => one !== scope) };
}

/** The business's zone. */
export function zone(): string {
  return session.value?.time_zone ?? 'Asia/Shanghai';
}

const SIGNED_IN = 'signed in';
const SIGNED_OUT = 'signed out';

/** Why a link did not sign in. */
export const linkFailure = signal<Failure | undefined>(undefined);

/** One tab tells the others that somebody signed in or out. */
const channel = new BroadcastChannel('console-session');

/** Finds out who is signed in, signs in by a link, and listens to the other tabs. */
export async function startSession(): Promise<void> {
  channel.addEventListener('message', ({ data }) => {
    if (data === SIGNED_OUT) become(null);
    else ask();
  });
  addEventListener('hashchange', () => signInByLink());
  // A cookie may have been renewed where no message of ours came from.
  addEventListener('focus', () => {
    if (expired.peek()) ask();
  });
  if (!(await signInByLink())) await ask();
}

async function signInByLink(): Promise<boolean> {
  const token = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (token === undefined) return false;
  history.replaceState(history.state, '', location.pathname + location.search);
  await ask();
  // Who sends somebody a link must not have them work under the sender's name without noticing.
  const current = session.peek()?.actor;
  const question = fill(texts.value.session.replace, { actor: current ?? '' });
  if (current !== undefined && current !== actorOf(token) && !confirm(question)) return true;
  try {
    await signIn(token);
  } catch (error) {
    if (error instanceof Failure) linkFailure.value = error;
    session.value = session.peek() ?? null;
    return session.peek() !== null;
  }
  return true;
}

/** The actor of a token, as far as that can be read here; the API checks it. */
function actorOf(token: string): string | undefined {
  try {
    const payload = token.split('.')[1]?.replaceAll('-', '+').replaceAll('_', '/') ?? '';
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    const sub: unknown = Reflect.get(Object(claims), 'sub');
    return typeof sub === 'string' ? sub : undefined;
  } catch {
    return undefined;
  }
}

/** Exchanges a token for the session cookie. Throws Failure where it is not good. */
export async function signIn(token: string): Promise<void> {
  const body = { token: token.trim() };
  const { data } = await write<Session>('POST', '/console/session', body, { once: true });
  become(data);
  channel.postMessage(SIGNED_IN);
}

/** Asks the API again whose session it is. */
export async function ask(): Promise<void> {
  try {
    const { data } = await get<Session>('/session', { once: true });
    sessionFailure.value = undefined;
    become(data);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    // An open page stays: the dialogue over it asks to sign in again.
    if (error.code === 40100) session.value = session.peek() ?? null;
    else sessionFailure.value = error;
  }
}

function become(next: Session | null): void {
  if (session.peek()?.actor !== next?.actor) forgetAll();
  session.value = next;
  if (!next) return;
  linkFailure.value = undefined;
  sessionRenewed();
}

/** Ends the session of this browser, in all its tabs. The token itself lives until its end. Throws Failure. */
export async function signOut(): Promise<void> {
  const { data } = await write<{ logout_url?: string | null } | null>('DELETE', '/console/session');
  channel.postMessage(SIGNED_OUT);
  become(null);
  location.assign(data?.logout_url ?? '/console/signed-out');
}
