/**
 * What is seen while an answer is awaited, when there is nothing, and when something goes wrong: each state is brought
 * about by what causes it, at the database, on the way, or at the gateways.
 */
import type { Locator, Page } from 'playwright-core';
import { describe, expect, vi } from 'vitest';
import { test, type World } from './world.ts';

const rows = (page: Page) => page.locator('table.payments tbody:not(.skeleton) tr');
const button = (page: Page | Locator, name: string | RegExp) =>
  page.getByRole('button', { name, exact: true });
const heading = (page: Page, name: string) => page.getByRole('heading', { name, exact: true });
const hasFocus = (target: Locator) =>
  target.evaluate((element) => element === document.activeElement);

/** The text, once it can be seen. */
const says = (page: Page | Locator, text: string | RegExp) =>
  page.getByText(text).filter({ visible: true }).first().waitFor();

/** How often the pages have asked for a path. */
const asked = (world: World, pattern: RegExp) =>
  world.passed.filter(({ method, path }) => method === 'GET' && pattern.test(path)).length;

async function openList(world: World, path = '/console/payments'): Promise<Page> {
  const page = await world.openConsole({ path });
  await rows(page).first().waitFor();
  return page;
}

/** The tab is hidden, or looked at again. Chromium without a window never hides one by itself. */
async function lookAway(page: Page, away: boolean): Promise<void> {
  await page.evaluate(
    (state) => {
      Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    },
    away ? 'hidden' : 'visible',
  );
}

/** A statement that PostgreSQL ends with this SQLSTATE. */
const sqlError = (code: string) => ({ status: 400, body: { message: 'of a test', code } });

describe('while it loads', () => {
  test('a list is a skeleton of as many rows as will come, and nothing moves', async ({
    world,
  }) => {
    await world.faults({ hold: 'before', times: 'always' });
    const page = await world.openConsole({ path: '/console/payments?size=20' });
    const skeleton = page.locator('table.payments tbody.skeleton tr');
    await skeleton.first().waitFor();
    expect(await skeleton.count()).toBe(20);
    await page.evaluate(() => {
      let sum = 0;
      document.documentElement.dataset.shift = '0';
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) sum += Number(Reflect.get(entry, 'value'));
        document.documentElement.dataset.shift = String(sum);
      }).observe({ type: 'layout-shift', buffered: true });
    });
    // And the count of what needs a person.
    await world.held(2);
    await world.faults();
    await world.release();
    await rows(page).first().waitFor();
    expect(await rows(page).count()).toBe(20);
    // Two frames, for the last of them to be reported.
    const shift = await page.evaluate(async () => {
      for (let frame = 0; frame < 2; frame++) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
      return Number(document.documentElement.dataset.shift);
    });
    expect(shift).toBeLessThanOrEqual(0.05);
  });

  test('the rows before stay, and the answer of the last question wins', async ({ world }) => {
    const page = await openList(world);
    const before = await rows(page).count();
    await world.faults({ hold: 'before' }, { hold: 'before' });
    await button(page, '支付宝').click();
    await world.held(1);
    await page.locator('.table[aria-busy="true"]').waitFor();
    expect(await rows(page).count()).toBe(before);
    await button(page, '待支付').click();
    await world.held(2);
    await world.release();
    await page.locator('.table[aria-busy="false"]').waitFor();
    const { rows: found } = await world.sql.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM payments WHERE payment_method = 'alipay' AND status = 0`,
    );
    await page
      .getByRole('status')
      .filter({ hasText: `共 ${found[0]?.total} 笔` })
      .waitFor();
    expect(await rows(page).getByText('支付成功').count()).toBe(0);
  });

  test('an answer that comes after a newer one changes nothing', async ({ world }) => {
    const page = await openList(world);
    await world.faults({ hold: 'before', late: true });
    await button(page, '支付宝').click();
    await world.held(1);
    await button(page, '待支付').click();
    const summary = page.getByRole('status').filter({ hasText: '共' });
    await page.locator('.table[aria-busy="false"]').waitFor();
    const text = await summary.textContent();
    await world.release();
    // By then the answer that was held would be there.
    await page.evaluate(() => fetch('/payments?size=1').then((answer) => answer.text()));
    expect(await summary.textContent()).toBe(text);
    expect(await rows(page).getByText('支付成功').count()).toBe(0);
  });
});

describe('where there is nothing', () => {
  test('a filter without payments offers to be taken away', async ({ world }) => {
    const page = await world.openConsole({ path: '/console/payments?payment_no=PAYNONE' });
    await says(page, '没有符合条件的支付记录');
    await page.locator('.nothing').getByRole('link', { name: '清除筛选' }).click();
    await rows(page).first().waitFor();
    expect(new URL(page.url()).search).toBe('');
  });

  test('the first day says what to do', async ({ world }) => {
    world.reroute('/payments', '/payments?payment_no=PAYNONE');
    const page = await world.openConsole();
    await says(page, '还没有支付记录');
    await says(page, /写入 payments 表/);
    expect(await page.getByText('清除筛选').count()).toBe(0);
  });

  test('a number that nobody knows is shown, with what was searched', async ({ world }) => {
    const page = await openList(world);
    await page.getByLabel('搜索单号').fill('NOSUCHNUMBER');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: '没有找到 NOSUCHNUMBER' }).waitFor();
    await says(page, /不支持部分匹配/);
    const box = page.getByLabel('搜索单号');
    await vi.waitFor(async () => expect(await hasFocus(box)).toBe(true));
    // Selected, so that the next number is pasted over it.
    expect(await page.evaluate(() => getSelection()?.toString())).toBe('NOSUCHNUMBER');
  });

  test('a number of several payments lists them', async ({ world }) => {
    const first = await world.payment({ status: 2 });
    const second = await world.payment();
    await world.sql.query(
      'UPDATE payments SET order_id = (SELECT order_id FROM payments WHERE id = $1) WHERE id = $2',
      [first.id, second.id],
    );
    const page = await openList(world);
    await page.getByLabel('搜索单号').fill(first.order_no);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: `${first.order_no} 对应 2 笔支付` }).waitFor();
    for (const { payment_no } of [first, second]) await says(page, payment_no);
    await page.getByRole('link', { name: second.payment_no }).click();
    await page.getByRole('heading', { name: `支付 ${second.payment_no}` }).waitFor();
  });

  for (const id of ['999999999999', 'abc']) {
    test(`/console/payments/${id} says so, and the search box has the focus`, async ({ world }) => {
      const page = await world.openConsole({ path: `/console/payments/${id}` });
      await heading(page, '支付记录不存在').waitFor();
      await vi.waitFor(async () => expect(await hasFocus(page.getByLabel('搜索单号'))).toBe(true));
      world.allowProblems(/status of 40[04]/);
    });
  }

  test('a link that the API does not understand names its parameter', async ({ world }) => {
    const page = await world.openConsole({ path: '/console/payments?status=9&size=20' });
    const bar = page.getByRole('alert').filter({ hasText: '地址中的参数有误：status' });
    await bar.waitFor();
    expect(await page.locator('tbody.skeleton').count()).toBe(0);
    await bar.getByRole('link', { name: '清除筛选' }).click();
    await rows(page).first().waitFor();
    expect(await page.getByRole('alert').count()).toBe(0);
    world.allowProblems(/status of 400/);
  });
});

describe('a read that fails', () => {
  test('keeps what is shown, tries once by itself, and then waits for a person', async ({
    world,
  }) => {
    const page = await openList(world);
    const number = (await rows(page).first().getByRole('link').textContent()) ?? '';
    await world.faults({ drop: 'before', times: 'always' });
    await page.getByRole('link', { name: '下一页' }).click();
    const bar = page.getByRole('alert').filter({ hasText: '显示的是之前的数据' });
    await button(bar, '2 秒后重试').waitFor();
    await says(page, number);
    await vi.waitFor(() => expect(asked(world, /^\/payments\?.*page=2/)).toBe(2), {
      timeout: 5_000,
    });
    await button(bar, /秒后重试$/).waitFor();
    await page.clock.install();
    await page.clock.runFor(60_000);
    await button(bar, '重试').waitFor();
    expect(asked(world, /^\/payments\?.*page=2/)).toBe(2);
    await world.faults();
    await button(bar, '重试').click();
    await bar.waitFor({ state: 'detached' });
    expect(await page.getByText(number, { exact: true }).count()).toBe(0);
    expect(await page.getByLabel('页码').inputValue()).toBe('2');
    world.allowProblems(/status of 503/);
  });

  test('is over by itself where the second try is answered', async ({ world }) => {
    const page = await openList(world);
    await world.faults(sqlError('57014'));
    await button(page, '支付成功').click();
    const bar = page.getByRole('alert').filter({ hasText: '显示的是之前的数据' });
    await bar.waitFor();
    await bar.waitFor({ state: 'detached' });
    expect(await rows(page).getByText('待支付').count()).toBe(0);
    world.allowProblems(/status of 504/);
  });

  test('is over by itself where the first answer was lost', async ({ world }) => {
    const payment = await world.payment();
    world.cut({ path: `/payments/${payment.id}` });
    const page = await world.openConsole({ path: `/console/payments/${payment.id}` });
    await page.getByRole('alert').getByText('暂时没有得到答复').waitFor();
    await page.getByRole('heading', { name: `支付 ${payment.payment_no}` }).waitFor();
    expect(await page.getByRole('alert').count()).toBe(0);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('after a change of the filter keeps the rows of before, without count, sum and export', async ({
    world,
  }) => {
    const page = await openList(world);
    const before = await rows(page).count();
    const summary = page.getByRole('status').filter({ hasText: '共' });
    await world.faults(sqlError('XX000'));
    await button(page, '支付成功').click();
    const bar = page.getByRole('alert').filter({ hasText: '显示的是之前的数据' });
    await bar.waitFor();
    expect(await page.locator('table.payments tbody.old tr').count()).toBe(before);
    expect(await summary.count()).toBe(0);
    expect(await button(page, '导出 CSV').count()).toBe(0);
    await button(bar, '重试').click();
    await summary.waitFor();
    await button(page, '导出 CSV').waitFor();
    expect(await page.locator('tbody.old').count()).toBe(0);
    world.allowProblems(/status of 500/);
  });

  test('by a fault of ours has a request id to copy, and is not repeated', async ({ world }) => {
    const page = await openList(world);
    await world.faults(sqlError('XX000'));
    const failed = page.waitForResponse((response) => response.status() === 500);
    await button(page, '支付成功').click();
    const bar = page.getByRole('alert').filter({ hasText: '服务器内部错误' });
    await bar.getByRole('button', { name: '复制 请求号' }).click();
    const id = (await failed).headers()['x-request-id'];
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(id);
    const before = asked(world, /^\/payments\?/);
    await page.clock.install();
    await page.clock.runFor(60_000);
    expect(asked(world, /^\/payments\?/)).toBe(before);
    await button(bar, '重试').click();
    await bar.waitFor({ state: 'detached' });
    world.allowProblems(/status of 500/);
  });

  test('because the browser is offline is renewed when it is online', async ({ world }) => {
    const page = await openList(world);
    await page.context().setOffline(true);
    const bar = page.getByRole('alert').filter({ hasText: '网络已断开，恢复后自动刷新' });
    await bar.waitFor();
    await button(page, '待支付').click();
    await says(page, '显示的是之前的数据');
    await page.context().setOffline(false);
    await bar.waitFor({ state: 'detached' });
    await page.getByText('显示的是之前的数据').waitFor({ state: 'detached' });
    expect(await rows(page).getByText('支付成功').count()).toBe(0);
    world.allowProblems(/ERR_INTERNET_DISCONNECTED/);
  });

  test('because the deployment is not ready is the whole page', async ({ world }) => {
    await world.faults({ drop: 'before', times: 'always' });
    world.reroute('/session', '/health/ready');
    const page = await world.openConsole();
    await heading(page, '服务尚未就绪').waitFor();
    expect(await page.getByRole('navigation').count()).toBe(0);
    world.allowProblems(/status of 503/);
  });

  test('for want of a scope says which, and whom to ask', async ({ world }) => {
    const page = await world.openConsole({ scopes: ['refunds:create'] });
    await page.getByRole('alert').getByText('缺少权限 payments:read').waitFor();
    await says(page, `请联系管理员为账号 ${world.actor} 授予此权限`);
    world.allowProblems(/status of 403/);
  });

  test('because the session is over repeats itself after signing in', async ({ world }) => {
    const page = await openList(world);
    await world.expireSession(page);
    await button(page, '待支付').click();
    await page.getByRole('dialog', { name: '登录已过期' }).waitFor();
    await world.signIn(page);
    // Whatever renewed the cookie, the tab that is looked at again asks.
    await page.evaluate(() => dispatchEvent(new Event('focus')));
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await page.locator('.table[aria-busy="false"]').waitFor();
    expect(await rows(page).getByText('支付成功').count()).toBe(0);
    world.allowProblems(/status of 401/);
  });
});

describe('an export', () => {
  test('that is cut in the middle is not whole, and its name says so', async ({ world }) => {
    const page = await openList(world);
    world.cut({ path: '/payments/export', lose: 'body', afterBytes: 20_000 });
    const download = page.waitForEvent('download');
    await button(page, '导出 CSV').click();
    expect((await download).suggestedFilename()).toMatch(/^payments-\d+-不完整\.csv$/);
    await says(page, '文件不完整');
    await says(page, /只收到 \d+ 条。请勿当作完整数据使用/);
    const whole = page.waitForEvent('download');
    await button(page, '重新导出').click();
    await says(page, /^完整，[\d,]+ 条$/);
    expect((await whole).suggestedFilename()).toMatch(/^payments-\d+\.csv$/);
    world.allowProblems(/ERR_INCOMPLETE_CHUNKED_ENCODING/);
  });

  test('that the database ends early is not whole either', async ({ world }) => {
    const page = await openList(world);
    // The first thousand rows, and then no more.
    await world.faults({ delayMs: 0 }, { drop: 'before', times: 'always' });
    const download = page.waitForEvent('download');
    await button(page, '导出 CSV').click();
    expect((await download).suggestedFilename()).toContain('不完整');
    await says(page, '文件不完整');
    await says(page, /只收到 1,000 条/);
  });

  test('runs on while another page is shown', async ({ world }) => {
    const page = await openList(world);
    await world.faults({ hold: 'before' });
    const download = page.waitForEvent('download');
    await button(page, '导出 CSV').click();
    await world.held(1);
    await page.getByRole('link', { name: '统计', exact: true }).click();
    await heading(page, '统计').waitFor();
    await world.release();
    await says(page, /^完整，[\d,]+ 条$/);
    await download;
  });
});

describe('what somebody else does', () => {
  test('to the list is offered when the tab comes back, and moves no row before', async ({
    world,
  }) => {
    const page = await openList(world);
    const first = (await rows(page).first().getByRole('link').textContent()) ?? '';
    const payment = await world.payment();
    await lookAway(page, true);
    await lookAway(page, false);
    const bar = page.getByRole('status').filter({ hasText: '有新的支付' });
    await bar.waitFor();
    expect(await rows(page).first().getByRole('link').textContent()).toBe(first);
    await button(bar, '刷新').click();
    await rows(page).first().getByRole('link', { name: payment.payment_no }).waitFor();
    expect(await bar.count()).toBe(0);
  });

  test('to a detail is read afresh by 刷新, where the cache still has the old one', async ({
    world,
  }) => {
    const payment = await world.payment({ callbacks: 0 });
    const path = `/payments/${payment.id}`;
    await vi.waitFor(async () => {
      const { headers } = await world.api(path);
      expect(headers.get('Cache-Status')).toContain('hit');
    });
    const opened = { path: `/console${path}` };
    const page = await world.openConsole({ path: '/console/statistics' });
    const answers: string[] = [];
    page.on('response', (response) => {
      if (new URL(response.url()).pathname === path) {
        answers.push(response.headers()['cache-status'] ?? '');
      }
    });
    await world.sql.query(
      'INSERT INTO payment_callbacks (payment_id, callback_no, status) VALUES ($1, $2, 1)',
      [payment.id, `CB${payment.payment_no}`],
    );
    await page.goto(new URL(opened.path, world.url).href);
    await page.getByRole('heading', { name: `支付 ${payment.payment_no}` }).waitFor();
    expect(answers).toEqual([expect.stringContaining('hit')]);
    expect(await page.getByText('渠道回调').count()).toBe(0);
    await button(page, '刷新').click();
    await page.getByText('渠道回调').waitFor();
    expect(answers).toHaveLength(2);
    expect(answers[1]).not.toContain('hit');
  });

  test('and what was done here is not read from the cache for a while', async ({ world }) => {
    const payment = await world.payment();
    const path = `/payments/${payment.id}`;
    await vi.waitFor(async () => {
      const { headers } = await world.api(path);
      expect(headers.get('Cache-Status')).toContain('hit');
    });
    const page = await openList(world, `/console/payments?payment_no=${payment.payment_no}`);
    await rows(page).getByRole('link').click();
    await button(page, '退款').click();
    await button(page, '协商退款').click();
    await button(page, '退款 ¥100.00').click();
    await says(page, '可退金额为 0：其余款项已退还或正在退款');
    const before = world.passed.length;
    await page.getByRole('link', { name: '返回列表' }).click();
    await rows(page).getByRole('link').click();
    await says(page, '可退金额为 0：其余款项已退还或正在退款');
    await vi.waitFor(() => {
      const reads = world.passed.slice(before).filter((one) => one.path === path);
      expect(reads.map(({ headers }) => headers['cache-control'])).toEqual(['no-cache']);
    });
  });
});

describe('a refund at a gateway', () => {
  /** The simulator settles nothing and calls nobody back, until the test is over. */
  async function stillGateway(world: World, work: () => Promise<void>): Promise<void> {
    const still = { settle: { afterMs: null, outcome: 'SUCCESS' }, callbacks: false };
    await world.simulator.ask('PUT', '/control', still);
    try {
      await work();
    } finally {
      const moving = { settle: { afterMs: 2_000, outcome: 'SUCCESS' }, callbacks: true };
      await world.simulator.ask('PUT', '/control', moving);
    }
  }

  /** A WeChat payment whose whole amount is being refunded, and its detail. */
  async function openRefund(world: World, scopes?: string[]) {
    const payment = await world.payment({ method: 'wechat' });
    const made = await world.api(`/payments/${payment.id}/refund`, {
      method: 'POST',
      body: { amount: '100.00', reason: '协商退款' },
    });
    expect(made.status).toBe(201);
    const page = await world.openConsole({
      path: `/console/payments/${payment.id}`,
      ...(scopes === undefined ? {} : { scopes }),
    });
    const refund = page.locator('tbody[data-refund]');
    await refund.waitFor();
    const { rows: found } = await world.sql.query<{ refund_no: string }>(
      'SELECT refund_no FROM payment_refunds WHERE payment_id = $1',
      [payment.id],
    );
    return { page, payment, refund, refundNo: found[0]?.refund_no ?? '' };
  }

  /** As if what it has seen so far had been two minutes ago: WeChat is sent one request a minute. */
  async function age({ sql }: World, { id }: { id: string }): Promise<void> {
    await sql.query(
      `UPDATE gateway_refunds SET sent_at = sent_at - interval '2 minutes',
         send_ended_at = send_ended_at - interval '2 minutes', asked_at = asked_at - interval '2 minutes'
       WHERE refund_id IN (SELECT id FROM payment_refunds WHERE payment_id = $1)`,
      [id],
    );
  }

  const detailsAsked = (world: World, { id }: { id: string }) =>
    asked(world, new RegExp(`^/payments/${id}$`));

  test('moves from 处理中 to 成功 by itself while somebody looks', async ({ world }) => {
    const { page, refund } = await openRefund(world);
    await refund.getByRole('note', { name: /^处理中/ }).waitFor();
    await refund.getByRole('note', { name: /^成功/ }).waitFor({ timeout: 20_000 });
    await page.getByRole('note', { name: /^已退款/ }).waitFor();
    // The timeline says how it is known.
    await says(page.locator('.timeline'), /支付渠道回调得知|查询支付渠道得知/);
  });

  for (const fails of [false, true]) {
    test(`has its log asked for once an answer${fails ? ', also where that fails' : ''}`, async ({
      world,
    }) => {
      await stillGateway(world, async () => {
        if (fails) world.cut({ path: /\/gateway$/, times: 99 });
        const { page, payment } = await openRefund(world);
        const logs = () => asked(world, new RegExp(`^/payments/${payment.id}/gateway$`));
        world.allowProblems(/ERR_EMPTY_RESPONSE/);
        await page.waitForLoadState('networkidle');
        expect(logs()).toBe(detailsAsked(world, payment));
        const incomplete = page.getByText('与支付渠道的往来暂时读取失败');
        await vi.waitFor(async () => expect(await incomplete.count()).toBe(fails ? 1 : 0));
        await button(page, '刷新').click();
        await vi.waitFor(() => {
          expect(detailsAsked(world, payment)).toBeGreaterThan(1);
          expect(logs()).toBe(detailsAsked(world, payment));
        });
        await page.evaluate(() => fetch('/health').then((answer) => answer.text()));
        expect(logs()).toBe(detailsAsked(world, payment));
      });
    });
  }

  test('is not asked about while nobody looks', async ({ world }) => {
    await stillGateway(world, async () => {
      const { page, payment } = await openRefund(world);
      await page.clock.install();
      await lookAway(page, true);
      const before = detailsAsked(world, payment);
      await page.clock.runFor(300_000);
      expect(detailsAsked(world, payment)).toBe(before);
      await lookAway(page, false);
      await page.clock.runFor(2_500);
      await vi.waitFor(() => expect(detailsAsked(world, payment)).toBeGreaterThan(before));
    });
  });

  test('is asked about by 立即查询', async ({ world }) => {
    await stillGateway(world, async () => {
      const { page, payment, refund, refundNo } = await openRefund(world);
      await says(refund, '渠道已受理');
      await age(world, payment);
      const settlement = { outRefundNo: refundNo, outcome: 'SUCCESS' };
      await world.simulator.ask('POST', '/control/settle', settlement);
      await button(refund, '立即查询').click();
      await page.getByRole('status').filter({ hasText: '立即查询：渠道退款成功' }).waitFor();
      await refund.getByRole('note', { name: /^成功/ }).waitFor();
      await says(page.locator('.timeline'), '查询支付渠道得知');
    });
  });

  test('that is blocked says why, and is sent again by 重新发送', async ({ world }) => {
    await world.simulator.next('NOT_ENOUGH');
    const { page, payment, refund } = await openRefund(world);
    await says(refund, '需人工处理');
    await says(refund, 'NOT_ENOUGH');
    await world.simulator.ask('PUT', '/topup');
    await age(world, payment);
    await button(refund, '重新发送').click();
    await page
      .getByRole('status')
      .filter({ hasText: /^重新发送：/ })
      .waitFor();
    await refund.getByRole('note', { name: /^成功/ }).waitFor({ timeout: 20_000 });
  });

  test('that is abnormal is sent elsewhere only after it was said where', async ({ world }) => {
    await world.simulator.next('ABNORMAL');
    const { page, refund, refundNo } = await openRefund(world);
    await button(refund, '处理异常退款').click({ timeout: 20_000 });
    const dialog = page.getByRole('dialog', { name: '处理异常退款' });
    await button(dialog, '提交').click();
    await says(dialog, '必填');
    await dialog.getByLabel('付款人的另一张银行卡').check();
    await dialog.getByLabel(/^开户银行/).fill('ICBC_DEBIT');
    await dialog.getByLabel('银行卡号').fill('6222020200112233445');
    await dialog.getByLabel('开户名').fill('张三');
    await button(dialog, '提交').click();
    await says(page, '已提交支付渠道');
    await refund.getByRole('note', { name: /^成功/ }).waitFor({ timeout: 20_000 });
    const books = await world.simulator.ask('GET', '/control');
    const ofIt = books.slice(books.indexOf(refundNo));
    expect(ofIt).toContain('6222020200112233445');
    // The card is the gateway's to know.
    expect(await page.content()).not.toContain('6222020200112233445');
  });

  test('is ended by 强制登记 with its outcome, its grounds and a tick', async ({ world }) => {
    await stillGateway(world, async () => {
      const { page, refund, payment } = await openRefund(world);
      await button(refund, '强制登记').click();
      const dialog = page.getByRole('dialog', { name: '强制登记退款结果' });
      await button(dialog, '强制登记退款结果').click();
      await says(dialog, '必填');
      await dialog.getByLabel('失败').check();
      await dialog.getByLabel('登记依据').fill('商户后台显示已关闭');
      await button(dialog, '强制登记为失败').click();
      await says(dialog, '必填');
      await dialog.getByLabel('我已在支付渠道的商户后台核实').check();
      await button(dialog, '强制登记为失败').click();
      await refund.getByRole('note', { name: /^失败/ }).waitFor();
      await says(page, '可退 ¥100.00');
      await says(page.locator('.timeline'), '商户后台显示已关闭');
      await says(page.locator('.timeline'), `操作人 ${world.actor}`);
      const writes = world.passed.filter(
        ({ method, path }) => method === 'PATCH' && path.startsWith(`/payments/${payment.id}/`),
      );
      expect(writes.map(({ status }) => status)).toEqual([200]);
    });
  });
});

describe('a refund by hand', () => {
  async function openRefund(world: World, status: 0 | 1 | 2, scopes?: string[]) {
    const payment = await world.payment({ refunds: [{ amount: '30.00', status }] });
    const page = await world.openConsole({
      path: `/console/payments/${payment.id}`,
      ...(scopes === undefined ? {} : { scopes }),
    });
    const refund = page.locator('tbody[data-refund]');
    await refund.waitFor();
    return { page, payment, refund };
  }
  const writes = (world: World) => world.passed.filter(({ method }) => method !== 'GET');

  for (const [action, outcome] of [
    ['标记成功', '成功'],
    ['标记失败', '失败'],
  ] as const) {
    test(`is ended by ${action} after it was confirmed`, async ({ world }) => {
      const { page, refund } = await openRefund(world, 0);
      await button(refund, action).click();
      const dialog = page.getByRole('dialog', { name: `标记为${outcome}` });
      await dialog.waitFor();
      expect(writes(world)).toEqual([]);
      await button(dialog, `标记为${outcome}`).click({ clickCount: 2 });
      await refund.getByRole('note', { name: new RegExp(`^${outcome}`) }).waitFor();
      expect(writes(world).map(({ status }) => status)).toEqual([200]);
    });
  }

  test('that a colleague has ended otherwise says how, and is renewed', async ({ world }) => {
    const { page, payment, refund } = await openRefund(world, 0);
    await button(refund, '标记成功').click();
    const [made] = payment.refunds;
    const path = `/payments/${payment.id}/refunds/${made?.id}`;
    await world.api(path, { method: 'PATCH', body: { status: 2 } });
    const dialog = page.getByRole('dialog', { name: '标记为成功' });
    await button(dialog, '标记为成功').click();
    await says(dialog, '这笔退款已经是：失败');
    await button(dialog, '取消').click();
    await refund.getByRole('note', { name: /^失败/ }).waitFor();
    world.allowProblems(/status of 409/);
  });

  test('whose settlement got no answer says so, and is settled once', async ({ world }) => {
    const { page, refund } = await openRefund(world, 0);
    await button(refund, '标记成功').click();
    const dialog = page.getByRole('dialog', { name: '标记为成功' });
    world.cut({ method: 'PATCH', path: /refunds/ });
    await button(dialog, '标记为成功').click();
    await says(dialog, '没有得到答复，操作可能已经生效；再次提交同样的内容是安全的');
    await button(dialog, '标记为成功').click();
    await refund.getByRole('note', { name: /^成功/ }).waitFor();
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('is corrected with a reason, which the timeline shows', async ({ world }) => {
    const { page, refund } = await openRefund(world, 1);
    await button(refund, '更正').click();
    const dialog = page.getByRole('dialog', { name: '更正退款结果' });
    await says(dialog, /当前结果为成功，更正为失败/);
    await button(dialog, '更正为失败').click();
    await says(dialog, '必填');
    expect(writes(world)).toEqual([]);
    await dialog.getByLabel('更正原因').fill('收款账户已注销');
    await button(dialog, '更正为失败').click();
    await refund.getByRole('note', { name: /^失败/ }).waitFor();
    await says(page.locator('.timeline'), '收款账户已注销');
    await says(page.locator('.timeline'), '退款更正');
  });

  test('has no action that its reader may not take', async ({ world }) => {
    const { page, refund } = await openRefund(world, 0, ['payments:read']);
    expect(await refund.getByRole('button', { name: /标记|更正|强制|查询/ }).count()).toBe(0);
    expect(await button(page, '退款').count()).toBe(0);
    await page.getByRole('link', { name: '返回列表' }).click();
    await rows(page).first().waitFor();
    expect(await button(page, '导出 CSV').count()).toBe(0);
  });

  for (const [scope, status, shown] of [
    ['refunds:settle', 0, ['标记成功', '标记失败']],
    ['refunds:correct', 1, ['更正']],
    ['refunds:create', 2, ['重新退款']],
  ] as const) {
    test(`shows ${shown.join(' and ')} to whoever has ${scope}`, async ({ world }) => {
      const { refund } = await openRefund(world, status, ['payments:read', scope]);
      const names = await refund.locator('.more').getByRole('button').allTextContents();
      expect(names).toEqual(shown);
    });
  }
});
