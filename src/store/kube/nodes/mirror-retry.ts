// What a fault means to a mirror of nodes, and when it tries again.

import { Backoff } from '../../../core/waiting.js';
import type { KubeFault } from '../api/faults.js';

/** Least and greatest delay: it doubles from attempt to attempt. */
export type DelayRange = readonly [leastMs: number, greatestMs: number];

export interface RetryDelays {
  readonly quickMs: DelayRange;
  /** After what does not pass by itself: somebody has to grant a right or to write a file. */
  readonly slowMs: DelayRange;
}

export const RETRY_DELAYS: RetryDelays = { quickMs: [50, 5_000], slowMs: [1_000, 30_000] };

/** Longer than any server asks for in earnest. */
const MAX_RETRY_AFTER_MS = 60_000;

/** Statuses below 500 that time alone may cure: timeout, gone, too many requests. */
const PASSING_STATUSES: readonly number[] = [408, 410, 429];

/** Statuses of a server that cannot make sense of a version. */
const BAD_VERSION_STATUSES: readonly number[] = [400, 422, 500];

/** What a fault says of the version that was asked for. */
export type VersionVerdict =
  /** What came after it is no longer kept. */
  | 'expired'
  /** The server is not as far. */
  | 'ahead'
  /** It is no version of this server's. */
  | 'refused';

/** undefined: it says nothing of the version. */
export function versionVerdict({ status, reason, message }: KubeFault): VersionVerdict | undefined {
  if (status === 410 || reason === 'Expired') return 'expired'; // as a status, or as an event of a watch
  if (status === 504 && reason === 'Timeout') return 'ahead'; // "Too large resource version"
  return BAD_VERSION_STATUSES.includes(status) && /resource ?version/i.test(message) ? 'refused' : undefined;
}

/** When to try again. Delays are jittered: what ends for one host ends for all. */
export class MirrorRetry {
  readonly #quick: Backoff;
  readonly #slow: Backoff;

  constructor(random: () => number, { quickMs, slowMs }: RetryDelays) {
    this.#quick = new Backoff(...quickMs, random);
    this.#slow = new Backoff(...slowMs, random);
  }

  /** Milliseconds until the next attempt, after `fault` or after an end without one. */
  delayAfter(fault?: KubeFault): number {
    if (fault !== undefined && isLasting(fault)) return this.#slow.next();
    const leaveMs = Math.min(Math.max(fault?.retryAfterMs ?? 0, 0), MAX_RETRY_AFTER_MS);
    return leaveMs + this.#quick.next();
  }

  /** All is well. */
  reset(): void {
    this.#quick.reset();
    this.#slow.reset();
  }
}

function isLasting({ status, reason }: KubeFault): boolean {
  if (status === 0) return reason === 'credentials';
  return status >= 400 && status < 500 && !PASSING_STATUSES.includes(status);
}
