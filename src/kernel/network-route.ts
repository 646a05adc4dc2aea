// The udp mode's one route: the whole Network leads into our device. It is added, and never takes another's place.
//
// When somebody else has made a route to exactly the Network, at whatever metric, that is a conflict: ours is not
// added. When the kernel adds a connected route to it later, ours is removed, because a host must not lose its own
// network.

import { OverlayError } from '../core/errors.js';
import type { Kernel } from './kernel.js';
import type { Link } from './link.js';
import { describeRoute, PROTOCOL_KERNEL, type Route } from './route.js';
import {
  type Address,
  formatAddress,
  formatPrefix,
  type Prefix,
  prefixCovers,
  prefixEquals,
  prefixesOverlap,
  prefixOf,
} from '../net/prefix.js';

/** @throws OverlayError E_CONFIG when the Network is, or lies in, the network that `uplink` connects this host to. */
export function checkUplinkNetwork(network: Prefix<Address>, uplink: Link): void {
  for (const { address, length } of uplink.addresses) {
    const connected = prefixOf(address, length);
    if (!prefixCovers(connected, network)) continue;
    throw new OverlayError(
      'E_CONFIG',
      `Network ${formatPrefix(network)} is in the network of interface ${uplink.name} ` +
        `(${formatAddress(address)}/${length}): choose one that no host's interface is in`,
    );
  }
}

/** Whose route is in the way, in words; undefined when there is none. Pure. */
export function describeConflict(
  routes: readonly Route[],
  network: Prefix<Address>,
  device: string,
): string | undefined {
  const foreign = foreignRoutes(routes, network, device)[0];
  if (foreign === undefined) return undefined;
  return `the route to ${describeRoute(foreign)} is not ours: the overlay has none`;
}

/**
 * Whose route takes packets to `subnet`, or to a part of it, before ours, in words; undefined when none does. `foreign`
 * are the routes of others, `length` is the prefix length of ours: the kernel takes the longer one. Pure.
 */
export function describeShadow(
  subnet: Prefix<Address>,
  foreign: readonly Route[],
  length: number,
): string | undefined {
  const shadow = foreign.find(({ prefix }) => prefix.length > length && prefixesOverlap(prefix, subnet));
  if (shadow === undefined) return undefined;
  return `loses packets to another route, which is more specific than ours: ${describeRoute(shadow)}`;
}

function foreignRoutes(routes: readonly Route[], network: Prefix<Address>, device: string): Route[] {
  return routes.filter((route) => prefixEquals(route.prefix, network) && route.device !== device);
}

/** Removes the route of a Network that `device` carried before. Rejects with OverlayError E_KERNEL. */
export async function removeNetworkRoute(
  kernel: Kernel,
  network: Prefix<Address>,
  device: string,
): Promise<void> {
  const routes = await kernel.list.routes({ exact: network });
  if (!routes.some((route) => route.device === device && prefixEquals(route.prefix, network))) return;
  await change(kernel, `route del ${wordsOf(network, device)}`);
}

/**
 * Makes the route of the Network if nobody else has one. Otherwise resolves with what is in the way, in words. Rejects
 * with OverlayError E_KERNEL.
 */
export async function syncNetworkRoute(
  kernel: Kernel,
  network: Prefix<Address>,
  device: string,
  onAdded: () => void = () => undefined,
): Promise<string | undefined> {
  const routes = await kernel.list.routes({ exact: network });
  const isThere = routes.some((route) => route.device === device && prefixEquals(route.prefix, network));
  const foreign = foreignRoutes(routes, network, device);
  if (isThere) {
    if (!foreign.some(({ protocol }) => protocol === PROTOCOL_KERNEL)) return undefined;
    await change(kernel, `route del ${wordsOf(network, device)}`);
  } else if (foreign.length === 0) {
    try {
      await change(kernel, `route add ${wordsOf(network, device)}`);
      onAdded();
      return undefined;
    } catch (error) {
      // Somebody was faster; a new list tells who.
      if (!(error instanceof OverlayError && error.message.includes('File exists'))) throw error;
      return describeConflict(await kernel.list.routes({ exact: network }), network, device);
    }
  }
  return describeConflict(foreign, network, device);
}

/** Scope global and protocol boot, as flannel's own route: nothing else tells the two apart. */
function wordsOf(network: Prefix<Address>, device: string): string {
  return `${formatPrefix(network)} dev ${device} scope global`;
}

async function change(kernel: Kernel, line: string): Promise<void> {
  const [failure] = await kernel.perform('ip', [line]);
  if (failure !== undefined) throw new OverlayError('E_KERNEL', `"ip ${line}" failed: ${failure.message}`);
}
