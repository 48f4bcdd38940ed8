/**
 * Unpacks a small tar in memory: plain files and folders with names of at most 100 characters, which is
 * what the browser's package holds. It throws at anything else. A minimal machine has no `tar`.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, normalize, sep } from 'node:path';

const BLOCK = 512;

/** Writes the files of `tar` into `folder`, with their modes. */
export async function untar(tar: Buffer, folder: string): Promise<void> {
  for (let at = 0; at + BLOCK <= tar.length; ) {
    const header = tar.subarray(at, at + BLOCK);
    const name = text(header, 0, 100);
    // Two empty blocks end an archive.
    if (name === '') return;
    const size = Number.parseInt(text(header, 124, 12), 8);
    const type = text(header, 156, 1);
    const path = normalize(join(folder, name));
    if (!path.startsWith(folder + sep)) throw new Error(`${name} lies outside the archive`);
    if (text(header, 345, 155) !== '' || !['', '0', '5'].includes(type) || Number.isNaN(size)) {
      throw new Error(`${name} is of a kind that is not understood here`);
    }
    const start = at + BLOCK;
    if (start + size > tar.length) throw new Error(`${name} is cut off`);
    if (type !== '5') {
      await mkdir(dirname(path), { recursive: true });
      const mode = Number.parseInt(text(header, 100, 8), 8) & 0o777;
      await writeFile(path, tar.subarray(start, start + size), { mode });
    }
    at = start + Math.ceil(size / BLOCK) * BLOCK;
  }
}

/** A field ends at its first zero byte, or at its length. */
function text(header: Buffer, start: number, length: number): string {
  const field = header.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end === -1 ? length : end).trim();
}
