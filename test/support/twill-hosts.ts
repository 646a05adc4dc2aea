// twill on the hosts of a lab: the static file, the daemons, and what they say of themselves.

import type { CountersStatus, StatusDocument, UdpStatus } from '../../src/ops/status.js';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { DAEMON, type Host, type HostOptions, IS_SLOW, type Lab, type Task, waitFor } from './lab.js';

export const HEALTH_PORT = 9180;
/** How often a daemon is started on a slow machine. */
const SLOW_STARTS = 4;

export interface StaticLease {
  readonly subnet: string;
  readonly publicIP: string;
}

export interface StaticTable<L = StaticLease> {
  readonly config: Readonly<Record<string, unknown>>;
  readonly leases: readonly L[];
}

/** What /status says, as far as labs read it. */
/** The status document of a daemon in the udp mode, whose data path is open. */
export type Status = StatusDocument & {
  readonly backend: UdpStatus & { readonly counters: CountersStatus };
};

/** The table in which each host owns its subnet. */
export function tableOf(
  hosts: readonly Host[],
  backend: Readonly<Record<string, unknown>> = { Type: 'udp' },
): StaticTable {
  return {
    config: { Network: '10.5.0.0/16', SubnetLen: 24, Backend: backend },
    leases: hosts.map((host) => ({ subnet: host.subnet, publicIP: host.underlayIp })),
  };
}

/** Replaces the static file in one step. */
export function writeTable(path: string, table: StaticTable<object>): void {
  writeFileSync(`${path}.new`, JSON.stringify(table));
  renameSync(`${path}.new`, path);
}

/** Command line of a daemon with the static store. */
export function daemonArguments(host: Host, staticFile: string, extra: readonly string[] = []): string[] {
  return [
    DAEMON,
    '--store=static',
    `--static-file=${staticFile}`,
    '--iface=eth0',
    `--subnet-file=${join(host.dir, 'subnet.env')}`,
    '--healthz-ip=127.0.0.1',
    `--healthz-port=${HEALTH_PORT}`,
    ...extra,
  ];
}

/** Starts a daemon and waits until it is ready. */
export async function startDaemon(
  lab: Lab,
  host: Host,
  staticFile: string,
  extra: readonly string[] = [],
): Promise<Task> {
  const args = daemonArguments(host, staticFile, extra);
  const start = (): Promise<Task> => lab.spawnUntil(host.ns, process.execPath, args, /ready after/);
  return IS_SLOW ? await inTurn(() => again(start)) : await start();
}

let turn: Promise<unknown> = Promise.resolve();

/** Starts after what was asked for before has ended: daemons that start together are each slower for it. */
function inTurn(start: () => Promise<Task>): Promise<Task> {
  const started = turn.then(start);
  turn = started.catch(() => undefined);
  return started;
}

/** As a service manager does with a daemon whose workers were not ready within the 10 s that it gives them. */
async function again(start: () => Promise<Task>): Promise<Task> {
  for (let tries = 1; ; tries++) {
    try {
      return await start();
    } catch (error) {
      if (tries === SLOW_STARTS || !/was not ready within/.test(String(error))) throw error;
    }
  }
}

/** Two or more hosts with running daemons on one static table. */
export async function startCluster(
  lab: Lab,
  count: number,
  extra: readonly string[] = [],
  options: HostOptions = {},
): Promise<{ hosts: Host[]; daemons: Task[]; staticFile: string }> {
  const hosts = Array.from({ length: count }, (_, i) => lab.addHost(i + 1, options));
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf(hosts));
  const daemons = await Promise.all(hosts.map((host) => startDaemon(lab, host, staticFile, extra)));
  // Ready means that packets can flow; the routes to the peers follow a moment later, as with flanneld.
  for (const host of hosts) {
    await waitFor(
      async () => (await statusOf(lab, host)).peers.length === count - 1,
      'all peers to be known',
    );
  }
  return { hosts, daemons, staticFile };
}

export async function statusOf(lab: Lab, host: Host): Promise<Status> {
  const { body } = await lab.get(host.ns, `http://127.0.0.1:${HEALTH_PORT}/status`);
  return JSON.parse(body) as Status;
}

/** Waits until every peer of these hosts is sent all packets by the kernel lane; at once for those that have none. */
export async function waitForLane(lab: Lab, hosts: readonly Host[]): Promise<void> {
  for (const host of hosts) {
    const isReady = async (): Promise<boolean> => {
      const { peers, backend } = await statusOf(lab, host);
      return backend.lane.mode === 'off' || peers.every(({ lane }) => lane === true);
    };
    await waitFor(isReady, `the lane of host ${host.index} to be proven`, 20_000);
  }
}

/** What a daemon says on /metrics. */
export async function metricsOf(lab: Lab, { ns }: Pick<Host, 'ns'>): Promise<string> {
  return (await lab.get(ns, `http://127.0.0.1:${HEALTH_PORT}/metrics`)).body;
}

/** A value of /metrics; `name` is without "twill_", with its labels as they stand there. NaN when it is not there. */
export function countIn(metrics: string, name: string): number {
  const start = `twill_${name} `;
  const line = metrics.split('\n').find((text) => text.startsWith(start));
  return line === undefined ? NaN : Number(line.slice(start.length));
}

/** Packets of one direction that ended in no counter. */
export function uncountedOf(counters: CountersStatus['outbound' | 'inbound']): number {
  return counters.packets_in - counters.packets_out - dropsOf(counters);
}

/** Every packet of a host ends in exactly one counter. */
export async function checkSums(t: Test, lab: Lab, host: Host): Promise<void> {
  const { outbound, inbound } = (await statusOf(lab, host)).backend.counters;
  t.equal(uncountedOf(outbound), 0, `host ${host.index}: outbound, a counter each`);
  t.equal(uncountedOf(inbound), 0, `host ${host.index}: inbound, a counter each`);
}

/** Sum of the drop_* counters of one direction. */
export function dropsOf(counters: Readonly<Record<string, number>>): number {
  return Object.entries(counters).reduce(
    (sum, [name, value]) => (name.startsWith('drop_') ? sum + value : sum),
    0,
  );
}

/** Packets that the kernel lane of a host has carried in one direction; 0 without one. */
export async function laneCount(lab: Lab, host: Host, direction: 'inbound' | 'outbound'): Promise<number> {
  return countIn(await metricsOf(lab, host), `lane_packets_total{direction="${direction}"}`) || 0;
}
