/**
 * The harness itself: a page is shown, what goes wrong with it is noticed, and each fault does what it says.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { describe, expect, vi } from 'vitest';
import { axe, noSidewaysScroll, pressCounted } from './page.ts';
import { test, type World } from './world.ts';

describe('a page', () => {
  test('opens without an error and without a violation of its policy', async ({ world }) => {
    const page = await world.openConsole({ path: '/console/' });
    await page.locator('#console *').first().waitFor();
    expect(await page.title()).toContain('支付');
    expect(world.problems).toEqual([]);
  });

  test('has what was asked for', async ({ world }) => {
    const page = await world.openConsole({
      path: '/console/',
      viewport: { width: 390, height: 700 },
      theme: 'dark',
      locale: 'en-US',
      timezone: 'America/New_York',
    });
    const seen = await page.evaluate(() => ({
      width: innerWidth,
      isDark: matchMedia('(prefers-color-scheme: dark)').matches,
      language: navigator.language,
      zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    }));
    expect(seen).toEqual({
      width: 390,
      isDark: true,
      language: 'en-US',
      zone: 'America/New_York',
    });
  });

  test('sends the session to the Worker, and no script reads it', async ({ world }) => {
    const page = await world.openConsole({ path: '/console/' });
    await page.evaluate(() => fetch('/health'));
    expect(await page.evaluate(() => document.cookie)).toBe('');
    const asked = () => world.passed.findLast(({ path }) => path === '/health');
    expect(asked()).toMatchObject({
      status: 200,
      headers: { cookie: /^console=ey/, 'sec-fetch-site': 'same-origin' },
    });
    await world.expireSession(page);
    await page.evaluate(() => fetch('/health'));
    expect(asked()?.headers.cookie).toBeUndefined();
  });

  test('fails its test for what it logs, throws or is forbidden', async ({ world }) => {
    const page = await world.openConsole({ path: '/console/' });
    await page.evaluate(() => console.error('a word to the log'));
    await page.evaluate(() => void setTimeout(() => Promise.reject(new Error('nobody caught it'))));
    // The header's policy may forbid it, too; here the page has at least this one.
    await page.evaluate(() => {
      const policy = document.createElement('meta');
      policy.httpEquiv = 'Content-Security-Policy';
      policy.content = "img-src 'self'";
      document.head.append(policy);
      document.body.append(
        Object.assign(new Image(), { src: 'https://elsewhere.example/pixel.png' }),
      );
    });
    await vi.waitFor(() => {
      expect(world.problems).toContainEqual(expect.stringContaining('a word to the log'));
      expect(world.problems).toContainEqual(expect.stringMatching(/^thrown: .*nobody caught it/));
      expect(world.problems).toContainEqual(
        expect.stringMatching(/securitypolicyviolation of img-src: https:\/\/elsewhere\.example/),
      );
    });
    world.allowProblems(/a word to the log/, /nobody caught it/, /elsewhere\.example/);
    expect(world.problems).toEqual([]);
  });

  test('is looked at by axe, and measured', async ({ world }) => {
    const page = await world.openConsole({
      path: '/console/',
      viewport: { width: 320, height: 600 },
    });
    await noSidewaysScroll(page);
    await page.evaluate(() => {
      const wide = document.createElement('input');
      wide.style.width = '900px';
      document.body.replaceChildren(wide);
    });
    expect(await axe(page)).toContainEqual(
      expect.stringMatching(/^label \(critical\): .*input: ./),
    );
    await expect(noSidewaysScroll(page)).rejects.toThrow(/<input/);
  });
});

test('counts acts, and limits the moves between them', async ({ world }) => {
  const page = await world.openConsole({ path: '/console/' });
  await page.evaluate(() => {
    const fields = Array.from({ length: 14 }, (_, index) =>
      Object.assign(document.createElement('input'), { id: `field-${index}` }),
    );
    document.body.replaceChildren(...fields);
  });
  const acts = pressCounted(page);
  await acts.moveTo(page.locator('#field-1'));
  await acts.paste('ORD2026');
  await acts.press('Enter');
  expect(await page.locator('#field-1').inputValue()).toBe('ORD2026');
  expect(acts).toMatchObject({ count: 2, moves: 2 });
  await acts.type('12.34');
  await acts.click(page.locator('#field-0'));
  expect(acts).toMatchObject({ count: 4, moves: 2 });
  await expect(acts.moveTo(page.locator('#field-13'))).rejects.toThrow('more than 12 moves');
});

describe('an answer that is lost', () => {
  const refund = async (world: World, page: Page, id: string) => {
    const token = await world.token();
    return await page.evaluate(
      async ([path, authorization]) => {
        const response = await fetch(path, {
          method: 'POST',
          headers: { Authorization: authorization, 'Content-Type': 'application/json' },
          body: JSON.stringify({ amount: '1.00', reason: '补差价' }),
        });
        return response.status;
      },
      [`/payments/${id}/refund`, `Bearer ${token}`] as const,
    );
  };
  const countRefunds = async ({ sql }: World, id: string) =>
    (await sql.query('SELECT FROM payment_refunds WHERE payment_id = $1', [id])).rowCount;

  test('has had its effect, once', async ({ world }) => {
    const payment = await world.payment();
    const page = await world.openConsole({ path: '/console/' });
    // A connection that was used before, for Chromium to send the request again on another.
    await page.evaluate(() => fetch('/health'));
    const cut = world.cut({ method: 'POST', path: `/payments/${payment.id}/refund` });
    await expect(refund(world, page, payment.id)).rejects.toThrow('Failed to fetch');
    expect(await cut.happened).toBe(201);
    expect(await countRefunds(world, payment.id)).toBe(1);
    expect(world.passed.filter(({ path }) => path.endsWith('/refund'))).toHaveLength(1);
    expect(await refund(world, page, payment.id)).toBe(201);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('has had none where the request is lost', async ({ world }) => {
    const payment = await world.payment();
    const page = await world.openConsole({ path: '/console/' });
    const cut = world.cut({ path: /refund$/, lose: 'request' });
    await expect(refund(world, page, payment.id)).rejects.toThrow('Failed to fetch');
    expect(await cut.happened).toBe(0);
    expect(await countRefunds(world, payment.id)).toBe(0);
    world.allowProblems(/ERR_EMPTY_RESPONSE/);
  });

  test('ends an export in the middle', async ({ world }) => {
    const page = await world.openConsole({ path: '/console/' });
    const read = async () => {
      const token = await world.token();
      return await page.evaluate(async (authorization) => {
        const response = await fetch('/payments/export', {
          headers: { Authorization: authorization },
        });
        let text = '';
        try {
          for await (const chunk of response.body ?? []) text += new TextDecoder().decode(chunk);
          return { text, failed: false };
        } catch {
          return { text, failed: true };
        }
      }, `Bearer ${token}`);
    };
    const cut = world.cut({ path: '/payments/export', lose: 'body', afterBytes: 20_000 });
    const half = await read();
    expect(await cut.happened).toBe(200);
    expect(half.failed).toBe(true);
    expect(half.text.split('\n').length).toBeGreaterThan(50);
    expect(half.text).not.toContain('# 共');
    const whole = await read();
    expect(whole.failed).toBe(false);
    expect(whole.text).toMatch(/# 共 [\d,]+ 条/);
    world.allowProblems(/ERR_INCOMPLETE_CHUNKED_ENCODING/);
  });
});

describe('the API', () => {
  test('meets the faults of the database that a test wants', async ({ world }) => {
    await world.faults({ drop: 'before', times: 'always' });
    expect(await world.api('/payments')).toMatchObject({ status: 503, code: 50300 });
    await world.faults();
    const requests = await world.databaseRequests(async () => {
      expect(await world.api('/payments?size=1')).toMatchObject({ status: 200, code: 0 });
    });
    expect(requests).toBe(1);
  });

  test('has the payments that a test makes, and refunds them at the gateways', async ({
    world,
  }) => {
    const payment = await world.payment({
      method: 'wechat',
      amount: '80.00',
      refunds: [{ amount: '30.00', status: 1 }, { amount: '20.00' }],
    });
    const path = `/payments/${payment.id}`;
    expect((await world.api(path)).data).toMatchObject({
      payment_no: payment.payment_no,
      refunded_amount: '30.00',
      refundable_amount: '30.00',
    });
    const made = await world.api(`${path}/refund`, {
      method: 'POST',
      body: { amount: '30.00', reason: '拍错了' },
    });
    expect(made).toMatchObject({ status: 201, data: { status: 0 } });
    await vi.waitFor(
      async () => {
        const { data } = await world.api(path, { headers: { 'Cache-Control': 'no-cache' } });
        expect(data).toMatchObject({ refunded_amount: '60.00' });
      },
      { timeout: 15_000, interval: 500 },
    );
  });
});

test('ends the browser with whoever started it, however that ends', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'payments-harness-'));
  const child = spawn(process.execPath, ['--input-type=module', '-e', START_BROWSER], {
    cwd: join(import.meta.dirname, '..', '..'),
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [output] = await once(child.stdout, 'data');
    const pid = Number(String(output));
    expect(isRunning(pid)).toBe(true);
    child.kill('SIGKILL');
    await vi.waitFor(() => expect(isRunning(pid)).toBe(false), { timeout: 30_000 });
  } finally {
    child.kill('SIGKILL');
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
});

const START_BROWSER = `
  import { chromium } from 'playwright-core';
  import { launchChromium } from './dev/chromium.ts';
  const server = await launchChromium((options) => chromium.launchServer(options));
  console.log(server.process().pid);
`;

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
