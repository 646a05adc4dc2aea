// What an overlay uses of the host that it runs on; tests have another host.

import type { Backend, BackendContext } from '../backend/backend.js';
import { BACKENDS } from '../backend/registry.js';
import type { Condition } from '../core/conditions.js';
import type { Closable } from '../core/closing.js';
import { OverlayError } from '../core/errors.js';
import type { Logger } from '../core/log.js';
import { Firewall, type FirewallOptions } from '../firewall/firewall.js';
import { hasNft } from '../firewall/nft.js';
import { openNftMonitor } from '../firewall/nft-monitor.js';
import { checkHost, type HostCheckOptions } from '../kernel/host-checks.js';
import { type Link, listLinks } from '../kernel/link.js';
import { openMonitor } from '../kernel/monitor.js';
import { chooseExternalInterface } from '../kernel/underlay.js';
import type { OpenIcmp } from '../probe/probers.js';
import { openRawIcmp } from '../probe/raw-icmp.js';

/** The rules of one overlay. */
export type OverlayFirewall = Pick<
  Firewall,
  'open' | 'resync' | 'close' | 'conditions' | 'metrics' | 'usesNft'
>;

export interface Surroundings {
  readonly chooseInterface: typeof chooseExternalInterface;
  readonly listLinks: (signal: AbortSignal) => Promise<readonly Link[]>;
  /** A backend of this type. Rejects with OverlayError E_BACKEND when there is no such type. */
  readonly openBackend: (type: string, context: BackendContext) => Promise<Backend>;
  readonly openFirewall: (options: FirewallOptions) => OverlayFirewall;
  /** Calls `onChange` when something in links, addresses, routes or neighbours has changed. */
  readonly watchKernel: (onChange: () => Promise<void>, log: Logger) => Closable;
  /** Calls `onChange` when rules of ours were removed; undefined where that cannot be heard. */
  readonly watchRules: (
    onChange: () => Promise<void>,
    log: Logger,
    signal: AbortSignal,
  ) => Promise<Closable | undefined>;
  readonly openIcmp: OpenIcmp;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly checkHost: (options: HostCheckOptions) => readonly Condition[];
}

export const THIS_HOST: Surroundings = {
  chooseInterface: chooseExternalInterface,
  listLinks,
  openBackend,
  openFirewall: (options) => new Firewall(options),
  watchKernel: (onChange, log) => openMonitor(onChange, { log }),
  watchRules: async (onChange, log, signal) =>
    (await hasNft(signal)) ? openNftMonitor({ onChange, log }) : undefined,
  openIcmp: (onReceived) => openRawIcmp(onReceived, async () => (await import('../native/native.js')).native),
  now: () => performance.now(),
  checkHost,
};

async function openBackend(type: string, context: BackendContext): Promise<Backend> {
  const load = Object.hasOwn(BACKENDS, type) ? BACKENDS[type] : undefined;
  if (load === undefined) {
    const known = Object.keys(BACKENDS).join(', ');
    throw new OverlayError('E_BACKEND', `Unknown backend type "${type}": expected one of ${known}`);
  }
  return (await load())(context);
}
