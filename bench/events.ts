// Question: what does a change to a lease cost a daemon, from the watch to the table of the workers?
//
//   moved     the host has another public IP: a row of the route table changes
//   renewed   nothing but the revision is another, as of every lease once a day      target ≤ 25 µs of each
//
// A whole daemon in a lab beside a real etcd: `--rate` writes a second for `--seconds`, one to a message of the watch
// or ten, beside a table of `--leases`. Unit: µs of CPU time for an event, of the main thread and of all threads of the
// process (V8's helpers among them), less what the same process takes in as much time without events. Medians
// (lowest–highest) of `--rounds` that go through all kinds in turn. `--only` is a list of kinds, such as moved/1.

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  etcdDaemonArguments,
  type LabEtcd,
  startEtcd,
} from '../test/support/etcd-hosts.js';
import { type Host, Lab, LAB_PROGRAMS, type Task, waitFor } from '../test/support/lab.js';
import { leaseEntries, memoryOf, putMany } from '../test/support/many-leases.js';
import { formatTable, median } from '../test/support/measure.js';
import { ensurePackages } from '../test/support/packages.js';
import { countIn, metricsOf } from '../test/support/twill-hosts.js';
import { type LeaseWrite, startWriter } from './lease-writer.js';
import { numberOption, textOption } from './options.js';

const ROUNDS = numberOption('rounds', 3);
const SECONDS = numberOption('seconds', 5);
const RATE = numberOption('rate', 1000, 10_000);
const LEASES = numberOption('leases', 500, 65_000);
const WARM_UP_SECONDS = 3;
/** The last change is in the table by then, and the table saved. */
const SETTLE_MS = 2_000;
const CONFIG = {
  Network: '10.0.0.0/8',
  SubnetMin: '10.254.0.0',
  SubnetMax: '10.254.255.0',
  Backend: { Type: 'udp' },
};

interface Kind {
  readonly name: string;
  readonly write: LeaseWrite;
  readonly perTransaction: number;
}

const ALL_KINDS: readonly Kind[] = (['moved', 'renewed'] as const).flatMap((write) =>
  [10, 1].map((perTransaction) => ({ name: `${write}/${perTransaction}`, write, perTransaction })),
);
const ONLY = textOption('only')?.split(',');
const KINDS = ALL_KINDS.filter(({ name }) => ONLY?.includes(name) ?? true);

/** CPU time so far, in µs. */
interface CpuTime {
  readonly main: number;
  readonly all: number;
}

/** The first number of a thread's schedstat is its time on a CPU, in ns (Documentation/scheduler/sched-stats.rst). */
function cpuTime(task: Task): CpuTime {
  const folder = `/proc/${task.child.pid}/task`;
  const timeOf = (thread: string): number =>
    Number(readFileSync(`${folder}/${thread}/schedstat`, 'latin1').split(' ')[0]) / 1000;
  const threads = readdirSync(folder);
  return {
    main: timeOf(String(task.child.pid)),
    all: threads.reduce((sum, thread) => sum + timeOf(thread), 0),
  };
}

/** What a process takes a second while `work` is done and a moment longer. */
async function rateDuring(task: Task, work: () => Promise<unknown>): Promise<CpuTime & { seconds: number }> {
  const [before, startedAtMs] = [cpuTime(task), performance.now()];
  await work();
  await sleep(SETTLE_MS);
  const after = cpuTime(task);
  const seconds = (performance.now() - startedAtMs) / 1000;
  return { main: (after.main - before.main) / seconds, all: (after.all - before.all) / seconds, seconds };
}

/** A daemon beside etcd, and what is asked of it. */
class Bed {
  readonly #lab: Lab;
  readonly #etcd: LabEtcd;
  readonly #host: Host;
  readonly task: Task;

  private constructor(lab: Lab, etcd: LabEtcd, host: Host, task: Task) {
    this.#lab = lab;
    this.#etcd = etcd;
    this.#host = host;
    this.task = task;
  }

  static async open(lab: Lab): Promise<Bed> {
    const etcd = await startEtcd(lab, CONFIG);
    await putMany(lab, etcd, leaseEntries(LEASES));
    const host = lab.addHost(1, { subnet: undefined });
    lab.ip(host.ns, 'route add default via 172.20.0.250'); // a way to hosts that do not exist
    const words = [...(textOption('node')?.split(' ') ?? []), ...etcdDaemonArguments(host)];
    const task = await lab.spawnUntil(host.ns, process.execPath, words, /ready after/);
    const bed = new Bed(lab, etcd, host, task);
    await waitFor(async () => (await bed.#metric('etcd_leases')) >= LEASES, 'all leases to be known', 20_000);
    for (const kind of KINDS) await bed.write(kind, WARM_UP_SECONDS);
    return bed;
  }

  /** Writes for so long; how many events reached the daemon. */
  async write({ write, perTransaction }: Kind, seconds: number): Promise<number> {
    const count = RATE * seconds;
    const writer = await startWriter(this.#lab, this.#etcd, {
      prefix: ETCD_PREFIX,
      perSecond: RATE,
      perTransaction,
      write,
      count,
    });
    if ((await writer.exited) !== 0) throw new Error(`the writer of leases failed:\n${writer.log()}`);
    return count;
  }

  async events(): Promise<number> {
    return this.#metric('etcd_events_applied_total');
  }

  async #metric(name: string): Promise<number> {
    return countIn(await metricsOf(this.#lab, this.#host), name);
  }
}

type Sample = Record<'main' | 'all' | 'rate', number>;

async function measure(bed: Bed, kind: Kind, idle: CpuTime): Promise<Sample> {
  const known = await bed.events();
  let count = 0;
  const busy = await rateDuring(bed.task, async () => (count = await bed.write(kind, SECONDS)));
  const seen = (await bed.events()) - known;
  if (seen !== count) throw new Error(`${seen} of ${count} events were seen`);
  const each = (part: 'main' | 'all'): number => ((busy[part] - idle[part]) * busy.seconds) / count;
  return { main: each('main'), all: each('all'), rate: count / (busy.seconds - SETTLE_MS / 1000) };
}

function spread(values: readonly number[]): string {
  const text = (value: number): string => value.toFixed(1);
  return `${text(median(values))} (${text(Math.min(...values))}–${text(Math.max(...values))})`;
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark makes network namespaces and must run as root.');
  ensurePackages([...LAB_PROGRAMS, ...ETCD_PROGRAMS]);
  const lab = Lab.open('be-');
  try {
    const bed = await Bed.open(lab);
    const idles: CpuTime[] = [];
    const samples = new Map<Kind, Sample[]>(KINDS.map((kind) => [kind, []]));
    for (let round = 0; round < ROUNDS; round++) {
      const idle = await rateDuring(bed.task, () => sleep(SECONDS * 1000));
      idles.push(idle);
      for (const [kind, found] of samples) found.push(await measure(bed, kind, idle));
    }
    const rows = [['event / to a message', 'main thread, µs', 'all threads, µs', 'events/s']];
    for (const [{ name }, found] of samples) {
      const column = (part: keyof Sample): number[] => found.map((sample) => sample[part]);
      rows.push([name, spread(column('main')), spread(column('all')), median(column('rate')).toFixed(0)]);
    }
    console.log(`${LEASES} leases\n${formatTable(rows)}`);
    const share = (part: keyof CpuTime): string => (median(idles.map((idle) => idle[part])) / 1e4).toFixed(2);
    console.log(`\nidle: ${share('main')} % of a core in the main thread, ${share('all')} % in all`);
    console.log(`resident: ${(memoryOf(bed.task).bytes / 1e6).toFixed(1)} MB`);
    await lab.end(bed.task);
  } finally {
    await lab.close();
  }
}

await main();
