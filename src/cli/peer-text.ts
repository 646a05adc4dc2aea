// What is said of a peer, in words.

import { parsePrefix } from '../net/prefix.js';
import type { PeerStatus } from '../ops/status.js';
import { formatDuration } from './format.js';

/** Why a peer gets no packets, or undefined. */
export function whyNotUsed(peer: PeerStatus): string | undefined {
  switch (peer.state) {
    case 'programmed':
      return undefined;
    case 'waiting':
      return 'waiting';
    case 'failed':
    case 'refused':
      return peer.reason;
  }
}

export function peerState(peer: PeerStatus, nowMs: number): string {
  const unused = whyNotUsed(peer);
  if (unused !== undefined) return `not used: ${unused}`;
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
