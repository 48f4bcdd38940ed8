/** The timeline of a payment, as it is shown. */
import type { ComponentChildren } from 'preact';
import { offset } from '../format';
import {
  CallbackStatus,
  explained,
  Foreign,
  Identifier,
  Money,
  RefundStatus,
  Time,
} from '../parts';
import { zone } from '../session';
import { fill, texts } from '../texts';
import type { GatewayLog, PaymentDetail, RefundEvent } from '../types';
import { type Entry, timelineOf } from './timeline';

/** Newest first. */
export function Timeline(props: {
  payment: PaymentDetail;
  log: GatewayLog | undefined;
  /** What passed between us and the gateway could not be read, or not anew. */
  isIncomplete?: boolean;
}) {
  const { payment, log, isIncomplete = false } = props;
  const { detail, event: words } = texts.value;
  const isCut =
    payment.callbacks_total > payment.callbacks.length ||
    payment.refunds_total > payment.refunds.length ||
    (log && log.requests_total > log.requests.length);
  return (
    <section class="card" aria-labelledby="timeline">
      <h2 id="timeline">
        {detail.timeline} <span class="muted small">{offset(zone())}</span>
      </h2>
      {isIncomplete && (
        <p class="muted" role="status">
          {words.incomplete}
        </p>
      )}
      <ol class="timeline">
        {timelineOf(payment, log).map((entry) => (
          <li key={keyOf(entry)} data-kind={entry.kind}>
            <EntryText entry={entry} />
          </li>
        ))}
      </ol>
      {isCut && <p class="muted">{words.older}</p>}
    </section>
  );
}

function keyOf(entry: Entry): string {
  switch (entry.kind) {
    case 'callback':
      return `callback ${entry.callback.id}`;
    case 'refund':
      return `refund ${entry.refund.id}`;
    case 'change':
      return `change ${entry.refund.id} ${entry.at} ${entry.event.to_status}`;
    case 'calls':
      return `calls ${entry.calls[0]?.refund_id} ${entry.calls[0]?.started_at}`;
    case 'notification':
      return `notification ${entry.at} ${entry.notification.event}`;
    default:
      return entry.kind;
  }
}

function EntryText({ entry }: { entry: Entry }) {
  const { event: words, detail } = texts.value;
  switch (entry.kind) {
    case 'created':
      return <Line title={words.created} at={entry.at} />;
    case 'paid':
      return <Line title={words.paid} at={entry.at} />;
    case 'callback':
      return (
        <Line title={words.callback} at={entry.at}>
          <CallbackStatus status={entry.callback.status} />
          <Identifier
            text={entry.callback.callback_no}
            what={texts.value.search.kinds.callback_no ?? ''}
          />
        </Line>
      );
    case 'refund':
      return (
        <Line
          title={words.refundCreated}
          at={entry.at}
          event={entry.event}
          note={entry.refund.reason}
        >
          <Money amount={entry.refund.amount} />
          <Identifier text={entry.refund.refund_no} what={detail.columns.number} />
        </Line>
      );
    case 'change': {
      const { event, refund } = entry;
      const title =
        event.cause === 'person'
          ? words.refundForced
          : event.from_status === 0
            ? words.refundEnded
            : words.refundCorrected;
      return (
        <Line title={title} at={entry.at} event={event} note={event.reason}>
          <RefundStatus status={event.to_status} />
          <Money amount={refund.amount} />
          {event.cause && <span class="muted">{words.cause[event.cause]}</span>}
        </Line>
      );
    }
    case 'notification': {
      const { event, deliveries, processed_at } = entry.notification;
      return (
        <Line title={words.notification} at={entry.at}>
          <code>
            <Foreign text={event} />
          </code>
          {deliveries > 1 && (
            <span class="muted">{fill(words.deliveries, { count: deliveries })}</span>
          )}
          {!processed_at && <span class="muted">{words.unprocessed}</span>}
        </Line>
      );
    }
    case 'calls':
      return <Calls calls={entry.calls} at={entry.at} />;
  }
}

function Calls({ calls, at }: { calls: Extract<Entry, { kind: 'calls' }>['calls']; at: string }) {
  const { event: words } = texts.value;
  const last = calls.at(-1);
  if (!last) return null;
  const seconds = (Date.parse(last.ended_at) - Date.parse(last.started_at)) / 1000;
  return (
    <Line
      title={words.operation[last.operation] ?? words.otherOperation}
      at={at}
      note={last.explanation && explained(last.code, last.explanation)}
    >
      <span>{words.outcome[last.outcome] ?? last.outcome}</span>
      {last.code && <code>{last.code}</code>}
      {calls.length > 1 && <span class="muted">×{calls.length}</span>}
      {calls.length === 1 && (
        <span class="muted">{fill(words.took, { seconds: seconds.toFixed(1) })}</span>
      )}
      {last.gateway_request_id && (
        <Identifier text={last.gateway_request_id} what={fill(words.request, { id: '' }).trim()} />
      )}
    </Line>
  );
}

function Line(props: {
  title: string;
  at: string;
  event?: RefundEvent | undefined;
  note?: string | null;
  children?: ComponentChildren;
}) {
  const { title, at, event, note, children } = props;
  const { event: words } = texts.value;
  return (
    <>
      <div class="row">
        <b>{title}</b>
        {children}
      </div>
      {note && (
        <p>
          <Foreign text={note} />
        </p>
      )}
      <p class="muted small">
        <Time at={at} ago />
        {event && (
          <>
            {' · '}
            <Foreign text={fill(words.by, { actor: event.actor })} />
            {' · '}
            <span class="mono">
              <Foreign text={fill(words.request, { id: event.request_id })} />
            </span>
          </>
        )}
      </p>
    </>
  );
}
