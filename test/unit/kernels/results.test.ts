// What is made of the output of tests in a guest, and what becomes of results that were there before.

import t from 'tap';
import {
  failuresOf,
  type KernelResult,
  kernelsMarkdown,
  kernelsRun,
  mergeResult,
  parseTap,
} from '../../kernels/results.js';

const WELL =
  'TAP version 14\n    # { total: 9, pass: 9 }\nok 1 - a # time=3ms\n1..1\n# { total: 9, pass: 7, skip: 2 }\n';
const BAD = '    not ok 1 - b\nnot ok 1 - a\nok 2 # skip\n1..1\n# { total: 3, pass: 1, fail: 1, todo: 1 }\n';

for (const [name, output, status, passed, failed, skipped] of [
  ['of a file that passed', WELL, 0, 7, 0, 2],
  ['of a file that failed', BAD, 1, 1, 1, 1],
  ['of one that ended badly without a word', WELL, 1, 7, 1, 2],
  ['of one that took too long', 'TAP version 14\n', 124, 0, 1, 0],
  ['of one that never ran', '', undefined, 0, 1, 0],
] as const) {
  t.test(`parseTap() ${name}`, (t) => {
    t.same(parseTap('lab/x', output, status), { suite: 'lab/x', passed, failed, skipped });
    t.end();
  });
}

t.test('failuresOf() gives the lines that say what failed', (t) => {
  t.same(failuresOf(`${BAD}not ok 3 - c # TODO later\n`), ['    not ok 1 - b', 'not ok 1 - a']);
  t.end();
});

const suite = (name: string, passed: number) => ({ suite: name, passed, failed: 0, skipped: 0 });
const result = (release: string, version: string, ...suites: KernelResult['suites']): KernelResult => ({
  release,
  package: { name: `linux-image-${release}`, version },
  runBy: 'qemu, KVM',
  grants: { uso: release.startsWith('6.12') },
  suites,
});

t.test('mergeResult() puts suites in the place of older ones of the same kernel', (t) => {
  const old = [result('6.1.0-1', '6.1.1-1', suite('a', 1), suite('c', 1))];
  const merged = mergeResult(old, result('6.1.0-1', '6.1.1-1', suite('c', 2), suite('b', 2)));
  t.same(merged, [result('6.1.0-1', '6.1.1-1', suite('a', 1), suite('b', 2), suite('c', 2))]);
  t.end();
});

t.test('mergeResult() keeps nothing of a suite that failed, and not what it showed before', (t) => {
  const old = [result('6.1.0-1', '6.1.1-1', suite('a', 1), suite('b', 1))];
  const merged = mergeResult(old, result('6.1.0-1', '6.1.1-1', { ...suite('b', 3), failed: 1 }));
  t.same(merged, [result('6.1.0-1', '6.1.1-1', suite('a', 1))]);
  t.end();
});

t.test('mergeResult() forgets what another version of the series showed, and sorts by series', (t) => {
  const old = [result('6.1.0-1', '6.1.1-1', suite('a', 1)), result('6.12.1', '6.12.1-1')];
  const merged = mergeResult(old, result('6.1.0-2', '6.1.2-1', suite('b', 1)));
  t.same(merged, [result('6.1.0-2', '6.1.2-1', suite('b', 1)), result('6.12.1', '6.12.1-1')]);
  t.same(mergeResult(merged, result('5.10.0-1', '5.10.1-1'))[0].release, '5.10.0-1');
  t.end();
});

t.test('kernelsRun() and kernelsMarkdown() name each kernel', (t) => {
  const own: KernelResult = { release: '6.18.2-x', runBy: 'the machine', grants: { uso: true }, suites: [] };
  const all = [result('6.1.0-1', '6.1.1-1', suite('lab/a', 3)), result('6.12.1', '6.12.1-1'), own];
  t.equal(kernelsRun(all), '6.1, 6.12 and 6.18');
  t.equal(kernelsRun(all.slice(0, 1)), '6.1');
  t.equal(kernelsRun([]), '');
  const lines = kernelsMarkdown(all).split('\n');
  t.ok(lines.includes('|  | 6.1 | 6.12 | 6.18 |'));
  t.ok(lines.includes('| `uso` | no | yes | yes |'));
  t.ok(lines.includes('| `lab/a` | 3 passed |  | by `npm test` |'));
  t.end();
});
