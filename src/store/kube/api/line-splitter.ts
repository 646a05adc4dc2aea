// A watch, cut into its lines while it comes: one event each. What no line feed ends is never told: the stream may end
// anywhere.

import { ByteBuffer } from './byte-buffer.js';

// 8 MiB: an event holds one object, and etcd refuses those above 1.5 MiB, but an operator can raise that.
const MAX_LINE_BYTES = 8 << 20;
const LINE_FEED = 0x0a;

export class LineSplitter {
  readonly #onLine: (line: string) => void;
  readonly #begun: ByteBuffer;

  constructor(onLine: (line: string) => void, maxBytes = MAX_LINE_BYTES) {
    this.#onLine = onLine;
    this.#begun = new ByteBuffer(maxBytes, 'a line');
  }

  /**
   * Takes the next bytes; `onLine` is called from within for each line that ends in them, empty ones excepted. Throws
   * SyntaxError when a line is too long, or what `onLine` throws.
   */
  write(chunk: Buffer): void {
    let at = 0;
    for (;;) {
      const end = chunk.indexOf(LINE_FEED, at);
      if (end === -1) break;
      const line = this.#begun.takeWith(chunk.subarray(at, end)).trim();
      at = end + 1;
      if (line !== '') this.#onLine(line);
    }
    this.#begun.push(chunk.subarray(at));
  }
}
