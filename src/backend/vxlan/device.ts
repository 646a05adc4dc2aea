// The VXLAN device of the vxlan mode: found and taken over when it fits, made anew when it does not.
//
// Taking over is what makes a restart invisible: the kernel goes on forwarding, and the device keeps its MAC, which the
// peers have in their FDB. A device that must be made anew gets the old MAC for the same reason. The MAC is given at
// creation, since systemd's MACAddressPolicy=persistent changes only addresses that the kernel chose
// (NET_ADDR_RANDOM, see systemd.link(5)).
//
// Invariant: a device that works is not deleted before the one to follow it is there. The interface below is told by its
// index, which a rename keeps. What the kernel can change in a device that stays is changed there: the interface below,
// the local address, learning, the group. For the rest a second device is made under another name and takes its place.

import { differingFeatures } from '../../kernel/ethtool.js';
import { meansGone } from '../../kernel/ip.js';
import type { Kernel } from '../../kernel/kernel.js';
import { OverlayError } from '../../core/errors.js';
import { formatIpv4 } from '../../net/ipv4.js';
import { formatPrefix, type Prefix, prefixContains, prefixEquals } from '../../net/prefix.js';
import { VXLAN_OVERHEAD_BYTES } from '../../net/mtu.js';
import { formatMark, parseMark, vxlanDeviceName } from '../../kernel/ours.js';
import type { ExternalInterface } from '../backend.js';
import { deriveVtepMac } from './vtep.js';
import type { VxlanConfig } from './config.js';
import type { Features } from '../../kernel/ethtool.js';
import type { Link } from '../../kernel/link.js';
import type { Logger } from '../../core/log.js';

export interface VxlanDeviceOptions {
  readonly kernel: Kernel;
  readonly config: VxlanConfig;
  readonly network: Prefix;
  /** Networks whose device may be taken over: the Network, and that of this host's last run. */
  readonly networks: readonly Prefix[];
  /** False: the device does not leave checksums of inner packets to the card below, which some compute wrongly. */
  readonly hasTxChecksum: boolean;
  readonly log: Logger;
}

/** The feature by which the kernel leaves a checksum to the device (NETIF_F_HW_CSUM). */
const TX_CHECKSUM = 'tx-checksum-ip-generic';

/** What a call found to do; a fitting device in order gives three times false. */
export interface DeviceChange {
  readonly wasMade: boolean;
  /** MTU, MAC, alias or admin state were set right. */
  readonly wasRepaired: boolean;
  readonly wasAddressed: boolean;
}

/** Why a device cannot be used as it is. */
interface Misfit {
  readonly reason: string;
  /** The kernel can change it in the device, at least newer ones. */
  readonly isChangeable: boolean;
}

export class VxlanDevice {
  readonly name: string;
  readonly #kernel: Kernel;
  readonly #config: VxlanConfig;
  readonly #network: Prefix;
  readonly #networks: readonly Prefix[];
  readonly #log: Logger;
  readonly #options: VxlanDeviceOptions;
  #mac: string | undefined;
  /** Of the device when it was last seen; undefined without ethtool. */
  #features: Features | undefined;

  constructor(options: VxlanDeviceOptions) {
    this.#options = options;
    this.#kernel = options.kernel;
    this.#config = options.config;
    this.#network = options.network;
    this.#networks = options.networks;
    this.#log = options.log;
    this.name = vxlanDeviceName(options.config.vni);
  }

  /** MAC of the device once ensure() has resolved; the same for the life of this object. */
  get mac(): string | undefined {
    return this.#mac;
  }

  /**
   * MTU of the device: that of the outer packets less the overhead.
   * Throws OverlayError E_CONFIG when the configured MTU does not fit through the interface.
   */
  mtuBytes(iface: ExternalInterface): number {
    const outer = this.#config.outerMtuBytes ?? iface.mtuBytes;
    if (outer > iface.mtuBytes) {
      const limit = `${iface.mtuBytes} of interface "${iface.name}"`;
      throw new OverlayError(
        'E_CONFIG',
        `Network config, Backend.MTU ${outer}: expected at most the MTU ${limit}`,
      );
    }
    return outer - VXLAN_OVERHEAD_BYTES;
  }

  /**
   * Makes sure that the device is there, fits the config and `iface`, is up and, when `address` is given, has this
   * address as its only one inside the network. Rejects with OverlayError E_KERNEL or E_CONFIG.
   */
  async ensure(
    iface: ExternalInterface,
    address: Prefix | undefined,
    signal?: AbortSignal,
  ): Promise<DeviceChange> {
    const mtuBytes = this.mtuBytes(iface);
    const found = await this.#kernel.links.find(this.name, signal);
    if (found !== undefined) this.#checkOwner(found);
    let misfit = found && this.#misfit(found, iface);
    let link = found;
    let isSame = true;
    if (found?.kind === 'vxlan')
      this.#features = (await this.#kernel.settings.features(this.name, signal)) ?? this.#features;
    if (found === undefined || misfit !== undefined) {
      const uplink = await this.#uplink(iface);
      misfit = found && this.#misfit(found, uplink);
      if (found === undefined) await this.#make(this.name, uplink, mtuBytes, signal);
      else if (misfit !== undefined) isSame = await this.#mend(found, misfit, uplink, mtuBytes, signal);
      link = await this.#kernel.links.find(this.name, signal);
    }
    if (link === undefined)
      throw new OverlayError('E_KERNEL', `VXLAN device "${this.name}" vanished while it was set up`);
    const wasMade = found === undefined || !isSame;
    this.#mac ??= link.mac;
    const hadFeatures = await this.#keepFeatures(wasMade, signal);
    const wasRepaired = (await this.#repair(link, mtuBytes, wasMade, signal)) || !hadFeatures;
    const wasAddressed = address !== undefined && (await this.#address(link, address, signal));
    return { wasMade, wasRepaired: wasRepaired || (misfit !== undefined && isSame), wasAddressed };
  }

  /** One without our mark, as flanneld leaves it, is taken over; one that carries another network is not ours. */
  #checkOwner(link: Link): void {
    const network = parseMark(link.alias)?.network;
    if (network === undefined || this.#networks.some((ours) => prefixEquals(ours, network))) return;
    throw new OverlayError(
      'E_KERNEL',
      `VXLAN device "${this.name}" carries network ${formatPrefix(network)}, not ${formatPrefix(this.#network)}: ` +
        'give each network its own Backend.VNI, or delete the device if nobody serves that network any more',
    );
  }

  /** The interface under the name it has now. Rejects when it is gone: what there is then stays as it is. */
  async #uplink(iface: ExternalInterface): Promise<ExternalInterface> {
    const name = await this.#kernel.lookup.linkName(iface);
    if (name !== undefined) return { ...iface, name };
    const what = `Cannot make VXLAN device "${this.name}" fit`;
    throw new OverlayError('E_KERNEL', `${what}: interface "${iface.name}" is gone`);
  }

  /** What keeps `link` from being used; undefined when it can be. MAC, MTU and admin state are set right later. */
  #misfit(link: Link, iface: ExternalInterface): Misfit | undefined {
    if (link.kind !== 'vxlan') return { reason: `it is of kind "${link.kind}"`, isChangeable: false };
    const { data } = link;
    const differ = (isChangeable: boolean, what: string, found: unknown, wanted: unknown) => {
      const reason = `its ${what} is ${JSON.stringify(found) ?? 'unset'}, not ${JSON.stringify(wanted)}`;
      return found === wanted ? undefined : { reason, isChangeable };
    };
    return (
      differ(false, 'VNI', data['id'], this.#config.vni) ??
      differ(false, 'port', data['port'], this.#config.port) ??
      differ(false, 'GBP', data['gbp'] === true, this.#config.hasGbp) ??
      differ(true, 'underlying interface', data['link'], iface.name) ??
      differ(true, 'local address', data['local'], formatIpv4(iface.address)) ??
      differ(true, 'learning', data['learning'] === true, this.#config.hasLearning) ??
      (data['group'] === undefined ? undefined : { reason: 'it has a multicast group', isChangeable: true })
    );
  }

  /** Makes the device of our name fit; resolves with whether it is still the same one. */
  async #mend(
    found: Link,
    { reason, isChangeable }: Misfit,
    iface: ExternalInterface,
    mtuBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    if (found.kind === 'vxlan') this.#mac ??= found.mac;
    if (isChangeable && (await this.#change(found, iface, signal))) {
      this.#log.info({ device: this.name, reason }, 'changed the VXLAN device');
      return true;
    }
    this.#log.warn({ device: this.name, reason }, 'making the VXLAN device anew');
    if (isChangeable) {
      // One of the same VNI and port cannot stand beside it (EEXIST).
      await this.#kernel.links.delete(this.name, signal);
      await this.#make(this.name, iface, mtuBytes, signal);
    } else {
      await this.#replace(found, iface, mtuBytes, signal);
    }
    return false;
  }

  /** Changes the device in place. False when the kernel does not do that: older ones keep some of these settings. */
  async #change(found: Link, iface: ExternalInterface, signal: AbortSignal | undefined): Promise<boolean> {
    const words = this.#words(iface);
    if (found.data['group'] !== undefined) words.push('remote', '0.0.0.0');
    try {
      await this.#kernel.links.change(this.name, words, signal);
    } catch (error) {
      const isRefused =
        error instanceof OverlayError && /Cannot change|not supported|Invalid argument/.test(error.message);
      if (isRefused) return false;
      throw error;
    }
    const link = await this.#kernel.links.find(this.name, signal);
    return link !== undefined && this.#misfit(link, iface) === undefined;
  }

  /** Puts a new device in the place of `former`, which stays as it is when that cannot be made. */
  async #replace(
    former: Link,
    iface: ExternalInterface,
    mtuBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { vni, port } = this.#config;
    const name = `flnew.${vni}`;
    await this.#discard(name, signal); // of a run that was cut off
    try {
      await this.#make(name, iface, mtuBytes, signal);
      // A port that somebody holds is refused when the device goes up. On the same port only the former one tells.
      if (former.kind !== 'vxlan' || former.data['port'] !== port) {
        await this.#kernel.settings.setInterfaceSysctl('ipv6', name, 'disable_ipv6', '1');
        await this.#setUp(name, signal);
        await this.#kernel.links.set(name, { isUp: false }, signal);
      }
      await this.#kernel.links.delete(this.name, signal);
      await this.#kernel.links.set(name, { name: this.name }, signal);
    } catch (error) {
      await this.#discard(name, signal);
      throw error;
    }
  }

  async #discard(name: string, signal: AbortSignal | undefined): Promise<void> {
    if ((await this.#kernel.links.find(name, signal))?.kind === 'vxlan')
      await this.#kernel.links.delete(name, signal);
  }

  /** What comes after the name, for a new device and for one that is changed. */
  #words(iface: ExternalInterface): string[] {
    const { vni, hasLearning } = this.#config;
    const words = ['type', 'vxlan', 'id', String(vni), 'dev', iface.name, 'local', formatIpv4(iface.address)];
    return [...words, hasLearning ? 'learning' : 'nolearning'];
  }

  async #make(
    name: string,
    iface: ExternalInterface,
    mtuBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    this.#mac ??= deriveVtepMac(iface.publicIp, this.#config.vni);
    const { port, hasGbp } = this.#config;
    const words = ['mtu', String(mtuBytes), 'address', this.#mac, ...this.#words(iface)];
    words.push('dstport', String(port));
    if (hasGbp) words.push('gbp');
    try {
      await this.#kernel.links.create(name, words, signal);
    } catch (cause) {
      throw await this.#explain(cause, iface, signal);
    }
  }

  /** Adds to a refusal what the operator has to look at. */
  async #explain(
    cause: unknown,
    iface: ExternalInterface,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    if (!(cause instanceof OverlayError)) return cause;
    const { vni, port } = this.#config;
    const what = `Cannot make VXLAN device "${this.name}" (VNI ${vni}, port ${port}, on "${iface.name}")`;
    if (meansTaken(cause)) {
      const links = await this.#kernel.links.all(signal);
      const holder = links.find((link) => {
        const isOnPort = link.kind === 'vxlan' && link.data['port'] === port;
        return isOnPort && link.name !== this.name && (link.data['id'] === vni || link.isUp);
      });
      const by = holder === undefined ? 'another VXLAN device or socket' : `device "${holder.name}"`;
      const other = `VNI or port is in use by ${by}; choose another Backend.VNI or Backend.Port, or remove it`;
      return new OverlayError('E_KERNEL', `${what}: ${other}`, { cause });
    }
    if (meansGone(cause.message)) {
      return new OverlayError('E_KERNEL', `${what}: interface "${iface.name}" is gone`, { cause });
    }
    if (/Unknown device type|Operation not supported/.test(cause.message)) {
      return new OverlayError('E_KERNEL', `${what}: the kernel has no VXLAN (try "modprobe vxlan")`, {
        cause,
      });
    }
    return new OverlayError('E_KERNEL', `${what}: ${cause.message}`, { cause });
  }

  async #repair(
    link: Link,
    mtuBytes: number,
    isNew: boolean,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const wrongMac = link.mac !== this.#mac;
    const wrongMtu = link.mtuBytes !== mtuBytes;
    const wrongAlias = link.alias !== formatMark(this.#network);
    if (wrongMac || wrongMtu || wrongAlias) {
      if (!isNew)
        this.#log.info({ device: this.name, mtuBytes, mac: this.#mac }, 'setting the VXLAN device right');
      await this.#kernel.links.set(
        this.name,
        { mtuBytes, alias: formatMark(this.#network), ...(wrongMac ? { mac: this.#mac! } : {}) },
        signal,
      );
    }
    // Only IPv4 is carried: router advertisements or link-local traffic from a peer's side have no business here.
    await this.#kernel.settings.setInterfaceSysctl('ipv6', this.name, 'accept_ra', '0');
    await this.#kernel.settings.setInterfaceSysctl('ipv6', this.name, 'disable_ipv6', '1');
    await this.#loosenReversePath();
    if (!link.isUp) await this.#setUp(this.name, signal);
    return !isNew && (wrongMac || wrongMtu || wrongAlias || !link.isUp);
  }

  /** What an administrator has set by ethtool outlives the device. Resolves with whether all was as it should be. */
  async #keepFeatures(isNew: boolean, signal: AbortSignal | undefined): Promise<boolean> {
    const { hasTxChecksum } = this.#options;
    const wanted = new Map(this.#features);
    if (!hasTxChecksum) wanted.set(TX_CHECKSUM, false);
    if (wanted.size === 0) return true;
    const current =
      (isNew ? await this.#kernel.settings.features(this.name, signal) : this.#features) ?? new Map();
    const differing = new Map(differingFeatures(wanted, current));
    if (!hasTxChecksum && !current.has(TX_CHECKSUM)) differing.set(TX_CHECKSUM, false); // tells what is missing
    if (differing.size === 0) return true;
    try {
      await this.#kernel.settings.setFeatures(this.name, differing, signal);
      this.#log.info(
        { device: this.name, features: Object.fromEntries(differing) },
        'set features by ethtool',
      );
    } catch (error) {
      if (!hasTxChecksum || !(error instanceof OverlayError)) throw error;
      this.#log.warn({ device: this.name }, `features are not as before: ${error.message}`);
    }
    return false;
  }

  async #setUp(name: string, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#kernel.links.set(name, { isUp: true }, signal);
    } catch (cause) {
      if (!meansTaken(cause)) throw cause;
      const message = `Cannot bring up VXLAN device "${this.name}": UDP port ${this.#config.port} is in use`;
      throw new OverlayError('E_KERNEL', `${message}; choose another Backend.Port or end its holder`, {
        cause,
      });
    }
  }

  /**
   * Strict reverse path filtering, which many distributions give to every new device, would discard packets from a
   * peer's public IP: the way back to it is the underlay's. The kernel takes the larger of the device's value and that
   * of "all" (ip-sysctl), so only 2, loose, helps; where there is no filter, none is made.
   */
  async #loosenReversePath(): Promise<void> {
    const values = await Promise.all([
      this.#kernel.settings.sysctl('net/ipv4/conf/all/rp_filter'),
      this.#kernel.settings.interfaceSysctl('ipv4', this.name, 'rp_filter'),
    ]);
    if (Math.max(...values.map(Number)) === 1)
      await this.#kernel.settings.setInterfaceSysctl('ipv4', this.name, 'rp_filter', '2');
  }

  /** The /32 serves as the source of what this host itself sends into the overlay; it makes no broadcast route. */
  async #address(link: Link, wanted: Prefix, signal: AbortSignal | undefined): Promise<boolean> {
    let hasChanged = false;
    let isThere = false;
    for (const { address, length } of link.addresses) {
      if (address === wanted.address && length === wanted.length) isThere = true;
      else if (prefixContains(this.#network, address)) {
        this.#log.info(
          { device: this.name, address: formatPrefix({ address, length }) },
          'removing a former address',
        );
        await this.#kernel.links.deleteAddress(this.name, { address, length }, signal);
        hasChanged = true;
      }
    }
    if (isThere) return hasChanged;
    await this.#kernel.links.addAddress(this.name, wanted, signal);
    return true;
  }
}

/** Whether the kernel refused because another device or socket has the name, VNI or port. */
function meansTaken(error: unknown): boolean {
  return error instanceof OverlayError && /already exists|File exists|in use/.test(error.message);
}
