// Whether a lease can be another host's, and be used beside this host's own: the one place that decides it. Pure.
//
// What a lease has of a family that the network has not is cut off: nobody behind the judge sees it. A lease is used
// when it lies inside the Network, is longer than it, has no host bits, does not touch our own subnet, and names a
// public IP that can be another host's: no bogon, not ours, none that a lease may hold. All of that holds for each
// family that is left, and one must be left; a host without the other is used for the one it has.
//
// Hosts may have addresses inside the Network but outside of what is leased (SubnetMin, SubnetMax). A lease that covers
// such a host, which only one outside of that range can, would take the way to it, and is refused while the host is
// there. Of two leases of one subnet the elder is used: lease-view.ts, which knows both.

import { isBogon } from '../net/bogons.js';
import { dualOf, type FamilyName, familiesOf, firstOf } from '../net/dual.js';
import {
  type Address,
  type AddressRange,
  type DualAddress,
  type DualPrefix,
  type DualRange,
  formatAddress,
  formatPrefix,
  hasHostBits,
  lastOf,
  type Prefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
} from '../net/prefix.js';
import { isOneHost, type Lease, leaseBackend, type Peer, sameSubnets } from './lease.js';

/** Why a lease in the store is used by nobody on this host. */
export const LEASE_REFUSALS = {
  'no-common-family': 'it has no subnet, or no public IP, of an address family that the network has',
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

/** Judges leases by what this host is, and by where the other hosts are. */
export class Judge {
  readonly #options: JudgeOptions;
  readonly #families: readonly FamilyName[];
  readonly #hosts: Readonly<Record<FamilyName, HostsInside>>;
  #ownPublicIp: DualAddress;
  /** Addresses we had: the own lease names the last of them until the new one is published. */
  readonly #formerPublicIps: DualAddress[] = [];

  constructor(options: JudgeOptions) {
    const { networks, ownPublicIp } = options;
    this.#options = options;
    this.#families = familiesOf(networks);
    this.#hosts = { v4: new HostsInside(networks.v4), v6: new HostsInside(networks.v6) };
    this.#ownPublicIp = ownPublicIp;
    this.noteHost(undefined, ownPublicIp);
  }

  get ownPublicIp(): DualAddress {
    return this.#ownPublicIp;
  }

  /** This host has another public IP, which every lease has to be judged by. Returns as noteHost(). */
  ownPublicIpChanged(publicIp: DualAddress): readonly Address[] {
    this.#formerPublicIps.push(this.#ownPublicIp);
    this.#ownPublicIp = publicIp;
    return this.noteHost(undefined, publicIp);
  }

  isOwn({ subnets, host }: Lease): boolean {
    const isOwnIp = [this.#ownPublicIp, ...this.#formerPublicIps].some((own) =>
      isOneHost(host.publicIp, own),
    );
    return isOwnIp && sameSubnets(subnets, this.#options.own);
  }

  /**
   * What of a lease is of families that the network has: itself when that is all of it, undefined when that is too
   * little.
   */
  cut(lease: Lease): Peer | undefined {
    const { subnets, host } = lease;
    const { publicIp, backend } = host;
    const isForeign = (family: FamilyName): boolean =>
      !this.#families.includes(family) &&
      [subnets, publicIp, backend.data].some((part) => part[family] !== undefined);
    const has = (part: DualPrefix | DualAddress): boolean =>
      this.#families.some((family) => part[family] !== undefined);
    if (!has(subnets) || !has(publicIp)) return undefined;
    if (!isForeign('v4') && !isForeign('v6')) return lease;
    const [v4, v6] = (['v4', 'v6'] as const).map((family) => this.#families.includes(family));
    return {
      ...{ id: lease.id, seniority: lease.seniority },
      subnets: dualOf(v4 ? subnets.v4 : undefined, v6 ? subnets.v6 : undefined),
      host: {
        publicIp: dualOf(v4 ? publicIp.v4 : undefined, v6 ? publicIp.v6 : undefined),
        backend: leaseBackend(
          backend.type,
          v4 ? backend.data.v4 : undefined,
          v6 ? backend.data.v6 : undefined,
        ),
      },
    };
  }

  /** That cut() left nothing of a lease. */
  foreign(lease: Lease): Refusal {
    const names = this.#families.map((family) => NAMES[family]).join(' or ');
    return refusalOf(lease, 'no-common-family', `has no subnet and public IP in ${names}`);
  }

  /** What is wrong with a lease, as cut() gives it, whatever else there is. */
  judge(lease: Peer): Refusal | undefined {
    for (const family of familiesOf(lease.subnets)) {
      const refusal = this.#judgeSubnet(lease, family);
      if (refusal !== undefined) return refusal;
    }
    for (const family of familiesOf(lease.host.publicIp)) {
      const refusal = this.#judgePublicIp(lease, family);
      if (refusal !== undefined) return refusal;
    }
    return undefined;
  }

  /** Whether a lease covers a host, which makes the way to that host lead into the overlay. */
  judgeCover(lease: Peer): Refusal | undefined {
    for (const family of this.#families) {
      const hosts = this.#hosts[family];
      const subnet = lease.subnets[family];
      // No host is where leases may be, so nearly every lease is done here.
      if (hosts.isEmpty || subnet === undefined) continue;
      const leasable = this.#options.leasable[family]!;
      const range = { first: subnet.address, last: lastOf<Address>(subnet) };
      if (range.first >= leasable.first && range.last <= leasable.last) continue;
      const host = hosts.firstIn(range);
      if (host !== undefined)
        return refusalOf(lease, 'covers-host', `covers the address ${formatAddress(host)} of a host`, family);
    }
    return undefined;
  }

  /**
   * The lease `id` names this host now, or none; undefined for this host. Returns the addresses where a host came or
   * went: leases that cover one of them have to be judged again.
   */
  noteHost(id: string | undefined, publicIp: DualAddress | undefined): readonly Address[] {
    const touched = this.#hosts.v4.note(id, publicIp?.v4);
    const more = this.#hosts.v6.note(id, publicIp?.v6);
    return more.length === 0 ? touched : [...touched, ...more];
  }

  #judgeSubnet(lease: Peer, family: FamilyName): Refusal | undefined {
    const network: Prefix<Address> = this.#options.networks[family]!;
    const own: Prefix<Address> | undefined = this.#options.own[family];
    const subnet: Prefix<Address> = lease.subnets[family]!;
    const refuse = (code: RefusalCode, text: string): Refusal => refusalOf(lease, code, text, family);
    if (hasHostBits(subnet)) return refuse('host-bits', 'has host bits set');
    if (subnet.length <= network.length && prefixesOverlap(network, subnet)) {
      return refuse('not-longer-than-network', `is not longer than the Network ${formatPrefix(network)}`);
    }
    if (!prefixCovers(network, subnet))
      return refuse('outside-network', `lies outside the Network ${formatPrefix(network)}`);
    if (own !== undefined && prefixesOverlap(subnet, own)) {
      return refuse('overlaps-own', `overlaps our own subnet ${formatPrefix(own)}`);
    }
    return undefined;
  }

  #judgePublicIp(lease: Peer, family: FamilyName): Refusal | undefined {
    const publicIp: Address = lease.host.publicIp[family]!;
    const refuse = (code: RefusalCode, text: string): Refusal => refusalOf(lease, code, text, family);
    if (isBogon(publicIp)) return refuse('bad-public-ip', 'public IP cannot be a host’s');
    if (publicIp === this.#ownPublicIp[family]) return refuse('own-public-ip', 'public IP is our own');
    const { first, last } = this.#options.leasable[family]!;
    if (publicIp >= first && publicIp <= last) {
      const range = `${formatAddress(first)} to ${formatAddress(last)}`;
      return refuse('public-ip-in-overlay', `public IP lies where the subnets of the Network are (${range})`);
    }
    return undefined;
  }
}

const NAMES = { v4: 'IPv4', v6: 'IPv6' } as const;
const NONE: readonly Address[] = [];

/** Hosts inside the Network, in one family; in nearly every cluster none. */
class HostsInside {
  readonly #network: Prefix<Address> | undefined;
  /** By the id of their lease, undefined for this host. */
  readonly #hosts = new Map<string | undefined, Address>();
  /** Leases by the address of such a host. */
  readonly #counts = new Map<Address, number>();

  constructor(network: Prefix<Address> | undefined) {
    this.#network = network;
  }

  get isEmpty(): boolean {
    return this.#counts.size === 0;
  }

  /** See Judge.noteHost(). */
  note(id: string | undefined, publicIp: Address | undefined): readonly Address[] {
    const network = this.#network;
    const isInside = network !== undefined && publicIp !== undefined && prefixContains(network, publicIp);
    const host = isInside ? publicIp : undefined;
    const before = this.#hosts.get(id);
    if (host === before) return NONE;
    if (host === undefined) this.#hosts.delete(id);
    else this.#hosts.set(id, host);
    const touched: Address[] = [];
    if (before !== undefined && this.#count(before, -1) === 0) touched.push(before);
    if (host !== undefined && this.#count(host, 1) === 1) touched.push(host);
    return touched;
  }

  firstIn({ first, last }: AddressRange<Address>): Address | undefined {
    const count = typeof first === 'number' ? (last as number) - first : Number((last as bigint) - first);
    if (count < this.#counts.size) {
      for (let host = first; host <= last; host++) if (this.#counts.has(host)) return host;
      return undefined;
    }
    for (const host of this.#counts.keys()) if (host >= first && host <= last) return host;
    return undefined;
  }

  #count(host: Address, delta: 1 | -1): number {
    const count = (this.#counts.get(host) ?? 0) + delta;
    if (count === 0) this.#counts.delete(host);
    else this.#counts.set(host, count);
    return count;
  }
}

/** A lease that is not used, and why; the text names it, by what it has of `family`. */
export function refusalOf(lease: Lease, code: RefusalCode, text: string, family?: FamilyName): Refusal {
  const { subnets, host } = lease;
  const subnet = (family && subnets[family]) ?? firstOf(subnets);
  const publicIp = (family && host.publicIp[family]) ?? firstOf(host.publicIp);
  return { lease, code, text: `${formatPrefix(subnet)} of ${formatAddress(publicIp)}: ${text}` };
}
