// What each peer has sent and received: the counters of table rows, told apart by the lease that has the row.
//
// The workers count by row, and only they write those counters. But a row is given to the next lease when its own goes,
// and all rows start at 0 when the data path is opened anew. So what a row showed when a lease got it is subtracted,
// and what the lease had in earlier rows and data paths is added.
//
//   lease   = subnet and public IP: another host with the same subnet starts at 0
//   traffic = kept + (row now - row when the table with this lease was published)
//
// Limit: packets that a worker had looked up before that publication are counted with the row's new lease, one batch of
// each worker at most.

import { type Address, addressKey } from '../../net/prefix.js';

/** Packets and bytes outbound, packets and bytes inbound. */
export type Traffic = readonly [number, number, number, number];

const NONE: Traffic = [0, 0, 0, 0];

interface Entry {
  /** By addressKey(): V8 keeps that of IPv4 without an object of its own, and there may be 65,000 of these. */
  readonly address: number | bigint;
  kept: Traffic;
  row: number | undefined;
  /** What the row showed when the lease got it; undefined until the table is published. */
  base: Traffic | undefined;
}

/**
 * `readRow` gives the four counters of a row at present, all 0 when there is no data path; it may give the same array
 * every time. `Key` tells leases apart.
 */
export class PeerTraffic<Key> {
  readonly #readRow: (row: number) => ArrayLike<number>;
  readonly #entries = new Map<Key, Entry>();
  /** Who got each row last, and may have it no more. */
  readonly #lastKeys: Key[] = [];
  /** Entries whose row is not published yet. */
  #fresh: Entry[] = [];

  constructor(readRow: (row: number) => ArrayLike<number>) {
    this.#readRow = readRow;
  }

  /** The lease `key` has this row from the next publication on. Nothing changes when it has it already. */
  assign(key: Key, publicIp: Address, row: number): void {
    let entry = this.#entries.get(key);
    const address = addressKey(publicIp);
    if (entry?.address !== address) {
      entry = { address, kept: NONE, row: undefined, base: undefined };
      this.#entries.set(key, entry);
    }
    if (entry.row === row) return;
    entry.row = row;
    entry.base = undefined;
    this.#lastKeys[row] = key;
    this.#fresh.push(entry);
  }

  /** What another daemon has counted for a lease, if it still goes to the same host. */
  restore(key: Key, publicIp: Address, traffic: Traffic): void {
    const entry = this.#entries.get(key);
    if (entry?.address !== addressKey(publicIp)) return;
    const [a, b, c, d] = entry.kept;
    entry.kept = [a + traffic[0], b + traffic[1], c + traffic[2], d + traffic[3]];
  }

  /** The lease lost its row, but still exists. */
  release(key: Key): void {
    const entry = this.#entries.get(key);
    if (entry?.row === undefined) return;
    entry.kept = sum(entry, this.#readRow(entry.row), 0);
    entry.row = entry.base = undefined;
  }

  /** The lease is gone. */
  forget(key: Key): void {
    this.#entries.delete(key);
  }

  /** The lease that has this row. */
  keyOf(row: number): Key | undefined {
    if (row >= this.#lastKeys.length) return undefined;
    const key = this.#lastKeys[row];
    return this.#entries.get(key)?.row === row ? key : undefined;
  }

  /** All rows given so far are in force. */
  published(): void {
    for (const entry of this.#fresh) {
      if (entry.row !== undefined) entry.base = take(this.#readRow(entry.row), 0);
    }
    this.#fresh = [];
  }

  /** The data path is closed; `last` has the final counters of every row, and the next ones start at 0. */
  closed(last: ArrayLike<number>): void {
    for (const entry of this.#entries.values()) {
      if (entry.row === undefined || entry.base === undefined) continue;
      entry.kept = sum(entry, last, 4 * entry.row);
      entry.base = NONE;
    }
  }

  /** The traffic of one lease at present. */
  current(key: Key): Traffic {
    const entry = this.#entries.get(key);
    return entry?.row === undefined ? (entry?.kept ?? NONE) : sum(entry, this.#readRow(entry.row), 0);
  }

  /** The traffic of a lease; `rows` has the counters of every row at present. */
  of(key: Key, rows: ArrayLike<number>): Traffic {
    const entry = this.#entries.get(key);
    return entry?.row === undefined ? (entry?.kept ?? NONE) : sum(entry, rows, 4 * entry.row);
  }
}

function take(values: ArrayLike<number>, at: number): Traffic {
  const found: Traffic = [values[at] ?? 0, values[at + 1] ?? 0, values[at + 2] ?? 0, values[at + 3] ?? 0];
  return found.every((value) => value === 0) ? NONE : found;
}

function sum({ kept, base }: Entry, values: ArrayLike<number>, at: number): Traffic {
  if (base === undefined) return kept;
  const now = take(values, at);
  return [
    kept[0] + now[0] - base[0],
    kept[1] + now[1] - base[1],
    kept[2] + now[2] - base[2],
    kept[3] + now[3] - base[3],
  ];
}
