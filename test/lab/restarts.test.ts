// A daemon that is replaced, killed or crashes under traffic: no packet is lost, doubled or overtaken, whatever family
// packets and datagrams are of. Addresses are in ways.ts.
//
//   container a ─ twilld, again and again ═══ UDP 8285 ═══ twilld ─ container b

import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import { ending, HOLDER, type Replaced, takeOver } from '../support/replacing.js';
import { checkArrived, sendBothWays } from '../support/steady.js';
import { checkSums, countIn, daemonArguments, metricsOf, waitForLane } from '../support/twill-hosts.js';
import {
  addHost,
  containerAddress,
  reaches,
  WAYS as NETWORKS,
  type Way as Network,
  writeTableOf,
} from '../support/ways.js';

const skip = labUnavailable();
/** More on demand, as in `RESTART_ROUNDS=100`. */
const ROUNDS = Number(process.env.RESTART_ROUNDS ?? 2);

const [V4, V6, , DUAL_OVER_V6] = NETWORKS;
/** The lane carries IPv4 in IPv4 alone. */
const RUNS = [
  [V4, 'off'],
  [V4, 'auto'],
  [V6, 'auto'],
  [DUAL_OVER_V6, 'auto'],
] as const;

/** What flows meanwhile. */
interface Load {
  /** Numbered datagrams a second, each way. */
  readonly rate: number;
  /** Pings a second. */
  readonly pings: number;
  /** A stream of so many bits a second, as iperf3 takes it. */
  readonly tcp?: string;
}

/** How one daemon comes after another. */
interface Way {
  readonly name: string;
  readonly isHeld: boolean;
  readonly load: Load;
  /** Datagrams of one direction that may be in the hands of a process that is killed. */
  readonly inHand: number;
  /** Resolves when the next one forwards and the one before is gone. */
  replace(daemon: Replaced): Promise<void>;
}

const BUSY: Load = { rate: 5_000, pings: 500, tcp: '200M' };
/** Little enough to wait for a process to start on a busy machine: the device's queue has 2,000 places. */
const QUIET: Load = { rate: 500, pings: 100, tcp: '5M' };

const WAYS: readonly Way[] = [
  { name: 'taken over', isHeld: false, load: BUSY, inHand: 0, replace: takeOver },
  { name: 'killed', isHeld: true, load: QUIET, inHand: 2, replace: ending('SIGKILL') },
  { name: 'crashed', isHeld: true, load: QUIET, inHand: 2, replace: ending('SIGSEGV') },
];

/** Two hosts with daemons, that of the first under a holder or not; containers by the last family of the network. */
async function startPair(
  lab: Lab,
  way: Way,
  network: Network,
  flags: readonly string[],
): Promise<{ hosts: [Host, Host]; daemon: Replaced }> {
  const family = network.inner.at(-1)!;
  const open = async (index: number): Promise<Host> => {
    const host = await addHost(lab, index);
    return { ...host, containerIp: containerAddress(index, family) };
  };
  const hosts: [Host, Host] = [await open(1), await open(2)];
  const [a, b] = hosts.map((host) => {
    const socket = `--control-socket=${join(host.dir, 'control.sock')}`;
    return daemonArguments(host, writeTableOf(network, hosts, host), [...flags, socket]);
  });
  const [program, held] = way.isHeld ? [HOLDER, [process.execPath, ...a]] : [process.execPath, a];
  const task = await lab.spawnUntil(hosts[0].ns, program, held, /ready after/);
  await lab.spawnUntil(hosts[1].ns, process.execPath, b, /ready after/);
  if (network.outer === 'v4') await waitForLane(lab, hosts);
  else await waitFor(async () => reaches(lab, hosts[0], hosts[1], family), 'packets to flow');
  return { hosts, daemon: { lab, host: hosts[0], words: [process.execPath, ...a], task } };
}

/** What ping says at its end. */
async function ping(lab: Lab, [a, b]: readonly [Host, Host], rate: number, seconds: number): Promise<string> {
  const words = ['-q', '-i', String(1 / rate), '-c', String(rate * seconds), b.containerIp];
  const { stdout } = await lab.run(a.containerNs, 'ping', words, { timeoutMs: 1_000_000 });
  return stdout;
}

/** The fewest bytes that a stream has brought in a second. */
async function stream(
  lab: Lab,
  [a, b]: readonly [Host, Host],
  rate: string | undefined,
  seconds: number,
): Promise<number> {
  if (rate === undefined) return Infinity;
  await lab.spawnUntil(b.containerNs, 'iperf3', ['-s', '--forceflush'], /listening/);
  const words = ['-c', b.containerIp, '-b', rate, '-t', String(seconds), '-i', '1', '-J'];
  const { stdout } = await lab.run(a.containerNs, 'iperf3', words, { timeoutMs: 1_000_000 });
  const { intervals } = JSON.parse(stdout) as { intervals: { sum: { bytes: number } }[] };
  return Math.min(...intervals.map(({ sum }) => sum.bytes));
}

/** Packets of both directions, as /metrics has them. */
async function counted(lab: Lab, host: Host): Promise<readonly number[]> {
  const metrics = await metricsOf(lab, host);
  return ['outbound', 'inbound'].map((direction) =>
    countIn(metrics, `dataplane_packets_out_total{direction="${direction}"}`),
  );
}

for (const way of WAYS)
  for (const [network, lane] of RUNS) {
    // It differs from a kill by the signal alone.
    if (way.name === 'crashed' && lane === 'auto' && process.env.RESTART_ROUNDS === undefined) continue;
    t.test(`${way.name}, ${network.name}, --lane=${lane}`, { skip, timeout: 1_200_000 }, async (t) => {
      const lab = Lab.open(`re${way.name[0]}${lane[1]}${NETWORKS.indexOf(network)}-`);
      t.teardown(() => lab.close());
      const { hosts, daemon } = await startPair(lab, way, network, [`--lane=${lane}`]);
      const [a] = hosts;
      const { rate, pings, tcp } = way.load;
      const seconds = 4 + 2 * ROUNDS;
      const replacing = async (): Promise<void> => {
        await setTimeout(1_000);
        for (let round = 0; round < ROUNDS; round++) {
          const before = await counted(lab, a);
          await way.replace(daemon);
          const after = await counted(lab, a);
          t.ok(
            after.every((count, i) => count >= before[i]) && before[0] > 0,
            `${before.join()} packets, then ${after.join()}`,
          );
          await setTimeout(200 + Math.random() * 300);
        }
      };
      let [echoes, leastBytes] = ['', 0];
      const arrived = await sendBothWays(lab, hosts, rate, seconds, async () => {
        const all = [
          ping(lab, hosts, pings, seconds - 1),
          stream(lab, hosts, tcp, seconds - 1),
          replacing(),
        ] as const;
        [echoes, leastBytes] = await Promise.all(all);
      });
      checkArrived(t, arrived, rate * seconds, way.inHand * ROUNDS);
      const [, lost] = /(\d+) packets transmitted, \d+ received/.exec(echoes)!;
      const received = Number(/ (\d+) received/.exec(echoes)?.[1]);
      t.ok(Number(lost) - received <= 2 * way.inHand * ROUNDS, echoes);
      t.ok(leastBytes > 0, `at least ${leastBytes} bytes of the stream a second`);
      await checkSums(t, lab, a);
    });
  }
