/**
 * Keeps the books of a world in a file, so that refunds of `npm run dev` go on where they were when it is
 * started again. A file that cannot be read is begun anew.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { Order, Refund } from './contract.ts';
import type { World } from './world.ts';

const Books = z.object({ orders: z.array(Order), refunds: z.array(Refund) });

/** Fills the world with the books in the file. What was at work there goes on. */
export function loadBooks(world: World, file: string): void {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return;
  }
  const books = Books.safeParse(JSON.parse(text));
  if (!books.success) return;
  world.orders.push(...books.data.orders);
  world.refunds.push(...books.data.refunds);
  const { outcome, afterMs } = world.options.settle;
  for (const refund of world.refunds) {
    if (refund.state === 'PROCESSING') world.settleLater(refund, outcome, afterMs);
  }
}

/** Writes the books, whole or not at all. */
export function saveBooks({ orders, refunds }: World, file: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, JSON.stringify({ orders, refunds }));
  renameSync(`${file}.new`, file);
}
