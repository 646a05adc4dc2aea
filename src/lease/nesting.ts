// The leases in use by subnet, in one address family: which of them lie inside another host's. Pure.
//
// Leases of two hosts may nest: the longer prefix wins in the data path, and the pair is an alarm. The work for a lease
// that comes or goes does not grow with the table: the nearest shorter one is found by asking for each length in use,
// and those inside it are found by asking for each of their places, or by going through them, whichever is less.

import type { FamilyName } from '../net/dual.js';
import {
  type Address,
  addressKey,
  formatAddresses,
  formatPrefix,
  type Prefix,
  prefixCovers,
  prefixKey,
  prefixOf,
  stepped,
} from '../net/prefix.js';
import { isOneHost, type Peer } from './lease.js';

/** A set of peers with no subnet twice. */
export class Nesting {
  readonly #family: FamilyName;
  /** By length, then by address: lengths in use are few, and an address costs a map no object of its own. */
  readonly #byLength = new Map<number, Map<number | bigint, Peer>>();
  /** Nearest shorter subnet by the key of the one inside it: pairs of two hosts. */
  readonly #outer = new Map<
    number | bigint,
    { readonly inner: Prefix<Address>; readonly outer: Prefix<Address> }
  >();

  constructor(family: FamilyName) {
    this.#family = family;
  }

  at({ address, length }: Prefix<Address>): Peer | undefined {
    return this.#byLength.get(length)?.get(addressKey(address));
  }

  /** Adds a peer, or puts it in the place of the one with its subnet. */
  put(peer: Peer): void {
    const subnet = this.#subnetOf(peer);
    const { address, length } = subnet;
    let peers = this.#byLength.get(length);
    if (peers === undefined) this.#byLength.set(length, (peers = new Map<number | bigint, Peer>()));
    const before = peers.get(addressKey(address));
    peers.set(addressKey(address), peer);
    if (before === undefined || !isOneHost(before.host.publicIp, peer.host.publicIp)) this.#note(subnet);
  }

  delete(subnet: Prefix<Address>): void {
    const peers = this.#byLength.get(subnet.length);
    if (peers?.delete(addressKey(subnet.address)) !== true) return;
    if (peers.size === 0) this.#byLength.delete(subnet.length);
    this.#note(subnet);
  }

  /** Leases of two hosts that share addresses, in words. O(number of such pairs). */
  alarms(): readonly string[] {
    const alarms: string[] = [];
    for (const { inner: subnet, outer } of this.#outer.values()) {
      const inner = this.at(subnet);
      const holder = this.at(outer);
      if (inner === undefined || holder === undefined) continue;
      alarms.push(
        `lease ${formatPrefix(subnet)} of ${formatAddresses(inner.host.publicIp)} lies inside ` +
          `${formatPrefix(outer)} of ${formatAddresses(holder.host.publicIp)}: the longer one is used`,
      );
    }
    return alarms;
  }

  /** A peer came, went or changed hands: looks again for the nearest shorter one of it and of those inside it. */
  #note(subnet: Prefix<Address>): void {
    this.#noteOuter(subnet);
    // Leases are nearly always of one length, so there is rarely a longer one to ask for.
    for (const [length, peers] of this.#byLength) {
      if (length > subnet.length) this.#noteInner(subnet, length, peers);
    }
  }

  /** Remembers the nearest shorter lease of this one when it is another host's. */
  #noteOuter(subnet: Prefix<Address>): void {
    const key = prefixKey(subnet);
    this.#outer.delete(key);
    const inner = this.at(subnet);
    if (inner === undefined) return;
    for (let length = subnet.length - 1; length >= 0; length--) {
      const outer = this.#byLength.get(length)?.get(addressKey(prefixOf(subnet.address, length).address));
      if (outer === undefined) continue;
      if (!isOneHost(outer.host.publicIp, inner.host.publicIp))
        this.#outer.set(key, { inner: subnet, outer: this.#subnetOf(outer) });
      return;
    }
  }

  #noteInner(outer: Prefix<Address>, length: number, peers: ReadonlyMap<number | bigint, Peer>): void {
    const places = 2 ** (length - outer.length);
    if (places <= peers.size) {
      for (let i = 0; i < places; i++)
        this.#noteOuter({ address: stepped(outer.address, length, i), length });
    } else {
      for (const peer of peers.values()) {
        const subnet = this.#subnetOf(peer);
        if (prefixCovers(outer, subnet)) this.#noteOuter(subnet);
      }
    }
  }

  #subnetOf({ subnets }: Peer): Prefix<Address> {
    return subnets[this.#family]!;
  }
}
