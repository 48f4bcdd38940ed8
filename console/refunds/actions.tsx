/**
 * What can be done about a refund: ask its gateway, send it again, register how it ended, correct it. What moves
 * a status never happens by one click. An action without its scope is not shown.
 */
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';
import { Failure, write } from '../api';
import { yuan } from '../money';
import {
  announce,
  Dialog,
  explained,
  Forbidden,
  failureText,
  Identifier,
  pair,
  RefundStatus,
  RequestId,
  useCountdown,
} from '../parts';
import { lacks, may } from '../session';
import { fill, texts } from '../texts';
import type { DetailRefund, Refund } from '../types';

/** A refund as the actions need it. */
type ActedOn = Pick<
  Refund | DetailRefund,
  'id' | 'refund_no' | 'amount' | 'status' | 'gateway' | 'reason'
>;

interface Props {
  refund: ActedOn;
  paymentId: string;
  /** Something was done, or the refund turned out to be otherwise than shown. */
  onChanged: () => void | Promise<void>;
}

type Open =
  | { name: 'settle'; status: 1 | 2 }
  | { name: 'correct'; status: 1 | 2 }
  | { name: 'force' }
  | { name: 'abnormal' };

/** The buttons for a refund. */
export function RefundActions({ refund, paymentId, onChanged }: Props) {
  const { detail } = texts.value;
  const open = useSignal<Open | undefined>(undefined);
  const url = `/payments/${paymentId}/refunds/${refund.id}`;
  const { status, gateway } = refund;
  const settles = may('refunds:settle');
  const other = status === 1 ? 2 : 1;
  const isAbnormal =
    gateway?.state === 'blocked' && gateway.attention === 'ABNORMAL' && gateway.refund_no !== null;
  const canResend = gateway !== null && ['blocked', 'refused', 'unknown'].includes(gateway.state);

  return (
    <div class="actions">
      {status === 0 && gateway === null && settles && (
        <>
          <button type="button" onClick={() => (open.value = { name: 'settle', status: 1 })}>
            {detail.settle[1]}
          </button>
          <button type="button" onClick={() => (open.value = { name: 'settle', status: 2 })}>
            {detail.settle[2]}
          </button>
        </>
      )}
      {gateway !== null && (status === 0 || gateway.attention !== null) && settles && (
        <Call path={`${url}/sync`} text={detail.sync} tip={detail.syncTip} onChanged={onChanged} />
      )}
      {status === 0 && gateway !== null && settles && (
        <>
          {canResend && !isAbnormal && (
            <Call
              path={`${url}/retry`}
              text={detail.retry}
              tip={detail.retryTip}
              onChanged={onChanged}
            />
          )}
          {isAbnormal && (
            <button type="button" onClick={() => (open.value = { name: 'abnormal' })}>
              {detail.abnormal}
            </button>
          )}
          {may('refunds:override') && (
            <button type="button" class="quiet" onClick={() => (open.value = { name: 'force' })}>
              {detail.force}
            </button>
          )}
        </>
      )}
      {status !== 0 && may('refunds:correct') && (
        <button
          type="button"
          class="quiet"
          onClick={() => (open.value = { name: 'correct', status: other })}
        >
          {detail.correct}
        </button>
      )}
      {open.value && (
        <ActionDialog
          open={open.value}
          refund={refund}
          url={url}
          onClose={() => (open.value = undefined)}
          onChanged={onChanged}
        />
      )}
    </div>
  );
}

/** A button that only asks or sends again: neither can make a second refund. */
function Call(props: {
  path: string;
  text: string;
  tip: string;
  onChanged: () => void | Promise<void>;
}) {
  const { path, text, tip, onChanged } = props;
  const busy = useSignal(false);
  return (
    <button
      type="button"
      data-tip={tip}
      aria-description={tip}
      aria-disabled={busy.value}
      onClick={async () => {
        if (busy.peek()) return;
        busy.value = true;
        try {
          const { data } = await write<Refund>('POST', path);
          const { refundStatus, gatewayState } = texts.value;
          const state = data.gateway ? gatewayState[data.gateway.state] : refundStatus[data.status];
          announce(pair(text, state ?? ''));
        } catch (error) {
          if (!(error instanceof Failure)) throw error;
          if (error.code === 40300) lacks(error.text('required_scope') ?? '');
          announce(failureText(error));
        } finally {
          busy.value = false;
        }
        await onChanged();
      }}
    >
      {text}
    </button>
  );
}

function ActionDialog(
  props: Pick<Props, 'refund' | 'onChanged'> & { open: Open; url: string; onClose: () => void },
) {
  const { open, refund, url, onClose, onChanged } = props;
  const { settle, correction, force, abnormal, refundStatus } = texts.value;
  const common = { refund, onClose, onChanged };
  if (open.name === 'settle') {
    return (
      <Write
        {...common}
        title={settle.title[open.status] ?? ''}
        text={settle.text[open.status] ?? ''}
        submit={settle.title[open.status] ?? ''}
        done={settle.done}
        fields={[]}
        send={() => write<Refund>('PATCH', url, { status: open.status })}
      />
    );
  }
  if (open.name === 'correct') {
    const names = {
      from: refundStatus[refund.status] ?? '',
      to: refundStatus[open.status] ?? '',
    };
    return (
      <Write
        {...common}
        title={correction.title}
        text={fill(correction.text, names)}
        submit={fill(correction.submit, names)}
        done={correction.done}
        fields={[{ name: 'reason', label: correction.reason }]}
        send={({ reason }) =>
          write<Refund>('POST', `${url}/correction`, { status: open.status, reason })
        }
      />
    );
  }
  if (open.name === 'force') {
    const outcome = (value: string) =>
      fill(force.submit, { to: refundStatus[Number(value)] ?? '' });
    return (
      <Write
        {...common}
        title={force.title}
        text={force.text}
        submit={({ status }) => (status ? outcome(status) : force.title)}
        done={force.done}
        fields={[
          {
            name: 'status',
            label: force.outcome,
            choices: { 1: refundStatus[1] ?? '', 2: refundStatus[2] ?? '' },
          },
          { name: 'override_reason', label: force.reason },
          { name: 'understood', label: force.understand, box: true },
        ]}
        send={({ status, override_reason }) =>
          write<Refund>('PATCH', url, { status: Number(status), override_reason })
        }
      />
    );
  }
  return (
    <Write
      {...common}
      title={abnormal.title}
      text={abnormal.text}
      submit={abnormal.submit}
      done={abnormal.done}
      fields={[
        { name: 'type', label: abnormal.type, choices: abnormal.types },
        ...(['bank_type', 'bank_account', 'real_name'] as const).map((name) => ({
          name,
          label: abnormal.fields[name],
          when: ({ type }: Values) => type === 'USER_BANK_CARD',
        })),
      ]}
      send={({ type, ...card }) =>
        write<Refund>(
          'POST',
          `${url}/abnormal`,
          type === 'USER_BANK_CARD' ? { type, ...card } : { type },
        )
      }
    />
  );
}

type Values = Record<string, string>;

interface WriteField {
  name: string;
  label: string;
  /** One of these, as radio buttons. */
  choices?: Record<string, string>;
  /** A box that has to be ticked. */
  box?: true;
  /** Asked only then. */
  when?: (values: Values) => boolean;
}

/** A dialogue that writes: what it will do, what it has to know, and what came of it. */
function Write(props: {
  title: string;
  text: string;
  submit: string | ((values: Values) => string);
  done: string;
  fields: WriteField[];
  refund: ActedOn;
  send: (values: Values) => Promise<unknown>;
  onClose: () => void;
  onChanged: () => void | Promise<void>;
}) {
  const { title, text, submit, done, fields, refund, send, onClose, onChanged } = props;
  const { common, settle, state } = texts.value;
  const values = useSignal<Values>({});
  const missing = useSignal<string | undefined>(undefined);
  const failure = useSignal<Failure | undefined>(undefined);
  const busy = useSignal(false);
  const id = useId();
  const asked = fields.filter(({ when }) => when?.(values.value) ?? true);

  const onSubmit = async (event: Event) => {
    event.preventDefault();
    if (busy.peek() || wait > 0) return;
    missing.value = asked.find(({ name }) => !values.value[name]?.trim())?.name;
    if (missing.value !== undefined) {
      document.getElementById(`${id}-${missing.value}`)?.focus();
      return;
    }
    busy.value = true;
    failure.value = undefined;
    try {
      const sent = asked
        .filter(({ box }) => !box)
        .map(({ name }) => [name, values.value[name]?.trim()]);
      await send(Object.fromEntries(sent));
      announce(done);
      onClose();
      await onChanged();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      // Signing in again is asked for over this dialogue; what was typed stays.
      if (error.code !== 40100) failure.value = error;
    } finally {
      busy.value = false;
    }
  };
  // A refusal says that the refund is not as shown. It is renewed when that was read: the row may go, and this with it.
  const close = async () => {
    if (busy.peek()) return;
    onClose();
    if (!problem) return;
    if (problem.code === 40300) lacks(problem.text('required_scope') ?? '');
    await onChanged();
  };

  const problem = failure.value;
  const limited = problem?.code === 42900 ? problem : undefined;
  const wait = useCountdown(limited ? (limited.retryAfter ?? 60) : 0, limited);
  return (
    <Dialog
      title={title}
      lead={
        <>
          <Identifier text={refund.refund_no} what={texts.value.detail.columns.number} />{' '}
          <b class="money">{yuan(refund.amount)}</b> <RefundStatus status={refund.status} />
        </>
      }
      onClose={close}
    >
      <form onSubmit={onSubmit} noValidate>
        <p>{text}</p>
        {asked.map((field) => (
          <Asked
            key={field.name}
            id={`${id}-${field.name}`}
            field={field}
            value={values.value[field.name] ?? ''}
            missing={missing.value === field.name}
            onValue={(value) => {
              values.value = { ...values.value, [field.name]: value };
            }}
          />
        ))}
        {problem?.code === 40300 && <Forbidden failure={problem} />}
        {problem && problem.code !== 40300 && (
          <div class="field-error" role="alert">
            <p>
              {problem.unknownOutcome
                ? state.writeUnknown
                : problem.code === 40903
                  ? fill(settle.already, {
                      status: texts.value.refundStatus[Number(problem.data.status)] ?? '',
                    })
                  : failureText(problem)}
            </p>
            {problem.text('explanation') && (
              <p>{explained(problem.text('code') ?? '', problem.text('explanation') ?? '')}</p>
            )}
            {problem.errors.map(({ path, message }) => (
              <p key={path}>
                {fill(state.wrong, { path, message: texts.value.wrongValue || message })}
              </p>
            ))}
            <RequestId failure={problem} />
          </div>
        )}
        <div class="end">
          <button type="button" onClick={close}>
            {common.cancel}
          </button>
          <button type="submit" class="primary" aria-disabled={busy.value || wait > 0}>
            {wait > 0
              ? fill(texts.value.refund.wait, { seconds: wait })
              : typeof submit === 'string'
                ? submit
                : submit(values.value)}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Asked(props: {
  id: string;
  field: WriteField;
  value: string;
  missing: boolean;
  onValue: (value: string) => void;
}) {
  const { id, field, value, missing, onValue } = props;
  const { state } = texts.value;
  const problem: ComponentChildren = (
    <p class="field-error" id={`${id}-problem`} role="alert">
      {missing && state.required}
    </p>
  );
  if (field.box) {
    return (
      <div class="field">
        <label class="row choice">
          <input
            id={id}
            type="checkbox"
            checked={value !== ''}
            aria-describedby={`${id}-problem`}
            onChange={(event) => onValue(event.currentTarget.checked ? 'yes' : '')}
          />
          {field.label}
        </label>
        {problem}
      </div>
    );
  }
  if (field.choices) {
    return (
      <fieldset class="field" aria-describedby={`${id}-problem`}>
        <legend class="label">{field.label}</legend>
        {Object.entries(field.choices).map(([choice, word], index) => (
          <label class="row choice" key={choice}>
            <input
              {...(index === 0 ? { id } : {})}
              type="radio"
              name={id}
              value={choice}
              checked={value === choice}
              onChange={() => onValue(choice)}
            />
            {word}
          </label>
        ))}
        {problem}
      </fieldset>
    );
  }
  return (
    <div class="field">
      <label for={id}>{field.label}</label>
      <input
        id={id}
        type="text"
        autocomplete="off"
        value={value}
        aria-invalid={missing}
        aria-describedby={`${id}-problem`}
        onInput={(event) => onValue(event.currentTarget.value)}
      />
      {problem}
    </div>
  );
}
