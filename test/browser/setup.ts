/**
 * What the browser tests of one run share: a browser, the console built once, and a real `wrangler dev` over a
 * PostgreSQL of its own with sample data and simulated gateways. It does not use test/global-setup.ts's PostgreSQL,
 * because vitest calls the setup of a project before the one of the root. All processes end with this one, however
 * that ends.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type BrowserServer, chromium } from 'playwright-core';
import type { TestProject } from 'vitest/node';
import { launchChromium, NoBrowserError } from '../../dev/chromium.ts';
import { startPostgres } from '../../dev/postgres.ts';
import { startStack } from '../../dev/stack.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** In the system's folder for temporary files; the process follows. */
const PREFIX = 'payments-browser-';
const DATABASE = 'console';
/** A port that no other run looks at in the same moment, and that is in nobody's list of forbidden ones. */
const FIRST_PORT = 11_000 + (process.pid % 20_000);

export interface BrowserStack {
  /** Where the browser listens for playwright-core. */
  browser: string;
  worker: string;
  databaseUrl: string;
  /** The Neon endpoint's faults and counters for this database. */
  endpointControl: string;
  simulator: string;
  authSecret: string;
  /** What wrangler prints, the Worker's log included. */
  logFile: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    /** Null where this machine has no browser. */
    browserStack: BrowserStack | null;
  }
}

export default async function setup(
  project: TestProject,
): Promise<(() => Promise<void>) | undefined> {
  const browser = await launch();
  project.provide('browserStack', null);
  if (browser === undefined) return;

  const parts: { stop(): Promise<unknown> }[] = [{ stop: () => browser.close() }];
  const stop = async () => {
    for (let part = parts.pop(); part; part = parts.pop()) await part.stop();
  };
  try {
    await removeLeftovers();
    const folder = await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`));
    parts.push({ stop: () => rm(folder, { recursive: true, force: true }) });
    // As root, PostgreSQL runs as another user, who has to get to the data inside.
    await chmod(folder, 0o711);
    const assets = join(folder, 'site');
    await buildConsole(assets);
    const flags = ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off'];
    const postgres = await startPostgres({ dataDir: join(folder, 'data'), flags });
    parts.push(postgres);
    const logFile = join(folder, 'worker.log');
    const log = createWriteStream(logFile);
    parts.push({ stop: () => new Promise<void>((resolve) => log.end(resolve)) });
    const authSecret = randomBytes(32).toString('hex');
    const { worker, databaseUrl, endpoint, simulator } = await startStack({
      maintenanceUrl: postgres.connectionString(),
      database: DATABASE,
      folder: () => join(folder, 'worker'),
      port: FIRST_PORT,
      authSecret,
      assets,
      onLine: (line) => log.write(`${line}\n`),
      keep: async (part) => {
        parts.push(part);
      },
    });
    const ended = worker.exited.then((how) => {
      throw new Error(`wrangler has ended (${how}).`);
    });
    // Later, the tests see it themselves.
    ended.catch(() => {});
    await Promise.race([worker.healthy(), ended]);
    // The totals of past days, as the cron leaves them.
    await fetch(`${worker.url}/cdn-cgi/local/scheduled`);
    project.provide('browserStack', {
      browser: browser.wsEndpoint(),
      worker: worker.url,
      databaseUrl,
      endpointControl: new URL(`/control/${DATABASE}`, endpoint.url).href,
      simulator: simulator.url,
      authSecret,
      logFile,
    });
    return stop;
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Folders of runs that were killed: vitest calls nobody at a signal. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(PREFIX)) continue;
    const pid = Number.parseInt(name.slice(PREFIX.length), 10);
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

/** Undefined where there is no browser. CI has to have one. */
async function launch(): Promise<BrowserServer | undefined> {
  try {
    return await launchChromium((options) =>
      chromium.launchServer({
        ...options,
        host: '127.0.0.1',
        // It would end this process at once.
        handleSIGINT: false,
        handleSIGTERM: false,
        handleSIGHUP: false,
      }),
    );
  } catch (error) {
    if (!(error instanceof NoBrowserError) || process.env.CI) throw error;
    console.warn(`The tests in test/browser are skipped. ${error.message}`);
    return undefined;
  }
}

/** Not into dist/site, which a `npm run dev` may be serving. */
async function buildConsole(folder: string): Promise<void> {
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
