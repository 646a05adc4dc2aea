// Who has what: an object's key belongs to one peer. Pure.
//
// Of two that claim one key, the object's kind says who has it; the other is refused, with all that it wanted.

import type { Peer } from '../lease/lease.js';
import type { Address, Prefix } from '../net/prefix.js';
import type { KernelObject, ObjectKey, ObjectKind } from './objects.js';

/** A family of a peer, with what it wants. */
export interface Claimant {
  /** Of all families of all peers no two have the same. */
  readonly key: string;
  readonly lease: Peer;
  readonly subnet: Prefix<Address>;
  readonly objects: readonly KernelObject[];
}

/** An object that a peer does not get. */
export interface Loss {
  readonly object: KernelObject;
  /** Key of the claimant that has it. */
  readonly holder: string;
}

export class Claims {
  /** Keys of claimants by kind and key of object. */
  readonly #holders = new Map<ObjectKind, Map<ObjectKey, string>>();

  /** Key of the claimant that has this object. */
  holderOf(kind: ObjectKind, key: ObjectKey): string | undefined {
    return this.#holders.get(kind)?.get(key);
  }

  isClaimed(object: KernelObject): boolean {
    return this.holderOf(object.kind, object.key) !== undefined;
  }

  /** Takes all objects for a claimant, or none of them when another has one, which is told then. */
  take(claimant: string, objects: readonly KernelObject[]): Loss | undefined {
    for (const object of objects) {
      const holder = this.holderOf(object.kind, object.key);
      if (holder !== undefined && holder !== claimant) return { object, holder };
    }
    for (const { kind, key } of objects) this.#keysOf(kind).set(key, claimant);
    return undefined;
  }

  /** Releases those of these that the claimant has. */
  release(claimant: string, objects: readonly KernelObject[]): void {
    for (const { kind, key } of objects) {
      if (this.holderOf(kind, key) === claimant) this.#keysOf(kind).delete(key);
    }
  }

  /**
   * Forgets everything and decides anew; resolves the claims kind by kind. Losses by the claimant's key. O(objects).
   */
  settle(claimants: readonly Claimant[]): Map<string, Loss> {
    this.#holders.clear();
    const losses = new Map<string, Loss>();
    const kinds = new Set(claimants.flatMap(({ objects }) => objects.map(({ kind }) => kind)));
    for (const kind of kinds) {
      const best = new Map<ObjectKey, Claimant>();
      for (const claimant of claimants) {
        if (losses.has(claimant.key)) continue;
        for (const object of claimant.objects) {
          if (object.kind !== kind) continue;
          const other = best.get(object.key);
          if (other === undefined) {
            best.set(object.key, claimant);
            continue;
          }
          const isOurs = compare(kind, claimant, other) < 0;
          const [winner, loser] = isOurs ? [claimant, other] : [other, claimant];
          best.set(object.key, winner);
          losses.set(loser.key, { object, holder: winner.key });
        }
      }
    }
    for (const { key, objects } of claimants) if (!losses.has(key)) this.take(key, objects);
    return losses;
  }

  #keysOf(kind: ObjectKind): Map<ObjectKey, string> {
    const keys = this.#holders.get(kind) ?? new Map<ObjectKey, string>();
    this.#holders.set(kind, keys);
    return keys;
  }
}

/** The lower subnet where nothing else decides, so that every run decides alike. */
function compare(kind: ObjectKind, a: Claimant, b: Claimant): number {
  const byKind = kind.compareClaims(a.lease, b.lease);
  if (byKind !== 0) return byKind;
  return a.subnet.address < b.subnet.address ? -1 : Number(a.subnet.address > b.subnet.address);
}
