// The part of the controller manager that gives nodes their podCIDRs: one of each cluster CIDR, in order, each range
// again only when all others had their turn. A moment after the node was created, and as a write of its own, so that
// watches see the node without one first.

import { type Address, lastOf, parsePrefix, type Prefix } from '../../../src/net/prefix.js';
import { formatIpv4, ipv4 } from '../../../src/net/ipv4.js';
import { formatIpv6, ipv6 } from '../../../src/net/ipv6.js';
import { objectAt } from './api-object.js';
import type { ObjectStore } from './object-store.js';
import { NODES } from './resources.js';
import type { StoredObject } from './stored-object.js';

export interface ClusterCidr {
  /** "10.244.0.0/16" or IPv6. */
  readonly cidr: string;
  /** Length of a node's part. */
  readonly nodeMask: number;
}

/** Calls `assign` for nodes without a podCIDR, while there is room. The result ends that. */
export function assignPodCidrs(
  store: ObjectStore,
  clusters: readonly ClusterCidr[],
  assign: (name: string, podCidrs: string[]) => void,
): () => void {
  const ranges = clusters.map((cluster) => new Range(cluster));
  const consider = (node: StoredObject): void => {
    const cidrs = podCidrsOf(node);
    if (cidrs.length > 0) return ranges.forEach((range) => range.take(cidrs));
    if (ranges.every((range) => range.hasRoom))
      assign(
        node.name,
        ranges.map((range) => range.next()),
      );
  };
  store.list(NODES).forEach(consider);
  return store.onChange(({ type, object }) => {
    if (object.resource !== NODES) return;
    if (type === 'DELETED') for (const range of ranges) range.release(podCidrsOf(object));
    if (type !== 'ADDED') return;
    setImmediate(() => {
      const now = store.get(NODES, object.key);
      if (now?.uid === object.uid) consider(now);
    });
  });
}

function podCidrsOf(node: StoredObject): readonly string[] {
  const { podCIDRs } = objectAt(node.json(), 'spec');
  return Array.isArray(podCIDRs) ? (podCIDRs as string[]) : [];
}

class Range {
  readonly #isIpv6: boolean;
  readonly #first: bigint;
  readonly #count: number;
  readonly #nodeMask: number;
  readonly #taken = new Set<string>();
  #candidate = 0;

  constructor({ cidr, nodeMask }: ClusterCidr) {
    const cluster: Prefix<Address> | undefined = parsePrefix(cidr) ?? parsePrefix(cidr, 6);
    if (cluster === undefined) throw new Error(`cluster CIDR "${cidr}": expected address/length`);
    this.#isIpv6 = typeof cluster.address === 'bigint';
    this.#first = BigInt(cluster.address);
    this.#nodeMask = nodeMask;
    this.#count = Number((BigInt(lastOf<Address>(cluster)) - this.#first + 1n) / this.#size);
  }

  get hasRoom(): boolean {
    return this.#taken.size < this.#count;
  }

  next(): string {
    for (;;) {
      const cidr = this.#at(this.#candidate);
      this.#candidate = (this.#candidate + 1) % this.#count;
      if (this.#taken.has(cidr)) continue;
      this.#taken.add(cidr);
      return cidr;
    }
  }

  take(cidrs: readonly string[]): void {
    for (const cidr of cidrs) if (this.#isOurs(cidr)) this.#taken.add(cidr);
  }

  release(cidrs: readonly string[]): void {
    for (const cidr of cidrs) this.#taken.delete(cidr);
  }

  /** Addresses of a node. */
  get #size(): bigint {
    return 1n << BigInt((this.#isIpv6 ? 128 : 32) - this.#nodeMask);
  }

  #at(index: number): string {
    const address = this.#first + BigInt(index) * this.#size;
    const text = this.#isIpv6 ? formatIpv6(ipv6(address)) : formatIpv4(ipv4(Number(address)));
    return `${text}/${this.#nodeMask}`;
  }

  #isOurs(cidr: string): boolean {
    const given = this.#isIpv6 ? parsePrefix(cidr, 6) : parsePrefix(cidr);
    if (given?.length !== this.#nodeMask) return false;
    const offset = BigInt(given.address) - this.#first;
    return offset >= 0n && offset < BigInt(this.#count) * this.#size;
  }
}
