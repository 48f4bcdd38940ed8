/** Addresses: wrong ones, the way to others, and pages whose code does not come. */
import type { Page } from 'playwright-core';
import { describe, expect, vi } from 'vitest';
import { test, type World } from './world.ts';

const rows = (page: Page) => page.locator('table.payments tbody:not(.skeleton) tr');
const heading = (page: Page, name: string) => page.getByRole('heading', { name, exact: true });
const says = (page: Page, text: string | RegExp) =>
  page.getByText(text).filter({ visible: true }).first().waitFor();

/** What the pages have asked the API for. */
const asked = (world: World, pattern: RegExp) =>
  world.passed.map(({ path }) => path).filter((path) => pattern.test(path));

/** What was asked before it has reached the Worker by then. */
const settle = (page: Page) =>
  page.evaluate(() => fetch('/health').then((answer) => answer.text()));

async function openList(world: World): Promise<Page> {
  const page = await world.openConsole();
  await rows(page).first().waitFor();
  return page;
}

describe('a wrong address', () => {
  for (const id of ['%zz', 'export', 'statistics', '12345678901234567890']) {
    test(`/console/payments/${id} is no payment, and asks for nothing else`, async ({ world }) => {
      const page = await world.openConsole({ path: `/console/payments/${id}` });
      await heading(page, '支付记录不存在').waitFor();
      await settle(page);
      expect(asked(world, /^\/payments/)).toEqual([]);
    });
  }

  for (const list of ['payments', 'refunds']) {
    test(`of the list of ${list} with a size that is too large says so`, async ({ world }) => {
      const page = await world.openConsole({ path: `/console/${list}?size=300000` });
      await page.getByRole('alert').filter({ hasText: '地址中的参数有误：size' }).waitFor();
      expect(await page.locator('tbody tr').count()).toBe(0);
      await page.getByRole('alert').getByRole('link', { name: '清除筛选' }).click();
      await page.locator('tbody:not(.skeleton) tr').first().waitFor();
      world.allowProblems(/status of 400/);
    });
  }

  test('of a page behind the last one says how many there are', async ({ world }) => {
    const page = await world.openConsole({ path: '/console/payments?page=99999' });
    await says(page, /^这一页没有记录；共 [\d,]+ 页$/);
    await page.getByRole('link', { name: '上一页' }).click();
    await rows(page).first().waitFor();
  });

  test('of the console has a way out', async ({ world }) => {
    const page = await world.openConsole({ path: '/console/nonsense' });
    await heading(page, '没有这个页面').waitFor();
    await page.getByRole('main').getByRole('link', { name: '支付' }).click();
    await rows(page).first().waitFor();
  });
});

describe('a late answer of the search', () => {
  /** A number is being searched, and its answer is held. */
  async function search(world: World, page: Page, number: string): Promise<void> {
    await world.faults({ hold: 'before' });
    await page.getByLabel('搜索单号').fill(number);
    await page.keyboard.press('Enter');
    await world.held(1);
  }

  test('carries nobody away from another page', async ({ world }) => {
    const payment = await world.payment();
    const page = await openList(world);
    await search(world, page, payment.payment_no);
    await page.getByRole('link', { name: '统计', exact: true }).click();
    await heading(page, '统计').waitFor();
    const answered = page.waitForResponse(/\/lookup/);
    await world.release();
    await (await answered).finished();
    await settle(page);
    expect(new URL(page.url()).pathname).toBe('/console/statistics');
  });

  test('carries nobody away from a dialogue', async ({ world }) => {
    const [payment, other] = [await world.payment(), await world.payment()];
    const path = `/console/payments/${payment.id}`;
    const page = await world.openConsole({ path });
    const refund = page.getByRole('button', { name: '退款', exact: true });
    await refund.waitFor();
    await search(world, page, other.payment_no);
    await refund.click();
    await page.getByLabel('退款金额').fill('12.34');
    const answered = page.waitForResponse(/\/lookup/);
    await world.release();
    await (await answered).finished();
    await settle(page);
    expect(await page.getByLabel('退款金额').inputValue()).toBe('12.34');
    expect(new URL(page.url()).pathname).toBe(path);
  });
});

describe('a page whose code does not come', () => {
  const CODE = /\/assets\/statistics-[^/]+\.js$/;

  test('is loaded anew once, and then says so', async ({ world }) => {
    const page = await openList(world);
    const cut = world.cut({ path: CODE, lose: 'request', times: 99 });
    const loads: string[] = [];
    page.on('load', () => loads.push(page.url()));
    await page.getByRole('link', { name: '统计', exact: true }).click();
    const bar = page.getByRole('alert').filter({ hasText: '暂时没有得到答复' });
    await bar.waitFor();
    expect(loads).toHaveLength(1);
    cut.heal();
    await bar.getByRole('button', { name: '重试' }).click();
    await heading(page, '统计').waitFor();
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('is offered as a new version where a dialogue is open', async ({ world }) => {
    const page = await openList(world);
    const cut = world.cut({ path: CODE, lose: 'request', times: 99 });
    await page.keyboard.press('?');
    const dialog = page.getByRole('dialog', { name: '快捷键' });
    await dialog.waitFor();
    const before = await page.evaluate(() => performance.timeOrigin);
    await page.evaluate(() => location.assign('/console/statistics'));
    const bar = page.getByRole('status').filter({ hasText: '有新版本' });
    await page.getByText('有新版本').waitFor();
    expect(await dialog.isVisible()).toBe(true);
    expect(await page.evaluate(() => performance.timeOrigin)).toBe(before);
    cut.heal();
    await page.keyboard.press('Escape');
    await bar.getByRole('button', { name: '刷新' }).click();
    await heading(page, '统计').waitFor();
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });
});

describe('dates', () => {
  test('ask for no year that is still being typed', async ({ world }) => {
    const page = await world.openConsole({
      path: '/console/payments?start_time=2026-01-02&end_time=2026-12-31',
    });
    const field = page.getByLabel('从', { exact: true });
    // As Chromium does while 2025 is typed. Where in the field the year stands depends on the machine.
    for (const year of ['0002', '0020', '0202', '2025']) {
      await field.evaluate((input: HTMLInputElement, value) => {
        input.value = value;
        input.dispatchEvent(new Event('change', { bubbles: true }));
      }, `${year}-01-02`);
      await settle(page);
    }
    await vi.waitFor(() => expect(asked(world, /start_time=2025-01-02/)).toHaveLength(1));
    expect(asked(world, /start_time=0/)).toEqual([]);
    expect(new URL(page.url()).searchParams.get('start_time')).toBe('2025-01-02');
  });

  test('of statistics are both shown where the address has the last one only', async ({
    world,
  }) => {
    const page = await world.openConsole({ path: '/console/statistics?end_time=2026-03-31' });
    await says(page, '2026-03-02 – 2026-03-31');
    expect(await page.getByLabel('从', { exact: true }).inputValue()).toBe('2026-03-02');
    expect(await page.getByLabel('到', { exact: true }).inputValue()).toBe('2026-03-31');
    expect(asked(world, /^\/payments\/statistics/)).toEqual([
      '/payments/statistics?start_time=2026-03-02&end_time=2026-03-31',
    ]);
  });
});

test('a row that is clicked with Control opens in a new tab', async ({ world }) => {
  const page = await openList(world);
  const popup = page.context().waitForEvent('page');
  await rows(page)
    .first()
    .locator('td.amount')
    .first()
    .click({ modifiers: ['Control'] });
  const tab = await popup;
  await tab.getByRole('heading', { name: /^支付 / }).waitFor();
  expect(new URL(tab.url()).pathname).toMatch(/^\/console\/payments\/\d+$/);
  expect(new URL(page.url()).pathname).toBe('/console/payments');
});
