// Paths whose MTU the kernel must be asked for, because the lane sends there and no socket does.
//
// bpf_fib_lookup() heeds the MTU of a route only where it is locked, as forwarding does (ip_mtu_from_fib_result(),
// include/net/ip_fib.h); a datagram of the workers' socket heeds any, and is refused when it is larger. So while all
// that goes to a peer takes the lane, nobody notices that a route to it was given a smaller MTU.

import type { Peer, RouteTable } from '../../dataplane/route-table.js';
import type { Ipv4 } from '../../net/ipv4.js';
import type { UdpLane } from './lane.js';

/** Asked with each look. A question costs some 10 µs (socket, bind, connect, getsockopt, close). */
const ROWS_A_LOOK = 256;

export class LanePaths {
  readonly #table: Pick<RouteTable, 'row' | 'rowLimit'>;
  readonly #lane: Pick<UdpLane, 'provenRows'>;
  #next = 0;

  constructor(table: Pick<RouteTable, 'row' | 'rowLimit'>, lane: Pick<UdpLane, 'provenRows'>) {
    this.#table = table;
    this.#lane = lane;
  }

  /** The peers of the next rows that are sent to by the lane: all of them within rowLimit / 256 calls. */
  take(): readonly Peer<Ipv4>[] {
    const { rowLimit } = this.#table;
    const first = this.#next < rowLimit ? this.#next : 0;
    const end = Math.min(first + ROWS_A_LOOK, rowLimit);
    this.#next = end;
    const isProven = this.#lane.provenRows(end, first);
    if (isProven === undefined) return [];
    const peers: Peer<Ipv4>[] = [];
    for (let row = first; row < end; row++) {
      const peer = isProven(row) ? this.#table.row(row)?.peer : undefined;
      // What goes over IPv6 does not take the lane.
      if (peer !== undefined && isOverIpv4(peer)) peers.push(peer);
    }
    return peers;
  }
}

function isOverIpv4(peer: Peer): peer is Peer<Ipv4> {
  return typeof peer.address === 'number';
}
