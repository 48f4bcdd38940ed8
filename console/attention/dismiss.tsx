/** Takes what is over off the list, with a word on what was found out. It moves no money and no status. */
import { useSignal } from '@preact/signals';
import { useId } from 'preact/hooks';
import { Failure, write } from '../api';
import { isComposing } from '../keys';
import { yuan } from '../money';
import { announce, Dialog, explained, failureText, RequestId } from '../parts';
import { lacks } from '../session';
import { fill, texts } from '../texts';
import type { Attention } from '../types';

const MAX_LENGTH = 255;

/** `onClose` has how many entries left the list; nothing where it was not said. */
export function DismissDialog(props: {
  paymentId: string;
  attention: Attention;
  onClose: (dismissed: number | undefined) => void;
}) {
  const { paymentId, attention, onClose } = props;
  const { attention: words, common, state } = texts.value;
  const reason = useSignal('');
  const problem = useSignal('');
  const failure = useSignal<Failure | undefined>(undefined);
  const busy = useSignal(false);
  const id = useId();

  // The API takes all of a payment that is over, so all of it is shown.
  const why = (entry: { attention: string; explanation: string }) =>
    explained(entry.attention, entry.explanation);
  const entries = [
    ...attention.refunds
      .filter(({ refund }) => refund.payment_id === paymentId && refund.status !== 0)
      .map((one) => ({ key: one.refund.id, text: `${yuan(one.refund.amount)} · ${why(one)}` })),
    ...attention.payments
      .filter(({ payment_id }) => payment_id === paymentId)
      .map((one) => ({ key: 'payment', text: why(one) })),
  ];

  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy.peek()) return;
    const text = reason.value.trim();
    problem.value =
      text === '' ? words.reasonMissing : [...text].length > MAX_LENGTH ? words.reasonLong : '';
    if (problem.value !== '') {
      document.getElementById(id)?.focus();
      return;
    }
    busy.value = true;
    failure.value = undefined;
    try {
      const path = `/payments/${paymentId}/attention/dismissal`;
      const { data } = await write<{ dismissed: number }>('POST', path, { reason: text });
      announce(
        data.dismissed === 0
          ? words.dismissedNone
          : fill(words.dismissed, { count: data.dismissed }),
      );
      onClose(data.dismissed);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      // Signing in again is asked for over this dialogue; what was typed stays.
      if (error.code !== 40100) failure.value = error;
      if (error.code === 40300) lacks(error.text('required_scope') ?? '');
      if (error.code === 40000)
        problem.value = texts.value.wrongValue || (error.errors[0]?.message ?? '');
    } finally {
      busy.value = false;
    }
  };

  return (
    <Dialog
      title={words.dismissTitle}
      lead={fill(words.dismissAll, { id: paymentId })}
      onClose={() => onClose(undefined)}
    >
      <form onSubmit={submit} noValidate>
        <ul class="bullets">
          {entries.map(({ key, text }) => (
            <li key={key}>{text}</li>
          ))}
        </ul>
        <p>{words.dismissText}</p>
        <div class="field">
          <label for={id}>{words.dismissReason}</label>
          <textarea
            id={id}
            rows={3}
            value={reason.value}
            aria-invalid={problem.value !== ''}
            aria-describedby={`${id}-problem ${id}-hint`}
            onInput={(event) => {
              reason.value = event.currentTarget.value;
              problem.value = '';
            }}
            onKeyDown={(event) => {
              if (event.key !== 'Enter' || isComposing(event)) return;
              event.preventDefault();
              if (!event.shiftKey) event.currentTarget.form?.requestSubmit();
            }}
          />
          <p class="field-hint" id={`${id}-hint`}>
            {words.dismissReasonHint}
          </p>
          <p class="field-error" id={`${id}-problem`} role="alert">
            {problem.value}
          </p>
        </div>
        {failure.value && failure.value.code !== 40000 && (
          <div class="field-error" role="alert">
            <p>{failure.value.unknownOutcome ? state.writeUnknown : failureText(failure.value)}</p>
            <RequestId failure={failure.value} />
          </div>
        )}
        <div class="end">
          <button type="button" onClick={() => onClose(undefined)}>
            {common.cancel}
          </button>
          <button type="submit" class="primary" aria-disabled={busy.value}>
            {words.dismissSubmit}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
