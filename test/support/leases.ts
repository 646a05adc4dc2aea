// Leases and hosts from words, as tests and benchmarks write them.

import type { FamilyNetwork, NetworkConfig } from '../../src/config/network-config.js';
import { type Lease, type LeaseHost, leaseBackend } from '../../src/lease/lease.js';
import { dualOf } from '../../src/net/dual.js';
import { type Ipv4, parseIpv4 } from '../../src/net/ipv4.js';
import { parseIpv6 } from '../../src/net/ipv6.js';
import {
  type Address,
  type DualAddress,
  type DualPrefix,
  lastOf,
  parseCidr,
  type Prefix,
  prefixOf,
} from '../../src/net/prefix.js';

export interface HostWords {
  /** "192.0.2.1", "fd00:99::1" or "192.0.2.1&fd00:99::1". */
  readonly publicIp: string | Ipv4;
  /** @default '' */
  readonly backendType?: string;
  readonly backendData?: unknown;
  readonly backendV6Data?: unknown;
}

export interface LeaseWords extends HostWords {
  /** "10.5.1.0/24", "fd00:5:0:1::/64" or "10.5.1.0/24&fd00:5:0:1::/64"; host bits are kept. */
  readonly subnet: string;
  /** @default the subnet as etcd's keys have it */
  readonly id?: string;
  readonly created?: bigint;
  /** @default created */
  readonly written?: bigint;
}

export function hostOf({ publicIp, backendType = '', backendData, backendV6Data }: HostWords): LeaseHost {
  const address = typeof publicIp === 'string' ? addressesOf(publicIp) : { v4: publicIp };
  return { publicIp: address, backend: leaseBackend(backendType, backendData, backendV6Data) };
}

export function leaseOf(words: LeaseWords): Lease {
  const { id = words.subnet.replaceAll('/', '-'), created, written = created } = words;
  const seniority = created === undefined || written === undefined ? undefined : { created, written };
  return { id, subnets: prefixesOf(words.subnet), host: hostOf(words), seniority };
}

/** "192.0.2.1", "fd00:99::1" or "192.0.2.1&fd00:99::1". */
export function addressesOf(text: string): DualAddress {
  return halvesOf(text, parseIpv4, parseIpv6);
}

/** "10.5.1.0/24", "fd00:5:0:1::/64" or "10.5.1.0/24&fd00:5:0:1::/64". */
export function prefixesOf(text: string): DualPrefix {
  return halvesOf(
    text,
    (half) => parseCidr(half, 4),
    (half) => parseCidr(half, 6),
  );
}

/** What a config has for these networks, whose subnets are of 24 and 64 bits, and may be leased all. */
export function familyNetworks({ v4, v6 }: DualPrefix): NetworkConfig['networks'] {
  const whole = <A extends Address>(network: Prefix<A>, subnetLength: number): FamilyNetwork<A> => {
    const { address, length } = prefixOf(lastOf(network), subnetLength);
    return { network, subnetLength: length, subnetMin: network.address, subnetMax: address };
  };
  return dualOf(v4 && whole(v4, 24), v6 && whole(v6, 64));
}

function halvesOf<V4, V6>(
  text: string,
  parseV4: (half: string) => V4 | undefined,
  parseV6: (half: string) => V6 | undefined,
) {
  const halves = text.split('&');
  const v4 = halves.map(parseV4).find((value) => value !== undefined);
  const v6 = halves.map(parseV6).find((value) => value !== undefined);
  if (halves.length !== Number(v4 !== undefined) + Number(v6 !== undefined))
    throw new TypeError(`${text}: expected one of each family at most, joined by "&"`);
  return dualOf(v4, v6);
}
