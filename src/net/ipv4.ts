// IPv4 addresses and prefixes as plain numbers, the form in which every layer above passes them.
//
// An address is an unsigned 32-bit integer in host order (10.5.1.0 is 0x0a050100). A prefix is an address without host
// bits and a length. Text is parsed strictly: four decimal octets, no leading zeros, so that "010.0.0.1" is never taken
// for 8.0.0.1 as inet_aton would (RFC 6943, section 3.1.1).

/** An IPv4 address: unsigned 32-bit integer, host order. */
export type Ipv4 = number;

/** An IPv4 network: `address` has no bits set below `length`. */
export interface Prefix {
  readonly address: Ipv4;
  /** 0 to 32. */
  readonly length: number;
}

const DOTTED_QUAD = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

/** The address written in `text`, or undefined when it is not a strict dotted quad. */
export function parseIpv4(text: string): Ipv4 | undefined {
  const match = DOTTED_QUAD.exec(text);
  if (match === null) return undefined;
  let address = 0;
  for (let i = 1; i <= 4; i++) {
    const octet = match[i];
    if (octet.length > 1 && octet.startsWith('0')) return undefined;
    const value = Number(octet);
    if (value > 255) return undefined;
    address = address * 256 + value;
  }
  return address;
}

/** Dotted-quad text of an address. */
export function formatIpv4(address: Ipv4): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** Netmask of a prefix length (0 to 32) as an unsigned 32-bit integer. */
export function maskOf(length: number): number {
  return length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
}

/** Number of addresses in a prefix of this length. */
export function sizeOf(length: number): number {
  return 2 ** (32 - length);
}

/** The network of `length` that holds `address`; host bits are masked off. */
export function prefixOf(address: Ipv4, length: number): Prefix {
  return { address: (address & maskOf(length)) >>> 0, length };
}

/** "a.b.c.d/len" as address and length, host bits kept; undefined when malformed. */
export function parseCidr(text: string): { address: Ipv4; length: number } | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const lengthText = text.slice(slash + 1);
  const address = parseIpv4(text.slice(0, slash));
  if (address === undefined || !/^\d{1,2}$/.test(lengthText)) return undefined;
  const length = Number(lengthText);
  return length > 32 ? undefined : { address, length };
}

/** "a.b.c.d/len" without host bits; undefined when malformed or when host bits are set. */
export function parsePrefix(text: string): Prefix | undefined {
  const cidr = parseCidr(text);
  return cidr !== undefined && (cidr.address & ~maskOf(cidr.length)) === 0 ? cidr : undefined;
}

/** "a.b.c.d/len". */
export function formatPrefix(prefix: Prefix): string {
  return `${formatIpv4(prefix.address)}/${prefix.length}`;
}

export function prefixEquals(a: Prefix, b: Prefix): boolean {
  return a.address === b.address && a.length === b.length;
}

export function prefixContains(prefix: Prefix, address: Ipv4): boolean {
  return ((address ^ prefix.address) & maskOf(prefix.length)) === 0;
}

/** Whether every address of `inner` lies in `outer`; equal prefixes do. */
export function prefixCovers(outer: Prefix, inner: Prefix): boolean {
  return outer.length <= inner.length && prefixContains(outer, inner.address);
}

export function prefixesOverlap(a: Prefix, b: Prefix): boolean {
  return prefixCovers(a, b) || prefixCovers(b, a);
}

/** 240/4 (RFC 1112 section 4): Linux carries it and a Network may lie there; its last address is broadcast. */
export const RESERVED_RANGE: Prefix = { address: 0xf0000000, length: 4 };

/** No packet between hosts has such an address: IsUnicast of addon/packet/ipv4.h, and no Network lies there. */
export const NEVER_UNICAST: readonly Prefix[] = [
  { address: 0x00000000, length: 8 }, // "this network", RFC 1122 section 3.2.1.3
  { address: 0x7f000000, length: 8 }, // loopback, RFC 1122 section 3.2.1.3
  { address: 0xe0000000, length: 4 }, // multicast, RFC 5771
];

const BOGONS: readonly Prefix[] = [...NEVER_UNICAST, RESERVED_RANGE];

/** Whether no host can own this address as a unicast address on a network: 0/8, 127/8, 224/4, 240/4. */
export function isBogon(address: Ipv4): boolean {
  return BOGONS.some((bogon) => prefixContains(bogon, address));
}

// Keys of all prefixes that are no 32-bit integer are above it.
const LARGE_KEY = 2 ** 32;

/**
 * A whole number that differs for any two prefixes. Of a lease it is one of 32 bits, signed, which V8 keeps without an object
 * of its own: the first host bit, set, tells the length.
 */
export function prefixKey({ address, length }: Prefix): number {
  const mark = length < 32 ? 1 << (31 - length) : 0;
  const isPlain = mark !== 0 && (address & ~maskOf(length)) === 0;
  return isPlain ? address | mark : LARGE_KEY + address * 64 + length;
}

/** The inverse of prefixKey(). */
export function prefixOfKey(key: number): Prefix {
  const rest = key - LARGE_KEY;
  if (rest >= 0) return { address: Math.floor(rest / 64), length: rest % 64 };
  const mark = key & -key;
  return { address: (key ^ mark) >>> 0, length: Math.clz32(mark) };
}
