// The status document for operators: each field with its type and meaning, from the types of src/ops/status.ts.

import { join } from 'node:path';
import ts from 'typescript';

const ROOT = new URL('../../', import.meta.url).pathname;
const SOURCE = join(ROOT, 'src/ops/status.ts');

interface Row {
  readonly types: Set<string>;
  readonly meanings: Set<string>;
}

/**
 * A table of all fields; a list is `name[]`, and what only some kinds of store, backend or state have is told apart.
 */
export function statusMarkdown(): string {
  const options = { strict: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext };
  const program = ts.createProgram([SOURCE], { ...options, types: [] });
  const checker = program.getTypeChecker();
  const file = program.getSourceFile(SOURCE)!;
  const root = checker
    .getExportsOfModule(checker.getSymbolAtLocation(file)!)
    .find(({ name }) => name === 'StatusDocument')!;
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
      const meaning = ts.displayPartsToString(field.getDocumentationComment(checker));
      if (meaning !== '') row.meanings.add(meaning.replace(/\s+/g, ' '));
      if (!visit(fieldType, at)) for (const name of namesOf(checker, fieldType)) row.types.add(name);
    }
    return fields.length > 0;
  };
  visit(checker.getDeclaredTypeOfSymbol(root), '');

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
