// Addresses that no host can have on a network, by family.

import { type Ipv4, ipv4 } from './ipv4.js';
import { type Ipv6, ipv6 } from './ipv6.js';
import { type Address, type Prefix, prefixContains } from './prefix.js';

/** 240/4 (RFC 1112 section 4): Linux carries it and a Network may lie there; its last address is broadcast. */
export const RESERVED_RANGE: Prefix = { address: ipv4(0xf0000000), length: 4 };

/** No packet between hosts has such an address: IsUnicast of addon/packet/ipv4.h, and no Network lies there. */
export const NEVER_UNICAST: readonly Prefix[] = [
  { address: ipv4(0x00000000), length: 8 }, // "this network", RFC 1122 section 3.2.1.3
  { address: ipv4(0x7f000000), length: 8 }, // loopback, RFC 1122 section 3.2.1.3
  { address: ipv4(0xe0000000), length: 4 }, // multicast, RFC 5771
];

const IPV4_BOGONS: readonly Prefix<Ipv4>[] = [...NEVER_UNICAST, RESERVED_RANGE];

/** RFC 4291 section 2.5.6: of no use to other hosts without a zone, which no lease has. */
const LINK_LOCAL: Prefix<Ipv6> = { address: ipv6(0xfe80n << 112n), length: 10 };

/** RFC 4291: sections 2.5.2, 2.5.3, 2.5.5.2, 2.5.6 and 2.7. No Network lies there either. */
export const IPV6_BOGONS: readonly Prefix<Ipv6>[] = [
  { address: ipv6(0n), length: 128 }, // unspecified
  { address: ipv6(1n), length: 128 }, // loopback
  { address: ipv6(0xffffn << 32n), length: 96 }, // IPv4-mapped: such an address is never in a packet
  LINK_LOCAL,
  { address: ipv6(0xffn << 120n), length: 8 }, // multicast
];

/** Whether no other host can be reached at it: 0/8, 127/8, 224/4, 240/4; ::, ::1, IPv4-mapped, fe80::/10, ff00::/8. */
export function isBogon(address: Address): boolean {
  const bogons: readonly Prefix<Address>[] = typeof address === 'number' ? IPV4_BOGONS : IPV6_BOGONS;
  return bogons.some((bogon) => prefixContains(bogon, address));
}

/** Whether it is of fe80::/10. IPv4 has such addresses, too, and hosts that have no others use them. */
export function isLinkLocalIpv6(address: Address): boolean {
  return prefixContains(LINK_LOCAL, address);
}
