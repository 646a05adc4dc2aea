// The outbound lookup: one encapsulation decision for each packet or superpacket that came from the TUN.
//
// The addon fills SOURCE and DESTINATION; this fills the verdict and, for a packet to send, the peer. Nothing in the
// loop allocates: the arena and the table are typed arrays, and neighbours with equal addresses share their lookup.

import { OUTBOUND_ARENA_WORDS, OutboundField } from '../native/arena.js';
import { outboundIndex } from '../native/counters.js';
import type { RouteReader } from './route-table.js';

/** The subnet of this host, as two words. */
export interface OwnSubnet {
  /** Network address, signed. */
  readonly network: number;
  /** Netmask, signed. */
  readonly mask: number;
}

export const SEND = 0;
const NO_ROUTE = outboundIndex('drop_no_route');
const NO_TABLE = outboundIndex('drop_no_table');
const OWN_SUBNET = outboundIndex('drop_own_subnet');
const HAIRPIN = outboundIndex('drop_hairpin');

const { SOURCE, DESTINATION, VERDICT, PEER_ADDRESS, PEER_PORT, PEER_MTU, PEER_ID, REPLY_SOURCE } =
  OutboundField;

/** An arena of the size the addon wants. */
export function newOutboundArena(): Int32Array {
  return new Int32Array(new ArrayBuffer(OUTBOUND_ARENA_WORDS * 4));
}

/** Fills the verdicts of descriptors 0 to count - 1. The reader has been entered. */
export function judgeOutbound(arena: Int32Array, count: number, table: RouteReader, own: OwnSubnet): void {
  const noRoute = table.isPartial ? NO_TABLE : NO_ROUTE;
  for (let i = 0; i < count; i++) {
    const source = arena[SOURCE + i];
    const destination = arena[DESTINATION + i];
    if (i > 0 && source === arena[SOURCE + i - 1] && destination === arena[DESTINATION + i - 1]) {
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
    else if (row < 0) verdict = noRoute;
    arena[VERDICT + i] = verdict;
    if (row < 0) {
      arena[PEER_ADDRESS + i] = 0;
      arena[PEER_ID + i] = -1;
      continue;
    }
    arena[PEER_ADDRESS + i] = table.peerAddress(row);
    arena[PEER_PORT + i] = table.peerPort(row);
    arena[PEER_MTU + i] = table.peerMtu(row);
    arena[PEER_ID + i] = row;
    arena[REPLY_SOURCE + i] = table.network(row);
  }
}
