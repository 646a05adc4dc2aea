// Imports run downward only, without a circle, and every arrow of the table is in use; pure layers read no clock.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  findCircles,
  findForbidden,
  findImpure,
  findKinships,
  findLoaders,
  findUnused,
  findUpward,
  type Sources,
} from './layer-rules.js';
import { LAYERS } from './layers.js';

const ROOT = new URL('../../', import.meta.url).pathname;

const files = ['src', 'bench', 'test'].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name)),
);
const sources: Sources = new Map(files.map((file) => [file, readFileSync(join(ROOT, file), 'utf8')]));

const RULES: readonly [string, readonly string[]][] = [
  ['every import goes down', findForbidden(sources, LAYERS)],
  ['every arrow of the table is in use', findUnused(sources, LAYERS)],
  ['the table has no arrow upward', findUpward(LAYERS)],
  ['no file imports itself by way of others', findCircles(sources)],
  ['modes and stores do not import each other', findKinships(sources)],
  ['net, config and lease are pure', findImpure(sources)],
];

for (const [rule, broken] of RULES) {
  t.test(rule, (t) => {
    t.same(broken, []);
    t.end();
  });
}

t.test('only src/native/native.ts loads the addon', (t) => {
  t.same(findLoaders(sources), ['src/native/native.ts']);
  t.end();
});
