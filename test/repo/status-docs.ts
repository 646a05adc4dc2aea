// The status document for operators, from the types of src/ops/status.ts: a table of each field with its type and
// meaning, and a JSON Schema.

import { join } from 'node:path';
import ts from 'typescript';
import type { Schema } from '../support/json-schema.js';

const ROOT = new URL('../../', import.meta.url).pathname;
const SOURCE = join(ROOT, 'src/ops/status.ts');

/** The type of the document, and what knows of its fields. */
interface Source {
  readonly checker: ts.TypeChecker;
  readonly document: ts.Type;
}

let source: Source | undefined;

function readSource(): Source {
  if (source !== undefined) return source;
  const options = { strict: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext };
  const program = ts.createProgram([SOURCE], { ...options, types: [] });
  const checker = program.getTypeChecker();
  const file = program.getSourceFile(SOURCE)!;
  const root = checker
    .getExportsOfModule(checker.getSymbolAtLocation(file)!)
    .find(({ name }) => name === 'StatusDocument')!;
  return (source = { checker, document: checker.getDeclaredTypeOfSymbol(root) });
}

interface Row {
  readonly types: Set<string>;
  readonly meanings: Set<string>;
}

/**
 * A table of all fields; a list is `name[]`, and what only some kinds of store, backend or state have is told apart.
 */
export function statusMarkdown(): string {
  const { checker, document } = readSource();
  const rows = new Map<string, Row>();

  const visit = (type: ts.Type, path: string): boolean => {
    const element = checker.isArrayType(type)
      ? checker.getTypeArguments(type as ts.TypeReference)[0]
      : undefined;
    if (element !== undefined) return visit(element, `${path}[]`);
    if (type.isUnion()) {
      const objects = type.types.filter(isObject);
      return objects.length > 0 && objects.map((one) => visit(one, path)).includes(true);
    }
    if (!isObject(type)) return false;
    const fields = checker.getPropertiesOfType(type);
    for (const field of fields) {
      const fieldType = checker.getTypeOfSymbol(field);
      const at = path === '' ? field.name : `${path}.${field.name}`;
      // The place in the table comes before that of the fields inside.
      const row = rows.get(at) ?? { types: new Set<string>(), meanings: new Set<string>() };
      rows.set(at, row);
      const meaning = docOf(checker, field);
      if (meaning !== '') row.meanings.add(meaning);
      if (!visit(fieldType, at)) for (const name of namesOf(checker, fieldType)) row.types.add(name);
    }
    return fields.length > 0;
  };
  visit(document, '');

  const lines = [...rows].map(([path, { types, meanings }]) => {
    const [values, meaning] = [[...types].join(', '), [...meanings].join(' ')].map((cell) =>
      cell.replaceAll('|', '\\|'),
    );
    return `| \`${path}\` | ${values} | ${meaning} |`;
  });
  return ['| field | values | meaning |', '| --- | --- | --- |', ...lines].join('\n');
}

/** Whether the fields of a type are to be shown: of our own interfaces, not of maps. */
function isObject(type: ts.Type): boolean {
  return (type.flags & (ts.TypeFlags.Object | ts.TypeFlags.Intersection)) !== 0;
}

function namesOf(checker: ts.TypeChecker, type: ts.Type): string[] {
  const types = type.isUnion() ? type.types : [type];
  const names = types
    .filter(({ flags }) => (flags & ts.TypeFlags.Undefined) === 0)
    .map((one) => checker.typeToString(one, undefined, ts.TypeFormatFlags.NoTruncation));
  // A list of codes has a table of its own elsewhere.
  if (names.length > 16) return ['string'];
  const shown = names.map((name) =>
    name
      .replaceAll('"', '`')
      .replace(/^(?:true|false)$/, 'boolean')
      .replace(/^readonly (.*)\[\]$/, 'list of $1')
      .replace(/^Readonly<Record<string, (.*)>>$/, 'map to $1'),
  );
  return [...new Set(shown)];
}

/** A JSON Schema of the document. A type with a name is a definition: ConditionStatus is `#/$defs/condition`. */
export function statusSchema(): Schema {
  const { checker, document } = readSource();
  const definitions = new Map<string, Schema>();
  const root = new SchemaWriter(checker, definitions).objectOf(document);
  const what = docOf(checker, document.symbol);
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'twill /status',
    description: `${what} \`twill peers --json\` is an array of #/$defs/peer. More fields may come.`,
    ...root,
    $defs: Object.fromEntries(definitions),
  };
}

class SchemaWriter {
  readonly #checker: ts.TypeChecker;
  readonly #definitions: Map<string, Schema>;

  constructor(checker: ts.TypeChecker, definitions: Map<string, Schema>) {
    this.#checker = checker;
    this.#definitions = definitions;
  }

  /** Of the fields of one type, without a reference. */
  objectOf(type: ts.Type): Schema {
    const fields = this.#checker.getPropertiesOfType(type);
    const required = fields.filter(({ flags }) => (flags & ts.SymbolFlags.Optional) === 0);
    const properties = Object.fromEntries(fields.map((field) => [field.name, this.#fieldOf(field)]));
    return { type: 'object', required: required.map(({ name }) => name), properties };
  }

  #fieldOf(field: ts.Symbol): Schema {
    const isFraction = field.getJsDocTags().some(({ name }) => name === 'fraction');
    const description = docOf(this.#checker, field);
    const schema = this.#schemaOf(this.#checker.getTypeOfSymbol(field), isFraction ? 'number' : 'integer');
    return description === '' ? schema : { description, ...schema };
  }

  #schemaOf(type: ts.Type, numeric: 'integer' | 'number'): Schema {
    const members = (type.isUnion() ? type.types : [type]).filter(isPresent);
    // A field of this type must not be there.
    if (members.length === 0) return { not: {} };
    const objects = members.filter(isObject);
    if (objects.length === 0) return this.#scalarOf(members, numeric);
    const rest = members.filter((member) => !isObject(member));
    const found = objects.length === 1 ? this.#compoundOf(objects[0], numeric) : this.#unionOf(type, objects);
    return rest.length === 0 ? found : { anyOf: [found, this.#scalarOf(rest, numeric)] };
  }

  #scalarOf(types: readonly ts.Type[], numeric: 'integer' | 'number'): Schema {
    const values = types.flatMap((one) =>
      one.isStringLiteral() || one.isNumberLiteral() ? [one.value] : [],
    );
    if (values.length === types.length) return values.length === 1 ? { const: values[0] } : { enum: values };
    const names = types.map((one) => {
      if ((one.flags & ts.TypeFlags.BooleanLike) !== 0) return 'boolean';
      const name = this.#checker.typeToString(one);
      if (name !== 'string' && name !== 'null' && name !== 'number')
        throw new Error(`the schema has no word for ${name}`);
      return name === 'number' ? numeric : name;
    });
    const distinct = [...new Set(names)];
    return { type: distinct.length === 1 ? distinct[0] : distinct };
  }

  /** A list, a map, or a type with fields. */
  #compoundOf(type: ts.Type, numeric: 'integer' | 'number'): Schema {
    if (this.#checker.isArrayType(type)) {
      const [element] = this.#checker.getTypeArguments(type as ts.TypeReference);
      return { type: 'array', items: this.#schemaOf(element, numeric) };
    }
    const values = this.#checker.getIndexInfoOfType(type, ts.IndexKind.String)?.type;
    if (values !== undefined)
      return { type: 'object', additionalProperties: this.#schemaOf(values, numeric) };
    return this.#define(type, () => this.objectOf(type));
  }

  #unionOf(type: ts.Type, members: readonly ts.Type[]): Schema {
    const areNamed = members.every((member) => definitionOf(member) !== undefined);
    return this.#define(type, () =>
      areNamed
        ? { anyOf: members.map((member) => this.#compoundOf(member, 'integer')) }
        : sharedFirst(members.map((member) => this.objectOf(member))),
    );
  }

  #define(type: ts.Type, write: () => Schema): Schema {
    const name = definitionOf(type);
    if (name === undefined) return write();
    if (!this.#definitions.has(name)) {
      this.#definitions.set(name, {}); // The place comes before that of the types inside.
      const description = docOf(this.#checker, type.aliasSymbol ?? type.symbol);
      this.#definitions.set(name, description === '' ? write() : { description, ...write() });
    }
    return { $ref: `#/$defs/${name}` };
  }
}

/** What all members say is said once; only what tells them apart stays in `anyOf`. */
function sharedFirst(members: readonly Schema[]): Schema {
  const isShared = (name: string): boolean =>
    new Set(members.map(({ properties }) => JSON.stringify(properties![name]))).size === 1;
  const isAlwaysRequired = (name: string): boolean =>
    members.every(({ required }) => required!.includes(name));
  const part = ({ required, properties }: Schema, shared: boolean): Schema => ({
    required: required!.filter((name) => isAlwaysRequired(name) === shared),
    properties: Object.fromEntries(Object.entries(properties!).filter(([name]) => isShared(name) === shared)),
  });
  return {
    type: 'object',
    ...part(members[0], true),
    anyOf: members.map((member) => part(member, false)),
  };
}

function docOf(checker: ts.TypeChecker, symbol: ts.Symbol): string {
  return ts.displayPartsToString(symbol.getDocumentationComment(checker)).replace(/\s+/g, ' ').trim();
}

/** PeerStatus is `peer`; undefined for a type without a name of its own. */
function definitionOf({ aliasSymbol, symbol }: ts.Type): string | undefined {
  // The compiler gives a type made of others no symbol, though it declares one.
  const named: ts.Symbol | undefined = aliasSymbol ?? symbol;
  if (named === undefined || named.name.startsWith('__')) return undefined;
  const { name } = named;
  return name[0].toLowerCase() + name.slice(1).replace(/Status$/, '');
}

function isPresent({ flags }: ts.Type): boolean {
  return (flags & ts.TypeFlags.Undefined) === 0;
}
