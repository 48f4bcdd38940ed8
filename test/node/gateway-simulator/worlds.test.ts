/** What the simulated gateways have in common: worlds that are apart, faults, and what `npm run dev` uses. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { DEV_OPTIONS } from '../../../dev/gateways/contract.ts';
import { makeKeys } from '../../../dev/gateways/keys.ts';
import { type Simulator, startSimulator } from '../../../dev/gateways/simulator.ts';
import { DAY, Fields, HOUR, keys, MINUTE, SECOND, startWorld } from './client.ts';

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ keys });
});
afterAll(() => simulator.stop());

const newWorld = () => startWorld(simulator.url);

describe('a world', () => {
  test('keeps its books, clock and faults to itself', async () => {
    const [one, other] = [newWorld(), newWorld()];
    await one.order();
    await one.faults({ drop: 'before', times: 'always' });
    await one.advance(HOUR);
    const state = await other.state();
    expect(state).toMatchObject({ orders: [], faults: 0, requests: {} });
    expect((await one.state()).now - state.now).toBeGreaterThan(59 * MINUTE);
    await one.control('DELETE', 'control');
    expect(await one.state()).toMatchObject({ orders: [], faults: 0 });
  });

  test('has an origin of its own, where no path names it', async () => {
    const world = newWorld();
    await world.order();
    const { origin } = await world.control<{ origin: string }>('POST', 'control/origin');
    expect(await world.control('POST', 'control/origin')).toEqual({ origin });
    const control = await fetch(`${origin}/control`);
    expect(await control.json()).toMatchObject({ orders: [{ outTradeNo: 'ORDER0001' }] });
    const next = await fetch(`${origin}/next`, { method: 'PUT', body: 'CLOSED' });
    expect(next.status).toBe(200);
    const wechat = await fetch(`${origin}/v3/refund/domestic/refunds/R1`);
    expect(await wechat.json()).toMatchObject({ code: 'PARAM_ERROR' });
    const alipay = await fetch(`${origin}/gateway.do`, { method: 'POST' });
    expect(await alipay.text()).toContain('error_response');
  });

  test('never refunds more than was paid, however many ask at once', async () => {
    const world = newWorld();
    await world.order();
    await world.configure({ wechatGap: 'off', settle: { afterMs: 0, outcome: 'SUCCESS' } });
    const amount = { refund: 3_000, total: 10_000, currency: 'CNY' };
    const answers = await Promise.all(
      ['R1', 'R2', 'R3', 'R4', 'R5', 'R1'].map((out_refund_no) =>
        world.wechatRefund({ out_refund_no, amount }),
      ),
    );
    expect(answers.filter(({ http }) => http === 200)).toHaveLength(4);
    const { refunds } = await world.state();
    expect(refunds.map(({ moved, movedTimes }) => [moved, movedTimes])).toEqual([
      [3_000, 1],
      [3_000, 1],
      [3_000, 1],
    ]);
  });

  test('refuses a fault and an option that would do nothing', async () => {
    const world = newWorld();
    const refused = expect.objectContaining({ message: expect.stringContaining('error') });
    await expect(world.control('PUT', 'control/faults', { faults: [{ hang: 1 }] })).rejects.toEqual(
      refused,
    );
    await expect(world.control('PUT', 'control', { clok: 'real' })).rejects.toEqual(refused);
    const callbackUrl = 'https://elsewhere.test/';
    await expect(world.control('PUT', 'control', { callbackUrl })).rejects.toEqual(refused);
    await expect(world.control('PUT', 'next', 'NONSENSE')).rejects.toEqual(refused);
  });

  test('signs by the machine’s clock for an application whose clock stands', async () => {
    const world = newWorld();
    await world.order();
    await world.configure({ signingClock: 'machine' });
    await world.advance(DAY);
    expect(await world.wechatRefund({}, { ago: DAY / SECOND })).toMatchObject({ http: 200 });
    expect(await world.wechatRefund()).toMatchObject({ http: 401 });
  });

  test('takes faults for the gateway and the operation that they name', async () => {
    const world = newWorld();
    await world.order();
    await world.faults(
      { operation: 'query', gateway: 'alipay', drop: 'before' },
      { operation: 'query', status: 500 },
      { operation: 'refund', none: true },
      { operation: 'refund', status: 500, times: 2 },
    );
    expect(await world.wechatRefund()).toMatchObject({ http: 200 });
    expect(await world.wechatRefund()).toMatchObject({ http: 500 });
    expect(await world.wechatQuery()).toMatchObject({ http: 500 });
    expect(await world.wechatRefund()).toMatchObject({ http: 500 });
    expect(await world.wechatRefund()).toMatchObject({ http: 200 });
    expect(await world.state()).toMatchObject({
      faults: 1,
      requests: { 'wechat.refund': 4, 'wechat.query': 1 },
    });
  });
});

describe('for development', () => {
  /** Keys and a simulator as `npm run dev` has them, and an application that takes callbacks. */
  async function startDev(answers: number[] = []) {
    const { keys: made, variables: from } = await makeKeys();
    const received: { url: string | undefined; headers: unknown; body: string }[] = [];
    const application = createServer(async (request, response) => {
      const body = await text(request);
      received.push({ url: request.url, headers: request.headers, body });
      response.writeHead(answers.shift() ?? 204).end();
    });
    await once(application.listen(0, '127.0.0.1'), 'listening');
    const address = application.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const dev = await startSimulator({
      keys: made,
      options: { ...DEV_OPTIONS, callbackUrl: `http://127.0.0.1:${port}/`, callbackDelayMs: 0 },
      findOrder: async (gateway, { outTradeNo }) =>
        gateway === 'alipay' && outTradeNo === 'ORDER0001'
          ? { outTradeNo, total: 10_000, state: 'paid' }
          : undefined,
    });
    return {
      received,
      world: startWorld(dev.url, from),
      async [Symbol.asyncDispose]() {
        await dev.stop();
        application.closeAllConnections();
        application.close();
      },
    };
  }

  test('takes any order, settles by itself and posts the callback', async () => {
    await using dev = await startDev();
    await dev.world.configure({ settle: { afterMs: 50, outcome: 'SUCCESS' } });
    const answer = await dev.world.wechatRefund();
    expect(JSON.parse(answer.raw)).toMatchObject({ status: 'PROCESSING' });
    await vi.waitUntil(() => dev.received.length > 0);
    expect(dev.received[0]?.url).toBe('/callbacks/wechat');
    const taken = { state: 'taken', attempts: [{ status: 204 }] };
    await vi.waitFor(async () => {
      expect((await dev.world.state()).callbacks).toMatchObject([taken]);
    });
  });

  test('finds an order elsewhere, and repeats a notification until it is taken', async () => {
    await using dev = await startDev([503]);
    expect(await dev.world.alipayRefund()).toMatchObject({ fund_change: 'Y' });
    await vi.waitUntil(() => dev.received.length === 1);
    await vi.waitUntil(async () => (await dev.world.state()).callbacks[0]?.state === 'waiting');
    await dev.world.advance(4 * MINUTE);
    expect(dev.received).toHaveLength(2);
    const ids = dev.received.map(({ body }) => new URLSearchParams(body).get('notify_id'));
    expect(new Set(ids).size).toBe(1);
  });

  test('does to the next refund what one word says', async () => {
    await using dev = await startDev();
    const { world } = dev;
    await world.configure({ settle: { afterMs: 0, outcome: 'SUCCESS' } });
    const send = async (word: string, number: number) => {
      await world.control('PUT', 'next', word);
      const names = { out_trade_no: `ORDER000${number}`, out_refund_no: `R${number}` };
      const answer = await world.wechatRefund(names).catch(() => undefined);
      return answer && { http: answer.http, ...Fields.parse(JSON.parse(answer.raw)) };
    };
    expect(await send('SUCCESS', 1)).toMatchObject({ status: 'SUCCESS' });
    expect(await send('ABNORMAL', 2)).toMatchObject({ status: 'ABNORMAL' });
    expect(await send('CLOSED', 3)).toMatchObject({ status: 'CLOSED' });
    expect(await send('NOT_ENOUGH', 4)).toMatchObject({ http: 403 });
    expect(await send('SYSTEM_ERROR', 5)).toMatchObject({ http: 500 });
    expect(await send('DROP', 6)).toBeUndefined();
    const hung = send('HANG', 7);
    await world.control('GET', 'control/held?count=1');
    await world.control('POST', 'control/release');
    expect(await hung).toMatchObject({ http: 200 });
    const { refunds } = await world.state();
    expect(refunds.map(({ state }) => state)).toEqual([
      ...['SUCCESS', 'ABNORMAL', 'CLOSED', 'SUCCESS', 'SUCCESS', 'SUCCESS'],
    ]);
  });

  test('stops while a request is held', async () => {
    const dev = await startDev();
    await dev.world.control('PUT', 'next', 'HANG');
    const held = dev.world.wechatRefund().catch(() => 'cut');
    await dev.world.control('GET', 'control/held?count=1');
    await dev[Symbol.asyncDispose]();
    expect(await held).toBe('cut');
  });
});
