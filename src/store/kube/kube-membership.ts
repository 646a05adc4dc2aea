// This host in a network of a Kubernetes cluster: its own Node is kept annotated from the beginning, the others are
// followed from watch() on. What is known is saved for a start without the API server.
//
//   NodeMirror ─┬─► the own Node, to OwnNode
//               └─► NodeTable ─► the listener, and the saved table
//   NetConfigWatch ────────────► the listener

import type { NetworkConfig } from '../../config/network-config.js';
import { type Condition, condition } from '../../core/conditions.js';
import type { MetricFamily } from '../../core/metric.js';
import type { LeaseHost, LeaseUpdate } from '../../lease/lease.js';
import { familiesOf, sameDual } from '../../net/dual.js';
import { type DualAddress, type DualPrefix, formatPrefixes } from '../../net/prefix.js';
import type { KubeStatus } from '../../ops/status.js';
import type { Membership, MembershipListener } from '../store.js';
import { type SavedTable, TableCache } from '../table-cache.js';
import { tableSource } from './kube-saved-start.js';
import type { KubeNode, NodeEvent } from './nodes/kube-node.js';
import type { Loss } from './loss.js';
import { NetConfigWatch, type ReadConfig } from './net-config-file.js';
import { NodeMirror } from './nodes/node-mirror.js';
import { NodeTable } from './node-table.js';
import type { OwnNode } from './own-node.js';
import type { KubeShared } from './shared.js';
import { kubeCounters } from './store-counters.js';

/** What a host has once its node says so. */
export interface Joined {
  readonly node: string;
  readonly subnets: DualPrefix;
  readonly own: OwnNode;
  /** The address that an operator wanted this host to publish. */
  readonly hintedPublicIp: DualAddress | undefined;
  readonly loss: Loss;
}

/** What is followed from watch() on. */
interface Following {
  readonly sinceMs: number;
  readonly mirror: NodeMirror;
  readonly table: NodeTable;
  readonly config: NetConfigWatch;
}

/** Even the list of a cluster of 15,000 nodes takes less. */
const FIRST_LIST_MS = 10_000;
/** After a gap hosts wait up to a minute for their turn (node-mirror.ts). */
const RELIST_MS = 120_000;

/** See the head of this file. */
export class KubeMembership implements Membership {
  readonly own: DualPrefix;
  readonly #shared: KubeShared;
  readonly #joined: Joined;
  readonly #cache: TableCache | undefined;
  #configText: string;
  /** Whether the nodes are known: nothing is saved before. */
  #hasSnapshot = false;
  #following: Following | undefined;
  #closed: Promise<void> | undefined;

  constructor(shared: KubeShared, { text }: ReadConfig, joined: Joined) {
    this.own = joined.subnets;
    this.#shared = shared;
    this.#joined = joined;
    this.#configText = text;
    this.#cache = shared.tablePath === undefined ? undefined : new TableCache(shared.tablePath, shared.log);
  }

  watch(listener: MembershipListener): void {
    if (this.#following !== undefined) throw new TypeError('watch() called twice');
    const { client, prefix, log, clock, random, graceMs, netConfigPath: path } = this.#shared;
    this.#joined.loss.listen((error) => listener.onOwnLeaseLost(error));
    const emit = (update: LeaseUpdate): void => {
      listener.onLeases(update);
      this.#save();
    };
    const onConfig = (config: NetworkConfig, text: string): void => {
      this.#configText = text;
      this.#save();
      listener.onConfig(config);
    };
    const { node, own } = this.#joined;
    const table = new NodeTable({
      log,
      clock,
      graceMs,
      emit,
      families: familiesOf(this.own),
      own: { node, host: () => own.host },
    });
    const mirror = new NodeMirror({
      client,
      reading: { prefix, statusOf: this.#joined.node },
      log,
      clock,
      random,
      listener: {
        onSnapshot: (nodes) => this.#onSnapshot(table, nodes),
        onEvents: (events) => this.#onEvents(table, events),
      },
    });
    const config = new NetConfigWatch({ path, text: this.#configText, log, onConfig });
    this.#following = { mirror, table, config, sinceMs: clock.nowMs() };
  }

  async publish(host: LeaseHost): Promise<void> {
    const { own } = this.#joined;
    // The connection is bound to the address of before.
    if (!sameDual(host.publicIp, own.host.publicIp)) this.#shared.client.renew();
    await own.publish(host);
    this.#save();
  }

  announce(): void {
    this.#joined.own.announce();
  }

  conditions(): readonly Condition[] {
    const { mirror, table, config } = this.#following ?? {};
    const fault = mirror?.fault;
    return [
      ...(fault === undefined ? this.#lateness() : [condition('store-unreachable', fault)]),
      ...this.#joined.own.conditions(),
      ...(table?.conditions() ?? []),
      ...(config?.conditions() ?? []),
      ...(this.#cache?.conditions() ?? []),
    ];
  }

  metrics(): readonly MetricFamily[] {
    const { mirror, table } = this.#following ?? {};
    return kubeCounters({ own: this.#joined.own.counters, mirror: mirror?.counters, table });
  }

  status(): KubeStatus {
    const { mirror, table } = this.#following ?? {};
    return {
      kind: 'kube',
      server: this.#shared.client.server,
      node: this.#joined.node,
      podCidr: formatPrefixes(this.own),
      resourceVersion: mirror?.version ?? '',
      watchEstablished: mirror?.isLive ?? false,
      leases: table?.size ?? 0,
      badKeys: table?.badNodes.current ?? 0,
      badKeyList: table?.listBadNodes() ?? [],
    };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const { mirror, table, config } = this.#following ?? {};
    await Promise.all([this.#joined.own.close(), mirror?.close(), config?.close()]);
    table?.close();
    await this.#cache?.close();
  }

  #onSnapshot(table: NodeTable, nodes: readonly KubeNode[]): void {
    this.#joined.own.observe(nodes.find(({ name }) => name === this.#joined.node));
    this.#hasSnapshot = true;
    table.applySnapshot(nodes);
  }

  /** The own node before the others: an alarm shall not wait. */
  #onEvents(table: NodeTable, events: readonly NodeEvent[]): void {
    for (const event of events) {
      const name = event.kind === 'put' ? event.node.name : event.name;
      // Vanished is as missing as deleted: whatever became of it, nobody can read our annotations there.
      if (name === this.#joined.node) this.#joined.own.observe(event.kind === 'put' ? event.node : undefined);
    }
    table.applyEvents(events);
  }

  /** A server may trickle a list for ever, and nothing fails. */
  #lateness(): Condition[] {
    if (this.#following === undefined || this.#following.mirror.isLive) return [];
    const { mirror, sinceMs } = this.#following;
    const { clock, client } = this.#shared;
    const isFirst = mirror.lastHeardMs === undefined;
    const patienceMs = isFirst ? FIRST_LIST_MS : RELIST_MS;
    if (clock.nowMs() - (mirror.lastHeardMs ?? sinceMs) < patienceMs) return [];
    const list = isFirst ? 'the first list' : 'another list';
    const text = `${list} of the nodes at ${client.server} has not come to its end for ${patienceMs / 1000} s`;
    return [condition('store-watch-down', text)];
  }

  #save(): void {
    this.#cache?.changed(() => this.#tableToSave());
  }

  #tableToSave(): SavedTable | undefined {
    const table = this.#following?.table;
    if (table === undefined || !this.#hasSnapshot) return undefined;
    return {
      source: tableSource(this.#shared.prefix),
      savedAt: new Date(this.#shared.now()).toISOString(),
      configText: this.#configText,
      ownSubnets: this.own,
      ownHost: this.#joined.own.host,
      ownLeaseId: 0n,
      hintedPublicIp: this.#joined.hintedPublicIp,
      leases: [...table.leases()],
    };
  }
}
