// What the commands show of hosts with IPv6, and with both families.

import t from 'tap';
import { captureArguments, otherFamilyText } from '../../../src/cli/capture.js';
import { formatColumns } from '../../../src/cli/format.js';
import { listLeases } from '../../../src/cli/leases.js';
import { byAddress } from '../../../src/cli/peer-text.js';
import { peersText } from '../../../src/cli/peers.js';
import { statusText } from '../../../src/cli/status.js';
import { drawRates, lookAt, ratesBetween } from '../../../src/cli/top.js';
import { hostTexts } from '../../../src/lease/lease.js';
import type { PeerStatus, StatusDocument, VxlanStatus } from '../../../src/ops/status.js';
import { addressesOf, prefixesOf } from '../../support/leases.js';
import { peerWith, statusWith } from './status-document.js';

const peerOf = (subnets: string, publicIps: string): PeerStatus =>
  peerWith({ state: 'ok' }, hostTexts(prefixesOf(subnets), addressesOf(publicIps)));

const VXLAN: VxlanStatus = {
  ...{ type: 'vxlan', device: 'flannel.1', vni: 1, port: 8472, interface: 'eth0', sourceCheck: 'strict' },
  ...{ hasGbp: false, hasLearning: false, hasDirectRouting: false, refusedDatagrams: 0 },
  devices: { v4: 'flannel.1', v6: 'flannel-v6.1' },
};

const PEERS = [
  peerOf('fd00:5:0:3::/64', '2001:db8::3'),
  peerOf('10.5.2.0/24&fd00:5:0:2::/64', '192.0.2.2&2001:db8::2'),
];

const DUAL: StatusDocument = statusWith({
  network: '10.5.0.0/16 and fd00:5::/48',
  networks: { v4: '10.5.0.0/16', v6: 'fd00:5::/48' },
  lease: {
    subnet: '10.5.1.0/24 and fd00:5:0:1::/64',
    subnets: { v4: '10.5.1.0/24', v6: 'fd00:5:0:1::/64' },
    mtuBytes: 1430,
  },
  interface: {
    ...{ name: 'eth0', index: 2, mtuBytes: 1500 },
    ...{ address: '192.0.2.1 and 2001:db8::1', addresses: { v4: '192.0.2.1', v6: '2001:db8::1' } },
    ...{ publicIp: '192.0.2.1 and 2001:db8::1', publicIps: { v4: '192.0.2.1', v6: '2001:db8::1' } },
  },
  backend: VXLAN,
  peers: PEERS,
});

t.test('status of a host with both families', (t) => {
  const text = statusText(DUAL, Infinity);
  for (const line of [
    'network         10.5.0.0/16 and fd00:5::/48',
    'own lease       10.5.1.0/24 and fd00:5:0:1::/64, MTU 1430',
    'interface       eth0 192.0.2.1 and 2001:db8::1, public IP 192.0.2.1 and 2001:db8::1, MTU 1500',
    'backend         vxlan on flannel.1 and flannel-v6.1',
  ])
    t.ok(text.split('\n').includes(line), line);
  t.end();
});

t.test('peers, leases and top: by address, IPv4 first', (t) => {
  const lines = peersText(PEERS, Infinity, 0).split('\n');
  t.match(lines[1], /^10\.5\.2\.0\/24 and fd00:5:0:2::\/64  192\.0\.2\.2 and 2001:db8::2 /);
  t.match(lines[2], /^fd00:5:0:3::\/64 {18}2001:db8::3 /, 'an address is no number: to the left');
  t.same(
    listLeases(DUAL).map(({ subnet, publicIp, state }) => `${subnet} ${publicIp} ${state}`),
    [
      '10.5.1.0/24 and fd00:5:0:1::/64 192.0.2.1 and 2001:db8::1 own',
      '10.5.2.0/24 and fd00:5:0:2::/64 192.0.2.2 and 2001:db8::2 used',
      'fd00:5:0:3::/64 2001:db8::3 used',
    ],
  );
  const look = { ...lookAt(DUAL), counters: undefined };
  t.match(drawRates(look, ratesBetween(look, look, 1), 24), /fd00:5:0:3::\/64 +2001:db8::3 /);
  t.end();
});

t.test('the order of subnets and keys of either family', (t) => {
  const sorted = [
    '10.5.2.0/24',
    '10.5.9.0-24&fd00::-64',
    '10.5.10.0/24 and fd00:5::/64',
    '0.0.0.0-0&fd00:5:0:1::-64',
    'fd00:5:0:9::/64',
    'fd00:5:0:10::/64',
    'fd00:5:0:10::/65',
    'nonsense',
  ];
  const shuffled = sorted.toReversed().map((subnet) => ({ subnet }));
  t.same(
    byAddress(shuffled).map(({ subnet }) => subnet),
    sorted,
  );
  t.end();
});

t.test('addresses in a column are not taken for numbers', (t) => {
  const check = (cells: readonly string[], expected: string): void => {
    t.equal(
      formatColumns([['heading of it', 'b'], ...cells.map((cell) => [cell, 'x'])]).split('\n')[1],
      expected,
    );
  };
  check(['2001:db8::1'], '2001:db8::1    x');
  check(['2001:db8::1', '192.0.2.1'], '2001:db8::1    x');
  check(['7::', '12'], '7::            x');
  check(['1.50', '22'], '         1.50  x');
  t.end();
});

t.test('capture: a peer by any of its addresses, on the device of the family that was named', (t) => {
  const nets = '(net 10.5.2.0/24 or net fd00:5:0:2::/64)';
  const check = (peer: string, device: string, filter: string): void => {
    t.same(captureArguments(DUAL, { peer }), ['-n', '-i', device, filter], peer);
  };
  check('192.0.2.2', 'flannel.1', nets);
  check('10.5.2.0/24', 'flannel.1', nets);
  check('2001:db8::2', 'flannel-v6.1', nets);
  check('2001:db8::3', 'flannel-v6.1', '(net fd00:5:0:3::/64)');
  t.match(otherFamilyText(DUAL, undefined), /flannel\.1 alone: "tcpdump -i flannel-v6\.1"/);
  t.match(otherFamilyText(DUAL, 'fd00:5:0:3::/64'), /flannel-v6\.1 alone: "tcpdump -i flannel\.1"/);
  t.equal(otherFamilyText(statusWith(), undefined), undefined, 'the udp mode has one device');
  const hostGw = { ...DUAL, backend: { type: 'host-gw', interface: 'eth0' } } as const;
  t.same(captureArguments(hostGw, {}), ['-n', '-i', 'eth0', '(net 10.5.0.0/16 or net fd00:5::/48)']);
  t.end();
});
