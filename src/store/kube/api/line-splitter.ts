// A watch, cut into its lines while it comes: one event each. What no line feed ends is never told: the stream may end
// anywhere.

import { ByteBuffer } from './byte-buffer.js';

// 8 MiB: an event holds one object, and etcd refuses those above 1.5 MiB, but an operator can raise that.
const MAX_LINE_BYTES = 8 << 20;
const LINE_FEED = 0x0a;

export class LineSplitter {
  readonly #onLine: (line: Buffer) => void;
  readonly #begun: ByteBuffer;

  constructor(onLine: (line: Buffer) => void, maxBytes = MAX_LINE_BYTES) {
    this.#onLine = onLine;
    this.#begun = new ByteBuffer(maxBytes, 'a line');
  }

  /**
   * Takes the next bytes; `onLine` is called from within for each line that ends in them, blank ones excepted, and may
   * use it until it returns. Throws SyntaxError when a line is too long, or what `onLine` throws.
   */
  write(chunk: Buffer): void {
    let at = 0;
    for (;;) {
      const end = chunk.indexOf(LINE_FEED, at);
      if (end === -1) break;
      const line = this.#begun.takeWith(chunk.subarray(at, end));
      at = end + 1;
      if (!isBlank(line)) this.#onLine(line);
    }
    this.#begun.push(chunk.subarray(at));
  }
}

/** Whether it is nothing but white space; a line that is not says so with its first byte. */
function isBlank(line: Buffer): boolean {
  return line.every((byte) => byte === 0x20 || byte === 0x0d || byte === 0x09);
}
