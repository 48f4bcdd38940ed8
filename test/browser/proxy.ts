/**
 * The way from the browser to the Worker, which can be cut. Playwright's own interception drops Sec-Fetch-Site,
 * without which the session's cookie does not count, so answers are lost here.
 *
 * Every answer closes its connection. On a connection that was used before, Chromium sends a request whose answer
 * is lost once more by itself, and the page would never learn of it.
 */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';

/** Which answers are lost, and when. */
export interface CutOptions {
  /** Any unless told. */
  method?: string;
  /** Of the URL, without its query. */
  path: string | RegExp;
  /**
   * `request`: the Worker never sees it. `answer`: the Worker has answered in full, and nothing of it arrives.
   * `body`: what arrives ends after `afterBytes` of the body. Default `answer`.
   */
  lose?: 'request' | 'answer' | 'body';
  /** Default 0: the headers only. */
  afterBytes?: number;
  /** How many requests it meets. Default 1. */
  times?: number;
}

export interface Cut {
  /** Resolves when the first answer is lost: to the Worker's status, or 0 where it saw no request. */
  happened: Promise<number>;
  /** Heals it before its `times` are over. */
  heal(): void;
}

/** A request as it reached the Worker. */
export interface Passed {
  method: string;
  /** With its query. */
  path: string;
  headers: IncomingMessage['headers'];
  /** 0 until it is answered. */
  status: number;
}

export interface Proxy {
  /** An origin on `localhost`, which browsers trust without TLS. */
  url: string;
  /** In the order in which they arrived. */
  passed: Passed[];
  cut(options: CutOptions): Cut;
  reroute(path: string, to: string): void;
  stop(): Promise<void>;
}

/** Until the cut, for the page to read what has arrived. A stream that fails forgets what nobody has read. */
const READ_MS = 300;

interface Rule extends CutOptions {
  left: number;
  report(status: number): void;
}

/** Starts it on a free port before the Worker at `target`. */
export async function startProxy(target: string): Promise<Proxy> {
  const rules: Rule[] = [];
  const passed: Passed[] = [];
  const routes = new Map<string, string>();
  const server = createServer((incoming, outgoing) => {
    const rule = takeRule(rules, incoming);
    if (rule?.lose === 'request') {
      incoming.socket.destroy();
      rule.report(0);
      return;
    }
    const record: Passed = {
      method: incoming.method ?? 'GET',
      path: incoming.url ?? '/',
      headers: incoming.headers,
      status: 0,
    };
    passed.push(record);
    const route = routes.get(new URL(record.path, target).pathname);
    forward(new URL(route ?? record.path, target), incoming, outgoing, record, rule);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return {
    url: `http://localhost:${address.port}`,
    passed,
    cut(options) {
      let heal = () => {};
      const happened = new Promise<number>((report) => {
        const rule: Rule = { lose: 'answer', ...options, left: options.times ?? 1, report };
        rules.push(rule);
        heal = () => {
          rule.left = 0;
        };
      });
      return { happened, heal };
    },
    reroute(path, to) {
      routes.set(path, to);
    },
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function takeRule(rules: Rule[], { method, url = '/' }: IncomingMessage): Rule | undefined {
  const { pathname } = new URL(url, 'http://localhost');
  const rule = rules.find(
    (one) =>
      one.left > 0 &&
      (one.method === undefined || one.method === method) &&
      (typeof one.path === 'string' ? one.path === pathname : one.path.test(pathname)),
  );
  if (rule !== undefined) rule.left -= 1;
  return rule;
}

function forward(
  target: URL,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  record: Passed,
  rule: Rule | undefined,
): void {
  const headers = { ...incoming.headers, connection: 'close' };
  // A compressed body would be cut in the middle of nothing that can be read.
  if (rule !== undefined) headers['accept-encoding'] = 'identity';
  const upstream = request(target, { method: record.method, headers, agent: false }, (answer) => {
    const status = answer.statusCode ?? 0;
    record.status = status;
    const lose = (): void => {
      outgoing.socket?.destroy();
      rule?.report(status);
    };
    if (rule?.lose === 'answer') {
      answer.on('end', lose).resume();
      return;
    }
    // Names as they were written, and repeated ones (Set-Cookie) as often as they came.
    const kept = pairs(answer.rawHeaders).filter(
      ([name]) => !['connection', 'keep-alive'].includes(name.toLowerCase()),
    );
    outgoing.writeHead(status, [...kept.flat(), 'Connection', 'close']);
    if (rule?.lose === 'body') passUntil(answer, outgoing, rule.afterBytes ?? 0, lose);
    else answer.pipe(outgoing);
    answer.on('error', () => outgoing.destroy());
  });
  upstream.on('error', () => outgoing.socket?.destroy());
  // A reader that has gone, such as an aborted fetch, takes its request with it.
  outgoing.on('close', () => upstream.destroy());
  incoming.pipe(upstream);
}

function passUntil(
  answer: IncomingMessage,
  outgoing: ServerResponse,
  bytes: number,
  lose: () => void,
): void {
  let left = bytes;
  const loseLater = () => {
    answer.pause();
    setTimeout(lose, READ_MS);
  };
  outgoing.flushHeaders();
  answer.on('data', (chunk: Buffer) => {
    if (left <= 0) return;
    const part = chunk.subarray(0, left);
    left -= part.length;
    outgoing.write(part);
    if (left <= 0) loseLater();
  });
  // Shorter than `bytes`, or cut behind the headers: it never ends well.
  answer.on('end', loseLater);
  if (bytes <= 0) loseLater();
}

function pairs(raw: string[]): [name: string, value: string][] {
  return raw.flatMap((name, index): [string, string][] =>
    index % 2 === 0 ? [[name, raw[index + 1] ?? '']] : [],
  );
}
