// Objects of the API as JSON, and how to look into one whose parts may be of any type.

/** A JSON object of the API. Nothing in it is checked. */
export type ApiObject = Readonly<Record<string, unknown>>;

/** `value` when it is a JSON object; an empty one otherwise. */
export function objectAt(parent: ApiObject, key: string): ApiObject {
  return asObject(parent[key]) ?? {};
}

/** `value` when it is a JSON object, which a list and null are not. */
export function asObject(value: unknown): ApiObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as ApiObject)
    : undefined;
}

/** What stands there when it is a text. */
export function textAt(parent: ApiObject, key: string): string | undefined {
  const value = parent[key];
  return typeof value === 'string' ? value : undefined;
}

/** The texts of a map of labels or annotations. */
export function textsOf(value: unknown): Readonly<Record<string, string>> {
  const texts = Object.entries(asObject(value) ?? {}).filter(([, text]) => typeof text === 'string');
  return Object.fromEntries(texts) as Record<string, string>;
}

/** The same object with its keys sorted, as Go writes a map. */
export function sorted<T>(map: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The same object but for these keys. */
export function without(object: ApiObject, ...keys: readonly string[]): ApiObject {
  return Object.fromEntries(Object.entries(object).filter(([key]) => !keys.includes(key)));
}

/** As the API writes a time: UTC, whole seconds. */
export function formatTime(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, 'Z');
}
