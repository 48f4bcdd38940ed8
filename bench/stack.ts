/**
 * What every measurement stands on: a PostgreSQL in a temporary folder, the Neon endpoint before it,
 * both Workers in one workerd, and requests timed from outside, because the clock inside a Worker
 * stands still while it computes. close() ends and removes all of it.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { Agent, type IncomingMessage, type RequestOptions, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from 'miniflare';
import pg from 'pg';
import { startNeonEndpoint } from '../dev/neon-endpoint.ts';
import type { ControlState, Fault } from '../dev/neon-faults.ts';
import { startPostgres } from '../dev/postgres.ts';
import { signToken } from '../dev/token.ts';
import { migrate } from '../drizzle/migrate.ts';

export const ROOT = join(import.meta.dirname, '..');

/** No wait for the disk, in ours as in the floors: it would hide what is ours. Memory as of a small Neon compute. */
const POSTGRES_FLAGS = [
  'fsync=off',
  'synchronous_commit=off',
  'full_page_writes=off',
  'shared_buffers=1GB',
  'maintenance_work_mem=512MB',
  'max_wal_size=8GB',
];

export interface Stack {
  folder: string;
  /** A migrated, empty database. */
  createDatabase(name: string): Promise<pg.Client>;
  dropDatabase(client: pg.Client): Promise<void>;
  connectionString(database: string): string;
  /** Of the Neon endpoint. */
  endpointUrl: string;
  /**
   * Both Workers over a database, in a fresh workerd with an empty KV; `use` gets them until it ends. `bindings`
   * are more variables of the API.
   */
  withWorkers<T>(
    database: string,
    use: (workers: Workers) => Promise<T>,
    bindings?: Record<string, string>,
  ): Promise<T>;
  /** What the requests for this database meet at the endpoint, until it is called again. */
  faults(database: string, faults: Fault[]): Promise<void>;
  /** The last statement that a Worker has sent to this database. */
  lastStatement(database: string): Promise<NonNullable<ControlState['lastStatement']>>;
  close(): Promise<void>;
}

export interface Workers {
  /** The production bundle of src, and floor.ts built the same way; both on workerd's own sockets. */
  api: URL;
  floor: URL;
  /** Of an actor who may do everything. */
  authorization: string;
  /** The JavaScript heap of the API's isolate at its most, garbage included, while `work` goes on. */
  peakHeapMib(work: () => Promise<unknown>): Promise<number>;
}

export async function startStack(): Promise<Stack> {
  const folder = await mkdtemp(join(tmpdir(), 'payments-bench-'));
  const parts: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })];
  const close = async () => {
    for (let part = parts.pop(); part; part = parts.pop()) await part();
  };
  try {
    // As root, PostgreSQL runs as another user, who has to get to the data inside.
    await chmod(folder, 0o711);
    const [api, floor] = await Promise.all([
      buildWorker('src/index.ts', join(folder, 'api')),
      buildWorker('bench/floor.ts', join(folder, 'floor')),
    ]);
    const postgres = await startPostgres({
      dataDir: join(folder, 'postgres'),
      flags: POSTGRES_FLAGS,
    });
    parts.push(() => postgres.stop());
    const endpoint = await startNeonEndpoint({ postgresPort: postgres.port });
    parts.push(() => endpoint.stop());
    const control = (database: string) => new URL(`/control/${database}`, endpoint.url);

    return {
      folder,
      connectionString: postgres.connectionString,
      endpointUrl: endpoint.url,
      close,
      async createDatabase(name) {
        await administer(postgres.connectionString(), `CREATE DATABASE ${name}`);
        await migrate(postgres.connectionString(name));
        const client = new pg.Client(postgres.connectionString(name));
        // Cut off when everything is stopped.
        client.on('error', () => {});
        await client.connect();
        return client;
      },
      async dropDatabase(client) {
        await client.end();
        await administer(
          postgres.connectionString(),
          `DROP DATABASE ${client.database} WITH (FORCE)`,
        );
      },
      async withWorkers(database, use, bindings = {}) {
        const miniflare = await startWorkers({
          scripts: { api, floor },
          databaseUrl: postgres.connectionString(database),
          endpointUrl: endpoint.url,
          bindings,
        });
        const dispose = () => miniflare.dispose();
        parts.push(dispose);
        try {
          return await use({
            api: await miniflare.unsafeGetDirectURL('api'),
            floor: await miniflare.unsafeGetDirectURL('floor'),
            authorization: `Bearer ${await signToken({ secret: AUTH_SECRET })}`,
            peakHeapMib: async (work) => peakHeapMib(await miniflare.getInspectorURL(), work),
          });
        } finally {
          if (parts.includes(dispose)) {
            parts.splice(parts.indexOf(dispose), 1);
            await dispose();
          }
        }
      },
      async faults(database, faults) {
        const response = await fetch(control(database), {
          method: 'PUT',
          body: JSON.stringify({ faults }),
        });
        if (!response.ok) throw new Error(await response.text());
      },
      async lastStatement(database) {
        const response = await fetch(control(database));
        const { lastStatement }: ControlState = JSON.parse(await response.text());
        if (!lastStatement) throw new Error(`no statement has reached ${database}`);
        return lastStatement;
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What ends a measurement before its time. */
export const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const AUTH_SECRET = randomBytes(32).toString('hex');

/** The bundle that `wrangler deploy` would upload, with wrangler.toml's settings whatever the script. */
async function buildWorker(script: string, folder: string): Promise<string> {
  await wrangler('deploy', script, '--dry-run', '--outdir', folder);
  return join(folder, script.endsWith('index.ts') ? 'index.js' : 'floor.js');
}

/** Runs wrangler in the root of the project, without look-ups outside this machine; returns what it prints. */
export async function wrangler(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(ROOT, 'node_modules/wrangler/bin/wrangler.js'), ...args],
    {
      cwd: ROOT,
      env: {
        ...process.env,
        CLOUDFLARE_CF_FETCH_ENABLED: 'false',
        WRANGLER_SEND_METRICS: 'false',
        WRANGLER_HIDE_BANNER: 'true',
      },
    },
  );
  return stdout;
}

async function startWorkers(options: {
  scripts: { api: string; floor: string };
  databaseUrl: string;
  endpointUrl: string;
  bindings: Record<string, string>;
}): Promise<Miniflare> {
  const config = await readFile(join(ROOT, 'wrangler.toml'), 'utf8');
  const compatibilityDate = /^compatibility_date = "(.+)"$/m.exec(config)?.[1];
  if (!compatibilityDate) throw new Error('wrangler.toml has no compatibility_date');
  const modules = async (path: string) => [
    { type: 'ESModule' as const, path: 'worker.js', contents: await readFile(path, 'utf8') },
  ];
  const shared = {
    compatibilityDate,
    kvNamespaces: { DETAIL_CACHE: 'details' },
    queueProducers: {
      PURGE_QUEUE: { queueName: 'payment-detail-purges' },
      REFUND_QUEUE: { queueName: 'payment-refunds' },
    },
    ratelimits: {
      WRITE_RATE_LIMIT: { namespace_id: '1', simple: { limit: 1e9, period: 60 as const } },
    },
    unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }],
  };
  const bindings = { DATABASE_URL: options.databaseUrl, NEON_FETCH_ENDPOINT: options.endpointUrl };
  const mine = SIGNALS.map((signal) => process.listeners(signal));
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      log: new Log(LogLevel.NONE),
      // The request logs: taken off workerd's hands, and dropped.
      handleStructuredLogs: () => {},
      cf: false,
      inspectorPort: 0,
      workers: [
        {
          ...shared,
          name: 'api',
          modules: await modules(options.scripts.api),
          // The longest deadline there is: COUNT and OFFSET are to be measured, not given up.
          bindings: {
            ...bindings,
            ...options.bindings,
            AUTH_SECRET,
            DATABASE_TIMEOUT_MS: '20000',
          },
          queueConsumers: {
            'payment-detail-purges': { maxBatchSize: 100, maxBatchTimeout: 1 },
            'payment-refunds': { maxBatchSize: 10, maxBatchTimeout: 1 },
          },
        },
        { ...shared, name: 'floor', modules: await modules(options.scripts.floor), bindings },
      ],
    }),
  );
  // On a signal it would end this process at once; main.ts ends everything in order.
  for (const [index, signal] of SIGNALS.entries()) {
    for (const listener of process.listeners(signal)) {
      if (!mine[index]?.includes(listener)) process.off(signal, listener);
    }
  }
  return miniflare;
}

/** Asks the inspector of the Worker `api`, which speaks Chrome's protocol, twenty times a second. */
async function peakHeapMib(inspector: URL, work: () => Promise<unknown>): Promise<number> {
  const list = await fetch(new URL('/json', `http://${inspector.host}`));
  const targets: { id: string; webSocketDebuggerUrl: string }[] = JSON.parse(await list.text());
  const target = targets.find(({ id }) => id.endsWith(':api'));
  if (!target) throw new Error('the inspector does not know the Worker');
  const socket = new WebSocket(target.webSocketDebuggerUrl);
  await new Promise((resolve) => socket.addEventListener('open', resolve));
  let peak = 0;
  socket.addEventListener('message', ({ data }) => {
    peak = Math.max(peak, JSON.parse(String(data)).result?.usedSize ?? 0);
  });
  const ask = setInterval(() => socket.send('{"id":1,"method":"Runtime.getHeapUsage"}'), 50);
  try {
    await work();
  } finally {
    clearInterval(ask);
    socket.close();
  }
  return peak / 2 ** 20;
}

async function administer(connectionString: string, statement: string): Promise<void> {
  const client = new pg.Client(connectionString);
  await client.connect();
  await client.query(statement);
  await client.end();
}

export interface Call extends RequestOptions {
  url: URL;
  body?: string;
  /** The only one that is right. Default 200. */
  status?: number;
}

/** The calls of the seed's benchmarks and of their floors, for payment number `id`. */
export function calls({ api, floor, authorization }: Workers) {
  const headers = { authorization };
  return {
    list: (query = ''): Call => ({ url: new URL(`/payments${query}`, api), headers }),
    lookup: (number: string): Call => ({ url: new URL(`/lookup?number=${number}`, api), headers }),
    refunds: (query = ''): Call => ({ url: new URL(`/refunds${query}`, api), headers }),
    detail: (id: number): Call => ({ url: new URL(`/payments/${id}`, api), headers }),
    refund: (id: number): Call => ({
      url: new URL(`/payments/${id}/refund`, api),
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: '{"amount":"0.01","reason":"bench"}',
      status: 201,
    }),
    cached: (id: number): Call => ({ url: new URL(`/cached/${id}`, floor) }),
    select: (): Call => ({ url: new URL('/select', floor) }),
    selectAndFill: (id: number): Call => ({ url: new URL(`/select-and-fill/${id}`, floor) }),
    insert: (id: number): Call => ({
      url: new URL(`/insert/${id}`, floor),
      method: 'POST',
      status: 201,
    }),
    insertAndPurge: (id: number): Call => ({
      url: new URL(`/insert-and-purge/${id}`, floor),
      method: 'POST',
      status: 201,
    }),
    query: (sql: string): Call => ({ url: new URL('/query', floor), method: 'POST', body: sql }),
  };
}

const agent = new Agent({ keepAlive: true });

/** Sends one request over a connection that stays open, and returns the body. Throws unless the status is right. */
export function send({ url, body, status = 200, ...options }: Call): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent, ...options }, (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode === status) resolve(text);
        else reject(new Error(`${options.method ?? 'GET'} ${url}: ${response.statusCode} ${text}`));
      });
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** Milliseconds per call of `count` calls, at most `connections` of them at a time. */
export async function timePerCall(
  call: () => Call,
  count: number,
  connections = 1,
): Promise<number> {
  let left = count;
  const began = performance.now();
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (left-- > 0) await send(call());
    }),
  );
  return (performance.now() - began) / count;
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = Number.NaN, high = Number.NaN] = [
    sorted[Math.ceil(middle) - 1],
    sorted[Math.floor(middle)],
  ];
  return (low + high) / 2;
}

/** The median of the ratios of rounds: what else runs on the machine meets both sides of a round alike. */
export function medianRatio(ours: number[], theirs: number[]): number {
  return median(ours.map((value, round) => value / (theirs[round] ?? Number.NaN)));
}

/** One item after the other, and again from the first. */
export function takeTurns<T>(items: T[]): () => T {
  let next = 0;
  return () => {
    const item = items[next++ % items.length];
    if (item === undefined) throw new Error('nothing to take');
    return item;
  };
}

/** 1, 2, 3 … `last`, and again from 1. */
export function cycle(last: number): () => number {
  let next = 0;
  return () => (next++ % last) + 1;
}

export function ms(value: number): string {
  return `${value < 10 ? value.toFixed(2) : value.toFixed(value < 100 ? 1 : 0)} ms`;
}

/** One line of the result table. */
export interface Result {
  name: string;
  ours: string;
  /** What it stands beside: its floor, or COUNT/OFFSET. */
  beside?: string;
  ratio?: number;
  /** The goal in words, and whether it was reached. */
  goal?: { text: string; met: boolean };
}

/** What a measurement hands to the report: a section with its table, and notes or raw rounds below it. */
export interface Section {
  title: string;
  /** What `ours` and `beside` are, as column heads. */
  heads: [ours: string, beside: string];
  results: Result[];
  notes: string[];
  /** Name to the values of all rounds, as they were measured. */
  raw?: Record<string, number[]>;
}

/** Goals that a ratio must not exceed. */
export function atMost(ratio: number, limit: number): { text: string; met: boolean } {
  return { text: `ratio ≤ ${limit}`, met: ratio <= limit };
}
