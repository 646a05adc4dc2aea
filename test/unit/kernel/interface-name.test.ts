import t from 'tap';
import { checkInterfaceName, isInterfaceName } from '../../../src/kernel/interface-name.js';

t.test('isInterfaceName() takes what tools and paths can bear', (t) => {
  for (const name of ['eth0', 'flannel.1', 'bond0.100', 'veth_a-b', 'x@y', 'a'.repeat(15)]) {
    t.ok(isInterfaceName(name), name);
  }
  const bad = [
    '',
    'a'.repeat(16),
    'a b',
    'a/b',
    '..',
    '.',
    'all',
    'default',
    'a";{}$(id)',
    'a\nb',
    'é',
    'a:1',
  ];
  for (const name of bad) t.notOk(isInterfaceName(name), JSON.stringify(name));
  t.end();
});

t.test('checkInterfaceName() names the value it refuses', (t) => {
  t.equal(checkInterfaceName('eth0'), 'eth0');
  t.throws(() => checkInterfaceName('a b'), {
    name: 'TypeError',
    message: /^Interface name "a b": expected 1 to 15/,
  });
  t.end();
});
