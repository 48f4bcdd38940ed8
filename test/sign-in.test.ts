/**
 * Signing in to the console at a provider on loopback, as a browser does: there, back, and the session. Then
 * whatever the provider, a stale tab or somebody else can make of it.
 */
import { env as bindings } from 'cloudflare:workers';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import type { Behaviour } from '../dev/identity-behaviour';
import type { Bindings } from '../src/env';
import { Session } from '../src/session';
import { startApp } from './harness';

const app = await startApp();
const { IDENTITY_PROVIDER_URL } = z.object({ IDENTITY_PROVIDER_URL: z.string() }).parse(bindings);

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** An issuer of its own, and a deployment that trusts it. */
async function startProvider(behaviour: Behaviour = {}, variables: Partial<Bindings> = {}) {
  const issuer = `${IDENTITY_PROVIDER_URL}/${crypto.randomUUID()}`;
  const behave = async (other: Behaviour) => {
    await fetch(`${issuer}/behaviour`, { method: 'PUT', body: JSON.stringify(other) });
  };
  await behave(behaviour);
  const env: Partial<Bindings> = {
    AUTH_SECRET: '',
    AUTH_JWKS_URL: `${issuer}/jwks`,
    AUTH_ISSUER: issuer,
    AUTH_AUDIENCE: 'payments',
    AUTH_CLIENT_ID: 'console',
    ...variables,
  };
  return {
    issuer,
    env,
    behave,
    requests: async () =>
      z.record(z.string(), z.number()).parse(await (await fetch(`${issuer}/requests`)).json()),
  };
}
type Provider = Awaited<ReturnType<typeof startProvider>>;

/** A tab of a browser that has these cookies, at an address of ours. */
const open = (provider: Provider, path: string, cookie = '', site = 'cross-site') =>
  app.send('GET', path, {
    headers: {
      Authorization: undefined,
      Accept: 'text/html',
      'Sec-Fetch-Site': site,
      'Sec-Fetch-Mode': 'navigate',
      ...(cookie === '' ? {} : { Cookie: cookie }),
    },
    env: provider.env,
  });

const locationOf = (response: Response) => response.headers.get('Location') ?? '';

/** To the provider and back: the address with the code, and the cookie that goes with it. */
async function authorize(provider: Provider, to = '/console/payments?status=1') {
  const away = await open(provider, `/console/sign-in?${new URLSearchParams({ to })}`);
  expect(away.status).toBe(302);
  const [set = ''] = away.headers.getSetCookie();
  const answered = await fetch(locationOf(away), { redirect: 'manual' });
  expect(answered.status, await answered.text()).toBe(302);
  const back = new URL(locationOf(answered));
  return { away, set, cookie: set.split(';')[0] ?? '', back: back.pathname + back.search };
}

const Line = z.looseObject({ event: z.string() });
const logged = (level: 'info' | 'warn' | 'error') => {
  const spy = vi.spyOn(console, level).mockImplementation(() => {});
  return () => spy.mock.calls.map(([line]) => Line.parse(JSON.parse(String(line))));
};

describe('signing in at an identity provider', () => {
  test('ends where it began, with a session', async () => {
    const provider = await startProvider();
    const { away, set, cookie, back } = await authorize(provider);
    expect(away.headers.get('Cache-Control')).toBe('no-store');
    expect(set).toMatch(
      /^__Host-console-sign-in=[\w-]+; Max-Age=600; Path=\/; HttpOnly; Secure; SameSite=Lax$/,
    );

    const signedIn = await open(provider, back, cookie);
    expect([signedIn.status, locationOf(signedIn)]).toEqual([302, '/console/payments?status=1']);
    expect(signedIn.headers.get('Cache-Control')).toBe('no-store');
    const [removed = '', session = ''] = signedIn.headers.getSetCookie();
    expect(removed).toMatch(/^__Host-console-sign-in=; Max-Age=0; Path=\/; HttpOnly; Secure/);
    expect(session).toMatch(
      /^__Host-console=[\w.-]+; Max-Age=(3600|359\d); Path=\/; HttpOnly; Secure; SameSite=Strict$/,
    );

    // A redirect from another site does not bring the cookie; the page needs none, and its own requests do.
    const page = await open(provider, locationOf(signedIn));
    expect(page.status).toBe(200);
    const { data } = await app.call('GET', '/session', Session, {
      headers: {
        Authorization: undefined,
        Cookie: session.split(';')[0],
        'Sec-Fetch-Site': 'same-origin',
      },
      env: provider.env,
    });
    expect(data).toMatchObject({ actor: 'user-1', scopes: ['payments:read', 'refunds:create'] });
  });

  test('asks with what the configuration says, PKCE, a state and a nonce, new each time', async () => {
    const provider = await startProvider({}, { AUTH_SCOPES: 'openid payments' });
    const asked = await Promise.all(
      [1, 2].map(async () => new URL(locationOf(await open(provider, '/console/sign-in')))),
    );
    const [first, second] = asked.map((url) => Object.fromEntries(url.searchParams));
    expect(first).toMatchObject({
      prompt: 'login',
      response_type: 'code',
      client_id: 'console',
      redirect_uri: 'https://api.test/console/signed-in',
      scope: 'openid payments',
      code_challenge_method: 'S256',
      audience: 'payments',
    });
    const other = await startProvider({}, { AUTH_SCOPES: '' });
    expect(
      new URL(locationOf(await open(other, '/console/sign-in'))).searchParams.get('scope'),
    ).toBe('openid');
    for (const name of ['state', 'nonce', 'code_challenge']) {
      expect(first?.[name]).toMatch(/^[\w-]{43}$/);
      expect(first?.[name]).not.toBe(second?.[name]);
    }
  });

  test('reads the metadata of the provider once in an hour', async () => {
    const provider = await startProvider();
    for (let round = 0; round < 3; round += 1) {
      const { cookie, back } = await authorize(provider);
      expect((await open(provider, back, cookie)).status).toBe(302);
    }
    const asked = async () => (await provider.requests())['.well-known/openid-configuration'];
    expect(await asked()).toBe(1);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_601_000 });
    await open(provider, '/console/sign-in');
    expect(await asked()).toBe(2);
  });

  test.for<[string, Behaviour]>([
    ['by Basic', { secret: 'a secret' }],
    [
      'by Basic where both will do',
      {
        secret: 'a%20secret',
        metadata: {
          token_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic'],
        },
      },
    ],
    [
      'in the body where the provider wants that',
      {
        secret: 'a secret',
        secretBy: 'post',
        metadata: { token_endpoint_auth_methods_supported: ['client_secret_post'] },
      },
    ],
  ])('sends the secret of the client %s', async ([, behaviour]) => {
    const secret = behaviour.secretBy === 'post' ? 'a secret' : 'secret';
    const provider = await startProvider({ ...behaviour, secret }, { AUTH_CLIENT_SECRET: secret });
    const { cookie, back } = await authorize(provider);
    expect((await open(provider, back, cookie)).status).toBe(302);
  });

  test('does without an ID token where openid is not asked for', async () => {
    const provider = await startProvider({}, { AUTH_SCOPES: 'payments' });
    const { cookie, back } = await authorize(provider);
    expect((await open(provider, back, cookie)).status).toBe(302);
  });

  test('leaves no token, code, state or cookie in the log', async () => {
    const provider = await startProvider();
    const lines = [logged('info'), logged('warn'), logged('error')];
    const { cookie, back } = await authorize(provider, '/console/payments?order_no=ORD-SECRET');
    const signedIn = await open(provider, back, cookie);
    const repeated = await open(provider, back, cookie);
    expect([signedIn.status, repeated.status]).toEqual([302, 401]);
    const text = JSON.stringify(lines.map((take) => take()));
    expect(text).toContain('/console/signed-in');
    expect(text).toContain('"actor":"user-1"');
    const secrets = [
      ...new URL(back, 'https://api.test').searchParams.values(),
      ...signedIn.headers.getSetCookie().map((set) => /=([^;]*)/.exec(set)?.[1] ?? ''),
      cookie.split('=')[1] ?? '',
      'ORD-SECRET',
    ].filter((secret) => secret !== '' && secret !== provider.issuer);
    expect(secrets).toHaveLength(5);
    for (const secret of secrets) expect(text).not.toContain(secret);
  });
});

describe('without an identity provider', () => {
  test('both addresses lead back to the console', async () => {
    const ask = (path: string) => app.send('GET', path, { headers: { Authorization: undefined } });
    expect(locationOf(await ask('/console/sign-in?to=/console/payments/1'))).toBe(
      '/console/payments/1',
    );
    expect(locationOf(await ask('/console/signed-in?code=1'))).toBe('/console/payments');
  });

  test('a deployment that is not configured says so', async () => {
    const env = { AUTH_SECRET: '' };
    for (const path of ['/console/sign-in', '/console/signed-in']) {
      const reply = await app.call('GET', path, z.null(), { env });
      expect(reply).toMatchObject({ status: 503, code: 50301 });
    }
  });
});

describe('the address to go to afterwards', () => {
  test.for<[string, string]>([
    ['/console', '/console'],
    ['/console/', '/console/'],
    ['/console/payments/42?a=%2Fb&c=//d', '/console/payments/42?a=%2Fb&c=//d'],
    ['/console/payments#token=of.somebody.else', '/console/payments'],
    ['/console?to=https://evil.example', '/console?to=https://evil.example'],
    ['/payments/../console/refunds', '/console/refunds'],
    ['/console/sign-in-failed', '/console/sign-in-failed'],
  ])('may be %s', async ([to, location]) => {
    const path = `/console/sign-in?${new URLSearchParams({ to })}`;
    const response = await app.send('GET', path, { headers: { Authorization: undefined } });
    expect([response.status, locationOf(response)]).toEqual([302, location]);
  });

  test.for([
    '',
    'console',
    'https://evil.example/console',
    'https:/console',
    'javascript:alert(1)',
    '//evil.example/console',
    '///evil.example/console',
    '/\\evil.example/console',
    '\\\\evil.example/console',
    '/\t/evil.example/console',
    '/%2fevil.example',
    '/console/%2f%2fevil.example',
    '/console/%5cevil.example',
    '/console//evil.example',
    '/console/支付',
    '/console/%73ign-in',
    '/console/%2573ign-in',
    '/console/..//evil.example',
    '/console/../payments/export',
    '/console/%2e%2e/payments/export',
    '/console/.%2e/%2e./x',
    '/console\\..\\payments',
    '/consolex',
    '/console.evil.example',
    '/payments',
    '/console/sign-in',
    '/console/sign-in?to=/console',
    '/console/signed-in?code=1',
    '/console/session',
    '/console/assets/x.js',
    `/console/${'x'.repeat(2_000)}`,
  ])('may not be %s', async (to) => {
    const path = `/console/sign-in?${new URLSearchParams({ to })}`;
    const reply = await app.call('GET', path, z.unknown(), {
      headers: { Authorization: undefined },
    });
    expect([reply.status, reply.code]).toEqual([400, 40000]);
    expect(reply.headers.get('Location')).toBeNull();
  });

  test.for(['to=/console&to=/console', 'to=%ff', 'from=/console'])(
    'may not be said as %s',
    async (query) => {
      const reply = await app.call('GET', `/console/sign-in?${query}`, z.unknown());
      expect(reply.code).toBe(40000);
    },
  );

  test('is checked once more in what the cookie says', async () => {
    const provider = await startProvider();
    const { cookie, back } = await authorize(provider);
    const [name, value = ''] = cookie.split('=');
    const remembered = JSON.parse(
      new TextDecoder().decode(Uint8Array.fromBase64(value, { alphabet: 'base64url' })),
    );
    const forged = new TextEncoder().encode(
      JSON.stringify({ ...remembered, to: '//evil.example' }),
    );
    const forgedCookie = `${name}=${forged.toBase64({ alphabet: 'base64url', omitPadding: true })}`;
    expect(locationOf(await open(provider, back, forgedCookie))).toBe('/console/payments');
  });
});

describe('a sign-in that fails', () => {
  /** Ends with a page that says so, leads to another try at the same place, and sets no session. */
  async function expectFailure(
    response: Response,
    status: number,
    text: string,
    to = '/console/payments?status=1',
  ) {
    expect(response.status).toBe(status);
    const page = await response.text();
    expect(page).toContain(text);
    expect(page).toContain(`href="/console/sign-in?${new URLSearchParams({ to })}"`);
    expect(page).not.toContain('<script');
    expect(response.headers.getSetCookie().join()).not.toContain('__Host-console=');
  }

  const TOO_LATE = '登录已超时';
  const DENIED = '没有允许登录';
  const REFUSED = '不能用于本系统';
  const LARGE = '过大';
  const NO_ANSWER = '没有正确答复';

  test.for<[string, Behaviour, number, string, object]>([
    [
      'the user declines',
      { error: 'access_denied' },
      401,
      DENIED,
      { provider_error: 'access_denied' },
    ],
    [
      'the provider reports an error',
      { error: 'server_error' },
      401,
      DENIED,
      { provider_error: 'server_error' },
    ],
    ['the provider reports markup', { error: '<script>x' }, 401, DENIED, { reason: 'DENIED' }],
    [
      'the token endpoint fails',
      { tokenStatus: 500 },
      503,
      NO_ANSWER,
      { error_code: 'OAUTH_RESPONSE_IS_NOT_CONFORM' },
    ],
    [
      'the client is not known',
      { secret: 'x' },
      503,
      NO_ANSWER,
      { provider_error: 'invalid_client' },
    ],
    [
      'there is no access token',
      { answer: { access_token: null } },
      503,
      NO_ANSWER,
      { error_code: 'OAUTH_INVALID_RESPONSE' },
    ],
    [
      'there is no ID token',
      { answer: { id_token: null } },
      503,
      NO_ANSWER,
      { error_code: 'OAUTH_INVALID_RESPONSE' },
    ],
    [
      'the ID token has another nonce',
      { idToken: { nonce: 'other' } },
      503,
      NO_ANSWER,
      { error_code: 'OAUTH_JWT_CLAIM_COMPARISON_FAILED' },
    ],
    [
      'the ID token is for another client',
      { idToken: { aud: 'other' } },
      503,
      NO_ANSWER,
      { error_code: 'OAUTH_JWT_CLAIM_COMPARISON_FAILED' },
    ],
    [
      'the ID token is of another issuer',
      { idToken: { iss: 'https://other.example' } },
      503,
      NO_ANSWER,
      {},
    ],
    [
      'the access token is opaque',
      { answer: { access_token: 'opaque' } },
      401,
      REFUSED,
      { reason: 'TOKEN_REFUSED' },
    ],
    [
      'the access token is for another API',
      { claims: { aud: 'orders' } },
      401,
      REFUSED,
      { reason: 'TOKEN_REFUSED' },
    ],
    [
      'the access token names nobody',
      { claims: { sub: '' } },
      401,
      REFUSED,
      { reason: 'TOKEN_REFUSED' },
    ],
    [
      'the access token is too large',
      { claims: { groups: 'x'.repeat(3_000) } },
      401,
      LARGE,
      { reason: 'TOO_LARGE' },
    ],
  ])('because %s ends with a page', async ([, behaviour, status, text, fields]) => {
    const lines = logged(status === 503 ? 'error' : 'warn');
    const provider = await startProvider(behaviour);
    const { cookie, back } = await authorize(provider);
    await expectFailure(await open(provider, back, cookie), status, text);
    const failures = lines().filter(({ event }) => event === 'sign_in_failed');
    expect(failures).toMatchObject([fields]);
    expect(JSON.stringify(failures)).not.toMatch(/script|opaque|eyJ/);
  });

  test('because the access token has no scope is none: what needs one says 40300', async () => {
    const provider = await startProvider({ claims: { scope: '' } });
    const { cookie, back } = await authorize(provider);
    expect((await open(provider, back, cookie)).status).toBe(302);
  });

  test.for<[string, (back: URL) => void]>([
    ['a wrong state', (back) => back.searchParams.set('state', 'x')],
    ['no state', (back) => back.searchParams.delete('state')],
    [
      'nothing',
      (back) => {
        back.search = '';
      },
    ],
  ])('because it comes back with %s leaves the one under way alone', async ([, change]) => {
    const provider = await startProvider();
    const { cookie, back } = await authorize(provider);
    const changed = new URL(back, 'https://api.test');
    change(changed);
    const failed = await open(provider, changed.pathname + changed.search, cookie);
    expect(failed.headers.getSetCookie()).toEqual([]);
    await expectFailure(failed, 401, TOO_LATE);
    expect((await provider.requests()).token).toBeUndefined();
    expect((await open(provider, back, cookie)).status).toBe(302);
  });

  test.for([
    // Anybody can open these, so they are no fault of ours.
    ['no code', (back: URL) => back.searchParams.delete('code'), 401, TOO_LATE],
    ['two codes', (back: URL) => back.searchParams.append('code', 'x'), 401, TOO_LATE],
    [
      'another issuer',
      (back: URL) => back.searchParams.set('iss', 'https://other.example'),
      401,
      TOO_LATE,
    ],
    ['no issuer', (back: URL) => back.searchParams.delete('iss'), 503, NO_ANSWER],
    ['a token', (back: URL) => back.searchParams.set('id_token', 'x'), 503, NO_ANSWER],
  ] as const)(
    'because it comes back with %s asks for no token',
    async ([, change, status, text]) => {
      const provider = await startProvider();
      const { cookie, back } = await authorize(provider);
      const changed = new URL(back, 'https://api.test');
      change(changed);
      const failed = await open(provider, changed.pathname + changed.search, cookie);
      await expectFailure(failed, status, text);
      expect((await provider.requests()).token).toBeUndefined();
    },
  );

  test('because the code is somebody else’s, or was used, is refused by the provider', async () => {
    const provider = await startProvider();
    const [ours, theirs] = [await authorize(provider), await authorize(provider)];
    const code = (back: string) => new URL(back, 'https://api.test').searchParams.get('code') ?? '';
    const injected = ours.back.replace(code(ours.back), code(theirs.back));
    await expectFailure(await open(provider, injected, ours.cookie), 401, TOO_LATE);
    expect((await open(provider, ours.back, ours.cookie)).status).toBe(302);
    await expectFailure(await open(provider, ours.back, ours.cookie), 401, TOO_LATE);
  });

  test.for([
    '',
    '__Host-console-sign-in=',
    '__Host-console-sign-in=!!',
    '__Host-console-sign-in=e30',
    'console-sign-in=e30',
  ])('because the cookie is gone or not ours (%j) can begin anew', async (cookie) => {
    const provider = await startProvider();
    const { back } = await authorize(provider);
    await expectFailure(await open(provider, back, cookie), 401, TOO_LATE, '/console/payments');
  });

  test.for<[string, Behaviour]>([
    ['fails', { metadataStatus: 500 }],
    ['moved', { metadataStatus: 302 }],
    ['names another issuer', { metadata: { issuer: 'https://other.example' } }],
    ['has no address to sign in at', { metadata: { authorization_endpoint: null } }],
    ['has an address that is none', { metadata: { authorization_endpoint: 'sign-in' } }],
  ])('because the provider %s begins nowhere', async ([, behaviour]) => {
    const lines = logged('error');
    const provider = await startProvider(behaviour);
    const response = await open(provider, '/console/sign-in?to=/console/payments?status=1');
    expect(response.headers.getSetCookie()).toEqual([]);
    await expectFailure(response, 503, NO_ANSWER);
    expect(lines().map(({ event }) => event)).toContain('sign_in_failed');

    if (behaviour.metadataStatus === undefined) return;
    await provider.behave({});
    expect((await open(provider, '/console/sign-in')).status).toBe(302);
  });

  test('because nobody answers says so', async () => {
    logged('error');
    const env = { AUTH_ISSUER: 'http://127.0.0.1:9/', AUTH_JWKS_URL: 'http://127.0.0.1:9/jwks' };
    const provider = await startProvider({}, env);
    await expectFailure(
      await open(provider, '/console/sign-in'),
      503,
      NO_ANSWER,
      '/console/payments',
    );
  });

  test('because its keys are not to be had says so', async () => {
    logged('error');
    const provider = await startProvider({}, { AUTH_JWKS_URL: `${IDENTITY_PROVIDER_URL}/x/none` });
    const { cookie, back } = await authorize(provider);
    await expectFailure(await open(provider, back, cookie), 503, NO_ANSWER);
  });
});

describe('a configuration', () => {
  const provider = {
    AUTH_SECRET: '',
    AUTH_JWKS_URL: 'https://id.example.com/jwks',
    AUTH_ISSUER: 'https://id.example.com',
    AUTH_AUDIENCE: 'payments',
    AUTH_CLIENT_ID: 'console',
  };
  test.for<[string, Partial<Bindings>, string]>([
    ['an issuer that is no URL', { ...provider, AUTH_ISSUER: 'shop' }, 'AUTH_CLIENT_ID'],
    [
      'an issuer in the clear',
      { ...provider, AUTH_ISSUER: 'http://id.example.com' },
      'AUTH_CLIENT_ID',
    ],
    ['a client and no keys', { AUTH_CLIENT_ID: 'console' }, 'AUTH_CLIENT_ID'],
    [
      'a secret and no client',
      { ...provider, AUTH_CLIENT_ID: '', AUTH_CLIENT_SECRET: 'x' },
      'AUTH_CLIENT_SECRET',
    ],
    ['scopes that are a list', { ...provider, AUTH_SCOPES: 'openid,  "payments"' }, 'AUTH_SCOPES'],
  ])('with %s is refused, and the log names the variable', async ([, env, variable]) => {
    const lines = logged('error');
    const reply = await app.call('GET', '/console/session', z.null(), { env });
    expect(reply.code).toBe(50301);
    expect(JSON.stringify(lines())).toContain(`${variable}: `);
  });
});
