// One answer, whole or streamed, that can be made to break off.

import { constants, type Http2ServerResponse } from 'node:http2';
import type { Connection } from './gate.js';
import type { Outgoing } from './transport.js';

/** The body ends as if it were whole; the stream is reset; the connection is closed. */
export type Ending = 'end' | 'reset' | 'cut';

export type Headers = Readonly<Record<string, string>>;

/** Go counts the bytes of an answer that fits its first buffer (net/http: bufferBeforeChunkingSize). */
const COUNTED_BYTES = 2048;

const COMMON: Headers = { 'cache-control': 'no-cache, private', 'content-type': 'application/json' };

export class Answer {
  readonly #outgoing: Outgoing;
  readonly #connection: Connection;
  /** Bytes of the body that may still be sent, and how it ends then. */
  #limit: { bytes: number; readonly ending: Ending } | undefined;
  #isBroken = false;
  #status = 0;
  /** Resolves when nothing more can be sent. */
  readonly closed: Promise<void>;

  constructor(outgoing: Outgoing, connection: Connection) {
    this.#outgoing = outgoing;
    this.#connection = connection;
    outgoing.on('error', () => undefined);
    this.closed = new Promise((resolve) => outgoing.once('close', resolve));
    void this.closed.then(() => (this.#isBroken = true));
  }

  /** 0: not begun. */
  get status(): number {
    return this.#status;
  }

  get isOver(): boolean {
    return this.#isBroken || this.#outgoing.writableEnded;
  }

  /** From now on, the body breaks off after so many bytes. */
  truncate(bytes: number, ending: Ending): void {
    this.#limit = { bytes, ending };
  }

  send(status: number, headers: Headers, body: Buffer): void {
    // What is to end early must not have said how long it is, or the client would wait for the rest.
    const isCounted = body.length <= COUNTED_BYTES && this.#limit?.ending !== 'end';
    this.begin(status, isCounted ? { ...headers, 'content-length': `${body.length}` } : headers);
    this.write(body);
    this.end();
  }

  begin(status: number, headers: Headers = {}): void {
    if (this.isOver) return;
    this.#status = status;
    const all = 'content-type' in headers ? headers : { ...COMMON, ...headers };
    if ('stream' in this.#outgoing) return void this.#outgoing.writeHead(status, all);
    this.#outgoing.writeHead(status, all);
    this.#outgoing.flushHeaders();
  }

  /** False: wait for drained() before the next. */
  write(chunk: Buffer): boolean {
    if (this.isOver) return true;
    const outgoing = this.#outgoing as Http2ServerResponse;
    if (this.#limit === undefined) return outgoing.write(chunk);
    const part = chunk.subarray(0, this.#limit.bytes);
    this.#limit.bytes -= part.length;
    if (this.#limit.bytes > 0) return outgoing.write(part);
    const { ending } = this.#limit;
    if (ending === 'end') outgoing.write(part);
    // Only bytes that were handed over are seen before a reset.
    else outgoing.write(part, () => this.break(ending));
    if (ending === 'end') this.break('end');
    this.#isBroken = true;
    return true;
  }

  /** Resolves when more may be written, or never will be. */
  drained(): Promise<void> {
    const drain = new Promise<void>((resolve) => this.#outgoing.once('drain', resolve));
    return Promise.race([drain, this.closed]);
  }

  onDrain(listener: () => void): void {
    this.#outgoing.on('drain', listener);
  }

  end(): void {
    if (!this.isOver) this.#outgoing.end();
  }

  break(ending: Ending): void {
    this.#isBroken = true;
    if (ending === 'end') return void this.#outgoing.end();
    // Closed from this side, so that what was written arrives first.
    if (ending === 'cut') return this.#close();
    if ('stream' in this.#outgoing) this.#outgoing.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    else this.#connection.reset();
  }

  #close(): void {
    if ('stream' in this.#outgoing) this.#outgoing.stream.session?.destroy();
    else this.#outgoing.socket?.destroySoon();
  }
}
