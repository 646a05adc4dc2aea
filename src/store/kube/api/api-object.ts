// JSON text of the API as an object, or what is wrong with it.

import type { ApiObject } from './client.js';

/** Throws SyntaxError naming `what`; V8's own words quote what it met, and that may be a secret. */
export function parseObject(text: string, what: string): ApiObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new SyntaxError(`${what} is not valid JSON`);
  }
  if (!isObject(value)) throw new SyntaxError(`${what} is no object`);
  return value;
}

/** parseObject() of bytes; what is no UTF-8 in them becomes U+FFFD. */
export type ParseBytes = (bytes: Buffer, what: string) => ApiObject;

export const parseBytes: ParseBytes = (bytes, what) => parseObject(bytes.toString(), what);

/** Whether it is an object, and no array. */
export function isObject(value: unknown): value is ApiObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The member `name` when it is text; "" when it is anything else or not there. */
export function textOf(object: ApiObject, name: string): string {
  const value = object[name];
  return typeof value === 'string' ? value : '';
}
