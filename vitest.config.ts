import { cloudflareTest } from '@cloudflare/vitest-pool-workers';
import { defineConfig } from 'vitest/config';

// A database that the shell names must never be what the tests write to; they get their own below.
process.env.DATABASE_URL = 'postgres://unused@unused/unused';

export default defineConfig({
  test: {
    globalSetup: './test/global-setup.ts',
    testTimeout: 60_000,
    // Much of a test is waiting for the database, so a small machine has use for more than cores - 1.
    maxWorkers: 3,
    // What the tests of Node print is of interest where they fail; test/harness.ts does the same for the Worker's log.
    silent: 'passed-only',
    projects: [
      {
        extends: true,
        plugins: [
          cloudflareTest(({ inject }) => ({
            wrangler: { configPath: './wrangler.toml' },
            miniflare: {
              bindings: {
                AUTH_SECRET: 'a secret of the tests, at least 32 bytes long',
                DATABASE_URL: inject('databaseUrl'),
                NEON_FETCH_ENDPOINT: inject('neonFetchEndpoint'),
                PROVIDER_URL: inject('providerUrl'),
                IDENTITY_PROVIDER_URL: inject('identityProviderUrl'),
                SIMULATOR_URL: inject('simulatorUrl'),
                GATEWAY_VARIABLES: inject('gatewayVariables'),
                MODEL_RUNS: process.env.MODEL_RUNS ?? '100',
                ...(process.env.MODEL_SEED ? { MODEL_SEED: process.env.MODEL_SEED } : {}),
              },
            },
          })),
        ],
        test: {
          name: 'workers',
          include: ['test/**/*.test.ts'],
          exclude: ['test/node', 'test/browser'],
        },
      },
      // What runs on a developer's machine: migrations and the local stack.
      { extends: true, test: { name: 'node', include: ['test/node/**/*.test.ts'] } },
      // The console in a browser. One file after the other: they share a Worker and its database.
      {
        extends: true,
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.{ts,tsx}'],
          globalSetup: './test/browser/setup.ts',
          fileParallelism: false,
        },
      },
    ],
  },
});
