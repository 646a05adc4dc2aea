import t from 'tap';
import { compareVersions, isLater } from '../../../../../src/store/kube/nodes/resource-version.js';

t.test('compareVersions() orders numbers of any size, and of other texts tells equality alone', (t) => {
  const cases: [a: string, b: string, order: number | undefined][] = [
    ['0', '1', -1],
    ['9', '10', -1],
    ['99', '100', -1],
    ['18446744073709551615', '18446744073709551616', -1],
    ['9007199254740992', '9007199254740993', -1],
    ['7', '7', 0],
    ['x', 'x', 0],
    ['', '', 0],
    ['x', 'y', undefined],
    ['', '1', undefined],
    ['07', '8', undefined],
    ['1e3', '8', undefined],
    ['-1', '8', undefined],
    [' 1', '8', undefined],
  ];
  for (const [a, b, order] of cases) {
    const sign = (value: number | undefined): number | undefined =>
      value === undefined ? value : Math.sign(value);
    t.equal(sign(compareVersions(a, b)), order, `${a} ${b}`);
    t.equal(sign(compareVersions(b, a)), order === undefined ? undefined : 0 - order, `${b} ${a}`);
    t.equal(isLater(b, a), order === -1);
    t.equal(isLater(a, b), false);
  }
  t.end();
});
