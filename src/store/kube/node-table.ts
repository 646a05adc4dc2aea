// The nodes of a cluster as leases: annotations and podCIDRs decoded, bad ones left out, as the updates a
// MembershipListener gets.
//
// | what the node says                             | what becomes of its lease                                  |
// | ---------------------------------------------- | ---------------------------------------------------------- |
// | not managed, or no podCIDR                     | it has none; one that it had is removed                    |
// | managed, well written                          | that one                                                   |
// | managed, badly written                         | the last good one of the same Node object stays; else none |
// | deleted                                        | removed, by the node's name                                |
// | vanished, because the server's history went back | kept for a grace time (../held-leases.ts)                |
//
// The own lease is the one of the node of that name, and says what this host publishes: in its annotation another
// public IP may stand, be it an operator's (public-ip-overwrite) or a stranger's, and it is still our own.
//
// A lease is known by the name of its node, so two nodes with one podCIDR are two leases, of which the elder is used
// (lease/lease-view.ts), and the end of one does not take the other's.

import { type Condition, condition } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import type { Clock } from '../../core/waiting.js';
import { flatLease } from '../../lease/flat-lease.js';
import type { Lease, LeaseHost, LeaseEvent, LeaseUpdate } from '../../lease/lease.js';
import type { FamilyName } from '../../net/dual.js';
import { HeldLeases } from '../held-leases.js';
import { BadKeyWarner } from '../warner.js';
import { hostOf, isManaged } from './annotations.js';
import type { KubeNode, NodeEvent } from './nodes/kube-node.js';
import { lackOf, podSubnets } from './pod-cidr.js';

export interface NodeTableOptions {
  readonly log: Logger;
  readonly clock: Clock;
  /** See HeldLeasesOptions. */
  readonly graceMs: number;
  readonly maxLeases?: number;
  /** Of the network. */
  readonly families: readonly FamilyName[];
  /** The node of this host, and what it publishes. */
  readonly own: { readonly node: string; readonly host: () => LeaseHost };
  emit(update: LeaseUpdate): void;
}

/** See the head of this file. */
export class NodeTable {
  readonly #options: NodeTableOptions;
  readonly #held: HeldLeases;
  /** Node object of each lease: a node made anew has nothing of the former one. */
  readonly #uids = new Map<string, string>();
  readonly #warner: BadKeyWarner;

  constructor(options: NodeTableOptions) {
    this.#options = options;
    const { clock, graceMs, maxLeases, log } = options;
    const onGraceOver = ({ id }: Lease): void => {
      log.warn({ node: id }, `node ${id} did not come back: lease removed`);
      this.#emit((out) => this.#delete(id, out));
    };
    this.#held = new HeldLeases({ store: 'the API server', clock, graceMs, maxLeases, onGraceOver });
    this.#warner = new BadKeyWarner(log, clock, 'node');
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

  /** Nodes that are members and cannot be understood: all since the start, and those of now. */
  get badNodes(): { readonly total: number; readonly current: number } {
    return { total: this.#warner.total, current: this.#warner.current };
  }

  listBadNodes(): { readonly key: string; readonly problem: string }[] {
    return this.#warner.list();
  }

  conditions(): Condition[] {
    const found = this.#held.conditions();
    const { current } = this.#warner;
    if (current > 0)
      found.push(condition('lease-unreadable', `${current} nodes cannot be understood`, current));
    return found;
  }

  /** Replaces everything by the nodes of a first list. */
  applySnapshot(nodes: Iterable<KubeNode>): void {
    this.#held.clear();
    this.#uids.clear();
    for (const node of nodes) {
      const lease = this.#decode(node);
      if (typeof lease !== 'object') continue;
      this.#held.add(lease);
      this.#uids.set(node.name, node.uid);
    }
    this.#options.emit({ kind: 'snapshot', leases: [...this.#held.values()] });
  }

  applyEvents(events: readonly NodeEvent[]): void {
    this.#emit((out) => {
      for (const event of events) {
        if (event.kind === 'put') this.#put(event.node, out);
        else if (event.kind === 'delete') this.#delete(event.name, out);
        else this.#held.keepVanished(event.name);
      }
    });
  }

  /** Ends all grace timers. */
  close(): void {
    this.#held.close();
  }

  #emit(change: (out: LeaseEvent[]) => void): void {
    const out: LeaseEvent[] = [];
    change(out);
    if (out.length > 0) this.#options.emit({ kind: 'events', events: out });
  }

  #put(node: KubeNode, out: LeaseEvent[]): void {
    const lease = this.#decode(node);
    const isSameNode = this.#uids.get(node.name) === node.uid;
    if (lease === 'bad' && isSameNode) return;
    if (typeof lease === 'object') {
      this.#uids.set(node.name, node.uid);
      return this.#held.put(lease, out);
    }
    this.#uids.delete(node.name);
    this.#held.delete(node.name, out);
  }

  #delete(name: string, out: LeaseEvent[]): void {
    this.#warner.forget(name);
    this.#uids.delete(name);
    this.#held.delete(name, out);
  }

  /** The lease of a node; 'none' when it has none, 'bad' when nobody can tell. */
  #decode(node: KubeNode): Lease | 'none' | 'bad' {
    const { name, podCidrs, annotations, createdMs, resourceVersion } = node;
    if (!isManaged(annotations)) return this.#good(name, 'none');
    const { families, own } = this.#options;
    const host = hostOf(annotations, families);
    const subnets = podSubnets(podCidrs, families);
    const bad = [host, subnets].find((part) => !part.ok);
    if (bad?.ok === false) {
      this.#warner.warn(name, name, bad.problem);
      return 'bad';
    }
    const isOwn = name === own.node;
    const subnet = subnets.ok ? subnets.value : undefined;
    // An own lease of fewer families than this host holds would be another host's, and no good one.
    const isLacking = subnet === undefined || (isOwn && lackOf(subnet, families) !== undefined);
    if (!host.ok || isLacking) return this.#good(name, 'none');
    if (!this.#held.hasRoomFor(name)) return 'none';
    const seniority = { created: BigInt(createdMs), written: versionNumber(resourceVersion) };
    const said = isOwn ? own.host() : host.value;
    return this.#good(name, flatLease(name, subnet, said, seniority));
  }

  #good<T>(name: string, lease: T): T {
    this.#warner.forget(name);
    return lease;
  }
}

/** Opaque by contract, but of every server that there is a number, which tells the later write. */
function versionNumber(resourceVersion: string): bigint {
  return /^\d{1,20}$/.test(resourceVersion) ? BigInt(resourceVersion) : 0n;
}
