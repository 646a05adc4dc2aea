// The parts of an overlay, and what they make together: conditions, metrics and status. While an overlay is being
// opened it has only some of its parts, and only those are seen.

import { type Condition, condition } from '../core/conditions.js';
import type { Logger } from '../core/log.js';
import type { MetricFamily } from '../core/metric.js';
import type { Part } from '../core/part.js';
import { prefixesOf } from '../config/network-config.js';
import type { Backend } from '../backend/backend.js';
import { describeInterface, type UnderlayFollower } from '../kernel/underlay-follower.js';
import { mapDual } from '../net/dual.js';
import { formatPrefix, formatPrefixes } from '../net/prefix.js';
import type { OwnLeaseStatus, StatusDocument, StoreStatus } from '../ops/status.js';
import type { ConfigInForce } from './config-in-force.js';
import type { OwnHost } from './own-host.js';
import type { OwnSubnet } from './own-subnet.js';
import { leasesRefused, type Peers } from './peers.js';
import type { ReconcileLoop } from './reconcile-loop.js';
import { SubnetFileKeeper } from './subnet-file-keeper.js';
import { type OverlayFirewall, type Surroundings, THIS_HOST } from './surroundings.js';

/** All parts of a running overlay, in the order in which they come. */
export interface OverlayParts {
  readonly subnetFile: SubnetFileKeeper;
  /** The store, and the membership once there is one. */
  readonly store: Part<StoreStatus>;
  readonly underlay: UnderlayFollower;
  readonly config: ConfigInForce;
  readonly backend: Backend;
  readonly own: OwnSubnet;
  readonly peers: Peers;
  readonly firewall: OverlayFirewall;
  readonly ownHost: OwnHost;
  readonly reconciling: ReconcileLoop;
}

/** What there is before anything is opened. */
type Known = 'subnetFile' | 'store';

/** What there is of an overlay so far. */
export interface OverlayProgress extends Partial<Omit<OverlayParts, Known>>, Pick<OverlayParts, Known> {
  /** What its start waits for; undefined of one that runs. */
  readonly phase: string | undefined;
  readonly surroundings: Pick<Surroundings, 'checkHost'>;
}

/** Of an overlay that is about to be opened. */
export function beforeOpening(options: {
  readonly store: Part<StoreStatus>;
  readonly subnetFile: string;
  readonly log: Logger;
  readonly surroundings?: Partial<Surroundings>;
}): OverlayProgress {
  const { store, subnetFile, log, surroundings } = options;
  return {
    phase: 'starting',
    subnetFile: new SubnetFileKeeper(subnetFile, log),
    store,
    surroundings: { ...THIS_HOST, ...surroundings },
  };
}

/** The piece of the status document that is one overlay's. */
export type OverlayStatus = Pick<
  StatusDocument,
  | 'network'
  | 'lease'
  | 'interface'
  | 'subnetFile'
  | 'store'
  | 'backend'
  | 'peers'
  | 'peerCounts'
  | 'refusedLeases'
  | 'alarms'
>;

/** What is wrong, by the part of the daemon that says so: the words of /status and of the metrics. */
export const OVERLAY_CONDITIONS: Readonly<
  Record<string, (overlay: OverlayProgress) => readonly Condition[]>
> = {
  daemon: ownConditions,
  store: ({ store }) => store.conditions(),
  backend: ({ backend }) => backend?.conditions() ?? [],
  firewall: ({ firewall }) => firewall?.conditions() ?? [],
  host: hostConditions,
  leases: ({ peers }) => peers?.conditions() ?? [],
  peers: ({ peers }) => peers?.probers.peerConditions() ?? [],
};

function ownConditions(overlay: OverlayProgress): readonly Condition[] {
  const { phase, underlay, config, subnetFile, peers, reconciling } = overlay;
  const interfaceFault = overlay.ownHost?.lag ?? underlay?.fault;
  return [
    ...(phase === undefined ? [] : [condition('starting', phase)]),
    ...(interfaceFault === undefined ? [] : [interfaceFault]),
    ...(config?.conditions() ?? []),
    ...subnetFile.conditions(),
    ...(peers?.probers.conditions() ?? []),
    ...(reconciling?.conditions() ?? []),
  ];
}

/** Only an overlay that runs has these: before, the kernel has no settings for its device. */
function hostConditions({
  phase,
  own,
  backend,
  firewall,
  underlay,
  surroundings,
}: OverlayProgress): readonly Condition[] {
  if (phase !== undefined || own === undefined || backend === undefined || underlay === undefined) return [];
  const { name, address } = underlay.iface;
  return surroundings.checkHost({
    device: backend.device,
    ownSubnets: own.subnets,
    uplink: { name, address: address.v6 },
    usesIptables: firewall?.usesNft !== true,
  });
}

export function overlayMetrics(overlay: OverlayProgress): readonly MetricFamily[] {
  const { backend, firewall, subnetFile, store, peers } = overlay;
  return [
    ...(backend?.metrics() ?? []),
    ...(firewall?.metrics() ?? []),
    ...subnetFile.metrics(),
    ...store.metrics(),
    ...(peers?.metrics() ?? [leasesRefused(0)]),
  ];
}

function describeOwn({ subnets, mtuBytes }: OwnSubnet): OwnLeaseStatus {
  return { subnet: formatPrefixes(subnets), subnets: mapDual(subnets, formatPrefix), mtuBytes };
}

export function overlayStatus(overlay: OverlayProgress): OverlayStatus {
  const { subnetFile, store, underlay, config, backend, own, peers } = overlay;
  const networks = config === undefined ? undefined : prefixesOf(config.config);
  return {
    ...(networks === undefined
      ? {}
      : { network: formatPrefixes(networks), networks: mapDual(networks, formatPrefix) }),
    ...(own === undefined ? {} : { lease: describeOwn(own) }),
    ...(underlay === undefined ? {} : { interface: describeInterface(underlay.iface) }),
    subnetFile: subnetFile.path,
    store: store.status(),
    backend: backend?.status() ?? {},
    ...(peers?.status() ?? { peers: [], refusedLeases: [], alarms: [] }),
  };
}
