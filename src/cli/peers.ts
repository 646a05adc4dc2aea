// `twill peers`: the other hosts.

import type { PeerStatus } from '../ops/status.js';
import { type Command, show } from './command.js';
import { fetchStatus } from './daemon-client.js';
import { fitColumns, formatNumber, screenWidth } from './format.js';
import { byAddress, peerState } from './peer-text.js';

const optional = (value: number | undefined, format: (value: number) => string): string =>
  value === undefined ? '–' : format(value);

/** What gives way first on a narrow screen. */
const EXPENDABLE = ['bytes out', 'bytes in', 'in', 'out', 'loss', 'lane', 'MTU', 'RTT ms'];

export function peersText(peers: readonly PeerStatus[], width: number, nowMs: number): string {
  if (peers.length === 0) return 'no peers';
  const heading = [
    'subnet',
    'public IP',
    'MTU',
    'lane',
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
      peer.lane === undefined ? '–' : peer.lane ? 'yes' : 'no',
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
  summary: 'the other hosts: subnet, public IP, whether they are reached, lane, packets, round trip',
  help: ['--wide       all columns, however narrow the screen'],
  options: { wide: { type: 'boolean' } },
  run: async (context) => {
    const { peers } = await fetchStatus(context.socketPath);
    const width = context.options['wide'] === true ? Infinity : screenWidth();
    show(context, byAddress(peers), () => peersText(peers, width, Date.now()));
    return 0;
  },
};
