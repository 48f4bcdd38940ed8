/**
 * Writes the OpenAPI document of the built Worker (dist/production), has it linted, generates
 * a client from it, which must compile, and compares that with test/client.ts. `--write` replaces
 * that one instead. Redocly generates it: openapi-typescript needs the compiler API of TypeScript 5, which
 * TypeScript 7 does not have.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const built = join(root, 'dist', 'openapi.json');
const generated = join(root, 'dist', 'client.ts');
const kept = join(root, 'test', 'client.ts');

const BROWSER = [
  '--strict',
  '--target',
  'esnext',
  '--module',
  'esnext',
  '--moduleResolution',
  'bundler',
  '--lib',
  'esnext,dom,dom.iterable',
  '--types',
  '',
];

interface Worker {
  fetch(request: Request, env: object): Promise<Response>;
}

const { default: worker }: { default: Worker } = await import(
  join(root, 'dist', 'production', 'index.js')
);
const response = await worker.fetch(new Request('http://localhost/openapi.json'), {});
writeFileSync(built, `${JSON.stringify(await response.json(), null, 2)}\n`);

run('redocly', 'lint', built);
run('redocly', 'generate-client', built, '--output', generated);
run('tsc', '--ignoreConfig', '--noEmit', ...BROWSER, generated);

// It is compiled for browsers; beside the tests, which know the types of Workers only, it is not checked.
const client = `// @ts-nocheck\n${readFileSync(generated, 'utf8')}`;
if (process.argv.includes('--write')) {
  writeFileSync(kept, client);
} else if (readFileSync(kept, 'utf8') !== client) {
  console.error('the contract has changed; run npm run openapi');
  process.exitCode = 1;
}

function run(command: string, ...args: string[]): void {
  // Redocly is to work offline and to tell nobody that it does.
  const env = { ...process.env, REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' };
  const { status } = spawnSync(command, args, { cwd: root, env, stdio: 'inherit' });
  if (status !== 0) process.exit(1);
}
