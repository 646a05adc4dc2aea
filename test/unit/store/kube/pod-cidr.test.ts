import t from 'tap';
import { formatPrefixes, parsePrefix } from '../../../../src/net/prefix.js';
import type { FamilyName } from '../../../../src/net/dual.js';
import { lackOf, podSubnets } from '../../../../src/store/kube/pod-cidr.js';

t.test('podSubnets() takes those of the network’s families', (t) => {
  const [v4, v6] = ['10.244.12.0/24', 'fd00:244:0:c::/64'];
  const rows: [podCidrs: string[], families: FamilyName[], expected: string][] = [
    [[v4], ['v4'], v4],
    [[v4, v6], ['v4'], v4],
    [[v6, v4], ['v4'], v4],
    [[v4, v6], ['v6'], v6],
    [[v6, v4], ['v4', 'v6'], `${v4} and ${v6}`],
    [[v6], ['v4', 'v6'], v6],
    [['FD00:244:0:C:0::/64'], ['v6'], v6],
    [[], ['v4', 'v6'], 'none'],
    [[v6], ['v4'], `podCIDRs are ${v6}: expected an IPv4 one`],
    [[v4], ['v6'], `podCIDRs are ${v4}: expected an IPv6 one`],
    [['x'], ['v4', 'v6'], 'podCIDRs are x: expected an IPv4 or IPv6 one'],
    [[v4, v6, v4], ['v4'], `podCIDRs are ${v4}, ${v6}, ${v4}: expected one for each address family`],
    [['10.244.12.7/24'], ['v4'], 'podCIDR is 10.244.12.7/24: expected a network such as 10.244.1.0/24'],
    [['fd00::1/64'], ['v6'], 'podCIDR is fd00::1/64: expected a network such as fd00:244:0:1::/64'],
    [['fd00::1/128'], ['v6'], 'podCIDR is fd00::1/128: expected a network such as fd00:244:0:1::/64'],
  ];
  for (const [podCidrs, families, expected] of rows) {
    const found = podSubnets(podCidrs, families);
    const shown = found.ok
      ? found.value === undefined
        ? 'none'
        : formatPrefixes(found.value)
      : found.problem;
    t.equal(shown, expected, `${podCidrs.join(' ')} for ${families.join(' ')}`);
  }
  t.end();
});

t.test('lackOf() says what a node is still to be given', (t) => {
  const v4 = parsePrefix('10.244.12.0/24')!;
  t.equal(lackOf({ v4 }, ['v4', 'v6']), 'no IPv6 podCIDR');
  t.equal(lackOf({ v6: parsePrefix('fd00::/64', 6)! }, ['v4', 'v6']), 'no IPv4 podCIDR');
  t.equal(lackOf({ v4 }, ['v4']), undefined);
  t.equal(lackOf(undefined, ['v4']), 'no podCIDR');
  t.end();
});
