/**
 * WeChat Pay (API v3) and Alipay (gateway.do) on this machine, for tests and `npm run dev`: neither
 * gateway offers this itself. It makes no bills. Listens on 127.0.0.1 and posts callbacks nowhere else.
 *
 * Every URL begins with a world of its own, made on first use, so tests running side by side don't
 * meet. Its gateways are `<url>/<world>/wechat` (signatures cover the path behind that) and
 * `<url>/<world>/alipay/gateway.do`. A client that wants an origin, like ours for WeChat, asks for one:
 * there, /v3/…, /gateway.do and all below do without the world. Amounts are fen.
 *
 * POST   /control/origin             {"origin"}: an origin of this world alone, the same every time.
 * GET    /control                    State: books, requests counted and rejected, callbacks.
 * PUT    /control                    Any of WorldOptions (contract.ts), and `now`: milliseconds or RFC 3339.
 * DELETE /control                    Forgets the world.
 * PUT    /control/faults             {"faults": Fault[]} (contract.ts) replaces the queue.
 * GET    /control/held?count=n       200 when n requests are held, or 408 after ten seconds.
 * POST   /control/release            Lets them go.
 * POST   /control/advance            {"ms"}: moves the clock; what falls due is done when it answers.
 * POST   /control/orders             {"gateway", "outTradeNo", "total", "tradeNo"?, "payerTotal"?,
 *                                    "paidAt"?, "state"?, "payerReachable"?}, or a list of them.
 * POST   /control/settle             {"outRefundNo", "outcome", "gateway"?}
 * GET    /control/callbacks          Posted[] (contract.ts): those due now, to be delivered by the test.
 * POST   /control/callbacks/answer   {"id", "status", "body"?, "tookMs"?}: what came back. Repeats follow.
 * POST   /control/callback           CallbackWish (contract.ts) → {path, headers, bodyBase64, event}: any
 *                                    callback, true or not. Posted too where callbackUrl is set.
 * PUT    /next                       One word, for the next refund of either gateway: SUCCESS, ABNORMAL,
 *                                    CLOSED, HANG, NOT_ENOUGH, DROP, SYSTEM_ERROR.
 * PUT    /topup                      Ends NOT_ENOUGH. A number as body adds that to `balance` instead.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { alipayDriver } from './alipay.ts';
import { alipayMessage, refundNotification } from './alipay-answers.ts';
import { loadBooks, saveBooks } from './books.ts';
import {
  type Fault,
  type Gateway,
  type Order,
  TEST_OPTIONS,
  type WorldOptions,
} from './contract.ts';
import { handleControl, type Json } from './control.ts';
import {
  type Call,
  type Content,
  type Driver,
  type GatewayRequest,
  Refusal,
  type Reply,
} from './driver.ts';
import type { SimulatorKeys } from './keys.ts';
import { wechatDriver } from './wechat.ts';
import { refundCallback, wechatMessage } from './wechat-answers.ts';
import { makeNumber, World } from './world.ts';

const MAX_BODY_BYTES = 1_048_576;
const MAX_WORLDS = 10_000;
const MAX_REJECTED = 1_000;

/** What is known of an order elsewhere, as in the database of `npm run dev`. */
export type KnownOrder = Pick<Order, 'outTradeNo' | 'total' | 'state'> &
  Partial<Pick<Order, 'tradeNo' | 'paidAt'>>;

export interface SimulatorOptions {
  keys: SimulatorKeys;
  /** A free one unless told. */
  port?: number;
  /** Where the books of that world are kept from one run to the next. Nowhere unless told. */
  booksFile?: string;
  /** The world of URLs that name none, as at an origin of its own. None unless told. */
  world?: string;
  /** What a new world starts with; TEST_OPTIONS unless told. */
  options?: WorldOptions;
  /** Asked about an order that is not in the books, before `anyOrder` is. */
  findOrder?: (gateway: Gateway, names: Call['order']) => Promise<KnownOrder | undefined>;
}

export interface Simulator {
  /** Without a slash at its end. */
  url: string;
  port: number;
  stop(): Promise<void>;
}

interface State {
  options: SimulatorOptions;
  drivers: Record<Gateway, Driver>;
  worlds: Map<string, World>;
  /** One for all worlds, and those that belong to one. */
  servers: Server[];
  origins: Map<string, Promise<string>>;
  stopping: AbortSignal;
}

/** Starts it on 127.0.0.1. */
export async function startSimulator(options: SimulatorOptions): Promise<Simulator> {
  const stopping = new AbortController();
  const state: State = {
    options,
    drivers: {
      wechat: wechatDriver(options.keys.wechat),
      alipay: alipayDriver(options.keys.alipay),
    },
    worlds: new Map(),
    servers: [],
    origins: new Map(),
    stopping: stopping.signal,
  };
  const port = await listen(state, options.port ?? 0, options.world);
  return {
    url: toOrigin(port),
    port,
    async stop() {
      stopping.abort();
      const closed = state.servers.map((server) => new Promise((resolve) => server.close(resolve)));
      for (const server of state.servers) server.closeAllConnections();
      for (const world of state.worlds.values()) world.stop();
      await Promise.all(closed);
    },
  };
}

/** Returns the port. */
async function listen(state: State, wanted: number, world: string | undefined): Promise<number> {
  const server = createServer((request, response) => {
    const url = inWorld(request.url ?? '/', world);
    handle(request, response, url, state).catch((error: unknown) => {
      if (!state.stopping.aborted && !request.destroyed) console.error(error);
      send(response, { status: 500, headers: {}, body: 'The simulator failed.' });
    });
  });
  // Never the side that closes an idle connection: the client could be about to use it again.
  server.keepAliveTimeout = 0;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(wanted, '127.0.0.1', resolve);
  });
  state.servers.push(server);
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Puts the world before a path that names none. */
function inWorld(path: string, world: string | undefined): string {
  if (world === undefined) return path;
  if (path.startsWith('/v3/')) return `/${world}/wechat${path}`;
  if (/^\/gateway\.do(\?|$)/.test(path)) return `/${world}/alipay${path}`;
  return /^\/(control|next|topup)\b/.test(path) ? `/${world}${path}` : path;
}

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  url: string,
  state: State,
): Promise<void> {
  const match = /^\/([\w-]{1,100})\/([a-z]+)(.*)$/.exec(url);
  const [, name = '', part = '', rest = ''] = match ?? [];
  const { method = 'GET' } = request;
  const body = await readBody(request);
  if (body === undefined) return send(response, { status: 413, headers: {}, body: 'too large' });
  if (part === 'wechat' || part === 'alipay') {
    const world = worldOf(name, state);
    const headers = Object.fromEntries(
      Object.entries(request.headers).map(([header, value]) => [header, String(value ?? '')]),
    );
    const asked: GatewayRequest = { method, path: rest, headers, body };
    const driver = state.drivers[part];
    const reply = await answer(asked, world, driver, state);
    keepBooks(name, world, state);
    if (reply === null) request.socket.destroy();
    else send(response, reply);
    return;
  }
  if (part === 'control' && method === 'DELETE' && rest === '') {
    state.worlds.get(name)?.stop();
    state.worlds.delete(name);
    return send(response, toReply({ status: 200, value: {} }));
  }
  if (part === 'control' && method === 'POST' && rest === '/origin') {
    const listening = state.origins.get(name) ?? listen(state, 0, name).then(toOrigin);
    state.origins.set(name, listening);
    return send(response, toReply({ status: 200, value: { origin: await listening } }));
  }
  const path = `${part}${rest}`;
  const { keys } = state.options;
  const world = worldOf(name, state);
  send(response, toReply(await handleControl({ method, path, body }, world, keys)));
}

function keepBooks(name: string, world: World, { options }: State): void {
  const { booksFile } = options;
  if (booksFile !== undefined && name === options.world) saveBooks(world, booksFile);
}

function worldOf(name: string, state: State): World {
  const { worlds, options } = state;
  const found = worlds.get(name);
  if (found !== undefined) return found;
  if (worlds.size >= MAX_WORLDS) throw new Error('too many worlds');
  const world = new World(options.options ?? TEST_OPTIONS);
  world.onSettled = (refund) => {
    keepBooks(name, world, state);
    const { callbacks, callbackDelayMs, alipayRefundNotifications } = world.options;
    const order = world.findOrder(refund.gateway, { tradeNo: refund.tradeNo });
    if (!callbacks || order === undefined) return;
    if (refund.gateway === 'wechat') {
      const now = world.clock.now();
      const { wechat } = options.keys;
      const callback = refundCallback(refund, refund.state, order, now, wechat);
      world.callbacks.queue(wechatMessage(callback, world, wechat), callbackDelayMs);
    } else if (alipayRefundNotifications && refund.state === 'SUCCESS' && order.total !== null) {
      const notification = refundNotification(refund, order, world);
      const message = alipayMessage(notification, world, options.keys.alipay);
      world.callbacks.queue(message, callbackDelayMs);
    }
  };
  worlds.set(name, world);
  const { booksFile } = options;
  if (booksFile !== undefined && name === options.world) loadBooks(world, booksFile);
  return world;
}

/** Null: the connection is to be cut. */
async function answer(
  request: GatewayRequest,
  world: World,
  driver: Driver,
  state: State,
): Promise<Reply | null> {
  const { gateway } = driver;
  const operation = driver.operationOf(request);
  const counter = `${gateway}.${operation ?? 'unknown'}`;
  world.requests[counter] = (world.requests[counter] ?? 0) + 1;
  const seal = (content: Content, fault?: Fault) => {
    const spoil = fault !== undefined && 'sign' in fault ? fault.sign : null;
    return driver.seal(content, request, world, spoil);
  };
  const refuse = (error: unknown): Content => {
    if (!(error instanceof Refusal)) throw error;
    const { status, code, detail, rejected } = error;
    if (rejected && world.rejected.length < MAX_REJECTED) {
      world.rejected.push({ gateway, operation, code });
    }
    return driver.error(status, code, { detail });
  };

  let call: Call;
  try {
    call = driver.read(request, world);
  } catch (error) {
    return seal(refuse(error));
  }
  const fault: Fault = world.takeFault(gateway, call.operation, call.outRefundNo) ?? { none: true };
  await pause(fault, 'before', world, state.stopping);
  if ('redirect' in fault) return { status: 307, headers: { Location: fault.redirect }, body: '' };
  if ('drop' in fault && fault.drop === 'before') return null;
  if ('status' in fault) return injected(fault, fault.status, driver, request, world);

  await supplyOrder(call, gateway, world, state);
  let content: Content;
  try {
    content = call.execute(world, 'outcome' in fault ? fault : null);
  } catch (error) {
    content = refuse(error);
  }
  await pause(fault, 'after', world, state.stopping);
  if ('drop' in fault) return null;
  if ('statusAfter' in fault) return injected(fault, fault.statusAfter, driver, request, world);
  return seal(content, fault);
}

async function pause(
  fault: Fault,
  when: 'before' | 'after',
  world: World,
  signal: AbortSignal,
): Promise<void> {
  if ('hold' in fault && fault.hold === when) await world.faults.hold();
  if ('delayMs' in fault && (fault.when ?? 'before') === when) {
    await sleep(fault.delayMs, undefined, { signal }).catch(() => {});
  }
}

function injected(
  fault: { code?: string | undefined; body?: string | undefined; unsigned?: boolean | undefined },
  status: number,
  driver: Driver,
  request: GatewayRequest,
  world: World,
): Reply {
  if (fault.body !== undefined) {
    return { status, headers: { 'Content-Type': 'text/html' }, body: fault.body };
  }
  const code = fault.code ?? (driver.gateway === 'wechat' ? 'SYSTEM_ERROR' : 'ACQ.SYSTEM_ERROR');
  const content = driver.error(status, code, { unsigned: fault.unsigned });
  return driver.seal(content, request, world, fault.unsigned ? 'none' : null);
}

/** Puts an order into the books that somebody else knows, or that is taken as paid unseen. */
async function supplyOrder(
  { operation, order, total }: Call,
  gateway: Gateway,
  world: World,
  { options }: State,
): Promise<void> {
  const isNamed = order.outTradeNo !== undefined || order.tradeNo !== undefined;
  if (!isNamed || world.findOrder(gateway, order)) return;
  const known = await options.findOrder?.(gateway, order);
  const isTaken = operation === 'refund' && world.options.anyOrder;
  // While that was awaited, another request may have brought the order.
  if ((known === undefined && !isTaken) || world.findOrder(gateway, order)) return;
  const now = world.clock.now();
  world.putOrder({
    gateway,
    tradeNo: order.tradeNo ?? makeNumber(gateway === 'wechat' ? '42' : '', now),
    outTradeNo: order.outTradeNo ?? makeNumber('', now),
    total,
    payerTotal: null,
    paidAt: now,
    state: 'paid',
    payerReachable: true,
    ...known,
  });
}

function toOrigin(port: number): string {
  return `http://127.0.0.1:${port}`;
}

function toReply({ status, value }: Json): Reply {
  const headers = { 'Content-Type': 'application/json' };
  return { status, headers, body: JSON.stringify(value) };
}

function send(response: ServerResponse, { status, headers, body }: Reply): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, headers).end(status === 204 ? undefined : body);
}

/** Undefined where it is too large: the rest of it is not read, which cuts the connection. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) continue;
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
