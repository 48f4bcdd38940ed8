/**
 * What support and finance do all day, by keyboard alone, in exactly as many acts as the design promises. Moving the
 * focus is no act; page.ts limits how far it may have to go.
 */
import { text } from 'node:stream/consumers';
import type { Page } from 'playwright-core';
import { expect, vi } from 'vitest';
import { type Acts, pressCounted } from './page.ts';
import { test, type World } from './world.ts';

/** What the design counts from: the list of payments, shown. */
async function openList(world: World, path = '/console/payments'): Promise<[Page, Acts]> {
  const page = await world.openConsole({ path });
  await rows(page).first().waitFor();
  return [page, pressCounted(page)];
}

const rows = (page: Page) => page.locator('table.payments tbody:not(.skeleton) tr');
const searchBox = (page: Page) => page.getByLabel('搜索单号');
const button = (page: Page, name: string | RegExp) =>
  page.getByRole('button', { name, exact: true });
const detailOf = (page: Page, paymentNo: string) =>
  page.getByRole('heading', { name: `支付 ${paymentNo}` });

/** Finds a payment by a number of it, from the list. */
async function find(world: World, number: string, paymentNo: string): Promise<number> {
  const [page, acts] = await openList(world);
  await acts.moveTo(searchBox(page));
  await acts.paste(number);
  await acts.press('Enter');
  await detailOf(page, paymentNo).waitFor();
  return acts.count;
}

test('finds a payment by its order number in 2 acts', async ({ world }) => {
  const payment = await world.payment();
  expect(await find(world, payment.order_no, payment.payment_no)).toBe(2);
});

test("finds a payment by its gateway's number in 2 acts", async ({ world }) => {
  const payment = await world.payment();
  const [callbackNo = ''] = payment.callback_nos;
  expect(await find(world, callbackNo, payment.payment_no)).toBe(2);
});

test('finds a payment by the number of a refund in 2 acts', async ({ world }) => {
  const payment = await world.payment({ refunds: [{ amount: '10.00' }] });
  const [refund] = payment.refunds;
  // As it is copied from our CSV, whose ' keeps spreadsheets from calculating.
  expect(await find(world, `'${refund?.refund_no}\t`, payment.payment_no)).toBe(2);
});

test('refunds all that is left, from the list, in 4 acts', async ({ world }) => {
  const payment = await world.payment({ refunds: [{ amount: '30.00', status: 1 }] });
  const [page, acts] = await openList(world);
  await acts.moveTo(page.getByRole('link', { name: payment.payment_no }), 'j');
  await acts.press('Enter');
  await button(page, '退款').waitFor();
  await acts.press('r');
  await acts.choose(button(page, '客户取消订单'));
  await vi.waitFor(async () => {
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('退款 ¥70.00');
  });
  await acts.press('Enter');
  await page.getByText('已创建退款 ¥70.00').waitFor();
  expect(acts.count).toBe(4);
  expect(await refundsOf(world, payment.id)).toEqual(['30.00', '70.00']);
});

test('refunds a part in 5 acts', async ({ world }) => {
  const payment = await world.payment();
  const [page, acts] = await openList(world);
  await acts.moveTo(page.getByRole('link', { name: payment.payment_no }), 'j');
  await acts.press('Enter');
  await button(page, '退款').waitFor();
  await acts.press('r');
  await page.getByRole('dialog', { name: '退款' }).waitFor();
  await acts.type('12.34');
  await acts.choose(button(page, '协商退款'));
  await acts.press('Enter');
  await page.getByText('已创建退款 ¥12.34').waitFor();
  expect(acts.count).toBe(5);
  expect(await refundsOf(world, payment.id)).toEqual(['12.34']);
});

test("counts and sums yesterday's successes by WeChat in 3 acts, and exports exactly those in 1 more", async ({
  world,
}) => {
  const { sql } = world;
  const day = `(date_trunc('day', now() AT TIME ZONE 'Asia/Shanghai') - interval '1 day')`;
  const ofYesterday = `created_at >= ${day} AT TIME ZONE 'Asia/Shanghai'
    AND created_at < (${day} + interval '1 day') AT TIME ZONE 'Asia/Shanghai'`;
  const edge = await sql.query<{ first: string }>(
    `SELECT to_char(${day} AT TIME ZONE 'Asia/Shanghai' AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS first`,
  );
  const first = edge.rows[0]?.first ?? '';
  // The first instant of the day is in, the one before it is not.
  await world.payment({ method: 'wechat', amount: '1234.56', created_at: first });
  const before = new Date(Date.parse(first) - 1).toISOString();
  await world.payment({ method: 'wechat', amount: '9.99', created_at: before });
  const expected = await sql.query<{ payment_no: string; amount: string }>(
    `SELECT payment_no, amount::text FROM payments
     WHERE status = 1 AND payment_method = 'wechat' AND ${ofYesterday} ORDER BY payment_no`,
  );
  const sum = await sql.query<{ text: string }>(
    `SELECT '¥' || to_char(sum(amount), 'FM999,999,999,990.00') AS text FROM payments
     WHERE status = 1 AND payment_method = 'wechat' AND ${ofYesterday}`,
  );

  const [page, acts] = await openList(world);
  await acts.choose(button(page, '支付成功'));
  await acts.choose(button(page, '微信支付'));
  await acts.choose(button(page, '昨天'));
  const total = `共 ${expected.rows.length} 笔，合计 ${sum.rows[0]?.text}`;
  await page.getByRole('status').filter({ hasText: total }).waitFor();
  expect(acts.count).toBe(3);

  const download = page.waitForEvent('download');
  await acts.choose(button(page, '导出 CSV'));
  const file = await download;
  await page.getByText(`完整，${expected.rows.length} 条`).waitFor();
  expect(acts.count).toBe(4);
  expect(file.suggestedFilename()).toMatch(/^payments-\d+\.csv$/);
  const lines = (await text(await file.createReadStream())).trimEnd().split('\r\n').slice(1);
  expect(lines.pop()).toContain(`# 共 ${expected.rows.length} 条`);
  const exported = lines.map((line) => expected.rows.find((row) => line.includes(row.payment_no)));
  expect(exported.map((row) => row?.payment_no).sort()).toEqual(
    expected.rows.map((row) => row.payment_no),
  );
});

test('goes back to the same row and scroll position in 1 act', async ({ world }) => {
  const [page, acts] = await openList(world, '/console/payments?status=1&payment_method=alipay');
  const link = rows(page).nth(11).getByRole('link');
  await acts.moveTo(link, 'j');
  const scrolled = await page.evaluate(() => scrollY);
  expect(scrolled).toBeGreaterThan(100);
  const address = page.url();
  const number = (await link.textContent()) ?? '';
  await acts.press('Enter');
  await button(page, '刷新').waitFor();

  const back = pressCounted(page);
  // The focus is on the heading, and the link stands before it.
  await back.moveTo(page.getByRole('link', { name: '返回列表' }), 'Shift+Tab');
  await back.press('Enter');
  await vi.waitFor(async () => {
    expect(page.url()).toBe(address);
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe(number);
    expect(await page.evaluate(() => scrollY)).toBe(scrolled);
  });
  expect(back.count).toBe(1);
});

test('settles 20 refunds in 4 acts', async ({ world }) => {
  const { sql } = world;
  // Of what is settled by hand, nothing else waits.
  await sql.query(
    `UPDATE payment_refunds SET status = 2 WHERE status = 0
     AND NOT EXISTS (SELECT FROM gateway_refunds WHERE refund_id = payment_refunds.id)`,
  );
  const createdAt = new Date(Date.now() - 80 * 86_400_000).toISOString();
  const ids: string[] = [];
  for (let index = 0; index < 20; index++) {
    const { refunds } = await world.payment({
      created_at: createdAt,
      refunds: [{ amount: '12.50' }],
    });
    ids.push(...refunds.map(({ id }) => id));
  }

  const [page, acts] = await openList(world);
  await acts.choose(page.getByRole('link', { name: '退款', exact: true }), 'Enter');
  const header = page.getByRole('checkbox', { name: '选择本页全部' });
  await header.waitFor();
  await acts.moveTo(page.locator('table.work-list tbody input').first(), 'j');
  await acts.moveTo(header, 'Shift+Tab');
  await acts.press('Space');
  await button(page, '标记成功 20 笔').waitFor();
  await acts.moveTo(button(page, '标记成功 20 笔'), 'Shift+Tab');
  await acts.press('Enter');
  await page.getByRole('dialog', { name: '标记为成功' }).getByText('20 笔，合计 ¥250.00').waitFor();
  await acts.press('Enter');
  await page.getByText('登记完成，已登记 20 笔').waitFor();
  expect(acts.count).toBe(4);
  const settled = await sql.query('SELECT FROM payment_refunds WHERE id = ANY($1) AND status = 1', [
    ids,
  ]);
  expect(settled.rowCount).toBe(20);
});

async function refundsOf({ sql }: World, paymentId: string): Promise<string[]> {
  const { rows: found } = await sql.query<{ amount: string }>(
    'SELECT amount::text FROM payment_refunds WHERE payment_id = $1 ORDER BY id',
    [paymentId],
  );
  return found.map(({ amount }) => amount);
}
