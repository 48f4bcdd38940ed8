/**
 * The session of the console: a cookie that holds the access token itself, so nothing is stored here and
 * every request is checked like any other. Signing out removes the cookie; the token is good until its exp.
 * Nothing here is limited in its rate: a token is checked as for any request, which costs less than a ms.
 */
import { type Context, Hono } from 'hono';
import * as z from 'zod';
import { authorize, type Caller, SCOPES, verifyToken } from './auth';
import { admitsCookies, MAX_COOKIE_BYTES, writeCookie } from './cookies';
import { settings } from './env';
import { ApiError, type AppEnv, envelope, jsonBody, NO_PARAMETERS, validate } from './http';
import { UtcTime } from './time';

/** Who is calling, what they may do here, and until when. */
export const Session = z.object({
  actor: z.string().meta({ description: 'As it stands in the record of a change' }),
  scopes: z.array(z.enum(SCOPES)),
  expires_at: UtcTime,
  time_zone: z.string().meta({ description: 'TIME_ZONE of the deployment' }),
});
type Session = z.output<typeof Session>;

/** A token to be kept in the cookie. */
export const SessionToken = z.strictObject({
  token: z
    .string('须为字符串')
    .max(
      MAX_COOKIE_BYTES,
      `令牌超过 ${MAX_COOKIE_BYTES} 字节，浏览器无法保存，须由签发方精简其内容`,
    )
    .meta({ description: 'A JWT, as for Authorization' }),
});

/** How one can sign in, for somebody who has not. */
export const SignIn = z.object({
  provider: z
    .boolean()
    .meta({ description: 'Whether GET /console/sign-in leads to an identity provider' }),
});

/** Where signing out goes on. */
export const SignedOut = z.object({
  logout_url: z.literal('/cdn-cgi/access/logout').nullable().meta({
    description:
      'Of Cloudflare Access, where it let the request in: it would let in the next one, too',
  }),
});

export const getSession = new Hono<AppEnv>()
  .get('/session', authorize(), validate({ query: NO_PARAMETERS }), (c) =>
    c.json(envelope('获取成功', sessionOf(c, c.get('caller')))),
  )
  .get('/console/session', (c) => {
    const { AUTH_CLIENT_ID } = settings(c.env);
    return c.json(envelope('获取成功', { provider: AUTH_CLIENT_ID !== undefined }));
  })
  .post('/console/session', jsonBody, validate({ json: SessionToken }), async (c) => {
    const { token } = c.req.valid('json');
    if (!admitsCookies(c)) {
      const message = '请通过 HTTPS 打开页面后再登录';
      throw new ApiError(40000, { errors: [{ path: '', message }] });
    }
    const caller = await verifyToken(c, token);
    c.get('log').actor = caller.actor;
    keepSession(c, token, caller);
    return c.json(envelope('登录成功', sessionOf(c, caller)));
  })
  .delete('/console/session', (c) => {
    if (admitsCookies(c)) writeCookie(c, 'console', '', { maxAge: 0, sameSite: 'Strict' });
    const isOfAccess = c.req.header('Cf-Access-Jwt-Assertion') !== undefined;
    const signedOut: z.output<typeof SignedOut> = {
      logout_url: isOfAccess ? '/cdn-cgi/access/logout' : null,
    };
    return c.json(envelope('已退出登录', signedOut));
  });

/** Makes a token that was found good the session, until it expires. */
export function keepSession(c: Context<AppEnv>, token: string, { expiresAt }: Caller): void {
  // One that is past its exp by less than the clock skew was found good, and 0 would remove the cookie.
  const maxAge = Math.max(1, Math.floor(expiresAt - Date.now() / 1000));
  writeCookie(c, 'console', token, { maxAge, sameSite: 'Strict' });
}

function sessionOf(c: Context<AppEnv>, { actor, scopes, expiresAt }: Caller): Session {
  return {
    actor,
    scopes: SCOPES.filter((scope) => scopes.includes(scope)),
    expires_at: new Date(expiresAt * 1000).toISOString(),
    time_zone: settings(c.env).TIME_ZONE,
  };
}
