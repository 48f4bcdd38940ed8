/**
 * Who is calling, and what they may do. A JWT says both: one of an identity provider, checked with
 * the provider's public keys, or one signed with a secret of this deployment. With neither
 * configured every request is refused. Nobody is asked back: a token that was revoked is good until
 * its exp. One that was found good is not checked again for a minute, but for its exp.
 */
import type { Context, MiddlewareHandler } from 'hono';
import { errors, jwtVerify } from 'jose';
import * as z from 'zod';
import { readCookie } from './cookies';
import { settings } from './env';
import { ApiError, type AppEnv } from './http';
import { describeError, writeLog } from './log';
import { providerKey } from './provider-keys';

/** What a caller may be allowed to do, as it stands in a token. */
export const SCOPES = [
  'payments:read',
  'payments:export',
  'refunds:create',
  'refunds:settle',
  'refunds:correct',
  'refunds:override',
] as const;
export type Scope = (typeof SCOPES)[number];

/** How far the issuer's clock and ours may be apart. */
const CLOCK_SKEW_SECONDS = 60;

/** Never HS256: a public key must not pass for a shared secret (algorithm confusion, RFC 8725 section 2.1). */
const PROVIDER_ALGORITHMS = ['RS256', 'ES256', 'EdDSA'];

/**
 * Admits a request whose valid token has the scope, if one is asked for, and sets the actor. Throws 40100
 * without such a token, 40300 without the scope, 50301 where access control is not configured or has no keys.
 */
export function authorize(scope?: Scope): MiddlewareHandler<AppEnv> {
  return async function authorize(c, next) {
    const caller = await authenticate(c);
    c.set('caller', caller);
    c.set('actor', caller.actor);
    c.set('scopes', caller.scopes);
    c.get('log').actor = caller.actor;
    if (scope) demandScope(c, scope);
    await next();
  };
}

/** Throws 40300 where the caller that authorize() admitted lacks the scope: for a part of an endpoint only. */
export function demandScope(c: Context<AppEnv>, scope: Scope): void {
  if (c.get('scopes').includes(scope)) return;
  c.header('WWW-Authenticate', `Bearer error="insufficient_scope", scope="${scope}"`);
  throw new ApiError(40300, { required_scope: scope });
}

/** The period of WRITE_RATE_LIMIT in wrangler.toml. */
const RATE_PERIOD_SECONDS = 60;

/**
 * Refuses an actor who writes too often with 42900. Each Cloudflare location counts for itself and
 * approximately; where it cannot, the request goes on: what guards the money is elsewhere.
 */
export const limitRate: MiddlewareHandler<AppEnv> = async function limitRate(c, next) {
  const { success } = await settings(c.env)
    .WRITE_RATE_LIMIT.limit({ key: c.get('actor') })
    .catch((error: unknown) => {
      writeLog('warn', 'rate_limit_failed', { error: describeError(error) });
      return { success: true };
    });
  if (!success) {
    c.header('Retry-After', String(RATE_PERIOD_SECONDS));
    throw new ApiError(42900);
  }
  await next();
};

async function authenticate(c: Context<AppEnv>): Promise<Caller> {
  // Before the token: a deployment without access control says so to everybody.
  settings(c.env);
  const token = tokenOf(c);
  if (token === null) {
    c.header('WWW-Authenticate', 'Bearer');
    throw new ApiError(40100);
  }
  return verifyToken(c, token);
}

/** Who has this token. Throws 40100 unless it is good, 50301 where that cannot be known. */
export async function verifyToken(c: Context<AppEnv>, token: string): Promise<Caller> {
  const { AUTH_SECRET, AUTH_JWKS_URL, AUTH_ISSUER, AUTH_AUDIENCE } = settings(c.env);
  const callers = callersOf(
    JSON.stringify([AUTH_SECRET, AUTH_JWKS_URL, AUTH_ISSUER, AUTH_AUDIENCE]),
  );
  const known = callers.get(token);
  if (known && Date.now() < known.until) return known.caller;

  const checks = {
    requiredClaims: ['exp'],
    clockTolerance: CLOCK_SKEW_SECONDS,
    ...(AUTH_ISSUER === undefined ? {} : { issuer: AUTH_ISSUER }),
    ...(AUTH_AUDIENCE === undefined ? {} : { audience: AUTH_AUDIENCE }),
  };
  try {
    const { payload } = AUTH_JWKS_URL
      ? await jwtVerify(
          token,
          providerKey(AUTH_JWKS_URL, (work) => c.executionCtx.waitUntil(work)),
          { ...checks, algorithms: PROVIDER_ALGORITHMS },
        )
      : await jwtVerify(token, await secretKey(AUTH_SECRET), {
          ...checks,
          algorithms: ['HS256'],
        });
    const caller = Caller.parse(payload);
    const refusedAt = (caller.expiresAt + CLOCK_SKEW_SECONDS) * 1000;
    if (callers.size >= MAX_CALLERS) callers.clear();
    callers.set(token, { caller, until: Math.min(refusedAt, Date.now() + KNOWN_MS) });
    return caller;
  } catch (error) {
    if (error instanceof ApiError) throw error;
    // Whatever a token can make the library throw, it is the token that is refused.
    c.get('log').refusal = error instanceof errors.JOSEError ? error.code : 'ERR_JWT_CLAIMS';
    c.header('WWW-Authenticate', 'Bearer error="invalid_token"');
    throw new ApiError(40100);
  }
}

/** A signature costs more to check than all else here; by so much later a withdrawn key is noticed. */
const KNOWN_MS = 60_000;

/** What an isolate remembers at most. */
const MAX_CALLERS = 1000;

/** Callers by their tokens, of the configuration under which these were found good. */
let verified = { configuration: '', callers: new Map<string, { caller: Caller; until: number }>() };

function callersOf(configuration: string) {
  if (verified.configuration !== configuration) verified = { configuration, callers: new Map() };
  return verified.callers;
}

/** The key made of the secret last seen: importing it would cost each request as much as using it. */
let imported: { secret: string; key: CryptoKey } | undefined;

async function secretKey(secret = ''): Promise<CryptoKey> {
  if (imported?.secret === secret) return imported.key;
  const hmac = { name: 'HMAC', hash: 'SHA-256' };
  const bytes = new TextEncoder().encode(secret);
  const key = await crypto.subtle.importKey('raw', bytes, hmac, false, ['verify']);
  imported = { secret, key };
  return key;
}

/**
 * The token of the Authorization header; where there is none, of the one that Cloudflare Access adds; else
 * of the console's cookie. The last two come by themselves, whichever page asks (CSRF). So Access's does not
 * count for a browser that names another page, and the cookie only for one that names ours.
 */
function tokenOf(c: Context<AppEnv>): string | null {
  const authorization = c.req.header('Authorization');
  if (authorization !== undefined) return /^Bearer +(\S+)$/i.exec(authorization)?.[1] ?? null;

  const site = c.req.header('Sec-Fetch-Site');
  const assertion = c.req.header('Cf-Access-Jwt-Assertion');
  const isOurs = site === 'same-origin';
  // Access may stand before a deployment that trusts another provider: then the cookie is the session.
  const token =
    (isOurs ? readCookie(c, 'console') : undefined) ?? assertion ?? readCookie(c, 'console');
  if (token === undefined) return null;
  if (isOurs || (token === assertion && (site === undefined || site === 'none'))) return token;
  c.get('log').refusal = 'ERR_SEC_FETCH_SITE';
  return null;
}

const Permissions = z.object({
  /** RFC 8693 section 4.2: a list separated by spaces. */
  scope: z.string().optional(),
  /** The same as an array, as some identity providers write it. */
  permissions: z.array(z.string()).optional(),
});

/** Printable, and short enough to be kept with a refund. */
const Actor = z
  .string()
  .regex(/^\P{Cc}{1,255}$/u)
  .refine((text) => text.isWellFormed());

/** What a date can be made of: the end of the year 9999, in seconds. */
const END_OF_TIME = 253_402_300_799;

/** The claims that count here. Cloudflare Access puts those of the identity provider under `custom`. */
const Caller = Permissions.extend({
  exp: z.number(),
  sub: z.string().optional(),
  /** Cloudflare Access's name for a service token, whose sub is empty. */
  common_name: z.string().optional(),
  custom: Permissions.optional(),
}).transform(({ exp, sub, common_name, custom, ...permissions }) => ({
  actor: Actor.parse(sub || common_name),
  scopes: [permissions, custom ?? {}].flatMap(scopesOf),
  /** In seconds since the epoch. */
  expiresAt: Math.min(exp, END_OF_TIME),
}));
/** Who a token is of, what it allows, and until when. */
export type Caller = z.output<typeof Caller>;

function scopesOf({ scope = '', permissions = [] }: z.infer<typeof Permissions>): string[] {
  return [...scope.split(' '), ...permissions];
}
