// Warnings about data that anybody can write into the store: once per key and problem, and never a flood.
//
// A token bucket of BURST lines refilled every REFILL_MS; what it holds back is counted into the next line.

import type { Logger } from '../../ops/log.js';
import type { Clock } from './waiting.js';

const BURST = 5;
const REFILL_MS = 10_000;
const MAX_REMEMBERED = 10_000;

/** Counts every bad key and logs some of them. */
export class BadKeyWarner {
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #problems = new Map<string, string>();
  #tokens = BURST;
  #refilledAtMs: number;
  #suppressed = 0;
  /** Bad keys and values met since the start, repetitions of a known problem not counted. */
  total = 0;

  constructor(log: Logger, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
    this.#refilledAtMs = clock.nowMs();
  }

  /** Keys that are bad at present, up to a bound. */
  get current(): number {
    return this.#problems.size;
  }

  /** `shownKey` has `problem` and is not used. */
  warn(shownKey: string, problem: string): void {
    if (this.#problems.get(shownKey) === problem) return;
    if (this.#problems.size < MAX_REMEMBERED) this.#problems.set(shownKey, problem);
    this.total++;
    if (!this.#take()) {
      this.#suppressed++;
      return;
    }
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    this.#log.warn(
      { key: shownKey, problem, ...(suppressed === 0 ? {} : { suppressed }) },
      `ignoring bad lease key "${shownKey}": ${problem}`,
    );
  }

  /** `shownKey` is good again or gone. */
  forget(shownKey: string): void {
    if (this.#problems.size > 0) this.#problems.delete(shownKey);
  }

  #take(): boolean {
    const refills = Math.floor((this.#clock.nowMs() - this.#refilledAtMs) / REFILL_MS);
    if (refills > 0) {
      this.#tokens = Math.min(BURST, this.#tokens + refills);
      this.#refilledAtMs += refills * REFILL_MS;
    }
    if (this.#tokens === 0) return false;
    this.#tokens--;
    return true;
  }
}
