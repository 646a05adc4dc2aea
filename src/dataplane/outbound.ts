// The outbound lookup: one encapsulation decision for each packet or superpacket that came from the TUN.
//
// The addon fills SOURCE and DESTINATION; this fills the verdict and, for a packet to send, the peer. Nothing in the
// loop allocates: the arena and the table are typed arrays, and neighbours with equal addresses share their lookup.

import { OUTBOUND_ARENA_WORDS, OUTBOUND_CAPACITY, OutboundField } from '../native/arena.js';
import { outboundIndex } from '../native/counters.js';
import { isInWide, type OwnSubnet } from './own-host.js';
import type { RouteReader } from './route-table.js';

export const SEND = 0;
const NO_ROUTE = outboundIndex('drop_no_route');
const NO_TABLE = outboundIndex('drop_no_table');
const OWN_SUBNET = outboundIndex('drop_own_subnet');
const HAIRPIN = outboundIndex('drop_hairpin');

const { SOURCE, DESTINATION, VERDICT, PEER_ADDRESS, PEER_PORT, PEER_MTU, PEER_ID, REPLY_SOURCE } =
  OutboundField;
const { WIDE, SOURCE_REST, DESTINATION_REST, REPLY_SOURCE_REST, OUTER_WIDE, PEER_ADDRESS_REST } =
  OutboundField;
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
      if ((arena[OUTER_WIDE + i] = arena[OUTER_WIDE + i - 1]!) !== 0) copyPeerRest(arena, i);
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
    else if (row < 0) verdict = noRoute;
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
  else if (row < 0) verdict = noRoute;
  writePeer(arena, i, table, row, verdict);
  if (row < 0) return;
  for (let word = 0; word < 3; word++)
    arena[REPLY_SOURCE_REST + word * N + i] = table.networkWord(row, word + 1);
}

function copyPeerRest(arena: Int32Array, i: number): void {
  for (let at = PEER_ADDRESS_REST + i; at < PEER_ADDRESS_REST + 3 * N; at += N) arena[at] = arena[at - 1]!;
}

function writePeer(arena: Int32Array, i: number, table: RouteReader, row: number, verdict: number): void {
  arena[VERDICT + i] = verdict;
  if (row < 0) {
    arena[PEER_ADDRESS + i] = 0;
    arena[PEER_ID + i] = -1;
    arena[OUTER_WIDE + i] = 0;
    return;
  }
  arena[PEER_ADDRESS + i] = table.peerAddress(row);
  arena[PEER_PORT + i] = table.peerPort(row);
  arena[PEER_MTU + i] = table.peerMtu(row);
  arena[PEER_ID + i] = row;
  arena[REPLY_SOURCE + i] = table.network(row);
  arena[OUTER_WIDE + i] = 0;
  if (!table.isPeerWide(row)) return;
  arena[OUTER_WIDE + i] = 1;
  for (let word = 0; word < 3; word++)
    arena[PEER_ADDRESS_REST + word * N + i] = table.peerWord(row, word + 1);
}
