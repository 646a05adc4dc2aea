// A lease: which subnets of the overlay belong to which host, and what that host's backend tells its peers.
// Pure data, shared by the stores (which read and write it) and the backends (which make the kernel follow it).
//
// Sixty-five thousand of them are held at once: a lease is as many objects as its shape has, and no more. What is the
// same for many, such as the backend of hosts that publish no data, is one object for all of them.

import { type Dual, dualOf, mapDual, sameDual } from '../net/dual.js';
import {
  type DualAddress,
  type DualPrefix,
  formatAddress,
  formatAddresses,
  formatPrefix,
  formatPrefixes,
  prefixEquals,
} from '../net/prefix.js';

/** What a host publishes of its backend. */
export interface LeaseBackend {
  /** "" for the udp backend, which publishes no type at all (as flannel). */
  readonly type: string;
  /** The backend's own JSON value for each family, such as {"VNI":1,"VtepMAC":"…"}; undefined where it has none. */
  readonly data: Dual<unknown>;
}

/** What a host publishes with its subnets. */
export interface LeaseHost {
  /** Addresses the other hosts send to. */
  readonly publicIp: DualAddress;
  readonly backend: LeaseBackend;
}

/** How leases that exclude each other are told apart. Revisions of the store: larger is later. */
export interface Seniority {
  /** When the lease was made: of two leases of one subnet the elder wins. */
  readonly created: bigint;
  /** When it was last written, renewals included: of two leases with one MAC the later write holds it. */
  readonly written: bigint;
}

/** One host's subnets. */
export interface Lease {
  /** The store's own text for it, opaque to all others; no two leases of a store have the same. */
  readonly id: string;
  readonly subnets: DualPrefix;
  readonly host: LeaseHost;
  /** Moves in place, since a renewal changes nothing else. Undefined where the store knows no order. */
  seniority: Seniority | undefined;
}

/**
 * The lease of another host that was judged fit for use (judge.ts). It has subnets and public IPs of no other families
 * than the network has, of each at least one; which of them a mode can join to a path is the mode's to say.
 */
export type Peer = Lease;

/** What the store says happened. A snapshot replaces everything known; events amend it, in order. */
export type LeaseUpdate =
  | { readonly kind: 'snapshot'; readonly leases: readonly Lease[] }
  | { readonly kind: 'events'; readonly events: readonly LeaseEvent[] };

export type LeaseEvent =
  { readonly kind: 'put'; readonly lease: Lease } | { readonly kind: 'delete'; readonly id: string };

/** What changed for a backend, by id, after the leases were judged: `removed` is applied first. */
export interface PeerDiff {
  readonly added: readonly Peer[];
  /** Same id and subnets, another host or other data. */
  readonly changed: readonly Peer[];
  /** An id whose subnets changed is in `removed` with the old ones and in `added` with the new. */
  readonly removed: readonly Peer[];
}

const NO_DATA: Dual<unknown> = { v4: undefined };

// In a network nearly all hosts run one backend: the last one without data serves the next.
let withoutData: LeaseBackend = { type: '', data: NO_DATA };

/** A backend of this type with its data for each family; undefined for none. */
export function leaseBackend(type: string, v4?: unknown, v6?: unknown): LeaseBackend {
  if (v4 !== undefined || v6 !== undefined) return { type, data: dualOf(v4, v6) };
  if (withoutData.type !== type) withoutData = { type, data: NO_DATA };
  return withoutData;
}

/** Whether two public IPs are one host's: by IPv4 where both have it, as flannel has it, else by IPv6. */
export function isOneHost(a: DualAddress, b: DualAddress): boolean {
  if (a.v4 !== undefined && b.v4 !== undefined) return a.v4 === b.v4;
  return a.v6 !== undefined && a.v6 === b.v6;
}

/** Whether both are the same subnets. */
export function sameSubnets(a: DualPrefix, b: DualPrefix): boolean {
  return sameDual(a, b, prefixEquals);
}

/** Subnets and public IPs of a host as /status has them: one text for people, and one of each family. */
export function hostTexts(subnets: DualPrefix, publicIps: DualAddress) {
  return {
    subnet: formatPrefixes(subnets),
    subnets: mapDual(subnets, formatPrefix),
    publicIp: formatAddresses(publicIps),
    publicIps: mapDual(publicIps, formatAddress),
  };
}

/** Whether both publish the same, however it is spelt: the order of fields in a backend's data does not matter. */
export function sameHost(a: LeaseHost, b: LeaseHost): boolean {
  return a === b || (sameDual(a.publicIp, b.publicIp) && sameBackend(a.backend, b.backend));
}

/** Less than 0 when `a` is the elder of two leases; ids decide where the store knows no order. */
export function compareAge(a: Lease, b: Lease): number {
  return compare(a.seniority?.created ?? 0n, b.seniority?.created ?? 0n) || compare(a.id, b.id);
}

/** Less than 0 when `a` was written later than `b`; 0 where the store knows no order. */
export function compareRecency(a: Lease, b: Lease): number {
  return compare(b.seniority?.written ?? 0n, a.seniority?.written ?? 0n);
}

function sameBackend(a: LeaseBackend, b: LeaseBackend): boolean {
  return a === b || (a.type === b.type && sameDual(a.data, b.data, sameJson));
}

/** Whether two JSON values are equal; the order of fields does not matter. */
function sameJson(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const entries = Object.entries(a);
  return (
    entries.length === Object.keys(b).length &&
    entries.every(
      ([key, value]) => Object.hasOwn(b, key) && sameJson(value, (b as Record<string, unknown>)[key]),
    )
  );
}

function compare<T extends bigint | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
