// Question: where does the machine's time go while one TCP stream crosses the overlay?
//
// perf samples all cores for three seconds; each sample is counted under the step its call chain belongs to, in per
// cent of all samples and in microseconds for a superpacket of 45 packets of 1372 bytes, with the part of it that is
// copying between user and kernel memory. Both hosts, both containers and the acknowledgements on their way back are in
// it. `--streams=N`; `--lane=all` or `sparse`, where the default, `off`, shows the engine; `--segmented` turns the
// offloads of the links off. The same samples are drawn as a flame graph, bench/results/flame-<N>.svg or
// flame-<N>-segmented.svg.

import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import { join, relative } from 'node:path';
import { LAB_PROGRAMS, Lab, PROJECT_ROOT } from '../test/support/lab.js';
import { formatTable, measureTcp, startIperfServer } from '../test/support/measure.js';
import { ensurePackages } from '../test/support/packages.js';
import { startCluster } from '../test/support/twill-hosts.js';
import { numberOption, textOption } from './options.js';
import { type Sample, writeFlameGraph } from './report/flame.js';
import { RESULTS_DIRECTORY } from './report/results.js';

const SAMPLE_SECONDS = 3;
const SUPERPACKET_BITS = 45 * 1372 * 8;

interface Step {
  readonly name: string;
  /** Function in the call chain, innermost first. */
  readonly matches: (program: string, chain: readonly string[]) => boolean;
}

const inChain =
  (program: string, ...names: string[]) =>
  (comm: string, chain: readonly string[]): boolean =>
    comm === program && (names.length === 0 || chain.some((name) => names.includes(name)));

/** The first that matches counts. */
const STEPS: readonly Step[] = [
  { name: 'idle, and interrupts taken meanwhile', matches: inChain('swapper') },
  { name: 'iperf3 sends: copy, TCP, veth, route, into the TUN', matches: inChain('iperf3', 'tcp_sendmsg') },
  { name: 'iperf3 receives: copy, acknowledgement', matches: inChain('iperf3', 'tcp_recvmsg') },
  { name: 'iperf3, else', matches: inChain('iperf3') },
  { name: 'UDP send of trains, up to the other host’s socket', matches: inChain('node', '__sys_sendmmsg') },
  { name: 'TUN write, up to the receiver', matches: inChain('node', 'tun_get_user') },
  { name: 'TUN read', matches: inChain('node', 'tun_do_read') },
  { name: 'UDP receive', matches: inChain('node', '__sys_recvmmsg', 'do_recvmmsg') },
  { name: 'poll: sleep, wake-up, switch', matches: inChain('node', 'do_sys_poll') },
  {
    name: 'addon: split, checksum, coalesce',
    matches: (comm, chain) => comm === 'node' && chain.slice(0, 3).some((name) => name.startsWith('twill::')),
  },
  { name: 'other system calls of twill', matches: inChain('node', 'entry_SYSCALL_64_after_hwframe') },
  { name: 'node and compiled JavaScript', matches: inChain('node') },
  { name: 'other programs', matches: () => true },
];

const COPIES = ['_copy_from_iter', '_copy_to_iter'];

/** Samples of `perf script -F comm,ip,sym`: a line with the program, then one for each function of the chain. */
function* samplesOf(script: string): Generator<Sample> {
  for (const block of script.split('\n\n')) {
    const [first, ...rest] = block.split('\n').filter((line) => line.trim() !== '');
    if (first === undefined) continue;
    const chain = rest.map((line) => {
      const [, address, name] = /^\s*(\S+)\s+(.*)$/.exec(line)!;
      return { name, isKernel: address.startsWith('ffff') };
    });
    yield { program: first.trim().split(/\s+/)[0], chain };
  }
}

function report(script: string, gigabitsPerSecond: number): string {
  const counts = STEPS.map(() => ({ all: 0, copies: 0 }));
  let total = 0;
  for (const { program, chain } of samplesOf(script)) {
    const names = chain.map(({ name }) => name);
    const step = STEPS.findIndex(({ matches }) => matches(program, names));
    total++;
    counts[step].all++;
    if (COPIES.includes(names[0])) counts[step].copies++;
  }
  if (total === 0) throw new Error('perf took no samples');
  const superpackets = (gigabitsPerSecond * 1e9) / SUPERPACKET_BITS;
  const cells = (count: number): string[] => [
    `${((count / total) * 100).toFixed(1)} %`,
    ((count / total) * cpus().length * (1e6 / superpackets)).toFixed(1),
  ];
  const rows = STEPS.map(({ name }, i) => [name, ...cells(counts[i].all), cells(counts[i].copies)[1]]);
  rows.sort((a, b) => Number(b[2]) - Number(a[2]));
  return formatTable([['step', 'of all', 'µs', 'copying µs'], ...rows]);
}

export async function profile(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark makes network namespaces and must run as root.');
  ensurePackages([...LAB_PROGRAMS, 'ethtool', 'perf']);
  const streams = numberOption('streams', 1, 128);
  const isSegmented = process.argv.includes('--segmented');
  const title = `${streams} TCP stream(s)${isSegmented ? ', veth offloads off' : ''}`;
  const lab = Lab.open('profile-');
  try {
    const { hosts } = await startCluster(lab, 2, [`--lane=${textOption('lane') ?? 'off'}`]);
    const [a, b] = hosts;
    if (isSegmented) lab.turnOffloadsOff();
    await startIperfServer(lab, b.containerNs);
    const bulk = measureTcp(lab, a.containerNs, b.containerIp, SAMPLE_SECONDS + 3, streams);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    const file = join(lab.dir, 'perf.data');
    const record = ['record', '-q', '-a', '-g', '-e', 'cpu-clock', '-F', '1999', '-o', file];
    execFileSync('perf', [...record, '--', 'sleep', String(SAMPLE_SECONDS)], { stdio: 'ignore' });
    const { gigabitsPerSecond } = await bulk;
    const script = execFileSync('perf', ['script', '-i', file, '-F', 'comm,ip,sym'], {
      encoding: 'utf8',
      maxBuffer: 1 << 30,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const headline = `${title}, ${gigabitsPerSecond.toFixed(1)} Gbit/s`;
    const graph = join(RESULTS_DIRECTORY, `flame-${streams}${isSegmented ? '-segmented' : ''}.svg`);
    await writeFlameGraph(samplesOf(script), headline, graph);
    console.log(`${headline}\n\n${report(script, gigabitsPerSecond)}\n\n${relative(PROJECT_ROOT, graph)}`);
  } finally {
    await lab.close();
  }
}
