// The route table as a worker looks things up in it (route-table.ts).

import {
  HEADER_ACTIVE,
  HEADER_NODES,
  HEADER_PARTIAL,
  PEER_IS_WIDE,
  maskWord,
  peerSlot,
  REST_ADDRESS,
  REST_NETWORK,
  REST_WORDS,
  ROW_ADDRESS,
  ROW_FAMILIES,
  ROW_LENGTH,
  ROW_MTU,
  ROW_NETWORK,
  ROW_PORT,
  ROW_WORDS,
  type SideLayout,
  sideLayout,
  SLOTS,
  wideSlot,
} from './table-layout.js';
import { endLookup, epochAt } from './table-readers.js';

/**
 * A worker's view. Between enter() and leave() all lookups see one publication. Nothing here allocates.
 * Addresses may be given signed or unsigned; what is returned is signed.
 */
export class RouteReader {
  readonly #words: Int32Array;
  readonly #epochAt: number;
  readonly #first: SideLayout;
  readonly #second: SideLayout;
  #root = 0;
  #nodes = 0;
  #rows = 0;
  #rests = 0;
  #peers = 0;
  #widePeers = 0;
  #wideLeases = 0;
  #lengths = 0;
  #isPartial = false;

  /** `reader` is this reader's own number, of takeReader(). Whoever had it before is gone. */
  constructor(buffer: SharedArrayBuffer, reader: number) {
    this.#epochAt = epochAt(reader);
    this.#words = new Int32Array(buffer);
    endLookup(this.#words, reader);
    this.#first = sideLayout(0, this.#words[HEADER_NODES]);
    this.#second = sideLayout(1, this.#words[HEADER_NODES]);
  }

  enter(): void {
    // The epoch first, the side second: a writer that does not see the epoch flips before the side is read.
    Atomics.add(this.#words, this.#epochAt, 1);
    this.#isPartial = Atomics.load(this.#words, HEADER_PARTIAL) === 1;
    const side = Atomics.load(this.#words, HEADER_ACTIVE) === 0 ? this.#first : this.#second;
    this.#root = side.root;
    this.#nodes = side.nodes;
    this.#rows = side.rows;
    this.#rests = side.rests;
    this.#peers = side.peers;
    this.#widePeers = side.widePeers;
    this.#wideLeases = side.wideLeases;
    this.#lengths = side.lengths;
  }

  /** The first table does not stand yet: what is not found may still be a lease. */
  get isPartial(): boolean {
    return this.#isPartial;
  }

  leave(): void {
    Atomics.add(this.#words, this.#epochAt, 1);
  }

  /** Row of the longest lease that covers an address of IPv4; -1 when there is none. Three loads at most. */
  lookup(address: number): number {
    const words = this.#words;
    let entry = words[this.#root + (address >>> 16)];
    if (entry < 0) {
      entry = words[this.#nodes + ((-entry - 1) << 8) + ((address >>> 8) & 255)]!;
      if (entry < 0) entry = words[this.#nodes + ((-entry - 1) << 8) + (address & 255)]!;
    }
    return entry - 1;
  }

  /** As lookup(), for the four words of an address of IPv6. One question to a hash for each length that leases have. */
  lookupWide(a: number, b: number, c: number, d: number): number {
    const words = this.#words;
    const first = this.#lengths + 1;
    const end = first + words[this.#lengths];
    for (let at = first; at < end; at++) {
      const row = this.#find(words[at], a, b, c, d);
      if (row >= 0) return row;
    }
    return -1;
  }

  /** Whether a peer of the row is reached over IPv6. */
  isPeerWide(row: number): boolean {
    return (this.#words[this.#rows + row * ROW_WORDS + ROW_FAMILIES] & PEER_IS_WIDE) !== 0;
  }

  /** Word 0 of the peer's address: all of it, over IPv4. */
  peerAddress(row: number): number {
    return this.#words[this.#rows + row * ROW_WORDS + ROW_ADDRESS];
  }

  peerPort(row: number): number {
    return this.#words[this.#rows + row * ROW_WORDS + ROW_PORT];
  }

  peerMtu(row: number): number {
    return this.#words[this.#rows + row * ROW_WORDS + ROW_MTU];
  }

  /** Word 1, 2 or 3 of the address of a peer that is reached over IPv6. */
  peerWord(row: number, index: number): number {
    return this.#words[this.#rests + row * REST_WORDS + REST_ADDRESS - 1 + index];
  }

  /** Word 1, 2 or 3 of the network address of a lease of IPv6. */
  networkWord(row: number, index: number): number {
    return this.#words[this.#rests + row * REST_WORDS + REST_NETWORK - 1 + index];
  }

  /** Prefix length of the row's lease. */
  length(row: number): number {
    return this.#words[this.#rows + row * ROW_WORDS + ROW_LENGTH];
  }

  /** Word 0 of the network address of the row's lease: all of it, for IPv4. */
  network(row: number): number {
    return this.#words[this.#rows + row * ROW_WORDS + ROW_NETWORK];
  }

  /** Whether an address is the peer of some lease. */
  hasPeer(address: number): boolean {
    const words = this.#words;
    const wanted = address | 0;
    for (let slot = peerSlot(wanted); ; slot = (slot + 1) & (SLOTS - 1)) {
      const found = words[this.#peers + slot];
      if (found === 0) return false;
      if (found === wanted) return true;
    }
  }

  /** As hasPeer(), for the four words of an address of IPv6. */
  hasWidePeer(a: number, b: number, c: number, d: number): boolean {
    const words = this.#words;
    for (let slot = wideSlot(a, b, c, d, 0); ; slot = (slot + 1) & (SLOTS - 1)) {
      const at = this.#widePeers + 4 * slot;
      const w = words[at];
      const x = words[at + 1];
      const y = words[at + 2];
      const z = words[at + 3];
      if (w === a && x === b && y === c && z === d) return true;
      if ((w | x | y | z) === 0) return false;
    }
  }

  /** Row of the lease of exactly `length` that covers an address; -1 when there is none. */
  #find(length: number, a: number, b: number, c: number, d: number): number {
    const words = this.#words;
    const w = a & maskWord(length, 0);
    const x = b & maskWord(length, 1);
    const y = c & maskWord(length, 2);
    const z = d & maskWord(length, 3);
    for (let slot = wideSlot(w, x, y, z, length); ; slot = (slot + 1) & (SLOTS - 1)) {
      const row = words[this.#wideLeases + slot] - 1;
      if (row < 0) return -1;
      const at = this.#rows + row * ROW_WORDS;
      const rest = this.#rests + row * REST_WORDS + REST_NETWORK;
      if (
        words[at + ROW_NETWORK] === w &&
        words[at + ROW_LENGTH] === length &&
        words[rest] === x &&
        words[rest + 1] === y &&
        words[rest + 2] === z
      ) {
        return row;
      }
    }
  }
}
