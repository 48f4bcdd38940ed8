/** Fails when the migrations do not make what src/schema.ts says, or contradict each other. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DrizzleSnapshotJSON, generateDrizzleJson, generateMigration } from 'drizzle-kit/api';
import * as schema from '../src/schema.ts';

const meta = join(import.meta.dirname, 'meta');
const newest = readdirSync(meta)
  .filter((name) => name.endsWith('_snapshot.json'))
  .sort()
  .at(-1);
if (!newest) throw new Error(`no snapshot in ${meta}`);

const snapshot: DrizzleSnapshotJSON = JSON.parse(readFileSync(join(meta, newest), 'utf8'));
const missing = await generateMigration(snapshot, generateDrizzleJson({ ...schema }, snapshot.id));
if (missing.length > 0) {
  console.error(
    `src/schema.ts has changed; run npm run db:generate. It would add:\n${missing.join('\n')}`,
  );
  process.exitCode = 1;
}
