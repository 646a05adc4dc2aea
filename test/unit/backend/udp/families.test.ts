// The udp mode in networks of both families: one device, one way to each peer, whichever families that has.

import t from 'tap';
import { outerOf } from '../../../../src/backend/udp/outer.js';
import { formatAddress, formatPrefix, parsePrefix, type Prefix } from '../../../../src/net/prefix.js';
import { type Ipv6, parseIpv6 } from '../../../../src/net/ipv6.js';
import { codesOf, textsOf } from '../../../support/conditions.js';
import { FakeKernel } from '../../../support/fake-kernel.js';
import { addressesOf, leaseOf, prefixesOf } from '../../../support/leases.js';
import { openUdp } from './udp-host.js';

const V4 = parsePrefix('10.5.0.0/16')!;
const V6: Prefix<Ipv6> = parsePrefix('fd00:5::/48', 6)!;
const DUAL = {
  config: JSON.stringify({
    ...{ Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:5::/48' },
    Backend: { Type: 'udp' },
  }),
  address: '192.0.2.1&fd00:99::1',
};
const OWN = prefixesOf('10.5.1.0/24&fd00:5:0:1::/64');

async function start(words = DUAL, own = OWN, kernel = new FakeKernel()) {
  const host = await openUdp(words, { kernel });
  await host.backend.publish();
  const { mtuBytes } = await host.backend.start(own);
  const rows = () =>
    host.backend.peerStatus().map((one) => `${one.subnet} ${one.publicIp} ${one.state} ${one.mtuBytes}`);
  return { ...host, mtuBytes, rows };
}

const addressesOn = (kernel: FakeKernel): string[] => kernel.link('flannel0')!.addresses.map(formatPrefix);

t.test('outerOf() takes IPv4 where both hosts have it', (t) => {
  const both = '192.0.2.2&fd00:99::2';
  const cases: [own: string, peer: string, outer: string | undefined][] = [
    ['192.0.2.1', '192.0.2.2', '192.0.2.2'],
    ['192.0.2.1&fd00:99::1', both, '192.0.2.2'],
    ['192.0.2.1', both, '192.0.2.2'],
    ['fd00:99::1', both, 'fd00:99::2'],
    ['192.0.2.1&fd00:99::1', 'fd00:99::2', 'fd00:99::2'],
    ['192.0.2.1&fd00:99::1', '192.0.2.2', '192.0.2.2'],
    ['fd00:99::1', '192.0.2.2', undefined],
    ['192.0.2.1', 'fd00:99::2', undefined],
  ];
  for (const [own, peer, outer] of cases) {
    const found = outerOf(addressesOf(own), addressesOf(peer));
    t.equal(found && formatAddress(found), outer, `${own} to ${peer}`);
  }
  t.end();
});

t.test('the device has addresses, routes and mark of both families', async (t) => {
  const { backend, kernel, dataplanes, mtuBytes, ports } = await start();
  t.equal(mtuBytes, 1472);
  t.strictSame(addressesOn(kernel), ['10.5.1.0/32', 'fd00:5:0:1::/128']);
  t.equal(kernel.link('flannel0')?.alias, 'twill 10.5.0.0/16 fd00:5::/48 10.5.1.0/32 fd00:5:0:1::/128');
  t.strictSame(kernel.shown(V4), ['10.5.0.0/16 dev flannel0 proto 3']);
  t.match(kernel.shown(V6), ['fd00:5::/48 dev flannel0 proto 3']);
  for (const [key, value] of [
    ['disable_ipv6', '0'],
    ['accept_ra', '0'],
    ['accept_redirects', '0'],
    ['addr_gen_mode', '1'],
  ])
    t.equal(await kernel.settings.interfaceSysctl('ipv6', 'flannel0', key), value, key);
  t.match(dataplanes.current.options, {
    listen: addressesOf(DUAL.address),
    networks: { v4: V4, v6: V6 },
    own: OWN,
  });
  t.strictSame(ports(), ['192.0.2.1', 'fd00:99::1']);
  t.strictSame(codesOf(backend), []);
  await backend.close();
});

t.test('what is missing of either family is repaired', async (t) => {
  const { backend, kernel } = await start();
  const network = kernel.shown(V6);
  await kernel.links.set('flannel0', { isUp: false });
  await kernel.links.deleteAddress('flannel0', { address: OWN.v6!.address, length: 128 });
  await backend.reconcile();
  t.strictSame(addressesOn(kernel).sort(), ['10.5.1.0/32', 'fd00:5:0:1::/128']);
  t.strictSame(kernel.shown(V6), network);
  await backend.close();
});

t.test('a network that loses a family leaves nothing of it', async (t) => {
  const kernel = new FakeKernel();
  await (await start(DUAL, OWN, kernel)).backend.close();
  const config = JSON.stringify({ Network: '10.5.0.0/16', Backend: { Type: 'udp' } });
  const host = await openUdp({ config }, { kernel, networks: [V4, V6] });
  await host.backend.publish();
  t.equal(host.backend.device, 'flannel0', 'the device of the last run');
  await host.backend.start(prefixesOf('10.5.1.0/24'));
  t.strictSame(addressesOn(kernel), ['10.5.1.0/32']);
  t.strictSame(kernel.shown(V6), []);
  t.equal(kernel.link('flannel0')?.alias, 'twill 10.5.0.0/16 10.5.1.0/32');
  t.equal(await kernel.settings.interfaceSysctl('ipv6', 'flannel0', 'disable_ipv6'), '1');
  await host.backend.close();
});

t.test('a peer has a row for each of its families, behind one address', async (t) => {
  const { backend, apply, rows, dataplanes, context } = await start();
  const both = leaseOf({ subnet: '10.5.2.0/24&fd00:5:0:2::/64', publicIp: '192.0.2.2&fd00:99::2' });
  const narrow = leaseOf({ subnet: '10.5.3.0/24', publicIp: '192.0.2.3' });
  const wide = leaseOf({ subnet: 'fd00:5:0:4::/64', publicIp: '192.0.2.4&fd00:99::4' });
  const away = leaseOf({ subnet: '10.5.5.0/24&fd00:5:0:5::/64', publicIp: 'fd00:99::5' });
  await apply({ added: [both, narrow, wide, away] });
  t.strictSame(rows(), [
    '10.5.2.0/24 and fd00:5:0:2::/64 192.0.2.2 and fd00:99::2 programmed 1472',
    '10.5.3.0/24 192.0.2.3 programmed 1472',
    'fd00:5:0:4::/64 192.0.2.4 and fd00:99::4 programmed 1472',
    '10.5.5.0/24 and fd00:5:0:5::/64 fd00:99::5 programmed 1452',
  ]);
  t.strictSame(
    [both, narrow, wide, away].map((peer) => formatAddress(backend.echoTarget(peer)!)),
    ['10.5.2.0', '10.5.3.0', 'fd00:5:0:4::', '10.5.5.0'],
  );

  t.strictSame(
    [both, narrow, wide, away].map((peer) => backend.waysTo(peer).map(formatAddress)),
    [['192.0.2.2'], ['192.0.2.3'], ['192.0.2.4'], ['fd00:99::5']],
  );
  await backend.underlayChanged({ ...context.iface, address: { v6: parseIpv6('fd00:99::1')! } });
  t.strictSame(
    [both, away].map((peer) => backend.waysTo(peer).map(formatAddress)),
    [['fd00:99::2'], ['fd00:99::5']],
    'of what this host has now',
  );
  await backend.underlayChanged(context.iface);

  // Traffic of both rows is the peer's.
  dataplanes.current.rows.set([1, 10, 2, 20, 4, 40, 8, 80]);
  t.match(backend.peerStatus()[0], { packetsOut: 5, bytesOut: 50, packetsIn: 10, bytesIn: 100 });
  t.strictSame(backend.peerPackets(both), [5, 10]);

  backend.pathMtuChanged(both.host.publicIp.v4!, 1400);
  backend.pathMtuChanged(away.host.publicIp.v6!, 1300);
  t.strictSame(
    backend.peerStatus().map(({ mtuBytes }) => mtuBytes),
    [1372, 1472, 1472, 1252],
    '28 and 48 bytes less',
  );
  backend.pathMtuChanged(away.host.publicIp.v6!, 1500);
  t.match(backend.peerStatus()[3], { mtuBytes: 1452 });

  await apply({ removed: [both] });
  t.equal(rows().length, 3);
  t.equal(backend.echoTarget(both), undefined);
  await backend.close();
});

t.test('a peer that has no address of our family, or is behind our own device, is not sent to', async (t) => {
  const { backend, kernel, apply, states } = await start();
  kernel.addRoute({ prefix: parsePrefix('fd00:77::/64', 6)!, device: 'flannel0', protocol: 3 });
  const looped = leaseOf({ subnet: 'fd00:5:0:7::/64', publicIp: 'fd00:77::7' });
  await apply({ added: [looped] });
  await backend.reconcile();
  t.strictSame(states(), ['route_loop']);
  t.match(textsOf(backend).join(), /fd00:77::7 is reached through flannel0 itself/);
  t.equal(backend.echoTarget(looped), undefined);
  await backend.close();
});

t.test('a narrow interface leaves IPv6 its smallest MTU', async (t) => {
  const { backend, context } = await start();
  t.strictSame(await backend.underlayChanged({ ...context.iface, mtuBytes: 1280 }), { mtuBytes: 1280 });
  await backend.close();
});
