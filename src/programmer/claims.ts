// Who has what: an object's key belongs to one peer. Pure.
//
// Of two that claim one key, the object's kind says who has it; the other is refused, with all that it wanted.

import type { Peer } from '../lease/lease.js';
import type { KernelObject, ObjectKey, ObjectKind } from './objects.js';

/** A peer with what it wants. */
export interface Claimant {
  readonly lease: Peer;
  readonly objects: readonly KernelObject[];
}

/** An object that a peer does not get. */
export interface Loss {
  readonly object: KernelObject;
  /** Id of the peer that has it. */
  readonly holder: string;
}

export class Claims {
  /** Ids by kind and key. */
  readonly #holders = new Map<ObjectKind, Map<ObjectKey, string>>();

  /** Id of the peer that has this key. */
  holderOf(kind: ObjectKind, key: ObjectKey): string | undefined {
    return this.#holders.get(kind)?.get(key);
  }

  isClaimed(object: KernelObject): boolean {
    return this.holderOf(object.kind, object.key) !== undefined;
  }

  /** Takes all keys for a peer, or none of them when another peer has one, which is told then. */
  take(id: string, objects: readonly KernelObject[]): Loss | undefined {
    for (const object of objects) {
      const holder = this.holderOf(object.kind, object.key);
      if (holder !== undefined && holder !== id) return { object, holder };
    }
    for (const { kind, key } of objects) this.#keysOf(kind).set(key, id);
    return undefined;
  }

  /** Releases those of these that the peer has. */
  release(id: string, objects: readonly KernelObject[]): void {
    for (const { kind, key } of objects) {
      if (this.holderOf(kind, key) === id) this.#keysOf(kind).delete(key);
    }
  }

  /**
   * Forgets everything and decides anew; resolves the claims kind by kind. Losses by the id of the peer. O(objects).
   */
  settle(claimants: readonly Claimant[]): Map<string, Loss> {
    this.#holders.clear();
    const losses = new Map<string, Loss>();
    const kinds = new Set(claimants.flatMap(({ objects }) => objects.map(({ kind }) => kind)));
    for (const kind of kinds) {
      const best = new Map<ObjectKey, Claimant>();
      for (const claimant of claimants) {
        if (losses.has(claimant.lease.id)) continue;
        for (const object of claimant.objects) {
          if (object.kind !== kind) continue;
          const other = best.get(object.key);
          if (other === undefined) {
            best.set(object.key, claimant);
            continue;
          }
          const isOurs = compare(kind, claimant.lease, other.lease) < 0;
          const [winner, loser] = isOurs ? [claimant, other] : [other, claimant];
          best.set(object.key, winner);
          losses.set(loser.lease.id, { object, holder: winner.lease.id });
        }
      }
    }
    for (const { lease, objects } of claimants) if (!losses.has(lease.id)) this.take(lease.id, objects);
    return losses;
  }

  #keysOf(kind: ObjectKind): Map<ObjectKey, string> {
    const keys = this.#holders.get(kind) ?? new Map<ObjectKey, string>();
    this.#holders.set(kind, keys);
    return keys;
  }
}

/** The lower subnet where nothing else decides, so that every run decides alike. */
function compare(kind: ObjectKind, a: Peer, b: Peer): number {
  return kind.compareClaims(a, b) || a.subnets.v4!.address - b.subnets.v4!.address;
}
