/**
 * What the API is compared with, in the same runtime and through the same router, driver and endpoint:
 * the least that a request of its kind can do. Checks nobody and validates nothing; never deployed.
 */
import { neon, neonConfig } from '@neondatabase/serverless';
import { Hono } from 'hono';

interface Bindings {
  DETAIL_CACHE: { get(key: string): Promise<string | null> };
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

app.post('/insert/:id', async (c) =>
  c.json(
    await connect(c.env)`
      INSERT INTO payment_refunds (payment_id, refund_no, amount, reason)
      VALUES (${c.req.param('id')}, ${crypto.randomUUID()}, 0.01, 'floor')`,
    201,
  ),
);

/** Any statement without parameters, for COUNT and OFFSET. */
app.post('/query', async (c) => c.json(await connect(c.env).query(await c.req.text())));

export default app;
