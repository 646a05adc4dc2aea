// Which leases this host believes, and what changes for its backend: validation and diff, pure.
//
// A lease is used when it lies inside the Network, is longer than it, has no host bits, does not touch our own subnet,
// and names a public IP that can be another host's: no bogon, not ours, none that a lease may hold. Everything else stays
// out and is listed as refused, with its reason, until the store changes it. Leases of two hosts may nest: the longer
// prefix wins in the data path, and the pair is listed as an alarm.
//
// Hosts may have addresses inside the Network but outside of what is leased (SubnetMin, SubnetMax). A lease that covers
// such a host, which only one outside of that range can, would take the way to it, and is refused while the host is there.
//
// The work for an event does not grow with the table: leases are known by key, and overlaps are found by asking for
// each shorter prefix, and by a count of leases below each prefix.

import { isBogon } from '../net/bogons.js';
import { formatIpv4, type Ipv4, ipv4 } from '../net/ipv4.js';
import {
  formatPrefix,
  hasHostBits,
  lastOf,
  type Prefix,
  prefixContains,
  prefixCovers,
  prefixEquals,
  prefixesOverlap,
  prefixKey,
  prefixOf,
} from '../net/prefix.js';
import type { Lease, LeaseDiff, LeaseUpdate } from './lease.js';

export type RefusalCode =
  | 'host-bits'
  | 'outside-network'
  | 'not-longer-than-network'
  | 'overlaps-own'
  | 'bad-public-ip'
  | 'own-public-ip'
  | 'public-ip-in-overlay'
  | 'covers-host';

export interface Refusal {
  /** Subnet as in the store's keys, "10.5.1.0-24". */
  readonly key: string;
  readonly lease: Lease;
  readonly code: RefusalCode;
  readonly text: string;
}

export interface LeaseViewOptions {
  readonly network: Prefix;
  /** Addresses that subnets which may be leased hold, first and last. */
  readonly leasable: { readonly first: Ipv4; readonly last: Ipv4 };
  readonly ownSubnet: Prefix;
  readonly ownPublicIp: Ipv4;
}

export interface LeaseChange {
  readonly diff: LeaseDiff;
  /** Refusals that are new, or new in their reason. */
  readonly refusals: readonly Refusal[];
}

// No prefix has this key: those of prefixKey() are whole.
const OWN_KEY = 0.5;

/** One update at work: accepted leases as they were before it, by key, and what it refused. */
interface Update {
  readonly before: Map<number, Lease | undefined>;
  readonly refusals: Refusal[];
}

/** The leases of the other hosts, as this host sees them. */
export class LeaseView {
  #ownPublicIp: Ipv4;
  /** Addresses we had: the own lease names the last of them until the new one is published. */
  readonly #formerPublicIps = new Set<Ipv4>();
  readonly #network: Prefix;
  readonly #leasable: LeaseViewOptions['leasable'];
  readonly #ownSubnet: Prefix;
  readonly #accepted = new Map<number, Lease>();
  readonly #refused = new Map<number, Refusal>();
  /** Accepted leases by length, so that only lengths in use are asked for. */
  readonly #lengths = new Map<number, number>();
  /** Hosts inside the Network, by the key of their lease; in nearly every cluster there is none. */
  readonly #hosts = new Map<number, Ipv4>();
  /** Leases by the address of such a host. */
  readonly #hostCounts = new Map<Ipv4, number>();
  /** Shorter accepted lease by the nested one: pairs of two hosts. */
  readonly #nested = new Map<number, Prefix>();

  constructor(options: LeaseViewOptions) {
    this.#network = options.network;
    this.#leasable = options.leasable;
    this.#ownSubnet = options.ownSubnet;
    this.#ownPublicIp = options.ownPublicIp;
    this.#noteHost(OWN_KEY, options.ownPublicIp, { before: new Map(), refusals: [] });
  }

  get ownPublicIp(): Ipv4 {
    return this.#ownPublicIp;
  }

  /** This host has another public IP: every lease is judged anew. O(leases). */
  ownPublicIpChanged(publicIp: Ipv4): LeaseChange {
    this.#formerPublicIps.add(this.#ownPublicIp);
    this.#ownPublicIp = publicIp;
    const work: Update = { before: new Map(), refusals: [] };
    this.#noteHost(OWN_KEY, publicIp, work);
    for (const lease of [...this.#accepted.values()]) this.#put(lease, work);
    for (const { lease } of [...this.#refused.values()]) this.#put(lease, work);
    return { diff: this.#diffSince(work.before), refusals: work.refusals };
  }

  /** Takes what the store reports and returns what it changes. An update that changes nothing returns empty lists. */
  apply(update: LeaseUpdate): LeaseChange {
    const work: Update = { before: new Map(), refusals: [] };
    if (update.kind === 'snapshot') {
      const present = new Set(update.leases.map((lease) => prefixKey(lease.subnet)));
      for (const [key, lease] of this.#accepted) if (!present.has(key)) this.#remove(lease.subnet, work);
      for (const [key, { lease }] of this.#refused) if (!present.has(key)) this.#remove(lease.subnet, work);
      for (const lease of update.leases) this.#put(lease, work);
    } else {
      for (const event of update.events) {
        if (event.kind === 'put') this.#put(event.lease, work);
        else this.#remove(event.subnet, work);
      }
    }
    return { diff: this.#diffSince(work.before), refusals: work.refusals };
  }

  /** Several events about one subnet amount to its last state against its first. */
  #diffSince(before: ReadonlyMap<number, Lease | undefined>): LeaseDiff {
    const added: Lease[] = [];
    const changed: Lease[] = [];
    const removed: Lease[] = [];
    for (const [key, was] of before) {
      const is = this.#accepted.get(key);
      if (was === undefined && is !== undefined) added.push(is);
      else if (was !== undefined && is === undefined) removed.push(was);
      else if (was !== undefined && is !== undefined && !isSame(was, is)) changed.push(is);
    }
    return { added, changed, removed };
  }

  accepted(): Iterable<Lease> {
    return this.#accepted.values();
  }

  refusals(): readonly Refusal[] {
    return [...this.#refused.values()];
  }

  /** Leases of two hosts that share addresses, in words. O(number of such pairs). */
  alarms(): readonly string[] {
    const alarms: string[] = [];
    for (const [key, outer] of this.#nested) {
      const inner = this.#accepted.get(key);
      const holder = this.#accepted.get(prefixKey(outer));
      if (inner === undefined || holder === undefined) continue;
      alarms.push(
        `lease ${formatPrefix(inner.subnet)} of ${formatIpv4(inner.attributes.publicIp)} lies inside ` +
          `${formatPrefix(outer)} of ${formatIpv4(holder.attributes.publicIp)}: the longer one is used`,
      );
    }
    return alarms;
  }

  #put(lease: Lease, work: Update): void {
    const key = prefixKey(lease.subnet);
    const { publicIp } = lease.attributes;
    const isOwnIp = publicIp === this.#ownPublicIp || this.#formerPublicIps.has(publicIp);
    if (isOwnIp && prefixEquals(lease.subnet, this.#ownSubnet)) {
      this.#remove(lease.subnet, work);
      return;
    }
    const refusal = this.#judge(lease);
    this.#noteHost(key, refusal === undefined ? lease.attributes.publicIp : undefined, work);
    this.#settle(lease, refusal ?? this.#judgeCover(lease), work);
  }

  /** Accepts a lease, or refuses it. */
  #settle(lease: Lease, refusal: Refusal | undefined, work: Update): void {
    const key = prefixKey(lease.subnet);
    if (refusal !== undefined) {
      const known = this.#refused.get(key);
      this.#withdraw(lease.subnet, work);
      this.#refused.set(key, refusal);
      if (known?.code !== refusal.code) work.refusals.push(refusal);
      return;
    }
    this.#refused.delete(key);
    const before = this.#accepted.get(key);
    if (before !== undefined && isSame(before, lease)) {
      before.modRevision = lease.modRevision; // a renewal: the backend, which holds the same object, learns of it so
      return;
    }
    if (!work.before.has(key)) work.before.set(key, before);
    this.#accepted.set(key, lease);
    if (before === undefined) this.#countLength(lease.subnet.length, 1);
    if (before?.attributes.publicIp !== lease.attributes.publicIp) this.#noteNesting(lease.subnet);
  }

  #remove(subnet: Prefix, work: Update): void {
    this.#noteHost(prefixKey(subnet), undefined, work);
    this.#withdraw(subnet, work);
  }

  #withdraw(subnet: Prefix, work: Update): void {
    const key = prefixKey(subnet);
    this.#refused.delete(key);
    const before = this.#accepted.get(key);
    if (before === undefined) return;
    if (!work.before.has(key)) work.before.set(key, before);
    this.#accepted.delete(key);
    this.#countLength(subnet.length, -1);
    this.#noteNesting(before.subnet);
  }

  /** The lease `key` names this host now, or none. Leases that cover it go, those that covered the one before come back. */
  #noteHost(key: number, publicIp: Ipv4 | undefined, work: Update): void {
    const host = publicIp !== undefined && prefixContains(this.#network, publicIp) ? publicIp : undefined;
    const before = this.#hosts.get(key);
    if (host === before) return;
    if (host === undefined) this.#hosts.delete(key);
    else this.#hosts.set(key, host);
    for (const [address, delta] of [
      [before, -1],
      [host, 1],
    ] as const) {
      if (address === undefined) continue;
      const count = (this.#hostCounts.get(address) ?? 0) + delta;
      if (count === 0) this.#hostCounts.delete(address);
      else this.#hostCounts.set(address, count);
      if (count === (delta === 1 ? 1 : 0)) this.#judgeAgain(address, work);
    }
  }

  /** A host came or went: looks again at each lease that covers it. */
  #judgeAgain(host: Ipv4, work: Update): void {
    for (let length = this.#network.length + 1; length <= 32; length++) {
      const key = prefixKey(prefixOf(host, length));
      const refused = this.#refused.get(key);
      const lease = refused?.code === 'covers-host' ? refused.lease : this.#accepted.get(key);
      if (lease !== undefined) this.#settle(lease, this.#judgeCover(lease), work);
    }
  }

  /** Whether a lease covers a host, which makes the way to that host lead into the overlay. */
  #judgeCover(lease: Lease): Refusal | undefined {
    const { subnet } = lease;
    const last = lastOf(subnet);
    // No host is where leases may be, so nearly every lease is done here.
    if (this.#hostCounts.size === 0) return undefined;
    if (subnet.address >= this.#leasable.first && last <= this.#leasable.last) return undefined;
    const host = this.#firstHostIn(subnet.address, last);
    return host === undefined
      ? undefined
      : refusalOf(lease, 'covers-host', `covers the address ${formatIpv4(host)} of a host`);
  }

  #firstHostIn(first: Ipv4, last: Ipv4): Ipv4 | undefined {
    if (last - first < this.#hostCounts.size) {
      for (let address: number = first; address <= last; address++) {
        const host = ipv4(address);
        if (this.#hostCounts.has(host)) return host;
      }
      return undefined;
    }
    for (const host of this.#hostCounts.keys()) if (host >= first && host <= last) return host;
    return undefined;
  }

  #judge(lease: Lease): Refusal | undefined {
    const { subnet, attributes } = lease;
    const refuse = (code: RefusalCode, text: string): Refusal => refusalOf(lease, code, text);
    const network = formatPrefix(this.#network);
    if (hasHostBits(subnet)) return refuse('host-bits', 'has host bits set');
    if (subnet.length <= this.#network.length && prefixesOverlap(this.#network, subnet)) {
      return refuse('not-longer-than-network', `is not longer than the Network ${network}`);
    }
    if (!prefixCovers(this.#network, subnet))
      return refuse('outside-network', `lies outside the Network ${network}`);
    if (prefixesOverlap(subnet, this.#ownSubnet)) {
      return refuse('overlaps-own', `overlaps our own subnet ${formatPrefix(this.#ownSubnet)}`);
    }
    if (isBogon(attributes.publicIp)) return refuse('bad-public-ip', 'public IP cannot be a host’s');
    if (attributes.publicIp === this.#ownPublicIp) return refuse('own-public-ip', 'public IP is our own');
    const { first, last } = this.#leasable;
    if (attributes.publicIp >= first && attributes.publicIp <= last) {
      const range = `${formatIpv4(first)} to ${formatIpv4(last)}`;
      return refuse('public-ip-in-overlay', `public IP lies where the subnets of the Network are (${range})`);
    }
    return undefined;
  }

  /** A lease came, went or changed hands: looks again for the nearest shorter lease of it and of those inside it. */
  #noteNesting(subnet: Prefix): void {
    this.#noteOuter(subnet);
    // Leases are nearly always of one length, so there is rarely a longer one to ask for.
    for (const length of this.#lengths.keys()) {
      if (length > subnet.length) this.#noteInner(subnet, length);
    }
  }

  /** Remembers the nearest shorter lease of this one when it is another host's. */
  #noteOuter(subnet: Prefix): void {
    const key = prefixKey(subnet);
    this.#nested.delete(key);
    const lease = this.#accepted.get(key);
    if (lease === undefined) return;
    for (let length = subnet.length - 1; length > this.#network.length; length--) {
      if (!this.#lengths.has(length)) continue;
      const outer = this.#accepted.get(prefixKey(prefixOf(subnet.address, length)));
      if (outer === undefined) continue;
      if (outer.attributes.publicIp !== lease.attributes.publicIp) this.#nested.set(key, outer.subnet);
      return;
    }
  }

  #noteInner(outer: Prefix, length: number): void {
    // Asking for each possible inner prefix is bounded by the size of the shorter lease; scanning by the table's.
    const count = 2 ** (length - outer.length);
    if (count <= this.#accepted.size) {
      const step = 2 ** (32 - length);
      for (let i = 0; i < count; i++) this.#noteOuter({ address: ipv4(outer.address + i * step), length });
    } else {
      for (const { subnet } of this.#accepted.values()) {
        if (subnet.length === length && prefixCovers(outer, subnet)) this.#noteOuter(subnet);
      }
    }
  }

  #countLength(length: number, delta: 1 | -1): void {
    const count = (this.#lengths.get(length) ?? 0) + delta;
    if (count === 0) this.#lengths.delete(length);
    else this.#lengths.set(length, count);
  }
}

function refusalOf(lease: Lease, code: RefusalCode, text: string): Refusal {
  const { subnet, attributes } = lease;
  return {
    key: `${formatIpv4(subnet.address)}-${subnet.length}`,
    lease,
    code,
    text: `${formatPrefix(subnet)} of ${formatIpv4(attributes.publicIp)}: ${text}`,
  };
}

function isSame(a: Lease, b: Lease): boolean {
  return (
    a.attributes.publicIp === b.attributes.publicIp &&
    a.attributes.backendType === b.attributes.backendType &&
    JSON.stringify(a.attributes.backendData) === JSON.stringify(b.attributes.backendData)
  );
}
