// The leases in the mirrored range: keys and values decoded, bad ones left out, as the updates a MembershipListener
// gets.
//
// - A key that is not a lease key, or whose value cannot be decoded, is skipped, counted and logged once.
// - A good lease whose value turns bad keeps its last good one until the key is deleted or good again.
// What is done with leases that vanish stands in ../held-leases.ts.

import { type Condition, condition } from '../../core/conditions.js';
import type { Lease, LeaseEvent, LeaseUpdate } from '../../lease/lease.js';
import { flatLease } from '../../lease/flat-lease.js';
import { parseLeaseKey, parseLeaseValue } from '../../lease/lease-codec.js';
import { formatPrefixes } from '../../net/prefix.js';
import type { Logger } from '../../core/log.js';
import type { Clock } from '../../core/waiting.js';
import { HeldLeases } from '../held-leases.js';
import { BadKeyWarner } from '../warner.js';
import type { KvEntry } from './etcd-kv.js';
import { showKey } from './keys.js';
import type { KeyLayout } from './keys.js';
import type { MirrorEvent } from './mirror-diff.js';

export interface LeaseTableOptions {
  readonly layout: KeyLayout;
  readonly log: Logger;
  readonly clock: Clock;
  /** See HeldLeasesOptions. */
  readonly graceMs: number;
  readonly maxLeases?: number;
  emit(update: LeaseUpdate): void;
}

/** See the head of this file. Keys come as ids of leaseKeyId(), entries as trimEntry() leaves them. */
export class LeaseTable {
  readonly #options: LeaseTableOptions;
  readonly #held: HeldLeases;
  readonly #warner: BadKeyWarner;

  constructor(options: LeaseTableOptions) {
    this.#options = options;
    const { clock, graceMs, maxLeases, log, layout } = options;
    const onGraceOver = ({ id, subnets }: Lease): void => {
      log.warn(
        { key: showKey(layout.leasePrefix + id) },
        `lease ${formatPrefixes(subnets)} did not come back: removed`,
      );
      this.applyEvents([{ kind: 'delete', key: id }]);
    };
    this.#held = new HeldLeases({ store: 'etcd', clock, graceMs, maxLeases, onGraceOver });
    this.#warner = new BadKeyWarner(log, clock, 'bad lease key');
  }

  /** All leases held, vanished ones included. */
  leases(): IterableIterator<Lease> {
    return this.#held.values();
  }

  get size(): number {
    return this.#held.size;
  }

  get vanished(): number {
    return this.#held.vanished;
  }

  listBadKeys(): { readonly key: string; readonly problem: string }[] {
    return this.#warner.list();
  }

  get badKeys(): { readonly total: number; readonly current: number } {
    return { total: this.#warner.total, current: this.#warner.current };
  }

  conditions(): Condition[] {
    const found = this.#held.conditions();
    const unreadable = this.badKeys.current;
    if (unreadable > 0)
      found.push(
        condition('lease-unreadable', `${unreadable} keys below subnets/ are no leases`, unreadable),
      );
    return found;
  }

  /** Replaces everything by the entries of a first list. */
  applySnapshot(entries: ReadonlyMap<string, KvEntry>): void {
    this.#held.clear();
    for (const [id, entry] of entries) {
      const lease = this.#decode(id, entry);
      if (lease !== undefined) this.#held.add(lease);
    }
    this.#options.emit({ kind: 'snapshot', leases: [...this.#held.values()] });
  }

  applyEvents(events: readonly MirrorEvent[]): void {
    const out: LeaseEvent[] = [];
    for (const event of events) {
      const id = event.key;
      if (event.kind === 'put') {
        const lease = this.#decode(id, event.entry);
        if (lease !== undefined) this.#held.put(lease, out); // else the last good value of this key stays
        continue;
      }
      this.#warner.forget(id);
      if (event.kind === 'delete') this.#held.delete(id, out);
      else this.#held.keepVanished(id);
    }
    if (out.length > 0) this.#options.emit({ kind: 'events', events: out });
  }

  /** Ends all grace timers. */
  close(): void {
    this.#held.close();
  }

  #decode(id: string, entry: KvEntry): Lease | undefined {
    const { value, problem, createRevision, modRevision } = entry;
    if (problem !== undefined || value === undefined) return this.#bad(id, entry, problem ?? 'no value');
    const subnet = parseLeaseKey(id);
    if (!subnet.ok) throw new TypeError('a trimmed entry has a good name');
    const host = parseLeaseValue(value);
    if (!host.ok) return this.#bad(id, entry, host.problem);
    if (!this.#held.hasRoomFor(id)) return undefined;
    this.#warner.forget(id);
    // The mirror holds the revision of the last write, too: one object for both, and for a lease never renewed.
    const created = createRevision === modRevision ? modRevision : createRevision;
    const seniority = { created, written: modRevision };
    return flatLease(id, subnet.value, host.value, seniority);
  }

  #bad(id: string, entry: KvEntry, problem: string): undefined {
    this.#warner.warn(id, entry.shownKey ?? showKey(entry.key), problem);
    return undefined;
  }
}
