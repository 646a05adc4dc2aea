// How a fresh list of a key range differs from what we hold. Pure.
//
// A list is taken for one of two reasons. After a gap ("gap": compaction, start of a stream) a key that is not listed was
// deleted while we could not see it. During a live watch ("check": the slow comparison) nothing may differ at all; what
// does is a lost event or a store whose history was exchanged under us.
//
// History is known to be exchanged ("rewritten") when the cluster id changed, when the revision went back, or when the
// list shows, at a revision we had seen in full, a key other than we saw it.

import type { KvEntry, KvList, StorePosition } from './etcd-kv.js';

export type MirrorEvent =
  | { readonly kind: 'put'; readonly entry: KvEntry }
  | { readonly kind: 'delete'; readonly key: string }
  /** Gone without a delete event that could be believed: its owner may be about to write it again. */
  | { readonly kind: 'vanished'; readonly key: string };

export interface Held {
  readonly entries: ReadonlyMap<string, KvEntry>;
  /** Every change up to this revision is in `entries`. */
  readonly position: StorePosition;
  /** Keys deleted while the list was on its way, with the revision of the deletion. */
  readonly recentDeletes: ReadonlyMap<string, bigint>;
}

export interface MirrorDiff {
  readonly events: readonly MirrorEvent[];
  readonly isRewritten: boolean;
}

/** What to do to `held` to make it what `list` says. O(n). */
export function diffList(held: Held, list: KvList, why: 'gap' | 'check'): MirrorDiff {
  const listed = new Set<string>();
  const puts: MirrorEvent[] = [];
  let isRewritten =
    list.clusterId !== held.position.clusterId || (why === 'gap' && list.revision < held.position.revision);
  for (const entry of list.entries) {
    listed.add(entry.key);
    const known = held.entries.get(entry.key);
    if (known !== undefined && sameEntry(known, entry)) continue;
    if (why === 'check' && isNewer(held, list, entry, known)) continue;
    puts.push({ kind: 'put', entry });
    if (why === 'gap' && entry.modRevision <= held.position.revision) isRewritten = true;
  }
  const goneKind = isRewritten || why === 'check' ? 'vanished' : 'delete';
  const gone: MirrorEvent[] = [];
  for (const [key, known] of held.entries) {
    if (listed.has(key) || (why === 'check' && known.modRevision > list.revision)) continue;
    gone.push({ kind: goneKind, key });
  }
  return { events: [...gone, ...puts], isRewritten };
}

/** Whether the live watch has overtaken this row of the list. */
function isNewer(held: Held, list: KvList, entry: KvEntry, known: KvEntry | undefined): boolean {
  if (known !== undefined) return known.modRevision > entry.modRevision && known.modRevision > list.revision;
  return (held.recentDeletes.get(entry.key) ?? -1n) > entry.modRevision;
}

/** Whether two readings of a key are the same write. Revisions alone are not enough after a restore. */
export function sameEntry(a: KvEntry, b: KvEntry): boolean {
  return (
    a.modRevision === b.modRevision &&
    a.createRevision === b.createRevision &&
    a.leaseId === b.leaseId &&
    a.valueBytes === b.valueBytes &&
    a.value === b.value
  );
}
