// The leases in use by subnet: which of them lie inside another host's. Pure.
//
// Leases of two hosts may nest: the longer prefix wins in the data path, and the pair is an alarm. The work for a lease
// that comes or goes does not grow with the table: the nearest shorter one is found by asking for each length in use,
// and those inside it are found by asking for each of their places, or by going through them, whichever is less.

import { formatIpv4, type Ipv4, ipv4 } from '../net/ipv4.js';
import {
  formatPrefix,
  maskOf,
  type Prefix,
  prefixCovers,
  prefixKey,
  prefixOfKey,
  sizeOf,
} from '../net/prefix.js';
import type { Peer } from './lease.js';

/** A set of peers with no subnet twice. */
export class Nesting {
  /** By length, then by address: lengths in use are few, and an address costs a map no object of its own. */
  readonly #byLength = new Map<number, Map<Ipv4, Peer>>();
  /** Nearest shorter subnet by the key of the one inside it: pairs of two hosts. */
  readonly #outer = new Map<number, Prefix>();

  at({ address, length }: Prefix): Peer | undefined {
    return this.#byLength.get(length)?.get(address);
  }

  /** Adds a peer, or puts it in the place of the one with its subnet. */
  put(peer: Peer): void {
    const { address, length } = peer.subnets.v4!;
    let peers = this.#byLength.get(length);
    if (peers === undefined) this.#byLength.set(length, (peers = new Map<Ipv4, Peer>()));
    const before = peers.get(address);
    peers.set(address, peer);
    if (before?.host.publicIp.v4 !== peer.host.publicIp.v4) this.#note(peer.subnets.v4!);
  }

  delete(subnet: Prefix): void {
    const peers = this.#byLength.get(subnet.length);
    if (peers?.delete(subnet.address) !== true) return;
    if (peers.size === 0) this.#byLength.delete(subnet.length);
    this.#note(subnet);
  }

  /** Leases of two hosts that share addresses, in words. O(number of such pairs). */
  alarms(): readonly string[] {
    const alarms: string[] = [];
    for (const [key, outer] of this.#outer) {
      const inner = this.at(prefixOfKey(key));
      const holder = this.at(outer);
      if (inner === undefined || holder === undefined) continue;
      alarms.push(
        `lease ${formatPrefix(inner.subnets.v4!)} of ${formatIpv4(inner.host.publicIp.v4!)} lies inside ` +
          `${formatPrefix(outer)} of ${formatIpv4(holder.host.publicIp.v4!)}: the longer one is used`,
      );
    }
    return alarms;
  }

  /** A peer came, went or changed hands: looks again for the nearest shorter one of it and of those inside it. */
  #note(subnet: Prefix): void {
    this.#noteOuter(subnet);
    // Leases are nearly always of one length, so there is rarely a longer one to ask for.
    for (const [length, peers] of this.#byLength) {
      if (length > subnet.length) this.#noteInner(subnet, length, peers);
    }
  }

  /** Remembers the nearest shorter lease of this one when it is another host's. */
  #noteOuter(subnet: Prefix): void {
    const key = prefixKey(subnet);
    this.#outer.delete(key);
    const inner = this.at(subnet);
    if (inner === undefined) return;
    for (let length = subnet.length - 1; length >= 0; length--) {
      const outer = this.#byLength.get(length)?.get(((subnet.address & maskOf(length)) >>> 0) as Ipv4);
      if (outer === undefined) continue;
      if (outer.host.publicIp.v4 !== inner.host.publicIp.v4!) this.#outer.set(key, outer.subnets.v4!);
      return;
    }
  }

  #noteInner(outer: Prefix, length: number, peers: ReadonlyMap<Ipv4, Peer>): void {
    const places = 2 ** (length - outer.length);
    if (places <= peers.size) {
      for (let i = 0; i < places; i++)
        this.#noteOuter({ address: ipv4(outer.address + i * sizeOf(length)), length });
    } else {
      for (const { subnets } of peers.values())
        if (prefixCovers(outer, subnets.v4!)) this.#noteOuter(subnets.v4!);
    }
  }
}
