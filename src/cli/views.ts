// The commands that show what the daemon says of itself: status, peers, drops, leases.

import { DROP_MEANINGS, type DropReason } from '../dataplane/counters.js';
import { type Command, show } from './command.js';
import { type DaemonStatus, fetchStatus, type PeerStatus } from './daemon-client.js';
import { formatColumns, formatDuration, formatNumber, printable } from './format.js';

function granted(offloads: Readonly<Record<string, unknown>> | undefined): string {
  if (offloads === undefined) return 'none (the kernel carries the packets)';
  const parts = Object.entries(offloads).map(([name, value]) =>
    value === true ? name : value === false ? `no ${name}` : `${name} ${String(value)}`,
  );
  return parts.join(', ');
}

function statusText(status: DaemonStatus): string {
  const { lease, interface: iface, store, backend } = status;
  const state = !status.ready ? 'not ready' : status.degraded.length > 0 ? 'degraded' : 'ready';
  const { kind, ...storeRest } = store;
  const rows = [
    ['daemon', `twill ${status.version}, ${state}, up ${formatDuration(status.uptimeSeconds)}`],
    ['network', status.network ?? '–'],
    ['own lease', lease === undefined ? '–' : `${lease.subnet}, MTU ${lease.mtuBytes}`],
    [
      'interface',
      iface === undefined
        ? '–'
        : `${iface.name} ${iface.address}, public IP ${iface.publicIp}, MTU ${iface.mtuBytes}`,
    ],
    ['backend', `${backend.type ?? '–'}${backend.device === undefined ? '' : ` on ${backend.device}`}`],
    ['offloads', granted(backend.offloads)],
    ['store', `${kind} ${Object.keys(storeRest).length === 0 ? '' : JSON.stringify(storeRest)}`.trim()],
    [
      'peers',
      `${status.peers.length}, ${status.peers.filter((peer) => refusalOf(peer) !== undefined).length} refused`,
    ],
    ['leases refused', String(status.refusedLeases.length)],
  ];
  const lines = rows.map(([name, value]) => `${name.padEnd(16)}${printable(value)}`);
  for (const reason of status.degraded) lines.push(`degraded        ${printable(reason)}`);
  for (const alarm of status.alarms) lines.push(`alarm           ${printable(alarm)}`);
  return lines.join('\n');
}

export const STATUS: Command = {
  name: 'status',
  summary: 'lease, peers, offloads, and what is wrong; exit code 1 unless ready and not degraded',
  help: [],
  options: {},
  run: async (context) => {
    const status = await fetchStatus(context.socketPath);
    const { peers, ...rest } = status;
    show(context, { ...rest, peerCount: peers.length }, () => statusText(status));
    return status.ready && status.degraded.length === 0 ? 0 : 1;
  },
};

/** Why a peer gets no packets, or undefined. */
const refusalOf = (peer: PeerStatus): string | undefined =>
  peer.refused ??
  (peer.state === 'refused' || peer.state === 'failed' ? (peer.reason ?? peer.state) : undefined);
const optional = (value: number | undefined, format: (value: number) => string): string =>
  value === undefined ? '–' : format(value);

function peerState(peer: PeerStatus): string {
  return refusalOf(peer) ?? peer.state ?? 'forwarding';
}

function peersText(peers: readonly PeerStatus[]): string {
  const heading = [
    'subnet',
    'public IP',
    'MTU',
    'out',
    'bytes out',
    'in',
    'bytes in',
    'RTT ms',
    'loss',
    'state',
  ];
  const rows = peers.map((peer) => [
    peer.subnet,
    peer.publicIp,
    optional(peer.mtuBytes, String),
    optional(peer.packetsOut, formatNumber),
    optional(peer.bytesOut, formatNumber),
    optional(peer.packetsIn, formatNumber),
    optional(peer.bytesIn, formatNumber),
    optional(peer.path?.rttMs, (ms) => ms.toFixed(2)),
    optional(peer.path?.loss, (loss) => `${(loss * 100).toFixed(0)} %`),
    peerState(peer),
  ]);
  return peers.length === 0 ? 'no peers' : formatColumns([heading, ...rows]);
}

export const PEERS: Command = {
  name: 'peers',
  summary: 'the other hosts: subnet, public IP, MTU, packets and bytes each way, round trip, state',
  help: [],
  options: {},
  run: async (context) => {
    const { peers } = await fetchStatus(context.socketPath);
    show(context, peers, () => peersText(peers));
    return 0;
  },
};

interface Drop {
  readonly direction: string;
  readonly reason: string;
  readonly packets: number;
  readonly meaning: string;
}

/** Every drop counter of a status with its meaning; those at 0 only when asked for. */
export function listDrops({ backend: { counters } }: DaemonStatus, withZeroes: boolean): Drop[] {
  if (counters === undefined) return [];
  const drops: Drop[] = [];
  for (const direction of ['outbound', 'inbound'] as const) {
    for (const [name, packets] of Object.entries(counters[direction])) {
      if (!name.startsWith('drop_') || (packets === 0 && !withZeroes)) continue;
      const meaning = DROP_MEANINGS[name as DropReason] as string | undefined;
      drops.push({
        direction,
        reason: name.slice('drop_'.length),
        packets,
        meaning: meaning ?? 'not known here',
      });
    }
  }
  if (counters.socketDrops > 0 || withZeroes) {
    const meaning = 'the receive buffer of the socket was full: the workers did not keep up';
    drops.push({ direction: 'inbound', reason: 'socket_buffer', packets: counters.socketDrops, meaning });
  }
  return drops.sort((a, b) => b.packets - a.packets);
}

export const DROPS: Command = {
  name: 'drops',
  summary: 'packets dropped since the start, by reason, and what each reason means',
  help: ['--all        also reasons that never happened'],
  options: { all: { type: 'boolean' } },
  run: async (context) => {
    const status = await fetchStatus(context.socketPath);
    const drops = listDrops(status, context.options['all'] === true);
    show(context, drops, () => {
      if (status.backend.counters === undefined)
        return `backend ${status.backend.type ?? '–'}: the kernel carries the packets and counts them (ip -s link)`;
      if (drops.length === 0) return 'nothing was dropped';
      const rows = drops.map((drop) => [
        formatNumber(drop.packets),
        drop.direction,
        drop.reason,
        drop.meaning,
      ]);
      return formatColumns([['packets', 'direction', 'reason', 'meaning'], ...rows]);
    });
    return 0;
  },
};

export const LEASES: Command = {
  name: 'leases',
  summary: 'what the store holds: the own lease, those of the others, and those refused with the reason',
  help: [],
  options: {},
  run: async (context) => {
    const status = await fetchStatus(context.socketPath);
    const own = status.lease && {
      subnet: status.lease.subnet,
      publicIp: status.interface?.publicIp ?? '–',
      state: 'own',
    };
    const used = status.peers.map((peer) => ({
      subnet: peer.subnet,
      publicIp: peer.publicIp,
      state: refusalOf(peer) === undefined ? 'used' : `not used: ${refusalOf(peer)}`,
    }));
    const refused = status.refusedLeases.map(({ key, text }) => ({
      subnet: key,
      publicIp: '–',
      state: `refused: ${text}`,
    }));
    const leases = [...(own === undefined ? [] : [own]), ...used, ...refused];
    show(context, leases, () =>
      leases.length === 0
        ? 'no leases'
        : formatColumns([
            ['subnet', 'public IP', 'state'],
            ...leases.map(({ subnet, publicIp, state }) => [subnet, publicIp, state]),
          ]),
    );
    return 0;
  },
};
