// This host in a network of an etcd store: its own lease is kept from the beginning, the others' are followed from
// watch() on. What is known is saved for a start without etcd.

import { type NetworkConfig, prefixesOf } from '../../config/network-config.js';
import type { Condition } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import type { MetricFamily } from '../../core/metric.js';
import type { LeaseHost } from '../../lease/lease.js';
import { sameDual } from '../../net/dual.js';
import type { DualAddress, DualPrefix } from '../../net/prefix.js';
import type { EtcdStatus } from '../../ops/status.js';
import type { Membership, MembershipListener } from '../store.js';
import { type SavedTable, TableCache } from '../table-cache.js';
import type { Acquired } from './acquire.js';
import { EtcdWatch } from './etcd-watch.js';
import { OwnLease } from './own-lease.js';
import { type EtcdShared, tableSource } from './shared.js';
import { storeCounters } from './store-counters.js';

/** The network config with the text that it was read from. */
export interface ReadConfig {
  readonly config: NetworkConfig;
  readonly text: string;
}

/** See the head of this file. */
export class EtcdMembership implements Membership {
  readonly own: DualPrefix;
  readonly #shared: EtcdShared;
  readonly #lease: OwnLease;
  readonly #cache: TableCache | undefined;
  #configText: string;
  /** What stands in etcd. */
  #host: LeaseHost;
  /** The public IP that was published last, or tried to be; the connection has been made anew for it. */
  #publishedFrom: DualAddress;
  #watch: EtcdWatch | undefined;
  #listener: MembershipListener | undefined;
  /** Why the own lease is lost. */
  #lost: OverlayError | undefined;
  #closed: Promise<void> | undefined;

  constructor(shared: EtcdShared, { config, text }: ReadConfig, { subnets, own }: Acquired, host: LeaseHost) {
    this.own = subnets;
    this.#shared = shared;
    this.#configText = text;
    this.#host = host;
    this.#publishedFrom = host.publicIp;
    this.#cache = shared.tablePath === undefined ? undefined : new TableCache(shared.tablePath, shared.log);
    this.#lease = new OwnLease({
      ...shared,
      networks: prefixesOf(config),
      subnets,
      host,
      own,
      onWritten: () => this.#save(),
      onLost: (reason) => {
        this.#lost = new OverlayError('E_LEASE_LOST', `Own lease lost: ${reason}`);
        this.#listener?.onOwnLeaseLost(this.#lost);
      },
    });
  }

  watch(listener: MembershipListener): void {
    if (this.#listener !== undefined) throw new TypeError('watch() called twice');
    this.#listener = listener;
    if (this.#lost !== undefined) return listener.onOwnLeaseLost(this.#lost);
    this.#watch = new EtcdWatch({
      shared: this.#shared,
      ownKey: this.#lease.key,
      configText: this.#configText,
      onLeases: (update) => {
        listener.onLeases(update);
        this.#save();
      },
      onConfig: (config, text) => {
        this.#configText = text;
        this.#save();
        listener.onConfig(config);
      },
      onOwnKey: (entry) => this.#lease.observe(entry),
    });
  }

  async publish(host: LeaseHost): Promise<void> {
    // Once for each change: a reservation refuses for as long as it stands, and is asked again and again.
    const { publicIp } = host;
    if (!sameDual(publicIp, this.#publishedFrom)) this.#shared.connection.renew();
    this.#publishedFrom = publicIp;
    await this.#lease.publish(host);
    this.#host = host;
    this.#save();
  }

  conditions(): readonly Condition[] {
    const found = [...this.#shared.connection.conditions(), ...this.#lease.conditions()];
    this.#watch?.addConditions(found);
    found.push(...(this.#cache?.conditions() ?? []));
    return found;
  }

  metrics(): readonly MetricFamily[] {
    const { counters: own } = this.#lease;
    return storeCounters({ own, mirror: this.#watch?.counters, table: this.#watch?.table });
  }

  status(): EtcdStatus {
    return statusOf(this.#shared, this.#lease, this.#watch);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.all([this.#lease.close(), this.#watch?.close()]);
    await this.#cache?.close();
  }

  #save(): void {
    this.#cache?.changed(() => this.#tableToSave());
  }

  /** Nothing before the leases of the others are known. */
  #tableToSave(): SavedTable | undefined {
    const leases = this.#watch?.leases();
    if (leases === undefined) return undefined;
    return {
      source: tableSource(this.#shared.layout),
      savedAt: new Date().toISOString(),
      configText: this.#configText,
      ownSubnets: this.own,
      ownHost: this.#host,
      ownLeaseId: this.#lease.etcdLease,
      hintedPublicIp: undefined,
      leases,
    };
  }
}

/** A store's piece of the status document; of one without a membership there is less to tell. */
export function statusOf(
  { connection, layout }: EtcdShared,
  lease?: OwnLease,
  watch?: EtcdWatch,
): EtcdStatus {
  const nothing = { revision: '0', watchEstablished: false, leases: 0, badKeys: 0, badKeyList: [] };
  return {
    kind: 'etcd',
    ...connection.status(),
    prefix: layout.prefix,
    ownLease: lease?.status() ?? null,
    ...(watch?.status() ?? nothing),
  };
}
