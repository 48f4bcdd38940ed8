/**
 * The HTTP side of Neon for a local PostgreSQL: POST /sql speaks the protocol of
 * @neondatabase/serverless. Listens on 127.0.0.1 and connects only to the one PostgreSQL, whatever host
 * a connection string names, so it is no relay. Under /control, tests make it slow or faulty, read its
 * counters and close its sessions.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { Control, type Fault } from './neon-faults.ts';
import { openSessions, type Sessions } from './neon-sessions.ts';
import {
  type Answer,
  executeSql,
  failure,
  MAX_BYTES,
  Refusal,
  readLogin,
  toAnswer,
} from './neon-sql.ts';

export interface NeonEndpoint {
  /** For NEON_FETCH_ENDPOINT, `/sql` included. */
  url: string;
  port: number;
  stop(): Promise<void>;
}

interface State {
  sessions: Sessions;
  controlOf(database: string): Control;
}

/** Starts the endpoint before the PostgreSQL on 127.0.0.1:`postgresPort`; on a free port unless told. */
export async function startNeonEndpoint(options: {
  postgresPort: number;
  port?: number;
}): Promise<NeonEndpoint> {
  const controls = new Map<string, Control>();
  const state: State = {
    sessions: openSessions(options.postgresPort),
    controlOf(database) {
      const control = controls.get(database) ?? new Control();
      controls.set(database, control);
      return control;
    },
  };
  const server = createServer((request, response) => {
    handle(request, response, state).catch((error: unknown) => send(response, toAnswer(error)));
  });
  // Never the side that closes an idle connection: the client could be about to use it again.
  server.keepAliveTimeout = 0;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}/sql`,
    port,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await Promise.all([closed, state.sessions.close()]);
    },
  };
}

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  state: State,
): Promise<void> {
  const { pathname } = new URL(request.url ?? '/', 'http://127.0.0.1');
  if (pathname === '/sql' && request.method === 'POST') return handleSql(request, response, state);
  if (pathname.startsWith('/control/')) return send(response, await handleControl(request, state));
  send(response, failure(404, 'Here are POST /sql and /control/<database>.'));
}

function send(response: ServerResponse, { status, body, headers }: Answer): void {
  response.writeHead(status, { ...headers, 'content-type': 'application/json' }).end(body);
}

async function handleSql(
  request: IncomingMessage,
  response: ServerResponse,
  { sessions, controlOf }: State,
): Promise<void> {
  const abort = new AbortController();
  response.on('close', () => abort.abort());
  const login = readLogin(request.headers['neon-connection-string']);
  const control = controlOf(login.database);
  control.requests += 1;
  const fault: Fault = control.takeFault() ?? { delayMs: 0 };
  const gone = 'late' in fault && fault.late === true ? undefined : abort.signal;
  const body = await readBody(request);

  await pause(fault, 'before', control, gone);
  if (gone?.aborted) return;
  if ('status' in fault) return send(response, injected(fault.status, fault.body));
  if ('drop' in fault && fault.drop === 'before') return cut(request);

  const answer = await executeSql({
    headers: request.headers,
    body,
    login,
    sessions,
    signal: gone,
    onStatement({ query, params }) {
      control.statements += 1;
      control.lastStatement = { query, params };
    },
  });

  await pause(fault, 'after', control, gone);
  if ('statusAfter' in fault) return send(response, injected(fault.statusAfter, fault.body));
  if ('drop' in fault) return cut(request);
  send(response, answer);
}

async function pause(
  fault: Fault,
  when: 'before' | 'after',
  control: Control,
  gone: AbortSignal | undefined,
): Promise<void> {
  if ('hold' in fault && fault.hold === when) await control.hold(gone);
  if ('delayMs' in fault && fault.delayMs > 0 && (fault.when ?? 'before') === when) {
    await sleep(fault.delayMs, undefined, { signal: gone }).catch(() => {});
  }
}

function injected(status: number, body: unknown): Answer {
  if (body === undefined) return failure(status, `HTTP ${status}, as a test wanted`);
  return { status, body: typeof body === 'string' ? body : JSON.stringify(body) };
}

function cut(request: IncomingMessage): void {
  request.socket.destroy();
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) continue;
    size += chunk.length;
    if (size > MAX_BYTES)
      throw new Refusal(413, `request is too large (max is ${MAX_BYTES} bytes)`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * GET /control/<database>: ControlState. PUT with `{"faults": Fault[]}`: replaces the queue. DELETE:
 * forgets faults and counters, releases what is held. POST …/release: lets held requests go. GET
 * …/held?count=n: answers when n are held, or 408. DELETE …/sessions: closes unused connections.
 */
async function handleControl(
  request: IncomingMessage,
  { sessions, controlOf }: State,
): Promise<Answer> {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://127.0.0.1');
  const [, , name = '', action = ''] = pathname.split('/');
  const database = decodeURIComponent(name);
  const control = controlOf(database);
  const answer = (status = 200): Answer => ({ status, body: JSON.stringify(control.state()) });
  switch (`${request.method} ${action}`) {
    case 'GET ':
      return answer();
    case 'PUT ': {
      const faults = readFaults(await readBody(request));
      control.setFaults(faults);
      return answer();
    }
    case 'DELETE ':
      control.reset();
      return answer();
    case 'POST release':
      control.release();
      return answer();
    case 'GET held':
      return answer(
        (await control.waitForHeld(Number(searchParams.get('count') ?? 1))) ? 200 : 408,
      );
    case 'DELETE sessions':
      await sessions.closeUnused(database);
      return answer();
    default:
      return failure(404, `There is no ${request.method} ${pathname}.`);
  }
}

/** Tests are type-checked, so this only catches the fault that would silently do nothing. */
function readFaults(body: string): Fault[] {
  const { faults }: { faults: Fault[] } = JSON.parse(body);
  const known = ['delayMs', 'status', 'statusAfter', 'drop', 'hold'];
  for (const fault of faults) {
    if (!known.some((key) => key in fault))
      throw new Refusal(422, `unknown fault ${JSON.stringify(fault)}`);
  }
  return faults;
}
