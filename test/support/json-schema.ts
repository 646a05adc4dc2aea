// As much of JSON Schema as docs/status.schema.json uses.

export interface Schema {
  readonly $schema?: string;
  readonly title?: string;
  readonly description?: string;
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly not?: Schema;
  readonly $defs?: Readonly<Record<string, Schema>>;
}

/** What `twill status --json` prints, told from the schema of /status as docs/operations.md tells it. */
export function printedStatus(schema: Schema): Schema {
  return {
    ...schema,
    required: [...schema.required!.filter((name) => name !== 'peers'), 'peerCount'],
    properties: { ...schema.properties, peers: { not: {} }, peerCount: { type: 'integer' } },
  };
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

function resolve(schema: Schema, root: Schema): Schema {
  if (schema.$ref === undefined) return schema;
  const found = root.$defs?.[schema.$ref.replace('#/$defs/', '')];
  if (found === undefined) throw new Error(`the schema has no ${schema.$ref}`);
  return found;
}

/** Whether `value` is of another kind than the schema: its type, or a field with one value only, says so. */
function isOtherKind(value: unknown, schema: Schema, root: Schema): boolean {
  const { type, properties = {} } = resolve(schema, root);
  if (type !== undefined && violations(value, { type }, root).length > 0) return true;
  if (typeOf(value) !== 'object') return false;
  const members = value as Readonly<Record<string, unknown>>;
  return Object.entries(properties).some(
    ([name, { const: only }]) => only !== undefined && members[name] !== only,
  );
}

/** Of the schemas of a union: what is wrong by that which comes closest, nothing when one fits. */
function violationsOfAny(value: unknown, schemas: readonly Schema[], root: Schema, at: string): string[] {
  const tries = schemas.map((schema) => violations(value, schema, root, at));
  if (tries.some(({ length }) => length === 0)) return [];
  const ofKind = tries.filter((_found, i) => !isOtherKind(value, schemas[i], root));
  return (ofKind.length > 0 ? ofKind : tries).reduce((a, b) => (b.length < a.length ? b : a));
}

/** What of `value` is not as `schema` says; `root` has the definitions. */
export function violations(value: unknown, schema: Schema, root: Schema, at = '$'): string[] {
  if (schema.$ref !== undefined) return violations(value, resolve(schema, root), root, at);
  const found: string[] = [];
  const type = typeOf(value);
  const types = schema.type === undefined ? [type] : [schema.type].flat();
  if (!types.includes(type) && !(type === 'integer' && types.includes('number')))
    found.push(`${at} is ${type}, not ${types.join(' or ')}`);
  if (schema.enum !== undefined && !schema.enum.includes(value)) found.push(`${at} is ${String(value)}`);
  if (schema.const !== undefined && schema.const !== value) found.push(`${at} is ${String(value)}`);
  if (schema.not !== undefined && violations(value, schema.not, root, at).length === 0)
    found.push(`${at} must not be there`);
  if (schema.anyOf !== undefined) found.push(...violationsOfAny(value, schema.anyOf, root, at));
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
