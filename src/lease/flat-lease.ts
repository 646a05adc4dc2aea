// A lease in IPv4 as one object, for stores that hold tens of thousands.
//
// As nested objects a lease is seven of them, some 200 bytes more than what it says. A flat one keeps the values and
// makes subnets and host anew for whoever asks: they are read seldom, and equal by value, not by identity.

import { type Ipv4, ipv4 } from '../net/ipv4.js';
import type { DualPrefix, Prefix } from '../net/prefix.js';
import { type Lease, type LeaseHost, type LeaseBackend, leaseBackend, type Seniority } from './lease.js';

class FlatLease implements Lease {
  readonly id: string;
  // Addresses are signed here: V8 keeps those without an object of their own.
  readonly #address: number;
  readonly #length: number;
  readonly #publicIp: number;
  readonly #backendType: string;
  readonly #backendData: unknown;
  #created: bigint;
  #written: bigint;

  constructor(
    id: string,
    { address, length }: Prefix,
    publicIp: Ipv4,
    backend: LeaseBackend,
    seniority: Seniority,
  ) {
    this.id = id;
    this.#address = address | 0;
    this.#length = length;
    this.#publicIp = publicIp | 0;
    this.#backendType = backend.type;
    this.#backendData = backend.data.v4;
    this.#created = seniority.created;
    this.#written = seniority.written;
  }

  get subnets(): Lease['subnets'] {
    return { v4: { address: ipv4(this.#address >>> 0), length: this.#length } };
  }

  get host(): LeaseHost {
    return {
      publicIp: { v4: ipv4(this.#publicIp >>> 0) },
      backend: leaseBackend(this.#backendType, this.#backendData),
    };
  }

  get seniority(): Seniority {
    return { created: this.#created, written: this.#written };
  }

  set seniority(seniority: Seniority | undefined) {
    if (seniority === undefined) return; // a store that knows an order does not forget it
    this.#created = seniority.created;
    this.#written = seniority.written;
  }
}

/** A lease with these parts: flat where all of it is IPv4. */
export function flatLease(id: string, subnets: DualPrefix, host: LeaseHost, seniority: Seniority): Lease {
  const { publicIp, backend } = host;
  const hasIpv6 = [subnets.v6, publicIp.v6, backend.data.v6].some((part) => part !== undefined);
  if (hasIpv6 || subnets.v4 === undefined || publicIp.v4 === undefined)
    return { id, subnets, host, seniority };
  return new FlatLease(id, subnets.v4, publicIp.v4, backend, seniority);
}
