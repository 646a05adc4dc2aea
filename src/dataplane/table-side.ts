// One copy of the route table, and how its writer changes it (route-table.ts).

import { sizeOf } from '../net/prefix.js';
import { PeerSet, WidePeerSet } from './peer-sets.js';
import type { ChangedSide } from './table-changes.js';
import {
  LEASE_IS_WIDE,
  NODE_WORDS,
  PEER_IS_WIDE,
  REST_ADDRESS,
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
} from './table-layout.js';
import { WideLeases } from './wide-leases.js';

/** One copy of the table, and what the writer must know about its nodes. */
export class Side implements ChangedSide {
  readonly #words: Int32Array;
  readonly #at: SideLayout;
  readonly #freeNodes: number[] = [];
  readonly #nodeCapacity: number;
  #nodesUsed = 0;
  /** Leases longer than the node's own level that go through it; at 0 the node folds into its parent. */
  readonly #users: number[] = [];
  readonly #peers: PeerSet;
  readonly #widePeers: WidePeerSet;
  readonly #wideLeases: WideLeases;

  constructor(words: Int32Array, side: number, nodeCapacity: number) {
    this.#words = words;
    this.#at = sideLayout(side, nodeCapacity);
    this.#nodeCapacity = nodeCapacity;
    this.#peers = new PeerSet(words, this.#at);
    this.#widePeers = new WidePeerSet(words, this.#at);
    this.#wideLeases = new WideLeases(words, this.#at);
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
    this.#words[at + ROW_FAMILIES] = 0;
    if (isNewPeer) this.#peers.add(address);
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
    if (isPeerGone) this.#peers.remove(address);
  }

  insertWide(row: number, lease: Int32Array, isNewPeer: boolean): void {
    this.#words.set(lease.subarray(0, ROW_WORDS), this.#at.rows + row * ROW_WORDS);
    this.#words.set(lease.subarray(ROW_WORDS), this.#at.rests + row * REST_WORDS);
    if (isNewPeer) this.#changePeer(row, 'add');
    if ((lease[ROW_FAMILIES] & LEASE_IS_WIDE) !== 0) this.#wideLeases.add(row);
    else this.#walk(lease[ROW_NETWORK], lease[ROW_LENGTH], row + 1, 1);
  }

  removeWide(row: number, cover: number, isPeerGone: boolean): void {
    const at = this.#at.rows + row * ROW_WORDS;
    const isWide = (this.#words[at + ROW_FAMILIES] & LEASE_IS_WIDE) !== 0;
    if (isWide) this.#wideLeases.remove(row);
    else this.#walk(this.#words[at + ROW_NETWORK], this.#words[at + ROW_LENGTH], cover, -1, row + 1);
    if (isPeerGone) this.#changePeer(row, 'remove');
  }

  /** The peer of a row that is, or was, written whole. */
  #changePeer(row: number, change: 'add' | 'remove'): void {
    const at = this.#at.rows + row * ROW_WORDS;
    const address = this.#words[at + ROW_ADDRESS];
    if ((this.#words[at + ROW_FAMILIES] & PEER_IS_WIDE) === 0) return this.#peers[change](address);
    const rest = this.#at.rests + row * REST_WORDS + REST_ADDRESS;
    const [b, c, d] = this.#words.subarray(rest, rest + 3);
    this.#widePeers[change]([address, b, c, d]);
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
}
