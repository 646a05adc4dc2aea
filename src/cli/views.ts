// The commands that show what the daemon says of itself: status, peers, drops, leases.

import { parsePrefix } from '../net/prefix.js';
import { DROP_MEANINGS, type DropReason } from '../native/counters.js';
import { type Command, show } from './command.js';
import { type DaemonStatus, fetchStatus, type PeerStatus } from './daemon-client.js';
import { fitColumns, formatColumns, formatDuration, formatNumber, wrap } from './format.js';

/** Columns of a terminal nobody has told us the width of. */
const DEFAULT_WIDTH = 80;
const LABEL_WIDTH = 16;

export const screenWidth = (): number => process.stdout.columns || DEFAULT_WIDTH;

/** What the kernel does not grant, or was not asked: what is missing is what an operator looks for. */
function offloadsText(offloads: Readonly<Record<string, unknown>> | undefined): string {
  if (offloads === undefined) return 'none: the kernel carries the packets';
  const named = (wanted: unknown): string =>
    Object.entries(offloads)
      .flatMap(([name, value]) => (value === wanted ? [name] : []))
      .join(', ');
  const [missing, off] = [named(false), named('off')];
  return `${missing === '' ? 'all granted' : `not granted: ${missing}`}${off === '' ? '' : `; switched off: ${off}`}`;
}

function storeText(store: DaemonStatus['store']): string {
  const leases = `${Number(store['leases'] ?? 0)} leases`;
  if (store.kind !== 'etcd') return `${store.kind} ${store['file'] as string}, ${leases}`;
  const connected = store['connectedTo'];
  const own = store['ownLease'] as { readonly expiresInSeconds?: number | null } | null | undefined;
  const expiry = own?.expiresInSeconds;
  const bad = Number(store['badKeys'] ?? 0);
  return [
    typeof connected === 'string' ? `etcd ${connected}` : 'etcd, not connected',
    leases,
    ...(bad === 0 ? [] : [`${bad} unreadable`]),
    ...(typeof expiry === 'number' ? [`own lease expires in ${formatDuration(Math.max(0, expiry))}`] : []),
  ].join(', ');
}

const DEAD_PATH: readonly string[] = ['data-path-down', 'worker-hung', 'forwarding-off', 'interface-down'];

/** Whether packets still flow, which readiness does not say. */
export function flowText(status: DaemonStatus): string {
  const dead = status.conditions?.find(({ code }) => DEAD_PATH.includes(code));
  if (dead !== undefined) return `do not flow, or not all: ${dead.code}`;
  if (status.lease === undefined || status.backend.type === undefined) return 'do not flow yet';
  const counts = status.peerCounts;
  if (status.peers.length === 0) return 'no peers yet';
  if (counts === undefined) {
    const why = status.peers[0]?.reachability?.reason;
    return `nobody knows whether they reach the peers${why === undefined ? '' : `: ${why}`}`;
  }
  const asked = counts.unknown === 0 ? '' : `, ${counts.unknown} unknown`;
  return `flow: ${counts.ok} of ${counts.total} peers reachable${asked}`;
}

const stateWord = (status: DaemonStatus): string =>
  status.ready ? 'ready' : status.lease === undefined ? 'not ready' : 'degraded';

const labelled = (label: string, text: string, width: number): string =>
  label.padEnd(LABEL_WIDTH) + wrap(text, width - LABEL_WIDTH).join(`\n${' '.repeat(LABEL_WIDTH)}`);

/** What is wrong, the worst first, since when, and what to do about it. */
function problemLines(status: DaemonStatus, width: number): string[] {
  const { conditions } = status;
  const row = (label: string, text: string): string => labelled(label, text, width);
  if (conditions === undefined) return status.degraded.map((reason) => row('degraded', reason));
  return conditions.flatMap(({ severity, text, action, seconds }) => [
    row(severity, `for ${formatDuration(seconds)}: ${text}`),
    row('  do', action),
  ]);
}

/** For people, at most `width` columns where words allow it. */
export function statusText(status: DaemonStatus, width: number): string {
  const { lease, interface: iface, store, backend } = status;
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
    ['backend', `${backend.type ?? '–'}${backend.device === undefined ? '' : ` on ${backend.device}`}`],
    ['offloads', offloadsText(backend.offloads)],
    ['store', storeText(store)],
    ['peers', `${status.peers.length}, ${unused} not used`],
    ['leases refused', String(status.refusedLeases.length)],
  ];
  return [...problemLines(status, width), ...facts.map(([name, value]) => labelled(name, value, width))].join(
    '\n',
  );
}

/** As `--json` prints it: keys in camelCase throughout, peers by address. */
export function statusJson(status: DaemonStatus): Record<string, unknown> {
  const { peers, backend, ...rest } = status;
  const { counters, ...backendRest } = backend;
  return {
    ...rest,
    backend: {
      ...backendRest,
      ...(counters === undefined
        ? {}
        : {
            counters: {
              outbound: camelKeys(counters.outbound),
              inbound: camelKeys(counters.inbound),
              socketDrops: counters.socketDrops,
            },
          }),
    },
    peerCount: peers.length,
  };
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

/** Why a peer gets no packets, or undefined. The kernel modes' states are `waiting`, `programmed` and what is wrong. */
function whyNotUsed({ refused, state, reason }: PeerStatus): string | undefined {
  if (refused !== undefined) return refused;
  if (state === undefined || state === 'programmed') return undefined;
  return reason ?? state.replaceAll('_', ' ');
}

const optional = (value: number | undefined, format: (value: number) => string): string =>
  value === undefined ? '–' : format(value);

export function peerState(peer: PeerStatus, nowMs: number): string {
  const unused = whyNotUsed(peer);
  if (unused !== undefined) return `not used: ${unused}`;
  if (peer.reachability === undefined) return peer.state ?? 'forwarding';
  const { state, since, lastHeard, reason } = peer.reachability;
  const why = reason === undefined ? '' : `: ${reason}`;
  const age = (time: string | undefined): string =>
    time === undefined ? '' : formatDuration(Math.max(0, (nowMs - Date.parse(time)) / 1000));
  switch (state) {
    case 'ok':
      return 'ok';
    case 'silent since':
      return `silent since ${age(lastHeard ?? since)}${why}`;
    case 'unreachable':
      return `unreachable for ${age(since)}${why}`;
    case 'never heard':
      return `never heard${why}`;
    case 'unknown':
      return `unknown${why}`;
  }
}

/** In the order of their addresses; what is no prefix comes last. */
export function byAddress<T extends { readonly subnet: string }>(rows: readonly T[]): T[] {
  const placed = rows.map((row) => {
    const prefix = parsePrefix(row.subnet.replace(/-(\d+)$/, '/$1'));
    return { row, place: prefix === undefined ? Infinity : prefix.address + prefix.length / 64 };
  });
  return placed.sort((a, b) => (a.place === b.place ? 0 : a.place - b.place)).map(({ row }) => row);
}

/** What gives way first on a narrow screen. */
const EXPENDABLE = ['bytes out', 'bytes in', 'in', 'out', 'loss', 'MTU', 'RTT ms'];

export function peersText(peers: readonly PeerStatus[], width: number, nowMs: number): string {
  if (peers.length === 0) return 'no peers';
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
  const rows = byAddress(peers).map((peer) => {
    const { rttMs, loss } = peer.reachability ?? peer.path ?? {};
    return [
      peer.subnet,
      peer.publicIp,
      optional(peer.mtuBytes, String),
      optional(peer.packetsOut, formatNumber),
      optional(peer.bytesOut, formatNumber),
      optional(peer.packetsIn, formatNumber),
      optional(peer.bytesIn, formatNumber),
      optional(rttMs, (ms) => ms.toFixed(2)),
      optional(loss, (share) => `${(share * 100).toFixed(0)} %`),
      peerState(peer, nowMs),
    ];
  });
  return fitColumns([heading, ...rows], EXPENDABLE, width);
}

export const PEERS: Command = {
  name: 'peers',
  summary: 'the other hosts: subnet, public IP, whether they are reached, packets, round trip',
  help: ['--wide       all columns, however narrow the screen'],
  options: { wide: { type: 'boolean' } },
  run: async (context) => {
    const { peers } = await fetchStatus(context.socketPath);
    const width = context.options['wide'] === true ? Infinity : screenWidth();
    show(context, byAddress(peers), () => peersText(peers, width, Date.now()));
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

export function dropsText({ backend }: DaemonStatus, drops: readonly Drop[], width: number): string {
  if (backend.counters === undefined)
    return `backend ${backend.type ?? '–'}: the kernel carries the packets and counts them (ip -s link)`;
  if (drops.length === 0) return 'nothing was dropped';
  const rows = drops.map(({ packets, direction, reason }) => [formatNumber(packets), direction, reason]);
  const lines = formatColumns([['packets', 'direction', 'reason'], ...rows]).split('\n');
  const indent = lines.reduce((widest, { length }) => Math.max(widest, length), 0) + 2;
  const meanings = ['meaning', ...drops.map(({ meaning }) => meaning)];
  return lines
    .map((line, i) => line.padEnd(indent) + wrap(meanings[i], width - indent).join(`\n${' '.repeat(indent)}`))
    .join('\n');
}

export const DROPS: Command = {
  name: 'drops',
  summary: 'packets dropped since the start, by reason, and what each reason means',
  help: ['--all        also reasons that never happened'],
  options: { all: { type: 'boolean' } },
  run: async (context) => {
    const status = await fetchStatus(context.socketPath);
    const drops = listDrops(status, context.options['all'] === true);
    show(context, drops, () => dropsText(status, drops, screenWidth()));
    return 0;
  },
};

interface LeaseRow {
  readonly subnet: string;
  readonly publicIp: string;
  readonly state: string;
}

/** Everything the store holds below subnets/, by address; keys that are no leases come last. */
export function listLeases(status: DaemonStatus): LeaseRow[] {
  const own = status.lease && {
    subnet: status.lease.subnet,
    publicIp: status.interface?.publicIp ?? '–',
    state: 'own',
  };
  const used = status.peers.map((peer) => {
    const why = whyNotUsed(peer);
    return {
      subnet: peer.subnet,
      publicIp: peer.publicIp,
      state: why === undefined ? 'used' : `not used: ${why}`,
    };
  });
  const refused = status.refusedLeases.map(({ key, text }) => ({
    subnet: key,
    publicIp: '–',
    state: `refused: ${text}`,
  }));
  const badKeys = (status.store['badKeyList'] ?? []) as readonly { key: string; problem: string }[];
  const unreadable = badKeys.map(({ key, problem }) => ({
    subnet: key,
    publicIp: '–',
    state: `unreadable: ${problem}`,
  }));
  return [...byAddress([...(own === undefined ? [] : [own]), ...used, ...refused]), ...unreadable];
}

export function leasesText({ store }: DaemonStatus, leases: readonly LeaseRow[], width: number): string {
  if (leases.length === 0) return 'no leases';
  const rows = leases.map(({ subnet, publicIp, state }) => [subnet, publicIp, state]);
  const text = fitColumns([['subnet', 'public IP', 'state'], ...rows], [], width);
  const listed = store['badKeyList'];
  const more = Array.isArray(listed) ? Number(store['badKeys'] ?? 0) - listed.length : 0;
  return more > 0 ? `${text}\nand ${more} unreadable keys more` : text;
}

export const LEASES: Command = {
  name: 'leases',
  summary: 'what the store holds: the own lease, the others, those refused with the reason, unreadable keys',
  help: ['--wide       whole lines, however narrow the screen'],
  options: { wide: { type: 'boolean' } },
  run: async (context) => {
    const status = await fetchStatus(context.socketPath);
    const leases = listLeases(status);
    const width = context.options['wide'] === true ? Infinity : screenWidth();
    show(context, leases, () => leasesText(status, leases, width));
    return 0;
  },
};
