// What this host is, as the lookups of the workers compare it: numbers of 32 bits, signed.

import type { Ipv6 } from '../net/ipv6.js';
import { type DualAddress, type DualPrefix, maskOf, type Prefix } from '../net/prefix.js';
import { type AddressWords, wordsOf } from '../net/address-words.js';

/** The subnets of this host. */
export interface OwnSubnet {
  /** Network address of IPv4, and netmask; NO_SUBNET without. */
  readonly network: number;
  readonly mask: number;
  /** Its subnet of IPv6, when it has one. */
  readonly wide?: OwnWideSubnet;
}

/** Words of network address and netmask. */
export interface OwnWideSubnet {
  readonly network: AddressWords;
  readonly mask: AddressWords;
}

/** What this host is, for the admission check. */
export interface OwnHost extends OwnSubnet {
  /** Of IPv4; 0 without, which is nobody's source. */
  readonly publicIp: number;
  readonly ifaceAddress: number;
  /** The same of IPv6, when it has addresses. */
  readonly wideHost?: OwnWideAddresses;
}

export interface OwnWideAddresses {
  readonly publicIp: AddressWords;
  readonly ifaceAddress: AddressWords;
}

/** A subnet that no address is in. */
const NO_SUBNET = { network: 1, mask: 0 } as const;

/** `listen` and `publicIp` have the same families. */
export function ownHostOf(host: {
  readonly listen: DualAddress;
  readonly publicIp: DualAddress;
  readonly own: DualPrefix;
}): OwnHost {
  const { listen, publicIp, own } = host;
  return {
    ...(own.v4 === undefined ? NO_SUBNET : { network: own.v4.address | 0, mask: maskOf(own.v4.length) | 0 }),
    ...(own.v6 !== undefined && { wide: wideSubnetOf(own.v6) }),
    publicIp: (publicIp.v4 ?? 0) | 0,
    ifaceAddress: (listen.v4 ?? 0) | 0,
    ...(listen.v6 !== undefined &&
      publicIp.v6 !== undefined && {
        wideHost: { publicIp: wordsOf(publicIp.v6), ifaceAddress: wordsOf(listen.v6) },
      }),
  };
}

/** Whether an address is in the subnet of IPv6. */
export function isInWide(
  own: OwnWideSubnet | undefined,
  a: number,
  b: number,
  c: number,
  d: number,
): boolean {
  if (own === undefined) return false;
  const { network, mask } = own;
  return (
    (a & mask[0]) === network[0] &&
    (b & mask[1]) === network[1] &&
    (c & mask[2]) === network[2] &&
    (d & mask[3]) === network[3]
  );
}

/** Whether it is an address of this host itself. */
export function isWideHost(
  host: OwnWideAddresses | undefined,
  a: number,
  b: number,
  c: number,
  d: number,
): boolean {
  return host !== undefined && (isWords(host.publicIp, a, b, c, d) || isWords(host.ifaceAddress, a, b, c, d));
}

function isWords(words: AddressWords, a: number, b: number, c: number, d: number): boolean {
  return a === words[0] && b === words[1] && c === words[2] && d === words[3];
}

function wideSubnetOf({ address, length }: Prefix<Ipv6>): OwnWideSubnet {
  return { network: wordsOf(address), mask: wordsOf(maskOf(length, 6)) };
}
