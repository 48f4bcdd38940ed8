/**
 * docs/operations.md against the code: the events that are logged, the columns that are written, and
 * its SQL. And docs/gateways.md: the variables, the states and its SQL. Nobody but Cloudflare runs Analytics Engine's dialect, so its queries may use only what its
 * reference documents, and are run here by PostgreSQL, which is taught what it lacks.
 */
import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import {
  BLOBS,
  DOUBLES,
  dataPoint,
  GATEWAY_BLOBS,
  GATEWAY_DOUBLES,
  gatewayPoint,
} from '../../src/metrics.ts';

const root = join(import.meta.dirname, '../..');
const doc = await readFile(join(root, 'docs/operations.md'), 'utf8');
const guide = await readFile(join(root, 'docs/gateways.md'), 'utf8');
const blocks = [...doc.matchAll(/```sql\n(.*?)\n```/gs)].map(([, sql = '']) => sql);
const toml = await readFile(join(root, 'wrangler.toml'), 'utf8');
/** What production writes, by its binding. */
const datasetOf = (binding: string) =>
  new RegExp(`binding = "${binding}", dataset = "(\\w+_production\\w*)"`).exec(toml)?.[1] ?? 'none';
const dataset = datasetOf('METRICS');
const gatewayDataset = datasetOf('GATEWAY_METRICS');
const queriesOf = (name: string) => blocks.filter((sql) => new RegExp(`\\b${name}\\b`).test(sql));
const numbers = queriesOf(dataset);
const gatewayNumbers = queriesOf(gatewayDataset);
const others = blocks.filter((sql) => ![...numbers, ...gatewayNumbers].includes(sql));
const statementsOfGuide = [...guide.matchAll(/```sql\n(.*?)\n *```/gs)].flatMap(([, sql = '']) =>
  sql.split(';').filter((statement) => statement.trim() !== ''),
);

/** blob1, …, double1, … with the name of each. */
const named = (blobs: readonly string[], doubles: readonly string[]) =>
  new Map<string, string>([
    ...blobs.map((name, index) => [`blob${index + 1}`, name] as const),
    ...doubles.map((name, index) => [`double${index + 1}`, name] as const),
  ]);
const columns = named(BLOBS, DOUBLES);
const gatewayColumns = named(GATEWAY_BLOBS, GATEWAY_DOUBLES);

const createDataset = (name: string, columns: Map<string, string>) => `
  CREATE TABLE ${name} (
    timestamp timestamptz, _sample_interval float8, index1 text,
    ${[...columns.keys()].map((column) => `${column} ${column.startsWith('blob') ? 'text' : 'float8'}`)});`;

const PREPARE = `
  ${createDataset(dataset, columns)}
  ${createDataset(gatewayDataset, gatewayColumns)}
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
  await admin.query(`CREATE DATABASE ${database} TEMPLATE template_payments`);
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

test('names each statement that is timed, and no other', async () => {
  const timed = new Set<string>();
  for await (const file of glob('src/**/*.ts', { cwd: root })) {
    const source = await readFile(join(root, file), 'utf8');
    for (const [, name = ''] of source.matchAll(/(?:in|runIn)Database\(\s*\w+,\s*'(\w+)'/g)) {
      timed.add(name);
    }
  }
  const [named = ''] = /^A statement's name in `slow_query` .*$/m.exec(doc) ?? [];
  const [described = ''] = named.split('For what PostgreSQL itself says');
  const names = [...described.matchAll(/`(\w+)`/g)].map(([, name = '']) => name);
  expect(new Set(names)).toEqual(new Set(['slow_query', ...timed]));
  expect(timed.size).toBeGreaterThan(10);
});

test('has the columns that are written, in their order', () => {
  const described = [...doc.matchAll(/^\| ((?:blob|double)\d+) \| (\w+) \|/gm)];
  expect(described.map(([, column, name]) => [column, name])).toEqual([
    ...columns,
    ...gatewayColumns,
  ]);
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
    expect(gatewayNumbers).toHaveLength(4);
  });

  test.each([
    ...numbers.map((sql) => ({ sql, dataset, columns })),
    ...gatewayNumbers.map((sql) => ({ sql, dataset: gatewayDataset, columns: gatewayColumns })),
  ])('use only what is documented and written: $sql', ({ sql, dataset, columns }) => {
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

  /** What Cloudflare stores of a point that stands for several. */
  async function insertPoint(name: string, standsFor: number, point: ReturnType<typeof dataPoint>) {
    const row = [standsFor, ...point.indexes, ...point.blobs, ...point.doubles];
    await client.query(
      `INSERT INTO ${name} VALUES (now(), ${row.map((_, index) => `$${index + 1}`)})`,
      row,
    );
  }

  async function run(queries: string[]) {
    const results = [];
    for (const sql of queries) {
      // A parameterised aggregate is the one thing of the dialect that PostgreSQL cannot even read.
      const translated = sql.replace(
        /quantileExactWeighted\(([\d.]+)\)\(/g,
        'quantileExactWeighted($1, ',
      );
      const { rows } = await client.query<Record<string, unknown>>(translated);
      results.push(rows.map(({ since: _, ...row }) => row));
    }
    return results;
  }

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
      await insertPoint(dataset, stands_for, dataPoint(point));
    }
    const results = await run(numbers);
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

  test('give the right numbers of gateways', async () => {
    const sent = { gateway: 'wechat', operation: 'send', http_status: 200, attempt: 1, code: null };
    const callback = { gateway: 'alipay', operation: 'callback', attempt: null, duration_ms: 9 };
    const limited = { code: 'FREQUENCY_LIMITED', http_status: 429 };
    await client.query('BEGIN');
    for (const [stands_for, point] of [
      [8, { ...sent, outcome: 'accepted', duration_ms: 90 }],
      [1, { ...sent, outcome: 'accepted', duration_ms: 800 }],
      [2, { ...sent, ...limited, outcome: 'unknown', duration_ms: 40 }],
      [1, { ...sent, code: 'NO_ANSWER', http_status: null, outcome: 'unknown', duration_ms: 40 }],
      [3, { ...callback, code: 'TRADE_SUCCESS', http_status: 200, outcome: 'paid' }],
      [2, { ...callback, code: null, http_status: 400, outcome: 'signature' }],
      [1, { ...callback, code: null, http_status: 503, outcome: 'fault' }],
    ] as const) {
      await insertPoint(gatewayDataset, stands_for, gatewayPoint(point));
    }
    const results = await run(gatewayNumbers);
    await client.query('ROLLBACK');

    const [outcomes, wrong, refused, tooMany] = results;
    expect(outcomes).toHaveLength(5);
    expect(outcomes?.[3]).toEqual({
      ...{ gateway: 'wechat', operation: 'send', outcome: 'accepted' },
      ...{ calls: 9, p50_ms: 90, p99_ms: 800 },
    });
    expect(wrong).toEqual([
      { gateway: 'wechat', outcome: 'unknown', code: 'FREQUENCY_LIMITED', calls: 2 },
      { gateway: 'wechat', outcome: 'unknown', code: 'NO_ANSWER', calls: 1 },
    ]);
    expect(refused).toEqual([{ gateway: 'alipay', outcome: 'signature', callbacks: 2 }]);
    expect(tooMany).toEqual([{ gateway: 'wechat', operation: 'send', calls: 2 }]);
  });
});

test.each([...others, ...statementsOfGuide])('PostgreSQL can plan %s', async (sql) => {
  // Planned only: pg_stat_statements gives rows where the server has loaded it.
  await client.query(`EXPLAIN ${sql}`);
});

describe('docs/gateways.md', () => {
  test('names each variable of the gateways, and no other', async () => {
    const read = new Set<string>();
    for (const gateway of ['wechat', 'alipay']) {
      const file = join(root, `src/gateways/${gateway}/configuration.ts`);
      const source = await readFile(file, 'utf8');
      for (const [, name = ''] of source.matchAll(/^ {2}([A-Z_0-9]+): /gm)) read.add(name);
    }
    expect(new Set(guide.match(/\b(WECHAT|ALIPAY|CALLBACK)_\w+/g))).toEqual(read);
  });

  test('has each state, and no other', async () => {
    const { rows } = await client.query<{ source: string }>(`
      SELECT pg_get_constraintdef(oid) AS source FROM pg_constraint WHERE conname = 'gateway_refunds_state_check'`);
    const states = [...(rows[0]?.source ?? '').matchAll(/'(\w+)'/g)].map(([, state]) => state);
    const [table = ''] = /\| from \| what happens .*?\n\n/s.exec(guide) ?? [];
    const described = table
      .split('\n')
      .slice(2)
      .flatMap((row) => (row.split('|')[3] ?? '').match(/[a-z]+/)?.[0] ?? []);
    expect(new Set(described)).toEqual(new Set(states));
  });

  test('has the codes for which the database asks for a person', async () => {
    const source = await readFile(join(root, 'drizzle/0015_gateway_functions.sql'), 'utf8');
    const codes = [...source.matchAll(/(?:attention := |NULL, |THEN |ELSE |, )'([A-Z_]{3,})'/g)];
    const [, table = ''] = /\| attention \| means (.*?)\n\n/s.exec(guide) ?? [];
    const explained = table.match(/\b[A-Z_]{3,}\b/g);
    expect(explained).toEqual(expect.arrayContaining(codes.map(([, code]) => code)));
    expect(codes.length).toBeGreaterThan(6);
  });
});
