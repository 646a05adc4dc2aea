// Addresses of IPv6 as the tables of the data path and the addon have them: four words of 32 bits, the most significant
// first.
//
// The writer of a table alone goes from one form to the other: a bigint is an object, and lookups make none.

import { type Ipv6, ipv6 } from './ipv6.js';

/** Words of an address; those behind the first stand apart in a row. */
export type AddressWords = readonly [number, number, number, number];

export function wordsOf(address: Ipv6): AddressWords {
  const word = (index: number): number => Number(BigInt.asIntN(32, address >> BigInt(96 - 32 * index)));
  return [word(0), word(1), word(2), word(3)];
}

export function ofWords([a, b, c, d]: AddressWords): Ipv6 {
  const join = (upper: bigint, word: number): bigint => (upper << 32n) | BigInt(word >>> 0);
  return ipv6(join(join(join(join(0n, a), b), c), d));
}
