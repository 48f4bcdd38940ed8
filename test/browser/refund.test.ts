/**
 * The refund dialogue: one wish makes one refund, whatever is clicked, lost, or done by somebody else meanwhile, and
 * what was typed stays until the answer is final.
 */
import type { Page } from 'playwright-core';
import { describe, expect, vi } from 'vitest';
import { test, type World } from './world.ts';

type Payment = Awaited<ReturnType<World['payment']>>;

/** Opens the payment's detail, and the dialogue on it. */
async function openDialog(world: World, { id }: Payment) {
  const page = await world.openConsole({ path: `/console/payments/${id}` });
  await page.getByRole('button', { name: '退款', exact: true }).click();
  await page.getByRole('dialog', { name: '退款' }).waitFor();
  return page;
}

const amountField = (page: Page) => page.getByLabel('退款金额');
const reasonField = (page: Page) => page.getByRole('textbox', { name: '退款原因' });
const submitButton = (page: Page, amount = '¥100.00') =>
  page.getByRole('button', { name: `退款 ${amount}`, exact: true });
const askButton = (page: Page) =>
  page.getByRole('dialog').getByRole('button', { name: '查询结果', exact: true });

/** The words of a dialogue or of the page, once they are there. */
const says = (page: Page, text: string | RegExp) =>
  page.getByText(text).filter({ visible: true }).first().waitFor();

/** What the page has asked to be made; world.passed keeps what reached the Worker. */
function refundRequests(world: World) {
  return world.passed.filter(({ method, path }) => method === 'POST' && path.endsWith('/refund'));
}

async function refundsOf({ sql }: World, { id }: Payment): Promise<string[]> {
  const { rows } = await sql.query<{ amount: string }>(
    'SELECT amount::text FROM payment_refunds WHERE payment_id = $1 ORDER BY id',
    [id],
  );
  return rows.map(({ amount }) => amount);
}

async function refundAsColleague(world: World, { id }: Payment, amount: string): Promise<string> {
  const { status, data } = await world.api(`/payments/${id}/refund`, {
    method: 'POST',
    body: { amount, reason: '同事先退' },
  });
  expect(status).toBe(201);
  if (typeof data !== 'object' || data === null || !('id' in data)) throw new Error('no refund');
  return String(data.id);
}

/** What the tab keeps of refunds that are not finished. */
const attempts = (page: Page) => page.evaluate(() => ({ ...sessionStorage }));

/** As many writes as the actor has in a minute. */
async function useUpWrites(world: World): Promise<void> {
  // The limiter counts by the minute of the clock: not across its end.
  await vi.waitFor(() => expect(new Date().getSeconds()).toBeLessThan(52), { timeout: 10_000 });
  const token = await world.token();
  // Counted before they are found wrong.
  const write = () => world.api('/payments/0/refund', { method: 'POST', body: {}, token });
  await Promise.all(Array.from({ length: 60 }, write));
}

describe('one wish', () => {
  test('is one refund, however often the button is clicked', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    await submitButton(page).click({ clickCount: 3 });
    await says(page, '已创建退款 ¥100.00');
    expect(refundRequests(world)).toHaveLength(1);
    expect(await refundsOf(world, payment)).toEqual(['100.00']);
  });

  test('is one refund where the answer of the database is lost after COMMIT', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    await world.faults({ drop: 'after', times: 2 });
    await submitButton(page).click();
    const dialog = page.getByRole('dialog', { name: '结果未知' });
    await dialog.getByText('可能已经创建').waitFor();
    expect(await dialog.textContent()).toContain('如未创建将继续完成');
    await dialog.getByRole('button', { name: '复制 退款单号' }).click();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    const { rows } = await world.sql.query(
      'SELECT refund_no FROM payment_refunds WHERE payment_id = $1',
      [payment.id],
    );
    expect(rows).toEqual([{ refund_no: copied }]);
    await askButton(page).click();
    await says(page, '这笔退款先前已创建：¥100.00');
    expect(await refundsOf(world, payment)).toEqual(['100.00']);
    world.allowProblems(/status of 503/);
  });

  test('is one refund where the answer is lost on its way to the browser', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    const cut = world.cut({ method: 'POST', path: /\/refund$/ });
    await submitButton(page).click();
    const dialog = page.getByRole('dialog', { name: '结果未知' });
    // There is no number of a refund where no answer came.
    await dialog.getByText(`支付 ${payment.payment_no} 的 ¥100.00 退款可能已经创建。`).waitFor();
    expect(await cut.happened).toBe(201);
    await askButton(page).click();
    await says(page, '这笔退款先前已创建：¥100.00');
    const keys = refundRequests(world).map(({ headers }) => headers['idempotency-key']);
    expect(keys).toEqual([keys[0], keys[0]]);
    expect(await refundsOf(world, payment)).toEqual(['100.00']);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('is carried out by 查询结果 where the request never arrived', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    const cut = world.cut({ method: 'POST', path: /\/refund$/, lose: 'request' });
    await submitButton(page).click();
    await page.getByRole('dialog', { name: '结果未知' }).waitFor();
    expect(await cut.happened).toBe(0);
    expect(await refundsOf(world, payment)).toEqual([]);
    await askButton(page).click();
    await says(page, '已创建退款 ¥100.00');
    expect(await refundsOf(world, payment)).toEqual(['100.00']);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('outlives a reload, and ends in one refund', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await amountField(page).fill('40');
    await page.getByRole('button', { name: '协商退款' }).click();
    world.cut({ method: 'POST', path: /\/refund$/ });
    await submitButton(page, '¥40.00').click();
    await page.getByRole('dialog', { name: '结果未知' }).waitFor();
    await page.reload();
    await says(page, '上次退款（¥40.00）结果未知');
    await page.getByRole('button', { name: '查询结果' }).click();
    await page.getByRole('dialog', { name: '结果未知' }).waitFor();
    await askButton(page).click();
    await says(page, '这笔退款先前已创建：¥40.00');
    await page.getByText('上次退款（¥40.00）结果未知').waitFor({ state: 'detached' });
    await page.reload();
    await says(page, '可退 ¥60.00');
    expect(await page.getByText('结果未知').count()).toBe(0);
    expect(await refundsOf(world, payment)).toEqual(['40.00']);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('asks again as often as nothing answers', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    const cut = world.cut({ method: 'POST', path: /\/refund$/, times: 3 });
    await submitButton(page).click();
    await page.getByRole('dialog', { name: '结果未知' }).waitFor();
    for (const requests of [2, 3]) {
      await askButton(page).click();
      await vi.waitFor(() => expect(refundRequests(world)).toHaveLength(requests));
      await askButton(page).waitFor();
    }
    cut.heal();
    await askButton(page).click();
    await says(page, '这笔退款先前已创建：¥100.00');
    expect(await refundsOf(world, payment)).toEqual(['100.00']);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('is sent with the amount that was shown as refundable', async ({ world }) => {
    const payment = await world.payment({ refunds: [{ amount: '30.00' }] });
    const page = await openDialog(world, payment);
    expect(await amountField(page).inputValue()).toBe('70.00');
    await amountField(page).fill('12.5');
    await says(page, '退款后剩余可退 ¥57.50');
    await page.getByRole('button', { name: '协商退款' }).click();
    const sent = page.waitForRequest(/\/refund$/);
    await submitButton(page, '¥12.50').click();
    expect((await sent).postDataJSON()).toEqual({
      amount: '12.50',
      reason: '协商退款',
      refundable_amount: '70.00',
    });
    await says(page, '可退 ¥57.50');
  });
});

describe('somebody else', () => {
  test('has refunded a part: the amount is asked again, and the reason stays', async ({
    world,
  }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await amountField(page).fill('80');
    await reasonField(page).fill('少发了一件');
    await refundAsColleague(world, payment, '30.00');
    await submitButton(page, '¥80.00').click();
    await says(page, '最多可退 ¥70.00');
    expect(await amountField(page).getAttribute('aria-invalid')).toBe('true');
    expect(await amountField(page).inputValue()).toBe('80');
    await page.getByRole('button', { name: '改为 ¥70.00' }).click();
    expect(await reasonField(page).inputValue()).toBe('少发了一件');
    await submitButton(page, '¥70.00').click();
    await says(page, '已创建退款 ¥70.00');
    expect(await refundsOf(world, payment)).toEqual(['30.00', '70.00']);
    world.allowProblems(/status of 409/);
  });

  test('has refunded a part: an amount that still fits is not refunded unseen', async ({
    world,
  }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await amountField(page).fill('50');
    await page.getByRole('button', { name: '协商退款' }).click();
    await refundAsColleague(world, payment, '30.00');
    await submitButton(page, '¥50.00').click();
    await page.getByRole('alert').getByText('最多可退 ¥70.00').waitFor();
    await page.getByRole('button', { name: '改为 ¥70.00' }).waitFor();
    expect(await refundsOf(world, payment)).toEqual(['30.00']);
    // Seen and confirmed, it is a new wish.
    await page.getByRole('button', { name: '仍退款 ¥50.00' }).click();
    await says(page, '已创建退款 ¥50.00');
    expect(await refundsOf(world, payment)).toEqual(['30.00', '50.00']);
    world.allowProblems(/status of 409/);
  });

  test('has refunded everything: nothing is left to change the amount to', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    await refundAsColleague(world, payment, '100.00');
    await submitButton(page).click();
    await page.getByRole('alert').getByText('最多可退 ¥0.00').waitFor();
    expect(await page.getByRole('button', { name: '改为 ¥0.00' }).count()).toBe(0);
    expect(await refundsOf(world, payment)).toEqual(['100.00']);
    world.allowProblems(/status of 409/);
  });

  test('has ended the payment: the dialogue says so, and the detail is renewed', async ({
    world,
  }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    const refund = await refundAsColleague(world, payment, '100.00');
    await world.api(`/payments/${payment.id}/refunds/${refund}`, {
      method: 'PATCH',
      body: { status: 1 },
    });
    await submitButton(page).click();
    await says(page, '当前支付状态为已退款，不能退款');
    await page.getByRole('dialog').getByRole('button', { name: '关闭' }).click();
    await says(page, '已全部退款');
    await page.getByRole('note', { name: /^已退款/ }).waitFor();
    expect(await page.getByRole('button', { name: '退款', exact: true }).count()).toBe(0);
    world.allowProblems(/status of 409/);
  });

  test('has used the key: the refunds are to be read before a new key is made', async ({
    world,
  }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await amountField(page).fill('60');
    await page.getByRole('button', { name: '协商退款' }).click();
    world.cut({ method: 'POST', path: /\/refund$/, lose: 'request' });
    await submitButton(page, '¥60.00').click();
    await page.getByRole('dialog', { name: '结果未知' }).waitFor();
    const key = await page.evaluate(
      (id) => JSON.parse(sessionStorage.getItem(`console-refund-${id}`) ?? '').key,
      payment.id,
    );
    await world.api(`/payments/${payment.id}/refund`, {
      method: 'POST',
      body: { amount: '10.00', reason: '别的金额' },
      headers: { 'Idempotency-Key': key },
    });
    await askButton(page).click();
    await says(page, '这笔退款已按其他金额或原因提交过');
    await page.getByRole('button', { name: '已阅读，重新填写' }).click();
    await submitButton(page, '¥60.00').waitFor();
    expect(await refundsOf(world, payment)).toEqual(['10.00']);
    world.allowProblems(/ERR_EMPTY_RESPONSE/, /status of 409/);
  });
});

describe('an outcome that is unknown', () => {
  /** 结果未知 of a refund of everything, whose answer was lost. */
  async function openUnknown(world: World, payment: Payment) {
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    world.cut({ method: 'POST', path: /\/refund$/ });
    await submitButton(page).click();
    const dialog = page.getByRole('dialog', { name: '结果未知' });
    await dialog.waitFor();
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
    return { page, dialog };
  }

  test('stays unknown where whoever asks may not, and says so', async ({ world }) => {
    const payment = await world.payment();
    const { page, dialog } = await openUnknown(world, payment);
    const kept = await attempts(page);
    expect(Object.keys(kept)).toEqual([`console-refund-${payment.id}`]);
    await world.signIn(page, await world.token({ scopes: ['payments:read'] }));
    await askButton(page).click();
    await dialog.getByText('缺少权限 refunds:create').waitFor();
    await dialog.getByText('可能已经创建').waitFor();
    expect(await attempts(page)).toEqual(kept);
    await dialog.getByRole('button', { name: '关闭' }).click();
    await says(page, '上次退款（¥100.00）结果未知');
    await world.signIn(page);
    await page.getByRole('button', { name: '查询结果' }).click();
    await askButton(page).click();
    await says(page, '这笔退款先前已创建：¥100.00');
    expect(await attempts(page)).toEqual({});
    expect(await refundsOf(world, payment)).toEqual(['100.00']);
    world.allowProblems(/status of 403/);
  });

  test('stays unknown after too many writes, and is asked for when there is room', async ({
    world,
  }) => {
    const payment = await world.payment();
    const { page, dialog } = await openUnknown(world, payment);
    const kept = await attempts(page);
    await useUpWrites(world);
    await page.clock.install();
    await askButton(page).click();
    await dialog.getByText('操作过于频繁，请稍后再试').waitFor();
    const waiting = dialog.getByRole('button', { name: /^\d+ 秒后可重试$/ });
    await waiting.click({ force: true });
    await page.clock.runFor(61_000);
    await askButton(page).waitFor();
    await dialog.getByText('可能已经创建').waitFor();
    expect(await attempts(page)).toEqual(kept);
    expect(refundRequests(world).map(({ status }) => status)).toEqual([201, 429]);
    world.allowProblems(/status of 429/);
  });

  test('leaves the focus on 关闭 while the payment is renewed behind it', async ({ world }) => {
    const payment = await world.payment({ refunds: [{ amount: '1.00' }] });
    const page = await openDialog(world, payment);
    await page.clock.install();
    await page.getByRole('button', { name: '协商退款' }).click();
    world.cut({ method: 'POST', path: /\/refund$/ });
    await submitButton(page, '¥99.00').click();
    const close = page.getByRole('dialog', { name: '结果未知' }).getByRole('button', {
      name: '关闭',
    });
    await close.focus();
    await page.clock.runFor(2_500);
    // The refund whose answer was lost, in the page behind.
    await page.locator('tbody[data-refund]').nth(1).waitFor({ state: 'attached' });
    expect(await close.evaluate((element) => element === document.activeElement)).toBe(true);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });
});

describe('a key or a click too many', () => {
  test('Enter that is held down on a reason does not refund', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).focus();
    // The second and every further one is a repetition.
    for (let times = 0; times < 4; times++) await page.keyboard.down('Enter');
    await page.keyboard.up('Enter');
    expect(await reasonField(page).inputValue()).toBe('协商退款');
    await page.evaluate(() => fetch('/health'));
    expect(refundRequests(world)).toEqual([]);
    await page.keyboard.press('Enter');
    await says(page, '已创建退款 ¥100.00');
    expect(await refundsOf(world, payment)).toEqual(['100.00']);
  });

  test('Escape and 取消 while it is sent lose no outcome', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    await world.faults({ hold: 'before' });
    await submitButton(page).click();
    await world.held(1);
    for (let times = 0; times < 3; times++) await page.keyboard.press('Escape');
    await page.getByRole('button', { name: '取消', exact: true }).click();
    await page.getByRole('button', { name: '正在提交' }).waitFor();
    await world.release();
    await says(page, '已创建退款 ¥100.00');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    expect(await attempts(page)).toEqual({});
    expect(await refundsOf(world, payment)).toEqual(['100.00']);
  });
});

test('leaves nothing to ask about where an expired session kept it from being sent', async ({
  world,
}) => {
  const payment = await world.payment();
  const page = await openDialog(world, payment);
  await page.getByRole('button', { name: '协商退款' }).click();
  await world.expireSession(page);
  await submitButton(page).click();
  const expired = page.getByRole('dialog', { name: '登录已过期' });
  await expired.waitFor();
  await world.signIn(page);
  await page.evaluate(() => dispatchEvent(new Event('focus')));
  await expired.waitFor({ state: 'detached' });
  await page.getByRole('button', { name: '取消', exact: true }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  expect(await page.getByText('上次退款').count()).toBe(0);
  expect(await attempts(page)).toEqual({});
  world.allowProblems(/status of 401/);
});

test('keeps everything while the session expires, and sends nothing by itself', async ({
  world,
}) => {
  const payment = await world.payment();
  const page = await openDialog(world, payment);
  await amountField(page).fill('33.30');
  await reasonField(page).fill('包装破损');
  await world.expireSession(page);
  await submitButton(page, '¥33.30').click();
  await page.getByRole('dialog', { name: '登录已过期' }).waitFor();

  const popup = page.waitForEvent('popup');
  await page.getByRole('link', { name: /重新登录/ }).click();
  const tab = await popup;
  await tab.getByLabel('访问令牌').fill(await world.token());
  const closed = tab.waitForEvent('close');
  await tab.getByRole('button', { name: '登录', exact: true }).click();
  await closed;

  await page.getByRole('dialog', { name: '登录已过期' }).waitFor({ state: 'detached' });
  expect(await amountField(page).inputValue()).toBe('33.30');
  expect(await reasonField(page).inputValue()).toBe('包装破损');
  expect(refundRequests(world).map(({ status }) => status)).toEqual([401]);
  await submitButton(page, '¥33.30').click();
  await says(page, '已创建退款 ¥33.30');
  const [refused, sent] = refundRequests(world);
  expect(sent?.headers['idempotency-key']).toBe(refused?.headers['idempotency-key']);
  expect(await refundsOf(world, payment)).toEqual(['33.30']);
  world.allowProblems(/status of 401/);
});

test('counts down in the button after too many writes, and sends nothing by itself', async ({
  world,
}) => {
  const payment = await world.payment();
  const page = await openDialog(world, payment);
  await page.getByRole('button', { name: '协商退款' }).click();
  await useUpWrites(world);
  await page.clock.install();
  await submitButton(page).click();
  const waiting = page.getByRole('button', { name: /^\d+ 秒后可重试$/ });
  await waiting.waitFor();
  expect(await waiting.getAttribute('aria-disabled')).toBe('true');
  await says(page, '操作过于频繁，请稍后再试');
  await waiting.click({ force: true });
  await page.clock.runFor(20_000);
  expect(Number.parseInt((await waiting.textContent()) ?? '', 10)).toBeLessThan(45);
  await page.clock.runFor(60_000);
  await submitButton(page).waitFor();
  expect(refundRequests(world)).toHaveLength(1);
  expect(await refundsOf(world, payment)).toEqual([]);
  world.allowProblems(/status of 429/);
});

test('says which scope is missing, and takes the action away', async ({ world }) => {
  const payment = await world.payment();
  const page = await openDialog(world, payment);
  await page.getByRole('button', { name: '协商退款' }).click();
  await world.signIn(page, await world.token({ scopes: ['payments:read'] }));
  await submitButton(page).click();
  await says(page, '缺少权限 refunds:create');
  await says(page, `请联系管理员为账号 ${world.actor} 授予此权限`);
  await page.getByRole('button', { name: '取消', exact: true }).click();
  await says(page, '可退 ¥100.00');
  expect(await page.getByRole('button', { name: '退款', exact: true }).count()).toBe(0);
  world.allowProblems(/status of 403/);
});

describe('the fields', () => {
  test('understand amounts as people write them', async ({ world }) => {
    const page = await openDialog(world, await world.payment({ amount: '2000.00' }));
    for (const [typed, amount] of [
      ['１２．３', '¥12.30'],
      ['1,200', '¥1,200.00'],
      ['¥12', '¥12.00'],
    ] as const) {
      await amountField(page).fill(typed);
      await submitButton(page, amount).waitFor();
    }
  });

  test('refuse with words what could be two amounts', async ({ world }) => {
    const payment = await world.payment({ amount: '2000.00' });
    const page = await openDialog(world, payment);
    await page.getByRole('button', { name: '协商退款' }).click();
    for (const [typed, problem] of [
      ['12,34', '逗号须每三位一个，如 1,200；12,34 请写作 12.34'],
      ['1.234', '最多两位小数'],
      ['', '请填写金额'],
      ['十二', '金额只能是数字，如 12.34'],
      ['0', '金额须大于 0'],
      ['2000.01', '最多可退 ¥2,000.00'],
    ] as const) {
      await amountField(page).fill(typed);
      await amountField(page).press('Enter');
      await page.getByRole('alert').getByText(problem).waitFor();
      expect(await amountField(page).getAttribute('aria-invalid')).toBe('true');
    }
    await page.getByRole('button', { name: '全部可退' }).click();
    expect(await amountField(page).inputValue()).toBe('2000.00');
    await reasonField(page).fill(' ');
    await amountField(page).press('Enter');
    await page.getByRole('alert').getByText('请填写退款原因').waitFor();
    expect(refundRequests(world)).toEqual([]);
  });

  test('submit by Enter in the reason, and not by Shift and Enter', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await reasonField(page).fill('少发了一件');
    await reasonField(page).press('Shift+Enter');
    await reasonField(page).press('End');
    expect(refundRequests(world)).toEqual([]);
    await reasonField(page).press('Enter');
    await says(page, '已创建退款 ¥100.00');
    expect(refundRequests(world)).toHaveLength(1);
  });

  test('say how much of a long reason is left, and refuse a longer one', async ({ world }) => {
    const page = await openDialog(world, await world.payment());
    await reasonField(page).fill('字'.repeat(199));
    expect(await page.getByText(/还可输入/).count()).toBe(0);
    await reasonField(page).fill('字'.repeat(200));
    await says(page, '还可输入 55 字');
    await reasonField(page).fill('字'.repeat(256));
    await reasonField(page).press('Enter');
    await page.getByRole('alert').getByText('退款原因最多 255 个字').waitFor();
    expect(await page.getByText(/还可输入 -/).count()).toBe(0);
    expect(refundRequests(world)).toEqual([]);
  });

  test('make one line of a reason that is pasted as several', async ({ world }) => {
    const payment = await world.payment();
    const page = await openDialog(world, payment);
    await page.evaluate(() => navigator.clipboard.writeText('少发一件\r\n\r\n\t客户要求退差价\n'));
    await reasonField(page).press('Control+V');
    expect(await reasonField(page).inputValue()).toBe('少发一件 客户要求退差价 ');
    await reasonField(page).press('Enter');
    await says(page, '已创建退款 ¥100.00');
    const { rows } = await world.sql.query(
      'SELECT reason FROM payment_refunds WHERE payment_id = $1',
      [payment.id],
    );
    expect(rows).toEqual([{ reason: '少发一件 客户要求退差价' }]);
  });

  test('say beside the reason which character it may not have', async ({ world }) => {
    const page = await openDialog(world, await world.payment());
    await reasonField(page).fill('少发\u0007一件');
    await reasonField(page).press('Enter');
    await page.getByRole('alert').getByText('退款原因不能包含控制字符').waitFor();
    expect(refundRequests(world)).toEqual([]);
    // Only the API knows these; what it says stands beside the field as well.
    await reasonField(page).fill('少发\u202e一件');
    await reasonField(page).press('Enter');
    await page.getByRole('alert').getByText('不能包含改变文字方向的字符').waitFor();
    expect(await reasonField(page).getAttribute('aria-invalid')).toBe('true');
    await reasonField(page).fill('少发一件');
    expect(await reasonField(page).getAttribute('aria-invalid')).toBe('false');
    expect(await page.getByText('请求参数有误').count()).toBe(0);
    world.allowProblems(/status of 400/);
  });

  test('begin with what a failed refund was', async ({ world }) => {
    const payment = await world.payment({
      refunds: [{ amount: '30.00', status: 2, reason: '拍错了' }],
    });
    const page = await world.openConsole({ path: `/console/payments/${payment.id}` });
    await page.getByRole('button', { name: '重新退款' }).click();
    expect(await amountField(page).inputValue()).toBe('30.00');
    expect(await reasonField(page).inputValue()).toBe('拍错了');
    await submitButton(page, '¥30.00').click();
    await says(page, '已创建退款 ¥30.00');
    expect(await refundsOf(world, payment)).toEqual(['30.00', '30.00']);
  });
});

test('leaves nothing in the browser but settings and refunds that are not finished', async ({
  world,
}) => {
  const payment = await world.payment();
  const page = await openDialog(world, payment);
  await page.getByRole('button', { name: '协商退款' }).click();
  world.cut({ method: 'POST', path: /\/refund$/ });
  await submitButton(page).click();
  await page.getByRole('dialog', { name: '结果未知' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: /^主题/ }).click();
  const language = page.locator('header button[lang]');
  await language.click();
  await language.click();
  const stored = () =>
    page.evaluate(() => ({
      local: Object.keys(localStorage).sort(),
      session: Object.keys(sessionStorage),
      everything: JSON.stringify([{ ...localStorage }, { ...sessionStorage }]),
      cookie: document.cookie,
    }));
  const { local, session, everything, cookie } = await stored();
  expect(local).toEqual(['console-language', 'console-theme']);
  expect(session).toEqual([`console-refund-${payment.id}`]);
  expect(everything).not.toContain('eyJ');
  expect(cookie).toBe('');
  await page.getByRole('button', { name: '查询结果' }).click();
  await askButton(page).click();
  await says(page, '这笔退款先前已创建：¥100.00');
  expect(await stored()).toMatchObject({ session: [] });
  world.allowProblems(/ERR_EMPTY_RESPONSE/);
});
