/** Typed clients, hono's and the one generated from the OpenAPI document: they compile, and their calls arrive. */
import { createExecutionContext } from 'cloudflare:test';
import { hc } from 'hono/client';
import { describe, expect, expectTypeOf, it } from 'vitest';
import worker, { type App } from '../src/index';
import { createClient, OPERATIONS, type Ops } from './client';
import { expectConforming } from './contract';
import { insertPayment, signToken, startApp } from './harness';

const app = await startApp();
const token = await signToken();
const send: typeof fetch = async (input, init) => {
  const request = new Request(input, init);
  const response = await worker.fetch(request, app.env, createExecutionContext());
  await expectConforming(request, response);
  return response;
};

/** How a whole export of one payment ends. */
const ONE_EXPORTED = /\r\n# 共 1 条,*\r\n$/;

describe('hc<App>', () => {
  const {
    payments,
    health,
    'openapi.json': contract,
  } = hc<App>('https://api.test', {
    fetch: send,
    headers: { Authorization: `Bearer ${token}` },
  });

  it('makes one call of each kind, with the types of what it sends and gets', async () => {
    const day = '2026-10-01';
    const id = await insertPayment(app.sql, { created_at: `${day}T12:00:00+08:00` });
    const { data: page } = await (
      await payments.$get({ query: { status: '1,3', size: '1' } })
    ).json();
    expect(page.list.map((payment) => payment.id)).toEqual([id]);
    expectTypeOf(page.list).items.toHaveProperty('status').toEqualTypeOf<0 | 1 | 2 | 3>();
    expectTypeOf(page.next_cursor).toEqualTypeOf<string | null>();

    const created = await payments[':id'].refund.$post({
      param: { id },
      header: { 'Idempotency-Key': 'a key' },
      json: { amount: '12.34', reason: '尺码不符' },
    });
    expect(created.status).toBe(201);
    const { data: refund } = await created.json();
    expectTypeOf(refund.status).toEqualTypeOf<0 | 1 | 2>();

    const settled = await payments[':id'].refunds[':refund_id'].$patch({
      param: { id, refund_id: refund.id },
      json: { status: 1 },
    });
    expect((await settled.json()).data).toEqual({ ...refund, status: 1 });

    const { data: detail } = await (await payments[':id'].$get({ param: { id } })).json();
    expect(detail.refunds[0]?.events.map((event) => event.to_status)).toEqual([0, 1]);
    expectTypeOf(detail.refundable_amount).toEqualTypeOf<string>();

    const { payment_no } = detail;
    const exported = await payments.export.$get({ query: { payment_no } });
    expect(await exported.text()).toMatch(ONE_EXPORTED);

    const { data: statistics } = await (
      await payments.statistics.$get({ query: { start_time: day, end_time: day } })
    ).json();
    expect(statistics.days.map((one) => one.day)).toEqual([day]);
    expectTypeOf(statistics.days[0]?.payments[0]?.amount).toEqualTypeOf<string | undefined>();

    expect((await (await health.$get()).json()).data.status).toBe('ok');
    expect((await (await health.ready.$get()).json()).data.kv).toBe('ok');
    expect(await (await contract.$get()).text()).toContain('"openapi":"3.1.1"');
  });

  it('does not compile with a parameter, header or field that there is not', async () => {
    const { ':id': one } = payments;
    const param = { id: '1', refund_id: '1' };
    const answers = await Promise.all([
      // @ts-expect-error: there is no siz
      payments.$get({ query: { siz: '1' } }),
      // @ts-expect-error: a query is text
      payments.$get({ query: { status: 4 } }),
      // @ts-expect-error: the id is missing
      one.$get({ param: {} }),
      // @ts-expect-error: the reason is missing
      one.refund.$post({ param, header: {}, json: { amount: '1' } }),
      // @ts-expect-error: 0 is no outcome
      one.refunds[':refund_id'].$patch({ param, json: { status: 0 } }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([400, 400, 400, 400, 400]);
  });
});

describe('the client generated from the document', () => {
  const client = createClient<Ops>(OPERATIONS, {
    serverUrl: 'https://api.test',
    fetch: send,
    auth: { bearer: token },
  });

  it('makes one call of each kind, with the types of what it sends and gets', async () => {
    const day = '2026-10-02';
    const id = await insertPayment(app.sql, { created_at: `${day}T12:00:00+08:00` });
    const page = await client.listPayments({
      query: { status: [1, 3], payment_method: ['alipay'], size: 1 },
    });
    expect(page.data.list.map((payment) => payment.id)).toEqual([id]);
    expectTypeOf(page.data.list).items.toHaveProperty('status').toEqualTypeOf<0 | 1 | 2 | 3>();

    const { data: refund } = await client.createRefund({
      path: { id },
      body: { amount: '12.34', reason: '尺码不符' },
    });
    const settled = await client.settleRefund({
      path: { id, refund_id: refund.id },
      body: { status: 1 },
    });
    expect(settled.data).toEqual({ ...refund, status: 1 });

    const { data: detail } = await client.getPayment({ path: { id } });
    expect(detail.refundable_amount).toBe('87.66');
    expectTypeOf(detail.callbacks).items.toHaveProperty('callback_no').toEqualTypeOf<string>();

    const { payment_no } = detail;
    expect(await client.exportPayments({ query: { payment_no } })).toMatch(ONE_EXPORTED);

    const statistics = await client.getStatistics({ query: { start_time: day, end_time: day } });
    expect(statistics.data.days.map((one) => one.day)).toEqual([day]);
    expectTypeOf(statistics.data.days).items.toHaveProperty('day').toEqualTypeOf<string>();

    expect((await client.getHealth()).data.status).toBe('ok');
    expect((await client.getReadiness()).data.kv).toBe('ok');
    expect((await client.getOpenApi()).openapi).toBe('3.1.1');
  });

  it('does not compile with a parameter or field that there is not', async () => {
    const refused = { status: 400 };
    // @ts-expect-error: there is no siz
    const list = client.listPayments({ query: { siz: 1 } });
    await expect(list).rejects.toMatchObject(refused);
    // @ts-expect-error: the reason is missing
    const refund = client.createRefund({ path: { id: '1' }, body: { amount: '1' } });
    await expect(refund).rejects.toMatchObject(refused);
  });
});
