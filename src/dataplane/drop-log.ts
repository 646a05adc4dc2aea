// Tells the operator why packets are dropped: one line per cause at most every ten seconds, however many there are.

import { formatIpv4 } from '../net/ipv4.js';
import { DROP_MEANINGS, type DropReason } from './counters.js';
import type { DirectionCounters } from './dataplane.js';

const INTERVAL_MS = 10_000;

/** A line about one cause. */
export interface DropLine {
  readonly direction: 'outbound' | 'inbound';
  readonly reason: DropReason;
  /** Packets since the last line about this cause. */
  readonly packets: number;
  readonly text: string;
}

/** The counters of both directions, by name. */
export interface DropSnapshot {
  readonly outbound: DirectionCounters<string>;
  readonly inbound: DirectionCounters<string>;
}

/** What an operator can do about it, where there is something. */
const CURES: Partial<Record<DropReason, string>> = {
  drop_tun_queue:
    'a worker that has a core to itself keeps up; if it has one, --queues=2 and more spread the load',
  drop_options: 'only --source-check=off would let it in',
  drop_unowned_source: '--source-check=loose would let it in',
  drop_unknown_peer: 'only --source-check=off would let it in',
  drop_spoofed_source: 'only --source-check=off would let it in',
};

interface Told {
  count: number;
  atMs: number;
}

/** Compares snapshots. Holds one entry per cause and nothing per packet. */
export class DropLog {
  readonly #told = new Map<string, Told>();

  /** Lines that are due at `nowMs` (monotonic milliseconds). */
  take(snapshot: DropSnapshot, nowMs: number): DropLine[] {
    return [
      ...this.#takeDirection('outbound', snapshot.outbound, nowMs),
      ...this.#takeDirection('inbound', snapshot.inbound, nowMs),
    ];
  }

  #takeDirection(
    direction: 'outbound' | 'inbound',
    counters: DirectionCounters<string>,
    nowMs: number,
  ): DropLine[] {
    const lines: DropLine[] = [];
    for (const [name, count] of Object.entries(counters.values)) {
      if (!isDropReason(name)) continue;
      const key = `${direction} ${name}`;
      const told = this.#told.get(key) ?? { count: 0, atMs: -Infinity };
      if (count === told.count || nowMs - told.atMs < INTERVAL_MS) continue;
      this.#told.set(key, { count, atMs: nowMs });
      const offender = counters.offenders.get(name);
      const parts = [DROP_MEANINGS[name]];
      if (offender !== undefined) {
        const outer =
          offender.outer === 0
            ? ''
            : `${direction === 'inbound' ? 'from' : 'to'} host ${formatIpv4(offender.outer)}, `;
        parts.push(
          `last ${outer}inner ${formatIpv4(offender.source)} to ${formatIpv4(offender.destination)}`,
        );
      }
      const cure = CURES[name];
      if (cure !== undefined) parts.push(cure);
      lines.push({ direction, reason: name, packets: count - told.count, text: parts.join('; ') });
    }
    return lines;
  }
}

function isDropReason(name: string): name is DropReason {
  return name in DROP_MEANINGS;
}
