// Counters of the kernel modes: what was repaired, removed and refused, and how many peers are in which state.

import type { MetricFamily } from '../core/metric.js';

/** An ObjectKind's name, or something else that is kept in order. */
type Counted = string;

export class PeerCounters {
  readonly #repaired = new Map<Counted, number>();
  readonly #stale = new Map<Counted, number>();
  readonly #failed = new Map<Counted, number>();

  repaired(object: Counted, count: number): void {
    increase(this.#repaired, object, count);
  }

  removedStale(object: Counted, count: number): void {
    increase(this.#stale, object, count);
  }

  failed(object: Counted, count: number): void {
    increase(this.#failed, object, count);
  }

  list(): MetricFamily[] {
    return [
      family(
        'kernel_repairs_total',
        'Kernel objects of ours that were missing or changed and are back.',
        this.#repaired,
      ),
      family(
        'kernel_stale_removed_total',
        'Kernel objects of ours that no lease asked for any more.',
        this.#stale,
      ),
      family('kernel_failures_total', 'Changes the kernel refused; "run" is a whole pass.', this.#failed),
    ];
  }

  /** Gauge of peers by state. */
  peers(states: Readonly<Record<string, number>>): MetricFamily {
    return {
      name: 'kernel_peers',
      help: 'Peers by what the kernel holds for them.',
      type: 'gauge',
      values: Object.entries(states).map(([state, value]) => ({ labels: { state }, value })),
    };
  }
}

function increase(counts: Map<Counted, number>, object: Counted, count: number): void {
  counts.set(object, (counts.get(object) ?? 0) + count);
}

function family(name: string, help: string, counts: ReadonlyMap<Counted, number>): MetricFamily {
  const values = Array.from(counts, ([object, value]) => ({ labels: { object }, value }));
  return { name, help, type: 'counter', values };
}
