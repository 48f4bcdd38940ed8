/**
 * docs/operations.md against the code: the events that are logged, the columns that are written, and
 * its SQL. Nobody but Cloudflare runs Analytics Engine's dialect, so its queries may use only what its
 * reference documents, and are run here by PostgreSQL, which is taught what it lacks.
 */
import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { BLOBS, DOUBLES, dataPoint } from '../../src/metrics.ts';

const root = join(import.meta.dirname, '../..');
const doc = await readFile(join(root, 'docs/operations.md'), 'utf8');
const blocks = [...doc.matchAll(/```sql\n(.*?)\n```/gs)].map(([, sql = '']) => sql);
const toml = await readFile(join(root, 'wrangler.toml'), 'utf8');
/** What production writes. */
const dataset = /dataset = "(\w+_production)"/.exec(toml)?.[1] ?? 'none';
const numbers = blocks.filter((sql) => sql.includes(dataset));
const others = blocks.filter((sql) => !sql.includes(dataset));

/** blob1, …, double1, … with the name of each. */
const columns = new Map<string, string>([
  ...BLOBS.map((name, index) => [`blob${index + 1}`, name] as const),
  ...DOUBLES.map((name, index) => [`double${index + 1}`, name] as const),
]);

const PREPARE = `
  CREATE TABLE ${dataset} (
    timestamp timestamptz, _sample_interval float8, index1 text,
    ${[...columns.keys()].map((column) => `${column} ${column.startsWith('blob') ? 'text' : 'float8'}`)});
  CREATE FUNCTION if(boolean, text, text) RETURNS text RETURN CASE WHEN $1 THEN $2 ELSE $3 END;
  CREATE FUNCTION toStartOfInterval(timestamptz, interval) RETURNS timestamptz RETURN date_bin($2, $1, 'epoch');
  CREATE FUNCTION add_if(float8, float8, boolean) RETURNS float8 RETURN $1 + CASE WHEN $3 THEN $2 ELSE 0 END;
  CREATE AGGREGATE sumIf(float8, boolean) (SFUNC = add_if, STYPE = float8, INITCOND = 0);
  CREATE FUNCTION keep(float8[], level float8, value float8, weight float8) RETURNS float8[]
    RETURN $1 || ARRAY[[level, value, weight]];
  CREATE FUNCTION quantile(kept float8[]) RETURNS float8 RETURN (
    SELECT value FROM (
      SELECT kept[i][2] AS value, sum(kept[i][3]) OVER (ORDER BY kept[i][2], i) AS upto,
        kept[i][1] * sum(kept[i][3]) OVER () AS wanted
      FROM generate_subscripts(kept, 1) AS i) AS ranked
    WHERE upto >= wanted ORDER BY value LIMIT 1);
  CREATE AGGREGATE quantileExactWeighted(level float8, value float8, weight float8) (
    SFUNC = keep, STYPE = float8[], INITCOND = '{}', FINALFUNC = quantile);
  CREATE EXTENSION pg_stat_statements`;

let client: pg.Client;

beforeAll(async () => {
  const database = `operations_${crypto.randomUUID().replaceAll('-', '')}`;
  const admin = new pg.Client({ connectionString: inject('databaseUrl') });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${database}`);
  await admin.end();
  const connectionString = inject('databaseUrl').replace(/\/[^/]*$/, `/${database}`);
  client = new pg.Client({ connectionString });
  await client.connect();
  await client.query(PREPARE);
});

afterAll(() => client.end());

test('has a row for each event that is logged, and for no other', async () => {
  const logged = new Set<string>();
  for await (const file of glob('src/**/*.ts', { cwd: root })) {
    const source = await readFile(join(root, file), 'utf8');
    for (const [, event = ''] of source.matchAll(/writeLog\([^{;]*'(\w+)',\s*\{/g)) {
      logged.add(event);
    }
  }
  const described = [...doc.matchAll(/^\| `([a-z_]+)` \| (?:info|warn|error)/gm)];
  expect(described.map(([, event]) => event).sort()).toEqual([...logged].sort());
  expect(logged.size).toBeGreaterThan(10);
});

test('has the columns that are written, in their order', () => {
  const described = [...doc.matchAll(/^\| ((?:blob|double)\d+) \| (\w+) \|/gm)];
  expect(described.map(([, column, name]) => [column, name])).toEqual([...columns]);
});

describe('the queries of Analytics Engine', () => {
  // https://developers.cloudflare.com/analytics/analytics-engine/sql-reference/
  const FUNCTIONS = ['sum', 'sumIf', 'quantileExactWeighted', 'if', 'toStartOfInterval', 'NOW'];
  const KEYWORDS =
    'SELECT AS FROM WHERE GROUP BY ORDER ASC DESC LIMIT AND OR NOT IN BETWEEN INTERVAL DAY HOUR MINUTE'.split(
      ' ',
    );

  test('are there', () => {
    expect(numbers).toHaveLength(5);
  });

  test.each(numbers)('use only what is documented and written: %s', (sql) => {
    const withoutText = sql.replace(/'[^']*'/g, "''");
    const aliases = [...withoutText.matchAll(/\bAS (\w+)/g)].map(([, alias]) => alias);
    const allowed = new Set([
      ...[dataset, 'timestamp', '_sample_interval', 'index1', ...columns.keys()],
      ...[...FUNCTIONS, ...KEYWORDS, ...aliases],
    ]);
    const words = withoutText.match(/\b[A-Za-z_]\w*/g) ?? [];
    expect(words.filter((word) => !allowed.has(word))).toEqual([]);
    const called = [...withoutText.matchAll(/(\w+)\(/g)].map(([, name = '']) => name);
    expect(called.filter((name) => ![...FUNCTIONS, 'IN'].includes(name))).toEqual([]);
    // A column that is shown as it is has its own name.
    for (const [, column = '', alias] of withoutText.matchAll(/\b((?:blob|double)\d+) AS (\w+)/g)) {
      expect(columns.get(column)).toBe(alias);
    }
    // A point stands for several requests.
    expect(withoutText).not.toMatch(/\b(count|avg|quantile)\(/i);
  });

  test('give the right numbers', async () => {
    const quiet = { method: 'GET', cache: null, colo: 'SHA', code: 0, kv_ms: 0, rows: 0 };
    const detail = { ...quiet, route: '/payments/:id', status: 200 };
    const refund = {
      ...quiet,
      route: '/payments/:id/refund',
      method: 'POST',
      database_requests: 1,
    };
    await client.query('BEGIN');
    for (const [stands_for, point] of [
      [8, { ...detail, cache: 'hit', duration_ms: 2, database_ms: 0, database_requests: 0 }],
      [1, { ...detail, cache: 'miss', duration_ms: 300, database_ms: 298, database_requests: 1 }],
      [1, { ...detail, cache: 'miss', duration_ms: 50, database_ms: 48, database_requests: 2 }],
      [4, { ...detail, cache: 'bypass', duration_ms: 250, database_ms: 8, database_requests: 1 }],
      [3, { ...refund, status: 201, duration_ms: 20, database_ms: 18 }],
      [2, { ...refund, status: 200, duration_ms: 20, database_ms: 18 }],
      [4, { ...refund, status: 409, code: 40901, duration_ms: 20, database_ms: 18 }],
      [1, { ...refund, status: 503, code: 50300, duration_ms: 20, database_ms: 18 }],
    ] as const) {
      const { indexes, blobs, doubles } = dataPoint(point);
      const row = [stands_for, ...indexes, ...blobs, ...doubles];
      await client.query(
        `INSERT INTO ${dataset} VALUES (now(), ${row.map((_, index) => `$${index + 1}`)})`,
        row,
      );
    }

    const results = [];
    for (const sql of numbers) {
      // A parameterised aggregate is the one thing of the dialect that PostgreSQL cannot even read.
      const translated = sql.replace(
        /quantileExactWeighted\(([\d.]+)\)\(/g,
        'quantileExactWeighted($1, ',
      );
      const { rows } = await client.query<Record<string, unknown>>(translated);
      results.push(rows.map(({ since: _, ...row }) => row));
    }
    await client.query('ROLLBACK');

    const [routes, errors, cache, refunds, database] = results;
    expect(routes).toEqual([
      { route: '/payments/:id', requests: 14, error_rate: 0, p50_ms: 2, p99_ms: 300 },
      { route: '/payments/:id/refund', requests: 10, error_rate: 0.1, p50_ms: 20, p99_ms: 20 },
    ]);
    expect(errors).toEqual([
      { code: 40901, answers: 4 },
      { code: 50300, answers: 1 },
    ]);
    expect(cache).toEqual([{ details: 10, hit_rate: 0.8 }]);
    expect(refunds).toEqual([
      { outcome: 'refused', code: 40901, refunds: 4 },
      { outcome: 'created', code: 0, refunds: 3 },
      { outcome: 'replayed', code: 0, refunds: 2 },
      { outcome: 'refused', code: 50300, refunds: 1 },
    ]);
    expect(database).toEqual([
      {
        ...{ route: '/payments/:id', colo: 'SHA', requests: 6, mean_ms: (298 + 48 + 4 * 8) / 6 },
        ...{ p99_ms: 298, slow: 1, second_tries: 1 },
      },
      {
        ...{ route: '/payments/:id/refund', colo: 'SHA', requests: 10, mean_ms: 18 },
        ...{ p99_ms: 18, slow: 0, second_tries: 0 },
      },
    ]);
  });
});

test.each(others)('PostgreSQL can plan %s', async (sql) => {
  // Planned only: pg_stat_statements gives rows where the server has loaded it.
  await client.query(`EXPLAIN ${sql}`);
});
