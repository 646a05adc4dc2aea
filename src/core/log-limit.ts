// Keeps the log readable while something goes wrong a thousand times. The limit applies to every cause, and to the
// messages of its recovery too.
//
// A cause is the level and the first words of a line without its numbers, addresses and quoted names: what one
// neighbour can vary at will makes no new cause. Each cause has a few lines at once and then one every ten seconds;
// each level has a limit of its own for all causes together. Lines held back are counted, not lost: the last line of
// its cause comes with `repeated`.

const BURST = 5;
const REFILL_MS = 10_000;
const WORDS = 8;
/** Lines of one level, of whatever causes: 50 at once, then 5 a second. */
const LEVEL_BURST = 50;
const LEVEL_REFILL_MS = 200;
const MAX_CAUSES = 1_000;

/** Tokens of a bucket; they come back with time. */
class Bucket {
  readonly #size: number;
  readonly #refillMs: number;
  #tokens: number;
  #atMs: number;

  constructor(size: number, refillMs: number, nowMs: number) {
    this.#size = size;
    this.#refillMs = refillMs;
    this.#tokens = size;
    this.#atMs = nowMs;
  }

  has(nowMs: number): boolean {
    const refills = Math.floor((nowMs - this.#atMs) / this.#refillMs);
    if (refills > 0) {
      this.#tokens = Math.min(this.#size, this.#tokens + refills);
      this.#atMs += refills * this.#refillMs;
    }
    return this.#tokens > 0;
  }

  take(): void {
    this.#tokens--;
  }
}

interface Cause {
  readonly level: string;
  readonly bucket: Bucket;
  held: number;
  /** Prints the last line that was held back. */
  print: ((repeated: number) => void) | undefined;
}

export class LogLimiter {
  readonly #now: () => number;
  readonly #causes = new Map<string, Cause>();
  readonly #levels = new Map<string, Bucket>();
  #held = 0;

  /** `now` is monotonic, in milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Whether lines wait for flush(). */
  get isHolding(): boolean {
    return this.#held > 0;
  }

  /**
   * Calls `print` now, or keeps it in place of the one kept before. `repeated` counts the lines that it stands for
   * beside itself.
   */
  say(level: string, text: string, print: (repeated: number) => void): void {
    const nowMs = this.#now();
    const key = causeOf(level, text);
    let cause = this.#causes.get(key);
    if (cause === undefined) {
      if (this.#causes.size >= MAX_CAUSES) this.#forgetOldest();
      cause = { level, bucket: new Bucket(BURST, REFILL_MS, nowMs), held: 0, print: undefined };
      this.#causes.set(key, cause);
    }
    cause.held++;
    this.#held++;
    cause.print = print;
    this.#printIfDue(cause, nowMs);
  }

  /** Prints what is due; with `all`, at the end, whatever is kept. */
  flush(all = false): void {
    if (this.#held === 0) return;
    const nowMs = this.#now();
    for (const cause of this.#causes.values()) {
      if (cause.held > 0) this.#printIfDue(cause, nowMs, all);
    }
  }

  #printIfDue(cause: Cause, nowMs: number, isForced = false): void {
    const level = this.#levelOf(cause.level, nowMs);
    if (!isForced && !(cause.bucket.has(nowMs) && level.has(nowMs))) return;
    cause.bucket.take();
    level.take();
    const { held, print } = cause;
    this.#held -= held;
    cause.held = 0;
    cause.print = undefined;
    print!(held - 1);
  }

  #levelOf(name: string, nowMs: number): Bucket {
    let level = this.#levels.get(name);
    if (level === undefined) {
      level = new Bucket(LEVEL_BURST, LEVEL_REFILL_MS, nowMs);
      this.#levels.set(name, level);
    }
    return level;
  }

  #forgetOldest(): void {
    const [[key, cause]] = this.#causes;
    this.#causes.delete(key);
    this.#held -= cause.held; // in a flood of causes, the lines of the oldest one are lost
  }
}

/** Level and first words, without what varies. */
export function causeOf(level: string, text: string): string {
  const plain = text.replace(/"[^"]*"/g, '"').replace(/[^\s"]*\d[^\s"]*/g, '#');
  return [level, ...plain.split(/\s+/, WORDS)].join(' ');
}
