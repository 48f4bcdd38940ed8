/**
 * All payments exported as CSV through the production bundle: rows a second, and what workerd's memory
 * and processor time have to say to that. A file that is not whole ends the run.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { fill } from './data.ts';
import { calls, type Result, type Section, type Stack, send } from './stack.ts';

const DATABASE = 'bench_export';
const ROWS = 1_000_000;
const QUICK_ROWS = 50_000;
/** Of a Worker's isolate: https://developers.cloudflare.com/workers/platform/limits/ */
const MEMORY_LIMIT_MIB = 128;

export async function measureExport(stack: Stack, quick: boolean): Promise<Section> {
  const rows = quick ? QUICK_ROWS : ROWS;
  const client = await stack.createDatabase(DATABASE);
  await fill(client, rows);
  const section = await stack.withWorkers(DATABASE, async (workers): Promise<Section> => {
    // What any request makes workerd load is not of the export.
    for (let count = 0; count < 100; count++) await send(calls(workers).list());
    const workerd = await findWorkerd();
    const before = await workerd?.look();
    const began = performance.now();
    const file = new URL('/payments/export', workers.api);
    const bytes = await download(file, workers, rows);
    const seconds = (performance.now() - began) / 1000;
    const after = await workerd?.look();
    // Once more, because whoever is asked for its heap all the time is slower.
    const heap = await workers.peakHeapMib(() => download(file, workers, rows));

    const results: Result[] = [
      { name: 'rows a second', ours: (rows / seconds).toFixed(0) },
      { name: 'MiB a second', ours: (bytes / 2 ** 20 / seconds).toFixed(1) },
      {
        name: 'heap of the isolate at its most',
        ours: `${heap.toFixed(0)} MiB`,
        goal: { text: `< ${MEMORY_LIMIT_MIB} MiB`, met: heap < MEMORY_LIMIT_MIB },
      },
    ];
    if (before && after) {
      results.push(
        {
          name: 'memory of workerd at its most',
          ours: `${after.peakMib.toFixed(0)} MiB`,
          beside: `${before.residentMib.toFixed(0)} MiB`,
        },
        {
          name: 'processor time of workerd, 1,000 rows',
          ours: `${(((after.cpuSeconds - before.cpuSeconds) * 1e6) / rows).toFixed(2)} ms`,
        },
      );
    }
    return {
      title: 'The export',
      heads: ['export', 'before'],
      results,
      notes: [
        `${rows} payments, ${(bytes / 2 ** 20).toFixed(0)} MiB of CSV in ${seconds.toFixed(1)} s, read by one client as fast as it comes.`,
        'The heap is what the inspector says twenty times a second, what is no longer needed and not yet collected included; Cloudflare allows 128 MiB.',
        before
          ? 'Memory is VmHWM of /proc/<pid>/status, reset before the export, beside VmRSS at that moment: of the whole process, both Workers and the runtime.'
          : 'Memory and processor time are read from /proc, which this system does not have.',
      ],
    };
  });
  await stack.dropDatabase(client);
  return section;
}

/** How many bytes came. Throws unless the last line says that all rows did. */
function download(url: URL, { authorization }: { authorization: string }, rows: number) {
  return new Promise<number>((resolve, reject) => {
    const outgoing = request(url, { headers: { authorization } }, (response) => {
      let bytes = 0;
      let end = '';
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        end = (end + chunk.toString('latin1')).slice(-100);
      });
      response.on('error', reject);
      response.on('end', () => {
        const last = Buffer.from(end, 'latin1').toString().trimEnd().split('\r\n').at(-1);
        if (last?.startsWith(`# 共 ${rows} 条`)) resolve(bytes);
        else reject(new Error(`${url}: ${response.statusCode}, which ends with ${last}`));
      });
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}

interface Looks {
  residentMib: number;
  /** Since the last look. */
  peakMib: number;
  cpuSeconds: number;
}

/** The workerd that this process has started, where there is a /proc to look at it. */
async function findWorkerd(): Promise<{ look(): Promise<Looks> } | null> {
  const pids = await readFile(`/proc/self/task/${process.pid}/children`, 'utf8').catch(() => '');
  for (const pid of pids.trim().split(' ').filter(Boolean)) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    if (!/^Name:\s+workerd$/m.test(status)) continue;
    return { look: () => look(pid) };
  }
  return null;
}

/** Linux counts processor time in hundredths of a second, whatever the machine. */
const TICKS_PER_SECOND = 100;

async function look(pid: string): Promise<Looks> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const mib = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) / 1024;
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // From the third field on, behind the name: utime and stime are the 14th and 15th (proc_pid_stat(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  // 5 resets the peak (proc_pid_clear_refs(5)).
  await writeFile(`/proc/${pid}/clear_refs`, '5');
  return {
    residentMib: mib('VmRSS'),
    peakMib: mib('VmHWM'),
    cpuSeconds: ticks / TICKS_PER_SECOND,
  };
}
