// Tells the operator why packets are dropped: one line per cause at most every ten seconds, however many there are.
//
// Where a queue is full, drops are how TCP learns the rate, on a healthy host as well: these are only counted, unless
// they stay a large share of the packets, which no sender that heeds them causes.

import { formatAddress } from '../../net/prefix.js';
import { DROP_MEANINGS, type DropReason } from '../../native/counters.js';
import type { DirectionCounters, Offender } from '../../dataplane/dataplane.js';

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
    'containers send more than the worker takes and do not slow down, or it does not get to run: see what else has ' +
    'its core; if nothing has, --queues=2 and more spread the load',
  drop_send_blocked:
    'containers send more than the network card takes, and do not slow down: limit them, or see `tc -s qdisc`',
  drop_options: 'only --source-check=off would let it in',
  drop_unowned_source: '--source-check=loose would let it in',
  drop_unknown_peer: 'only --source-check=off would let it in',
  drop_spoofed_source: 'only --source-check=off would let it in',
};

/** Drops of a queue that was full, with the counter of what passed it, in the same unit. */
const PASSED: Partial<Record<DropReason, string>> = {
  drop_tun_queue: 'reads',
  drop_send_blocked: 'packets_out',
};

/**
 * The share from which on it is no longer normal. 4, 16 and 64 flows of Cubic at full load lose 0.03, 0.3 and 1.5 % of
 * their superpackets (p falls with the square of the window); BBR, which heeds no loss below 20 % (bbr_lt_loss_thresh,
 * net/ipv4/tcp_bbr.c), loses 3 to 10 %. Above that are senders that never slow down, and workers that do not get to
 * run.
 */
const HIGH_SHARE = 0.2;
/** A short transfer's slow start may lose that share too, but only some hundreds: the queue holds 64 superpackets. */
const LEAST_DROPS = 1_000;

interface Told {
  count: number;
  atMs: number;
}

const NEVER_TOLD: Told = { count: 0, atMs: -Infinity };

/** Judges the drops of a full queue by interval. Holds what there was at the beginning of this one. */
class FullQueue {
  /** Without a time before the first interval. */
  #last: { dropped: number; passed: number; atMs?: number } = { dropped: 0, passed: 0 };

  /** These count no more. */
  addFormer(dropped: number, passed: number): void {
    this.#last.dropped += dropped;
    this.#last.passed += passed;
  }

  /** Drops of the interval that ends now, and their share, if that is high. */
  judge(dropped: number, passed: number, nowMs: number): { packets: number; share: number } | undefined {
    const last = this.#last;
    last.atMs ??= nowMs;
    if (nowMs - last.atMs < INTERVAL_MS) return undefined;
    this.#last = { dropped, passed, atMs: nowMs };
    const packets = dropped - last.dropped;
    const share = packets / (packets + passed - last.passed);
    return packets >= LEAST_DROPS && share >= HIGH_SHARE ? { packets, share } : undefined;
  }
}

/** Compares snapshots. Holds one entry per cause and nothing per packet. */
export class DropLog {
  readonly #told = new Map<string, Told>();
  readonly #queues = new Map<string, FullQueue>();

  /** What daemons before this one have counted, which is in the snapshots from now on: they have told it. */
  addFormer(former: DropSnapshot): void {
    for (const direction of ['outbound', 'inbound'] as const) {
      const { values } = former[direction];
      for (const name of Object.keys(values)) {
        if (!isDropReason(name)) continue;
        const key = `${direction} ${name}`;
        const passed = PASSED[name];
        if (passed !== undefined) this.#queue(key).addFormer(values[name], values[passed]);
        const { count, atMs } = this.#told.get(key) ?? NEVER_TOLD;
        this.#told.set(key, { count: count + values[name], atMs });
      }
    }
  }

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
    for (const name of Object.keys(counters.values)) {
      if (!isDropReason(name)) continue;
      const due = this.#due(direction, name, counters, nowMs);
      if (due === undefined) continue;
      const text = textOf(direction, name, due.share, counters.offenders.get(name));
      lines.push({ direction, reason: name, packets: due.packets, text });
    }
    return lines;
  }

  /** Packets to tell of now, if any. */
  #due(
    direction: string,
    reason: DropReason,
    { values }: DirectionCounters<string>,
    nowMs: number,
  ): { readonly packets: number; readonly share?: number } | undefined {
    const key = `${direction} ${reason}`;
    const count = values[reason];
    const passed = PASSED[reason];
    if (passed !== undefined) return this.#queue(key).judge(count, values[passed], nowMs);
    const told = this.#told.get(key) ?? NEVER_TOLD;
    if (count === told.count || nowMs - told.atMs < INTERVAL_MS) return undefined;
    this.#told.set(key, { count, atMs: nowMs });
    return { packets: count - told.count };
  }

  #queue(key: string): FullQueue {
    const queue = this.#queues.get(key) ?? new FullQueue();
    this.#queues.set(key, queue);
    return queue;
  }
}

function isDropReason(name: string): name is DropReason {
  return name in DROP_MEANINGS;
}

/** What it was, how much, the last packet and what to do, as far as each is known. */
function textOf(
  direction: 'outbound' | 'inbound',
  reason: DropReason,
  share: number | undefined,
  offender: Offender | undefined,
): string {
  const parts = [DROP_MEANINGS[reason]];
  if (share !== undefined)
    parts.push(`this was ${Math.round(share * 100)} % of the packets, where TCP alone causes a few`);
  if (offender !== undefined) {
    const { outer, source, destination } = offender;
    const isKnown = outer !== 0 && outer !== 0n;
    const host = isKnown ? `${direction === 'inbound' ? 'from' : 'to'} host ${formatAddress(outer)}, ` : '';
    parts.push(`last ${host}inner ${formatAddress(source)} to ${formatAddress(destination)}`);
  }
  const cure = CURES[reason];
  if (cure !== undefined) parts.push(cure);
  return parts.join('; ');
}
