/** How the console looks: what anybody can see and reach, in both themes, on a phone, on paper, in another zone. */
import type { Page } from 'playwright-core';
import { describe, expect, vi } from 'vitest';
import { axe, noSidewaysScroll } from './page.ts';
import { test, type World } from './world.ts';

const WIDTHS = [320, 390, 768, 1280];
/** What depends on the theme is the contrast alone. */
const LOOKS = [
  { theme: 'light', width: 1280 },
  { theme: 'dark', width: 1280, rules: ['color-contrast'] },
  { theme: 'dark', width: 390 },
  { theme: 'light', width: 390, rules: ['color-contrast'] },
] as const;
const HEIGHT = 800;

/** Once a page is whole. */
const SHOWN = {
  list: 'tbody .badge',
  detail: '.timeline li',
  statistics: '.plot svg',
} as const;

/** In both themes and both widths on the same page: no reload in between. */
async function expectAccessible(page: Page, name: string): Promise<void> {
  for (const { theme, width, ...only } of LOOKS) {
    await page.emulateMedia({ colorScheme: theme });
    await page.setViewportSize({ width, height: HEIGHT });
    const rules = 'rules' in only ? [...only.rules] : undefined;
    expect(await axe(page, rules), `${name}, ${theme}, ${width}`).toEqual([]);
  }
}

async function expectNoSidewaysScroll(page: Page): Promise<void> {
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: HEIGHT });
    await noSidewaysScroll(page);
  }
}

/** Reduced motion, so that nothing is measured while its colour changes. */
async function open(world: World, path: string, shown: string): Promise<Page> {
  const page = await world.openConsole({ path, context: { reducedMotion: 'reduce' } });
  await page.locator(shown).first().waitFor();
  return page;
}

/** A payment with a refund of each state, one of them by a gateway that needs a person. */
async function refundedPayment(world: World): Promise<string> {
  const payment = await world.payment({
    method: 'wechat',
    amount: '900.00',
    refunds: [
      { amount: '10.00', status: 0 },
      { amount: '20.00', status: 1 },
      { amount: '30.00', status: 2 },
    ],
  });
  await world.simulator.next('ABNORMAL');
  const made = await world.api(`/payments/${payment.id}/refund`, {
    method: 'POST',
    body: { amount: '60.00', reason: '收到的商品有破损' },
  });
  expect(made.status).toBe(201);
  await vi.waitFor(
    async () => {
      const { rowCount } = await world.sql.query(
        "SELECT FROM gateway_refunds JOIN payment_refunds ON id = refund_id WHERE payment_id = $1 AND state = 'blocked'",
        [payment.id],
      );
      expect(rowCount).toBe(1);
    },
    { timeout: 20_000, interval: 300 },
  );
  return payment.id;
}

describe('axe finds nothing, and nothing is wider than the page', () => {
  test('in the lists, the statistics, what needs a person, and the page to sign in', async ({
    world,
  }) => {
    const order_no = `ORD-TWICE-${Date.now()}`;
    const { id } = await world.payment({ order_no, status: 2 });
    await world.sql.query(
      `INSERT INTO payments (order_id, payment_no, payment_method, amount, status)
       SELECT order_id, payment_no || '-2', payment_method, amount, 0 FROM payments WHERE id = $1`,
      [id],
    );
    await refundedPayment(world);
    for (const [path, shown] of [
      ['/console/payments?size=20', SHOWN.list],
      [`/console/search?number=${order_no}`, SHOWN.list],
      ['/console/refunds?size=20', SHOWN.list],
      ['/console/attention', '.attention'],
      ['/console/statistics', SHOWN.statistics],
    ] as const) {
      const page = await open(world, path, shown);
      await expectAccessible(page, path);
      await expectNoSidewaysScroll(page);
      await page.context().close();
    }
    const page = await world.openConsole({ token: null });
    await page.locator('#token').waitFor();
    await expectAccessible(page, 'sign-in');
    await expectNoSidewaysScroll(page);
    world.allowProblems(/401/);
  });

  test('in a detail with refunds of each state, and each of its dialogues', async ({ world }) => {
    const id = await refundedPayment(world);
    const page = await open(world, `/console/payments/${id}`, SHOWN.detail);
    await page.locator('[data-kind=calls]').first().waitFor();
    await expectAccessible(page, 'detail');
    await expectNoSidewaysScroll(page);
    const dialog = page.locator('dialog[open]');
    for (const name of ['退款', '标记成功', '更正', '强制登记', '处理异常退款']) {
      await page.getByRole('button', { name, exact: true }).first().click();
      await dialog.waitFor();
      if (name === '处理异常退款') await dialog.getByText('付款人的另一张银行卡').click();
      await expectAccessible(page, name);
      await expectNoSidewaysScroll(page);
      await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'detached' });
    }
    world.cut({ method: 'POST', path: /refund$/ });
    await page.keyboard.press('r');
    await page.getByRole('button', { name: '协商退款' }).click();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: '结果未知' }).waitFor();
    await expectAccessible(page, 'an unknown outcome');
    await expectNoSidewaysScroll(page);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('in the help, an export, and the dialogue of an expired session', async ({ world }) => {
    const page = await open(world, '/console/payments?size=20', SHOWN.list);
    await page.keyboard.press('?');
    await page.locator('dialog[open]').waitFor();
    await expectAccessible(page, 'keys');
    await expectNoSidewaysScroll(page);
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: '导出 CSV' }).click();
    await page.locator('.export .outcome.good').waitFor();
    await expectAccessible(page, 'export');
    await expectNoSidewaysScroll(page);
    await world.expireSession(page);
    await page.getByRole('button', { name: '支付失败' }).click();
    await page.getByRole('heading', { name: '登录已过期' }).waitFor();
    await expectAccessible(page, 'expired');
    await expectNoSidewaysScroll(page);
    world.allowProblems(/401/);
  });
});

/** As long as the columns allow, without a place to break a line. */
const LONG = 'N'.repeat(255);

test('shows the longest numbers, reasons and amounts within 320 px', async ({ world }) => {
  const [{ length }] = await longest(world);
  const number = `${Date.now()}${'9'.repeat(255)}`.slice(0, length);
  const order_no = `O${number}`.slice(0, length);
  const payment = await world.payment({
    order_no,
    payment_no: `P${number}`.slice(0, length),
    amount: '99999999999999.99',
    refunds: [
      { amount: '33333333333333.33', status: 1, reason: LONG },
      { amount: '11111111111111.11', status: 0, reason: LONG },
    ],
  });
  const page = await open(world, `/console/payments/${payment.id}`, SHOWN.detail);
  await expectNoSidewaysScroll(page);
  await page.setViewportSize({ width: 320, height: HEIGHT });
  await page.keyboard.press('r');
  await page.locator('dialog[open]').waitFor();
  await page.locator('dialog textarea').fill(LONG);
  await expectNoSidewaysScroll(page);
  expect(await sideways(page, 'dialog')).toBe(0);
  for (const [path, shown] of [
    [`/console/payments?order_no=${order_no}`, SHOWN.list],
    [`/console/search?number=${order_no}`, SHOWN.list],
    ['/console/refunds?size=20&order=newest', SHOWN.list],
    ['/console/statistics', SHOWN.statistics],
  ] as const) {
    await page.goto(new URL(path, world.url).href);
    await page.locator(shown).first().waitFor();
    await expectNoSidewaysScroll(page);
  }
});

/** By how many pixels an element's content is wider than the element. */
const sideways = (page: Page, selector: string) =>
  page.locator(selector).evaluate((element) => element.scrollWidth - element.clientWidth);

/** How long the numbers may be, by the schema. */
async function longest({ sql }: World): Promise<[{ length: number }]> {
  const { rows } = await sql.query(
    `SELECT min(character_maximum_length)::integer AS length FROM information_schema.columns
     WHERE table_schema = 'public' AND (table_name, column_name) IN (('payments', 'payment_no'), ('orders', 'order_no'))`,
  );
  return [{ length: Number(rows[0].length) }];
}

test('never hides the focus under the bar', async ({ world }) => {
  const page = await open(world, '/console/payments?size=50', SHOWN.list);
  for (const width of [1280, 390]) {
    await page.setViewportSize({ width, height: HEIGHT });
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    await page.locator('.pager input').focus();
    for (let step = 0; step < 40; step++) {
      await page.keyboard.press('Shift+Tab');
      const hidden = await page.evaluate(() => {
        const focused = document.activeElement;
        if (!focused || focused.closest('.top')) return '';
        const { top, left, width: wide, height: high } = focused.getBoundingClientRect();
        const there = document.elementFromPoint(left + wide / 2, top + high / 2);
        return there?.closest('.top, th') ? focused.outerHTML.slice(0, 200) : '';
      });
      expect(hidden, `step ${step}, ${width} px`).toBe('');
    }
  }
});

test('shows the times and days of the business to a browser in New York', async ({ world }) => {
  // 23:30 of the 9th in New York's winter, noon of the 10th in Shanghai; and 16:30 UTC, the next day there.
  const late = await world.payment({ created_at: '2026-03-10T16:30:00Z' });
  const page = await world.openConsole({
    path: `/console/payments/${late.id}`,
    timezone: 'America/New_York',
  });
  const time = page.locator('.timeline time').first();
  expect(await time.innerText()).toContain('2026-03-11 00:30:00');
  expect(await time.getAttribute('title')).toContain('2026-03-10T16:30:00');
  await page.getByRole('link', { name: '退款' }).click();
  expect(await page.locator('th.created').innerText()).toContain('UTC+8');
  await page.goto(new URL('/console/payments?size=20', world.url).href);
  await page.clock.setFixedTime(new Date('2026-11-24T20:00:00Z'));
  await page.reload();
  await page.getByRole('button', { name: '今天' }).click();
  await page.waitForURL(/start_time=2026-11-25&end_time=2026-11-25/);
  await page.getByRole('button', { name: '上月' }).click();
  await page.waitForURL(/start_time=2026-10-01&end_time=2026-10-31/);
});

test('marks what cannot be seen in numbers and reasons, and isolates it', async ({ world }) => {
  const unique = Date.now();
  const payment = await world.payment({
    order_no: `O\u200b${unique}`,
    payment_no: `P\u202e${unique}`,
    refunds: [{ amount: '1.00', reason: '退\u2066款\ufeff' }],
  });
  const page = await open(world, `/console/payments/${payment.id}`, SHOWN.detail);
  for (const mark of ['U+200B', 'U+202E', 'U+2066', 'U+FEFF']) {
    await page.locator('bdi .invisible', { hasText: mark }).first().waitFor();
  }
  const raw = await page.evaluate(() =>
    [...document.body.innerText].filter((character) =>
      /[\u200b\u202e\u2066\ufeff]/.test(character),
    ),
  );
  expect(raw).toEqual([]);
  await page.goto(
    new URL(`/console/payments?order_no=${encodeURIComponent(`O\u200b${unique}`)}`, world.url).href,
  );
  await page.locator(SHOWN.list).first().waitFor();
  expect(await page.locator('main').innerText()).not.toContain('\u200b');
});

test('says the language on the page, and names page and number in the title', async ({ world }) => {
  const payment = await world.payment();
  const page = await open(world, `/console/payments/${payment.id}`, SHOWN.detail);
  const lang = () => page.evaluate(() => document.documentElement.lang);
  expect(await lang()).toBe('zh-CN');
  expect(await page.title()).toContain(payment.payment_no);
  for (const [path, word] of [
    ['/console/payments', '支付'],
    ['/console/refunds', '退款'],
    ['/console/attention', '待处理'],
    ['/console/statistics', '统计'],
    [`/console/search?number=${payment.id}`, payment.id],
  ] as const) {
    await page.goto(new URL(path, world.url).href);
    await vi.waitFor(async () => expect(await page.title()).toContain(word));
  }
  await page.getByRole('button', { name: 'Switch to English' }).click();
  await vi.waitFor(async () => expect(await lang()).toBe('en'));
  await page.reload();
  await vi.waitFor(async () => expect(await lang()).toBe('en'));
});

test('prints list and detail whole, black on white, with nothing to press', async ({ world }) => {
  const payment = await world.payment({ refunds: [{ amount: '20.00', status: 1 }] });
  for (const [path, shown] of [
    ['/console/payments?size=20', SHOWN.list],
    [`/console/payments/${payment.id}`, SHOWN.detail],
  ] as const) {
    const page = await world.openConsole({ path, theme: 'dark' });
    await page.locator(shown).first().waitFor();
    const rows = await page.locator('tbody tr, .timeline li').count();
    await page.emulateMedia({ media: 'print' });
    // A4 without its margins.
    await page.setViewportSize({ width: 718, height: 1000 });
    for (const selector of ['button', 'input', 'select', '.top', '.pager', '.filters', '.toast']) {
      expect(await page.locator(selector).locator('visible=true').count(), selector).toBe(0);
    }
    const shades = await page.evaluate(() => {
      const seen = new Set<string>();
      for (const element of document.querySelectorAll('body, main *')) {
        if (!(element instanceof HTMLElement) || !element.checkVisibility()) continue;
        const { color, backgroundColor } = getComputedStyle(element);
        seen.add(`text ${color}`);
        seen.add(`on ${backgroundColor}`);
      }
      const { backgroundColor } = getComputedStyle(document.documentElement);
      return [...seen.add(`on ${backgroundColor}`)].sort();
    });
    expect(shades).toEqual(['on rgb(255, 255, 255)', 'on rgba(0, 0, 0, 0)', 'text rgb(0, 0, 0)']);
    expect(await page.locator('tbody tr, .timeline li').locator('visible=true').count()).toBe(rows);
    await noSidewaysScroll(page);
    await page.context().close();
  }
});

test('keeps statuses readable in forced colours', async ({ world }) => {
  const page = await open(world, '/console/payments?size=20', SHOWN.list);
  await page.emulateMedia({ forcedColors: 'active' });
  const badge = page.locator(SHOWN.list).first();
  const { border, colour, background, word } = await badge.evaluate((element) => {
    const { borderTopWidth, color, backgroundColor } = getComputedStyle(element);
    const text = element.textContent ?? '';
    return { border: borderTopWidth, colour: color, background: backgroundColor, word: text };
  });
  expect(border).toBe('1px');
  expect(colour).not.toBe(background);
  expect(word).not.toBe('');
  const shape = badge.locator('svg').first();
  expect(await shape.evaluate((svg) => getComputedStyle(svg).color)).toBe(colour);
  expect(await axe(page)).toEqual([]);
});

test('keeps the chosen theme over a reload, before anything is painted', async ({ world }) => {
  const page = await open(world, '/console/payments?size=20', SHOWN.list);
  const isDark = () =>
    page.evaluate(
      () => getComputedStyle(document.documentElement).backgroundColor !== 'rgb(255, 255, 255)',
    );
  const button = page.getByRole('button', { name: /^主题/ });
  expect(await isDark()).toBe(false);
  await page.emulateMedia({ colorScheme: 'dark' });
  expect(await isDark()).toBe(true);
  await button.click();
  expect(await isDark()).toBe(false);
  await button.click();
  await page.emulateMedia({ colorScheme: 'light' });
  expect(await isDark()).toBe(true);
  // The app's own script never comes: what is painted first has the theme all the same.
  await page.route(/console\/assets\/.*\.js$/, (route) => route.abort());
  await page.reload({ waitUntil: 'commit' });
  await page.locator('#console').waitFor({ state: 'attached' });
  expect(await page.evaluate(() => document.documentElement.dataset.theme)).toBe('dark');
  expect(await isDark()).toBe(true);
  await page.unroute(/console\/assets\/.*\.js$/);
  await page.reload();
  await button.click();
  expect(await isDark()).toBe(false);
  expect(await page.evaluate(() => localStorage.getItem('console-theme'))).toBe(null);
  world.allowProblems(/ERR_FAILED/);
});
