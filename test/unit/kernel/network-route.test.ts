// Whose the route of the Network is.

import t from 'tap';
import { checkUplinkNetwork, describeConflict, describeShadow } from '../../../src/kernel/network-route.js';
import type { Link } from '../../../src/kernel/link.js';
import type { Route } from '../../../src/kernel/route.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { linkOf } from '../../support/links.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;

const uplink = (...addresses: string[]): Link => linkOf(addresses);

function route(change: Partial<Route>): Route {
  return {
    prefix: NETWORK,
    type: 'unicast',
    gateway: undefined,
    device: 'flannel0',
    devices: ['flannel0'],
    protocol: 3,
    metric: 0,
    isOnlink: false,
    source: undefined,
    scope: 0,
    ...change,
  };
}

t.test('checkUplinkNetwork() refuses a Network that is the host’s own', (t) => {
  for (const address of ['10.5.0.9/16', '10.5.7.9/8', '10.5.7.9/15'])
    t.throws(
      () => checkUplinkNetwork(NETWORK, uplink('192.0.2.1/24', address)),
      { code: 'E_CONFIG' },
      address,
    );
  // More specific than the Network: the kernel prefers it, and hosts may well be there.
  for (const address of ['10.5.0.9/24', '10.6.0.9/16', '10.5.0.9/32', '192.0.2.1/24'])
    t.doesNotThrow(() => checkUplinkNetwork(NETWORK, uplink(address)), address);
  t.end();
});

t.test('describeConflict() names the route of somebody else, at any metric and of any kind', (t) => {
  const eth0 = { device: 'eth0', devices: ['eth0'] };
  const rows: [string, Route, RegExp | undefined][] = [
    ['ours', route({}), undefined],
    ['a shorter one', route({ ...eth0, prefix: parsePrefix('10.0.0.0/8')! }), undefined],
    [
      'connected',
      route({ ...eth0, protocol: 2, metric: 100 }),
      /10\.5\.0\.0\/16 on eth0 \(protocol 2\) is not ours/,
    ],
    [
      'bird',
      route({ ...eth0, protocol: 12, gateway: parsePrefix('192.0.2.9/32')!.address }),
      /via 192\.0\.2\.9 on eth0/,
    ],
    ['multipath', route({ device: undefined, devices: ['eth0', 'eth1'] }), /on eth0 and eth1/],
    ['a blackhole', route({ type: 'blackhole', device: undefined, devices: [] }), /\/16 \(protocol 3\)/],
  ];
  for (const [what, found, expected] of rows) {
    const text = describeConflict([found], NETWORK, 'flannel0');
    if (expected === undefined) t.equal(text, undefined, what);
    else t.match(text, expected, what);
  }
  t.end();
});

t.test('describeShadow() names the route that the kernel takes before ours', (t) => {
  const subnet = parsePrefix('10.5.2.0/24')!;
  const check = (prefix: string, length: number, change: Partial<Route> = {}) => {
    const found = route({ device: 'eth0', devices: ['eth0'], prefix: parsePrefix(prefix)!, ...change });
    return describeShadow(subnet, [route({ prefix: parsePrefix('10.5.9.0/24')! }), found], length);
  };
  // The udp mode has one route, to the Network; the kernel modes one to each subnet.
  t.match(check('10.5.0.0/17', 16), /more specific than ours: 10\.5\.0\.0\/17 on eth0 \(protocol 3\)$/);
  t.match(check('10.5.2.0/24', 16, { type: 'other', devices: [] }), /10\.5\.2\.0\/24 \(protocol 3\)$/);
  t.match(check('10.5.2.128/25', 16), /10\.5\.2\.128\/25/);
  t.match(check('10.5.2.128/25', 24), /10\.5\.2\.128\/25/);
  for (const [prefix, length] of [
    ['10.5.0.0/16', 16],
    ['10.5.3.0/24', 16],
    ['10.5.0.0/17', 24],
    ['10.5.2.0/24', 24],
  ] as const)
    t.equal(check(prefix, length), undefined, `${prefix} behind /${length}`);
  t.end();
});
