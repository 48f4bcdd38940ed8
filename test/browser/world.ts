/**
 * What a browser test gets: the console in a fresh context, signed in as an actor of its own, and everything around
 * it, to be looked at and broken. A test fails at its end if a page has logged an error, thrown one or violated its
 * policy, unless the test allowed for it.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Page,
} from 'playwright-core';
import { test as base, inject } from 'vitest';
import { z } from 'zod';
import type { ControlState, Fault } from '../../dev/neon-faults.ts';
import { signToken } from '../../dev/token.ts';
import { type Cut, type CutOptions, type Passed, startProxy } from './proxy.ts';
import type { BrowserStack } from './setup.ts';

/** Of the session, over plain http. */
const COOKIE = 'console';
/** Where the console keeps the reader's language. */
const LANGUAGE_KEY = 'console-language';
const PICTURES = join(import.meta.dirname, '..', '..', 'dist', 'browser-failures');

interface ConsoleOptions {
  /** Default `/console/payments`. */
  path?: string;
  /** All by default. */
  scopes?: string[];
  /** The session's token instead of one with `scopes`; null opens the console signed out. */
  token?: string | null;
  /** CSS pixels. Default 1280 × 800. */
  viewport?: { width: number; height: number };
  /** What the system prefers. Default light. */
  theme?: 'light' | 'dark';
  /** The browser's language. Default zh-CN. */
  locale?: string;
  /** The browser's zone. Default Asia/Shanghai. */
  timezone?: string;
  /** The console's language, as if chosen before. By default nothing was chosen. */
  lang?: 'zh' | 'en';
  /** Anything else that Playwright can give a context. Never bypassCSP. */
  context?: Omit<BrowserContextOptions, 'bypassCSP'>;
}

interface PaymentOptions {
  /** Default bank, whose refunds are settled by hand. */
  method?: 'alipay' | 'wechat' | 'bank';
  /** Default 100.00. */
  amount?: string;
  /** 0 待支付, 1 支付成功 (default), 2 支付失败. It becomes 已退款 by its refunds. */
  status?: 0 | 1 | 2;
  order_no?: string;
  payment_no?: string;
  /** RFC 3339. Default now. */
  created_at?: string;
  /** Oldest first, one in a second. `status`: 0 处理中 (default), 1 成功, 2 失败. */
  refunds?: { amount: string; status?: 0 | 1 | 2; reason?: string }[];
  /** How many successful callbacks there were. Default 1 where it is paid. */
  callbacks?: number;
}

interface MadePayment {
  id: string;
  order_no: string;
  payment_no: string;
  refunds: { id: string; refund_no: string }[];
  callback_nos: string[];
}

interface ApiReply {
  status: number;
  headers: Headers;
  text: string;
  /** Of the envelope; undefined where the body has none. */
  code: number | undefined;
  message: string | undefined;
  data: unknown;
}

export interface World {
  /** The console's origin. All that a page asks for goes through a proxy, which `cut` cuts. */
  url: string;
  /** Who is signed in. An actor of its own a test, because each may write 60 times a minute. */
  actor: string;
  /** Opens it in a context of its own, with the clipboard permitted. */
  openConsole(options?: ConsoleOptions): Promise<Page>;
  /** A token of the actor's. */
  token(options?: {
    scopes?: string[] | undefined;
    actor?: string;
    hours?: number;
  }): Promise<string>;
  /** Sets the session's cookie, or takes it away: a session that is over. */
  signIn(page: Page, token?: string): Promise<void>;
  expireSession(page: Page): Promise<void>;
  /** Calls the API directly, as a colleague with all scopes unless told. A body is sent as JSON. */
  api(
    path: string,
    init?: { method?: string; body?: unknown; headers?: Record<string, string>; token?: string },
  ): Promise<ApiReply>;
  /** Of the whole database, to do what other modules do. */
  sql: pg.Client;
  /** Inserts a payment with an order, unlike any other. */
  payment(options?: PaymentOptions): Promise<MadePayment>;
  /** What the Worker's next requests to the database meet. `{drop: 'before', times: 'always'}` is a database that is down. */
  faults(...faults: Fault[]): Promise<void>;
  /** Resolves when the endpoint holds so many requests. */
  held(count: number): Promise<void>;
  release(): Promise<void>;
  /** How many requests reached the database meanwhile. */
  databaseRequests(work: () => Promise<unknown>): Promise<number>;
  /** Loses answers on their way to the browser. */
  cut(options: CutOptions): Cut;
  /**
   * Lets the Worker answer another address than the one that is asked for from now on, such as a list of nothing
   * where there are payments: a real answer, to a page that cannot be brought to ask for it.
   */
  reroute(path: string, to: string): void;
  /** What the pages have asked the Worker for. */
  passed: readonly Passed[];
  simulator: {
    url: string;
    /** Any of the simulator's paths (dev/gateways/simulator.ts), such as `/control/faults`. */
    ask(method: string, path: string, body?: unknown): Promise<string>;
    /** What becomes of the next refund: SUCCESS, ABNORMAL, CLOSED, HANG, NOT_ENOUGH, DROP, SYSTEM_ERROR. */
    next(word: string): Promise<void>;
  };
  /** What the pages have done wrong so far. */
  problems: readonly string[];
  /** Problems that match do not fail the test. Chromium logs an error for every status of 400 and more. */
  allowProblems(...patterns: RegExp[]): void;
}

const stack: BrowserStack | null = inject('browserStack');

/** A test with a `world`. It is skipped where the machine has no browser. */
export const test = base
  .extend<{ browser: Browser; world: World }>({
    browser: [
      // biome-ignore lint/correctness/noEmptyPattern: vitest reads the fixture's needs from it
      async ({}, use) => {
        const browser = await chromium.connect(stackOrThrow().browser);
        await use(browser);
        await browser.close();
      },
      { scope: 'file' },
    ],
    world: async ({ browser, task, onTestFailed }, use) => {
      const logBegan = await logSize();
      const { world, contexts, close } = await openWorld(browser);
      onTestFailed(async () => {
        console.log(await logSince(logBegan));
      });
      try {
        await use(world);
        if (task.result?.state === 'fail') await takePictures(contexts, task.name);
      } finally {
        await close();
      }
      if (world.problems.length > 0) {
        throw new Error(`The page has problems:\n${world.problems.join('\n')}`);
      }
    },
  })
  .skipIf(stack === null);

function stackOrThrow(): BrowserStack {
  if (stack === null) throw new Error('there is no browser here, so no test was to run');
  return stack;
}

const Envelope = z.object({ code: z.number(), message: z.string(), data: z.unknown() });

async function openWorld(browser: Browser) {
  const { worker, databaseUrl, endpointControl, simulator, authSecret } = stackOrThrow();
  const proxy = await startProxy(worker);
  const sql = new pg.Client(databaseUrl);
  await sql.connect();
  const contexts: BrowserContext[] = [];
  const problems: string[] = [];
  const allowed: RegExp[] = [];
  const actor = `staff-${randomBytes(4).toString('hex')}`;

  const control = async (method: string, path = '', body?: unknown): Promise<ControlState> => {
    const response = await fetch(`${endpointControl}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(await response.text());
    return await response.json();
  };
  const ask = async (method: string, path: string, body?: unknown): Promise<string> => {
    const response = await fetch(`${simulator}${path}`, {
      method,
      ...(body === undefined
        ? {}
        : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${text.slice(0, 300)}`);
    return text;
  };

  const world: World = {
    url: proxy.url,
    actor,
    sql,
    passed: proxy.passed,
    cut: proxy.cut,
    reroute: proxy.reroute,
    get problems() {
      return problems.filter((problem) => !allowed.some((pattern) => pattern.test(problem)));
    },
    allowProblems: (...patterns) => void allowed.push(...patterns),

    token: ({ scopes, ...options } = {}) =>
      signToken({
        secret: authSecret,
        sub: options.actor ?? actor,
        scope: scopes?.join(' '),
        hours: options.hours,
      }),

    async openConsole(options = {}) {
      const context = await browser.newContext({
        viewport: options.viewport ?? { width: 1280, height: 800 },
        colorScheme: options.theme ?? 'light',
        locale: options.locale ?? 'zh-CN',
        timezoneId: options.timezone ?? 'Asia/Shanghai',
        permissions: ['clipboard-read', 'clipboard-write'],
        ...options.context,
      });
      contexts.push(context);
      context.setDefaultTimeout(10_000);
      await watch(context, problems);
      if (options.lang !== undefined) await chooseLanguage(context, options.lang);
      const page = await context.newPage();
      const token = options.token ?? (await world.token({ scopes: options.scopes }));
      if (options.token !== null) await world.signIn(page, token);
      await page.goto(new URL(options.path ?? '/console/payments', proxy.url).href);
      return page;
    },

    async signIn(page, token) {
      await page.context().addCookies([
        {
          name: COOKIE,
          value: token ?? (await world.token()),
          url: proxy.url,
          httpOnly: true,
          sameSite: 'Strict',
        },
      ]);
    },

    expireSession: (page) => page.context().clearCookies({ name: COOKIE }),

    async api(path, { method = 'GET', body, headers, token } = {}) {
      const authorization = token ?? (await world.token({ actor: `${actor}-colleague` }));
      const response = await fetch(new URL(path, worker), {
        method,
        headers: {
          Authorization: `Bearer ${authorization}`,
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      const isJson = response.headers.get('Content-Type')?.startsWith('application/json') ?? false;
      const { code, message, data } = isJson
        ? Envelope.parse(JSON.parse(text))
        : { code: undefined, message: undefined, data: undefined };
      return { status: response.status, headers: response.headers, text, code, message, data };
    },

    payment: (options = {}) => insertPayment(sql, options),

    async faults(...faults) {
      await control('PUT', '', { faults });
    },
    async held(count) {
      const { held } = await control('GET', `/held?count=${count}`);
      if (held !== count) throw new Error(`${held} requests are held, not ${count}`);
    },
    async release() {
      await control('POST', '/release');
    },
    async databaseRequests(work) {
      const before = (await control('GET')).requests;
      await work();
      return (await control('GET')).requests - before;
    },

    simulator: {
      url: simulator,
      ask,
      async next(word) {
        await ask('PUT', '/next', word);
      },
    },
  };

  const close = async () => {
    await Promise.all(contexts.map((context) => context.close()));
    await sql.end();
    await control('DELETE');
    await ask('PUT', '/control/faults', { faults: [] });
    await ask('POST', '/control/release');
    await proxy.stop();
  };
  return { world, contexts, close };
}

/** Collects what every page of the context does wrong, those that it opens itself included. */
async function watch(context: BrowserContext, problems: string[]): Promise<void> {
  context.on('console', (message) => {
    if (message.type() !== 'error') return;
    const { url } = message.location();
    problems.push(`console: ${message.text()}${url === '' ? '' : ` (${url})`}`);
  });
  context.on('weberror', (error) =>
    problems.push(`thrown: ${error.error().stack ?? error.error()}`),
  );
  context.on('page', (page) => page.on('crash', () => problems.push('the page has crashed')));
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => {
      const { effectiveDirective, blockedURI, sample, sourceFile, lineNumber } = event;
      console.error(
        `securitypolicyviolation of ${effectiveDirective}: ${blockedURI} ${sample} at ${sourceFile}:${lineNumber}`,
      );
    });
  });
}

/** Only at first: what a test then chooses on the page stays chosen. */
async function chooseLanguage(context: BrowserContext, lang: string): Promise<void> {
  await context.addInitScript(
    ([key, value]) => {
      if (key && value && localStorage.getItem(key) === null) localStorage.setItem(key, value);
    },
    [LANGUAGE_KEY, lang],
  );
}

const Ids = z.array(z.object({ id: z.string() }));

/** One transaction. Triggers keep sums and totals, as they do for the payment module. */
async function insertPayment(sql: pg.Client, options: PaymentOptions): Promise<MadePayment> {
  const unique = randomBytes(6).toString('hex').toUpperCase();
  const { status = 1, order_no = `ORD${unique}`, payment_no = `PAY${unique}` } = options;
  const createdAt = new Date(options.created_at ?? Date.now());
  const later = (seconds: number) => new Date(createdAt.getTime() + seconds * 1000).toISOString();
  const orderId = String(2n ** 53n + BigInt(`0x${unique}`));
  const isPaid = status === 1;
  const insert = async (statement: string, values: unknown[]): Promise<string> => {
    const { rows } = await sql.query(`${statement} RETURNING id::text`, values);
    const [row] = Ids.parse(rows);
    if (row === undefined) throw new Error('nothing was inserted');
    return row.id;
  };
  await sql.query('BEGIN');
  try {
    await sql.query('INSERT INTO orders (id, order_no) VALUES ($1, $2)', [orderId, order_no]);
    const id = await insert(
      `INSERT INTO payments (order_id, payment_no, payment_method, amount, status, payment_time, created_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7)`,
      [
        orderId,
        payment_no,
        options.method ?? 'bank',
        options.amount ?? '100.00',
        status,
        isPaid ? later(0) : null,
        later(0),
      ],
    );
    const callbackNos = Array.from(
      { length: options.callbacks ?? (isPaid ? 1 : 0) },
      (_, index) => `CB${unique}${index + 1}`,
    );
    for (const callbackNo of callbackNos) {
      await insert(
        'INSERT INTO payment_callbacks (payment_id, callback_no, status, created_at) VALUES ($1, $2, 1, $3)',
        [id, callbackNo, later(0)],
      );
    }
    const refunds = [];
    for (const [index, refund] of (options.refunds ?? []).entries()) {
      const refundNo = `RF${unique}${index + 1}`;
      const refundId = await insert(
        `INSERT INTO payment_refunds (payment_id, refund_no, amount, reason, status, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)`,
        [id, refundNo, refund.amount, refund.reason ?? '补差价', refund.status ?? 0, later(index)],
      );
      refunds.push({ id: refundId, refund_no: refundNo });
    }
    await sql.query('COMMIT');
    return { id, order_no, payment_no, refunds, callback_nos: callbackNos };
  } catch (error) {
    await sql.query('ROLLBACK');
    throw error;
  }
}

async function logSize(): Promise<number> {
  return (await stat(stackOrThrow().logFile)).size;
}

async function logSince(size: number): Promise<string> {
  return (await readFile(stackOrThrow().logFile)).subarray(size).toString();
}

async function takePictures(contexts: BrowserContext[], name: string): Promise<void> {
  await mkdir(PICTURES, { recursive: true });
  for (const [index, page] of contexts.flatMap((context) => context.pages()).entries()) {
    const path = join(PICTURES, `${name.replaceAll(/[^\p{L}\d]+/gu, '-')}-${index + 1}.png`);
    await page.screenshot({ path }).catch(() => {});
    console.log(`What it looked like: ${path}`);
  }
}
