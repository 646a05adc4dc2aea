// A signal that aborts with another one, when a time is over, or when it is told to.

import { WayFault } from './faults.js';

/** Holds a timer and a listener until release(); AbortSignal.any() would keep one for as long as `parent` lives. */
export class BoundedSignal {
  readonly #parent: AbortSignal;
  readonly #own = new AbortController();
  readonly #onAbort: () => void;
  readonly #timer: NodeJS.Timeout;

  constructor(parent: AbortSignal, timeoutMs: number) {
    this.#parent = parent;
    this.#onAbort = () => this.#own.abort(parent.reason);
    this.#timer = setTimeout(() => {
      this.#own.abort(new WayFault('timeout', `no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    if (parent.aborted) this.#onAbort();
    else parent.addEventListener('abort', this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#own.signal;
  }

  abort(reason: Error): void {
    this.#own.abort(reason);
  }

  /** From now on only `parent` and abort() count. */
  stopTimer(): void {
    clearTimeout(this.#timer);
  }

  release(): void {
    clearTimeout(this.#timer);
    this.#parent.removeEventListener('abort', this.#onAbort);
  }
}
