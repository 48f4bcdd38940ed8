/**
 * Where the parts of the chart are. Money becomes a float here and nowhere else: a pixel is far coarser. Test
 * vectors in Node check this file.
 */
import { nice, ticks } from 'd3-array';
import { type Figures, isMonday, SERIES, type Series } from './days.ts';

/** An axis from 0 to `top`, in yuan. */
export interface Axis {
  top: number;
  ticks: number[];
}

const TICKS = 4;

/** The axis that the highest bar fits under. */
export function axisOf(bars: readonly Figures[]): Axis {
  const highest = Math.max(0, ...bars.map(({ paid }) => yuanOf(paid.fen)));
  if (highest === 0) return { top: 1, ticks: [0] };
  const [, top] = nice(0, highest, TICKS);
  return { top, ticks: ticks(0, top, TICKS) };
}

function yuanOf(fen: bigint): number {
  return Number(fen) / 100;
}

/** A piece of a bar; `y` counts down from the top of the chart. */
export interface Piece {
  series: Series;
  y: number;
  height: number;
}

const GAP = 1;

/**
 * The pieces of a bar in a chart of this height, from its foot up. There is a gap of 1 px between them, because the
 * colours differ too little from each other. A sum above zero is at least 1 px high.
 */
export function stack({ methods }: Figures, top: number, height: number): Piece[] {
  let foot = 0;
  return SERIES.filter((series) => methods[series].fen > 0n).map((series) => {
    const gap = foot > 0 ? GAP : 0;
    const high = Math.max((yuanOf(methods[series].fen) / top) * height - gap, 1);
    foot += gap + high;
    return { series, y: height - foot, height: high };
  });
}

/** Under this many pixels for a day its bar is a hair, and weeks are drawn instead. */
const LEAST_BAND = 3;

/** Whether so many days need weeks, in a chart of this width. */
export function needsWeeks(days: number, width: number): boolean {
  return width / days < LEAST_BAND;
}

/** A word under the axis: a date, or the name of a month that begins in the bar. */
export interface Label {
  index: number;
  kind: 'day' | 'month';
  /** The day that it names. */
  day: string;
}

/** The room that a word takes. */
const LABEL_WIDTH = 40;
const MONTH_STEPS = [1, 2, 3, 6, 12];

/** The words that there is room for: every day, else every Monday, else months. */
export function labelsOf(bars: readonly Pick<Figures, 'from' | 'to'>[], band: number): Label[] {
  const days = bars.map(({ from }, index): Label => ({ index, kind: 'day', day: from }));
  if (band >= LABEL_WIDTH) return days;
  const isDays = bars.every(({ from, to }) => from === to);
  if (isDays && band * 7 >= LABEL_WIDTH) return days.filter(({ day }) => isMonday(day));
  const months = bars.flatMap(({ from, to }, index): Label[] => {
    const first = `${to.slice(0, 7)}-01`;
    return from <= first && first <= to ? [{ index, kind: 'month', day: first }] : [];
  });
  const month = band * (isDays ? 30 : 30 / 7);
  const step = MONTH_STEPS.find((one) => one * month >= LABEL_WIDTH + 8) ?? 12;
  return months.filter(({ day }) => (Number(day.slice(5, 7)) - 1) % step === 0);
}
