/**
 * Makes a PNG small by a palette of at most 256 colours. Pictures of a page have few: what is lost is some shades at
 * the edges of letters. It reads what Chromium writes: 8 bits, RGB or RGBA, not interlaced.
 */
import { crc32, deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const MAX_COLOURS = 256;

/** The same picture with a palette. Transparency is dropped. */
export function toPalette(png: Buffer): Buffer {
  const { width, height, colours } = decode(png);
  const counts = new Map<number, number>();
  for (const colour of colours) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  const palette = choosePalette(counts);
  const indexes = new Map([...counts.keys()].map((colour) => [colour, nearest(palette, colour)]));

  const rows = Buffer.alloc(height * (width + 1));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      rows[y * (width + 1) + x + 1] = indexes.get(colours[y * width + x] ?? 0) ?? 0;
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  // 8 bits, with a palette.
  header.set([8, 3, 0, 0, 0], 8);
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    chunk('PLTE', Buffer.from(palette.flatMap((colour) => channels(colour)))),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** One after the other, the colour whose pixels are the farthest from all that are chosen. */
function choosePalette(counts: Map<number, number>): number[] {
  const left = [...counts].map(([colour, count]) => ({ colour, count, far: 255 ** 2 * 3 }));
  const palette: number[] = [];
  while (palette.length < MAX_COLOURS) {
    const next = left.reduce((a, b) => (b.count * b.far > a.count * a.far ? b : a));
    if (next.far === 0) break;
    palette.push(next.colour);
    for (const one of left) one.far = Math.min(one.far, distance(one.colour, next.colour));
  }
  return palette;
}

function nearest(palette: number[], colour: number): number {
  const distances = palette.map((other) => distance(other, colour));
  return distances.indexOf(Math.min(...distances));
}

function distance(one: number, other: number): number {
  const [red, green, blue] = channels(one);
  const [r, g, b] = channels(other);
  return (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
}

function channels(colour: number): [number, number, number] {
  return [colour >> 16, (colour >> 8) & 0xff, colour & 0xff];
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const ends = Buffer.alloc(8);
  ends.writeUInt32BE(data.length, 0);
  ends.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
}

/** The pixels, each as 0xRRGGBB. */
function decode(png: Buffer): { width: number; height: number; colours: Uint32Array } {
  const parts: Buffer[] = [];
  let header: Buffer = Buffer.alloc(0);
  for (let at = SIGNATURE.length; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const type = png.toString('latin1', at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR') header = data;
    if (type === 'IDAT') parts.push(data);
    at += length + 12;
  }
  const width = header.readUInt32BE(0);
  const height = header.readUInt32BE(4);
  const [bits, kind, , , interlaced] = header.subarray(8);
  const bytes = kind === 2 ? 3 : 4;
  if (bits !== 8 || (kind !== 2 && kind !== 6) || interlaced !== 0) {
    throw new Error('a PNG of another kind than Chromium writes');
  }
  const data = unfilter(inflateSync(Buffer.concat(parts)), width * bytes, height, bytes);
  const colours = new Uint32Array(width * height);
  for (const index of colours.keys()) colours[index] = data.readUIntBE(index * bytes, 3);
  return { width, height, colours };
}

/** Undoes the filter that begins each row (PNG, section 9). */
function unfilter(rows: Buffer, width: number, height: number, bytes: number): Buffer {
  const data = Buffer.alloc(width * height);
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (width + 1)];
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      const left = x >= bytes ? (data[at - bytes] ?? 0) : 0;
      const above = y > 0 ? (data[at - width] ?? 0) : 0;
      const corner = x >= bytes && y > 0 ? (data[at - width - bytes] ?? 0) : 0;
      const guess = [0, left, above, (left + above) >> 1, paeth(left, above, corner)][filter ?? 0];
      data[at] = (rows[y * (width + 1) + x + 1] ?? 0) + (guess ?? 0);
    }
  }
  return data;
}

function paeth(left: number, above: number, corner: number): number {
  const guess = left + above - corner;
  const [a, b, c] = [left, above, corner].map((value) => Math.abs(guess - value));
  if (a === undefined || b === undefined || c === undefined) return 0;
  return a <= b && a <= c ? left : b <= c ? above : corner;
}
