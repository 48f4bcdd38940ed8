/** Whether an export is whole, and how its filters are told. */
import { describe, expect, test } from 'vitest';
import { filtersInWords } from '../../../console/payments/filter-words.ts';
import { fileName, markedName, recordCounter } from '../../../console/payments/records.ts';

const HEAD = '\uFEFF支付记录ID,订单号,支付单号\r\n';
const ROW = '1,"a ""b"",\r\nc",P1\r\n';
const LAST = (rows: number) => `# 共 ${rows} 条,,\r\n`;

/** What a counter says of a file that comes in pieces of so many bytes. */
function judge(file: string, size = 1_000) {
  const bytes = new TextEncoder().encode(file);
  const counter = recordCounter();
  for (let at = 0; at < bytes.length; at += size) counter.push(bytes.subarray(at, at + size));
  return counter.verdict();
}

describe('the records of an export', () => {
  test('are whole where the last line counts them, whatever the pieces', () => {
    const file = HEAD + ROW.repeat(3) + LAST(3);
    for (const size of [1, 2, 3, 7, 64, 1_000]) {
      expect(judge(file, size)).toEqual({ complete: true, rows: 3 });
    }
  });

  test('may be none', () => {
    expect(judge(HEAD + LAST(0))).toEqual({ complete: true, rows: 0 });
    expect(judge('')).toEqual({ complete: false, rows: 0 });
  });

  test('are not whole without the last line', () => {
    expect(judge(HEAD + ROW.repeat(2))).toEqual({ complete: false, rows: 2 });
    expect(judge(`${HEAD}${ROW.repeat(2)}2,"a`)).toEqual({ complete: false, rows: 2 });
  });

  test('are not whole where the last line is cut or counts others', () => {
    expect(judge(`${HEAD}${ROW}# 共 1 条,`)).toEqual({ complete: false, rows: 1 });
    expect(judge(HEAD + ROW + LAST(2))).toEqual({ complete: false, rows: 1 });
    expect(judge(`${HEAD}${ROW}${LAST(1)}2`)).toMatchObject({ complete: false });
  });

  test('are not whole where the API says that it broke off', () => {
    const broken = '# 导出中断：以上 2 条并非全部，请重新导出或缩小筛选范围,,\r\n';
    expect(judge(HEAD + ROW.repeat(2) + broken)).toEqual({ complete: false, rows: 2 });
  });

  test('are not taken for the last line within a quoted field', () => {
    expect(judge(`${HEAD}1,"x\r\n# 共 0 条\r\n",P1\r\n`)).toEqual({ complete: false, rows: 1 });
  });

  test('are counted on the way', () => {
    const counter = recordCounter();
    expect(counter.rows()).toBe(0);
    counter.push(new TextEncoder().encode(HEAD + ROW.repeat(5)));
    expect(counter.rows()).toBe(5);
  });
});

describe('the name of an export', () => {
  test('is the one that the API gives', () => {
    expect(fileName('attachment; filename="payments-20261125.csv"')).toBe('payments-20261125.csv');
    expect(fileName('attachment; filename="../x.csv"')).toBe('payments.csv');
    expect(fileName(null)).toBe('payments.csv');
  });

  test('says where it is not whole', () => {
    expect(markedName('payments-1.csv', '不完整')).toBe('payments-1-不完整.csv');
    expect(markedName('payments', '不完整')).toBe('payments-不完整');
  });
});

describe('filters in words', () => {
  const words = {
    language: 'zh-CN',
    names: { status: '状态', order_no: '订单号' },
    values: { status: { 1: '支付成功', 3: '已退款' } },
    created: '创建时间',
    since: '{from} 起',
    until: '截至 {to}',
    between: '{from} – {to}',
  };
  const told = (query: Record<string, string>) =>
    filtersInWords(query, words, (text, values) =>
      text.replace(/\{(\w+)\}/g, (_, name: string) => values[name] ?? ''),
    ).map(({ name, value }) => `${name}：${value}`);

  test('name the values, and leave alone what they do not know', () => {
    expect(told({ status: '1,3', order_no: 'A1' })).toEqual([
      '状态：支付成功或已退款',
      '订单号：A1',
    ]);
    expect(told({ status: '9' })).toEqual(['状态：9']);
    expect(told({ status: '', size: '20' })).toEqual([]);
  });

  test('tell a range by its ends', () => {
    expect(told({ start_time: '2026-11-01', end_time: '2026-11-30' })).toEqual([
      '创建时间：2026-11-01 – 2026-11-30',
    ]);
    expect(told({ start_time: '2026-11-01', end_time: '2026-11-01' })).toEqual([
      '创建时间：2026-11-01',
    ]);
    expect(told({ start_time: '2026-11-01' })).toEqual(['创建时间：2026-11-01 起']);
    expect(told({ end_time: '2026-11-01' })).toEqual(['创建时间：截至 2026-11-01']);
  });
});
