// One network on this host, as twilld opens it: a lease of the store, the backend that its config names, firewall
// rules, subnet.env, and the probes of peers. It is what the daemon is made of, without health server, control socket
// and service manager. Several overlays may be open in one process when their networks and subnet files differ.
//
// It needs what twilld needs: CAP_NET_ADMIN, and for the udp mode /dev/net/tun. Two programs of a host, twilld among
// them, exclude each other from a network and a subnet file.

import { FLAGS, type Flags } from '../config/flags.js';
import { openLogger } from '../core/log.js';
import { openOverlay as open, type Overlay } from '../overlay/overlay.js';
import { openStore } from '../store/registry.js';
import { valuesOf } from './options.js';

export { type ErrorCode, OverlayError } from '../core/errors.js';
export type { Condition, ConditionCode } from '../core/conditions.js';
export type { MetricFamily } from '../core/metric.js';
export { type DualPrefix, formatPrefix, formatPrefixes, type Prefix } from '../net/prefix.js';
export type { Overlay } from '../overlay/overlay.js';
export type { OverlayEnd } from '../overlay/options.js';
export type { OverlayStatus } from '../overlay/parts.js';
export type {
  BackendStatus,
  InterfaceStatus,
  OwnLeaseStatus,
  PeerState,
  PeerStatus,
  RefusedLeaseStatus,
  StoreStatus,
} from '../ops/status.js';

/** What an overlay is opened with. The groups hold options of twilld; what is left out has the flag's default. */
export interface OpenOptions {
  /** Which store: `{ kind: 'static', staticFile }`, `{ kind: 'kube' }`, or etcd. */
  readonly store?: Partial<Flags['store']>;
  /** Endpoints, prefix, user and certificates of etcd. */
  readonly etcd?: Partial<Flags['etcd']>;
  /** How the Kubernetes API is reached and what is written there. */
  readonly kube?: Partial<Flags['kube']>;
  /** Which interface leads to the other hosts. */
  readonly underlay?: Partial<Flags['underlay']>;
  /** Source check and queues. */
  readonly backend?: Partial<Flags['backend']>;
  /** Offloads that are not to be used. */
  readonly offloads?: Partial<Flags['offloads']>;
  /** Masquerade and forward rules. */
  readonly firewall?: Partial<Flags['firewall']>;
  /** Probes of peers. */
  readonly probes?: Partial<Flags['probes']>;
  /** Path of subnet.env, beside which the saved table lies. @default '/run/flannel/subnet.env' */
  readonly subnetFile?: string;
  /** Takes each line of the log, a JSON object with a newline. @default the log is lost */
  readonly log?: (line: string) => void;
  /** Ends the opening. A running overlay is ended by close(). @default none */
  readonly signal?: AbortSignal;
}

/**
 * Opens the overlay that the store's config describes, and resolves when packets flow. A store that does not answer is
 * waited for without end, unless a saved table is there.
 *
 * @throws RangeError for an option that no flag has, or a value that the flag does not take.
 * @throws OverlayError E_RUNNING when another program serves the network or has the subnet file; E_CONFIG, E_INTERFACE,
 * E_BACKEND, E_LEASE, and what the backend fails with: E_TUN, E_SOCKET, E_PRIVILEGE, E_KERNEL. The signal's reason when
 * that aborts. All that was opened is closed then.
 */
export async function openOverlay(options: OpenOptions = {}): Promise<Overlay> {
  const log = openLogger({ level: 'info', format: 'json', write: options.log ?? (() => undefined) });
  const subnetFile = options.subnetFile ?? FLAGS.files.subnetFile.otherwise;
  const etcd = valuesOf('etcd', FLAGS.etcd, options.etcd);
  const kube = valuesOf('kube', FLAGS.kube, options.kube);
  const store = valuesOf('store', FLAGS.store, options.store);
  const groups = {
    underlay: valuesOf('underlay', FLAGS.underlay, options.underlay),
    backend: valuesOf('backend', FLAGS.backend, options.backend),
    offloads: valuesOf('offloads', FLAGS.offloads, options.offloads),
    firewall: valuesOf('firewall', FLAGS.firewall, options.firewall),
    probes: valuesOf('probes', FLAGS.probes, options.probes),
  };
  return open({
    ...groups,
    store: await openStore({ etcd, kube, store, files: { subnetFile } }, log),
    subnetFile,
    log,
    signal: options.signal ?? new AbortController().signal,
  });
}
