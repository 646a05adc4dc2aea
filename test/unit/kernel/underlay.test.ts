// Which interface and address are chosen at the start, on hosts that are not simple.

import t from 'tap';
import { type Clock, MONOTONIC_CLOCK } from '../../../src/core/waiting.js';
import {
  chooseExternalInterface,
  type InterfaceOptions,
  type UnderlayHost,
} from '../../../src/kernel/underlay.js';
import type { Link, LinkAddress } from '../../../src/kernel/link.js';
import type { Route, RouteSelector } from '../../../src/kernel/route.js';
import { ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { ipv6, parseIpv6 } from '../../../src/net/ipv6.js';
import { formatAddresses, prefixEquals } from '../../../src/net/prefix.js';
import { addressesOf } from '../../support/leases.js';
import { addressOf, linkOf } from '../../support/links.js';

type Address = string | ({ readonly at: string } & Partial<LinkAddress>);

function link(index: number, name: string, addresses: readonly Address[], kind = ''): Link {
  const given = addresses.map((one) => {
    if (typeof one === 'string') return addressOf(one);
    const { at, ...flags } = one;
    return addressOf(at, flags);
  });
  return linkOf([], { index, name, kind, addresses: given });
}

function defaultRoute(metric: number, ...devices: string[]): Route {
  return {
    prefix: { address: ipv4(0), length: 0 },
    type: 'unicast',
    gateway: undefined,
    device: devices.length === 1 ? devices[0] : undefined,
    devices: [...new Set(devices)],
    protocol: 3,
    metric,
    isOnlink: false,
    source: undefined,
    scope: 0,
  };
}

interface Host {
  readonly links: readonly Link[];
  readonly routes?: readonly Route[];
  /** Names of links on which IPv6 is off. */
  readonly withoutIpv6?: readonly string[];
}

const LEASABLE = { first: parseIpv4('10.5.1.0')!, last: parseIpv4('10.5.255.255')! };

/** "name address" of what is chosen, or the message of the refusal. */
async function chosen(host: Host, options: Partial<InterfaceOptions> = {}, former?: string): Promise<string> {
  const kernel: UnderlayHost = {
    listLinks: () => Promise.resolve([...host.links]),
    findWithoutIpv6: () => Promise.resolve([]),
    listRoutes: () => Promise.resolve([...(host.routes ?? [])]),
    lookupRoute: () => Promise.resolve(undefined),
  };
  const all = { iface: [], ifaceRegex: [], ifaceCanReach: '', publicIp: '', ...options };
  try {
    const kept = former === undefined ? undefined : { v4: parseIpv4(former)! };
    const iface = await chooseExternalInterface(all, { v4: LEASABLE }, { former: kept, host: kernel });
    return `${iface.name} ${formatAddresses(iface.address)}`;
  } catch (error) {
    return (error as Error).message;
  }
}

const ETH0 = link(2, 'eth0', ['172.20.0.1/24']);
const ETH1 = link(3, 'eth1', ['192.0.2.1/24']);

t.test('chooseExternalInterface() follows the default route of the kernel', async (t) => {
  const links = [ETH0, ETH1];
  const rows: [string, Route[], string][] = [
    ['the only one', [defaultRoute(0, 'eth1')], 'eth1 192.0.2.1'],
    ['the lowest metric', [defaultRoute(200, 'eth0'), defaultRoute(100, 'eth1')], 'eth1 192.0.2.1'],
    ['the first of equal metrics', [defaultRoute(100, 'eth1'), defaultRoute(100, 'eth0')], 'eth1 192.0.2.1'],
    ['several next hops on one device', [defaultRoute(0, 'eth0', 'eth0')], 'eth0 172.20.0.1'],
  ];
  for (const [what, routes, expected] of rows) t.equal(await chosen({ links, routes }), expected, what);
  t.match(
    await chosen({ links, routes: [defaultRoute(0, 'eth0', 'eth1')] }),
    /^The default route does not tell \(it is multipath, over eth0 and eth1\): name the interface with --iface/,
  );
  t.match(await chosen({ links }), /^No default route: name the interface/);
});

t.test('chooseExternalInterface() prefers the address a host keeps', async (t) => {
  const dynamic = { at: '172.20.0.1/24', isPermanent: false };
  const routes = [defaultRoute(0, 'eth0')];
  const rows: [string, Address[], string][] = [
    ['a permanent one', [dynamic, '192.0.2.9/24'], 'eth0 192.0.2.9'],
    [
      'no virtual one in DHCP’s network',
      [dynamic, { at: '172.20.0.9/24', isSecondary: true }],
      'eth0 172.20.0.1',
    ],
    [
      'a secondary one before a lone /32',
      ['192.0.2.9/32', { at: '172.20.0.9/24', isSecondary: true }],
      'eth0 172.20.0.9',
    ],
    ['no virtual one beside DHCP’s', ['172.20.0.100/32', dynamic], 'eth0 172.20.0.1'],
    ['the only one, though a /32', [{ at: '10.128.0.2/32', isPermanent: false }], 'eth0 10.128.0.2'],
    ['none that a lease may hold', ['10.5.9.1/24', '172.20.0.1/24'], 'eth0 172.20.0.1'],
  ];
  for (const [what, addresses, expected] of rows) {
    const links = [link(2, 'eth0', addresses)];
    t.equal(await chosen({ links, routes }), expected, what);
    t.equal(await chosen({ links }, { iface: ['eth0'] }), expected, `${what}, named`);
  }
});

t.test('chooseExternalInterface() keeps the address of the last run as long as it is there', async (t) => {
  const dynamic = { at: '172.20.0.1/24', isPermanent: false };
  const links = [link(2, 'eth0', ['172.20.0.9/24', dynamic]), ETH1];
  const routes = [defaultRoute(0, 'eth0')];
  const former = '172.20.0.1';
  const rows: [string, Partial<InterfaceOptions>, string, string][] = [
    ['chosen by the default route', {}, former, 'eth0 172.20.0.1'],
    ['named', { iface: ['eth0'] }, former, 'eth0 172.20.0.1'],
    ['a name that matches', { ifaceRegex: ['^eth0$'] }, former, 'eth0 172.20.0.1'],
    ['an address that matches', { ifaceRegex: ['^172\\.20\\.'] }, former, 'eth0 172.20.0.1'],
    ['a pattern that it does not match', { ifaceRegex: ['\\.9$'] }, former, 'eth0 172.20.0.9'],
    ['an address that is named', { iface: ['172.20.0.9'] }, former, 'eth0 172.20.0.9'],
    ['a public IP that is named', { publicIp: '172.20.0.9' }, former, 'eth0 172.20.0.9'],
    ['beside a public IP that is named', { iface: ['eth0'], publicIp: former }, former, 'eth0 172.20.0.9'],
    ['another interface', { iface: ['eth1'] }, former, 'eth1 192.0.2.1'],
    ['no longer there', {}, '172.20.0.2', 'eth0 172.20.0.9'],
    ['not known', {}, '', 'eth0 172.20.0.9'],
  ];
  for (const [what, options, last, expected] of rows)
    t.equal(await chosen({ links, routes }, options, last), expected, what);
});

t.test('chooseExternalInterface() never takes a device of an overlay', async (t) => {
  const links = [
    link(1, 'flannel0', ['10.9.1.0/32'], 'tun'),
    link(4, 'flannel.1', ['10.9.1.0/32'], 'vxlan'),
    link(5, 'cni0', ['10.5.1.1/24'], 'bridge'),
  ];
  t.match(await chosen({ links }, { ifaceRegex: ['.*'] }), /matches no address|no usable/);
  t.match(await chosen({ links }, { iface: ['flannel0'] }), /no such interface/);
  t.equal(await chosen({ links: [...links, ETH0] }, { ifaceRegex: ['.*'] }), 'eth0 172.20.0.1');
});

t.test('chooseExternalInterface() refuses a public IP that a lease may hold', async (t) => {
  t.match(
    await chosen({ links: [ETH0] }, { iface: ['eth0'], publicIp: '10.5.7.1' }),
    /^--public-ip is "10\.5\.7\.1": expected an address that no lease may hold \(10\.5\.1\.0 to 10\.5\.255\.255\)$/,
  );
});

t.test('an address that the store wants says where it stands', async (t) => {
  const hint = { publicIp: '198.51.100.7', publicIpFrom: 'annotation node-public-ip' };
  t.match(
    await chosen({ links: [ETH0] }, hint),
    /^annotation node-public-ip=198.51.100.7: no interface has that address \(behind NAT, name the interface/,
  );
  t.equal(await chosen({ links: [ETH0] }, { ...hint, iface: ['eth0'] }), 'eth0 172.20.0.1');
});

// --- both families -----------------------------------------------------------------------------------------------

const RANGE6 = { first: parseIpv6('fd00:5:0:1::')!, last: parseIpv6('fd00:5:0:ffff:ffff:ffff:ffff:ffff')! };
const RANGES = {
  v4: { v4: LEASABLE },
  v6: { v6: RANGE6 },
  dual: { v4: LEASABLE, v6: RANGE6 },
};

/** On which waits take no time. */
const HASTY: Clock = { ...MONOTONIC_CLOCK, after: (_, task) => MONOTONIC_CLOCK.after(0, task) };

/** Routes are those of the family that is asked for. */
async function chosenOf(
  families: keyof typeof RANGES,
  { links, routes = [], withoutIpv6 = [] }: Host,
  options: Partial<InterfaceOptions> = {},
  former?: string,
): Promise<string> {
  const host: UnderlayHost = {
    listLinks: () => Promise.resolve([...links]),
    findWithoutIpv6: () => Promise.resolve(withoutIpv6),
    listRoutes: ({ exact }: RouteSelector = {}) =>
      Promise.resolve(routes.filter(({ prefix }) => prefixEquals(prefix, exact!))),
    lookupRoute: (to) =>
      Promise.resolve({
        device: 'eth0',
        gateway: undefined,
        isLocal: false,
        source: typeof to === 'number' ? undefined : parseIpv6('::1'),
      }),
  };
  const all = { iface: [], ifaceRegex: [], ifaceCanReach: '', publicIp: '', ...options };
  try {
    const kept = former === undefined ? undefined : addressesOf(former);
    const iface = await chooseExternalInterface(all, RANGES[families], { former: kept, host, clock: HASTY });
    const [address, publicIp] = [iface.address, iface.publicIp].map(formatAddresses);
    return `${iface.name} ${address}${publicIp === address ? '' : ` as ${publicIp}`}`;
  } catch (error) {
    return (error as Error).message;
  }
}

const to6 = (metric: number, ...devices: string[]): Route => ({
  ...defaultRoute(metric, ...devices),
  prefix: { address: ipv6(0n), length: 0 },
});

const LOCAL6 = { at: 'fe80::1/64', scope: 'link' } as const;
const DUAL0 = link(2, 'eth0', ['172.20.0.1/24', LOCAL6, 'fd00:99::1/64']);
const DUAL1 = link(3, 'eth1', ['192.0.2.1/24', 'fd00:98::1/64']);
const BARE0 = link(2, 'eth0', ['172.20.0.1/24', LOCAL6]);

t.test('chooseExternalInterface() takes an address of each family, on one interface', async (t) => {
  const links = [DUAL0, DUAL1];
  const both = 'eth0 172.20.0.1 and fd00:99::1';
  const routes = [defaultRoute(0, 'eth0'), to6(1024, 'eth0')];
  const rows: [string, keyof typeof RANGES, Host, Partial<InterfaceOptions>, string | RegExp][] = [
    ['IPv4 alone is as ever', 'v4', { links, routes }, {}, 'eth0 172.20.0.1'],
    ['IPv6 alone', 'v6', { links, routes }, {}, 'eth0 fd00:99::1'],
    [
      'IPv6 by the lower metric',
      'v6',
      { links, routes: [to6(1024, 'eth0'), to6(100, 'eth1')] },
      {},
      'eth1 fd00:98::1',
    ],
    ['both', 'dual', { links, routes }, {}, both],
    ['one default route tells', 'dual', { links, routes: [defaultRoute(0, 'eth0')] }, {}, both],
    [
      'that of IPv6 as well',
      'dual',
      { links, routes: [to6(1024, 'eth1')] },
      {},
      'eth1 192.0.2.1 and fd00:98::1',
    ],
    [
      'two that differ',
      'dual',
      { links, routes: [defaultRoute(0, 'eth0'), to6(1024, 'eth1')] },
      {},
      /leads to eth0 in IPv4 and to eth1 in IPv6/,
    ],
    [
      'an interface without IPv6',
      'dual',
      { links: [BARE0, DUAL1], routes },
      {},
      /eth0 has no usable IPv6 address \(fe80::1 is link-local\)/,
    ],
    ['a name', 'dual', { links }, { iface: ['eth1'] }, 'eth1 192.0.2.1 and fd00:98::1'],
    [
      'a name without IPv6',
      'dual',
      { links: [BARE0] },
      { iface: ['eth0'] },
      /--iface=eth0: interface eth0 has no usable IPv6 address \(fe80::1 is link-local\)/,
    ],
    ['an IPv4 literal', 'dual', { links }, { iface: ['192.0.2.1'] }, 'eth1 192.0.2.1 and fd00:98::1'],
    [
      'an IPv6 literal in any spelling',
      'dual',
      { links },
      { iface: ['FD00:98:0::1'] },
      'eth1 192.0.2.1 and fd00:98::1',
    ],
    ['an IPv6 literal in IPv6', 'v6', { links }, { iface: ['fd00:98::1'] }, 'eth1 fd00:98::1'],
    [
      'IPv4 text where IPv6 is due',
      'v6',
      { links },
      { iface: ['192.0.2.1'] },
      /--iface=192\.0\.2\.1: no interface has that address/,
    ],
    ['a zone', 'v6', { links }, { iface: ['fe80::1%eth0'] }, /--iface=fe80::1%eth0: no such interface/],
    [
      'a pattern that both match',
      'dual',
      { links },
      { ifaceRegex: ['^(192\\.0\\.2\\.|fd00:98:)'] },
      'eth1 192.0.2.1 and fd00:98::1',
    ],
    [
      'a pattern that matches one',
      'dual',
      { links },
      { ifaceRegex: ['^192\\.0\\.2\\.'] },
      /matches no address and no interface/,
    ],
    [
      'a pattern for names',
      'dual',
      { links },
      { ifaceRegex: ['^192\\.', 'eth1'] },
      'eth1 192.0.2.1 and fd00:98::1',
    ],
    [
      'reached in IPv6, source of another interface',
      'dual',
      { links },
      { ifaceCanReach: 'fd00:99::7' },
      both,
    ],
    [
      'public addresses of one interface',
      'dual',
      { links },
      { publicIp: '192.0.2.1', publicIpv6: 'fd00:98::1' },
      'eth1 192.0.2.1 and fd00:98::1',
    ],
    [
      'of two',
      'dual',
      { links },
      { publicIp: '192.0.2.1', publicIpv6: 'fd00:99::1' },
      /--public-ipv6=fd00:99::1 is an address of eth0: expected one of eth1/,
    ],
    ['--public-ipv6 alone', 'dual', { links }, { publicIpv6: 'fd00:98::1' }, 'eth1 192.0.2.1 and fd00:98::1'],
    [
      'behind NAT',
      'dual',
      { links },
      { publicIp: '192.0.2.1', publicIpv6: '2001:db8::1' },
      /--public-ipv6=2001:db8::1: no interface has that address \(behind NAT/,
    ],
    [
      'behind NAT with --iface',
      'dual',
      { links },
      { iface: ['eth0'], publicIpv6: '2001:db8::1' },
      'eth0 172.20.0.1 and fd00:99::1 as 172.20.0.1 and 2001:db8::1',
    ],
    ['--public-ip without IPv4', 'v6', { links, routes }, { publicIp: '203.0.113.9' }, 'eth0 fd00:99::1'],
    [
      'IPv4 as --public-ipv6',
      'v6',
      { links },
      { publicIpv6: '192.0.2.1' },
      /--public-ipv6 is "192\.0\.2\.1": expected a unicast IPv6 address/,
    ],
    ['link-local', 'v6', { links }, { publicIpv6: 'fe80::1' }, /expected a unicast IPv6 address/],
    ['IPv4-mapped', 'v6', { links }, { publicIpv6: '::ffff:192.0.2.1' }, /expected a unicast IPv6 address/],
    [
      'what a lease may hold',
      'v6',
      { links },
      { publicIpv6: 'fd00:5:0:7::1' },
      /no lease may hold \(fd00:5:0:1:: to fd00:5:0:ffff:ffff/,
    ],
    [
      'IPv6 switched off, and named',
      'dual',
      { links: [link(2, 'eth0.7', ['172.20.0.1/24'])], withoutIpv6: ['eth0.7'] },
      { iface: ['eth0.7'] },
      /has no usable IPv6 address \(net\.ipv6\.conf\.eth0\/7\.disable_ipv6 is 1: set it to 0\)/,
    ],
    [
      'IPv6 switched off, and with it the default route',
      'v6',
      { links: [link(2, 'eth0', [])], withoutIpv6: ['eth0'] },
      {},
      /^No default route: name the interface with --iface; interfaces here: eth0 \[\] \(disable_ipv6 is 1\)$/,
    ],
    [
      'an MTU without IPv6',
      'v6',
      { links: [{ ...DUAL0, mtuBytes: 1279 }], routes },
      {},
      /MTU 1279: expected at least 1280/,
    ],
  ];
  for (const [what, families, host, options, expected] of rows) {
    const found = await chosenOf(families, host, options);
    if (typeof expected === 'string') t.equal(found, expected, what);
    else t.match(found, expected, what);
  }
});

t.test('chooseExternalInterface() takes no IPv6 address that is about to change', async (t) => {
  const routes = [to6(1024, 'eth0')];
  const GOOD = 'fd00:99::9/64';
  const rows: [string, readonly Address[], string | RegExp][] = [
    ['tentative', [{ at: 'fd00:99::1/64', isTentative: true }, GOOD], 'eth0 fd00:99::9'],
    ['of another host, too', [{ at: 'fd00:99::1/64', isDuplicate: true }, GOOD], 'eth0 fd00:99::9'],
    ['deprecated', [{ at: 'fd00:99::1/64', isDeprecated: true }, GOOD], 'eth0 fd00:99::9'],
    ['temporary', [{ at: 'fd00:99::1/64', isTemporary: true }, GOOD], 'eth0 fd00:99::9'],
    ['one alone behind one with a prefix', ['fd00:99::1/128', GOOD], 'eth0 fd00:99::9'],
    ['dynamic behind permanent', [{ at: 'fd00:99::1/64', isPermanent: false }, GOOD], 'eth0 fd00:99::9'],
    ['what a lease may hold', ['fd00:5:0:9::1/64', GOOD], 'eth0 fd00:99::9'],
    [
      'none',
      [
        { at: 'fd00:99::1/64', isDeprecated: true },
        { at: 'fd00:99::2/64', isTemporary: true },
      ],
      /fd00:99::1 is deprecated, fd00:99::2 is temporary/,
    ],
    [
      'none but that of another host',
      [{ at: 'fd00:99::1/64', isDuplicate: true }],
      /fd00:99::1 is another host’s as well \(duplicate address detection failed\)/,
    ],
  ];
  for (const [what, addresses, expected] of rows) {
    const found = await chosenOf('v6', { links: [link(2, 'eth0', addresses)], routes });
    if (typeof expected === 'string') t.equal(found, expected, what);
    else t.match(found, expected, what);
  }
  const kept = await chosenOf(
    'v6',
    { links: [link(2, 'eth0', [GOOD, 'fd00:99::1/128'])], routes },
    {},
    'fd00:99::1',
  );
  t.equal(kept, 'eth0 fd00:99::1', 'that of the last run stays');
});

t.test('chooseExternalInterface() takes what is named, but for what nothing can be sent from', async (t) => {
  const rows: [string, Partial<LinkAddress>, string | RegExp][] = [
    ['deprecated', { isDeprecated: true }, 'eth0 fd00:99::1'],
    ['temporary', { isTemporary: true }, 'eth0 fd00:99::1'],
    ['tentative', { isTentative: true }, /^--iface=fd00:99::1: fd00:99::1 is tentative; /],
    ['of another host', { isDuplicate: true }, /^--iface=fd00:99::1: fd00:99::1 is another host’s as well/],
  ];
  for (const [what, flags, expected] of rows) {
    const links = [link(2, 'eth0', ['fd00:99::9/64', { at: 'fd00:99::1/64', ...flags }])];
    const found = await chosenOf('v6', { links }, { iface: ['fd00:99::1'] });
    if (typeof expected === 'string') t.equal(found, expected, what);
    else t.match(found, expected, what);
  }
});

t.test('chooseExternalInterface() waits for an address that is still tentative', async (t) => {
  let before = link(2, 'eth0', [{ at: 'fd00:99::1/64', isTentative: true }]);
  const after = link(2, 'eth0', ['fd00:99::9/64', 'fd00:99::1/64']);
  let looks = 0;
  let settledAfter = 3;
  const host: UnderlayHost = {
    listLinks: () => Promise.resolve([++looks > settledAfter ? after : before]),
    findWithoutIpv6: () => Promise.resolve([]),
    listRoutes: () => Promise.resolve([to6(1024, 'eth0')]),
    lookupRoute: () => Promise.resolve(undefined),
  };
  const choice = { host, clock: HASTY };
  const options = { iface: [], ifaceRegex: [], ifaceCanReach: '', publicIp: '' };
  const { address } = await chooseExternalInterface(options, RANGES.v6, choice);
  t.strictSame([formatAddresses(address), looks], ['fd00:99::9', 4]);
  [looks, settledAfter] = [0, Infinity];
  await t.rejects(chooseExternalInterface(options, RANGES.v6, choice), {
    code: 'E_INTERFACE',
    message: /fd00:99::1 is tentative/,
  });
  t.equal(looks, 21, 'for four seconds, every 200 ms');

  // That of the last run is waited for, even when another one is ready before it.
  before = link(2, 'eth0', ['fd00:99::9/64', { at: 'fd00:99::1/64', isTentative: true }]);
  for (const [settled, expected] of [
    [3, ['fd00:99::1', 4]],
    [Infinity, ['fd00:99::9', 21]],
  ] as const) {
    [looks, settledAfter] = [0, settled];
    const former = addressesOf('fd00:99::1');
    const kept = await chooseExternalInterface(options, RANGES.v6, { ...choice, former });
    t.strictSame([formatAddresses(kept.address), looks], expected);
  }
  [looks, settledAfter] = [0, Infinity];
  before = link(2, 'eth0', [{ at: 'fd00:99::1/64', isDuplicate: true }]);
  await t.rejects(chooseExternalInterface(options, RANGES.v6, choice), { code: 'E_INTERFACE' });
  t.equal(looks, 1, 'an address that another host has is not waited for');
});
