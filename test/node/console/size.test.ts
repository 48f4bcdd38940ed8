/** What somebody on a slow line waits for. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { consoleSize } from '../../../dev/console-size.ts';
import { buildConsole } from '../../../dev/temporary-stack.ts';

const KB = 1_000;

test('loads at most 50 KB first and 25 KB for any later part, compressed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'payments-console-size-'));
  try {
    await buildConsole(folder);
    const { firstBytes, later } = await consoleSize(folder);
    const page = await readFile(join(folder, 'console/index.html'), 'utf8');
    expect(page).toContain('rel="stylesheet"');
    expect(firstBytes).toBeGreaterThan(10 * KB);
    expect(firstBytes).toBeLessThanOrEqual(50 * KB);
    expect(later.map(({ name }) => name.replace(/-.*/, ''))).toContain('statistics');
    expect(later.filter(({ bytes }) => bytes > 25 * KB)).toEqual([]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
