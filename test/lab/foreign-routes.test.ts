// The udp mode adds its route and takes nobody's place: not the uplink's own, not a static one, not a routing daemon's.

import { join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { daemonArguments, HEALTH_PORT, startDaemon, tableOf, writeTable } from '../support/twill-hosts.js';

const skip = labUnavailable();
const NETWORK = '10.5.0.0/16';

t.test('a Network that is the network of the uplink is refused', { skip }, async (t) => {
  const lab = Lab.open('fr-');
  t.teardown(() => lab.close());
  const a = lab.addHost(1);
  const b = lab.addHost(2);
  const staticFile = join(lab.dir, 'static.json');
  const leases = [{ subnet: '172.20.0.64/27', publicIP: a.underlayIp }];
  for (const config of [
    { Network: '172.20.0.0/24', SubnetLen: 27 },
    { Network: '172.20.0.0/25', SubnetLen: 27, SubnetMin: '172.20.0.64' },
  ]) {
    writeTable(staticFile, { config: { ...config, Backend: { Type: 'udp' } }, leases });
    const before = lab.ip(a.ns, 'route show');
    const { code, stdout, stderr } = await lab.run(a.ns, process.execPath, daemonArguments(a, staticFile), {
      mustSucceed: false,
    });
    t.equal(code, 1);
    t.match(
      stdout + stderr,
      /Network 172\.20\.0\.0\/2[45] is in the network of interface eth0 \(172\.20\.0\.1\/24\)/,
    );
    t.match(stdout + stderr, /E_CONFIG/);
    t.equal(lab.ip(a.ns, 'route show'), before);
    t.match((await lab.run(a.ns, 'ping', ['-c', '2', '-i', '0.1', b.underlayIp])).stdout, / 0% packet loss/);
  }
});

for (const [what, words, protocol] of [
  ['a static route', 'via 172.20.0.254 dev eth0', 3],
  ['a routing daemon’s route, at a metric,', 'via 172.20.0.254 dev eth0 proto bird metric 100', 12],
  ['a blackhole', 'blackhole', 3],
] as const) {
  t.test(`${what} to the Network stays`, { skip }, async (t) => {
    const lab = Lab.open('fr-');
    t.teardown(() => lab.close());
    const a = lab.addHost(1);
    const b = lab.addHost(2);
    const staticFile = join(lab.dir, 'static.json');
    writeTable(staticFile, tableOf([a, b]));
    const route = words === 'blackhole' ? `blackhole ${NETWORK}` : `${NETWORK} ${words}`;
    lab.ip(a.ns, `route add ${route}`);
    const before = lab.ip(a.ns, `route show ${NETWORK}`);
    const readyz = () => lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`);
    await startDaemon(lab, a, staticFile);
    await startDaemon(lab, b, staticFile);
    t.equal(lab.ip(a.ns, `route show ${NETWORK}`), before);
    const { status, body } = await readyz();
    t.equal(status, 503);
    t.match(body, new RegExp(`the route to 10.5.0.0/16.*.protocol ${protocol}. is not ours`));
    lab.ip(a.ns, `route del ${route}`);
    await waitFor(async () => (await readyz()).status === 200, 'a ready daemon');
    t.match(lab.ip(a.ns, `route show ${NETWORK}`), /dev flannel0/);
    t.match(
      (await lab.run(a.containerNs, 'ping', ['-c', '3', '-i', '0.1', b.containerIp])).stdout,
      / 0% packet loss/,
    );
  });
}

for (const [type, inTheWay, harmless] of [
  ['udp', ['10.5.0.0/17', '10.5.2.0/24 metric 10', '10.5.2.128/25'], '10.5.3.0/24'],
  ['host-gw', ['10.5.2.128/25'], '10.5.0.0/17'],
] as const) {
  t.test(
    `${type}: a route to a part of the Network is named, if peers are behind it`,
    { skip },
    async (t) => {
      const lab = Lab.open('frp-');
      t.teardown(() => lab.close());
      const [a, b] = [1, 2].map((number) => lab.addHost(number));
      const staticFile = join(lab.dir, 'static.json');
      writeTable(staticFile, tableOf([a, b], { Type: type }));
      await startDaemon(lab, a, staticFile, ['--path-probes=false']);
      const readyz = () => lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`);
      const isClean = async (): Promise<boolean> => {
        const { status, body } = await readyz();
        return status === 200 && !body.includes('peer-route-conflict');
      };
      lab.ip(a.ns, `route add ${harmless} via 172.20.0.254`);
      await waitFor(isClean, 'a ready daemon');
      for (const prefix of inTheWay) {
        lab.ip(a.ns, `route add ${prefix} via 172.20.0.254`);
        await waitFor(async () => (await readyz()).body.includes('peer-route-conflict'), prefix);
        const { status, body } = await readyz();
        t.equal(status, 200, 'packets to others flow');
        const route = prefix.split(' ')[0].replaceAll('.', '\\.');
        t.match(body, new RegExp(`peer 10\\.5\\.2\\.0/24 .*: ${route} via 172\\.20\\.0\\.254 on eth0`));
        lab.ip(a.ns, `route del ${prefix}`);
        await waitFor(isClean, 'no condition');
      }
    },
  );
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
