// Networks of both address families: an address without host bits, and a length. One set of functions for both.
//
// A prefix holds its address as the number that the family has (ipv4.ts, ipv6.ts), so that IPv4 ones cost no more than
// two numbers. No prefix of one family contains or overlaps anything of the other: ::ffff:10.0.0.0/104 is IPv6.

import { type Dual, familiesOf, type FamilyName } from './dual.js';
import { formatIpv4, type Ipv4, ipv4, parseIpv4 } from './ipv4.js';
import { formatIpv6, type Ipv6, ipv6, parseIpv6 } from './ipv6.js';

/** An address of either family. */
export type Address = Ipv4 | Ipv6;

/** A network: `address` has no bits set below `length`. */
export interface Prefix<A extends Address = Ipv4> {
  readonly address: A;
  /** 0 to 32, or 0 to 128. */
  readonly length: number;
}

/** A prefix for each family that a network or a host has. */
export type DualPrefix = Dual<Prefix, Prefix<Ipv6>>;

/** An address for each family that a host has. */
export type DualAddress = Dual<Ipv4, Ipv6>;

/** First and last address; none when the first is above the last. */
export interface AddressRange<A extends Address = Ipv4> {
  readonly first: A;
  readonly last: A;
}

/** A range for each family that a network has. */
export type DualRange = Dual<AddressRange, AddressRange<Ipv6>>;

/** The address families by number. */
export interface AddressOf {
  readonly 4: Ipv4;
  readonly 6: Ipv6;
}
export type Family = keyof AddressOf;

const BITS = { 4: 32, 6: 128 } as const satisfies Record<Family, number>;
const LENGTHS = { 4: /^\d{1,2}$/, 6: /^\d{1,3}$/ } as const satisfies Record<Family, RegExp>;

/** Dotted quad or RFC 5952 text, by family. */
export function formatAddress(address: Address): string {
  return typeof address === 'number' ? formatIpv4(address) : formatIpv6(address);
}

/** The address of a family that is written in `text`, or undefined when it is none. */
export function parseAddress<F extends Family>(text: string, family: F): AddressOf[F] | undefined {
  const parse: { readonly [G in Family]: (text: string) => AddressOf[G] | undefined } = {
    4: parseIpv4,
    6: parseIpv6,
  };
  return parse[family](text);
}

/** The address of either family that is written in `text`, or undefined when it is none. */
export function parseAnyAddress(text: string): Address | undefined {
  return text.includes(':') ? parseIpv6(text) : parseIpv4(text);
}

export function familyOf(address: Address): Family {
  return typeof address === 'number' ? 4 : 6;
}

export function familyNameOf(address: Address): FamilyName {
  return typeof address === 'number' ? 'v4' : 'v6';
}

/** Length of the prefix that holds this address alone. */
export function bitsOf(address: Address): 32 | 128 {
  return BITS[familyOf(address)];
}

/** Netmask of a length (0 to 32, or 0 to 128) as an address of the family. */
export function maskOf<F extends Family = 4>(length: number, family?: F): AddressOf[F];
export function maskOf(length: number, family: Family = 4): Address {
  if (family === 4) return (length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0) as Ipv4;
  return (((1n << BigInt(length)) - 1n) << BigInt(128 - length)) as Ipv6;
}

/** Number of addresses in an IPv4 prefix of this length. */
export function sizeOf(length: number): number {
  return 2 ** (32 - length);
}

/** The network of `length` that holds `address`; host bits are masked off. */
export function prefixOf<A extends Address>(address: A, length: number): Prefix<A> {
  return { address: withoutHostBits(address, length) as A, length };
}

/** Last address of a prefix. */
export function lastOf<A extends Address>({ address, length }: Prefix<A>): A {
  const last =
    typeof address === 'number'
      ? (address | ~maskOf(length)) >>> 0
      : (address as bigint) | ((1n << BigInt(128 - length)) - 1n);
  return last as A;
}

/** The address that lies `count` networks of `length` behind `address`. */
export function stepped<A extends Address>(address: A, length: number, count: number): A {
  if (typeof address === 'number') return ipv4(address + count * sizeOf(length)) as A;
  return ipv6((address as bigint) + (BigInt(count) << BigInt(128 - length))) as A;
}

/** How many whole networks of `length` lie between two addresses; less than 0 when `to` is before `from`. */
export function stepsBetween<A extends Address>(from: A, to: A, length: number): number {
  if (typeof from === 'number') return Math.floor(((to as number) - from) / sizeOf(length));
  return Number(((to as bigint) - (from as bigint)) >> BigInt(128 - length));
}

/** Whether an address has bits set below `length`. */
export function hasHostBits({ address, length }: Prefix<Address>): boolean {
  return withoutHostBits(address, length) !== address;
}

/** "address/length" as address and length, host bits kept; undefined when malformed. */
export function parseCidr<F extends Family = 4>(text: string, family?: F): Prefix<AddressOf[F]> | undefined;
export function parseCidr(text: string, family: Family = 4): Prefix<Address> | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const lengthText = text.slice(slash + 1);
  const address = parseAddress(text.slice(0, slash), family);
  const length = Number(lengthText);
  if (address === undefined || !LENGTHS[family].test(lengthText)) return undefined;
  return length > BITS[family] ? undefined : { address, length };
}

/** "address/length" without host bits; undefined when malformed or when host bits are set. */
export function parsePrefix<F extends Family = 4>(text: string, family?: F): Prefix<AddressOf[F]> | undefined;
export function parsePrefix(text: string, family: Family = 4): Prefix<Address> | undefined {
  const cidr = parseCidr(text, family);
  return cidr === undefined || hasHostBits(cidr) ? undefined : cidr;
}

/** parsePrefix() of either family. */
export function parseAnyPrefix(text: string): Prefix<Address> | undefined {
  return parsePrefix(text, text.includes(':') ? 6 : 4);
}

/** "address/length". */
export function formatPrefix(prefix: Prefix<Address>): string {
  return `${formatAddress(prefix.address)}/${prefix.length}`;
}

/** "10.5.1.0/24", "fd00:1::/64" or "10.5.1.0/24 and fd00:1::/64". */
export function formatPrefixes(prefixes: DualPrefix): string {
  return familiesOf(prefixes)
    .map((family) => formatPrefix(prefixes[family]!))
    .join(' and ');
}

/** "172.20.0.1", "fd00::1" or "172.20.0.1 and fd00::1". */
export function formatAddresses(addresses: DualAddress): string {
  return familiesOf(addresses)
    .map((family) => formatAddress(addresses[family]!))
    .join(' and ');
}

export function prefixEquals(a: Prefix<Address>, b: Prefix<Address>): boolean {
  return a.address === b.address && a.length === b.length;
}

export function prefixContains(prefix: Prefix<Address>, address: Address): boolean {
  const { address: network, length } = prefix;
  if (typeof network === 'number')
    return typeof address === 'number' && ((address ^ network) & maskOf(length)) === 0;
  return typeof address === 'bigint' && (address ^ network) >> BigInt(128 - length) === 0n;
}

/** Whether every address of `inner` lies in `outer`; equal prefixes do. */
export function prefixCovers(outer: Prefix<Address>, inner: Prefix<Address>): boolean {
  return outer.length <= inner.length && prefixContains(outer, inner.address);
}

export function prefixesOverlap(a: Prefix<Address>, b: Prefix<Address>): boolean {
  return prefixCovers(a, b) || prefixCovers(b, a);
}

// Keys of all IPv4 prefixes that are no 32-bit integer are above it.
const LARGE_KEY = 2 ** 32;

/**
 * What differs for any two prefixes of a family. Of an IPv4 lease it is an integer of 32 bits, signed, which V8 keeps
 * without an object of its own: the first host bit, set, tells the length. Of IPv6 it is the length with the key of the
 * address behind it.
 */
export function prefixKey(prefix: Prefix): number;
export function prefixKey(prefix: Prefix<Address>): number | bigint;
export function prefixKey({ address, length }: Prefix<Address>): number | bigint {
  if (typeof address === 'bigint') return (BigInt(length) << 128n) | addressKey(address);
  const mark = length < 32 ? 1 << (31 - length) : 0;
  const isPlain = mark !== 0 && (address & ~maskOf(length)) === 0;
  return isPlain ? address | mark : LARGE_KEY + address * 64 + length;
}

/**
 * What differs for any two addresses of a family, for the key of a map. V8 hashes a bigint by its lowest 64 bits, which
 * are the same for all subnets of a network; a map of 8,000 of them took 60 times as long.
 */
export function addressKey(address: Ipv4): number;
export function addressKey(address: Ipv6): bigint;
export function addressKey(address: Address): number | bigint;
export function addressKey(address: Address): number | bigint {
  return typeof address === 'number' ? address | 0 : address ^ (address >> 64n);
}

/** The inverse of prefixKey() of an IPv4 prefix. */
export function prefixOfKey(key: number): Prefix {
  const rest = key - LARGE_KEY;
  if (rest >= 0) return { address: ipv4(Math.floor(rest / 64)), length: rest % 64 };
  const mark = key & -key;
  return { address: ipv4((key ^ mark) >>> 0), length: Math.clz32(mark) };
}

function withoutHostBits(address: Address, length: number): number | bigint {
  return typeof address === 'number' ? (address & maskOf(length)) >>> 0 : address & maskOf(length, 6);
}
