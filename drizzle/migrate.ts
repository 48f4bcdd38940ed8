/**
 * Applies the migrations of this folder, all of them or none, over a plain PostgreSQL connection.
 * Two deployments at once wait for each other. Afterwards every migration must be on record:
 * drizzle silently skips one that is older than the last one applied.
 */

import { readMigrationFiles } from 'drizzle-orm/migrator';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate as applyMigrations } from 'drizzle-orm/node-postgres/migrator';
import pg from 'pg';

/** Any constant does, as long as every copy of this script uses the same one. */
const ADVISORY_LOCK = 7_230_518;

/**
 * Brings the database up to date and returns how many migrations it now has.
 * Throws when one fails (nothing is changed then) or was skipped, and for Neon's pooler.
 */
export async function migrate(
  connectionString: string,
  migrationsFolder: string = import.meta.dirname,
): Promise<number> {
  requireDirect(connectionString);
  const client = new pg.Client({ connectionString, application_name: 'payments-migrate' });
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [ADVISORY_LOCK]);
    // A migration that waits for a lock must then see what was committed meanwhile, whatever the database's default.
    await client.query("SET default_transaction_isolation TO 'read committed'");
    await applyMigrations(drizzle(client), { migrationsFolder });

    const applied = await client.query<{ hash: string }>(
      'SELECT hash FROM drizzle.__drizzle_migrations',
    );
    const hashes = new Set(applied.rows.map((row) => row.hash));
    const skipped = readMigrationFiles({ migrationsFolder }).filter(
      (migration) => !hashes.has(migration.hash),
    );
    if (skipped.length > 0) {
      const dates = skipped.map((migration) => new Date(migration.folderMillis).toISOString());
      throw new Error(
        `${skipped.length} migration(s) were not applied, or were edited after they had been: generated ${dates.join(', ')}. ` +
          'drizzle skips a migration that is older than the last one applied; generate it anew.',
      );
    }
    return applied.rows.length;
  } finally {
    await client.end();
  }
}

/**
 * Throws for the host of Neon's pooler. It gives each transaction another session, so the advisory
 * lock would be taken in one and the migrations applied in another.
 */
export function requireDirect(connectionString: string): void {
  const { host } = new pg.Client({ connectionString });
  if (/^[^.]+-pooler\./.test(host)) {
    throw new Error(
      `${host} is Neon's connection pooler. Migrations need the direct connection string: the same host without -pooler.`,
    );
  }
}

if (import.meta.main) {
  const connectionString = process.env.DATABASE_URL;
  if (!connectionString) {
    console.error(
      'DATABASE_URL is not set. Example: DATABASE_URL=postgres://user:password@host/database npm run db:migrate',
    );
    process.exit(1);
  }
  try {
    console.log(`The database is up to date: ${await migrate(connectionString)} migration(s).`);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
