// The outbound lookup: one encapsulation decision for each packet or superpacket that came from the TUN.
//
// The addon fills SOURCE and DESTINATION; this fills the verdict and, for a packet to send, the peer. Nothing in the
// loop allocates: the arena and the table are typed arrays, and neighbours with equal addresses share their lookup.

import { OUTBOUND_ARENA_WORDS, OUTBOUND_CAPACITY, OutboundField } from '../native/arena.js';
import { outboundIndex } from '../native/counters.js';
import type { AddressWords } from './address-words.js';
import type { RouteReader } from './route-table.js';

/** The subnet of this host, as two words. */
export interface OwnSubnet {
  /** Network address, signed. */
  readonly network: number;
  /** Netmask, signed. */
  readonly mask: number;
  /** Its subnet of IPv6, when it has one. */
  readonly wide?: OwnWideSubnet;
}

/** Words of network address and netmask. */
export interface OwnWideSubnet {
  readonly network: AddressWords;
  readonly mask: AddressWords;
}

/** Whether an address is in the subnet of IPv6. */
export function isInWide(
  own: OwnWideSubnet | undefined,
  a: number,
  b: number,
  c: number,
  d: number,
): boolean {
  if (own === undefined) return false;
  const { network, mask } = own;
  return (
    (a & mask[0]) === network[0] &&
    (b & mask[1]) === network[1] &&
    (c & mask[2]) === network[2] &&
    (d & mask[3]) === network[3]
  );
}

export const SEND = 0;
const NO_ROUTE = outboundIndex('drop_no_route');
const NO_TABLE = outboundIndex('drop_no_table');
const OWN_SUBNET = outboundIndex('drop_own_subnet');
const HAIRPIN = outboundIndex('drop_hairpin');

const { SOURCE, DESTINATION, VERDICT, PEER_ADDRESS, PEER_PORT, PEER_MTU, PEER_ID, REPLY_SOURCE } =
  OutboundField;
const { WIDE, SOURCE_REST, DESTINATION_REST, REPLY_SOURCE_REST } = OutboundField;
const N = OUTBOUND_CAPACITY;

/** An arena of the size the addon wants. */
export function newOutboundArena(): Int32Array {
  return new Int32Array(new ArrayBuffer(OUTBOUND_ARENA_WORDS * 4));
}

/** Fills the verdicts of descriptors 0 to count - 1. The reader has been entered. */
export function judgeOutbound(arena: Int32Array, count: number, table: RouteReader, own: OwnSubnet): void {
  const noRoute = table.isPartial ? NO_TABLE : NO_ROUTE;
  for (let i = 0; i < count; i++) {
    if (arena[WIDE + i] !== 0) {
      judgeWide(arena, i, table, own, noRoute);
      continue;
    }
    const source = arena[SOURCE + i];
    const destination = arena[DESTINATION + i];
    if (
      i > 0 &&
      arena[WIDE + i - 1] === 0 &&
      source === arena[SOURCE + i - 1] &&
      destination === arena[DESTINATION + i - 1]
    ) {
      arena[VERDICT + i] = arena[VERDICT + i - 1]!;
      arena[PEER_ADDRESS + i] = arena[PEER_ADDRESS + i - 1]!;
      arena[PEER_PORT + i] = arena[PEER_PORT + i - 1]!;
      arena[PEER_MTU + i] = arena[PEER_MTU + i - 1]!;
      arena[PEER_ID + i] = arena[PEER_ID + i - 1]!;
      arena[REPLY_SOURCE + i] = arena[REPLY_SOURCE + i - 1]!;
      continue;
    }
    const row = table.lookup(destination);
    let verdict = SEND;
    // What came from the overlay carries a peer's source, and is not sent into it again.
    if ((source & own.mask) !== own.network && table.lookup(source) >= 0) verdict = HAIRPIN;
    else if ((destination & own.mask) === own.network) verdict = OWN_SUBNET;
    else if (row < 0 || table.isPeerWide(row)) verdict = noRoute;
    writePeer(arena, i, table, row, verdict);
  }
}

/** As above, for a packet of IPv6. */
function judgeWide(arena: Int32Array, i: number, table: RouteReader, own: OwnSubnet, noRoute: number): void {
  const a = arena[SOURCE + i];
  const b = arena[SOURCE_REST + i];
  const c = arena[SOURCE_REST + N + i];
  const d = arena[SOURCE_REST + 2 * N + i];
  const w = arena[DESTINATION + i];
  const x = arena[DESTINATION_REST + i];
  const y = arena[DESTINATION_REST + N + i];
  const z = arena[DESTINATION_REST + 2 * N + i];
  const row = table.lookupWide(w, x, y, z);
  let verdict = SEND;
  if (!isInWide(own.wide, a, b, c, d) && table.lookupWide(a, b, c, d) >= 0) verdict = HAIRPIN;
  else if (isInWide(own.wide, w, x, y, z)) verdict = OWN_SUBNET;
  else if (row < 0 || table.isPeerWide(row)) verdict = noRoute;
  writePeer(arena, i, table, row, verdict);
  if (row < 0) return;
  for (let word = 0; word < 3; word++)
    arena[REPLY_SOURCE_REST + word * N + i] = table.networkWord(row, word + 1);
}

/** The engine sends over IPv4 alone: a row whose peer is reached over IPv6 is none. */
function writePeer(arena: Int32Array, i: number, table: RouteReader, row: number, verdict: number): void {
  arena[VERDICT + i] = verdict;
  if (row < 0) {
    arena[PEER_ADDRESS + i] = 0;
    arena[PEER_ID + i] = -1;
    return;
  }
  arena[PEER_ADDRESS + i] = table.peerAddress(row);
  arena[PEER_PORT + i] = table.peerPort(row);
  arena[PEER_MTU + i] = table.peerMtu(row);
  arena[PEER_ID + i] = row;
  arena[REPLY_SOURCE + i] = table.network(row);
}
