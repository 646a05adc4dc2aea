// The vxlan mode in a network of IPv6, and of both families: a device, neighbours, FDB entries and routes of each.

import t from 'tap';
import { deriveVtepMac } from '../../../../src/backend/vxlan/vtep.js';
import { parseIpv6 } from '../../../../src/net/ipv6.js';
import { formatPrefix, parseAnyAddress, parseAnyPrefix, parsePrefix } from '../../../../src/net/prefix.js';
import { textsOf } from '../../../support/conditions.js';
import { openHost, turnsUntil } from '../../../support/fake-kernel-host.js';
import { FakeKernel } from '../../../support/fake-kernel.js';
import { leaseOf, type LeaseWords, prefixesOf } from '../../../support/leases.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;

const configOf = (more: Record<string, unknown> = {}): string =>
  JSON.stringify({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', ...more } });

const DUAL = '10.5.0.0/16&fd00:5::/48';
const DUAL_ADDRESS = '192.0.2.1&fd00:99::1';
const V6 = parsePrefix('fd00:5::/48', 6)!;

/** A peer whose lease has both families, or that of `subnet` alone. */
function dualPeer(number: number, more: Partial<LeaseWords> = {}) {
  return leaseOf({
    subnet: `10.5.${number}.0/24&fd00:5:0:${number}::/64`,
    publicIp: `192.0.2.${number}&fd00:99::${number}`,
    backendType: 'vxlan',
    backendData: { VNI: 1, VtepMAC: `02:00:00:00:00:0${number}` },
    backendV6Data: { VNI: 1, VtepMAC: `02:00:00:00:06:0${number}` },
    created: 1n,
    ...more,
  });
}

async function startDual(networks: string, address: string, own: string, more: Record<string, unknown> = {}) {
  const host = await openHost({ config: configOf(more), networks, address });
  const { data } = await host.backend.publish();
  const { mtuBytes } = await host.backend.start(prefixesOf(own));
  const states = () => host.backend.peerStatus().map(({ state }) => state);
  const apply = (...added: ReturnType<typeof dualPeer>[]): void =>
    host.backend.apply({ added, changed: [], removed: [] });
  return { ...host, data, mtuBytes, states, apply };
}

const tunnel = (number: number): string[] => [
  `10.5.${number}.0/24 via 10.5.${number}.0 dev flannel.1 proto 94`,
  `fd00:5:0:${number}::/64 via fd00:5:0:${number}:: dev flannel-v6.1 proto 94`,
  `fdb 02:00:00:00:00:0${number} 192.0.2.${number} dev flannel.1`,
  `fdb 02:00:00:00:06:0${number} fd00:99::${number} dev flannel-v6.1`,
  `neigh 10.5.${number}.0 02:00:00:00:00:0${number} dev flannel.1`,
  `neigh fd00:5:0:${number}:: 02:00:00:00:06:0${number} dev flannel-v6.1`,
];

const shownOf = (kernel: FakeKernel): string[] => [
  ...new Set([...kernel.shown(NETWORK), ...kernel.shown(V6)].sort()),
];

t.test('a dual-stack network has a device for each family, over the underlay of that family', async (t) => {
  const host = await startDual(DUAL, DUAL_ADDRESS, '10.5.1.0/24&fd00:5:0:1::/64');
  const { kernel, backend, data, mtuBytes, states, apply } = host;
  const [v4, v6] = [kernel.link('flannel.1')!, kernel.link('flannel-v6.1')!];
  t.match(v4, { mtuBytes: 1450, alias: 'twill 10.5.0.0/16', data: { local: '192.0.2.1' } });
  t.match(v6, { mtuBytes: 1430, alias: 'twill fd00:5::/48', data: { local6: 'fd00:99::1', port: 8472 } });
  t.equal(mtuBytes, 1430, 'pods have the smaller MTU');
  t.strictSame(
    [v4, v6].map(({ addresses }) => addresses.map(formatPrefix).join()),
    ['10.5.1.0/32', 'fd00:5:0:1::/128'],
  );
  t.strictSame(
    ['flannel.1', 'flannel-v6.1'].map((name) =>
      ['accept_ra', 'disable_ipv6'].map((key) => kernel.sysctls.get(`ipv6/${name}/${key}`)).join(),
    ),
    ['0,1', '0,0'],
  );
  t.strictSame(data, { v4: { VNI: 1, VtepMAC: v4.mac }, v6: { VNI: 1, VtepMAC: v6.mac } });
  t.not(v4.mac, v6.mac);

  apply(dualPeer(2), dualPeer(3));
  await turnsUntil(() => states().join() === 'programmed,programmed', 'both peers');
  t.strictSame(shownOf(kernel), [...tunnel(2), ...tunnel(3)].sort());
  t.match(backend.status(), { mac: v4.mac, macs: { v4: v4.mac, v6: v6.mac } });
  t.match(backend.peerStatus()[0], {
    device: 'flannel.1',
    devices: { v4: 'flannel.1', v6: 'flannel-v6.1' },
    isDirect: false,
    vtepMac: '02:00:00:00:00:02',
    vtepMacs: { v4: '02:00:00:00:00:02', v6: '02:00:00:00:06:02' },
  });
  const { host: peerHost, subnets } = dualPeer(2);
  t.strictSame(backend.waysTo(dualPeer(2)), [peerHost.publicIp.v4, peerHost.publicIp.v6]);
  t.strictSame(
    backend.waysTo(dualPeer(2)).map((way) => backend.echoTarget(dualPeer(2), way)),
    [subnets.v4!.address, subnets.v6!.address],
    'the device of each family answers',
  );
  backend.apply({ added: [], changed: [], removed: [dualPeer(3)] });
  await turnsUntil(() => kernel.shown(V6).every((line) => !line.includes('06:03')), 'the removal');
  t.strictSame(shownOf(kernel), tunnel(2));

  kernel.removeLink('flannel-v6.1');
  await backend.reconcile();
  t.strictSame(shownOf(kernel), tunnel(2), 'the device of one family is made anew');
  t.equal(kernel.link('flannel-v6.1')?.mac, v6.mac);
  kernel.sysctls.set('ipv6/flannel-v6.1/disable_ipv6', '1');
  await backend.reconcile();
  t.equal(kernel.sysctls.get('ipv6/flannel-v6.1/disable_ipv6'), '0');
  t.strictSame(textsOf(backend), []);
  await backend.close();
});

t.test('an IPv6 network has the one device of IPv6', async (t) => {
  const host = await startDual('fd00:5::/48', 'fd00:99::1', 'fd00:5:0:1::/64');
  const { kernel, backend, data, mtuBytes, states, apply } = host;
  t.equal(kernel.link('flannel.1'), undefined);
  t.equal(backend.device, 'flannel-v6.1');
  t.equal(mtuBytes, 1430);
  t.strictSame(Object.keys(data), ['v6']);
  apply(
    dualPeer(2, { subnet: 'fd00:5:0:2::/64', publicIp: 'fd00:99::2', backendData: undefined }),
    dualPeer(3, {
      subnet: 'fd00:5:0:3::/64',
      publicIp: 'fd00:99::3',
      backendData: undefined,
      backendV6Data: undefined,
    }),
  );
  await turnsUntil(() => states().join() === 'programmed,programmed', 'the peers');
  const derived = deriveVtepMac(parseIpv6('fd00:99::3')!, 1);
  t.match(shownOf(kernel), [
    /^fd00:5:0:2::\/64 via fd00:5:0:2:: dev flannel-v6.1/,
    /^fd00:5:0:3::\/64 via fd00:5:0:3:: dev flannel-v6.1/,
    /^fdb 02:00:00:00:06:02 fd00:99::2 dev flannel-v6.1/,
    `fdb ${derived} fd00:99::3 dev flannel-v6.1`,
    /^neigh fd00:5:0:2:: 02:00:00:00:06:02/,
    `neigh fd00:5:0:3:: ${derived} dev flannel-v6.1`,
  ]);
  t.match(backend.peerStatus()[1], { device: 'flannel-v6.1', vtepMac: derived, vtepMacs: { v6: derived } });
  await backend.close();
});

t.test('what is wrong with one family of a peer does not hold up the other', async (t) => {
  const host = await startDual(DUAL, DUAL_ADDRESS, '10.5.1.0/24&fd00:5:0:1::/64');
  const { kernel, backend, states, apply } = host;
  apply(
    dualPeer(2, { backendV6Data: { VNI: 1, VtepMAC: 'none' } }),
    dualPeer(3, { subnet: '10.5.3.0/24', publicIp: '192.0.2.3' }),
    dualPeer(4, { subnet: 'fd00:5:0:4::/64', publicIp: 'fd00:99::4' }),
    dualPeer(5, { publicIp: '192.0.2.5' }),
  );
  await turnsUntil(() => states().join() === 'refused,programmed,programmed,programmed', 'the peers');
  t.strictSame(
    shownOf(kernel).filter((line) => line.includes('proto')),
    [
      '10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94',
      '10.5.3.0/24 via 10.5.3.0 dev flannel.1 proto 94',
      '10.5.5.0/24 via 10.5.5.0 dev flannel.1 proto 94',
      'fd00:5:0:4::/64 via fd00:5:0:4:: dev flannel-v6.1 proto 94',
    ],
  );
  t.match(textsOf(backend), [/^peer fd00:5:0:2::\/64 cannot be reached: its VtepMAC "none" is no MAC/]);
  const ways = [2, 5].map((number) => {
    const peer = dualPeer(number, number === 5 ? { publicIp: '192.0.2.5' } : {});
    return backend.waysTo(peer).map((way) => backend.echoTarget(peer, way) !== undefined);
  });
  t.strictSame(ways, [[true, false], [true]], 'no echo goes where no packet does');
  const [second] = backend.peerStatus();
  t.match(second, { subnet: '10.5.2.0/24 and fd00:5:0:2::/64', publicIp: '192.0.2.2 and fd00:99::2' });
  t.match(second, { state: 'refused', reason: /^fd00:5:0:2::\/64: cannot be reached/ });
  await backend.close();
});

t.test('of two leases with one IPv6 subnet the elder has it, and each keeps its IPv4', async (t) => {
  const { kernel, backend, states, apply } = await startDual(
    DUAL,
    DUAL_ADDRESS,
    '10.5.1.0/24&fd00:5:0:1::/64',
  );
  const subnet = '10.5.3.0/24&fd00:5:0:2::/64';
  apply(dualPeer(3, { subnet, created: 9n }), dualPeer(2));
  await turnsUntil(() => states().join() === 'refused,programmed', 'the verdict');
  t.strictSame(
    shownOf(kernel).filter((line) => line.includes('proto')),
    [
      '10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94',
      '10.5.3.0/24 via 10.5.3.0 dev flannel.1 proto 94',
      'fd00:5:0:2::/64 via fd00:5:0:2:: dev flannel-v6.1 proto 94',
    ],
  );
  t.ok(shownOf(kernel).includes('neigh fd00:5:0:2:: 02:00:00:00:06:02 dev flannel-v6.1'));
  backend.apply({ added: [], changed: [], removed: [dualPeer(2)] });
  await turnsUntil(() => states().join() === 'programmed', 'the younger one');
  t.ok(shownOf(kernel).includes('neigh fd00:5:0:2:: 02:00:00:00:06:03 dev flannel-v6.1'));
  await backend.close();
});

t.test('a better IPv6 route of somebody else to a peer stays, and the peer is refused', async (t) => {
  const { kernel, backend, states, apply } = await startDual(
    DUAL,
    DUAL_ADDRESS,
    '10.5.1.0/24&fd00:5:0:1::/64',
  );
  const prefix = parsePrefix('fd00:5:0:2::/64', 6)!;
  kernel.addRoute({ prefix, device: 'eth0', protocol: 3, metric: 256 });
  apply(dualPeer(2));
  await turnsUntil(() => states().join() === 'refused', 'the verdict');
  t.match(textsOf(backend), [/^peer fd00:5:0:2::\/64 has its subnet .* routed by protocol 3 on eth0/]);
  t.ok(kernel.shown(V6).includes('fd00:5:0:2::/64 dev eth0 proto 3'));
  await backend.close();
});

t.test('DirectRouting is of each family', async (t) => {
  const more = { DirectRouting: true };
  const { kernel, backend, states, apply } = await startDual(
    DUAL,
    DUAL_ADDRESS,
    '10.5.1.0/24&fd00:5:0:1::/64',
    more,
  );
  kernel.addRoute({
    prefix: parsePrefix('::/0', 6)!,
    gateway: parseIpv6('fd00:99::254')!,
    device: 'eth0',
    protocol: 3,
  });
  apply(dualPeer(2), dualPeer(3, { publicIp: '192.0.2.3&fd00:98::3' }));
  await turnsUntil(() => states().join() === 'programmed,programmed', 'the peers');
  t.strictSame(
    shownOf(kernel).filter((line) => line.includes('proto')),
    [
      '10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94',
      '10.5.3.0/24 via 192.0.2.3 dev eth0 proto 94',
      'fd00:5:0:2::/64 via fd00:99::2 dev eth0 proto 94',
      'fd00:5:0:3::/64 via fd00:5:0:3:: dev flannel-v6.1 proto 94',
    ],
  );
  await backend.close();
});

t.test('the IPv6 route to a peer takes the place of one by another device', async (t) => {
  const cases = [
    ['of the host-gw mode', { protocol: 94, gateway: parseIpv6('fd00:99::2')! }],
    ["an administrator's", { protocol: 4, gateway: parseIpv6('fd00:99::77')! }],
  ] as const;
  const prefix = parsePrefix('fd00:5:0:2::/64', 6)!;
  for (const [what, route] of cases) {
    const kernel = new FakeKernel();
    kernel.addLink('eth0', ['192.0.2.1/24', 'fd00:99::1/64']);
    kernel.addRoute({ prefix, device: 'eth0', ...route });
    const host = await openHost({ config: configOf(), networks: DUAL, address: DUAL_ADDRESS, kernel });
    const { backend } = host;
    const routes = () => kernel.shown(prefix).filter((line) => line.includes(' proto '));
    await backend.publish();
    await backend.start(prefixesOf('10.5.1.0/24&fd00:5:0:1::/64'));
    backend.apply({ added: [dualPeer(2)], changed: [], removed: [] });
    await turnsUntil(() => backend.peerStatus()[0]?.state === 'programmed', what);
    t.strictSame(
      routes(),
      tunnel(2).filter((line) => line.startsWith('fd00')),
      what,
    );
    // It comes while the daemon runs, too.
    kernel.routes.splice(
      kernel.routes.findIndex((other) => other.device === 'flannel-v6.1'),
      1,
    );
    kernel.addRoute({ prefix, device: 'eth0', ...route });
    await backend.reconcile();
    t.strictSame(textsOf(backend), [], what);
    t.strictSame(
      routes(),
      tunnel(2).filter((line) => line.startsWith('fd00')),
      `${what}, again`,
    );
    t.notMatch(kernel.performed.join('; '), 'dev eth0', 'no foreign route is deleted');
    const repairs = backend.metrics().find(({ name }) => name === 'kernel_repairs_total')!.values;
    t.equal(repairs.find(({ labels }) => labels['object'] === 'route')!.value, 1, 'one repair');
    await backend.close();
  }
});

t.test("somebody's own route to the gateway of a peer stays", async (t) => {
  const host = await startDual(DUAL, DUAL_ADDRESS, '10.5.1.0/24&fd00:5:0:1::/64');
  const { kernel, backend, states, apply } = host;
  const gateway = parsePrefix('fd00:5:0:2::/128', 6)!;
  for (const prefix of [gateway, parsePrefix('fd00:5:0:2::/64', 6)!])
    kernel.addRoute({ prefix, gateway: parseIpv6('fd00:99::77')!, device: 'eth0', protocol: 4 });
  const before = kernel.shown(gateway).filter((line) => line.startsWith('fd00:5:0:2::/128'));
  t.equal(before.length, 1);
  apply(dualPeer(2));
  await turnsUntil(() => states().join() === 'programmed', 'the peer');
  t.strictSame(
    kernel.shown(gateway).filter((line) => line.startsWith('fd00:5:0:2::/128')),
    before,
  );
  await backend.close();
});

t.test('a peer that comes to lie behind a router goes through the tunnel, in both families', async (t) => {
  const host = await startDual(DUAL, DUAL_ADDRESS, '10.5.1.0/24&fd00:5:0:1::/64', { DirectRouting: true });
  const { kernel, backend, states, apply } = host;
  apply(dualPeer(2));
  await turnsUntil(() => states().join() === 'programmed', 'the peer');
  const moved = dualPeer(2, { publicIp: '198.51.100.2&fd00:98::2' });
  for (const [text, gateway] of [
    ['198.51.100.0/24', '192.0.2.254'],
    ['fd00:98::/64', 'fd00:99::254'],
  ])
    kernel.addRoute({
      prefix: parseAnyPrefix(text)!,
      gateway: parseAnyAddress(gateway)!,
      device: 'eth0',
      protocol: 4,
    });
  backend.apply({ added: [], changed: [moved], removed: [] });
  const routes = () => shownOf(kernel).filter((line) => / proto 94/.test(line));
  await turnsUntil(() => routes().every((line) => line.includes(' dev flannel')), 'the tunnel');
  t.strictSame(
    routes(),
    tunnel(2).filter((line) => line.includes('proto')),
  );
  t.strictSame(states(), ['programmed']);
  await backend.close();
});

t.test('an MTU or a VNI that IPv6 has no device for is told before anything is touched', async (t) => {
  const open = (more: Record<string, unknown>, networks = DUAL, address = DUAL_ADDRESS) =>
    openHost({ config: configOf(more), networks, address });
  await t.rejects(open({ MTU: 1349 }), {
    code: 'E_CONFIG',
    message: /Backend\.MTU 1349 .*at least 1350 \(1280/,
  });
  await t.rejects(open({ VNI: 10_000 }), { code: 'E_CONFIG', message: /Backend\.VNI 10000 .*at most 9999/ });
  const host = await open({ MTU: 1350, VNI: 9999 });
  t.equal(host.backend.device, 'flannel.9999');
  await (await open({ VNI: 10_000, MTU: 1000 }, '10.5.0.0/16', '192.0.2.1')).backend.close();
});

t.test('what flanneld left in IPv6 is taken over, and its dead peers go', async (t) => {
  const kernel = new FakeKernel();
  kernel.addLink('eth0', ['192.0.2.1/24', 'fd00:99::1/64']);
  const data = { id: 1, link: 'eth0', local6: 'fd00:99::1', port: 8472, learning: false };
  const mac = '0e:aa:bb:cc:dd:ee';
  kernel.addLink('flannel-v6.1', [], { kind: 'vxlan', mac, mtuBytes: 1450, data });
  for (const number of [2, 9]) {
    const prefix = parsePrefix(`fd00:5:0:${number}::/64`, 6)!;
    const gateway = prefix.address;
    kernel.addRoute({ prefix, gateway, device: 'flannel-v6.1', protocol: 3, isOnlink: true });
  }
  const host = await openHost({
    config: configOf(),
    networks: 'fd00:5::/48',
    address: 'fd00:99::1',
    kernel,
  });
  const { backend } = host;
  t.match((await backend.publish()).data, { v6: { VtepMAC: mac } });
  await backend.start(prefixesOf('fd00:5:0:1::/64'));
  const peer = dualPeer(2, { subnet: 'fd00:5:0:2::/64', publicIp: 'fd00:99::2' });
  backend.apply({ added: [peer], changed: [], removed: [] });
  await turnsUntil(() => backend.peerStatus()[0]?.state === 'programmed', 'the peer');
  await turnsUntil(() => host.sweeps() === 1, 'the end of the first run');
  t.strictSame(
    kernel.shown(V6).filter((line) => line.includes('proto')),
    ['fd00:5:0:2::/64 via fd00:5:0:2:: dev flannel-v6.1 proto 94'],
  );
  t.match(kernel.link('flannel-v6.1'), { mac, mtuBytes: 1430, alias: 'twill fd00:5::/48' });
  await backend.close();
});
