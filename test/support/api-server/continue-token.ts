// The token that asks for the next page of a list: the version of the list, and the key after which to go on.

import { asObject } from './api-object.js';
import { badRequest } from './failures.js';

export interface ContinueToken {
  /** -1: whatever is there now, for the rest of a list whose version is gone. */
  readonly version: number;
  readonly after: string;
}

/** Base64 without padding of JSON, as etcd's storage layer makes it. */
export function formatContinue({ version, after }: ContinueToken): string {
  const token = { v: 'meta.k8s.io/v1', rv: version, start: `${after}\u0000` };
  return Buffer.from(JSON.stringify(token)).toString('base64url');
}

/** Throws ApiFailure (400). */
export function parseContinue(text: string): ContinueToken {
  const json = Buffer.from(text, 'base64url').toString('latin1');
  const bad = (): Error => {
    const why = `invalid character '${json.slice(0, 1)}' looking for beginning of value`;
    return badRequest(`invalid continue token: continue key is not valid: ${why}`);
  };
  let token: unknown;
  try {
    token = JSON.parse(json);
  } catch {
    throw bad();
  }
  const { rv, start } = asObject(token) ?? {};
  if (typeof rv !== 'number' || typeof start !== 'string') throw bad();
  return { version: rv, after: start.replace(/\u0000$/, '') };
}
