/** The work list of refunds, where several are settled at once, and the page of what needs a person. */
import type { Locator, Page } from 'playwright-core';
import { describe, expect, vi } from 'vitest';
import { test, type World } from './world.ts';

const button = (within: Page | Locator, name: string | RegExp) =>
  within.getByRole('button', { name, exact: true });
const boxes = (page: Page) => page.locator('table.work-list tbody input');
const header = (page: Page) => page.getByRole('checkbox', { name: '选择本页全部' });
const says = (within: Page | Locator, text: string | RegExp) =>
  within.getByText(text).filter({ visible: true }).first().waitFor();

interface Made {
  id: string;
  refund_no: string;
  paymentId: string;
}

/** Payments by bank, a refund of ¥10.00 each, of a business day that nothing else has. Their list's address. */
async function makeRefunds(
  world: World,
  count: number,
  { status = 0 }: { status?: 0 | 2 } = {},
): Promise<{ made: Made[]; path: string }> {
  const offset = Math.floor(Math.random() * 7_000);
  const day = new Date(Date.UTC(2000, 0, 1) + offset * 86_400_000).toISOString().slice(0, 10);
  const made: Made[] = [];
  for (let index = 0; index < count; index++) {
    const payment = await world.payment({
      created_at: `${day}T04:00:0${index}Z`,
      refunds: [{ amount: '10.00', status, reason: '拍错了' }],
    });
    made.push(...payment.refunds.map((refund) => ({ ...refund, paymentId: payment.id })));
  }
  return {
    made,
    path: `/console/refunds?start_time=${day}&end_time=${day}&order=oldest`,
  };
}

async function openWork(world: World, count: number, scopes?: string[]) {
  const { made, path } = await makeRefunds(world, count);
  const page = await world.openConsole({ path, ...(scopes === undefined ? {} : { scopes }) });
  await page
    .getByRole('status')
    .filter({ hasText: `共 ${count} 笔` })
    .waitFor();
  return { page, made };
}

/** Selects all, and confirms that they ended well. */
async function settleAll(page: Page, count: number): Promise<Locator> {
  await header(page).click();
  await button(page, `标记成功 ${count} 笔`).click();
  const dialog = page.getByRole('dialog', { name: '标记为成功' });
  await button(dialog, '确定').click();
  return dialog;
}

async function statusesOf({ sql }: World, made: Made[]): Promise<number[]> {
  const { rows } = await sql.query<{ status: number }>(
    'SELECT status FROM payment_refunds WHERE id = ANY($1) ORDER BY id',
    [made.map(({ id }) => id)],
  );
  return rows.map(({ status }) => status);
}

const settlements = (world: World) => world.passed.filter(({ method }) => method === 'PATCH');

describe('the work list', () => {
  test('settles the range that Space and Shift with Space select, and no other', async ({
    world,
  }) => {
    const { page, made } = await openWork(world, 5);
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('Space');
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('Shift+Space');
    await says(page.getByRole('region'), '已选 3 笔，合计 ¥30.00');
    await button(page, '标记失败 3 笔').click();
    const dialog = page.getByRole('dialog', { name: '标记为失败' });
    await says(dialog, '3 笔，合计 ¥30.00');
    expect(settlements(world)).toEqual([]);
    await button(dialog, '确定').click();
    await says(dialog, '登记完成，已登记 3 笔');
    await button(dialog, '关闭').click();
    await vi.waitFor(async () => {
      expect(await page.getByRole('row').getByText('失败', { exact: true }).count()).toBe(3);
    });
    expect(await statusesOf(world, made)).toEqual([0, 2, 2, 2, 0]);
    expect(await page.getByRole('region', { name: '批量登记' }).count()).toBe(0);
  });

  test('sends each once, however often the button is clicked', async ({ world }) => {
    const { page, made } = await openWork(world, 2);
    await header(page).click();
    await button(page, '标记成功 2 笔').click();
    const dialog = page.getByRole('dialog', { name: '标记为成功' });
    await world.faults({ hold: 'before' });
    // Faster than anything is drawn, and then as fast as a hand, over the button that has come in its place.
    await button(dialog, '确定').evaluate((element: HTMLElement) => {
      element.click();
      element.click();
    });
    await button(dialog, '停止').waitFor();
    await button(dialog, '停止').dispatchEvent('click', { detail: 2 });
    await world.held(1);
    await world.release();
    await says(page, '登记完成，已登记 2 笔');
    expect(await statusesOf(world, made)).toEqual([1, 1]);
    expect(settlements(world)).toHaveLength(2);
  });

  test('sends nothing where Enter is held down on 标记成功', async ({ world }) => {
    const { page, made } = await openWork(world, 1);
    await header(page).click();
    await button(page, '标记成功 1 笔').focus();
    // The second and every further one is a repetition, and falls on 确定.
    for (let times = 0; times < 4; times++) await page.keyboard.down('Enter');
    await page.keyboard.up('Enter');
    const dialog = page.getByRole('dialog', { name: '标记为成功' });
    await button(dialog, '确定').waitFor();
    await page.evaluate(() => fetch('/health'));
    expect(settlements(world)).toEqual([]);
    await page.keyboard.press('Enter');
    await says(dialog, '登记完成，已登记 1 笔');
    expect(await statusesOf(world, made)).toEqual([1]);
  });

  test('stays open while it sends, however often Escape is pressed', async ({ world }) => {
    const { page, made } = await openWork(world, 2);
    await world.faults({ hold: 'before' });
    const dialog = await settleAll(page, 2);
    await world.held(1);
    for (let times = 0; times < 5; times++) await page.keyboard.press('Escape');
    expect(await dialog.evaluate((element) => element.matches(':modal'))).toBe(true);
    await says(dialog, '正在停止');
    await world.release();
    // What came of it stays to be read.
    await says(dialog, '已停止，1 笔没有提交');
    expect(await statusesOf(world, made)).toEqual([1, 0]);
  });

  test('keeps the refunds of another filter after a failure, to be read only', async ({
    world,
  }) => {
    const { page } = await openWork(world, 2);
    const summary = page.getByRole('status').filter({ hasText: '共' });
    await world.faults({ drop: 'before', times: 'always' });
    await button(page, '处理中').click();
    await says(page.getByRole('alert'), '显示的是之前的数据');
    expect(await page.locator('table.work-list tbody.old tr').count()).toBe(2);
    expect(await summary.count()).toBe(0);
    await page.keyboard.press('j');
    await boxes(page).first().focus();
    expect(await button(page, '处理中').evaluate((it) => it === document.activeElement)).toBe(true);
    await boxes(page).first().click({ force: true });
    expect(await page.locator('table.work-list input:checked').count()).toBe(0);
    expect(await page.getByRole('region', { name: '批量登记' }).count()).toBe(0);
    await world.faults();
    await button(page, /重试$/).click();
    await summary.waitFor();
    await boxes(page).first().click();
    await says(page.getByRole('region'), '已选 1 笔，合计 ¥10.00');
    world.allowProblems(/status of 503/);
  });

  test('says of each what came of it, where a colleague was faster', async ({ world }) => {
    const { page, made } = await openWork(world, 3);
    const [, second] = made;
    await world.api(`/payments/${second?.paymentId}/refunds/${second?.id}`, {
      method: 'PATCH',
      body: { status: 2 },
    });
    const dialog = await settleAll(page, 3);
    await says(dialog, '2 笔已登记，1 笔需要查看');
    await dialog
      .getByRole('listitem')
      .filter({ hasText: second?.refund_no ?? '' })
      .getByText('已有其他结果：失败')
      .waitFor();
    expect(await statusesOf(world, made)).toEqual([1, 2, 1]);
    world.allowProblems(/status of 409/);
  });

  test('stops when told, and goes on with what is left', async ({ world }) => {
    const { page, made } = await openWork(world, 3);
    await world.faults({ hold: 'before' });
    const dialog = await settleAll(page, 3);
    await world.held(1);
    await button(dialog, '停止').click();
    await says(dialog, '正在停止');
    await world.release();
    await says(dialog, '已停止，2 笔没有提交');
    expect(await statusesOf(world, made)).toEqual([1, 0, 0]);
    await button(dialog, '继续登记 2 笔').click();
    await says(dialog, '登记完成，已登记 3 笔');
    expect(await statusesOf(world, made)).toEqual([1, 1, 1]);
  });

  test('repeats a settlement without an answer only when told', async ({ world }) => {
    const { page, made } = await openWork(world, 2);
    world.cut({ method: 'PATCH', path: /refunds/ });
    const dialog = await settleAll(page, 2);
    await says(dialog, '没有答复，可能已登记');
    await says(dialog, '1 笔已登记，1 笔需要查看');
    expect(settlements(world)).toHaveLength(2);
    await button(dialog, '再试').click();
    await says(dialog, '登记完成，已登记 2 笔');
    expect(settlements(world)).toHaveLength(3);
    expect(await statusesOf(world, made)).toEqual([1, 1]);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('goes on after the session has expired and somebody has signed in', async ({ world }) => {
    const { page, made } = await openWork(world, 2);
    await world.expireSession(page);
    const dialog = await settleAll(page, 2);
    await page.getByRole('dialog', { name: '登录已过期' }).waitFor();
    await world.signIn(page);
    await page.evaluate(() => dispatchEvent(new Event('focus')));
    await page.getByRole('dialog', { name: '登录已过期' }).waitFor({ state: 'detached' });
    await says(dialog, '登录已过期；重新登录后可继续');
    expect(await statusesOf(world, made)).toEqual([0, 0]);
    await button(dialog, '继续登记 2 笔').click();
    await says(dialog, '登记完成，已登记 2 笔');
    world.allowProblems(/status of 401/);
  });

  test('waits where the API says that there were too many, and can be stopped', async ({
    world,
  }) => {
    const { page, made } = await openWork(world, 2);
    // The limiter counts by the minute of the clock: not across its end.
    await vi.waitFor(() => expect(new Date().getSeconds()).toBeLessThan(52), { timeout: 10_000 });
    const token = await world.token();
    const write = () => world.api('/payments/0/refund', { method: 'POST', body: {}, token });
    await Promise.all(Array.from({ length: 60 }, write));
    const dialog = await settleAll(page, 2);
    await says(dialog, /^操作过于频繁，\d+ 秒后继续$/);
    await button(dialog, '停止').click();
    await says(dialog, '已停止，2 笔没有提交');
    expect(settlements(world)).toHaveLength(1);
    expect(await statusesOf(world, made)).toEqual([0, 0]);
    world.allowProblems(/status of 429/);
  });

  test('leaves to the gateway what a gateway carries out', async ({ world }) => {
    await world.simulator.next('NOT_ENOUGH');
    const payment = await world.payment({ method: 'wechat' });
    await world.api(`/payments/${payment.id}/refund`, {
      method: 'POST',
      body: { amount: '1.00', reason: '补差价' },
    });
    const page = await world.openConsole({ path: '/console/refunds?size=20' });
    const row = page.getByRole('row').filter({ hasText: payment.payment_no });
    await row.getByRole('checkbox').click();
    const selection = page.getByRole('region', { name: '批量登记' });
    await says(selection, '1 笔由支付渠道处理，不能人工登记');
    await says(selection, '所选退款都不能人工登记');
    expect(await selection.getByRole('button', { name: /^标记/ }).count()).toBe(0);
    await world.simulator.ask('PUT', '/topup');
  });

  test('leads from a failed refund to the dialogue that makes it again', async ({ world }) => {
    const { made, path } = await makeRefunds(world, 1, { status: 2 });
    const page = await world.openConsole({ path });
    await page.getByRole('link', { name: '重新退款' }).click();
    await page.getByRole('dialog', { name: '退款' }).waitFor();
    expect(await page.getByLabel('退款金额').inputValue()).toBe('10.00');
    expect(await page.getByRole('textbox', { name: '退款原因' }).inputValue()).toBe('拍错了');
    await button(page, '退款 ¥10.00').click();
    await says(page, '已创建退款 ¥10.00');
    // A reload does not ask for it once more.
    await page.reload();
    await page.getByRole('heading', { name: /^支付 PAY/ }).waitFor();
    expect(await page.getByRole('dialog').count()).toBe(0);
    const { rowCount } = await world.sql.query(
      'SELECT FROM payment_refunds WHERE payment_id = $1',
      [made[0]?.paymentId],
    );
    expect(rowCount).toBe(2);
  });

  test('has nothing to select for whoever may not settle', async ({ world }) => {
    const { page } = await openWork(world, 1, ['payments:read']);
    expect(await page.getByRole('checkbox').count()).toBe(0);
    expect(await boxes(page).count()).toBe(0);
  });

  test('pages by cursor, there and back', async ({ world }) => {
    const page = await world.openConsole({ path: '/console/refunds?size=20' });
    const numbers = () => page.locator('td.refund-no').allTextContents();
    await boxes(page).first().waitFor();
    const first = await numbers();
    expect(first).toHaveLength(20);
    await page.keyboard.press(']');
    await vi.waitFor(async () => {
      expect(page.url()).toContain('cursor=');
      expect(await page.locator('.table[aria-busy="false"]').count()).toBe(1);
      expect((await numbers()).filter((number) => first.includes(number))).toEqual([]);
    });
    await page.keyboard.press('[');
    await vi.waitFor(async () => expect(await numbers()).toEqual(first));
    expect(page.url()).not.toContain('cursor=');
  });
});

describe('what needs a person', () => {
  test('stands on its page with what to do, and leaves it when that is done', async ({ world }) => {
    await world.simulator.next('NOT_ENOUGH');
    const payment = await world.payment({ method: 'wechat' });
    const made = await world.api(`/payments/${payment.id}/refund`, {
      method: 'POST',
      body: { amount: '100.00', reason: '协商退款' },
    });
    expect(made.status).toBe(201);
    await vi.waitFor(async () => {
      const { data } = await world.api('/gateway/attention');
      expect(JSON.stringify(data)).toContain(`"payment_id":"${payment.id}"`);
    });
    const page = await world.openConsole();
    const link = page.getByRole('link', { name: /^待处理/ });
    await link.filter({ hasText: /\d/ }).waitFor();
    await link.click();
    const entry = page
      .getByRole('listitem')
      .filter({ has: page.locator(`a[href="/console/payments/${payment.id}"]`) });
    await says(page, '为商户账户充值，再“重新发送”；充值后系统也会自动重试。');
    await world.simulator.ask('PUT', '/topup');
    // WeChat is sent one request a minute.
    await world.sql.query(
      `UPDATE gateway_refunds SET sent_at = sent_at - interval '2 minutes',
         send_ended_at = send_ended_at - interval '2 minutes'
       WHERE refund_id IN (SELECT id FROM payment_refunds WHERE payment_id = $1)`,
      [payment.id],
    );
    await button(entry, '重新发送').click();
    await entry.waitFor({ state: 'detached' });
  });

  test('keeps a dialogue while the page is renewed each minute', async ({ world }) => {
    await world.simulator.next('NOT_ENOUGH');
    const payment = await world.payment({ method: 'wechat' });
    await world.api(`/payments/${payment.id}/refund`, {
      method: 'POST',
      body: { amount: '100.00', reason: '协商退款' },
    });
    await vi.waitFor(async () => {
      const { data } = await world.api('/gateway/attention');
      expect(JSON.stringify(data)).toContain(`"payment_id":"${payment.id}"`);
    });
    const page = await world.openConsole();
    // Before the page has set its timers.
    await page.clock.install();
    await page.goto(new URL('/console/attention', world.url).href);
    const entry = page
      .getByRole('listitem')
      .filter({ has: page.locator(`a[href="/console/payments/${payment.id}"]`) });
    await button(entry, '强制登记').click();
    const field = page.getByRole('dialog').getByLabel('登记依据');
    await field.fill('商户后台显示已关闭');
    // A colleague has seen to it: the row goes when the page is renewed.
    const { rows } = await world.sql.query<{ id: string }>(
      'SELECT id::text FROM payment_refunds WHERE payment_id = $1',
      [payment.id],
    );
    const done = await world.api(`/payments/${payment.id}/refunds/${rows[0]?.id}`, {
      method: 'PATCH',
      body: { status: 2, override_reason: '已在商户后台核实' },
    });
    expect(done.status).toBe(200);
    await page.clock.runFor(130_000);
    // Later than any that the page itself would have asked for.
    await page.evaluate(() => fetch('/gateway/attention?size=200').then((answer) => answer.text()));
    await page.clock.runFor(1_000);
    await field.waitFor({ timeout: 1_000 });
    expect(await field.inputValue()).toBe('商户后台显示已关闭');
    await page.keyboard.press('Escape');
    await page.clock.runFor(70_000);
    await entry.waitFor({ state: 'detached' });
    await world.simulator.ask('PUT', '/topup');
  });

  test('is taken off the list with a word on what was found out', async ({ world }) => {
    const payment = await world.payment({ method: 'wechat' });
    await world.sql.query(
      `INSERT INTO gateway_payments (payment_id, attention, attention_at) VALUES ($1, 'AMOUNT', now())`,
      [payment.id],
    );
    const page = await world.openConsole({ path: '/console/attention' });
    const entry = page.getByRole('listitem').filter({ hasText: `支付 ID ${payment.id}` });
    await says(page, '渠道的金额与支付记录不同：与订单核对后移出列表。');
    await button(entry, '已核对，移出列表').click();
    const dialog = page.getByRole('dialog', { name: '已核对，移出列表' });
    await button(dialog, '移出列表').click();
    await says(dialog, '请填写处理说明');
    const field = dialog.getByLabel('处理说明');
    await field.fill('与订单核对，无差异');
    await field.press('Shift+Enter');
    expect(world.passed.filter(({ method }) => method === 'POST')).toEqual([]);
    await field.press('Enter');
    await says(page, '已移出 1 项');
    await entry.waitFor({ state: 'detached' });
    const { rows } = await world.sql.query(
      'SELECT attention FROM gateway_payments WHERE payment_id = $1',
      [payment.id],
    );
    expect(rows).toEqual([{ attention: null }]);
  });
});
