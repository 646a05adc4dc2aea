// The route table and the data path alone: packets between a TUN device and UDP, for a program that has its own way to
// know which host has which subnet. It needs the addon, /dev/net/tun and CAP_NET_ADMIN.
//
// The table belongs to the caller and outlives every data path. Its changes are seen by the workers at publish(), all
// at once. What is sent and let in follows from the table alone: nothing goes to an address that is no peer in it.

import {
  OFFLOAD_FEATURES,
  type OffloadFeature,
  type OffloadSwitches,
  type SourceCheck,
} from '../config/options.js';
import { UDP_PORT } from '../core/defaults.js';
import {
  type CounterSnapshot,
  Dataplane,
  type GrantedOffloads,
  type LastCounters,
} from '../dataplane/dataplane.js';
import type { RouteTable } from '../dataplane/route-table.js';
import type { PathMtuEvent } from '../dataplane/path-mtu.js';
import type { Ipv4 } from '../net/ipv4.js';
import type { Address, DualAddress, DualPrefix, Prefix } from '../net/prefix.js';

export type { OffloadFeature, SourceCheck } from '../config/options.js';
export { UDP_PORT } from '../core/defaults.js';
export { type ErrorCode, OverlayError } from '../core/errors.js';
export type {
  CounterSnapshot,
  DirectionCounters,
  Grant,
  GrantedOffloads,
  LastCounters,
  Offender,
} from '../dataplane/dataplane.js';
export { type Peer, RouteTable } from '../dataplane/route-table.js';
export type { PathMtuEvent } from '../dataplane/path-mtu.js';
export { DROP_MEANINGS, type InboundCounter, type OutboundCounter } from '../native/counters.js';
export { formatIpv4, type Ipv4, parseIpv4 } from '../net/ipv4.js';
export { formatIpv6, type Ipv6, parseIpv6 } from '../net/ipv6.js';
export {
  type Address,
  type DualAddress,
  type DualPrefix,
  formatPrefix,
  parsePrefix,
  type Prefix,
} from '../net/prefix.js';

/** What a data path is opened with. */
export interface DataPathOptions {
  /**
   * Name of the TUN device, at most 15 bytes. It is made when there is none, and stays when the data path is closed.
   */
  readonly device: string;
  /** Address of this host that the socket is bound to, or one of each family. */
  readonly listenAddress: Ipv4 | DualAddress;
  /** Address that the peers send to, or those of the same families. @default `listenAddress` */
  readonly publicIp?: Ipv4 | DualAddress;
  /** UDP port here and at every peer. @default 8285 */
  readonly port?: number;
  /** Pairs of worker threads, 1 to 256. @default 1 */
  readonly queues?: number;
  /** Offloads that are not asked of the kernel, or are asked in spite of the default. @default all but `mergeUdp` */
  readonly offload?: Readonly<Partial<Record<OffloadFeature, boolean>>>;
  /** Which received packets are let in. @default 'strict' */
  readonly sourceCheck?: SourceCheck;
  /** Network of the whole overlay, of IPv4 or of each family. */
  readonly network: Prefix | DualPrefix;
  /** Subnet of this host, inside `network`, of the same families. */
  readonly ownSubnet: Prefix | DualPrefix;
  /** Of the same `network`. */
  readonly table: RouteTable;
  /** Called when the kernel tells that the path to a peer became narrower. @default nothing is called */
  readonly onPathMtu?: (event: PathMtuEvent) => void;
  /** Called at most once, after start(): the device is gone or a worker ended. What is left is to be closed. */
  readonly onFailure: (reason: string) => void;
}

/**
 * A data path that is open. Order of calls: start(), then probe() once the device is up, at last close(), once. When
 * the device is deleted or a worker ends, `onFailure` is called and the data path is to be closed; there is no
 * half-running state.
 */
export interface DataPath {
  /** Index of the device, which keeps it when it is renamed. */
  readonly deviceIndex: number;
  /**
   * Starts two workers for each queue. They may be started before the device is up. Resolves when all of them run.
   *
   * @throws OverlayError E_TUN when one of them ends, or is not ready within 10 s. The data path is to be closed then.
   */
  start(): Promise<void>;
  /**
   * Finds out which superpackets the device takes, and lets the workers write those. To be called when the device is
   * up, and every few seconds after that. Returns what is new since the last call, in words.
   */
  probe(): readonly string[];
  /** What the kernel granted of the offloads, and what is in use. */
  granted(): GrantedOffloads;
  /** Packets, bytes and drops since the data path was opened. */
  counters(): CounterSnapshot;
  /**
   * Traffic of the first `rows` rows of the table. Four values for each row: packets and bytes outbound, packets and
   * bytes inbound. The counters of a row go on when it is given to another lease.
   */
  peerCounters(rows: number): Float64Array;
  /**
   * Largest inner packet, in bytes, that reaches `peer` in one piece as far as the kernel knows; undefined without a
   * route.
   */
  innerPathMtu(peer: Address): number | undefined;
  /**
   * To be called about once a second with monotonic milliseconds: the workers that have not moved for three seconds.
   */
  hungWorkers(nowMs: number): readonly string[];
  /**
   * Sends what is read already, stops the workers and closes the descriptors; resolves within a second with the last
   * counters. The device stays, with address and routes, unless `forgetDevice` is set.
   */
  close(options?: { readonly forgetDevice?: boolean }): Promise<LastCounters>;
}

/**
 * Opens the device and the socket of a data path. The caller then starts the workers, gives the device an address and
 * takes it up, and asks probe() what the device accepts.
 *
 * @throws OverlayError E_PRIVILEGE without /dev/net/tun or CAP_NET_ADMIN, E_TUN when the device cannot be had, E_SOCKET
 * when the address or the port cannot.
 */
export function openDataPath(options: DataPathOptions): DataPath {
  const offload = Object.fromEntries(
    OFFLOAD_FEATURES.map((feature) => [feature, options.offload?.[feature] ?? feature !== 'mergeUdp']),
  ) as OffloadSwitches;
  const { listenAddress, publicIp, network, ownSubnet, ...others } = options;
  const listen = addressesOf(listenAddress);
  return Dataplane.open({
    port: UDP_PORT,
    queues: 1,
    sourceCheck: 'strict',
    onPathMtu: () => undefined,
    ...others,
    listen,
    publicIp: publicIp === undefined ? listen : addressesOf(publicIp),
    networks: prefixesOf(network),
    own: prefixesOf(ownSubnet),
    offload,
  });
}

function addressesOf(addresses: Ipv4 | DualAddress): DualAddress {
  return typeof addresses === 'number' ? { v4: addresses } : addresses;
}

function prefixesOf(prefixes: Prefix | DualPrefix): DualPrefix {
  return 'address' in prefixes ? { v4: prefixes } : prefixes;
}
