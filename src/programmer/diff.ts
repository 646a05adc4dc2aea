// How what the kernel holds differs from what the peers need, as steps. Pure.
//
// Invariant: nothing is removed that a peer claims, and nothing that neither we nor flanneld in our place have made.

import { groupBy } from '../core/group-by.js';
import {
  type HeldObject,
  type KernelObject,
  LAST_ORDER,
  type ObjectKey,
  type ObjectKind,
} from './objects.js';

/** One change of the kernel. */
export interface Step {
  readonly object: KernelObject;
  /** "clear" removes what an object that is to come would trip over. */
  readonly action: 'clear' | 'add' | 'remove';
  /** Key of the record that needs it; undefined for a removal. */
  readonly peer: string | undefined;
  /** Makes or removes what is there for the moment only (KernelObject.aid()). */
  readonly isAid?: true;
}

/** When a step is due: those of one place may run beside each other, one tool's in their order. */
export function placeOf({ object: { kind }, action }: Step): number {
  if (action === 'clear') return kind.order - 1;
  return action === 'add' ? kind.order : 2 * LAST_ORDER - kind.order;
}

export function lineOf({ object, action }: Step): string {
  return action === 'add' ? object.add() : object.remove();
}

/** Steps that make `object` where `formers`, of which some may have its key, are in its place. */
function putSteps(peer: string, object: KernelObject, formers: readonly KernelObject[]): Step[] {
  const add: Step = { object, action: 'add', peer };
  const aids = formers.map((former) =>
    former.kind === object.kind && former.key === object.key ? object.aid?.(former) : undefined,
  );
  const aid = aids.find((one) => one !== undefined);
  if (aid === undefined) return [add];
  return [
    { object: aid, action: 'add', peer, isAid: true },
    add,
    { object: aid, action: 'remove', peer: undefined, isAid: true },
  ];
}

/**
 * What of `wanted` is not in `known`, which the kernel is known to hold. With nothing known, `found` is what else may
 * be in its place.
 */
export function diffPeer(
  peer: string,
  wanted: readonly KernelObject[],
  known: readonly KernelObject[] = [],
  found: readonly KernelObject[] = [],
): Step[] {
  return wanted
    .filter((object) => !known.some((other) => other.kind === object.kind && object.isSame(other)))
    .flatMap((object) => putSteps(peer, object, [...known, ...found]));
}

/** Steps that take away what was needed once and is claimed by nobody any more. */
export function dropObjects(
  objects: readonly KernelObject[],
  isClaimed: (object: KernelObject) => boolean,
): Step[] {
  return objects
    .filter((object) => !isClaimed(object))
    .map((object) => ({ object, action: 'remove', peer: undefined }));
}

export interface KernelDiff {
  readonly steps: readonly Step[];
  /** What is logged of the foreign objects that ours take the place of. */
  readonly replaced: readonly Readonly<Record<string, unknown>>[];
}

/**
 * The steps that make the kernel, which has `held`, have what `plans` want. `removesStale` is false until the first
 * snapshot of leases: what we do not know yet is then no reason to remove anything. O(objects).
 */
export function diffKernel(
  plans: Iterable<{ readonly key: string; readonly objects: readonly KernelObject[] }>,
  held: readonly HeldObject[],
  removesStale: boolean,
): KernelDiff {
  const steps: Step[] = [];
  const replaced: Readonly<Record<string, unknown>>[] = [];
  const unclaimed = groupByKey(held);
  const remove = (object: KernelObject, action: 'clear' | 'remove' = 'remove'): void =>
    void steps.push({ object, action, peer: undefined });

  for (const { key, objects } of plans) {
    for (const object of objects) {
      const ofKind = unclaimed.get(object.kind);
      const present = ofKind?.get(object.key) ?? [];
      ofKind?.delete(object.key);
      const first = present.find(({ isInForce }) => isInForce);
      const isInPlace = first !== undefined && object.isSame(first.object);
      if (!isInPlace) {
        const formers = present.map((held) => held.object);
        steps.push(...putSteps(key, object, formers));
        if (first?.foreign !== undefined) replaced.push(first.foreign);
      }
      for (const other of present) {
        if (!other.isOurs || object.isSame(other.object)) continue;
        if (object.kind.isShared) {
          if (removesStale) remove(other.object);
        } else if (other !== first) {
          // It has no effect behind the first, but ours would trip over it.
          remove(other.object, isInPlace ? 'remove' : 'clear');
        }
      }
    }
  }
  if (removesStale) {
    for (const ofKind of unclaimed.values()) {
      for (const { object, isOurs } of [...ofKind.values()].flat()) if (isOurs) remove(object);
    }
  }
  return { steps, replaced };
}

function groupByKey(held: readonly HeldObject[]): Map<ObjectKind, Map<ObjectKey, HeldObject[]>> {
  const byKind = groupBy(held, ({ object }) => object.kind);
  return new Map(Array.from(byKind, ([kind, ofKind]) => [kind, groupBy(ofKind, ({ object }) => object.key)]));
}
