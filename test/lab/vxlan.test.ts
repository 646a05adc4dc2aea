// vxlan mode between three hosts, one of them behind a router; the picture is in kernel-lab.ts. What is repaired is in
// vxlan-repair.test.ts, who is let in in vxlan-guard.test.ts.

import { readFile } from 'node:fs/promises';
import t from 'tap';
import {
  Driver,
  introduce,
  LAB_SKIP,
  NETWORK,
  startVxlanNode,
  waitFor,
  withLab,
} from '../support/kernel-lab.js';
import type { DriverState, LeaseText } from '../support/kernel-lab.js';

t.test('vxlan: three hosts reach each other through VXLAN', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2, 3].map((number) => startVxlanNode(lab, number)));
    await introduce(nodes);
    const capture = await lab.capture('r', 'p1', 'ip');
    await waitFor(
      'pings',
      async () => (await lab.ping('c1', '10.5.2.2')) && (await lab.ping('c1', '10.5.3.2')),
    );
    t.ok(await lab.ping('c3', '10.5.2.2'), 'through the router');
    await waitFor('capture', () =>
      Promise.resolve(capture.text().includes('10.5.3.2 > 10.5.1.2: ICMP echo reply')),
    );
    t.match(capture.text(), /192\.0\.2\.1\.\d+ > 192\.0\.2\.2\.8472: VXLAN, flags \[I\] \(0x08\), vni 1/);
    t.notMatch(capture.text(), /^\S+ IP 10\.5\./m, 'nothing of the overlay goes untunnelled');

    const [device] = await lab.json<Record<string, never>[]>('h1', 'ip -d -j link show dev flannel.1');
    const file = new URL('../fixtures/golden/vxlan-link.json', import.meta.url);
    const golden = JSON.parse(await readFile(file, 'utf8')) as Record<string, never>;
    t.strictSame({ ...pick(device), address: 'x' }, { ...pick(golden), address: 'x' });
    t.match(
      await lab.sh('h1', 'ip route show 10.5.2.0/24'),
      '10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94 onlink',
    );
    const mac = (nodes[1].lease.backendData as { VtepMAC: string }).VtepMAC;
    t.match(await lab.sh('h1', 'ip neigh show dev flannel.1'), `10.5.2.0 lladdr ${mac} PERMANENT`);
    t.match(await lab.sh('h1', 'bridge fdb show dev flannel.1'), `${mac} dst 192.0.2.2 self permanent`);
    t.match(await lab.sh('h1', 'ip -4 addr show dev flannel.1'), 'inet 10.5.1.0/32 scope global flannel.1');

    t.ok(await lab.transfer('c1', 'c3', '10.5.3.2'), 'a file arrives unchanged');

    const state = await nodes[0].driver.call<DriverState>('state');
    t.strictSame(state.degraded, []);
    for (const node of nodes) await node.driver.close();
    t.ok(await lab.ping('c1', '10.5.2.2'), 'goes on after the end of every daemon');
  }),
);

/** What must be equal to flanneld's device. */
function pick(link: Record<string, never>): Record<string, unknown> {
  const { ifname, mtu, linkinfo } = link as Record<string, unknown>;
  return { ifname, mtu, linkinfo };
}

t.test('vxlan: DirectRouting sends plain packets to peers on the link only', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all(
      [1, 2, 3].map((number) => startVxlanNode(lab, number, { directrouting: true })),
    );
    await introduce(nodes);
    const capture = await lab.capture('r', 'p1', 'ip');
    await waitFor(
      'pings',
      async () => (await lab.ping('c1', '10.5.2.2')) && (await lab.ping('c1', '10.5.3.2')),
    );
    await waitFor('capture', () =>
      Promise.resolve(capture.text().includes('10.5.3.2 > 10.5.1.2: ICMP echo reply')),
    );
    t.match(capture.text(), /^\S+ IP 10\.5\.1\.2 > 10\.5\.2\.2: ICMP/m, 'plain on the link');
    t.match(
      capture.text(),
      /192\.0\.2\.1\.\d+ > 198\.51\.100\.3\.8472: VXLAN/,
      'tunnelled through the router',
    );
    t.match(await lab.sh('h1', 'ip route show 10.5.2.0/24'), '10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94');
    t.notMatch(
      await lab.sh('h1', 'bridge fdb show dev flannel.1'),
      '192.0.2.2',
      'no FDB entry for a direct peer',
    );

    // The link to h2 gets a router in between: the peer moves into the tunnel without a change of its lease.
    await lab.sh('h1', 'ip route add 192.0.2.2/32 via 192.0.2.254');
    await nodes[0].driver.call('reconcile');
    t.match(await lab.sh('h1', 'ip route show 10.5.2.0/24'), 'dev flannel.1 proto 94 onlink');
    t.match(await lab.sh('h1', 'bridge fdb show dev flannel.1'), 'dst 192.0.2.2');
  }),
);

t.test('vxlan: what cannot work is refused with the reason', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const refuse = async (backend: Record<string, unknown>, expected: RegExp) => {
      const driver = new Driver(lab, 'h1');
      const attempt = async () => {
        await driver.call('new', { backend: { Type: 'vxlan', ...backend }, network: NETWORK, iface: 'eth0' });
        await driver.call('publish');
        await driver.call('start', { subnet: '10.5.1.0/24' });
      };
      await t.rejects(attempt(), { message: expected }, String(expected));
      await driver.kill();
    };
    await refuse(
      { VNI: 16777216 },
      /E_CONFIG: .+: Backend.VNI 16777216: expected an integer from 0 to 16777215/,
    );
    await refuse(
      { MTU: 1501 },
      /E_CONFIG: Backend.MTU 1501 in the network config: expected at most the MTU 1500 of interface "eth0"/,
    );
    await refuse({ MTU: 100 }, /E_CONFIG: .+: Backend.MTU 100: expected at least 626/);
    await lab.sh('h1', 'ip link add elsewhere type vxlan id 5 dev eth0 local 192.0.2.1 dstport 8472');
    await lab.sh('h1', 'ip link set elsewhere up');
    await refuse({ VNI: 5 }, /E_KERNEL: Cannot make VXLAN device "flannel.5".*in use by device "elsewhere"/);
    const holder = lab.start('h1', ['socat', '-u', 'UDP4-RECV:4789', 'STDOUT']);
    await waitFor('socket', async () => (await lab.sh('h1', 'ss -Hlun')).includes(':4789'));
    await refuse(
      { VNI: 6, Port: 4789 },
      /E_KERNEL: Cannot bring up VXLAN device "flannel.6": UDP port 4789 is in use/,
    );
    holder.kill();

    // Peers with nonsense are left out one by one; the others work. The interface goes away and comes back.
    const node = await startVxlanNode(lab, 1);
    const peer = (subnet: string, publicIp: string, backendData: unknown, backendType = 'vxlan') => {
      return { subnet, publicIp, backendType, backendData };
    };
    const mac = '02:00:00:00:00:42';
    await node.driver.call('apply', {
      added: [
        peer('10.5.2.0/24', '192.0.2.2', { VNI: 1, VtepMAC: mac }),
        peer('10.5.11.0/24', '192.0.2.11', { VNI: 1, VtepMAC: 'ff:ff:ff:ff:ff:ff' }),
        peer('10.5.13.0/24', '192.0.2.13', { VNI: 2, VtepMAC: '02:00:00:00:00:13' }),
        peer('10.5.14.0/24', '192.0.2.14', undefined, 'host-gw'),
      ],
    });
    const state = await node.driver.call<DriverState>('state');
    t.match(state.degraded, [
      'peer 10.5.11.0/24 cannot be reached: its VtepMAC "ff:ff:ff:ff:ff:ff" is no unicast address',
      'peer 10.5.13.0/24 uses VNI 2, this host uses 1',
      'peer 10.5.14.0/24 uses backend "host-gw", this host uses "vxlan"',
    ]);
    t.match(await lab.sh('h1', 'bridge fdb show dev flannel.1'), `${mac} dst 192.0.2.2`);
    await node.driver.call('watch');
    await lab.sh('h1', `ip link set eth0 netns ${lab.name('r')} name away`); // takes the VXLAN device with it
    const gone = await waitFor('degraded', async () => {
      const { degraded } = await node.driver.call<DriverState>('state');
      return degraded.find((reason) => reason.includes('interface "eth0" is gone'));
    });
    t.match(gone, 'Cannot make VXLAN device "flannel.1" fit: interface "eth0" is gone');
    await lab.sh('r', `ip link set away netns ${lab.name('h1')} name eth0`);
    await lab.sh('h1', 'ip addr add 192.0.2.1/24 dev eth0');
    await lab.sh('h1', 'ip link set eth0 up');
    await node.driver.call('interface', { iface: 'eth0' });
    await waitFor(
      'device and peers back',
      async () => {
        return (await lab.sh('h1', 'bridge fdb show dev flannel.1')).includes(`${mac} dst 192.0.2.2`);
      },
      2_000,
    );
  }),
);

t.test('vxlan: the interface below is followed by its index, and nothing is lost', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2].map((number) => startVxlanNode(lab, number)));
    await introduce(nodes);
    for (const node of nodes) await node.driver.call('watch');
    await waitFor('ping', () => lab.ping('c1', '10.5.2.2'));
    const indexOf = async () => (await lab.sh('h1', 'cat /sys/class/net/flannel.1/ifindex')).trim();
    const before = await indexOf();
    const pings = lab.exec('c1', ['ping', '-n', '-q', '-i', '0.02', '-c', '100', '-W1', '10.5.2.2']);
    await lab.sh('h1', 'ip link set eth0 name lan0');
    await nodes[0].driver.call('reconcile');
    await nodes[0].driver.call('interface', { iface: 'lan0' });
    await lab.sh('h1', 'ip link set lan0 name eth0');
    await nodes[0].driver.call('reconcile');
    await nodes[0].driver.call('interface', { iface: 'eth0' });
    t.match(await pings, '100 packets transmitted, 100 received');
    t.equal(await indexOf(), before, 'a new name');

    // Deleted while the daemon knows only the former name: the interface is the same one.
    await lab.sh('h1', 'ip link set eth0 name lan0');
    await lab.sh('h1', 'ip link del flannel.1');
    await nodes[0].driver.call('reconcile');
    t.match(await lab.sh('h1', 'ip -d link show flannel.1'), 'dev lan0');
    t.ok(await waitFor('ping', () => lab.ping('c1', '10.5.2.2')));

    // Another interface and address: the device stays, with what hangs on it.
    const remade = await indexOf();
    await lab.sh('h1', 'ip link add link lan0 name eth1 type macvlan mode bridge');
    await lab.sh('h1', 'ip addr add 192.0.2.21/24 dev eth1');
    await lab.sh('h1', 'ip link set eth1 up');
    await nodes[0].driver.call('interface', { iface: 'eth1' });
    t.match(await lab.sh('h1', 'ip -d link show flannel.1'), /local 192\.0\.2\.21 dev eth1/);
    t.equal(await indexOf(), remade, 'another interface');
    await nodes[1].driver.call('apply', { changed: [{ ...nodes[0].lease, publicIp: '192.0.2.21' }] });
    t.ok(await waitFor('ping', () => lab.ping('c1', '10.5.2.2')));
    t.strictSame((await nodes[0].driver.call<DriverState>('state')).degraded, []);
  }),
);

t.test('vxlan: a device stays until another is there', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2].map((number) => startVxlanNode(lab, number)));
    await introduce(nodes);
    await waitFor('ping', () => lab.ping('c1', '10.5.2.2'));
    for (const node of nodes) await node.driver.close();
    const before = await lab.sh('h1', 'ip -d link show');
    const holder = lab.start('h1', ['socat', '-u', 'UDP4-RECV:4789', 'STDOUT']);
    await waitFor('socket', async () => (await lab.sh('h1', 'ss -Hlun')).includes(':4789'));
    await t.rejects(startVxlanNode(lab, 1, { Port: 4789 }), { message: /UDP port 4789 is in use/ });
    t.equal(await lab.sh('h1', 'ip -d link show'), before);
    t.ok(await lab.ping('c1', '10.5.2.2'), 'the former device carries packets');
    holder.kill();
    await waitFor('end', async () => !(await lab.sh('h1', 'ss -Hlun')).includes(':4789'));
    await startVxlanNode(lab, 1, { Port: 4789 });
    t.match(await lab.sh('h1', 'ip -d link show flannel.1'), 'dstport 4789');
    t.notMatch(await lab.sh('h1', 'ip link show'), 'flnew');
  }),
);

t.test('vxlan: what was set by ethtool outlives the device', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const node = await startVxlanNode(lab, 1);
    const isOn = async (feature: string) =>
      (await lab.sh('h1', 'ethtool -k flannel.1')).includes(`${feature}: on`);
    await lab.sh('h1', 'ethtool -K flannel.1 generic-receive-offload off tx-gso-list off');
    await node.driver.call('reconcile');
    await lab.sh('h1', 'ip link del flannel.1');
    await node.driver.call('reconcile');
    t.notOk(await isOn('generic-receive-offload'));
    t.notOk(await isOn('tx-gso-list'));
    t.ok(await isOn('tx-checksum-ip-generic'), 'left alone');
    await node.driver.close();

    const off = await startVxlanNode(lab, 1, {}, { vxlanTxChecksum: 'off' });
    t.notOk(await isOn('tx-checksum-ip-generic'));
    t.notOk(await isOn('generic-receive-offload'), 'taken over');
    await lab.sh('h1', 'ethtool -K flannel.1 tx-checksum-ip-generic on');
    await off.driver.call('reconcile');
    t.notOk(await isOn('tx-checksum-ip-generic'), 'set again');
  }),
);

t.test('vxlan: 5,000 peers are programmed in one go', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const node = await startVxlanNode(lab, 1);
    const peer = (index: number): LeaseText => {
      const tail = `${index >> 8}.${index & 255}`;
      const [high, low] = [
        (index >> 8).toString(16).padStart(2, '0'),
        (index & 255).toString(16).padStart(2, '0'),
      ];
      return {
        subnet: `10.5.${(index >> 6) + 16}.${(index & 63) * 4}/30`,
        publicIp: `172.16.${tail}`,
        backendType: 'vxlan',
        backendData: { VNI: 1, VtepMAC: `02:00:00:01:${high}:${low}` },
      };
    };
    const all = await node.driver.call<{ ms: number }>('apply', {
      added: Array.from({ length: 5000 }, (_, i) => peer(i)),
    });
    t.comment(`5,000 peers: ${Math.round(all.ms)} ms`);
    t.equal((await lab.sh('h1', 'ip route show proto 94')).split('\n').length - 1, 5000);
    t.equal(
      (await lab.sh('h1', 'bridge fdb show dev flannel.1')).split('\n').filter((line) => line.includes('dst'))
        .length,
      5000,
    );
    const changes: number[] = [];
    for (let i = 0; i < 11; i++) {
      const changed = { ...peer(4000 + i), publicIp: `172.17.0.${i}` };
      changes.push((await node.driver.call<{ ms: number }>('apply', { changed: [changed] })).ms);
    }
    changes.sort((a, b) => a - b);
    t.comment(
      `one change among 5,000: median ${changes[5].toFixed(1)} ms, worst ${changes[10].toFixed(1)} ms`,
    );
    t.ok(changes[5] < 100, 'one change costs no full run');
    const again = await node.driver.call<{ ms: number }>('reconcile');
    t.comment(`comparing 5,000 peers with the kernel: ${Math.round(again.ms)} ms`);
    t.strictSame((await node.driver.call<DriverState>('state')).degraded, []);
  }),
);
