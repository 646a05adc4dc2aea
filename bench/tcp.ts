// Question: what does a container get through the overlay, next to the other ways on this machine?
//
//   TCP, Gbit/s received   1 stream each way, 4 streams; `--seconds` each (default 4), the first second left out
//   round trip, ms         mean of 100 ICMP echoes 10 ms apart on the idle path
//   CPU, cores             busy time of the whole machine, softirq included, while one stream runs
//
// Every peer has two hosts and two containers of its own on one switch, all up at the same time. Rounds are interleaved
// (A B C A B C …, `--rounds`, default 5); shown are medians with the lowest and the highest. Kernel vxlan is the
// baseline: its segments cross a veth unsplit, which no path that makes real datagrams can have. Nothing else may run.

import { readFileSync } from 'node:fs';
import { arch, cpus, release } from 'node:os';
import { LAB_PROGRAMS, Lab } from './lab/lab.js';
import { formatTable, measurePing, measureTcp, startIperfServer } from './lab/measure.js';
import { ensurePackages } from './lab/packages.js';
import { type Peer, PEER_KINDS, startPeers } from './lab/peers.js';

const BASELINE = 'kernel vxlan';

function option(name: string, otherwise: number): number {
  const given = process.argv.find((argument) => argument.startsWith(`--${name}=`));
  const value = given === undefined ? otherwise : Number(given.slice(name.length + 3));
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name}: expected a positive integer`);
  return value;
}

/** Jiffies the machine was busy since boot, all cores. */
function busyTicks(): number {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return user + nice + system + irq + softirq + steal;
}

const TICKS_PER_SECOND = 100; // USER_HZ

type Sample = Readonly<Record<'forward' | 'reverse' | 'fourStreams' | 'roundTripMs' | 'cores', number>>;

async function measure(lab: Lab, peer: Peer, seconds: number): Promise<Sample> {
  const [a, b] = peer.hosts;
  const { averageMs } = await measurePing(lab, a.containerNs, b.containerIp, 100);
  const busy = busyTicks();
  const started = performance.now();
  const forward = await measureTcp(lab, a.containerNs, b.containerIp, seconds);
  const cores = (busyTicks() - busy) / TICKS_PER_SECOND / ((performance.now() - started) / 1000);
  const reverse = await measureTcp(lab, a.containerNs, b.containerIp, seconds, 1, true);
  const four = await measureTcp(lab, a.containerNs, b.containerIp, seconds, 4);
  return {
    forward: forward.gigabitsPerSecond,
    reverse: reverse.gigabitsPerSecond,
    fourStreams: four.gigabitsPerSecond,
    roundTripMs: averageMs,
    cores,
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function summary(samples: readonly Sample[], key: keyof Sample, digits: number): string {
  const values = samples.map((sample) => sample[key]);
  const shown = [median(values), Math.min(...values), Math.max(...values)].map((value) =>
    value.toFixed(digits),
  );
  return `${shown[0]} (${shown[1]}–${shown[2]})`;
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark makes network namespaces and must run as root.');
  ensurePackages(LAB_PROGRAMS);
  const rounds = option('rounds', 5);
  const seconds = option('seconds', 4);
  console.log(
    `${cpus().length} × ${cpus()[0].model}, ${arch()}, Linux ${release()}; ${rounds} rounds of ${seconds} s`,
  );
  const lab = Lab.open('bench-');
  try {
    const peers = await startPeers(lab, PEER_KINDS);
    for (const peer of peers) await startIperfServer(lab, peer.hosts[1].containerNs);
    const results = new Map<string, Sample[]>(peers.map((peer) => [peer.name, []]));
    for (let round = 0; round < rounds; round++) {
      for (const peer of peers) results.get(peer.name)!.push(await measure(lab, peer, seconds));
    }
    const baseline = median(results.get(BASELINE)!.map((sample) => sample.forward));
    const rows = [...results].map(([name, samples]) => [
      name,
      summary(samples, 'forward', 2),
      summary(samples, 'reverse', 2),
      summary(samples, 'fourStreams', 2),
      summary(samples, 'roundTripMs', 3),
      summary(samples, 'cores', 2),
      (median(samples.map((sample) => sample.forward)) / baseline).toFixed(2),
    ]);
    const heading = [
      'peer',
      'TCP forward',
      'TCP reverse',
      '4 streams',
      'round trip ms',
      'CPU cores',
      'of vxlan',
    ];
    console.log(`\n${formatTable([heading, ...rows])}`);
  } finally {
    await lab.close();
  }
}

await main();
