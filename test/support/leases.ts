// Leases and hosts from words, as tests and benchmarks write them.

import { type Lease, type LeaseHost, leaseBackend } from '../../src/lease/lease.js';
import { type Ipv4, parseIpv4 } from '../../src/net/ipv4.js';
import { parseCidr } from '../../src/net/prefix.js';

export interface HostWords {
  readonly publicIp: string | Ipv4;
  /** @default '' */
  readonly backendType?: string;
  readonly backendData?: unknown;
}

export interface LeaseWords extends HostWords {
  /** "10.5.1.0/24"; host bits are kept. */
  readonly subnet: string;
  /** @default the subnet as etcd's keys have it */
  readonly id?: string;
  readonly created?: bigint;
  /** @default created */
  readonly written?: bigint;
}

export function hostOf({ publicIp, backendType = '', backendData }: HostWords): LeaseHost {
  const v4 = typeof publicIp === 'string' ? parseIpv4(publicIp) : publicIp;
  if (v4 === undefined) throw new TypeError(`${publicIp} is no address`);
  return { publicIp: { v4 }, backend: leaseBackend(backendType, backendData) };
}

export function leaseOf(words: LeaseWords): Lease {
  const v4 = parseCidr(words.subnet);
  if (v4 === undefined) throw new TypeError(`${words.subnet} is no subnet`);
  const { id = words.subnet.replace('/', '-'), created, written = created } = words;
  const seniority = created === undefined || written === undefined ? undefined : { created, written };
  return { id, subnets: { v4 }, host: hostOf(words), seniority };
}
