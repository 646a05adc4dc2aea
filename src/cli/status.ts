// `twill status`: what is wrong, and whether packets flow.

import type { LaneStatus, OffloadStatus, StatusDocument, StoreStatus } from '../ops/status.js';
import { type Command, show } from './command.js';
import { devicesOf, fetchStatus, udpOf } from './daemon-client.js';
import { formatDuration, screenWidth, wrap } from './format.js';
import { whyNotUsed } from './peer-text.js';

const LABEL_WIDTH = 16;

/** What the kernel does not grant, or was not asked: what is missing is what an operator looks for. */
function offloadsText(offloads: OffloadStatus | undefined): string {
  if (offloads === undefined) return 'none: the kernel carries the packets';
  const named = (wanted: unknown): string =>
    Object.entries(offloads)
      .flatMap(([name, value]) => (value === wanted ? [name] : []))
      .join(', ');
  const [missing, off] = [named(false), named('off')];
  return `${missing === '' ? 'all granted' : `not granted: ${missing}`}${off === '' ? '' : `; switched off: ${off}`}`;
}

/** Which packets pass by the workers, to how many hosts; or why none does. */
function laneText(lane: LaneStatus | undefined, peers: StatusDocument['peers']): string {
  if (lane === undefined) return 'none';
  if (lane.mode === 'off') return `off${lane.why === undefined ? '' : `: ${lane.why}`}`;
  const proven = peers.filter((peer) => peer.lane === true).length;
  const asked = lane.asked === 'auto' ? ' (auto)' : '';
  return `${lane.mode}${asked}, ${proven} of ${peers.length} peers${lane.pinned ? ', stays over a restart' : ''}`;
}

function storeText(store: StoreStatus): string {
  const leases = `${store.leases} leases`;
  if (store.kind === 'static') return `static ${store.file}, ${leases}`;
  const unreadable = store.badKeys === 0 ? [] : [`${store.badKeys} unreadable`];
  if (store.kind === 'kube') {
    const watch = store.watchEstablished ? [] : ['not watched'];
    return [
      `kube ${store.server}, node ${store.node || 'not known yet'}`,
      leases,
      ...unreadable,
      ...watch,
    ].join(', ');
  }
  const expiry = store.ownLease?.expiresInSeconds ?? undefined;
  return [
    store.connectedTo === null ? 'etcd, not connected' : `etcd ${store.connectedTo}`,
    leases,
    ...unreadable,
    ...(expiry === undefined ? [] : [`own lease expires in ${formatDuration(Math.max(0, expiry))}`]),
  ].join(', ');
}

const DEAD_PATH: readonly string[] = ['data-path-down', 'worker-hung', 'forwarding-off', 'interface-down'];

/** Whether packets still flow, which readiness does not say. */
export function flowText(status: StatusDocument): string {
  const dead = status.conditions.find(({ code }) => DEAD_PATH.includes(code));
  if (dead !== undefined) return `do not flow, or not all: ${dead.code}`;
  if (status.lease === undefined || status.backend.type === undefined) return 'do not flow yet';
  const counts = status.peerCounts;
  if (status.peers.length === 0) return 'no peers yet';
  if (counts === undefined) {
    const why = status.peers.at(0)?.reachability.reason;
    return `nobody knows whether they reach the peers${why === undefined ? '' : `: ${why}`}`;
  }
  const asked = counts.unknown === 0 ? '' : `, ${counts.unknown} unknown`;
  return `flow: ${counts.ok} of ${counts.total} peers reachable${asked}`;
}

const stateWord = (status: StatusDocument): string =>
  status.ready ? 'ready' : status.lease === undefined ? 'not ready' : 'degraded';

const labelled = (label: string, text: string, width: number): string =>
  label.padEnd(LABEL_WIDTH) + wrap(text, width - LABEL_WIDTH).join(`\n${' '.repeat(LABEL_WIDTH)}`);

/** What is wrong, the worst first, since when, and what to do about it. */
function problemLines(status: StatusDocument, width: number): string[] {
  const row = (label: string, text: string): string => labelled(label, text, width);
  return status.conditions.flatMap(({ severity, text, action, seconds }) => [
    row(severity, `for ${formatDuration(seconds)}: ${text}`),
    row('  do', action),
  ]);
}

/** For people, at most `width` columns where words allow it. */
export function statusText(status: StatusDocument, width: number): string {
  const { lease, interface: iface, store, backend } = status;
  const devices = [...new Set(Object.values(devicesOf(status)) as string[])].join(' and ');
  const unused = status.peers.filter((peer) => whyNotUsed(peer) !== undefined).length;
  const facts = [
    ['packets', flowText(status)],
    ['daemon', `twill ${status.version}, ${stateWord(status)}, up ${formatDuration(status.uptimeSeconds)}`],
    ['network', status.network ?? '–'],
    ['own lease', lease === undefined ? '–' : `${lease.subnet}, MTU ${lease.mtuBytes}`],
    [
      'interface',
      iface === undefined
        ? '–'
        : `${iface.name} ${iface.address}, public IP ${iface.publicIp}, MTU ${iface.mtuBytes}`,
    ],
    ['backend', `${backend.type ?? '–'}${devices === '' ? '' : ` on ${devices}`}`],
    ['offloads', offloadsText(udpOf(status)?.offloads)],
    ['kernel lane', laneText(udpOf(status)?.lane, status.peers)],
    ['store', storeText(store)],
    ['peers', `${status.peers.length}, ${unused} not used`],
    ['leases refused', String(status.refusedLeases.length)],
  ];
  return [...problemLines(status, width), ...facts.map(([name, value]) => labelled(name, value, width))].join(
    '\n',
  );
}

/** As `--json` prints it: keys in camelCase throughout, peers by address. */
export function statusJson(status: StatusDocument): Record<string, unknown> {
  const { peers, backend, ...rest } = status;
  const peerCount = peers.length;
  if (backend.type !== 'udp' || backend.counters === undefined) return { ...rest, backend, peerCount };
  const { outbound, inbound, socketDrops } = backend.counters;
  const counters = { outbound: camelKeys(outbound), inbound: camelKeys(inbound), socketDrops };
  return { ...rest, backend: { ...backend, counters }, peerCount };
}

function camelKeys(values: Readonly<Record<string, number>>): Record<string, number> {
  const camel = (name: string): string =>
    name.replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [camel(name), value]));
}

export const STATUS: Command = {
  name: 'status',
  summary: 'what is wrong, whether packets flow, lease, peers; exit code 1 unless ready',
  help: [],
  options: {},
  run: async (context) => {
    const status = await fetchStatus(context.socketPath);
    show(context, statusJson(status), () => statusText(status, screenWidth()));
    return status.ready && status.degraded.length === 0 ? 0 : 1;
  },
};
