// vxlan mode: what is found at the start, deleted or changed by hand, or left by a daemon that was killed.

import t from 'tap';
import { introduce, LAB_SKIP, run, startVxlanNode, waitFor, withLab } from '../support/kernel-lab.js';
import type { DriverState, KernelLab, LeaseText } from '../support/kernel-lab.js';

t.test('vxlan: whatever is deleted or changed by hand is back within two seconds', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2, 3].map((number) => startVxlanNode(lab, number)));
    await introduce(nodes);
    for (const node of nodes) await node.driver.call('watch');
    const macs = nodes.map((node) => (node.lease.backendData as { VtepMAC: string }).VtepMAC);
    const worksAgain = async () => (await lab.ping('c1', '10.5.2.2')) && (await lab.ping('c1', '10.5.3.2'));
    await waitFor('pings', worksAgain);
    const wreckage: readonly (readonly [string, readonly string[]])[] = [
      ['route', ['ip route del 10.5.2.0/24']],
      ['route replaced by a static one', ['ip route replace 10.5.2.0/24 via 192.0.2.254 proto static']],
      ['all routes', ['ip route flush proto 94']],
      ['neighbour', ['ip neigh del 10.5.2.0 dev flannel.1']],
      [
        'neighbour with another MAC',
        ['ip neigh replace 10.5.2.0 lladdr 02:00:00:00:00:01 dev flannel.1 nud permanent'],
      ],
      ['neighbour made temporary', [`ip neigh replace 10.5.2.0 lladdr ${macs[1]} dev flannel.1 nud stale`]],
      ['FDB entry', [`bridge fdb del ${macs[1]} dev flannel.1`]],
      [
        'FDB entry to another host',
        [`bridge fdb replace ${macs[1]} dev flannel.1 self permanent dst 192.0.2.77`],
      ],
      ['address', ['ip addr del 10.5.1.0/32 dev flannel.1']],
      ['second address', ['ip addr add 10.5.77.0/32 dev flannel.1']],
      ['MTU', ['ip link set flannel.1 mtu 1000']],
      ['MAC', ['ip link set flannel.1 address 02:00:00:00:00:02']],
      ['device down', ['ip link set flannel.1 down']],
      ['device', ['ip link del flannel.1']],
      ['device of other kind', ['ip link del flannel.1', 'ip link add flannel.1 type bridge']],
    ];
    const before = await kernelText(lab);
    for (const [what, commands] of wreckage) {
      for (const command of commands) await lab.sh('h1', command);
      const startedAt = performance.now();
      await waitFor(`${what} back`, async () => (await kernelText(lab)) === before, 2_000);
      t.comment(`${what}: back after ${Math.round(performance.now() - startedAt)} ms`);
      t.ok(await waitFor('ping', worksAgain, 2_000), what);
    }
    const { counters } = await nodes[0].driver.call<DriverState>('state');
    const repairs = counters.find((counter) => counter.name === 'kernel_repairs_total')!.values;
    for (const object of ['route', 'neighbour', 'fdb', 'device', 'address']) {
      t.ok(
        repairs.find((value) => value.labels['object'] === object)!.value > 0,
        `${object} repairs counted`,
      );
    }
  }),
);

/** Everything of h1 that a repair must bring back, sorted. */
async function kernelText(lab: KernelLab): Promise<string> {
  const texts = await Promise.all([
    lab.sh('h1', 'ip route show root 10.5.0.0/16'),
    lab.sh('h1', 'ip -4 neigh show dev flannel.1 nud permanent'),
    lab.sh('h1', 'bridge fdb show dev flannel.1'),
    lab.sh('h1', 'ip -4 -o addr show dev flannel.1'),
    lab.sh('h1', 'ip -d -o link show dev flannel.1'),
  ]);
  // Without what the kernel numbers anew: interface index and its use as a prefix.
  return texts
    .flatMap((text) => text.split('\n'))
    .map((line) => line.replace(/^\d+: /, ''))
    .sort()
    .join('\n');
}

t.test('vxlan: SIGKILL and restart under traffic lose no packet', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2].map((number) => startVxlanNode(lab, number)));
    await introduce(nodes);
    await nodes[0].driver.call('watch');
    await waitFor('ping', () => lab.ping('c1', '10.5.2.2'));
    const [link] = await lab.json<{ ifindex: number; address: string }[]>('h1', 'ip -j link show flannel.1');
    const pinging = lab.exec('c1', ['ping', '-n', '-q', '-i', '0.002', '-c', '1500', '-W', '1', '10.5.2.2']);
    await nodes[0].driver.kill();
    const next = await startVxlanNode(lab, 1);
    await next.driver.call('apply', { added: [nodes[1].lease] });
    t.match(await pinging, '1500 packets transmitted, 1500 received, 0% packet loss');
    const [after] = await lab.json<{ ifindex: number; address: string }[]>('h1', 'ip -j link show flannel.1');
    t.strictSame([after.ifindex, after.address], [link.ifindex, link.address], 'the same device');
    t.strictSame(next.lease.backendData, { VNI: 1, VtepMAC: link.address }, 'the same MAC in the lease');
    const pids = (await run('ip', ['netns', 'pids', lab.name('h1')])).trim().split('\n');
    const commands = await run('ps', ['-o', 'args=', '-p', pids.join()]);
    const monitors = commands.split('\n').filter((line) => line.startsWith('ip -oneline monitor'));
    t.equal(monitors.length, 0, 'no monitor of the killed daemon is left');
  }),
);

t.test('vxlan: start takes over, replaces and removes what it finds', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    // As flanneld leaves it: one live peer, one that is long gone; and routes of an administrator and of others.
    const mac = '02:11:22:33:44:55';
    await lab.exec(
      'h1',
      ['ip', '-batch', '-'],
      `link add flannel.1 address ${mac} mtu 1450 type vxlan id 1 dev eth0 local 192.0.2.1 dstport 8472 nolearning
       addr add 10.5.1.0/32 dev flannel.1
       link set flannel.1 up
       neigh replace 10.5.2.0 lladdr 02:00:00:00:00:02 dev flannel.1 nud permanent
       route add 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink
       neigh replace 10.5.9.0 lladdr 02:00:00:00:00:09 dev flannel.1 nud permanent
       route add 10.5.9.0/24 via 10.5.9.0 dev flannel.1 onlink
       route add 10.9.9.0/24 via 10.9.9.0 dev flannel.1 onlink
       route add 10.5.8.0/24 via 192.0.2.8 dev eth0 proto 94
       route add 10.8.8.0/24 via 192.0.2.8 dev eth0 proto 94
       route add 10.5.6.0/24 via 192.0.2.6 dev eth0
       route add 10.5.5.0/24 via 192.0.2.5 dev eth0 proto static
       route add 10.5.4.0/24 via 192.0.2.4 dev eth0 proto bird
       route add 172.31.0.0/16 dev flannel.1 proto static\n`,
    );
    await lab.sh('h1', 'bridge fdb add 02:00:00:00:00:09 dev flannel.1 self permanent dst 192.0.2.9');
    const before = await lab.json<{ ifindex: number }[]>('h1', 'ip -j link show flannel.1');
    const node = await startVxlanNode(lab, 1);
    t.strictSame(node.lease.backendData, { VNI: 1, VtepMAC: mac }, 'MAC taken over');
    t.match(
      await lab.sh('h1', 'ip route show'),
      '10.5.9.0/24',
      'nothing is removed before the first snapshot',
    );
    const peer = (number: number, createRevision = number): LeaseText => ({
      subnet: `10.5.${number}.0/24`,
      publicIp: `192.0.2.${number}`,
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: `02:00:00:00:00:0${number}` },
      createRevision,
    });
    await node.driver.call('apply', { added: [peer(2), peer(4), peer(5)] });
    const routes = (await lab.sh('h1', 'ip route show')).split('\n').map((line) => line.trim());
    t.has(routes, [...routes.filter((line) => line.startsWith('default'))]);
    const of = (prefix: string) => routes.filter((line) => line.startsWith(prefix));
    t.strictSame(
      of('10.5.2.0/24'),
      ['10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94 onlink'],
      "flanneld's route marked as ours",
    );
    t.strictSame(
      of('10.5.5.0/24'),
      ['10.5.5.0/24 via 10.5.5.0 dev flannel.1 proto 94 onlink'],
      'static route to a peer replaced',
    );
    t.strictSame(
      of('10.5.4.0/24'),
      ['10.5.4.0/24 via 192.0.2.4 dev eth0 proto bird'],
      "a routing daemon's route is not",
    );
    t.strictSame(
      of('10.5.6.0/24'),
      ['10.5.6.0/24 via 192.0.2.6 dev eth0'],
      'foreign route inside the network untouched',
    );
    t.strictSame(
      of('172.31.0.0/16'),
      ['172.31.0.0/16 dev flannel.1 proto static scope link'],
      'foreign route on our device untouched',
    );
    t.strictSame([...of('10.5.9'), ...of('10.9.9'), ...of('10.5.8')], [], 'stale routes removed');
    t.strictSame(
      of('10.8.8'),
      ['10.8.8.0/24 via 192.0.2.8 dev eth0 proto 94'],
      'a route of another network on this host untouched',
    );
    t.notMatch(await lab.sh('h1', 'bridge fdb show dev flannel.1'), '192.0.2.9');
    t.notMatch(await lab.sh('h1', 'ip neigh show dev flannel.1'), '10.5.9.0');
    const [{ degraded }, after] = await Promise.all([
      node.driver.call<DriverState>('state'),
      lab.json<{ ifindex: number }[]>('h1', 'ip -j link show flannel.1'),
    ]);
    t.equal(after[0].ifindex, before[0].ifindex, 'device not made anew');
    t.equal(degraded.length, 1);
    t.match(
      degraded[0],
      'peer 10.5.4.0/24 has its subnet 10.5.4.0/24 routed via 192.0.2.4 by protocol 12 on eth0',
    );

    // A MAC that two leases claim belongs to the one written last, whatever the order of events: the other is one that
    // its host has left. Then a change of MAC and host.
    const claims = (number: number, revision: number): LeaseText => ({
      ...peer(number, revision),
      backendData: peer(2).backendData,
    });
    await node.driver.call('apply', { added: [claims(7, 7), claims(8, 1)] });
    await waitFor('the later lease to hold the MAC', async () =>
      (await lab.sh('h1', 'bridge fdb show dev flannel.1')).includes('02:00:00:00:00:02 dst 192.0.2.7'),
    );
    const refused = (await node.driver.call<DriverState>('state')).degraded.join();
    for (const number of [2, 8]) {
      t.match(
        refused,
        `peer 10.5.${number}.0/24 publishes VtepMAC 02:00:00:00:00:02, which was published later by 10.5.7.0/24`,
      );
    }
    t.match(await lab.sh('h1', 'ip route show'), '10.5.7.0/24 via 10.5.7.0 dev flannel.1');
    t.notMatch(await lab.sh('h1', 'ip route show'), '10.5.2.0/24');
    await node.driver.call('apply', { removed: [claims(8, 1)] });
    const moved = { ...peer(2), publicIp: '192.0.2.22', backendData: { VtepMAC: '02:00:00:00:00:22' } };
    await node.driver.call('apply', { changed: [moved], removed: [peer(5)] });
    const fdb = await waitFor('settled', async () => {
      const text = await lab.sh('h1', 'bridge fdb show dev flannel.1');
      return text.includes('02:00:00:00:00:02 dst 192.0.2.7') && text;
    });
    t.match(fdb, '02:00:00:00:00:22 dst 192.0.2.22 self permanent');
    t.notMatch(fdb, '192.0.2.2 ', 'the former FDB entry is gone');
    t.notMatch(await lab.sh('h1', 'ip route show'), '10.5.5.0/24');
    t.notMatch(await lab.sh('h1', 'ip neigh show dev flannel.1'), '10.5.5.0');
  }),
);

t.test('vxlan: a device that does not fit is made anew with its MAC and all peers', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2].map((number) => startVxlanNode(lab, number)));
    await introduce(nodes);
    const [link] = await lab.json<{ address: string }[]>('h1', 'ip -j link show flannel.1');
    for (const node of nodes) await node.driver.close();
    const changed = await Promise.all(
      [1, 2].map((number) => startVxlanNode(lab, number, { Port: 4789, GBP: true })),
    );
    await introduce(changed);
    t.strictSame(changed[0].lease.backendData, { VNI: 1, VtepMAC: link.address });
    t.ok(await waitFor('ping', () => lab.ping('c1', '10.5.2.2')));
    t.match(await lab.sh('h1', 'ip -d link show flannel.1'), /dstport 4789 nolearning.* gbp/);
    // The external interface gets a new address: same device name, same MAC, peers still there.
    await lab.sh('h1', 'ip addr add 192.0.2.11/24 dev eth0');
    await lab.sh('h1', 'ip addr del 192.0.2.1/24 dev eth0');
    await lab.sh('h1', 'ip addr replace 192.0.2.11/24 dev eth0');
    await lab.sh('h1', 'ip route replace default via 192.0.2.254');
    await changed[0].driver.call('interface', { iface: 'eth0' });
    await changed[1].driver.call('apply', { changed: [{ ...changed[0].lease, publicIp: '192.0.2.11' }] });
    t.match(
      await lab.sh('h1', 'ip -d link show flannel.1'),
      new RegExp(`${link.address}[^]*local 192\\.0\\.2\\.11`),
    );
    t.ok(await waitFor('ping', () => lab.ping('c1', '10.5.2.2')));
  }),
);
