/**
 * Settles refunds that no gateway carries out, one after the other and no faster than the API takes them. Nothing is
 * sent twice by itself; what has no certain answer is sent again only when somebody presses 再试.
 */
import { useSignal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { Failure, write } from '../api';
import { count } from '../format';
import { amountOf, sumOf, yuan } from '../money';
import { Dialog, Fill, Forbidden, failureText, Identifier, Money } from '../parts';
import { held } from '../router';
import { lacks } from '../session';
import { fill, texts } from '../texts';
import type { ListedRefund } from '../types';
import { sendAll, type Verdict } from './pace';

/** What came of a refund. */
type Outcome =
  | { kind: 'waiting' | 'sending' | 'done' | 'gateway' }
  | { kind: 'ended'; status: number }
  /** It may have been settled all the same. */
  | { kind: 'unknown' | 'noAnswer' }
  | { kind: 'failed'; failure: Failure };

/** Why nothing is being sent. */
type Halt =
  | { kind: 'not begun' | 'finished' | 'stopped' | 'expired' | 'no answers' }
  | { kind: 'forbidden'; failure: Failure };

/** After so many uncertain answers in a row the API is away, and the rest would fare no better. */
const UNCERTAIN_IN_A_ROW = 3;

/** When the last were sent, by whatever dialogue of this page. */
const sent: number[] = [];

/** `onClose` has the ids of those that have an end now; none where nothing was sent. */
export function SettleDialog(props: {
  refunds: ListedRefund[];
  status: 1 | 2;
  onClose: (settled: Set<string> | undefined) => void;
}) {
  const { refunds, status, onClose } = props;
  const { settle, work, common } = texts.value;
  const run = useRun(refunds, status);
  const { halt, outcomes } = run;
  const running = halt === undefined;
  const left = refunds.filter(({ id }) => outcomes.get(id)?.kind === 'waiting');
  const sum = yuan(amountOf(sumOf(refunds.map(({ amount }) => amount))));

  // The button that had the focus is gone: its place has the next one.
  const main = useRef<HTMLButtonElement>(null);
  const begun = halt?.kind !== 'not begun';
  useEffect(() => {
    if (begun) main.current?.focus();
  }, [begun, running]);

  const close = () => {
    // A key too many ends the sending first, and what came of it stays to be read.
    if (running) run.stop();
    else if (!begun) onClose(undefined);
    else onClose(new Set(refunds.map(({ id }) => id).filter((id) => hasEnd(outcomes.get(id)))));
  };
  return (
    <Dialog
      title={settle.title[status] ?? ''}
      lead={
        <Fill
          text={settle.summary}
          count={<b>{count(refunds.length)}</b>}
          sum={<b class="money">{sum}</b>}
        />
      }
      onClose={close}
    >
      <div class="stack">
        {begun ? <Progress run={run} refunds={refunds} /> : <p>{settle.text[status]}</p>}
        {begun && <Outcomes run={run} refunds={refunds} />}
        <div class="end">
          {!begun && (
            <button type="button" onClick={close}>
              {common.cancel}
            </button>
          )}
          {halt && begun && left.length > 0 && halt.kind !== 'forbidden' && (
            <button type="button" onClick={() => run.send(left)}>
              {fill(work.resume, { count: left.length })}
            </button>
          )}
          {begun ? (
            <button
              ref={main}
              type="button"
              class={running ? '' : 'primary'}
              {...(run.stopping ? { 'aria-disabled': 'true' as const } : {})}
              onClick={({ detail }) => {
                // It has come in the place of 确定: the second click of a double one is not meant for it.
                if (!(running && detail > 1)) close();
              }}
            >
              {running ? (run.stopping ? work.stopping : work.stop) : common.close}
            </button>
          ) : (
            <button
              type="button"
              class="primary"
              // The dialogue begins at what Enter does.
              autofocus
              onClick={() => run.send(refunds)}
            >
              {common.confirm}
            </button>
          )}
        </div>
      </div>
    </Dialog>
  );
}

function hasEnd(outcome: Outcome | undefined): boolean {
  return outcome !== undefined && ['done', 'ended', 'gateway'].includes(outcome.kind);
}

/** Whether to send it again is up to whoever reads this. */
function isUncertain(outcome: Outcome | undefined): boolean {
  return outcome?.kind === 'unknown' || outcome?.kind === 'noAnswer';
}

/** What a person has to look at, then what was not sent, then what is done. */
function urgency(outcome: Outcome | undefined): number {
  if (outcome?.kind === 'done') return 2;
  return outcome === undefined || outcome.kind === 'waiting' ? 1 : 0;
}

/** Sends, and keeps what came of each. */
function useRun(refunds: ListedRefund[], status: 1 | 2) {
  const outcomes = useSignal<ReadonlyMap<string, Outcome>>(
    new Map(refunds.map(({ id }) => [id, { kind: 'waiting' }])),
  );
  const halt = useSignal<Halt | undefined>({ kind: 'not begun' });
  const pause = useSignal<{ until: number; limited: boolean } | undefined>(undefined);
  const stopping = useSignal(false);
  const wake = useRef(() => {});

  const stop = () => {
    stopping.value = true;
    wake.current();
  };
  // Whoever leaves the page has stopped.
  useEffect(() => stop, []);
  const isRunning = halt.value === undefined;
  useEffect(() => {
    if (!isRunning) return;
    const ask = (event: Event) => event.preventDefault();
    held.value = true;
    addEventListener('beforeunload', ask);
    return () => {
      held.value = false;
      removeEventListener('beforeunload', ask);
    };
  }, [isRunning]);

  const keep = (id: string, outcome: Outcome) => {
    outcomes.value = new Map(outcomes.peek()).set(id, outcome);
  };
  const send = async (those: ListedRefund[]) => {
    // A signal and not the component's state: a second click sees it at once.
    if (halt.peek() === undefined) return;
    halt.value = undefined;
    stopping.value = false;
    let end: Halt = { kind: 'finished' };
    let uncertain = 0;
    let limited = false;
    await sendAll(those, {
      sent,
      now: () => Date.now(),
      stopped: () => stopping.peek(),
      wait: async (ms) => {
        pause.value = { until: Date.now() + ms, limited };
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, ms);
          wake.current = () => {
            clearTimeout(timer);
            resolve();
          };
        });
        pause.value = undefined;
        limited = false;
      },
      send: async (refund): Promise<Verdict> => {
        keep(refund.id, { kind: 'sending' });
        const result = await settleOne(refund, status);
        if ('again' in result) {
          limited = true;
          keep(refund.id, { kind: 'waiting' });
          return result;
        }
        if ('halt' in result) {
          keep(refund.id, { kind: 'waiting' });
          end = result.halt;
          return 'stop';
        }
        keep(refund.id, result.outcome);
        uncertain = isUncertain(result.outcome) ? uncertain + 1 : 0;
        if (uncertain < UNCERTAIN_IN_A_ROW) return 'go on';
        end = { kind: 'no answers' };
        return 'stop';
      },
    });
    const waiting = [...outcomes.peek().values()].some(({ kind }) => kind === 'waiting');
    if (end.kind === 'finished' && waiting) end = { kind: 'stopped' };
    // Three in a row at the very end stop nothing.
    if (end.kind === 'no answers' && !waiting) end = { kind: 'finished' };
    stopping.value = false;
    halt.value = end;
  };

  return {
    outcomes: outcomes.value,
    halt: halt.value,
    pause: pause.value,
    stopping: stopping.value,
    send,
    stop,
  };
}

type Run = ReturnType<typeof useRun>;

/** One request, and what its answer means for this refund and for the others. */
async function settleOne(
  refund: ListedRefund,
  status: 1 | 2,
): Promise<{ outcome: Outcome } | { again: number } | { halt: Halt }> {
  try {
    await write('PATCH', `/payments/${refund.payment_id}/refunds/${refund.id}`, { status });
    return { outcome: { kind: 'done' } };
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    const { code, retryAfter, data } = failure;
    if (code === 42900) return { again: retryAfter ?? 60 };
    if (code === 40100) return { halt: { kind: 'expired' } };
    if (code === 40300) {
      lacks('refunds:settle');
      return { halt: { kind: 'forbidden', failure } };
    }
    if (code === 40903) return { outcome: { kind: 'ended', status: Number(data.status) } };
    if (code === 40907) return { outcome: { kind: 'gateway' } };
    if (code === 0) return { outcome: { kind: 'noAnswer' } };
    if (failure.unknownOutcome) return { outcome: { kind: 'unknown' } };
    return { outcome: { kind: 'failed', failure } };
  }
}

/** How far it is, and why it does not go on. */
function Progress({ run, refunds }: { run: Run; refunds: ListedRefund[] }) {
  const { work } = texts.value;
  const { halt, pause, outcomes } = run;
  // Read out once, not each second.
  const pauseText = useMemo(() => {
    if (!pause) return '';
    const seconds = Math.ceil((pause.until - Date.now()) / 1000);
    return fill(pause.limited ? work.waitForLimit : work.waitForPace, { seconds });
  }, [pause, work]);
  const kinds = refunds.map(({ id }) => outcomes.get(id)?.kind);
  const done = kinds.filter((kind) => kind === 'done').length;
  const waiting = kinds.filter((kind) => kind === 'waiting' || kind === 'sending').length;
  const answered = refunds.length - waiting;
  const text = () => {
    if (halt?.kind === 'expired') return work.signInFirst;
    if (halt?.kind === 'no answers') return fill(work.noAnswers, { count: UNCERTAIN_IN_A_ROW });
    if (halt?.kind === 'stopped') return fill(work.stopped, { count: waiting });
    if (halt?.kind !== 'finished') return '';
    if (done === refunds.length) return fill(work.finished, { done });
    return fill(work.finishedPartly, { done, left: refunds.length - done });
  };
  return (
    <div class="settling">
      <div class="row">
        <progress
          max={refunds.length}
          value={answered}
          aria-label={work.progress}
          aria-valuetext={fill(work.progressText, { done: answered, count: refunds.length })}
        />
        <span class="money">
          {fill(work.progressText, { done: answered, count: refunds.length })}
        </span>
      </div>
      {pause && <Pause key={pause.until} {...pause} />}
      <p class="visually-hidden" role="status">
        {pauseText}
      </p>
      <p role="status">{text()}</p>
      {halt?.kind === 'forbidden' && <Forbidden failure={halt.failure} />}
    </div>
  );
}

/** Counts down to when the next is sent. */
function Pause({ until, limited }: { until: number; limited: boolean }) {
  const { work } = texts.value;
  const now = useSignal(Date.now());
  const text = limited ? work.waitForLimit : work.waitForPace;
  useEffect(() => {
    const timer = setInterval(() => {
      now.value = Date.now();
    }, 1_000);
    return () => clearInterval(timer);
  }, [now]);
  const seconds = Math.max(0, Math.ceil((until - now.value) / 1000));
  return (
    <p class="muted" aria-hidden="true">
      {fill(text, { seconds })}
    </p>
  );
}

/** What came of each. */
function Outcomes({ run, refunds }: { run: Run; refunds: ListedRefund[] }) {
  const { work } = texts.value;
  const { outcomes, halt } = run;
  const uncertain = refunds.some(({ id }) => isUncertain(outcomes.get(id)));
  const list = useRef<HTMLUListElement>(null);
  // What is being sent stays in sight; afterwards what has to be looked at comes first.
  const halted = halt !== undefined;
  const shown = halted
    ? refunds.toSorted((a, b) => urgency(outcomes.get(a.id)) - urgency(outcomes.get(b.id)))
    : refunds;
  useEffect(() => {
    if (halted) list.current?.scrollTo(0, 0);
    else list.current?.querySelector('[data-kind="sending"]')?.scrollIntoView({ block: 'nearest' });
  }, [outcomes, halted]);
  return (
    <>
      {/* A list that is scrolled must be reached by the keyboard. */}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
      <ul ref={list} class="outcomes" aria-label={work.outcomes} tabIndex={0}>
        {shown.map((refund) => {
          const outcome = outcomes.get(refund.id) ?? { kind: 'waiting' };
          return (
            <li key={refund.id} data-kind={outcome.kind}>
              <Identifier text={refund.refund_no} what={work.columns.refundNo} />
              <Money amount={refund.amount} />
              <span class="outcome">
                <What outcome={outcome} />
                {halt && isUncertain(outcome) && (
                  <button type="button" class="link" onClick={() => run.send([refund])}>
                    {work.again}
                  </button>
                )}
              </span>
            </li>
          );
        })}
      </ul>
      {halt && uncertain && <p class="field-hint">{work.againHint}</p>}
    </>
  );
}

function What({ outcome }: { outcome: Outcome }) {
  const { work, refundStatus, common } = texts.value;
  if (outcome.kind === 'failed') return <span>{failureText(outcome.failure)}</span>;
  if (outcome.kind === 'ended') {
    const status = refundStatus[outcome.status] ?? common.unknown;
    return <span>{fill(work.outcome.ended, { status })}</span>;
  }
  return <span>{work.outcome[outcome.kind]}</span>;
}
