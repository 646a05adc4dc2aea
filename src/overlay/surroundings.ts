// What an overlay uses of the host that it runs on; tests have another host.

import { checkFamilies, openBackend } from '../backend/registry.js';
import type { Condition } from '../core/conditions.js';
import type { Closable } from '../core/closing.js';
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
  readonly checkFamilies: typeof checkFamilies;
  readonly openBackend: typeof openBackend;
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
  checkFamilies,
  openBackend,
  openFirewall: (options) => new Firewall(options),
  watchKernel: (onChange, log) => openMonitor(onChange, { log }),
  watchRules: async (onChange, log, signal) =>
    (await hasNft(signal)) ? openNftMonitor({ onChange, log }) : undefined,
  openIcmp: (onReceived, families) =>
    openRawIcmp(onReceived, async () => (await import('../native/native.js')).native, families),
  now: () => performance.now(),
  checkHost,
};
