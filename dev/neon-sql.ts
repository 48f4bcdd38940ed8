/**
 * One request of Neon's SQL over HTTP, from its headers and body to the answer: 400 with every error
 * field for what PostgreSQL refuses, 400 without a SQLSTATE for a login or a request that makes no
 * sense, 413 and 507 for what is too large, 500 for the rest.
 * After proxy/src/serverless/sql_over_http.rs of github.com/neondatabase/neon, with one difference: a
 * connection that breaks during a statement is 500 here, and there 400 without a SQLSTATE.
 */
import type { IncomingHttpHeaders } from 'node:http';
import pg from 'pg';
import { toJson, toParameter } from './neon-json.ts';
import type { Login, Session, Sessions } from './neon-sessions.ts';

/** Neon's own limit, for a request as for an answer. */
export const MAX_BYTES = 64 * 1024 * 1024;

export interface Answer {
  status: number;
  /** JSON. */
  body: string;
  headers?: Record<string, string>;
}

/** An answer other than 200 that is not PostgreSQL's. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Who wants which database; the host is not looked at. Throws Refusal. */
export function readLogin(connectionString: string | string[] | undefined): Login {
  if (typeof connectionString !== 'string')
    throw new Refusal(400, 'invalid header: neon-connection-string');
  const login = parseConnectionString(connectionString);
  if (login === undefined) throw new Refusal(400, 'invalid connection string');
  if (login.user === '') throw new Refusal(400, 'missing username');
  if (login.database === '') throw new Refusal(400, 'missing database name');
  if (login.password === '')
    throw new Refusal(400, 'missing authentication credentials: required password');
  return login;
}

function parseConnectionString(connectionString: string): Login | undefined {
  try {
    const url = new URL(connectionString);
    if (!['postgres:', 'postgresql:'].includes(url.protocol) || url.hostname === '')
      return undefined;
    return {
      user: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
      database: decodeURIComponent(url.pathname.slice(1)),
    };
  } catch {
    return undefined;
  }
}

/** Executes one request; never rejects. `onStatement` is called for each statement that is sent. */
export async function executeSql(options: {
  headers: IncomingHttpHeaders;
  body: string;
  login: Login;
  sessions: Sessions;
  /** The client is gone: its statement is cut off, and its transaction rolled back. */
  signal?: AbortSignal | undefined;
  onStatement: (statement: Statement) => void;
}): Promise<Answer> {
  const { headers, login, sessions, signal, onStatement } = options;
  try {
    const begin = readBegin(headers);
    const payload = readPayload(options.body);
    const session = await connect(sessions, login);
    signal?.addEventListener('abort', session.destroy);
    try {
      if (signal?.aborted) throw new Refusal(500, 'The client is gone.');
      const output = new Output(headers, session);
      const run = (statement: Statement) => {
        onStatement(statement);
        return output.write(statement);
      };
      const body = Array.isArray(payload)
        ? await inTransaction(session.client, begin, async () => {
            const results: string[] = [];
            for (const statement of payload) results.push(await run(statement));
            return `{"results":[${results.join(',')}]}`;
          })
        : await run(payload);
      return { status: 200, body, headers: Array.isArray(payload) ? batchHeaders(headers) : {} };
    } finally {
      signal?.removeEventListener('abort', session.destroy);
      session.release();
    }
  } catch (error) {
    return toAnswer(error);
  }
}

/** The answer for whatever was thrown. */
export function toAnswer(error: unknown): Answer {
  if (error instanceof Refusal) return failure(error.status, error.message);
  if (error instanceof ConnectError) return failure(500, error.message, error.fields);
  if (error instanceof pg.DatabaseError) return failure(400, error.message, error);
  return failure(500, error instanceof Error ? error.message : String(error));
}

/** PostgreSQL is there, but does not let us in (no such database, too many sessions, starting up). */
class ConnectError extends Error {
  readonly fields: pg.DatabaseError;
  constructor(fields: pg.DatabaseError) {
    super(fields.message);
    this.fields = fields;
  }
}

/** The fields in Neon's form: what is absent is null, but for code and severity, which are empty. */
export function failure(
  status: number,
  message: string,
  fields: Partial<pg.DatabaseError> = {},
): Answer {
  return {
    status,
    body: JSON.stringify({
      message,
      code: fields.code ?? '',
      detail: fields.detail ?? null,
      hint: fields.hint ?? null,
      position: fields.position ?? null,
      internalPosition: fields.internalPosition ?? null,
      internalQuery: fields.internalQuery ?? null,
      severity: fields.severity ?? '',
      where: fields.where ?? null,
      table: fields.table ?? null,
      column: fields.column ?? null,
      schema: fields.schema ?? null,
      dataType: fields.dataType ?? null,
      constraint: fields.constraint ?? null,
      file: fields.file ?? null,
      line: fields.line ?? null,
      routine: fields.routine ?? null,
    }),
  };
}

const ISOLATION_LEVELS = new Map([
  ['ReadUncommitted', 'READ UNCOMMITTED'],
  ['ReadCommitted', 'READ COMMITTED'],
  ['RepeatableRead', 'REPEATABLE READ'],
  ['Serializable', 'SERIALIZABLE'],
]);

/** Only what the headers ask for: the rest is the default of database and role. */
function readBegin(headers: IncomingHttpHeaders): string {
  const level = headers['neon-batch-isolation-level'];
  const isolation = typeof level === 'string' ? ISOLATION_LEVELS.get(level) : undefined;
  if (level !== undefined && isolation === undefined)
    throw new Refusal(400, 'invalid isolation level');
  return [
    'BEGIN',
    ...(isolation === undefined ? [] : [`ISOLATION LEVEL ${isolation}`]),
    ...(headers['neon-batch-read-only'] === 'true' ? ['READ ONLY'] : []),
    ...(headers['neon-batch-deferrable'] === 'true' ? ['DEFERRABLE'] : []),
  ].join(' ');
}

/** Neon repeats what it applied. */
function batchHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const names = ['neon-batch-isolation-level', 'neon-batch-read-only', 'neon-batch-deferrable'];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = headers[name];
      return typeof value === 'string' && value !== 'false' ? [[name, value]] : [];
    }),
  );
}

interface Statement {
  query: string;
  params: (string | null)[];
  arrayMode?: boolean;
}

function readPayload(body: string): Statement | Statement[] {
  let payload: unknown;
  try {
    payload = JSON.parse(body);
  } catch (error) {
    throw new Refusal(
      400,
      `could not parse the HTTP request body: ${error instanceof Error ? error.message : error}`,
    );
  }
  const statement = readStatement(payload);
  if (statement !== undefined) return statement;
  if (isRecord(payload) && Array.isArray(payload.queries)) {
    const statements = payload.queries.map(readStatement);
    if (statements.every((each) => each !== undefined)) return statements;
  }
  throw new Refusal(
    400,
    'could not parse the HTTP request body: neither a query nor a batch of queries',
  );
}

function readStatement(value: unknown): Statement | undefined {
  if (!isRecord(value) || typeof value.query !== 'string') return undefined;
  const { query, params = [], arrayMode } = value;
  if (!Array.isArray(params)) return undefined;
  return {
    query,
    params: params.map(toParameter),
    ...(typeof arrayMode === 'boolean' ? { arrayMode } : {}),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

async function connect(sessions: Sessions, login: Login): Promise<Session> {
  try {
    return await sessions.acquire(login);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError))
      throw new Refusal(500, 'could not connect to postgres in compute');
    // Neon's proxy checks the password itself, so PostgreSQL has not spoken yet.
    if (error.code?.startsWith('28')) {
      throw new Refusal(400, `password authentication failed for user '${login.user}'`);
    }
    throw new ConnectError(error);
  }
}

async function inTransaction(
  client: pg.Client,
  begin: string,
  work: () => Promise<string>,
): Promise<string> {
  await client.query(begin);
  try {
    const body = await work();
    await client.query('COMMIT');
    return body;
  } catch (error) {
    // Where this fails, the connection is gone, and the transaction with it.
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  }
}

/** Writes results in the form that the headers ask for, and stops one that grows too large. */
class Output {
  private readonly raw: boolean;
  private readonly arrayMode: boolean;
  private readonly session: Session;
  /** What PostgreSQL has sent, and what we have made of it. */
  private received = 0;
  private written = 0;

  constructor(headers: IncomingHttpHeaders, session: Session) {
    this.raw = headers['neon-raw-text-output'] === 'true';
    this.arrayMode = headers['neon-array-mode'] === 'true';
    this.session = session;
  }

  /** Runs a statement; its result as JSON. */
  async write({ query, params, arrayMode = this.arrayMode }: Statement): Promise<string> {
    const config: pg.QueryArrayConfig<(string | null)[]> & { queryMode: 'extended' } = {
      text: query,
      values: params,
      rowMode: 'array',
      // Also without parameters: one request, one statement.
      queryMode: 'extended',
      types: { getTypeParser: () => this.count },
    };
    const { fields, rows, command, rowCount } =
      await this.session.client.query<(string | null)[]>(config);
    const types = fields.map((field) => field.dataTypeID);
    const names = fields.map((field) => JSON.stringify(field.name));
    const write = this.raw
      ? (value: string | null) => JSON.stringify(value)
      : (value: string | null, column: number) => toJson(value, types[column] ?? 0);
    let written: string;
    if (this.raw && arrayMode) written = JSON.stringify(rows);
    else if (arrayMode)
      written = `[${rows.map((row) => `[${row.map(write).join(',')}]`).join(',')}]`;
    else {
      const toObject = (row: (string | null)[]) =>
        `{${row.map((value, column) => `${names[column]}:${write(value, column)}`).join(',')}}`;
      written = `[${rows.map(toObject).join(',')}]`;
    }
    this.written += Buffer.byteLength(written);
    this.check(this.written);
    const rest = JSON.stringify({
      fields,
      command: command ?? '',
      rowCount,
      rowAsArray: arrayMode,
    });
    return `${rest.slice(0, -1)},"rows":${written}}`;
  }

  private check(bytes: number): void {
    if (bytes <= MAX_BYTES) return;
    // Rows are still coming, and nobody wants them.
    this.session.destroy();
    throw new Refusal(507, `response is too large (max is ${MAX_BYTES} bytes)`);
  }

  /** In place of a type parser: values stay the text that PostgreSQL sent. */
  private readonly count = (value: string): string => {
    this.received += value.length;
    this.check(this.received);
    return value;
  };
}
