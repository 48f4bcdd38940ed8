/**
 * The console in a browser, over the development server. Measures how much it loads and how soon the list is there,
 * also on a slow line and machine. Measures what moves meanwhile, and what it adds to the API's time for a page.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type CDPSession, chromium, type Page } from 'playwright-core';
import { launchChromium } from '../dev/chromium.ts';
import { consoleSize } from '../dev/console-size.ts';
import { buildConsole } from '../dev/temporary-stack.ts';
import { signToken } from '../dev/token.ts';
import { startWorker } from '../dev/worker.ts';
import { fill } from './data.ts';
import { median, ms, type Result, type Section, type Stack, send } from './stack.ts';

const DATABASE = 'bench_console';
const FIRST_PORT = 9_787;
const PAGE_SIZE = 50;
const KB = 1_000;
const LIMITS = { firstKb: 50, laterKb: 25, warmMs: 500, slowMs: 1_000, shift: 0.05, taskMs: 100 };
/** What the console may add to the API's time. */
const ADDED_MS = 60;
/** 1.6 Mbit/s. */
const SLOW_BYTES_PER_SECOND = 200_000;
const SLOW_LATENCY_MS = 150;
const SLOW_PROCESSOR = 4;

/** Measures with the `rows` newest payments of three years. */
export async function measureConsole(stack: Stack, rows: number, quick: boolean): Promise<Section> {
  const rounds = quick ? 5 : 9;
  const assets = join(stack.folder, 'console');
  await buildConsole(assets);
  const { firstBytes, later } = await consoleSize(assets);
  const client = await stack.createDatabase(DATABASE);
  await fill(client, rows);
  const { rows: found } = await client.query<{ name: string }>(
    'SELECT count(*)::text AS name FROM payments',
  );
  const authSecret = randomBytes(32).toString('hex');
  const worker = await startWorker({
    root: join(import.meta.dirname, '..'),
    folder: join(stack.folder, 'console-worker'),
    port: FIRST_PORT,
    databaseUrl: stack.connectionString(DATABASE),
    endpoint: stack.endpointUrl,
    authSecret,
    assets,
    onLine: () => {},
  });
  const browser = await launchChromium((options) => chromium.launch(options));
  try {
    await worker.healthy();
    const token = await signToken({ secret: authSecret });
    const openPage = async () => {
      const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
      const cookie = { name: 'console', value: token, url: worker.url, httpOnly: true };
      await context.addCookies([{ ...cookie, sameSite: 'Strict' }]);
      await context.addInitScript(WATCH);
      return await context.newPage();
    };
    const list = new URL('/console/payments', worker.url).href;
    const page = await openPage();
    const warm = await timeLoads(page, list, rounds);
    const back = await goBack(page, rounds);
    const deep = await timePages({ page, url: worker.url, token, rows, rounds });

    await slowDown(await page.context().newCDPSession(page));
    const slow = await timeLoads(page, list, rounds);
    const firstVisits: Load[] = [];
    for (let round = 0; round < rounds; round++) {
      const visitor = await openPage();
      await slowDown(await visitor.context().newCDPSession(visitor));
      firstVisits.push(await load(visitor, () => visitor.goto(list)));
      await visitor.context().close();
    }
    const longest = Math.max(...[...slow, ...firstVisits].map(({ task }) => task));
    const shift = Math.max(...[...warm, ...slow, ...firstVisits].map((one) => one.shift));
    const largest = later[0] ?? { name: '', bytes: 0 };
    return {
      title: 'The console',
      heads: ['console', 'API alone'],
      results: [
        {
          name: 'first load, gzip',
          ours: kb(firstBytes),
          goal: goal(`≤ ${LIMITS.firstKb} KB`, firstBytes <= LIMITS.firstKb * KB),
        },
        {
          name: `largest later part, gzip (${largest.name.replace(/-.*/, '')})`,
          ours: kb(largest.bytes),
          goal: goal(`≤ ${LIMITS.laterKb} KB`, largest.bytes <= LIMITS.laterKb * KB),
        },
        timed('list shown, reload', warm, LIMITS.warmMs),
        timed('list shown, reload, slowed', slow, LIMITS.slowMs),
        {
          name: 'list shown, first visit, slowed',
          ours: ms(median(firstVisits.map(({ at }) => at))),
        },
        {
          name: 'layout shift, the most of all loads',
          ours: shift.toFixed(3),
          goal: goal(`≤ ${LIMITS.shift}`, shift <= LIMITS.shift),
        },
        {
          name: 'longest task, slowed',
          ours: longest === 0 ? '< 50 ms' : ms(longest),
          goal: goal(`≤ ${LIMITS.taskMs} ms`, longest <= LIMITS.taskMs),
        },
        {
          name: 'back to the list: frames without its rows',
          ours: String(Math.max(...back.map(({ frames }) => frames))),
          goal: goal(
            '0',
            back.every(({ frames }) => frames === 0),
          ),
        },
        {
          name: 'back to the list: pixels scrolled away',
          ours: String(Math.max(...back.map(({ moved }) => moved))),
          goal: goal(
            '≤ 1',
            back.every(({ moved }) => moved <= 1),
          ),
        },
        ...deep.map(({ name, ours, api }): Result => {
          const added = median(ours.map((value, round) => value - (api[round] ?? Number.NaN)));
          return {
            name,
            ours: ms(median(ours)),
            beside: ms(median(api)),
            goal: goal(`API + ≤ ${ADDED_MS} ms (is ${added.toFixed(0)})`, added <= ADDED_MS),
          };
        }),
      ],
      notes: [
        `${found[0]?.name} payments; ${rounds} rounds, medians; Chromium ${browser.version()}, headless, over \`wrangler dev\`, which the API alone goes through too.`,
        `Slowed: processor ${SLOW_PROCESSOR} ×, ${SLOW_LATENCY_MS} ms of latency, 1.6 Mbit/s. A reload has the files in the browser's cache and asks for the page, the session and the list; a first visit has nothing.`,
        'Shown: the frame after the rows are in the document. Chromium reports tasks from 50 ms on.',
        'A page of the list: from the click to the frame with its rows. No page is asked for twice, so none is remembered.',
      ],
      raw: {
        'list shown, reload, ms': warm.map(({ at }) => at),
        'list shown, reload, slowed, ms': slow.map(({ at }) => at),
        'list shown, first visit, slowed, ms': firstVisits.map(({ at }) => at),
        'longest task, slowed, ms': slow.map(({ task }) => task),
        'longest task, first visit, slowed, ms': firstVisits.map(({ task }) => task),
        ...Object.fromEntries(
          deep.flatMap(({ name, ours, api }) => [
            [`${name}, console, ms`, ours],
            [`${name}, API alone, ms`, api],
          ]),
        ),
      },
    };
  } finally {
    await browser.close();
    await worker.stop();
    await stack.dropDatabase(client);
  }
}

const goal = (text: string, met: boolean) => ({ text, met });

function kb(bytes: number): string {
  return `${(bytes / KB).toFixed(1)} KB`;
}

function timed(name: string, loads: Load[], limit: number): Result {
  const time = median(loads.map(({ at }) => at));
  return { name, ours: ms(time), goal: goal(`≤ ${limit} ms`, time <= limit) };
}

/** What the browser itself tells of a load. In the page, from its beginning. */
const WATCH = `
  window.measured = { at: 0, shift: 0, task: 0 };
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) measured.shift += entry.value;
  }).observe({ type: 'layout-shift', buffered: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) measured.task = Math.max(measured.task, entry.duration);
  }).observe({ type: 'longtask', buffered: true });
  window.shown = new Promise((resolve) => {
    const observer = new MutationObserver(() => {
      if (!document.querySelector('tbody .badge')) return;
      observer.disconnect();
      requestAnimationFrame(() => requestAnimationFrame(() => {
        measured.at = performance.now();
        resolve();
      }));
    });
    observer.observe(document, { childList: true, subtree: true });
  });
`;

interface Load {
  /** Milliseconds from the navigation to the rows. */
  at: number;
  /** The sum of all shifts. */
  shift: number;
  /** Milliseconds of the longest task; 0 where none took 50. */
  task: number;
}

async function load(page: Page, navigate: () => Promise<unknown>): Promise<Load> {
  await navigate();
  await page.evaluate('shown');
  // What still moves behind the rows.
  await page.waitForTimeout(500);
  return await page.evaluate<Load>('measured');
}

async function timeLoads(page: Page, url: string, rounds: number): Promise<Load[]> {
  await load(page, () => page.goto(url));
  const loads: Load[] = [];
  for (let round = 0; round < rounds; round++) loads.push(await load(page, () => page.reload()));
  return loads;
}

async function slowDown(session: CDPSession): Promise<void> {
  await session.send('Emulation.setCPUThrottlingRate', { rate: SLOW_PROCESSOR });
  await session.send('Network.enable');
  await session.send('Network.emulateNetworkConditions', {
    offline: false,
    latency: SLOW_LATENCY_MS,
    downloadThroughput: SLOW_BYTES_PER_SECOND,
    uploadThroughput: SLOW_BYTES_PER_SECOND,
  });
}

/** From a detail back to where the list was left. Counts the frames that show the list's address without its rows. */
async function goBack(page: Page, rounds: number): Promise<{ frames: number; moved: number }[]> {
  const results: { frames: number; moved: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    const scrolled = await page.evaluate<number>('scrollTo(0, 700), scrollY');
    await page.evaluate(`document.querySelectorAll('tbody a')[${20 + round}].click()`);
    await page.locator('.timeline li').first().waitFor();
    const { frames, top } = await page.evaluate<{ frames: number; top: number }>(`
      new Promise((resolve) => {
        let frames = 0;
        const look = () => {
          const there = location.pathname === '/console/payments';
          if (there && document.querySelector('tbody .badge')) {
            // The browser scrolls when the page has said that it is whole.
            setTimeout(() => resolve({ frames, top: scrollY }), 200);
            return;
          }
          if (there) frames += 1;
          requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
        history.back();
      })`);
    results.push({ frames, moved: Math.abs(top - scrolled) });
  }
  return results;
}

/** A page of the list by a link, in turns with the same page by the API alone. */
async function timePages(options: {
  page: Page;
  url: string;
  token: string;
  rows: number;
  rounds: number;
}): Promise<{ name: string; ours: number[]; api: number[] }[]> {
  const { page, url, token, rows, rounds } = options;
  const results = [];
  for (const [name, place] of [
    ['page 1', 0],
    ['middle page', 0.5],
    ['last page', 1],
  ] as const) {
    const ours: number[] = [];
    const api: number[] = [];
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      // Another size each time is another page, which nobody remembers.
      const size = PAGE_SIZE + (round % 2 === 0 ? -round : round);
      const number = Math.max(1, Math.ceil((rows / size) * place));
      const query = `?page=${number}&size=${size}`;
      const shown = await page.evaluate<number>(`
        new Promise((resolve) => {
          const began = performance.now();
          navigation.navigate('/console/payments${query}');
          const look = () => {
            const table = document.querySelector('.table');
            const isShown = location.search === '${query}' && table?.getAttribute('aria-busy') === 'false';
            if (isShown) resolve(performance.now() - began);
            else requestAnimationFrame(look);
          };
          requestAnimationFrame(look);
        })`);
      const began = performance.now();
      await send({
        url: new URL(`/payments${query}`, url),
        headers: { authorization: `Bearer ${token}` },
      });
      if (round === 0) continue;
      ours.push(shown);
      api.push(performance.now() - began);
    }
    results.push({ name, ours, api });
  }
  return results;
}
