// Waiting: a monotonic clock that tests can replace, sleeps that end with a signal, and the backoff between attempts.

import { readFileSync } from 'node:fs';

/** Monotonic milliseconds and timers. Wall-clock steps (NTP, operators) must never move a lease renewal. */
export interface Clock {
  nowMs(): number;
  /** Like nowMs(), on a clock that goes on while the machine is suspended, as the life of a lease at etcd does. */
  bootMs(): number;
  /** Calls `task` once after `delayMs`; the result cancels it. */
  after(delayMs: number, task: () => void): () => void;
}

/**
 * CLOCK_MONOTONIC, read through performance.now() and libuv timers. It stands still while the machine is suspended.
 */
export const MONOTONIC_CLOCK: Clock = {
  nowMs: () => performance.now(),
  bootMs: readBootClock,
  after: (delayMs, task) => {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
};

// Node cannot read CLOCK_BOOTTIME; /proc/uptime shows it in steps of 10 ms, and a read takes some 15 µs (proc(5)). When
// a read fails, for want of a file descriptor say, the clock is taken to have run like the monotonic one since the last
// read. When the first read fails, the monotonic clock is used alone.
let aheadMs: number | undefined;
let hasUptime = true;

function readBootClock(): number {
  const nowMs = performance.now();
  const uptimeMs = hasUptime ? readUptimeMs() : undefined;
  if (uptimeMs !== undefined) aheadMs = uptimeMs - nowMs;
  else if (aheadMs === undefined) hasUptime = false;
  return nowMs + (aheadMs ?? 0);
}

function readUptimeMs(): number | undefined {
  try {
    const seconds = Number.parseFloat(readFileSync('/proc/uptime', 'latin1'));
    return Number.isFinite(seconds) ? seconds * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const onAbort = (): void => {
      cancel();
      reject(signal.reason as Error);
    };
    const cancel = clock.after(delayMs, () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/** Resolves after `delayMs`, or at once when the signal aborts: for a loop that looks at the signal itself. */
export function nap(delayMs: number, signal: AbortSignal, clock: Clock = MONOTONIC_CLOCK): Promise<void> {
  return sleep(clock, delayMs, signal).catch(() => undefined);
}

/** `promise`, or a rejection with the signal's reason when that comes first. The promise itself is not cancelled. */
export function orAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) {
      promise.catch(() => undefined); // its outcome no longer matters to anybody
      return onAbort();
    }
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** `promise`, or undefined when `timeoutMs` pass first. The promise itself is not cancelled. */
export async function withinTime<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/**
 * `promise`, or a rejection with the signal's reason `graceMs` after it: what is under way may end by itself until
 * then.
 */
export async function orAbortAfter<T>(promise: Promise<T>, signal: AbortSignal, graceMs: number): Promise<T> {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => late.abort(signal.reason), graceMs);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await orAbort(promise, late.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/** Doubling delays with full jitter in their upper half, so that a herd of hosts spreads out. */
export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #nextMs: number;

  constructor(minMs: number, maxMs: number, random: () => number) {
    this.#minMs = minMs;
    this.#maxMs = maxMs;
    this.#random = random;
    this.#nextMs = minMs;
  }

  /** The delay before the next attempt; each call doubles the following one up to the maximum. */
  next(): number {
    const delayMs = this.#nextMs;
    this.#nextMs = Math.min(this.#maxMs, delayMs * 2);
    return delayMs / 2 + (delayMs / 2) * this.#random();
  }

  reset(): void {
    this.#nextMs = this.#minMs;
  }
}
