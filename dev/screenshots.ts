/**
 * `npm run screenshots`: pictures of every page, desktop and phone, light and dark, into dist/screenshots, and the
 * README's few into docs/pictures. It starts all it needs over sample data, and removes it.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { type Browser, chromium, type Page } from 'playwright-core';
import { z } from 'zod';
import { launchChromium } from './chromium.ts';
import { toPalette } from './palette-png.ts';
import { SetupError } from './setup-error.ts';
import { startTemporaryStack, type TemporaryStack } from './temporary-stack.ts';
import { signToken } from './token.ts';

const ROOT = join(import.meta.dirname, '..');
const ALL = join(ROOT, 'dist', 'screenshots');
const CHOSEN = join(ROOT, 'docs', 'pictures');
const MAX_CHOSEN_BYTES = 120_000;

const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const ACTOR = '客服 小王';
const THEMES = ['light', 'dark'] as const;

/** In docs/pictures, by the names of all. */
const CHOSEN_NAMES: Record<string, string> = {
  'list-desktop-light': 'list',
  'detail-desktop-light': 'detail',
  'refund-phone-light': 'refund-phone',
  'statistics-desktop-light': 'statistics',
  'list-desktop-dark': 'list-dark',
};

interface Picture {
  name: string;
  path: string;
  /** There when the page is whole. */
  shown: string;
  /** What is done before the picture. */
  act?: (page: Page) => Promise<void>;
  /** Not signed in. */
  signedOut?: true;
}

const Found = z.array(z.object({ id: z.string(), order_no: z.string().nullable() }));
const Made = z.object({ data: z.object({ id: z.string() }) });

const parts: { stop(): Promise<unknown> }[] = [];
try {
  await takeAll();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  for (let part = parts.pop(); part; part = parts.pop()) await part.stop();
}

async function takeAll(): Promise<void> {
  const browser = await launchChromium((options) => chromium.launch(options));
  parts.push({ stop: () => browser.close() });
  await requireChinese(browser);
  const stack = await startTemporaryStack('payments-screenshots-', (part) => void parts.push(part));
  const pictures = await choosePictures(stack);
  await rm(ALL, { recursive: true, force: true });
  await mkdir(ALL, { recursive: true });
  await mkdir(CHOSEN, { recursive: true });
  const token = await signToken({ secret: stack.authSecret, sub: ACTOR });
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const theme of THEMES) {
      const context = await browser.newContext({
        viewport,
        colorScheme: theme,
        locale: 'zh-CN',
        timezoneId: 'Asia/Shanghai',
        reducedMotion: 'reduce',
        hasTouch: size === 'phone',
      });
      for (const picture of pictures) {
        const cookie = { name: 'console', url: stack.worker.url, httpOnly: true };
        if (picture.signedOut) await context.clearCookies();
        else await context.addCookies([{ ...cookie, value: token, sameSite: 'Strict' }]);
        await take({
          page: await context.newPage(),
          picture,
          stack,
          name: `${picture.name}-${size}-${theme}`,
        });
      }
      await context.close();
    }
  }
  console.log(`${ALL}\n${CHOSEN}`);
}

async function take(options: {
  page: Page;
  picture: Picture;
  stack: TemporaryStack;
  name: string;
}) {
  const { page, picture, stack, name } = options;
  await page.goto(new URL(picture.path, stack.worker.url).href);
  await page.locator(picture.shown).first().waitFor();
  await picture.act?.(page);
  // What was only now asked for, such as a gateway's log.
  await page.waitForLoadState('networkidle');
  const png = toPalette(await page.screenshot());
  await writeFile(join(ALL, `${name}.png`), png);
  const chosen = CHOSEN_NAMES[name];
  if (chosen !== undefined) {
    if (png.length > MAX_CHOSEN_BYTES) throw new Error(`${name} has ${png.length} bytes`);
    await writeFile(join(CHOSEN, `${chosen}.png`), png);
  }
  await page.close();
}

/** Without such a font every picture shows boxes: two different characters look the same. */
async function requireChinese(browser: Browser): Promise<void> {
  const page = await browser.newPage();
  const drawn = await page.evaluate<string[]>(`['支', '付'].map((text) => {
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d');
    context.font = '32px sans-serif';
    context.fillText(text, 0, 40);
    return canvas.toDataURL();
  })`);
  await page.close();
  if (drawn[0] === drawn[1]) {
    throw new SetupError(
      'No font with Chinese characters: install one, such as the package fonts-noto-cjk.',
    );
  }
}

/** Every page, over payments of the sample data, one of which gets refunds of its own by its gateway. */
async function choosePictures(stack: TemporaryStack): Promise<Picture[]> {
  const sql = new pg.Client(stack.databaseUrl);
  await sql.connect();
  parts.push({ stop: () => sql.end() });
  const find = async (condition: string) => {
    const { rows } = await sql.query(
      `SELECT id::text, (SELECT order_no FROM orders WHERE orders.id = payments.order_id)
       FROM payments WHERE ${condition} ORDER BY created_at DESC LIMIT 1`,
    );
    const [row] = Found.parse(rows);
    if (row === undefined) throw new Error(`no payment is ${condition}`);
    return row;
  };
  const several = await find(
    'status = 1 AND order_id IN (SELECT order_id FROM payments GROUP BY order_id HAVING count(*) > 1)',
  );
  const plain = await find(
    "status = 1 AND payment_method = 'alipay' AND amount > 200 AND NOT EXISTS (SELECT FROM payment_refunds WHERE payment_id = payments.id)",
  );
  const byHand = await find(
    "payment_method = 'bank' AND id IN (SELECT payment_id FROM payment_refunds WHERE status = 0)",
  );
  const byGateway = await find(
    `payment_method = 'wechat' AND status = 1 AND 60 < amount - (
       SELECT sum(refund.amount) FROM payment_refunds AS refund
       WHERE payment_id = payments.id HAVING min(refund.status) = 1)`,
  );
  const failed = await find(
    "status = 1 AND payment_method = 'wechat' AND amount > 100 AND NOT EXISTS (SELECT FROM payment_refunds WHERE payment_id = payments.id)",
  );
  // WeChat takes one refund a minute of a payment.
  await refund(stack, { id: byGateway.id, outcome: 'ABNORMAL' });
  await refund(stack, { id: failed.id, outcome: 'CLOSED' });

  const gateway = `/console/payments/${byGateway.id}`;
  const plainPath = `/console/payments/${plain.id}`;
  const press = (name: string) => async (page: Page) => {
    await page.getByRole('button', { name, exact: true }).first().click();
    await page.locator('dialog[open]').waitFor();
  };
  const detail = { path: gateway, shown: '.timeline li' };
  return [
    { name: 'list', path: '/console/payments', shown: 'tbody .badge' },
    {
      name: 'list-filtered',
      path: '/console/payments?status=1&payment_method=wechat&start_time=2026-01-01',
      shown: 'tbody .badge',
      act: async (page) => {
        const fold = page.locator('.fold');
        if (await fold.isVisible()) await fold.click();
      },
    },
    { name: 'list-empty', path: '/console/payments?order_no=ORD-NONE', shown: '.nothing' },
    {
      name: 'list-end',
      path: '/console/payments?size=20',
      shown: 'tbody .badge',
      act: (page) => page.evaluate('scrollTo(0, document.body.scrollHeight)'),
    },
    { name: 'detail', ...detail },
    {
      name: 'detail-lower',
      ...detail,
      act: (page) => page.evaluate('scrollTo(0, 700)'),
    },
    { name: 'detail-failed', path: `/console/payments/${failed.id}`, shown: '.timeline li' },
    { name: 'detail-by-hand', path: `/console/payments/${byHand.id}`, shown: '.timeline li' },
    { name: 'detail-missing', path: '/console/payments/abc', shown: '.nothing' },
    {
      name: 'refund',
      path: plainPath,
      shown: '.timeline li',
      act: async (page) => {
        await page.keyboard.press('r');
        await page.locator('dialog[open]').waitFor();
      },
    },
    {
      name: 'refund-too-much',
      path: plainPath,
      shown: '.timeline li',
      act: async (page) => {
        await page.keyboard.press('r');
        await page.locator('dialog[open] .money-field').fill('99999');
        await page.keyboard.press('Enter');
      },
    },
    {
      name: 'settle',
      path: `/console/payments/${byHand.id}`,
      shown: '.timeline li',
      act: press('标记成功'),
    },
    { name: 'abnormal', ...detail, act: press('处理异常退款') },
    { name: 'force', ...detail, act: press('强制登记') },
    { name: 'correct', ...detail, act: press('更正') },
    {
      name: 'search',
      path: `/console/search?number=${several.order_no}`,
      shown: 'tbody .badge',
    },
    { name: 'search-none', path: '/console/search?number=ORD-NONE', shown: '.nothing' },
    { name: 'refunds', path: '/console/refunds?status=0&order=oldest', shown: 'tbody .badge' },
    { name: 'attention', path: '/console/attention', shown: 'h1' },
    { name: 'statistics', path: '/console/statistics', shown: '.plot svg' },
    {
      name: 'statistics-lower',
      path: '/console/statistics',
      shown: '.plot svg',
      act: (page) => page.evaluate('scrollTo(0, 640)'),
    },
    {
      name: 'export',
      path: '/console/payments',
      shown: 'tbody .badge',
      act: async (page) => {
        await page.getByRole('button', { name: '导出 CSV' }).click();
        await page.locator('.outcome').waitFor();
      },
    },
    {
      name: 'keys',
      path: '/console/payments',
      shown: 'tbody .badge',
      act: async (page) => {
        await page.keyboard.press('?');
        await page.locator('dialog[open]').waitFor();
      },
    },
    {
      name: 'account',
      path: '/console/payments',
      shown: 'tbody .badge',
      act: (page) => page.locator('[popovertarget=account]').first().click(),
    },
    { name: 'sign-in', path: '/console/payments', shown: '#token', signedOut: true },
  ];
}

/** Refunds 60.00 of a payment by its gateway, with this outcome. */
async function refund(stack: TemporaryStack, { id, outcome }: { id: string; outcome: string }) {
  const token = await signToken({ secret: stack.authSecret, sub: ACTOR });
  await fetch(`${stack.simulator.url}/next`, { method: 'PUT', body: outcome });
  const made = await fetch(`${stack.worker.url}/payments/${id}/refund`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ amount: '60.00', reason: '收到的商品有破损' }),
  });
  if (made.status !== 201) throw new Error(await made.text());
  const { data } = Made.parse(await made.json());
  await settled(stack, data.id);
}

/** Waits until the gateway has said how it ends, or that a person has to do something. */
async function settled(stack: TemporaryStack, id: string): Promise<void> {
  const client = new pg.Client(stack.databaseUrl);
  await client.connect();
  try {
    for (let tries = 0; tries < 100; tries++) {
      const { rowCount } = await client.query(
        "SELECT FROM gateway_refunds WHERE refund_id = $1 AND state IN ('succeeded', 'failed', 'blocked')",
        [id],
      );
      if (rowCount !== 0) return;
      await sleep(300);
    }
  } finally {
    await client.end();
  }
  throw new Error(`the gateway has not settled refund ${id}`);
}
