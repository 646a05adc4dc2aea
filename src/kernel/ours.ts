// Names and marks of the devices that the modes leave in the kernel. The alias of a device tells whose it is.
//
// The alias is "twill <network> [<address>/32]": the network that the device carries, and the address that we gave it.
// Several networks live on one host, each with a daemon of its own, so the name of the program alone would not tell
// them apart.

import { formatPrefix, parsePrefix, type Prefix, prefixContains, prefixEquals } from '../net/prefix.js';
import type { Link } from './link.js';

/** Most TUN devices that are tried for a free name: flannel0 to flannel255. */
export const UDP_DEVICES = 256;

/** TUN device number `n` of the udp mode. */
export function udpDeviceName(n: number): string {
  return `flannel${n}`;
}

/** VXLAN device of a VNI. */
export function vxlanDeviceName(vni: number): string {
  return `flannel.${vni}`;
}

const MARK = 'twill';

/** What the alias of a device of ours says. */
export interface DeviceMark {
  /** Undefined on a device that an earlier release made. */
  readonly network: Prefix | undefined;
  /** With length 32. */
  readonly address: Prefix | undefined;
}

export function formatMark(network: Prefix, address?: Prefix): string {
  return [MARK, formatPrefix(network), ...(address === undefined ? [] : [formatPrefix(address)])].join(' ');
}

/** Reads an alias; undefined when it is none of ours. */
export function parseMark(alias: string): DeviceMark | undefined {
  const [mark, ...words] = alias.split(' ');
  if (mark !== MARK) return undefined;
  const prefixes = words.map((word) => parsePrefix(word)).filter((prefix) => prefix !== undefined);
  return {
    network: prefixes.find(({ length }) => length < 32),
    address: prefixes.find(({ length }) => length === 32),
  };
}

/**
 * Whether we made a device for one of these networks. A device whose mark names no network, and a persistent TUN device
 * without any mark, come from earlier releases: there the address tells.
 */
export function isDeviceOf(link: Link, networks: readonly Prefix[]): boolean {
  const isTun = isPersistentTun(link);
  if (!isTun && link.kind !== 'vxlan') return false;
  const mark = parseMark(link.alias);
  if (mark?.network !== undefined) return networks.some((network) => prefixEquals(network, mark.network!));
  if (mark === undefined && !(isTun && link.alias === '')) return false;
  return link.addresses.some(({ address }) => networks.some((network) => prefixContains(network, address)));
}

/** A TUN device as the udp mode leaves it. One without persistence belongs to a flanneld that is running. */
export function isPersistentTun(link: Link): boolean {
  return link.kind === 'tun' && /^flannel\d+$/.test(link.name) && link.data['persist'] === true;
}
