// host-gw mode between three hosts, one of them behind a router; the picture is in kernel-lab.ts.

import t from 'tap';
import {
  Driver,
  introduce,
  LAB_SKIP,
  NETWORK,
  startLabNode,
  waitFor,
  withLab,
} from '../support/kernel-lab.js';
import type { DriverState, KernelLab } from '../support/kernel-lab.js';

const startNode = (lab: KernelLab, number: number) => startLabNode(lab, number, { Type: 'host-gw' });

const routesOf = async (lab: KernelLab, host: string) =>
  (await lab.sh(host, 'ip route show root 10.5.0.0/16'))
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.includes('proto kernel'))
    .sort();

t.test('host-gw: hosts on one link reach each other without a tunnel', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2, 3].map((number) => startNode(lab, number)));
    t.strictSame(nodes[0].lease, { subnet: '10.5.1.0/24', publicIp: '192.0.2.1', backendType: 'host-gw' });
    await introduce(nodes);
    const capture = await lab.capture('r', 'p1', 'ip');
    await waitFor('ping', () => lab.ping('c1', '10.5.2.2'));
    t.ok(await lab.transfer('c1', 'c2', '10.5.2.2'), 'a file arrives unchanged');
    await waitFor('capture', () => Promise.resolve(capture.text().includes('10.5.2.2.9000 > 10.5.1.2')));
    t.match(capture.text(), /^\S+ IP 10\.5\.1\.2 > 10\.5\.2\.2: ICMP echo request/m);
    t.notMatch(capture.text(), /UDP|VXLAN/, 'no tunnel');
    t.strictSame(await routesOf(lab, 'h1'), ['10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94']);

    const state = await nodes[0].driver.call<DriverState>('state');
    const off = '198.51.100.3 is behind router 192.0.2.254, not on the same link';
    t.strictSame(state.degraded, [`peer 10.5.3.0/24 cannot be a gateway: ${off}`]);
    const gauge = state.counters.find((counter) => counter.name === 'kernel_peers')!;
    t.equal(gauge.values.find((value) => value.labels['state'] === 'off_link')!.value, 1);

    // The same host joins the link: nothing but the network changes.
    await nodes[0].driver.call('watch');
    await lab.sh('h1', 'ip route add 198.51.100.3/32 dev eth0');
    await waitFor('on link', async () =>
      (await routesOf(lab, 'h1')).includes('10.5.3.0/24 via 198.51.100.3 dev eth0 proto 94'),
    );
    await lab.sh('h1', 'ip route del 198.51.100.3/32');
    await waitFor('off link', async () => !(await routesOf(lab, 'h1')).join().includes('10.5.3.0/24'));

    for (const node of nodes) await node.driver.close();
    t.ok(await lab.ping('c1', '10.5.2.2'), 'goes on after the end of every daemon');
  }),
);

t.test('host-gw: routes come back, foreign ones stay, SIGKILL loses no packet', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    await lab.exec(
      'h1',
      ['ip', '-batch', '-'],
      `route add 10.5.2.0/24 via 192.0.2.2 dev eth0
       route add 10.5.9.0/24 via 192.0.2.9 dev eth0 proto 94
       route add 10.5.8.0/24 via 192.0.2.8 dev eth0 proto 94 metric 50
       route add 10.5.7.0/24 via 192.0.2.7 dev eth0
       route add blackhole 10.5.6.0/24 proto 94\n`,
    );
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
    t.equal((await routesOf(lab, 'h1')).length, 5, 'nothing is removed before the first snapshot');
    await introduce(nodes);
    const expected = [
      '10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94',
      '10.5.7.0/24 via 192.0.2.7 dev eth0',
      'blackhole 10.5.6.0/24 proto 94',
    ];
    t.strictSame(await routesOf(lab, 'h1'), expected);
    await nodes[0].driver.call('watch');
    for (const command of [
      'ip route del 10.5.2.0/24',
      'ip route replace 10.5.2.0/24 via 192.0.2.254',
      'ip route flush proto 94 type unicast',
      'ip link set eth0 down',
    ]) {
      await lab.sh('h1', command);
      if (command.endsWith('down')) {
        await lab.sh('h1', 'ip link set eth0 up');
        await lab.sh('h1', 'ip route add default via 192.0.2.254');
        expected.splice(1, 1); // the foreign route went with the link
      }
      const startedAt = performance.now();
      await waitFor(
        command,
        async () => JSON.stringify(await routesOf(lab, 'h1')) === JSON.stringify(expected),
        2_000,
      );
      t.comment(`${command}: back after ${Math.round(performance.now() - startedAt)} ms`);
      t.ok(await waitFor('ping', () => lab.ping('c1', '10.5.2.2')), command);
    }
    const pinging = lab.exec('c1', ['ping', '-n', '-q', '-i', '0.002', '-c', '1500', '-W', '1', '10.5.2.2']);
    await nodes[0].driver.kill();
    const next = await startNode(lab, 1);
    await next.driver.call('apply', { added: [nodes[1].lease] });
    t.match(await pinging, '1500 packets transmitted, 1500 received, 0% packet loss');

    // A local bridge with the peer's subnet is a fault of the set-up that a route must not hide.
    await lab.sh('h1', 'ip addr add 10.5.20.1/24 dev vk');
    await next.driver.call('apply', {
      added: [{ subnet: '10.5.20.0/24', publicIp: '192.0.2.20', backendType: 'host-gw' }],
    });
    const { degraded } = await next.driver.call<DriverState>('state');
    t.strictSame(degraded, [
      'peer 10.5.20.0/24 has its subnet 10.5.20.0/24 routed by protocol 2 on vk, which is not ours to replace',
    ]);
    await lab.sh('h1', 'ip addr del 10.5.20.1/24 dev vk');
    await next.driver.call('reconcile');
    t.ok((await routesOf(lab, 'h1')).includes('10.5.20.0/24 via 192.0.2.20 dev eth0 proto 94'));
    await next.driver.call('apply', {
      removed: [{ subnet: '10.5.20.0/24', publicIp: '192.0.2.20', backendType: 'host-gw' }],
    });
    await waitFor('removed', async () => !(await routesOf(lab, 'h1')).join().includes('10.5.20.0/24'));
  }),
);

t.test('host-gw: follows a new name, and reaches peers by its own interface', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
    await introduce(nodes);
    await waitFor('ping', () => lab.ping('c1', '10.5.2.2'));
    await lab.sh('h1', 'ip link set eth0 name lan0');
    await nodes[0].driver.call('reconcile');
    t.strictSame((await nodes[0].driver.call<DriverState>('state')).degraded, []);
    t.strictSame(await routesOf(lab, 'h1'), ['10.5.2.0/24 via 192.0.2.2 dev lan0 proto 94']);
    t.ok(await lab.ping('c1', '10.5.2.2'));

    // A second interface on the same link, by which the main lookup would go.
    await lab.sh('h1', 'ip link add link lan0 name eth1 type macvlan mode bridge');
    await lab.sh('h1', 'ip link set eth1 up');
    await lab.sh('h1', 'ip route add 192.0.2.2/32 dev eth1');
    await nodes[0].driver.call('reconcile');
    t.strictSame((await nodes[0].driver.call<DriverState>('state')).degraded, []);
    t.strictSame(await routesOf(lab, 'h1'), ['10.5.2.0/24 via 192.0.2.2 dev lan0 proto 94']);
    await lab.sh('h1', 'ip route del default');
    await nodes[0].driver.call('apply', {
      added: [{ subnet: '10.5.9.0/24', publicIp: '203.0.113.9', backendType: 'host-gw' }],
    });
    t.match(
      (await nodes[0].driver.call<DriverState>('state')).degraded.join(),
      'has no route to 203.0.113.9',
    );
  }),
);

t.test('host-gw: a peer of IPv4 behind a router of IPv6 is no gateway', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
    // RFC 8950, as in networks whose links have IPv6 alone.
    await lab.sh('h1', 'ip route add 192.0.2.2/32 via inet6 fe80::99 dev eth0');
    await lab.sh('h1', 'ip route add 10.5.77.0/24 via inet6 fe80::99 dev eth0 proto 94');
    await introduce(nodes);
    t.match((await nodes[0].driver.call<DriverState>('state')).degraded, [
      /192\.0\.2\.2 is behind router fe80::99/,
    ]);
    t.strictSame(await routesOf(lab, 'h1'), [], 'and what is left of another run goes');
  }),
);

t.test('host-gw: refuses to start behind NAT', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const driver = new Driver(lab, 'h1');
    const fields = { backend: { Type: 'host-gw' }, network: NETWORK, iface: 'eth0', publicIp: '203.0.113.1' };
    const message =
      'Backend "host-gw" cannot work behind NAT: public IP 203.0.113.1 differs from 192.0.2.1 of "eth0"';
    await t.rejects(driver.call('new', fields), { message: `E_BACKEND: ${message}` });
  }),
);

t.test(
  'a change of the mode replaces routes in place and removes the former device',
  { skip: LAB_SKIP },
  (t) =>
    withLab(async (lab) => {
      const vxlan = await Promise.all([1, 2].map((number) => startLabNode(lab, number, { Type: 'vxlan' })));
      await introduce(vxlan);
      await waitFor('ping', () => lab.ping('c1', '10.5.2.2'));
      for (const node of vxlan) await node.driver.close();
      const hostGw = await Promise.all([1, 2].map((number) => startNode(lab, number)));
      t.ok(await lab.ping('c1', '10.5.2.2'), 'the former mode works until the first snapshot');
      await introduce(hostGw);
      t.ok(await lab.ping('c1', '10.5.2.2'), 'without a tunnel');
      t.strictSame(await routesOf(lab, 'h1'), ['10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94']);
      await waitFor(
        'device removed',
        async () => !(await lab.sh('h1', 'ip link show')).includes('flannel.1'),
      );
      await waitFor('guard removed', async () => !(await lab.sh('h1', 'nft list ruleset')).includes('twill'));
      for (const node of hostGw) await node.driver.close();
      const back = await Promise.all([1, 2].map((number) => startLabNode(lab, number, { Type: 'vxlan' })));
      await introduce(back);
      t.ok(await waitFor('ping', () => lab.ping('c1', '10.5.2.2')), 'and back');
      t.strictSame(await routesOf(lab, 'h1'), ['10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94 onlink']);
    }),
);
