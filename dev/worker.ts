/**
 * `wrangler dev` for the API: no look-ups outside this machine, no key bindings (they swallow Ctrl-C),
 * KV and queues kept in a folder that no second copy shares. Ends with this process.
 */
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startGuard } from './guarded.ts';

/** Less than another copy waits for the folder's lock (guard.ts), so a restart finds it free. */
const STOP_GRACE_MS = 1_500;
const START_TIMEOUT_MS = 120_000;
const PORTS_TRIED = 100;

export interface WorkerOptions {
  root: string;
  /** Where the KV namespace and the queue keep their state. */
  folder: string;
  /** Tried first; the next free one where it is taken. */
  port: number;
  databaseUrl: string;
  /** NEON_FETCH_ENDPOINT; absent for Neon itself. */
  endpoint: string | undefined;
  authSecret: string;
  /** The folder of static files, instead of wrangler.toml's. */
  assets?: string;
  /** More variables of the Worker; `url` is its own. */
  variables?: (url: string) => Record<string, string>;
  onLine: (line: string) => void;
}

export interface Worker {
  port: number;
  url: string;
  /** Resolves when GET /health is answered; rejects when it is not in two minutes. */
  healthy(): Promise<void>;
  /** Resolves when wrangler has ended, wanted or not, with how. */
  exited: Promise<string>;
  stop(): Promise<void>;
}

/** Starts wrangler. Throws LockedError where another copy uses the folder. */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { root, folder, databaseUrl, endpoint, authSecret, onLine } = options;
  await mkdir(folder, { recursive: true });
  const guard = await startGuard({ lockFile: join(folder, 'lock'), onLine });
  const port = await findFreePort(options.port);
  const url = `http://127.0.0.1:${port}`;
  // Good for this API on this machine only, so others may see them in the list of processes.
  const variables = {
    AUTH_SECRET: authSecret,
    SERVER_TIMING: 'on',
    ...(endpoint === undefined ? {} : { NEON_FETCH_ENDPOINT: endpoint }),
    ...options.variables?.(url),
  };
  const { NODE_OPTIONS: _, ...environment } = process.env;
  await guard.run({
    command: process.execPath,
    args: [
      join(root, 'node_modules/wrangler/bin/wrangler.js'),
      'dev',
      ...['--ip', '127.0.0.1', '--port', String(port), '--inspector-port', '0'],
      ...['--persist-to', folder],
      ...(options.assets === undefined ? [] : ['--assets', options.assets]),
      // A developer's .env and .dev.vars are meant for other databases.
      ...['--env-file', '/dev/null'],
      ...Object.entries(variables).flatMap(([name, value]) => ['--var', `${name}:${value}`]),
      '--show-interactive-dev-session=false',
    ],
    cwd: root,
    env: {
      ...environment,
      // In the environment, where other users of this machine cannot read it as they can a command line.
      DATABASE_URL: databaseUrl,
      CLOUDFLARE_CF_FETCH_ENABLED: 'false',
      WRANGLER_SEND_METRICS: 'false',
      WRANGLER_HIDE_BANNER: 'true',
    },
    stopSignal: 'SIGTERM',
    graceMs: STOP_GRACE_MS,
  });
  return {
    port,
    url,
    async healthy() {
      const deadline = Date.now() + START_TIMEOUT_MS;
      while (Date.now() < deadline) {
        const response = await fetch(`${url}/health`).catch(() => undefined);
        if (response?.ok) return;
        await sleep(200);
      }
      throw new Error(`The API did not answer GET ${url}/health within two minutes.`);
    },
    exited: guard.exited,
    stop: guard.stop,
  };
}

async function findFreePort(first: number): Promise<number> {
  for (let port = first; port < first + PORTS_TRIED; port++) {
    if (await isFree(port)) return port;
  }
  throw new Error(`No port from ${first} to ${first + PORTS_TRIED - 1} is free.`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
