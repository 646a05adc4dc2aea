// A kernel in memory with the semantics that the programmer and the kernel modes rely on: what a replaced route
// replaces, which gateways are refused, what goes along with a device that goes, what two VXLAN devices cannot share.
// Lines are those of ip(8) and bridge(8); the refusals have the kernel's words.

import { ROUTE_PROTOCOL } from '../../src/kernel/ip.js';
import { OverlayError } from '../../src/core/errors.js';
import type { FdbEntry } from '../../src/kernel/fdb.js';
import type { BatchFailure, BatchTool } from '../../src/kernel/ip.js';
import type { Kernel } from '../../src/kernel/kernel.js';
import type { Link, LinkSettings } from '../../src/kernel/link.js';
import type { Neighbour } from '../../src/kernel/neigh.js';
import { defaultMetric, type Route, type RouteLookup, type RouteSelector } from '../../src/kernel/route.js';
import {
  type Address,
  familyOf,
  formatAddress,
  formatPrefix,
  parseAnyAddress,
  parseAnyPrefix,
  type Prefix,
  prefixContains,
  prefixCovers,
  prefixEquals,
  prefixOf,
} from '../../src/net/prefix.js';
import { addressOf, linkOf } from './links.js';

/** RTPROT_BOOT of linux/rtnetlink.h: what iproute2 writes when it is told nothing. */
const PROTOCOL_BOOT = 3;

const GONE = 'RTNETLINK answers: No such process';
const NO_ENTRY = 'RTNETLINK answers: No such file or directory';

export class FakeKernel implements Kernel {
  readonly routes: Route[] = [];
  /** Every batch that was performed, line by line. */
  readonly performed: string[] = [];
  /** What it refuses: the first whose expression matches a line answers with its text. */
  readonly refusals: { readonly line: RegExp; readonly message: string }[] = [];
  /** TUN devices that a process has open. */
  readonly readers = new Set<string>();
  readonly #links: Link[] = [];
  readonly #neighbours = new Map<string, Neighbour[]>();
  readonly #fdb = new Map<string, FdbEntry[]>();
  /** By path below /proc/sys, or for an interface's by "<family>/<interface>/<key>". */
  readonly sysctls = new Map<string, string>();
  #nextIndex = 1;

  readonly list: Kernel['list'] = {
    routes: (selector) => Promise.resolve(this.routes.filter((route) => isSelected(route, selector))),
    neighbours: (device) => Promise.resolve(this.#neighbours.get(device) ?? []),
    fdb: (device) => Promise.resolve(this.#fdb.get(device) ?? []),
  };

  readonly lookup: Kernel['lookup'] = {
    routes: (destinations, options) =>
      Promise.resolve(destinations.map((destination) => this.#lookup(destination, options?.through))),
    exactRoutes: (prefixes) =>
      Promise.resolve(
        prefixes.map((prefix) => {
          const route = this.#best(prefix.address);
          return route !== undefined && prefixEquals(route.prefix, prefix) ? route : undefined;
        }),
      ),
    linkName: ({ index }) => Promise.resolve(this.#links.find((link) => link.index === index)?.name),
  };

  readonly links: Kernel['links'] = {
    all: () => Promise.resolve([...this.#links]),
    find: (name) => Promise.resolve(this.#find(name)),
    hasCarrier: (name) => Promise.resolve(this.readers.has(name)),
    create: (name, words) => attempt(() => this.#create(name, words)),
    delete: (name) => attempt(() => this.removeLink(name)),
    set: (name, settings) => attempt(() => this.#set(name, settings)),
    change: (name, words) => attempt(() => this.#change(name, words)),
    addAddress: (name, address) => attempt(() => this.#addAddress(name, address)),
    deleteAddress: (name, { address, length }) =>
      attempt(() => {
        const link = this.#find(name);
        if (link === undefined) return;
        const addresses = link.addresses.filter((own) => own.address !== address || own.length !== length);
        this.#put({ ...link, addresses });
      }),
  };

  /** Whether a feature of a device is on, by "<device>/<feature>". */
  readonly features = new Map<string, boolean>();
  /** How many there are, or why they cannot be counted. */
  ipsecPolicies: number | string = 0;
  /** How often they were asked for. */
  ipsecQuestions = 0;

  readonly settings: Kernel['settings'] = {
    features: () => Promise.resolve(undefined), // no ethtool on this host
    feature: (name, feature) => Promise.resolve(this.features.get(`${name}/${feature}`)),
    setFeatures: () => Promise.resolve(),
    sysctl: (key) => Promise.resolve(this.sysctls.get(key)),
    ipsecPolicies: () => {
      this.ipsecQuestions++;
      return typeof this.ipsecPolicies === 'number'
        ? Promise.resolve(this.ipsecPolicies)
        : Promise.reject(new Error(this.ipsecPolicies));
    },
    interfaceSysctl: (family, name, key) => Promise.resolve(this.sysctls.get(`${family}/${name}/${key}`)),
    setInterfaceSysctl: (family, name, key, value) => {
      this.sysctls.set(`${family}/${name}/${key}`, value);
      return Promise.resolve(true);
    },
  };

  perform(tool: BatchTool, lines: readonly string[]): Promise<readonly BatchFailure[]> {
    const failures: BatchFailure[] = [];
    lines.forEach((line, index) => {
      this.performed.push(line);
      const message =
        this.refusals.find((refusal) => refusal.line.test(line))?.message ?? this.#take(tool, line);
      if (message !== undefined) failures.push({ index, line, message });
    });
    return Promise.resolve(failures);
  }

  // --- what a test does to it ----------------------------------------------------------------------------------

  /** A device of the host's own, with addresses and the routes to their networks. */
  addLink(name: string, cidrs: string | readonly string[] = [], more: Partial<Link> = {}): Link {
    this.#put(linkOf([], { index: this.#nextIndex++, name, mac: '', ...more }));
    for (const cidr of [cidrs].flat()) {
      const [address, length] = cidr.split('/');
      const source = parseAnyAddress(address)!;
      void this.links.addAddress(name, { address: source, length: Number(length) });
      const prefix = prefixOf(source, Number(length));
      const ofFamily = typeof source === 'number' ? { source } : { metric: 256 };
      this.addRoute({ prefix, device: name, protocol: 2, ...ofFamily });
    }
    return this.#find(name)!;
  }

  addRoute(route: Pick<Route, 'prefix' | 'protocol'> & Partial<Route>): void {
    const metric = defaultMetric(route.prefix);
    const fixed = { type: 'unicast', metric, scope: 0, isOnlink: false } as const;
    const devices = route.device === undefined ? [] : [route.device];
    this.routes.push({
      gateway: undefined,
      device: undefined,
      source: undefined,
      devices,
      ...fixed,
      ...route,
    });
  }

  /** Device, and what hangs on it. */
  removeLink(name: string): void {
    const at = this.#links.findIndex((link) => link.name === name);
    if (at < 0) return;
    this.#links.splice(at, 1);
    this.#neighbours.delete(name);
    this.#fdb.delete(name);
    const left = this.routes.filter(({ device }) => device !== name);
    this.routes.splice(0, this.routes.length, ...left);
  }

  renameLink(from: string, to: string): void {
    const link = this.#find(from) ?? fail(`Cannot find device "${from}"`);
    this.#put({ ...link, name: to });
    for (const [at, route] of this.routes.entries())
      if (route.device === from) this.routes[at] = { ...route, device: to, devices: [to] };
  }

  link(name: string): Link | undefined {
    return this.#find(name);
  }

  /** Routes, neighbours and FDB entries below `network`, in words, sorted. */
  shown(network: Prefix<Address>): string[] {
    const routes = this.routes
      .filter(({ prefix }) => prefixCovers(network, prefix))
      .map(({ prefix, gateway, device, protocol }) => {
        const via = gateway === undefined ? '' : ` via ${formatAddress(gateway)}`;
        return `${formatPrefix(prefix)}${via} dev ${device} proto ${protocol}`;
      });
    const neighbours = [...this.#neighbours].flatMap(([device, entries]) =>
      entries.map(({ address, mac }) => `neigh ${formatAddress(address)} ${mac} dev ${device}`),
    );
    const fdb = [...this.#fdb].flatMap(([device, entries]) =>
      entries.map(({ mac, destination }) => `fdb ${mac} ${formatAddress(destination)} dev ${device}`),
    );
    return [...routes, ...neighbours, ...fdb].sort();
  }

  // --- semantics -----------------------------------------------------------------------------------------------

  #find(name: string): Link | undefined {
    return this.#links.find((link) => link.name === name);
  }

  #addAddress(name: string, { address, length }: Prefix<Address>): void {
    const link = this.#find(name) ?? fail(`Cannot find device "${name}"`);
    if (link.addresses.some((own) => own.address === address && own.length === length)) return;
    if (this.#isWithoutIpv6(name, address)) fail('Error: IPv6 is disabled on this device.');
    this.#put({ ...link, addresses: [...link.addresses, addressOf(formatPrefix({ address, length }))] });
  }

  #isWithoutIpv6(device: string, address: Address): boolean {
    return typeof address === 'bigint' && this.sysctls.get(`ipv6/${device}/disable_ipv6`) === '1';
  }

  #put(link: Link): Link {
    const at = this.#links.findIndex(({ index }) => index === link.index);
    if (at < 0) this.#links.push(link);
    else this.#links[at] = link;
    return link;
  }

  #best(address: Address): Route | undefined {
    return this.routes
      .filter(({ prefix }) => prefixContains(prefix, address))
      .sort((a, b) => b.prefix.length - a.prefix.length || a.metric - b.metric)
      .at(0);
  }

  #lookup(destination: Address, through: string | undefined): RouteLookup | undefined {
    const isLocal = this.#links.some(({ addresses }) =>
      addresses.some(({ address }) => address === destination),
    );
    if (isLocal) return { gateway: undefined, device: 'lo', source: destination, isLocal: true };
    const routes = this.routes.filter(({ prefix, device }) => {
      return prefixContains(prefix, destination) && (through === undefined || device === through);
    });
    const [best] = routes.sort((a, b) => b.prefix.length - a.prefix.length || a.metric - b.metric);
    if (best?.device === undefined || best.type !== 'unicast') return undefined;
    return { gateway: best.gateway, device: best.device, source: best.source, isLocal: false };
  }

  #create(name: string, words: readonly string[]): void {
    const value = (key: string): string => words[words.indexOf(key) + 1];
    if (this.#find(name) !== undefined) fail('RTNETLINK answers: File exists');
    if (value('type') !== 'vxlan') fail(`Unknown device type "${value('type')}"`);
    const data = this.#vxlanData(words, {});
    const isLike = (other: Link['data']): boolean =>
      other['id'] === data['id'] &&
      other['port'] === data['port'] &&
      (other['local6'] === undefined) === (data['local6'] === undefined);
    const isTaken = this.#links.some((link) => link.kind === 'vxlan' && isLike(link.data));
    if (isTaken) fail('RTNETLINK answers: File exists');
    this.#put({
      index: this.#nextIndex++,
      name,
      mac: value('address'),
      mtuBytes: Number(value('mtu')),
      txQueueLength: 1000,
      isUp: false,
      isLoopback: false,
      isEthernet: true,
      alias: '',
      kind: 'vxlan',
      data,
      addresses: [],
    });
  }

  #vxlanData(words: readonly string[], before: Link['data']): Record<string, unknown> {
    const data: Record<string, unknown> = { ...before };
    const value = (key: string): string | undefined =>
      words.includes(key) ? words[words.indexOf(key) + 1] : undefined;
    const lower = value('dev');
    if (lower !== undefined && this.#find(lower) === undefined) fail(`Cannot find device "${lower}"`);
    if (lower !== undefined) data['link'] = lower;
    if (value('id') !== undefined) data['id'] = Number(value('id'));
    if (value('dstport') !== undefined) data['port'] = Number(value('dstport'));
    const local = value('local');
    if (local !== undefined) data[local.includes(':') ? 'local6' : 'local'] = local;
    if (words.includes('learning')) data['learning'] = true;
    if (words.includes('nolearning')) data['learning'] = false;
    if (words.includes('gbp')) data['gbp'] = true;
    return data;
  }

  #change(name: string, words: readonly string[]): void {
    const link = this.#find(name) ?? fail(`Cannot find device "${name}"`);
    this.#put({ ...link, data: this.#vxlanData(words, link.data) });
  }

  #set(name: string, settings: LinkSettings): void {
    const link = this.#find(name) ?? fail(`Cannot find device "${name}"`);
    const { isUp = link.isUp, name: to = name, ...rest } = settings;
    if (to !== name && this.#find(to) !== undefined) fail('RTNETLINK answers: File exists');
    // IPv6 addresses go with a device that goes down (addrconf_ifdown).
    const addresses =
      isUp || !link.isUp
        ? link.addresses
        : link.addresses.filter(({ address }) => typeof address === 'number');
    this.#put({ ...link, ...rest, isUp, addresses });
    if (to !== name) this.renameLink(name, to);
    if (isUp) return;
    const left = this.routes.filter(({ device }) => device !== to);
    this.routes.splice(0, this.routes.length, ...left);
  }

  /** What is wrong with a line; undefined when it is done. */
  #take(tool: BatchTool, line: string): string | undefined {
    const [object, action, subject, ...rest] = line.split(' ');
    const value = (key: string): string | undefined =>
      rest.includes(key) ? rest[rest.indexOf(key) + 1] : undefined;
    const device = value('dev') ?? '';
    if (this.#find(device) === undefined) return `Cannot find device "${device}"`;
    if (tool === 'bridge')
      return this.#takeFdb(action, subject, device, parseAnyAddress(value('dst') ?? '')!);
    if (object === 'neigh')
      return this.#takeNeighbour(action, parseAnyAddress(subject)!, device, value('lladdr'));
    const gateway = value('via') === undefined ? undefined : parseAnyAddress(value('via')!);
    const prefix = parseAnyPrefix(subject)!;
    const protocol = Number(value('proto') ?? PROTOCOL_BOOT);
    const metric = Number(value('metric') ?? defaultMetric(prefix));
    if (action === 'del') {
      const at = this.routes.findIndex(
        (route) =>
          prefixEquals(route.prefix, prefix) &&
          route.device === device &&
          route.protocol === protocol &&
          route.metric === metric &&
          (gateway === undefined || route.gateway === gateway),
      );
      if (at < 0) return GONE;
      this.routes.splice(at, 1);
      return undefined;
    }
    const isTaken = (route: Route): boolean => prefixEquals(route.prefix, prefix) && route.metric === metric;
    if (action === 'add' && this.routes.some(isTaken)) return 'RTNETLINK answers: File exists';
    return this.#replaceRoute({
      prefix,
      gateway,
      device,
      isOnlink: rest.includes('onlink'),
      protocol,
      metric,
    });
  }

  #replaceRoute(
    wanted: Pick<Route, 'prefix' | 'gateway' | 'device' | 'isOnlink' | 'protocol' | 'metric'>,
  ): string | undefined {
    const { prefix, gateway, device, isOnlink } = wanted;
    if (this.#find(device!)?.isUp !== true) return 'RTNETLINK answers: Network is down';
    if (this.#isWithoutIpv6(device!, prefix.address)) return 'Error: IPv6 is disabled on nexthop device.';
    if (gateway !== undefined && !isOnlink) {
      const way = this.#lookup(gateway, undefined);
      if (way === undefined || way.gateway !== undefined || way.device !== device)
        return 'Error: Nexthop has invalid gateway.';
    }
    // ip6_route_check_nh_onlink() of Linux: the default route is no reason, nor is one of the device itself.
    const toGateway = typeof gateway === 'bigint' && isOnlink ? this.#best(gateway) : undefined;
    if (toGateway !== undefined && toGateway.prefix.length > 0 && toGateway.device !== device)
      return 'Error: Nexthop has invalid gateway or device mismatch.';
    const isSame = (route: Route): boolean =>
      route.gateway === gateway && route.device === device && route.isOnlink === isOnlink;
    const there = this.routes.filter(
      (route) => prefixEquals(route.prefix, prefix) && route.metric === wanted.metric,
    );
    // fib_table_insert() refuses a route that would be there twice.
    if (there.slice(1).some((route) => isSame(route) && route.protocol === ROUTE_PROTOCOL))
      return 'RTNETLINK answers: File exists';
    if (there.length > 0) this.routes.splice(this.routes.indexOf(there[0]), 1);
    this.addRoute(wanted);
    return undefined;
  }

  #takeNeighbour(
    action: string,
    address: Address,
    device: string,
    mac: string | undefined,
  ): string | undefined {
    const entries = this.#neighbours.get(device) ?? [];
    const left = entries.filter((entry) => entry.address !== address);
    if (action === 'del' && left.length === entries.length) return NO_ENTRY;
    if (action !== 'del') left.push({ address, mac: mac ?? '', isPermanent: true });
    this.#neighbours.set(device, left);
    return undefined;
  }

  #takeFdb(action: string, mac: string, device: string, destination: Address): string | undefined {
    const entries = this.#fdb.get(device) ?? [];
    if (action === 'del') {
      const left = entries.filter((entry) => entry.mac !== mac || entry.destination !== destination);
      if (left.length === entries.length) return NO_ENTRY;
      this.#fdb.set(device, left);
      return undefined;
    }
    // vxlan_fdb_replace() puts one remote in the place of all of a MAC.
    const others = entries.filter((entry) => entry.mac !== mac);
    this.#fdb.set(device, [...others, { mac, destination, isPermanent: true }]);
    return undefined;
  }
}

/** The addresses that a device has when one of them is about to be deleted, from now on. */
export function addressesAtDeletions(kernel: FakeKernel): string[] {
  const seen: string[] = [];
  const former = { ...kernel.links };
  Object.assign(kernel.links, {
    deleteAddress: (name: string, address: Prefix<Address>) => {
      seen.push((kernel.link(name)?.addresses ?? []).map(formatPrefix).join(' '));
      return former.deleteAddress(name, address);
    },
  });
  return seen;
}

function isSelected(route: Route, selector: RouteSelector): boolean {
  const { within, exact, device, protocol } = selector;
  const of = within ?? exact;
  const family = selector.family ?? (of === undefined ? 4 : familyOf(of.address));
  return (
    familyOf(route.prefix.address) === family &&
    (within === undefined || prefixCovers(within, route.prefix)) &&
    (exact === undefined || prefixEquals(exact, route.prefix)) &&
    (device === undefined || route.device === device) &&
    (protocol === undefined || route.protocol === protocol)
  );
}

/** Like an asynchronous call: what is thrown is a rejection. */
function attempt(work: () => void): Promise<void> {
  return new Promise((resolve) => resolve(work()));
}

function fail(message: string): never {
  throw new OverlayError('E_KERNEL', `"ip link" failed: ${message}`);
}
