// The daemon itself in each kernel mode, with the static store: what it leaves in the kernel and in subnet.env,
// restarts under load, and the documented way from one mode to another. Two or three hosts on one switch; see
// test/support/lab.ts.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { StatusDocument } from '../../src/ops/status.js';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import type { Host, Task } from '../support/lab.js';
import { countIn, metricsOf, startDaemon, statusOf, tableOf, writeTable } from '../support/twill-hosts.js';

const skip = labUnavailable();

interface Mode {
  readonly backend: Readonly<Record<string, unknown>>;
  readonly mtuBytes: number;
  readonly route: RegExp;
}

const MODES: readonly Mode[] = [
  { backend: { Type: 'udp' }, mtuBytes: 1472, route: /10\.5\.0\.0\/16 dev flannel0/ },
  {
    backend: { Type: 'vxlan' },
    mtuBytes: 1450,
    route: /10\.5\.2\.0\/24 via 10\.5\.2\.0 dev flannel\.1 proto 94 onlink/,
  },
  {
    backend: { Type: 'host-gw' },
    mtuBytes: 1500,
    route: /10\.5\.2\.0\/24 via 172\.20\.0\.2 dev eth0 proto 94/,
  },
];

const reaches = async (lab: Lab, from: Host, to: Host): Promise<boolean> =>
  (await lab.run(from.containerNs, 'ping', ['-c', '1', '-W', '1', to.containerIp], { mustSucceed: false }))
    .code === 0;

t.test(
  'every mode carries traffic, keeps it over a restart and gives way to the next',
  { skip },
  async (t) => {
    const lab = Lab.open('mode-');
    t.teardown(() => lab.close());
    const hosts = [1, 2].map((index) => lab.addHost(index));
    const [a, b] = hosts;
    const staticFile = join(lab.dir, 'static.json');
    const flags = ['--ip-masq', '--iptables-resync=1'];
    let daemons: Task[] = [];

    for (const { backend, mtuBytes, route } of [...MODES, MODES[1], MODES[0]]) {
      await t.test(String(backend['Type']), async (t) => {
        // The documented way to another mode: change the config, restart the daemon on every host.
        for (const daemon of daemons) t.equal(await lab.end(daemon), 0);
        writeTable(staticFile, tableOf(hosts, backend));
        daemons = await Promise.all(hosts.map((host) => startDaemon(lab, host, staticFile, flags)));
        await waitFor(() => reaches(lab, a, b), 'traffic');
        await waitFor(() => route.test(lab.ip(a.ns, 'route show')), String(route));
        t.equal(
          readFileSync(join(a.dir, 'subnet.env'), 'utf8'),
          `FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_MTU=${mtuBytes}\nFLANNEL_IPMASQ=true\n`,
        );
        await waitFor(() => othersRemoved(lab, a, String(backend['Type'])), 'leftovers removed', 12_000);
        const status = await statusOf(lab, a);
        t.strictSame(status.degraded, []);
        t.equal(status.peers.length, 1);
        const { error, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
          input: await metricsOf(lab, a),
          encoding: 'utf8',
        });
        if (error === undefined) t.equal(stdout + stderr, '', 'promtool check metrics');
        else t.comment('needs promtool');

        const pinging = lab.run(a.containerNs, 'ping', [
          '-n',
          '-q',
          '-i',
          '0.005',
          '-c',
          '600',
          b.containerIp,
        ]);
        daemons[0].child.kill('SIGKILL');
        await daemons[0].exited;
        daemons[0] = await startDaemon(lab, a, staticFile, flags);
        const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec((await pinging).stdout)!;
        t.comment(
          `SIGKILL and restart under load: ${Number(sent) - Number(received)} of ${sent} packets lost`,
        );
        if (backend['Type'] !== 'udp') t.equal(received, sent, 'no packet lost');
      });
    }

    await t.test('rules removed by hand come back, and the metrics count it', async (t) => {
      await lab.run(a.ns, 'iptables', ['-t', 'nat', '-F', 'FLANNEL-POSTRTG']);
      await waitFor(
        async () =>
          (await lab.run(a.ns, 'iptables', ['-t', 'nat', '-S', 'FLANNEL-POSTRTG'])).stdout.split('\n')
            .length === 8,
        'masquerade rules',
      );
      t.equal(countIn(await metricsOf(lab, a), 'firewall_repairs_total'), 1);
    });

    for (const daemon of daemons) t.equal(await lab.end(daemon), 0);
    const rules = (await lab.run(a.ns, 'iptables', ['-S', 'FLANNEL-FWD'])).stdout;
    t.match(rules, /-A FLANNEL-FWD -s 10\.5\.0\.0\/16 .*ACCEPT/, 'rules stay at the end');
  },
);

async function othersRemoved(lab: Lab, host: Host, type: string): Promise<boolean> {
  const links = lab.ip(host.ns, '-o link show');
  const routes = lab.ip(host.ns, 'route show proto 94');
  const tables = (await lab.run(host.ns, 'nft', ['list', 'tables'])).stdout;
  return (
    links.includes('flannel0') === (type === 'udp') &&
    links.includes('flannel.1') === (type === 'vxlan') &&
    tables.includes('twill-vxlan') === (type === 'vxlan') &&
    (routes !== '') === (type !== 'udp')
  );
}

t.test('vxlan: a peer that is added, moved and removed in the store is followed', { skip }, async (t) => {
  const lab = Lab.open('vx-');
  t.teardown(() => lab.close());
  const hosts = [1, 2, 3].map((index) => lab.addHost(index));
  const [a, b, c] = hosts;
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf([a, b], { Type: 'vxlan', VNI: 7 }));
  await Promise.all([a, b].map((host) => startDaemon(lab, host, staticFile)));
  await waitFor(() => reaches(lab, a, b), 'traffic');
  writeTable(staticFile, tableOf(hosts, { Type: 'vxlan', VNI: 7 }));
  await startDaemon(lab, c, staticFile);
  await waitFor(() => reaches(lab, a, c), 'traffic to a new peer');
  writeTable(staticFile, tableOf([a, c], { Type: 'vxlan', VNI: 7 }));
  await waitFor(() => !lab.ip(a.ns, 'route show').includes('10.5.2.0/24'), 'route of the removed peer');
  t.notMatch(lab.ip(a.ns, 'neigh show dev flannel.7'), '10.5.2.0');
  t.notMatch((await lab.run(a.ns, 'bridge', ['fdb', 'show', 'dev', 'flannel.7'])).stdout, '172.20.0.2');
  t.ok(await reaches(lab, a, c));
  const { degraded, backend } = (await statusOf(lab, a)) as StatusDocument;
  t.strictSame(degraded, []);
  t.equal(
    backend.type === 'vxlan' ? backend.mac : backend.type,
    '0a:07:ac:14:00:01',
    'MAC from the public IP',
  );
});
