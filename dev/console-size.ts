/** How much of the built console a browser loads, compressed as the network has it. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

export interface ConsoleSize {
  /** The page, and all that it loads before anything is shown. */
  firstBytes: number;
  /** What is loaded on demand, the largest first. */
  later: { name: string; bytes: number }[];
}

const ASSETS = 'console/assets';

/** Measures a folder that Vite has built, such as dist/site. */
export async function consoleSize(folder: string): Promise<ConsoleSize> {
  const size = async (file: string) => gzipSync(await readFile(join(folder, file))).length;
  const page = await readFile(join(folder, 'console/index.html'), 'utf8');
  // Vite names the whole graph of static imports in the page, as modulepreload.
  const named = [...page.matchAll(/(?:src|href)="\/([^"]+)"/g)].map(([, file = '']) => file);
  const first = await Promise.all(['console/index.html', ...new Set(named)].map(size));
  const assets = (await readdir(join(folder, ASSETS))).map((name) => `${ASSETS}/${name}`);
  const later = await Promise.all(
    assets
      .filter((file) => !named.includes(file))
      .map(async (file) => ({ name: file.slice(ASSETS.length + 1), bytes: await size(file) })),
  );
  return {
    firstBytes: first.reduce((sum, bytes) => sum + bytes, 0),
    later: later.toSorted((a, b) => b.bytes - a.bytes),
  };
}
