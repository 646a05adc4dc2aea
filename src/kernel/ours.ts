// Names and marks of the devices that the modes leave in the kernel. The alias of a device tells whose it is.
//
// The alias is "twill <network> [<address>/32]": the network that the device carries, and the address that we gave it.
// A device that carries both families names both networks, and may have both addresses.
// Several networks live on one host, each with a daemon of its own, so the name of the program alone would not tell
// them apart.

import {
  type Address,
  bitsOf,
  formatPrefix,
  parseAnyPrefix,
  type Prefix,
  prefixContains,
  prefixEquals,
} from '../net/prefix.js';
import type { FamilyName } from '../net/dual.js';
import type { Link } from './link.js';

/** Most TUN devices that are tried for a free name: flannel0 to flannel255. */
export const UDP_DEVICES = 256;

/** TUN device number `n` of the udp mode. */
export function udpDeviceName(n: number): string {
  return `flannel${n}`;
}

/** VXLAN device of a VNI, for the packets of a family. */
export function vxlanDeviceName(vni: number, family: FamilyName): string {
  return family === 'v4' ? `flannel.${vni}` : `flannel-v6.${vni}`;
}

const MARK = 'twill';

/** What the alias of a device of ours says. */
export interface DeviceMark {
  /** None on a device that an earlier release made. */
  readonly networks: readonly Prefix<Address>[];
  /** Each with the length of an address alone. */
  readonly addresses: readonly Prefix<Address>[];
}

/** The networks of the device, and then its addresses. */
export function formatMark(...prefixes: readonly Prefix<Address>[]): string {
  return [MARK, ...prefixes.map(formatPrefix)].join(' ');
}

/** Reads an alias; undefined when it is none of ours. */
export function parseMark(alias: string): DeviceMark | undefined {
  const [mark, ...words] = alias.split(' ');
  if (mark !== MARK) return undefined;
  const prefixes = words.map((word) => parseAnyPrefix(word)).filter((prefix) => prefix !== undefined);
  const isAlone = ({ address, length }: Prefix<Address>): boolean => length === bitsOf(address);
  return {
    networks: prefixes.filter((prefix) => !isAlone(prefix)),
    addresses: prefixes.filter(isAlone),
  };
}

/** Whether we made a device, as its mark tells. Earlier releases gave TUN devices none, nor any other alias. */
export function isOurDevice(link: Link): boolean {
  const isTun = isPersistentTun(link);
  if (parseMark(link.alias) === undefined) return isTun && link.alias === '';
  return isTun || link.kind === 'vxlan';
}

/** Whether we made a device for one of these networks. Where its mark names none, the address tells. */
export function isDeviceOf(link: Link, networks: readonly Prefix<Address>[]): boolean {
  if (!isOurDevice(link)) return false;
  const marked = parseMark(link.alias)?.networks ?? [];
  if (marked.length > 0) return marked.some((one) => networks.some((network) => prefixEquals(network, one)));
  return link.addresses.some(({ address }) => networks.some((network) => prefixContains(network, address)));
}

/** A TUN device as the udp mode leaves it. One without persistence belongs to a flanneld that is running. */
export function isPersistentTun(link: Link): boolean {
  return link.kind === 'tun' && /^flannel\d+$/.test(link.name) && link.data['persist'] === true;
}
