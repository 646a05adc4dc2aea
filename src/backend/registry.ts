// The modes by type. Each is loaded only when the config names it, so a host in a kernel mode never loads the addon.

import { removeLeftovers } from '../cleanup/leftovers.js';
import { OverlayError } from '../core/errors.js';
import type { NetworkConfig } from '../config/network-config.js';
import { MemberGuard } from '../firewall/member-guard.js';
import { KERNEL } from '../kernel/kernel.js';
import { familiesOf } from '../net/dual.js';
import type { Backend, BackendContext, BackendMode, HostServices } from './backend.js';

const MODES: Readonly<Record<string, () => Promise<BackendMode>>> = {
  udp: async () => (await import('./udp/udp.js')).UDP,
  vxlan: async () => (await import('./vxlan/vxlan.js')).VXLAN,
  'host-gw': async () => (await import('./host-gw/host-gw.js')).HOST_GW,
};

/** Values of Backend.Type that openBackend() takes. */
export const BACKEND_TYPES: readonly string[] = Object.keys(MODES);

const SERVICES: HostServices = {
  removeLeftovers,
  openGuard: (options) => new MemberGuard(options),
};

function loaderOf(backendType: string): (() => Promise<BackendMode>) | undefined {
  return Object.hasOwn(MODES, backendType) ? MODES[backendType] : undefined;
}

/**
 * Whether the mode that the network config names can carry its address families; of a mode that does not exist nothing
 * is said. Rejects with OverlayError E_CONFIG.
 */
export async function checkFamilies(
  { backendType, networks, source }: NetworkConfig,
  load = loaderOf(backendType),
): Promise<void> {
  const { families } = (await load?.()) ?? {};
  const missing = familiesOf(networks).find((family) => families?.includes(family) === false);
  if (missing === undefined) return;
  const [key, name] = missing === 'v4' ? ['EnableIPv4', 'IPv4'] : ['EnableIPv6', 'IPv6'];
  const text = `${source}: ${key} is true: expected false, because Backend.Type "${backendType}" carries no ${name}`;
  throw new OverlayError('E_CONFIG', text);
}

/** The backend that the network config names. Rejects with OverlayError E_BACKEND or E_CONFIG. */
export async function openBackend(
  context: Omit<BackendContext, 'kernel' | 'services'>,
  { kernel = KERNEL, services = SERVICES }: Partial<Pick<BackendContext, 'kernel' | 'services'>> = {},
): Promise<Backend> {
  const { backendType, source } = context.config;
  const load = loaderOf(backendType);
  if (load === undefined) {
    const known = BACKEND_TYPES.join(', ');
    const text = `${source}: Unknown backend type "${backendType}": expected one of ${known}`;
    throw new OverlayError('E_BACKEND', text);
  }
  await checkFamilies(context.config);
  return (await load()).open({ ...context, kernel, services });
}
