// A lease: which subnet of the overlay belongs to which host, and what that host's backend tells its peers.
// Pure data, shared by the stores (which read and write it) and the backends (which make the kernel follow it).

import type { Ipv4 } from '../net/ipv4.js';
import type { Prefix } from '../net/prefix.js';

/** What a host publishes with its subnet. Field meanings are flannel's lease value. */
export interface LeaseAttributes {
  /** Address the other hosts send to. */
  readonly publicIp: Ipv4;
  /** "" for the udp backend, which publishes no type at all (as flannel). */
  readonly backendType: string;
  /** Backend's own JSON value, such as {"VNI":1,"VtepMAC":"…"}; undefined when it has none. */
  readonly backendData?: unknown;
}

/** One host's subnet. */
export interface Lease {
  readonly subnet: Prefix;
  readonly attributes: LeaseAttributes;
  /** Revision at which the key was created; the older of two overlapping leases wins. 0n when the store has none. */
  readonly createRevision: bigint;
  /**
   * Revision of the last write, renewals included: of two leases with one MAC the later holds. Moves in place, since a
   * renewal changes nothing else. Undefined when the store has none.
   */
  modRevision?: bigint | undefined;
}

/** What the store says happened. A snapshot replaces everything known; events amend it, in order. */
export type LeaseUpdate =
  | { readonly kind: 'snapshot'; readonly leases: readonly Lease[] }
  | { readonly kind: 'events'; readonly events: readonly LeaseEvent[] };

export type LeaseEvent =
  { readonly kind: 'put'; readonly lease: Lease } | { readonly kind: 'delete'; readonly subnet: Prefix };

/** What changed for a backend, after validation: apply `removed` first, then `added` and `changed`. */
export interface LeaseDiff {
  readonly added: readonly Lease[];
  /** Same subnet, other attributes. */
  readonly changed: readonly Lease[];
  readonly removed: readonly Lease[];
}
