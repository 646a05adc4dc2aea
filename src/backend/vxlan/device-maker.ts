// Making a VXLAN device, and making one that is there fit.
//
// Invariant: a device that works is not deleted before the one to follow it is there. What the kernel can change in a
// device that stays is changed there: the interface below, the local address, learning, the group. For the rest a
// second device is made under another name and takes its place.

import { OverlayError } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import { meansGone } from '../../kernel/ip.js';
import type { Kernel } from '../../kernel/kernel.js';
import type { Link } from '../../kernel/link.js';
import type { FamilyName } from '../../net/dual.js';
import { formatAddress } from '../../net/prefix.js';
import type { ExternalInterface } from '../backend.js';
import type { VxlanConfig } from './config.js';

export interface DeviceMakerOptions {
  readonly kernel: Kernel;
  readonly config: VxlanConfig;
  /** Of the datagrams, and so of the packets in them. */
  readonly family: FamilyName;
  /** Of the device in the end. */
  readonly name: string;
  readonly log: Logger;
}

/** What a device is made from. */
export interface DevicePlan {
  /** With the name it has now. */
  readonly iface: ExternalInterface;
  readonly mtuBytes: number;
  readonly mac: string;
}

/** Why a device cannot be used as it is. */
export interface Misfit {
  readonly reason: string;
  /** The kernel can change it in the device, at least newer ones. */
  readonly isChangeable: boolean;
}

// As `ip -details -json link` names them.
const LOCAL = { v4: 'local', v6: 'local6' } as const satisfies Record<FamilyName, string>;
const GROUP = { v4: 'group', v6: 'group6' } as const satisfies Record<FamilyName, string>;

/** What keeps `link` from being used; undefined when it can be. MAC, MTU and admin state are set right later. */
export function misfitOf(
  link: Link,
  config: VxlanConfig,
  iface: ExternalInterface,
  family: FamilyName,
): Misfit | undefined {
  if (link.kind !== 'vxlan') return { reason: `it is of kind "${link.kind}"`, isChangeable: false };
  const { data } = link;
  const differ = (isChangeable: boolean, what: string, found: unknown, wanted: unknown) => {
    const reason = `its ${what} is ${JSON.stringify(found) ?? 'unset'}, not ${JSON.stringify(wanted)}`;
    return found === wanted ? undefined : { reason, isChangeable };
  };
  return (
    differ(false, 'VNI', data['id'], config.vni) ??
    differ(false, 'port', data['port'], config.port) ??
    differ(false, 'GBP', data['gbp'] === true, config.hasGbp) ??
    differ(true, 'underlying interface', data['link'], iface.name) ??
    differ(true, 'local address', data[LOCAL[family]], formatAddress(iface.address[family]!)) ??
    differ(true, 'learning', data['learning'] === true, config.hasLearning) ??
    (data[GROUP[family]] === undefined
      ? undefined
      : { reason: 'it has a multicast group', isChangeable: true })
  );
}

export class DeviceMaker {
  readonly #options: DeviceMakerOptions;
  readonly #name: string;

  constructor(options: DeviceMakerOptions) {
    this.#options = options;
    this.#name = options.name;
  }

  /** Makes the device of our name fit; resolves with whether it is still the same one. */
  async mend(
    found: Link,
    { reason, isChangeable }: Misfit,
    plan: DevicePlan,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { log } = this.#options;
    if (isChangeable && (await this.#change(found, plan.iface, signal))) {
      log.info({ device: this.#name, reason }, 'changed the VXLAN device');
      return true;
    }
    log.warn({ device: this.#name, reason }, 'making the VXLAN device anew');
    if (isChangeable) {
      // One of the same VNI and port cannot stand beside it (EEXIST).
      await this.#options.kernel.links.delete(this.#name, signal);
      await this.make(this.#name, plan, signal);
    } else {
      await this.#replace(found, plan, signal);
    }
    return false;
  }

  /** Changes the device in place. False when the kernel does not do that: older ones keep some of these settings. */
  async #change(found: Link, iface: ExternalInterface, signal: AbortSignal | undefined): Promise<boolean> {
    const { config, family } = this.#options;
    const words = this.#words(iface);
    if (found.data[GROUP[family]] !== undefined) words.push('remote', family === 'v4' ? '0.0.0.0' : '::');
    try {
      await this.#options.kernel.links.change(this.#name, words, signal);
    } catch (error) {
      const isRefused =
        error instanceof OverlayError && /Cannot change|not supported|Invalid argument/.test(error.message);
      if (isRefused) return false;
      throw error;
    }
    const link = await this.#options.kernel.links.find(this.#name, signal);
    return link !== undefined && misfitOf(link, config, iface, family) === undefined;
  }

  /** Puts a new device in the place of `former`, which stays as it is when that cannot be made. */
  async #replace(former: Link, plan: DevicePlan, signal: AbortSignal | undefined): Promise<void> {
    const { vni, port } = this.#options.config;
    const name = `flnew${this.#options.family === 'v4' ? '' : '6'}.${vni}`;
    await this.#discard(name, signal); // of a run that was cut off
    try {
      await this.make(name, plan, signal);
      // A port that somebody holds is refused when the device goes up. On the same port only the former one tells.
      if (former.kind !== 'vxlan' || former.data['port'] !== port) {
        await this.#options.kernel.settings.setInterfaceSysctl('ipv6', name, 'disable_ipv6', '1');
        await this.setUp(name, signal);
        await this.#options.kernel.links.set(name, { isUp: false }, signal);
      }
      await this.#options.kernel.links.delete(this.#name, signal);
      await this.#options.kernel.links.set(name, { name: this.#name }, signal);
    } catch (error) {
      await this.#discard(name, signal);
      throw error;
    }
  }

  async #discard(name: string, signal: AbortSignal | undefined): Promise<void> {
    if ((await this.#options.kernel.links.find(name, signal))?.kind === 'vxlan')
      await this.#options.kernel.links.delete(name, signal);
  }

  /** What comes after the name, for a new device and for one that is changed. */
  #words(iface: ExternalInterface): string[] {
    const { config, family } = this.#options;
    const { vni, hasLearning } = config;
    const local = formatAddress(iface.address[family]!);
    const words = ['type', 'vxlan', 'id', String(vni), 'dev', iface.name, 'local', local];
    return [...words, hasLearning ? 'learning' : 'nolearning'];
  }

  /** Rejects with OverlayError E_KERNEL, which says what the operator has to look at. */
  async make(
    name: string,
    { iface, mtuBytes, mac }: DevicePlan,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { port, hasGbp } = this.#options.config;
    const words = ['mtu', String(mtuBytes), 'address', mac, ...this.#words(iface)];
    words.push('dstport', String(port));
    if (hasGbp) words.push('gbp');
    try {
      await this.#options.kernel.links.create(name, words, signal);
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
    const { vni, port } = this.#options.config;
    const what = `Cannot make VXLAN device "${this.#name}" (VNI ${vni}, port ${port}, on "${iface.name}")`;
    if (meansTaken(cause)) {
      const links = await this.#options.kernel.links.all(signal);
      const holder = links.find((link) => {
        // Those of the other family have a socket of their own.
        const isOfFamily = (link.data[LOCAL.v6] === undefined) === (this.#options.family === 'v4');
        const isOnPort = link.kind === 'vxlan' && isOfFamily && link.data['port'] === port;
        return isOnPort && link.name !== this.#name && (link.data['id'] === vni || link.isUp);
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

  async setUp(name: string, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#options.kernel.links.set(name, { isUp: true }, signal);
    } catch (cause) {
      if (!meansTaken(cause)) throw cause;
      const message = `Cannot bring up VXLAN device "${this.#name}": UDP port ${this.#options.config.port} is in use`;
      throw new OverlayError('E_KERNEL', `${message}; choose another Backend.Port or end its holder`, {
        cause,
      });
    }
  }
}

/** Whether the kernel refused because another device or socket has the name, VNI or port. */
function meansTaken(error: unknown): boolean {
  return error instanceof OverlayError && /already exists|File exists|in use/.test(error.message);
}
