// The IPv6 leases of a side of the route table, as its writer changes them: a hash of rows by network and length, and
// the lengths that there are, longest first.
//
// A lookup masks the address with each length and asks the hash. Leases of a network are of one length but for a few
// that other hosts have been given by hand, so that this is one question, or two. No lease knows of another that covers
// it: what a lease leaves behind falls to the next length by itself.

import { nextSlot, type OpenSlots, removeSlot } from './open-slots.js';
import {
  REST_NETWORK,
  REST_WORDS,
  ROW_LENGTH,
  ROW_NETWORK,
  ROW_WORDS,
  type SideLayout,
  wideSlot,
} from './table-layout.js';

export class WideLeases implements OpenSlots {
  readonly #words: Int32Array;
  readonly #at: SideLayout;
  /** Leases by length. */
  readonly #counts = new Map<number, number>();

  constructor(words: Int32Array, at: SideLayout) {
    this.#words = words;
    this.#at = at;
  }

  /** Adds the lease that the row holds. */
  add(row: number): void {
    let slot = this.#homeOfRow(row);
    while (!this.isEmpty(slot)) slot = nextSlot(slot);
    this.#words[this.#at.wideLeases + slot] = row + 1;
    this.#count(row, 1);
  }

  /** Removes it; the row still holds it. */
  remove(row: number): void {
    let slot = this.#homeOfRow(row);
    while (this.#words[this.#at.wideLeases + slot] !== row + 1) slot = nextSlot(slot);
    removeSlot(this, slot);
    this.#count(row, -1);
  }

  isEmpty(slot: number): boolean {
    return this.#words[this.#at.wideLeases + slot] === 0;
  }

  homeOf(slot: number): number {
    return this.#homeOfRow(this.#words[this.#at.wideLeases + slot] - 1);
  }

  move(from: number, to: number): void {
    this.#words[this.#at.wideLeases + to] = this.#words[this.#at.wideLeases + from]!;
  }

  clear(slot: number): void {
    this.#words[this.#at.wideLeases + slot] = 0;
  }

  #homeOfRow(row: number): number {
    const at = this.#at.rows + row * ROW_WORDS;
    const rest = this.#at.rests + row * REST_WORDS + REST_NETWORK;
    const [b, c, d] = this.#words.subarray(rest, rest + 3);
    return wideSlot(this.#words[at + ROW_NETWORK], b, c, d, this.#words[at + ROW_LENGTH]);
  }

  #count(row: number, change: number): void {
    const length = this.#words[this.#at.rows + row * ROW_WORDS + ROW_LENGTH];
    const before = this.#counts.get(length) ?? 0;
    if (before + change === 0) this.#counts.delete(length);
    else this.#counts.set(length, before + change);
    if (before !== 0 && before + change !== 0) return;
    const lengths = [...this.#counts.keys()].sort((a, b) => b - a);
    this.#words[this.#at.lengths] = lengths.length;
    this.#words.set(lengths, this.#at.lengths + 1);
  }
}
