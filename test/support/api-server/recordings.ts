// What a real API server was recorded to say (test/fixtures/kube/api), and how it is compared with what the stand-in
// says.

import { readFileSync } from 'node:fs';
import { type ApiObject, asObject } from './api-object.js';

/** Lines of a file of recordings. */
export function readRecordings<T>(name: string): T[] {
  return readFileSync(new URL(`../../fixtures/kube/api/${name}.jsonl`, import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T);
}

const MADE_ANEW = ['uid', 'resourceVersion', 'creationTimestamp'];
const LEFT_OUT = ['daemonEndpoints', 'nodeInfo'];

export interface Comparison {
  /** Fields that are made anew each time, and so are compared by their type. @default uid, version, time */
  readonly madeAnew?: readonly string[];
}

/**
 * An answer and its recording, as far as they can be compared: without managedFields, and without an empty nodeInfo
 * where the recording left it out.
 */
export function comparable(
  said: ApiObject | readonly ApiObject[],
  recorded: unknown,
  { madeAnew = MADE_ANEW }: Comparison = {},
): [unknown, unknown] {
  const leftOut = JSON.stringify(recorded).includes('nodeInfo') ? [] : LEFT_OUT;
  const reduce = (value: unknown, skips: readonly string[]): unknown => {
    if (Array.isArray(value)) return value.map((entry) => reduce(entry, skips));
    const object = asObject(value);
    if (object === undefined) return value;
    const kept = Object.entries(object).filter(([key]) => !skips.includes(key));
    return Object.fromEntries(
      kept.map(([key, inner]) => [
        key,
        madeAnew.includes(key) && inner !== null ? typeof inner : reduce(inner, skips),
      ]),
    );
  };
  return [reduce(said, [...leftOut, 'managedFields']), reduce(recorded, ['managedFields'])];
}
