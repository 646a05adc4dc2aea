import t from 'tap';
import { keyLayout, leaseKey, leaseKeyName, showKey } from '../../../../src/store/etcd/keys.js';
import { parsePrefix } from '../../../../src/net/prefix.js';

t.test("keyLayout() joins as Go's path.Join", (t) => {
  const cases: [string, string, string, string][] = [
    [
      '/coreos.com/network',
      '/coreos.com/network/config',
      '/coreos.com/network/subnets',
      '/coreos.com/network/subnett',
    ],
    ['//a//b/', '/a/b/config', '/a/b/subnets', '/a/b/subnett'],
    ['/a/./b/../c', '/a/c/config', '/a/c/subnets', '/a/c/subnett'],
    ['a/b', 'a/b/config', 'a/b/subnets', 'a/b/subnett'],
    ['/', '/config', '/subnets', '/subnett'],
    ['', 'config', 'subnets', 'subnett'],
  ];
  for (const [prefix, config, start, end] of cases) {
    const layout = keyLayout(prefix);
    t.equal(layout.configKey, config);
    t.strictSame(layout.leaseRange, { start, end });
    t.equal(leaseKey(layout, { v4: parsePrefix('10.5.1.0/24')! }), `${start}/10.5.1.0-24`);
  }
  t.end();
});

t.test('leaseKeyName() is defined for keys directly below the subnets directory only', (t) => {
  const layout = keyLayout('/net');
  const cases: [string, string | undefined][] = [
    ['/net/subnets/10.5.1.0-24', '10.5.1.0-24'],
    ['/net/subnets/', ''],
    ['/net/subnets', undefined],
    ['/net/subnetsX/10.5.1.0-24', undefined],
    ['/net/subnets/a/10.5.1.0-24', undefined],
    ['/other/subnets/10.5.1.0-24', undefined],
  ];
  for (const [key, expected] of cases) t.equal(leaseKeyName(layout, key), expected, key);
  t.end();
});

t.test('showKey() is one printable line of bounded length', (t) => {
  t.equal(showKey('/a/\n\xff\0'), '/a/\\x0a\\xff\\x00');
  t.ok(showKey('x'.repeat(100_000)).length < 160);
  t.end();
});
