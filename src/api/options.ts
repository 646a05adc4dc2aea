// Options of a caller in place of a command line: checked as flags are, with the defaults of the table. Pure.

import type { FlagGroup, ValuesOf } from '../config/flags.js';

/**
 * The values of a group: the given ones, and the flags' defaults for the rest.
 *
 * @throws RangeError for a name that the group does not have, or a value that the flag does not take.
 */
export function valuesOf<G extends FlagGroup>(
  name: string,
  group: G,
  given: Partial<ValuesOf<G>> = {},
): ValuesOf<G> {
  const values: Record<string, unknown> = {};
  for (const [key, flag] of Object.entries(group)) values[key] = flag.otherwise;
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(group, key)) throw new RangeError(`${name} has no option "${key}"`);
    if (value === undefined) continue;
    const { parse, expected, isList } = group[key];
    const texts = isList ? (value as readonly unknown[]).map(String) : [String(value)];
    values[key] = parse(texts);
    if (values[key] === undefined)
      throw new RangeError(`${name}.${key} is ${JSON.stringify(value)}: expected ${expected}`);
  }
  return values as ValuesOf<G>;
}
