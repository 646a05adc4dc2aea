// Diffs of the peers, one after the other, as one. Pure.

import { type Peer, type PeerDiff, sameSubnets } from './lease.js';

/** What happened to one id since the last take(): what a backend has of it, and what it is to have. */
interface Change {
  /** Undefined: nothing. Of a peer that only changed it is a later version, which has the same subnets. */
  before: Peer | undefined;
  after: Peer | undefined;
}

/** Gathers diffs; the cost of each is its own size. */
export class DiffAccumulator {
  #changes = new Map<string, Change>();

  /** Adds a diff that came after all those before. */
  add(diff: PeerDiff): void {
    for (const peer of diff.removed) this.#change(peer, peer).after = undefined;
    for (const peer of diff.added) this.#change(peer, undefined).after = peer;
    for (const peer of diff.changed) this.#change(peer, peer).after = peer;
  }

  /** What all of them amount to, or undefined when that is nothing; it starts anew. */
  take(): PeerDiff | undefined {
    const diff: Record<keyof PeerDiff, Peer[]> = { added: [], changed: [], removed: [] };
    for (const { before, after } of this.#changes.values()) addChange(diff, before, after);
    this.#changes = new Map();
    return diff.added.length + diff.changed.length + diff.removed.length === 0 ? undefined : diff;
  }

  #change({ id }: Peer, before: Peer | undefined): Change {
    let change = this.#changes.get(id);
    if (change === undefined) this.#changes.set(id, (change = { before, after: undefined }));
    return change;
  }
}

/** Adds to `diff` that an id was `before` and is `after`; undefined: not there. */
export function addChange(
  diff: Record<keyof PeerDiff, Peer[]>,
  before: Peer | undefined,
  after: Peer | undefined,
): void {
  const isSamePlace =
    before !== undefined && after !== undefined && sameSubnets(before.subnets, after.subnets);
  if (isSamePlace) {
    diff.changed.push(after);
    return;
  }
  if (before !== undefined) diff.removed.push(before);
  if (after !== undefined) diff.added.push(after);
}
