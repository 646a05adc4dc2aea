// When the own node may be written again, and whether somebody writes against us. Pure but for the times it is given.
//
// Whoever changes our annotations back does so at once: flanneld on the same node, a controller, or another host that
// believes to be this node. Writing again is right, but not for ever as fast as the two can: the gap between two writes
// doubles until nobody has made us write for a while.

const MIN_GAP_MS = 1000;
const MAX_GAP_MS = 60_000;
/** After such a time without a write the next one is not held back. */
const QUIET_MS = 300_000;

/** All times are of one monotonic clock. */
export class WritePace {
  #nextMs = 0;
  #gapMs = 0;
  #writes = 0;
  /** When our writing was undone last, and the time before that. */
  #undoneMs = -Infinity;
  #undoneBeforeMs = -Infinity;

  /** How long the next write has to wait. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.#nextMs - nowMs);
  }

  /** The node was written. */
  written(nowMs: number): void {
    const isQuiet = nowMs - this.#nextMs > QUIET_MS;
    this.#gapMs = isQuiet ? MIN_GAP_MS : Math.min(MAX_GAP_MS, Math.max(MIN_GAP_MS, this.#gapMs * 2));
    // The annotations and, once packets flow, the condition: two writes of a start do not wait for one another.
    this.#nextMs = ++this.#writes < 3 ? nowMs : nowMs + this.#gapMs;
  }

  /** Somebody has changed what we wrote. */
  undone(nowMs: number): void {
    this.#undoneBeforeMs = this.#undoneMs;
    this.#undoneMs = nowMs;
  }

  /** Whether somebody does so again and again: once may have been an error. */
  isContested(nowMs: number): boolean {
    return this.#undoneMs - this.#undoneBeforeMs < QUIET_MS && nowMs - this.#undoneMs < 2 * MAX_GAP_MS;
  }
}
