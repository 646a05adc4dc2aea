// The backends by type. Each is loaded only when the config names it, so a host in a kernel mode never loads the addon.

import type { BackendFactory } from './backend.js';

export const BACKENDS: Readonly<Record<string, () => Promise<BackendFactory>>> = {
  udp: async () => (await import('./udp/udp.js')).openUdpBackend,
  vxlan: async () => (await import('./vxlan/vxlan.js')).openVxlanBackend,
  'host-gw': async () => (await import('./host-gw/host-gw.js')).openHostGwBackend,
};
