// Removes what another mode of ours left in the kernel, once the mode in force carries the traffic.
//
// A mode leaves its state behind on purpose, so that a restart loses nothing; after a change of the network config's
// backend type that state is in the way (its routes are more specific than the udp mode's one route). Only what we made
// is removed, and only what belongs to our network or to the one that the last run on this host served: devices with
// our mark, routes of our protocol, the guard of a device's VNI. Another daemon of this host may carry another network.

import { ipBatch, meansGone, ROUTE_PROTOCOL } from '../kernel/ip.js';
import { findLanePins, removeLanePins } from '../kernel/lane-pins.js';
import { deleteLink, listLinks } from '../kernel/link.js';
import { deleteRouteLine, listRoutes } from '../kernel/route.js';
import { removeGuard } from '../firewall/member-guard.js';
import { OverlayError } from '../core/errors.js';
import { type Address, type Family, familyOf, type Prefix, prefixCovers } from '../net/prefix.js';
import { isDeviceOf } from '../kernel/ours.js';
import type { Link } from '../kernel/link.js';
import type { Logger } from '../core/log.js';

export interface LeftoverOptions {
  /** Networks whose state is removed. */
  readonly networks: readonly Prefix<Address>[];
  /** The devices of the mode in force; they and the routes on them stay. */
  readonly devices: readonly string[];
  /** The mode in force looks after all routes of our protocol itself (vxlan, host-gw). */
  readonly ownsRoutes: boolean;
  readonly log: Logger;
}

/** Removes what is left of other modes. Rejects with OverlayError E_KERNEL or E_FIREWALL. */
export async function removeLeftovers(options: LeftoverOptions): Promise<void> {
  const { networks, devices, ownsRoutes, log } = options;
  const isInForce = (device: string | undefined): boolean => device !== undefined && devices.includes(device);
  if (!ownsRoutes) {
    const families = new Set(networks.map(({ address }) => familyOf(address)));
    const lists = await Promise.all(
      [...families].map((family) => listRoutes({ protocol: ROUTE_PROTOCOL, family })),
    );
    const routes = lists.flat().filter((route) => {
      const isOurs = networks.some((network) => prefixCovers(network, route.prefix));
      return isOurs && route.type === 'unicast' && !isInForce(route.device);
    });
    if (routes.length > 0) log.info({ routes: routes.length }, 'removing routes of another mode');
    for (const { line, message } of await ipBatch(routes.map((route) => deleteRouteLine(route)))) {
      if (!meansGone(message)) throw new OverlayError('E_KERNEL', `"ip ${line}" failed: ${message}`);
    }
  }
  for (const link of await listLinks()) {
    if (isInForce(link.name) || !isDeviceOf(link, networks)) continue;
    log.info({ device: link.name }, 'removing the device of another mode');
    await removeDevice(link);
  }
}

/**
 * Removes a device of ours, and with a VXLAN device the source check of its VNI, with a TUN device its kernel lane:
 * one whose device is gone drops what it takes. Rejects with OverlayError.
 */
export async function removeDevice(link: Link): Promise<void> {
  if (link.kind === 'vxlan') await removeGuardOf(link);
  for (const { device, folder } of findLanePins()) if (device === link.name) await removeLanePins(folder);
  await deleteLink(link.name);
}

/** Of the datagrams of a VXLAN device. */
function vxlanFamily({ data }: Link): Family {
  return data['local6'] === undefined ? 4 : 6;
}

async function removeGuardOf(link: Link): Promise<void> {
  try {
    await removeGuard(Number(link.data['id']), vxlanFamily(link));
  } catch (error) {
    // Without nft on this host no guard was ever made.
    if (!(error instanceof OverlayError && error.cause !== undefined)) throw error;
  }
}
