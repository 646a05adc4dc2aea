// The daemon itself in each mode, with the static store, in networks of either family and of both: what it leaves in
// the kernel and in subnet.env, restarts under load, and the documented way from one mode to another. Two or three
// hosts on one switch; the picture is in ways.ts.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import type { StatusDocument } from '../../src/ops/status.js';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import { countIn, metricsOf, startDaemon, statusOf, writeTable } from '../support/twill-hosts.js';
import { addHost, containerAddress, reaches, tableOf, WAYS, type Way } from '../support/ways.js';

const skip = labUnavailable();
const [V4, V6, DUAL] = WAYS;

interface Mode {
  readonly type: string;
  /** With IPv6, and without. */
  readonly mtuBytes: { readonly v4: number; readonly v6: number };
  /** The route to the container of host 2. */
  readonly route: Readonly<Record<FamilyName, RegExp>>;
}

const UDP: Mode = {
  type: 'udp',
  mtuBytes: { v4: 1472, v6: 1452 },
  route: { v4: /10\.5\.0\.0\/16 dev flannel0/, v6: /fd00:5::\/48 dev flannel0/ },
};
const VXLAN: Mode = {
  type: 'vxlan',
  mtuBytes: { v4: 1450, v6: 1430 },
  route: {
    v4: /10\.5\.2\.0\/24 via 10\.5\.2\.0 dev flannel\.1 proto 94 onlink/,
    v6: /fd00:5:0:2::\/64 via fd00:5:0:2:: dev flannel-v6\.1 proto 94 metric 1024 onlink/,
  },
};
const HOST_GW: Mode = {
  type: 'host-gw',
  mtuBytes: { v4: 1500, v6: 1500 },
  route: {
    v4: /10\.5\.2\.0\/24 via 172\.20\.0\.2 dev eth0 proto 94/,
    v6: /fd00:5:0:2::\/64 via fd00:aa::2 dev eth0 proto 94 metric 1024/,
  },
};

/** Every way from mode to mode where both families go it; of one family alone what that changes. */
const RUNS: readonly (readonly [way: Way, modes: readonly Mode[]])[] = [
  [DUAL, [UDP, VXLAN, HOST_GW, VXLAN, UDP]],
  [V6, [UDP, VXLAN, HOST_GW]],
  [V4, [VXLAN, UDP]],
];

const OF_FAMILY = {
  v4: {
    of: '-4',
    device: 'flannel.1',
    iptables: 'iptables',
    lines: 'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\n',
    forward: /-A FLANNEL-FWD -s 10\.5\.0\.0\/16 .*ACCEPT/,
  },
  v6: {
    of: '-6',
    device: 'flannel-v6.1',
    iptables: 'ip6tables',
    lines: 'FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:1::1/64\n',
    forward: /-A FLANNEL-FWD -s fd00:5::\/48 .*ACCEPT/,
  },
} as const;

for (const [way, modes] of RUNS) {
  const { name, inner } = way;
  const families = inner.map((family) => OF_FAMILY[family]);

  t.test(
    `${name}: every mode carries traffic, keeps it over a restart and gives way to the next`,
    { skip },
    async (t) => {
      const lab = Lab.open(`mode-${inner.join('')}-`);
      t.teardown(() => lab.close());
      const [a, b] = [await addHost(lab, 1), await addHost(lab, 2)];
      const hosts = [a, b];
      const staticFile = join(lab.dir, 'static.json');
      const flags = ['--ip-masq', '--iptables-resync=1'];
      let daemons: Task[] = [];

      for (const { type, mtuBytes, route } of modes) {
        await t.test(type, async (t) => {
          // The documented way to another mode: change the config, restart the daemon on every host.
          for (const daemon of daemons) t.equal(await lab.end(daemon), 0);
          writeTable(staticFile, tableOf(way, hosts, { Type: type }));
          daemons = await Promise.all(hosts.map((host) => startDaemon(lab, host, staticFile, flags)));
          for (const family of inner) {
            await waitFor(() => reaches(lab, a, b, family), `traffic of ${family}`);
            const routes = () => lab.ip(a.ns, `${OF_FAMILY[family].of} route show`);
            await waitFor(() => route[family].test(routes()), String(route[family]));
          }
          // In the udp mode all of it goes over IPv4 where the hosts have that.
          const widest = type === 'udp' ? way.outer : inner.at(-1)!;
          t.equal(
            readFileSync(join(a.dir, 'subnet.env'), 'utf8'),
            `${families.map(({ lines }) => lines).join('')}FLANNEL_MTU=${mtuBytes[widest]}\nFLANNEL_IPMASQ=true\n`,
          );
          await waitFor(() => othersRemoved(lab, a, type, inner), 'leftovers removed', 12_000);
          const status = await statusOf(lab, a);
          t.strictSame(status.degraded, []);
          t.equal(status.peers.length, 1);
          const { error, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
            input: await metricsOf(lab, a),
            encoding: 'utf8',
          });
          if (error === undefined) t.equal(stdout + stderr, '', 'promtool check metrics');
          else t.comment('needs promtool');

          await t.test('SIGKILL and restart under load', async (t) => {
            const pings = inner.map((family) => pingThrough(lab, a, containerAddress(2, family)));
            daemons[0].child.kill('SIGKILL');
            await daemons[0].exited;
            daemons[0] = await startDaemon(lab, a, staticFile, flags);
            for (const [i, { sent, received }] of (await Promise.all(pings)).entries()) {
              t.comment(`${inner[i]}: ${sent - received} of ${sent} packets lost`);
              if (type !== 'udp') t.equal(received, sent, `${inner[i]}: no packet lost`);
            }
          });
        });
      }

      await t.test('rules removed by hand come back, and the metrics count it', async (t) => {
        const chain = ['-t', 'nat', '-S', 'FLANNEL-POSTRTG'];
        for (const { iptables } of families) {
          const rules = async () => (await lab.run(a.ns, iptables, chain)).stdout;
          const before = await rules();
          t.equal(before.split('\n').length, 8, before);
          await lab.run(a.ns, iptables, ['-t', 'nat', '-F', 'FLANNEL-POSTRTG']);
          await waitFor(async () => (await rules()) === before, `the masquerade rules of ${iptables}`);
        }
        t.equal(countIn(await metricsOf(lab, a), 'firewall_repairs_total'), families.length);
      });

      for (const daemon of daemons) t.equal(await lab.end(daemon), 0);
      for (const { iptables, forward } of families)
        t.match(
          (await lab.run(a.ns, iptables, ['-S', 'FLANNEL-FWD'])).stdout,
          forward,
          'rules stay at the end',
        );
    },
  );
}

/** Echoes that go on for 1.5 s. */
async function pingThrough(lab: Lab, from: Host, to: string): Promise<{ sent: number; received: number }> {
  const args = ['-n', '-q', '-i', '0.005', '-c', '300', to];
  const { stdout } = await lab.run(from.containerNs, 'ping', args, { mustSucceed: false });
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(stdout)!;
  return { sent: Number(sent), received: Number(received) };
}

async function othersRemoved(
  lab: Lab,
  host: Host,
  type: string,
  inner: readonly FamilyName[],
): Promise<boolean> {
  const links = lab.ip(host.ns, '-o link show');
  const tables = (await lab.run(host.ns, 'nft', ['list', 'tables'])).stdout.split('\n');
  const isFamilyDone = (family: FamilyName): boolean => {
    const { of, device } = OF_FAMILY[family];
    const table = `table ${family === 'v4' ? 'ip' : 'ip6'} twill-vxlan`;
    const isVxlan = type === 'vxlan' && inner.includes(family);
    return (
      links.includes(`${device}:`) === isVxlan &&
      tables.includes(table) === isVxlan &&
      (lab.ip(host.ns, `${of} route show proto 94`) !== '') === (type !== 'udp' && inner.includes(family))
    );
  };
  return links.includes('flannel0') === (type === 'udp') && isFamilyDone('v4') && isFamilyDone('v6');
}

t.test(
  'vxlan, dual: a peer that is added, moved and removed in the store is followed',
  { skip },
  async (t) => {
    const lab = Lab.open('vx-');
    t.teardown(() => lab.close());
    const [a, b, c] = [await addHost(lab, 1), await addHost(lab, 2), await addHost(lab, 3)];
    const staticFile = join(lab.dir, 'static.json');
    const write = (...hosts: readonly Host[]): void =>
      writeTable(staticFile, tableOf(DUAL, hosts, { Type: 'vxlan', VNI: 7 }));
    const arrives = (to: Host) => async (): Promise<boolean> =>
      (await reaches(lab, a, to, 'v4')) && (await reaches(lab, a, to, 'v6'));
    write(a, b);
    await Promise.all([a, b].map((host) => startDaemon(lab, host, staticFile)));
    await waitFor(arrives(b), 'traffic');
    write(a, b, c);
    await startDaemon(lab, c, staticFile);
    await waitFor(arrives(c), 'traffic to a new peer');
    write(a, c);
    for (const [of, device, base, publicIp] of [
      ['-4', 'flannel.7', '10.5.2.0', '172.20.0.2'],
      ['-6', 'flannel-v6.7', 'fd00:5:0:2::', 'fd00:aa::2'],
    ]) {
      await waitFor(
        () => !lab.ip(a.ns, `${of} route show`).includes(`${base}/`),
        'route of the removed peer',
      );
      t.notMatch(lab.ip(a.ns, `neigh show dev ${device}`), base);
      t.notMatch((await lab.run(a.ns, 'bridge', ['fdb', 'show', 'dev', device])).stdout, `dst ${publicIp} `);
    }
    t.ok(await arrives(c)());
    const { degraded, backend } = (await statusOf(lab, a)) as StatusDocument;
    t.strictSame(degraded, []);
    t.match(
      backend.type === 'vxlan' ? backend.macs : backend.type,
      { v4: '0a:07:ac:14:00:01', v6: /^0e:07:/ },
      'MACs from the public IPs',
    );
  },
);
