/**
 * What the API is compared with, in the same runtime and through the same router, driver and endpoint:
 * the least that a request of its kind can do. Checks nobody and validates nothing; never deployed.
 */
import { neon, neonConfig } from '@neondatabase/serverless';
import { Hono } from 'hono';

interface Bindings {
  DETAIL_CACHE: {
    get(key: string): Promise<string | null>;
    put(key: string, value: string): Promise<void>;
    delete(key: string): Promise<void>;
  };
  PURGE_QUEUE: { sendBatch(messages: { body: object; delaySeconds: number }[]): Promise<unknown> };
  WRITE_RATE_LIMIT: { limit(options: { key: string }): Promise<unknown> };
  DATABASE_URL: string;
  NEON_FETCH_ENDPOINT: string;
}

const app = new Hono<{ Bindings: Bindings }>();

const connect = ({ DATABASE_URL, NEON_FETCH_ENDPOINT }: Bindings) => {
  neonConfig.fetchEndpoint = NEON_FETCH_ENDPOINT;
  return neon(DATABASE_URL);
};

app.get('/cached/:id', async (c) => {
  const body = await c.env.DETAIL_CACHE.get(`payment:detail:${c.req.param('id')}`);
  return body === null ? c.notFound() : c.body(body, 200, { 'Content-Type': 'application/json' });
});

app.get('/select', async (c) => c.json(await connect(c.env)`SELECT 1`));

/** With what a detail does in KV when it is not there. */
app.get('/select-and-fill/:id', async (c) => {
  const key = `floor:${c.req.param('id')}`;
  await c.env.DETAIL_CACHE.get(key);
  const rows = await connect(c.env)`SELECT 1`;
  c.executionCtx.waitUntil(c.env.DETAIL_CACHE.put(key, VALUE));
  return c.json(rows);
});

/** As large as a detail. */
const VALUE = 'x'.repeat(500);

app.post('/insert/:id', async (c) => c.json(await insert(c.env, c.req.param('id')), 201));

/** With what a refund does with limiter, queue and KV. */
app.post('/insert-and-purge/:id', async (c) => {
  const id = c.req.param('id');
  await c.env.WRITE_RATE_LIMIT.limit({ key: 'floor' });
  const messages = [5, 25].map((delaySeconds) => ({ body: { payment_id: id }, delaySeconds }));
  c.executionCtx.waitUntil(c.env.PURGE_QUEUE.sendBatch(messages));
  const rows = await insert(c.env, id);
  await c.env.DETAIL_CACHE.delete(`floor:${id}`);
  return c.json(rows, 201);
});

function insert(env: Bindings, id: string) {
  return connect(env)`
    INSERT INTO payment_refunds (payment_id, refund_no, amount, reason)
    VALUES (${id}, ${crypto.randomUUID()}, 0.01, 'floor')`;
}

const RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
let key: Awaited<ReturnType<typeof generateKey>> | undefined;

/** Signs so often, as a request to a gateway is signed. */
app.post('/sign/:count', async (c) => {
  key ??= await generateKey();
  const text = new TextEncoder().encode('x'.repeat(400));
  for (let left = Number(c.req.param('count')); left > 0; left--) {
    await crypto.subtle.sign(RSA, key, text);
  }
  return c.json(null);
});

async function generateKey() {
  const algorithm = { ...RSA, modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1) };
  const pair = await crypto.subtle.generateKey(algorithm, false, ['sign', 'verify']);
  return pair.privateKey;
}

/** Any statement without parameters, for COUNT and OFFSET. */
app.post('/query', async (c) => c.json(await connect(c.env).query(await c.req.text())));

export default app;
