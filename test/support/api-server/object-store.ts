// What etcd and the watch cache hold: every object, and the changes since the last compaction.
//
// One counter numbers the writes of all resources, as revisions of etcd do. Two limits lie in the past: `compacted`,
// the oldest version that a list can still be read at (etcd), and `watchFloor`, the oldest that a watch can resume from
// (the watch cache, which a restart empties). A write that changes nothing is none.

import { randomUUID } from 'node:crypto';
import { type ApiObject, objectAt } from './api-object.js';
import type { Resource } from './resources.js';
import { StoredObject } from './stored-object.js';

export interface Change {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** After the change; of a deletion: the last state, with the version of the deletion. */
  readonly object: StoredObject;
  readonly previous: StoredObject | undefined;
}

/** Everything at one version, as a copy of etcd's data directory is. */
export interface Backup {
  readonly version: number;
  readonly objects: ReadonlyMap<string, ReadonlyMap<string, StoredObject>>;
}

export class ObjectStore {
  readonly #historyLimit: number;
  /** By the name of the resource, then by key. */
  #objects = new Map<string, Map<string, StoredObject>>();
  /** Oldest first. */
  #history: Change[] = [];
  /** Keys of a resource in order, until one comes or goes. */
  readonly #order = new Map<string, readonly string[]>();
  readonly #listeners = new Set<(change: Change) => void>();
  #version: number;
  #compacted: number;
  #watchFloor: number;

  /** @param historyLimit - Changes that are kept at least; up to a quarter more are. */
  constructor(historyLimit: number, firstVersion = 1) {
    this.#historyLimit = historyLimit;
    this.#version = firstVersion;
    this.#compacted = firstVersion;
    this.#watchFloor = firstVersion;
  }

  /** Of the last write. */
  get version(): number {
    return this.#version;
  }

  get compacted(): number {
    return this.#compacted;
  }

  get watchFloor(): number {
    return this.#watchFloor;
  }

  get(resource: Resource, key: string): StoredObject | undefined {
    return this.#objects.get(resource.name)?.get(key);
  }

  count(resource: Resource): number {
    return this.#objects.get(resource.name)?.size ?? 0;
  }

  /** The caller has made sure that there is none of that key; `object` has all but uid and version. */
  create(resource: Resource, object: ApiObject): StoredObject {
    const { name, generateName, namespace, ...metadata } = objectAt(object, 'metadata');
    const ids = { uid: randomUUID(), resourceVersion: '' };
    // In the order of a real server; what the caller says of uid and version counts for nothing.
    const complete = { name, generateName, namespace, ...ids, ...metadata, ...ids };
    const stored = StoredObject.encode(resource, { ...object, metadata: complete }, this.#version + 1);
    this.#order.delete(resource.name);
    this.#write({ version: stored.version, type: 'ADDED', object: stored, previous: undefined });
    return stored;
  }

  /** The new version, or the old one when nothing differs. */
  replace(previous: StoredObject, object: ApiObject): StoredObject {
    const stored = previous.replacedBy(object, this.#version + 1);
    if (stored === previous) return previous;
    this.#write({ version: stored.version, type: 'MODIFIED', object: stored, previous });
    return stored;
  }

  remove(previous: StoredObject): void {
    const last = StoredObject.encode(previous.resource, previous.json(), this.#version + 1);
    this.#order.delete(previous.resource.name);
    this.#write({ version: last.version, type: 'DELETED', object: last, previous });
  }

  /** In order of keys, as they were at `version`, which is not below `compacted`. @default now */
  list(resource: Resource, version = this.#version): StoredObject[] {
    const now = this.#objects.get(resource.name) ?? new Map<string, StoredObject>();
    if (version >= this.#version) return this.#keys(resource).map((key) => now.get(key)!);
    const then = new Map(now);
    for (const { previous, object } of this.changesAfter(version).reverse()) {
      if (object.resource !== resource) continue;
      if (previous === undefined) then.delete(object.key);
      else then.set(object.key, previous);
    }
    return [...then.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Oldest first; complete when `version` is not below `watchFloor`. */
  changesAfter(version: number): Change[] {
    let low = 0;
    let high = this.#history.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#history[middle].version <= version) low = middle + 1;
      else high = middle;
    }
    return this.#history.slice(low);
  }

  /** Calls `listener` with each write, in order; the result ends that. */
  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Moves the counter, as writes to other resources do. */
  skipVersions(count: number): void {
    this.#version += count;
  }

  /** Forgets the history. */
  compact(): void {
    this.#history = [];
    this.#compacted = this.#version;
    this.#watchFloor = this.#version;
  }

  /** Forgets what watches can resume from, as a restart of the API server does: its cache starts with a list. */
  forgetWatchCache(): void {
    this.#watchFloor = this.#version;
  }

  backup(): Backup {
    const objects = new Map(Array.from(this.#objects, ([name, byKey]) => [name, new Map(byKey)]));
    return { version: this.#version, objects };
  }

  /** Everything as it was, the counter too: versions that were given away will be given again. Nobody is told. */
  restore(backup: Backup): void {
    this.#objects = new Map(Array.from(backup.objects, ([name, byKey]) => [name, new Map(byKey)]));
    this.#version = backup.version;
    this.#order.clear();
    this.compact();
  }

  #keys(resource: Resource): readonly string[] {
    const known = this.#order.get(resource.name);
    if (known !== undefined) return known;
    const keys = [...(this.#objects.get(resource.name)?.keys() ?? [])].sort();
    this.#order.set(resource.name, keys);
    return keys;
  }

  #write(change: Change): void {
    const { object } = change;
    const name = object.resource.name;
    const byKey = this.#objects.get(name) ?? new Map<string, StoredObject>();
    this.#objects.set(name, byKey);
    if (change.type === 'DELETED') byKey.delete(object.key);
    else byKey.set(object.key, object);
    this.#version = change.version;
    this.#history.push(change);
    if (this.#history.length > this.#historyLimit * 1.25) this.#trim();
    for (const listener of this.#listeners) listener(change);
  }

  #trim(): void {
    const dropped = this.#history.splice(0, this.#history.length - this.#historyLimit);
    const last = dropped[dropped.length - 1].version;
    this.#compacted = Math.max(this.#compacted, last);
    this.#watchFloor = Math.max(this.#watchFloor, last);
  }
}
