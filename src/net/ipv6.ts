// IPv6 addresses as branded bigints of 128 bits.
//
// Text is read as RFC 4291 section 2.2 has it: eight groups of up to four hexadecimal digits, "::" once for one or more
// groups of zeros, the last 32 bits also as a dotted quad. A zone ("%eth0") is no part of an address and is refused.
// Text is written as RFC 5952 has it: lower case, no leading zeros, "::" for the longest run of at least two groups of
// zeros (the first of equals), an IPv4-mapped address with its dotted quad.

import { formatIpv4, type Ipv4, ipv4, parseIpv4 } from './ipv4.js';

declare const IPV6: unique symbol;

/** An IPv6 address: unsigned 128-bit integer. */
export type Ipv6 = bigint & { readonly [IPV6]: true };

/** "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255". */
const MAX_TEXT = 45;
const GROUPS = 8;
const GROUP = /^[0-9a-f]{1,4}$/i;
/** The upper 96 bits of an IPv4-mapped address, ::ffff:0:0/96 (RFC 4291 section 2.5.5.2). */
const MAPPED = 0xffffn;

/** The address that a calculation arrived at. Throws RangeError for a number that is no address. */
export function ipv6(value: bigint): Ipv6 {
  if (BigInt.asUintN(128, value) !== value) throw new RangeError(`${value} is no IPv6 address`);
  return value as Ipv6;
}

/** The address written in `text`, or undefined when it is none. */
export function parseIpv6(text: string): Ipv6 | undefined {
  if (text.length > MAX_TEXT) return undefined;
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const upper = parseGroups(halves[0], halves.length === 1);
  const lower = halves.length === 1 ? [] : parseGroups(halves[1], true);
  if (upper === undefined || lower === undefined) return undefined;
  const zeros = GROUPS - upper.length - lower.length;
  // "::" stands for one group at least.
  if (halves.length === 1 ? zeros !== 0 : zeros < 1) return undefined;
  let address = 0n;
  for (const group of [...upper, ...new Array<number>(zeros).fill(0), ...lower])
    address = (address << 16n) | BigInt(group);
  return address as Ipv6;
}

/** RFC 5952 text of an address. */
export function formatIpv6(address: Ipv6): string {
  const mapped = mappedIpv4(address);
  if (mapped !== undefined) return `::ffff:${formatIpv4(mapped)}`;
  const groups: number[] = [];
  for (let i = GROUPS - 1; i >= 0; i--) groups.push(Number((address >> BigInt(16 * i)) & 0xffffn));
  const text = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(':');
  const { start, length } = longestZeros(groups);
  return length < 2 ? text(0, GROUPS) : `${text(0, start)}::${text(start + length, GROUPS)}`;
}

/** The IPv4 address in an IPv4-mapped one, or undefined. */
export function mappedIpv4(address: Ipv6): Ipv4 | undefined {
  return address >> 32n === MAPPED ? ipv4(Number(address & 0xffffffffn)) : undefined;
}

/** Groups of one side of "::"; a dotted quad, which is two of them, may be the last where `isEnd`. */
function parseGroups(text: string, isEnd: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const words = text.split(':');
  for (const [index, word] of words.entries()) {
    if (GROUP.test(word)) {
      groups.push(parseInt(word, 16));
      continue;
    }
    const quad = isEnd && index === words.length - 1 ? parseIpv4(word) : undefined;
    if (quad === undefined) return undefined;
    groups.push(quad >>> 16, quad & 0xffff);
  }
  return groups;
}

function longestZeros(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let longest = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > longest.length) longest = { start, length };
    start += length;
  }
  return longest;
}
