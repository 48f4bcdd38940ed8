/**
 * Calls of the API. A read that meets an expired session waits until somebody has signed in again, and repeats
 * itself; a write does not. What an answer says is kept as it is: the pages decide what to show.
 */
import { type ReadonlySignal, signal } from '@preact/signals';

/** An answer with data. */
export interface Answer<T> {
  /** What was asked. */
  path: string;
  data: T;
  headers: Headers;
  /** When it came, in milliseconds since the epoch. */
  at: number;
}

/** Something other than data. */
export class Failure extends Error {
  override name = 'Failure';
  /** The API's code; 0 where no answer came at all. */
  readonly code: number;
  readonly data: Record<string, unknown>;
  readonly requestId: string | undefined;
  /** In seconds, where the API says when to try again. */
  readonly retryAfter: number | undefined;

  constructor(
    code: number,
    message: string,
    details: { data?: Record<string, unknown>; requestId?: string; retryAfter?: number } = {},
  ) {
    super(message);
    this.code = code;
    this.data = details.data ?? {};
    this.requestId = details.requestId;
    this.retryAfter = details.retryAfter;
  }

  /** A field of `data` that is text. */
  text(field: string): string | undefined {
    const value = this.data[field];
    return typeof value === 'string' ? value : undefined;
  }

  /** What is wrong with the parameters, where that is what is wrong. */
  get errors(): { path: string; message: string }[] {
    const { errors } = this.data;
    if (!Array.isArray(errors)) return [];
    return errors.map((error: unknown) => ({
      path: fieldOf(error, 'path'),
      message: fieldOf(error, 'message'),
    }));
  }

  /** Whether it may pass by itself: a database that is away, an answer that did not come. */
  get passes(): boolean {
    return [0, 50300, 50303, 50400].includes(this.code);
  }

  /** Whether a write may have been carried out all the same. */
  get unknownOutcome(): boolean {
    return this.code === 0 || this.code === 50000 || this.code === 50300 || this.code === 50400;
  }
}

function fieldOf(value: unknown, name: string): string {
  if (typeof value !== 'object' || value === null) return '';
  const field: unknown = Reflect.get(value, name);
  return typeof field === 'string' ? field : '';
}

const expiredSignal = signal(false);

/** Whether a request found the session at its end. */
export const expired: ReadonlySignal<boolean> = expiredSignal;

let whenSignedIn: (() => void)[] = [];

/** Says that there is a session again: what waits for one goes on. */
export function sessionRenewed(): void {
  expiredSignal.value = false;
  const waiting = whenSignedIn;
  whenSignedIn = [];
  for (const resolve of waiting) resolve();
}

/** Longer than the API's own deadline; a connection that answers nothing by then is given up. */
const PATIENCE_MS = 30_000;

interface Options {
  signal?: AbortSignal;
  /** Reads past the API's cache. */
  fresh?: boolean;
  /** Fails with 40100 without asking anybody to sign in. */
  once?: boolean;
}

/** GET. Throws Failure, or an AbortError where `signal` was aborted. */
export function get<T>(path: string, options: Options = {}): Promise<Answer<T>> {
  return withSession(options, async () => {
    const fresh = options.fresh || Date.now() < (changed.get(path) ?? 0);
    const early = (await ahead.get(path)) as Answer<T> | undefined;
    ahead.delete(path);
    const answer = early ?? (await send<T>('GET', path, { ...options, fresh }));
    if (options.fresh) noteChange(path);
    remember(path, answer);
    return answer;
  });
}

/** Answers that are on their way before anything asks for them. */
const ahead = new Map<string, Promise<Answer<unknown> | undefined>>();

/** Asks before the page is there that will need it; nobody is told what goes wrong. */
export function askAhead(path: string): void {
  ahead.set(
    path,
    send('GET', path, { once: true }).catch(() => undefined),
  );
}

/** Asks, and where the session is at its end, asks again when somebody has signed in. */
async function withSession<T>(options: Options, ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Failure && error.code === 40100) || options.once) throw error;
      await new Promise<void>((resolve) => {
        whenSignedIn.push(resolve);
        options.signal?.addEventListener('abort', () => resolve());
      });
      options.signal?.throwIfAborted();
    }
  }
}

/**
 * GET of a CSV file: the response, with its body still to be read. It waits for a session as get() does. Throws
 * Failure where there is no file, or an AbortError where `signal` was aborted, which also ends the body.
 */
export function getFile(path: string, signal: AbortSignal): Promise<Response> {
  return withSession({ signal }, async () => {
    // The patience is for the beginning only: a long file takes its time.
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
    let response: Response;
    let text: string;
    try {
      response = await fetch(path, {
        redirect: 'manual',
        signal: AbortSignal.any([signal, patience.signal]),
      });
      const isFile = response.headers.get('Content-Type')?.startsWith('text/csv');
      if (response.ok && isFile) return response;
      text = await response.text();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new Failure(0, '');
    } finally {
      clearTimeout(timer);
    }
    throw failureOf(response, read(text));
  });
}

/** POST, PATCH or DELETE. Throws Failure. */
export function write<T>(
  method: 'POST' | 'PATCH' | 'DELETE',
  path: string,
  body?: object,
  { headers = {}, ...options }: Options & { headers?: Record<string, string> } = {},
): Promise<Answer<T>> {
  const payment = /^\/payments\/\d+/.exec(path)?.[0];
  if (payment) noteChange(payment);
  return send<T>(method, path, options, body, headers);
}

/** Until when a path is read past the API's cache: it may serve an older detail for about a minute after a change. */
const changed = new Map<string, number>();
const CACHE_DELAY_MS = 120_000;

function noteChange(path: string): void {
  changed.delete(path);
  changed.set(path, Date.now() + CACHE_DELAY_MS);
  dropOldest(changed);
}

async function send<T>(
  method: string,
  path: string,
  options: Options,
  body?: object,
  headers: Record<string, string> = {},
): Promise<Answer<T>> {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      method,
      // A redirect to a sign-in page is an expired session, not an answer.
      redirect: 'manual',
      signal: options.signal ? AbortSignal.any([options.signal, patience]) : patience,
      headers: {
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...(options.fresh ? { 'Cache-Control': 'no-cache' } : {}),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    text = await response.text();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Failure(0, '');
  }
  const answer = read(text);
  if (answer?.code === 0) {
    // What the API answers is checked by its own tests against the document that this type comes from.
    return { path, data: answer.data as T, headers: response.headers, at: Date.now() };
  }
  throw failureOf(response, answer, options.once);
}

/** What an answer without data says. A session at its end is told to the page, unless it is asked for `once`. */
function failureOf(response: Response, answer: ReturnType<typeof read>, once = false): Failure {
  const isRedirect = response.type === 'opaqueredirect';
  if ((isRedirect || answer?.code === 40100) && !once) expiredSignal.value = true;
  if (isRedirect) return new Failure(40100, '');
  if (answer === undefined) return new Failure(0, '');
  const retryAfter = Number(response.headers.get('Retry-After') ?? Number.NaN);
  return new Failure(answer.code, answer.message, {
    data: isObject(answer.data) ? answer.data : {},
    ...(answer.requestId ? { requestId: answer.requestId } : {}),
    ...(Number.isFinite(retryAfter) ? { retryAfter } : {}),
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The envelope; undefined where something between us and the API has answered. */
function read(text: string) {
  try {
    const value: unknown = JSON.parse(text);
    if (!isObject(value) || typeof value.code !== 'number') return undefined;
    return {
      code: value.code,
      message: fieldOf(value, 'message'),
      requestId: fieldOf(value, 'request_id'),
      data: value.data,
    };
  } catch {
    return undefined;
  }
}

const KEPT = 50;
const answers = new Map<string, Answer<unknown>>();

function remember(path: string, answer: Answer<unknown>): void {
  answers.delete(path);
  answers.set(path, answer);
  dropOldest(answers);
}

function dropOldest(map: Map<string, unknown>): void {
  for (const oldest of map.keys()) {
    if (map.size <= KEPT) break;
    map.delete(oldest);
  }
}

/** The last answer to this path, to be shown until the next one is there. */
export function remembered<T>(path: string): Answer<T> | undefined {
  return answers.get(path) as Answer<T> | undefined;
}

/** Forgets everything, since somebody else may sign in. */
export function forgetAll(): void {
  answers.clear();
}
