// One network on this host: what is opened in which order, and closed in the reverse order.
//
//   subnet file held ─► store: config ─► external interface ─► network held ─► backend: lease data ─► store: lease
//   ─► backend: device ─► store: watch ─► firewall, a second at most ─► subnet.env ─► probes ─► kernel monitor
//
// From then on everything is an event: leases from the store become a diff for the backend; changes in the kernel, and
// a timer, make the backend compare the kernel with what it wants. Nothing that happens at run time ends an overlay but
// the loss of its lease; what is wrong is a condition until it is right again.
//
// Several overlays may run in one process: each holds its own names on this host, and nothing here is global.

import { prefixesOf } from '../config/network-config.js';
import type { Condition } from '../core/conditions.js';
import { ClosingStack } from '../core/closing.js';
import type { MetricFamily } from '../core/metric.js';
import { readVersion } from '../core/version.js';
import { orAbortAfter } from '../core/waiting.js';
import { type LeftDataPath, NOTHING_LEFT } from '../handover/handover.js';
import { HeldNames } from '../kernel/held-names.js';
import type { DualPrefix } from '../net/prefix.js';
import { OverlayOpening } from './opening.js';
import type { OverlayEnd, OverlayOptions } from './options.js';
import {
  OVERLAY_CONDITIONS,
  overlayMetrics,
  type OverlayParts,
  type OverlayProgress,
  type OverlayStatus,
  overlayStatus,
} from './parts.js';
import { THIS_HOST } from './surroundings.js';

// A signal ends the daemon within a second, whatever hangs: what is being done gets the first time, what is to be
// closed the second, of which a data path with a thread that hangs takes 750 ms.
const INTERRUPT_MS = 100;
const CLOSE_MS = 800;

/** One network that this host is a member of. While it is open, packets flow. */
export interface Overlay {
  /** The whole network by address family, as the store's config has it. */
  readonly networks: DualPrefix;
  /** The subnets of this host, one for each family of the network. */
  readonly subnets: DualPrefix;
  /** Type of the backend: "udp", "vxlan" or "host-gw". */
  readonly backendType: string;
  /** "raw-socket", "addon (…)" with the reason, or "off": which socket the probes of peers use. */
  readonly pathProbes: string;
  /** Resolves when it cannot go on; never rejects, and stays pending over close(). */
  readonly ended: Promise<OverlayEnd>;
  /** False while a thread of the data path hangs, which only a restart of the process mends. */
  isAlive(): boolean;
  /** What is wrong at this moment. O(peers). */
  conditions(): readonly Condition[];
  /** This overlay's piece of the status document. O(peers). */
  status(): OverlayStatus;
  /** Its counters and gauges at this moment; docs/operations.md describes them. O(peers). */
  metrics(): readonly MetricFamily[];
  /**
   * Leaves the data path to another daemon: it forwards until that stops it, and close() ends all else. Where the
   * kernel forwards, there is nothing to stop. Undefined while the data path is not open.
   */
  leave(): LeftDataPath | undefined;
  /**
   * Ends it within 800 ms, whatever hangs. The lease stays in the store, rules and what the mode promises to keep stay
   * in the kernel, so that traffic goes on until the next start. Never rejects. Idempotent.
   */
  close(): Promise<void>;
}

/**
 * Opens the overlay that the store's config describes, and resolves when packets flow and pods may be started. A store
 * that does not answer is waited for, unless a saved table is used.
 *
 * Rejects with OverlayError: E_RUNNING or E_CONFIG (another daemon, another config), E_INTERFACE, E_BACKEND, E_LEASE,
 * and what the backend fails with (E_TUN, E_SOCKET, E_PRIVILEGE, E_KERNEL); with the signal's reason when that aborts.
 * All that was opened is closed then.
 *
 * ```ts
 * const overlay = await openOverlay({ ...flags, store: openStore(flags, log), subnetFile, log, signal });
 * console.log(overlay.status().peers);
 * await overlay.close();
 * ```
 */
export async function openOverlay(options: OverlayOptions): Promise<Overlay> {
  const { log, store } = options;
  const over = new AbortController();
  const signal = AbortSignal.any([options.signal, over.signal]);
  const closing = new ClosingStack(log, CLOSE_MS);
  const owner = `pid ${process.pid}, ${readVersion()}, ${store.kind}`;
  const names = options.names ?? new HeldNames(owner, (text) => log.warn(text));
  if (options.names === undefined) closing.add('names', names);
  closing.add('store', store);
  const close = (): Promise<void> => {
    over.abort(new Error('overlay closed'));
    return closing.close();
  };
  try {
    const surroundings = { ...THIS_HOST, ...options.surroundings };
    const opening = new OverlayOpening({ ...options, surroundings, names, signal, closing });
    const parts = await orAbortAfter(opening.run(), options.signal, INTERRUPT_MS);
    return running(parts, opening.ended, close);
  } catch (error) {
    await close();
    throw error;
  }
}

function running(
  parts: OverlayParts & OverlayProgress,
  ended: Promise<OverlayEnd>,
  close: () => Promise<void>,
): Overlay {
  const { backend, own, peers, config } = parts;
  return {
    networks: prefixesOf(config.config),
    subnets: own.subnets,
    backendType: backend.type,
    pathProbes: peers.probers.by,
    ended,
    isAlive: () => backend.isAlive?.() ?? true,
    conditions: () => Object.values(OVERLAY_CONDITIONS).flatMap((ask) => ask(parts)),
    status: () => overlayStatus(parts),
    metrics: () => overlayMetrics(parts),
    leave: () => (backend.leave === undefined ? NOTHING_LEFT : backend.leave()),
    close,
  };
}
