// `twill top`: live rates of each direction and peer, as a screen of the terminal that is redrawn each second, at a
// key, and when the terminal changes its size. It outlives a restart of the daemon.

import { readFileSync } from 'node:fs';
import { nap } from '../core/waiting.js';
import { type Command, countOption, secondsOption } from './command.js';
import type { CountersStatus, FamilyTexts, PeerStatus, StatusDocument } from '../ops/status.js';
import { DaemonUnreachable, devicesOf, fetchStatus, udpOf } from './daemon-client.js';
import { fitColumns, formatDuration, formatNumber, screenWidth, sparkline } from './format.js';
import { byAddress, peerState } from './peer-text.js';

const ENTER_SCREEN = '\x1b[?1049h\x1b[?25l';
const LEAVE_SCREEN = '\x1b[?25h\x1b[?1049l';
const HOME_AND_CLEAR = '\x1b[H\x1b[J';
const DEFAULT_ROWS = 24;
/** Above the peers, their heading included, and one below them. */
const OTHER_ROWS = 8;
/** Looks that a sparkline shows. */
const HISTORY = 20;

interface Rate {
  readonly packetsPerSecond: number;
  readonly bitsPerSecond: number;
}

export interface Rates {
  readonly seconds: number;
  readonly outbound: Rate & { readonly dropsPerSecond: number };
  readonly inbound: Rate & { readonly dropsPerSecond: number };
  /** Busiest first. */
  readonly peers: readonly PeerRates[];
}

interface PeerRates {
  readonly subnet: string;
  readonly publicIp: string;
  readonly out: Rate;
  readonly in: Rate;
  /** Round trip and loss inside the overlay, and the state in words. */
  readonly rttMs?: number;
  readonly loss?: number;
  readonly state: string;
}

/**
 * Rates between two states of one daemon. A counter that went back, because the daemon was restarted, counts from 0.
 * The kernel modes count no packets: their peers are those with a round trip.
 */
export function ratesBetween(before: Look, after: Look, seconds: number, nowMs = Date.now()): Rates {
  const per = (was: number | undefined, is: number | undefined): number => {
    const [from, to] = [was ?? 0, is ?? 0];
    return (to < from ? to : to - from) / seconds;
  };
  const rate = (was: PeerStatus | undefined, is: PeerStatus, direction: 'Out' | 'In'): Rate => ({
    packetsPerSecond: per(was?.[`packets${direction}`], is[`packets${direction}`]),
    bitsPerSecond: 8 * per(was?.[`bytes${direction}`], is[`bytes${direction}`]),
  });
  const direction = (name: 'outbound' | 'inbound'): Rates['outbound'] => {
    const [was, is] = [before.counters?.[name], after.counters?.[name]];
    const drops = Object.keys(is ?? {}).filter((key) => key.startsWith('drop_'));
    return {
      packetsPerSecond: per(was?.['packets_out'], is?.['packets_out']),
      bitsPerSecond: 8 * per(was?.['bytes_out'], is?.['bytes_out']),
      dropsPerSecond: drops.reduce((sum, key) => sum + per(was?.[key], is?.[key]), 0),
    };
  };
  const known = new Map(before.status.peers.map((peer) => [peer.subnet, peer]));
  const peers = after.status.peers
    .map((peer) => {
      const { rttMs, loss } = peer.reachability;
      return {
        subnet: peer.subnet,
        publicIp: peer.publicIp,
        out: rate(known.get(peer.subnet), peer, 'Out'),
        in: rate(known.get(peer.subnet), peer, 'In'),
        ...(rttMs === undefined ? {} : { rttMs }),
        ...(loss === undefined ? {} : { loss }),
        state: peerState(peer, nowMs),
      };
    })
    .sort((a, b) => b.out.bitsPerSecond + b.in.bitsPerSecond - a.out.bitsPerSecond - a.in.bitsPerSecond);
  return { seconds, outbound: direction('outbound'), inbound: direction('inbound'), peers };
}

/** What the peers are sorted by, by the key that asks for it. */
const SORTS = { l: 'load', o: 'out', i: 'in', r: 'RTT', s: 'loss', a: 'address' } as const;
type Sort = (typeof SORTS)[keyof typeof SORTS];

/** What the keys change, and what is remembered between two looks. */
export interface TopView {
  readonly sort: Sort;
  /** Number of the first peer that is shown. */
  readonly first: number;
  /** Bits per second of the last looks. */
  readonly outbound: readonly number[];
  readonly inbound: readonly number[];
}

export const FIRST_VIEW: TopView = { sort: 'load', first: 0, outbound: [], inbound: [] };

const peerRows = (rows: number): number => Math.max(1, rows - OTHER_ROWS);

/** The view after a key, as a terminal in raw mode sends it; undefined when it ends the program. */
export function afterKey(view: TopView, key: string, rows: number, peers: number): TopView | undefined {
  if (key === 'q' || key === '\x03') return undefined;
  const sort = (SORTS as Readonly<Record<string, Sort | undefined>>)[key];
  if (sort !== undefined) return { ...view, sort, first: 0 };
  const page = peerRows(rows);
  const steps: Readonly<Record<string, number | undefined>> = {
    '\x1b[A': -1,
    '\x1b[B': 1,
    '\x1b[5~': -page,
    '\x1b[6~': page,
    '\x1b[H': -Infinity,
    '\x1b[F': Infinity,
  };
  const first = Math.min(view.first + (steps[key] ?? 0), peers - page);
  return { ...view, first: Math.max(0, first) };
}

/** The view with one look more. */
export function afterLook(view: TopView, { outbound, inbound }: Rates): TopView {
  return {
    ...view,
    outbound: [...view.outbound, outbound.bitsPerSecond].slice(-HISTORY),
    inbound: [...view.inbound, inbound.bitsPerSecond].slice(-HISTORY),
  };
}

function sorted(peers: Rates['peers'], sort: Sort): readonly PeerRates[] {
  const by = (value: (peer: PeerRates) => number): PeerRates[] =>
    [...peers].sort((a, b) => value(b) - value(a));
  switch (sort) {
    case 'load':
      return peers;
    case 'out':
      return by(({ out }) => out.bitsPerSecond);
    case 'in':
      return by((peer) => peer.in.bitsPerSecond);
    case 'RTT':
      return by(({ rttMs }) => rttMs ?? -1);
    case 'loss':
      return by(({ loss }) => loss ?? -1);
    case 'address':
      return byAddress(peers);
  }
}

/** What gives way first on a narrow screen. */
const EXPENDABLE = ['loss', 'in packets/s', 'out packets/s', 'RTT ms', 'public IP', 'last looks'];

/** One screen of at most `rows` lines and `width` columns. */
export function drawRates(
  { status, counters }: Look,
  rates: Rates,
  rows: number,
  view: TopView = FIRST_VIEW,
  width = Infinity,
): string {
  const state = !status.ready ? 'not ready' : status.degraded.length > 0 ? 'degraded' : 'ready';
  const line = (name: string, rate: Rates['outbound'], history: readonly number[]): string[] => [
    name,
    `${formatNumber(rate.packetsPerSecond)}`,
    `${formatNumber(rate.bitsPerSecond)}`,
    `${formatNumber(rate.dropsPerSecond)}`,
    sparkline(history),
  ];
  const counts = status.peerCounts;
  const reached = counts === undefined ? '' : `, ${counts.ok} reached`;
  const title = `twill ${status.version}  ${status.lease?.subnet ?? '–'}  ${status.backend.type ?? '–'}  ${state}`;
  const head = [
    fitColumns([[`${title}  ${status.peers.length} peers${reached}`]], [], width),
    '',
    counters === undefined
      ? 'the kernel carries the packets: see ip -s link\n\n'
      : fitColumns(
          [
            ['direction', 'packets/s', 'bit/s', 'drops/s', 'last looks'],
            line('outbound', rates.outbound, view.outbound),
            line('inbound', rates.inbound, view.inbound),
          ],
          EXPENDABLE,
          width,
        ),
    '',
  ];
  if (rates.peers.length === 0) return head.join('\n');
  const first = Math.max(0, Math.min(view.first, rates.peers.length - peerRows(rows)));
  const shown = sorted(rates.peers, view.sort).slice(first, first + peerRows(rows));
  const isCounted = status.peers.some(({ packetsOut }) => packetsOut !== undefined);
  const counted = ['out packets/s', 'out bit/s', 'in packets/s', 'in bit/s'];
  const heading = ['subnet', 'public IP', ...(isCounted ? counted : []), 'RTT ms', 'loss', 'state'];
  const table = shown.map((peer) => [
    peer.subnet,
    peer.publicIp,
    ...(isCounted
      ? [
          peer.out.packetsPerSecond,
          peer.out.bitsPerSecond,
          peer.in.packetsPerSecond,
          peer.in.bitsPerSecond,
        ].map(formatNumber)
      : []),
    peer.rttMs === undefined ? '–' : peer.rttMs.toFixed(2),
    peer.loss === undefined ? '–' : `${(peer.loss * 100).toFixed(0)} %`,
    peer.state,
  ]);
  const more = rates.peers.length - first - shown.length;
  const notes = [
    ...(first > 0 ? [`${first} above`] : []),
    ...(more > 0 ? [`and ${more} more`] : []),
    ...(view.sort === 'load' ? [] : [`by ${view.sort}`]),
  ];
  return [
    ...head,
    fitColumns([heading, ...table], EXPENDABLE, width),
    ...(notes.length > 0 ? [notes.join(', ')] : []),
  ].join('\n');
}

/** A state of the daemon, with what its data path or its device has counted. */
export interface Look {
  readonly status: StatusDocument;
  /** Undefined in the host-gw mode: the interface carries other things, too. */
  readonly counters: CountersStatus | undefined;
}

/** vxlan's packets are counted by its device alone. */
export function lookAt(status: StatusDocument): Look {
  return { status, counters: udpOf(status)?.counters ?? deviceCounters(devicesOf(status)) };
}

function deviceCounters(ofFamily: FamilyTexts): CountersStatus | undefined {
  const devices = [...new Set(Object.values(ofFamily) as string[])];
  if (devices.length === 0) return undefined;
  try {
    const read = (name: string): number =>
      devices.reduce(
        (sum, device) => sum + Number(readFileSync(`/sys/class/net/${device}/statistics/${name}`, 'utf8')),
        0,
      );
    const of = (way: 'tx' | 'rx'): Record<string, number> => ({
      packets_out: read(`${way}_packets`),
      bytes_out: read(`${way}_bytes`),
      drop_device: read(`${way}_dropped`),
    });
    return { outbound: of('tx'), inbound: of('rx'), socketDrops: 0 };
  } catch {
    return undefined; // the device is being made anew
  }
}

export const TOP: Command = {
  name: 'top',
  summary: 'live rates of each direction and peer; q or Ctrl-C ends it',
  help: [
    '--interval S seconds between two looks, 0.1 or more (default 1)',
    '--count N    ends after N looks',
    'l o i r s a  keys that sort by load, out, in, RTT, loss, address; arrows, PgUp, PgDn, Home, End scroll',
  ],
  options: { interval: { type: 'string' }, count: { type: 'string' } },
  run: async ({ socketPath, isJson, options, print }) => {
    const seconds = secondsOption(options, 'interval') ?? 1;
    const { stdin, stdout } = process;
    const isScreen = stdout.isTTY && !isJson;
    const count = countOption(options, 'count') ?? (isScreen ? Infinity : 1);
    const stop = new AbortController();
    let view = FIRST_VIEW;
    let last: { look: Look; rates: Rates } | undefined;
    let awaySinceMs: number | undefined;
    const heightOf = (): number => stdout.rows || DEFAULT_ROWS;
    const draw = (): void => {
      if (last === undefined) return;
      const away =
        awaySinceMs === undefined
          ? ''
          : `daemon away for ${formatDuration((performance.now() - awaySinceMs) / 1000)}, waiting\n`;
      const rows = heightOf() - (away === '' ? 0 : 1);
      stdout.write(`${HOME_AND_CLEAR}${away}${drawRates(last.look, last.rates, rows, view, screenWidth())}`);
    };
    const onKey = (key: Buffer): void => {
      const next = afterKey(view, key.toString(), heightOf(), last?.rates.peers.length ?? 0);
      if (next === undefined) {
        stop.abort();
        return;
      }
      view = next;
      draw();
    };
    const onSignal = (): void => stop.abort();
    process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
    if (isScreen) stdout.write(ENTER_SCREEN);
    if (isScreen) stdout.on('resize', draw);
    if (isScreen && stdin.isTTY) stdin.setRawMode(true).on('data', onKey).resume();
    const look = async (): Promise<Look | undefined> => {
      try {
        return lookAt(await fetchStatus(socketPath));
      } catch (error) {
        // A script is told; somebody who looks on waits for the daemon to come back.
        if (!isScreen || last === undefined || !(error instanceof DaemonUnreachable)) throw error;
        return undefined;
      }
    };
    try {
      let before = lookAt(await fetchStatus(socketPath));
      let beforeMs = performance.now();
      for (let i = 0; i < count; i++) {
        await nap(seconds * 1000, stop.signal);
        if (stop.signal.aborted) break;
        const now = await look();
        const nowMs = performance.now();
        if (now === undefined) {
          awaySinceMs ??= beforeMs;
          draw();
          continue;
        }
        awaySinceMs = undefined;
        // Another daemon began to count anew: nothing can be said of the time before.
        const base = now.status.uptimeSeconds < before.status.uptimeSeconds ? now : before;
        const rates = ratesBetween(base, now, (nowMs - beforeMs) / 1000);
        [before, beforeMs] = [now, nowMs];
        last = { look: now, rates };
        view = afterLook(view, rates);
        if (isScreen) draw();
        else print(isJson ? JSON.stringify(rates) : drawRates(now, rates, DEFAULT_ROWS, view, screenWidth()));
      }
      return 0;
    } finally {
      if (isScreen && stdin.isTTY) stdin.setRawMode(false).off('data', onKey).pause();
      if (isScreen) stdout.off('resize', draw).write(LEAVE_SCREEN);
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    }
  },
};
