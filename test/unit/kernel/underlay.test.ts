// Which interface and address are chosen at the start, on hosts that are not simple.

import t, { type Test } from 'tap';
import type * as chooser from '../../../src/kernel/underlay.js';
import type { Link } from '../../../src/kernel/link.js';
import type { Route } from '../../../src/kernel/route.js';
import { ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { addressOf, linkOf } from '../../support/links.js';
import { formatAddresses } from '../../../src/net/prefix.js';

type Address =
  string | { readonly at: string; readonly isPermanent?: boolean; readonly isSecondary?: boolean };

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
}

const LEASABLE = { first: parseIpv4('10.5.1.0')!, last: parseIpv4('10.5.255.255')! };

/** "name address" of what is chosen, or the message of the refusal. */
async function chosen(
  t: Test,
  host: Host,
  options: Partial<chooser.InterfaceOptions> = {},
  former?: string,
): Promise<string> {
  const { chooseExternalInterface } = await t.mockImport<typeof chooser>('../../../src/kernel/underlay.js', {
    '../../../src/kernel/link.js': { listLinks: () => Promise.resolve(host.links) },
    '../../../src/kernel/route.js': {
      listRoutes: () => Promise.resolve(host.routes ?? []),
      lookupRoute: () => Promise.resolve(undefined),
    },
  });
  const all = { iface: [], ifaceRegex: [], ifaceCanReach: '', publicIp: '', ...options };
  try {
    const v4 = parseIpv4(former ?? '');
    const iface = await chooseExternalInterface(all, { v4: LEASABLE }, { former: v4 && { v4 } });
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
  for (const [what, routes, expected] of rows) t.equal(await chosen(t, { links, routes }), expected, what);
  t.match(
    await chosen(t, { links, routes: [defaultRoute(0, 'eth0', 'eth1')] }),
    /^The default route does not tell \(it is multipath, over eth0 and eth1\): name the interface with --iface/,
  );
  t.match(await chosen(t, { links }), /^No default route: name the interface/);
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
    t.equal(await chosen(t, { links, routes }), expected, what);
    t.equal(await chosen(t, { links }, { iface: ['eth0'] }), expected, `${what}, named`);
  }
});

t.test('chooseExternalInterface() keeps the address of the last run as long as it is there', async (t) => {
  const dynamic = { at: '172.20.0.1/24', isPermanent: false };
  const links = [link(2, 'eth0', ['172.20.0.9/24', dynamic]), ETH1];
  const routes = [defaultRoute(0, 'eth0')];
  const former = '172.20.0.1';
  const rows: [string, Partial<chooser.InterfaceOptions>, string, string][] = [
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
    t.equal(await chosen(t, { links, routes }, options, last), expected, what);
});

t.test('chooseExternalInterface() never takes a device of an overlay', async (t) => {
  const links = [
    link(1, 'flannel0', ['10.9.1.0/32'], 'tun'),
    link(4, 'flannel.1', ['10.9.1.0/32'], 'vxlan'),
    link(5, 'cni0', ['10.5.1.1/24'], 'bridge'),
  ];
  t.match(await chosen(t, { links }, { ifaceRegex: ['.*'] }), /matches no address|no usable/);
  t.match(await chosen(t, { links }, { iface: ['flannel0'] }), /no such interface/);
  t.equal(await chosen(t, { links: [...links, ETH0] }, { ifaceRegex: ['.*'] }), 'eth0 172.20.0.1');
});

t.test('chooseExternalInterface() refuses a public IP that a lease may hold', async (t) => {
  t.match(
    await chosen(t, { links: [ETH0] }, { iface: ['eth0'], publicIp: '10.5.7.1' }),
    /^--public-ip is "10\.5\.7\.1": expected an address that no lease may hold \(10\.5\.1\.0 to 10\.5\.255\.255\)$/,
  );
});

t.test('an address that the store wants says where it stands', async (t) => {
  const hint = { publicIp: '198.51.100.7', publicIpFrom: 'annotation node-public-ip' };
  t.match(
    await chosen(t, { links: [ETH0] }, hint),
    /^annotation node-public-ip=198.51.100.7: no interface has that address \(behind NAT, name the interface/,
  );
  t.equal(await chosen(t, { links: [ETH0] }, { ...hint, iface: ['eth0'] }), 'eth0 172.20.0.1');
});
