// The store: where the network config and the leases live. One interface, one folder per kind (etcd, static).
//
// Life of a store: readConfig, acquire, watch, close, in this order and once each. A store never decides whether a
// lease is acceptable to this host (lease/judge.ts does) and never touches the kernel.

import type { Condition } from '../core/conditions.js';
import type { Ipv4LeaseHost, Lease, LeaseUpdate } from '../lease/lease.js';
import type { NetworkConfig } from '../config/network-config.js';
import type { Ipv4 } from '../net/ipv4.js';
import type { Prefix } from '../net/prefix.js';
import type { MetricFamily } from '../core/metric.js';

export interface AcquireRequest {
  readonly config: NetworkConfig;
  /** What to publish. */
  readonly host: Ipv4LeaseHost;
  /** The subnet of the previous subnet.env, asked for again when it is free. */
  readonly previousSubnet: Prefix | undefined;
}

/** What the store tells the daemon after watch() was called. All calls come on the main thread, never re-entrantly. */
export interface StoreListener {
  /** Leases as the store holds them, the own one included. */
  onLeases(update: LeaseUpdate): void;
  /** The config changed in the store. `config` is valid; the daemon decides what of it can be applied. */
  onConfig(config: NetworkConfig): void;
  /** The own lease is gone and cannot be had again under the same subnet. */
  onOwnLeaseLost(reason: string): void;
}

/** The last good table, saved by an earlier process, for a start while the store does not answer. */
export interface CachedTable {
  readonly config: NetworkConfig;
  readonly ownSubnet: Prefix;
  /** What this host published then; another public IP than today's makes the table useless. */
  readonly ownHost: Ipv4LeaseHost;
  /** All leases, the own one included. */
  readonly leases: readonly Lease[];
  /** RFC 3339, for people. */
  readonly savedAt: string;
}

export interface LeaseStore {
  readonly kind: 'etcd' | 'static';
  /**
   * The network config. An unreachable store or a missing config is retried until `signal` aborts, with the reason
   * logged and shown by conditions(); an invalid config rejects with OverlayError E_CONFIG.
   */
  readConfig(signal: AbortSignal): Promise<NetworkConfig>;
  /** The own lease. Rejects with OverlayError E_LEASE when none can be had. */
  acquire(request: AcquireRequest, signal: AbortSignal): Promise<Prefix>;
  /**
   * Publishes another host under the own lease, in place; after watch(). Resolves when it stands there, which may take
   * as long as the store is away; rejects with OverlayError E_LEASE when it cannot. Undefined: a store that only
   * an operator writes.
   */
  publish?(host: Ipv4LeaseHost): Promise<void>;
  /** Begin to report. The first report is a snapshot. Reconnects by itself for ever. */
  watch(listener: StoreListener): void;
  /** Whether nothing listens where the store should be; answers within 50 ms. */
  isAway?(): Promise<boolean>;
  /**
   * The saved table; undefined when there is none that can be trusted. Synchronous and without network. To be called
   * at most once, and only to be used: from then until the first snapshot conditions() says so.
   */
  cached?(): CachedTable | undefined;
  /** The public IP that the last run of this host published; undefined when it is not known. Synchronous, no network. */
  formerPublicIp?(): Ipv4 | undefined;
  conditions(): readonly Condition[];
  /** Store-specific detail for /status: endpoints, revision, lease expiry. No secrets. */
  status(): Record<string, unknown>;
  /** For ops/metrics.ts. */
  metrics?(): readonly MetricFamily[];
  /** Ends watch and renewal. The own lease stays in the store, as flannel's does. Idempotent. */
  close(): Promise<void>;
}
