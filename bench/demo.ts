// The main job, on this machine: two hosts on a switch, a container behind each, a twill daemon per host, a real etcd
// (or, with `-- --store static`, a file) for the leases, and real packets between the containers. Everything lives in
// network namespaces of its own and is gone at the end, also after Ctrl-C; what a killed run has left, the next one
// removes.

import { existsSync } from 'node:fs';
import { ETCD_PROGRAMS, joinHost, startEtcd } from '../test/support/etcd-hosts.js';
import { DAEMON, type Host, LAB_PROGRAMS, Lab } from '../test/support/lab.js';
import { formatTable, measurePing, measureTcp, startIperfServer } from '../test/support/measure.js';
import { ensurePackages } from '../test/support/packages.js';
import { laneCount, startCluster, statusOf, uncountedOf } from '../test/support/twill-hosts.js';

const SECONDS = 5;

function drops(counters: Readonly<Record<string, number>>): string {
  const found = Object.entries(counters).filter(([name, value]) => name.startsWith('drop_') && value > 0);
  return found.map(([name, value]) => `${name.slice('drop_'.length)} ${value}`).join(', ') || 'none';
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '–' : `${((100 * part) / whole).toFixed(1)} %`;
}

/** The store that is asked for: `--store static`, `--store=static`, `--store etcd`. */
function wantedStore(args: readonly string[]): 'etcd' | 'static' {
  const words = args.flatMap((arg) => arg.split('='));
  if (words.length === 0) return 'etcd';
  const [flag, store] = words;
  if (words.length === 2 && /^--?store$/.test(flag) && (store === 'etcd' || store === 'static')) return store;
  throw new Error(`Unexpected ${args.join(' ')}: expected --store etcd or --store static`);
}

async function startHosts(lab: Lab, store: 'etcd' | 'static'): Promise<readonly Host[]> {
  console.log(`starting two hosts, each with a container and a daemon; store: ${store}`);
  if (store === 'static') return (await startCluster(lab, 2)).hosts;
  await startEtcd(lab, { Network: '10.5.0.0/16', Backend: { Type: 'udp' } });
  return [(await joinHost(lab, 1)).host, (await joinHost(lab, 2)).host];
}

async function show(lab: Lab, store: 'etcd' | 'static'): Promise<void> {
  const hosts = await startHosts(lab, store);
  const [a, b] = hosts;
  const pings = [
    await measurePing(lab, a.containerNs, b.containerIp, 100),
    await measurePing(lab, b.containerNs, a.containerIp, 100),
  ];
  await startIperfServer(lab, b.containerNs);
  console.log(`measuring TCP for ${SECONDS} s each way`);
  const rates = [
    await measureTcp(lab, a.containerNs, b.containerIp, SECONDS),
    await measureTcp(lab, a.containerNs, b.containerIp, SECONDS, 1, true),
  ];

  const directions = [`${a.containerIp} to ${b.containerIp}`, `${b.containerIp} to ${a.containerIp}`];
  const rows = directions.map((direction, i) => [
    direction,
    rates[i].gigabitsPerSecond.toFixed(2),
    String(rates[i].retransmits),
    pings[i].averageMs.toFixed(3),
    `${pings[i].received}/${pings[i].sent}`,
  ]);
  console.log(
    `\n${formatTable([['TCP, one stream', 'Gbit/s', 'retransmits', 'RTT ms', 'pings'], ...rows])}\n`,
  );

  const hostRows = [];
  for (const host of hosts) {
    const { lane, counters } = (await statusOf(lab, host)).backend;
    const { outbound, inbound } = counters;
    const byLane = (await laneCount(lab, host, 'outbound')) + (await laneCount(lab, host, 'inbound'));
    hostRows.push([
      host.underlayIp,
      lane.mode,
      percent(byLane, outbound.packets_out + inbound.packets_out),
      drops(outbound),
      drops(inbound),
    ]);
    for (const [name, found] of Object.entries({ outbound, inbound })) {
      const missing = uncountedOf(found);
      if (missing !== 0) throw new Error(`${host.underlayIp}: ${missing} ${name} packets are in no counter`);
    }
  }
  const heading = ['host', 'kernel lane', 'packets it carried', 'drops outbound', 'drops inbound'];
  console.log(`${formatTable([heading, ...hostRows])}\n`);
  if (pings.some((ping) => ping.received === 0)) throw new Error('the containers do not reach each other');
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('The demo makes network namespaces and must run as root.');
  if (!existsSync(DAEMON)) throw new Error('Not built yet: run `npm ci` or `npm run build`.');
  const store = wantedStore(process.argv.slice(2));
  ensurePackages(store === 'etcd' ? [...LAB_PROGRAMS, ...ETCD_PROGRAMS] : LAB_PROGRAMS);
  const lab = Lab.open('demo-');
  const stop = (): void => void lab.close().then(() => process.exit(130));
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    await show(lab, store);
    console.log('done; taking everything down');
  } finally {
    await lab.close();
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
