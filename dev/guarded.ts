/**
 * Runs a command so that it never outlives this process: a guard process (guard.ts) stops it after a
 * normal exit, an exception, a signal, even SIGKILL. If the guard itself is killed, we stop the
 * command. Only when both are killed at the same instant does it survive. Linux and macOS.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { SetupError } from './setup-error.ts';

interface GuardedCommand {
  command: string;
  args: string[];
  cwd?: string;
  /** The whole environment of the command; ours where absent. */
  env?: NodeJS.ProcessEnv;
  uid?: number;
  gid?: number;
  /** Sent to the command's process group; SIGKILL follows after `graceMs`. */
  stopSignal: NodeJS.Signals;
  graceMs: number;
}

export type GuardRequest = GuardedCommand | 'stop';

export type GuardReport =
  | { type: 'ready' }
  /** The lock file: somebody else has it, or we may not write it. */
  | { type: 'busy' }
  | { type: 'forbidden' }
  | { type: 'started'; pid: number }
  | { type: 'failed'; message: string }
  | { type: 'exited'; code: number | null; signal: NodeJS.Signals | null };

export interface Guard {
  /** Starts the command, once; rejects when it cannot be executed. */
  run(command: GuardedCommand): Promise<{ pid: number }>;
  /** Resolves, never rejects, when command and guard have ended; says how, for a log. */
  exited: Promise<string>;
  /** Stops the command and resolves when it has ended. */
  stop(): Promise<void>;
}

/** Another process holds the lock file. */
export class LockedError extends Error {
  override name = 'LockedError';
}

/**
 * Starts a guard, which takes `lockFile` (created where absent) for its lifetime and then waits for
 * its command. `onLine` gets each line of the command's output. Throws LockedError, SetupError.
 */
export async function startGuard(options: {
  lockFile?: string;
  onLine: (line: string) => void;
}): Promise<Guard> {
  // NODE_OPTIONS is meant for this process (an inspector, a loader), not for the guard.
  const { NODE_OPTIONS: _, ...env } = process.env;
  const script = fileURLToPath(new URL('./guard.ts', import.meta.url));
  const guard = spawn(
    process.execPath,
    // node:sqlite says on every start that it is experimental.
    [
      '--disable-warning=ExperimentalWarning',
      script,
      ...(options.lockFile === undefined ? [] : [options.lockFile]),
    ],
    // Detached: a terminal's Ctrl-C reaches us only, and we stop things in order.
    { detached: true, env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
  );

  let command: (GuardedCommand & { pid: number }) | undefined;
  let outcome: string | undefined;
  let onReport: (report: GuardReport) => void = () => {};
  guard.on('message', (report: GuardReport) => {
    if (report.type === 'exited') outcome = report.signal ?? `exit code ${report.code}`;
    onReport(report);
  });
  for (const stream of [guard.stdout, guard.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on('line', options.onLine);
  }

  const exited = new Promise<string>((resolve) => {
    guard.on('error', ({ message }) => resolve(message));
    guard.on('exit', async (code, signal) => {
      // Its last report may still be on the way.
      if (guard.connected) await once(guard, 'disconnect');
      if (outcome === undefined && command !== undefined) await stopOrphan(command);
      resolve(outcome ?? `its guard ended: ${signal ?? `exit code ${code}`}`);
    });
  });

  const nextReport = () =>
    new Promise<GuardReport>((resolve) => {
      onReport = resolve;
      exited.then((message) => resolve({ type: 'failed', message }));
    });

  const first = await nextReport();
  if (first.type === 'busy') throw new LockedError(`${options.lockFile} is locked`);
  if (first.type === 'forbidden') {
    throw new SetupError(
      `${options.lockFile} cannot be written, probably because another user made it. Delete its folder, or run this as that user.`,
    );
  }
  if (first.type === 'failed') throw new Error(first.message);

  return {
    exited,
    async run(request) {
      const reported = nextReport();
      guard.send(request);
      const report = await reported;
      if (report.type !== 'started') {
        throw new Error(report.type === 'failed' ? report.message : 'The guard was stopped.');
      }
      command = { ...request, pid: report.pid };
      return { pid: report.pid };
    },
    async stop() {
      if (guard.connected) guard.send('stop' satisfies GuardRequest, () => {});
      await exited;
    },
  };
}

/** Where nobody collects ended processes (a container without init), they look alive for ever. */
const ORPHAN_GRACE_MS = 3_000;

/** The guard was killed: its command is ours to stop now. */
async function stopOrphan({
  pid,
  stopSignal,
  graceMs,
}: GuardedCommand & { pid: number }): Promise<void> {
  const deadline = Date.now() + Math.min(graceMs, ORPHAN_GRACE_MS);
  let alive = signalGroup(pid, stopSignal);
  while (alive && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    alive = signalGroup(pid, 0);
  }
  if (alive) signalGroup(pid, 'SIGKILL');
}

/** False when nobody is left in the group. */
function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-pid, signal);
    return true;
  } catch {
    return false;
  }
}
