// Routes of the main table, of both families: listing, batch lines for changes, and lookups as the kernel would do
// them.
//
// Every route of ours carries ROUTE_PROTOCOL, and deletions name it, so that a route of anyone else is never removed.
// It has the metric that the kernel gives when it is told none: 0 in IPv4, the best there is; 1024 in IPv6
// (IP6_RT_PRIO_USER), which is flannel's too, and behind the 256 of connected networks.

import { ipBatchJson, ipJson, meansGone, ROUTE_PROTOCOL } from './ip.js';
import { checkInterfaceName } from './interface-name.js';
import { OverlayError } from '../core/errors.js';
import { ipv4 } from '../net/ipv4.js';
import { ipv6 } from '../net/ipv6.js';
import {
  type Address,
  bitsOf,
  type Family,
  familyOf,
  formatAddress,
  formatPrefix,
  parseAnyAddress,
  parseCidr,
  type Prefix,
  prefixEquals,
} from '../net/prefix.js';

/** Route protocols of rtnetlink(7) that decisions are made on. */
export const PROTOCOL_KERNEL = 2;
/** The protocol that a route has when `ip route add` or flanneld names none. */
export const PROTOCOL_BOOT = 3;
/** The protocol that an administrator's tools set. */
export const PROTOCOL_STATIC = 4;

/** What a route of ours has, and every one that was made without a metric. */
export function defaultMetric({ address }: Prefix<Address>): number {
  return typeof address === 'number' ? 0 : 1024;
}

/** RTN_UNICAST and RTN_BLACKHOLE of rtnetlink(7). */
export type RouteType = 'unicast' | 'blackhole' | 'other';

export interface Route {
  readonly prefix: Prefix<Address>;
  readonly type: RouteType;
  /** undefined for a route without gateway. */
  readonly gateway: Address | undefined;
  /** undefined for a blackhole or a multipath route. */
  readonly device: string | undefined;
  /** Devices of all next hops, each once; empty for a blackhole. */
  readonly devices: readonly string[];
  readonly protocol: number;
  readonly metric: number;
  readonly isOnlink: boolean;
  /** Preferred source address. */
  readonly source: Address | undefined;
  /** Scope number of rtnetlink(7): 0 global, 253 link, 254 host. */
  readonly scope: number;
}

interface RawRoute {
  readonly type?: string;
  readonly dst: string;
  readonly gateway?: string;
  /** A gateway of the other family, as of IPv4 routes over links that have IPv6 alone (RFC 8950). */
  readonly via?: { readonly host: string };
  dev?: string;
  protocol?: string;
  readonly metric?: number;
  readonly scope?: string;
  readonly prefsrc?: string;
  readonly flags?: readonly string[];
  readonly nexthops?: readonly { readonly dev?: string }[];
}

/** Which routes of the main table to list; all that is given must match. */
export interface RouteSelector {
  /** @default that of `within` or `exact`, or else 4 */
  readonly family?: Family;
  /** Routes to this network or to anything inside it. */
  readonly within?: Prefix<Address> | undefined;
  /** Routes to exactly this network. */
  readonly exact?: Prefix<Address>;
  readonly device?: string;
  readonly protocol?: number;
  /** Of every table instead of the main one. */
  readonly inAllTables?: boolean;
}

/** Routes of the main table, in the kernel's order: of several to one prefix, the first of the lowest metric counts. */
export async function listRoutes(selector: RouteSelector = {}, signal?: AbortSignal): Promise<Route[]> {
  const { within, exact, device, protocol, inAllTables } = selector;
  const prefix = within ?? exact;
  const family = selector.family ?? (prefix === undefined ? 4 : familyOf(prefix.address));
  const words: string[] = [];
  if (inAllTables === true) words.push('table', 'all');
  if (within !== undefined) words.push('root', formatPrefix(within));
  if (exact !== undefined) words.push('exact', formatPrefix(exact));
  if (device !== undefined) words.push('dev', checkInterfaceName(device));
  if (protocol !== undefined) words.push('proto', String(protocol));
  // `ip route show` leaves out of each row the field by which it was selected.
  const selected: Partial<RawRoute> = {};
  if (device !== undefined) selected.dev = device;
  if (protocol !== undefined) selected.protocol = String(protocol);
  try {
    const rows = await ipJson<RawRoute>(['-details', `-${family}`, 'route', 'show', ...words], signal);
    return rows.map((row) => toRoute({ ...row, ...selected }, family)).filter((route) => route !== undefined);
  } catch (error) {
    // A namespace without any route has no table at all ("FIB table does not exist"); a device may be gone.
    if (error instanceof OverlayError && meansGone(error.message)) return [];
    throw error;
  }
}

/** What a route of ours looks like; always unicast, of the default metric, protocol ROUTE_PROTOCOL. */
export interface WantedRoute {
  readonly prefix: Prefix<Address>;
  readonly gateway?: Address | undefined;
  readonly device: string;
  /** The gateway is taken as reachable on the device without a route to it. @default false */
  readonly isOnlink?: boolean;
}

/** Batch line that makes `route` the one for its prefix; replaces in place, so that no packet finds none. */
export function replaceRouteLine(route: WantedRoute): string {
  const words = ['route replace', formatPrefix(route.prefix)];
  if (route.gateway !== undefined) words.push(viaOf(route.prefix, route.gateway));
  words.push('dev', checkInterfaceName(route.device), 'proto', String(ROUTE_PROTOCOL));
  if (route.isOnlink === true) words.push('onlink');
  return words.join(' ');
}

/** Batch line for a route of ours beside all others to its prefix: refused where one has its metric. */
export function addRouteLine(prefix: Prefix<Address>, device: string, metric: number): string {
  const words = ['route add', formatPrefix(prefix), 'dev', checkInterfaceName(device)];
  return [...words, 'proto', String(ROUTE_PROTOCOL), 'metric', String(metric)].join(' ');
}

/** Batch line that removes exactly this route, of its own protocol (ROUTE_PROTOCOL by default) and of no other. */
export function deleteRouteLine(
  route: Pick<Route, 'prefix' | 'gateway' | 'device'> & {
    readonly protocol?: number;
    readonly metric?: number;
  },
): string {
  const words = ['route del', formatPrefix(route.prefix)];
  if (route.gateway !== undefined) words.push(viaOf(route.prefix, route.gateway));
  if (route.device !== undefined) words.push('dev', checkInterfaceName(route.device));
  words.push('proto', String(route.protocol ?? ROUTE_PROTOCOL));
  if (route.metric !== undefined && route.metric !== 0) words.push('metric', String(route.metric));
  return words.join(' ');
}

function viaOf(prefix: Prefix<Address>, gateway: Address): string {
  const isOther = familyOf(gateway) !== familyOf(prefix.address);
  return `via ${isOther ? `inet${familyOf(gateway) === 6 ? '6' : ''} ` : ''}${formatAddress(gateway)}`;
}

/** Where a route leads and whose it is, in words. */
export function describeRoute({ prefix, gateway, devices, protocol }: Route): string {
  const via = gateway === undefined ? '' : ` via ${formatAddress(gateway)}`;
  const on = devices.length === 0 ? '' : ` on ${devices.join(' and ')}`;
  return `${formatPrefix(prefix)}${via}${on} (protocol ${protocol})`;
}

/** How a packet to an address would leave this host. */
export interface RouteLookup {
  /** undefined when the destination is on-link (or local). */
  readonly gateway: Address | undefined;
  readonly device: string;
  readonly source: Address | undefined;
  /** The destination is an address of this host. */
  readonly isLocal: boolean;
}

/** What decides a lookup beside the destination. */
export interface LookupOptions {
  /** Device by which packets have to leave. Only its routes and those of its VRF count. */
  readonly through?: string | undefined;
  /** The local address and UDP port of a socket that sends to the same port; rules of `ip rule` may match them. */
  readonly socket?: { readonly address: Address; readonly port: number } | undefined;
}

/**
 * The kernel's routes for packets to `destinations`, in their order; undefined where it has none.
 * Cost: one process; about 10 µs for each destination, twice that with `through`.
 */
export async function lookupRoutes(
  destinations: readonly Address[],
  { through, socket }: LookupOptions = {},
  signal?: AbortSignal,
): Promise<(RouteLookup | undefined)[]> {
  let by = through === undefined ? '' : ` oif ${checkInterfaceName(through)}`;
  if (socket !== undefined) {
    const { address, port } = socket;
    by += ` from ${formatAddress(address)} ipproto udp sport ${port} dport ${port}`;
  }
  const lines = destinations.map((destination) => `route get ${formatAddress(destination)}${by}`);
  // With a device named, the kernel takes what it has no route for as on-link (ip_route_output_key_hash_rcu); only the
  // route itself, which "fibmatch" asks for, tells the two apart.
  const matches = through === undefined ? [] : lines.map((line) => line.replace('get ', 'get fibmatch '));
  const answers = await ipBatchJson<RawRoute>([...lines, ...matches], signal);
  // A refusal (ENETUNREACH, EHOSTUNREACH, EACCES for "prohibit") is the answer, not a failure.
  return lines.map((_, i) => {
    const rows = through !== undefined && answers[lines.length + i] === undefined ? undefined : answers[i];
    return rows === undefined ? undefined : toLookup(rows[0]);
  });
}

/**
 * For each prefix the route of exactly this prefix that packets follow now; undefined when they follow a shorter one or
 * none. Cheaper than a listing for a few prefixes: the kernel looks up instead of dumping.
 */
export async function lookupExactRoutes(
  prefixes: readonly Prefix<Address>[],
  signal?: AbortSignal,
): Promise<(Route | undefined)[]> {
  // The first two addresses of a subnet may be a broadcast address or a gateway of this host, so another one is asked.
  const lines = prefixes.map(({ address, length }) => {
    return `route get fibmatch ${formatAddress(thirdOf(address, length))}`;
  });
  const answers = await ipBatchJson<RawRoute>(lines, signal);
  return answers.map((rows, index) => {
    const route = rows?.[0] === undefined ? undefined : toRoute(rows[0], familyOf(prefixes[index].address));
    return route !== undefined && prefixEquals(route.prefix, prefixes[index]) ? route : undefined;
  });
}

/** lookupRoutes() for one destination. */
export async function lookupRoute(
  destination: Address,
  signal?: AbortSignal,
): Promise<RouteLookup | undefined> {
  return (await lookupRoutes([destination], {}, signal))[0];
}

function toLookup(row: RawRoute | undefined): RouteLookup | undefined {
  if (row?.dev === undefined) return undefined;
  return {
    gateway: gatewayOf(row),
    device: row.dev,
    source: row.prefsrc === undefined ? undefined : parseAnyAddress(row.prefsrc),
    isLocal: row.type === RTN_LOCAL,
  };
}

function gatewayOf({ gateway, via }: RawRoute): Address | undefined {
  const text = gateway ?? via?.host;
  return text === undefined ? undefined : parseAnyAddress(text);
}

/** The third address of a prefix, or the first of one that is too small. */
function thirdOf(address: Address, length: number): Address {
  if (length > bitsOf(address) - 2) return address;
  return typeof address === 'number' ? ipv4(address + 2) : ipv6(address + 2n);
}

const RTN_UNICAST = '1';
const RTN_LOCAL = '2';
const RTN_BLACKHOLE = '6';

/** IPv6 gives a blackhole the device "lo". */
function devicesOf(row: RawRoute): string[] {
  if (row.type === RTN_BLACKHOLE) return [];
  const devices = [row.dev, ...(row.nexthops ?? []).map(({ dev }) => dev)];
  return [...new Set(devices.filter((device) => device !== undefined))];
}

function toRoute(row: RawRoute, family: Family): Route | undefined {
  const whole = family === 4 ? '0.0.0.0/0' : '::/0';
  const destination =
    row.dst === 'default' ? whole : row.dst.includes('/') ? row.dst : `${row.dst}/${family === 4 ? 32 : 128}`;
  const prefix = parseCidr(destination, family);
  if (prefix === undefined) return undefined;
  return {
    prefix,
    type: row.type === RTN_UNICAST ? 'unicast' : row.type === RTN_BLACKHOLE ? 'blackhole' : 'other',
    gateway: gatewayOf(row),
    device: row.type === RTN_BLACKHOLE ? undefined : row.dev,
    devices: devicesOf(row),
    protocol: Number(row.protocol ?? PROTOCOL_BOOT),
    metric: row.metric ?? 0,
    isOnlink: row.flags?.includes('onlink') ?? false,
    source: row.prefsrc === undefined ? undefined : parseAnyAddress(row.prefsrc),
    scope: Number(row.scope ?? 0),
  };
}
