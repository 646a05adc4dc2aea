// A clock that moves when told to.

import type { Clock } from '../../src/core/waiting.js';

export class FakeClock implements Clock {
  #nowMs = 1_000_000;
  #suspendedMs = 0;
  readonly #timers = new Set<{ atMs: number; task: () => void }>();

  nowMs(): number {
    return this.#nowMs;
  }

  bootMs(): number {
    return this.#nowMs + this.#suspendedMs;
  }

  /** The machine sleeps: timers and the monotonic clock stand still. */
  suspend(ms: number): void {
    this.#suspendedMs += ms;
  }

  /** The process stands still for `ms`, with no timer fired: as after SIGSTOP. */
  stall(ms: number): void {
    this.#nowMs += ms;
  }

  after(delayMs: number, task: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, task };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Fires what is due within `ms`, in order, letting promises settle after each. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settle();
    for (;;) {
      const next = [...this.#timers].sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.task();
      await settle();
    }
    this.#nowMs = endMs;
    await settle();
  }

  get pending(): number {
    return this.#timers.size;
  }
}

/** Lets all promises that can settle do so. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}
