// The rules of the layers, each as a function from sources to what breaks it, in words. layers.test.ts runs them over
// the repository, layer-rules.test.ts over samples that break them.

import { dirname, join, normalize } from 'node:path';
import ts from 'typescript';
import { PURE, TESTS, unitOf } from './layers.js';

/** Text of each file, by its path from the root of the repository. */
export type Sources = ReadonlyMap<string, string>;

/** What each unit may import besides itself. */
export type Layers = Readonly<Record<string, readonly string[]>>;

/** Everything a file imports, as it is written there; imports of types and at run time too. */
function importsOf(text: string): string[] {
  return ts.preProcessFile(text).importedFiles.map(({ fileName }) => fileName);
}

/** Files of ours that `file` imports. */
function targetsOf(sources: Sources, file: string): string[] {
  return importsOf(sources.get(file)!)
    .filter((name) => name.startsWith('.'))
    .map((name) => normalize(join(dirname(file), name)).replace(/\.js$/, '.ts'));
}

/** Imports between units that the table does not allow, and units that it does not know. */
export function findForbidden(sources: Sources, layers: Layers): string[] {
  const wrong: string[] = [];
  for (const file of sources.keys()) {
    const unit = unitOf(file);
    if (unit !== TESTS && !(unit in layers)) wrong.push(`${file}: unit ${unit} is not in the table`);
    for (const target of targetsOf(sources, file)) {
      const to = unitOf(target);
      if (to === unit) continue;
      const isAllowed = unit === TESTS ? to !== 'bench' || isBesideIt(file) : layers[unit]?.includes(to);
      if (!isAllowed) wrong.push(`${file} imports ${to}`);
    }
  }
  return wrong;
}

/** The tests of the benchmarks' own code lie beside it. */
function isBesideIt(file: string): boolean {
  return file.startsWith('bench/');
}

/** Arrows of the table that no import needs. */
export function findUnused(sources: Sources, layers: Layers): string[] {
  const used = new Set<string>();
  for (const file of sources.keys()) {
    for (const target of targetsOf(sources, file)) used.add(`${unitOf(file)} → ${unitOf(target)}`);
  }
  return arrowsOf(layers).flatMap(([unit, to]) => (used.has(`${unit} → ${to}`) ? [] : [`${unit} → ${to}`]));
}

/** Arrows of the table that lead to a unit which stands above, or nowhere; the bottom of the table is first. */
export function findUpward(layers: Layers): string[] {
  const order = Object.keys(layers);
  return arrowsOf(layers)
    .filter(([unit, to]) => !order.includes(to) || order.indexOf(to) >= order.indexOf(unit))
    .map(([unit, to]) => `${unit} → ${to}`);
}

function arrowsOf(layers: Layers): [string, string][] {
  return Object.entries(layers).flatMap(([unit, allowed]) =>
    allowed.map((to): [string, string] => [unit, to]),
  );
}

/** Files that import themselves by way of others. */
export function findCircles(sources: Sources): string[] {
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '));
    if (path.includes(file) || done.has(file)) return;
    for (const target of targetsOf(sources, file)) if (sources.has(target)) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of sources.keys()) visit(file, []);
  return circles;
}

/** Modes of the overlay, or kinds of stores, that import another. */
export function findKinships(sources: Sources): string[] {
  const kindOf = (file: string): string | undefined => /^src\/((?:backend|store)\/[^/]+)\//.exec(file)?.[1];
  const wrong: string[] = [];
  for (const file of sources.keys()) {
    const kind = kindOf(file);
    if (kind === undefined) continue;
    for (const target of targetsOf(sources, file)) {
      if ((kindOf(target) ?? kind) !== kind) wrong.push(`${file} imports ${target}`);
    }
  }
  return wrong;
}

/** What the world gives to a program: each of these makes a value depend on when, where or how often it is made. */
const IMPURE_NAMES: ReadonlySet<string> = new Set([
  ...['performance', 'crypto', 'process', 'console', 'fetch', 'globalThis', 'require'],
  ...['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'],
]);

/** Clocks, randomness, timers and imports from outside in the pure layers. */
export function findImpure(sources: Sources): string[] {
  const wrong: string[] = [];
  for (const [file, text] of sources) {
    if (!PURE.includes(unitOf(file))) continue;
    for (const name of importsOf(text)) if (!name.startsWith('.')) wrong.push(`${file} imports ${name}`);
    const visit = (node: ts.Node): void => {
      const found = impurityOf(node);
      if (found !== undefined) wrong.push(`${file} uses ${found}`);
      ts.forEachChild(node, visit);
    };
    visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true));
  }
  return wrong;
}

function impurityOf(node: ts.Node): string | undefined {
  if (ts.isNewExpression(node) && node.expression.getText() === 'Date' && !node.arguments?.length)
    return 'new Date()';
  if (ts.isCallExpression(node) && node.expression.getText() === 'Date') return 'Date()';
  if (ts.isPropertyAccessExpression(node) && ['Date.now', 'Math.random'].includes(node.getText()))
    return node.getText();
  if (!ts.isIdentifier(node) || !IMPURE_NAMES.has(node.text)) return undefined;
  const { parent } = node;
  // Something of that name which is a member, not the global.
  const isMember =
    (ts.isPropertyAccessExpression(parent) || ts.isPropertyAssignment(parent) || ts.isTypeElement(parent)) &&
    parent.name === node;
  return isMember ? undefined : node.text;
}

/** Files of src that can load the addon: they name it as a file, which no property ends like. */
export function findLoaders(sources: Sources): string[] {
  return [...sources.keys()].filter(
    (file) => file.startsWith('src/') && /node-gyp-build|\.node['"`]/.test(sources.get(file)!),
  );
}
