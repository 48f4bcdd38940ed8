/**
 * Connections to the local PostgreSQL, lent to one request at a time. A session that comes back is
 * reset before the next request gets it, and closed if it is broken, still inside a transaction, or was
 * not wanted for a while. Like Neon's proxy, it keeps the plans of its functions.
 */
import pg from 'pg';

/** Of all databases together. The server allows 200; the rest is for tests, migrations and psql. */
const MAX_SESSIONS = 100;
/** Shorter than the 5 s for which CREATE DATABASE … TEMPLATE waits for other sessions to leave. */
const IDLE_MS = 2_000;

export interface Login {
  user: string;
  password: string;
  database: string;
}

export interface Session {
  client: pg.Client;
  /** Gives the session back. It is reset behind the caller's back. */
  release(): void;
  /** Cuts the connection; PostgreSQL notices within half a second and rolls back. */
  destroy(): void;
}

export interface Sessions {
  /** Waits while all sessions are lent; rejects with pg's error where none can be opened. */
  acquire(login: Login): Promise<Session>;
  /** Closes the sessions of one database that nobody is using, so that it can be a template. */
  closeUnused(database: string): Promise<void>;
  /** Closes all of them, used or not. */
  close(): Promise<void>;
}

interface Pooled extends Session {
  key: string;
  database: string;
  state: 'lent' | 'resetting' | 'idle' | 'leaving';
  idleTimer?: NodeJS.Timeout;
  ended: Promise<void>;
}

interface Waiter {
  key: string;
  login: Login;
  lend: (session: Session | Promise<Session>) => void;
}

/** What Neon's proxy sends (reset_session_background in its client.rs): DISCARD ALL without DISCARD PLANS. */
const RESET =
  'ROLLBACK; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES';

/** Values as PostgreSQL writes them; the driver at the other end parses them. */
const TEXT = { getTypeParser: () => (value: string) => value };

/** Opens no session yet; `port` is that of a PostgreSQL on 127.0.0.1. */
export function openSessions(port: number): Sessions {
  const all = new Set<Pooled>();
  /** In order of arrival. */
  const waiters: Waiter[] = [];

  /** Serves those who wait, in turn, as far as there are sessions. */
  function serve(): void {
    for (let waiter = waiters[0]; waiter !== undefined; waiter = waiters[0]) {
      const { key, login, lend } = waiter;
      const idle = [...all].filter((session) => session.state === 'idle');
      // The one that was used last, so that those beyond the need grow old and go.
      const session = idle.findLast((candidate) => candidate.key === key);
      if (session === undefined && all.size >= MAX_SESSIONS) {
        // One of another login makes room; its end brings us here again.
        if (idle[0] !== undefined) leave(idle[0]);
        return;
      }
      waiters.shift();
      if (session === undefined) {
        lend(open(login, key));
      } else {
        clearTimeout(session.idleTimer);
        session.state = 'lent';
        lend(session);
      }
    }
  }

  async function open(login: Login, key: string): Promise<Session> {
    const client = new pg.Client({
      ...login,
      host: '127.0.0.1',
      port,
      ssl: false,
      application_name: 'neon-endpoint',
      // A request that its client has given up must not keep its locks.
      options: '-c client_connection_check_interval=500',
      types: TEXT,
    });
    const session: Pooled = {
      client,
      key,
      database: login.database,
      state: 'lent',
      ended: new Promise((resolve) => client.once('end', resolve)),
      release: () => void reset(session),
      destroy: () => leave(session),
    };
    // Also: without a listener, a session that PostgreSQL ends would end this process.
    client.on('error', () => leave(session));
    client.once('end', () => forget(session));
    all.add(session);
    try {
      await client.connect();
      return session;
    } catch (error) {
      forget(session);
      throw error;
    }
  }

  async function reset(session: Pooled): Promise<void> {
    if (session.state !== 'lent') return;
    // Inside a transaction that somebody forgot, or broken: not worth repairing.
    if (session.client.getTransactionStatus() !== 'I') return leave(session);
    session.state = 'resetting';
    try {
      await session.client.query(RESET);
    } catch {
      return leave(session);
    }
    if (!isResetting(session)) return;
    session.state = 'idle';
    // The most recent last.
    all.delete(session);
    all.add(session);
    session.idleTimer = setTimeout(() => leave(session), IDLE_MS);
    serve();
  }

  function leave(session: Pooled): void {
    session.state = 'leaving';
    clearTimeout(session.idleTimer);
    // Where a statement is running, this cuts the connection.
    session.client.end().catch(() => {});
  }

  function forget(session: Pooled): void {
    session.state = 'leaving';
    clearTimeout(session.idleTimer);
    if (all.delete(session)) serve();
  }

  return {
    acquire: ({ user, password, database }) =>
      new Promise((lend) => {
        const login = { user, password, database };
        waiters.push({ key: JSON.stringify(login), login, lend });
        serve();
      }),
    async closeUnused(database) {
      const unused = [...all].filter(
        (session) => session.database === database && session.state !== 'lent',
      );
      for (const session of unused) leave(session);
      await Promise.all(unused.map((session) => session.ended));
    },
    async close() {
      const sessions = [...all];
      for (const session of sessions) leave(session);
      await Promise.all(sessions.map((session) => session.ended));
    },
  };
}

/** A function, because TypeScript does not know that the state may change while we wait. */
function isResetting(session: Pooled): boolean {
  return session.state === 'resetting';
}
