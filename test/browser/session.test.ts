/** Who is signed in, in which tab, and what is left of whoever was before. */
import type { Page } from 'playwright-core';
import { describe, expect, vi } from 'vitest';
import { test, type World } from './world.ts';

const rows = (page: Page) => page.locator('table.payments tbody:not(.skeleton) tr');
const tokenField = (page: Page) => page.getByLabel('访问令牌');
const expired = (page: Page) => page.getByRole('dialog', { name: '登录已过期' });

async function signOut(page: Page): Promise<void> {
  await page.getByRole('button', { name: /^当前用户/ }).click();
  await page.getByRole('button', { name: '退出登录' }).click();
  await page.getByRole('heading', { name: '已退出登录' }).waitFor();
}

/** Signs in on the page that asks for it. */
async function signInAs(page: Page, token: string): Promise<void> {
  await tokenField(page).fill(token);
  await page.getByRole('button', { name: '登录', exact: true }).click();
}

/** The tab is looked at again, and asks whose session it is. */
const lookAgain = (page: Page) => page.evaluate(() => dispatchEvent(new Event('focus')));

/** The detail of a payment of which a refund has no known outcome. */
async function openUnfinished(world: World): Promise<Page> {
  const payment = await world.payment();
  const page = await world.openConsole({ path: `/console/payments/${payment.id}` });
  await page.getByRole('button', { name: '退款', exact: true }).click();
  await page.getByRole('button', { name: '协商退款' }).click();
  world.cut({ method: 'POST', path: /\/refund$/, lose: 'request' });
  await page.getByRole('button', { name: '退款 ¥100.00' }).click();
  await page.getByRole('dialog', { name: '结果未知' }).getByText('可能已经创建').waitFor();
  await page.keyboard.press('Escape');
  await page.getByText('上次退款（¥100.00）结果未知').waitFor();
  world.allowProblems(/ERR_EMPTY_RESPONSE/);
  return page;
}

describe('signing out', () => {
  test('leaves nothing in memory, and signs out of every tab', async ({ world }) => {
    const page = await world.openConsole();
    await rows(page).first().waitFor();
    const other = await page.context().newPage();
    await other.goto(page.url());
    await rows(other).first().waitFor();
    const before = await page.evaluate(() => performance.timeOrigin);
    await signOut(page);
    // Another document, and so another memory.
    expect(await page.evaluate(() => performance.timeOrigin)).not.toBe(before);
    await tokenField(other).waitFor();
    expect(await rows(other).count()).toBe(0);
    await page.goBack();
    await tokenField(page).waitFor();
    expect(await rows(page).count()).toBe(0);
    world.allowProblems(/status of 401/);
  });

  test('offers nobody else what was left unfinished', async ({ world }) => {
    const page = await openUnfinished(world);
    const address = page.url();
    await signOut(page);
    await page.goto(address);
    await signInAs(page, await world.token({ actor: `${world.actor}-other` }));
    await page.getByText('可退 ¥100.00').waitFor();
    expect(await page.getByText('上次退款').count()).toBe(0);
    await signOut(page);
    await page.goto(address);
    await signInAs(page, await world.token());
    await page.getByText('上次退款（¥100.00）结果未知').waitFor();
    world.allowProblems(/status of 401/);
  });
});

describe('an expired session', () => {
  test('holds its dialogue, however often Escape is pressed', async ({ world }) => {
    const page = await world.openConsole();
    await rows(page).first().waitFor();
    await world.expireSession(page);
    await page.getByRole('button', { name: '待支付', exact: true }).click();
    await expired(page).waitFor();
    for (let times = 0; times < 5; times++) await page.keyboard.press('Escape');
    expect(await expired(page).evaluate((element) => element.matches(':modal'))).toBe(true);
    world.allowProblems(/status of 401/);
  });

  test('that somebody else renews leaves them nothing of what was open', async ({ world }) => {
    const page = await openUnfinished(world);
    await page.getByRole('button', { name: '查询结果' }).click();
    await page.getByRole('dialog', { name: '结果未知' }).waitFor();
    await world.expireSession(page);
    await page.getByRole('dialog').getByRole('button', { name: '查询结果' }).click();
    await expired(page).waitFor();
    await world.signIn(page, await world.token({ actor: `${world.actor}-other` }));
    await lookAgain(page);
    await expired(page).waitFor({ state: 'detached' });
    await vi.waitFor(async () => expect(await page.getByText('结果未知').count()).toBe(0));
    await page.getByText('可退 ¥100.00').waitFor();
    expect(await page.getByText('上次退款').count()).toBe(0);
    world.allowProblems(/status of 401/);
  });
});

test('a wrong link says that it is wrong, wherever it is opened', async ({ world }) => {
  const page = await world.openConsole({ token: null, path: '/console/payments#token=nonsense' });
  const problem = page.getByRole('alert').getByText('令牌无效或已过期');
  await problem.waitFor();
  expect(new URL(page.url()).hash).toBe('');
  await page.reload();
  await tokenField(page).waitFor();
  expect(await problem.count()).toBe(0);
  // Pasted into the tab that already asks for it.
  await page.evaluate(() => location.assign('#token=nonsense'));
  await problem.waitFor();
  await signInAs(page, await world.token());
  await rows(page).first().waitFor();
  await signOut(page);
  await page.goBack();
  await tokenField(page).waitFor();
  expect(await problem.count()).toBe(0);
  world.allowProblems(/status of 40[01]/);
});

test('a link of somebody else asks before it takes the place of a session', async ({ world }) => {
  const page = await world.openConsole();
  await rows(page).first().waitFor();
  const other = `${world.actor}-other`;
  const token = await world.token({ actor: other });
  const account = (actor: string) =>
    page.getByRole('button', { name: `当前用户 ${actor}`, exact: true });
  /** Follows the link, and says what was asked. */
  const follow = async (accept: boolean) => {
    const asked = page.waitForEvent('dialog');
    await page.evaluate((hash) => {
      location.hash = hash;
    }, `token=${token}`);
    const question = await asked;
    await (accept ? question.accept() : question.dismiss());
    return question.message();
  };

  expect(await follow(false)).toContain(world.actor);
  await account(world.actor).waitFor();
  expect(new URL(page.url()).hash).toBe('');
  await follow(true);
  await account(other).waitFor();
});
