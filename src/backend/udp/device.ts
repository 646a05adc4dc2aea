// The TUN device of the udp mode: which one it is, whether it is still ours, and what it must look like.
//
// The addon makes it and takes it, by opening it (dataplane/dataplane.ts); everything else about it is done here.

import { OverlayError } from '../../core/errors.js';
import type { Link } from '../../kernel/link.js';
import {
  formatMark,
  isDeviceOf,
  isPersistentTun,
  parseMark,
  UDP_DEVICES,
  udpDeviceName,
} from '../../kernel/ours.js';
import { QueueDrops, type QueueReading } from '../../kernel/queue-drops.js';
import { isLinkLocalIpv6 } from '../../net/bogons.js';
import { familiesOf } from '../../net/dual.js';
import { IPV6_MIN_MTU_BYTES } from '../../net/mtu.js';
import {
  type Address,
  bitsOf,
  type DualPrefix,
  formatPrefix,
  type Prefix,
  prefixEquals,
} from '../../net/prefix.js';
import { PeerCounters } from '../../programmer/metrics.js';
import type { BackendContext } from '../backend.js';
import { KeptFeatures } from './features.js';
import type { OverlayRoutes } from './routes.js';

// Packets or superpackets that wait for the worker. The device drops what does not fit (it never pushes back), and a
// worker that waits for its core misses some thousand single packets: with 1000, four TCP streams without segmentation
// offload lose 3 to 6 % of theirs, with 2000 nothing (docs/performance.md). 2000 are 24 ms at 1 Gbit/s; a deeper queue
// only adds delay under overload.
const TX_QUEUE_LENGTH = 2000;

/**
 * Settings of the device, by family. rp_filter is 2 (loose): the way back to a host's public IP is the underlay's.
 * Strict would discard what admission lets in by that source; the kernel takes the larger of this value and that of
 * "all" (ip-sysctl), so 0 would not do.
 */
const SETTINGS = [
  ['ipv4', 'rp_filter', '2'],
  ['ipv4', 'accept_redirects', '0'],
  ['ipv4', 'send_redirects', '0'],
] as const;

const WITHOUT_IPV6 = [
  ['ipv6', 'disable_ipv6', '1'],
  ['ipv6', 'accept_ra', '0'],
] as const;

/**
 * In this order: IPv6 comes with its addresses. There is no link-local one (addr_gen_mode 1, IN6_ADDR_GEN_MODE_NONE):
 * nobody is on this link, and what the kernel would send from it to multicast groups, nobody carries.
 */
const WITH_IPV6 = [
  ['ipv6', 'accept_ra', '0'],
  ['ipv6', 'accept_redirects', '0'],
  ['ipv6', 'addr_gen_mode', '1'],
  ['ipv6', 'disable_ipv6', '0'],
] as const;

/** What the device is to be. */
export interface DeviceSpec {
  /** Of the one that is open; another of the name is left alone. */
  readonly index: number;
  readonly own: DualPrefix;
  readonly mtuBytes: number;
}

export class UdpDevice {
  readonly features: KeptFeatures;
  /** Repairs of the device and of what hangs on it. */
  readonly repairs = new PeerCounters();
  readonly #context: BackendContext;
  readonly #routes: OverlayRoutes;
  /** The first flannelN that is ours or free; chosen once. */
  #name = udpDeviceName(0);
  #queueDrops = new QueueDrops(this.#name);
  /** Settings of the device that the kernel does not have, or does not let us make. */
  #unset: readonly string[] = [];

  constructor(context: BackendContext, routes: OverlayRoutes) {
    this.#context = context;
    this.#routes = routes;
    this.features = new KeptFeatures(context.kernel, context.log);
  }

  get name(): string {
    return this.#name;
  }

  /**
   * The device of an earlier run of ours, or the first name that nobody has. A device that somebody else made, and one
   * that carries another network, stays whosever it is, also while its daemon is away.
   *
   * @throws OverlayError E_TUN when there is no name left.
   */
  async choose(): Promise<void> {
    const { kernel, networks, holdDevice } = this.#context;
    const links = await kernel.links.all();
    const names = links
      .filter((link) => isPersistentTun(link) && isDeviceOf(link, networks))
      .map(({ name }) => name);
    for (let n = 0; n < UDP_DEVICES; n++) {
      const name = udpDeviceName(n);
      const link = links.find((known) => known.name === name);
      if (link === undefined || (await this.#isUnclaimed(link))) names.push(name);
    }
    for (const name of names) {
      if (!(await holdDevice(name))) continue;
      this.#name = name;
      this.#queueDrops = new QueueDrops(name);
      return;
    }
    throw new OverlayError(
      'E_TUN',
      `No TUN device can be had: flannel0 to flannel${UDP_DEVICES - 1} are all taken`,
    );
  }

  /** Begins to count what its queue drops. */
  startCounting(): void {
    this.#queueDrops.start();
  }

  /** Packets that its queue dropped, over every device that had the name. */
  queueDrops(): number {
    return this.#queueDrops.total();
  }

  /** What queueDrops() went by. */
  queueReading(): QueueReading | undefined {
    return this.#queueDrops.last;
  }

  /** Counts on from what another process has counted. */
  countQueueFrom(reading: QueueReading): void {
    this.#queueDrops.startFrom(reading);
  }

  /**
   * Whether there is a device of an earlier run to go on with. One that does not fit, because it cannot change between
   * one queue and several, is removed when nobody reads it.
   *
   * @throws OverlayError E_TUN when the name belongs to somebody else's device: that is for an operator to mend.
   */
  async adopt(): Promise<boolean> {
    const { kernel, networks, queues } = this.#context;
    const link = await kernel.links.find(this.#name);
    if (link === undefined) return false;
    const isTun = link.kind === 'tun' && link.data['type'] === 'tun';
    if (!isTun) throw this.#cannotUse('exists and is no TUN device');
    if (!isDeviceOf(link, networks) && !(await this.#isUnclaimed(link)))
      throw this.#cannotUse('was made by somebody else');
    const isMultiQueue = link.data['multi_queue'] === true;
    if (isMultiQueue === queues > 1 || (await kernel.links.hasCarrier(this.#name))) return true;
    await this.features.inherit(this.#name);
    await kernel.links.delete(this.#name);
    return false;
  }

  /**
   * What became of our device, in words, when it is no longer the one of its name; undefined while it is.
   *
   * @throws OverlayError E_TUN as adopt() does.
   */
  async whyLost(index: number): Promise<string | undefined> {
    const link = await this.#context.kernel.links.find(this.#name);
    if (link?.index === index) return undefined;
    if (link === undefined)
      return `device ${this.#name} is gone: deleted, renamed or moved to another network namespace`;
    await this.adopt();
    return `device ${this.#name} is another device now, with index ${link.index} instead of ${index}`;
  }

  /** Makes the device what it must be; changes, and says, only what differs. */
  async configure(spec: DeviceSpec, { isRepair = false } = {}): Promise<void> {
    const link = await this.#context.kernel.links.find(this.#name);
    // Deleted, or not ours: the data path is opened anew and comes back here.
    if (link?.index !== spec.index) return;
    if (isRepair) await this.features.keep(this.#name);
    const repaired = (object: RepairedObject, what: string): void => {
      if (isRepair) this.#noteRepair(object, what);
    };
    const hasIpv6 = spec.own.v6 !== undefined;
    // The kernel has taken IPv6 off it, settings and all.
    if (hasIpv6 && link.mtuBytes < IPV6_MIN_MTU_BYTES)
      await this.#context.kernel.links.set(this.#name, { mtuBytes: spec.mtuBytes });
    await this.#configureSettings(hasIpv6, repaired);
    await this.#configureLink(link, spec, repaired);
    await this.#routes.sync(this.#name, spec.own, (network) =>
      repaired('route', `the route of ${formatPrefix(network)} was missing`),
    );
    const networks = this.#ownNetworks();
    const formerNetworks = this.#context.networks.filter(
      (former) => !networks.some((network) => prefixEquals(network, former)),
    );
    // Here, and not with what other modes left: whoever finds this host ready finds one Network routed.
    if (!isRepair) for (const former of formerNetworks) await this.#routes.removeFormer(former, this.#name);
  }

  async #configureSettings(hasIpv6: boolean, repaired: OnRepair): Promise<void> {
    const { settings } = this.#context.kernel;
    const unset: string[] = [];
    for (const [family, key, value] of [...(hasIpv6 ? WITH_IPV6 : WITHOUT_IPV6), ...SETTINGS]) {
      const before = await settings.interfaceSysctl(family, this.#name, key);
      if (!(await settings.setInterfaceSysctl(family, this.#name, key, value))) unset.push(key);
      else if (before !== value) {
        repaired('setting', `${key} was ${before}`);
        if (key === 'addr_gen_mode') await this.#removeLinkLocal();
      }
    }
    if (unset.join() !== this.#unset.join())
      this.#context.log.warn(
        { settings: unset.join(' ') },
        `settings of ${this.#name} that cannot be made here`,
      );
    this.#unset = unset;
  }

  /**
   * What the kernel has made while it was to make one, as it does when IPv6 comes back to a device that is up. One that
   * somebody else has put there stays.
   */
  async #removeLinkLocal(): Promise<void> {
    const { links } = this.#context.kernel;
    for (const { address, length, isStablePrivacy } of (await links.find(this.#name))?.addresses ?? [])
      if (isStablePrivacy && isLinkLocalIpv6(address))
        await links.deleteAddress(this.#name, { address, length });
  }

  async #configureLink(
    link: Link,
    { own: subnets, mtuBytes }: DeviceSpec,
    repaired: OnRepair,
  ): Promise<void> {
    const { links } = this.#context.kernel;
    const own = familiesOf(subnets).map((family): Prefix<Address> => addressOf(subnets[family]!));
    // The alias says which address is ours: it lives as long as the device, over restarts with another subnet.
    // Addresses that somebody else has put there stay. The own one comes first: with the last address of a device the
    // kernel takes its routes away.
    for (const address of own) {
      if (link.addresses.some((known) => prefixEquals(known, address))) continue;
      await links.addAddress(this.#name, address);
      repaired('address', `the address ${formatPrefix(address)} was missing`);
    }
    for (const former of parseMark(link.alias)?.addresses ?? [])
      if (!own.some((address) => prefixEquals(former, address)))
        await links.deleteAddress(this.#name, former);
    const alias = formatMark(...this.#ownNetworks(), ...own);
    if (link.alias !== alias) await links.set(this.#name, { alias });
    if (link.isUp && link.mtuBytes === mtuBytes && link.txQueueLength === TX_QUEUE_LENGTH) return;
    await links.set(this.#name, { mtuBytes, txQueueLength: TX_QUEUE_LENGTH, isUp: true });
    repaired(
      'device',
      `it was ${link.isUp ? 'up' : 'down'}, MTU ${link.mtuBytes}, queue ${link.txQueueLength}`,
    );
  }

  #ownNetworks(): readonly Prefix<Address>[] {
    const { networks } = this.#context.config;
    return familiesOf(networks).map((family): Prefix<Address> => networks[family]!.network);
  }

  #noteRepair(object: RepairedObject, what: string): void {
    this.repairs.repaired(object, 1);
    this.#context.log.warn({ device: this.#name, object }, `repaired: ${what}`);
  }

  /** A device that an earlier release made, and that was left before it got an address. */
  async #isUnclaimed(link: Link): Promise<boolean> {
    const isBare =
      isPersistentTun(link) && link.alias === '' && link.addresses.every(({ scope }) => scope === 'link');
    return isBare && !(await this.#context.kernel.links.hasCarrier(link.name));
  }

  #cannotUse(why: string): OverlayError {
    return new OverlayError('E_TUN', `Cannot use "${this.#name}": a device of that name ${why}`);
  }
}

/** The lowest of the subnet, alone. */
function addressOf({ address }: Prefix<Address>): Prefix<Address> {
  return { address, length: bitsOf(address) };
}

type RepairedObject = 'device' | 'address' | 'route' | 'setting';

type OnRepair = (object: RepairedObject, what: string) => void;
