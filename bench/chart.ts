/** Time against rows as an SVG, both axes logarithmic; readable on a light and on a dark page. */
import { scaleLog } from 'd3-scale';
import { line } from 'd3-shape';
import type { Series } from './scale.ts';

const WIDTH = 830;
const HEIGHT = 420;
const MARGIN = { top: 24, right: 240, bottom: 44, left: 76 };
/** Of the pages; ours is drawn solid, COUNT/OFFSET dashed. */
const COLOURS = ['#1f77b4', '#2ca02c', '#d62728'];

export function drawChart(all: Series[]): string {
  const points = all.flatMap((series) => series.points);
  const rows = points.map((point) => point.rows);
  const times = points.map((point) => point.ms);
  const right = WIDTH - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = scaleLog([Math.min(...rows), Math.max(...rows)], [MARGIN.left, right]);
  const y = scaleLog([Math.min(...times), Math.max(...times)], [bottom, MARGIN.top]).nice();
  const path = line<Series['points'][number]>(
    (point) => x(point.rows),
    (point) => y(point.ms),
  );
  const format = new Intl.NumberFormat('en', { notation: 'compact' });

  const xTicks = [...new Set(rows)].map(
    (tick) =>
      `<path d="M${x(tick)} ${MARGIN.top}V${bottom}" stroke="#8884"/><text x="${x(tick)}" y="${bottom + 18}" text-anchor="middle">${format.format(tick)}</text>`,
  );
  const yTicks = y
    .ticks()
    .filter((tick) => Number.isInteger(Math.log10(tick)))
    .map(
      (tick) =>
        `<path d="M${MARGIN.left} ${y(tick)}H${right}" stroke="#8884"/><text x="${MARGIN.left - 8}" y="${y(tick) + 4}" text-anchor="end">${tick} ms</text>`,
    );
  const lines = all.map(({ name, points }, index) => {
    const dash = index % 2 === 0 ? '' : ' stroke-dasharray="6 4"';
    const style = `stroke="${COLOURS[Math.floor(index / 2)]}"${dash}`;
    const legend = MARGIN.top + 8 + 22 * index;
    return `<path d="${path(points)}" fill="none" stroke-width="2" ${style}/><path d="M${right + 14} ${legend - 4}h24" stroke-width="2" ${style}/><text x="${right + 44}" y="${legend}">${name}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="12" fill="#888">
<title>Time of a list request against the number of payments</title>
${[...xTicks, ...yTicks, ...lines].join('\n')}
<text x="${(MARGIN.left + right) / 2}" y="${HEIGHT - 8}" text-anchor="middle">payments</text>
</svg>
`;
}
