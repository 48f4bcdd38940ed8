/**
 * The refund dialogue. It sends the refundable amount that it showed, so that neither a lost key nor a colleague
 * can turn one wish into two refunds. While amount and reason stay the same, every try has the same key. What
 * was typed stays until the answer is final.
 */
import { useSignal } from '@preact/signals';
import { useEffect, useId, useRef } from 'preact/hooks';
import { Failure, write } from '../api';
import { isComposing } from '../keys';
import { amountOf, fenOf, readAmount, yuan } from '../money';
import {
  announce,
  Dialog,
  Fill,
  Forbidden,
  failureText,
  Identifier,
  RequestId,
  useCountdown,
} from '../parts';
import { lacks, session } from '../session';
import { fill, texts } from '../texts';
import type { PaymentDetail, Refund } from '../types';
import { type Attempt, attemptOf, forgetAttempt, keepAttempt } from '../unfinished';

const MAX_REASON = 255;
/** From this length on it says how many characters are left. */
const SHOW_LEFT_FROM = 200;

/** The payment as the dialogue needs it. */
type Refundable = Pick<PaymentDetail, 'id' | 'payment_no' | 'refundable_amount'>;

interface Props {
  payment: Refundable;
  /** What the fields have at first; all that is left, and no reason, without it. */
  prefill?: { amount: string; reason: string } | undefined;
  onClose: () => void;
  /** A refund was made, or it turned out that the payment has changed. */
  onChanged: () => void;
}

/** What is shown beside, or instead of, the form. */
type View =
  | { name: 'form' }
  | { name: 'failed'; failure: Failure }
  | { name: 'notice'; text: string; canGoOn: boolean }
  | { name: 'unknown'; attempt: Attempt; refundNo: string | undefined; failure?: Failure };

/** Answers that were given after the refund had been looked for, so that they say what became of it. */
const LOOKED_UP = [40401, 40900, 40901, 40902, 40904, 40908, 40909];

/** Creates a refund of a payment. */
export function RefundDialog({ payment, prefill, onClose, onChanged }: Props) {
  const { refund: words, common } = texts.value;
  const actor = session.value?.actor ?? '';
  const unfinished = useRef(attemptOf(payment.id, actor));
  const max = useSignal(payment.refundable_amount);
  const amount = useSignal(unfinished.current?.amount ?? prefill?.amount ?? max.peek());
  const reason = useSignal(unfinished.current?.reason ?? prefill?.reason ?? '');
  const view = useSignal<View>(
    unfinished.current
      ? { name: 'unknown', attempt: unfinished.current, refundNo: undefined }
      : { name: 'form' },
  );
  // Not component state, which three fast clicks would all see as it was before the first.
  const sending = useSignal(false);
  const checked = useSignal(false);
  // What is left has changed since it was shown: the amount may fit, and is still to be looked at.
  const maxChanged = useSignal(false);
  const amountField = useRef<HTMLInputElement>(null);
  const submitButton = useRef<HTMLButtonElement>(null);
  const askButton = useRef<HTMLButtonElement>(null);
  const id = useId();

  const shownFailure = 'failure' in view.value ? view.value.failure : undefined;
  const limited = shownFailure?.code === 42900 ? shownFailure : undefined;
  const wait = useCountdown(limited ? (limited.retryAfter ?? 60) : 0, limited);

  const read = readAmount(amount.value);
  const left = 'fen' in read ? fenOf(max.value) - read.fen : undefined;
  const tooMuch = left !== undefined && left < 0n;
  const atMost = fill(words.problem.tooMuch, { amount: yuan(max.value) });
  const amountProblem = 'problem' in read ? words.problem[read.problem] : tooMuch ? atMost : '';
  const reasonLength = [...reason.value.trim()].length;
  const reasonTooLong = reasonLength > MAX_REASON;
  const reasonProblem =
    reasonLength === 0
      ? words.problem.reason
      : reasonTooLong
        ? words.problem.reasonLong
        : /\p{Cc}/u.test(reason.value)
          ? words.problem.reasonControl
          : '';

  const send = async (attempt: Attempt) => {
    if (sending.peek()) return;
    sending.value = true;
    unfinished.current = attempt;
    keepAttempt(payment.id, attempt);
    try {
      const { key, actor: _, ...body } = attempt;
      const { data, headers } = await write<Refund>(
        'POST',
        `/payments/${payment.id}/refund`,
        body,
        { headers: { 'Idempotency-Key': key } },
      );
      finish();
      const replayed = headers.get('Idempotent-Replayed') === 'true';
      announce(fill(replayed ? words.found : words.done, { amount: yuan(data.amount) }));
      onClose();
      onChanged();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      refused(error, attempt);
    } finally {
      sending.value = false;
    }
  };

  const finish = () => {
    forgetAttempt(payment.id);
    unfinished.current = undefined;
  };

  const refused = (failure: Failure, attempt: Attempt) => {
    if (failure.unknownOutcome) {
      const refundNo = failure.text('refund_no');
      view.value = { name: 'unknown', attempt, refundNo, failure };
      return;
    }
    // The session is renewed in another tab; then the same button sends the same key.
    if (failure.code === 40100) {
      if (view.value.name !== 'unknown') view.value = { name: 'form' };
      return;
    }
    if (view.value.name === 'unknown' && !LOOKED_UP.includes(failure.code)) {
      view.value = { ...view.value, failure };
      return;
    }
    finish();
    if (failure.code === 40901) {
      max.value = failure.text('refundable_amount') ?? max.value;
      checked.value = true;
      maxChanged.value = true;
      view.value = { name: 'form' };
      onChanged();
      requestAnimationFrame(() => amountField.current?.focus());
    } else if (failure.code === 40900) {
      const status = texts.value.paymentStatus[Number(failure.data.status)] ?? '';
      view.value = { name: 'notice', text: fill(words.statusChanged, { status }), canGoOn: false };
      onChanged();
    } else if (failure.code === 40902) {
      view.value = { name: 'notice', text: words.keyUsed, canGoOn: true };
      onChanged();
    } else {
      if (failure.code === 40300) lacks('refunds:create');
      view.value = { name: 'failed', failure };
    }
  };

  const close = () => {
    // Its answer is on the way, and has to be seen.
    if (sending.peek()) return;
    if (view.value.name === 'unknown') onChanged();
    // What was never unknown was not carried out.
    else forgetAttempt(payment.id);
    onClose();
  };

  const submit = (event: Event) => {
    event.preventDefault();
    if (wait > 0) return;
    checked.value = true;
    if (amountProblem !== '' || !('fen' in read)) {
      amountField.current?.focus();
      return;
    }
    if (reasonProblem !== '') {
      document.getElementById(`${id}-reason`)?.focus();
      return;
    }
    const wish = { amount: amountOf(read.fen), reason: reason.value.trim() };
    maxChanged.value = false;
    const last = unfinished.current;
    const same = last && last.amount === wish.amount && last.reason === wish.reason;
    send(same ? last : { ...wish, actor, key: crypto.randomUUID(), refundable_amount: max.value });
  };

  useEffect(() => {
    amountField.current?.focus();
    amountField.current?.select();
  }, []);
  const shown = view.value;
  useEffect(() => {
    if (shown.name === 'unknown') askButton.current?.focus();
  }, [shown.name]);

  const lead = (
    <Fill
      text={words.of}
      number={<Identifier text={payment.payment_no} what={texts.value.detail.field.payment_no} />}
    />
  );
  if (shown.name === 'unknown') {
    const { attempt, refundNo, failure: last } = shown;
    const sum = <b class="money">{yuan(attempt.amount)}</b>;
    return (
      <Dialog title={words.unknown} lead={lead} onClose={close}>
        <div class="stack">
          <div role="alert">
            <p>
              {refundNo ? (
                <Fill
                  text={words.unknownNumber}
                  number={<Identifier text={refundNo} what={texts.value.detail.columns.number} />}
                />
              ) : (
                <Fill
                  text={words.unknownNoNumber}
                  number={<code>{payment.payment_no}</code>}
                  amount={sum}
                />
              )}
            </p>
            <p>{words.askHint}</p>
          </div>
          {last && !last.unknownOutcome && <RefundFailure failure={last} />}
          {last && <RequestId failure={last} />}
          <div class="end">
            <button type="button" onClick={close}>
              {common.close}
            </button>
            <button
              type="button"
              class="primary"
              ref={askButton}
              aria-disabled={sending.value || wait > 0}
              onClick={() => wait === 0 && send(attempt)}
            >
              {sending.value
                ? words.submitting
                : wait > 0
                  ? fill(words.wait, { seconds: wait })
                  : words.ask}
            </button>
          </div>
        </div>
      </Dialog>
    );
  }

  if (shown.name === 'notice') {
    return (
      <Dialog title={words.title} lead={lead} onClose={close}>
        <div class="stack">
          <p role="alert">{shown.text}</p>
          <div class="end">
            {shown.canGoOn && (
              <button
                type="button"
                onClick={() => {
                  view.value = { name: 'form' };
                }}
              >
                {words.keyUsedNext}
              </button>
            )}
            <button type="button" class="primary" onClick={close}>
              {shown.canGoOn ? words.keyUsedLink : common.close}
            </button>
          </div>
        </div>
      </Dialog>
    );
  }

  const failure = shown.name === 'failed' ? shown.failure : undefined;
  const amountText =
    amountProblem !== '' && (checked.value || tooMuch)
      ? amountProblem
      : maxChanged.value
        ? atMost
        : '';
  // What only the API knows of a reason, such as characters that turn its direction, stands beside it, too.
  const refusedReason = failure?.errors.find(({ path }) => path === 'reason');
  const reasonText =
    reasonProblem !== '' && (checked.value || reasonTooLong)
      ? reasonProblem
      : refusedReason
        ? texts.value.wrongValue || refusedReason.message
        : '';
  const label =
    'fen' in read && !tooMuch
      ? fill(maxChanged.value ? words.submitStill : words.submit, {
          amount: yuan(amountOf(read.fen)),
        })
      : words.submitPlain;
  return (
    <Dialog title={words.title} lead={lead} onClose={close}>
      {/* The API is asked about everything; what the browser would say of a field is not ours. */}
      <form onSubmit={submit} noValidate>
        <div class="field">
          <label for={`${id}-amount`}>{words.amount}</label>
          <div class="row nowrap">
            <input
              ref={amountField}
              id={`${id}-amount`}
              class="money-field"
              type="text"
              inputMode="decimal"
              autocomplete="off"
              value={amount.value}
              aria-invalid={amountText !== ''}
              aria-describedby={`${id}-left ${id}-amount-problem`}
              onInput={(event) => {
                amount.value = event.currentTarget.value;
                maxChanged.value = false;
              }}
            />
            <button
              type="button"
              onClick={() => {
                amount.value = max.value;
                amountField.current?.focus();
              }}
            >
              {words.all}
            </button>
          </div>
          <p class="field-hint" id={`${id}-left`}>
            {left !== undefined && left >= 0n && fill(words.left, { amount: yuan(amountOf(left)) })}
          </p>
          <p class="field-error" id={`${id}-amount-problem`} role="alert">
            {amountText}{' '}
            {(tooMuch || maxChanged.value) && max.value !== '0.00' && (
              <button
                type="button"
                class="link"
                onClick={() => {
                  amount.value = max.value;
                  maxChanged.value = false;
                  amountField.current?.focus();
                }}
              >
                {fill(words.useMax, { amount: yuan(max.value) })}
              </button>
            )}
          </p>
        </div>
        <div class="field">
          <label for={`${id}-reason`}>{words.reason}</label>
          <div class="toggles">
            {words.reasons.map((one) => (
              <button
                key={one}
                type="button"
                class="toggle"
                aria-pressed={reason.value === one}
                onClick={() => {
                  reason.value = one;
                  submitButton.current?.focus();
                }}
              >
                {one}
              </button>
            ))}
          </div>
          <textarea
            id={`${id}-reason`}
            rows={2}
            value={reason.value}
            aria-invalid={reasonText !== ''}
            aria-describedby={`${id}-reason-left ${id}-reason-problem`}
            onInput={(event) => {
              // A reason is one line; what was pasted may be several.
              reason.value = event.currentTarget.value.replace(/[\r\n\t]+/g, ' ');
              if (refusedReason) view.value = { name: 'form' };
            }}
            onKeyDown={(event) => {
              if (event.key !== 'Enter' || isComposing(event)) return;
              event.preventDefault();
              if (!event.shiftKey) event.currentTarget.form?.requestSubmit();
            }}
          />
          <p class="field-hint" id={`${id}-reason-left`}>
            {reasonLength >= SHOW_LEFT_FROM &&
              !reasonTooLong &&
              fill(words.reasonLeft, { count: MAX_REASON - reasonLength })}
          </p>
          <p class="field-error" id={`${id}-reason-problem`} role="alert">
            {reasonText}
          </p>
        </div>
        {failure && <RefundFailure failure={failure} />}
        <div class="end">
          <button type="button" onClick={close}>
            {common.cancel}
          </button>
          {/* The amount stands in the button, so that what is pressed is what is refunded. */}
          <button
            ref={submitButton}
            type="submit"
            class="primary"
            aria-disabled={sending.value || wait > 0}
          >
            {sending.value
              ? words.submitting
              : wait > 0
                ? fill(words.wait, { seconds: wait })
                : label}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function RefundFailure({ failure }: { failure: Failure }) {
  const { refund: words, state, wrongValue } = texts.value;
  if (failure.code === 40300) return <Forbidden failure={failure} />;
  const text =
    {
      40904: words.limit,
      40908: words.tooLate,
      42900: state.limited,
      50301: state.notReady,
    }[failure.code] ?? failureText(failure);
  return (
    <div class="field-error" role="alert">
      <p>{text}</p>
      {failure.errors
        .filter(({ path }) => path !== 'reason')
        .map(({ path, message }) => (
          <p key={path}>{fill(state.wrong, { path, message: wrongValue || message })}</p>
        ))}
      <RequestId failure={failure} />
    </div>
  );
}
