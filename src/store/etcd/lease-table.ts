// The leases in the mirrored range: keys and values decoded, bad ones left out, as the updates a StoreListener gets.
//
// Rules, so that no single writer can harm anybody but itself:
// - A key that is not a lease key, or whose value cannot be decoded, is skipped, counted and logged once.
// - A good lease whose value turns bad keeps its last good attributes until the key is deleted or good again.
// - A lease that vanished because the store was wiped, restored or lost an event is kept for `graceMs`: its owner is
//   alive and about to write it again. It goes at once when its host shows up under another key.
// - At most `maxLeases` are held.
// Work per event does not grow with the table, except while vanished leases are being kept.

import { type Condition, condition } from '../../core/conditions.js';
import type { Lease, LeaseEvent, LeaseUpdate } from '../../lease/lease.js';
import { parseLeaseKey, parseLeaseValue, sameAttributes } from '../../lease/lease-codec.js';
import type { Ipv4 } from '../../net/ipv4.js';
import { formatPrefix, type Prefix, prefixEquals } from '../../net/prefix.js';
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

/** See the head of this file. Keys are full keys. */
export class LeaseTable {
  readonly #options: LeaseTableOptions;
  readonly #maxLeases: number;
  readonly #leases = new Map<string, Lease>();
  /** Vanished leases by key, with what ends their grace. */
  readonly #vanished = new Map<string, () => void>();
  readonly #warner: BadKeyWarner;
  #skippedForSpace = 0;

  constructor(options: LeaseTableOptions) {
    this.#options = options;
    this.#maxLeases = options.maxLeases ?? MAX_LEASES;
    this.#warner = new BadKeyWarner(options.log, options.clock);
  }

  /** All leases held, vanished ones included. */
  leases(): IterableIterator<Lease> {
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
    for (const entry of entries.values()) {
      const lease = this.#decode(entry);
      if (lease !== undefined) this.#leases.set(entry.key, lease);
    }
    this.#options.emit({ kind: 'snapshot', leases: [...this.#leases.values()] });
  }

  applyEvents(events: readonly MirrorEvent[]): void {
    const out: LeaseEvent[] = [];
    for (const event of events) {
      if (event.kind === 'put') this.#put(event.entry, out);
      else if (event.kind === 'delete') this.#delete(event.key, out);
      else this.#keepVanished(event.key);
    }
    if (out.length > 0) this.#options.emit({ kind: 'events', events: out });
  }

  /** Ends all grace timers. */
  close(): void {
    for (const cancel of this.#vanished.values()) cancel();
    this.#vanished.clear();
  }

  #put(entry: KvEntry, out: LeaseEvent[]): void {
    const decoded = this.#decode(entry);
    if (decoded === undefined) return; // the last good value of this key stays
    const lease = renewed(this.#leases.get(entry.key), decoded);
    this.#endGrace(entry.key);
    if (this.#vanished.size > 0) this.#dropVanishedOf(lease.attributes.publicIp, lease.subnet, out);
    this.#leases.set(entry.key, lease);
    out.push({ kind: 'put', lease });
  }

  #delete(key: string, out: LeaseEvent[]): void {
    this.#endGrace(key);
    this.#warner.forget(leaseKeyId(this.#options.layout, key));
    const lease = this.#leases.get(key);
    if (lease === undefined) return;
    this.#leases.delete(key);
    out.push({ kind: 'delete', subnet: lease.subnet });
  }

  #keepVanished(key: string): void {
    const lease = this.#leases.get(key);
    this.#warner.forget(leaseKeyId(this.#options.layout, key));
    if (lease === undefined || this.#vanished.has(key)) return;
    const cancel = this.#options.clock.after(this.#options.graceMs, () => {
      this.#options.log.warn(
        { key: showKey(key) },
        `lease ${formatPrefix(lease.subnet)} did not come back: removed`,
      );
      this.applyEvents([{ kind: 'delete', key }]);
    });
    this.#vanished.set(key, cancel);
  }

  #endGrace(key: string): void {
    const cancel = this.#vanished.get(key);
    if (cancel === undefined) return;
    cancel();
    this.#vanished.delete(key);
  }

  // A host that is back under another subnet no longer has the vanished one.
  #dropVanishedOf(publicIp: Ipv4, subnet: Prefix, out: LeaseEvent[]): void {
    for (const key of [...this.#vanished.keys()]) {
      const lease = this.#leases.get(key);
      if (lease?.attributes.publicIp === publicIp && !prefixEquals(lease.subnet, subnet))
        this.#delete(key, out);
    }
  }

  #decode(given: KvEntry): Lease | undefined {
    const { layout } = this.#options;
    const entry = given.problem === undefined ? trimEntry(layout, given) : given;
    const { key, value, problem, createRevision, modRevision } = entry;
    if (problem !== undefined || value === undefined) return this.#bad(entry, problem ?? 'no value');
    const attributes = parseLeaseValue(value);
    if (!attributes.ok) return this.#bad(entry, attributes.problem);
    if (this.#leases.size >= this.#maxLeases && !this.#leases.has(key)) {
      this.#skippedForSpace++;
      return undefined;
    }
    this.#warner.forget(key);
    const subnet = parseLeaseKey(key.slice(layout.leasePrefix.length));
    if (!subnet.ok) throw new TypeError('a trimmed entry has a good name');
    return { subnet: subnet.value, attributes: attributes.value, createRevision, modRevision };
  }

  #bad(entry: KvEntry, problem: string): undefined {
    this.#warner.warn(entry.key, entry.shownKey ?? showKey(entry.key), problem);
    return undefined;
  }
}

/** The lease as it was known when only its last write differs, as after a renewal: one object for all who hold it. */
function renewed(known: Lease | undefined, lease: Lease): Lease {
  if (known?.createRevision !== lease.createRevision || !sameAttributes(known.attributes, lease.attributes))
    return lease;
  known.modRevision = lease.modRevision;
  return known;
}
