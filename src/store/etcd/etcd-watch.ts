// What is followed in etcd while this host is a member: the range of the leases, and the config.
//
//   RangeMirror <prefix>/subnets ─┬─► the own key, to OwnLease (before the others: an alarm shall not wait)
//                                 └─► LeaseTable ─► the listener, and the saved table
//   ConfigWatch <prefix>/config  ───► the listener

import type { Condition } from '../../core/conditions.js';
import type { NetworkConfig } from '../../config/network-config.js';
import type { Lease, LeaseUpdate } from '../../lease/lease.js';
import type { EtcdStatus } from '../../ops/status.js';
import { ConfigWatch } from './config-watch.js';
import type { KvEntry } from './etcd-kv.js';
import { leaseKeyId, trimEntry } from './lease-entry.js';
import { LeaseTable } from './lease-table.js';
import type { MirrorEvent } from './mirror-diff.js';
import { RangeMirror } from './range-mirror.js';
import type { MirrorCounters } from './range-mirror.js';
import { addUnsaid } from './shared.js';
import type { EtcdShared } from './shared.js';

export interface EtcdWatchOptions {
  readonly shared: EtcdShared;
  readonly ownKey: string;
  /** The text that the daemon started with. */
  readonly configText: string;
  onLeases(update: LeaseUpdate): void;
  onConfig(config: NetworkConfig, text: string): void;
  /** What stands under the own key; undefined: nothing. */
  onOwnKey(entry: KvEntry | undefined): void;
}

/** Runs from construction until close(). */
export class EtcdWatch {
  readonly table: LeaseTable;
  readonly #options: EtcdWatchOptions;
  /** What the mirror knows the own key by. */
  readonly #ownId: string;
  readonly #leases: RangeMirror;
  readonly #config: ConfigWatch;

  constructor(options: EtcdWatchOptions) {
    this.#options = options;
    const { connection, kv, layout, log, clock, random, progressMs, resyncMs, graceMs } = options.shared;
    const shared = { connection, kv, log, clock, random, progressMs, resyncMs };
    this.#ownId = leaseKeyId(layout, options.ownKey);
    this.table = new LeaseTable({ layout, log, clock, graceMs, emit: (update) => options.onLeases(update) });
    this.#leases = new RangeMirror({
      ...shared,
      range: layout.leaseRange,
      trimming: { id: (key) => leaseKeyId(layout, key), entry: (entry) => trimEntry(layout, entry) },
      listener: {
        onSnapshot: (entries) => this.#onSnapshot(entries),
        onEvents: (events) => this.#onEvents(events),
      },
    });
    this.#config = new ConfigWatch({
      ...shared,
      range: layout.configRange,
      knownText: options.configText,
      onConfig: (config, text) => options.onConfig(config, text),
    });
  }

  get counters(): MirrorCounters {
    return this.#leases.counters;
  }

  /** Undefined before the first list. */
  leases(): readonly Lease[] | undefined {
    return this.#leases.revision === 0n ? undefined : [...this.table.leases()];
  }

  /** Adds what is wrong to `found`. */
  addConditions(found: Condition[]): void {
    // Without a connection the watches are down for the reason that stands above already.
    if (this.#options.shared.connection.isConnected)
      addUnsaid(found, 'store-watch-down', this.#leases.fault ?? this.#config.fault);
    addUnsaid(found, 'config-invalid', this.#config.problem);
    found.push(...this.table.conditions());
  }

  status(): Pick<EtcdStatus, 'revision' | 'watchEstablished' | 'leases' | 'badKeys' | 'badKeyList'> {
    return {
      revision: String(this.#leases.revision),
      watchEstablished: this.#leases.isLive,
      leases: this.table.size,
      badKeys: this.table.badKeys.current,
      badKeyList: this.table.listBadKeys(),
    };
  }

  async close(): Promise<void> {
    await Promise.all([this.#leases.close(), this.#config.close()]);
    this.table.close();
  }

  #onSnapshot(entries: ReadonlyMap<string, KvEntry>): void {
    this.#options.onOwnKey(entries.get(this.#ownId));
    this.table.applySnapshot(entries);
  }

  #onEvents(events: readonly MirrorEvent[]): void {
    const { shared } = this.#options;
    shared.log.debug({ events: events.length, revision: String(this.#leases.revision) }, 'watch');
    for (const event of events) {
      if (event.key === this.#ownId) this.#options.onOwnKey(event.kind === 'put' ? event.entry : undefined);
    }
    this.table.applyEvents(events);
  }
}
