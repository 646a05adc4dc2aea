// The leases in the mirrored range: keys and values decoded, bad ones left out, as the updates a MembershipListener
// gets.
//
// Rules, so that no single writer can harm anybody but itself:
// - A key that is not a lease key, or whose value cannot be decoded, is skipped, counted and logged once.
// - A good lease whose value turns bad keeps its last good one until the key is deleted or good again.
// - A lease that vanished because the store was wiped, restored or lost an event is kept for `graceMs`: its owner is
//   alive and about to write it again. It goes at once when its host shows up under another key.
// - At most `maxLeases` are held.
// Work per event does not grow with the table, except while vanished leases are being kept.

import { type Condition, condition } from '../../core/conditions.js';
import { type Ipv4Lease, type LeaseEvent, type LeaseUpdate, sameHost } from '../../lease/lease.js';
import { flatLease } from '../../lease/flat-lease.js';
import { parseLeaseKey, parseLeaseValue } from '../../lease/lease-codec.js';
import type { Ipv4 } from '../../net/ipv4.js';
import { formatPrefix } from '../../net/prefix.js';
import type { Logger } from '../../core/log.js';
import type { KvEntry } from './etcd-kv.js';
import { showKey } from './keys.js';
import type { KeyLayout } from './keys.js';
import { leaseKeyId, trimEntry } from './lease-entry.js';
import type { MirrorEvent } from './mirror-diff.js';
import type { Clock } from '../../core/waiting.js';
import { BadKeyWarner } from './warner.js';

/** Hosts in one network: a /8 cut into /24s. */
export const MAX_LEASES = 65_536;

export interface LeaseTableOptions {
  readonly layout: KeyLayout;
  readonly log: Logger;
  readonly clock: Clock;
  /** How long a lease that vanished without being deleted is kept. */
  readonly graceMs: number;
  /** @default MAX_LEASES */
  readonly maxLeases?: number;
  emit(update: LeaseUpdate): void;
}

/** See the head of this file. Leases, and keys that are none, are known by leaseKeyId(). */
export class LeaseTable {
  readonly #options: LeaseTableOptions;
  readonly #maxLeases: number;
  readonly #leases = new Map<string, Ipv4Lease>();
  /** Vanished leases by id, with what ends their grace. */
  readonly #vanished = new Map<string, () => void>();
  readonly #warner: BadKeyWarner;
  #skippedForSpace = 0;

  constructor(options: LeaseTableOptions) {
    this.#options = options;
    this.#maxLeases = options.maxLeases ?? MAX_LEASES;
    this.#warner = new BadKeyWarner(options.log, options.clock);
  }

  /** All leases held, vanished ones included. */
  leases(): IterableIterator<Ipv4Lease> {
    return this.#leases.values();
  }

  get size(): number {
    return this.#leases.size;
  }

  get vanished(): number {
    return this.#vanished.size;
  }

  listBadKeys(): { readonly key: string; readonly problem: string }[] {
    return this.#warner.list();
  }

  get badKeys(): { readonly total: number; readonly current: number } {
    return { total: this.#warner.total, current: this.#warner.current };
  }

  conditions(): Condition[] {
    const found: Condition[] = [];
    const vanished = this.#vanished.size;
    if (vanished > 0) {
      const graceS = this.#options.graceMs / 1000;
      const text = `${vanished} leases vanished from etcd without being deleted and are kept for up to ${graceS} s`;
      found.push(condition('leases-vanished', text, vanished));
    }
    if (this.#leases.size >= this.#maxLeases) {
      const text = `lease table is full: ${this.#maxLeases} held, ${this.#skippedForSpace} refused`;
      found.push(condition('leases-too-many', text));
    }
    const unreadable = this.badKeys.current;
    if (unreadable > 0)
      found.push(
        condition('lease-unreadable', `${unreadable} keys below subnets/ are no leases`, unreadable),
      );
    return found;
  }

  /** Replaces everything by the entries of a first list. */
  applySnapshot(entries: ReadonlyMap<string, KvEntry>): void {
    this.#leases.clear();
    for (const [key, entry] of entries) {
      const lease = this.#decode(this.#idOf(key), entry);
      if (lease !== undefined) this.#leases.set(lease.id, lease);
    }
    this.#options.emit({ kind: 'snapshot', leases: [...this.#leases.values()] });
  }

  applyEvents(events: readonly MirrorEvent[]): void {
    const out: LeaseEvent[] = [];
    for (const event of events) {
      const id = this.#idOf(event.key);
      if (event.kind === 'put') this.#put(id, event.entry, out);
      else if (event.kind === 'delete') this.#delete(id, out);
      else this.#keepVanished(id);
    }
    if (out.length > 0) this.#options.emit({ kind: 'events', events: out });
  }

  /** Ends all grace timers. */
  close(): void {
    for (const cancel of this.#vanished.values()) cancel();
    this.#vanished.clear();
  }

  #put(id: string, entry: KvEntry, out: LeaseEvent[]): void {
    const decoded = this.#decode(id, entry);
    if (decoded === undefined) return; // the last good value of this key stays
    const lease = renewed(this.#leases.get(decoded.id), decoded);
    this.#endGrace(lease.id);
    if (this.#vanished.size > 0) this.#dropVanishedOf(lease.host.publicIp.v4, lease.id, out);
    this.#leases.set(lease.id, lease);
    out.push({ kind: 'put', lease });
  }

  #delete(id: string, out: LeaseEvent[]): void {
    this.#warner.forget(id);
    this.#deleteLease(id, out);
  }

  #deleteLease(id: string, out: LeaseEvent[]): void {
    this.#endGrace(id);
    if (this.#leases.delete(id)) out.push({ kind: 'delete', id });
  }

  #keepVanished(id: string): void {
    const lease = this.#leases.get(id);
    this.#warner.forget(id);
    if (lease === undefined || this.#vanished.has(id)) return;
    const cancel = this.#options.clock.after(this.#options.graceMs, () => {
      this.#options.log.warn(
        { key: showKey(this.#options.layout.leasePrefix + id) },
        `lease ${formatPrefix(lease.subnets.v4)} did not come back: removed`,
      );
      this.applyEvents([{ kind: 'delete', key: id }]);
    });
    this.#vanished.set(id, cancel);
  }

  #endGrace(id: string): void {
    const cancel = this.#vanished.get(id);
    if (cancel === undefined) return;
    cancel();
    this.#vanished.delete(id);
  }

  // A host that is back under another subnet no longer has the vanished one.
  #dropVanishedOf(publicIp: Ipv4, id: string, out: LeaseEvent[]): void {
    for (const vanished of [...this.#vanished.keys()]) {
      const isSameHost = this.#leases.get(vanished)?.host.publicIp.v4 === publicIp;
      if (isSameHost && vanished !== id) this.#deleteLease(vanished, out);
    }
  }

  #decode(id: string, given: KvEntry): Ipv4Lease | undefined {
    const { layout } = this.#options;
    const entry = given.problem === undefined ? trimEntry(layout, given) : given;
    const { value, problem, createRevision, modRevision } = entry;
    if (problem !== undefined || value === undefined) return this.#bad(id, entry, problem ?? 'no value');
    const host = parseLeaseValue(value);
    if (!host.ok) return this.#bad(id, entry, host.problem);
    if (this.#leases.size >= this.#maxLeases && !this.#leases.has(id)) {
      this.#skippedForSpace++;
      return undefined;
    }
    this.#warner.forget(id);
    const subnet = parseLeaseKey(id);
    if (!subnet.ok) throw new TypeError('a trimmed entry has a good name');
    // The mirror holds the revision of the last write, too: one object for both, and for a lease never renewed.
    const created = createRevision === modRevision ? modRevision : createRevision;
    const seniority = { created, written: modRevision };
    return flatLease(id, subnet.value, host.value, seniority);
  }

  #idOf(key: string): string {
    return leaseKeyId(this.#options.layout, key);
  }

  #bad(id: string, entry: KvEntry, problem: string): undefined {
    this.#warner.warn(id, entry.shownKey ?? showKey(entry.key), problem);
    return undefined;
  }
}

/** The lease as it was known when only its last write differs, as after a renewal: one object for all who hold it. */
function renewed(known: Ipv4Lease | undefined, lease: Ipv4Lease): Ipv4Lease {
  if (known === undefined || !sameHost(known.host, lease.host)) return lease;
  if (known.seniority?.created !== lease.seniority?.created) return lease;
  known.seniority = lease.seniority;
  return known;
}
