// As much of JSON Schema as docs/status.schema.json uses.

export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly $defs?: Readonly<Record<string, Schema>>;
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

/** What of `value` is not as `schema` says; `root` has the definitions. */
export function violations(value: unknown, schema: Schema, root: Schema, at = '$'): string[] {
  if (schema.$ref !== undefined)
    return violations(value, root.$defs![schema.$ref.replace('#/$defs/', '')], root, at);
  const found: string[] = [];
  const type = typeOf(value);
  const types = schema.type === undefined ? [type] : [schema.type].flat();
  if (!types.includes(type) && !(type === 'integer' && types.includes('number')))
    found.push(`${at} is ${type}, not ${types.join(' or ')}`);
  if (schema.enum !== undefined && !schema.enum.includes(value)) found.push(`${at} is ${String(value)}`);
  if (Array.isArray(value) && schema.items !== undefined)
    value.forEach((item, i) => found.push(...violations(item, schema.items!, root, `${at}[${i}]`)));
  if (type !== 'object') return found;
  const members = value as Readonly<Record<string, unknown>>;
  for (const name of schema.required ?? []) if (!(name in members)) found.push(`${at}.${name} is missing`);
  for (const [name, member] of Object.entries(members)) {
    const inner = schema.properties?.[name] ?? schema.additionalProperties;
    if (inner !== undefined) found.push(...violations(member, inner, root, `${at}.${name}`));
  }
  return found;
}
