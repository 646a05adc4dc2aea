// Kubernetes objects as files of this repository have them: read from YAML, and compared with what the API publishes.
//
// The API's OpenAPI document is taken in the form of the types that kubernetes-types made of it: the compiler then says
// of a literal which field is unknown, missing or of another type, and where. What a type cannot say (which volume a
// mount names, which text is a quantity) is asked by the tests, or of a real server.

import { join } from 'node:path';
import ts from 'typescript';
import { parseAllDocuments } from 'yaml';

const ROOT = new URL('../..', import.meta.url).pathname;

/** One object, of a kind in MODULES. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** Where kubernetes-types has the kinds that we ship, and those that the daemon writes. */
const MODULES: Readonly<Record<string, string>> = {
  'v1 Node': 'core/v1',
  'v1 Event': 'core/v1',
  'v1 Namespace': 'core/v1',
  'v1 ServiceAccount': 'core/v1',
  'v1 ConfigMap': 'core/v1',
  'apps/v1 DaemonSet': 'apps/v1',
  'rbac.authorization.k8s.io/v1 ClusterRole': 'rbac/v1',
  'rbac.authorization.k8s.io/v1 ClusterRoleBinding': 'rbac/v1',
  'rbac.authorization.k8s.io/v1 Role': 'rbac/v1',
  'rbac.authorization.k8s.io/v1 RoleBinding': 'rbac/v1',
};

/** The documents of a YAML text. Throws what is wrong with it, a key that stands twice included. */
export function parseObjects(text: string): KubeObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    for (const problem of [...document.errors, ...document.warnings]) throw problem;
    const object = document.toJS() as KubeObject | null;
    return object === null ? [] : [object];
  });
}

/** What of the objects is not as the API's schema has it, a line each. Takes a second the first time. */
export function schemaViolations(objects: readonly KubeObject[]): string[] {
  const lines = objects.map((object, i) => {
    const kind = `${object.apiVersion} ${object.kind}`;
    const module = MODULES[kind];
    if (module === undefined) return `export const unknown${i}: never = ${JSON.stringify(kind)};`;
    const type = `import('kubernetes-types/${module}').${object.kind}`;
    return `export const object${i}: Whole<${type}> = ${JSON.stringify(object, undefined, 1)};`;
  });
  // The types let these be absent, for an object that is on its way to the server in other words.
  lines.unshift(`type Whole<T> = T & Required<Pick<T, keyof T & ('apiVersion' | 'kind' | 'metadata')>>;`);
  return compile(lines.join('\n'));
}

/** Declarations are the same for every module. */
const PARSED = new Map<string, ts.SourceFile | undefined>();

function parsedFile(
  disk: ts.CompilerHost,
  name: string,
  version: ts.ScriptTarget | ts.CreateSourceFileOptions,
): ts.SourceFile | undefined {
  if (!PARSED.has(name)) PARSED.set(name, disk.getSourceFile(name, version));
  return PARSED.get(name);
}

/** What the compiler says of a module that lies in the root of the repository. */
function compile(text: string): string[] {
  const file = join(ROOT, 'kube-objects-of-a-test.ts');
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2022.d.ts'],
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
  };
  const disk = ts.createCompilerHost(options);
  const host: ts.CompilerHost = {
    ...disk,
    getSourceFile: (name, version) =>
      name === file ? ts.createSourceFile(name, text, version) : parsedFile(disk, name, version),
    readFile: (name) => (name === file ? text : disk.readFile(name)),
    fileExists: (name) => name === file || disk.fileExists(name),
  };
  const lines = text.split('\n');
  return ts.getPreEmitDiagnostics(ts.createProgram([file], options, host)).map((found) => {
    const at = found.file?.getLineAndCharacterOfPosition(found.start ?? 0).line ?? 0;
    return `${lines[at].trim()} ${ts.flattenDiagnosticMessageText(found.messageText, ' ')}`;
  });
}
