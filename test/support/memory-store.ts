// A store in memory that several hosts share, with the semantics of etcd: a lease is a key that is put and deleted, of
// two hosts that want one subnet the first has it, and a host that comes back finds its own.

import type {
  Publication,
  HostHints,
  LeaseStore,
  Membership,
  MembershipListener,
  SavedStart,
} from '../../src/store/store.js';
import { parseNetworkConfig, type NetworkConfig } from '../../src/config/network-config.js';
import { type Condition, condition } from '../../src/core/conditions.js';
import { OverlayError } from '../../src/core/errors.js';
import { orAbort } from '../../src/core/waiting.js';
import type { Lease, LeaseHost, LeaseEvent } from '../../src/lease/lease.js';
import { fitsConfig, pickFreeSubnet } from '../../src/lease/subnet-picker.js';
import { formatPrefix, type Prefix, prefixEquals } from '../../src/net/prefix.js';

export class MemoryNetwork {
  /** The store answers nobody while it is away. */
  isAway = false;
  config: NetworkConfig;
  /** What it says of each host that reads the config. */
  hints: HostHints = {};
  /** Hosts that have said that pods may be started. */
  announced = 0;
  readonly leases = new Map<string, Lease>();
  readonly #watchers = new Map<MembershipListener, Prefix>();
  #revision = 0n;
  #back: (() => void)[] = [];

  constructor(config: string) {
    this.config = parseNetworkConfig(config, 'memory');
  }

  /** One host's way to it. `saved` is what the last run of that host has left. */
  store(saved?: SavedStart): LeaseStore & { readonly isClosed: boolean } {
    const closing = new AbortController();
    const part = this.#part();
    return {
      kind: 'static',
      ...part,
      ...(saved === undefined ? {} : { savedStart: saved }),
      readConfig: async (signal) => {
        await this.#reached(AbortSignal.any([signal, closing.signal]));
        const { config, hints } = this;
        return { config, hints, join: (publication, until) => this.#join(config, publication, until) };
      },
      get isClosed() {
        return closing.signal.aborted;
      },
      close: () => closing.abort(new Error('store closed')),
    };
  }

  comeBack(): void {
    this.isAway = false;
    for (const resolve of this.#back.splice(0)) resolve();
  }

  setConfig(config: string): void {
    this.config = parseNetworkConfig(config, 'memory');
    for (const listener of this.#watchers.keys()) listener.onConfig(this.config);
  }

  put(lease: Lease): void {
    this.leases.set(lease.id, lease);
    this.#tell({ kind: 'put', lease });
  }

  /** Whoever has it loses it. */
  delete(id: string): void {
    const lease = this.leases.get(id);
    if (lease === undefined) return;
    this.leases.delete(id);
    for (const [listener, own] of [...this.#watchers]) {
      if (!prefixEquals(own, lease.subnets.v4!)) continue;
      this.#watchers.delete(listener);
      listener.onOwnLeaseLost(new OverlayError('E_LEASE_LOST', `Own lease lost: ${id} was deleted`));
    }
    this.#tell({ kind: 'delete', id });
  }

  #tell(event: LeaseEvent): void {
    for (const listener of this.#watchers.keys()) listener.onLeases({ kind: 'events', events: [event] });
  }

  async #reached(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    while (this.isAway) await orAbort(new Promise<void>((resolve) => this.#back.push(resolve)), signal);
  }

  async #join(
    config: NetworkConfig,
    { host, previousSubnets }: Publication,
    signal: AbortSignal,
  ): Promise<Membership> {
    await this.#reached(signal);
    const all = [...this.leases.values()];
    const isTaken = (subnet: Prefix): boolean =>
      all.some(({ subnets, host: other }) => {
        const isOther = other.publicIp.v4 !== host.publicIp.v4;
        return isOther && prefixEquals(subnets.v4!, subnet);
      });
    const wanted = previousSubnets?.v4;
    const isFree = wanted !== undefined && fitsConfig(config, { v4: wanted }) && !isTaken(wanted);
    const former = all.find((lease) => lease.host.publicIp.v4 === host.publicIp.v4)?.subnets.v4;
    const taken = all.map(({ subnets }) => subnets.v4!);
    const own = isFree ? wanted : (former ?? pickFreeSubnet(config.networks.v4!, taken, () => 0));
    if (own === undefined) throw new OverlayError('E_LEASE', 'no subnet is free');
    const publish = async (published: LeaseHost): Promise<void> => {
      await this.#reached(signal);
      const created = ++this.#revision;
      const seniority = { created, written: created };
      this.put({
        id: formatPrefix(own).replace('/', '-'),
        subnets: { v4: own },
        host: published,
        seniority,
      });
    };
    await publish(host);
    let listening: MembershipListener | undefined;
    return {
      own: { v4: own },
      publish,
      announce: () => void this.announced++,
      ...this.#part(),
      watch: (listener) => {
        listening = listener;
        this.#watchers.set(listener, own);
        listener.onLeases({ kind: 'snapshot', leases: [...this.leases.values()] });
      },
      close: () => {
        if (listening !== undefined) this.#watchers.delete(listening);
        return Promise.resolve();
      },
    };
  }

  #part() {
    return {
      conditions: (): readonly Condition[] =>
        this.isAway ? [condition('store-unreachable', 'the store is away')] : [],
      metrics: () => [],
      status: () => ({ kind: 'static' as const, file: 'memory', leases: this.leases.size }),
    };
  }
}
