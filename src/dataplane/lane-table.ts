// The order in which the kernel lane's map follows the route table.
//
// The map is read while it is written, entry by entry: it has no second side to flip to, as the route table has. So the
// order of a publication's records keeps every address at an answer of the table before it or after it, whatever
// prefixes are nested in whatever others, at every record in between:
//
//   1. sets, the longest prefixes first    An address whose longest new lease is not set yet has only old leases; one
//                                          whose longest new lease is set has that, or a longer old one.
//   2. deletes, the shortest first         An address loses its longest old lease only when every shorter one that is
//                                          to go has gone, and so falls to its new lease.
//   3. rows that changed hands, set again  Until its delete, a row's former prefix was heard under the row's number.
//
// What a publication comes to is read from the table itself: of a lease that came, went and came again within one,
// there is one record. Nothing here touches the kernel.

import { LANE_RECORD, LANE_RECORD_WORDS } from '../native/counters.js';
import { ipv4 } from '../net/ipv4.js';
import type { Prefix } from '../net/prefix.js';
import { MAX_ROWS, type RouteTable } from './route-table.js';
import type { ChangedSide } from './table-changes.js';

const { set: SET, delete: DELETE, anotherLease: ANOTHER_LEASE } = LANE_RECORD;

const KIND = 0;
const LENGTH = 2;

// Prefix lengths are 0 to 32.
const LENGTHS = 33;
/** Sets of each length, deletes of each length, sets again. */
const RANKS = 2 * LENGTHS + 1;

const UNTOUCHED = 0;
const TOUCHED = 1;
const ANEW = 2;

/** What of the table is asked. */
export type TableRows = Pick<RouteTable, 'row' | 'rowOf' | 'rowLimit'>;

/** Collects what a publication changed, as a side of the table does it, and gives it as records in order. */
export class LaneTable implements ChangedSide {
  readonly #table: TableRows;
  readonly #state = new Uint8Array(MAX_ROWS);
  #rows: number[] = [];
  /** Row, network and length of each lease that went. */
  #removed: number[] = [];

  constructor(table: TableRows) {
    this.#table = table;
  }

  insert(row: number): void {
    this.#touch(row, ANEW);
  }

  remove(row: number, network: number, length: number): void {
    this.#removed.push(row, network, length);
  }

  /** The lane carries IPv4 over IPv4 alone: such a row is for the workers. */
  insertWide(): void {
    // Nothing of it is in the map.
  }

  removeWide(): void {
    // Nothing of it was in the map.
  }

  setMtu(row: number): void {
    this.#touch(row, TOUCHED);
  }

  /** Every lease of the table, for a map that is empty. */
  insertAll(): void {
    for (let row = 0; row < this.#table.rowLimit; row++) this.insert(row);
  }

  /**
   * Records of what was collected since the last call, LANE_RECORD_WORDS words each, in the order in which they are to
   * be done; the table must be as the publication made it. O(changes).
   */
  take(): Int32Array {
    const reused = new Set<number>();
    const words: number[] = [];
    for (let at = 0; at < this.#removed.length; at += 3) {
      const row = this.#removed[at];
      const network = this.#removed[at + 1];
      const length = this.#removed[at + 2];
      if (this.#state[row] === ANEW) reused.add(row);
      const prefix: Prefix = { address: ipv4(network >>> 0), length };
      if (!this.#isCarried(prefix)) words.push(DELETE, network, length, 0, 0, 0, row);
    }
    const again: number[] = [];
    for (const row of this.#rows) {
      const kind = this.#state[row] === ANEW ? SET + ANOTHER_LEASE : SET;
      this.#state[row] = UNTOUCHED;
      this.#pushSet(words, row, kind);
      if (reused.has(row)) this.#pushSet(again, row, kind);
    }
    this.#rows = [];
    this.#removed = [];
    return inOrder(words, again);
  }

  /** Whether there is such a lease, and its peer is reached over IPv4. */
  #isCarried(prefix: Prefix): boolean {
    const row = this.#table.rowOf(prefix);
    return row !== undefined && typeof this.#table.row(row)?.peer.address === 'number';
  }

  #touch(row: number, state: number): void {
    if (this.#state[row] === UNTOUCHED) this.#rows.push(row);
    this.#state[row] = Math.max(this.#state[row], state);
  }

  /** Nothing when the row's lease has gone again. */
  #pushSet(words: number[], row: number, kind: number): void {
    const held = this.#table.row(row);
    if (held === undefined) return;
    const { prefix, peer } = held;
    if (typeof prefix.address === 'bigint' || typeof peer.address === 'bigint') return;
    words.push(kind, prefix.address | 0, prefix.length, peer.address | 0, peer.port, peer.mtuBytes, row);
  }
}

/** Sorts records by what must come before what (a counting sort: there are few ranks), and puts `again` last. */
function inOrder(words: readonly number[], again: readonly number[]): Int32Array {
  const ends = new Int32Array(RANKS);
  for (let at = 0; at < words.length; at += LANE_RECORD_WORDS) ends[rankOf(words, at)] += LANE_RECORD_WORDS;
  for (let rank = 1; rank < RANKS; rank++) ends[rank] += ends[rank - 1];
  const records = new Int32Array(words.length + again.length);
  for (let at = words.length - LANE_RECORD_WORDS; at >= 0; at -= LANE_RECORD_WORDS) {
    const to = (ends[rankOf(words, at)] -= LANE_RECORD_WORDS);
    for (let word = 0; word < LANE_RECORD_WORDS; word++) records[to + word] = words[at + word];
  }
  records.set(again, words.length);
  return records;
}

function rankOf(words: readonly number[], at: number): number {
  const length = words[at + LENGTH];
  return words[at + KIND] === DELETE ? LENGTHS + length : LENGTHS - 1 - length;
}
