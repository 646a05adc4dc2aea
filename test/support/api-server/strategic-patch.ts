// Strategic merge patch: as a JSON merge patch, but lists that have a merge key are merged by it.
//
// Which lists those are is said by the resource. `$patch: delete` in an entry removes it, `$patch: replace` in a map
// takes the patch for the whole; `$setElementOrder/…`, which says an order, is passed over.

import { type ApiObject, asObject, objectAt } from './api-object.js';
import { type Cause, invalid } from './failures.js';
import type { Resource } from './resources.js';

/** `target` with `patch` applied; neither is changed. Throws ApiFailure (422) for an annotation that is no text. */
export function applyStrategicPatch(resource: Resource, target: ApiObject, patch: ApiObject): ApiObject {
  const metadata = objectAt(patch, 'metadata');
  for (const map of [metadata.annotations, metadata.labels]) {
    const wrong = Object.values(asObject(map) ?? {}).find(
      (value) => typeof value !== 'string' && value !== null,
    );
    if (wrong !== undefined) throw wrongType(patch, wrong);
  }
  return mergeMap(resource, '', target, patch);
}

function wrongType(patch: ApiObject, value: unknown): Error {
  const why = Number.isInteger(value) ? 'cannot convert int64 to string' : 'unrecognized type: string';
  const message = `Invalid value: "${formatGo(patch)}": ${why}`;
  const cause: Cause = { reason: 'FieldValueInvalid', message, field: 'patch' };
  return invalid('', '', cause);
}

function mergeMap(resource: Resource, path: string, target: ApiObject, patch: ApiObject): ApiObject {
  const { $patch: directive, ...changes } = patch;
  const result: Record<string, unknown> = directive === 'replace' ? {} : { ...target };
  for (const [key, value] of Object.entries(changes)) {
    if (key.startsWith('$')) continue;
    const at = path === '' ? key : `${path}.${key}`;
    if (value === null) delete result[key];
    else result[key] = mergeValue(resource, at, result[key], value);
  }
  return result;
}

function mergeValue(resource: Resource, path: string, old: unknown, value: unknown): unknown {
  const map = asObject(value);
  if (map !== undefined) return mergeMap(resource, path, asObject(old) ?? {}, map);
  const mergeKey = resource.mergeKeys[path] as string | undefined;
  if (!Array.isArray(value) || mergeKey === undefined) return value;
  const entries: readonly unknown[] = value;
  const before: readonly unknown[] = Array.isArray(old) ? old : [];
  if (mergeKey === '') return [...new Set([...before, ...entries])];
  return mergeList(resource, path, mergeKey, before, entries);
}

/**
 * Entries of the patch come in its order, before those that only the target has, unless the target had that one before
 * this one.
 */
function mergeList(
  resource: Resource,
  path: string,
  mergeKey: string,
  before: readonly unknown[],
  patch: readonly unknown[],
): unknown[] {
  const keyOf = (entry: unknown): unknown => asObject(entry)?.[mergeKey];
  const old = new Map(before.map((entry, i) => [keyOf(entry), { entry, i }]));
  const changed = patch.map((entry) => ({ key: keyOf(entry), entry: asObject(entry) ?? {} }));
  const isOurs = new Set(changed.map(({ key }) => key));
  const others = before.filter((entry) => !isOurs.has(keyOf(entry)));
  const merged: unknown[] = [];
  for (const { key, entry } of changed) {
    const place = old.get(key);
    while (others.length > 0 && place !== undefined && (old.get(keyOf(others[0]))?.i ?? 0) < place.i)
      merged.push(others.shift());
    if (entry.$patch === 'delete') continue;
    merged.push(mergeMap(resource, path, asObject(place?.entry) ?? {}, entry));
  }
  return [...merged, ...others];
}

/** As Go prints a map with %v: keys in order, nothing quoted. */
function formatGo(value: unknown): string {
  if (value === null || value === undefined) return '<nil>';
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) return `[${value.map(formatGo).join(' ')}]`;
  const map = asObject(value);
  if (map === undefined) return JSON.stringify(value);
  const keys = Object.keys(map).sort();
  return `map[${keys.map((key) => `${key}:${formatGo(map[key])}`).join(' ')}]`;
}
