// A lease in IPv4 as one object, for stores that hold tens of thousands.
//
// As nested objects a lease is seven of them, some 200 bytes more than what it says. A flat one keeps the values and
// makes subnets and host anew for whoever asks: they are read seldom, and equal by value, not by identity.

import { ipv4 } from '../net/ipv4.js';
import type { Prefix } from '../net/prefix.js';
import { type Ipv4Lease, type Ipv4LeaseHost, leaseBackend, type Seniority } from './lease.js';

class FlatLease implements Ipv4Lease {
  readonly id: string;
  // Addresses are signed here: V8 keeps those without an object of their own.
  readonly #address: number;
  readonly #length: number;
  readonly #publicIp: number;
  readonly #backendType: string;
  readonly #backendData: unknown;
  #created: bigint;
  #written: bigint;

  constructor(id: string, { address, length }: Prefix, host: Ipv4LeaseHost, seniority: Seniority) {
    this.id = id;
    this.#address = address | 0;
    this.#length = length;
    this.#publicIp = host.publicIp.v4 | 0;
    this.#backendType = host.backend.type;
    this.#backendData = host.backend.data.v4;
    this.#created = seniority.created;
    this.#written = seniority.written;
  }

  get subnets(): Ipv4Lease['subnets'] {
    return { v4: { address: ipv4(this.#address >>> 0), length: this.#length } };
  }

  get host(): Ipv4LeaseHost {
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

/** A lease with these parts, of which IPv4 is kept. */
export function flatLease(id: string, subnet: Prefix, host: Ipv4LeaseHost, seniority: Seniority): Ipv4Lease {
  return new FlatLease(id, subnet, host, seniority);
}
