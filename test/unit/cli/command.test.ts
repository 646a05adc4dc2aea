// What a command line of `twill` is taken for.

import t from 'tap';
import { parseOptions, UsageError } from '../../../src/cli/command.js';

const options = { json: { type: 'boolean' }, socket: { type: 'string' } } as const;

t.test('parseOptions() shows no part of a password', (t) => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['http://root:canary@h:2379'], /^unexpected argument \(not shown/],
    [['root:canary@h'], /^unexpected argument/],
    [['--etcd-password', 'canary'], /^unknown option --etcd-password: --help lists all$/],
    [['--etcd-password=canary'], /^unknown option --etcd-password:/],
    [['--etcd-endpoints:http://root:canary@h'], /^unknown option --etcd-endpoints:/],
    [['--json', "it's canary"], /^unexpected argument/],
    [["--it's=canary"], /^unknown option --it: /],
    [['--root:canary@h'], /^unknown option --root:/],
    [['-ucanary'], /^unknown option -u:/],
    [['--json=canary'], /--json.*does not take an argument/],
    [['--socket'], /--socket/],
  ];
  for (const [args, message] of cases) {
    t.throws(() => parseOptions(args, options), { constructor: UsageError, message }, args.join(' '));
    t.throws(() => parseOptions(args, options), { message: /^(?!.*canary)/s }, args.join(' '));
  }
  t.same(parseOptions(['--json', '--', 'root:pw@h'], options).rest, ['root:pw@h']);
  t.end();
});
