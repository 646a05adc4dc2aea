// Where everything lies in the memory of a route table (route-table.ts): header, epochs of the readers, two sides.
//
// A side has all that is looked up by an address of one word first, and apart from it what IPv6 needs: memory that is
// not touched costs nothing.

import { EPOCHS_END } from './table-readers.js';

/** Rows a table can hold: one per lease. */
export const MAX_ROWS = 65536;

export const HEADER_ACTIVE = 0;
export const HEADER_GENERATION = 1;
export const HEADER_NODES = 2;
export const HEADER_PARTIAL = 3;

export const ROOT_WORDS = 1 << 16;
export const NODE_WORDS = 1 << 8;

/** Half a cache line: what a packet of IPv4 to a peer of IPv4 needs. */
export const ROW_WORDS = 8;
/** Of the peer: one word, or four. */
export const ROW_ADDRESS = 0;
export const ROW_PORT = 1;
export const ROW_MTU = 2;
/** Of the lease: one word, or four. */
export const ROW_NETWORK = 3;
export const ROW_LENGTH = 4;
/** LEASE_IS_WIDE and PEER_IS_WIDE. */
export const ROW_FAMILIES = 5;
/** What a row has of IPv6, apart from the rows: the other three words of a peer, and of a lease. */
export const REST_WORDS = 8;
export const REST_ADDRESS = 0;
export const REST_NETWORK = 3;
/** A row and its rest behind it, as a change carries them. */
export const WIDE_ROW_WORDS = ROW_WORDS + REST_WORDS;

/** The lease is of IPv6: four words. */
export const LEASE_IS_WIDE = 1;
/** The peer is reached over IPv6. */
export const PEER_IS_WIDE = 2;

/** Of each open-addressing table. Twice the rows, so that probing stays short; a power of two. */
export const SLOTS = 2 * MAX_ROWS;
/** Of the addresses of peers. No peer has the address of all zeros, which is an empty slot. */
const WIDE_WORDS = 4;
/** How many lengths IPv6 leases have, then those lengths, longest first. */
const LENGTHS_WORDS = 1 + 129;

export interface SideLayout {
  readonly root: number;
  readonly nodes: number;
  readonly rows: number;
  readonly peers: number;
  readonly rests: number;
  readonly widePeers: number;
  readonly wideLeases: number;
  readonly lengths: number;
}

/** The layout of side 0 or 1; of side 2, which there is not, `root` is the end of the memory. */
export function sideLayout(side: number, nodeCapacity: number): SideLayout {
  const rows = ROOT_WORDS + nodeCapacity * NODE_WORDS;
  const peers = rows + MAX_ROWS * ROW_WORDS;
  const rests = peers + SLOTS;
  const widePeers = rests + MAX_ROWS * REST_WORDS;
  const wideLeases = widePeers + SLOTS * WIDE_WORDS;
  const lengths = wideLeases + SLOTS;
  // All offsets are multiples of a cache line but the one behind the lengths.
  const size = Math.ceil((lengths + LENGTHS_WORDS) / 16) * 16;
  const start = EPOCHS_END + side * size;
  return {
    root: start,
    nodes: start + ROOT_WORDS,
    rows: start + rows,
    peers: start + peers,
    rests: start + rests,
    widePeers: start + widePeers,
    wideLeases: start + wideLeases,
    lengths: start + lengths,
  };
}

/** Slot of a peer of IPv4. */
export function peerSlot(address: number): number {
  return (Math.imul(address, 0x9e3779b1) >>> 15) & (SLOTS - 1);
}

/** Slot of an address of four words, and of a lease by network and length. */
export function wideSlot(a: number, b: number, c: number, d: number, length: number): number {
  let hash = Math.imul(a, 0x85ebca6b) ^ length;
  hash = Math.imul((hash ^ (hash >>> 15)) + b, 0x9e3779b1);
  hash = Math.imul((hash ^ (hash >>> 15)) + c, 0x85ebca6b);
  hash = Math.imul((hash ^ (hash >>> 15)) + d, 0x9e3779b1);
  return (hash >>> 15) & (SLOTS - 1);
}

/** Word `index` of the netmask of `length`. */
export function maskWord(length: number, index: number): number {
  const bits = length - 32 * index;
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}
