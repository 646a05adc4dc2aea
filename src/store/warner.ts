// Warnings about data that anybody can write into the store: once per key and problem, and never a flood.
//
// A token bucket of BURST lines refilled every REFILL_MS; what it holds back is counted into the next line.

import { crc32 } from 'node:zlib';
import type { Logger } from '../core/log.js';
import type { Clock } from '../core/waiting.js';

const BURST = 5;
const REFILL_MS = 10_000;
const MAX_REMEMBERED = 10_000;
const MAX_SHOWN = 100;
const MAX_TEXT = 300;

/** Counts every bad key and logs some of them. */
export class BadKeyWarner {
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #what: string;
  /** Checksum of the problem by id of the key. */
  readonly #problems = new Map<string, number>();
  /** The few that /status names; of the others only the checksum is worth its memory. */
  readonly #shown = new Map<string, { readonly key: string; readonly problem: string }>();
  #tokens = BURST;
  #refilledAtMs: number;
  #suppressed = 0;
  /** Bad keys and values met since the start, repetitions of a known problem not counted. */
  total = 0;

  /** `what` is bad, in a line of the log: "bad lease key". */
  constructor(log: Logger, clock: Clock, what: string) {
    this.#log = log;
    this.#clock = clock;
    this.#what = what;
    this.#refilledAtMs = clock.nowMs();
  }

  /** Keys that are bad at present, up to a bound. */
  get current(): number {
    return this.#problems.size;
  }

  /** What is wrong with some of them. */
  list(): { readonly key: string; readonly problem: string }[] {
    return [...this.#shown.values()];
  }

  /** The key known by `id`, and to people by `shownKey`, has `problem` and is not used. */
  warn(id: string, shownKey: string, problem: string): void {
    const sum = crc32(problem);
    if (this.#problems.get(id) === sum) return;
    if (this.#problems.size < MAX_REMEMBERED) this.#problems.set(id, sum);
    if (this.#shown.size < MAX_SHOWN || this.#shown.has(id))
      this.#shown.set(id, { key: shownKey.slice(0, MAX_TEXT), problem: problem.slice(0, MAX_TEXT) });
    this.total++;
    if (!this.#take()) {
      this.#suppressed++;
      return;
    }
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    this.#log.warn(
      { key: shownKey, problem, ...(suppressed === 0 ? {} : { suppressed }) },
      `ignoring ${this.#what} "${shownKey}": ${problem}`,
    );
  }

  /** The key known by `id` is good again or gone. */
  forget(id: string): void {
    if (this.#problems.size > 0) this.#problems.delete(id);
    this.#shown.delete(id);
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
