// That the own lease is lost, for a listener that may come later.

import type { OverlayError } from '../../core/errors.js';

/** Tells the first loss, once. */
export class Loss {
  #error: OverlayError | undefined;
  #listener: ((error: OverlayError) => void) | undefined;

  tell(error: OverlayError): void {
    if (this.#error !== undefined) return;
    this.#error = error;
    this.#listener?.(error);
  }

  /** At once when it was told before. */
  listen(listener: (error: OverlayError) => void): void {
    this.#listener = listener;
    if (this.#error !== undefined) listener(this.#error);
  }
}
