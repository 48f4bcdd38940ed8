/**
 * Which tokens are let in and what they may do: a table of refused ones, an identity provider on
 * loopback whose keys rotate under load, and a deployment without access control.
 */

import { env as bindings } from 'cloudflare:workers';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import type { Bindings } from '../src/env';
import { insertPayment, signToken, startApp } from './harness';

const app = await startApp();
const { PROVIDER_URL } = z.object({ PROVIDER_URL: z.string() }).parse(bindings);
const anything = z.unknown();
const now = () => Math.floor(Date.now() / 1000);

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const list = (headers: Record<string, string>, env: Partial<Bindings> = {}) =>
  app.call('GET', '/payments', anything, { headers, env });

const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });

describe('a token signed with the secret', () => {
  const ISSUER = 'https://shop.example.com';
  const AUDIENCE = 'payments';
  const env = { AUTH_ISSUER: ISSUER, AUTH_AUDIENCE: AUDIENCE };
  const sign = (claims: JWTPayload = {}, secret?: string) =>
    signToken({ iss: ISSUER, aud: AUDIENCE, ...claims }, secret);

  const base64Url = (bytes: Uint8Array) =>
    bytes.toBase64({ alphabet: 'base64url', omitPadding: true });
  const encode = (part: unknown) =>
    base64Url(new TextEncoder().encode(typeof part === 'string' ? part : JSON.stringify(part)));
  /** Signed with the secret by HMAC SHA-256, whatever it says. */
  const signRaw = async (header: unknown, payload: unknown) => {
    const input = `${encode(header)}.${encode(payload)}`;
    const secret = new TextEncoder().encode(app.env.AUTH_SECRET);
    const hmac = { name: 'HMAC', hash: 'SHA-256' };
    const key = await crypto.subtle.importKey('raw', secret, hmac, false, ['sign']);
    const signature = await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(input));
    return `${input}.${base64Url(new Uint8Array(signature))}`;
  };
  const claims = { sub: 'a', iss: ISSUER, aud: AUDIENCE, exp: now() + 60, scope: 'payments:read' };
  const without = (name: keyof typeof claims) => {
    const { [name]: _, ...others } = claims;
    return signRaw({ alg: 'HS256' }, others);
  };
  const withClaims = (other: object) => signRaw({ alg: 'HS256' }, { ...claims, ...other });
  const withHeader = (header: object) => signRaw(header, claims);

  test.for<[string, () => Promise<string> | string]>([
    ['is empty', () => ''],
    ['is not a JWT', () => 'secret'],
    ['has two parts', async () => (await sign()).split('.').slice(0, 2).join('.')],
    ['has four parts', async () => `${await sign()}.x`],
    ['has no signature', async () => (await sign()).replace(/[^.]*$/, '')],
    ['is cut short', async () => (await sign()).slice(0, -2)],
    ['is signed with another secret', () => sign({}, 'another secret that is 32 bytes long')],
    [
      'was changed after signing',
      async () => (await sign()).replace(/\..*\./, `.${encode({ ...claims, sub: 'b' })}.`),
    ],
    ['has a payload that is no JSON', () => signRaw({ alg: 'HS256' }, '{')],
    ['has a payload that is no object', () => signRaw({ alg: 'HS256' }, [claims])],
    ['has a header that is no object', () => signRaw(['HS256'], claims)],
    ['says alg none', () => withHeader({ alg: 'none' })],
    ['says alg None', () => withHeader({ alg: 'None' })],
    ['is unsecured', () => new UnsecuredJWT(claims).encode()],
    ['says alg RS256', () => withHeader({ alg: 'RS256' })],
    ['says no alg', () => withHeader({ typ: 'JWT' })],
    [
      'is signed by HS512',
      () =>
        new SignJWT(claims)
          .setProtectedHeader({ alg: 'HS512' })
          .sign(new TextEncoder().encode(app.env.AUTH_SECRET?.padEnd(64, '.'))),
    ],
    ['has a critical extension', () => withHeader({ alg: 'HS256', crit: ['x'], x: 1 })],
    ['has no exp', () => without('exp')],
    ['has an exp that is no number', () => withClaims({ exp: 'tomorrow' })],
    ['expired more than the clock skew ago', () => sign({ exp: now() - 61 })],
    ['is not valid yet by more than the clock skew', () => sign({ nbf: now() + 65 })],
    ['has an nbf that is no number', () => withClaims({ nbf: 'soon' })],
    ['is of another issuer', () => sign({ iss: `${ISSUER}/` })],
    ['has no issuer', () => without('iss')],
    ['is for another audience', () => sign({ aud: 'payments-staging' })],
    ['is for several others', () => sign({ aud: ['a', 'b'] })],
    ['has no audience', () => without('aud')],
    ['has no sub', () => without('sub')],
    ['has an empty sub', () => sign({ sub: '' })],
    ['has a sub with a line break', () => sign({ sub: 'a\nb' })],
    ['has a sub that is no Unicode text', () => withClaims({ sub: 'a\ud800' })],
    ['has a sub that is too long to be kept', () => sign({ sub: 'a'.repeat(256) })],
    ['has a scope that is no text', () => sign({ scope: ['payments:read'] })],
    ['has permissions that are no list', () => sign({ permissions: 'payments:read' })],
    ['has 100 kB of junk', () => 'x.'.repeat(50_000)],
  ])('that %s is refused with 40100', async ([, token]) => {
    const requests = await app.databaseRequests(async () => {
      const reply = await list(bearer(await token()), env);
      expect(reply).toMatchObject({ status: 401, code: 40100, data: null });
      expect(reply.headers.get('WWW-Authenticate')).toMatch(/^Bearer/);
    });
    expect(requests).toBe(0);
  });

  test.for<[string, () => Promise<Record<string, string>>]>([
    ['is in order', async () => bearer(await sign())],
    ['expired within the clock skew', async () => bearer(await sign({ exp: now() - 55 }))],
    ['is valid soon, within the clock skew', async () => bearer(await sign({ nbf: now() + 55 }))],
    ['is for us among others', async () => bearer(await sign({ aud: ['x', AUDIENCE] }))],
    [
      'has permissions instead of a scope',
      async () => bearer(await sign({ scope: '', permissions: ['payments:read'] })),
    ],
    [
      'has the claims that Access puts under custom',
      async () => bearer(await sign({ scope: '', custom: { permissions: ['payments:read'] } })),
    ],
    [
      'is a service token of Access',
      async () => bearer(await sign({ sub: '', common_name: 'f3a.access' })),
    ],
    ['comes in the header of Access', async () => ({ 'Cf-Access-Jwt-Assertion': await sign() })],
    [
      "comes in the console's cookie",
      async () => ({
        Cookie: `__Host-console=${await sign()}`,
        'Sec-Fetch-Site': 'same-origin',
      }),
    ],
    ['comes as bearer in lower case', async () => ({ Authorization: `bearer  ${await sign()}` })],
  ])('that %s is let in', async ([, headers]) => {
    const given = await headers();
    const withoutDefault =
      'Authorization' in given ? given : { ...given, Authorization: undefined };
    const reply = await app.call('GET', '/payments', anything, { headers: withoutDefault, env });
    expect(reply.status).toBe(200);
  });

  test('is checked again after a minute, and not before', async () => {
    const began = Date.now();
    const verify = vi.spyOn(crypto.subtle, 'verify');
    const token = bearer(await sign({ jti: 'checked twice' }));
    const checks: number[] = [];
    for (const seconds of [0, 59, 61]) {
      vi.useFakeTimers({ toFake: ['Date'], now: began + seconds * 1000 });
      expect((await list(token, env)).status).toBe(200);
      checks.push(verify.mock.calls.length);
    }
    expect(checks).toEqual([1, 1, 2]);
  });

  test('is refused once it has expired, however lately it was let in', async () => {
    const token = bearer(await sign({ exp: now() - 30 }));
    expect((await list(token, env)).status).toBe(200);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 31_000 });
    expect((await list(token, env)).code).toBe(40100);
  });

  test('that was let in is refused where the deployment says otherwise by now', async () => {
    const token = bearer(await sign());
    expect((await list(token, env)).status).toBe(200);
    for (const other of [
      { AUTH_SECRET: 'another secret of the tests, at least 32 bytes' },
      { AUTH_ISSUER: 'https://other.example.com' },
      { AUTH_AUDIENCE: 'orders' },
    ]) {
      expect((await list(token, { ...env, ...other })).code).toBe(40100);
    }
  });

  test('in another scheme is not looked for in the header of Access', async () => {
    const reply = await list(
      { Authorization: 'Basic dTpw', 'Cf-Access-Jwt-Assertion': await sign() },
      env,
    );
    expect(reply.code).toBe(40100);
  });
});

describe('a scope', () => {
  test.for([
    ['GET', '/payments', 'payments:read'],
    ['GET', '/lookup', 'payments:read'],
    ['GET', '/refunds', 'payments:read'],
    ['GET', '/payments/export', 'payments:export'],
    ['GET', '/payments/statistics', 'payments:read'],
    ['GET', '/payments/1', 'payments:read'],
    ['GET', '/payments/1/gateway', 'payments:read'],
    ['POST', '/payments/1/refund', 'refunds:create'],
    ['PATCH', '/payments/1/refunds/1', 'refunds:settle'],
  ] as const)('that is missing for %s %s is named', async ([method, path, required_scope]) => {
    const scopes = [
      'payments:read',
      'payments:export',
      'refunds:create',
      'refunds:settle',
      'payments:reader',
      '',
    ];
    const scope = scopes.filter((one) => one !== required_scope).join(' ');
    const reply = await app.call(method, path, anything, {
      headers: bearer(await signToken({ scope })),
    });
    expect(reply).toMatchObject({ status: 403, code: 40300, data: { required_scope } });
  });
});

describe('an identity provider', () => {
  const provider = PROVIDER_URL;
  const ISSUER = 'https://id.example.com/';
  let keys: Record<'RS256' | 'ES256' | 'EdDSA' | 'rotated', CryptoKeyPair>;

  /** Its own JWKS for each test, because an isolate keeps what it has fetched. */
  const jwks = () => `${provider}/${crypto.randomUUID()}`;
  const publish = async (url: string, ...names: (keyof typeof keys)[]) => {
    const published = await Promise.all(
      names.map(async (kid) => ({ ...(await exportJWK(keys[kid].publicKey)), kid, use: 'sig' })),
    );
    await fetch(url, { method: 'PUT', body: JSON.stringify({ keys: published }) });
  };
  const fetches = async (url: string) => Number((await fetch(url)).headers.get('X-Fetches')) - 1;
  const environment = (url: string): Partial<Bindings> => ({
    ...{ AUTH_SECRET: '', AUTH_JWKS_URL: url, AUTH_ISSUER: ISSUER, AUTH_AUDIENCE: 'payments' },
  });
  const sign = (kid: keyof typeof keys, alg = kid === 'rotated' ? 'ES256' : kid) =>
    new SignJWT({ sub: 'user-1', scope: 'payments:read', iss: ISSUER, aud: 'payments' })
      .setProtectedHeader({ alg, kid })
      .setExpirationTime('1 hour')
      .setJti(crypto.randomUUID())
      .sign(keys[kid].privateKey);

  beforeAll(async () => {
    keys = {
      RS256: await generateKeyPair('RS256', { extractable: true }),
      ES256: await generateKeyPair('ES256', { extractable: true }),
      EdDSA: await generateKeyPair('EdDSA', { extractable: true }),
      rotated: await generateKeyPair('ES256', { extractable: true }),
    };
  });

  test.for(['RS256', 'ES256', 'EdDSA'] as const)('may sign with %s', async (alg) => {
    const url = jwks();
    await publish(url, 'RS256', 'ES256', 'EdDSA');
    expect((await list(bearer(await sign(alg)), environment(url))).status).toBe(200);
  });

  test('is asked once for many requests', async () => {
    const url = jwks();
    await publish(url, 'ES256');
    const token = bearer(await sign('ES256'));
    await Promise.all(Array.from({ length: 20 }, () => list(token, environment(url))));
    await list(token, environment(url));
    expect(await fetches(url)).toBe(1);
  });

  test('is not fooled by its public key used as a secret', async () => {
    const url = jwks();
    await publish(url, 'RS256');
    const publicKey = JSON.stringify(await exportJWK(keys.RS256.publicKey));
    for (const kid of ['RS256', undefined]) {
      const forged = await new SignJWT({
        sub: 'a',
        scope: 'payments:read',
        iss: ISSUER,
        aud: 'payments',
      })
        .setProtectedHeader({ alg: 'HS256', ...(kid ? { kid } : {}) })
        .setExpirationTime('1 hour')
        .sign(new TextEncoder().encode(publicKey));
      expect((await list(bearer(forged), environment(url))).code).toBe(40100);
    }
  });

  test('loses no request when its keys rotate under load, and is asked once more', async () => {
    const url = jwks();
    await publish(url, 'ES256');
    const load = (kid: 'ES256' | 'rotated', count: number) =>
      Array.from({ length: count }, async () => list(bearer(await sign(kid)), environment(url)));

    const before = await Promise.all(load('ES256', 30));
    await publish(url, 'ES256', 'rotated');
    const during = await Promise.all([
      ...load('ES256', 20),
      ...load('rotated', 40),
      ...load('ES256', 20),
    ]);

    expect([...before, ...during].map((reply) => reply.status)).toEqual(Array(110).fill(200));
    expect(await fetches(url)).toBe(2);
  });

  test('is asked for unknown keys once a minute at most', async () => {
    const url = jwks();
    await publish(url, 'ES256');
    const unknown = bearer(await sign('rotated'));
    for (let round = 0; round < 5; round += 1) {
      expect((await list(unknown, environment(url))).code).toBe(40100);
    }
    expect(await fetches(url)).toBe(2);

    await publish(url, 'ES256', 'rotated');
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 61_000);
    expect((await list(unknown, environment(url))).status).toBe(200);
  });

  test('that is down is 50301 at first; known keys go on being used', async () => {
    const url = jwks();
    const token = bearer(await sign('ES256'));
    expect(await list(token, environment(url))).toMatchObject({ status: 503, code: 50301 });
    await publish(url, 'ES256');
    // Within seconds of a failure nobody tries again, so that nobody waits for a provider that is down.
    expect((await list(token, environment(url))).code).toBe(50301);
    expect(await fetches(url)).toBe(0);
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 11_000);
    expect((await list(token, environment(url))).status).toBe(200);

    const asked = await fetches(url);
    await fetch(url, { method: 'PUT', body: 'out of order' });
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 700_000);
    for (let round = 0; round < 5; round += 1) {
      expect((await list(token, environment(url))).status).toBe(200);
    }
    // One of them has tried, and the provider's own answer to this test counts as well.
    expect((await fetches(url)) - asked).toBe(2);

    vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 3_600_000);
    expect((await list(token, environment(url))).code).toBe(50301);
  });

  test('that answers something else than keys is 50301', async () => {
    const url = jwks();
    await fetch(url, { method: 'PUT', body: '{"keys":"none"}' });
    expect((await list(bearer(await sign('ES256')), environment(url))).code).toBe(50301);
  });
});

describe('a deployment whose access control', () => {
  const keys = {
    AUTH_JWKS_URL: 'https://id.example.com/jwks',
    AUTH_ISSUER: 'i',
    AUTH_AUDIENCE: 'a',
  };
  test.for<[string, Partial<Bindings>]>([
    ['is not configured', { AUTH_SECRET: '' }],
    ['has a secret of 31 bytes', { AUTH_SECRET: 'x'.repeat(31) }],
    ['has both kinds', keys],
    ['has keys and no issuer', { ...keys, AUTH_SECRET: '', AUTH_ISSUER: '' }],
    ['has keys and no audience', { ...keys, AUTH_SECRET: '', AUTH_AUDIENCE: '' }],
    [
      'would fetch keys in the clear',
      { ...keys, AUTH_SECRET: '', AUTH_JWKS_URL: 'http://id.example.com/' },
    ],
    ['has an URL that is none', { ...keys, AUTH_SECRET: '', AUTH_JWKS_URL: 'jwks' }],
  ])('%s refuses every request, and the log says what to set', async ([, env]) => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    for (const [method, path] of [
      ['GET', '/payments'],
      ['GET', '/payments/1'],
      ['POST', '/payments/1/refund'],
      ['PATCH', '/payments/1/refunds/1'],
    ] as const) {
      const reply = await app.call(method, path, anything, { env });
      expect(reply).toMatchObject({ status: 503, code: 50301, data: null });
    }
    expect(log.mock.calls.flat().join()).toMatch(/AUTH_(SECRET|JWKS_URL|ISSUER)/);
    expect((await app.call('GET', '/health', anything, { env })).status).toBe(200);
  });
});

describe('the rate limit', () => {
  test('is counted for each actor, for refunds and settlements only', async () => {
    const paymentId = await insertPayment(app.sql);
    const keys: string[] = [];
    const env: Partial<Bindings> = {
      WRITE_RATE_LIMIT: {
        async limit({ key }) {
          keys.push(key);
          return { success: keys.length <= 2 };
        },
      },
    };
    const headers = bearer(await signToken({ sub: 'user-7' }));
    const refund = () =>
      app.call('POST', `/payments/${paymentId}/refund`, anything, {
        headers,
        env,
        body: { amount: '1', reason: '拍错了' },
      });
    await app.call('GET', '/payments', anything, { headers, env });
    expect((await refund()).status).toBe(201);
    const settled = await app.call('PATCH', `/payments/${paymentId}/refunds/1`, anything, {
      headers,
      env,
      body: { status: 1 },
    });
    expect(settled.status).toBe(200);
    const limited = await refund();
    expect(limited).toMatchObject({ status: 429, code: 42900 });
    expect(limited.headers.get('Retry-After')).toBe('60');
    expect(keys).toEqual(['user-7', 'user-7', 'user-7']);
  });

  test('that cannot be asked lets the request go on', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => {});
    const paymentId = await insertPayment(app.sql);
    const reply = await app.call('POST', `/payments/${paymentId}/refund`, anything, {
      env: { WRITE_RATE_LIMIT: { limit: () => Promise.reject(new Error('down')) } },
      body: { amount: '1', reason: '拍错了' },
    });
    expect(reply.status).toBe(201);
  });
});
