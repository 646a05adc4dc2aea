// What the kernel modes want in the kernel, as objects: a route, and what a mode adds of its own
// (backend/vxlan/objects.ts). Pure, but for the listing, which asks the kernel that is passed in.
//
// An object knows the line that makes it and the line that removes it; its kind knows what is true of all of them: the
// tool, the order, what the kernel holds of it, and which of two peers has what both claim. A new kind of object is a
// new ObjectKind; nothing in this folder has to know of it.
//
// Invariant: a route is deleted only when it carries our protocol number, or lies on our own device in the exact shape
// flanneld gives its routes; no foreign route is ever deleted.

import { ROUTE_PROTOCOL, type BatchTool } from '../kernel/ip.js';
import type { Kernel } from '../kernel/kernel.js';
import {
  defaultMetric,
  addRouteLine,
  deleteRouteLine,
  PROTOCOL_BOOT,
  PROTOCOL_STATIC,
  replaceRouteLine,
  type Route,
  type RouteSelector,
} from '../kernel/route.js';
import { compareAge, type Peer } from '../lease/lease.js';
import type { FamilyName } from '../net/dual.js';
import {
  type Address,
  bitsOf,
  familyNameOf,
  formatAddress,
  formatPrefix,
  type Prefix,
  prefixCovers,
  prefixKey,
} from '../net/prefix.js';
import type { PeerRefusalCode } from '../ops/status.js';

/** Why a peer gets nothing in the kernel. */
export interface PeerRefusal {
  readonly code: PeerRefusalCode;
  /** Continues "peer 10.5.2.0/24 …". */
  readonly reason: string;
}

/** What an object claims; unique among those of its kind. */
export type ObjectKey = string | number | bigint;

/**
 * One thing in the kernel. Held once for each peer and kind: it is small, and makes its lines when they are asked for.
 */
export interface KernelObject {
  readonly kind: ObjectKind;
  readonly key: ObjectKey;
  /** Batch line that makes it; may run twice. */
  add(): string;
  /** Batch line that removes exactly this one. */
  remove(): string;
  /** Whether `other`, of the same kind, is the same in every respect. */
  isSame(other: KernelObject): boolean;
  /**
   * What has to be there while this one takes the place of `former`, which has its key, and no longer; undefined where
   * nothing has to.
   */
  aid?(former: KernelObject): KernelObject | undefined;
}

/** What the kernel has of a kind. */
export interface HeldObject {
  readonly object: KernelObject;
  /** Whether the kernel uses this one of all with its key; an added one would replace it. */
  readonly isInForce: boolean;
  /** Made by us, or by flanneld in our place; it is removed when no peer wants it. */
  readonly isOurs: boolean;
  /** The fields that are logged when ours replaces it; undefined unless it is somebody else's. */
  readonly foreign?: Readonly<Record<string, unknown>> | undefined;
}

/** What is true of all objects of a kind. */
export interface ObjectKind {
  /** Singular, as metrics count it. */
  readonly name: string;
  readonly tool: BatchTool;
  /** Lower ones come first and go last; those of one order do not need each other. */
  readonly order: 0 | typeof LAST_ORDER;
  /** The kernel can hold several of one key. Those that are not wanted are removed once the wanted one is there. */
  readonly isShared: boolean;
  list(kernel: Kernel, scope: ListScope): Promise<readonly HeldObject[]>;
  /** Negative when `a` gets what both claim, positive when `b` does, 0 when neither has a better claim. */
  compareClaims(a: Peer, b: Peer): number;
  /** The text for a peer that does not get `object` because the subnet `holder` has it. */
  explainLoss(object: KernelObject, holder: string): PeerRefusal;
}

/** The order of objects that use all others. */
export const LAST_ORDER = 1;

/** Names by family; a mode without a tunnel has none. */
export type TunnelDevices = { readonly [F in FamilyName]?: string | undefined };

/** Where to look for what is ours. */
export interface ListScope {
  /** Of each family one at most. */
  readonly networks: readonly Prefix<Address>[];
  /** The networks of this host's last run, when they were others. */
  readonly former: readonly Prefix<Address>[];
  /** For each family the device that is ours alone. */
  readonly tunnelDevices: TunnelDevices;
  /** Whether to look in the network of an earlier run, too, and at everything on the device. */
  readonly withElsewhere: boolean;
}

/** The fields in which routes to one prefix can differ, beside where they lead. */
interface RouteMark {
  readonly type: Route['type'];
  readonly protocol: number;
  readonly metric: number;
}

const OUR_MARK: RouteMark = { type: 'unicast', protocol: ROUTE_PROTOCOL, metric: 0 };
const OUR_IPV6_MARK: RouteMark = { ...OUR_MARK, metric: 1024 };
/** The first of all, since routes of programs and of the kernel have 256 and more. */
const AID_METRIC = 1;

function markOfOurs({ address }: Prefix<Address>): RouteMark {
  return typeof address === 'number' ? OUR_MARK : OUR_IPV6_MARK;
}

export interface RouteTarget {
  readonly prefix: Prefix<Address>;
  readonly gateway: Address | undefined;
  readonly device: string | undefined;
  readonly isOnlink: boolean;
}

/** A route; ours unless a mark says otherwise. */
export class RouteObject implements KernelObject {
  readonly prefix: Prefix<Address>;
  readonly gateway: Address | undefined;
  readonly device: string | undefined;
  readonly isOnlink: boolean;
  readonly #mark: RouteMark;

  constructor({ prefix, gateway, device, isOnlink }: RouteTarget, mark = markOfOurs(prefix)) {
    this.prefix = prefix;
    this.gateway = gateway;
    this.device = device;
    this.isOnlink = isOnlink;
    this.#mark = mark;
  }

  get kind(): ObjectKind {
    return ROUTE;
  }

  get key(): number | bigint {
    return prefixKey(this.prefix);
  }

  /** Replaces in place, so that no packet finds none. */
  add(): string {
    const { prefix, gateway, device, isOnlink } = this;
    if (device === undefined) throw new TypeError(`a route to ${formatPrefix(prefix)} needs a device`);
    return replaceRouteLine({ prefix, gateway, device, isOnlink });
  }

  remove(): string {
    const { prefix, gateway, device } = this;
    return deleteRouteLine({ prefix, gateway, device, ...this.#mark });
  }

  isSame(other: KernelObject): boolean {
    return (
      other instanceof RouteObject &&
      this.key === other.key &&
      this.gateway === other.gateway &&
      this.device === other.device &&
      this.isOnlink === other.isOnlink &&
      this.#mark.type === other.#mark.type &&
      this.#mark.protocol === other.#mark.protocol &&
      this.#mark.metric === other.#mark.metric
    );
  }

  /**
   * The kernel takes no onlink gateway of IPv6 to which a route leads by another device (ip6_route_check_nh_onlink()),
   * and the gateway lies in the subnet itself: the route that is to be replaced is one. A route to the gateway alone
   * comes before it, and no packet finds none.
   */
  aid(former: KernelObject): RouteObject | undefined {
    const { gateway, device, isOnlink } = this;
    if (!isOnlink || typeof gateway !== 'bigint') return undefined;
    if (!(former instanceof RouteObject) || former.device === device) return undefined;
    return new GatewayAid(gateway, device);
  }
}

/** Comes before every other route to the gateway, and never in the place of one. */
class GatewayAid extends RouteObject {
  constructor(gateway: Address, device: string | undefined) {
    const prefix: Prefix<Address> = { address: gateway, length: bitsOf(gateway) };
    super({ prefix, gateway: undefined, device, isOnlink: false }, { ...OUR_IPV6_MARK, metric: AID_METRIC });
  }

  override add(): string {
    if (this.device === undefined)
      throw new TypeError(`a route to ${formatPrefix(this.prefix)} needs a device`);
    return addRouteLine(this.prefix, this.device, AID_METRIC);
  }
}

/** A route as the kernel lists it. */
export interface HeldRoute extends HeldObject {
  readonly route: Route;
}

/** Comes last and goes first, so that the kernel never sends what it would then have to ask ARP about. */
export const ROUTE = {
  name: 'route',
  tool: 'ip',
  order: LAST_ORDER,
  isShared: false,
  list: listHeldRoutes,
  compareClaims: compareAge,
  explainLoss: (_object: KernelObject, holder: string): PeerRefusal => ({
    code: 'conflict',
    reason: `has the same subnet as the older lease ${holder}`,
  }),
} as const satisfies ObjectKind;

/** Cost: for each family one process (three with `withElsewhere`), about 8 µs for each peer. */
async function listHeldRoutes(kernel: Kernel, scope: ListScope): Promise<HeldRoute[]> {
  const { networks, former, tunnelDevices, withElsewhere } = scope;
  const lists = (selectors: readonly RouteSelector[]): Promise<readonly Route[]> =>
    Promise.all(selectors.map((selector) => kernel.list.routes(selector))).then((found) => found.flat());
  const onDevices = FAMILIES.filter(([name]) => tunnelDevices[name] !== undefined);
  const [within, ours, onDevice] = await Promise.all([
    lists(networks.map((network) => ({ within: network }))),
    lists(withElsewhere ? former.map((network) => ({ protocol: ROUTE_PROTOCOL, within: network })) : []),
    lists(withElsewhere ? onDevices.map(([name, family]) => ({ device: tunnelDevices[name]!, family })) : []),
  ]);
  const elsewhere = new Map<string, Route>();
  for (const route of [...ours, ...onDevice]) {
    if (!networks.some((network) => prefixCovers(network, route.prefix)))
      elsewhere.set(deleteRouteLine(route), route);
  }
  return [...within, ...elsewhere.values()].map((route) => heldRoute(route, tunnelDevices));
}

const FAMILIES = [
  ['v4', 4],
  ['v6', 6],
] as const;

/** A route of the kernel in the form in which it is compared. */
export function heldRoute(route: Route, tunnelDevices: TunnelDevices): HeldRoute {
  const { prefix, gateway, device, protocol, metric, type, isOnlink } = route;
  const isOurs = protocol === ROUTE_PROTOCOL && type === 'unicast'; // the firewall's blackhole has our protocol too
  // flanneld marks nothing, but on a device named as its own, "subnet via its .0 onlink" is its work.
  const tunnelDevice = tunnelDevices[familyNameOf(prefix.address)];
  const isOfFlanneld =
    tunnelDevice !== undefined &&
    device === tunnelDevice &&
    protocol === PROTOCOL_BOOT &&
    isOnlink &&
    gateway === prefix.address;
  const subnet = formatPrefix(prefix);
  return {
    object: new RouteObject({ prefix, gateway, device, isOnlink }, { type, protocol, metric }),
    isInForce: metric === defaultMetric(prefix),
    isOurs: isOurs || isOfFlanneld,
    foreign:
      protocol === ROUTE_PROTOCOL
        ? undefined
        : { subnet, gateway: gateway && formatAddress(gateway), device, protocol },
    route,
  };
}

/** Whether a peer's route may take the place of this one: ours, flanneld's or an administrator's, but no daemon's. */
export function isReplaceable({ protocol }: Pick<Route, 'protocol'>): boolean {
  return [ROUTE_PROTOCOL, PROTOCOL_BOOT, PROTOCOL_STATIC].includes(protocol);
}

/** Refusal for a peer whose subnet is routed by a protocol that is not ours to replace; undefined when it is free. */
export function findConflict(current: readonly Route[]): PeerRefusal | undefined {
  // In IPv6 there are better metrics than ours, and a route that has one stays in force beside it.
  const first = current.find((route) => route.metric <= defaultMetric(route.prefix));
  if (first === undefined || (isReplaceable(first) && first.metric === defaultMetric(first.prefix)))
    return undefined;
  const via = first.gateway === undefined ? '' : ` via ${formatAddress(first.gateway)}`;
  const how = `protocol ${first.protocol}${first.device === undefined ? '' : ` on ${first.device}`}`;
  return {
    code: 'conflict',
    reason: `has its subnet ${formatPrefix(first.prefix)} routed${via} by ${how}, which is not ours to replace`,
  };
}
