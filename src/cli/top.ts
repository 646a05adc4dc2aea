// `twill top`: live rates of each direction and peer, as a screen of the terminal that is redrawn each second.

import { abortableDelay } from '../delay.js';
import { type Command, countOption } from './command.js';
import { type DaemonStatus, fetchStatus, type PeerStatus } from './daemon-client.js';
import { formatColumns, formatNumber } from './format.js';

const ENTER_SCREEN = '\x1b[?1049h\x1b[?25l';
const LEAVE_SCREEN = '\x1b[?25h\x1b[?1049l';
const HOME_AND_CLEAR = '\x1b[H\x1b[J';
const DEFAULT_ROWS = 24;
const HEAD_ROWS = 7;

interface Rate {
  readonly packetsPerSecond: number;
  readonly bitsPerSecond: number;
}

export interface Rates {
  readonly seconds: number;
  readonly outbound: Rate & { readonly dropsPerSecond: number };
  readonly inbound: Rate & { readonly dropsPerSecond: number };
  /** Busiest first. */
  readonly peers: readonly {
    readonly subnet: string;
    readonly publicIp: string;
    readonly out: Rate;
    readonly in: Rate;
  }[];
}

/** Rates between two states of one daemon. A counter that went back, because the daemon was restarted, counts from 0. */
export function ratesBetween(before: DaemonStatus, after: DaemonStatus, seconds: number): Rates {
  const per = (was: number | undefined, is: number | undefined): number => {
    const [from, to] = [was ?? 0, is ?? 0];
    return (to < from ? to : to - from) / seconds;
  };
  const rate = (was: PeerStatus | undefined, is: PeerStatus, direction: 'Out' | 'In'): Rate => ({
    packetsPerSecond: per(was?.[`packets${direction}`], is[`packets${direction}`]),
    bitsPerSecond: 8 * per(was?.[`bytes${direction}`], is[`bytes${direction}`]),
  });
  const direction = (name: 'outbound' | 'inbound'): Rates['outbound'] => {
    const [was, is] = [before.backend.counters?.[name], after.backend.counters?.[name]];
    const drops = Object.keys(is ?? {}).filter((key) => key.startsWith('drop_'));
    return {
      packetsPerSecond: per(was?.['packets_out'], is?.['packets_out']),
      bitsPerSecond: 8 * per(was?.['bytes_out'], is?.['bytes_out']),
      dropsPerSecond: drops.reduce((sum, key) => sum + per(was?.[key], is?.[key]), 0),
    };
  };
  const known = new Map(before.peers.map((peer) => [peer.subnet, peer]));
  const peers = after.peers
    .filter((peer) => peer.packetsOut !== undefined)
    .map((peer) => ({
      subnet: peer.subnet,
      publicIp: peer.publicIp,
      out: rate(known.get(peer.subnet), peer, 'Out'),
      in: rate(known.get(peer.subnet), peer, 'In'),
    }))
    .sort((a, b) => b.out.bitsPerSecond + b.in.bitsPerSecond - a.out.bitsPerSecond - a.in.bitsPerSecond);
  return { seconds, outbound: direction('outbound'), inbound: direction('inbound'), peers };
}

/** One screen. */
export function drawRates(status: DaemonStatus, rates: Rates, rows: number): string {
  const state = !status.ready ? 'not ready' : status.degraded.length > 0 ? 'degraded' : 'ready';
  const line = (name: string, rate: Rates['outbound']): string[] => [
    name,
    `${formatNumber(rate.packetsPerSecond)}`,
    `${formatNumber(rate.bitsPerSecond)}`,
    `${formatNumber(rate.dropsPerSecond)}`,
  ];
  const head = [
    `twill ${status.version}  ${status.lease?.subnet ?? '–'}  ${status.backend.type ?? '–'}  ${state}  ${status.peers.length} peers`,
    '',
    formatColumns([
      ['direction', 'packets/s', 'bit/s', 'drops/s'],
      line('outbound', rates.outbound),
      line('inbound', rates.inbound),
    ]),
    '',
  ];
  if (status.backend.counters === undefined) head.push('the kernel carries the packets: see ip -s link');
  const shown = rates.peers.slice(0, Math.max(1, rows - HEAD_ROWS - 1));
  if (shown.length === 0) return head.join('\n');
  const table = shown.map((peer) => [
    peer.subnet,
    peer.publicIp,
    formatNumber(peer.out.packetsPerSecond),
    formatNumber(peer.out.bitsPerSecond),
    formatNumber(peer.in.packetsPerSecond),
    formatNumber(peer.in.bitsPerSecond),
  ]);
  const heading = ['subnet', 'public IP', 'out packets/s', 'out bit/s', 'in packets/s', 'in bit/s'];
  return [...head, formatColumns([heading, ...table])].join('\n');
}

export const TOP: Command = {
  name: 'top',
  summary: 'live rates of each direction and peer; q or Ctrl-C ends it',
  help: ['--interval N seconds between two looks (default 1)', '--count N    ends after N looks'],
  options: { interval: { type: 'string' }, count: { type: 'string' } },
  run: async ({ socketPath, isJson, options, print }) => {
    const seconds = countOption(options, 'interval') ?? 1;
    const { stdin, stdout } = process;
    const isScreen = stdout.isTTY && !isJson;
    const count = countOption(options, 'count') ?? (isScreen ? Infinity : 1);
    const stop = new AbortController();
    const onKey = (key: Buffer): void => {
      if (key.includes('q') || key.includes(3)) stop.abort();
    };
    const onSignal = (): void => stop.abort();
    process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
    if (isScreen) stdout.write(ENTER_SCREEN);
    if (isScreen && stdin.isTTY) stdin.setRawMode(true).on('data', onKey).resume();
    try {
      let before = await fetchStatus(socketPath);
      let beforeMs = performance.now();
      for (let i = 0; i < count; i++) {
        await abortableDelay(seconds * 1000, stop.signal);
        if (stop.signal.aborted) break;
        const status = await fetchStatus(socketPath);
        const nowMs = performance.now();
        const rates = ratesBetween(before, status, (nowMs - beforeMs) / 1000);
        [before, beforeMs] = [status, nowMs];
        const screen = isJson ? JSON.stringify(rates) : drawRates(status, rates, stdout.rows || DEFAULT_ROWS);
        if (isScreen) stdout.write(`${HOME_AND_CLEAR}${screen}\n`);
        else print(screen);
      }
      return 0;
    } finally {
      if (isScreen && stdin.isTTY) stdin.setRawMode(false).off('data', onKey).pause();
      if (isScreen) stdout.write(LEAVE_SCREEN);
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    }
  },
};
