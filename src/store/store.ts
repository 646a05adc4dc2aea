// The store: where the network config and the leases live. One interface, one folder per kind (etcd, static).
//
//   LeaseStore ─ readConfig ─► StoredNetwork ─ join ─► Membership ─ watch ─► MembershipListener
//       └─ savedStart ─ table ─► (overlay/first-config.ts) ──┘
//
// Each step is had from the one before it, so none can be taken too early. How a host comes to its subnet is the
// store's affair: etcd picks a free one, a static file has its row. A start from a saved table is another way to a
// Membership, and the rest of the program does not see by which of them it came. A store never decides whether a lease
// is acceptable to this host (lease/judge.ts does) and never touches the kernel.

import type { Flags } from '../config/flags.js';
import type { NetworkConfig } from '../config/network-config.js';
import type { OverlayError } from '../core/errors.js';
import type { Part } from '../core/part.js';
import type { LeaseHost, Lease, LeaseBackend, LeaseUpdate } from '../lease/lease.js';
import type { Dual } from '../net/dual.js';
import type { DualAddress, DualPrefix } from '../net/prefix.js';
import type { ActiveCondition } from '../ops/health.js';
import type { StoreStatus } from '../ops/status.js';

/** What the stores are told. */
export type StoreFlags = Pick<Flags, 'store' | 'etcd' | 'kube' | 'files'>;

/** What this host tells the others, and what it would like to have. */
export interface Publication {
  readonly host: LeaseHost;
  /** The subnet of the previous subnet.env, asked for again when it is free. */
  readonly previousSubnets: DualPrefix | undefined;
}

/** What a store says of this host before it joins. */
export interface HostHints {
  /** Addresses to publish, in place of --public-ip and --public-ipv6. */
  readonly publicIp?: DualAddress | undefined;
  /** Where they stand, for errors. */
  readonly publicIpFrom?: Dual<string>;
  /** What the last run published of its backend: a VXLAN device keeps its MAC by it. */
  readonly backend?: LeaseBackend | undefined;
}

/** A network as a store holds it: its config, and the way in. */
export interface StoredNetwork {
  readonly config: NetworkConfig;
  /** @default none */
  readonly hints?: HostHints;
  /**
   * The own lease. A store that does not answer is asked again until `signal` aborts, with the reason shown by the
   * store's conditions(). Rejects with OverlayError E_LEASE when no lease can be had.
   */
  join(publication: Publication, signal: AbortSignal): Promise<Membership>;
}

/** What a membership tells who watches. All calls come on the main thread; the first may come from within watch(). */
export interface MembershipListener {
  /** Leases as the store holds them, the own one included. */
  onLeases(update: LeaseUpdate): void;
  /** The config changed in the store. `config` is valid; the overlay decides what of it can be applied. */
  onConfig(config: NetworkConfig): void;
  /** After a start from the saved table, once: the store holds our lease, too, and `config` is in force from now on. */
  onConfirmed(config: NetworkConfig): void;
  /**
   * After a start from the saved table, once: the store's config makes another overlay in these fields. Nothing more
   * comes of this membership: start again.
   */
  onOutdated(changes: readonly string[]): void;
  /** The own lease is gone and cannot be had again under the same subnet: E_LEASE_LOST. Nothing comes after it. */
  onOwnLeaseLost(error: OverlayError): void;
}

/**
 * This host as a member of a network: it has a subnet, and keeps it. As a Part it speaks for the store, too: with a
 * membership nobody has to ask the store.
 */
export interface Membership extends Part<StoreStatus> {
  /** The own subnets, one for each family of the network; the same for as long as the membership lasts. */
  readonly own: DualPrefix;
  /** Begins to report; to be called once. The first report is a snapshot. Connects again by itself for ever. */
  watch(listener: MembershipListener): void;
  /**
   * Publishes another host under the own lease, in place. Resolves when it stands there, which may take as long as the
   * store is away; rejects with OverlayError E_LEASE when it cannot. Undefined: a store that only an operator writes.
   */
  publish?(host: LeaseHost): Promise<void>;
  /** Pods may be started: subnet.env is there. Returns at once. Undefined: a store that nobody tells so. */
  announce?(): void;
  /** Ends watch and renewal. The own lease stays in the store, as flannel's does. Idempotent. */
  close(): Promise<void>;
}

/** The last good table, saved by an earlier process, for a start while the store does not answer. */
export interface CachedTable {
  readonly config: NetworkConfig;
  readonly ownSubnets: DualPrefix;
  /** What this host published then; another public IP than today's makes the table useless. */
  readonly ownHost: LeaseHost;
  readonly hints?: HostHints;
  /** All leases, the own one included. */
  readonly leases: readonly Lease[];
  /** RFC 3339, for people. */
  readonly savedAt: string;
}

/** What a store that may be away has for a start without it. */
export interface SavedStart {
  /** Whether nothing listens where the store should be; answers within 50 ms, if no name has to be resolved. */
  isAway(): Promise<boolean>;
  /** The saved table; undefined when there is none that can be trusted. Synchronous and without network. */
  table(): CachedTable | undefined;
  /**
   * The public IP that the last run of this host published; undefined when it is not known. Synchronous, no network.
   */
  formerPublicIp(): DualAddress | undefined;
}

/** As a Part it says how the way to the store is, for as long as there is no membership. */
export interface LeaseStore extends Part<StoreStatus> {
  readonly kind: StoreStatus['kind'];
  /**
   * The network. An unreachable store or a missing config is retried until `signal` aborts, with the reason logged and
   * shown by conditions(); an invalid config rejects with OverlayError E_CONFIG.
   */
  readConfig(signal: AbortSignal): Promise<StoredNetwork>;
  /** Undefined: a store that is always there, or keeps no table. */
  readonly savedStart?: SavedStart | undefined;
  /** Told what is wrong with this host whenever that changes. Undefined: a store that shows it to nobody. */
  noteHealth?(conditions: readonly ActiveCondition[]): void;
  /** Ends the way to the store; memberships are to be closed before it. Idempotent. */
  close(): void;
}
