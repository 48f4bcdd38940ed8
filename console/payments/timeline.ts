/**
 * What happened to a payment, newest first, put together of the detail and of what passed between us and its
 * gateway. Events of the same instant keep the order of cause.
 */
import type { Callback, DetailRefund, GatewayLog, PaymentDetail, RefundEvent } from '../types';

type GatewayCall = GatewayLog['requests'][number];
type Notification = GatewayLog['notifications'][number];

/** One entry. `calls` are calls of one kind in a row with the same outcome, oldest first. */
export type Entry =
  | { kind: 'created'; at: string }
  | { kind: 'callback'; at: string; callback: Callback }
  | { kind: 'paid'; at: string }
  | { kind: 'refund'; at: string; refund: DetailRefund; event: RefundEvent | undefined }
  | { kind: 'calls'; at: string; calls: GatewayCall[] }
  | { kind: 'notification'; at: string; notification: Notification }
  | { kind: 'change'; at: string; refund: DetailRefund; event: RefundEvent };

/** The order of cause: what is said comes before what follows from it. */
const CAUSES: Entry['kind'][] = [
  'created',
  'callback',
  'paid',
  'refund',
  'calls',
  'notification',
  'change',
];

/** All entries, newest first. */
export function timelineOf(payment: PaymentDetail, log: GatewayLog | undefined): Entry[] {
  const entries: Entry[] = [{ kind: 'created', at: payment.created_at }];
  if (payment.payment_time) entries.push({ kind: 'paid', at: payment.payment_time });
  for (const callback of payment.callbacks) {
    entries.push({ kind: 'callback', at: callback.created_at, callback });
  }
  for (const refund of payment.refunds) {
    const creation = refund.events.find(({ from_status }) => from_status === null);
    entries.push({ kind: 'refund', at: refund.created_at, refund, event: creation });
    for (const event of refund.events) {
      if (event !== creation) entries.push({ kind: 'change', at: event.created_at, refund, event });
    }
  }
  for (const notification of log?.notifications ?? []) {
    entries.push({ kind: 'notification', at: notification.received_at, notification });
  }
  for (const calls of inARow(log?.requests ?? [])) {
    entries.push({ kind: 'calls', at: calls.at(-1)?.ended_at ?? '', calls });
  }
  return entries
    .map((entry, index) => ({ entry, index }))
    .sort(
      (a, b) =>
        Date.parse(b.entry.at) - Date.parse(a.entry.at) ||
        CAUSES.indexOf(b.entry.kind) - CAUSES.indexOf(a.entry.kind) ||
        b.index - a.index,
    )
    .map(({ entry }) => entry);
}

/** A refund that is asked about for days makes one entry, and not a hundred. */
function inARow(newestFirst: GatewayCall[]): GatewayCall[][] {
  const rows: GatewayCall[][] = [];
  const latest = new Map<string, GatewayCall[]>();
  for (const call of newestFirst.toReversed()) {
    const row = latest.get(call.refund_id);
    const last = row?.at(-1);
    if (row && last && isAlike(last, call)) {
      row.push(call);
    } else {
      const next = [call];
      latest.set(call.refund_id, next);
      rows.push(next);
    }
  }
  return rows;
}

function isAlike(one: GatewayCall, other: GatewayCall): boolean {
  return (
    one.operation === other.operation && one.outcome === other.outcome && one.code === other.code
  );
}
