// When the loop of the own lease has something to do: renew, look at the key, or try again.
//
// The life of a lease is counted in boot time, which goes on while the machine is suspended; waits are monotonic.

import type { Logger } from '../../core/log.js';
import { Backoff, type Clock } from '../../core/waiting.js';
import type { OwnKey } from './own-key.js';

const MIN_RETRY_MS = 1000; // at most one try a second while etcd refuses writes
const MAX_RETRY_MS = 30_000; // renewed within a minute after etcd takes writes again
// Timers stand still while the machine is suspended: how late a renewal may be that fell due meanwhile.
const SLICE_MS = 30_000;
/** Between two looks at a key that somebody else holds, and before the first taking back from a twin. */
export const RECHECK_MS = 60_000;

export interface OwnScheduleOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly renewMarginMs: number;
  readonly log: Logger;
}

export class OwnSchedule {
  readonly #options: OwnScheduleOptions;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  /** In boot time; Infinity: never, as of a reservation. */
  #renewAtMs = Infinity;
  #lookAtMs = Infinity;
  /** Nothing is done before that. */
  #retryAtMs = 0;
  #hasSaidMargin = false;
  #wake: () => void = () => undefined;

  constructor(options: OwnScheduleOptions, own: OwnKey) {
    this.#options = options;
    this.#clock = options.clock;
    this.#backoff = new Backoff(MIN_RETRY_MS, MAX_RETRY_MS, options.random);
    this.renewInTime(own);
  }

  /** In boot time. */
  get renewAtMs(): number {
    return this.#renewAtMs;
  }

  /** Whether the key is to be looked at, which goes before renewing it. */
  get isLookDue(): boolean {
    return this.#lookAtMs <= this.#clock.nowMs();
  }

  /** In boot time; 0: now, Infinity: never. */
  renewAt(bootMs: number): void {
    this.#renewAtMs = bootMs;
  }

  /** As long before the end of a key as the margin says; says once when that is longer than its life. */
  renewInTime(own: OwnKey): void {
    const { renewMarginMs, random, log } = this.#options;
    this.#renewAtMs = renewalTime(own, renewMarginMs, random);
    if (renewMarginMs < own.grantedMs || own.leaseId === 0n || this.#hasSaidMargin) return;
    this.#hasSaidMargin = true;
    log.warn(
      { grantedSeconds: own.grantedMs / 1000, marginMinutes: renewMarginMs / 60_000 },
      '--subnet-lease-renew-margin is longer than the lease that etcd granted: renewed after a quarter of it',
    );
  }

  lookNow(): void {
    this.#lookAtMs = 0;
  }

  lookLater(): void {
    this.#lookAtMs = this.#clock.nowMs() + RECHECK_MS;
  }

  lookNoMore(): void {
    this.#lookAtMs = Infinity;
  }

  /** What failed may be tried again: ends the wait for what is due. */
  wake(): void {
    this.#retryAtMs = 0;
    this.#wake();
  }

  succeeded(): void {
    this.#backoff.reset();
    this.#retryAtMs = 0;
  }

  /** Puts the next try off, by as much as it returns. */
  failed(): number {
    const retryMs = this.#backoff.next();
    this.#retryAtMs = this.#clock.nowMs() + retryMs;
    return retryMs;
  }

  /** Resolves when something is due, or when `isOver` after a wake(). */
  async due(isOver: () => boolean): Promise<void> {
    for (let delayMs = this.#delayMs(); delayMs > 0 && !isOver(); delayMs = this.#delayMs()) {
      // A reservation is never due, but setTimeout holds 24.8 days.
      const sliceMs = Number.isFinite(this.#renewAtMs) ? SLICE_MS : 3_600_000;
      await new Promise<void>((resolve) => {
        const cancel = this.#clock.after(Math.min(delayMs, sliceMs), resolve);
        this.#wake = () => {
          cancel();
          resolve();
        };
      });
      this.#wake = () => undefined;
    }
  }

  /** Until the next renewal or look is due, on the clock of each; 0: now. */
  #delayMs(): number {
    const nowMs = this.#clock.nowMs();
    const dueInMs = Math.min(this.#renewAtMs - this.#clock.bootMs(), this.#lookAtMs - nowMs);
    return Math.max(0, this.#retryAtMs - nowMs, dueInMs);
  }
}

/**
 * When a key is to be renewed, in boot time: `marginMs` before its end, whatever of its life that leaves, since it is
 * the operator's. A little earlier for some than for others, since hosts that started together shall not renew
 * together. With a margin longer than the life: after a quarter of it.
 */
function renewalTime(
  { leaseId, expiresAtMs, grantedMs }: OwnKey,
  marginMs: number,
  random: () => number,
): number {
  if (leaseId === 0n) return Infinity;
  if (marginMs >= grantedMs) return expiresAtMs - grantedMs * 0.75;
  return expiresAtMs - marginMs - 0.1 * Math.min(marginMs, grantedMs - marginMs) * random();
}

/**
 * How long a twin is left alone before the key is written over it: a minute, and twice as long each time that it is
 * still there, so that two daemons do not fight.
 */
export class TwinPatience {
  #waitMs = RECHECK_MS;
  /** When it counts as gone. */
  #quietAtMs = 0;

  /** When to write over a twin that is seen now, `latestMs` at the latest; all in boot time. */
  seen(nowMs: number, latestMs: number): number {
    if (nowMs > this.#quietAtMs) this.#waitMs = RECHECK_MS;
    const atMs = Math.min(latestMs, nowMs + this.#waitMs);
    this.#waitMs *= 2;
    this.#quietAtMs = atMs + this.#waitMs;
    return atMs;
  }
}
