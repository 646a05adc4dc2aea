import t from 'tap';
import { countSlots, fitsNetwork, pickFreeSubnet } from '../../../src/lease/subnet-picker.js';
import { type FamilyNetwork, parseNetworkConfig } from '../../../src/config/network-config.js';
import type { Ipv6 } from '../../../src/net/ipv6.js';
import { parseIpv4 } from '../../../src/net/ipv4.js';
import { formatPrefix, parsePrefix, type Prefix } from '../../../src/net/prefix.js';

function range(network: string, subnetLength: number, min: string, max: string): FamilyNetwork {
  return {
    network: parsePrefix(network)!,
    subnetLength,
    subnetMin: parseIpv4(min)!,
    subnetMax: parseIpv4(max)!,
  };
}

const SMALL = range('10.5.0.0/16', 24, '10.5.1.0', '10.5.4.0');

function pickAll(config: typeof SMALL, taken: string[]): string[] {
  const prefixes = taken.map((text) => parsePrefix(text)!);
  const picks = new Set<string>();
  for (let i = 0; i < 64; i++) {
    const subnet = pickFreeSubnet(config, prefixes, () => i / 64);
    if (subnet !== undefined) picks.add(formatPrefix(subnet));
  }
  return [...picks];
}

t.test('pickFreeSubnet() yields every free subnet and no other', (t) => {
  const all = ['10.5.1.0/24', '10.5.2.0/24', '10.5.3.0/24', '10.5.4.0/24'];
  const cases: { name: string; taken: string[]; free: string[] }[] = [
    { name: 'empty', taken: [], free: all },
    { name: 'one', taken: ['10.5.2.0/24'], free: ['10.5.1.0/24', '10.5.3.0/24', '10.5.4.0/24'] },
    {
      name: 'the same twice',
      taken: ['10.5.2.0/24', '10.5.2.0/24'],
      free: ['10.5.1.0/24', '10.5.3.0/24', '10.5.4.0/24'],
    },
    { name: 'smaller ones', taken: ['10.5.1.128/25', '10.5.3.4/30'], free: ['10.5.2.0/24', '10.5.4.0/24'] },
    { name: 'a larger one', taken: ['10.5.2.0/23'], free: ['10.5.1.0/24', '10.5.4.0/24'] },
    { name: 'a larger one over the lower end', taken: ['10.5.0.0/22'], free: ['10.5.4.0/24'] },
    {
      name: 'nested',
      taken: ['10.5.2.0/23', '10.5.3.0/24', '10.5.3.0/28'],
      free: ['10.5.1.0/24', '10.5.4.0/24'],
    },
    { name: 'outside the range', taken: ['10.5.9.0/24', '10.5.0.0/24'], free: all },
    {
      name: 'outside the network, or all of it',
      taken: ['10.6.0.0/16', '0.0.0.0/0', '10.0.0.0/8', '10.5.0.0/16'],
      free: all,
    },
    { name: 'full', taken: all, free: [] },
    { name: 'full by one', taken: ['10.5.0.0/17'], free: [] },
  ];
  for (const { name, taken, free } of cases) t.strictSame(pickAll(SMALL, taken), free, name);
  t.end();
});

t.test('pickFreeSubnet() at the ends of the address space', (t) => {
  const top = range('255.255.0.0/16', 24, '255.255.1.0', '255.255.255.0');
  t.equal(formatPrefix(pickFreeSubnet(top, [], () => 0.999999)!), '255.255.255.0/24');
  t.equal(
    formatPrefix(pickFreeSubnet(top, [parsePrefix('255.255.255.0/24')!], () => 0.999999)!),
    '255.255.254.0/24',
  );
  const bottom = range('0.0.0.0/1', 30, '0.0.0.4', '127.255.255.252');
  t.equal(countSlots(bottom), 2 ** 29 - 1);
  t.equal(formatPrefix(pickFreeSubnet(bottom, [], () => 0)!), '0.0.0.4/30');
  t.end();
});

t.test('pickFreeSubnet() with SubnetMin above SubnetMax finds nothing', (t) => {
  t.equal(
    pickFreeSubnet(range('10.5.0.0/16', 24, '10.5.9.0', '10.5.1.0'), [], () => 0),
    undefined,
  );
  t.end();
});

t.test('pickFreeSubnet() never yields a taken subnet, at any load', (t) => {
  const config = range('10.5.0.0/16', 24, '10.5.1.0', '10.5.255.0');
  const taken: Prefix[] = [];
  let state = 1;
  const random = (): number => (state = (state * 48271) % 2147483647) / 2147483647;
  for (let i = 0; i < 255; i++) {
    const subnet = pickFreeSubnet(config, taken, random);
    if (subnet === undefined || taken.some((other) => other.address === subnet.address))
      return (t.fail(`pick ${i}`), t.end());
    taken.push(subnet);
  }
  t.equal(pickFreeSubnet(config, taken, random), undefined);
  t.end();
});

t.test('pickFreeSubnet() of IPv6 takes each free slot, and of a huge network the first ones', (t) => {
  const network = (text: string): FamilyNetwork<Ipv6> =>
    parseNetworkConfig(`{"EnableIPv4":false,"EnableIPv6":true,${text}}`, 'test').networks.v6!;
  const small = network('"IPv6Network":"fd00:5::/62"');
  const taken = ['fd00:5:0:2::/64', '10.5.1.0/24', '::/1', 'fd00:5:0:1:8000::/65', 'fd00:6::/64'].map(
    (text) => parsePrefix(text, 6) ?? parsePrefix(text)!,
  );
  const picks = [0, 0.3, 0.6, 0.99].map((chance) => pickFreeSubnet(small, taken, () => chance));
  t.strictSame(new Set(picks.map((pick) => formatPrefix(pick!))), new Set(['fd00:5:0:3::/64']));
  t.equal(
    pickFreeSubnet(small, [...taken, parsePrefix('fd00:5:0:3::/64', 6)!], () => 0),
    undefined,
  );
  const huge = network('"IPv6Network":"fd00::/8"');
  t.equal(countSlots(huge), 2 ** 32);
  t.equal(formatPrefix(pickFreeSubnet(huge, [], () => 0)!), 'fd00:0:0:1::/64');
  t.equal(formatPrefix(pickFreeSubnet(huge, [], () => 1)!), 'fd00:1::/64');
  const held = [parsePrefix('fd00:0:0:1::/64', 6)!, parsePrefix('fdff::/16', 6)!];
  t.equal(formatPrefix(pickFreeSubnet(huge, held, () => 0)!), 'fd00:0:0:2::/64');
  t.end();
});

t.test("fitsNetwork() is flannel's test: the length, and from SubnetMin to SubnetMax", (t) => {
  const cases: [string, boolean][] = [
    ['10.5.1.0/24', true],
    ['10.5.4.0/24', true],
    ['10.5.0.0/24', false],
    ['10.5.5.0/24', false],
    ['10.5.2.0/25', false],
    ['10.5.2.0/23', false],
  ];
  for (const [text, expected] of cases) t.equal(fitsNetwork(SMALL, parsePrefix(text)!), expected, text);
  t.end();
});
