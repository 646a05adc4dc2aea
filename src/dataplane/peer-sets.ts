// The addresses of all peers in a side of the route table, as its writer changes them: a set for each outer family.

import type { AddressWords } from '../net/address-words.js';
import { nextSlot, type OpenSlots, removeSlot } from './open-slots.js';
import { peerSlot, type SideLayout, wideSlot } from './table-layout.js';

/** Peers that are reached over IPv4: one word a slot. */
export class PeerSet implements OpenSlots {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, { peers }: SideLayout) {
    this.#words = words;
    this.#at = peers;
  }

  add(address: number): void {
    let slot = peerSlot(address);
    while (!this.isEmpty(slot)) slot = nextSlot(slot);
    this.#words[this.#at + slot] = address;
  }

  /** It is in the set. */
  remove(address: number): void {
    let slot = peerSlot(address);
    while (this.#words[this.#at + slot] !== address) slot = nextSlot(slot);
    removeSlot(this, slot);
  }

  isEmpty(slot: number): boolean {
    return this.#words[this.#at + slot] === 0;
  }

  homeOf(slot: number): number {
    return peerSlot(this.#words[this.#at + slot]);
  }

  move(from: number, to: number): void {
    this.#words[this.#at + to] = this.#words[this.#at + from]!;
  }

  clear(slot: number): void {
    this.#words[this.#at + slot] = 0;
  }
}

/** Peers that are reached over IPv6: four words a slot. */
export class WidePeerSet implements OpenSlots {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, { widePeers }: SideLayout) {
    this.#words = words;
    this.#at = widePeers;
  }

  add(address: AddressWords): void {
    let slot = wideSlot(...address, 0);
    while (!this.isEmpty(slot)) slot = nextSlot(slot);
    this.#words.set(address, this.#at + 4 * slot);
  }

  /** It is in the set. */
  remove(address: AddressWords): void {
    let slot = wideSlot(...address, 0);
    while (!this.#has(slot, address)) slot = nextSlot(slot);
    removeSlot(this, slot);
  }

  isEmpty(slot: number): boolean {
    return this.#has(slot, [0, 0, 0, 0]);
  }

  homeOf(slot: number): number {
    const [a, b, c, d] = this.#words.subarray(this.#at + 4 * slot, this.#at + 4 * slot + 4);
    return wideSlot(a, b, c, d, 0);
  }

  move(from: number, to: number): void {
    this.#words.copyWithin(this.#at + 4 * to, this.#at + 4 * from, this.#at + 4 * from + 4);
  }

  clear(slot: number): void {
    this.#words.fill(0, this.#at + 4 * slot, this.#at + 4 * slot + 4);
  }

  #has(slot: number, address: AddressWords): boolean {
    return address.every((word, i) => this.#words[this.#at + 4 * slot + i] === word);
  }
}
