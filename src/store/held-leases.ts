// The leases of a store as they are held here, whatever they were read from.
//
// Rules, so that no fault of the store harms anybody:
// - A lease that vanished because the store was wiped, restored or lost an event is kept for `graceMs`: its owner is
//   alive and about to write it again. It goes at once when its host shows up under another id.
// - At most `maxLeases` are held.
// Work per event does not grow with their number, except while vanished leases are being kept.

import { type Condition, condition } from '../core/conditions.js';
import type { Clock } from '../core/waiting.js';
import { isOneHost, type Lease, type LeaseEvent, sameHost, sameSubnets } from '../lease/lease.js';
import type { DualAddress } from '../net/prefix.js';

/** Hosts in one network: a /8 cut into /24s. */
export const MAX_LEASES = 65_536;

export interface HeldLeasesOptions {
  /** Kind of the store, for people. */
  readonly store: string;
  readonly clock: Clock;
  /** How long a lease that vanished without being deleted is kept. */
  readonly graceMs: number;
  /** @default MAX_LEASES */
  readonly maxLeases?: number | undefined;
  /** The grace of a lease is over: it is to be deleted. */
  readonly onGraceOver: (lease: Lease) => void;
}

/** See the head of this file. Methods with `out` add to it what happened. */
export class HeldLeases {
  readonly #options: HeldLeasesOptions;
  readonly #maxLeases: number;
  readonly #leases = new Map<string, Lease>();
  /** Vanished leases by id, with what ends their grace. */
  readonly #vanished = new Map<string, () => void>();
  #skippedForSpace = 0;

  constructor(options: HeldLeasesOptions) {
    this.#options = options;
    this.#maxLeases = options.maxLeases ?? MAX_LEASES;
  }

  /** All leases held, vanished ones included. */
  values(): IterableIterator<Lease> {
    return this.#leases.values();
  }

  get(id: string): Lease | undefined {
    return this.#leases.get(id);
  }

  get size(): number {
    return this.#leases.size;
  }

  get vanished(): number {
    return this.#vanished.size;
  }

  /** Whether there is room for the lease `id`; a refusal is counted. */
  hasRoomFor(id: string): boolean {
    if (this.#leases.size < this.#maxLeases || this.#leases.has(id)) return true;
    this.#skippedForSpace++;
    return false;
  }

  /** Forgets everything. */
  clear(): void {
    this.close();
    this.#leases.clear();
  }

  /** Adds a lease of a first list. */
  add(lease: Lease): void {
    this.#leases.set(lease.id, lease);
  }

  put(given: Lease, out: LeaseEvent[]): void {
    const lease = renewed(this.#leases.get(given.id), given);
    this.#endGrace(lease.id);
    if (this.#vanished.size > 0) this.#dropVanishedOf(lease.host.publicIp, lease.id, out);
    this.#leases.set(lease.id, lease);
    out.push({ kind: 'put', lease });
  }

  delete(id: string, out: LeaseEvent[]): void {
    this.#endGrace(id);
    if (this.#leases.delete(id)) out.push({ kind: 'delete', id });
  }

  /** The store does not have it any more, but nobody has deleted it. */
  keepVanished(id: string): void {
    const lease = this.#leases.get(id);
    if (lease === undefined || this.#vanished.has(id)) return;
    const { clock, graceMs, onGraceOver } = this.#options;
    const cancel = clock.after(graceMs, () => onGraceOver(lease));
    this.#vanished.set(id, cancel);
  }

  conditions(): Condition[] {
    const { store, graceMs } = this.#options;
    const found: Condition[] = [];
    const vanished = this.#vanished.size;
    if (vanished > 0) {
      const kept = `are kept for up to ${graceMs / 1000} s`;
      const text = `${vanished} leases vanished from ${store} without being deleted and ${kept}`;
      found.push(condition('leases-vanished', text, vanished));
    }
    if (this.#leases.size >= this.#maxLeases) {
      const text = `lease table is full: ${this.#maxLeases} held, ${this.#skippedForSpace} refused`;
      found.push(condition('leases-too-many', text));
    }
    return found;
  }

  /** Ends all grace timers. */
  close(): void {
    for (const cancel of this.#vanished.values()) cancel();
    this.#vanished.clear();
  }

  #endGrace(id: string): void {
    const cancel = this.#vanished.get(id);
    if (cancel === undefined) return;
    cancel();
    this.#vanished.delete(id);
  }

  // A host that is back under another id no longer has the vanished lease.
  #dropVanishedOf(publicIp: DualAddress, id: string, out: LeaseEvent[]): void {
    for (const vanished of [...this.#vanished.keys()]) {
      const known = this.#leases.get(vanished)?.host.publicIp;
      const isSameHost = known !== undefined && isOneHost(known, publicIp);
      if (isSameHost && vanished !== id) this.delete(vanished, out);
    }
  }
}

/** The lease as it was known when only its last write differs, as after a renewal: one object for all who hold it. */
function renewed(known: Lease | undefined, lease: Lease): Lease {
  if (known === undefined || !sameHost(known.host, lease.host)) return lease;
  if (!sameSubnets(known.subnets, lease.subnets)) return lease;
  if (known.seniority?.created !== lease.seniority?.created) return lease;
  known.seniority = lease.seniority;
  return known;
}
