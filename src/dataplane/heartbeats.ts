// Finds worker threads that have stopped moving, from numbers that grow with every step they make.
//
// A worker steps at least ten times a second, also when there is nothing to do. What counts is the time that was
// observed: when the observer itself stood still (a suspended machine, a stopped process), the workers did too, so a
// gap between two observations counts as one ordinary interval.

/** A worker that has not moved for so long is hung: three looks of a second each, thirty times its longest sleep. */
export const HUNG_MS = 2_900;

const MAX_INTERVAL_MS = 1_500;

/** Heartbeats of a fixed number of workers. */
export class Heartbeats {
  readonly #last: Uint32Array;
  readonly #silentMs: Float64Array;
  #observedMs: number | undefined;

  constructor(workers: number) {
    this.#last = new Uint32Array(workers);
    this.#silentMs = new Float64Array(workers);
  }

  /** `beats` has a number for each worker; `nowMs` is of a clock that never goes back. */
  observe(beats: Uint32Array, nowMs: number): void {
    const intervalMs =
      this.#observedMs === undefined ? 0 : Math.min(nowMs - this.#observedMs, MAX_INTERVAL_MS);
    this.#observedMs = nowMs;
    for (let i = 0; i < this.#last.length; i++) {
      this.#silentMs[i] = beats[i] === this.#last[i] ? this.#silentMs[i] + intervalMs : 0;
      this.#last[i] = beats[i]!;
    }
  }

  /** Indices of the workers that are hung. */
  hung(): number[] {
    return [...this.#silentMs.keys()].filter((i) => this.#silentMs[i] >= HUNG_MS);
  }
}
