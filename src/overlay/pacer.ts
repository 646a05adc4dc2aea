// Hands the changes of the leases to a backend: the first at once, those that follow closely in one piece.
//
// Applying a change costs a look into the kernel's routes or a run of `ip`, some milliseconds whether it is for one
// lease or for a thousand. When hosts come and go by the hundred, one step for all that happened meanwhile leaves the
// processor to the packets.

import type { PeerDiff } from '../lease/lease.js';
import { DiffAccumulator } from '../lease/lease-diff.js';

// A change that comes alone is not held up. In a storm each waits so long at most; the pause doubles while it lasts.
const MIN_PAUSE_MS = 100;
const MAX_PAUSE_MS = 500;

export class DiffPacer {
  readonly #apply: (diff: PeerDiff) => void;
  readonly #pending = new DiffAccumulator();
  #timer: NodeJS.Timeout | undefined;
  #pauseMs = MIN_PAUSE_MS;
  #isClosed = false;

  constructor(apply: (diff: PeerDiff) => void) {
    this.#apply = apply;
  }

  /** Applies the diff now, or soon together with others. An empty one counts: it says that there are no leases. */
  push(diff: PeerDiff): void {
    if (this.#isClosed) return;
    if (this.#timer === undefined) this.#applyNow(diff);
    else this.#pending.add(diff);
  }

  /** What is still pending is dropped: its backend is about to be closed. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #applyNow(diff: PeerDiff): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const pending = this.#pending.take();
      this.#pauseMs = pending === undefined ? MIN_PAUSE_MS : Math.min(2 * this.#pauseMs, MAX_PAUSE_MS);
      if (pending !== undefined) this.#applyNow(pending);
    }, this.#pauseMs);
    this.#apply(diff);
  }
}
