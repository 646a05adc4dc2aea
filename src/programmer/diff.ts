// What the kernel must hold for each peer in the kernel modes, and how what it holds differs from that. Pure.
//
//   tunnelled peer:  neighbour  <subnet .0> → VTEP MAC        direct peer:  route  subnet via <public IP> dev eth0
//                    FDB entry  VTEP MAC → public IP
//                    route      subnet via <subnet .0> dev flannel.1 onlink
//
// The route comes last and goes first, so that the kernel never sends what it would then have to ask ARP about.
// Invariant: a route is deleted only when it carries our protocol number, or lies on our own device in the exact shape
// flanneld gives its routes; no foreign route is ever deleted.

import { deleteFdbLine, replaceFdbLine } from '../kernel/fdb.js';
import { deleteNeighbourLine, replaceNeighbourLine } from '../kernel/neigh.js';
import {
  deleteRouteLine,
  isWantedRoute,
  PROTOCOL_BOOT,
  PROTOCOL_STATIC,
  replaceRouteLine,
} from '../kernel/route.js';
import { ROUTE_PROTOCOL } from '../kernel/ip.js';
import { formatIpv4, type Ipv4 } from '../net/ipv4.js';
import { formatPrefix, type Prefix, prefixKey } from '../net/prefix.js';
import type { FdbEntry } from '../kernel/fdb.js';
import type { Neighbour } from '../kernel/neigh.js';
import type { Route, WantedRoute } from '../kernel/route.js';

/** What one peer needs. */
export interface PeerPlan {
  /** Of the peer's lease. */
  readonly id: string;
  readonly subnet: Prefix;
  readonly route: WantedRoute;
  /** The far end of the tunnel; undefined for a direct peer. */
  readonly vtep: { readonly mac: string; readonly publicIp: Ipv4 } | undefined;
}

/** Why a peer gets nothing in the kernel. */
export interface PeerRefusal {
  readonly code: 'off_link' | 'other_type' | 'invalid' | 'conflict';
  /** Continues "peer 10.5.2.0/24 …". */
  readonly reason: string;
}

/** What the kernel holds, as far as it concerns peers. */
export interface KernelState {
  readonly routes: readonly Route[];
  /** Of the tunnel device. */
  readonly neighbours: readonly Neighbour[];
  /** Of the tunnel device. */
  readonly fdb: readonly FdbEntry[];
}

export type KernelObject = 'neighbour' | 'fdb' | 'route';

/** One line of a batch, and whom it serves. */
export interface Step {
  readonly object: KernelObject;
  readonly line: string;
  /** Id of the peer's lease; undefined for the removal of something stale. */
  readonly id: string | undefined;
  readonly isRemoval: boolean;
}

/**
 * Steps by batch. Neighbours and FDB entries of one peer may come in any order, since without the route nothing uses
 * them; the route follows both, and what is taken away goes in reverse.
 */
export interface Phases {
  /** First, ip: routes of ours that are shadowed anyway go; neighbours come. */
  readonly neighbours: Step[];
  /** First, bridge. */
  readonly fdb: Step[];
  /** Second, ip: routes come; routes of peers that left go. */
  readonly routes: Step[];
  /** Third, bridge. */
  readonly fdbRemovals: Step[];
  /** Third, ip. */
  readonly neighbourRemovals: Step[];
}

export function emptyPhases(): Phases {
  return { neighbours: [], fdb: [], routes: [], fdbRemovals: [], neighbourRemovals: [] };
}

/** The steps for a peer of which the kernel has what `known` asks for; undefined when it may have nothing. */
export function addPeerSteps(phases: Phases, plan: PeerPlan, known: PeerPlan | undefined): void {
  const { id, vtep, route } = plan;
  if (vtep !== undefined) {
    const sameMac = vtep.mac === known?.vtep?.mac;
    if (!sameMac) phases.neighbours.push(neighbourStep(plan));
    if (!sameMac || vtep.publicIp !== known?.vtep?.publicIp) phases.fdb.push(fdbStep(plan));
  }
  if (route.gateway !== known?.route.gateway || route.device !== known?.route.device) {
    phases.routes.push({ object: 'route', line: replaceRouteLine(route), id, isRemoval: false });
  }
}

/**
 * Steps that take away what `old` needed and `next`, the peer's plan from now on, does not. `isMacWanted` tells whether
 * another peer relies on the FDB entry of a MAC.
 */
export function removePeerSteps(
  phases: Phases,
  old: PeerPlan,
  next: PeerPlan | undefined,
  isMacWanted: (mac: string) => boolean,
): void {
  if (next === undefined) {
    const line = deleteRouteLine({ ...old.route, gateway: old.route.gateway });
    phases.routes.push({ object: 'route', line, id: undefined, isRemoval: true });
  }
  if (old.vtep === undefined) return;
  const device = old.route.device;
  if (old.vtep.mac !== next?.vtep?.mac && !isMacWanted(old.vtep.mac)) {
    const line = deleteFdbLine(device, old.vtep.mac, old.vtep.publicIp);
    phases.fdbRemovals.push({ object: 'fdb', line, id: undefined, isRemoval: true });
  }
  if (next?.vtep === undefined) {
    const line = deleteNeighbourLine(device, old.subnet.address);
    phases.neighbourRemovals.push({ object: 'neighbour', line, id: undefined, isRemoval: true });
  }
}

/** Whether a peer's route may take the place of this one: ours, flanneld's or an administrator's, but no daemon's. */
export function isReplaceable(route: Pick<Route, 'protocol'>): boolean {
  return [ROUTE_PROTOCOL, PROTOCOL_BOOT, PROTOCOL_STATIC].includes(route.protocol);
}

/** Refusal for a peer whose subnet is routed by a protocol that is not ours to replace; undefined when it is free. */
export function findConflict(current: readonly Route[]): PeerRefusal | undefined {
  const first = current.find((route) => route.metric === 0);
  if (first === undefined || isReplaceable(first)) return undefined;
  const via = first.gateway === undefined ? '' : ` via ${formatIpv4(first.gateway)}`;
  const how = `protocol ${first.protocol}${first.device === undefined ? '' : ` on ${first.device}`}`;
  return {
    code: 'conflict',
    reason: `has its subnet ${formatPrefix(first.prefix)} routed${via} by ${how}, which is not ours to replace`,
  };
}

export interface DiffOptions {
  /** Device that is ours alone; undefined in host-gw mode. */
  readonly tunnelDevice: string | undefined;
  /** False until the first snapshot of leases: what we do not know yet is then no reason to remove anything. */
  readonly removeStale: boolean;
}

/** The steps that make `state` match `plans`. `replaced` holds foreign routes that a peer's route takes the place of. */
export function diffKernel(
  plans: Iterable<PeerPlan>,
  state: KernelState,
  options: DiffOptions,
): { readonly phases: Phases; readonly replaced: readonly Route[] } {
  const phases = emptyPhases();
  const replaced: Route[] = [];
  const routesByPrefix = groupBy(state.routes, (route) => prefixKey(route.prefix));
  const macByAddress = new Map<Ipv4, string>();
  for (const { address, mac, isPermanent } of state.neighbours)
    if (isPermanent) macByAddress.set(address, mac);
  const fdbByMac = groupBy(state.fdb, (entry) => entry.mac);
  const wantedAddresses = new Set<Ipv4>();
  const wantedFdb = new Map<string, Ipv4>();

  for (const plan of plans) {
    const key = prefixKey(plan.subnet);
    if (plan.vtep !== undefined) {
      wantedAddresses.add(plan.subnet.address);
      wantedFdb.set(plan.vtep.mac, plan.vtep.publicIp);
      if (macByAddress.get(plan.subnet.address) !== plan.vtep.mac)
        phases.neighbours.push(neighbourStep(plan));
      const entry = fdbByMac.get(plan.vtep.mac)?.[0];
      if (entry?.destination !== plan.vtep.publicIp || !entry.isPermanent) phases.fdb.push(fdbStep(plan));
    }
    const current = routesByPrefix.get(key) ?? [];
    routesByPrefix.delete(key);
    const first = current.find((route) => route.metric === 0);
    const isInPlace = first !== undefined && isWantedRoute(first, plan.route);
    if (!isInPlace) {
      phases.routes.push({
        object: 'route',
        line: replaceRouteLine(plan.route),
        id: plan.id,
        isRemoval: false,
      });
      if (first !== undefined && first.protocol !== ROUTE_PROTOCOL) replaced.push(first);
    }
    // Further routes of ours to the same subnet have no effect behind the first, but "replace" would trip over them.
    for (const route of current) {
      if (route !== first && isOurs(route))
        (isInPlace ? phases.routes : phases.neighbours).push(staleRoute(route));
    }
  }

  if (options.removeStale) {
    for (const route of [...routesByPrefix.values()].flat()) {
      if (isOurs(route) || isLeftByFlanneld(route, options.tunnelDevice))
        phases.routes.push(staleRoute(route));
    }
    if (options.tunnelDevice !== undefined) {
      addStaleFdb(phases, options.tunnelDevice, state.fdb, wantedFdb);
      for (const address of macByAddress.keys()) {
        if (wantedAddresses.has(address)) continue;
        const line = deleteNeighbourLine(options.tunnelDevice, address);
        phases.neighbourRemovals.push({ object: 'neighbour', line, id: undefined, isRemoval: true });
      }
    }
  }
  return { phases, replaced };
}

function addStaleFdb(
  phases: Phases,
  device: string,
  fdb: readonly FdbEntry[],
  wanted: ReadonlyMap<string, Ipv4>,
): void {
  for (const { mac, destination, isPermanent } of fdb) {
    // All zeros is the entry for unknown destinations, which we never set; learned entries age out by themselves.
    if (!isPermanent || wanted.get(mac) === destination || mac === '00:00:00:00:00:00') continue;
    const line = deleteFdbLine(device, mac, destination);
    phases.fdbRemovals.push({ object: 'fdb', line, id: undefined, isRemoval: true });
  }
}

/** Map.groupBy, which Node 20 has not. */
export function groupBy<K, V>(values: readonly V[], keyOf: (value: V) => K): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const value of values) {
    const group = groups.get(keyOf(value));
    if (group === undefined) groups.set(keyOf(value), [value]);
    else group.push(value);
  }
  return groups;
}

/** Blackhole routes of our protocol belong to the firewall part. */
function isOurs(route: Route): boolean {
  return route.protocol === ROUTE_PROTOCOL && route.type === 'unicast';
}

/** flanneld marks nothing, but on a device named as its own, "subnet via its .0 onlink" is its work. */
function isLeftByFlanneld(route: Route, tunnelDevice: string | undefined): boolean {
  return (
    tunnelDevice !== undefined &&
    route.device === tunnelDevice &&
    route.protocol === PROTOCOL_BOOT &&
    route.isOnlink &&
    route.gateway === route.prefix.address
  );
}

function staleRoute(route: Route): Step {
  return { object: 'route', line: deleteRouteLine(route), id: undefined, isRemoval: true };
}

function neighbourStep(plan: PeerPlan): Step {
  const line = replaceNeighbourLine(plan.route.device, plan.subnet.address, plan.vtep!.mac);
  return { object: 'neighbour', line, id: plan.id, isRemoval: false };
}

function fdbStep(plan: PeerPlan): Step {
  const line = replaceFdbLine(plan.route.device, plan.vtep!.mac, plan.vtep!.publicIp);
  return { object: 'fdb', line, id: plan.id, isRemoval: false };
}
