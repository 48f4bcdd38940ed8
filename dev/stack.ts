/**
 * The whole API over a PostgreSQL that runs already: a migrated database with sample data, the Neon endpoint,
 * the simulated payment gateways and `wrangler dev`. It is what `npm run dev` and the console's tests use.
 */
import { join } from 'node:path';
import pg from 'pg';
import { migrate } from '../drizzle/migrate.ts';
import { DEV_OPTIONS } from './gateways/contract.ts';
import { makeKeys } from './gateways/keys.ts';
import { type KnownOrder, type Simulator, startSimulator } from './gateways/simulator.ts';
import { type NeonEndpoint, startNeonEndpoint } from './neon-endpoint.ts';
import { insertSampleData } from './sample-data.ts';
import { startWorker, type Worker } from './worker.ts';

export interface StackOptions {
  /** Of the PostgreSQL's own database, `postgres`. */
  maintenanceUrl: string;
  /** Made where it is missing. */
  database: string;
  /** Where KV, queues and the gateways' books are kept; one for each database cluster. */
  folder: (clusterId: string) => string | Promise<string>;
  /** Tried first for the Worker; the next free one where it is taken. */
  port: number;
  authSecret: string;
  /** Served instead of wrangler.toml's folder. */
  assets?: string;
  /** Gets what wrangler prints. */
  onLine: (line: string) => void;
  /**
   * Gets each part as soon as it runs, so that it can be stopped while the rest is still starting. `exited` tells
   * how a part has ended.
   */
  keep: (part: Part, name?: string, exited?: Promise<string>) => Promise<void>;
}

interface Part {
  stop(): Promise<void>;
}

export interface Stack {
  worker: Worker;
  databaseUrl: string;
  endpoint: NeonEndpoint;
  simulator: Simulator;
  /** How many there are in the database. */
  migrations: number;
  /** How many sample payments were inserted: 0 where there were some. */
  inserted: number;
}

/** Starts it. The Worker may need some seconds more: see its healthy(). Throws LockedError where `folder` is in use. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const { maintenanceUrl, database, port, authSecret, onLine, keep } = options;
  const clusterId = await createDatabase(maintenanceUrl, database);
  const databaseUrl = Object.assign(new URL(maintenanceUrl), { pathname: database }).href;
  const migrations = await migrate(databaseUrl);
  const inserted = await fill(databaseUrl);
  const endpoint = await startNeonEndpoint({ postgresPort: Number(new URL(databaseUrl).port) });
  await keep(endpoint);
  const folder = await options.folder(clusterId);
  const { keys, variables } = await makeKeys();
  const simulator = await startSimulator({
    keys,
    world: 'dev',
    options: DEV_OPTIONS,
    booksFile: join(folder, 'gateways.json'),
    findOrder: (gateway, order) => findOrder(databaseUrl, gateway, order),
  });
  await keep(simulator);
  const worker = await startWorker({
    root: join(import.meta.dirname, '..'),
    folder,
    port,
    databaseUrl,
    endpoint: endpoint.url,
    authSecret,
    ...(options.assets === undefined ? {} : { assets: options.assets }),
    variables: (url) => ({
      ...variables,
      GATEWAYS: 'wechat,alipay',
      CALLBACK_BASE_URL: url,
      WECHAT_API_BASE: simulator.url,
      ALIPAY_API_BASE: `${simulator.url}/gateway.do`,
    }),
    onLine,
  });
  await keep(worker, 'wrangler', worker.exited);
  const callbacks = { callbackUrl: worker.url };
  await fetch(`${simulator.url}/control`, { method: 'PUT', body: JSON.stringify(callbacks) });
  return { worker, databaseUrl, endpoint, simulator, migrations, inserted };
}

/** Creates our database where it is missing; returns what tells this cluster from every other. */
async function createDatabase(connectionString: string, name: string): Promise<string> {
  const client = new pg.Client(connectionString);
  await client.connect();
  const found = await client.query('SELECT FROM pg_database WHERE datname = $1', [name]);
  if (found.rowCount === 0) await client.query(`CREATE DATABASE ${name}`);
  const { rows } = await client.query<{ id: string }>(
    'SELECT system_identifier::text AS id FROM pg_control_system()',
  );
  await client.end();
  return rows[0]?.id ?? '';
}

async function fill(databaseUrl: string): Promise<number> {
  const client = new pg.Client(databaseUrl);
  await client.connect();
  const inserted = await insertSampleData(client);
  // Whatever was at work when we were stopped is overdue, for the sweep.
  await client.query(
    "UPDATE gateway_refunds SET next_attempt_at = now() - interval '6 minutes', swept_at = NULL WHERE next_attempt_at IS NOT NULL",
  );
  await client.end();
  return inserted;
}

/** What the database knows of a payment, as the gateway's order. */
async function findOrder(
  databaseUrl: string,
  gateway: string,
  { outTradeNo }: { outTradeNo?: string | undefined },
): Promise<KnownOrder | undefined> {
  const client = new pg.Client(databaseUrl);
  await client.connect();
  try {
    const { rows } = await client.query<{ fen: string; paid_at: Date; status: number }>(
      'SELECT (amount * 100)::bigint AS fen, coalesce(payment_time, created_at) AS paid_at, status FROM payments WHERE payment_no = $1 AND payment_method = $2',
      [outTradeNo, gateway],
    );
    const [payment] = rows;
    if (payment === undefined || outTradeNo === undefined) return undefined;
    const state = payment.status === 1 || payment.status === 3 ? 'paid' : 'unpaid';
    return { outTradeNo, total: Number(payment.fen), paidAt: payment.paid_at.getTime(), state };
  } finally {
    await client.end();
  }
}
