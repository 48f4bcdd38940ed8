/** How tests and developers steer a world. The list of what there is stands in simulator.ts. */
import { z } from 'zod';
import { alipayMessage } from './alipay-answers.ts';
import { type Message, post } from './callbacks.ts';
import {
  CallbackAnswer,
  CallbackWish,
  Changes,
  FaultList,
  type Gateway,
  type Instant,
  Milliseconds,
  NewOrder,
  NextWord,
  type Order,
  type Posted,
  type Refund,
  Settlement,
  type SimulatorState,
} from './contract.ts';
import type { SimulatorKeys } from './keys.ts';
import {
  otherCallback,
  paymentCallback,
  refundCallback,
  wechatMessage,
  xmlMessage,
} from './wechat-answers.ts';
import { makeNumber, type World } from './world.ts';

export interface Json {
  status: number;
  value: unknown;
}

interface ControlRequest {
  method: string;
  /** With the query; begins with control, next or topup. */
  path: string;
  body: string;
}

class Unprocessable extends Error {}

export async function handleControl(
  { method, path, body }: ControlRequest,
  world: World,
  keys: SimulatorKeys,
): Promise<Json> {
  const [pathname = '', query] = path.split('?');
  const json = (): unknown => (body === '' ? {} : JSON.parse(body));
  const done = (status = 200): Json => ({ status, value: stateOf(world) });
  try {
    switch (`${method} ${pathname}`) {
      case 'GET control':
        return done();
      case 'PUT control': {
        const { now, ...changes } = Changes.parse(json());
        world.configure(changes);
        if (now !== undefined) await world.clock.moveTo(toTime(now));
        return done();
      }
      case 'PUT control/faults':
        world.faults.set(FaultList.parse(json()).faults);
        return done();
      case 'GET control/held': {
        const count = Number(new URLSearchParams(query).get('count') ?? 1);
        return done((await world.faults.waitForHeld(count)) ? 200 : 408);
      }
      case 'POST control/release':
        world.faults.release();
        return done();
      case 'POST control/advance':
        await world.clock.advance(z.strictObject({ ms: Milliseconds }).parse(json()).ms);
        return done();
      case 'POST control/orders': {
        const orders = z.union([NewOrder.transform((one) => [one]), z.array(NewOrder)]);
        return { status: 200, value: orders.parse(json()).map((order) => register(order, world)) };
      }
      case 'POST control/settle': {
        const { outRefundNo, outcome, gateway } = Settlement.parse(json());
        const refund = findRefund(outRefundNo, gateway, world);
        if (refund === undefined) throw new Unprocessable('there is no such refund');
        world.settle(refund, outcome);
        return done();
      }
      case 'GET control/callbacks':
        return { status: 200, value: world.callbacks.drain() };
      case 'POST control/callbacks/answer': {
        const { id, ...answer } = CallbackAnswer.parse(json());
        if (!world.callbacks.answer(id, answer)) throw new Unprocessable('it is not out');
        return { status: 200, value: {} };
      }
      case 'POST control/callback':
        return { status: 200, value: makeCallback(CallbackWish.parse(json()), world, keys) };
      case 'PUT next':
        world.setNext(NextWord.parse(body.trim()));
        return { status: 200, value: { next: body.trim() } };
      case 'PUT topup':
        world.topUp(body.trim() === '' ? null : Milliseconds.parse(Number(body)));
        return done();
      default:
        return { status: 404, value: { error: `There is no ${method} ${pathname}.` } };
    }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { status: 422, value: { error: message } };
  }
}

function stateOf(world: World): SimulatorState {
  const { options, orders, refunds, requests, rejected, faults, callbacks, clock } = world;
  return {
    now: clock.now(),
    options,
    orders,
    refunds,
    requests,
    rejected,
    held: faults.heldCount,
    faults: faults.size,
    callbacks: callbacks.state(),
  };
}

function toTime(instant: Instant): number {
  return typeof instant === 'number' ? instant : Date.parse(instant);
}

function register(order: NewOrder, world: World): Order {
  const now = world.clock.now();
  const { gateway, outTradeNo, total } = order;
  const known = world.findOrder(gateway, { outTradeNo });
  return world.putOrder({
    gateway,
    outTradeNo,
    total,
    tradeNo: order.tradeNo ?? known?.tradeNo ?? makeNumber(gateway === 'wechat' ? '42' : '', now),
    payerTotal: order.payerTotal ?? null,
    paidAt: order.paidAt === undefined ? (known?.paidAt ?? now) : toTime(order.paidAt),
    state: order.state ?? 'paid',
    payerReachable: order.payerReachable ?? true,
  });
}

function findRefund(
  outRefundNo: string | undefined,
  gateway: Gateway | undefined,
  world: World,
): Refund | undefined {
  return world.refunds.find(
    (refund) =>
      refund.outRefundNo === outRefundNo && (gateway ?? refund.gateway) === refund.gateway,
  );
}

function makeCallback(
  wish: CallbackWish,
  world: World,
  keys: SimulatorKeys,
): Omit<Posted, 'id' | 'attempt'> {
  const message = makeMessage(wish, world, keys);
  if (wish.repeat || world.options.callbackUrl !== null) {
    world.callbacks.queue(message);
    if (wish.twice) world.callbacks.queue(message);
  }
  return post(message, world.signingTime());
}

function makeMessage(wish: CallbackWish, world: World, keys: SimulatorKeys): Message {
  const { alter, key, id } = wish;
  const kind = wish.kind ?? (wish.outRefundNo === undefined ? 'payment' : 'refund');
  const known = findRefund(wish.outRefundNo, wish.gateway, world);
  const gateway = wish.gateway ?? known?.gateway ?? 'wechat';
  if (gateway === 'wechat') {
    if (alter === 'app_id' || alter === 'seller_id') throw new Unprocessable('that is Alipay’s');
    if (kind === 'xml') return xmlMessage(keys.wechat);
    const callback =
      kind === 'echo' || kind === 'unknown'
        ? otherCallback(kind === 'echo' ? 'SECURITY_ECHO.SUCCESS' : 'SIMULATED.UNKNOWN')
        : kind === 'payment'
          ? paymentCallback(wishedOrder(wish, known, gateway, world), keys.wechat)
          : wishedRefundCallback(wish, known, world, keys);
    return wechatMessage(callback, world, keys.wechat, { alter, key, id });
  }
  if (
    alter !== undefined &&
    alter !== 'body' &&
    alter !== 'signature' &&
    alter !== 'app_id' &&
    alter !== 'seller_id'
  ) {
    throw new Unprocessable('that is WeChat’s');
  }
  const order = wishedOrder(wish, known, gateway, world);
  const refunded = wish.refunded ?? world.moved(order);
  const isAll = kind === 'refund' && refunded === order.total;
  const unpaid = { unpaid: 'WAIT_BUYER_PAY', closed: 'TRADE_CLOSED', finished: 'TRADE_FINISHED' };
  const status =
    wish.status ??
    (order.state === 'paid' ? (isAll ? 'TRADE_CLOSED' : 'TRADE_SUCCESS') : unpaid[order.state]);
  const refund =
    kind === 'refund'
      ? (known ?? { outRefundNo: wish.outRefundNo ?? '', succeededAt: null })
      : null;
  const notification = { order, status, refund, refunded };
  return alipayMessage(notification, world, keys.alipay, { alter, id });
}

function wishedOrder(
  wish: CallbackWish,
  refund: Refund | undefined,
  gateway: Gateway,
  world: World,
): Order {
  const names = { outTradeNo: wish.outTradeNo ?? refund?.outTradeNo };
  const known = world.findOrder(gateway, names);
  const now = world.clock.now();
  const { total = known?.total, tradeNo = known?.tradeNo } = wish;
  if (names.outTradeNo === undefined || total === undefined) {
    throw new Unprocessable('the order is not in the books: name outTradeNo and total');
  }
  return {
    gateway,
    outTradeNo: names.outTradeNo,
    payerTotal: known?.payerTotal ?? null,
    paidAt: known?.paidAt ?? now,
    state: known?.state ?? 'paid',
    payerReachable: true,
    refundedAt: null,
    askedAt: null,
    total,
    tradeNo: tradeNo ?? makeNumber('', now),
  };
}

function wishedRefundCallback(
  wish: CallbackWish,
  known: Refund | undefined,
  world: World,
  { wechat }: SimulatorKeys,
) {
  const now = world.clock.now();
  const order = wishedOrder(wish, known, 'wechat', world);
  const fen = wish.fen ?? known?.fen;
  if (fen === undefined) throw new Unprocessable('the refund is not in the books: name fen');
  const refund = {
    outRefundNo: wish.outRefundNo ?? '',
    refundId: known?.refundId ?? makeNumber('503', now),
    outTradeNo: order.outTradeNo,
    tradeNo: order.tradeNo,
    notifyUrl: known?.notifyUrl ?? null,
    succeededAt: known?.succeededAt ?? null,
    fen,
  };
  const state = wish.outcome ?? known?.state ?? 'SUCCESS';
  return refundCallback(refund, state, order, now, wechat);
}
