import { cloudflareTest } from '@cloudflare/vitest-pool-workers';
import { defineConfig } from 'vitest/config';

// A database that the shell names must never be what the tests write to; they get their own below.
process.env.DATABASE_URL = 'postgres://unused@unused/unused';

export default defineConfig({
  plugins: [
    cloudflareTest(({ inject }) => ({
      wrangler: { configPath: './wrangler.toml' },
      miniflare: {
        bindings: {
          DATABASE_URL: inject('databaseUrl'),
          NEON_FETCH_ENDPOINT: inject('neonFetchEndpoint'),
        },
      },
    })),
  ],
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: './test/global-setup.ts',
    testTimeout: 30_000,
    // The request log; `npm test -- --silent=false` shows it.
    silent: 'passed-only',
  },
});
