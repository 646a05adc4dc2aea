// A membership that began with the saved table: the overlay was up a moment ago, and packets are waiting.
//
//   saved table ── the store answers ──► same shape? ── no ──► onOutdated(), and nothing more
//                                            │ yes
//                                            ▼
//                        join, asking for the same subnet ──► had it: onConfirmed(), then what joined reports
//                                            │
//                                            └─ another subnet, or none ──► onOwnLeaseLost()
//
// A config that was changed while no daemon ran must not need two starts. One that is changed at run time waits for a
// restart, since it comes to all hosts at once.

import { type Condition, condition } from '../core/conditions.js';
import { messageOf, OverlayError } from '../core/errors.js';
import type { Logger } from '../core/log.js';
import type { MetricFamily } from '../core/metric.js';
import { type LeaseHost, sameSubnets } from '../lease/lease.js';
import { type DualPrefix, formatPrefixes } from '../net/prefix.js';
import type { StoreStatus } from '../ops/status.js';
import type {
  CachedTable,
  LeaseStore,
  Membership,
  MembershipListener,
  StoredNetwork,
} from '../store/store.js';
import { shapeChanges } from './config-shape.js';

export interface RejoinedOptions {
  readonly table: CachedTable;
  /** What is published once the store answers, unless publish() tells otherwise before. */
  readonly host: LeaseHost;
  readonly store: Pick<LeaseStore, 'kind' | 'conditions' | 'metrics' | 'status'>;
  /** The network as the store has it, when it comes; rejects by `signal` alone. */
  readonly stored: (signal: AbortSignal) => Promise<StoredNetwork>;
  /** Ends the daemon, and with it the waiting for the store. */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** See the head of this file. Asks the store from watch() on. */
export class RejoinedMembership implements Membership {
  readonly own: DualPrefix;
  readonly #options: RejoinedOptions;
  readonly #closing = new AbortController();
  readonly #until: AbortSignal;
  /** What is to be published, or was when the store was joined. */
  #host: LeaseHost;
  /** What is joined, and what was published with it. */
  #joined: { readonly membership: Membership; readonly host: LeaseHost } | undefined;
  #usesTable = true;
  #isAnnounced = false;
  #rejoining: Promise<void> = Promise.resolve();

  constructor(options: RejoinedOptions) {
    this.#options = options;
    this.own = options.table.ownSubnets;
    this.#host = options.host;
    this.#until = AbortSignal.any([options.signal, this.#closing.signal]);
  }

  watch(listener: MembershipListener): void {
    listener.onLeases({ kind: 'snapshot', leases: this.#options.table.leases });
    this.#rejoining = this.#rejoin(listener);
  }

  async publish(host: LeaseHost): Promise<void> {
    this.#host = host;
    await this.#rejoining;
    if (this.#joined === undefined) throw new OverlayError('E_LEASE', 'the own lease is not held');
    if (this.#joined.host !== this.#host) await this.#joined.membership.publish?.(this.#host);
  }

  announce(): void {
    this.#isAnnounced = true;
    this.#joined?.membership.announce?.();
  }

  conditions(): readonly Condition[] {
    const { store, table } = this.#options;
    const found = [...(this.#joined?.membership ?? store).conditions()];
    if (this.#usesTable) {
      const why = `${store.kind} has not answered yet, or not with a valid config`;
      found.push(condition('saved-table', `lease table of ${table.savedAt} in use: ${why}`));
    }
    return found;
  }

  metrics(): readonly MetricFamily[] {
    return (this.#joined?.membership ?? this.#options.store).metrics();
  }

  status(): StoreStatus {
    return (this.#joined?.membership ?? this.#options.store).status();
  }

  async close(): Promise<void> {
    this.#closing.abort(new OverlayError('E_LEASE', 'the own lease is not held any more'));
    await this.#rejoining;
    await this.#joined?.membership.close();
  }

  /** Never rejects. */
  async #rejoin(listener: MembershipListener): Promise<void> {
    const { table, stored, log } = this.#options;
    try {
      const network = await stored(this.#until);
      const changes = shapeChanges(table.config, network.config, this.own);
      if (changes.length > 0) {
        log.warn(
          `the network config differs from that of the saved table in ${changes.join(' and ')}: starting again with it`,
        );
        listener.onOutdated(changes);
        return;
      }
      const membership = await this.#join(network);
      log.info(`store answers again: own subnet is still ${formatPrefixes(this.own)}`);
      listener.onConfirmed(network.config);
      membership.watch(this.#noticing(listener));
    } catch (error) {
      if (this.#until.aborted) return;
      const reason = messageOf(error);
      const message = `Own lease lost while the store was away: ${reason}`;
      listener.onOwnLeaseLost(new OverlayError('E_LEASE_LOST', message, { cause: error }));
    }
  }

  async #join(network: StoredNetwork): Promise<Membership> {
    const host = this.#host;
    const membership = await network.join({ host, previousSubnets: this.own }, this.#until);
    if (sameSubnets(membership.own, this.own)) {
      this.#joined = { membership, host };
      if (this.#isAnnounced) membership.announce?.();
      return membership;
    }
    await membership.close();
    throw new OverlayError(
      'E_LEASE_LOST',
      `got ${formatPrefixes(membership.own)} instead of ${formatPrefixes(this.own)}`,
    );
  }

  /** The table is in use until the first leases come. */
  #noticing(listener: MembershipListener): MembershipListener {
    return {
      onLeases: (update) => {
        this.#usesTable = false;
        listener.onLeases(update);
      },
      onConfig: (config) => listener.onConfig(config),
      onConfirmed: (config) => listener.onConfirmed(config),
      onOutdated: (changes) => listener.onOutdated(changes),
      onOwnLeaseLost: (error) => listener.onOwnLeaseLost(error),
    };
  }
}
