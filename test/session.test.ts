/** Signing in to the console with a token: the cookie, which requests it counts for, and its end. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import worker from '../src/index';
import { Session, SignedOut, SignIn } from '../src/session';
import { insertPayment, signToken, startApp } from './harness';

const app = await startApp();
const anything = z.unknown();
const now = () => Math.floor(Date.now() / 1000);

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const signIn = (token: unknown, headers: Record<string, string> = {}) =>
  app.call('POST', '/console/session', anything, {
    headers: { Authorization: undefined, ...headers },
    body: { token },
  });

/** At another origin than that of the harness, without Authorization. */
async function at(origin: string, method: string, path: string, headers = {}, body?: unknown) {
  const request = new Request(origin + path, {
    method,
    headers: { 'Content-Type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return worker.fetch(request, app.env, Object({ waitUntil() {} }));
}

/** The cookie of an answer: what a browser sends back, and its attributes. */
function cookieOf(headers: Headers) {
  const cookies = headers.getSetCookie();
  expect(cookies).toHaveLength(1);
  const [pair = '', ...attributes] = (cookies[0] ?? '').split('; ');
  return { pair, attributes };
}

describe('the session cookie', () => {
  test('is the token, for our own https pages only, until the token expires', async () => {
    const token = await signToken({ exp: now() + 3600 });
    const reply = await signIn(token);
    expect(reply.status).toBe(200);
    const { pair, attributes } = cookieOf(reply.headers);
    expect(pair).toBe(`__Host-console=${token}`);
    const [maxAge = '', ...others] = attributes;
    expect(Number(maxAge.replace('Max-Age=', ''))).toBeGreaterThan(3590);
    expect(Number(maxAge.replace('Max-Age=', ''))).toBeLessThanOrEqual(3600);
    expect(others).toEqual(['Path=/', 'HttpOnly', 'Secure', 'SameSite=Strict']);
  });

  test('of a token that outlives what browsers keep ends after 400 days', async () => {
    const { attributes } = cookieOf((await signIn(await signToken())).headers);
    expect(attributes).toContain('Max-Age=34560000');
  });

  test('of a token within the clock skew is there for a moment, and not removed', async () => {
    const { attributes } = cookieOf((await signIn(await signToken({ exp: now() - 30 }))).headers);
    expect(attributes).toContain('Max-Age=1');
  });

  test.for(['http://localhost:8787', 'http://127.0.0.1:8787'])(
    'goes without Secure and without __Host- on %s',
    async (origin) => {
      const token = await signToken();
      const response = await at(origin, 'POST', '/console/session', {}, { token });
      const { pair, attributes } = cookieOf(response.headers);
      expect(pair).toBe(`console=${token}`);
      expect(attributes).toEqual(['Max-Age=34560000', 'Path=/', 'HttpOnly', 'SameSite=Strict']);
      const headers = { Cookie: pair, 'Sec-Fetch-Site': 'same-origin' };
      expect((await at(origin, 'GET', '/session', headers)).status).toBe(200);
    },
  );

  test('counts until its token expires, however long a browser keeps it', async () => {
    const cookie = cookieOf((await signIn(await signToken({ exp: now() + 10 }))).headers).pair;
    const headers = { Authorization: undefined, Cookie: cookie, 'Sec-Fetch-Site': 'same-origin' };
    expect((await app.call('GET', '/session', anything, { headers })).status).toBe(200);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 71_000 });
    expect((await app.call('GET', '/session', anything, { headers })).code).toBe(40100);
  });

  test('is neither set nor read over plain http from another machine', async () => {
    const token = await signToken();
    for (const origin of ['http://10.0.0.7:8787', 'http://localhost.example.com']) {
      const response = await at(origin, 'POST', '/console/session', {}, { token });
      expect(response.status).toBe(400);
      expect(await response.text()).toContain('HTTPS');
      expect(response.headers.getSetCookie()).toEqual([]);
      for (const name of ['console', '__Host-console']) {
        const headers = { Cookie: `${name}=${token}`, 'Sec-Fetch-Site': 'same-origin' };
        expect((await at(origin, 'GET', '/session', headers)).status).toBe(401);
      }
    }
  });

  test('under https is not one that plain http could have set', async () => {
    const headers = {
      Authorization: undefined,
      Cookie: `console=${await signToken()}`,
      'Sec-Fetch-Site': 'same-origin',
    };
    expect((await app.call('GET', '/session', anything, { headers })).code).toBe(40100);
  });
});

describe('signing in', () => {
  test('says who it is, what is allowed, until when, and the zone', async () => {
    const exp = now() + 600;
    const scope = 'openid refunds:create payments:read payments:read';
    const token = await signToken({ sub: 'user-7', scope, exp, permissions: ['payments:export'] });
    const session = {
      actor: 'user-7',
      scopes: ['payments:read', 'payments:export', 'refunds:create'],
      expires_at: new Date(exp * 1000).toISOString(),
      time_zone: 'Asia/Shanghai',
    };
    const { headers, data } = await signIn(token);
    expect(data).toEqual(session);
    const cookie = { Cookie: cookieOf(headers).pair, 'Sec-Fetch-Site': 'same-origin' };
    for (const credential of [cookie, { Authorization: `Bearer ${token}` }]) {
      const reply = await app.call('GET', '/session', Session, {
        headers: { Authorization: undefined, ...credential },
      });
      expect(reply.data).toEqual(session);
    }
  });

  test('with an exp beyond all dates works, and without any scope', async () => {
    const token = await signToken({ scope: '', exp: 1e300 });
    expect((await signIn(token)).data).toMatchObject({
      scopes: [],
      expires_at: '9999-12-31T23:59:59.000Z',
    });
  });

  test.for<[string, () => Promise<unknown>]>([
    ['is empty', async () => ''],
    ['is no JWT', async () => 'a b;c\r\n中'],
    ['has expired', () => signToken({ exp: now() - 61 })],
    ['is signed with another secret', () => signToken({}, 'another secret that is 32 bytes long')],
  ])('with a token that %s is 40100, and sets no cookie', async ([, token]) => {
    const reply = await signIn(await token());
    expect([reply.status, reply.code]).toEqual([401, 40100]);
    expect(reply.headers.getSetCookie()).toEqual([]);
  });

  test('takes no other credential than the one in the body', async () => {
    const reply = await app.call('POST', '/console/session', anything, { body: { token: 'x' } });
    expect(reply.code).toBe(40100);
  });

  test('refuses a token that does not fit into a cookie, and says so', async () => {
    const padded = (length: number) => signToken({ pad: 'x'.repeat(length) });
    let length = 2_600;
    while ((await padded(length)).length > 3_584) length -= 1;
    expect((await signIn(await padded(length))).status).toBe(200);
    const large = await padded(length + 1);
    const reply = await signIn(large);
    expect([reply.status, reply.code]).toEqual([400, 40000]);
    expect(reply.data).toMatchObject({ errors: [{ path: 'token' }] });
    expect(JSON.stringify(reply.data)).toContain('3584');
    expect(reply.headers.getSetCookie()).toEqual([]);
  });

  test.for([{}, { token: 1 }, { token: null }, { token: 'a', remember: true }, [], null])(
    'with the body %j is 40000',
    async (body) => {
      const reply = await app.call('POST', '/console/session', anything, { body });
      expect(reply.code).toBe(40000);
    },
  );

  test('is JSON only, which a form of another page cannot send', async () => {
    for (const type of ['application/x-www-form-urlencoded', 'text/plain', 'multipart/form-data']) {
      const reply = await app.call('POST', '/console/session', anything, {
        headers: { 'Content-Type': type },
        body: JSON.stringify({ token: await signToken() }),
      });
      expect(reply.code).toBe(41500);
    }
  });

  test('is logged with its actor, without the token', async () => {
    const log = vi.spyOn(console, 'info');
    const token = await signToken({ sub: 'user-8' });
    const { headers } = await signIn(token);
    await app.call('GET', '/session', anything, {
      headers: {
        Authorization: undefined,
        Cookie: cookieOf(headers).pair,
        'Sec-Fetch-Site': 'same-origin',
      },
    });
    const lines = log.mock.calls.flat().join('\n');
    expect(lines.match(/"actor":"user-8"/g)).toHaveLength(2);
    expect(lines).toContain('"route":"/console/session"');
    for (const part of token.split('.')) expect(lines).not.toContain(part);
  });

  test('by an identity provider is offered where there is one, and said to anybody', async () => {
    const ask = (env = {}) =>
      app.call('GET', '/console/session', SignIn.nullable(), {
        headers: { Authorization: undefined },
        env,
      });
    expect((await ask()).data).toEqual({ provider: false });
    const provider = {
      AUTH_SECRET: '',
      AUTH_JWKS_URL: 'https://id.example.com/jwks',
      AUTH_ISSUER: 'https://id.example.com',
      AUTH_AUDIENCE: 'payments',
    };
    expect((await ask(provider)).data).toEqual({ provider: false });
    expect((await ask({ ...provider, AUTH_CLIENT_ID: 'console' })).data).toEqual({
      provider: true,
    });
    expect(await ask({ AUTH_SECRET: '' })).toMatchObject({ status: 503, code: 50301 });
  });
});

describe('signing out', () => {
  const signOut = (headers = {}) =>
    app.call('DELETE', '/console/session', SignedOut, {
      headers: { Authorization: undefined, ...headers },
    });

  test('removes the cookie, whoever asks, and says that there is nowhere else to go', async () => {
    const reply = await signOut();
    expect(reply.data).toEqual({ logout_url: null });
    expect(cookieOf(reply.headers)).toEqual({
      pair: '__Host-console=',
      attributes: ['Max-Age=0', 'Path=/', 'HttpOnly', 'Secure', 'SameSite=Strict'],
    });
  });

  test('goes on to Cloudflare Access, which would let the next request in', async () => {
    const reply = await signOut({ 'Cf-Access-Jwt-Assertion': await signToken() });
    expect(reply.data).toEqual({ logout_url: '/cdn-cgi/access/logout' });
  });
});

describe('what the browser says about who asks (Sec-Fetch-Site)', () => {
  const paymentId = insertPayment(app.sql);
  const SITES = ['same-origin', 'none', 'same-site', 'cross-site', undefined, '', 'SAME-ORIGIN'];
  const REQUESTS = [
    ['GET', '/session', undefined],
    ['HEAD', '/session', undefined],
    ['GET', '/payments', undefined],
    ['GET', '/payments/export', undefined],
    ['POST', '/payments/:id/refund', { amount: '0.01', reason: '拍错了' }],
    ['PATCH', '/payments/:id/refunds/1', { status: 1 }],
  ] as const;
  /** By credential: for which sites it counts. */
  const CREDENTIALS: Record<string, (string | undefined)[]> = {
    Authorization: SITES,
    'Cf-Access-Jwt-Assertion': ['same-origin', 'none', undefined],
    Cookie: ['same-origin'],
  };
  const TABLE = Object.entries(CREDENTIALS).flatMap(([credential, counts]) =>
    SITES.flatMap((site) =>
      REQUESTS.map(
        ([method, path, body]) =>
          [credential, site, method, path, counts.includes(site), body] as const,
      ),
    ),
  );

  test.for(TABLE)(
    '%s, %s: %s %s counts: %s',
    async ([credential, site, method, path, ok, body]) => {
      const token = await signToken();
      const value = {
        Authorization: `Bearer ${token}`,
        Cookie: `a=1; __Host-console=${token}; b=2`,
      };
      const headers = {
        Authorization: undefined,
        [credential]: credential in value ? Reflect.get(value, credential) : token,
        'Sec-Fetch-Site': site,
      };
      const target = path.replace(':id', await paymentId);
      const response = await app.send(method, target, { headers, body });
      if (ok) expect(response.status).toBeLessThan(500);
      expect(response.status === 401).toBe(!ok);
    },
  );

  test('is not asked where a token comes with the request, though it be a wrong one', async () => {
    const token = await signToken();
    const headers = {
      Authorization: 'Bearer wrong',
      'Cf-Access-Jwt-Assertion': token,
      Cookie: `__Host-console=${token}`,
      'Sec-Fetch-Site': 'same-origin',
    };
    expect((await app.call('GET', '/session', anything, { headers })).code).toBe(40100);
  });

  test.for<[string, number]>([
    ['same-origin', 0],
    ['none', 40100],
  ])(
    'beside an assertion of Access that is not trusted here, from %s: %s',
    async ([site, code]) => {
      const headers = {
        Authorization: undefined,
        'Cf-Access-Jwt-Assertion': 'of another provider',
        Cookie: `__Host-console=${await signToken()}`,
        'Sec-Fetch-Site': site,
      };
      expect((await app.call('GET', '/session', anything, { headers })).code).toBe(code);
    },
  );

  test('is named in the log where it is the reason', async () => {
    const log = vi.spyOn(console, 'info');
    await app.call('GET', '/session', anything, {
      headers: {
        Authorization: undefined,
        Cookie: `__Host-console=${await signToken()}`,
        'Sec-Fetch-Site': 'cross-site',
      },
    });
    expect(log.mock.calls.join()).toContain('"refusal":"ERR_SEC_FETCH_SITE"');
  });

  test('lets no page of an allowed origin use the cookie', async () => {
    const origin = 'https://backoffice.example.com';
    const reply = await app.call('GET', '/session', anything, {
      headers: {
        Authorization: undefined,
        Origin: origin,
        Cookie: `__Host-console=${await signToken()}`,
        'Sec-Fetch-Site': 'cross-site',
      },
      env: { ALLOWED_ORIGINS: origin },
    });
    expect(reply.code).toBe(40100);
    expect(reply.headers.get('Access-Control-Allow-Credentials')).toBeNull();
  });
});

describe('a download link opened from a mail', () => {
  const opened = { 'Sec-Fetch-Site': 'none', 'Sec-Fetch-Mode': 'navigate' };
  const path = '/payments/export?payment_no=%22%3E%3Cscript%3E&status=1';
  const open = async (headers: Record<string, string>, method = 'GET') =>
    app.send(method, path, {
      headers: {
        Authorization: undefined,
        Cookie: `__Host-console=${await signToken()}`,
        ...headers,
      },
    });

  test('is answered with a page of ours that repeats it', async () => {
    const response = await open(opened);
    expect(response.status).toBe(401);
    expect(response.headers.get('Content-Type')).toBe('text/html; charset=UTF-8');
    expect(response.headers.get('Cache-Control')).toBe('no-store');
    const page = await response.text();
    const [, link] = /<a href="([^"]*)">/.exec(page) ?? [];
    expect(link?.replaceAll('&amp;', '&')).toBe(path);
    expect(page).not.toContain('<script');

    const clicked = await open({ ...opened, 'Sec-Fetch-Site': 'same-origin' });
    expect([clicked.status, clicked.headers.get('Content-Type')]).toEqual([
      200,
      'text/csv; charset=utf-8',
    ]);
  });

  test('is the file at once with Access or a token of its own', async () => {
    const token = await signToken();
    for (const own of [
      { Authorization: `Bearer ${token}` },
      { 'Cf-Access-Jwt-Assertion': token },
    ]) {
      expect((await open({ ...opened, ...own })).status).toBe(200);
    }
  });

  test('gets its page after the sign-in of Access, whose redirect makes it cross-site', async () => {
    const access = { ...opened, Cookie: '', 'Cf-Access-Jwt-Assertion': await signToken() };
    const response = await open({ ...access, 'Sec-Fetch-Site': 'cross-site' });
    expect(response.headers.get('Content-Type')).toBe('text/html; charset=UTF-8');
  });

  test('gets no page without a session, or where no page is shown', async () => {
    const withoutCookie = await open({ ...opened, Cookie: '' });
    const fetched = await open({ ...opened, 'Sec-Fetch-Mode': 'cors' });
    for (const response of [withoutCookie, fetched]) {
      expect(response.status).toBe(401);
      expect(response.headers.get('Content-Type')).toBe('application/json');
    }
  });

  test('is counted as 40100 under its own route', async () => {
    const log = vi.spyOn(console, 'info');
    await open(opened);
    const [line] = log.mock.calls.map(([text]) => JSON.parse(String(text)));
    expect(line).toMatchObject({ route: '/payments/export', status: 401, code: 40100 });
  });
});
