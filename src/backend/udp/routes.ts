// The kernel's routes as the udp mode needs them: its own one, of the whole Network of each family; those of others
// that stand in its way; and whether a public IP is reached through our own device, which would encapsulate itself
// without end.

import { type Condition, condition, conditionOfMany } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import type { Kernel } from '../../kernel/kernel.js';
import { describeShadow, removeNetworkRoute, syncNetworkRoute } from '../../kernel/network-route.js';
import type { Route } from '../../kernel/route.js';
import type { Peer } from '../../lease/lease.js';
import { type FamilyName, familiesOf } from '../../net/dual.js';
import {
  type Address,
  type DualAddress,
  type DualPrefix,
  formatPrefix,
  type Prefix,
  prefixContains,
  prefixCovers,
} from '../../net/prefix.js';

export class OverlayRoutes {
  readonly #kernel: Kernel;
  readonly #networks: DualPrefix;
  readonly #log: Logger;
  /** Prefixes that may be reached through our own device. A peer outside of them needs no look into the kernel. */
  #tunnelled: readonly Prefix<Address>[] = [];
  /** Whose routes stand where ours should. */
  #conflicts: readonly string[] = [];
  /** Routes of others inside the Network that no peer should be behind, and what they do to which. */
  #foreign: readonly Route[] = [];
  #shadows: readonly string[] = [];

  constructor(kernel: Kernel, networks: DualPrefix, log: Logger) {
    this.#kernel = kernel;
    this.#networks = networks;
    this.#log = log;
  }

  /** Makes our routes where they can be, and looks at those of others. `onAdded` is called for one that was missing. */
  async sync(device: string, own: DualPrefix, onAdded: (network: Prefix<Address>) => void): Promise<void> {
    const families = familiesOf(this.#networks);
    const found = await Promise.all(families.map((family) => this.#syncFamily(family, device, own, onAdded)));
    this.#tunnelled = found.flatMap(({ tunnelled }) => tunnelled);
    this.#foreign = found.flatMap(({ foreign }) => foreign);
    const conflicts = found.flatMap(({ conflict }) => conflict ?? []);
    for (const conflict of conflicts) if (!this.#conflicts.includes(conflict)) this.#log.error(conflict);
    this.#conflicts = conflicts;
  }

  async #syncFamily(
    family: FamilyName,
    device: string,
    own: DualPrefix,
    onAdded: (network: Prefix<Address>) => void,
  ): Promise<FamilyRoutes> {
    const { list } = this.#kernel;
    const network: Prefix<Address> = this.#networks[family]!;
    const ownSubnet: Prefix<Address> | undefined = own[family];
    const [routes, within, conflict] = await Promise.all([
      list.routes({ device, inAllTables: true, family: family === 'v4' ? 4 : 6 }),
      list.routes({ within: network }),
      syncNetworkRoute(this.#kernel, network, device, () => onAdded(network)),
    ]);
    return {
      // Ours may be being made beside the listing.
      tunnelled: [network, ...routes.map((route) => route.prefix)],
      // Those of our own pods are many, and in nobody's way.
      foreign: within.filter(
        ({ device: other, prefix }) =>
          other !== device && (ownSubnet === undefined || !prefixCovers(ownSubnet, prefix)),
      ),
      conflict,
    };
  }

  /** Removes the route of a Network that `device` carried in an earlier run. */
  async removeFormer(network: Prefix<Address>, device: string): Promise<void> {
    await removeNetworkRoute(this.#kernel, network, device);
  }

  /** Whether each address is reached by another way than `device`, as the socket of its family sends. */
  async areReachable(
    outers: readonly Address[],
    device: string,
    socket: { readonly address: DualAddress; readonly port: number },
  ): Promise<boolean[]> {
    const doubtful = [...new Set(outers)].filter((address) =>
      this.#tunnelled.some((prefix) => prefixContains(prefix, address)),
    );
    const inTunnel = new Set<Address>();
    for (const family of familiesOf(socket.address)) {
      const asked = doubtful.filter((address) => (typeof address === 'number') === (family === 'v4'));
      if (asked.length === 0) continue;
      // The address of the socket may have a table of its own, by `ip rule`.
      const options = { socket: { address: socket.address[family]!, port: socket.port } };
      const found = await this.#kernel.lookup.routes(asked, options);
      for (const [i, address] of asked.entries()) if (found[i]?.device === device) inTunnel.add(address);
    }
    return outers.map((address) => !inTunnel.has(address));
  }

  /** Finds the peers that routes of others, as sync() saw them, take packets from. */
  findShadows(peers: readonly Peer[]): void {
    this.#shadows = this.#foreign.length === 0 ? [] : peers.flatMap((peer) => this.#shadowsOf(peer));
  }

  conditions(): readonly Condition[] {
    const found: Condition[] = [];
    if (this.#conflicts.length > 0) found.push(condition('network-route', this.#conflicts.join('; ')));
    if (this.#shadows.length > 0) found.push(conditionOfMany('peer-route-conflict', this.#shadows));
    return found;
  }

  #shadowsOf({ subnets }: Peer): readonly string[] {
    return familiesOf(subnets).flatMap((family) => {
      const subnet: Prefix<Address> = subnets[family]!;
      const shadow = describeShadow(subnet, this.#foreign, this.#networks[family]!.length);
      return shadow === undefined ? [] : [`peer ${formatPrefix(subnet)} ${shadow}`];
    });
  }
}

interface FamilyRoutes {
  readonly tunnelled: readonly Prefix<Address>[];
  readonly foreign: readonly Route[];
  readonly conflict: string | undefined;
}
