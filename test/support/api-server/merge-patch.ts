// JSON merge patch (RFC 7386): a map is merged, null removes a key, anything else replaces, a list too.

import { type ApiObject, asObject } from './api-object.js';

/** `target` with `patch` applied; neither is changed. */
export function applyMergePatch(target: ApiObject, patch: ApiObject): ApiObject {
  const result: Record<string, unknown> = { ...target };
  for (const [key, value] of Object.entries(patch)) {
    const map = asObject(value);
    if (value === null) delete result[key];
    else result[key] = map === undefined ? value : applyMergePatch(asObject(target[key]) ?? {}, map);
  }
  return result;
}
