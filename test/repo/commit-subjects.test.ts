import t from 'tap';
import { faultsOf } from './commit-subjects.js';

t.test('faultsOf() a subject', (t) => {
  const check = (subject: string, expected: readonly string[]): void =>
    void t.same(faultsOf(subject), expected, subject);
  check('addon/udp_socket: count short sendmmsg returns', []);
  check('src, test, bench: hold lines to 120 columns', []);
  check('docs: ADR 8', []);
  check(`docs: ${'x'.repeat(66)}`, []);
  check(`docs: ${'x'.repeat(67)}`, ['73 columns']);
  check('count short sendmmsg returns', ['no path and colon before it']);
  check('docs: Say it', ['upper case after the path']);
  check('docs: say it; mend it', ['two ideas']);
  check('docs: say it.', ['a period']);
  t.end();
});
