/**
 * Builds the console into dist/site, for `npm run dev` and the tests. One build at a time: another copy
 * would empty the folder under this one. A build never outlives its parent.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Guard, LockedError, startGuard } from './guarded.ts';
import { SetupError } from './setup-error.ts';

const ROOT = join(import.meta.dirname, '..');
/** Each try waits for two seconds (guard.ts). */
const TRIES = 30;

export interface Build {
  /** Resolves when dist/site is whole; rejects with a SetupError that shows what Vite says. */
  done: Promise<void>;
  stop(): Promise<void>;
}

/** Starts a build as soon as no other one of this clone is running. */
export async function startConsoleBuild(): Promise<Build> {
  const output: string[] = [];
  const guard = await firstTurn((line) => output.push(line));
  const { NODE_OPTIONS: _, ...environment } = process.env;
  await guard.run({
    command: process.execPath,
    args: [join(ROOT, 'node_modules/vite/bin/vite.js'), 'build', '--logLevel', 'warn'],
    cwd: ROOT,
    // Of a test run it would be `test`, and the result a build for development.
    env: { ...environment, NODE_ENV: 'production' },
    stopSignal: 'SIGTERM',
    graceMs: 1_000,
  });
  const done = guard.exited.then((outcome) => {
    if (outcome === 'exit code 0') return;
    const shown = output.filter((line) => !/^ {4}at /.test(line)).join('\n');
    throw new SetupError(`The console was not built (${outcome}).\n${shown.trim()}`);
  });
  // Whoever stops it before it is done does not wait for `done`.
  done.catch(() => {});
  return { done, stop: guard.stop };
}

async function firstTurn(onLine: (line: string) => void): Promise<Guard> {
  const folder = join(ROOT, '.dev');
  await mkdir(folder, { recursive: true });
  for (let tries = 1; ; tries += 1) {
    try {
      return await startGuard({ lockFile: join(folder, 'console-build.lock'), onLine });
    } catch (error) {
      if (!(error instanceof LockedError)) throw error;
      if (tries === TRIES) throw new SetupError('Another build of the console does not end.');
    }
  }
}
