/** Which pages may call the API, and which headers keep an answer out of caches and frames. */
import { createExecutionContext } from 'cloudflare:test';
import { expect, test } from 'vitest';
import worker from '../src/index';
import { expectConforming } from './contract';
import { signToken, startApp } from './harness';

const app = await startApp();
const env = {
  ...app.env,
  ALLOWED_ORIGINS: 'https://backoffice.example.com, https://support.example.com',
};

async function send(method: string, path: string, headers: Record<string, string>) {
  const request = new Request(`https://api.test${path}`, {
    method,
    headers: { Authorization: `Bearer ${await signToken()}`, ...headers },
  });
  const response = await worker.fetch(request, env, createExecutionContext());
  await expectConforming(request, response);
  return response;
}

test.for([
  ['GET', '/payments', 200],
  ['GET', '/payments/1', 404],
  ['GET', '/payments?page=0', 400],
  ['GET', '/nowhere', 404],
] as const)('an allowed origin may read the answer to %s %s', async ([method, path, status]) => {
  for (const Origin of ['https://backoffice.example.com', 'https://support.example.com']) {
    const response = await send(method, path, { Origin });
    expect(response.status).toBe(status);
    expect(response.headers.get('Access-Control-Allow-Origin')).toBe(Origin);
    expect(response.headers.get('Access-Control-Expose-Headers')).toContain('X-Request-Id');
    expect(response.headers.get('Vary')).toContain('Origin');
    expect(response.headers.get('Access-Control-Allow-Credentials')).toBeNull();
  }
});

test('an allowed origin may ask before it writes', async () => {
  const response = await send('OPTIONS', '/payments/1/refund', {
    Origin: 'https://backoffice.example.com',
    'Access-Control-Request-Method': 'POST',
    'Access-Control-Request-Headers': 'authorization,content-type,idempotency-key',
  });
  expect(response.status).toBe(204);
  expect(response.headers.get('Access-Control-Allow-Methods')).toBe('GET,POST,PATCH');
  const allowed = response.headers.get('Access-Control-Allow-Headers')?.toLowerCase().split(',');
  expect(allowed).toEqual(
    expect.arrayContaining(['authorization', 'content-type', 'idempotency-key']),
  );
  expect(response.headers.get('Access-Control-Allow-Credentials')).toBeNull();
});

test.for([
  'https://evil.example.com',
  'https://backoffice.example.com.evil.example.com',
  'http://backoffice.example.com',
  'https://backoffice.example.com:8443',
  'https://BACKOFFICE.example.com',
  'null',
  '*',
  '',
])('another origin gets no permission: %s', async (Origin) => {
  const read = await send('GET', '/payments', { Origin });
  expect(read.headers.get('Access-Control-Allow-Origin')).toBeNull();
  const asked = await send('OPTIONS', '/payments/1/refund', {
    Origin,
    'Access-Control-Request-Method': 'POST',
  });
  expect(asked.status).toBe(405);
  expect(asked.headers.get('Access-Control-Allow-Origin')).toBeNull();
});

test.for(['/payments', '/payments/1', '/nowhere', '/health', '/openapi.json'])(
  'the answer to %s is kept out of caches, frames and guesses at its type',
  async (path) => {
    const { headers } = await send('GET', path, {});
    expect(headers.get('Cache-Control')).toBe('no-store');
    expect(headers.get('X-Content-Type-Options')).toBe('nosniff');
    expect(headers.get('Content-Security-Policy')).toBe("default-src 'none'");
    expect(headers.get('X-Frame-Options')).toBe('SAMEORIGIN');
    expect(headers.get('Strict-Transport-Security')).toMatch(/max-age=\d+/);
  },
);
