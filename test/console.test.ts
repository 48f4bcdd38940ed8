/** The console as the Worker serves it: its page, and what stands around that. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { startApp } from './harness';

const app = await startApp();

afterEach(() => vi.restoreAllMocks());

/** A request of a browser that has not signed in. */
const open = (path: string, { headers = {}, method = 'GET', env = {} } = {}) =>
  app.send(method, path, {
    headers: { Authorization: undefined, Accept: 'text/html,*/*;q=0.8', ...headers },
    env,
  });

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

describe('the page', () => {
  test.for([
    '/console',
    '/console/',
    '/console/payments',
    '/console/payments/42?tab=refunds',
    '/console/index.html',
    '/console/nowhere',
  ])('is what %s answers, configured or not', async (path) => {
    for (const env of [{}, { AUTH_SECRET: '', DATABASE_URL: '' }]) {
      const response = await open(path, { env });
      expect(response.status).toBe(200);
      expect(await response.text()).toContain('<div id="console">');
      expect(Object.fromEntries(response.headers)).toMatchObject({
        'content-type': 'text/html; charset=UTF-8',
        'cache-control': 'no-cache',
        'content-security-policy': POLICY,
        'x-content-type-options': 'nosniff',
        'x-request-id': expect.any(String),
      });
    }
  });

  test('names only files that there are', async () => {
    const html = await (await open('/console/')).text();
    const files = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path = '']) => path);
    expect(files.length).toBeGreaterThan(1);
    for (const path of files) {
      const file = await app.env.ASSETS?.fetch(`https://api.test${path}`);
      expect(file?.status, path).toBe(200);
    }
  });

  test('is answered to HEAD without a body, and to nothing that writes', async () => {
    const head = await open('/console/payments', { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    expect(head.headers.get('Content-Security-Policy')).toBe(POLICY);
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      const reply = await app.call(method, '/console/payments', z.null());
      expect([reply.status, reply.code]).toEqual([405, 40500]);
      expect(reply.headers.get('Allow')).toBe('GET, HEAD');
    }
  });

  test('is logged and counted under one route', async () => {
    const log = vi.spyOn(console, 'info');
    await open('/console/payments/42?order_no=secret');
    const lines = log.mock.calls.map(([line]) => JSON.parse(String(line)));
    expect(lines).toMatchObject([{ event: 'request', route: '/console/*', status: 200, code: 0 }]);
    expect(JSON.stringify(lines)).not.toContain('secret');
  });

  test.for([
    ['no files', undefined],
    ['no page among them', { fetch: async () => new Response(null, { status: 404 }) }],
  ])('of a deployment with %s is 50301, and the log says why', async ([, ASSETS]) => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    const env = Object({ ASSETS });
    const reply = await app.call('GET', '/console/', z.null(), { env });
    expect(reply).toMatchObject({ status: 503, code: 50301 });
    expect(log.mock.calls.join()).toContain('npm run build');
    expect((await app.call('GET', '/payments', z.unknown(), { env })).status).toBe(200);
  });
});

test('a file that is not there any more is 404, and no cache keeps that', async () => {
  const reply = await app.call('GET', '/console/assets/index-old.js', z.null());
  expect([reply.status, reply.code]).toEqual([404, 40400]);
  expect(reply.headers.get('Cache-Control')).toBe('no-store');
});

test('the root takes a browser to the console, and tells others where the document is', async () => {
  const browser = await open('/');
  expect([browser.status, browser.headers.get('Location')]).toEqual([302, '/console/payments']);
  for (const headers of [{ Accept: '*/*' }, { Accept: undefined }]) {
    const reply = await app.call('GET', '/', z.unknown(), { headers });
    expect(reply.body).toMatchObject({ code: 0, data: { openapi: '/openapi.json' } });
  }
});
