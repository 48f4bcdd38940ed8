/**
 * What needs a person: gateways that are paused, refunds and payments, by cause and oldest first, with what to do about
 * each. What was solved leaves the list by itself; what is over leaves it when somebody says what was found out.
 */
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useCallback, useEffect, useRef } from 'preact/hooks';
import { count, dateTime } from '../format';
import { SHAPES } from '../icons';
import { amountOf, sumOf, yuan } from '../money';
import {
  explained,
  Fill,
  Foreign,
  Identifier,
  Money,
  methodName,
  ReadFailure,
  Time,
} from '../parts';
import { RefundActions } from '../refunds/actions';
import { useGet } from '../resource';
import { may, zone } from '../session';
import { fill, texts } from '../texts';
import type { Attention } from '../types';
import { useWatch } from '../watch';
import { ATTENTION, noteAttention } from './count';
import { DismissDialog } from './dismiss';
import { byCause, isDismissible, textFor } from './groups';

type AttentionRefund = Attention['refunds'][number];
type AttentionPayment = Attention['payments'][number];

const EVERY_MS = 60_000;

/** /console/attention */
export function AttentionPage() {
  const { attention, title } = texts.value;
  const { answer, failure, busy, reload, renew } = useGet<Attention>(ATTENTION);
  const data = answer?.data;
  const heading = useRef<HTMLHeadingElement>(null);
  const dismissing = useSignal<string | undefined>(undefined);

  useEffect(() => {
    document.title = `${attention.title} · ${title}`;
  }, [attention, title]);
  useEffect(() => {
    if (data) noteAttention(data);
  }, [data]);
  // A dialogue in a row would go with its row, and what is typed in it, too.
  const renewUnseen = useCallback(
    async () => (document.querySelector('dialog[open]') ? undefined : renew()),
    [renew],
  );
  useEveryMinute(renewUnseen);
  // What was sent again is over in seconds, mostly.
  const moving = data?.refunds.filter(({ refund }) => isMoving(refund)) ?? [];
  useWatch(moving.length > 0, moving.map(({ refund }) => refund.id).join(), renewUnseen);

  const dismissed = async (count: number | undefined) => {
    dismissing.value = undefined;
    if (count === undefined) return;
    await reload();
    // The row of the button is gone.
    if (document.activeElement === document.body) heading.current?.focus();
  };
  const common = {
    onChanged: reload,
    onDismiss: (paymentId: string) => {
      dismissing.value = paymentId;
    },
  };
  const nothing = data && data.refunds.length + data.payments.length + data.gateways.length === 0;
  return (
    <>
      <div class="head">
        <h1 ref={heading} tabIndex={-1}>
          {attention.title}
        </h1>
        {answer && (
          <p class="muted small end screen-only">
            {fill(attention.updated, { time: dateTime(answer.at, zone()).slice(11) })}
          </p>
        )}
      </div>
      {failure && <ReadFailure failure={failure} stale={data !== undefined} reload={reload} />}
      {nothing && <Nothing />}
      {!data && busy && <p class="muted">{texts.value.common.loading}</p>}
      {data && (
        <div class="attention" aria-busy={busy}>
          <Gateways gateways={data.gateways} />
          <Refunds refunds={data.refunds} total={data.refunds_total} {...common} />
          <Payments payments={data.payments} total={data.payments_total} {...common} />
        </div>
      )}
      {data && dismissing.value !== undefined && (
        <DismissDialog paymentId={dismissing.value} attention={data} onClose={dismissed} />
      )}
    </>
  );
}

/** Asks again each minute while the page is looked at, and at once when somebody comes back after longer. */
function useEveryMinute(ask: () => Promise<void>): void {
  useEffect(() => {
    let askedAt = Date.now();
    const look = () => {
      if (document.visibilityState !== 'visible' || Date.now() - askedAt < EVERY_MS) return;
      askedAt = Date.now();
      ask();
    };
    const timer = setInterval(look, EVERY_MS / 6);
    document.addEventListener('visibilitychange', look);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', look);
    };
  }, [ask]);
}

function isMoving({ status, gateway }: AttentionRefund['refund']): boolean {
  return status === 0 && ['queued', 'sending', 'accepted'].includes(gateway?.state ?? '');
}

function Nothing() {
  const { attention } = texts.value;
  return (
    <div class="nothing">
      <span class="all-well">{SHAPES.good}</span>
      <p>
        <b>{attention.empty}</b>
      </p>
      <p class="muted">{attention.emptyHelp}</p>
    </div>
  );
}

/** A kind of what needs a person, with its total. */
function Kind(props: { title: string; total: number; shown: number; children: ComponentChildren }) {
  const { title, total, shown, children } = props;
  const { attention } = texts.value;
  if (total === 0) return null;
  return (
    <section class="kind">
      <div class="head">
        <h2>{title}</h2>
        <p class="muted">{fill(attention.total, { count: count(total) })}</p>
      </div>
      {shown < total && (
        <p class="muted">
          {fill(attention.shownFirst, { shown: count(shown), count: count(total) })}
        </p>
      )}
      {children}
    </section>
  );
}

/** A cause: why, how many, what to do, and then each. */
function Cause(props: {
  why: string;
  code: string | null;
  todo: string;
  totals?: ComponentChildren;
  children: ComponentChildren;
}) {
  const { why, code, todo, totals, children } = props;
  const { attention } = texts.value;
  return (
    <section class="card cause">
      <div class="stacked">
        <div class="head">
          <h3>{why}</h3>
          {totals && <p class="end">{totals}</p>}
        </div>
        <p>
          <span class="label">{attention.todo}</span> {todo}
        </p>
        {code && (
          <p class="small muted">
            <Fill text={attention.code} code={<code>{code}</code>} />
          </p>
        )}
      </div>
      {children}
    </section>
  );
}

function Gateways({ gateways }: { gateways: Attention['gateways'] }) {
  const { attention } = texts.value;
  return (
    <Kind title={attention.gateways} total={gateways.length} shown={gateways.length}>
      {gateways.map((one) => (
        <Cause
          key={one.gateway}
          why={`${methodName(one.gateway)} · ${explained(one.code, one.explanation)}`}
          code={one.code}
          todo={textFor(attention.gatewayTodo, one.code ?? '')}
        >
          <p>
            <Fill text={attention.pausedUntil} time={<Time at={one.paused_until} />} />
          </p>
          <p class="muted">{attention.pausedHelp}</p>
        </Cause>
      ))}
    </Kind>
  );
}

interface Common {
  onChanged: () => Promise<void>;
  onDismiss: (paymentId: string) => void;
}

function Refunds(props: Common & { refunds: AttentionRefund[]; total: number }) {
  const { refunds, total, ...common } = props;
  const { attention } = texts.value;
  return (
    <Kind title={attention.refunds} total={total} shown={refunds.length}>
      {byCause(refunds).map(({ code, entries }) => (
        <Cause
          key={code}
          why={explained(code, entries[0]?.explanation ?? code)}
          code={code}
          todo={textFor(attention.refundTodo, code)}
          totals={
            <Fill
              text={attention.totalSum}
              count={<b>{count(entries.length)}</b>}
              sum={
                <b class="money">
                  {yuan(amountOf(sumOf(entries.map(({ refund }) => refund.amount))))}
                </b>
              }
            />
          }
        >
          <ul class="entries">
            {entries.map((entry) => (
              <RefundEntry key={entry.refund.id} entry={entry} {...common} />
            ))}
          </ul>
        </Cause>
      ))}
    </Kind>
  );
}

function RefundEntry({ entry, onChanged, onDismiss }: Common & { entry: AttentionRefund }) {
  const { attention, work, detail } = texts.value;
  const { refund, since } = entry;
  return (
    <li>
      <div class="entry">
        <p class="row">
          <b>
            <Money amount={refund.amount} />
          </b>
          <Identifier text={refund.refund_no} what={work.columns.refundNo} />
          <a href={`/console/payments/${refund.payment_id}`}>{attention.payment}</a>
        </p>
        <p class="small muted">
          {attention.since} <Time at={since} ago />
        </p>
        {refund.gateway?.refund_no && (
          <p class="small muted">
            {detail.gatewayNumber}{' '}
            <Identifier text={refund.gateway.refund_no} what={detail.gatewayNumber} />
          </p>
        )}
        {refund.reason !== null && (
          <p class="small muted">
            {work.columns.reason} <Foreign text={refund.reason} />
          </p>
        )}
      </div>
      <div class="entry-actions screen-only">
        <RefundActions refund={refund} paymentId={refund.payment_id} onChanged={onChanged} />
        {isDismissible(entry.attention) && (
          <DismissButton paymentId={refund.payment_id} onDismiss={onDismiss} />
        )}
      </div>
    </li>
  );
}

function Payments(props: Common & { payments: AttentionPayment[]; total: number }) {
  const { payments, total, onDismiss } = props;
  const { attention } = texts.value;
  return (
    <Kind title={attention.payments} total={total} shown={payments.length}>
      {byCause(payments).map(({ code, entries }) => (
        <Cause
          key={code}
          why={explained(code, entries[0]?.explanation ?? code)}
          code={code}
          todo={textFor(attention.paymentTodo, code)}
          totals={<b>{fill(attention.total, { count: count(entries.length) })}</b>}
        >
          <ul class="entries">
            {entries.map(({ payment_id, since }) => (
              <li key={payment_id}>
                <div class="entry">
                  <p class="row">
                    <span>{fill(attention.paymentId, { id: payment_id })}</span>
                    <a href={`/console/payments/${payment_id}`}>{attention.payment}</a>
                  </p>
                  <p class="small muted">
                    {attention.since} <Time at={since} ago />
                  </p>
                </div>
                <div class="entry-actions screen-only">
                  <DismissButton paymentId={payment_id} onDismiss={onDismiss} />
                </div>
              </li>
            ))}
          </ul>
        </Cause>
      ))}
    </Kind>
  );
}

function DismissButton(props: { paymentId: string; onDismiss: (paymentId: string) => void }) {
  const { paymentId, onDismiss } = props;
  if (!may('refunds:correct')) return null;
  return (
    <button type="button" onClick={() => onDismiss(paymentId)}>
      {texts.value.attention.dismiss}
    </button>
  );
}
