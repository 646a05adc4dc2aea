// Reads the keys of a Backend object. Pure.
//
// Keys match as Go's JSON decoder matches them: an exact spelling wins, any other case is taken too, null means absent,
// and keys nobody knows are no error (they are listed, so that a typing error can be shown to the operator).

import { OverlayError } from '../core/errors.js';
import { field } from './go-json.js';

export type RawBackend = Readonly<Record<string, unknown>>;

/** Keys of `backend` that none of `known` spells in any case. */
export function unknownKeys(backend: RawBackend, known: readonly string[]): string[] {
  const folded = new Set(known.map((key) => key.toLowerCase()));
  return Object.keys(backend).filter((key) => !folded.has(key.toLowerCase()));
}

/** An integer within bounds; undefined when the key is absent or null. Throws OverlayError E_CONFIG. */
export function integer(backend: RawBackend, key: string, min: number, max: number): number | undefined {
  const value = field(backend, key);
  if (value === undefined || value === null) return undefined;
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
    throw wrong(key, value, `an integer from ${min} to ${max}`);
  }
  return value as number;
}

/** False when the key is absent or null. Throws OverlayError E_CONFIG. */
export function boolean(backend: RawBackend, key: string): boolean {
  const value = field(backend, key);
  if (value === undefined || value === null) return false;
  if (typeof value !== 'boolean') throw wrong(key, value, 'true or false');
  return value;
}

/** The error to throw for a value that is not as expected. */
export function wrong(key: string, value: unknown, expected: string): OverlayError {
  return new OverlayError('E_CONFIG', `Backend.${key} ${quote(value)}: expected ${expected}`);
}

/** A value of the config as an error shows it. */
export function quote(value: unknown): string {
  return value === undefined ? '(missing)' : JSON.stringify(value);
}
