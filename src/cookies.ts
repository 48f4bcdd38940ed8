/**
 * The console's cookies. Under https their names begin with `__Host-`, so no other host and no plain http
 * can set them. On this machine plain http will do. Anywhere else there are none: no cookie goes in clear.
 */
import type { Context } from 'hono';
import { getCookie, setCookie } from 'hono/cookie';
import type { AppEnv } from './http';

/** `console` is the session, `console-sign-in` what a sign-in has to remember on its way. */
type CookieName = 'console' | 'console-sign-in';

/** More than this browsers refuse for one cookie (4,096 bytes with its name and attributes), in bytes. */
export const MAX_COOKIE_BYTES = 3_584;

/** RFC 6265bis: browsers keep no cookie for longer. */
const MAX_AGE_SECONDS = 34_560_000;

/** Whether this request came in a way in which cookies may be set and read. */
export function admitsCookies(c: Context<AppEnv>): boolean {
  const { protocol, hostname } = new URL(c.req.url);
  return protocol === 'https:' || ['localhost', '127.0.0.1'].includes(hostname);
}

/** The value of a cookie, where it may be read and is there. */
export function readCookie(c: Context<AppEnv>, name: CookieName): string | undefined {
  return admitsCookies(c) ? getCookie(c, nameOf(c, name)) : undefined;
}

/** Sets a cookie that no script can read, for whole seconds; 0 removes it. Only where admitsCookies() says so. */
export function writeCookie(
  c: Context<AppEnv>,
  name: CookieName,
  value: string,
  { maxAge, sameSite }: { maxAge: number; sameSite: 'Strict' | 'Lax' },
): void {
  setCookie(c, nameOf(c, name), value, {
    maxAge: Math.min(maxAge, MAX_AGE_SECONDS),
    httpOnly: true,
    secure: isSecure(c),
    sameSite,
    path: '/',
  });
}

function nameOf(c: Context<AppEnv>, name: CookieName): string {
  return isSecure(c) ? `__Host-${name}` : name;
}

function isSecure(c: Context<AppEnv>): boolean {
  return new URL(c.req.url).protocol === 'https:';
}
