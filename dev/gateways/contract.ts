/**
 * What the simulator is told and what it says, as the control API has it (simulator.ts lists the
 * routes). Imports nothing of Node, so tests inside workerd can use the types.
 */
import { z } from 'zod';

export const Gateway = z.enum(['wechat', 'alipay']);
export type Gateway = z.infer<typeof Gateway>;

/** `order` asks about a payment, `close` closes one, `abnormal` is WeChat's apply-abnormal-refund. */
export const Operation = z.enum(['refund', 'query', 'order', 'close', 'abnormal']);
export type Operation = z.infer<typeof Operation>;

export const RefundState = z.enum(['SUCCESS', 'PROCESSING', 'ABNORMAL', 'CLOSED']);
export type RefundState = z.infer<typeof RefundState>;

export const Milliseconds = z.int().min(0);

/** Which requests take the fault: all, unless told. */
const Selection = {
  gateway: Gateway.optional(),
  operation: Operation.optional(),
  /** How many requests; one unless told. */
  times: z.union([z.int().min(1), z.literal('always')]).optional(),
  /** Ends this long after its first request, by the world's clock, whatever `times` says. */
  forMs: Milliseconds.optional(),
};

/** A code alone is enough: `ACQ.…` comes as 40004, `isp.…` and `aop.…` as 20000. */
const Code = z.string().min(1);

export const Fault = z.union([
  /** No fault at all, to let a request through. */
  z.strictObject({ ...Selection, none: z.literal(true) }),
  /** Cuts the connection: `before` executing, or `after` it, so that the answer is lost. */
  z.strictObject({ ...Selection, drop: z.enum(['before', 'after']) }),
  /** Waits for `release`; a request whose client has gone is executed all the same. */
  z.strictObject({ ...Selection, hold: z.enum(['before', 'after']) }),
  /** Waits, in real time. */
  z.strictObject({
    ...Selection,
    delayMs: Milliseconds.max(2_147_483_647),
    when: z.enum(['before', 'after']).optional(),
  }),
  /**
   * Answers this instead of executing. A `body` is sent as it is, unsigned. `unsigned` puts the code
   * into an answer without signature, which Alipay calls error_response.
   */
  z.strictObject({
    ...Selection,
    status: z.int().min(200).max(599),
    code: Code.optional(),
    body: z.string().optional(),
    unsigned: z.boolean().optional(),
  }),
  /** Executes, then answers this. */
  z.strictObject({
    ...Selection,
    statusAfter: z.int().min(200).max(599),
    code: Code.optional(),
    body: z.string().optional(),
    unsigned: z.boolean().optional(),
  }),
  /** Executes, and spoils the signature of the answer. Alipay's has no time, so it has no `stale`. */
  z.strictObject({ ...Selection, sign: z.enum(['none', 'stale', 'altered', 'unknown_serial']) }),
  /** What becomes of the refund: at once, or after so many milliseconds of PROCESSING. */
  z.strictObject({ ...Selection, outcome: RefundState, afterMs: Milliseconds.optional() }),
  /** Answers 307 to another address, without executing. */
  z.strictObject({ ...Selection, redirect: z.string() }),
]);
export type Fault = z.infer<typeof Fault>;

/** One word for the next refund of either gateway: `curl -X PUT $SIM/dev/next -d ABNORMAL`. */
export const NextWord = z.enum([
  'SUCCESS',
  'ABNORMAL',
  'CLOSED',
  'HANG',
  'NOT_ENOUGH',
  'DROP',
  'SYSTEM_ERROR',
]);
export type NextWord = z.infer<typeof NextWord>;

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]'];

export const WorldOptions = z.strictObject({
  /** `virtual` stands still until it is moved. `real` runs, and can be moved too. */
  clock: z.enum(['virtual', 'real']),
  /**
   * Whose time signatures carry and are checked by. `machine` is for an application whose clock does not
   * follow the world's: it refuses what is more than five minutes off.
   */
  signingClock: z.enum(['world', 'machine']),
  /**
   * Takes an order that is not registered as paid. WeChat's total is the first refund's; Alipay's has
   * none, so it can be refunded without end, and no notification is made.
   */
  anyOrder: z.boolean(),
  /** Where callbacks are posted to, on this machine; null to collect them only. */
  callbackUrl: z
    .url({ protocol: /^https?$/ })
    .refine((url) => LOOPBACK.includes(new URL(url).hostname), 'is not on this machine')
    .nullable(),
  /** False: none is ever made. */
  callbacks: z.boolean(),
  /** How long after the event the first one is due. */
  callbackDelayMs: Milliseconds,
  /** WeChat: how long PROCESSING lasts, null for ever, and what follows. Zero: the answer says it. */
  settle: z.strictObject({
    afterMs: Milliseconds.nullable(),
    outcome: z.enum(['SUCCESS', 'ABNORMAL', 'CLOSED']),
  }),
  /** WeChat, 60 s for an order: between two refunds, or between any two requests, repeats included. */
  wechatGap: z.enum(['off', 'refunds', 'requests']),
  /** Alipay, 3 s between two refunds of an order. */
  alipayGap: z.boolean(),
  /** WeChat: that many refund requests may fail in a second, then it answers 429; null: no limit. */
  failingPerSecond: z.int().min(1).nullable(),
  /** How long a refund stays invisible to queries. */
  wechatVisibleAfterMs: Milliseconds,
  alipayVisibleAfterMs: Milliseconds,
  /** The share of WeChat's callbacks that the new key signs, the public key. */
  newKeyShare: z.number().min(0).max(1),
  associatedData: z.enum(['normal', 'empty', 'absent']),
  /** Alipay: `normal` is Y when money moved and N on a repeat. */
  fundChange: z.enum(['normal', 'N', 'missing']),
  /** False: Alipay's query shows a finished refund without refund_status. */
  alipayRefundStatus: z.boolean(),
  /** False: as of an Alipay product that sends no notification about a refund. */
  alipayRefundNotifications: z.boolean(),
  /** Whether an empty parameter of a notification is part of the signed text. */
  alipayEmptyParameter: z.enum(['signed', 'unsigned']),
  /** Fen that both accounts have together; null: enough. */
  balance: z.int().min(0).nullable(),
});
export type WorldOptions = z.infer<typeof WorldOptions>;

/** What a test starts with: the gateways' own rules, and a clock that stands still. */
export const TEST_OPTIONS: WorldOptions = {
  clock: 'virtual',
  signingClock: 'world',
  anyOrder: false,
  callbackUrl: null,
  callbacks: true,
  callbackDelayMs: 0,
  settle: { afterMs: 2_000, outcome: 'SUCCESS' },
  wechatGap: 'refunds',
  alipayGap: true,
  failingPerSecond: null,
  wechatVisibleAfterMs: 0,
  alipayVisibleAfterMs: 10_000,
  newKeyShare: 1,
  associatedData: 'normal',
  fundChange: 'normal',
  alipayRefundStatus: true,
  alipayRefundNotifications: true,
  alipayEmptyParameter: 'signed',
  balance: null,
};

/** For `npm run dev`, beside `callbackUrl`. */
export const DEV_OPTIONS: WorldOptions = {
  ...TEST_OPTIONS,
  clock: 'real',
  anyOrder: true,
  callbackDelayMs: 500,
  failingPerSecond: 6,
};

export const Order = z.object({
  gateway: Gateway,
  outTradeNo: z.string(),
  tradeNo: z.string(),
  /** Fen; null where nobody has said it, which only Alipay allows. */
  total: z.number().nullable(),
  /** Fen; less than `total` where the payer had a coupon. */
  payerTotal: z.number().nullable(),
  /** Milliseconds since 1970. */
  paidAt: z.number(),
  /** `finished`: Alipay's refund window is over. */
  state: z.enum(['paid', 'unpaid', 'closed', 'finished']),
  /** False: the payer's account is void, so WeChat refuses. */
  payerReachable: z.boolean(),
  /** When a refund was last accepted, and when one was last asked for. */
  refundedAt: z.number().nullable(),
  askedAt: z.number().nullable(),
});
export type Order = z.infer<typeof Order>;

const Payout = z.object({
  type: z.string(),
  bankAccount: z.string().nullable(),
  realName: z.string().nullable(),
});

export const Refund = z.object({
  gateway: Gateway,
  outRefundNo: z.string(),
  refundId: z.string(),
  outTradeNo: z.string(),
  tradeNo: z.string(),
  fen: z.number(),
  reason: z.string().nullable(),
  notifyUrl: z.string().nullable(),
  state: RefundState,
  createdAt: z.number(),
  succeededAt: z.number().nullable(),
  /** How many requests asked for it. */
  sent: z.number(),
  /** How often it has moved money, at most once, and how many fen. */
  movedTimes: z.number(),
  moved: z.number(),
  /** What WeChat's apply-abnormal-refund named, decrypted. */
  payout: Payout.nullable(),
});
export type Refund = z.infer<typeof Refund>;

/** A callback as it goes over the wire. */
export interface Posted {
  id: string;
  gateway: Gateway;
  event: string;
  number: string | null;
  /** One for the first. */
  attempt: number;
  path: string;
  headers: Record<string, string>;
  bodyBase64: string;
}

/** A callback and what came of it. */
export interface DeliveryState {
  id: string;
  gateway: Gateway;
  event: string;
  number: string | null;
  /** `out`: delivered and not yet answered. */
  state: 'waiting' | 'due' | 'out' | 'taken' | 'given up';
  attempts: { at: number; status: number | null; body: string }[];
}

/** GET …/control. */
export interface SimulatorState {
  /** Milliseconds since 1970, by the world's clock. */
  now: number;
  options: WorldOptions;
  orders: Order[];
  refunds: Refund[];
  /** By `<gateway>.<operation>`, rejected ones included. */
  requests: Record<string, number>;
  /** Those that did not verify. */
  rejected: { gateway: Gateway; operation: Operation | null; code: string }[];
  /** Requests being held right now. */
  held: number;
  /** Faults not yet used up. */
  faults: number;
  callbacks: DeliveryState[];
}

/** Milliseconds since 1970, or RFC 3339. */
export const Instant = z.union([Milliseconds, z.iso.datetime({ offset: true })]);
export type Instant = z.infer<typeof Instant>;

/** PUT …/control. `now` sets the clock. */
export const Changes = WorldOptions.partial().extend({ now: Instant.optional() });
export type Changes = z.infer<typeof Changes>;

/** PUT …/control/faults. */
export const FaultList = z.strictObject({ faults: z.array(Fault).max(1_000) });

/** POST …/control/orders. */
export const NewOrder = z.strictObject({
  gateway: Gateway,
  outTradeNo: z.string().min(1).max(64),
  tradeNo: z.string().min(1).max(64).optional(),
  total: z.int().min(1),
  payerTotal: z.int().min(0).nullable().optional(),
  /** Now, unless told. */
  paidAt: Instant.optional(),
  state: z.enum(['paid', 'unpaid', 'closed', 'finished']).optional(),
  payerReachable: z.boolean().optional(),
});
export type NewOrder = z.infer<typeof NewOrder>;

/** POST …/control/settle. */
export const Settlement = z.strictObject({
  outRefundNo: z.string(),
  outcome: RefundState.exclude(['PROCESSING']),
  gateway: Gateway.optional(),
});

/** POST …/control/callbacks/answer. */
export const CallbackAnswer = z.strictObject({
  id: z.string(),
  status: z.int(),
  body: z.string().default(''),
  /** How long it took; above 5,000 it counts as none. */
  tookMs: Milliseconds.default(0),
});

/**
 * POST …/control/callback: a callback that need not be true. What the books don't know, the wish has to
 * say: a refund needs `outTradeNo`, `fen` and, like a payment, `total` where the order is unknown too.
 */
export const CallbackWish = z.strictObject({
  /** `refund` where a refund is named, else `payment`. The others are WeChat's. */
  kind: z.enum(['refund', 'payment', 'echo', 'unknown', 'xml']).optional(),
  gateway: Gateway.optional(),
  outRefundNo: z.string().optional(),
  outTradeNo: z.string().optional(),
  tradeNo: z.string().optional(),
  fen: z.int().optional(),
  total: z.int().optional(),
  /** What it says of the refund; what the books say, unless told. */
  outcome: RefundState.optional(),
  /** Alipay's trade_status. */
  status: z.string().optional(),
  /** Alipay's refund_fee: all refunds of the order so far; what the books say, unless told. */
  refunded: z.int().optional(),
  alter: z
    .enum([
      ...(['body', 'signature', 'ciphertext', 'stale', 'unknown_serial', 'probe'] as const),
      ...(['mchid', 'appid', 'app_id', 'seller_id'] as const),
    ])
    .optional(),
  /** WeChat's key. */
  key: z.enum(['public_key', 'certificate']).optional(),
  /** WeChat's id or Alipay's notify_id, to repeat one. */
  id: z.string().optional(),
  /** Also among the callbacks, where it is repeated until it is answered. */
  repeat: z.boolean().optional(),
  twice: z.boolean().optional(),
});
export type CallbackWish = z.infer<typeof CallbackWish>;
