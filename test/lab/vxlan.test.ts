// vxlan mode between three hosts, one of them behind a router; the picture is in kernel-lab.ts.

import { readFile } from 'node:fs/promises';
import t from 'tap';
import {
  Driver,
  introduce,
  LAB_SKIP,
  NETWORK,
  run,
  startLabNode,
  waitFor,
  withLab,
} from '../support/kernel-lab.js';
import type { DriverState, KernelLab, LeaseText } from '../support/kernel-lab.js';

const startNode = (
  lab: KernelLab,
  number: number,
  backend: Record<string, unknown> = {},
  fields: Record<string, unknown> = {},
) => startLabNode(lab, number, { Type: 'vxlan', ...backend }, fields);

t.test('vxlan: three hosts reach each other through VXLAN', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2, 3].map((number) => startNode(lab, number)));
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
      [1, 2, 3].map((number) => startNode(lab, number, { directrouting: true })),
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

t.test('vxlan: whatever is deleted or changed by hand is back within two seconds', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2, 3].map((number) => startNode(lab, number)));
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
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
    await introduce(nodes);
    await nodes[0].driver.call('watch');
    await waitFor('ping', () => lab.ping('c1', '10.5.2.2'));
    const [link] = await lab.json<{ ifindex: number; address: string }[]>('h1', 'ip -j link show flannel.1');
    const pinging = lab.exec('c1', ['ping', '-n', '-q', '-i', '0.002', '-c', '1500', '-W', '1', '10.5.2.2']);
    await nodes[0].driver.kill();
    const next = await startNode(lab, 1);
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
    const node = await startNode(lab, 1);
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
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
    await introduce(nodes);
    const [link] = await lab.json<{ address: string }[]>('h1', 'ip -j link show flannel.1');
    for (const node of nodes) await node.driver.close();
    const changed = await Promise.all(
      [1, 2].map((number) => startNode(lab, number, { Port: 4789, GBP: true })),
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

t.test('vxlan: the source check is back within a second', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
    await introduce(nodes);
    const table = () => lab.sh('h1', 'nft -s list table ip twill-vxlan').catch(() => '');
    await waitFor('guard', async () => (await table()).includes('@members_1'));
    await nodes[0].driver.call('watch');
    const expected = await table();
    const times: number[] = [];
    for (const command of [
      'nft flush ruleset',
      'nft delete table ip twill-vxlan',
      'nft flush chain ip twill-vxlan input_1',
      'nft flush set ip twill-vxlan members_1',
      'nft delete element ip twill-vxlan members_1 { 192.0.2.2 }',
      'nft flush ruleset',
      'nft flush ruleset',
    ]) {
      const startedAt = performance.now();
      await lab.exec('h1', ['sh', '-c', command.replace('{', "'{").replace('}', "}'")]);
      while ((await table()) !== expected && performance.now() - startedAt < 5_000);
      times.push(Math.round(performance.now() - startedAt));
      t.equal(await table(), expected, command);
    }
    t.comment(`back after ${times.join(', ')} ms`);
    t.ok(Math.max(...times) < 1_000, 'within a second');
  }),
);

t.test("vxlan: the guard of another VNI is another daemon's", { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    // Another daemon's with VNI 9, and the table as twill 0.1.0 left it for VNI 1.
    const other = `
	chain input_9 {
		type filter hook input priority filter - 10; policy accept;
		udp dport 8472 @th,96,24 0x9 ip saddr != @members_9 counter packets 0 bytes 0 drop comment "drop VNI 9"
	}
`.trim();
    const former = `table ip twill-vxlan {
      set members { type ipv4_addr; }
      chain input {
        type filter hook input priority -10; policy accept;
        udp dport 8472 @th,96,24 1 ip saddr != @members counter drop \
          comment "drop VNI 1 on port 8472 from hosts without a lease"
      }
      set members_9 { type ipv4_addr; elements = { 192.0.2.9 } }
      ${other}
    }`;
    await lab.exec('h1', ['nft', '-f', '-'], former);
    const table = () => lab.sh('h1', 'nft list table ip twill-vxlan');
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
    await introduce(nodes);
    await waitFor('own guard', async () => (await table()).includes('chain input_1'));
    t.notMatch(await table(), /chain input \{|set members \{/, 'the former one is replaced');
    t.ok(await lab.ping('c1', '10.5.2.2'));
    await nodes[0].driver.call('reconcile');
    await lab.sh('h1', 'nft flush chain ip twill-vxlan input_1');
    await nodes[0].driver.call('reconcile');
    t.match(await table(), '@members_1');
    await nodes[0].driver.close();
    const open = await startNode(lab, 1, {}, { sourceCheck: 'off' });
    await open.driver.call('apply', {});
    await waitFor('guard removed', async () => !(await table()).includes('_1'));
    t.match((await table()).replaceAll('0x00000009', '0x9'), other, "the other's is as it was");
    t.match(await table(), '192.0.2.9');
  }),
);

t.test('vxlan: only members get frames in', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
    await introduce(nodes);
    await waitFor('ping', () => lab.ping('c1', '10.5.2.2'));
    // h3 has no lease, but knows h1's MAC and sends as if it had.
    const mac = (nodes[0].lease.backendData as { VtepMAC: string }).VtepMAC;
    await lab.exec(
      'h3',
      ['ip', '-batch', '-'],
      `link add flannel.1 type vxlan id 1 dev eth0 local 198.51.100.3 dstport 8472 nolearning
       addr add 10.5.3.0/32 dev flannel.1
       link set flannel.1 up
       neigh replace 10.5.1.0 lladdr ${mac} dev flannel.1 nud permanent
       route add 10.5.1.0/24 via 10.5.1.0 dev flannel.1 onlink\n`,
    );
    await lab.sh('h3', `bridge fdb add ${mac} dev flannel.1 self permanent dst 192.0.2.1`);
    const received = async () =>
      (await lab.json<{ stats64: { rx: { packets: number } } }[]>('h1', 'ip -s -j link show flannel.1'))[0]
        .stats64.rx.packets;
    const before = await received();
    await lab.ping('h3', '10.5.1.2');
    t.equal(await received(), before, 'no frame of a stranger is taken');
    await nodes[0].driver.call('reconcile');
    const state = await nodes[0].driver.call<DriverState>('state');
    t.ok((state.status.type === 'vxlan' ? state.status.refusedDatagrams : 0) > 0, 'and it is counted');

    // The guard comes back, atomically with its members, and another VNI on the port is none of its business.
    await lab.sh('h1', 'nft flush ruleset');
    await nodes[0].driver.call('reconcile');
    t.match(await lab.sh('h1', 'nft list table ip twill-vxlan'), '192.0.2.2');
    t.ok(await lab.ping('c1', '10.5.2.2'));
    await nodes[0].driver.call('apply', { removed: [nodes[1].lease] });
    await waitFor(
      'set follows',
      async () => !(await lab.sh('h1', 'nft list table ip twill-vxlan')).includes('192.0.2.2'),
    );
    await nodes[0].driver.call('apply', { added: [nodes[1].lease] });
    await waitFor('set follows', async () =>
      (await lab.sh('h1', 'nft list table ip twill-vxlan')).includes('192.0.2.2'),
    );
    // Gone and back at once: the lease returns while its removal is still on its way into the kernel.
    await nodes[0].driver.call('apply', { removed: [nodes[1].lease] });
    await nodes[0].driver.call('apply', { added: [nodes[1].lease] });
    await waitFor('set holds the host that came back', async () =>
      (await lab.sh('h1', 'nft list table ip twill-vxlan')).includes('192.0.2.2'),
    );
    for (const [host, own, other] of [
      ['h1', 1, 2],
      ['h2', 2, 1],
    ] as const) {
      await lab.exec(
        host,
        ['ip', '-batch', '-'],
        `link add other type vxlan id 77 dev eth0 local 192.0.2.${own} remote 192.0.2.${other} dstport 8472
         addr add 10.77.0.${own}/24 dev other
         link set other up\n`,
      );
    }
    await nodes[1].driver.call('apply', { removed: [nodes[0].lease] });
    t.ok(await lab.ping('h1', '10.77.0.2'), 'another VNI passes');

    await nodes[0].driver.close();
    const open = await startNode(lab, 1, {}, { sourceCheck: 'off' });
    await open.driver.call('apply', {});
    await waitFor(
      'guard removed',
      async () => !(await lab.sh('h1', 'nft list ruleset')).includes('twill-vxlan'),
    );
    await lab.ping('h3', '10.5.1.2');
    t.ok((await received()) > before, 'without a source check frames of anyone are taken');
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
    const node = await startNode(lab, 1);
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
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
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
    const nodes = await Promise.all([1, 2].map((number) => startNode(lab, number)));
    await introduce(nodes);
    await waitFor('ping', () => lab.ping('c1', '10.5.2.2'));
    for (const node of nodes) await node.driver.close();
    const before = await lab.sh('h1', 'ip -d link show');
    const holder = lab.start('h1', ['socat', '-u', 'UDP4-RECV:4789', 'STDOUT']);
    await waitFor('socket', async () => (await lab.sh('h1', 'ss -Hlun')).includes(':4789'));
    await t.rejects(startNode(lab, 1, { Port: 4789 }), { message: /UDP port 4789 is in use/ });
    t.equal(await lab.sh('h1', 'ip -d link show'), before);
    t.ok(await lab.ping('c1', '10.5.2.2'), 'the former device carries packets');
    holder.kill();
    await waitFor('end', async () => !(await lab.sh('h1', 'ss -Hlun')).includes(':4789'));
    await startNode(lab, 1, { Port: 4789 });
    t.match(await lab.sh('h1', 'ip -d link show flannel.1'), 'dstport 4789');
    t.notMatch(await lab.sh('h1', 'ip link show'), 'flnew');
  }),
);

t.test('vxlan: what was set by ethtool outlives the device', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const node = await startNode(lab, 1);
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

    const off = await startNode(lab, 1, {}, { vxlanTxChecksum: 'off' });
    t.notOk(await isOn('tx-checksum-ip-generic'));
    t.notOk(await isOn('generic-receive-offload'), 'taken over');
    await lab.sh('h1', 'ethtool -K flannel.1 tx-checksum-ip-generic on');
    await off.driver.call('reconcile');
    t.notOk(await isOn('tx-checksum-ip-generic'), 'set again');
  }),
);

t.test('vxlan: 5,000 peers are programmed in one go', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const node = await startNode(lab, 1);
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
