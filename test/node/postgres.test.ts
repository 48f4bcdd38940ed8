/**
 * The embedded PostgreSQL: what an unclean exit leaves behind never stands in its way, two processes
 * never share a data folder, and no server outlives the process that started it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import {
  DataDirInUseError,
  type Postgres,
  type PostgresOptions,
  startPostgres,
} from '../../dev/postgres.ts';
import { SetupError } from '../../dev/setup-error.ts';

const isRoot = process.getuid?.() === 0;
const flags = ['fsync=off'];
let folder = '';
const running: Postgres[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'payments-postgres-'));
  // As root, PostgreSQL is another user, who has to get to the data inside.
  await chmod(folder, 0o711);
});
afterEach(async () => {
  for (const postgres of running.splice(0)) await postgres.stop();
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function start(name: string, options: Partial<PostgresOptions> = {}): Promise<Postgres> {
  const postgres = await startPostgres({ dataDir: join(folder, name), flags, ...options });
  running.push(postgres);
  return postgres;
}

async function query(postgres: Postgres, sql: string): Promise<unknown[]> {
  const client = new pg.Client(postgres.connectionString());
  await client.connect();
  const { rows } = await client.query(sql);
  await client.end();
  return rows;
}

/** Starts it in a process of its own; resolves with that process when the server is up. */
async function startElsewhere(name: string): Promise<ChildProcess> {
  const module = join(import.meta.dirname, '../../dev/postgres.ts');
  const options = JSON.stringify({ dataDir: join(folder, name), flags });
  const script = `
    const { startPostgres } = await import(${JSON.stringify(module)});
    await startPostgres(${options});
    console.log('started');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (child.stdout !== null) await once(child.stdout, 'data');
  return child;
}

function serverOf(name: string): number {
  return Number(readFileSync(join(folder, name, 'postmaster.pid'), 'utf8').split('\n')[0]);
}

/** Also true of a process that has ended and that nobody has collected, as in a container without init. */
function hasEnded(pid: number): boolean {
  const stat = `/proc/${pid}/stat`;
  if (existsSync(stat)) return / Z /.test(readFileSync(stat, 'utf8'));
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}

it('keeps its data from one start to the next, on whatever port is free', async () => {
  const first = await start('kept');
  await query(first, 'CREATE TABLE kept AS SELECT 1 AS one');
  await first.stop();
  expect(await first.exited).toBe('exit code 0');
  const [second, other] = await Promise.all([start('kept'), start('other')]);
  expect(await query(second, 'SELECT one FROM kept')).toEqual([{ one: 1 }]);
  expect(other.port).not.toBe(second.port);
});

it('sorts and tells the time alike on every machine', async () => {
  const postgres = await start('kept');
  const [settings] = await query(
    postgres,
    `SELECT datlocprovider, datlocale, pg_encoding_to_char(encoding) AS encoding, current_setting('timezone') AS zone
     FROM pg_database WHERE datname = 'postgres'`,
  );
  expect(settings).toEqual({
    datlocprovider: 'b',
    datlocale: 'C.UTF-8',
    encoding: 'UTF8',
    zone: 'GMT',
  });
});

it('tells a second process that the folder is in use', async () => {
  await start('kept');
  await expect(start('kept')).rejects.toBeInstanceOf(DataDirInUseError);
});

it('ends with the process that started it, even after SIGKILL, and starts again', async () => {
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    const child = await startElsewhere('orphaned');
    const server = serverOf('orphaned');
    expect(hasEnded(server)).toBe(false);
    child.kill(signal);
    // At once: the folder is free when the old server has ended, and not before.
    const postgres = await start('orphaned');
    expect(hasEnded(server)).toBe(true);
    await postgres.stop();
  }
});

it('recovers from a server that was killed, though its pid is somebody else’s by now', async () => {
  const killed = await start('killed');
  await query(killed, 'CREATE TABLE kept AS SELECT 1 AS one');
  process.kill(serverOf('killed'), 'SIGKILL');
  expect(await killed.exited).toBe('SIGKILL');
  const file = join(folder, 'killed', 'postmaster.pid');
  const [, ...rest] = readFileSync(file, 'utf8').split('\n');
  // This process is alive, but no server.
  await writeFile(file, [process.pid, ...rest].join('\n'));
  expect(await query(await start('killed'), 'SELECT one FROM kept')).toEqual([{ one: 1 }]);
});

it('starts over where it was killed while making the data folder', async () => {
  await mkdir(join(folder, 'half.new-1-1', 'data'), { recursive: true });
  await writeFile(join(folder, 'half.new-1-1', 'data', 'PG_VERSION'), '18\n');
  await start('half');
  expect((await readdir(folder)).filter((name) => name.startsWith('half.new-'))).toEqual([]);
});

it('says which folder to delete when another PostgreSQL version made it', async () => {
  const postgres = await start('old');
  await postgres.stop();
  await writeFile(join(folder, 'old', 'PG_VERSION'), '16\n');
  await expect(start('old')).rejects.toBeInstanceOf(SetupError);
  await expect(start('old')).rejects.toThrow(
    `${join(folder, 'old')} holds the data of PostgreSQL 16`,
  );
});

it.runIf(isRoot)('says which folder the system user cannot enter', async () => {
  const closed = join(folder, 'closed');
  await mkdir(closed, { mode: 0o700 });
  await expect(start('closed/inside/data')).rejects.toThrow(`cannot enter ${closed}`);
});
