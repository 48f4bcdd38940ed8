/** What is uploaded: its size raw and compressed, how long its start takes, and the largest things in it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type Section, type Stack, wrangler } from './stack.ts';

interface Metafile {
  outputs: Record<
    string,
    { entryPoint?: string; inputs: Record<string, { bytesInOutput: number }> }
  >;
}

export async function measureBundle(stack: Stack): Promise<Section> {
  const folder = join(stack.folder, 'bundle');
  await wrangler('deploy', '--dry-run', '--metafile', '--outdir', folder);
  const metafile: Metafile = JSON.parse(await readFile(join(folder, 'bundle-meta.json'), 'utf8'));
  const output = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint);
  const inputs = Object.entries(output?.inputs ?? {});
  const packages = new Map<string, number>();
  for (const [path, { bytesInOutput }] of inputs) {
    const name = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? 'src';
    packages.set(name, (packages.get(name) ?? 0) + bytesInOutput);
  }
  const files = inputs
    .map(
      ([path, { bytesInOutput }]) =>
        [path.replace(/^.*node_modules\//, ''), bytesInOutput] as const,
    )
    .sort((a, b) => b[1] - a[1]);
  return {
    title: 'The bundle',
    heads: ['raw', 'gzip'],
    results: [
      await sizes('as deployed', join(folder, 'index.js')),
      ...[...packages]
        .sort((a, b) => b[1] - a[1])
        .map(([name, bytes]) => ({ name: `of it ${name}`, ours: kib(bytes) })),
    ],
    notes: [
      await startup(join(stack.folder, 'startup.cpuprofile')),
      `The largest files: ${files
        .slice(0, 12)
        .map(([path, bytes]) => `${path} ${kib(bytes)}`)
        .join(', ')}.`,
    ],
  };
}

async function sizes(name: string, file: string) {
  const bytes = await readFile(file);
  return { name, ours: kib(bytes.length), beside: kib(gzipSync(bytes, { level: 9 }).length) };
}

function kib(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KiB`;
}

async function startup(outfile: string): Promise<string> {
  try {
    const text = await wrangler('check', 'startup', '--outfile', outfile);
    const lines = ['Profile window', 'Active'].flatMap(
      (label) => new RegExp(`${label}: .*`).exec(text)?.[0] ?? [],
    );
    return `Start-up by \`wrangler check startup\`, on this machine: ${lines.join('; ')}.`;
  } catch (error) {
    return `\`wrangler check startup\` did not work here: ${error instanceof Error ? error.message : error}`;
  }
}
