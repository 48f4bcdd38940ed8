/**
 * Finds a Chromium for the console's tests and pictures. In this order: CONSOLE_BROWSER, the one inside
 * @sparticuz/chromium (Linux x64 with glibc), an installed Chrome or Edge. The package's own launcher is
 * not used: it unpacks into a /tmp that all users share, and turns web security off.
 */
import { createReadStream, createWriteStream, existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { brotliDecompress, createBrotliDecompress } from 'node:zlib';
import type { LaunchOptions } from 'playwright-core';
import { SetupError } from './setup-error.ts';
import { untar } from './untar.ts';

const CACHE = join(import.meta.dirname, '..', 'node_modules', '.cache');
/** Longer than any unpacking takes, so nothing that is still being written is removed. */
const LEFTOVER_MS = 3_600_000;

/** No browser is to be had. The message says in one line what to install. */
export class NoBrowserError extends SetupError {
  override name = 'NoBrowserError';
}

/**
 * Calls `launch` with options for the first browser found; it is chromium.launch or chromium.launchServer.
 * Throws NoBrowserError where there is none, SetupError where CONSOLE_BROWSER names no file.
 */
export async function launchChromium<T>(
  launch: (options: LaunchOptions) => Promise<T>,
): Promise<T> {
  const { CONSOLE_BROWSER } = process.env;
  if (CONSOLE_BROWSER) {
    if (existsSync(CONSOLE_BROWSER)) return await launch({ executablePath: CONSOLE_BROWSER });
    throw new SetupError(`CONSOLE_BROWSER names ${CONSOLE_BROWSER}, which does not exist.`);
  }
  const bin = findPackage();
  if (bin !== undefined) return await launch(packageOptions(await unpackOnce(bin)));
  for (const channel of ['chrome', 'msedge']) {
    try {
      return await launch({ channel });
    } catch (error) {
      // Playwright has no way to ask first.
      if (!(error instanceof Error && error.message.includes('is not found at'))) throw error;
    }
  }
  throw new NoBrowserError(
    'No browser: install Google Chrome or Microsoft Edge, or set CONSOLE_BROWSER to a Chromium (such as /usr/bin/chromium).',
  );
}

interface Package {
  folder: string;
  version: string;
}

/** The packed browser; undefined where the package is not installed or cannot run. */
function findPackage(): Package | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64' || !hasGlibc()) return undefined;
  let root: string;
  try {
    root = join(dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium')), '..');
  } catch {
    return undefined;
  }
  const { version }: { version: string } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  );
  return { folder: join(root, 'bin'), version };
}

/** musl's loader cannot start the package's binary. */
function hasGlibc(): boolean {
  const report: { header?: { glibcVersionRuntime?: string } } = process.report.getReport();
  return report.header?.glibcVersionRuntime !== undefined;
}

function packageOptions(folder: string): LaunchOptions {
  return {
    executablePath: join(folder, 'chromium'),
    env: {
      ...process.env,
      LD_LIBRARY_PATH: join(folder, 'lib'),
      FONTCONFIG_FILE: join(folder, FONTS_FILE),
    },
  };
}

const FONTS_FILE = 'system-and-own.conf';

/** A page without any font crashes the browser, so its own font stands beside the system's. */
const FONTS = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir prefix="relative">fonts</dir>
</fontconfig>
`;

/** Unpacks it unless that was done before; returns the folder. Two runs at once do not disturb each other. */
async function unpackOnce({ folder: bin, version }: Package): Promise<string> {
  const folder = join(CACHE, `chromium-${version}`);
  if (existsSync(folder)) return folder;
  try {
    await mkdir(CACHE, { recursive: true });
    await removeLeftovers(basename(folder));
    const part = await mkdtemp(`${folder}.`);
    try {
      await unpack(bin, part);
      await rename(part, folder).catch((error: unknown) => {
        // Another run was first, and both have unpacked the same.
        if (!existsSync(folder)) throw error;
      });
    } finally {
      await rm(part, { recursive: true, force: true });
    }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
    throw new SetupError(`The browser cannot be unpacked into ${CACHE}: ${error.message}`);
  }
  return folder;
}

async function unpack(bin: string, folder: string): Promise<void> {
  const archive = async (name: string) => {
    const tar = await promisify(brotliDecompress)(await readFile(join(bin, name)));
    await untar(tar, folder);
  };
  await Promise.all([
    pipeline(
      createReadStream(join(bin, 'chromium.br')),
      createBrotliDecompress(),
      createWriteStream(join(folder, 'chromium'), { mode: 0o755 }),
    ),
    archive('al2023.tar.br'),
    archive('fonts.tar.br'),
    archive('swiftshader.tar.br'),
  ]);
  await pipeline([FONTS], createWriteStream(join(folder, FONTS_FILE)));
  // mkdtemp lets nobody else in, but the next run may be another user's.
  await chmod(folder, 0o755);
}

/** What crashes and earlier versions have left: 210 MB each. */
async function removeLeftovers(current: string): Promise<void> {
  for (const name of await readdir(CACHE)) {
    if (!name.startsWith('chromium-') || name === current) continue;
    const path = join(CACHE, name);
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > LEFTOVER_MS) await rm(path, { recursive: true, force: true });
  }
}
