/** What `npm run deploy` refuses, in which order it works, and that it stops. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const COMMIT = '0123456789ab';
const DIRECT = 'postgres://owner:secret@ep-cool-1.eu-central-1.aws.neon.tech/payments';
const POOLED = DIRECT.replace('ep-cool-1', 'ep-cool-1-pooler');

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'payments-deploy-'));
  const script = `#!/bin/sh
    name=$(basename "$0")
    case "$name $*" in
      'git rev-parse '*) echo ${COMMIT}; exit;;
      'git status '*) printf '%s' "$CHANGES"; exit;;
    esac
    echo "$name $* \${DATABASE_URL:+on $DATABASE_URL}" >> '${folder}/calls'
    test "$name $*" != "$FAILS"
  `;
  await writeFile(join(folder, 'calls'), '');
  for (const name of ['git', 'npm', 'npx']) {
    await writeFile(join(folder, name), script, { mode: 0o755 });
  }
});
afterEach(() => rm(folder, { recursive: true }));

/** Runs the script with stand-ins for git, npm and npx; says how it ended and what it called. */
async function deploy(args: string[], variables: Record<string, string> = {}) {
  const env = { PATH: `${folder}:/usr/bin:/bin`, ...variables };
  const { code, output } = await new Promise<{ code: unknown; output: string }>((resolve) => {
    execFile(process.execPath, [join(ROOT, 'dev/deploy.ts'), ...args], { env }, (error, ...texts) =>
      resolve({ code: error?.code ?? 0, output: texts.join('') }),
    );
  });
  const calls = await readFile(join(folder, 'calls'), 'utf8');
  return {
    code,
    output,
    calls: calls
      .split('\n')
      .map((line) => line.trim())
      .filter(Boolean),
  };
}

test('checks, builds, migrates and deploys, in this order', async () => {
  const { code, calls } = await deploy(['staging'], { STAGING_DATABASE_URL: DIRECT });
  expect(code).toBe(0);
  expect(calls).toEqual([
    'npm run check',
    'npm test',
    'npm run build',
    `npm run db:migrate on ${DIRECT}`,
    `npx wrangler deploy --env staging --tag ${COMMIT}`,
  ]);
});

test.each(['npm run check', 'npm test', 'npm run build', 'npm run db:migrate'])(
  'does nothing after %s has failed',
  async (FAILS) => {
    const { code, output, calls } = await deploy(['production'], {
      PRODUCTION_DATABASE_URL: DIRECT,
      FAILS,
    });
    expect(code).toBe(1);
    expect(output).toContain('nothing after it was done');
    expect(calls.at(-1)).toContain(FAILS);
  },
);

test.each([
  { what: 'no environment', args: [], says: 'Usage' },
  { what: 'an environment that there is not', args: ['prod'], says: 'Usage' },
  { what: 'anything more', args: ['staging', '--force'], says: 'Usage' },
  {
    what: "another environment's database only",
    args: ['production'],
    variables: { STAGING_DATABASE_URL: DIRECT },
    says: 'PRODUCTION_DATABASE_URL is not set',
  },
  {
    what: "Neon's pooler",
    args: ['staging'],
    variables: { STAGING_DATABASE_URL: POOLED },
    says: 'without -pooler',
  },
  {
    what: 'for production, what is not committed',
    args: ['production'],
    variables: { PRODUCTION_DATABASE_URL: DIRECT, CHANGES: ' M src/index.ts' },
    says: 'committed',
  },
])('refuses $what', async ({ args, variables, says }) => {
  const { code, output, calls } = await deploy(args, variables);
  expect(code).toBe(1);
  expect(output).toContain(says);
  expect(output).not.toContain('secret');
  expect(calls).toEqual([]);
});

test('deploys to staging what is not committed, and says so in the version', async () => {
  const { calls } = await deploy(['staging'], {
    STAGING_DATABASE_URL: DIRECT,
    CHANGES: '?? note',
  });
  expect(calls.at(-1)).toContain(`--tag ${COMMIT}-dirty`);
});
