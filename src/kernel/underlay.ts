// Chooses the interface that leads to the other hosts, and the address that they are told (IPv4).
//
// --iface values are tried in order, then --iface-regex patterns, then --iface-can-reach; the first that gives an
// interface with a usable address wins. With none of them, the interface that owns --public-ip is taken, or else the
// one of the default route that the kernel would follow.
//
// The choice is made once, at the start; underlay-watch.ts says when it must be made anew. Over a restart, too, the
// address stays as long as the interface has it, whichever addresses came beside it. The devices of an overlay, and
// addresses that a lease may hold, are never candidates, whoever made them: they come and go with us.

import { OverlayError } from '../core/errors.js';
import { isBogon } from '../net/bogons.js';
import { formatIpv4, type Ipv4, ipv4, parseIpv4 } from '../net/ipv4.js';
import type { AddressRange, DualAddress, DualRange } from '../net/prefix.js';
import { type Link, type LinkAddress, listLinks } from './link.js';
import { listRoutes, lookupRoute } from './route.js';

/** The interface between hosts. */
export interface ExternalInterface {
  readonly name: string;
  readonly index: number;
  readonly mtuBytes: number;
  /** Address on the interface: what sockets bind to. */
  readonly address: DualAddress;
  /** Address published to the peers; equal to `address` unless --public-ip says otherwise. */
  readonly publicIp: DualAddress;
}

export interface InterfaceOptions {
  /** Names or addresses. */
  readonly iface: readonly string[];
  /** Unanchored patterns for addresses, then for names. */
  readonly ifaceRegex: readonly string[];
  /** Address to look up, or "". */
  readonly ifaceCanReach: string;
  /** Address to publish, or "". */
  readonly publicIp: string;
  /** Where that comes from, for errors. @default '--public-ip' */
  readonly publicIpFrom?: string | undefined;
}

export interface ChoiceOptions {
  /** Address of the last run: of an interface with several it is taken, unless the options name another. */
  readonly former?: DualAddress | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Candidate extends Link {
  readonly former: Ipv4 | undefined;
}

interface Choice {
  readonly link: Link;
  readonly address: Ipv4;
}

const PUBLIC_IP = '--public-ip';

/**
 * Chooses, for the families of `dual`, which says what leases may hold. Rejects with OverlayError E_INTERFACE saying
 * what was tried and what there is.
 */
export async function chooseExternalInterface(
  options: InterfaceOptions,
  dual: DualRange,
  { former, signal }: ChoiceOptions = {},
): Promise<ExternalInterface> {
  const leasable = dual.v4!;
  const { publicIpFrom: origin = PUBLIC_IP } = options;
  const publicIp = options.publicIp === '' ? undefined : parseIpv4(options.publicIp);
  if (options.publicIp !== '' && (publicIp === undefined || isBogon(publicIp))) {
    throw new OverlayError(
      'E_INTERFACE',
      `${origin} is "${options.publicIp}": expected a unicast IPv4 address`,
    );
  }
  if (publicIp !== undefined && isWithin(leasable, publicIp)) {
    const range = `${formatIpv4(leasable.first)} to ${formatIpv4(leasable.last)}`;
    throw new OverlayError(
      'E_INTERFACE',
      `${origin} is "${options.publicIp}": expected an address that no lease may hold (${range})`,
    );
  }
  const links = candidates(
    await listLinks(signal),
    leasable,
    publicIp === undefined ? former?.v4 : undefined,
  );
  const { link, address } = await choose(links, options, signal);
  if (link.mtuBytes <= 0) {
    throw new OverlayError(
      'E_INTERFACE',
      `Interface ${link.name} has MTU ${link.mtuBytes}: expected a positive one`,
    );
  }
  return {
    name: link.name,
    index: link.index,
    mtuBytes: link.mtuBytes,
    address: { v4: address },
    publicIp: { v4: publicIp ?? address },
  };
}

async function choose(
  links: readonly Candidate[],
  options: InterfaceOptions,
  signal?: AbortSignal,
): Promise<Choice> {
  const { iface, ifaceRegex, ifaceCanReach, publicIp, publicIpFrom = PUBLIC_IP } = options;
  if (iface.length + ifaceRegex.length === 0 && ifaceCanReach === '') {
    return publicIp === ''
      ? await byDefaultRoute(links, signal)
      : byNameOrAddress(links, publicIp, publicIpFrom, ' (behind NAT, name the interface with --iface)');
  }
  const failures: string[] = [];
  const attempts = [
    ...iface.map((value) => () => byNameOrAddress(links, value, '--iface')),
    ...ifaceRegex.map((value) => () => byPattern(links, value)),
    ...(ifaceCanReach === '' ? [] : [() => byReachability(links, ifaceCanReach, signal)]),
  ];
  for (const attempt of attempts) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof OverlayError)) throw error;
      failures.push(error.message);
    }
  }
  throw new OverlayError('E_INTERFACE', `${failures.join('; ')}; interfaces here: ${describeAll(links)}`);
}

function byNameOrAddress(links: readonly Candidate[], value: string, origin: string, hint = ''): Choice {
  const wanted = parseIpv4(value);
  if (wanted !== undefined) {
    const owner = links.find((link) => link.addresses.some(({ address }) => address === wanted));
    if (owner !== undefined) return { link: owner, address: wanted };
    throw new OverlayError('E_INTERFACE', `${origin}=${value}: no interface has that address${hint}`);
  }
  const link = links.find(({ name }) => name === value);
  if (link === undefined) throw new OverlayError('E_INTERFACE', `${origin}=${value}: no such interface`);
  return withAddress(link, `${origin}=${value}`);
}

function byPattern(links: readonly Candidate[], pattern: string): Choice {
  let regex: RegExp;
  try {
    regex = new RegExp(pattern);
  } catch (error) {
    throw new OverlayError('E_INTERFACE', `--iface-regex=${pattern}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  for (const link of links) {
    const found = usable(link).find(({ address }) => regex.test(formatIpv4(address)));
    if (found !== undefined) return { link, address: found.address };
  }
  const named = links.find((link) => regex.test(link.name));
  if (named !== undefined) return withAddress(named, `--iface-regex=${pattern}`);
  throw new OverlayError('E_INTERFACE', `--iface-regex=${pattern}: matches no address and no interface`);
}

async function byReachability(
  links: readonly Candidate[],
  value: string,
  signal?: AbortSignal,
): Promise<Choice> {
  const origin = `--iface-can-reach=${value}`;
  const destination = parseIpv4(value);
  if (destination === undefined) throw new OverlayError('E_INTERFACE', `${origin}: expected an IPv4 address`);
  const route = await lookupRoute(destination, signal);
  const link = links.find(({ name }) => name === route?.device);
  if (route === undefined || link === undefined)
    throw new OverlayError('E_INTERFACE', `${origin}: no route to it`);
  return route.source === undefined ? withAddress(link, origin) : { link, address: route.source };
}

async function byDefaultRoute(links: readonly Candidate[], signal?: AbortSignal): Promise<Choice> {
  const routes = (await listRoutes({ exact: { address: ipv4(0), length: 0 } }, signal))
    .filter(({ type, devices }) => type === 'unicast' && devices.length > 0)
    // The kernel keeps routes of one metric in the order in which it tries them, and so does sort().
    .sort((a, b) => a.metric - b.metric);
  const failures: string[] = [];
  for (const { devices } of routes) {
    const [name] = devices;
    const link = links.find((known) => known.name === name);
    if (devices.length > 1) failures.push(`it is multipath, over ${devices.join(' and ')}`);
    else if (link === undefined) failures.push(`${name} is no device that leads to other hosts`);
    else if (usable(link).length === 0) failures.push(`${name} has no usable IPv4 address`);
    else return withAddress(link, 'default route');
  }
  const what =
    failures.length === 0 ? 'No default route' : `The default route does not tell (${failures.join('; ')})`;
  throw new OverlayError(
    'E_INTERFACE',
    `${what}: name the interface with --iface; interfaces here: ${describeAll(links)}`,
  );
}

function withAddress(link: Candidate, origin: string): Choice {
  const [first] = usable(link);
  if (first === undefined)
    throw new OverlayError('E_INTERFACE', `${origin}: interface ${link.name} has no usable IPv4 address`);
  return { link, address: first.address };
}

/** Links without those of an overlay, and their addresses without those that a lease may hold. */
function candidates(links: readonly Link[], leasable: AddressRange, former: Ipv4 | undefined): Candidate[] {
  return links
    .filter(({ name, kind }) => !(/^flannel[-.\d]/.test(name) && (kind === 'tun' || kind === 'vxlan')))
    .map((link) => ({
      ...link,
      former,
      addresses: link.addresses.filter(({ address }) => !isWithin(leasable, address)),
    }));
}

function isWithin({ first, last }: AddressRange, address: Ipv4): boolean {
  return address >= first && address <= last;
}

/**
 * Addresses a host can be reached under, the best first: that of the last run, global before link-local, one with a
 * prefix before a lone /32 and the first of a network before those that came beside it (virtual addresses of keepalived
 * or kube-vip, which move between hosts), permanent before dynamic.
 */
function usable(link: Candidate): LinkAddress[] {
  const found = link.addresses.filter(
    ({ address, isDeprecated, scope }) => !isDeprecated && !isBogon(address) && scope !== 'host',
  );
  const rank = ({ address, scope, length, isSecondary, isPermanent }: LinkAddress): number =>
    (address === link.former ? 0 : 16) +
    (scope === 'global' ? 0 : 8) +
    (length < 32 ? 0 : 4) +
    (isSecondary ? 2 : 0) +
    (isPermanent ? 0 : 1);
  return found.sort((a, b) => rank(a) - rank(b));
}

function describeAll(links: readonly Link[]): string {
  const shown = links.map(
    ({ name, addresses }) => `${name} [${addresses.map(({ address }) => formatIpv4(address)).join(' ')}]`,
  );
  return shown.join(', ') || 'none';
}
