// What happened to the route table, in order, to be done to each of its two sides in turn.
//
// Numbers only: with an object for each change, its prefix and its peer, the first list of 65,000 leases would leave
// 11 MB of garbage among what is kept, and V8 holds a page of memory for as long as one object in it lives.

import { WIDE_ROW_WORDS } from './table-layout.js';

/** One side of the table. Addresses are signed 32-bit numbers, which V8 keeps without an object. */
export interface ChangedSide {
  /** A lease has the row. `isNewPeer`: no other row has that peer. */
  insert(
    row: number,
    network: number,
    length: number,
    address: number,
    port: number,
    mtuBytes: number,
    isNewPeer: boolean,
  ): void;
  /**
   * The lease of the row is gone. `cover` is row + 1 of the lease that its addresses fall to, 0 for none;
   * `isPeerGone`: no other row has that peer.
   */
  remove(
    row: number,
    network: number,
    length: number,
    cover: number,
    address: number,
    isPeerGone: boolean,
  ): void;
  setMtu(row: number, mtuBytes: number): void;
  /**
   * As insert(), of a lease of IPv6 or of one whose peer is reached over IPv6. `lease` is the row and its rest,
   * WIDE_ROW_WORDS long and borrowed until the call returns.
   */
  insertWide(row: number, lease: Int32Array, isNewPeer: boolean): void;
  /** As remove(), of such a lease. A side still has it in the row. */
  removeWide(row: number, cover: number, isPeerGone: boolean): void;
}

const SET_MTU = 0;
const INSERT = 1;
const REMOVE = 2;
const INSERT_WIDE = 3;
const REMOVE_WIDE = 4;

/** Arguments of all calls in order, before each the number that says which one it is. */
export class TableChanges implements ChangedSide {
  readonly #numbers: number[] = [];
  readonly #lease = new Int32Array(WIDE_ROW_WORDS);

  get isEmpty(): boolean {
    return this.#numbers.length === 0;
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
    this.#numbers.push(INSERT, row, network, length, address, port, mtuBytes, Number(isNewPeer));
  }

  remove(
    row: number,
    network: number,
    length: number,
    cover: number,
    address: number,
    isPeerGone: boolean,
  ): void {
    this.#numbers.push(REMOVE, row, network, length, cover, address, Number(isPeerGone));
  }

  setMtu(row: number, mtuBytes: number): void {
    this.#numbers.push(SET_MTU, row, mtuBytes);
  }

  insertWide(row: number, lease: Int32Array, isNewPeer: boolean): void {
    this.#numbers.push(INSERT_WIDE, row, Number(isNewPeer), ...lease);
  }

  removeWide(row: number, cover: number, isPeerGone: boolean): void {
    this.#numbers.push(REMOVE_WIDE, row, cover, Number(isPeerGone));
  }

  /** Does all of them to a side. */
  applyTo(side: ChangedSide): void {
    const numbers = this.#numbers;
    for (let at = 0; at < numbers.length;) {
      const kind = numbers[at];
      const row = numbers[at + 1];
      if (kind === SET_MTU) {
        side.setMtu(row, numbers[at + 2]);
        at += 3;
        continue;
      }
      if (kind === INSERT_WIDE) {
        for (let word = 0; word < WIDE_ROW_WORDS; word++) this.#lease[word] = numbers[at + 3 + word];
        side.insertWide(row, this.#lease, numbers[at + 2] === 1);
        at += 3 + WIDE_ROW_WORDS;
        continue;
      }
      if (kind === REMOVE_WIDE) {
        side.removeWide(row, numbers[at + 2], numbers[at + 3] === 1);
        at += 4;
        continue;
      }
      const network = numbers[at + 2];
      const length = numbers[at + 3];
      if (kind === INSERT) {
        const mtuBytes = numbers[at + 6];
        const isNewPeer = numbers[at + 7] === 1;
        side.insert(row, network, length, numbers[at + 4], numbers[at + 5], mtuBytes, isNewPeer);
        at += 8;
      } else {
        side.remove(row, network, length, numbers[at + 4], numbers[at + 5], numbers[at + 6] === 1);
        at += 7;
      }
    }
  }
}
