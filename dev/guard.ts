/**
 * Runs one command for a parent, in a process group of its own, and stops it when the parent says so
 * or is gone, whatever killed it (the IPC channel closes). Also holds the parent's lock file while it
 * lives: a lock outlasts the processes that it protects, and never a crash. Started by guarded.ts.
 */
import { spawn } from 'node:child_process';
import { DatabaseSync } from 'node:sqlite';
import type { GuardReport, GuardRequest } from './guarded.ts';

/** Long enough for the guard of a killed parent to finish; a second copy waits this long for its turn. */
const LOCK_WAIT_MS = 2_000;
/** SQLite's result code for "database is locked". */
const SQLITE_BUSY = 5;

/** What stopping means changes once the command runs. */
let stop = (): void => process.exit(0);

process.on('message', (request: GuardRequest) => {
  if (request === 'stop') stop();
  else run(request);
});
process.on('disconnect', () => stop());
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop());

const lockFile = process.argv[2];
// Referenced for ever, hence never released: the system frees it with this process.
const lock = lockFile === undefined ? undefined : takeLock(lockFile);
if (typeof lock === 'string') report({ type: lock }, () => process.exit(1));
else report({ type: 'ready' });
// The parent may have died before there was anybody to notice.
if (!process.connected) stop();

/** SQLite's lock is the portable one: atomic, and freed by the system after any kind of death. */
function takeLock(file: string): DatabaseSync | 'busy' | 'forbidden' {
  try {
    const database = new DatabaseSync(file, { timeout: LOCK_WAIT_MS });
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    return database;
  } catch (error) {
    // Anything else is about the file itself: not ours to open, or on a read-only disk.
    return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY
      ? 'busy'
      : 'forbidden';
  }
}

function run({
  command,
  args,
  stopSignal,
  graceMs,
  ...options
}: Exclude<GuardRequest, 'stop'>): void {
  const child = spawn(command, args, {
    ...options,
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const { pid } = child;
  if (pid === undefined) {
    child.on('error', ({ message }) => report({ type: 'failed', message }, () => process.exit(1)));
    return;
  }
  report({ type: 'started', pid });
  child.on('exit', (code, signal) => {
    // Whatever the command has left behind in its group goes with it.
    signalGroup(pid, 'SIGKILL');
    report({ type: 'exited', code, signal }, () => process.exit(0));
  });
  let stopping = false;
  stop = () => {
    if (stopping) return;
    stopping = true;
    signalGroup(pid, stopSignal);
    setTimeout(() => signalGroup(pid, 'SIGKILL'), graceMs);
  };
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // The group is gone already.
  }
}

function report(message: GuardReport, then: () => void = () => {}): void {
  if (process.connected && process.send !== undefined) process.send(message, then);
  else then();
}
