// The inbound lookup: one decapsulation decision, which is the admission check, for each run of packets.
//
//   mode     outer source            inner source                                     inner destination
//   strict   a live peer             owned by exactly that peer, or its public IP     in our subnet
//   loose    a live peer             not ours, not owned by another peer              in our subnet
//   audit    as off, and what strict would have refused is counted
//   off      any                     any                                              any
//
// "Owned" is the longest prefix that covers the address, so a range nested in another host's belongs to its own host.
// Ports are not compared: NAT may change them. Either family may be inside either: only where both are of one can the
// inner source be the sender's public IP, since a peer has one outer address here. Without a lease, nobody owns a
// source of the other family.

import { INBOUND_ARENA_WORDS, INBOUND_CAPACITY, InboundField } from '../native/arena.js';
import type { SourceCheck } from '../config/options.js';
import { inboundIndex } from '../native/counters.js';
import { isInWide, isWideHost, type OwnHost } from './own-host.js';
import type { RouteReader } from './route-table.js';

export type { OwnHost } from './own-host.js';

export const DELIVER = 0;
const OWN_OUTER = inboundIndex('drop_own_outer');
const UNKNOWN_PEER = inboundIndex('drop_unknown_peer');
const NO_TABLE = inboundIndex('drop_no_table');
const OWN_SOURCE = inboundIndex('drop_own_source');
const SPOOFED_SOURCE = inboundIndex('drop_spoofed_source');
const UNOWNED_SOURCE = inboundIndex('drop_unowned_source');
const NOT_OURS = inboundIndex('drop_not_ours');

const { OUTER_SOURCE, INNER_SOURCE, INNER_DESTINATION, VERDICT, PEER_ID, AUDIT } = InboundField;
const { WIDE, INNER_SOURCE_REST, INNER_DESTINATION_REST, OUTER_WIDE, OUTER_SOURCE_REST } = InboundField;
const N = INBOUND_CAPACITY;

/** An arena of the size the addon wants. */
export function newInboundArena(): Int32Array {
  return new Int32Array(new ArrayBuffer(INBOUND_ARENA_WORDS * 4));
}

/** Fills the verdicts of runs 0 to count - 1. The reader has been entered. */
export function judgeInbound(
  arena: Int32Array,
  count: number,
  table: RouteReader,
  own: OwnHost,
  check: SourceCheck,
): void {
  const isStrict = check !== 'loose';
  const unknown = table.isPartial ? NO_TABLE : UNKNOWN_PEER;
  const isEnforced = check === 'strict' || check === 'loose';
  for (let i = 0; i < count; i++) {
    const outer = arena[OUTER_SOURCE + i];
    const isOuterWide = arena[OUTER_WIDE + i] !== 0;
    const isWide = arena[WIDE + i] !== 0;
    const source = arena[INNER_SOURCE + i];
    const row = isWide ? lookupWideSource(arena, i, table) : table.lookup(source);
    const isOwnedBySender = row >= 0 && table.peerAddress(row) === outer && isPeerOfRow(arena, i, table, row);
    let verdict = DELIVER;
    if (isOuterWide ? isOwnWideOuter(arena, i, own) : outer === own.publicIp || outer === own.ifaceAddress)
      verdict = OWN_OUTER;
    else if (!isOwnedBySender && !(isOuterWide ? hasWidePeer(arena, i, table) : table.hasPeer(outer)))
      verdict = unknown;
    else if (isWide ? isOwnWideSource(arena, i, own) : isOwnSource(source, own)) verdict = OWN_SOURCE;
    else if (row >= 0 && !isOwnedBySender) verdict = SPOOFED_SOURCE;
    else if (row < 0 && isStrict && !isPublicIpOfSender(arena, i)) verdict = UNOWNED_SOURCE;
    else if (
      !(isWide ? isWideForUs(arena, i, own) : (arena[INNER_DESTINATION + i] & own.mask) === own.network)
    )
      verdict = NOT_OURS;
    arena[AUDIT + i] = check === 'audit' && verdict !== DELIVER && verdict !== NO_TABLE ? 1 : 0;
    arena[VERDICT + i] = isEnforced ? verdict : DELIVER;
    arena[PEER_ID + i] = isOwnedBySender ? row : -1;
  }
}

/** Whether the row is the sender's, given that the first words of both addresses are the same. */
function isPeerOfRow(arena: Int32Array, i: number, table: RouteReader, row: number): boolean {
  const isOuterWide = arena[OUTER_WIDE + i] !== 0;
  if (table.isPeerWide(row) !== isOuterWide) return false;
  if (!isOuterWide) return true;
  for (let word = 1; word < 4; word++)
    if (table.peerWord(row, word) !== arena[OUTER_SOURCE_REST + (word - 1) * N + i]) return false;
  return true;
}

function isOwnWideOuter(arena: Int32Array, i: number, own: OwnHost): boolean {
  const rest = OUTER_SOURCE_REST + i;
  return isWideHost(own.wideHost, arena[OUTER_SOURCE + i], arena[rest], arena[rest + N], arena[rest + 2 * N]);
}

function hasWidePeer(arena: Int32Array, i: number, table: RouteReader): boolean {
  const rest = OUTER_SOURCE_REST + i;
  return table.hasWidePeer(arena[OUTER_SOURCE + i], arena[rest], arena[rest + N], arena[rest + 2 * N]);
}

/** Whether the inner source is the outer one. */
function isPublicIpOfSender(arena: Int32Array, i: number): boolean {
  if (arena[WIDE + i] !== arena[OUTER_WIDE + i] || arena[INNER_SOURCE + i] !== arena[OUTER_SOURCE + i])
    return false;
  if (arena[WIDE + i] === 0) return true;
  for (let at = i; at < 3 * N; at += N)
    if (arena[INNER_SOURCE_REST + at] !== arena[OUTER_SOURCE_REST + at]) return false;
  return true;
}

function isOwnSource(source: number, own: OwnHost): boolean {
  return (source & own.mask) === own.network || source === own.publicIp || source === own.ifaceAddress;
}

function lookupWideSource(arena: Int32Array, i: number, table: RouteReader): number {
  const rest = INNER_SOURCE_REST + i;
  return table.lookupWide(arena[INNER_SOURCE + i], arena[rest], arena[rest + N], arena[rest + 2 * N]);
}

function isOwnWideSource(arena: Int32Array, i: number, own: OwnHost): boolean {
  const a = arena[INNER_SOURCE + i];
  const b = arena[INNER_SOURCE_REST + i];
  const c = arena[INNER_SOURCE_REST + N + i];
  const d = arena[INNER_SOURCE_REST + 2 * N + i];
  return isInWide(own.wide, a, b, c, d) || isWideHost(own.wideHost, a, b, c, d);
}

function isWideForUs(arena: Int32Array, i: number, own: OwnHost): boolean {
  const rest = INNER_DESTINATION_REST + i;
  return isInWide(own.wide, arena[INNER_DESTINATION + i], arena[rest], arena[rest + N], arena[rest + 2 * N]);
}
