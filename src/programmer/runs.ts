// When the kernel is programmed: at once after a change, one run at a time, again after a failure.
//
// A run is full (everything is compared with the kernel) or of the changes alone. What fails as a whole, such as "ip"
// that is missing or a device that is refused, is tried again as a full run, with a delay that doubles from 200 ms to
// 30 s.

import type { Backoff, Clock } from '../core/waiting.js';
import { retryBackoff } from './retry.js';

/** The owner of the runs, which does the work of each. */
export interface Runner {
  /** Whether something changed that the kernel has not been told. */
  hasChanges(): boolean;
  /** Whether the changes cannot be programmed alone. */
  needsFullRun(): boolean;
  run(kind: 'full' | 'changes'): Promise<void>;
  succeeded(): void;
  failed(error: unknown, attempts: number): void;
  /** When the first of what the kernel refused is due again, by the clock; Infinity when nothing is. */
  dueAtMs(): number;
  /** Marks what is due again as changed. */
  retryDue(nowMs: number): void;
}

export class Runs {
  readonly #runner: Runner;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #state: 'new' | 'open' | 'closed' = 'new';
  #wantsFull = false;
  /** Failures in a row. */
  #attempts = 0;
  #running: Promise<void> | undefined;
  #cancelRetry: () => void = () => undefined;

  constructor(runner: Runner, clock: Clock, random: () => number) {
    this.#runner = runner;
    this.#clock = clock;
    this.#backoff = retryBackoff(random);
  }

  /** Begins with a full run, which does what was asked for before. */
  open(): Promise<void> {
    if (this.#state === 'new') this.#state = 'open';
    return this.runFull();
  }

  /** The next run is a full one. */
  wantFull(): void {
    this.#wantsFull = true;
  }

  /** A full run, after the one going on now. Never rejects. */
  runFull(): Promise<void> {
    this.wantFull();
    return this.run();
  }

  /** Runs until nothing is left to do, or one fails. Never rejects; nothing before open() and after close(). */
  run(): Promise<void> {
    if (this.#running !== undefined) return this.#running;
    if (this.#state !== 'open') return Promise.resolve();
    this.#running = this.#runAll().finally(() => {
      this.#running = undefined;
      this.#armRetry();
    });
    return this.#running;
  }

  /** Ends after the run that is going on. Idempotent. */
  async close(): Promise<void> {
    this.#state = 'closed';
    this.#cancelRetry();
    await this.#running;
  }

  get #isClosed(): boolean {
    return this.#state === 'closed';
  }

  get #isDue(): boolean {
    return this.#wantsFull || this.#runner.hasChanges();
  }

  async #runAll(): Promise<void> {
    // Let the caller's tick end, so that several changes become one batch.
    await Promise.resolve();
    while (!this.#isClosed && this.#isDue) {
      const kind = this.#wantsFull || this.#runner.needsFullRun() ? 'full' : 'changes';
      if (kind === 'full') this.#wantsFull = false;
      try {
        await this.#runner.run(kind);
        this.#attempts = 0;
        this.#backoff.reset();
        this.#runner.succeeded();
      } catch (error) {
        this.#wantsFull = true; // nothing is known about how far it came
        this.#runner.failed(error, ++this.#attempts);
        return;
      }
    }
  }

  #armRetry(): void {
    this.#cancelRetry();
    if (this.#isClosed) return;
    if (this.#attempts > 0) {
      this.#cancelRetry = this.#clock.after(this.#backoff.next(), () => void this.run());
      return;
    }
    if (this.#isDue) {
      void this.run(); // asked for while the last run was ending
      return;
    }
    const dueAtMs = this.#runner.dueAtMs();
    if (dueAtMs === Infinity) return;
    this.#cancelRetry = this.#clock.after(Math.max(0, dueAtMs - this.#clock.nowMs()), () => {
      this.#runner.retryDue(this.#clock.nowMs());
      void this.run();
    });
  }
}
