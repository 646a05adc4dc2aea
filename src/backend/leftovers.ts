// What another mode of ours left in the kernel, removed once the mode in force carries the traffic.
//
// A mode leaves its state behind on purpose, so that a restart loses nothing; after a change of the network config's
// backend type that state is in the way (its routes are more specific than the udp mode's one route). Only what bears
// our mark goes: VXLAN devices with our alias, the persistent TUN, routes of our protocol, the guard of a device's VNI.

import { ipBatch, meansGone, ROUTE_PROTOCOL } from '../kernel/ip.js';
import { deleteLink, listLinks } from '../kernel/link.js';
import { deleteRouteLine, listRoutes } from '../kernel/route.js';
import { removeGuard } from '../firewall/member-guard.js';
import { OverlayError } from '../errors.js';
import { DEVICE_ALIAS, UDP_DEVICE } from './device-names.js';
import type { Link } from '../kernel/link.js';
import type { Logger } from '../ops/log.js';

export interface LeftoverOptions {
  /** The device of the mode in force; it and the routes on it stay. */
  readonly device: string | undefined;
  /** The mode in force looks after all routes of our protocol itself (vxlan, host-gw). */
  readonly ownsRoutes: boolean;
  readonly log: Logger;
}

/** Removes what is left of other modes. Rejects with OverlayError E_KERNEL or E_FIREWALL. */
export async function removeLeftovers(options: LeftoverOptions): Promise<void> {
  const { device, ownsRoutes, log } = options;
  if (!ownsRoutes) {
    const routes = (await listRoutes({ protocol: ROUTE_PROTOCOL })).filter((route) => {
      return route.type === 'unicast' && route.device !== device;
    });
    if (routes.length > 0) log.info({ routes: routes.length }, 'removing routes of another mode');
    for (const { line, message } of await ipBatch(routes.map((route) => deleteRouteLine(route)))) {
      if (!meansGone(message)) throw new OverlayError('E_KERNEL', `"ip ${line}" failed: ${message}`);
    }
  }
  for (const link of await listLinks()) {
    if (link.name === device || !isOurDevice(link)) continue;
    log.info({ device: link.name }, 'removing the device of another mode');
    if (link.kind === 'vxlan') await removeGuardOf(link);
    await deleteLink(link.name);
  }
}

/** Whether we made a device and left it. A TUN without persistence belongs to a flanneld that is running. */
export function isOurDevice(link: Link): boolean {
  if (link.kind === 'vxlan') return link.alias === DEVICE_ALIAS;
  return link.kind === 'tun' && link.name === UDP_DEVICE && link.data['persist'] === true;
}

async function removeGuardOf(link: Link): Promise<void> {
  try {
    await removeGuard(Number(link.data['id']));
  } catch (error) {
    // Without nft on this host no guard was ever made.
    if (!(error instanceof OverlayError && error.cause !== undefined)) throw error;
  }
}
