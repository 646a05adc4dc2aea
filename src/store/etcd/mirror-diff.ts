// How a fresh list of a key range differs from what we hold. Pure.
//
// A list is taken for one of two reasons. After a gap ("gap": compaction, start of a stream) a key that is not listed
// was deleted while we could not see it. During a live watch ("check": the slow comparison) nothing may differ at all;
// what does is a lost event or a store whose history was exchanged under us.
//
// History is known to be exchanged ("rewritten") when the cluster id changed, when the revision went back, or when the
// list shows, at a revision we had seen in full, a key other than we saw it.
//
// What we hold of a key is not its value, which belongs to whoever took it, but a stamp that tells one write from
// another.

import { crc32 } from 'node:zlib';
import type { KvEntry, KvList, StorePosition } from './etcd-kv.js';

/** One write of one key. */
export interface Stamp {
  readonly modRevision: bigint;
  /** Checksum of the rest: revisions alone are not enough after a restore. */
  readonly sum: number;
}

/** A key of a list. */
export interface Row {
  readonly key: string;
  readonly stamp: Stamp;
  /** undefined: as it was held when the list came by. */
  readonly entry: KvEntry | undefined;
}

/** What became of the key that the mirror knows by `key` (Trimming.id). */
export type MirrorEvent =
  | { readonly kind: 'put'; readonly key: string; readonly entry: KvEntry }
  | { readonly kind: 'delete'; readonly key: string }
  /** Gone without a delete event that could be believed: its owner may be about to write it again. */
  | { readonly kind: 'vanished'; readonly key: string };

export interface Held {
  readonly stamps: ReadonlyMap<string, Stamp>;
  /** Every change up to this revision is in `stamps`. */
  readonly position: StorePosition;
  /** Keys deleted while the list was on its way, with the revision of the deletion. */
  readonly recentDeletes: ReadonlyMap<string, bigint>;
}

export interface MirrorDiff {
  readonly events: readonly MirrorEvent[];
  /** By key of each put. */
  readonly stamps: ReadonlyMap<string, Stamp>;
  readonly isRewritten: boolean;
}

/** What to do to `held` to make it what `list` says. O(n). */
export function diffList(held: Held, list: KvList<Row>, why: 'gap' | 'check'): MirrorDiff {
  const listed = new Set<string>();
  const puts: MirrorEvent[] = [];
  const stamps = new Map<string, Stamp>();
  let isRewritten =
    list.clusterId !== held.position.clusterId || (why === 'gap' && list.revision < held.position.revision);
  for (const { key, stamp, entry } of list.entries) {
    listed.add(key);
    const known = held.stamps.get(key);
    if (known !== undefined && sameStamp(known, stamp)) continue;
    if (why === 'check' && isNewer(held, list, key, stamp, known)) continue;
    if (entry === undefined) continue; // what was held then came back with a store of the past: the next list tells
    puts.push({ kind: 'put', key, entry });
    stamps.set(key, stamp);
    if (why === 'gap' && stamp.modRevision <= held.position.revision) isRewritten = true;
  }
  const goneKind = isRewritten || why === 'check' ? 'vanished' : 'delete';
  const gone: MirrorEvent[] = [];
  for (const [key, known] of held.stamps) {
    if (listed.has(key) || (why === 'check' && known.modRevision > list.revision)) continue;
    gone.push({ kind: goneKind, key });
  }
  return { events: [...gone, ...puts], stamps, isRewritten };
}

/** Whether the live watch has overtaken this row of the list. */
function isNewer(
  held: Held,
  list: StorePosition,
  key: string,
  stamp: Stamp,
  known: Stamp | undefined,
): boolean {
  if (known !== undefined) return known.modRevision > stamp.modRevision && known.modRevision > list.revision;
  return (held.recentDeletes.get(key) ?? -1n) > stamp.modRevision;
}

/** The numbers of an entry, for their checksum: as texts they would cost more than all else about an event. */
const NUMBERS = new BigUint64Array(3);
const NUMBER_BYTES = new Uint8Array(NUMBERS.buffer);

/** The stamp of `entry`, which must be as it was read. */
export function stampOf({ createRevision, modRevision, leaseId, value, valueBytes }: KvEntry): Stamp {
  NUMBERS[0] = createRevision;
  NUMBERS[1] = leaseId;
  NUMBERS[2] = BigInt(valueBytes);
  const sum = crc32(value ?? '', crc32(NUMBER_BYTES));
  return { modRevision, sum: sum | 0 }; // a 32-bit integer needs no object of its own
}

/** Whether two readings of a key are the same write. */
export function sameStamp(a: Stamp, b: Stamp): boolean {
  return a.modRevision === b.modRevision && a.sum === b.sum;
}
