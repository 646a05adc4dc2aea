// The layers: what each unit may import besides itself, from the bottom up. docs/architecture.md shows the same table,
// written from it by `npm run docs`.

/** A unit is a folder of src, a file of src that is in no folder, `bench`, `test/support` or `test`. */
export const LAYERS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  net: [],
  ops: ['core'],
  config: ['core', 'net'],
  lease: ['net', 'config'],
  native: ['config'],
  dataplane: ['core', 'net', 'config', 'native'],
  handover: ['core', 'native'],
  kernel: ['core', 'net'],
  firewall: ['core', 'net', 'config', 'kernel'],
  cleanup: ['core', 'net', 'kernel', 'firewall'],
  programmer: ['core', 'net', 'lease', 'kernel', 'ops'],
  backend: [
    'core',
    'net',
    'config',
    'lease',
    'native',
    'dataplane',
    'handover',
    'kernel',
    'firewall',
    'cleanup',
    'programmer',
    'ops',
  ],
  store: ['core', 'net', 'config', 'lease', 'ops'],
  probe: ['core', 'net', 'ops'],
  overlay: [
    'core',
    'net',
    'ops',
    'config',
    'lease',
    'native',
    'handover',
    'kernel',
    'firewall',
    'backend',
    'store',
    'probe',
  ],
  cni: [],
  docker: ['core', 'net', 'kernel'],
  cli: [
    'core',
    'net',
    'config',
    'lease',
    'native',
    'kernel',
    'firewall',
    'cleanup',
    'backend',
    'store',

    'overlay',
    'ops',
  ],
  daemon: [
    'core',
    'net',
    'ops',
    'config',
    'native',
    'dataplane',
    'handover',
    'kernel',
    'backend',
    'store',
    'overlay',
  ],
  main: ['core', 'config', 'native', 'handover', 'daemon'],
  api: ['core', 'net', 'config', 'native', 'dataplane', 'store', 'ops', 'overlay'],
  'test/support': [
    'core',
    'net',
    'config',
    'lease',
    'handover',
    'kernel',
    'firewall',
    'cleanup',
    'backend',
    'store',
    'overlay',
    'ops',
  ],
  bench: ['core', 'net', 'config', 'lease', 'dataplane', 'store', 'test/support'],
};

/** What imports whatever it tests, but no benchmark: what both need is in test/support. */
export const TESTS = 'test';

/** No I/O, no clock, no randomness, no timer: nothing of Node but pure values. */
export const PURE: readonly string[] = ['net', 'config', 'lease'];

/** The unit that a file of the repository belongs to. A test is a test wherever it lies. */
export function unitOf(path: string): string {
  if (/\.test\.[jt]s$/.test(path)) return TESTS;
  const inside = path.replace(/\.[jt]s$/, '').replace(/^src\//, '');
  if (inside.startsWith('test/support/')) return 'test/support';
  return inside.split('/')[0];
}

/** The table as a Markdown list, the top first. */
export function layersMarkdown(): string {
  const rows = Object.entries(LAYERS)
    .reverse()
    .map(([unit, allowed]) => `| \`${unit}\` | ${allowed.length === 0 ? '–' : allowed.join(', ')} |`);
  return ['| unit | may import |', '| --- | --- |', ...rows].join('\n');
}
