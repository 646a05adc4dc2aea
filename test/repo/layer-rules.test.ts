// Each rule of the layers can fail: samples that break one, and the closest that do not.

import t from 'tap';
import {
  findCircles,
  findForbidden,
  findImpure,
  findKinships,
  findLoaders,
  findUnused,
  findUpward,
  type Layers,
  type Sources,
} from './layer-rules.js';

const LAYERS: Layers = {
  core: [],
  net: [],
  backend: ['core', 'net'],
  'test/support': ['core'],
  bench: ['core', 'test/support'],
};

function sourcesOf(texts: Readonly<Record<string, string>>): Sources {
  return new Map(Object.entries(texts));
}

t.test('findForbidden()', (t) => {
  const check = (texts: Readonly<Record<string, string>>, expected: readonly string[]): void =>
    void t.same(findForbidden(sourcesOf(texts), LAYERS), expected);
  check({ 'src/backend/a.ts': `import { x } from '../core/x.js';` }, []);
  check({ 'src/core/a.ts': `import { x } from '../core/x.js';` }, []);
  check({ 'src/core/a.ts': `import { x } from '../net/x.js';` }, ['src/core/a.ts imports net']);
  check({ 'src/core/a.ts': `import type { X } from '../net/x.js';` }, ['src/core/a.ts imports net']);
  check({ 'src/core/a.ts': `export * from '../net/x.js';` }, ['src/core/a.ts imports net']);
  check({ 'src/core/a.ts': `const x = await import('../net/x.js');` }, ['src/core/a.ts imports net']);
  check({ 'src/core/a.ts': `// import { x } from '../net/x.js';` }, []);
  check({ 'src/new/a.ts': '' }, ['src/new/a.ts: unit new is not in the table']);
  check({ 'test/support/a.ts': `import { x } from '../../bench/x.js';` }, [
    'test/support/a.ts imports bench',
  ]);
  check({ 'test/support/a.ts': `import { x } from '../unit/x.js';` }, ['test/support/a.ts imports test']);
  check({ 'bench/a.ts': `import { x } from '../test/support/x.js';` }, []);
  check({ 'bench/a.ts': `import { x } from '../test/lab/x.js';` }, ['bench/a.ts imports test']);
  check({ 'bench/a.ts': `import { x } from './a.test.js';` }, ['bench/a.ts imports test']);
  check({ 'test/unit/a.test.ts': `import { x } from '../../bench/x.js';` }, [
    'test/unit/a.test.ts imports bench',
  ]);
  check({ 'test/unit/a.test.ts': `import { x } from '../../src/net/x.js';` }, []);
  check({ 'bench/a.test.ts': `import { x } from './a.js';` }, []);
  t.end();
});

t.test('findUnused()', (t) => {
  const texts = {
    'src/backend/a.ts': `import { x } from '../core/x.js';\nimport { y } from '../net/y.js';`,
    'test/support/a.ts': `import { x } from '../../src/core/x.js';`,
    'bench/a.ts': `import { x } from '../test/support/a.js';`,
  };
  t.same(findUnused(sourcesOf(texts), LAYERS), ['bench → core']);
  t.end();
});

t.test('findUpward()', (t) => {
  t.same(findUpward(LAYERS), []);
  t.same(findUpward({ core: ['net'], net: ['net', 'nowhere'] }), [
    'core → net',
    'net → net',
    'net → nowhere',
  ]);
  t.end();
});

t.test('findCircles()', (t) => {
  const three = {
    'src/core/a.ts': `import { b } from './b.js';`,
    'src/core/b.ts': `import type { C } from './c.js';`,
    'src/core/c.ts': `export { a } from './a.js';`,
  };
  t.same(findCircles(sourcesOf(three)), ['src/core/a.ts → src/core/b.ts → src/core/c.ts → src/core/a.ts']);
  t.same(findCircles(sourcesOf({ ...three, 'src/core/c.ts': '' })), []);
  t.end();
});

t.test('findKinships()', (t) => {
  const texts = {
    'src/backend/udp/a.ts': `import { x } from '../vxlan/x.js';\nimport { y } from '../backend.js';`,
    'src/store/etcd/a.ts': `import { x } from './x.js';`,
  };
  t.same(findKinships(sourcesOf(texts)), ['src/backend/udp/a.ts imports src/backend/vxlan/x.ts']);
  t.end();
});

t.test('findImpure()', (t) => {
  const check = (text: string, found: string | undefined): void => {
    for (const unit of ['net', 'config', 'lease']) {
      const file = `src/${unit}/a.ts`;
      t.same(findImpure(sourcesOf({ [file]: text })), found === undefined ? [] : [`${file} ${found}`], text);
    }
    t.same(findImpure(sourcesOf({ 'src/core/a.ts': text })), [], 'core is not pure');
  };
  check(`import { readFileSync } from 'node:fs';`, 'imports node:fs');
  check(`import pino from 'pino';`, 'imports pino');
  check('const x = Date.now();', 'uses Date.now');
  check('const x = new Date();', 'uses new Date()');
  check('const x = Date();', 'uses Date()');
  check('const x = performance.now();', 'uses performance');
  check('const x = Math.random();', 'uses Math.random');
  check('crypto.randomUUID();', 'uses crypto');
  check('const later = setTimeout;', 'uses setTimeout');
  check('setInterval(f, 1);', 'uses setInterval');
  check('setImmediate(f);', 'uses setImmediate');
  check('queueMicrotask(f);', 'uses queueMicrotask');
  check(`const x = process.env['A'];`, 'uses process');
  check('console.log(1);', 'uses console');
  check('const x = { setTimeout };', 'uses setTimeout');
  check("// Date.now() is the caller's", undefined);
  check(`const text = 'Date.now()';`, undefined);
  check('const x = new Date(parse(text));', undefined);
  check('const x = clock.performance;', undefined);
  check('type X = { readonly process: string };', undefined);
  check('const x = Math.max(1, 2);', undefined);
  t.end();
});

t.test('findLoaders()', (t) => {
  const loads = {
    'src/cli/a.ts': `const addon = require('./twill.node');`,
    'src/cli/b.ts': 'process.dlopen(module, `${folder}/twill.node`);',
    'src/cli/c.ts': 'import load from "node-gyp-build";',
  };
  const others = {
    'test/a.ts': loads['src/cli/a.ts'],
    'src/cli/d.ts': 'x.nodes; event.node.name; of(event.node);',
  };
  t.same(findLoaders(sourcesOf({ ...loads, ...others })), Object.keys(loads));
  t.end();
});
