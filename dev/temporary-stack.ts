/**
 * The whole of it, in a temporary folder, for a moment: the console built, a PostgreSQL of its own with sample data,
 * simulated gateways and `wrangler dev`. The browser tests and the screenshots stand on it. All processes end with
 * this one, however that ends.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startPostgres } from './postgres.ts';
import { type Stack, startStack } from './stack.ts';

const ROOT = join(import.meta.dirname, '..');
const DATABASE = 'console';
/** A port that no other run looks at in the same moment, and that is in nobody's list of forbidden ones. */
const FIRST_PORT = 11_000 + (process.pid % 20_000);

export interface TemporaryStack extends Stack {
  /** What wrangler prints, the Worker's log included. */
  logFile: string;
  /** The Neon endpoint's faults and counters for this database. */
  endpointControl: string;
  authSecret: string;
}

/**
 * Starts it; the Worker is healthy, and past days have their totals. `prefix` begins the folder's name; `keep` gets
 * what has to be stopped, the last first.
 */
export async function startTemporaryStack(
  prefix: string,
  keep: (part: { stop(): Promise<unknown> }) => void,
): Promise<TemporaryStack> {
  await removeLeftovers(prefix);
  const folder = await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`));
  keep({ stop: () => rm(folder, { recursive: true, force: true }) });
  // As root, PostgreSQL runs as another user, who has to get to the data inside.
  await chmod(folder, 0o711);
  const assets = join(folder, 'site');
  await buildConsole(assets);
  const flags = ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off'];
  const postgres = await startPostgres({ dataDir: join(folder, 'data'), flags });
  keep(postgres);
  const logFile = join(folder, 'worker.log');
  const log = createWriteStream(logFile);
  keep({ stop: () => new Promise<void>((resolve) => log.end(resolve)) });
  const authSecret = randomBytes(32).toString('hex');
  const stack = await startStack({
    maintenanceUrl: postgres.connectionString(),
    database: DATABASE,
    folder: () => join(folder, 'worker'),
    port: FIRST_PORT,
    authSecret,
    assets,
    onLine: (line) => void log.write(`${line}\n`),
    keep: async (part) => keep(part),
  });
  const { worker, endpoint } = stack;
  const ended = worker.exited.then((how) => {
    throw new Error(`wrangler has ended (${how}).`);
  });
  // Later, whoever uses it sees it.
  ended.catch(() => {});
  await Promise.race([worker.healthy(), ended]);
  // The totals of past days, as the cron leaves them.
  await fetch(`${worker.url}/cdn-cgi/local/scheduled`);
  const endpointControl = new URL(`/control/${DATABASE}`, endpoint.url).href;
  return { ...stack, logFile, endpointControl, authSecret };
}

/** Builds the console into a folder; not into dist/site, which a `npm run dev` may be serving. */
export async function buildConsole(folder: string): Promise<void> {
  await promisify(execFile)(
    process.execPath,
    [
      join(ROOT, 'node_modules/vite/bin/vite.js'),
      ...['build', '--outDir', folder, '--logLevel', 'warn'],
    ],
    // vitest has set it to `test`.
    { cwd: ROOT, env: { ...process.env, NODE_ENV: 'production' } },
  );
}

/** Folders of runs that were killed. */
async function removeLeftovers(prefix: string): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(prefix)) continue;
    const pid = Number.parseInt(name.slice(prefix.length), 10);
    // Another user's may be there still, and is theirs to remove.
    if (!isRunning(pid)) await rm(join(tmpdir(), name), { recursive: true }).catch(() => {});
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
