/**
 * One PostgreSQL and one Neon endpoint for a whole test run, and a migrated template from which
 * each test file makes a database of its own (harness.ts).
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startNeonEndpoint } from '../dev/neon-endpoint.ts';
import { startPostgres } from '../dev/postgres.ts';
import { migrate } from '../drizzle/migrate.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The connection string of the maintenance database. */
    databaseUrl: string;
    neonFetchEndpoint: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'payments-test-'));
  const removeFolder = () => rm(folder, { recursive: true, force: true });
  try {
    // As root, PostgreSQL runs as another user, who has to get to the data inside.
    await chmod(folder, 0o711);
    // The data dies with the run, so nothing is gained by waiting for the disk.
    const flags = ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off'];
    const postgres = await startPostgres({ dataDir: join(folder, 'data'), flags });
    const endpoint = await startNeonEndpoint({ postgresPort: postgres.port });

    const client = new pg.Client({ connectionString: postgres.connectionString() });
    await client.connect();
    await client.query('CREATE DATABASE template_payments');
    await client.end();
    await migrate(postgres.connectionString('template_payments'));

    project.provide('databaseUrl', postgres.connectionString());
    project.provide('neonFetchEndpoint', endpoint.url);
    return async () => {
      await endpoint.stop();
      await postgres.stop();
      await removeFolder();
    };
  } catch (error) {
    await removeFolder();
    throw error;
  }
}
