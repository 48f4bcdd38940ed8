/**
 * Proves what GET /payments/export writes: CSV that a strict reader and a spreadsheet take, the rows
 * of the list, each once, and never a file that is short without saying so.
 */
import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { ExportQuery } from '../../src/payments/export';
import { insertPayment, startApp, type TestApp } from '../harness';

const HEADER =
  '支付记录ID,订单ID,订单号,支付单号,支付方式,支付金额,已退款金额,退款处理中金额,支付状态,支付时间,退款时间,创建时间,更新时间';
const COLUMNS = HEADER.split(',').length;
const [ORDER_NO, PAYMENT_NO, CREATED_AT] = [2, 3, 11];

/** Splits CSV as RFC 4180 has it, and throws where it is not: bare line ends, stray quotes, ragged records. */
function parse(text: string): string[][] {
  const records: string[][] = [[]];
  const cell = /("(?:[^"]|"")*"|[^",\r\n]*)(,|\r\n)/y;
  while (cell.lastIndex < text.length) {
    const at = cell.lastIndex;
    const [, raw = '', end] = cell.exec(text) ?? [];
    if (end === undefined) throw new Error(`no CSV: ${JSON.stringify(text.slice(at, at + 50))}`);
    records.at(-1)?.push(raw.startsWith('"') ? raw.slice(1, -1).replaceAll('""', '"') : raw);
    if (end === '\r\n') records.push([]);
  }
  if (records.pop()?.length !== 0) throw new Error('the last line has no end');
  for (const record of records) expect(record).toHaveLength(COLUMNS);
  return records;
}

/** The records between the header and the last line, and that line. */
function read(text: string) {
  const [header, ...records] = parse(text);
  expect(header?.join()).toBe(HEADER);
  const last = records.pop() ?? [];
  expect(last.slice(1).join('')).toBe('');
  return { rows: records, last: last[0] };
}

async function exported(app: TestApp, search = '', env = {}) {
  const response = await app.send('GET', `/payments/export?${search}`, { env });
  expect(response.status).toBe(200);
  // text() drops the BOM, which has a test of its own.
  return read(await response.text());
}

const ids = ({ rows }: { rows: string[][] }) => rows.map(([id]) => id);

/** The app before this many payments a microsecond apart, with ids in their order. */
async function startWith(count: number) {
  const app = await startApp();
  await app.sql`
    INSERT INTO payments (order_id, payment_no, payment_method, amount, status, created_at)
    SELECT n, 'PAY' || n, (ARRAY['alipay', 'wechat', 'bank'])[1 + n % 3], n, n % 4,
      timestamptz '2026-11-01T00:00:00Z' + n * interval '1 microsecond'
    FROM generate_series(1, ${count}::int) AS n`;
  return app;
}

/** Of `count` payments made by startWith(), newest first. */
const newestFirst = (count: number) =>
  Array.from({ length: count }, (_, index) => String(count - index));

afterEach(() => {
  vi.restoreAllMocks();
});

describe('the file', () => {
  it('holds every column of a payment, what was refunded, and says how many there are', async () => {
    const app = await startApp();
    await app.sql`INSERT INTO orders (id, order_no) VALUES (7, 'ORD-7')`;
    const id = await insertPayment(app.sql, {
      order_id: '7',
      payment_no: 'PAY-1',
      amount: '9999999999999999.99',
      payment_time: '2026-10-31T16:00:01.999Z',
      created_at: '2026-10-31T15:59:59.999999Z',
    });
    await app.sql`UPDATE payments SET refund_time = '2026-11-02T00:00:00Z', updated_at = '2026-11-03T00:00:00Z'`;
    await app.sql`INSERT INTO payment_refunds (payment_id, refund_no, amount, status)
      VALUES (${id}, 'R1', 10, 1), (${id}, 'R2', 0.10, 1), (${id}, 'R3', 5, 0), (${id}, 'R4', 70, 2)`;
    await app.sql`INSERT INTO payments (order_id, payment_no, payment_method, amount, created_at, updated_at)
      VALUES (8, 'PAY-2', 'bank', 0, '2026-10-31T00:00:00Z', NULL)`;

    const response = await app.send('GET', '/payments/export');
    expect(response.status).toBe(200);
    expect(response.headers.get('Content-Type')).toBe('text/csv; charset=utf-8');
    expect(response.headers.get('Content-Disposition')).toMatch(
      /^attachment; filename="payments-20\d{12}\.csv"$/,
    );
    expect(response.headers.get('Cache-Control')).toBe('no-store');
    const bytes = new Uint8Array(await response.arrayBuffer());
    expect(bytes.slice(0, 3)).toEqual(new Uint8Array([0xef, 0xbb, 0xbf]));
    expect(new TextDecoder().decode(bytes)).toBe(
      [
        HEADER,
        `${id},7,ORD-7,PAY-1,支付宝,9999999999999999.99,10.10,5.00,支付成功,2026-11-01 00:00:01,2026-11-02 08:00:00,2026-10-31 23:59:59,2026-11-03 08:00:00`,
        `${Number(id) + 1},8,,PAY-2,银行,0.00,0.00,0.00,待支付,,,2026-10-31 08:00:00,`,
        '# 共 2 条,,,,,,,,,,,,',
        '',
      ].join('\r\n'),
    );
  });

  it('has its header and last line where there is no payment', async () => {
    expect(await exported(await startApp())).toEqual({ rows: [], last: '# 共 0 条' });
  });

  it('shows times in TIME_ZONE, and takes the filters to be meant in it', async () => {
    const app = await startApp();
    await insertPayment(app.sql, { created_at: '2026-11-01T03:59:59Z' });
    await insertPayment(app.sql, { created_at: '2026-11-01T06:30:00Z' });
    const times = async (zone: string, search: string) =>
      (await exported(app, search, { TIME_ZONE: zone })).rows.map((row) => row[CREATED_AT]);
    const day = 'start_time=2026-11-01&end_time=2026-11-01';
    expect(await times('Asia/Shanghai', day)).toEqual([
      '2026-11-01 14:30:00',
      '2026-11-01 11:59:59',
    ]);
    // New York's clocks show this half hour twice.
    expect(await times('America/New_York', day)).toEqual(['2026-11-01 01:30:00']);
  });

  it.each([
    // What a spreadsheet would calculate
    ['=1+1', "'=1+1"],
    ['+8613800000000', "'+8613800000000"],
    ['-1', "'-1"],
    ['@SUM(A1)', "'@SUM(A1)"],
    ['\t=1', "'\t=1"],
    ['\r=1', "'\r=1"],
    ['\n=1', "'\n=1"],
    ['=HYPERLINK("https://evil.test","点我")', '\'=HYPERLINK("https://evil.test","点我")'],
    // Digits that it would change
    ['1234567890123456', '1234567890123456\t'],
    ['0012', '0012\t'],
    ['12345E67', '12345E67\t'],
    ['2026-11-01', '2026-11-01\t'],
    ['123456789012', '123456789012\t'],
    // What it leaves alone
    ['0', '0'],
    ['12345678901', '12345678901'],
    ['A=1+1', 'A=1+1'],
    ["'=1", "'=1"],
    [' =1', ' =1'],
    // What RFC 4180 quotes
    ['a,b', 'a,b'],
    ['a"b', 'a"b'],
    ['"', '"'],
    ['一行\r\n二行', '一行\r\n二行'],
    ['a\nb', 'a\nb'],
    ['a\rb', 'a\rb'],
    ['订单，号🙂', '订单，号🙂'],
  ])('writes %j as the cell %j', async (stored, cell) => {
    const app = await startApp();
    await app.sql`INSERT INTO orders (id, order_no) VALUES (1, ${stored})`;
    await insertPayment(app.sql, { order_id: '1', payment_no: stored });
    const { rows } = await exported(app);
    expect([rows[0]?.[ORDER_NO], rows[0]?.[PAYMENT_NO]]).toEqual([cell, cell]);
  });

  it('can be read back whatever text is in it', async () => {
    const app = await startApp();
    const piece = fc.constantFrom('"', ',', '\r', '\n', '\r\n', '=', '\t', '0', ' ', '支付', '🙂');
    const text = fc.array(piece, { minLength: 1, maxLength: 12 }).map((pieces) => pieces.join(''));
    const texts = fc.sample(fc.tuple(text, text), 300);
    await app.sql`
      INSERT INTO orders (id, order_no)
      SELECT n, o || n FROM unnest(${texts.map(([one]) => one)}::text[]) WITH ORDINALITY AS t(o, n)`;
    await app.sql`
      INSERT INTO payments (order_id, payment_no, payment_method, amount, created_at)
      SELECT n, p || n, 'bank', 1, timestamptz '2026-11-01' - n * interval '1 second'
      FROM unnest(${texts.map(([, other]) => other)}::text[]) WITH ORDINALITY AS t(p, n)`;
    const { rows } = await exported(app);
    const plain = (cell = '') => cell.replace(/^'(?=[=\t\r\n])/, '').replace(/(?<=^\d.*)\t$/s, '');
    expect(rows.map((row) => [plain(row[ORDER_NO]), plain(row[PAYMENT_NO])])).toEqual(
      texts.map(([one, other], index) => [`${one}${index + 1}`, `${other}${index + 1}`]),
    );
  });
});

describe('the rows', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startWith(60);
    await app.sql`INSERT INTO orders (id, order_no) VALUES (1, 'ORD-1'), (2, 'ORD-2')`;
  });

  it('can be chosen by the filters of the list, and by nothing else', () => {
    expect(Object.keys(ExportQuery('UTC').shape)).toEqual([
      'order_no',
      'payment_no',
      'status',
      'payment_method',
      'refund_state',
      'start_time',
      'end_time',
    ]);
  });

  it.each([
    '',
    'status=1',
    'status=0,3',
    'payment_method=wechat',
    'payment_method=bank,alipay&status=2',
    'refund_state=none',
    'refund_state=partial,full&status=1,3',
    'order_no=ORD-2',
    'order_no=ORD-3',
    'payment_no=PAY7',
    'payment_no=PAY7&status=1',
    'start_time=2026-11-01T00:00:00.000010Z&end_time=2026-11-01T00:00:00.000020Z',
    'end_time=2026-10-31',
    'status=&start_time=',
  ])('are those of the list for ?%s', async (search) => {
    const Listed = z.object({ list: z.array(z.object({ id: z.string() })) });
    const { data } = await app.call('GET', `/payments?${search}&size=100`, Listed);
    expect(ids(await exported(app, search))).toEqual(data.list.map(({ id }) => id));
  });
});

describe('2,500 payments', () => {
  it('take three round trips, and each comes once while others are inserted', async () => {
    const app = await startWith(2500);
    const fetch = globalThis.fetch;
    let chunks = 0;
    vi.spyOn(globalThis, 'fetch').mockImplementation(async (...request) => {
      const response = await fetch(...request);
      if (String(request[1]?.body).includes('JOIN LATERAL')) {
        chunks += 1;
        // One at the very top, and one in the microsecond at which the chunk ended, before its row in the order.
        await insertPayment(app.sql, { created_at: '2026-12-01' });
        await app.sql`
          INSERT INTO payments (order_id, payment_no, payment_method, amount, created_at)
          SELECT 1, 'NEW' || id, 'bank', 1, created_at FROM payments WHERE id = ${2501 - 1000 * chunks}`;
      }
      return response;
    });
    const { rows, last } = await exported(app);
    expect(chunks).toBe(3);
    expect(ids({ rows })).toEqual(newestFirst(2500));
    expect(last).toBe('# 共 2500 条');
  });

  it('are fetched as they are read, and no longer when nobody reads on', async () => {
    const app = await startWith(2500);
    const info = vi.spyOn(console, 'info').mockImplementation(() => {});
    const reader = (await app.send('GET', '/payments/export')).body?.getReader();
    const requests = (work: () => Promise<unknown>) => app.databaseRequests(work);
    const next = async () => reader?.read();
    // The header and the first chunk, which was fetched before the status was known.
    expect(await requests(next)).toBe(0);
    expect(await requests(next)).toBe(0);
    expect(await requests(next)).toBe(1);
    expect(await requests(async () => reader?.cancel())).toBe(0);
    expect(JSON.parse(String(info.mock.lastCall))).toMatchObject({
      event: 'export',
      outcome: 'cancelled',
      rows: 2000,
      database_requests: 2,
    });
  });

  it('are logged when they are written', async () => {
    const app = await startWith(2500);
    const info = vi.spyOn(console, 'info').mockImplementation(() => {});
    const headers = { 'X-Request-Id': 'export-1' };
    await (await app.send('GET', '/payments/export?payment_no=', { headers })).text();
    expect(info.mock.calls.map((line) => JSON.parse(String(line)))).toMatchObject([
      { event: 'request', request_id: 'export-1', route: '/payments/export', status: 200 },
      {
        event: 'export',
        request_id: 'export-1',
        outcome: 'complete',
        rows: 2500,
        database_requests: 3,
      },
    ]);
  });
});

describe('a fault of the database', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startWith(2500);
  });
  afterEach(() => app.faults());

  const INTERRUPTED = '# 导出中断：以上 1000 条并非全部，请重新导出或缩小筛选范围';

  it.each([
    [503, 50300, {}, { status: 503, times: 2 }],
    [504, 50400, { DATABASE_TIMEOUT_MS: '100' }, { hold: 'before' }],
    [500, 50000, {}, { status: 400, body: { code: '42P01', message: 'no such table' } }],
  ] as const)('before the first row is answered with %i', async (status, code, env, fault) => {
    await app.faults(fault);
    const reply = await app.call('GET', '/payments/export', z.null(), { env });
    expect([reply.status, reply.code]).toEqual([status, code]);
    expect(reply.headers.get('Content-Disposition')).toBeNull();
  });

  it.each([
    ['a database that is down', {}, { status: 503, times: 2 }],
    ['a database that is too slow', { DATABASE_TIMEOUT_MS: '1000' }, { hold: 'before' }],
    ['a lost connection', {}, { drop: 'after', times: 2 }],
    ['an error', {}, { status: 400, body: { code: '42P01', message: 'no such table' } }],
  ] as const)(
    'in the middle, %s, is the last line of the file and in the log',
    async (_, env, fault) => {
      vi.spyOn(console, 'info').mockImplementation(() => {});
      const error = vi.spyOn(console, 'error').mockImplementation(() => {});
      await app.faults({ delayMs: 0 }, fault);
      const { rows, last } = await exported(app, '', env);
      expect(ids({ rows })).toEqual(newestFirst(2500).slice(0, 1000));
      expect(last).toBe(INTERRUPTED);
      expect(error.mock.calls).toHaveLength(1);
      expect(JSON.parse(String(error.mock.calls[0]))).toMatchObject({
        event: 'export',
        outcome: 'failed',
        rows: 1000,
        error: { name: expect.any(String) },
      });
    },
  );

  it('that passes is not noticed', async () => {
    await app.faults({ delayMs: 0 }, { status: 503 }, { delayMs: 0 }, { drop: 'after' });
    const { rows, last } = await exported(app);
    expect(ids({ rows })).toEqual(newestFirst(2500));
    expect(last).toBe('# 共 2500 条');
  });

  it('is what the limit of subrequests looks like', async () => {
    vi.spyOn(console, 'info').mockImplementation(() => {});
    vi.spyOn(console, 'error').mockImplementation(() => {});
    const response = await app.send('GET', '/payments/export');
    const tooMany = new Error('Too many subrequests.');
    vi.spyOn(globalThis, 'fetch').mockRejectedValueOnce(tooMany).mockRejectedValueOnce(tooMany);
    expect(read(await response.text()).last).toBe(INTERRUPTED);
  });
});
