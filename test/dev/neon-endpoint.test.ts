/**
 * The local Neon endpoint, as the real driver sees it from inside workerd: the same results, errors and
 * transactions as Neon's own, and the faults and counters that the other tests rely on.
 */

import { env } from 'cloudflare:workers';
import { NeonDbError, neon } from '@neondatabase/serverless';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ControlState, Fault } from '../../dev/neon-faults';
import type { Bindings } from '../../src/env';
import { databaseUrl } from '../harness';

const bindings: Bindings = env;
const endpoint = bindings.NEON_FETCH_ENDPOINT ?? '';
const database = `endpoint_${crypto.randomUUID().replaceAll('-', '')}`;
const url = databaseUrl(database);
const sql = neon(url);

/** For what happens soon, but not at a moment that can be waited for. */
const PATIENT = { timeout: 10_000 };

beforeAll(async () => {
  await neon(env.DATABASE_URL).query(`CREATE DATABASE ${database}`);
});

/** Sends what the driver would not: any body, any headers. */
async function post(body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(endpoint, {
    method: 'POST',
    headers: { 'Neon-Connection-String': url, ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: JSON.parse(text) };
}

/** What a query is rejected with. */
async function failureOf(query: PromiseLike<unknown>): Promise<NeonDbError> {
  try {
    await query;
  } catch (error) {
    if (error instanceof NeonDbError) return error;
    throw error;
  }
  throw new Error('the query succeeded');
}

describe('results', () => {
  it('come with the fields, the command and the number of rows', async () => {
    await sql`CREATE TABLE results (id int PRIMARY KEY, name text)`;
    const inserted = await sql.query(
      `INSERT INTO results VALUES (1, 'a'), (2, NULL) RETURNING id, name`,
      [],
      { fullResults: true },
    );
    expect(inserted).toMatchObject({
      command: 'INSERT',
      rowCount: 2,
      rowAsArray: false,
      rows: [
        { id: 1, name: 'a' },
        { id: 2, name: null },
      ],
    });
    expect(inserted.fields).toMatchObject([
      {
        name: 'id',
        columnID: 1,
        dataTypeID: 23,
        dataTypeSize: 4,
        dataTypeModifier: -1,
        format: 'text',
      },
      {
        name: 'name',
        columnID: 2,
        dataTypeID: 25,
        dataTypeSize: -1,
        dataTypeModifier: -1,
        format: 'text',
      },
    ]);
    const [table] = await sql`SELECT 'results'::regclass::oid::int AS oid`;
    expect(inserted.fields[0]?.tableID).toBe(table?.oid);
    expect(await sql.query('DROP TABLE results', [], { fullResults: true })).toMatchObject({
      command: 'DROP',
      rowCount: null,
      fields: [],
      rows: [],
    });
  });

  it('are objects or arrays, as the driver asks', async () => {
    expect(await sql`SELECT 1 AS a, 'x' AS b`).toEqual([{ a: 1, b: 'x' }]);
    expect(await sql.query(`SELECT 1 AS a, 'x' AS a`, [], { arrayMode: true })).toEqual([[1, 'x']]);
  });

  it('keep every digit of int8 and numeric, tell NULL from an empty string, and carry arrays and bytea', async () => {
    const bytes = new Uint8Array([0, 1, 127, 128, 255]);
    const [row] = await sql`
      SELECT 9223372036854775807 AS int8, 12345678901234567890.10::numeric AS numeric, NULL AS nothing,
        '' AS empty, ${[1, null, 3]}::int[] AS ints, ${['a"b', '\\', '{}', 'NULL', '']}::text[] AS texts, ${bytes} AS bytes`;
    expect(row).toEqual({
      int8: '9223372036854775807',
      numeric: '12345678901234567890.10',
      nothing: null,
      empty: '',
      ints: [1, null, 3],
      texts: ['a"b', '\\', '{}', 'NULL', ''],
      bytes: expect.anything(),
    });
    expect(Array.from(row?.bytes ?? [])).toEqual([...bytes]);
  });

  it('are PostgreSQL’s own text for every value where raw text is asked for', async () => {
    const query = `SELECT 1 AS a, true AS b, 1.5::float8 AS c, '{"x": [1]}'::jsonb AS d, ARRAY[1, 2] AS e, NULL AS f, '\\x01'::bytea AS g`;
    const raw = { 'Neon-Raw-Text-Output': 'true' };
    const asArrays = await post({ query }, { ...raw, 'Neon-Array-Mode': 'true' });
    expect(asArrays.body).toMatchObject({
      rowAsArray: true,
      rows: [['1', 't', '1.5', '{"x": [1]}', '{1,2}', null, '\\x01']],
    });
    const asObjects = await post({ query }, raw);
    expect(asObjects.body).toMatchObject({
      rowAsArray: false,
      rows: [{ a: '1', b: 't', c: '1.5', d: '{"x": [1]}', e: '{1,2}', f: null, g: '\\x01' }],
    });
  });

  it('are numbers, booleans, JSON and arrays where it is not, with 64-bit values as strings', async () => {
    const { body } = await post({
      query: `SELECT 1::int2 AS a, -2 AS b, 3::int8 AS c, 1.5::float4 AS d, 'NaN'::float8 AS e, 1.50::numeric AS f,
        true AS g, '{"x": [null]}'::jsonb AS h, ARRAY[[true, false], [NULL, true]] AS i,
        ARRAY['a"b', 'NULL', NULL, '{,}', '\\'] AS j, ARRAY['{"k": 1}']::json[] AS k, '{}'::int[] AS l,
        '[0:1]={1,2}'::int[] AS m, NULL AS n`,
    });
    expect(body.rows).toEqual([
      {
        ...{ a: 1, b: -2, c: '3', d: 1.5, e: 'NaN', f: '1.50', g: true, h: { x: [null] } },
        i: [
          [true, false],
          [null, true],
        ],
        ...{ j: ['a"b', 'NULL', null, '{,}', '\\'], k: [{ k: 1 }], l: [], m: [1, 2], n: null },
      },
    ]);
  });

  it('take parameters of every JSON type', async () => {
    const { body } = await post({
      query:
        'SELECT $1::text AS a, $2::int AS b, $3::bool AS c, $4::text AS d, $5::text[] AS e, $6::jsonb AS f, $7::int[] AS g',
      params: [
        null,
        5,
        true,
        'x',
        ['a"b', null, '\\'],
        { k: 1 },
        [
          [1, 2],
          [3, 4],
        ],
      ],
    });
    expect(body.rows).toEqual([
      {
        a: null,
        b: 5,
        c: true,
        d: 'x',
        e: ['a"b', null, '\\'],
        f: { k: 1 },
        g: [
          [1, 2],
          [3, 4],
        ],
      },
    ]);
  });

  it('may be 10 MB', async () => {
    const rows = await sql`SELECT repeat('支', 1000) AS text FROM generate_series(1, 3500)`;
    expect(rows).toHaveLength(3500);
    expect(rows.at(-1)?.text).toBe('支'.repeat(1000));
  });

  it('may not exceed 64 MiB: 507, and the endpoint goes on', async () => {
    const error = await failureOf(sql`SELECT repeat('x', 1000000) FROM generate_series(1, 100000)`);
    expect(error.message).toContain('HTTP status 507');
    expect(await sql`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  it('belong to one statement: a request cannot smuggle in a second one', async () => {
    expect(await failureOf(sql.query('SELECT 1; SELECT 2'))).toMatchObject({ code: '42601' });
  });
});

describe('a batch', () => {
  it('is one transaction, with a result for each statement', async () => {
    const results = await sql.transaction([
      sql`SELECT pg_current_xact_id()::text AS id`,
      sql`SELECT 2 AS two`,
      sql`SELECT pg_current_xact_id()::text AS id`,
    ]);
    expect(results).toHaveLength(3);
    expect(results[1]).toEqual([{ two: 2 }]);
    expect(results[0]).toEqual(results[2]);
  });

  const characteristics = sql`
    SELECT current_setting('transaction_isolation') AS isolation,
      current_setting('transaction_read_only') AS read_only, current_setting('transaction_deferrable') AS deferrable`;

  it.each([
    ['ReadUncommitted', 'read uncommitted'],
    ['ReadCommitted', 'read committed'],
    ['RepeatableRead', 'repeatable read'],
    ['Serializable', 'serializable'],
  ] as const)('runs at isolation level %s', async (isolationLevel, isolation) => {
    const [rows] = await sql.transaction([characteristics], { isolationLevel });
    expect(rows).toEqual([{ isolation, read_only: 'off', deferrable: 'off' }]);
  });

  it('is read-only or deferrable as asked, and otherwise as the database has it', async () => {
    const of = async (options: object) =>
      (await sql.transaction([characteristics], options))[0]?.[0];
    const isolation = 'read committed';
    expect(await of({})).toEqual({ isolation, read_only: 'off', deferrable: 'off' });
    expect(await of({ readOnly: true })).toEqual({ isolation, read_only: 'on', deferrable: 'off' });
    expect(await of({ deferrable: true })).toEqual({
      isolation,
      read_only: 'off',
      deferrable: 'on',
    });
    expect(await of({ readOnly: false, deferrable: false })).toEqual({
      isolation,
      read_only: 'off',
      deferrable: 'off',
    });
    const write = sql.transaction([sql`CREATE TABLE never (id int)`], { readOnly: true });
    expect(await failureOf(write)).toMatchObject({ code: '25006' });
  });

  it('repeats in its answer what it applied', async () => {
    const asked = { 'Neon-Batch-Isolation-Level': 'Serializable', 'Neon-Batch-Read-Only': 'true' };
    const { headers } = await post({ queries: [{ query: 'SELECT 1' }] }, asked);
    expect(headers.get('Neon-Batch-Isolation-Level')).toBe('Serializable');
    expect(headers.get('Neon-Batch-Read-Only')).toBe('true');
    expect(headers.get('Neon-Batch-Deferrable')).toBeNull();
  });

  it('leaves nothing where one of its statements fails', async () => {
    await sql`CREATE TABLE rolled_back (id int)`;
    const error = await failureOf(
      sql.transaction([sql`INSERT INTO rolled_back VALUES (1)`, sql`SELECT 1 / 0`, sql`SELECT 2`]),
    );
    expect(error).toMatchObject({ code: '22012', message: 'division by zero' });
    expect(await sql`SELECT id FROM rolled_back`).toEqual([]);
  });

  it('fails where only COMMIT finds the fault', async () => {
    await sql`CREATE TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)`;
    const insert = sql`INSERT INTO deferred VALUES (1)`;
    expect(await failureOf(sql.transaction([insert, insert]))).toMatchObject({ code: '23505' });
    expect(await sql`SELECT id FROM deferred`).toEqual([]);
  });
});

describe('an error', () => {
  it('carries the place in the schema', async () => {
    await sql`CREATE TABLE violated (id int PRIMARY KEY, name text NOT NULL, age int CHECK (age > 0))`;
    await sql`INSERT INTO violated VALUES (1, 'a', 1)`;
    expect(await failureOf(sql`INSERT INTO violated VALUES (1, 'b', 1)`)).toMatchObject({
      message: 'duplicate key value violates unique constraint "violated_pkey"',
      severity: 'ERROR',
      code: '23505',
      detail: 'Key (id)=(1) already exists.',
      schema: 'public',
      table: 'violated',
      constraint: 'violated_pkey',
      file: 'nbtinsert.c',
      line: expect.stringMatching(/^\d+$/),
      routine: '_bt_check_unique',
      column: undefined,
      dataType: undefined,
    });
    expect(await failureOf(sql`INSERT INTO violated VALUES (2, NULL, 1)`)).toMatchObject({
      code: '23502',
      column: 'name',
    });
    expect(await failureOf(sql`INSERT INTO violated VALUES (2, 'b', 0)`)).toMatchObject({
      code: '23514',
      constraint: 'violated_age_check',
    });
  });

  it('carries the data type', async () => {
    await sql`CREATE DOMAIN small AS int CHECK (VALUE < 10)`;
    expect(await failureOf(sql`SELECT 11::small`)).toMatchObject({
      code: '23514',
      schema: 'public',
      dataType: 'small',
      constraint: 'small_check',
    });
  });

  it('carries position and hint', async () => {
    expect(await failureOf(sql`SELECT relnme FROM pg_class`)).toMatchObject({
      code: '42703',
      position: '8',
      hint: expect.stringContaining('pg_class.relname'),
    });
  });

  it('carries where, internal query and internal position', async () => {
    await sql`CREATE FUNCTION broken() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM nothing FROM nowhere; END'`;
    expect(await failureOf(sql`SELECT broken()`)).toMatchObject({
      code: '42P01',
      where: expect.stringContaining('PL/pgSQL function broken()'),
      internalQuery: expect.stringContaining('nowhere'),
      internalPosition: expect.stringMatching(/^\d+$/),
    });
  });

  it('is 400 without a SQLSTATE for a login that is refused and a request that makes no sense', async () => {
    const query = { query: 'SELECT 1' };
    const wrong = url.replace(':postgres@', ':wrong@');
    expect(await failureOf(neon(wrong)`SELECT 1`)).toMatchObject({
      message: "password authentication failed for user 'postgres'",
      code: '',
      severity: '',
    });
    for (const [body, headers] of [
      [query, { 'Neon-Connection-String': '' }],
      [query, { 'Neon-Connection-String': 'mysql://postgres:postgres@localhost/postgres' }],
      [query, { 'Neon-Connection-String': 'postgres://postgres:postgres@localhost' }],
      [query, { 'Neon-Connection-String': 'postgres://postgres@localhost/postgres' }],
      ['{"query": ', {}],
      [{}, {}],
      [{ query: 'SELECT $1', params: 'x' }, {}],
      [{ queries: ['SELECT 1'] }, {}],
      [{ queries: [query] }, { 'Neon-Batch-Isolation-Level': 'read committed' }],
    ] satisfies [unknown, Record<string, string>][]) {
      const answer = await post(body, headers);
      expect(answer, JSON.stringify([body, headers])).toMatchObject({
        status: 400,
        body: { code: '' },
      });
      expect(answer.body.message).not.toBe('');
    }
  });

  it('is 500 where PostgreSQL lets nobody in', async () => {
    const error = await failureOf(neon(databaseUrl('no_such_database'))`SELECT 1`);
    expect(error.message).toContain('HTTP status 500');
    expect(error.message).toContain('3D000');
    expect(error.code).toBeUndefined();
  });

  it('is 413 for a request over 64 MiB', async () => {
    const response = await fetch(endpoint, {
      method: 'POST',
      headers: { 'Neon-Connection-String': url },
      body: new Uint8Array(64 * 1024 * 1024 + 1),
    });
    expect(response.status).toBe(413);
  });

  it('comes also from a statement that ends its own connection, and the next one works', async () => {
    for (let i = 0; i < 3; i++) {
      const error = await failureOf(sql`SELECT pg_terminate_backend(pg_backend_pid())`);
      expect(error).toMatchObject({ code: '57P01', severity: 'FATAL' });
      expect(await sql`SELECT 1 AS one`).toEqual([{ one: 1 }]);
    }
  });
});

describe('a session', () => {
  it('leaves nothing of one request to the next', async () => {
    const [initial] = await sql`SELECT current_setting('work_mem') AS work_mem`;
    const dirtied = new Set<unknown>();
    let reused = false;
    for (let i = 0; i < 20 && !reused; i++) {
      const [[backend] = []] = await sql.transaction([
        sql`SELECT pg_backend_pid() AS pid`,
        sql`SET work_mem = '77MB'`,
        sql`CREATE TEMPORARY TABLE IF NOT EXISTS mine (id int)`,
        sql`SELECT pg_advisory_lock(4711)`,
        sql`SELECT set_config('test.secret', 'x', false)`,
      ]);
      dirtied.add(backend?.pid);
      const [row] = await sql`
        SELECT pg_backend_pid() AS pid, current_setting('work_mem') AS work_mem, to_regclass('mine') AS mine,
          (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
          nullif(current_setting('test.secret', true), '') AS secret`;
      expect(row).toMatchObject({
        work_mem: initial?.work_mem,
        mine: null,
        locks: 0,
        secret: null,
      });
      reused = dirtied.has(row?.pid);
    }
    // Not for want of reuse: a session that had all of it came back.
    expect(reused).toBe(true);
  });

  it('does not stay inside a transaction that a request began', async () => {
    await sql`CREATE TABLE begun (id int)`;
    await sql`BEGIN`;
    await sql`INSERT INTO begun VALUES (1)`;
    await sql`BEGIN`;
    await sql`ROLLBACK`;
    expect(await sql`SELECT id FROM begun`).toEqual([{ id: 1 }]);
  });

  it('rolls back, and lets its locks go, when the client gives up', async () => {
    await sql`CREATE TABLE given_up (id int)`;
    const abort = new AbortController();
    const query = neon(url, { fetchOptions: { signal: abort.signal } }).transaction([
      sql`LOCK TABLE given_up`,
      sql`INSERT INTO given_up VALUES (1)`,
      sql`SELECT pg_sleep(60)`,
    ]);
    const outcome = failureOf(query);
    await expect
      .poll(() => sql`SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'`, PATIENT)
      .toHaveLength(1);
    abort.abort();
    expect((await outcome).message).toContain('abort');
    // Waits for the lock.
    expect(await sql`SELECT id FROM given_up`).toEqual([]);
  });

  it('leaves a database when asked, so that it can be a template', async () => {
    await sql`SELECT 1`;
    await fetch(new URL(`/control/${database}/sessions`, endpoint), { method: 'DELETE' });
    const administrator = neon(env.DATABASE_URL);
    // Of its own accord it would leave after two seconds.
    await expect
      .poll(() => administrator`SELECT pid FROM pg_stat_activity WHERE datname = ${database}`, {
        timeout: 1_500,
      })
      .toEqual([]);
    await administrator.query(`CREATE DATABASE ${database}_copy TEMPLATE ${database}`);
  });
});

describe('the controls', () => {
  const control = `${new URL('/control/', endpoint)}${database}`;
  const state = async (): Promise<ControlState> => (await fetch(control)).json();
  const faults = (...queue: Fault[]) =>
    fetch(control, { method: 'PUT', body: JSON.stringify({ faults: queue }) });
  const held = async (count: number): Promise<ControlState> =>
    (await fetch(`${control}/held?count=${count}`)).json();
  const release = () => fetch(`${control}/release`, { method: 'POST' });

  const reset = () => fetch(control, { method: 'DELETE' });

  beforeEach(async () => {
    await reset();
    await sql`CREATE TABLE IF NOT EXISTS counted (id int)`;
    await sql`TRUNCATE counted`;
    await reset();
  });
  const insert = () => sql`INSERT INTO counted VALUES (1)`;
  const inserted = async () => (await sql`SELECT FROM counted`).length;

  it('count the requests of a database and their statements', async () => {
    await sql`SELECT 1`;
    await sql.transaction([sql`SELECT 1`, sql`SELECT 2`]);
    await failureOf(sql`SELECT 1 / 0`);
    await neon(env.DATABASE_URL)`SELECT 1`;
    expect(await state()).toEqual({
      requests: 3,
      statements: 4,
      lastStatement: { query: 'SELECT 1 / 0', params: [] },
      held: 0,
      faults: 0,
    });
    await reset();
    expect(await state()).toEqual({
      requests: 0,
      statements: 0,
      lastStatement: null,
      held: 0,
      faults: 0,
    });
  });

  it('delay a request, before or after it is executed', async () => {
    for (const when of ['before', 'after'] as const) {
      await faults({ delayMs: 1000, when });
      const delayed = insert().then(() => 'delayed');
      await expect.poll(async () => (await state()).faults).toBe(0);
      expect(await Promise.race([delayed, insert().then(() => 'not delayed')])).toBe('not delayed');
      await delayed;
    }
    expect(await inserted()).toBe(4);
  });

  it.each([500, 502, 503, 504, 507])('answer %i instead of executing', async (status) => {
    await faults({ status });
    expect((await failureOf(insert())).message).toContain(`HTTP status ${status}`);
    expect(await inserted()).toBe(0);
  });

  it('answer 400 with the fields that a test wants', async () => {
    await faults({ status: 400 }, { status: 400, body: { message: 'm', code: '40001' } });
    expect(await failureOf(insert())).toMatchObject({ code: '' });
    expect(await failureOf(insert())).toMatchObject({ message: 'm', code: '40001' });
    expect(await inserted()).toBe(0);
  });

  it('answer a status after executing', async () => {
    await faults({ statusAfter: 502 });
    expect((await failureOf(insert())).message).toContain('HTTP status 502');
    expect(await inserted()).toBe(1);
  });

  it('drop a request before it is executed', async () => {
    await faults({ drop: 'before' });
    expect((await failureOf(insert())).message).toContain('Error connecting to database');
    expect(await inserted()).toBe(0);
  });

  it('drop the answer after COMMIT', async () => {
    await faults({ drop: 'after' });
    const batch = sql.transaction([insert(), insert()]);
    expect((await failureOf(batch)).message).toContain('Error connecting to database');
    expect(await inserted()).toBe(2);
  });

  it('apply faults in turn, as often as told, and let requests through between them', async () => {
    await faults({ status: 503, times: 2 }, { delayMs: 0 }, { status: 500, times: 'always' });
    const outcomes: string[] = [];
    for (let i = 0; i < 6; i++) {
      outcomes.push(
        await sql`SELECT 1`.then(
          () => 'ok',
          (error: NeonDbError) => /status (\d+)/.exec(error.message)?.[1] ?? '',
        ),
      );
    }
    expect(outcomes).toEqual(['503', '503', 'ok', '500', '500', '500']);
    await reset();
    expect(await inserted()).toBe(0);
  });

  it('hold requests until they are released, before or after they are executed', async () => {
    await faults({ hold: 'before' }, { hold: 'after' });
    const both = [insert(), insert()].map((query) => query.then(() => Date.now()));
    expect(await held(2)).toMatchObject({ held: 2 });
    expect(await inserted()).toBe(1);
    const released = Date.now();
    await release();
    for (const finished of await Promise.all(both))
      expect(finished).toBeGreaterThanOrEqual(released);
    expect(await inserted()).toBe(2);
    expect(await state()).toMatchObject({ held: 0 });
  });

  it('drop a held request with its client, unless it is to arrive late', async () => {
    for (const late of [false, true]) {
      await faults({ hold: 'before', late });
      const abort = new AbortController();
      const query = neon(url, {
        fetchOptions: { signal: abort.signal },
      })`INSERT INTO counted VALUES (1)`;
      const outcome = failureOf(query);
      await held(1);
      abort.abort();
      await outcome;
      if (late) {
        expect(await state()).toMatchObject({ held: 1 });
        await release();
        await expect.poll(inserted, PATIENT).toBe(1);
      } else {
        await expect.poll(state, PATIENT).toMatchObject({ held: 0 });
        expect(await inserted()).toBe(0);
      }
    }
  });

  it('are those of one database', async () => {
    await faults({ status: 500, times: 'always' });
    expect(await neon(env.DATABASE_URL)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  it('refuse a fault that they do not know', async () => {
    const response = await fetch(control, {
      method: 'PUT',
      body: '{"faults": [{"explode": true}]}',
    });
    expect(response.status).toBe(422);
    expect(await state()).toMatchObject({ faults: 0 });
  });
});
