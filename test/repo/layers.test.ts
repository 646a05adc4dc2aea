// Imports run downward only, without a circle, and every arrow of the table is in use; pure layers read no clock.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';
import { ANYTHING, LAYERS, PURE, unitOf } from './layers.js';

const ROOT = new URL('../../', import.meta.url).pathname;

const files = ['src', 'bench', 'test'].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name)),
);
const texts = new Map(files.map((file) => [file, readFileSync(join(ROOT, file), 'utf8')]));

function importsOf(file: string): string[] {
  return [...texts.get(file)!.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]);
}

/** Files of ours that `file` imports. */
function targetsOf(file: string): string[] {
  return importsOf(file)
    .filter((name) => name.startsWith('.'))
    .map((name) => normalize(join(dirname(file), name)).replace(/\.js$/, '.ts'));
}

t.test('every import goes down, and every arrow of the table is used', (t) => {
  const wrong: string[] = [];
  const used = new Set<string>();
  for (const file of files) {
    const unit = unitOf(file);
    if (unit === ANYTHING) continue;
    if (!(unit in LAYERS)) wrong.push(`${file}: unit ${unit} is not in the table`);
    for (const target of targetsOf(file)) {
      const to = unitOf(target);
      if (to === unit) continue;
      used.add(`${unit} → ${to}`);
      if (!(LAYERS[unit] ?? []).includes(to)) wrong.push(`${file} imports ${to}`);
    }
  }
  t.same(wrong, []);
  const unused = Object.entries(LAYERS)
    .flatMap(([unit, allowed]) => allowed.map((to) => `${unit} → ${to}`))
    .filter((arrow) => !used.has(arrow));
  t.same(unused, [], 'arrows that nothing uses');
  t.end();
});

t.test('the table has no arrow upward', (t) => {
  const order = Object.keys(LAYERS);
  const wrong = Object.entries(LAYERS).flatMap(([unit, allowed]) =>
    allowed
      .filter((to) => order.indexOf(to) >= order.indexOf(unit) || !order.includes(to))
      .map((to) => `${unit} → ${to}`),
  );
  t.same(wrong, []);
  t.end();
});

t.test('no file imports itself by way of others', (t) => {
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '));
    if (path.includes(file) || done.has(file)) return;
    for (const target of targetsOf(file)) if (texts.has(target)) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  t.same(circles, []);
  t.end();
});

t.test('bench imports no test but test/support', (t) => {
  const wrong = files
    .filter((file) => ['bench', 'test/support'].includes(unitOf(file)))
    .flatMap((file) =>
      targetsOf(file).filter((to) => ['test', file.startsWith('test') ? 'bench' : ''].includes(unitOf(to))),
    );
  t.same(wrong, []);
  t.end();
});

t.test('modes and stores do not import each other', (t) => {
  const kindOf = (file: string): string | undefined => /^src\/((?:backend|store)\/[^/]+)\//.exec(file)?.[1];
  const wrong = files.flatMap((file) => {
    const kind = kindOf(file);
    if (kind === undefined) return [];
    return targetsOf(file)
      .filter((to) => (kindOf(to) ?? kind) !== kind)
      .map((to) => `${file} imports ${to}`);
  });
  t.same(wrong, []);
  t.end();
});

t.test('net, config and lease are pure', (t) => {
  const impure =
    /\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|\bMath\.random\b|\bset(?:Timeout|Interval|Immediate)\b|\bqueueMicrotask\b|\bprocess\.\w/;
  const wrong: string[] = [];
  for (const file of files.filter((name) => PURE.includes(unitOf(name)))) {
    for (const name of importsOf(file)) if (!name.startsWith('.')) wrong.push(`${file} imports ${name}`);
    const found = impure.exec(texts.get(file)!.replace(/\/\/.*|\/\*[^]*?\*\//g, ''));
    if (found !== null) wrong.push(`${file} uses ${found[0]}`);
  }
  t.same(wrong, []);
  t.end();
});

t.test('only src/native/native.ts loads the addon', (t) => {
  const loaders = files.filter(
    (file) => file.startsWith('src/') && /node-gyp-build|\.node\b/.test(texts.get(file)!),
  );
  t.same(loaders, ['src/native/native.ts']);
  t.end();
});
