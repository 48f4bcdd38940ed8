/**
 * `npm run dev`: builds the console, and runs it and the API on this machine, over a PostgreSQL of its own with
 * sample data and before simulated payment gateways. With DATABASE_URL it runs over that database, without
 * gateways. Prints what to open and to type next. Ctrl-C, a failure or the death of this process stops everything
 * that it started. Data is kept in `.dev/`, where every copy has its own slot.
 */
import { createHash } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Banner, findRefundablePayments, formatBanner } from './banner.ts';
import { startConsoleBuild } from './build-console.ts';
import { LockedError } from './guarded.ts';
import { DataDirInUseError, startPostgres } from './postgres.ts';
import { SetupError } from './setup-error.ts';
import { startStack } from './stack.ts';
import { developmentSecret, signToken } from './token.ts';
import { startWorker, type Worker } from './worker.ts';

const ROOT = join(import.meta.dirname, '..');
const DATABASE = 'payments';
const FIRST_PORT = 8787;
const MAX_SLOTS = 20;
/** How long whatever is just being started may take to notice that everything is being stopped. */
const STOP_WAIT_MS = 10_000;

/** In the order in which they were started. */
const parts: { stop(): Promise<void> }[] = [];
let shutdown: Promise<void> | undefined;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop(0));
// Such as a database connection that is cut off because we are stopping its server.
process.on('uncaughtException', fail);
const { DATABASE_URL } = process.env;
const startup = start();
startup.catch(fail);

async function start(): Promise<void> {
  // Before anything else is there to be stopped. wrangler needs the folder.
  const build = await startConsoleBuild();
  await keep(build);
  await build.done;
  await (DATABASE_URL ? startOver(DATABASE_URL) : startLocally());
}

/** Everything on this machine, in the first slot whose data nobody else is using. */
async function startLocally(): Promise<void> {
  const { slot, part: postgres } = await firstFreeSlot((number) =>
    startPostgres({ dataDir: join(ROOT, '.dev', String(number), 'postgres') }),
  );
  await keep(postgres, 'PostgreSQL', postgres.exited);
  const stack = await startStack({
    maintenanceUrl: postgres.connectionString(),
    database: DATABASE,
    folder: (clusterId) => stateFolder(join(ROOT, '.dev', String(slot)), clusterId),
    port: FIRST_PORT + slot - 1,
    authSecret: await developmentSecret(),
    onLine: console.log,
    keep,
  });
  const { worker, databaseUrl, endpoint, simulator, migrations, inserted } = stack;
  await announce(worker, databaseUrl, endpoint.url, simulator.url, [
    `Database  ${databaseUrl}`,
    `          PostgreSQL 18 with ${migrations} migration(s) and ${inserted === 0 ? 'the data of the last time' : `${inserted} sample payments`}.`,
    `          It is kept in .dev/${slot}: delete that folder to start anew.`,
  ]);
}

/** The API only, over a database that is somebody's: nothing is created or changed in it here. */
async function startOver(databaseUrl: string): Promise<void> {
  const { host, pathname } = parseDatabaseUrl(databaseUrl);
  // A folder for each database: a detail that was cached for another one can never appear.
  const name = createHash('sha256').update(`${host}${pathname}`).digest('hex').slice(0, 16);
  // For a proxy before another PostgreSQL; Neon itself is found by its host.
  const endpoint = process.env.NEON_FETCH_ENDPOINT || undefined;
  const authSecret = await developmentSecret();
  const { part: worker } = await firstFreeSlot((slot) =>
    startWorker({
      root: ROOT,
      folder: join(ROOT, '.dev', `neon-${name}`, String(slot)),
      port: FIRST_PORT + slot - 1,
      databaseUrl,
      endpoint,
      authSecret,
      onLine: console.log,
    }),
  );
  await keep(worker, 'wrangler', worker.exited);
  await announce(worker, databaseUrl, endpoint, undefined, [
    `Database  ${host}${pathname}, as DATABASE_URL says.`,
    '          Its migrations are up to you: `npm run db:migrate` applies them.',
  ]);
}

/** Slots are tried in turn, so the data of the last time is found again. Returns the first that is free. */
async function firstFreeSlot<T>(
  start: (slot: number) => Promise<T>,
): Promise<{ slot: number; part: T }> {
  for (let slot = 1; slot <= MAX_SLOTS; slot++) {
    try {
      return { slot, part: await start(slot) };
    } catch (error) {
      if (!(error instanceof DataDirInUseError || error instanceof LockedError)) throw error;
      console.log(`Another copy uses slot ${slot}.`);
    }
  }
  throw new SetupError(`${MAX_SLOTS} copies are running already.`);
}

/**
 * The folder of KV and queue. It belongs to one database cluster: where the data was deleted and made
 * anew, details that were cached before must not appear.
 */
async function stateFolder(slotFolder: string, clusterId: string): Promise<string> {
  const name = `worker-${clusterId}`;
  for (const other of await readdir(slotFolder)) {
    if (!other.startsWith('worker-') || other === name) continue;
    await rm(join(slotFolder, other), { recursive: true, force: true });
  }
  return join(slotFolder, name);
}

async function announce(
  worker: Worker,
  databaseUrl: string,
  endpoint: string | undefined,
  simulatorUrl: string | undefined,
  facts: string[],
): Promise<void> {
  await Promise.race([worker.healthy(), worker.exited]);
  if (shutdown !== undefined) return;
  // The messages of the last time are lost; the cron finds what they left.
  if (simulatorUrl !== undefined) await fetch(`${worker.url}/cdn-cgi/local/scheduled`);
  const token = await signToken({ secret: await developmentSecret() });
  const banner: Banner = {
    url: worker.url,
    // In the fragment, which no browser sends and no log has.
    consoleUrl: `http://localhost:${worker.port}/console/#token=${token}`,
    facts: [
      `API       ${worker.url}`,
      ...facts,
      'Token     Below, for everything, good for 12 hours. Another:',
      "          npm run token -- --sub me --scope 'payments:read refunds:create'",
    ],
    headers: [`Authorization: Bearer ${token}`],
    payments: {},
    ...(simulatorUrl === undefined ? {} : { simulatorUrl }),
  };
  try {
    banner.payments = await findRefundablePayments(databaseUrl, endpoint);
  } catch (error) {
    // Not a reason to stop: the database may be brought in order while the API is running.
    const message = error instanceof Error ? error.message : String(error);
    banner.facts.push(
      `          Its payments cannot be read: ${message.replaceAll(databaseUrl, '…')}`,
    );
  }
  console.log(formatBanner(banner));
}

function parseDatabaseUrl(databaseUrl: string): URL {
  const match = /^postgres(?:ql)?:(\/\/.*)$/.exec(databaseUrl);
  // The scheme is replaced because only special schemes have a host that is parsed.
  if (match === null || !URL.canParse(`http:${match[1]}`)) {
    throw new SetupError('DATABASE_URL is not a postgres://user:password@host/database URL.');
  }
  return new URL(`http:${match[1]}`);
}

/** Remembers a part to be stopped. One that ends by itself takes everything with it. */
async function keep(
  part: { stop(): Promise<void> },
  name?: string,
  exited?: Promise<string>,
): Promise<void> {
  parts.push(part);
  exited?.then((outcome) => fail(new SetupError(`${name} has ended (${outcome}).`)));
  if (shutdown === undefined) return;
  await part.stop();
  throw new Error('stopped while starting');
}

function fail(error: unknown): void {
  if (shutdown !== undefined) return;
  // What has a code comes from the system or from PostgreSQL, and its message says enough.
  const isExpected = error instanceof SetupError || (error instanceof Error && 'code' in error);
  if (isExpected) console.error(`\n${error.message}`);
  else console.error(error);
  stop(1);
}

/** Stops everything, the last first, and ends this process. Only the first reason counts. */
function stop(exitCode: number): void {
  shutdown ??= (async () => {
    for (const part of parts.toReversed()) await part.stop();
    await Promise.race([startup.catch(() => {}), sleep(STOP_WAIT_MS)]);
    process.exit(exitCode);
  })();
}
