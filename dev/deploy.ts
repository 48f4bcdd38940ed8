/**
 * `npm run deploy -- staging` (or production): the checks and tests, a build of the console, the migrations of that
 * environment's database, then its Worker. What fails ends it. The database is named by
 * STAGING_DATABASE_URL or PRODUCTION_DATABASE_URL, so that the one is never taken for the other, as
 * the role that owns the tables. docs/deploy.md says what a migration may do before its Worker is there.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { requireDirect } from '../drizzle/migrate.ts';
import { SetupError } from './setup-error.ts';

const ENVIRONMENTS = ['staging', 'production'];

try {
  const [environment = '', ...others] = process.argv.slice(2);
  if (!ENVIRONMENTS.includes(environment) || others.length > 0) {
    throw new SetupError(`Usage: npm run deploy -- ${ENVIRONMENTS.join('|')}`);
  }
  const DATABASE_URL = databaseUrl(`${environment.toUpperCase()}_DATABASE_URL`);
  const commit = committed(environment);

  run('The checks', 'npm', ['run', 'check']);
  run('The tests', 'npm', ['test']);
  run('The console', 'npm', ['run', 'build']);
  run('The migrations', 'npm', ['run', 'db:migrate'], { DATABASE_URL });
  run('The Worker', 'npx', ['wrangler', 'deploy', '--env', environment, '--tag', commit]);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

function databaseUrl(variable: string): string {
  const value = process.env[variable];
  if (!value) {
    throw new SetupError(
      `${variable} is not set: the direct connection string of the role that owns the tables.`,
    );
  }
  requireDirect(value);
  return value;
}

/** The commit that is deployed, which becomes the tag of the Worker's version. */
function committed(environment: string): string {
  const commit = git('rev-parse', '--short=12', 'HEAD');
  if (git('status', '--porcelain') === '') return commit;
  if (environment === 'production') {
    throw new SetupError('Only what is committed goes to production: git status shows changes.');
  }
  return `${commit}-dirty`;
}

function git(...args: string[]): string {
  return execFileSync('git', args, { encoding: 'utf8' }).trim();
}

function run(what: string, command: string, args: string[], variables = {}): void {
  console.log(`\n${what}: ${command} ${args.join(' ')}`);
  const { status, error } = spawnSync(command, args, {
    stdio: 'inherit',
    env: { ...process.env, ...variables },
  });
  if (status !== 0) {
    throw new SetupError(
      `${what} failed${error ? ` (${error.message})` : ''}: nothing after it was done.`,
    );
  }
}
