// The status document: what /status serves, and what `twill`, the page and the benchmarks read. Each part of the daemon
// gives its own piece of it; docs/operations.md and docs/status.schema.json are written from these types.
// A number is whole unless its field has the tag @fraction.

import type { ConditionCode, Scope, Severity } from '../core/conditions.js';

/** Raised when a field is renamed, removed or means something else; a new field does not raise it. */
export const STATUS_VERSION = 1;

/** A text for each address family that there is, of which there is one at least. */
export interface FamilyTexts {
  readonly v4?: string;
  readonly v6?: string;
}

/** What the daemon of this host says of itself. */
export interface StatusDocument {
  /** Version of this document. */
  readonly statusVersion: typeof STATUS_VERSION;
  /** Version of twill. */
  readonly version: string;
  readonly uptimeSeconds: number;
  /** What /readyz answers. */
  readonly ready: boolean;
  /** Texts of the conditions that make it not ready. */
  readonly degraded: readonly string[];
  /** Everything that holds, the worst first. */
  readonly conditions: readonly ConditionStatus[];
  /** The networks of the config, once they are known: "10.5.0.0/16", "fd00:5::/48" or "10.5.0.0/16 and fd00:5::/48". */
  readonly network?: string;
  /** The same by family. */
  readonly networks?: FamilyTexts;
  /** The own lease, once there is one. */
  readonly lease?: OwnLeaseStatus;
  /** The interface between hosts, once it is chosen. */
  readonly interface?: InterfaceStatus;
  /** Path of subnet.env. */
  readonly subnetFile: string;
  readonly store: StoreStatus;
  readonly backend: BackendStatus;
  /** The other hosts. */
  readonly peers: readonly PeerStatus[];
  /** Peers by reachability; absent without probes. */
  readonly peerCounts?: PeerCounts;
  /** Leases in the store that no host of this network can have, or that harm. */
  readonly refusedLeases: readonly RefusedLeaseStatus[];
  /** Leases of two hosts that share addresses, in words. */
  readonly alarms: readonly string[];
}

export interface ConditionStatus {
  readonly code: ConditionCode;
  readonly severity: Severity;
  readonly scope: Scope;
  /** The part of the daemon that says so. */
  readonly part: string;
  /** What holds, with names and values. */
  readonly text: string;
  /** What to do. */
  readonly action: string;
  /** RFC 3339. */
  readonly since: string;
  readonly seconds: number;
  /** Of how many peers or leases it is true; absent where that is no number. */
  readonly count?: number;
}

export interface OwnLeaseStatus {
  /** Of both families: "10.5.1.0/24 and fd00:5:0:1::/64". */
  readonly subnet: string;
  /** The same by family. */
  readonly subnets: FamilyTexts;
  /** Of the device of the overlay, and so of pods. */
  readonly mtuBytes: number;
}

export interface InterfaceStatus {
  readonly name: string;
  readonly index: number;
  readonly mtuBytes: number;
  /** Address on the interface, or both: "172.20.0.1 and fd00::1". */
  readonly address: string;
  /** The same by family. */
  readonly addresses: FamilyTexts;
  /** Address that the peers send to, or both. */
  readonly publicIp: string;
  /** The same by family. */
  readonly publicIps: FamilyTexts;
}

export type StoreStatus = EtcdStatus | KubeStatus | StaticStatus;

export interface EtcdStatus {
  readonly kind: 'etcd';
  /** Without user and password. */
  readonly endpoints: readonly string[];
  /** Null without a connection. */
  readonly connectedTo: string | null;
  readonly sessionsOpened: number;
  readonly prefix: string;
  /** Null before a lease was acquired. */
  readonly ownLease: EtcdLeaseStatus | null;
  /** Of etcd, as of the last change that was seen; a decimal number. */
  readonly revision: string;
  readonly watchEstablished: boolean;
  /** Leases in the store, the own one included. */
  readonly leases: number;
  /** Keys below subnets/ that are no leases. */
  readonly badKeys: number;
  /** The first of them. */
  readonly badKeyList: readonly BadKeyStatus[];
}

export interface EtcdLeaseStatus {
  readonly subnet: string;
  /** The key has no time to live. */
  readonly isReservation: boolean;
  /** Id in hexadecimal digits; null of a reservation. */
  readonly etcdLease: string | null;
  readonly expiresInSeconds: number | null;
  readonly renewsInSeconds: number | null;
  /** Why it is lost, or null. */
  readonly lost: string | null;
}

export interface BadKeyStatus {
  readonly key: string;
  readonly problem: string;
}

export interface KubeStatus {
  readonly kind: 'kube';
  /** URL of the API server. */
  readonly server: string;
  /** Name of the own Node; "" before it is known. */
  readonly node: string;
  /** The own subnet; null before the Node has one. */
  readonly podCidr: string | null;
  /** Of the API server, as of the last change that was seen; "" before the first list. */
  readonly resourceVersion: string;
  readonly watchEstablished: boolean;
  /** Nodes that are members, the own one included. */
  readonly leases: number;
  /** Nodes whose annotations cannot be understood. */
  readonly badKeys: number;
  /** The first of them. */
  readonly badKeyList: readonly BadKeyStatus[];
}

export interface StaticStatus {
  readonly kind: 'static';
  readonly file: string;
  /** Leases in the file, the own one included. */
  readonly leases: number;
}

/** Before the mode is known there is nothing to say. */
export type BackendStatus = ModeStatus | NoBackendStatus;

export type ModeStatus = UdpStatus | VxlanStatus | HostGwStatus;

export interface NoBackendStatus {
  readonly type?: undefined;
}

/** Whether a check of received packets' sources is in force; the values of --source-check. */
export type SourceCheckStatus = 'strict' | 'loose' | 'audit' | 'off';

export interface UdpStatus {
  readonly type: 'udp';
  readonly device: string;
  readonly port: number;
  readonly mtuBytes: number;
  readonly sourceCheck: SourceCheckStatus;
  readonly queues: number;
  /** What the kernel granted: true, a number, or "off" where it was not asked; absent while the data path is closed. */
  readonly offloads?: OffloadStatus;
  /** The kernel lane, which carries packets past the workers. */
  readonly lane: LaneStatus;
  /** Since the start, over all data paths; absent before the first one. */
  readonly counters?: CountersStatus;
}

/** Which packets the kernel lane takes; docs/lane.md says which may take it at all. */
export interface LaneStatus {
  /** The value of --lane. */
  readonly asked: 'auto' | 'off' | 'sparse' | 'all';
  /** What is in force. */
  readonly mode: 'off' | 'sparse' | 'all';
  /** It goes on while the daemon is restarted. */
  readonly pinned: boolean;
  /** Why the mode is "off". */
  readonly why?: string;
}

export type OffloadStatus = Readonly<Record<string, boolean | number | string>>;

/** Packets and bytes of the udp mode; `twill drops` says what each counter of drops means. */
export interface CountersStatus {
  readonly outbound: Readonly<Record<string, number>>;
  readonly inbound: Readonly<Record<string, number>>;
  readonly socketDrops: number;
}

export interface VxlanStatus {
  readonly type: 'vxlan';
  readonly device: string;
  /** Of the device; absent before it is made. */
  readonly mac?: string;
  /** The device of each family, of which `device` is the first. */
  readonly devices: FamilyTexts;
  /** MAC address of each; absent before one is made. */
  readonly macs?: FamilyTexts;
  readonly vni: number;
  readonly port: number;
  readonly hasGbp: boolean;
  readonly hasLearning: boolean;
  readonly hasDirectRouting: boolean;
  /** The interface that the tunnel leaves by. */
  readonly interface: string;
  readonly sourceCheck: SourceCheckStatus;
  /** Datagrams dropped because their sender has no lease. */
  readonly refusedDatagrams: number;
}

export interface HostGwStatus {
  readonly type: 'host-gw';
  readonly interface: string;
}

/** Why a backend sends nothing to a host whose lease is good: the words of metrics, and their conditions. */
export const PEER_REFUSALS = {
  other_type: { meaning: 'its host runs another backend type', condition: 'peer-other-type' },
  route_loop: {
    meaning: 'its public IP is reached through the overlay itself',
    condition: 'peer-route-loop',
  },
  off_link: { meaning: 'it cannot be a gateway: it is not on the same link', condition: 'peer-off-link' },
  invalid: { meaning: 'its lease cannot be used by this mode', condition: 'peer-invalid' },
  conflict: { meaning: 'its subnet is routed by somebody else', condition: 'peer-route-conflict' },
} as const satisfies Readonly<
  Record<string, { readonly meaning: string; readonly condition: ConditionCode }>
>;

export type PeerRefusalCode = keyof typeof PEER_REFUSALS;

/** What this host holds for a peer. A switch over `state` is exhaustive. */
export type PeerState =
  | { readonly state: 'programmed' }
  /** Not yet, or not again. */
  | { readonly state: 'waiting' }
  /** The kernel does not take it; tried again. */
  | { readonly state: 'failed'; readonly reason: string }
  | { readonly state: 'refused'; readonly code: PeerRefusalCode; readonly reason: string };

/** What a backend says of a peer. */
export type BackendPeerStatus = PeerState & {
  /** Of both families: "10.5.2.0/24 and fd00:5:0:2::/64". */
  readonly subnet: string;
  /** The same by family. */
  readonly subnets: FamilyTexts;
  /** Or both. */
  readonly publicIp: string;
  /** The same by family. */
  readonly publicIps: FamilyTexts;
  /** Of the udp mode: row in the route table. */
  readonly row?: number;
  /** Of the udp mode. */
  readonly port?: number;
  /** Largest inner packet that reaches it. */
  readonly mtuBytes?: number;
  readonly packetsOut?: number;
  readonly bytesOut?: number;
  readonly packetsIn?: number;
  readonly bytesIn?: number;
  /** Of the udp mode, with a kernel lane: the peer has one too, so all kinds of packets to it may take ours. */
  readonly lane?: boolean;
  /** Of the kernel modes: where its route leads, of the first family. */
  readonly device?: string;
  /** The same by family. */
  readonly devices?: FamilyTexts;
  /** Of the kernel modes: without a tunnel, whichever the family. */
  readonly isDirect?: boolean;
  /** Of the vxlan mode: MAC address of the first family's device. */
  readonly vtepMac?: string;
  /** The same by family. */
  readonly vtepMacs?: FamilyTexts;
};

/** The same, with the id of its lease. */
export type PeerDetail = BackendPeerStatus & { readonly id: string };

export type PeerStatus = BackendPeerStatus & PeerPathStatus;

/** What probes found on the way to a peer, or on both where packets of each family have one of their own. */
export interface PeerPathStatus {
  /** Between the public IPs, outside the overlay; absent without probes. Of two ways that of IPv4. */
  readonly path?: PathStatus;
  /** Of each of two ways. */
  readonly paths?: FamilyPaths;
  /** Inside the overlay. Of two ways that of the worse one. */
  readonly reachability: ReachabilityStatus;
  /** Of each of two ways. */
  readonly reachabilities?: FamilyReachabilities;
}

export interface FamilyPaths {
  readonly v4: PathStatus;
  readonly v6: PathStatus;
}

export interface FamilyReachabilities {
  readonly v4: ReachabilityStatus;
  readonly v6: ReachabilityStatus;
}

export interface PathStatus {
  /** @fraction */
  readonly rttMs?: number;
  /**
   * Share of the last 20 echoes without an answer, 0 to 1.
   * @fraction
   */
  readonly loss?: number;
  readonly mtuBytes?: number;
}

/** The words of /status, of the metrics' labels and of `twill peers`; probe/peer-reach.ts says what each means. */
export const REACH_STATES = ['ok', 'silent since', 'unreachable', 'never heard', 'unknown'] as const;
export type ReachState = (typeof REACH_STATES)[number];

/** Whether echoes through the overlay come back. */
export interface ReachabilityStatus {
  readonly state: ReachState;
  /** RFC 3339; while it is neither ok nor unknown. */
  readonly since?: string;
  /** RFC 3339. */
  readonly lastHeard?: string;
  /** @fraction */
  readonly rttMs?: number;
  /**
   * Share of the last 20 echoes without an answer, 0 to 1.
   * @fraction
   */
  readonly loss?: number;
  readonly reason?: string;
}

export interface PeerCounts {
  readonly total: number;
  readonly ok: number;
  readonly silentSince: number;
  readonly unreachable: number;
  readonly neverHeard: number;
  readonly unknown: number;
}

export interface RefusedLeaseStatus {
  /** As in the store. */
  readonly key: string;
  readonly code: string;
  readonly text: string;
}
