// Question: what does it cost a host to follow a Kubernetes cluster of thousands, and how soon does it forward?
//
//   start        daemon spawned → all nodes in its table of peers      target ≤ 3 s with 5,000 nodes, 10 s with 15,000
//   start, CPU   of the whole process, all threads, up to then
//   idle         share of a core while no node changes
//   reports      the same while kubelets report, 500 times a second: each of 5,000 every 10 s             target ≤ 5 %
//   RSS, peak    of the process at the end, and at most               target ≤ 200 MB with 5,000 nodes, 300 with 15,000
//   away         daemon spawned → forwarding from its saved table, nobody listening where the store was; beside etcd
//
// A whole daemon in a lab against the stand-in of the API server: HTTPS, HTTP/2, nodes of 15 KB. The base line is the
// same daemon in a cluster without other nodes, in the same run. Unit: ms, % of a core (CPU time, so that what else
// runs matters little), MB. Medians (lowest–highest) of `--rounds`; `--seconds` of a window; `--modes` and
// `--nodes` are lists.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { etcdDaemonArguments, ETCD_PROGRAMS, startEtcd } from '../test/support/etcd-hosts.js';
import { type CrowdMode, KubeCrowd, type Started, startUntil } from '../test/support/kube-crowd.js';
import { Lab, LAB_PROGRAMS, type Task } from '../test/support/lab.js';
import { leaseEntries, memoryOf, putMany } from '../test/support/many-leases.js';
import { formatTable, median } from '../test/support/measure.js';
import { ensurePackages } from '../test/support/packages.js';
import { numberOption, textOption } from './options.js';

const ROUNDS = numberOption('rounds', 3);
const SECONDS = numberOption('seconds', 20);
const MODES = (textOption('modes') ?? 'udp,vxlan').split(',') as CrowdMode[];
const NODES = [0, ...(textOption('nodes') ?? '5000,15000').split(',').map(Number)];
const REPORTS_PER_SECOND = 500;
/** What a daemon does once after its start, as to compile its code and save its table, is not to be in a window. */
const SETTLE_MS = 10_000;
const FEW = 100;

const COLUMNS = ['start, ms', 'start, CPU ms', 'idle, %', 'reports, %', 'RSS, MB', 'peak, MB'] as const;
type Sample = Readonly<Record<(typeof COLUMNS)[number], number>>;

/** CPU time of all threads so far, in ms (proc(5), /proc/PID/stat). */
function cpuMs(task: Task): number {
  const fields = readFileSync(`/proc/${task.child.pid}/stat`, 'latin1').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10; // utime, stime; USER_HZ is 100
}

/** Share of a core that a process takes during a window, in %. */
async function share(task: Task): Promise<number> {
  const [cpu, atMs] = [cpuMs(task), performance.now()];
  await sleep(SECONDS * 1000);
  return (100 * (cpuMs(task) - cpu)) / (performance.now() - atMs);
}

async function follow(lab: Lab, crowd: KubeCrowd, size: number): Promise<Sample> {
  const { task, ms } = await crowd.startDaemon();
  const startCpuMs = cpuMs(task);
  await sleep(SETTLE_MS);
  const idle = await share(task);
  await crowd.api.do('storm', size === 0 ? 0 : REPORTS_PER_SECOND, size);
  await sleep(SETTLE_MS);
  const reports = size === 0 ? NaN : await share(task);
  await crowd.api.do('storm', 0, 0);
  const { bytes, peakBytes } = memoryOf(task);
  await lab.end(task);
  return {
    'start, ms': ms,
    'start, CPU ms': startCpuMs,
    'idle, %': idle,
    'reports, %': reports,
    'RSS, MB': bytes / 1e6,
    'peak, MB': peakBytes / 1e6,
  };
}

function spread(values: readonly number[]): string {
  const [middle, least, most] = [median(values), Math.min(...values), Math.max(...values)];
  if (Number.isNaN(middle)) return '–';
  const text = (value: number): string => value.toFixed(value < 20 ? 1 : 0);
  return `${text(middle)} (${text(least)}–${text(most)})`;
}

async function inLab<T>(work: (lab: Lab) => Promise<T>): Promise<T> {
  const lab = Lab.open('bk-');
  try {
    return await work(lab);
  } finally {
    await lab.close();
  }
}

/** One row for each number of nodes. */
function costs(mode: CrowdMode): Promise<string[][]> {
  return inLab(async (lab) => {
    const crowd = await KubeCrowd.open(lab, mode);
    const rows: string[][] = [];
    for (const size of NODES) {
      await crowd.growTo(size);
      const samples: Sample[] = [];
      for (let round = 0; round < ROUNDS; round++) samples.push(await follow(lab, crowd, size));
      rows.push([
        `${mode}, ${size} nodes`,
        ...COLUMNS.map((name) => spread(samples.map((each) => each[name]))),
      ]);
    }
    return rows;
  });
}

/** Starts from a saved table of 100 leases, the two stores in turn. */
function startsAlone(): Promise<string[][]> {
  return inLab(async (lab) => {
    const crowd = await KubeCrowd.open(lab, 'udp');
    await crowd.growTo(FEW);
    await lab.end((await crowd.startDaemon()).task);
    await crowd.api.do('stop');
    const etcd = await startEtcd(lab, { Network: '10.0.0.0/8', SubnetLen: 24, Backend: { Type: 'udp' } });
    await putMany(lab, etcd, leaseEntries(FEW));
    const host = lab.addHost(2, { subnet: undefined });
    const words = [process.execPath, ...etcdDaemonArguments(host)];
    const startOnEtcd = (line: RegExp): Promise<Started> => startUntil(lab, host, words, line);
    await lab.end((await startOnEtcd(/"leases changed"/)).task);
    await lab.end(etcd.task);

    const stores = { kube: () => crowd.startForwarding(), etcd: () => startOnEtcd(/ready after/) };
    const rows = { kube: [] as number[][], etcd: [] as number[][] };
    for (let round = 0; round < 2 * ROUNDS + 1; round++) {
      for (const store of ['kube', 'etcd'] as const) {
        const { task, ms } = await stores[store]();
        const withinMs = Number(/ready after (\d+) ms/.exec(task.log())![1]);
        rows[store].push([ms, withinMs, cpuMs(task)]);
        await lab.end(task);
      }
    }
    return Object.entries(rows).map(([store, samples]) => [
      `${store} away, ${FEW} leases`,
      ...[0, 1, 2].map((i) => spread(samples.map((each) => each[i]))),
    ]);
  });
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark makes network namespaces and must run as root.');
  ensurePackages([...LAB_PROGRAMS, ...ETCD_PROGRAMS]);
  const rows: string[][] = [['follow a cluster', ...COLUMNS]];
  for (const mode of MODES) rows.push(...(await costs(mode)));
  console.log(`${formatTable(rows)}\n`);
  const heading = ['start from the saved table', 'forwards, ms', 'of them after loading, ms', 'CPU, ms'];
  console.log(formatTable([heading, ...(await startsAlone())]));
  console.log(`\nload average at the end: ${readFileSync('/proc/loadavg', 'utf8').trim()}`);
}

await main();
