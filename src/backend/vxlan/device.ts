// A VXLAN device of the vxlan mode, which has one for each family: found and taken over when it fits, made anew when it
// does not.
//
// Taking over is what makes a restart invisible: the kernel goes on forwarding, and the device keeps its MAC, which the
// peers have in their FDB. A device that must be made anew gets the old MAC for the same reason. The MAC is given at
// creation, since systemd's MACAddressPolicy=persistent changes only addresses that the kernel chose
// (NET_ADDR_RANDOM, see systemd.link(5)).
// The interface below is told by its index, which a rename keeps; device-maker.ts changes and replaces a device.

import { differingFeatures } from '../../kernel/ethtool.js';
import type { Kernel } from '../../kernel/kernel.js';
import { OverlayError } from '../../core/errors.js';
import { type Address, formatPrefix, type Prefix, prefixContains, prefixEquals } from '../../net/prefix.js';
import { IPV6_MIN_MTU_BYTES, VXLAN_OVERHEAD_BYTES } from '../../net/mtu.js';
import type { FamilyName } from '../../net/dual.js';
import { formatMark, parseMark, vxlanDeviceName } from '../../kernel/ours.js';
import type { ExternalInterface } from '../backend.js';
import { DeviceMaker, misfitOf } from './device-maker.js';
import { deriveVtepMac } from './vtep.js';
import type { VxlanConfig } from './config.js';
import type { Features } from '../../kernel/ethtool.js';
import type { Link } from '../../kernel/link.js';
import type { Logger } from '../../core/log.js';

export interface VxlanDeviceOptions {
  readonly kernel: Kernel;
  readonly config: VxlanConfig;
  /** Of the packets, and of the datagrams that they are in. */
  readonly family: FamilyName;
  readonly network: Prefix<Address>;
  /** Networks whose device may be taken over: the Network, and that of this host's last run. */
  readonly networks: readonly Prefix<Address>[];
  /** Of this host's last run, for a device that has to be made; undefined when it is not known. */
  readonly formerMac: string | undefined;
  /** False: the device does not leave checksums of inner packets to the card below, which some compute wrongly. */
  readonly hasTxChecksum: boolean;
  readonly log: Logger;
}

/** The feature by which the kernel leaves a checksum to the device (NETIF_F_HW_CSUM). */
const TX_CHECKSUM = 'tx-checksum-ip-generic';

/** IFNAMSIZ of linux/if.h without the NUL. */
const MAX_NAME = 15;

/** What a call found to do; a fitting device in order gives three times false. */
export interface DeviceChange {
  readonly wasMade: boolean;
  /** MTU, MAC, alias or admin state were set right. */
  readonly wasRepaired: boolean;
  readonly wasAddressed: boolean;
}

export class VxlanDevice {
  readonly name: string;
  readonly #kernel: Kernel;
  readonly #config: VxlanConfig;
  readonly #family: FamilyName;
  readonly #network: Prefix<Address>;
  readonly #networks: readonly Prefix<Address>[];
  readonly #log: Logger;
  readonly #options: VxlanDeviceOptions;
  readonly #maker: DeviceMaker;
  #mac: string | undefined;
  /** Of the device when it was last seen; undefined without ethtool. */
  #features: Features | undefined;

  /** Throws OverlayError E_CONFIG when the VNI gives no name for a device. */
  constructor(options: VxlanDeviceOptions) {
    this.#options = options;
    this.#family = options.family;
    this.#kernel = options.kernel;
    this.#config = options.config;
    this.#network = options.network;
    this.#networks = options.networks;
    this.#log = options.log;
    this.name = vxlanDeviceName(options.config.vni, options.family);
    if (this.name.length > MAX_NAME) {
      throw new OverlayError(
        'E_CONFIG',
        `Backend.VNI ${options.config.vni} in the network config: expected at most 9999 in a network with IPv6, ` +
          `since the name of the device, "${this.name}", has more than ${MAX_NAME} characters`,
      );
    }
    this.#maker = new DeviceMaker({ ...options, name: this.name });
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
        `Backend.MTU ${outer} in the network config: expected at most the MTU ${limit}`,
      );
    }
    const overhead = VXLAN_OVERHEAD_BYTES[this.#family];
    if (this.#family === 'v6' && outer - overhead < IPV6_MIN_MTU_BYTES) {
      const what =
        this.#config.outerMtuBytes === undefined
          ? `MTU ${outer} of interface "${iface.name}"`
          : `Backend.MTU ${outer} in the network config`;
      const least = `${IPV6_MIN_MTU_BYTES + overhead} (${IPV6_MIN_MTU_BYTES} of IPv6 + ${overhead} of VXLAN)`;
      throw new OverlayError('E_CONFIG', `${what}: expected at least ${least}`);
    }
    return outer - overhead;
  }

  /**
   * Makes sure that the device is there, fits the config and `iface`, is up and, when `address` is given, has this
   * address as its only one inside the network. Rejects with OverlayError E_KERNEL or E_CONFIG.
   */
  async ensure(
    iface: ExternalInterface,
    address: Prefix<Address> | undefined,
    signal?: AbortSignal,
  ): Promise<DeviceChange> {
    const mtuBytes = this.mtuBytes(iface);
    const found = await this.#kernel.links.find(this.name, signal);
    if (found !== undefined) this.#checkOwner(found);
    let misfit = found && misfitOf(found, this.#config, iface, this.#family);
    let link = found;
    let isSame = true;
    if (found?.kind === 'vxlan')
      this.#features = (await this.#kernel.settings.features(this.name, signal)) ?? this.#features;
    if (found === undefined || misfit !== undefined) {
      const uplink = await this.#uplink(iface);
      misfit = found && misfitOf(found, this.#config, uplink, this.#family);
      if (found?.kind === 'vxlan') this.#mac ??= found.mac;
      this.#mac ??=
        this.#options.formerMac ?? deriveVtepMac(uplink.publicIp[this.#family]!, this.#config.vni);
      const plan = { iface: uplink, mtuBytes, mac: this.#mac };
      if (found === undefined) await this.#maker.make(this.name, plan, signal);
      else if (misfit !== undefined) isSame = await this.#maker.mend(found, misfit, plan, signal);
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
    const network = parseMark(link.alias)?.networks[0];
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
    // Router advertisements from a peer's side have no business here, nor has any IPv6 where only IPv4 is carried. A
    // host that has IPv6 switched off for new devices has it on this one.
    await this.#kernel.settings.setInterfaceSysctl('ipv6', this.name, 'accept_ra', '0');
    const isOff = this.#family === 'v4' ? '1' : '0';
    await this.#kernel.settings.setInterfaceSysctl('ipv6', this.name, 'disable_ipv6', isOff);
    if (this.#family === 'v4') await this.#loosenReversePath();
    if (!link.isUp) await this.#maker.setUp(this.name, signal);
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

  /** Alone, with no network, it serves as the source of what this host itself sends into the overlay. */
  async #address(link: Link, wanted: Prefix<Address>, signal: AbortSignal | undefined): Promise<boolean> {
    const isThere = link.addresses.some((own) => prefixEquals(own, wanted));
    // It comes first: with the last address of a device the kernel takes its routes away.
    if (!isThere) await this.#kernel.links.addAddress(this.name, wanted, signal);
    const former = link.addresses.filter(
      (own) => prefixContains(this.#network, own.address) && !prefixEquals(own, wanted),
    );
    for (const { address, length } of former) {
      this.#log.info(
        { device: this.name, address: formatPrefix({ address, length }) },
        'removing a former address',
      );
      await this.#kernel.links.deleteAddress(this.name, { address, length }, signal);
    }
    return !isThere || former.length > 0;
  }
}
