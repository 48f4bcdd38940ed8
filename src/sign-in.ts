/**
 * Signing in to the console at the identity provider: GET /console/sign-in leads there, GET /console/signed-in
 * is where it sends people back (OpenID Connect, authorization code flow with PKCE). The access token becomes
 * the session, if it is one that the API takes. Whatever goes wrong ends with a page and a way to try again.
 */
import { type Context, Hono } from 'hono';
import * as oauth from 'oauth4webapi';
import * as z from 'zod';
import { type Caller, verifyToken } from './auth';
import { CONSOLE_START } from './console';
import { admitsCookies, MAX_COOKIE_BYTES, readCookie, writeCookie } from './cookies';
import { settings } from './env';
import { ApiError, type AppEnv, ERRORS, type ErrorCode, validate } from './http';
import { writeLog } from './log';
import { messagePage } from './page';
import { keepSession } from './session';

/** How long somebody may take at the provider. */
const SIGN_IN_SECONDS = 600;

const FETCH_TIMEOUT_MS = 5_000;

/** After this the provider is asked for its endpoints again. */
const METADATA_FRESH_MS = 3_600_000;

/** So that the cookie which remembers it is not too large for a browser. */
const MAX_PATH_LENGTH = 2_000;

/** What the cookie remembers until the provider sends somebody back. */
const Remembered = z.object({
  state: z.string(),
  nonce: z.string(),
  verifier: z.string(),
  /** Where to go then. */
  to: z.string(),
});
type Remembered = z.infer<typeof Remembered>;

const SignInQuery = z.strictObject({
  to: z
    .string()
    .transform((to, ctx) => {
      const path = consolePath(to);
      if (path === null) ctx.addIssue('须为 /console 下的地址');
      return path ?? CONSOLE_START;
    })
    .default(CONSOLE_START),
});

export const signIn = new Hono<AppEnv>()
  .get('/console/sign-in', validate({ query: SignInQuery }), async (c) => {
    const { to } = c.req.valid('query');
    const provider = providerOf(c);
    // The page itself asks for a token, and Cloudflare Access has let in whoever gets here.
    if (!provider) return c.redirect(to);
    if (!admitsCookies(c)) return fail(c, 'INSECURE', to);
    try {
      const metadata = await discover(provider);
      const remembered = {
        state: oauth.generateRandomState(),
        nonce: oauth.generateRandomNonce(),
        verifier: oauth.generateRandomCodeVerifier(),
        to,
      };
      const url = await authorizationUrl(c, provider, metadata, remembered);
      remember(c, remembered);
      return c.redirect(url.href);
    } catch (error) {
      return fail(c, 'UNAVAILABLE', to, error);
    }
  })
  .get('/console/signed-in', async (c) => {
    const provider = providerOf(c);
    if (!provider) return c.redirect(CONSOLE_START);
    const url = new URL(c.req.url);
    const remembered = recall(c);
    // Somebody else's answer does not end a sign-in that is under way.
    if (!remembered || url.searchParams.get('state') !== remembered.state) {
      return fail(c, 'EXPIRED', remembered?.to ?? CONSOLE_START);
    }
    const { to } = remembered;
    if (!isAnswer(url, provider)) return fail(c, 'EXPIRED', to);
    writeCookie(c, 'console-sign-in', '', { maxAge: 0, sameSite: 'Lax' });

    let token: string;
    try {
      token = await redeem(c, provider, url, remembered);
    } catch (error) {
      return fail(c, reasonOf(error), to, error);
    }
    if (token.length > MAX_COOKIE_BYTES) return fail(c, 'TOO_LARGE', to);
    let caller: Caller;
    try {
      caller = await verifyToken(c, token);
    } catch (error) {
      const isRefused = error instanceof ApiError && error.code === 40100;
      return fail(c, isRefused ? 'TOKEN_REFUSED' : 'UNAVAILABLE', to, error);
    }
    c.get('log').actor = caller.actor;
    keepSession(c, token, caller);
    return c.redirect(to);
  });

/** Whether an address is what this provider answers with. Anybody can open another one, and no error is ours then. */
function isAnswer({ searchParams }: URL, { issuer }: Provider): boolean {
  const iss = searchParams.getAll('iss');
  const codes = searchParams.getAll('code').length;
  if (iss.length > 1 || codes > 1) return false;
  if (iss[0] !== undefined && iss[0] !== issuer.href && `${iss[0]}/` !== issuer.href) return false;
  return codes === 1 || searchParams.has('error');
}

interface Provider {
  issuer: URL;
  client: oauth.Client;
  secret: string | undefined;
  audience: string | undefined;
  scopes: string;
}

/** Null where people do not sign in at a provider. Throws NotConfiguredError. */
function providerOf(c: Context<AppEnv>): Provider | null {
  const { AUTH_ISSUER, AUTH_AUDIENCE, AUTH_CLIENT_ID, AUTH_CLIENT_SECRET, AUTH_SCOPES } = settings(
    c.env,
  );
  if (AUTH_CLIENT_ID === undefined || AUTH_ISSUER === undefined) return null;
  return {
    issuer: new URL(AUTH_ISSUER),
    client: { client_id: AUTH_CLIENT_ID },
    secret: AUTH_CLIENT_SECRET,
    audience: AUTH_AUDIENCE,
    scopes: AUTH_SCOPES,
  };
}

/** The provider's metadata as this isolate last read it. */
let known: { issuer: string; metadata: oauth.AuthorizationServer; readAt: number } | undefined;

async function discover({ issuer }: Provider): Promise<oauth.AuthorizationServer> {
  const isFresh = known && Date.now() - known.readAt < METADATA_FRESH_MS;
  if (known?.issuer === issuer.href && isFresh) return known.metadata;
  const response = await oauth.discoveryRequest(issuer, requestOptions(issuer));
  const metadata = await oauth.processDiscoveryResponse(issuer, response);
  known = { issuer: issuer.href, metadata, readAt: Date.now() };
  return metadata;
}

/** Plain http is for a provider on this machine, which is all that env.ts lets pass. */
function requestOptions(issuer: URL) {
  return {
    signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
    [oauth.allowInsecureRequests]: issuer.protocol === 'http:',
  };
}

async function authorizationUrl(
  c: Context<AppEnv>,
  { client, scopes, audience }: Provider,
  metadata: oauth.AuthorizationServer,
  { state, nonce, verifier }: Remembered,
): Promise<URL> {
  const url = new URL(metadata.authorization_endpoint ?? '');
  const parameters = {
    response_type: 'code',
    client_id: client.client_id,
    redirect_uri: redirectUri(c),
    scope: scopes,
    state,
    nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    // Some providers sign a JWT for the API only if it is named; the others ignore what they do not know (RFC 6749).
    ...(audience === undefined ? {} : { audience }),
  };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  return url;
}

function redirectUri(c: Context<AppEnv>): string {
  return new URL('/console/signed-in', c.req.url).href;
}

/** Exchanges the code of the provider's answer for an access token. */
async function redeem(
  c: Context<AppEnv>,
  provider: Provider,
  answer: URL,
  { state, nonce, verifier }: Remembered,
): Promise<string> {
  const { issuer, client, secret, scopes } = provider;
  const metadata = await discover(provider);
  const response = await oauth.authorizationCodeGrantRequest(
    metadata,
    client,
    clientAuthentication(metadata, secret),
    oauth.validateAuthResponse(metadata, client, answer, state),
    redirectUri(c),
    verifier,
    requestOptions(issuer),
  );
  // Without openid there is no ID token, and PKCE alone binds the answer to this browser.
  const isOpenId = scopes.split(' ').includes('openid');
  const { access_token } = await oauth.processAuthorizationCodeResponse(
    metadata,
    client,
    response,
    isOpenId ? { expectedNonce: nonce, requireIdToken: true } : {},
  );
  return access_token;
}

/** Basic is what every provider has to know (RFC 6749), unless it says otherwise. */
function clientAuthentication(
  { token_endpoint_auth_methods_supported: methods }: oauth.AuthorizationServer,
  secret: string | undefined,
): oauth.ClientAuth {
  if (secret === undefined) return oauth.None();
  const isPost =
    methods?.includes('client_secret_post') && !methods.includes('client_secret_basic');
  return isPost ? oauth.ClientSecretPost(secret) : oauth.ClientSecretBasic(secret);
}

function remember(c: Context<AppEnv>, remembered: Remembered): void {
  const bytes = new TextEncoder().encode(JSON.stringify(remembered));
  const value = bytes.toBase64({ alphabet: 'base64url', omitPadding: true });
  // Lax: the provider's redirect is a navigation from another site.
  writeCookie(c, 'console-sign-in', value, { maxAge: SIGN_IN_SECONDS, sameSite: 'Lax' });
}

function recall(c: Context<AppEnv>): Remembered | null {
  try {
    const bytes = Uint8Array.fromBase64(readCookie(c, 'console-sign-in') ?? '', {
      alphabet: 'base64url',
    });
    const { to, ...remembered } = Remembered.parse(JSON.parse(new TextDecoder().decode(bytes)));
    return { ...remembered, to: consolePath(to) ?? CONSOLE_START };
  } catch {
    return null;
  }
}

/**
 * An address of the console, as a path of this host, or null where a browser could make anything else of it.
 * What a browser makes of `\\`, `..` and their encodings, the URL parser makes of them, too.
 */
function consolePath(text: string): string | null {
  const base = 'https://console.invalid';
  if (!text.startsWith('/') || !URL.canParse(text, base)) return null;
  const { origin, pathname, search } = new URL(text, base);
  const isConsole = /^\/console(?:\/(?!sign-in$|signed-in$|session$|assets\/)|$)/.test(pathname);
  // No page of the console has a % in its path. A fragment could hold a token, and sign in as somebody else.
  if (origin !== base || !isConsole || /\/\/|%/.test(pathname)) return null;
  const path = pathname + search;
  return path.length <= MAX_PATH_LENGTH ? path : null;
}

/** Why a sign-in failed: the code of the answer, and what the user reads. */
const FAILURES = {
  EXPIRED: [
    40100,
    '登录已超时，或已在另一个标签页重新开始。',
    'This sign-in took too long, or another one began.',
  ],
  DENIED: [40100, '身份提供商没有允许登录。', 'The identity provider did not let you in.'],
  TOKEN_REFUSED: [
    40100,
    '身份提供商签发的令牌不能用于本系统，请联系管理员。',
    'The identity provider gave a token that this service does not accept. Tell your administrator.',
  ],
  TOO_LARGE: [
    40100,
    '身份提供商签发的令牌过大，浏览器无法保存，请联系管理员。',
    'The identity provider gave a token that is too large for a cookie. Tell your administrator.',
  ],
  INSECURE: [40000, '请通过 HTTPS 打开页面后再登录。', 'Open this page over HTTPS to sign in.'],
  UNAVAILABLE: [
    50301,
    '身份提供商没有正确答复，请稍后重试。',
    'The identity provider gave no proper answer. Try again later.',
  ],
} as const satisfies Record<string, readonly [ErrorCode, string, string]>;

function reasonOf(error: unknown): keyof typeof FAILURES {
  if (error instanceof oauth.AuthorizationResponseError) return 'DENIED';
  const isUsed = error instanceof oauth.ResponseBodyError && error.error === 'invalid_grant';
  return isUsed ? 'EXPIRED' : 'UNAVAILABLE';
}

/** A page for whoever was to be signed in. The log says more, but nothing that the provider or a client chose freely. */
function fail(c: Context<AppEnv>, reason: keyof typeof FAILURES, to: string, error?: unknown) {
  const [code, ...texts] = FAILURES[reason];
  const [status] = ERRORS[code];
  c.get('log').code = code;
  if (status === 401) c.header('WWW-Authenticate', 'Bearer');
  if (status >= 500) c.get('log').error = new Error(`the sign-in failed: ${reason}`);
  writeLog(status >= 500 ? 'error' : 'warn', 'sign_in_failed', {
    request_id: c.get('requestId'),
    reason,
    ...describeFailure(error instanceof ApiError ? error.cause : error),
  });
  const page = messagePage({
    title: '未能登录',
    texts: [...texts, `request_id: ${c.get('requestId')}`],
    href: `/console/sign-in?${new URLSearchParams({ to })}`,
    label: '重新登录 · Sign in again',
  });
  return c.html(page, status);
}

/**
 * An error without its causes, which hold codes and tokens. Its own message is one of a fixed set, but for that
 * of a failed fetch, which has a host at most.
 */
function describeFailure(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return {};
  const fields = {
    error_code: Reflect.get(error, 'code'),
    provider_error: Reflect.get(error, 'error'),
  };
  const words = Object.entries(fields).filter(
    ([, value]) => typeof value === 'string' && /^\w{1,64}$/.test(value),
  );
  return { error: error.name, message: error.message, ...Object.fromEntries(words) };
}
