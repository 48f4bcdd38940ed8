/**
 * Fills an empty database with about 2,000 payments of the last 90 days to look at: every method and
 * status, repeated attempts, callbacks, partial and full refunds. The same each time, but for the
 * moment that counts as now, and consistent: what was refunded never exceeds what was paid, and a
 * payment is 已退款 exactly when its successful refunds add up to it.
 */
import type pg from 'pg';

const ORDERS = 1_850;
const DAYS = 90;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const SEED = 20_261_122;
/** Order ids are snowflakes counted from here, which puts all of them above 2^53. */
const SNOWFLAKE_EPOCH = Date.UTC(2020, 0, 1);

const REASONS = [
  '七天无理由退货',
  '商品与描述不符',
  '收到的商品有破损',
  '尺码不合适，申请退款',
  '漏发一件，退差价',
  '拍错规格，重新下单',
  '物流超时未送达',
  '价格保护，退还差额',
  '活动优惠未生效，补退优惠金额',
  '重复支付',
];

/** Money is counted in whole fen here and becomes a decimal string on its way to the database. */
interface Payment {
  order_id: string;
  payment_no: string;
  payment_method: Method;
  amount: string;
  status: 0 | 1 | 2 | 3;
  payment_time: string | null;
  refund_time: string | null;
  created_at: string;
  updated_at: string;
}
interface Callback {
  payment_no: string;
  callback_no: string;
  status: 0 | 1 | 2;
  created_at: string;
}
interface Refund {
  payment_no: string;
  refund_no: string;
  amount: string;
  reason: string;
  status: 0 | 1 | 2;
  created_at: string;
  updated_at: string;
}
type Method = 'alipay' | 'wechat' | 'bank';

/** Returns the number of payments inserted: 0 where there is one already. One transaction. */
export async function insertSampleData(client: pg.Client): Promise<number> {
  const found = await client.query('SELECT FROM payments LIMIT 1');
  if (found.rowCount !== 0) return 0;
  const data = new Generator(Date.now()).generate();
  await client.query('BEGIN');
  try {
    await client.query(
      `INSERT INTO orders (id, order_no)
       SELECT id, order_no FROM json_to_recordset($1) AS row (id bigint, order_no text)`,
      [JSON.stringify(data.orders)],
    );
    await client.query(
      `INSERT INTO payments (order_id, payment_no, payment_method, amount, status, payment_time, refund_time, created_at, updated_at)
       SELECT order_id, payment_no, payment_method, amount, status, payment_time, refund_time, created_at, updated_at
       FROM json_to_recordset($1) AS row (order_id bigint, payment_no text, payment_method text, amount numeric, status int,
         payment_time timestamptz, refund_time timestamptz, created_at timestamptz, updated_at timestamptz)
       ORDER BY created_at`,
      [JSON.stringify(data.payments)],
    );
    await client.query(
      `INSERT INTO payment_callbacks (payment_id, callback_no, status, created_at, updated_at)
       SELECT payments.id, callback_no, row.status, row.created_at, row.created_at
       FROM json_to_recordset($1) AS row (payment_no text, callback_no text, status int, created_at timestamptz)
       JOIN payments USING (payment_no) ORDER BY row.created_at`,
      [JSON.stringify(data.callbacks)],
    );
    await client.query(
      `INSERT INTO payment_refunds (payment_id, refund_no, amount, reason, status, created_at, updated_at)
       SELECT payments.id, refund_no, row.amount, reason, row.status, row.created_at, row.updated_at
       FROM json_to_recordset($1) AS row (payment_no text, refund_no text, amount numeric, reason text, status int,
         created_at timestamptz, updated_at timestamptz)
       JOIN payments USING (payment_no) ORDER BY row.created_at`,
      [JSON.stringify(data.refunds)],
    );
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
  await client.query('ANALYZE');
  return data.payments.length;
}

class Generator {
  private readonly now: number;
  private seed = SEED;
  private readonly orders: { id: string; order_no: string }[] = [];
  private readonly payments: Payment[] = [];
  private readonly callbacks: Callback[] = [];
  private readonly refunds: Refund[] = [];

  constructor(now: number) {
    this.now = now;
  }

  generate() {
    for (let i = 0; i < ORDERS; i++) this.order(i);
    const { orders, payments, callbacks, refunds } = this;
    return { orders, payments, callbacks, refunds };
  }

  /** An order is paid at the first attempt, or after a failed one. */
  private order(index: number): void {
    // Two hours ago at the latest, so that what follows a payment is not in the future.
    const placed = this.now - 2 * HOUR - this.below(DAYS * DAY - 2 * HOUR);
    const id = ((BigInt(placed - SNOWFLAKE_EPOCH) << 22n) | BigInt(index)).toString();
    // One in fifty belongs to an order that the order module no longer knows.
    if (!this.chance(0.02)) {
      this.orders.push({ id, order_no: `ORD${this.stamp(placed).slice(0, 8)}${pad(index, 6)}` });
    }
    const method = this.pick<Method>([
      [46, 'alipay'],
      [42, 'wechat'],
      [12, 'bank'],
    ]);
    const fen = this.price(method);
    if (this.chance(0.09)) {
      this.payment(id, method, fen, placed, 2);
      if (this.chance(0.9))
        this.payment(id, method, fen, placed + 2 * MINUTE + this.below(10 * MINUTE), 1);
      return;
    }
    const status = this.pick<0 | 1 | 3>([
      [6, 0],
      [85, 1],
      [9, 3],
    ]);
    this.payment(id, method, fen, placed, status);
  }

  private payment(
    orderId: string,
    method: Method,
    fen: number,
    created: number,
    status: 0 | 1 | 2 | 3,
  ): void {
    const number = `PAY${this.stamp(created)}${pad(this.payments.length, 6)}`;
    const decided = created + 5 * SECOND + this.below(5 * MINUTE);
    const notified = this.notify(number, method, status, decided);
    const paid = status === 1 || status === 3;
    const refunded =
      status === 3
        ? this.refundAll(number, fen, decided)
        : status === 1 && this.chance(0.1)
          ? this.refundPart(number, fen, decided)
          : undefined;
    this.payments.push({
      order_id: orderId,
      payment_no: number,
      payment_method: method,
      amount: yuan(fen),
      status,
      payment_time: paid ? iso(decided) : null,
      refund_time: status === 3 && refunded !== undefined ? iso(refunded) : null,
      created_at: iso(created),
      updated_at: iso(status === 3 ? (refunded ?? notified) : status === 0 ? created : notified),
    });
  }

  /** The channel's callbacks: up to two that say "processing" before the outcome; when the last came. */
  private notify(number: string, method: Method, status: 0 | 1 | 2 | 3, decided: number): number {
    const outcome =
      status === 0 ? [] : status === 2 ? (this.chance(0.8) ? [2 as const] : []) : [1 as const];
    const earlier = this.pick([
      [75, 0],
      [18, 1],
      [7, 2],
    ]);
    const statuses = [...Array.from({ length: earlier }, () => 0 as const), ...outcome];
    let at = decided;
    for (const [index, callbackStatus] of statuses.entries()) {
      // The outcome arrives when it is decided, what came before it a few seconds earlier.
      at = decided - (statuses.length - 1 - index) * SECOND;
      const prefix = { alipay: '2088', wechat: '4200', bank: '6222' }[method];
      this.callbacks.push({
        payment_no: number,
        callback_no: `${prefix}${this.stamp(at)}${pad(this.callbacks.length, 8)}`,
        status: callbackStatus,
        created_at: iso(at),
      });
    }
    return at;
  }

  /** One to three successful refunds that add up to the payment, sometimes after a failed one; when the last ended. */
  private refundAll(number: string, fen: number, paid: number): number {
    const parts = this.split(
      fen,
      this.pick([
        [80, 1],
        [15, 2],
        [5, 3],
      ]),
    );
    const entries: [number, 0 | 1 | 2][] = parts.map((part) => [part, 1]);
    if (this.chance(0.1)) entries.unshift([fen, 2]);
    return this.addRefunds(number, entries, paid);
  }

  /** Refunds that leave something of the payment, or whose last part is still being processed. */
  private refundPart(number: string, fen: number, paid: number): number {
    const [first = fen, ...rest] = this.split(fen, 3);
    const entries = this.pick<[number, 0 | 1 | 2][]>([
      [35, [[first, 1]]],
      [25, [[first, 0]]],
      [
        15,
        [
          [first, 1],
          [rest[0] ?? first, 0],
        ],
      ],
      [10, [[fen, 0]]],
      [10, [[fen, 2]]],
      [
        5,
        [
          [fen, 2],
          [first, 1],
        ],
      ],
    ]);
    // A payment of a few fen cannot be split: all of it is being refunded.
    const success = entries.reduce((sum, [part, status]) => (status === 1 ? sum + part : sum), 0);
    return this.addRefunds(number, success < fen ? entries : [[fen, 0]], paid);
  }

  private addRefunds(number: string, entries: [number, 0 | 1 | 2][], paid: number): number {
    // Within a week of the payment, and before now.
    const span = Math.min(7 * DAY, this.now - 10 * MINUTE - paid);
    const reason = REASONS[this.below(REASONS.length)] ?? '';
    let at = paid + Math.floor((span * (10 + this.below(60))) / 100);
    let ended = at;
    for (const [part, status] of entries) {
      ended = status === 0 ? at : at + 30 * SECOND + this.below(60 * SECOND);
      this.refunds.push({
        payment_no: number,
        refund_no: `RF${this.stamp(at)}${pad(this.refunds.length, 6)}`,
        amount: yuan(part),
        reason,
        status,
        created_at: iso(at),
        updated_at: iso(ended),
      });
      at = ended + MINUTE;
    }
    return ended;
  }

  /** Cuts an amount into parts of at least one fen; into fewer where it is too small. */
  private split(fen: number, parts: number): number[] {
    const cuts = new Set<number>();
    for (let i = 1; i < parts && fen > 1; i++) cuts.add(1 + this.below(fen - 1));
    const edges = [0, ...[...cuts].sort((a, b) => a - b), fen];
    return edges.slice(1).map((edge, index) => edge - (edges[index] ?? 0));
  }

  private price(method: Method): number {
    if (method === 'bank') return 100_000 + this.below(4_900_000);
    const yuanPart = this.pick([
      [5, () => 0],
      [45, () => 5 + this.below(95)],
      [35, () => 100 + this.below(400)],
      [15, () => 500 + this.below(4_500)],
    ])();
    return (
      yuanPart * 100 +
      (yuanPart === 0
        ? 1 + this.below(99)
        : this.pick([
            [40, 90],
            [30, 0],
            [30, this.below(100)],
          ]))
    );
  }

  /** Year to second in Asia/Shanghai, as the numbers of Chinese channels carry it. */
  private stamp(time: number): string {
    return iso(time + 8 * HOUR)
      .replace(/\D/g, '')
      .slice(0, 14);
  }

  private pick<T>(weighted: [number, T][]): T {
    let ticket = this.below(weighted.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, value] of weighted) {
      if (ticket < weight) return value;
      ticket -= weight;
    }
    throw new Error('nothing to pick from');
  }

  private chance(probability: number): boolean {
    return this.random() < probability;
  }

  private below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  /** Mulberry32: small, and the same everywhere. */
  private random(): number {
    this.seed = (this.seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.seed ^ (this.seed >>> 15), 1 | this.seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

function yuan(fen: number): string {
  return `${Math.floor(fen / 100)}.${pad(fen % 100, 2)}`;
}

function iso(time: number): string {
  return new Date(time).toISOString();
}

function pad(value: number, digits: number): string {
  return String(value).padStart(digits, '0');
}
