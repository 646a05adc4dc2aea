// Bytes that come in pieces and are wanted as a whole. They are copied into one buffer that grows: a server that sends
// single bytes must not make us keep an object for each of them.

const FIRST_BYTES = 16 << 10;

export class ByteBuffer {
  readonly #maxBytes: number;
  readonly #what: string;
  #bytes = Buffer.alloc(0);
  #length = 0;

  /** `what` is named when it has more than `maxBytes`. */
  constructor(maxBytes: number, what: string) {
    this.#maxBytes = maxBytes;
    this.#what = what;
  }

  get length(): number {
    return this.#length;
  }

  /** Takes a copy of `piece`. Throws SyntaxError when all together is too much. */
  push(piece: Buffer): void {
    const length = this.#length + piece.length;
    this.check(length);
    if (length > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, length, this.#bytes.length * 2));
      this.#bytes.copy(grown, 0, 0, this.#length);
      this.#bytes = grown;
    }
    piece.copy(this.#bytes, this.#length);
    this.#length = length;
  }

  /** Throws SyntaxError when `bytes` are too much. */
  check(bytes: number): void {
    if (bytes > this.#maxBytes) throw new SyntaxError(`${this.#what} has more than ${this.#maxBytes} bytes`);
  }

  /** All as text; bytes that are no UTF-8 become U+FFFD. */
  toString(): string {
    return this.#bytes.toString('utf8', 0, this.#length);
  }

  /** The last `bytes` of it as text, or what there is. */
  tail(bytes: number): string {
    return this.#bytes.toString('latin1', Math.max(0, this.#length - bytes), this.#length);
  }

  /** All with `last` behind it, borrowed until the next push(); the buffer is empty then. */
  takeWith(last: Buffer): Buffer {
    if (this.#length === 0) {
      this.check(last.length);
      return last;
    }
    this.push(last);
    const all = this.#bytes.subarray(0, this.#length);
    this.clear();
    return all;
  }

  /** A buffer that once held something huge gives the memory back. */
  clear(): void {
    this.#length = 0;
    if (this.#bytes.length > 64 * FIRST_BYTES) this.#bytes = Buffer.alloc(0);
  }
}
