// Chooses the interface that leads to the other hosts, and the addresses that they are told: one for each family that
// the network has, all of them on the one interface.
//
// --iface values are tried in order, then --iface-regex patterns, then --iface-can-reach; the first that gives an
// interface with a usable address of each family wins. With none of them, the interface that owns --public-ip, or
// --public-ipv6 when that is the only one, is taken, or else the one of the default route that the kernel would follow.
// In a dual-stack network the default routes of both families must not lead to different interfaces.
//
// The choice is made once, at the start; underlay-watch.ts says when it must be made anew. Over a restart, too, an
// address stays as long as the interface has it, whichever addresses came beside it. The devices of an overlay, and
// addresses that a lease may hold, are never candidates, whoever made them: they come and go with us.

import { OverlayError } from '../core/errors.js';
import { type Clock, MONOTONIC_CLOCK, nap } from '../core/waiting.js';
import { isBogon, isLinkLocalIpv6 } from '../net/bogons.js';
import { familiesOf, type FamilyName, mapDual } from '../net/dual.js';
import { ipv4 } from '../net/ipv4.js';
import { ipv6 } from '../net/ipv6.js';
import { IPV6_MIN_MTU_BYTES } from '../net/mtu.js';
import {
  type Address,
  type AddressRange,
  type DualAddress,
  type DualRange,
  familyNameOf,
  formatAddress,
  parseAddress,
  parseAnyAddress,
  type Prefix,
} from '../net/prefix.js';
import { type Link, type LinkAddress, listLinks } from './link.js';
import { listRoutes, lookupRoute } from './route.js';
import { findWithoutIpv6 } from './sysctl.js';
import { describeLinks, usable, whyNone, whyUnsendable } from './underlay-addresses.js';

/** The interface between hosts. */
export interface ExternalInterface {
  readonly name: string;
  readonly index: number;
  readonly mtuBytes: number;
  /** Addresses on the interface, of each family of the network: what sockets bind to. */
  readonly address: DualAddress;
  /** Addresses published to the peers; equal to `address` unless --public-ip or --public-ipv6 says otherwise. */
  readonly publicIp: DualAddress;
}

export interface InterfaceOptions {
  /** Names or addresses. */
  readonly iface: readonly string[];
  /** Unanchored patterns for addresses, then for names. */
  readonly ifaceRegex: readonly string[];
  /** Address to look up, or "". */
  readonly ifaceCanReach: string;
  /** IPv4 address to publish, or ""; without meaning in a network without IPv4. */
  readonly publicIp: string;
  /** Where that comes from, for errors. @default '--public-ip' */
  readonly publicIpFrom?: string | undefined;
  /** IPv6 address to publish, or ""; without meaning in a network without IPv6. @default '' */
  readonly publicIpv6?: string | undefined;
  /** Where that comes from, for errors. @default '--public-ipv6' */
  readonly publicIpv6From?: string | undefined;
}

/** What the choice asks of the kernel. */
export interface UnderlayHost {
  readonly listLinks: typeof listLinks;
  readonly listRoutes: typeof listRoutes;
  readonly lookupRoute: typeof lookupRoute;
  readonly findWithoutIpv6: typeof findWithoutIpv6;
}

export interface ChoiceOptions {
  /** Addresses of the last run: of an interface with several they are taken, unless the options name others. */
  readonly former?: DualAddress | undefined;
  readonly signal?: AbortSignal | undefined;
  /** @default the kernel itself */
  readonly host?: UnderlayHost | undefined;
  /** For the wait for a tentative address. @default MONOTONIC_CLOCK */
  readonly clock?: Clock | undefined;
}

/** An address for some families. */
type Fixed = { readonly [F in FamilyName]?: Address | undefined };

/** What is looked for, and where. */
interface Search {
  readonly families: readonly FamilyName[];
  readonly links: readonly Link[];
  /** Names of links on which the host has switched IPv6 off. */
  readonly withoutIpv6: readonly string[];
  /** What the options want to be published. */
  readonly wanted: Fixed;
  readonly former: Fixed;
  readonly options: InterfaceOptions;
  readonly host: UnderlayHost;
  readonly signal: AbortSignal | undefined;
}

interface Choice {
  readonly link: Link;
  readonly address: DualAddress;
}

const SPOKEN = { v4: 'IPv4', v6: 'IPv6' } as const satisfies Record<FamilyName, string>;
const NUMBER = { v4: 4, v6: 6 } as const satisfies Record<FamilyName, number>;

const DEFAULT_ROUTE = {
  v4: { address: ipv4(0), length: 0 },
  v6: { address: ipv6(0n), length: 0 },
} as const satisfies Record<FamilyName, Prefix<Address>>;

const KERNEL: UnderlayHost = { listLinks, listRoutes, lookupRoute, findWithoutIpv6 };

/** Duplicate address detection takes 1 s, with random delays up to 2 s (RFC 4862 section 5.4). */
const TENTATIVE_MS = 4_000;
const LOOK_MS = 200;

/**
 * Chooses, for the families of `leasable`, which says what leases may hold. An IPv6 address that is still tentative, as
 * it is just after boot, is waited for. Rejects with OverlayError E_INTERFACE saying what was tried and what there is.
 */
export async function chooseExternalInterface(
  options: InterfaceOptions,
  leasable: DualRange,
  { former, signal, host = KERNEL, clock = MONOTONIC_CLOCK }: ChoiceOptions = {},
): Promise<ExternalInterface> {
  const wanted = wantedAddresses(options, leasable);
  const families = familiesOf(leasable);
  const kept: Fixed = Object.fromEntries(
    families.map((family) => [family, wanted[family] === undefined ? former?.[family] : undefined]),
  );
  for (let waitedMs = 0; ; waitedMs += LOOK_MS) {
    const links = candidates(await host.listLinks(signal), leasable);
    const names = families.includes('v6') ? links.map(({ name }) => name) : [];
    const withoutIpv6 = await host.findWithoutIpv6(names);
    const search = { families, links, withoutIpv6, wanted, former: kept, options, host, signal };
    const isLast = waitedMs >= TENTATIVE_MS;
    try {
      const choice = await choose(search);
      // At boot all addresses are tentative, and that of the last run need not be the first that is not.
      if (isLast || !isFormerTentative(choice.link, kept)) return published(choice, wanted);
    } catch (error) {
      if (isLast || !isAnyTentative(links)) throw error;
    }
    await nap(LOOK_MS, signal ?? new AbortController().signal, clock);
  }
}

function published({ link, address }: Choice, wanted: Fixed): ExternalInterface {
  const leastBytes = address.v6 === undefined ? 1 : IPV6_MIN_MTU_BYTES;
  if (link.mtuBytes < leastBytes) {
    const expected = leastBytes === 1 ? 'a positive one' : `at least ${leastBytes}, which IPv6 needs`;
    throw new OverlayError(
      'E_INTERFACE',
      `Interface ${link.name} has MTU ${link.mtuBytes}: expected ${expected}`,
    );
  }
  return {
    name: link.name,
    index: link.index,
    mtuBytes: link.mtuBytes,
    address,
    publicIp: mapDual<Address, Address, unknown>(
      address,
      (own, family) => wanted[family] ?? own,
    ) as DualAddress,
  };
}

/** What --public-ip and --public-ipv6 say, for the families of the network. Throws OverlayError E_INTERFACE. */
function wantedAddresses(options: InterfaceOptions, leasable: DualRange): Fixed {
  return Object.fromEntries(
    familiesOf(leasable).map((family) => [family, wantedAddress(options, family, leasable[family]!)]),
  );
}

function wantedAddress(
  options: InterfaceOptions,
  family: FamilyName,
  range: AddressRange<Address>,
): Address | undefined {
  const text = publicTextOf(options, family);
  if (text === '') return undefined;
  const what = `${originOf(options, family)} is "${text}"`;
  const address = parseAddress(text, NUMBER[family]);
  if (address === undefined || isBogon(address) || isLinkLocalIpv6(address))
    throw new OverlayError('E_INTERFACE', `${what}: expected a unicast ${SPOKEN[family]} address`);
  if (isWithin(range, address)) {
    const held = `${formatAddress(range.first)} to ${formatAddress(range.last)}`;
    throw new OverlayError('E_INTERFACE', `${what}: expected an address that no lease may hold (${held})`);
  }
  return address;
}

function publicTextOf(options: InterfaceOptions, family: FamilyName): string {
  return family === 'v4' ? options.publicIp : (options.publicIpv6 ?? '');
}

function originOf({ publicIpFrom, publicIpv6From }: InterfaceOptions, family: FamilyName): string {
  return family === 'v4' ? (publicIpFrom ?? '--public-ip') : (publicIpv6From ?? '--public-ipv6');
}

async function choose(search: Search): Promise<Choice> {
  const { iface, ifaceRegex, ifaceCanReach } = search.options;
  if (iface.length + ifaceRegex.length === 0 && ifaceCanReach === '') {
    const family = search.families.find((name) => search.wanted[name] !== undefined);
    return family === undefined ? await byDefaultRoute(search) : byPublicIp(search, family);
  }
  const failures: string[] = [];
  const attempts = [
    ...iface.map((value) => () => byNameOrAddress(search, value)),
    ...ifaceRegex.map((value) => () => byPattern(search, value)),
    ...(ifaceCanReach === '' ? [] : [() => byReachability(search, ifaceCanReach)]),
  ];
  for (const attempt of attempts) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof OverlayError)) throw error;
      failures.push(error.message);
    }
  }
  throw new OverlayError(
    'E_INTERFACE',
    `${failures.join('; ')}; interfaces here: ${describeLinks(search.links, search.withoutIpv6)}`,
  );
}

/** All public addresses that are wanted must be addresses of the interface. */
function byPublicIp(search: Search, family: FamilyName): Choice {
  const { wanted, options } = search;
  const hint = ' (behind NAT, name the interface with --iface)';
  const origin = `${originOf(options, family)}=${publicTextOf(options, family)}`;
  const link = ownerOf(search, wanted[family]!, origin, hint);
  const other = family === 'v4' ? wanted.v6 : undefined;
  if (other !== undefined) ownerOf(search, other, `${originOf(options, 'v6')}=${options.publicIpv6}`, hint);
  return complete(search, link, origin, fixedTo(wanted[family]!));
}

function byNameOrAddress(search: Search, value: string): Choice {
  const origin = `--iface=${value}`;
  const address = parseAnyAddress(value);
  if (address !== undefined)
    return complete(search, ownerOf(search, address, origin), origin, fixedTo(address));
  const link = search.links.find(({ name }) => name === value);
  if (link === undefined) throw new OverlayError('E_INTERFACE', `${origin}: no such interface`);
  return complete(search, link, origin);
}

function ownerOf({ links }: Search, wanted: Address, origin: string, hint = ''): Link {
  const owner = links.find((link) => hasAddress(link, wanted));
  if (owner !== undefined) return owner;
  throw new OverlayError('E_INTERFACE', `${origin}: no interface has that address${hint}`);
}

/** In a dual-stack network an interface has to have a match in each family. */
function byPattern(search: Search, pattern: string): Choice {
  let regex: RegExp;
  try {
    regex = new RegExp(pattern);
  } catch (error) {
    throw new OverlayError('E_INTERFACE', `--iface-regex=${pattern}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const origin = `--iface-regex=${pattern}`;
  for (const link of search.links) {
    const matches: Fixed = Object.fromEntries(
      search.families.map((family) => {
        const found = usableOf(search, link, family).find(({ address }) =>
          regex.test(formatAddress(address)),
        );
        return [family, found?.address];
      }),
    );
    if (search.families.every((family) => matches[family] !== undefined))
      return complete(search, link, origin, matches);
  }
  const named = search.links.find((link) => regex.test(link.name));
  if (named !== undefined) return complete(search, named, origin);
  throw new OverlayError('E_INTERFACE', `${origin}: matches no address and no interface`);
}

async function byReachability(search: Search, value: string): Promise<Choice> {
  const origin = `--iface-can-reach=${value}`;
  const destination = parseAnyAddress(value);
  if (destination === undefined) {
    const expected = search.families.map((family) => `an ${SPOKEN[family]} address`).join(' or ');
    throw new OverlayError('E_INTERFACE', `${origin}: expected ${expected}`);
  }
  const route = await search.host.lookupRoute(destination, search.signal);
  const link = search.links.find(({ name }) => name === route?.device);
  if (route === undefined || link === undefined)
    throw new OverlayError('E_INTERFACE', `${origin}: no route to it`);
  const { source } = route;
  // While all addresses of its own are tentative the kernel takes "::1" of another interface.
  return complete(search, link, origin, isFit(source) ? fixedTo(source) : {});

  function isFit(address: Address | undefined): address is Address {
    if (address === undefined) return false;
    return typeof address === 'number' || hasAddress(link!, address);
  }
}

async function byDefaultRoute(search: Search): Promise<Choice> {
  const found: Link[] = [];
  const failures: string[] = [];
  for (const family of search.families) {
    const link = await linkOfDefaultRoute(search, family, failures);
    if (link !== undefined) found.push(link);
  }
  const [first, second] = found;
  if (second !== undefined && second.index !== first.index)
    failures.push(`it leads to ${first.name} in IPv4 and to ${second.name} in IPv6`);
  // Where one family has no default route at all, that of the other tells.
  else if (first !== undefined && failures.length === 0) return complete(search, first, 'default route');
  const what =
    failures.length === 0 ? 'No default route' : `The default route does not tell (${failures.join('; ')})`;
  throw new OverlayError(
    'E_INTERFACE',
    `${what}: name the interface with --iface; interfaces here: ${describeLinks(search.links, search.withoutIpv6)}`,
  );
}

/** Undefined when there is no default route, or none that tells: then `failures` says why. */
async function linkOfDefaultRoute(
  search: Search,
  family: FamilyName,
  failures: string[],
): Promise<Link | undefined> {
  const routes = (await search.host.listRoutes({ exact: DEFAULT_ROUTE[family] }, search.signal))
    .filter(({ type, devices }) => type === 'unicast' && devices.length > 0)
    // The kernel keeps routes of one metric in the order in which it tries them, and so does sort().
    .sort((a, b) => a.metric - b.metric);
  const ours: string[] = [];
  for (const { devices } of routes) {
    const [name] = devices;
    const link = search.links.find((known) => known.name === name);
    if (devices.length > 1) ours.push(`it is multipath, over ${devices.join(' and ')}`);
    else if (link === undefined) ours.push(`${name} is no device that leads to other hosts`);
    else if (usableOf(search, link, family).length === 0) ours.push(lackOf(search, link, family));
    else return link;
  }
  failures.push(...ours);
  return undefined;
}

/** The interface with an address of each family: those that are fixed, or the best of the others. */
function complete(search: Search, link: Link, origin: string, fixed: Fixed = {}): Choice {
  const address: { [F in FamilyName]?: Address } = {};
  for (const family of search.families) {
    const own =
      fixed[family] ?? ownWanted(search, link, family) ?? usableOf(search, link, family)[0]?.address;
    if (own === undefined)
      throw new OverlayError('E_INTERFACE', `${origin}: interface ${lackOf(search, link, family)}`);
    const held = link.addresses.find((known) => known.address === own);
    const unsendable = held && whyUnsendable(held);
    if (unsendable !== undefined)
      throw new OverlayError('E_INTERFACE', `${origin}: ${formatAddress(own)} is ${unsendable}`);
    address[family] = own;
  }
  return { link, address: address as DualAddress };
}

/**
 * In a dual-stack network the address that is to be published, where the interface has it. Throws OverlayError
 * E_INTERFACE when another interface has it.
 */
function ownWanted(
  { families, links, wanted, options }: Search,
  link: Link,
  family: FamilyName,
): Address | undefined {
  const address = wanted[family];
  if (families.length === 1 || address === undefined) return undefined;
  if (hasAddress(link, address)) return address;
  const other = links.find((known) => hasAddress(known, address));
  if (other === undefined) return undefined; // behind NAT
  throw new OverlayError(
    'E_INTERFACE',
    `${originOf(options, family)}=${formatAddress(address)} is an address of ${other.name}: ` +
      `expected one of ${link.name}, which has the other family`,
  );
}

function fixedTo(address: Address): Fixed {
  return typeof address === 'number' ? { v4: address } : { v6: address };
}

function hasAddress(link: Link, wanted: Address): boolean {
  return link.addresses.some(({ address }) => address === wanted);
}

/** Links without those of an overlay, and their addresses of the network's families without those a lease may hold. */
function candidates(links: readonly Link[], leasable: DualRange): Link[] {
  const isCandidate = ({ address }: LinkAddress): boolean => {
    const range: AddressRange<Address> | undefined = leasable[familyNameOf(address)];
    return range !== undefined && !isWithin(range, address);
  };
  return links
    .filter(({ name, kind }) => !(/^flannel[-.\d]/.test(name) && (kind === 'tun' || kind === 'vxlan')))
    .map((link) => ({ ...link, addresses: link.addresses.filter(isCandidate) }));
}

function isWithin({ first, last }: AddressRange<Address>, address: Address): boolean {
  return address >= first && address <= last;
}

function usableOf({ former }: Search, link: Link, family: FamilyName): LinkAddress[] {
  return usable(link, family, former[family]);
}

function isAnyTentative(links: readonly Link[]): boolean {
  return links.some(({ addresses }) =>
    addresses.some(({ address, isTentative }) => isTentative && !isLinkLocalIpv6(address)),
  );
}

function isFormerTentative({ addresses }: Link, former: Fixed): boolean {
  return addresses.some(
    ({ address, isTentative }) => isTentative && address === former[familyNameOf(address)],
  );
}

/** What an interface lacks, and why. */
function lackOf(search: Search, link: Link, family: FamilyName): string {
  return `${link.name} has no usable ${SPOKEN[family]} address${whyNone(link, family, search.withoutIpv6)}`;
}
