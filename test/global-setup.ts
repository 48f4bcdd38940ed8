/**
 * What a whole test run shares: the console's files, one PostgreSQL and one Neon endpoint. A migrated template is
 * there, too, from which each test file makes a database of its own (harness.ts).
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startConsoleBuild } from '../dev/build-console.ts';
import { testKeys } from '../dev/gateways/keys.ts';
import { startSimulator } from '../dev/gateways/simulator.ts';
import { startIdentityProvider } from '../dev/identity-provider.ts';
import { startNeonEndpoint } from '../dev/neon-endpoint.ts';
import { startPostgres } from '../dev/postgres.ts';
import { migrate } from '../drizzle/migrate.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The connection string of the maintenance database. */
    databaseUrl: string;
    neonFetchEndpoint: string;
    /** The simulator of the payment gateways, and the variables of a deployment that has its keys. */
    simulatorUrl: string;
    gatewayVariables: Record<string, string>;
    /** Where an identity provider publishes its keys: any path, empty until a test puts a JWKS there. */
    providerUrl: string;
    /** An identity provider that signs people in (dev/identity-provider.ts). */
    identityProviderUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'payments-test-'));
  const removeFolder = () => rm(folder, { recursive: true, force: true });
  try {
    await (await startConsoleBuild()).done;

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

    const provider = await startProvider();
    const identityProvider = await startIdentityProvider();

    const { keys, variables } = testKeys();
    const simulator = await startSimulator({ keys });

    project.provide('simulatorUrl', simulator.url);
    project.provide('gatewayVariables', variables);
    project.provide('providerUrl', provider.url);
    project.provide('identityProviderUrl', identityProvider.url);
    project.provide('databaseUrl', postgres.connectionString());
    project.provide('neonFetchEndpoint', endpoint.url);
    return async () => {
      provider.stop();
      identityProvider.stop();
      await simulator.stop();
      await endpoint.stop();
      await postgres.stop();
      await removeFolder();
    };
  } catch (error) {
    await removeFolder();
    throw error;
  }
}

/**
 * PUT publishes a document at a path, DELETE withdraws it, GET shows it and says in X-Fetches how
 * often it has been asked for.
 */
async function startProvider(): Promise<{ url: string; stop(): void }> {
  const documents = new Map<string, { body: string; fetches: number }>();
  const server = createServer(async (request, response) => {
    const path = request.url ?? '/';
    const document = documents.get(path);
    if (request.method === 'PUT') {
      const body = (await request.toArray()).join('');
      documents.set(path, { body, fetches: document?.fetches ?? 0 });
      response.end();
    } else if (request.method === 'DELETE' || !document) {
      documents.delete(path);
      response.writeHead(request.method === 'DELETE' ? 204 : 404).end();
    } else {
      document.fetches += 1;
      response.setHeader('X-Fetches', document.fetches).end(document.body);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return { url: `http://127.0.0.1:${address.port}`, stop: () => server.close() };
}
