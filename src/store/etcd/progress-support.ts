// Whether what stands at an endpoint answers progress requests, which prove that a watch is alive: etcd does; proxies
// and gateways before it may ignore them, or end the stream over them.
//
//   unknown ─► answers   the server answered one
//   unknown ─► lacking   it answered a read instead, or ended two streams over a request: said once
//   answers ─► unknown   a request went unanswered: the watch is given up, and the next one finds out anew
//
// Where it is lacking, a read in place of the request proves that the way to etcd works, though not that the watch
// does.

import type { Logger } from '../../core/log.js';

const MOST_ENDS = 2; // one may be a server that happened to stop just then

export class ProgressSupport {
  readonly #url: string;
  readonly #log: Logger;
  #state: 'unknown' | 'answers' | 'lacking' = 'unknown';
  #ends = 0;

  constructor(url: string, log: Logger) {
    this.#url = url;
    this.#log = log;
  }

  get isKnown(): boolean {
    return this.#state === 'answers';
  }

  get isLacking(): boolean {
    return this.#state === 'lacking';
  }

  noteAnswer(): void {
    this.#state = 'answers';
    this.#ends = 0;
  }

  /** No answer in time; `isReadable`: but one to a read meanwhile. */
  noteSilence(isReadable: boolean): void {
    if (isReadable) this.#lacks('does not answer');
    else if (this.#state === 'answers') this.#state = 'unknown';
  }

  /** The stream ended before a request was answered. */
  noteEnd(): void {
    if (this.#state === 'unknown' && ++this.#ends === MOST_ENDS) this.#lacks('ends the watch over');
  }

  #lacks(what: string): void {
    if (this.#state === 'lacking') return;
    this.#state = 'lacking';
    this.#log.info(
      `etcd at ${this.#url} ${what} progress requests, as some proxies do: ` +
        'its watch is believed while it answers reads, and compared with a list every minute',
    );
  }
}
