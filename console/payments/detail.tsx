/** A payment: what it is, what can be done, its refunds, and what happened to it. */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { Answer, Failure } from '../api';
import { offset, relative } from '../format';
import { useKeys } from '../keys';
import { yuan } from '../money';
import {
  Badge,
  Bar,
  copy,
  explained,
  Fill,
  Foreign,
  Heading,
  Identifier,
  Money,
  methodName,
  PaymentStatus,
  ReadFailure,
  RefundStatus,
  Time,
} from '../parts';
import { RefundActions } from '../refunds/actions';
import { RefundDialog } from '../refunds/dialog';
import { useGet } from '../resource';
import { addressBefore, go, place } from '../router';
import { may, session, zone } from '../session';
import { fill, texts } from '../texts';
import type { DetailRefund, GatewayLog, PaymentDetail } from '../types';
import { attemptOf, forgetAttempt } from '../unfinished';
import { useWatch } from '../watch';
import { listed } from './list';
import { Timeline } from './timeline-list';

/** /console/payments/:id. `?refund=…` opens the dialogue with what that refund was. */
export function PaymentDetailPage({ id }: { id: string }) {
  // Anything else would be another path of the API.
  return /^\d{1,19}$/.test(id) ? <PaymentPage id={id} /> : <Missing />;
}

function PaymentPage({ id }: { id: string }) {
  const { detail, title } = texts.value;
  const { answer, failure, busy, reload } = useGet<PaymentDetail>(`/payments/${id}`);
  const payment = answer?.data;
  useEffect(() => {
    document.title = `${fill(detail.title, { number: payment?.payment_no ?? id })} · ${title}`;
  }, [detail, title, id, payment?.payment_no]);

  if (!payment) {
    if (failure?.code === 40401 || failure?.code === 40000) return <Missing />;
    return failure ? (
      <ReadFailure failure={failure} stale={false} reload={reload} />
    ) : (
      <DetailSkeleton />
    );
  }
  return <Detail payment={payment} answer={answer} failure={failure} busy={busy} reload={reload} />;
}

interface DetailProps {
  payment: PaymentDetail;
  answer: Answer<PaymentDetail>;
  failure: Failure | undefined;
  busy: boolean;
  reload: () => Promise<void>;
}

function Detail({ payment, answer, failure, busy, reload }: DetailProps) {
  const { detail, refund: words, common } = texts.value;
  const again = useSignal<DetailRefund | undefined>(undefined);
  const dialog = useSignal(false);
  const actor = session.value?.actor ?? '';
  const unfinished = useSignal(attemptOf(payment.id, actor));
  const wanted = useRef(place.peek().searchParams.get('refund'));
  useEffect(() => {
    // What is remembered may still say that the refund is under way.
    if (busy || wanted.current === null) return;
    // Asked for once: a reload, or the way back, must not ask for it again.
    history.replaceState(history.state, '', location.pathname);
    again.value = failedRefund(payment, wanted.current);
    wanted.current = null;
    if (again.value) dialog.value = true;
  }, [busy, payment, again, dialog]);
  const canRefund = may('refunds:create') && payment.refundable_amount !== '0.00';
  const open = () => {
    if (canRefund) dialog.value = true;
  };
  const underWay = payment.refunds.filter(({ status }) => status === 0);
  useWatch(underWay.length > 0, underWay.map(({ id }) => id).join(), reload);

  const list = listed.value;
  const index = list?.ids.indexOf(payment.id) ?? -1;
  const neighbour = (step: number) => (index < 0 ? undefined : list?.ids[index + step]);
  const goTo = (other: string | undefined) => other && go(`/console/payments/${other}`);
  useKeys({
    r: open,
    c: () => copy(payment.payment_no),
    j: () => goTo(neighbour(1)),
    k: () => goTo(neighbour(-1)),
  });

  return (
    <>
      <div class="head screen-only">
        <a href={list?.href ?? '/console/payments'} onClick={(event) => backTo(event, list?.href)}>
          ← {detail.backToList}
        </a>
        <div class="end row">
          <Cached answer={answer} />
          {[
            { id: neighbour(-1), text: detail.previousPayment, key: 'k' },
            { id: neighbour(1), text: detail.nextPayment, key: 'j' },
          ].map(
            (other) =>
              other.id && (
                <a
                  key={other.key}
                  class="button quiet"
                  href={`/console/payments/${other.id}`}
                  aria-keyshortcuts={other.key}
                >
                  {other.text}
                </a>
              ),
          )}
          <button type="button" class="quiet" aria-disabled={busy} onClick={() => reload()}>
            {common.refresh}
          </button>
        </div>
      </div>
      {failure && <ReadFailure failure={failure} stale reload={reload} />}
      {unfinished.value && !dialog.value && (
        <Bar
          tone="warning"
          actions={
            <>
              <button
                type="button"
                onClick={() => {
                  dialog.value = true;
                }}
              >
                {words.ask}
              </button>
              <button
                type="button"
                class="quiet"
                onClick={() => {
                  forgetAttempt(payment.id);
                  unfinished.value = undefined;
                  reload();
                }}
              >
                {words.forget}
              </button>
            </>
          }
        >
          {fill(words.unfinished, { amount: yuan(unfinished.value.amount) })}
        </Bar>
      )}
      <div class="head">
        <Heading class="big">
          <span class="visually-hidden">
            <Fill text={detail.title} number={<Foreign text={payment.payment_no} />} />
          </span>
          <Money amount={payment.amount} />
        </Heading>
        <PaymentStatus status={payment.status} refunded={payment.refunded_amount} focus />
        <Identifier text={payment.payment_no} what={detail.field.payment_no} />
        <div class="end row">
          {payment.refundable_amount === '0.00' ? (
            <span class="muted">{detail.notRefundable[payment.status] ?? detail.allReserved}</span>
          ) : (
            <>
              <span>
                {detail.refundable} <b class="money">{yuan(payment.refundable_amount)}</b>
              </span>
              {canRefund && (
                <button type="button" class="primary" aria-keyshortcuts="r" onClick={open}>
                  {detail.refund}
                </button>
              )}
            </>
          )}
        </div>
      </div>
      <div class="columns">
        <div>
          <Refunds
            payment={payment}
            onChanged={reload}
            onAgain={(refund) => {
              again.value = refund;
              dialog.value = true;
            }}
          />
          <LoggedTimeline payment={payment} at={answer.at} />
        </div>
        <Fields payment={payment} />
      </div>
      {dialog.value && (
        <RefundDialog
          payment={payment}
          prefill={again.value && prefillOf(again.value)}
          onClose={() => {
            dialog.value = false;
            again.value = undefined;
            unfinished.value = attemptOf(payment.id, actor);
          }}
          onChanged={reload}
        />
      )}
    </>
  );
}

/** The refund that a link asks to be made again, where that can be. */
function failedRefund(payment: PaymentDetail, wanted: string): DetailRefund | undefined {
  if (!may('refunds:create') || payment.refundable_amount === '0.00') return undefined;
  return payment.refunds.find(({ id, status }) => id === wanted && status === 2);
}

const prefillOf = ({ amount, reason }: DetailRefund) => ({ amount, reason: reason ?? '' });

/** To the list by the history where we came from there, since that restores rows and scroll position. */
function backTo(event: MouseEvent, href: string | undefined): void {
  if (event.metaKey || event.ctrlKey || event.shiftKey || !href) return;
  if (addressBefore()?.href !== new URL(href, location.href).href) return;
  event.preventDefault();
  history.back();
}

/** How old a detail is that came from the API's cache. */
function Cached({ answer }: { answer: Answer<PaymentDetail> }) {
  const { headers, at } = answer;
  const age = Number(headers.get('Age') ?? 0);
  if (age <= 30 || !headers.get('Cache-Status')?.includes('hit')) return null;
  const made = new Date(at - age * 1000).toISOString();
  return (
    <span class="muted small">
      {fill(texts.value.detail.cachedAgo, { age: relative(made, at, texts.value.language) })}
    </span>
  );
}

function Missing() {
  const { detail } = texts.value;
  useEffect(() => {
    const box = document.querySelector<HTMLInputElement>('#search');
    box?.focus();
    box?.select();
  }, []);
  return (
    <section class="nothing">
      <Heading>{detail.missing}</Heading>
      <p class="muted">{detail.missingHelp}</p>
      <a class="button" href="/console/payments">
        {detail.backToList}
      </a>
    </section>
  );
}

/** As high as a detail mostly is, so that nothing moves when it comes. */
function DetailSkeleton() {
  return (
    <div class="detail-skeleton" aria-busy="true">
      <p class="visually-hidden" role="status">
        {texts.value.common.loading}
      </p>
    </div>
  );
}

function Refunds(props: {
  payment: PaymentDetail;
  onChanged: () => Promise<void>;
  onAgain: (refund: DetailRefund) => void;
}) {
  const { payment, onChanged, onAgain } = props;
  const { detail } = texts.value;
  const { columns } = detail;
  const shown = payment.refunds.toReversed();
  return (
    <section class="card" aria-labelledby="refunds">
      <h2 id="refunds">{detail.refunds}</h2>
      {shown.length === 0 ? (
        <p class="muted">{detail.refundsNone}</p>
      ) : (
        <div class="table cards">
          <table class="refunds">
            <colgroup>
              <col class="w-time" />
              <col />
              <col class="w-amount" />
              <col class="w-reason" />
              <col class="w-short" />
              <col class="w-short" />
            </colgroup>
            <thead>
              <tr>
                <th scope="col">{fill(columns.created, { zone: offset(zone()) })}</th>
                <th scope="col">{columns.number}</th>
                <th scope="col" class="amount">
                  {columns.amount}
                </th>
                <th scope="col">{columns.reason}</th>
                <th scope="col">{columns.status}</th>
                <th scope="col">{columns.actor}</th>
              </tr>
            </thead>
            {shown.map((refund) => (
              <RefundRows
                key={refund.id}
                refund={refund}
                payment={payment}
                onChanged={onChanged}
                onAgain={() => onAgain(refund)}
              />
            ))}
          </table>
        </div>
      )}
      {payment.refunds_total > shown.length && (
        <p class="muted">
          {fill(detail.refundsMore, { shown: shown.length, count: payment.refunds_total })}
        </p>
      )}
    </section>
  );
}

/** A refund: its row, and under it what its gateway says and what can be done. */
function RefundRows(props: {
  refund: DetailRefund;
  payment: PaymentDetail;
  onChanged: () => Promise<void>;
  onAgain: () => void;
}) {
  const { refund, payment, onChanged, onAgain } = props;
  const { detail } = texts.value;
  const actor = refund.events.find(({ from_status }) => from_status === null)?.actor;
  const canAgain =
    refund.status === 2 && may('refunds:create') && payment.refundable_amount !== '0.00';
  const hasMore =
    refund.gateway !== null || canAgain || may('refunds:settle') || may('refunds:correct');
  return (
    <tbody data-refund={refund.id}>
      <tr>
        <td class="o-5">
          <Time at={refund.created_at} />
        </td>
        <td class="o-1">
          <Identifier text={refund.refund_no} what={detail.columns.number} />
        </td>
        <td class="amount o-2 end-of-card">
          <Money amount={refund.amount} />
        </td>
        <td class="o-3">{refund.reason && <Foreign text={refund.reason} />}</td>
        <td class="o-4 end-of-card">
          <RefundStatus status={refund.status} focus />
        </td>
        <td class="o-6 end-of-card">{actor && <Foreign text={actor} />}</td>
      </tr>
      {hasMore && (
        <tr class="more">
          <td colSpan={6}>
            <div class="row">
              {refund.gateway && refund.status === 0 && <GatewayBadge refund={refund} />}
              <GatewayFacts refund={refund} />
              <div class="row end screen-only">
                <RefundActions refund={refund} paymentId={payment.id} onChanged={onChanged} />
                {canAgain && (
                  <button type="button" class="quiet" onClick={onAgain}>
                    {detail.refundAgain}
                  </button>
                )}
              </div>
            </div>
          </td>
        </tr>
      )}
    </tbody>
  );
}

function GatewayBadge({ refund }: { refund: DetailRefund }) {
  const { gatewayState, gatewayStateTip } = texts.value;
  const state = refund.gateway?.state ?? '';
  const tip = gatewayStateTip[state];
  return (
    <Badge
      shape={state === 'blocked' ? 'warning' : 'running'}
      tone={state === 'blocked' ? 'bad' : 'neutral'}
      word={gatewayState[state] ?? state}
      focus
      {...(tip ? { tip } : {})}
    />
  );
}

/** What the gateway said, and what happens next by itself. */
function GatewayFacts({ refund }: { refund: DetailRefund }) {
  const { detail } = texts.value;
  const { gateway } = refund;
  if (!gateway) return null;
  const isOver = refund.status !== 0;
  return (
    <div class="facts small muted">
      {gateway.last_error && (!isOver || gateway.attention) && (
        <p class={gateway.attention ? 'field-error' : ''}>
          {explained(gateway.last_error_code, gateway.last_error)}{' '}
          <code>{gateway.last_error_code}</code>
        </p>
      )}
      {gateway.refund_no && (
        <span class="row">
          {detail.gatewayNumber}
          <Identifier text={gateway.refund_no} what={detail.gatewayNumber} />
        </span>
      )}
      {gateway.out_refund_no !== refund.refund_no && (
        <span class="row">
          {detail.outNumber}
          <Identifier text={gateway.out_refund_no} what={detail.outNumber} />
        </span>
      )}
      {!isOver && <span>{fill(detail.attempts, { count: gateway.attempts })}</span>}
      {!isOver && gateway.next_attempt_at && (
        <span>
          <Fill text={detail.nextAttempt} when={<Time at={gateway.next_attempt_at} ago />} />
        </span>
      )}
    </div>
  );
}

/** The gateway's side is asked for where a gateway has had to do with it, and anew with each new answer. */
function LoggedTimeline({ payment, at }: { payment: PaymentDetail; at: number }) {
  const hasGateway = payment.refunds.some(({ gateway }) => gateway !== null);
  return hasGateway ? (
    <GatewayTimeline payment={payment} at={at} />
  ) : (
    <Timeline payment={payment} log={undefined} />
  );
}

function GatewayTimeline({ payment, at }: { payment: PaymentDetail; at: number }) {
  const { answer, failure, reload } = useGet<GatewayLog>(`/payments/${payment.id}/gateway`);
  const asked = useRef(at);
  useEffect(() => {
    // Once for each answer about the payment, whatever comes of it.
    if (asked.current === at) return;
    asked.current = at;
    reload();
  }, [at, reload]);
  return <Timeline payment={payment} log={answer?.data} isIncomplete={failure !== undefined} />;
}

function Fields({ payment }: { payment: PaymentDetail }) {
  const { detail, common, list } = texts.value;
  const { field } = detail;
  const number = (name: 'payment_no' | 'order_no' | 'id' | 'order_id') => {
    const text = payment[name];
    return text === null ? (
      <span class="muted">{list.unknownOrder}</span>
    ) : (
      <Identifier text={text} what={field[name]} />
    );
  };
  const time = (name: 'created_at' | 'payment_time' | 'refund_time' | 'updated_at') =>
    payment[name] ? <Time at={payment[name]} /> : <span class="muted">{common.empty}</span>;
  return (
    <section class="card" aria-labelledby="fields">
      <h2 id="fields">
        {detail.fields} <span class="muted small">{offset(zone())}</span>
      </h2>
      <dl class="pairs">
        <dt>{field.payment_no}</dt>
        <dd>{number('payment_no')}</dd>
        <dt>{field.order_no}</dt>
        <dd>{number('order_no')}</dd>
        <dt>{field.payment_method}</dt>
        <dd>{methodName(payment.payment_method)}</dd>
        <dt>{field.amount}</dt>
        <dd>
          <Money amount={payment.amount} />
        </dd>
        <dt>{field.refunded_amount}</dt>
        <dd>
          <Money amount={payment.refunded_amount} />
        </dd>
        <dt>{field.refundable_amount}</dt>
        <dd>
          <Money amount={payment.refundable_amount} />
        </dd>
        <dt>{field.created_at}</dt>
        <dd>{time('created_at')}</dd>
        <dt>{field.payment_time}</dt>
        <dd>{time('payment_time')}</dd>
        <dt>{field.refund_time}</dt>
        <dd>{time('refund_time')}</dd>
        <dt>{field.updated_at}</dt>
        <dd>{time('updated_at')}</dd>
        <dt>{field.id}</dt>
        <dd>{number('id')}</dd>
        <dt>{field.order_id}</dt>
        <dd>{number('order_id')}</dd>
      </dl>
    </section>
  );
}
