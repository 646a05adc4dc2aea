// Whether a lease can be another host's, and be used beside this host's own: the one place that decides it. Pure.
//
// A lease is used when it lies inside the Network, is longer than it, has no host bits, does not touch our own subnet,
// and names a public IP that can be another host's: no bogon, not ours, none that a lease may hold.
//
// Hosts may have addresses inside the Network but outside of what is leased (SubnetMin, SubnetMax). A lease that covers
// such a host, which only one outside of that range can, would take the way to it, and is refused while the host is
// there. Of two leases of one subnet the elder is used: lease-view.ts, which knows both.

import { isBogon } from '../net/bogons.js';
import { formatIpv4, type Ipv4, ipv4 } from '../net/ipv4.js';
import {
  type DualAddress,
  type DualPrefix,
  type DualRange,
  formatAddress,
  formatPrefix,
  hasHostBits,
  lastOf,
  prefixContains,
  prefixCovers,
  prefixEquals,
  prefixesOverlap,
} from '../net/prefix.js';
import { firstOf } from '../net/dual.js';
import type { Lease } from './lease.js';

/** Why a lease in the store is used by nobody on this host. */
export const LEASE_REFUSALS = {
  'no-common-family': 'it has nothing of an address family that the network has',
  'host-bits': 'its subnet has bits set behind its length',
  'outside-network': 'its subnet is not inside the Network',
  'not-longer-than-network': 'its subnet is the whole Network, or more',
  'overlaps-own': 'its subnet shares addresses with the own one',
  'bad-public-ip': 'its public IP is no address that a host can have',
  'own-public-ip': 'it names the public IP of this host',
  'public-ip-in-overlay': 'its public IP is one that a lease may hold',
  'covers-host': 'its subnet covers the public IP of a host',
  'same-subnet': 'an older lease has the same subnet',
} as const;

export type RefusalCode = keyof typeof LEASE_REFUSALS;

export interface Refusal {
  readonly lease: Lease;
  readonly code: RefusalCode;
  readonly text: string;
}

export interface JudgeOptions {
  readonly networks: DualPrefix;
  /** Addresses that subnets which may be leased hold. */
  readonly leasable: DualRange;
  /** The own subnets. */
  readonly own: DualPrefix;
  readonly ownPublicIp: DualAddress;
}

const NONE: readonly Ipv4[] = [];

/** Judges leases by what this host is, and by where the other hosts are. */
export class Judge {
  readonly #options: JudgeOptions;
  #ownPublicIp: DualAddress;
  /** Addresses we had: the own lease names the last of them until the new one is published. */
  readonly #formerPublicIps = new Set<Ipv4>();
  /** Hosts inside the Network, by the id of their lease, undefined for this host; in nearly every cluster none. */
  readonly #hosts = new Map<string | undefined, Ipv4>();
  /** Leases by the address of such a host. */
  readonly #hostCounts = new Map<Ipv4, number>();

  constructor(options: JudgeOptions) {
    this.#options = options;
    this.#ownPublicIp = options.ownPublicIp;
    this.noteHost(undefined, options.ownPublicIp.v4);
  }

  get ownPublicIp(): DualAddress {
    return this.#ownPublicIp;
  }

  /** This host has another public IP, which every lease has to be judged by. Returns as noteHost(). */
  ownPublicIpChanged(publicIp: DualAddress): readonly Ipv4[] {
    this.#formerPublicIps.add(this.#ownPublicIp.v4!);
    this.#ownPublicIp = publicIp;
    return this.noteHost(undefined, publicIp.v4);
  }

  isOwn({ subnets, host }: Lease): boolean {
    const publicIp = host.publicIp.v4!;
    const isOwnIp = publicIp === this.#ownPublicIp.v4 || this.#formerPublicIps.has(publicIp);
    return isOwnIp && prefixEquals(subnets.v4!, this.#options.own.v4!);
  }

  /** What is wrong with a lease whatever else there is. */
  judge(lease: Lease): Refusal | undefined {
    const network = this.#options.networks.v4!;
    const ownSubnet = this.#options.own.v4!;
    const subnet = lease.subnets.v4!;
    const publicIp = lease.host.publicIp.v4!;
    const refuse = (code: RefusalCode, text: string): Refusal => refusalOf(lease, code, text);
    if (hasHostBits(subnet)) return refuse('host-bits', 'has host bits set');
    if (subnet.length <= network.length && prefixesOverlap(network, subnet)) {
      return refuse('not-longer-than-network', `is not longer than the Network ${formatPrefix(network)}`);
    }
    if (!prefixCovers(network, subnet))
      return refuse('outside-network', `lies outside the Network ${formatPrefix(network)}`);
    if (prefixesOverlap(subnet, ownSubnet)) {
      return refuse('overlaps-own', `overlaps our own subnet ${formatPrefix(ownSubnet)}`);
    }
    if (isBogon(publicIp)) return refuse('bad-public-ip', 'public IP cannot be a host’s');
    if (publicIp === this.#ownPublicIp.v4) return refuse('own-public-ip', 'public IP is our own');
    const { first, last } = this.#options.leasable.v4!;
    if (publicIp >= first && publicIp <= last) {
      const range = `${formatIpv4(first)} to ${formatIpv4(last)}`;
      return refuse('public-ip-in-overlay', `public IP lies where the subnets of the Network are (${range})`);
    }
    return undefined;
  }

  /** Whether a lease covers a host, which makes the way to that host lead into the overlay. */
  judgeCover(lease: Lease): Refusal | undefined {
    // No host is where leases may be, so nearly every lease is done here.
    if (this.#hostCounts.size === 0) return undefined;
    const leasable = this.#options.leasable.v4!;
    const first = lease.subnets.v4!.address;
    const last = lastOf(lease.subnets.v4!);
    if (first >= leasable.first && last <= leasable.last) return undefined;
    const host = this.#firstHostIn(first, last);
    return host === undefined
      ? undefined
      : refusalOf(lease, 'covers-host', `covers the address ${formatIpv4(host)} of a host`);
  }

  /**
   * The lease `id` names this host now, or none; undefined for this host. Returns the addresses where a host came or
   * went: leases that cover one of them have to be judged again.
   */
  noteHost(id: string | undefined, publicIp: Ipv4 | undefined): readonly Ipv4[] {
    const host =
      publicIp !== undefined && prefixContains(this.#options.networks.v4!, publicIp) ? publicIp : undefined;
    const before = this.#hosts.get(id);
    if (host === before) return NONE;
    if (host === undefined) this.#hosts.delete(id);
    else this.#hosts.set(id, host);
    const touched: Ipv4[] = [];
    if (before !== undefined && this.#count(before, -1) === 0) touched.push(before);
    if (host !== undefined && this.#count(host, 1) === 1) touched.push(host);
    return touched;
  }

  #count(host: Ipv4, delta: 1 | -1): number {
    const count = (this.#hostCounts.get(host) ?? 0) + delta;
    if (count === 0) this.#hostCounts.delete(host);
    else this.#hostCounts.set(host, count);
    return count;
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
}

/** A lease that is not used, and why; the text names it. */
export function refusalOf(lease: Lease, code: RefusalCode, text: string): Refusal {
  const subnet = formatPrefix(firstOf(lease.subnets));
  const publicIp = formatAddress(firstOf(lease.host.publicIp));
  return { lease, code, text: `${subnet} of ${publicIp}: ${text}` };
}
