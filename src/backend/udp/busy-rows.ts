// Which peers have traffic, found among up to 65,536 rows by a look at a tenth of them ten times a second.
//
// A row is busy when it has counted more packets within five seconds than the echoes of both hosts' probes make. What
// it is compared with is noted anew with every fifth look: a peer whose traffic begins is found within a second.

import { MAX_ROWS } from '../../dataplane/route-table.js';

/** Calls that see all rows once. */
const SLICES = 10;
const LOOKS_A_WINDOW = 5;
/** Each host asks the other at most twice in five seconds, and is answered, unless an echo was lost. */
const ECHO_PACKETS = 8;

const NONE: readonly number[] = [];

/** `readRows` writes the four counters of each row from `first` on; false when there are none. */
export class BusyRows {
  readonly #readRows: (values: Float64Array, first: number) => boolean;
  /** Packets of each row, both directions together, when its window began; the last 32 bits. */
  readonly #base = new Int32Array(MAX_ROWS);
  #values = new Float64Array(0);
  #slice = 0;
  #look = 0;

  constructor(readRows: (values: Float64Array, first: number) => boolean) {
    this.#readRows = readRows;
  }

  /** Those that are busy of the next tenth of the rows below `rowLimit`. */
  take(rowLimit: number): readonly number[] {
    const count = Math.ceil(rowLimit / SLICES);
    const first = count * this.#slice;
    const isNewWindow = this.#look === 0;
    this.#slice = (this.#slice + 1) % SLICES;
    if (this.#slice === 0) this.#look = (this.#look + 1) % LOOKS_A_WINDOW;
    if (first >= rowLimit) return NONE;
    if (this.#values.length !== 4 * count) this.#values = new Float64Array(4 * count);
    if (!this.#readRows(this.#values, first)) return NONE;
    return this.#compare(first, Math.min(count, rowLimit - first), isNewWindow);
  }

  #compare(first: number, count: number, isNewWindow: boolean): readonly number[] {
    const values = this.#values;
    const base = this.#base;
    let busy: number[] | undefined;
    for (let i = 0; i < count; i++) {
      const packets = (values[4 * i] + values[4 * i + 2]) | 0;
      const more = (packets - base[first + i]) | 0;
      if (more > ECHO_PACKETS) (busy ??= []).push(first + i);
      // Less than before: the data path was opened anew.
      if (isNewWindow || more < 0) base[first + i] = packets;
    }
    return busy ?? NONE;
  }
}
