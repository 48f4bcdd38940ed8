/**
 * Which browser the console's tests take, and the archive that it comes in.
 */
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LaunchOptions } from 'playwright-core';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { launchChromium, NoBrowserError } from '../../dev/chromium.ts';
import { SetupError } from '../../dev/setup-error.ts';
import { untar } from '../../dev/untar.ts';

describe('the browser', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
  });

  test('is the one that CONSOLE_BROWSER names, before any other', async () => {
    vi.stubEnv('CONSOLE_BROWSER', process.execPath);
    expect(await launchChromium(async (options) => options)).toEqual({
      executablePath: process.execPath,
    });
  });

  test('is none where CONSOLE_BROWSER names a file that does not exist', async () => {
    vi.stubEnv('CONSOLE_BROWSER', '/nowhere/chromium');
    const launched = launchChromium(async (options) => options);
    await expect(launched).rejects.toThrow(SetupError);
    await expect(launched).rejects.not.toBeInstanceOf(NoBrowserError);
  });

  test('is an installed Chrome, else Edge, where the package does not run', async () => {
    vi.stubEnv('CONSOLE_BROWSER', '');
    vi.spyOn(process, 'platform', 'get').mockReturnValue('darwin');
    const tried: LaunchOptions[] = [];
    const missing = (installed?: string) => async (options: LaunchOptions) => {
      tried.push(options);
      if (options.channel === installed) return options;
      // As Playwright says it.
      throw new Error(`Chromium distribution '${options.channel}' is not found at /opt/google`);
    };
    expect(await launchChromium(missing('msedge'))).toEqual({ channel: 'msedge' });
    expect(tried).toEqual([{ channel: 'chrome' }, { channel: 'msedge' }]);
    await expect(launchChromium(missing())).rejects.toThrow(NoBrowserError);
    const broken = async () => {
      throw new Error('it crashed');
    };
    await expect(launchChromium(broken)).rejects.toThrow('it crashed');
  });
});

describe('an archive', () => {
  test('is unpacked with its modes', async () => {
    await inFolder(async (folder) => {
      const content = 'x'.repeat(700);
      await untar(
        Buffer.concat([
          entry('lib/', { type: '5' }),
          entry('lib/one.so', { content, mode: '755' }),
          entry('two', { content: '2', mode: '644' }),
          Buffer.alloc(1024),
        ]),
        folder,
      );
      expect(await readFile(join(folder, 'lib/one.so'), 'utf8')).toBe(content);
      expect((await stat(join(folder, 'lib/one.so'))).mode & 0o777).toBe(0o755);
      expect(await readFile(join(folder, 'two'), 'utf8')).toBe('2');
    });
  });

  test.each([
    ['lies outside', entry('../two', { content: '2' })],
    ['is of a kind', entry('link', { type: '2' })],
    ['is of a kind', entry('long', { type: 'x', content: 'path=…' })],
    ['is cut off', entry('one', { content: 'x'.repeat(700) }).subarray(0, 1024)],
  ])('that holds what %s is refused', async (reason, tar) => {
    await inFolder(async (folder) => {
      await expect(untar(tar, join(folder, 'inside'))).rejects.toThrow(reason);
      expect(await readdir(folder)).toEqual([]);
    });
  });
});

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'payments-untar-'));
  await use(folder).finally(() => rm(folder, { recursive: true }));
}

/** A header of POSIX ustar, and the content in whole blocks. */
function entry(name: string, options: { content?: string; mode?: string; type?: string }): Buffer {
  const { content = '', mode = '644', type = '0' } = options;
  const size = Buffer.byteLength(content);
  const block = Buffer.alloc(512 + Math.ceil(size / 512) * 512);
  block.write(name, 0);
  block.write(mode.padStart(7, '0'), 100);
  block.write(size.toString(8).padStart(11, '0'), 124);
  block.write(type, 156);
  block.write('ustar', 257);
  block.write(content, 512);
  return block;
}
