// The subnet-to-peer table: longest-prefix match in at most three loads, in memory that every worker shares.
//
// Two copies ("sides") of the same structure live in one SharedArrayBuffer. Workers read the active side; the one
// writer, on the main thread, changes the other and then flips one word, so a batch sees a table from before or after a
// publication and never a mixture. The operations of a publication are replayed on the old side at the next one, when
// its readers have left it: the cost of a change does not grow with the table, and no memory is ever reclaimed under a
// reader. (This is the left-right technique of Ramalhete and Correia.)
//
//   side:   root[65536] by the upper 16 bits ─► node[256] by the next 8 ─► node[256] by the last 8
//           entry 0: no lease; > 0: row + 1; < 0: -(node + 1)
//           leases of IPv6: hash of rows by network and length, and the lengths that there are (wide-leases.ts)
//   row:    peer address, port, inner path MTU, network of the lease, its length, the families of both
//   peers:  open-addressing sets of the addresses of all peers, one for IPv4 and one for IPv6
//
// Rows are of both families, and a lease of either may be behind a peer of either. What is *wide* has addresses of four
// words; IPv4 has one, and pays for nothing else.
//
// Readers announce themselves by an odd epoch in a cache line of their own while they hold a side; the writer leaves a
// side alone while a reader is in it. A thread may end in the middle of a lookup; its epoch is made even when its
// number is given back, which its owner does once the thread is gone, or is taken by another reader.

import { ipv4 } from '../net/ipv4.js';
import {
  type Address,
  addressKey,
  type DualPrefix,
  formatPrefix,
  formatPrefixes,
  hasHostBits,
  type Prefix,
  prefixCovers,
  prefixKey,
  prefixOf,
} from '../net/prefix.js';
import { ofWords, wordsOf } from '../net/address-words.js';
import { TableChanges } from './table-changes.js';
import {
  HEADER_ACTIVE,
  HEADER_GENERATION,
  HEADER_NODES,
  HEADER_PARTIAL,
  LEASE_IS_WIDE,
  MAX_ROWS,
  PEER_IS_WIDE,
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
  sideLayout,
  WIDE_ROW_WORDS,
} from './table-layout.js';
import { TableReaders } from './table-readers.js';
import { Side } from './table-side.js';

export { RouteReader } from './route-reader.js';
export { MAX_ROWS } from './table-layout.js';

/** In place of the length of a row: no lease has it. */
const FREE = -1;

/** The peer of a lease. */
export interface Peer<A extends Address = Address> {
  /** Outer destination, host order. */
  readonly address: A;
  readonly port: number;
  /** Largest inner packet that reaches it in one piece. */
  readonly mtuBytes: number;
}

/**
 * The leases of the other hosts: which peer a subnet is behind. It is written on the main thread and read by the
 * workers of one data path. Changes are seen by them at publish(), all at once. A lookup takes the longest prefix.
 */
export class RouteTable {
  /** Shared with every reader. @internal */
  readonly buffer: SharedArrayBuffer;
  readonly #networks: DualPrefix;
  readonly #words: Int32Array;
  readonly #sides: readonly [Side, Side];
  /** Row by prefix key; rows of live leases only. */
  readonly #rows = new Map<number | bigint, number>();
  /** What set() was given for each row, as a side has it: objects for each of 65,000 would take more. */
  readonly #given = new Int32Array(ROW_WORDS * MAX_ROWS);
  readonly #givenRests = new Int32Array(REST_WORDS * MAX_ROWS);
  /** A row with its rest, for the changes. */
  readonly #wideRow = new Int32Array(WIDE_ROW_WORDS);
  #rowLimit = 0;
  /** By addressKey(). Nearly every peer has one row for each family. */
  readonly #rowsOfPeer = new Map<number | bigint, number | Set<number>>();
  readonly #freeRows: number[] = [];
  readonly #readers: TableReaders;
  readonly #followers = new Set<(changes: TableChanges) => void>();
  /** Applied to the active side but not yet to the other. */
  #replay = new TableChanges();
  #pending = new TableChanges();
  #isCompleteNext = false;

  /**
   * A table for leases inside a network of IPv4, or inside those of each family. Virtual size grows with the network of
   * IPv4; memory only with the leases.
   */
  constructor(networks: Prefix | DualPrefix) {
    this.#networks = 'address' in networks ? { v4: networks } : networks;
    // One node per /16 of the network, and one per /24 that could hold longer leases.
    const length = this.#networks.v4?.length ?? 32;
    const upper = 2 ** Math.max(0, 16 - length);
    const lower = Math.min(MAX_ROWS, 2 ** Math.max(0, 24 - length));
    const nodeCapacity = upper + lower;
    const end = sideLayout(2, nodeCapacity).root;
    this.buffer = new SharedArrayBuffer(end * 4);
    this.#words = new Int32Array(this.buffer);
    this.#words[HEADER_NODES] = nodeCapacity;
    this.#readers = new TableReaders(this.#words);
    this.#sides = [new Side(this.#words, 0, nodeCapacity), new Side(this.#words, 1, nodeCapacity)];
  }

  /** Number of leases. */
  get size(): number {
    return this.#rows.size;
  }

  /** All rows in use are below it. */
  get rowLimit(): number {
    return this.#rowLimit;
  }

  /**
   * Whether readers are told so: see setPartial().
   *
   * @internal
   */
  get isPartial(): boolean {
    return Atomics.load(this.#words, HEADER_PARTIAL) === 1;
  }

  /** Row of a lease, or undefined. */
  rowOf(prefix: Prefix<Address>): number | undefined {
    return this.#rows.get(prefixKey(prefix));
  }

  /** What the table holds for a row. */
  row(row: number): { readonly prefix: Prefix<Address>; readonly peer: Peer } | undefined {
    const at = ROW_WORDS * row;
    const length = this.#given[at + ROW_LENGTH];
    if (row >= this.#rowLimit || length === FREE) return undefined;
    const isWide = (this.#given[at + ROW_FAMILIES] & LEASE_IS_WIDE) !== 0;
    const address = this.#addressAt(at + ROW_NETWORK, REST_WORDS * row + REST_NETWORK, isWide);
    return { prefix: { address, length }, peer: this.#peerOf(row) };
  }

  /** Rows of all leases of a peer. */
  rowsOfPeer(address: Address): ReadonlySet<number> {
    const rows = this.#rowsOfPeer.get(addressKey(address));
    return typeof rows === 'object' ? rows : new Set(rows === undefined ? [] : [rows]);
  }

  /**
   * Adds a lease or replaces its peer; seen by readers after publish().
   *
   * @throws RangeError when the prefix lies outside the network or the table is full.
   */
  set(prefix: Prefix<Address>, peer: Peer): number {
    const network = typeof prefix.address === 'number' ? this.#networks.v4 : this.#networks.v6;
    if (network === undefined || !prefixCovers(network, prefix) || hasHostBits(prefix))
      throw new RangeError(`${formatPrefix(prefix)} is no prefix inside ${formatPrefixes(this.#networks)}`);
    const key = prefixKey(prefix);
    const known = this.#rows.get(key);
    if (known !== undefined) {
      const before = this.#peerOf(known);
      if (before.address === peer.address && before.port === peer.port) {
        this.#setMtu(known, peer.mtuBytes);
        if (before.mtuBytes !== peer.mtuBytes) this.#pending.setMtu(known, peer.mtuBytes);
        return known;
      }
      this.delete(prefix);
    }
    const row = this.#freeRows.pop() ?? this.#rowLimit;
    if (row >= MAX_ROWS) throw new RangeError(`more than ${MAX_ROWS} leases`);
    this.#rowLimit = Math.max(this.#rowLimit, row + 1);
    this.#rows.set(key, row);
    this.#setRow(row, prefix, peer);
    const isNewPeer = this.#addRowOfPeer(addressKey(peer.address), row);
    const given = this.#given.subarray(ROW_WORDS * row, ROW_WORDS * (row + 1));
    if (given[ROW_FAMILIES] !== 0) {
      this.#wideRow.set(given);
      this.#wideRow.set(this.#givenRests.subarray(REST_WORDS * row, REST_WORDS * (row + 1)), ROW_WORDS);
      this.#pending.insertWide(row, this.#wideRow, isNewPeer);
      return row;
    }
    const { port, mtuBytes } = peer;
    const network4 = given[ROW_NETWORK];
    this.#pending.insert(row, network4, prefix.length, given[ROW_ADDRESS], port, mtuBytes, isNewPeer);
    return row;
  }

  /** Removes a lease; its addresses fall to the next shorter lease that covers them. False when it was not there. */
  delete(prefix: Prefix<Address>): boolean {
    const key = prefixKey(prefix);
    const row = this.#rows.get(key);
    if (row === undefined) return false;
    this.#rows.delete(key);
    const isPeerGone = this.#removeRowOfPeer(addressKey(this.#peerOf(row).address), row);
    const at = ROW_WORDS * row;
    this.#given[at + ROW_LENGTH] = FREE;
    this.#freeRows.push(row);
    const cover = typeof prefix.address === 'number' ? this.#coverOf(prefix as Prefix) : 0;
    if (this.#given[at + ROW_FAMILIES] !== 0) {
      this.#pending.removeWide(row, cover, isPeerGone);
      return true;
    }
    const address = this.#given[at + ROW_ADDRESS];
    this.#pending.remove(row, this.#given[at + ROW_NETWORK], prefix.length, cover, address, isPeerGone);
    return true;
  }

  /** Changes the path MTU of all leases of a peer. False when it has none. */
  setPeerMtu(address: Address, mtuBytes: number): boolean {
    const rows = this.rowsOfPeer(address);
    for (const row of rows) {
      this.#setMtu(row, mtuBytes);
      this.#pending.setMtu(row, mtuBytes);
    }
    return rows.size > 0;
  }

  /** Until setComplete(), readers are told that a lease they do not find may be one that is not known yet. */
  setPartial(): void {
    Atomics.store(this.#words, HEADER_PARTIAL, 1);
  }

  /** With the next publication the table holds all leases there are. */
  setComplete(): void {
    this.#isCompleteNext = true;
  }

  /**
   * Calls `onPublished` with the changes of each publication, as soon as readers see them, and with none when the table
   * has become complete without any. Returns what ends that.
   *
   * @internal
   */
  follow(onPublished: (changes: TableChanges) => void): () => void {
    this.#followers.add(onPublished);
    return () => void this.#followers.delete(onPublished);
  }

  /**
   * Makes all changes since the last publication visible at once. O(changes). Returns false, changing nothing, while a
   * reader that was stopped in the middle of a lookup still holds the other side: call again later.
   */
  publish(): boolean {
    if (this.#pending.isEmpty) {
      if (this.#publishComplete()) this.#tellFollowers(this.#pending);
      return true;
    }
    if (!this.settle()) return false;
    const active = Atomics.load(this.#words, HEADER_ACTIVE);
    const side = this.#sides[1 - active];
    this.#pending.applyTo(side);
    this.#replay = this.#pending;
    this.#pending = new TableChanges();
    Atomics.store(this.#words, HEADER_ACTIVE, 1 - active);
    this.#publishComplete(); // after the flip: whoever reads the word before the side sees the whole table with it
    Atomics.add(this.#words, HEADER_GENERATION, 1);
    this.#readers.noteInside();
    this.#tellFollowers(this.#replay);
    return true;
  }

  /**
   * Brings the side that nobody reads up to the other, and forgets what had to be done for it: after a first table of
   * 65,000 leases that is some megabytes. Returns false, changing nothing, while a reader still holds that side.
   */
  settle(): boolean {
    if (!this.#readers.haveLeft()) return false;
    if (this.#replay.isEmpty) return true;
    this.#replay.applyTo(this.#sides[1 - Atomics.load(this.#words, HEADER_ACTIVE)]);
    this.#replay = new TableChanges();
    return true;
  }

  /** Whether there was something to say. */
  #publishComplete(): boolean {
    if (!this.#isCompleteNext) return false;
    Atomics.store(this.#words, HEADER_PARTIAL, 0);
    this.#isCompleteNext = false;
    return true;
  }

  #tellFollowers(changes: TableChanges): void {
    for (const onPublished of this.#followers) onPublished(changes);
  }

  /**
   * A reader's number that no live thread has.
   *
   * @internal
   * @throws RangeError when all MAX_READERS are taken.
   */
  takeReader(): number {
    return this.#readers.take();
  }

  /**
   * Gives a reader's number back once its thread is gone: what it held is free, even when it died inside a lookup.
   *
   * @internal
   */
  returnReader(reader: number): void {
    this.#readers.giveBack(reader);
  }

  #peerOf(row: number): Peer {
    const at = ROW_WORDS * row;
    const isWide = (this.#given[at + ROW_FAMILIES] & PEER_IS_WIDE) !== 0;
    const address = this.#addressAt(at + ROW_ADDRESS, REST_WORDS * row + REST_ADDRESS, isWide);
    return { address, port: this.#given[at + ROW_PORT], mtuBytes: this.#given[at + ROW_MTU] };
  }

  #setRow(row: number, prefix: Prefix<Address>, { address, port, mtuBytes }: Peer): void {
    const at = ROW_WORDS * row;
    const rest = REST_WORDS * row;
    const isWideLease = this.#setAddressAt(at + ROW_NETWORK, rest + REST_NETWORK, prefix.address);
    const isWidePeer = this.#setAddressAt(at + ROW_ADDRESS, rest + REST_ADDRESS, address);
    this.#given[at + ROW_FAMILIES] = (isWideLease ? LEASE_IS_WIDE : 0) | (isWidePeer ? PEER_IS_WIDE : 0);
    this.#given[at + ROW_LENGTH] = prefix.length;
    this.#given[at + ROW_PORT] = port;
    this.#setMtu(row, mtuBytes);
  }

  #setMtu(row: number, mtuBytes: number): void {
    this.#given[ROW_WORDS * row + ROW_MTU] = mtuBytes;
  }

  #addressAt(at: number, rest: number, isWide: boolean): Address {
    const first = this.#given[at];
    if (!isWide) return ipv4(first >>> 0);
    const [second, third, fourth] = this.#givenRests.subarray(rest, rest + 3);
    return ofWords([first, second, third, fourth]);
  }

  /** Whether the address is wide. */
  #setAddressAt(at: number, rest: number, address: Address): boolean {
    if (typeof address === 'number') {
      this.#given[at] = address;
      return false;
    }
    const [first, ...others] = wordsOf(address);
    this.#given[at] = first;
    this.#givenRests.set(others, rest);
    return true;
  }

  /** True when it is the first row of its peer. */
  #addRowOfPeer(address: number | bigint, row: number): boolean {
    const rows = this.#rowsOfPeer.get(address);
    if (typeof rows === 'object') rows.add(row);
    else this.#rowsOfPeer.set(address, rows === undefined ? row : new Set([rows, row]));
    return rows === undefined;
  }

  /** True when it was the last row of its peer. */
  #removeRowOfPeer(address: number | bigint, row: number): boolean {
    const rows = this.#rowsOfPeer.get(address);
    if (typeof rows === 'object') {
      rows.delete(row);
      if (rows.size > 0) return false;
    }
    return this.#rowsOfPeer.delete(address);
  }

  /** Row + 1 of the longest IPv4 lease that covers `prefix` and is shorter than it; 0 when there is none. */
  #coverOf(prefix: Prefix): number {
    for (let length = prefix.length - 1; length >= 0; length--) {
      const row = this.#rows.get(prefixKey(prefixOf(prefix.address, length)));
      if (row !== undefined) return row + 1;
    }
    return 0;
  }
}
