// The kernel's routes as the udp mode needs them: its own one, of the whole Network; those of others that stand in its
// way; and whether a public IP is reached through our own device, which would encapsulate itself without end.

import { type Condition, condition, conditionOfMany } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import type { Kernel } from '../../kernel/kernel.js';
import { describeShadow, removeNetworkRoute, syncNetworkRoute } from '../../kernel/network-route.js';
import type { Route } from '../../kernel/route.js';
import type { Peer } from '../../lease/lease.js';
import type { Ipv4 } from '../../net/ipv4.js';
import { type Address, formatPrefix, type Prefix, prefixContains, prefixCovers } from '../../net/prefix.js';

export class OverlayRoutes {
  readonly #kernel: Kernel;
  readonly #network: Prefix;
  readonly #log: Logger;
  /** Prefixes that may be reached through our own device. A peer outside of them needs no look into the kernel. */
  #tunnelled: readonly Prefix<Address>[] = [];
  /** Whose route stands where ours should. */
  #conflict: string | undefined;
  /** Routes of others inside the Network that no peer should be behind, and what they do to which. */
  #foreign: readonly Route[] = [];
  #shadows: readonly string[] = [];

  constructor(kernel: Kernel, network: Prefix, log: Logger) {
    this.#kernel = kernel;
    this.#network = network;
    this.#log = log;
  }

  /** Makes our route where it can be, and looks at those of others. `onAdded` is called when ours was missing. */
  async sync(device: string, ownSubnet: Prefix, onAdded: () => void): Promise<void> {
    const { list } = this.#kernel;
    const [routes, within, conflict] = await Promise.all([
      list.routes({ device, inAllTables: true }),
      list.routes({ within: this.#network }),
      syncNetworkRoute(this.#kernel, this.#network, device, onAdded),
    ]);
    // Ours may be being made beside the listing.
    this.#tunnelled = [this.#network, ...routes.map((route) => route.prefix)];
    if (conflict !== undefined && conflict !== this.#conflict) this.#log.error(conflict);
    this.#conflict = conflict;
    // Those of our own pods are many, and in nobody's way.
    this.#foreign = within.filter(
      ({ device: other, prefix }) => other !== device && !prefixCovers(ownSubnet, prefix),
    );
  }

  /** Removes the route of a Network that `device` carried in an earlier run. */
  async removeFormer(network: Prefix<Address>, device: string): Promise<void> {
    await removeNetworkRoute(this.#kernel, network, device);
  }

  /** Whether each peer's public IP is reached by another way than `device`, as the socket sends. */
  async areReachable(
    peers: readonly Peer[],
    device: string,
    socket: { readonly address: Ipv4; readonly port: number },
  ): Promise<boolean[]> {
    const doubtful = [...new Set(peers.map(({ host }) => host.publicIp.v4!))].filter((address) =>
      this.#tunnelled.some((prefix) => prefixContains(prefix, address)),
    );
    // The address of the socket may have a table of its own, by `ip rule`.
    const found = doubtful.length === 0 ? [] : await this.#kernel.lookup.routes(doubtful, { socket });
    const inTunnel = new Set(doubtful.filter((_, i) => found[i]?.device === device));
    return peers.map(({ host }) => !inTunnel.has(host.publicIp.v4!));
  }

  /** Finds the peers that routes of others, as sync() saw them, take packets from. */
  findShadows(peers: readonly Peer[]): void {
    this.#shadows = this.#foreign.length === 0 ? [] : peers.flatMap((peer) => this.#shadowOf(peer) ?? []);
  }

  conditions(): readonly Condition[] {
    const found: Condition[] = [];
    if (this.#conflict !== undefined) found.push(condition('network-route', this.#conflict));
    if (this.#shadows.length > 0) found.push(conditionOfMany('peer-route-conflict', this.#shadows));
    return found;
  }

  #shadowOf({ subnets }: Peer): string | undefined {
    const shadow = describeShadow(subnets.v4!, this.#foreign, this.#network.length);
    return shadow === undefined ? undefined : `peer ${formatPrefix(subnets.v4!)} ${shadow}`;
  }
}
