// Question: what does a daemon hold and do in a minute of steady traffic?
//
//   resident memory      of a udp daemon with one queue, at the end                                          MB
//   collections          of garbage in its workers after they have warmed up                                 count
//   TypeScript's share   of the CPU time of the process: samples in compiled JavaScript and in node itself,  0 to 1
//                        against those in the kernel, the addon and libc (perf); all threads, main included

import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Lab } from '../test/support/lab.js';
import { measureTcp, startIperfServer } from '../test/support/measure.js';
import { daemonArguments, startDaemon, tableOf, writeTable } from '../test/support/twill-hosts.js';

export interface Steady {
  readonly seconds: number;
  readonly residentMb: number;
  readonly workerCollections: number;
  /** Undefined without perf. */
  readonly typescriptShare?: number;
  /** Share of samples by where they fell: kernel, node, addon …; of the whole process. */
  readonly samples?: Readonly<Record<string, number>>;
}

/** What the kernel lane takes no process works for. */
const LANE_OFF = ['--lane=off'];

/** A worker loads its modules and its loop is compiled. */
const WARM_UP_MS = 3_000;
/** It starts at most so long after its process; at its end it may collect. */
const WORKER_START_MS = 1_000;

/** One garbage collection. */
export interface Collection {
  readonly isolate: string;
  /** Since that isolate began. */
  readonly ms: number;
}

/** What --trace-gc printed: "[pid:isolate]   133 ms: Scavenge …". */
export function collections(log: string): Collection[] {
  const lines = log.matchAll(/^\[\d+:(0x[0-9a-f]+)\]\s+(\d+) ms:/gm);
  return [...lines].map(([, isolate, ms]) => ({ isolate, ms: Number(ms) }));
}

/** Collections of the workers, after warming up and before the end of traffic; and whether any were traced at all. */
export function workerCollections(
  log: string,
  trafficEndMs: number,
): { steady: Collection[]; isTraced: boolean } {
  const found = collections(log);
  const workers = found.filter(({ isolate }) => isolate !== found[0].isolate);
  return {
    steady: workers.filter(({ ms }) => ms > WARM_UP_MS && ms < trafficEndMs - WORKER_START_MS),
    isTraced: workers.length > 0,
  };
}

/** Samples by object file: "  12.3%  [kernel.kallsyms]" lines of perf report. */
function parseShares(report: string): Record<string, number> {
  const shares: Record<string, number> = {};
  for (const [, percent, object] of report.matchAll(/^\s*([\d.]+)%\s+(\S.*?)\s*$/gm)) {
    const name = /kernel|\[k\]/.test(object)
      ? 'kernel'
      : /JIT|perf-\d+\.map|^\/\/anon|unknown/.test(object)
        ? 'compiled JavaScript'
        : object.replace(/\.so.*/, '');
    shares[name] = (shares[name] ?? 0) + Number(percent) / 100;
  }
  return shares;
}

function sampleProcess(pid: number, file: string, seconds: number): Record<string, number> | undefined {
  if (spawnSync('perf', ['--version'], { stdio: 'ignore' }).status !== 0) return undefined;
  const record = ['record', '-q', '-e', 'cpu-clock', '-F', '999', '-o', file, '-p', String(pid)];
  execFileSync('perf', [...record, '--', 'sleep', String(seconds)], { stdio: 'ignore' });
  const report = ['report', '-q', '--stdio', '--sort', 'dso', '-i', file];
  return parseShares(execFileSync('perf', report, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
}

export async function measureSteady(seconds: number): Promise<Steady> {
  const lab = Lab.open('steady-');
  try {
    const [a, b] = [lab.addHost(1), lab.addHost(2)];
    const file = join(lab.dir, 'static.json');
    writeTable(file, tableOf([a, b]));
    await startDaemon(lab, b, file, LANE_OFF);
    const startedAtMs = performance.now();
    const args = ['--trace-gc', ...daemonArguments(a, file, LANE_OFF)];
    const traced = await lab.spawnUntil(a.ns, process.execPath, args, /ready after/);
    await startIperfServer(lab, b.containerNs);
    await measureTcp(lab, a.containerNs, b.containerIp, seconds / 2);
    const reverse = measureTcp(lab, a.containerNs, b.containerIp, seconds / 2, 1, true);
    // setpriv, ip and env have become the daemon: the pid is its own.
    const pid = traced.child.pid!;
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    const samples = sampleProcess(pid, join(lab.dir, 'perf.data'), 5);
    await reverse;
    const trafficEndMs = performance.now() - startedAtMs;
    const resident = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    await lab.end(traced); // what it printed is complete only then
    const { steady, isTraced } = workerCollections(traced.log(), trafficEndMs);
    if (resident === null || !isTraced) throw new Error(`the daemon was not traced:\n${traced.log()}`);
    const share =
      samples &&
      Object.entries(samples).reduce((sum, [name, part]) => (isScript(name) ? sum + part : sum), 0);
    return {
      seconds,
      residentMb: Number(resident[1]) / 1024,
      workerCollections: steady.length,
      ...(samples === undefined || share === undefined ? {} : { samples, typescriptShare: share }),
    };
  } finally {
    await lab.close();
  }
}

function isScript(object: string): boolean {
  return object === 'compiled JavaScript' || object === 'node';
}
