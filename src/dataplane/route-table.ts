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
//   row:    peer address, port, inner path MTU, network of the lease, its length
//   peers:  open-addressing set of the addresses of all peers
//
// Readers announce themselves by an odd epoch in a cache line of their own while they hold a side; the writer leaves a
// side alone while a reader is in it. A thread may end in the middle of a lookup; its epoch is made even when its
// number is given back, which its owner does once the thread is gone, or is taken by another reader.

import { type Ipv4, ipv4 } from '../net/ipv4.js';
import {
  formatPrefix,
  maskOf,
  type Prefix,
  prefixCovers,
  prefixKey,
  prefixOf,
  sizeOf,
} from '../net/prefix.js';
import { type ChangedSide, TableChanges } from './table-changes.js';
import { endLookup, epochAt, EPOCHS_END, TableReaders } from './table-readers.js';

/** Rows a table can hold: one per lease. */
export const MAX_ROWS = 65536;

const ROOT_WORDS = 1 << 16;
const NODE_WORDS = 1 << 8;
const ROW_WORDS = 8;
const ROW_ADDRESS = 0;
const ROW_PORT = 1;
const ROW_MTU = 2;
const ROW_NETWORK = 3;
const ROW_LENGTH = 4;
// Twice the rows, so that probing stays short; a power of two.
const PEER_SLOTS = 2 * MAX_ROWS;

const HEADER_ACTIVE = 0;
const HEADER_GENERATION = 1;
const HEADER_NODES = 2;
const HEADER_PARTIAL = 3;

// The writer's own note of a row, of which the sides hold what is published.
const GIVEN_NETWORK = 0;
const GIVEN_LENGTH = 1;
const GIVEN_ADDRESS = 2;
const GIVEN_PORT = 3;
const GIVEN_MTU = 4;
const GIVEN_WORDS = 5;
/** In place of the length: no lease has the row. */
const FREE = -1;

interface SideLayout {
  readonly root: number;
  readonly nodes: number;
  readonly rows: number;
  readonly peers: number;
}

function sideLayout(side: number, nodeCapacity: number): SideLayout {
  const rows = ROOT_WORDS + nodeCapacity * NODE_WORDS;
  const peers = rows + MAX_ROWS * ROW_WORDS;
  const start = EPOCHS_END + side * (peers + PEER_SLOTS);
  return { root: start, nodes: start + ROOT_WORDS, rows: start + rows, peers: start + peers };
}

function peerSlot(address: number): number {
  return (Math.imul(address, 0x9e3779b1) >>> 15) & (PEER_SLOTS - 1);
}

/** The peer of a lease. */
export interface Peer {
  /** Outer destination, host order. */
  readonly address: Ipv4;
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
  readonly #network: Prefix;
  readonly #words: Int32Array;
  readonly #sides: readonly [Side, Side];
  /** Row by prefix key; rows of live leases only. */
  readonly #rows = new Map<number, number>();
  /** What set() was given for each row, by GIVEN_…: objects for each of 65,000 would take six times as much. */
  readonly #given = new Int32Array(GIVEN_WORDS * MAX_ROWS);
  #rowLimit = 0;
  /** By address as a signed integer, which V8 keeps without an object of its own; nearly every peer has one row. */
  readonly #rowsOfPeer = new Map<number, number | Set<number>>();
  readonly #freeRows: number[] = [];
  readonly #readers: TableReaders;
  readonly #followers = new Set<(changes: TableChanges) => void>();
  /** Applied to the active side but not yet to the other. */
  #replay = new TableChanges();
  #pending = new TableChanges();
  #isCompleteNext = false;

  /** A table for leases inside `network`. Virtual size grows with the network; memory only with the leases. */
  constructor(network: Prefix) {
    this.#network = network;
    // One node per /16 of the network, and one per /24 that could hold longer leases.
    const upper = 2 ** Math.max(0, 16 - network.length);
    const lower = Math.min(MAX_ROWS, 2 ** Math.max(0, 24 - network.length));
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
  rowOf(prefix: Prefix): number | undefined {
    return this.#rows.get(prefixKey(prefix));
  }

  /** What the table holds for a row. */
  row(row: number): { readonly prefix: Prefix; readonly peer: Peer } | undefined {
    const at = GIVEN_WORDS * row;
    const length = this.#given[at + GIVEN_LENGTH];
    if (row >= this.#rowLimit || length === FREE) return undefined;
    const address = ipv4(this.#given[at + GIVEN_NETWORK] >>> 0);
    return { prefix: { address, length }, peer: this.#peerOf(row) };
  }

  /** Rows of all leases of a peer. */
  rowsOfPeer(address: Ipv4): ReadonlySet<number> {
    const rows = this.#rowsOfPeer.get(address | 0);
    return typeof rows === 'object' ? rows : new Set(rows === undefined ? [] : [rows]);
  }

  /**
   * Adds a lease or replaces its peer; seen by readers after publish().
   *
   * @throws RangeError when the prefix lies outside the network or the table is full.
   */
  set(prefix: Prefix, peer: Peer): number {
    if (!prefixCovers(this.#network, prefix) || (prefix.address & ~maskOf(prefix.length)) !== 0) {
      throw new RangeError(`${formatPrefix(prefix)} is no prefix inside ${formatPrefix(this.#network)}`);
    }
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
    const address = peer.address | 0;
    const isNewPeer = this.#addRowOfPeer(address, row);
    const { port, mtuBytes } = peer;
    this.#pending.insert(row, prefix.address | 0, prefix.length, address, port, mtuBytes, isNewPeer);
    return row;
  }

  /** Removes a lease; its addresses fall to the next shorter lease that covers them. False when it was not there. */
  delete(prefix: Prefix): boolean {
    const key = prefixKey(prefix);
    const row = this.#rows.get(key);
    if (row === undefined) return false;
    this.#rows.delete(key);
    const address = this.#peerOf(row).address | 0;
    this.#given[GIVEN_WORDS * row + GIVEN_LENGTH] = FREE;
    this.#freeRows.push(row);
    const isPeerGone = this.#removeRowOfPeer(address, row);
    const cover = this.#coverOf(prefix);
    this.#pending.remove(row, prefix.address | 0, prefix.length, cover, address, isPeerGone);
    return true;
  }

  /** Changes the path MTU of all leases of a peer. False when it has none. */
  setPeerMtu(address: Ipv4, mtuBytes: number): boolean {
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
    const at = GIVEN_WORDS * row;
    const address = ipv4(this.#given[at + GIVEN_ADDRESS] >>> 0);
    return { address, port: this.#given[at + GIVEN_PORT], mtuBytes: this.#given[at + GIVEN_MTU] };
  }

  #setRow(row: number, prefix: Prefix, { address, port, mtuBytes }: Peer): void {
    const at = GIVEN_WORDS * row;
    this.#given[at + GIVEN_NETWORK] = prefix.address;
    this.#given[at + GIVEN_LENGTH] = prefix.length;
    this.#given[at + GIVEN_ADDRESS] = address;
    this.#given[at + GIVEN_PORT] = port;
    this.#setMtu(row, mtuBytes);
  }

  #setMtu(row: number, mtuBytes: number): void {
    this.#given[GIVEN_WORDS * row + GIVEN_MTU] = mtuBytes;
  }

  /** True when it is the first row of its peer. */
  #addRowOfPeer(address: number, row: number): boolean {
    const rows = this.#rowsOfPeer.get(address);
    if (typeof rows === 'object') rows.add(row);
    else this.#rowsOfPeer.set(address, rows === undefined ? row : new Set([rows, row]));
    return rows === undefined;
  }

  /** True when it was the last row of its peer. */
  #removeRowOfPeer(address: number, row: number): boolean {
    const rows = this.#rowsOfPeer.get(address);
    if (typeof rows === 'object') {
      rows.delete(row);
      if (rows.size > 0) return false;
    }
    return this.#rowsOfPeer.delete(address);
  }

  /** Row + 1 of the longest lease that covers `prefix` and is shorter than it; 0 when there is none. */
  #coverOf(prefix: Prefix): number {
    for (let length = prefix.length - 1; length >= 0; length--) {
      const row = this.#rows.get(prefixKey(prefixOf(prefix.address, length)));
      if (row !== undefined) return row + 1;
    }
    return 0;
  }
}

/** One copy of the table, and what the writer must know about its nodes. */
class Side implements ChangedSide {
  readonly #words: Int32Array;
  readonly #at: SideLayout;
  readonly #freeNodes: number[] = [];
  readonly #nodeCapacity: number;
  #nodesUsed = 0;
  /** Leases longer than the node's own level that go through it; at 0 the node folds into its parent. */
  readonly #users: number[] = [];

  constructor(words: Int32Array, side: number, nodeCapacity: number) {
    this.#words = words;
    this.#at = sideLayout(side, nodeCapacity);
    this.#nodeCapacity = nodeCapacity;
  }

  setMtu(row: number, mtuBytes: number): void {
    this.#words[this.#at.rows + row * ROW_WORDS + ROW_MTU] = mtuBytes;
  }

  insert(
    row: number,
    network: number,
    length: number,
    address: number,
    port: number,
    mtuBytes: number,
    isNewPeer: boolean,
  ): void {
    const at = this.#at.rows + row * ROW_WORDS;
    this.#words[at + ROW_ADDRESS] = address;
    this.#words[at + ROW_PORT] = port;
    this.#words[at + ROW_MTU] = mtuBytes;
    this.#words[at + ROW_NETWORK] = network;
    this.#words[at + ROW_LENGTH] = length;
    if (isNewPeer) this.#addPeer(address);
    this.#walk(network, length, row + 1, 1);
  }

  remove(
    row: number,
    network: number,
    length: number,
    cover: number,
    address: number,
    isPeerGone: boolean,
  ): void {
    this.#walk(network, length, cover, -1, row + 1);
    if (isPeerGone) this.#removePeer(address);
  }

  /**
   * Writes `value` over the entries of a prefix that belong to leases not longer than it (`delta` 1) or to `only`
   * (`delta` -1), making nodes on the way down and folding those that nobody needs any more.
   */
  #walk(address: number, length: number, value: number, delta: 1 | -1, only = 0): void {
    const root = this.#at.root + (address >>> 16);
    if (length <= 16) {
      this.#fill(root, sizeOf(length) >>> 16, value, length, only, 16);
      return;
    }
    const upper = this.#child(root, delta);
    const second = this.#nodeAt(upper) + ((address >>> 8) & 255);
    if (length <= 24) {
      this.#fill(second, sizeOf(length) >>> 8, value, length, only, 24);
    } else {
      const lower = this.#child(second, delta);
      this.#fill(this.#nodeAt(lower) + (address & 255), sizeOf(length), value, length, only, 32);
      this.#fold(second, lower);
    }
    this.#fold(root, upper);
  }

  #fill(at: number, count: number, value: number, length: number, only: number, level: number): void {
    for (let i = at; i < at + count; i++) {
      const entry = this.#words[i];
      if (entry < 0) this.#fill(this.#nodeAt(-entry - 1), NODE_WORDS, value, length, only, level + 8);
      else if (only !== 0 ? entry === only : this.#lengthOf(entry) <= length) this.#words[i] = value;
    }
  }

  #lengthOf(entry: number): number {
    return entry === 0 ? -1 : this.#words[this.#at.rows + (entry - 1) * ROW_WORDS + ROW_LENGTH];
  }

  #nodeAt(node: number): number {
    return this.#at.nodes + node * NODE_WORDS;
  }

  /** The node below an entry, made when there is none, with its user count changed. */
  #child(at: number, delta: number): number {
    const entry = this.#words[at];
    if (entry < 0) {
      this.#users[-entry - 1] += delta;
      return -entry - 1;
    }
    const node = this.#freeNodes.pop() ?? this.#nodesUsed++;
    if (node >= this.#nodeCapacity) throw new RangeError('the route table has no node left');
    this.#words.fill(entry, this.#nodeAt(node), this.#nodeAt(node) + NODE_WORDS);
    this.#users[node] = delta;
    this.#words[at] = -(node + 1);
    return node;
  }

  #fold(at: number, node: number): void {
    if (this.#users[node] > 0) return;
    // No lease ends inside it, so all its entries are the same.
    this.#words[at] = this.#words[this.#nodeAt(node)]!;
    this.#freeNodes.push(node);
  }

  #addPeer(address: number): void {
    let slot = peerSlot(address);
    while (this.#words[this.#at.peers + slot] !== 0) slot = (slot + 1) & (PEER_SLOTS - 1);
    this.#words[this.#at.peers + slot] = address;
  }

  /** Linear probing without tombstones: later entries of the cluster move up (Knuth, volume 3, 6.4 algorithm R). */
  #removePeer(address: number): void {
    const { peers } = this.#at;
    let hole = peerSlot(address);
    while (this.#words[peers + hole] !== address) hole = (hole + 1) & (PEER_SLOTS - 1);
    for (
      let slot = (hole + 1) & (PEER_SLOTS - 1);
      this.#words[peers + slot] !== 0;
      slot = (slot + 1) & (PEER_SLOTS - 1)
    ) {
      const home = peerSlot(this.#words[peers + slot]);
      // Does its home lie cyclically after the hole? Then it must stay.
      if (((slot - home) & (PEER_SLOTS - 1)) < ((slot - hole) & (PEER_SLOTS - 1))) continue;
      this.#words[peers + hole] = this.#words[peers + slot]!;
      hole = slot;
    }
    this.#words[peers + hole] = 0;
  }
}

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
  #peers = 0;
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
    this.#peers = side.peers;
  }

  /** The first table does not stand yet: what is not found may still be a lease. */
  get isPartial(): boolean {
    return this.#isPartial;
  }

  leave(): void {
    Atomics.add(this.#words, this.#epochAt, 1);
  }

  /** Row of the longest lease that covers an address; -1 when there is none. Three loads at most. */
  lookup(address: number): number {
    const words = this.#words;
    let entry = words[this.#root + (address >>> 16)];
    if (entry < 0) {
      entry = words[this.#nodes + ((-entry - 1) << 8) + ((address >>> 8) & 255)]!;
      if (entry < 0) entry = words[this.#nodes + ((-entry - 1) << 8) + (address & 255)]!;
    }
    return entry - 1;
  }

  peerAddress(row: number): number {
    return this.#words[this.#rows + row * ROW_WORDS + ROW_ADDRESS];
  }

  peerPort(row: number): number {
    return this.#words[this.#rows + row * ROW_WORDS + ROW_PORT];
  }

  peerMtu(row: number): number {
    return this.#words[this.#rows + row * ROW_WORDS + ROW_MTU];
  }

  /** Network address of the row's lease. */
  network(row: number): number {
    return this.#words[this.#rows + row * ROW_WORDS + ROW_NETWORK];
  }

  /** Whether an address is the peer of some lease. */
  hasPeer(address: number): boolean {
    const words = this.#words;
    const wanted = address | 0;
    for (let slot = peerSlot(wanted); ; slot = (slot + 1) & (PEER_SLOTS - 1)) {
      const found = words[this.#peers + slot];
      if (found === 0) return false;
      if (found === wanted) return true;
    }
  }
}
