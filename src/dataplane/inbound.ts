// The inbound lookup: one decapsulation decision, which is the admission check, for each run of packets.
//
//   mode     outer source            inner source                                     inner destination
//   strict   a live peer             owned by exactly that peer, or its public IP     in our subnet
//   loose    a live peer             not ours, not owned by another peer              in our subnet
//   audit    as off, and what strict would have refused is counted
//   off      any                     any                                              any
//
// "Owned" is the longest prefix that covers the address, so a range nested in another host's belongs to its own host.
// Ports are not compared: NAT may change them. A packet of IPv6 that comes over IPv4 cannot have its sender's public
// IP: without a lease, nobody owns its source.

import { INBOUND_ARENA_WORDS, INBOUND_CAPACITY, InboundField } from '../native/arena.js';
import type { SourceCheck } from '../config/options.js';
import { inboundIndex } from '../native/counters.js';
import { isInWide, type OwnSubnet } from './outbound.js';
import type { RouteReader } from './route-table.js';

/** What this host is, for the admission check. Addresses are signed. */
export interface OwnHost extends OwnSubnet {
  readonly publicIp: number;
  readonly ifaceAddress: number;
}

export const DELIVER = 0;
const OWN_OUTER = inboundIndex('drop_own_outer');
const UNKNOWN_PEER = inboundIndex('drop_unknown_peer');
const NO_TABLE = inboundIndex('drop_no_table');
const OWN_SOURCE = inboundIndex('drop_own_source');
const SPOOFED_SOURCE = inboundIndex('drop_spoofed_source');
const UNOWNED_SOURCE = inboundIndex('drop_unowned_source');
const NOT_OURS = inboundIndex('drop_not_ours');

const { OUTER_SOURCE, INNER_SOURCE, INNER_DESTINATION, VERDICT, PEER_ID, AUDIT } = InboundField;
const { WIDE, INNER_SOURCE_REST, INNER_DESTINATION_REST } = InboundField;
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
    const isWide = arena[WIDE + i] !== 0;
    const source = arena[INNER_SOURCE + i];
    const row = isWide ? lookupWideSource(arena, i, table) : table.lookup(source);
    const isOwnedBySender = row >= 0 && table.peerAddress(row) === outer && !table.isPeerWide(row);
    let verdict = DELIVER;
    if (outer === own.publicIp || outer === own.ifaceAddress) verdict = OWN_OUTER;
    else if (!isOwnedBySender && !table.hasPeer(outer)) verdict = unknown;
    else if (isWide ? isOwnWideSource(arena, i, own) : isOwnSource(source, own)) verdict = OWN_SOURCE;
    else if (row >= 0 && !isOwnedBySender) verdict = SPOOFED_SOURCE;
    else if (row < 0 && isStrict && (isWide || source !== outer)) verdict = UNOWNED_SOURCE;
    else if (
      !(isWide ? isWideForUs(arena, i, own) : (arena[INNER_DESTINATION + i] & own.mask) === own.network)
    )
      verdict = NOT_OURS;
    arena[AUDIT + i] = check === 'audit' && verdict !== DELIVER && verdict !== NO_TABLE ? 1 : 0;
    arena[VERDICT + i] = isEnforced ? verdict : DELIVER;
    arena[PEER_ID + i] = isOwnedBySender ? row : -1;
  }
}

function isOwnSource(source: number, own: OwnHost): boolean {
  return (source & own.mask) === own.network || source === own.publicIp || source === own.ifaceAddress;
}

function lookupWideSource(arena: Int32Array, i: number, table: RouteReader): number {
  const rest = INNER_SOURCE_REST + i;
  return table.lookupWide(arena[INNER_SOURCE + i], arena[rest], arena[rest + N], arena[rest + 2 * N]);
}

function isOwnWideSource(arena: Int32Array, i: number, own: OwnHost): boolean {
  const rest = INNER_SOURCE_REST + i;
  return isInWide(own.wide, arena[INNER_SOURCE + i], arena[rest], arena[rest + N], arena[rest + 2 * N]);
}

function isWideForUs(arena: Int32Array, i: number, own: OwnHost): boolean {
  const rest = INNER_DESTINATION_REST + i;
  return isInWide(own.wide, arena[INNER_DESTINATION + i], arena[rest], arena[rest + N], arena[rest + 2 * N]);
}
