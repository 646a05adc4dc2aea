// The udp mode adds its route and takes nobody's place: not the uplink's own, not a static one, not a routing daemon's.

import { join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { daemonArguments, HEALTH_PORT, startDaemon, tableOf, writeTable } from '../support/twill-hosts.js';
import { addHost, ping, tableOf as tableOfWay, WAYS } from '../support/ways.js';

const skip = labUnavailable();
const NETWORK = '10.5.0.0/16';

/** What is to hold in each family, in a network of it alone. */
const FAMILIES = [
  {
    family: 'v4',
    way: WAYS[0],
    of: '-4',
    network: NETWORK,
    router: '172.20.0.254',
    peer: '10.5.2.0/24',
    uplink: '172.20.0.1/24',
    inUplink: [
      { Network: '172.20.0.0/24', SubnetLen: 27 },
      { Network: '172.20.0.0/25', SubnetLen: 27, SubnetMin: '172.20.0.64' },
    ],
    own: { subnet: '172.20.0.64/27', publicIP: '172.20.0.1' },
    parts: { half: '10.5.0.0/17', peer: '10.5.2.0/24', ofPeer: '10.5.2.128/25', nobody: '10.5.3.0/24' },
  },
  {
    family: 'v6',
    way: WAYS[1],
    of: '-6',
    network: 'fd00:5::/48',
    router: 'fd00:aa::254',
    peer: 'fd00:5:0:2::/64',
    uplink: 'fd00:aa::1/64',
    inUplink: [
      { IPv6Network: 'fd00:aa::/64', IPv6SubnetLen: 80 },
      { IPv6Network: 'fd00:aa::/65', IPv6SubnetLen: 80, IPv6SubnetMin: 'fd00:aa:0:0:64::' },
    ].map((fields) => ({ EnableIPv4: false, EnableIPv6: true, ...fields })),
    own: { ipv6Subnet: 'fd00:aa:0:0:64::/80', publicIPv6: 'fd00:aa::1' },
    parts: {
      ...{ half: 'fd00:5::/49', peer: 'fd00:5:0:2::/64' },
      ...{ ofPeer: 'fd00:5:0:2:8000::/65', nobody: 'fd00:5:0:3::/64' },
    },
  },
] as const;

for (const { family, way, of, network, router, peer, uplink, inUplink, own, parts } of FAMILIES) {
  t.test(`${family}: a Network that is the network of the uplink is refused`, { skip }, async (t) => {
    const lab = Lab.open('fr-');
    t.teardown(() => lab.close());
    const [a, b] = [await addHost(lab, 1), await addHost(lab, 2)];
    const staticFile = join(lab.dir, 'static.json');
    for (const config of inUplink) {
      writeTable(staticFile, { config: { ...config, Backend: { Type: 'udp' } }, leases: [own] });
      const before = lab.ip(a.ns, `${of} route show`);
      const args = daemonArguments(a, staticFile);
      const { code, stdout, stderr } = await lab.run(a.ns, process.execPath, args, { mustSucceed: false });
      t.equal(code, 1);
      const refused = 'Network' in config ? config.Network : config.IPv6Network;
      t.match(stdout + stderr, `Network ${refused} is in the network of interface eth0 (${uplink})`);
      t.match(stdout + stderr, /E_CONFIG/);
      t.equal(lab.ip(a.ns, `${of} route show`), before);
      const to = family === 'v4' ? b.underlayIp : 'fd00:aa::2';
      t.match((await lab.run(a.ns, 'ping', ['-c', '2', '-i', '0.1', to])).stdout, / 0% packet loss/);
    }
  });

  for (const [what, words, protocol] of [
    ['a static route', `via ${router} dev eth0`, 3],
    ['a routing daemon’s route, at a metric,', `via ${router} dev eth0 proto bird metric 100`, 12],
    ['a blackhole', 'blackhole', 3],
  ] as const) {
    t.test(`${family}: ${what} to the Network stays`, { skip }, async (t) => {
      const lab = Lab.open('fr-');
      t.teardown(() => lab.close());
      const [a, b] = [await addHost(lab, 1), await addHost(lab, 2)];
      const staticFile = join(lab.dir, 'static.json');
      writeTable(staticFile, tableOfWay(way, [a, b]));
      const route = words === 'blackhole' ? `blackhole ${network}` : `${network} ${words}`;
      lab.ip(a.ns, `route add ${route}`);
      const show = (): string => lab.ip(a.ns, `${of} route show ${network}`);
      const before = show();
      const readyz = () => lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`);
      await startDaemon(lab, a, staticFile);
      await startDaemon(lab, b, staticFile);
      t.equal(show(), before);
      const { status, body } = await readyz();
      t.equal(status, 503);
      t.match(body, new RegExp(`the route to ${network}.*.protocol ${protocol}. is not ours`));
      lab.ip(a.ns, `route del ${route}`);
      await waitFor(async () => (await readyz()).status === 200, 'a ready daemon');
      t.match(show(), /dev flannel0/);
      t.match(await ping(lab, a, family, 84, 3), / 0% packet loss/);
    });
  }

  for (const [type, inTheWay, harmless] of [
    ['udp', [parts.half, `${parts.peer} metric 10`, parts.ofPeer], parts.nobody],
    ['host-gw', [parts.ofPeer], parts.half],
  ] as const) {
    const title = `${family}, ${type}: a route to a part of the Network is named, if peers are behind it`;
    t.test(title, { skip }, async (t) => {
      const lab = Lab.open('frp-');
      t.teardown(() => lab.close());
      const [a, b] = [await addHost(lab, 1), await addHost(lab, 2)];
      const staticFile = join(lab.dir, 'static.json');
      writeTable(staticFile, tableOfWay(way, [a, b], { Type: type }));
      await startDaemon(lab, a, staticFile, ['--path-probes=false']);
      const readyz = () => lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`);
      const isClean = async (): Promise<boolean> => {
        const { status, body } = await readyz();
        return status === 200 && !body.includes('peer-route-conflict');
      };
      lab.ip(a.ns, `route add ${harmless} via ${router}`);
      await waitFor(isClean, 'a ready daemon');
      for (const prefix of inTheWay) {
        lab.ip(a.ns, `route add ${prefix} via ${router}`);
        await waitFor(async () => (await readyz()).body.includes('peer-route-conflict'), prefix);
        const { status, body } = await readyz();
        t.equal(status, 200, 'packets to others flow');
        t.match(body, new RegExp(`peer ${peer} .*: ${prefix.split(' ')[0]} via ${router} on eth0`));
        lab.ip(a.ns, `route del ${prefix}`);
        await waitFor(isClean, 'no condition');
      }
    });
  }
}

t.test('ours gives way to the connected route of an address that comes later', { skip }, async (t) => {
  const lab = Lab.open('fr-');
  t.teardown(() => lab.close());
  const a = lab.addHost(1);
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf([a]));
  await startDaemon(lab, a, staticFile);
  lab.ip(a.ns, 'link add lan0 type veth peer name lan1');
  for (const name of ['lan0', 'lan1']) lab.ip(a.ns, `link set ${name} up`);
  lab.ip(a.ns, 'addr add 10.5.200.1/16 dev lan0');
  await waitFor(() => !/flannel0/.test(lab.ip(a.ns, `route show exact ${NETWORK}`)), 'our route to be gone');
  t.match(lab.ip(a.ns, `route show exact ${NETWORK}`), /dev lan0/);
  lab.ip(a.ns, 'link del lan0');
  await waitFor(() => /flannel0/.test(lab.ip(a.ns, `route show exact ${NETWORK}`)), 'our route to be back');
});

for (const [what, before, after] of [
  ['wider', '10.5.0.0/16', '10.0.0.0/8'],
  ['narrower', '10.0.0.0/8', '10.5.0.0/16'],
  ['another one', '10.12.0.0/16', '10.5.0.0/16'],
]) {
  t.test(`of a Network that has become ${what} nothing stays`, { skip }, async (t) => {
    const lab = Lab.open('fr-');
    t.teardown(() => lab.close());
    const a = lab.addHost(1);
    const staticFile = join(lab.dir, 'static.json');
    for (const network of [before, after]) {
      const subnet = network === '10.12.0.0/16' ? '10.12.1.0/24' : a.subnet;
      const config = { Network: network, SubnetLen: 24, Backend: { Type: 'udp' } };
      writeTable(staticFile, { config, leases: [{ subnet, publicIP: a.underlayIp }] });
      const daemon = await startDaemon(lab, a, staticFile);
      const routes = () => lab.ip(a.ns, 'route show root 10.0.0.0/8').match(/^10\S+ dev flannel\d+/gm);
      await waitFor(() => routes()?.length === 1, 'one route into the overlay');
      t.same(routes(), [`${network} dev flannel0`]);
      t.same(lab.ip(a.ns, '-o link show').match(/flannel\d+/g), ['flannel0']);
      t.equal(await lab.end(daemon), 0);
    }
  });
}
