// Diffs of the leases, one after the other, as one. Pure.

import { prefixKey } from '../net/prefix.js';
import type { Lease, LeaseDiff } from './lease.js';

interface Change {
  readonly kind: keyof LeaseDiff;
  readonly lease: Lease;
}

/** Gathers diffs; the cost of each is its own size. */
export class DiffAccumulator {
  #changes = new Map<number, Change>();

  /** Adds a diff that came after all those before. */
  add(diff: LeaseDiff): void {
    for (const lease of diff.removed) {
      const key = prefixKey(lease.subnet);
      // Of a lease that came and went, nothing is left to do.
      if (this.#changes.get(key)?.kind === 'added') this.#changes.delete(key);
      else this.#changes.set(key, { kind: 'removed', lease });
    }
    for (const kind of ['added', 'changed'] as const) {
      for (const lease of diff[kind]) {
        const key = prefixKey(lease.subnet);
        const before = this.#changes.get(key)?.kind;
        // One that went and came back has changed; one that came and changed is still new.
        this.#changes.set(key, {
          kind: before === undefined ? kind : before === 'added' ? 'added' : 'changed',
          lease,
        });
      }
    }
  }

  /** What all of them amount to, or undefined when that is nothing; it starts anew. */
  take(): LeaseDiff | undefined {
    if (this.#changes.size === 0) return undefined;
    const changes = [...this.#changes.values()];
    this.#changes = new Map();
    const of = (kind: keyof LeaseDiff): Lease[] =>
      changes.filter((change) => change.kind === kind).map(({ lease }) => lease);
    return { added: of('added'), changed: of('changed'), removed: of('removed') };
  }
}
