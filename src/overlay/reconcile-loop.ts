// When the kernel is compared with what it should hold: on events, on a timer, and never twice at once.
//
//   event ─► soon() ─ idle ────► run ─► another event meanwhile? ─ yes ─► run once more
//                   └ running ─► noted
//
// A run that failed is made again soon, for what it lacked (a process, memory, the firewall's lock) often comes back
// without an event; the pause doubles with each failure.

import { messageOf } from '../core/errors.js';
import { type Condition, condition, isPermission } from '../core/conditions.js';
import type { Logger } from '../core/log.js';

/** The pause after the first failure, and the longest. */
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 8_000;

export interface ReconcileLoopOptions {
  /** Compares and repairs. What it rejects with is shown until a run succeeds. */
  readonly run: () => Promise<void>;
  readonly log: Logger;
  /** No run begins after it has aborted. */
  readonly signal: AbortSignal;
}

export class ReconcileLoop {
  readonly #options: ReconcileLoopOptions;
  #isDue = false;
  #running: Promise<void> | undefined;
  #fault: { readonly text: string; readonly attempts: number } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: ReconcileLoopOptions) {
    this.#options = options;
  }

  /** Events tell of changes at once; the timer is for what no event tells. */
  every(intervalMs: number): void {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => void this.soon(), intervalMs);
  }

  /** Events during a run lead to exactly one more. Resolves when the kernel was compared; never rejects. */
  soon(): Promise<void> {
    this.#isDue = true;
    this.#running ??= this.#runWhileDue();
    return this.#running;
  }

  conditions(): readonly Condition[] {
    const { text, attempts } = this.#fault ?? { text: '', attempts: 0 };
    // Once may be chance: a link that went away between two commands.
    if (attempts < 2) return [];
    return [condition(isPermission(text) ? 'no-permission' : 'repair-failed', text)];
  }

  /** Waits for a run that is under way. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#retry);
    this.#isDue = false;
    await this.#running;
  }

  async #runWhileDue(): Promise<void> {
    while (this.#isDue && !this.#options.signal.aborted) {
      this.#isDue = false;
      await this.#runOnce();
    }
    this.#running = undefined; // in the turn of the last look: an event after it begins a run of its own
  }

  async #runOnce(): Promise<void> {
    const { run, log } = this.#options;
    clearTimeout(this.#retry);
    const startedMs = performance.now();
    try {
      await run();
      this.#fault = undefined;
      log.debug({ ms: Math.round(performance.now() - startedMs) }, 'kernel compared');
    } catch (error) {
      const text = `cannot repair the kernel state: ${messageOf(error)}`;
      if (text !== this.#fault?.text) log.error(text);
      const attempts = (this.#fault?.attempts ?? 0) + 1;
      this.#fault = { text, attempts };
      const pauseMs = Math.min(RETRY_MIN_MS * 2 ** (attempts - 1), RETRY_MAX_MS);
      if (!this.#isClosed) this.#retry = setTimeout(() => void this.soon(), pauseMs);
    }
  }
}
