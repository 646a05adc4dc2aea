// Values of our own options that several layers know by type.

/** Which received packets are let in; dataplane/inbound.ts has the table. */
export const SOURCE_CHECKS = ['strict', 'loose', 'audit', 'off'] as const;
/** How strictly the source of a received packet is checked. */
export type SourceCheck = (typeof SOURCE_CHECKS)[number];

/** Whether an offload is used where the kernel grants it. */
export const OFFLOADS = ['auto', 'off'] as const;
export type Offload = (typeof OFFLOADS)[number];

/** Offloads that can be switched off one by one, because some kernels and cards have one that is broken. */
export const OFFLOAD_FEATURES = [
  'udpSegment',
  'udpGro',
  'tunTso',
  'tunUso',
  'mergeTcp',
  'mergeUdp',
  'tunQueueBound',
] as const;
/** The name of one offload. */
export type OffloadFeature = (typeof OFFLOAD_FEATURES)[number];
export type OffloadFlags = Readonly<Record<OffloadFeature, Offload>>;
export type OffloadSwitches = Readonly<Record<OffloadFeature, boolean>>;

/** The features that are wanted. With `offload` "off" none is. */
export function offloadSwitches(flags: OffloadFlags & { readonly offload: Offload }): OffloadSwitches {
  const entries = OFFLOAD_FEATURES.map((feature) => [
    feature,
    flags.offload === 'auto' && flags[feature] === 'auto',
  ]);
  return Object.fromEntries(entries) as OffloadSwitches;
}

/** Which packets the kernel lane takes, of those it may (docs/lane.md); auto is sparse or all, by the interface. */
export const LANES = ['auto', 'off', 'sparse', 'all'] as const;
export type LaneChoice = (typeof LANES)[number];

/** Where config and leases live. */
export const STORES = ['etcd', 'kube', 'static'] as const;
export type StoreKind = (typeof STORES)[number];

/** How log lines look. */
export const LOG_FORMATS = ['text', 'json'] as const;

/** Whether etcd is asked through the web proxy that http_proxy and its like name. */
export const ETCD_PROXIES = ['off', 'environment'] as const;
export type EtcdProxy = (typeof ETCD_PROXIES)[number];

/** Where the program `twill` asks the daemon. */
export const DEFAULT_CONTROL_SOCKET = '/run/twill/twilld.sock';

/** Most queues a TUN device can have (MAX_TAP_QUEUES, drivers/net/tun.c). */
export const MAX_QUEUES = 256;
