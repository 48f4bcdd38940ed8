/**
 * GET /openapi.json: the document has every route and every error, and its examples are true. That
 * answers are as it says, expectConforming proves with those that the other tests get.
 */
import { createExecutionContext } from 'cloudflare:test';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { ERRORS } from '../src/http';
import worker, { app as router } from '../src/index';
import { document, OUTSIDE, validate } from './contract';
import { insertPayment, signToken, startApp } from './harness';

const app = await startApp();

const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
);

it('is served to anybody, configured or not, and always the same', async () => {
  const requests = await app.databaseRequests(async () => {
    for (const env of [app.env, {}]) {
      const request = new Request('https://api.test/openapi.json', {
        headers: { Origin: 'https://a.test' },
      });
      // An environment without anything is what a deployment that is not configured has.
      const response = await worker.fetch(request, Object(env), createExecutionContext());
      expect(response.status).toBe(200);
      expect(response.headers.get('Content-Type')).toBe('application/json');
      expect(await response.json()).toMatchObject({ openapi: '3.1.1', paths: document.paths });
    }
  });
  expect(requests).toBe(0);
});

it('has the operations that the router has but for pages, and no others', () => {
  const routed = router.routes
    .filter(({ method, path }) => method !== 'ALL' && !OUTSIDE.test(path))
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`);
  const described = operations.map(({ path, method }) => `${method.toUpperCase()} ${path}`);
  expect(described.sort()).toEqual([...new Set(routed)].sort());
});

it('has every error of the catalogue, and no other, under its status', () => {
  const { NotFound, MethodNotAllowed } = document.components.responses;
  const described = [
    ...operations.flatMap(({ operation }) => Object.entries(operation.responses)),
    ...Object.entries({ 404: NotFound, 405: MethodNotAllowed }),
  ].flatMap(([status, answer]) =>
    JSON.stringify(answer?.content)
      .matchAll(/schemas\/Error(\d+)/g)
      .map(([, code]) => `${code} ${status}`)
      .toArray(),
  );
  const catalogue = Object.entries(ERRORS).map(([code, [status]]) => `${code} ${status}`);
  expect([...new Set(described)].sort()).toEqual(catalogue.sort());
  const schemas = Object.keys(document.components.schemas).filter((name) => /^Error/.test(name));
  expect(schemas.sort()).toEqual(Object.keys(ERRORS).map((code) => `Error${code}`));
});

it('has examples that are as its schemas say', () => {
  let examples = 0;
  const check = (place: string[], example: unknown) => {
    if (example === undefined) return;
    validate(place, example);
    examples += 1;
  };
  const checkContent = (place: string[], content: Record<string, { example?: unknown }>) => {
    for (const [type, { example }] of Object.entries(content)) {
      check([...place, 'content', type, 'schema'], example);
    }
  };
  for (const { path, method, operation } of operations) {
    const place = ['paths', path, method];
    for (const [index, { example }] of operation.parameters.entries()) {
      check([...place, 'parameters', String(index), 'schema'], example);
    }
    checkContent([...place, 'requestBody'], operation.requestBody?.content ?? {});
    for (const [status, answer] of Object.entries(operation.responses)) {
      checkContent([...place, 'responses', status], answer.content);
      for (const [name, { example }] of Object.entries(answer.headers)) {
        check([...place, 'responses', status, 'headers', name, 'schema'], example);
      }
    }
  }
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    const { data } = z.object({ data: z.unknown() }).catch({ data: {} }).parse(schema.properties);
    const { examples = [] } = z.object({ examples: z.array(z.unknown()).optional() }).parse(data);
    for (const one of examples) {
      check(['components', 'schemas', name, 'properties', 'data'], one);
    }
  }
  expect(examples).toBeGreaterThan(60);
});

it('has example requests that the API takes', async () => {
  for (const { path, method, operation } of operations) {
    if (operation.security.length === 0) continue;
    const id = await insertPayment(app.sql);
    const examples = operation.parameters.map(({ name, in: place, required, example }) => ({
      name,
      place,
      required,
      value: String(example),
    }));
    const of = (where: string) => examples.filter(({ place }) => place === where);
    const headers = Object.fromEntries(of('header').map(({ name, value }) => [name, value]));
    const body = operation.requestBody?.content['application/json']?.example;
    // Those parameters of a query that need not be there one by one, since a cursor excludes a page.
    const always = of('query').filter(({ required }) => required);
    const others = of('query').filter(({ required }) => !required);
    for (const other of [[], ...others.map((one) => [one])]) {
      const query = new URLSearchParams(
        [...always, ...other].map(({ name, value }) => [name, value]),
      );
      const target = `${path.replace('{id}', id).replace(/\{\w+\}/, '409')}?${query}`;
      const options = { headers, ...(body === undefined ? {} : { body }) };
      const response = await app.send(method.toUpperCase(), target, options);
      expect([200, 201, 404], target + (await response.text())).toContain(response.status);
    }
  }
});

it('has the scope that an operation asks for', async () => {
  const Refusal = z.object({ required_scope: z.string() });
  const headers = { Authorization: `Bearer ${await signToken({ scope: '' })}` };
  for (const { path, method, operation } of operations) {
    const [security] = operation.security;
    if (!security?.bearer?.length) continue;
    const target = path.replace(/\{\w+\}/g, '1');
    const { code, data } = await app.call(method.toUpperCase(), target, Refusal, { headers });
    expect({ code, bearer: [data.required_scope] }, path).toEqual({ code: 40300, ...security });
  }
});

it('has 42900 where the rate is limited, and nowhere else', async () => {
  const env = { WRITE_RATE_LIMIT: { limit: async () => ({ success: false }) } };
  for (const { path, method, operation } of operations) {
    const target = path.replace(/\{\w+\}/g, '1');
    const { status } = await app.send(method.toUpperCase(), target, { env });
    expect(status === 429, `${method} ${path}`).toBe('429' in operation.responses);
  }
});

it('has the header that passes the cache by', async () => {
  const id = await insertPayment(app.sql);
  const header = document.paths['/payments/{id}']?.get?.parameters.find(
    (one) => one.in === 'header' && one.name === 'Cache-Control',
  );
  const headers = { 'Cache-Control': String(header?.example) };
  const reply = await app.call('GET', `/payments/${id}`, z.unknown(), { headers });
  expect(reply.headers.get('Cache-Status')).toBe('payment-detail; fwd=bypass');
});

it('has patterns that any regex engine compiles: no look-around, no Unicode properties', async () => {
  const served = await (await app.send('GET', '/openapi.json')).text();
  const patterns = served
    .matchAll(/"pattern":("(?:[^"\\]|\\.)*")/g)
    .map(([, pattern = '']) => String(JSON.parse(pattern)))
    .toArray();
  expect(patterns.length).toBeGreaterThan(20);
  expect(patterns.filter((pattern) => /\(\?[^:]|\\[pPk]|\\u/.test(pattern))).toEqual([]);
});

/** Whether a refund with this body is valid for the API, and for its document. */
async function takes(body: unknown): Promise<{ api: boolean; document: boolean }> {
  const text = JSON.stringify(body);
  const reply = await app.call('POST', '/payments/4242/refund', z.unknown(), { body: text });
  expect([40000, 40401], text).toContain(reply.code);
  try {
    validate(['components', 'schemas', 'RefundRequest'], body);
    return { api: reply.code === 40401, document: true };
  } catch {
    return { api: reply.code === 40401, document: false };
  }
}

it('takes the body of a refund for valid where the API does', async () => {
  for (const body of [
    { amount: '12.34', reason: '退款' },
    { amount: 12.34, reason: ' 退款 ' },
    { amount: '0.1', reason: '\n 退款\t' },
    { amount: '0.01', reason: '🙂'.repeat(255) },
    { amount: '0.10', reason: `\u3000${'🙂'.repeat(255)} ` },
    { amount: '10', reason: ' a ' },
    { amount: '9999999999999999.99', reason: 'a b' },
    { amount: '0', reason: '退款' },
    { amount: '0.0', reason: '退款' },
    { amount: '00.01', reason: '退款' },
    { amount: '0.00', reason: '退款' },
    { amount: 0, reason: '退款' },
    { amount: -1, reason: '退款' },
    { amount: '-1', reason: '退款' },
    { amount: '1.234', reason: '退款' },
    { amount: '01', reason: '退款' },
    { amount: '12345678901234567', reason: '退款' },
    { amount: null, reason: '退款' },
    { amount: '1', reason: '' },
    { amount: '1', reason: ' \u3000' },
    { amount: '1', reason: 'a\u0000' },
    { amount: '1', reason: 'a\nb' },
    { amount: '1', reason: 'a\u009fb' },
    { amount: '1', reason: '🙂'.repeat(256) },
    { amount: '1', reason: null },
    { amount: '1' },
    { reason: '退款' },
    { amount: '1', reason: '退款', status: 1 },
    [],
    null,
  ]) {
    const { api, document } = await takes(body);
    expect(document, JSON.stringify(body)).toBe(api);
  }
});

it('says only in words what is visible in a reason, and in which direction it runs', async () => {
  for (const reason of ['\u200b', '\u2800', '\u202e元001款退']) {
    expect(await takes({ amount: '1', reason })).toEqual({ api: false, document: true });
  }
});
