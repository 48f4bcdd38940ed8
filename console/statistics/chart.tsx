/**
 * The bars of the statistics page: a bar a day, its colours the methods. Mouse and arrow keys choose a bar, whose
 * figures stand above it; a click or Enter opens its payments. Where there is no room for days it draws weeks.
 */
import { type Signal, useSignal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { count } from '../format';
import { amountOf, yuan } from '../money';
import { go } from '../router';
import { fill, texts } from '../texts';
import { type Figures, isMonday, SERIES, weeksOf } from './days';
import { axisOf, labelsOf, needsWeeks, stack } from './geometry';

/** Room around the bars, in pixels. */
const LEFT = 52;
const RIGHT = 12;
const TOP = 26;
const BOTTOM = 28;

interface Props {
  rows: Figures[];
  total: Figures;
  /** The business day that has not ended. */
  today: string;
  hrefOf: (bar: Figures) => string;
}

/** The chart with its heading, legend and the figures of the chosen bar. */
export function Chart({ rows, total, today, hrefOf }: Props) {
  const { statistics } = texts.value;
  const box = useRef<HTMLDivElement>(null);
  const size = useSignal({ width: 0, height: 0 });
  const current = useSignal<number | undefined>(undefined);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = () => {
      size.value = { width: element.clientWidth, height: element.clientHeight };
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [size]);

  const { width, height } = size.value;
  const room = Math.max(width - LEFT - RIGHT, 1);
  const weeks = width > 0 && needsWeeks(rows.length, room);
  const bars = weeks ? weeksOf(rows) : rows;
  const band = room / Math.max(bars.length, 1);
  const title = weeks ? statistics.chartWeeks : statistics.chart;
  useEffect(() => {
    current.value = undefined;
  }, [current, bars.length]);

  const indexAt = (clientX: number) => {
    const left = box.current?.getBoundingClientRect().left ?? 0;
    const index = Math.floor((clientX - left - LEFT) / band);
    return 0 <= index && index < bars.length ? index : undefined;
  };
  const open = (index: number | undefined) => {
    const bar = index === undefined ? undefined : bars[index];
    if (bar) go(hrefOf(bar));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const last = bars.length - 1;
    const at = current.peek() ?? last;
    const to = {
      ArrowLeft: at - 1,
      ArrowRight: at + 1,
      PageUp: at - 7,
      PageDown: at + 7,
      Home: 0,
      End: last,
    }[event.key];
    if (to !== undefined) current.value = Math.min(Math.max(to, 0), last);
    else if (event.key === 'Enter') open(current.peek());
    else if (event.key === 'Escape') current.value = undefined;
    else return;
    event.preventDefault();
  };
  // A finger has no hover: its first tap shows the figures, and the link beside them opens the list.
  const byTouch = useRef(false);

  return (
    <section class="card chart" aria-labelledby="chart-title">
      <div class="head">
        <h2 id="chart-title">{title}</h2>
        <p class="muted small screen-only">{statistics.hint}</p>
      </div>
      <Readout bars={bars} total={total} current={current} today={today} hrefOf={hrefOf} />
      <div
        ref={box}
        class="plot"
        role="application"
        aria-roledescription={statistics.chartRole}
        aria-label={fill(statistics.chartLabel, { title })}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: arrow keys move the day in it, as in a slider
        tabIndex={0}
        onKeyDown={onKeyDown}
        onFocus={() => {
          if (!byTouch.current) current.value ??= bars.length - 1;
        }}
        onBlur={() => {
          current.value = undefined;
        }}
        onPointerDown={(event) => {
          byTouch.current = event.pointerType === 'touch';
          if (byTouch.current) current.value = indexAt(event.clientX);
        }}
        onPointerMove={(event) => {
          if (event.pointerType !== 'touch') current.value = indexAt(event.clientX);
        }}
        onPointerLeave={(event) => {
          if (event.pointerType !== 'touch') current.value = undefined;
        }}
        onClick={(event) => {
          if (!byTouch.current) open(indexAt(event.clientX));
        }}
      >
        {width > 0 && (
          <Drawing
            bars={bars}
            width={width}
            height={height}
            band={band}
            today={today}
            current={current}
          />
        )}
      </div>
    </section>
  );
}

/** What a bar stands for: a day with its weekday, or the days of a week. */
function dayName({ from, to }: Pick<Figures, 'from' | 'to'>): string {
  const { list } = texts.value;
  return from === to ? `${from} ${weekday(from)}` : fill(list.chosen, { from, to });
}

/** `周二`, `Tue`. */
export function weekday(day: string): string {
  return new Intl.DateTimeFormat(texts.value.language, {
    weekday: 'short',
    timeZone: 'UTC',
  }).format(new Date(`${day}T00:00:00Z`));
}

/**
 * The figures of the chosen bar, shown and read out; without one those of the range, which makes it the legend.
 * It has the same parts for every bar, so that nothing moves under the mouse.
 */
function Readout(props: {
  bars: Figures[];
  total: Figures;
  current: Signal<number | undefined>;
  today: string;
  hrefOf: (bar: Figures) => string;
}) {
  const { bars, total, current, today, hrefOf } = props;
  const { statistics } = texts.value;
  const chosen = current.value === undefined ? undefined : bars[current.value];
  const bar = chosen ?? total;
  const amount = (name: string, fen: bigint) => (
    <>
      <span class="muted">{name}</span> <span class="money">{yuan(amountOf(fen))}</span>
    </>
  );
  return (
    <div class="readout" aria-live="polite">
      <p>
        <b>{dayName(bar)}</b>
        {chosen && chosen.to >= today && <span class="unfinished">{statistics.unfinished}</span>}
        <span>
          <span class="muted">{statistics.paid}</span>{' '}
          <b class="money">{yuan(amountOf(bar.paid.fen))}</b>
        </span>
        <span>{fill(statistics.payments, { count: count(bar.paid.count) })}</span>
        {/* A mouse clicks on the bar itself, and so does Enter; a finger needs a place of its own. */}
        {chosen && (
          <a
            class="touch-only"
            href={hrefOf(chosen)}
            // The chart keeps the focus, and with it the bar that is chosen.
            onMouseDown={(event) => event.preventDefault()}
          >
            {statistics.open}
          </a>
        )}
      </p>
      <p class="small">
        {SERIES.filter((series) => total.methods[series].count > 0).map((series) => (
          <span key={series}>
            <span class={`swatch ${series}`} />
            {amount(statistics.series[series], bar.methods[series].fen)}
          </span>
        ))}
        {total.refunded.count > 0 && <span>{amount(statistics.refunded, bar.refunded.fen)}</span>}
        {total.refunding.count > 0 && (
          <span>{amount(statistics.refunding, bar.refunding.fen)}</span>
        )}
      </p>
    </div>
  );
}

function Drawing(props: {
  bars: Figures[];
  width: number;
  height: number;
  band: number;
  today: string;
  current: Signal<number | undefined>;
}) {
  const { bars, width, height, band, today, current } = props;
  const { statistics, language } = texts.value;
  const high = height - TOP - BOTTOM;
  const axis = axisOf(bars);
  const xOf = (index: number) => LEFT + index * band;
  const yOf = (value: number) => TOP + high * (1 - value / axis.top);
  const foot = TOP + high;
  // One path a colour: 400 days of four methods would be 1,600 elements.
  const gap = band >= 24 ? band * 0.25 : band >= 6 ? 2 : band >= 3 ? 1 : 0;
  const pieces = bars.map((bar) => stack(bar, axis.top, high));
  const pathOf = (series: string) =>
    pieces
      .flatMap((stacked, index) =>
        stacked
          .filter((piece) => piece.series === series)
          .map(
            (piece) =>
              `M${round(xOf(index) + gap / 2)} ${round(TOP + piece.y)}h${round(band - gap)}v${round(piece.height)}h${round(gap - band)}z`,
          ),
      )
      .join('');
  const compact = new Intl.NumberFormat(language, {
    notation: 'compact',
    maximumFractionDigits: 2,
  });
  const now = bars.findIndex(({ to }) => to >= today);
  const month = (day: string) =>
    new Intl.DateTimeFormat(language, {
      ...(day.slice(5, 7) === '01' ? { year: 'numeric' } : { month: 'short' }),
      timeZone: 'UTC',
    }).format(new Date(`${day}T00:00:00Z`));
  return (
    <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      <text class="axis" x={LEFT - 8} y={11} text-anchor="end">
        {statistics.unit}
      </text>
      {axis.ticks.map((tick) => (
        <g key={tick}>
          <line class="grid" x1={LEFT} x2={width - RIGHT} y1={yOf(tick)} y2={yOf(tick)} />
          <text class="axis" x={LEFT - 8} y={yOf(tick) + 4} text-anchor="end">
            {compact.format(tick)}
          </text>
        </g>
      ))}
      {bars.map(
        ({ from, to }, index) =>
          from === to &&
          isMonday(from) && (
            <line key={from} class="week" x1={xOf(index)} x2={xOf(index)} y1={foot} y2={foot + 6} />
          ),
      )}
      <Highlight bars={bars} current={current} band={band} height={high} />
      {SERIES.map((series) => (
        <path key={series} class={series} d={pathOf(series)} />
      ))}
      <line class="foot" x1={LEFT} x2={width - RIGHT} y1={foot} y2={foot} />
      {now >= 0 && (
        <>
          <rect class="today" x={xOf(now)} y={TOP} width={band} height={high} />
          <text
            class="axis today-word"
            x={Math.min(xOf(now) + band / 2 + 20, width - RIGHT)}
            y={11}
            text-anchor="end"
          >
            {statistics.unfinished}
          </text>
        </>
      )}
      {labelsOf(bars, band).map(({ index, kind, day }) => (
        <text
          key={day}
          class="axis"
          x={Math.min(xOf(index) + band / 2, width - 18)}
          y={height - 6}
          text-anchor="middle"
        >
          {kind === 'day' ? day.slice(5) : month(day)}
        </text>
      ))}
    </svg>
  );
}

/** A tenth of a pixel is enough. */
function round(pixels: number): number {
  return Math.round(pixels * 10) / 10;
}

/** Behind the chosen bar. A component of its own, so that the mouse redraws nothing else. */
function Highlight(props: {
  bars: Figures[];
  current: Signal<number | undefined>;
  band: number;
  height: number;
}) {
  const { bars, current, band, height } = props;
  const index = current.value;
  if (index === undefined || index >= bars.length) return null;
  return <rect class="chosen" x={LEFT + index * band} y={TOP} width={band} height={height} />;
}
