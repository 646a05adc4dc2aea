// Imports run one way, and only the data path loads the addon.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';

const SRC = new URL('../../src/', import.meta.url).pathname;

/** What each unit may import besides itself. A unit is a folder of src, a file of src, or a file that is named here. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  net: [],
  errors: [],
  condition: [],
  folder: [],
  delay: [],
  version: [],
  config: ['net', 'errors'],
  lease: ['net', 'config', 'errors'],
  'subnet-file': ['net', 'errors', 'folder'],
  'ops/log-limit': [],
  'ops/log': ['config', 'ops/log-limit'],
  'subnet-file-keeper': ['condition', 'subnet-file', 'ops/log'],
  kernel: ['net', 'config', 'errors', 'condition', 'ops/log'],
  dataplane: ['net', 'config', 'errors'],
  firewall: ['net', 'config', 'errors', 'condition', 'kernel', 'ops/log'],
  backend: [
    'net',
    'config',
    'errors',
    'condition',
    'delay',
    'lease',
    'kernel',
    'dataplane',
    'firewall',
    'ops/log',
  ],
  store: ['net', 'config', 'errors', 'condition', 'folder', 'lease', 'ops/log'],
  ops: ['net', 'config', 'errors', 'condition', 'folder', 'backend', 'ops/log'],
  docker: ['net', 'errors', 'kernel', 'subnet-file'],
  cni: ['net', 'folder'],
  probe: ['net', 'errors'],
  cli: ['*'],
  daemon: ['*'],
  main: ['*'],
};

/** No I/O, no clock, no randomness: nothing of Node but pure values. */
const PURE = ['net', 'config', 'lease'];

function unitOf(path: string): string {
  const name = path.replace(/\.[jt]s$/, '');
  if (name in ALLOWED) return name;
  return name.includes('/') ? name.slice(0, name.indexOf('/')) : name;
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, file), 'utf8');
  return [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]);
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));

t.test('every import goes down', (t) => {
  const wrong: string[] = [];
  for (const file of files) {
    const unit = unitOf(file);
    const allowed = ALLOWED[unit] as readonly string[] | undefined;
    if (allowed === undefined) {
      wrong.push(`${file}: unit ${unit} is not in the table`);
      continue;
    }
    for (const target of importsOf(file).filter((name) => name.startsWith('.'))) {
      const to = unitOf(normalize(join(dirname(file), target)));
      if (to !== unit && !allowed.includes('*') && !allowed.includes(to)) wrong.push(`${file} imports ${to}`);
    }
  }
  t.same(wrong, []);
  t.end();
});

t.test('backends do not import each other', (t) => {
  const modes = ['udp', 'vxlan', 'host-gw'];
  const wrong = files
    .filter((file) => modes.includes(file.replace(/^backend\/(.*)\.ts$/, '$1')))
    .flatMap((file) => importsOf(file).filter((name) => modes.some((mode) => name === `./${mode}.js`)));
  t.same(wrong, []);
  t.end();
});

t.test('net, config and lease are pure', (t) => {
  const wrong = files
    .filter((file) => PURE.includes(unitOf(file)))
    .flatMap((file) =>
      importsOf(file)
        .filter((name) => !name.startsWith('.'))
        .map((name) => `${file} imports ${name}`),
    );
  t.same(wrong, []);
  t.end();
});

t.test('only src/dataplane/native.ts loads the addon', (t) => {
  const loaders = files.filter((file) =>
    /node-gyp-build|\.node\b/.test(readFileSync(join(SRC, file), 'utf8')),
  );
  t.same(loaders, ['dataplane/native.ts']);
  t.end();
});
