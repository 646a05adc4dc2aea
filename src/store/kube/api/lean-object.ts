// Objects of the API without their status, which of a Node is four fifths of its JSON, and is not even parsed.
//
//   {"type":"MODIFIED","object":{"kind":"Node",…,"metadata":{…},"spec":{…},"status":{…}}}
//   └──────────────────────── parsed, closed by "}}" ────────────────────┘
//
// An API server writes the members of an object in the order of its Go type, status last, and without spaces. The bytes
// `,"status":{` cannot stand within a text, where their quotes would be escaped. If they stand anywhere but where they
// should, what comes before them does not become JSON with these brackets; then, as without them, the whole is parsed.
// What is behind them is not looked at.

import { isObject, parseBytes, type ParseBytes, textOf } from './api-object.js';
import type { ApiObject } from './client.js';

const STATUS = Buffer.from(',"status":{');

/** Of an item of a list. `statusOf`: the name of the one object that is wanted whole. */
export function leanItem(statusOf: string): ParseBytes {
  return (bytes, what) => {
    const lean = withoutStatus(bytes, '}');
    return lean === undefined || nameOf(lean) === statusOf ? parseBytes(bytes, what) : lean;
  };
}

/** Of a line of a watch. */
export function leanEvent(statusOf: string): ParseBytes {
  return (bytes, what) => {
    const lean = withoutStatus(bytes, '}}');
    const isWhole = lean === undefined || lean['type'] === 'ERROR' || nameOf(lean['object']) === statusOf;
    return isWhole ? parseBytes(bytes, what) : lean;
  };
}

function withoutStatus(bytes: Buffer, closing: string): ApiObject | undefined {
  const at = bytes.indexOf(STATUS);
  if (at === -1) return undefined;
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8', 0, at) + closing);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function nameOf(object: unknown): string {
  const metadata = isObject(object) ? object['metadata'] : undefined;
  return isObject(metadata) ? textOf(metadata, 'name') : '';
}
