// What is said of a peer, in words.

import { type Address, parseAnyPrefix, type Prefix } from '../net/prefix.js';
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

/** In the order of their addresses, IPv4 before IPv6; what is no prefix comes last. */
export function byAddress<T extends { readonly subnet: string }>(rows: readonly T[]): T[] {
  const placed = rows.map((row) => ({ row, place: placeOf(row.subnet) }));
  return placed.sort((a, b) => comparePlaces(a.place, b.place)).map(({ row }) => row);
}

/** The first of the subnets in a text or in a key of the store, where "0.0.0.0-0" is a host without IPv4. */
function placeOf(text: string): Prefix<Address> | undefined {
  const prefixes = text
    .split(/ and |&/)
    .map((part) => parseAnyPrefix(part.replace(/-(\d+)$/, '/$1')))
    .filter((prefix) => prefix !== undefined);
  return prefixes.find(({ length }) => length > 0);
}

function comparePlaces(a: Prefix<Address> | undefined, b: Prefix<Address> | undefined): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
  if (typeof a.address !== typeof b.address) return typeof a.address === 'number' ? -1 : 1;
  if (a.address !== b.address) return a.address < b.address ? -1 : 1;
  return a.length - b.length;
}
