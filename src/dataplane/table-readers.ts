// Who reads the route table: the numbers of the readers, and their epochs in the memory that all threads share.
//
// A reader makes its epoch odd when it enters a side and even when it leaves (route-table.ts). The writer notes the odd
// ones when it flips, and leaves the other side alone until each has changed: whoever enters later enters the new side.

/** Largest number of readers: outbound and inbound for each of 256 queues. */
export const MAX_READERS = 512;

const LINE_WORDS = 16; // one cache line of 64 bytes

/** The first line of the table's memory is its own header; then comes a line for each reader. */
const EPOCHS = LINE_WORDS;

/** The first word after the epochs. */
export const EPOCHS_END = EPOCHS + MAX_READERS * LINE_WORDS;

// How long a publication waits for a reader that was preempted inside a lookup before it gives way to the next turn.
const READER_WAIT_MS = 1;

/**
 * Where the epoch of a reader is.
 *
 * @throws RangeError when there is no such number.
 */
export function epochAt(reader: number): number {
  if (!(reader >= 0 && reader < MAX_READERS))
    throw new RangeError(`reader ${reader} is not below ${MAX_READERS}`);
  return EPOCHS + reader * LINE_WORDS;
}

/** Makes a reader's epoch even. Nobody may be reading under that number. */
export function endLookup(words: Int32Array, reader: number): void {
  const at = epochAt(reader);
  if ((Atomics.load(words, at) & 1) === 1) Atomics.add(words, at, 1);
}

/** The writer's view of the readers. */
export class TableReaders {
  readonly #words: Int32Array;
  readonly #free: number[] = [];
  #used = 0;
  /** Odd epochs seen at the last flip: readers that may still be in the side that was active before it. */
  readonly #inside = new Map<number, number>();

  /** `words` is the memory of the table. */
  constructor(words: Int32Array) {
    this.#words = words;
  }

  /**
   * A number that no live thread has.
   *
   * @throws RangeError when all MAX_READERS are taken.
   */
  take(): number {
    const reader = this.#free.pop() ?? this.#used++;
    if (reader < MAX_READERS) return reader;
    this.#used = MAX_READERS;
    throw new RangeError(`more than ${MAX_READERS} readers`);
  }

  /** The thread that had it is gone: what it held is free, even when it died inside a lookup. */
  giveBack(reader: number): void {
    endLookup(this.#words, reader);
    this.#free.push(reader);
  }

  /** Remembers who is reading, right after a flip. */
  noteInside(): void {
    this.#inside.clear();
    for (let reader = 0; reader < MAX_READERS; reader++) {
      const epoch = Atomics.load(this.#words, epochAt(reader));
      if ((epoch & 1) === 1) this.#inside.set(reader, epoch);
    }
  }

  /** Whether all of those have left; waits a moment for each that has not. */
  haveLeft(): boolean {
    for (const [reader, epoch] of this.#inside) {
      const at = epochAt(reader);
      if (Atomics.load(this.#words, at) === epoch) Atomics.wait(this.#words, at, epoch, READER_WAIT_MS);
      if (Atomics.load(this.#words, at) === epoch) return false;
      this.#inside.delete(reader);
    }
    return true;
  }
}
