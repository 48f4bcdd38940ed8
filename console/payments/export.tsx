/**
 * The export of the payments of a filter. It runs on while other pages are shown. The file is read as a stream, and
 * is called whole only if its last line agrees with the rows counted here.
 */
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { Failure, getFile } from '../api';
import { count, dateTime } from '../format';
import { SHAPES } from '../icons';
import { announce, Fill, Forbidden, failureText, RequestId, useCountdown } from '../parts';
import { withQuery } from '../router';
import { lacks, zone } from '../session';
import { fill, texts } from '../texts';
import { filtersInWords } from './filter-words';
import { fileName, markedName, recordCounter } from './records';

declare global {
  interface Window {
    /** Not in every browser (https://wicg.github.io/file-system-access/). */
    showSaveFilePicker?: (options: { suggestedName: string }) => Promise<FileSystemFileHandle>;
  }
}

type Query = Record<string, string>;

/** How an export stands. */
type Phase =
  | { is: 'starting' }
  | { is: 'running'; rows: number }
  | { is: 'complete'; rows: number; name: string }
  /** Without a name nothing of it was kept. */
  | { is: 'incomplete'; rows: number; name?: string; written: boolean }
  | { is: 'failed'; failure: Failure }
  | { is: 'unsaved' }
  /** Too many rows for the memory, and no file to write them to: the browser's own download takes them. */
  | { is: 'large' };

interface Export {
  query: Query;
  /** What the list counted. Payments that came since are in the file all the same. */
  total: number;
  phase: Phase;
}

const current = signal<Export | undefined>(undefined);

/** Aborts the one that runs. */
let running: AbortController | undefined;

/** What is held in memory until it is whole; about 40 MB. */
const MOST_IN_MEMORY = 200_000;
/** A stream that brings nothing for so long is broken. */
const PATIENCE_MS = 30_000;
const SHOW_EVERY_MS = 100;

/** Exports the payments of the list's address with one click. */
export function ExportButton({ query, total }: { query: Query; total: number }) {
  const { page: _, cursor: __, size: ___, ...filter } = query;
  const busy = isRunning(current.value);
  return (
    <button
      type="button"
      {...(busy ? { 'aria-disabled': 'true', 'data-tip': texts.value.exporting.busy } : {})}
      onClick={() => {
        if (running) announce(texts.value.exporting.busy);
        else start(filter, total);
      }}
    >
      {texts.value.list.export}
    </button>
  );
}

function isRunning(one: Export | undefined): boolean {
  return one?.phase.is === 'starting' || one?.phase.is === 'running';
}

/** Called by a click, since the browser lets a click alone ask for a file. */
async function start(query: Query, total: number): Promise<void> {
  if (total <= MOST_IN_MEMORY) return run(query, total);
  if (!window.showSaveFilePicker) {
    current.value = { query, total, phase: { is: 'large' } };
    return;
  }
  const stamp = dateTime(Date.now(), zone()).replace(/\D/g, '');
  const file = await window
    .showSaveFilePicker({ suggestedName: `payments-${stamp}.csv` })
    // Whoever closes the dialogue wants no file.
    .catch(() => undefined);
  if (file) await run(query, total, file);
}

async function run(query: Query, total: number, file?: FileSystemFileHandle): Promise<void> {
  if (running) return;
  const controller = new AbortController();
  running = controller;
  const show = (phase: Phase) => {
    if (running === controller) current.value = { query, total, phase };
  };
  addEventListener('beforeunload', askToStay);
  show({ is: 'starting' });
  try {
    show(await read(withQuery('/payments/export', query), controller, show, file));
  } catch (error) {
    if (running !== controller) return;
    if (!(error instanceof Failure)) throw error;
    if (error.code === 40300) lacks('payments:export');
    show({ is: 'failed', failure: error });
  } finally {
    if (running === controller) release();
  }
}

function release(): void {
  running = undefined;
  removeEventListener('beforeunload', askToStay);
}

function askToStay(event: BeforeUnloadEvent): void {
  event.preventDefault();
}

function cancel(): void {
  const controller = running;
  release();
  current.value = undefined;
  controller?.abort();
  announce(texts.value.exporting.cancelled);
}

/** Reads the file to its end, whole or not, and keeps what came. Throws Failure where none began. */
async function read(
  path: string,
  controller: AbortController,
  show: (phase: Phase) => void,
  file: FileSystemFileHandle | undefined,
): Promise<Phase> {
  const response = await getFile(path, controller.signal);
  const given = fileName(response.headers.get('Content-Disposition'));
  const counter = recordCounter();
  const sink = file ? await sinkOf(file) : memory();
  if (!sink) return { is: 'unsaved' };

  const reader = response.body?.getReader();
  let shownAt = 0;
  let stall: ReturnType<typeof setTimeout> | undefined;
  const patience = () => {
    clearTimeout(stall);
    stall = setTimeout(() => controller.abort(), PATIENCE_MS);
  };
  try {
    for (;;) {
      patience();
      // A stream that breaks ends the file as a short one does: the count tells.
      const part = await reader?.read().catch(() => undefined);
      if (!part || part.done) break;
      counter.push(part.value);
      if (!(await sink.write(part.value))) {
        controller.abort();
        return { is: 'unsaved' };
      }
      if (Date.now() - shownAt >= SHOW_EVERY_MS) {
        shownAt = Date.now();
        show({ is: 'running', rows: counter.rows() });
      }
    }
  } finally {
    clearTimeout(stall);
  }
  if (running !== controller) {
    await sink.discard();
    return { is: 'unsaved' };
  }

  const { complete, rows } = counter.verdict();
  if (complete) {
    const name = await sink.keep(given);
    return name === undefined ? { is: 'unsaved' } : { is: 'complete', rows, name };
  }
  if (rows === 0) {
    await sink.discard();
    return { is: 'incomplete', rows, written: false };
  }
  const { exporting } = texts.peek();
  const name = await sink.keep(
    markedName(file?.name ?? given, exporting.incompleteName),
    `\r\n${fill(exporting.incompleteLine, { count: rows })}\r\n`,
  );
  return name === undefined
    ? { is: 'unsaved' }
    : { is: 'incomplete', rows, name, written: name === file?.name };
}

/** Where the bytes go. What it promises is false or undefined where the file cannot be written. */
interface Sink {
  write(bytes: Uint8Array<ArrayBuffer>): Promise<boolean>;
  /** Keeps it under a name and answers the one that it got. `note` is the last line of a file that cannot be renamed. */
  keep(name: string, note?: string): Promise<string | undefined>;
  discard(): Promise<void>;
}

function memory(): Sink {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  return {
    async write(bytes) {
      parts.push(bytes);
      return true;
    },
    async keep(name) {
      const url = URL.createObjectURL(new Blob(parts, { type: 'text/csv;charset=utf-8' }));
      const link = document.createElement('a');
      link.href = url;
      link.download = name;
      link.click();
      // The browser reads it in its own time; a minute is plenty.
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      return name;
    },
    async discard() {},
  };
}

/** A file that somebody has picked. Until it is closed, what was there before stays. */
async function sinkOf(file: FileSystemFileHandle): Promise<Sink | undefined> {
  const stream = await file.createWritable().catch(() => undefined);
  if (!stream) return undefined;
  const done = (step: Promise<void>) =>
    step.then(
      () => true,
      () => false,
    );
  return {
    write: (bytes) => done(stream.write(bytes)),
    async keep(name, note) {
      // It has its name already, and a page cannot rename it everywhere: what is wrong stands in the file.
      if (note !== undefined && !(await done(stream.write(note)))) return undefined;
      if (!(await done(stream.close()))) return undefined;
      if (note !== undefined && 'move' in file && typeof file.move === 'function') {
        const moved: Promise<void> = file.move(name);
        if (await done(moved)) return name;
      }
      return file.name;
    },
    discard: () => stream.abort().catch(() => {}),
  };
}

/** The export that runs or has just ended, over every page. */
export function ExportPanel() {
  const one = current.value;
  // Nothing on the page stays hidden under the panel: the page can be scrolled past it.
  useEffect(() => {
    document.documentElement.classList.toggle('exporting', one !== undefined);
  }, [one !== undefined]);
  if (!one) return null;
  const { exporting, list, detail, language, common, ...words } = texts.value;
  const filters = filtersInWords(
    one.query,
    {
      language,
      names: {
        status: list.status,
        payment_method: list.method,
        refund_state: list.refundState,
        order_no: detail.field.order_no,
        payment_no: detail.field.payment_no,
      },
      values: {
        status: words.paymentStatus,
        payment_method: words.method,
        refund_state: words.refundState,
      },
      created: list.created,
      since: exporting.since,
      until: exporting.until,
      between: exporting.between,
    },
    fill,
  );
  return (
    <section class="export card screen-only" aria-labelledby="export-title">
      <div class="head">
        <h2 id="export-title">{exporting.title}</h2>
        <span class="muted small">{fill(exporting.expected, { count: count(one.total) })}</span>
      </div>
      <ul class="small">
        {filters.length === 0 && <li>{exporting.all}</li>}
        {filters.map(({ name, value }) => (
          <li key={name}>
            <Fill text={common.pair} name={<span class="muted">{name}</span>} value={value} />
          </li>
        ))}
      </ul>
      <Outcome one={one} />
      <Actions one={one} />
    </section>
  );
}

/** How far it is, or what came of it. */
function Outcome({ one: { phase, total } }: { one: Export }) {
  const { exporting } = texts.value;
  const rows = phase.is === 'running' ? phase.rows : 0;
  const busy = phase.is === 'starting' || phase.is === 'running';
  return (
    <>
      {/* Read out when the phase changes, and not at every hundred rows. */}
      <div role="status">
        <PhaseText phase={phase} />
      </div>
      {busy && (
        <>
          <progress aria-label={exporting.title} value={rows} max={Math.max(total, rows, 1)} />
          <p class="amount">
            {fill(exporting.progress, { done: count(rows), count: count(Math.max(total, rows)) })}
          </p>
        </>
      )}
    </>
  );
}

function PhaseText({ phase }: { phase: Phase }) {
  const { exporting, state } = texts.value;
  switch (phase.is) {
    case 'starting':
      return <p>{exporting.starting}</p>;
    case 'running':
      return <p>{exporting.running}</p>;
    case 'complete':
      return (
        <>
          <p class="outcome good">
            {SHAPES.good} <b>{fill(exporting.complete, { count: count(phase.rows) })}</b>
          </p>
          <p class="small">
            <Fill text={exporting.saved} name={<span class="mono">{phase.name}</span>} />
          </p>
        </>
      );
    case 'incomplete':
      return (
        <>
          <p class="outcome bad">
            {SHAPES.warning} <b>{exporting.incomplete}</b>
          </p>
          <p>
            {phase.rows === 0
              ? exporting.nothing
              : fill(exporting.incompleteRows, { count: count(phase.rows) })}
          </p>
          {phase.name && (
            <p class="small">
              <Fill
                text={phase.written ? exporting.incompleteWritten : exporting.incompleteSaved}
                name={<span class="mono">{phase.name}</span>}
              />
            </p>
          )}
        </>
      );
    case 'unsaved':
      return (
        <p class="outcome bad">
          {SHAPES.bad} <b>{exporting.unsaved}</b>
        </p>
      );
    case 'large':
      return <p>{fill(exporting.large, { count: count(MOST_IN_MEMORY) })}</p>;
    case 'failed': {
      const { failure } = phase;
      if (failure.code === 40300) return <Forbidden failure={failure} />;
      const text = failure.code === 0 ? state.failedFirst : failureText(failure);
      return (
        <>
          <p class="outcome bad">
            {SHAPES.bad} <b>{navigator.onLine ? text : exporting.offline}</b>
          </p>
          <RequestId failure={failure} />
        </>
      );
    }
  }
}

function Actions({ one }: { one: Export }) {
  const { exporting, common } = texts.value;
  const { phase, query, total } = one;
  const again = () => start(query, total);
  const close = () => {
    current.value = undefined;
  };
  if (isRunning(one)) {
    return (
      <div class="row end">
        <button type="button" onClick={cancel}>
          {common.cancel}
        </button>
      </div>
    );
  }
  return (
    <div class="row end">
      {(phase.is === 'incomplete' || phase.is === 'unsaved') && (
        <button type="button" onClick={again}>
          {exporting.again}
        </button>
      )}
      {phase.is === 'failed' && phase.failure.code !== 40300 && (
        <Retry seconds={phase.failure.retryAfter ?? 0} onRetry={again} />
      )}
      {phase.is === 'large' && (
        <a class="button primary" href={withQuery('/payments/export', query)} download>
          {exporting.download}
        </a>
      )}
      <button type="button" onClick={close}>
        {common.close}
      </button>
    </div>
  );
}

/** Counts down where the API said when; nothing is sent by itself. */
function Retry({ seconds, onRetry }: { seconds: number; onRetry: () => void }) {
  const { common, state } = texts.value;
  const left = useCountdown(seconds);
  return (
    <button
      type="button"
      {...(left > 0 ? { 'aria-disabled': 'true' } : {})}
      onClick={() => {
        if (left === 0) onRetry();
      }}
    >
      {left > 0 ? fill(state.retryIn, { seconds: left }) : common.retry}
    </button>
  );
}
