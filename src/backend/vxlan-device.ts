// The VXLAN device of the vxlan mode: found and taken over when it fits, made anew when it does not.
//
// Taking over is what makes a restart invisible: the kernel goes on forwarding, and the device keeps its MAC, which the
// peers have in their FDB. A device that must be made anew gets the old MAC for the same reason. The MAC is given at
// creation, since systemd's MACAddressPolicy=persistent changes only addresses that the kernel chose
// (NET_ADDR_RANDOM, see systemd.link(5)).

import {
  addAddress,
  createLink,
  deleteAddress,
  deleteLink,
  findLink,
  listLinks,
  setLink,
} from '../kernel/link.js';
import { readInterfaceSysctl, readSysctl, writeInterfaceSysctl } from '../kernel/sysctl.js';
import { meansGone } from '../kernel/ip.js';
import { OverlayError } from '../errors.js';
import { formatIpv4, formatPrefix, prefixContains, prefixEquals } from '../net/ipv4.js';
import { VXLAN_OVERHEAD_BYTES } from '../net/mtu.js';
import { formatMark, parseMark, vxlanDeviceName } from './device-names.js';
import type { ExternalInterface } from './backend.js';
import { deriveVtepMac, type VxlanConfig } from '../config/vxlan-config.js';
import type { Link } from '../kernel/link.js';
import type { Logger } from '../ops/log.js';
import type { Prefix } from '../net/ipv4.js';

export interface VxlanDeviceOptions {
  readonly config: VxlanConfig;
  readonly network: Prefix;
  /** Networks whose device may be taken over: the Network, and that of this host's last run. */
  readonly networks: readonly Prefix[];
  readonly log: Logger;
}

/** What a call found to do; a fitting device in order gives three times false. */
export interface DeviceChange {
  readonly wasMade: boolean;
  /** MTU, MAC, alias or admin state were set right. */
  readonly wasRepaired: boolean;
  readonly wasAddressed: boolean;
}

export class VxlanDevice {
  readonly name: string;
  readonly #config: VxlanConfig;
  readonly #network: Prefix;
  readonly #networks: readonly Prefix[];
  readonly #log: Logger;
  #mac: string | undefined;

  constructor(options: VxlanDeviceOptions) {
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
    const found = await findLink(this.name, signal);
    if (found !== undefined) this.#checkOwner(found);
    const misfit = found === undefined ? 'it does not exist' : this.#misfit(found, iface);
    let link = found;
    if (misfit !== undefined) {
      if (found !== undefined) {
        this.#log.warn({ device: this.name, reason: misfit }, 'making the VXLAN device anew');
        if (found.kind === 'vxlan') this.#mac ??= found.mac;
        await deleteLink(this.name, signal);
      }
      await this.#make(iface, mtuBytes, signal);
      link = await findLink(this.name, signal);
    }
    if (link === undefined)
      throw new OverlayError('E_KERNEL', `VXLAN device "${this.name}" vanished while it was set up`);
    this.#mac ??= link.mac;
    const wasRepaired = await this.#repair(link, mtuBytes, misfit !== undefined, signal);
    const wasAddressed = address !== undefined && (await this.#address(link, address, signal));
    return { wasMade: misfit !== undefined, wasRepaired, wasAddressed };
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

  /** Why `link` cannot be used, in words; undefined when it can. MAC, MTU and admin state are set right later. */
  #misfit(link: Link, iface: ExternalInterface): string | undefined {
    if (link.kind !== 'vxlan') return `it is of kind "${link.kind}"`;
    const { data } = link;
    const differ = (what: string, found: unknown, wanted: unknown) =>
      found === wanted
        ? undefined
        : `its ${what} is ${JSON.stringify(found) ?? 'unset'}, not ${JSON.stringify(wanted)}`;
    return (
      differ('VNI', data['id'], this.#config.vni) ??
      differ('port', data['port'], this.#config.port) ??
      differ('underlying interface', data['link'], iface.name) ??
      differ('local address', data['local'], formatIpv4(iface.address)) ??
      differ('GBP', data['gbp'] === true, this.#config.hasGbp) ??
      differ('learning', data['learning'] === true, this.#config.hasLearning) ??
      (data['group'] === undefined ? undefined : 'it has a multicast group')
    );
  }

  async #make(iface: ExternalInterface, mtuBytes: number, signal: AbortSignal | undefined): Promise<void> {
    this.#mac ??= deriveVtepMac(iface.publicIp, this.#config.vni);
    const { vni, port, hasGbp, hasLearning } = this.#config;
    const words = [
      'mtu',
      String(mtuBytes),
      'address',
      this.#mac,
      'type',
      'vxlan',
      'id',
      String(vni),
      'dev',
      iface.name,
    ];
    words.push(
      'local',
      formatIpv4(iface.address),
      'dstport',
      String(port),
      hasLearning ? 'learning' : 'nolearning',
    );
    if (hasGbp) words.push('gbp');
    try {
      await createLink(this.name, words, signal);
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
    if (/already exists|File exists|in use/.test(cause.message)) {
      const links = await listLinks(signal);
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
      await setLink(
        this.name,
        { mtuBytes, alias: formatMark(this.#network), ...(wrongMac ? { mac: this.#mac! } : {}) },
        signal,
      );
    }
    // Only IPv4 is carried: router advertisements or link-local traffic from a peer's side have no business here.
    await writeInterfaceSysctl('ipv6', this.name, 'accept_ra', '0');
    await writeInterfaceSysctl('ipv6', this.name, 'disable_ipv6', '1');
    await this.#loosenReversePath();
    if (!link.isUp) {
      try {
        await setLink(this.name, { isUp: true }, signal);
      } catch (cause) {
        if (cause instanceof OverlayError && /in use|File exists/.test(cause.message)) {
          const message = `Cannot bring up VXLAN device "${this.name}": UDP port ${this.#config.port} is in use`;
          throw new OverlayError('E_KERNEL', `${message}; choose another Backend.Port or end its holder`, {
            cause,
          });
        }
        throw cause;
      }
    }
    return !isNew && (wrongMac || wrongMtu || wrongAlias || !link.isUp);
  }

  /**
   * Strict reverse path filtering, which many distributions give to every new device, would discard packets from a
   * peer's public IP: the way back to it is the underlay's. The kernel takes the larger of the device's value and that
   * of "all" (ip-sysctl), so only 2, loose, helps; where there is no filter, none is made.
   */
  async #loosenReversePath(): Promise<void> {
    const values = await Promise.all([
      readSysctl('net/ipv4/conf/all/rp_filter'),
      readInterfaceSysctl('ipv4', this.name, 'rp_filter'),
    ]);
    if (Math.max(...values.map(Number)) === 1)
      await writeInterfaceSysctl('ipv4', this.name, 'rp_filter', '2');
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
        await deleteAddress(this.name, { address, length }, signal);
        hasChanged = true;
      }
    }
    if (isThere) return hasChanged;
    await addAddress(this.name, wanted, signal);
    return true;
  }
}
