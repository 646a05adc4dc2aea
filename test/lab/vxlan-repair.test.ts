// vxlan mode: what is found at the start, deleted or changed by hand, or left by a daemon that was killed. Networks are
// of both families, each over its own: what is done to one is done to the other. The picture is in kernel-lab.ts.

import t, { type Test } from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import {
  introduce,
  LAB_SKIP,
  NETWORKS,
  podAddress,
  run,
  startVxlanNode,
  waitFor,
  withLab,
} from '../support/kernel-lab.js';
import type { DriverState, KernelLab, LeaseText } from '../support/kernel-lab.js';

const DUAL = NETWORKS[2];

/** How each family is written here, by the number of a host. */
const TEXTS = {
  v4: {
    of: '-4',
    device: 'flannel.1',
    network: '10.5.0.0/16',
    subnet: (host: number) => `10.5.${host}.0/24`,
    first: (host: number) => `10.5.${host}.0`,
    host: (host: number) => `192.0.2.${host}`,
    alone: 32,
    onLink: 24,
    mtu: 1450,
    data: 'backendData',
    others: { stale: '10.9.9.0/24', sibling: '10.8.8.0/24', onDevice: '172.31.0.0/16' },
  },
  v6: {
    of: '-6',
    device: 'flannel-v6.1',
    network: 'fd00:5::/48',
    subnet: (host: number) => `fd00:5:0:${host}::/64`,
    first: (host: number) => `fd00:5:0:${host}::`,
    host: (host: number) => `fd00:99::${host}`,
    alone: 128,
    onLink: 64,
    mtu: 1430,
    data: 'backendV6Data',
    others: { stale: 'fd00:9:0:9::/64', sibling: 'fd00:8:0:8::/64', onDevice: 'fd31::/48' },
  },
} as const;

/** Whether pods of all these hosts answer that of the first, in every family. */
async function reachesAll(lab: KernelLab, hosts: readonly number[]): Promise<boolean> {
  const pings = lab.network.families.flatMap((family) =>
    hosts.map((host) => lab.ping('c1', podAddress(host, family))),
  );
  return (await Promise.all(pings)).every((isThere) => isThere);
}

/** What a lease says of its device. */
function publishedMac(lease: LeaseText, family: FamilyName): string {
  return (lease[TEXTS[family].data] as { VtepMAC: string }).VtepMAC;
}

t.test('vxlan: whatever is deleted or changed by hand is back within two seconds', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2, 3].map((number) => startVxlanNode(lab, number)));
    await introduce(nodes);
    for (const node of nodes) await node.driver.call('watch');
    const worksAgain = () => reachesAll(lab, [2, 3]);
    await waitFor('pings', worksAgain);
    const before = await kernelText(lab);
    for (const family of DUAL.families) {
      for (const [what, commands] of wreckage(family, publishedMac(nodes[1].lease, family))) {
        for (const command of commands) await lab.sh('h1', command);
        const startedAt = performance.now();
        await waitFor(`${family}: ${what} back`, async () => (await kernelText(lab)) === before, 2_000);
        t.comment(`${family}: ${what}: back after ${Math.round(performance.now() - startedAt)} ms`);
        t.ok(await waitFor('ping', worksAgain, 2_000), `${family}: ${what}`);
      }
    }
    const { counters } = await nodes[0].driver.call<DriverState>('state');
    const repairs = counters.find((counter) => counter.name === 'kernel_repairs_total')!.values;
    for (const object of ['route', 'neighbour', 'fdb', 'device', 'address']) {
      t.ok(
        repairs.find((value) => value.labels['object'] === object)!.value > 0,
        `${object} repairs counted`,
      );
    }
  }, DUAL),
);

/** What happens to the objects of a family on host 1; `mac` is that of host 2. */
function wreckage(family: FamilyName, mac: string): readonly (readonly [string, readonly string[]])[] {
  const { of, device, first, subnet, host, alone } = TEXTS[family];
  const base = first(2);
  return [
    ['route', [`ip route del ${subnet(2)}`]],
    ['route replaced by a static one', [`ip route replace ${subnet(2)} via ${host(254)} proto static`]],
    ['all routes', [`ip ${of} route flush proto 94`]],
    ['neighbour', [`ip neigh del ${base} dev ${device}`]],
    [
      'neighbour with another MAC',
      [`ip neigh replace ${base} lladdr 02:00:00:00:00:01 dev ${device} nud permanent`],
    ],
    ['neighbour made temporary', [`ip neigh replace ${base} lladdr ${mac} dev ${device} nud stale`]],
    ['FDB entry', [`bridge fdb del ${mac} dev ${device}`]],
    ['FDB entry to another host', [`bridge fdb replace ${mac} dev ${device} self permanent dst ${host(77)}`]],
    ['address', [`ip addr del ${first(1)}/${alone} dev ${device}`]],
    ['second address', [`ip addr add ${first(77)}/${alone} dev ${device}`]],
    ['MTU', [`ip link set ${device} mtu 1000`]],
    ['MAC', [`ip link set ${device} address 02:00:00:00:00:02`]],
    ['device down', [`ip link set ${device} down`]],
    ['device', [`ip link del ${device}`]],
    ['device of other kind', [`ip link del ${device}`, `ip link add ${device} type bridge`]],
  ];
}

/** Everything of h1 that a repair must bring back, sorted. */
async function kernelText(lab: KernelLab): Promise<string> {
  const texts = await Promise.all(
    DUAL.families.flatMap((family) => {
      const { of, device, network } = TEXTS[family];
      return [
        lab.sh('h1', `ip ${of} route show root ${network}`),
        lab.sh('h1', `ip ${of} neigh show dev ${device} nud permanent`),
        lab.sh('h1', `bridge fdb show dev ${device}`),
        lab.sh('h1', `ip ${of} -o addr show dev ${device} scope global`),
        lab.sh('h1', `ip -d -o link show dev ${device}`),
      ];
    }),
  );
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
    await waitFor('ping', () => reachesAll(lab, [2]));
    const links = () =>
      Promise.all(
        DUAL.families.map(async (family) => {
          const show = `ip -j link show ${TEXTS[family].device}`;
          const [{ ifindex, address }] = await lab.json<{ ifindex: number; address: string }[]>('h1', show);
          return { ifindex, address };
        }),
      );
    const before = await links();
    const pinging = DUAL.families.map((family) =>
      lab.exec('c1', ['ping', '-n', '-q', '-i', '0.002', '-c', '1500', '-W', '1', podAddress(2, family)]),
    );
    await nodes[0].driver.kill();
    const next = await startVxlanNode(lab, 1);
    await next.driver.call('apply', { added: [nodes[1].lease] });
    for (const text of await Promise.all(pinging))
      t.match(text, '1500 packets transmitted, 1500 received, 0% packet loss');
    t.strictSame(await links(), before, 'the same devices');
    const macs = DUAL.families.map((family) => publishedMac(next.lease, family));
    t.strictSame(
      macs,
      before.map(({ address }) => address),
      'the same MACs in the lease',
    );
    const pids = (await run('ip', ['netns', 'pids', lab.name('h1')])).trim().split('\n');
    const commands = await run('ps', ['-o', 'args=', '-p', pids.join()]);
    const monitors = commands.split('\n').filter((line) => line.startsWith('ip -oneline monitor'));
    t.equal(monitors.length, 0, 'no monitor of the killed daemon is left');
  }, DUAL),
);

for (const network of NETWORKS.slice(0, 2))
  t.test(
    `vxlan: start takes over, replaces and removes what it finds, ${network.name}`,
    { skip: LAB_SKIP },
    (t) => withLab((lab) => takesOver(t, lab, lab.network.families[0]), network),
  );

async function takesOver(t: Test, lab: KernelLab, family: FamilyName): Promise<void> {
  const { of, device, first, subnet, host, alone, mtu, data, others } = TEXTS[family];
  const macOf = (number: number): string => `02:00:00:00:00:${String(number).padStart(2, '0')}`;
  const show = async (words: string): Promise<string> => await lab.sh('h1', words);
  const index = async (): Promise<number> =>
    (await lab.json<{ ifindex: number }[]>('h1', `ip -j link show ${device}`))[0].ifindex;
  /** Routes to what begins so, without metric and preference, which IPv6 has always. */
  const routesTo = async (prefix: string): Promise<string[]> =>
    (await show(`ip ${of} route show`))
      .split('\n')
      .filter((line) => line.startsWith(prefix))
      .map((line) => line.replace(/ metric 1024| pref medium/g, '').trim());

  // As flanneld leaves it: one live peer, one that is long gone; and routes of an administrator and of others.
  const mac = '02:11:22:33:44:55';
  await lab.exec(
    'h1',
    ['ip', '-batch', '-'],
    `link add ${device} address ${mac} mtu ${mtu} type vxlan id 1 dev eth0 local ${host(1)} dstport 8472 nolearning
     addr add ${first(1)}/${alone} dev ${device}
     link set ${device} up
     neigh replace ${first(2)} lladdr ${macOf(2)} dev ${device} nud permanent
     route add ${subnet(2)} via ${first(2)} dev ${device} onlink
     neigh replace ${first(9)} lladdr ${macOf(9)} dev ${device} nud permanent
     route add ${subnet(9)} via ${first(9)} dev ${device} onlink
     route add ${others.stale} via ${others.stale.split('/')[0]} dev ${device} onlink
     route add ${subnet(8)} via ${host(8)} dev eth0 proto 94
     route add ${others.sibling} via ${host(8)} dev eth0 proto 94
     route add ${subnet(6)} via ${host(6)} dev eth0
     route add ${subnet(5)} via ${host(5)} dev eth0 proto static
     route add ${subnet(4)} via ${host(4)} dev eth0 proto bird
     route add ${others.onDevice} dev ${device} proto static\n`,
  );
  await show(`bridge fdb add ${macOf(9)} dev ${device} self permanent dst ${host(9)}`);
  const before = await index();
  const node = await startVxlanNode(lab, 1);
  t.strictSame(node.lease[data], { VNI: 1, VtepMAC: mac }, 'MAC taken over');
  t.equal((await routesTo(subnet(9))).length, 1, 'nothing is removed before the first snapshot');
  const peer = (number: number, createRevision = number): LeaseText => ({
    subnet: subnet(number),
    publicIp: host(number),
    backendType: 'vxlan',
    [data]: { VNI: 1, VtepMAC: macOf(number) },
    createRevision,
  });
  await node.driver.call('apply', { added: [peer(2), peer(4), peer(5)] });
  for (const [prefix, routes, what] of [
    [subnet(2), [`via ${first(2)} dev ${device} proto 94 onlink`], "flanneld's route marked as ours"],
    [subnet(5), [`via ${first(5)} dev ${device} proto 94 onlink`], 'static route to a peer replaced'],
    [subnet(4), [`via ${host(4)} dev eth0 proto bird`], "a routing daemon's route is not"],
    [subnet(6), [`via ${host(6)} dev eth0`], 'foreign route inside the network untouched'],
    [others.onDevice, [`dev ${device} proto static`], 'foreign route on our device untouched'],
    [others.sibling, [`via ${host(8)} dev eth0 proto 94`], 'a route of another network untouched'],
    [subnet(9), [], 'stale route of a peer removed'],
    [others.stale, [], 'stale route on our device removed'],
    [subnet(8), [], 'stale route of host-gw removed'],
  ] as const)
    t.strictSame(
      (await routesTo(prefix)).map((line) => line.replace(' scope link', '')),
      routes.map((words) => `${prefix} ${words}`),
      what,
    );
  t.notMatch(await show(`bridge fdb show dev ${device}`), `dst ${host(9)} `);
  t.notMatch(await show(`ip ${of} neigh show dev ${device}`), `${first(9)} `);
  t.equal(await index(), before, 'device not made anew');
  const { degraded } = await node.driver.call<DriverState>('state');
  t.equal(degraded.length, 1);
  t.match(
    degraded[0],
    `peer ${subnet(4)} has its subnet ${subnet(4)} routed via ${host(4)} by protocol 12 on eth0`,
  );

  // A MAC that two leases claim belongs to the one written last, whatever the order of events: the other is one that
  // its host has left. Then a change of MAC and host.
  const claims = (number: number, revision: number): LeaseText => ({
    ...peer(number, revision),
    [data]: peer(2)[data],
  });
  const held = `${macOf(2)} dst ${host(7)} `;
  await node.driver.call('apply', { added: [claims(7, 7), claims(8, 1)] });
  await waitFor('the later lease to hold the MAC', async () =>
    (await show(`bridge fdb show dev ${device}`)).includes(held),
  );
  const refused = (await node.driver.call<DriverState>('state')).degraded.join();
  for (const number of [2, 8])
    t.match(
      refused,
      `peer ${subnet(number)} publishes VtepMAC ${macOf(2)}, which was published later by ${subnet(7)}`,
    );
  t.strictSame(await routesTo(subnet(7)), [`${subnet(7)} via ${first(7)} dev ${device} proto 94 onlink`]);
  t.strictSame(await routesTo(subnet(2)), []);
  await node.driver.call('apply', { removed: [claims(8, 1)] });
  const moved = { ...peer(2), publicIp: host(22), [data]: { VtepMAC: macOf(22) } };
  await node.driver.call('apply', { changed: [moved], removed: [peer(5)] });
  const fdb = await waitFor('settled', async () => {
    const text = await show(`bridge fdb show dev ${device}`);
    return text.includes(held) && text;
  });
  t.match(fdb, `${macOf(22)} dst ${host(22)} self permanent`);
  t.notMatch(fdb, `dst ${host(2)} `, 'the former FDB entry is gone');
  t.strictSame(await routesTo(subnet(5)), []);
  t.notMatch(await show(`ip ${of} neigh show dev ${device}`), `${first(5)} `);
}

t.test('vxlan: a device that does not fit is made anew with its MAC and all peers', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const nodes = await Promise.all([1, 2].map((number) => startVxlanNode(lab, number)));
    await introduce(nodes);
    const macs = DUAL.families.map((family) => publishedMac(nodes[0].lease, family));
    for (const node of nodes) await node.driver.close();
    const changed = await Promise.all(
      [1, 2].map((number) => startVxlanNode(lab, number, { Port: 4789, GBP: true })),
    );
    await introduce(changed);
    t.ok(await waitFor('ping', () => reachesAll(lab, [2])));
    // The external interface gets new addresses: same names of the devices, same MACs, peers still there.
    for (const [index, family] of DUAL.families.entries()) {
      const { of, device, host, onLink } = TEXTS[family];
      const mac = macs[index];
      t.equal(publishedMac(changed[0].lease, family), mac);
      const link = await lab.sh('h1', `ip -d link show ${device}`);
      t.match(link, new RegExp(`${mac}[^]*dstport 4789 nolearning.* gbp`));
      await lab.sh('h1', `ip addr add ${host(11)}/${onLink} dev eth0`);
      await lab.sh('h1', `ip addr del ${host(1)}/${onLink} dev eth0`);
      await lab.sh('h1', `ip addr replace ${host(11)}/${onLink} dev eth0`);
      await lab.sh('h1', `ip ${of} route replace default via ${host(254)}`);
    }
    await changed[0].driver.call('interface', { iface: 'eth0' });
    const publicIp = DUAL.families.map((family) => TEXTS[family].host(11)).join('&');
    await changed[1].driver.call('apply', { changed: [{ ...changed[0].lease, publicIp }] });
    for (const [index, family] of DUAL.families.entries()) {
      const { device, host } = TEXTS[family];
      const link = await lab.sh('h1', `ip -d link show ${device}`);
      t.match(link, new RegExp(`${macs[index]}[^]*local ${host(11).replaceAll('.', '\\.')} `));
    }
    t.ok(await waitFor('ping', () => reachesAll(lab, [2])));
  }, DUAL),
);
