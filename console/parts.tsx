/** What several pages show: statuses, numbers with a copy button, times, dialogues, notices. */
import { signal, useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import type { Failure } from './api';
import { textFor } from './attention/groups';
import { dateTime, relative, shortened, visibleParts } from './format';
import { CopyIcon, DoneIcon, SHAPES } from './icons';
import { yuan } from './money';
import { wentOn } from './router';
import { session, zone } from './session';
import { fill, texts } from './texts';

/** Fills the places of a text with elements. */
export function Fill({ text, ...values }: { text: string } & Record<string, ComponentChildren>) {
  return (
    <>
      {text
        .split(/(\{\w+\})/)
        .map((part) => (/^\{\w+\}$/.test(part) ? values[part.slice(1, -1)] : part))}
    </>
  );
}

/** Text of somebody else: its direction stays its own, and what cannot be seen is named. */
export function Foreign({ text }: { text: string }) {
  return (
    <bdi>
      {visibleParts(text).map((part) =>
        part.mark ? (
          <span class="invisible" title={texts.value.common.invisible}>
            {part.text}
          </span>
        ) : (
          part.text
        ),
      )}
    </bdi>
  );
}

type Shape = keyof typeof SHAPES;

/** A status: a shape, a word and a colour. `tip` says what it means and what comes next. */
export function Badge(props: {
  shape: Shape;
  tone: string;
  word: string;
  tip?: string;
  focus?: boolean;
}) {
  const { shape, tone, word, tip, focus } = props;
  return (
    <span
      class={`badge ${tone}`}
      data-tip={tip}
      // A status in a table is explained to the mouse; where there is one on the page, to the keyboard too.
      {...(focus && tip ? { tabIndex: 0, role: 'note', 'aria-label': pair(word, tip) } : {})}
    >
      {SHAPES[shape]}
      <span>{word}</span>
    </span>
  );
}

const PAYMENT: Record<number, [Shape, string]> = {
  0: ['waiting', 'waiting'],
  1: ['good', 'good'],
  2: ['bad', 'bad'],
  3: ['returned', 'returned'],
};

const REFUND: Record<number, [Shape, string]> = {
  0: ['running', 'running'],
  1: ['good', 'good'],
  2: ['bad', 'bad'],
};

/** The status of a payment, and beside it that a part of it went back. */
export function PaymentStatus(props: { status: number; refunded: string; focus?: boolean }) {
  const { status, refunded, focus = false } = props;
  const { paymentStatus, paymentStatusTip, partlyRefunded, partlyRefundedTip } = texts.value;
  const [shape, tone] = PAYMENT[status] ?? ['warning', 'neutral'];
  const tip = paymentStatusTip[status];
  return (
    <span class="badges">
      <Badge
        shape={shape}
        tone={tone}
        word={paymentStatus[status] ?? String(status)}
        focus={focus}
        {...(tip ? { tip } : {})}
      />
      {status === 1 && refunded !== '0.00' && (
        <Badge
          shape="partly"
          tone="partly"
          word={partlyRefunded}
          tip={partlyRefundedTip}
          focus={focus}
        />
      )}
    </span>
  );
}

/** The status of a refund. */
export function RefundStatus({ status, focus = false }: { status: number; focus?: boolean }) {
  const [shape, tone] = REFUND[status] ?? ['warning', 'neutral'];
  const tip = texts.value.refundStatusTip[status];
  const word = texts.value.refundStatus[status] ?? String(status);
  return <Badge shape={shape} tone={tone} word={word} focus={focus} {...(tip ? { tip } : {})} />;
}

/** The status that a callback reported. */
export function CallbackStatus({ status }: { status: number }) {
  const [shape, tone] = REFUND[status] ?? ['warning', 'neutral'];
  const tip = texts.value.callbackStatusTip[status];
  const word = texts.value.callbackStatus[status] ?? String(status);
  return <Badge shape={shape} tone={tone} word={word} {...(tip ? { tip } : {})} />;
}

/** The name of a payment method; one that is not known is shown as it is stored. */
export function methodName(method: string): string {
  return texts.value.method[method] ?? method;
}

/** An amount, which can be copied by selecting it. */
export function Money({ amount }: { amount: string }) {
  return <span class="money">{yuan(amount)}</span>;
}

/** Said to screen readers, and shown for a moment. */
const announcement = signal('');

/** Says something by role=status. */
export function announce(text: string): void {
  // The same words again are read out again only if the element was empty in between.
  announcement.value = '';
  setTimeout(() => {
    announcement.value = text;
  }, 30);
}

/** Where announcements appear. Once in the page. */
export function Announcements() {
  return (
    <p class="toast" role="status" data-empty={announcement.value === ''}>
      {announcement.value}
    </p>
  );
}

/** Copies text and says so. */
export async function copy(text: string): Promise<void> {
  await navigator.clipboard.writeText(text);
  announce(texts.value.common.copied);
}

/** A button that copies. `what` names what it copies. */
function CopyButton({ text, what }: { text: string; what: string }) {
  const done = useSignal(false);
  const label = fill(texts.value.common.copy, { what });
  return (
    <button
      type="button"
      class="copy"
      aria-label={label}
      data-tip={label}
      onClick={async (event) => {
        event.stopPropagation();
        await copy(text);
        done.value = true;
        setTimeout(() => {
          done.value = false;
        }, 1_500);
      }}
    >
      {done.value ? <DoneIcon /> : <CopyIcon />}
    </button>
  );
}

/** A number of a payment, a refund, an order: shortened in its middle where it is long, copied whole. */
export function Identifier({ text, what, href }: { text: string; what: string; href?: string }) {
  const short = shortened(text);
  const shown = <Foreign text={short} />;
  const title = short === text ? {} : { title: text };
  return (
    <span class="number">
      {href ? (
        <a href={href} {...title}>
          {shown}
        </a>
      ) : (
        <span {...title}>{shown}</span>
      )}
      <CopyButton text={text} what={what} />
    </span>
  );
}

/** Renewed each minute, for what is shown as 3 分钟前. */
const now = signal(Date.now());
setInterval(() => {
  now.value = Date.now();
}, 60_000);

/** A time by the business's clock; the instant in UTC is its title. */
export function Time({ at, ago = false }: { at: string; ago?: boolean }) {
  return (
    <time dateTime={at} title={at}>
      {dateTime(at, zone())}
      {ago && (
        <span class="muted">
          {' '}
          · {relative(at, Math.max(now.value, Date.now()), texts.value.language)}
        </span>
      )}
    </time>
  );
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  /** A second line under the title. */
  lead?: ComponentChildren;
  /** Whether Esc closes it. */
  closable?: boolean;
}

const FIRST = 'form input, form textarea, form button[type="submit"]';

/** The heading of a page. It takes the focus of whoever came by a link that is gone, so that it is read out. */
export function Heading(props: { children: ComponentChildren; class?: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    const isLost = document.activeElement === document.body;
    if (wentOn.peek() && isLost) heading.current?.focus({ preventScroll: true });
  }, []);
  return <h1 ref={heading} tabIndex={-1} {...props} />;
}

/** A native dialogue, open as long as it is shown. The focus goes back to what opened it. */
export function Dialog({ title, lead, onClose, children, closable = true }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const element = dialog.current;
    const opener = document.activeElement;
    element?.showModal();
    // What is to be filled in or pressed, rather than the copy button in the head.
    element?.querySelector<HTMLElement>(FIRST)?.focus();
    return () => {
      dialog.current = null;
      element?.close();
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={heading}
      onKeyDown={(event) => {
        // A key that is held down must not press what its first stroke has brought up.
        if (event.key === 'Enter' && event.repeat) event.preventDefault();
        if (event.key !== 'Escape' || event.isComposing) return;
        // Browsers close a dialogue by a second Escape, whatever `cancel` says.
        event.preventDefault();
        if (closable) onClose();
      }}
      onCancel={(event) => {
        event.preventDefault();
        if (closable) onClose();
      }}
      onClose={(event) => {
        if (dialog.current && event.target === dialog.current) dialog.current.showModal();
      }}
    >
      <h2 id={heading}>{title}</h2>
      {lead && <p class="lead">{lead}</p>}
      {children}
    </dialog>
  );
}

/** Counts seconds down to 0, and anew where `of` changes. */
export function useCountdown(seconds: number, of?: unknown): number {
  const left = useSignal(Math.ceil(seconds));
  useEffect(() => {
    left.value = Math.ceil(seconds);
    const timer = setInterval(() => {
      left.value = Math.max(0, left.peek() - 1);
      if (left.peek() === 0) clearInterval(timer);
    }, 1_000);
    return () => clearInterval(timer);
  }, [left, seconds, of]);
  return left.value;
}

/** A bar over what it is about. */
export function Bar(props: {
  tone?: 'info' | 'warning' | 'danger';
  alert?: boolean;
  children: ComponentChildren;
  actions?: ComponentChildren;
}) {
  const { tone = 'info', alert = false, children, actions } = props;
  return (
    <div class={`bar ${tone}`} role={alert ? 'alert' : 'status'}>
      <div class="bar-text">{children}</div>
      {actions && <div class="bar-actions">{actions}</div>}
    </div>
  );
}

/** A name and what it stands for, in one text. */
export function pair(name: string, value: string): string {
  return fill(texts.value.common.pair, { name, value });
}

/** What a code of a gateway means: as the API has it in Chinese, ours by the code otherwise. */
export function explained(code: string | null, explanation: string): string {
  return textFor(texts.value.attention.codes, code ?? '') || explanation;
}

/** The text of a failure: of the API in Chinese, ours by its code otherwise. */
export function failureText(failure: Failure): string {
  const { errors, state } = texts.value;
  if (failure.code === 0) return state.failedFirst;
  return errors[failure.code] ?? errors[0] ?? (failure.message || state.failedFirst);
}

/** What went wrong with a read, and what can be done. The old data stay where there are some. */
export function ReadFailure(props: {
  failure: Failure;
  stale: boolean;
  reload: () => Promise<void>;
}) {
  const { failure, stale, reload } = props;
  const { state } = texts.value;
  if (failure.passes) return <Passing {...props} />;
  if (failure.code === 40300) return <Forbidden failure={failure} />;
  if (failure.code === 50301 || failure.code === 50302) return <NotReady />;
  if (failure.code === 40000) {
    return (
      <Bar tone="danger" alert>
        {failure.errors.map(({ path, message }) => (
          <p key={path}>
            <Fill
              text={state.wrong}
              path={<code>{path}</code>}
              message={texts.value.wrongValue || message}
            />
          </p>
        ))}
      </Bar>
    );
  }
  return (
    <Bar
      tone="danger"
      alert
      actions={
        <button type="button" onClick={() => reload()}>
          {texts.value.common.retry}
        </button>
      }
    >
      <p>{failureText(failure)}</p>
      {stale && <p>{state.failed}</p>}
      <RequestId failure={failure} />
    </Bar>
  );
}

/** The request's id, to be told to whoever can read the log. */
export function RequestId({ failure }: { failure: Failure }) {
  if (!failure.requestId) return null;
  return (
    <p>
      <Fill
        text={texts.value.state.requestId}
        id={
          <Identifier
            text={failure.requestId}
            what={texts.value.state.requestId.replace(' {id}', '')}
          />
        }
      />
    </p>
  );
}

/** What passes by itself is tried again once, when the API said; then it waits for a person. */
function Passing({
  failure,
  stale,
  reload,
}: {
  failure: Failure;
  stale: boolean;
  reload: () => Promise<void>;
}) {
  const { state } = texts.value;
  return (
    <Bar tone="warning" alert actions={<RetryButton failure={failure} onRetry={reload} />}>
      {stale ? state.failed : state.failedFirst}
    </Bar>
  );
}

function RetryButton({ failure, onRetry }: { failure: Failure; onRetry: () => Promise<void> }) {
  const left = useCountdown(failure.retryAfter ?? 2, failure);
  const tried = useRef(false);
  useEffect(() => {
    if (left > 0 || tried.current) return;
    tried.current = true;
    onRetry();
  }, [left, onRetry]);
  return (
    <button type="button" onClick={() => onRetry()}>
      {left > 0 ? fill(texts.value.state.retryIn, { seconds: left }) : texts.value.common.retry}
    </button>
  );
}

/** A right that is missing, and whom to ask. */
export function Forbidden({ failure }: { failure: Failure }) {
  const { state } = texts.value;
  return (
    <Bar tone="danger" alert>
      <p>
        <Fill text={state.forbidden} scope={<code>{failure.text('required_scope')}</code>} />
      </p>
      <p>{fill(state.forbiddenHelp, { actor: session.value?.actor ?? '' })}</p>
    </Bar>
  );
}

/** A deployment that cannot work yet. */
export function NotReady() {
  const { state } = texts.value;
  return (
    <section class="whole-page">
      <h1>{state.notReady}</h1>
      <p>{state.notReadyHelp}</p>
    </section>
  );
}

/** One tooltip for all: it shows `data-tip` of what the mouse is on or the keyboard has reached. */
export function Tooltip() {
  const tip = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const show = (event: Event) => {
      const element = tip.current;
      const target = event.target instanceof Element ? event.target.closest('[data-tip]') : null;
      if (!element) return;
      const text = target?.getAttribute('data-tip');
      if (!target || !text) {
        element.hidePopover();
        return;
      }
      element.textContent = text;
      element.showPopover();
      const { left, top, bottom, width } = target.getBoundingClientRect();
      const size = element.getBoundingClientRect();
      const x = Math.min(
        Math.max(8, left + width / 2 - size.width / 2),
        innerWidth - size.width - 8,
      );
      const above = bottom + size.height + 12 > innerHeight;
      element.style.left = `${x}px`;
      element.style.top = `${above ? top - size.height - 6 : bottom + 6}px`;
    };
    const hide = () => tip.current?.hidePopover();
    const onEscape = (event: KeyboardEvent) => {
      if (event.key === 'Escape') hide();
    };
    document.addEventListener('pointerover', show);
    document.addEventListener('focusin', show);
    document.addEventListener('keydown', onEscape);
    document.addEventListener('scroll', hide, true);
    return () => {
      document.removeEventListener('pointerover', show);
      document.removeEventListener('focusin', show);
      document.removeEventListener('keydown', onEscape);
      document.removeEventListener('scroll', hide, true);
    };
  }, []);
  return <div ref={tip} class="tooltip" popover="manual" role="tooltip" />;
}
