// `twill cleanup` on a host of a network of both families: afterwards the host is what it was before the daemon's first
// start, with all that others have put beside ours. Each mode, with either firewall; the picture is in ways.ts.

import { join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable, PROJECT_ROOT, waitFor } from '../support/lab.js';
import { daemonArguments, statusOf, writeTable } from '../support/twill-hosts.js';
import { addHost, tableOf, WAYS } from '../support/ways.js';

const DUAL = WAYS[2];

/** What each mode leaves behind for its peer, host 2; the routes of the udp mode go with their device. */
const MODES: Readonly<Record<string, readonly string[]>> = {
  udp: ['device flannel0'],
  vxlan: [
    ...['device flannel.1', 'route 10.5.2.0/24 dev flannel.1', 'table ip twill-vxlan'],
    ...['device flannel-v6.1', 'route fd00:5:0:2::/64 dev flannel-v6.1', 'table ip6 twill-vxlan'],
  ],
  'host-gw': ['route 10.5.2.0/24 dev eth0', 'route fd00:5:0:2::/64 dev eth0'],
};
const HOLES = ['route blackhole 10.5.1.0/24', 'route blackhole fd00:5:0:1::/64'];
const FIREWALLS: Readonly<Record<string, readonly string[]>> = {
  iptables: [
    ...['chain nat/FLANNEL-POSTRTG', 'chain filter/FLANNEL-FWD'],
    ...['chain ip6 nat/FLANNEL-POSTRTG', 'chain ip6 filter/FLANNEL-FWD'],
  ],
  nft: ['table ip flannel-ipv4', 'table ip6 flannel-ipv6'],
};

/** Devices with names like ours, link-local addresses, and routes beside ours: to the same and within our networks. */
const FOREIGN_OBJECTS = `
  tuntap add flannel9 mode tun
  link set flannel9 alias another
  address add fe80::9/64 dev flannel9
  link set flannel9 up
  address add fe80::7/64 dev eth0
  link add flannel.9 type vxlan id 9 local 172.20.0.1 dev eth0 dstport 8472 nolearning
  link add flannel-v6.9 type vxlan id 9 local fd00:aa::1 dev eth0 dstport 8472 nolearning
  link set flannel-v6.9 up
  neigh add fd00:5:0:2:: lladdr 02:00:00:00:00:02 dev flannel-v6.9 nud permanent
  route add 10.4.0.0/15 via 172.20.0.9 proto static
  route add fd00:4::/31 via fd00:aa::9 proto static
  route add 10.5.9.0/24 via 172.20.0.9 proto bird
  route add fd00:5:0:9::/64 via fd00:aa::9 proto bird
  route add blackhole 10.5.8.0/24
  route add unreachable fd00:5:0:8::/64 proto static
  route add fd00:5:0:2::/64 dev flannel-v6.9 metric 4096
`;

/** Rules that name our networks, around where ours will stand, in tables that ours share and in others. */
const FOREIGN_RULES = [
  ...[
    ['iptables', '10.5.0.0/16'],
    ['ip6tables', 'fd00:5::/48'],
  ].flatMap(([tool, network]) => [
    `${tool} -N OTHER`,
    `${tool} -A OTHER -s ${network} -m comment --comment other -j RETURN`,
    `${tool} -A FORWARD -j OTHER`,
    `${tool} -A FORWARD -d ${network} -j ACCEPT`,
    `${tool} -t nat -A POSTROUTING -s ${network} -o eth9 -j MASQUERADE`,
  ]),
  'nft add table ip6 other',
  'nft add chain ip6 other forward { type filter hook forward priority 10 ; }',
  'nft add rule ip6 other forward ip6 saddr fd00:5::/48 accept',
  'nft add table inet twill-other',
];

for (const [mode, objects] of Object.entries(MODES))
  for (const [firewall, rules] of Object.entries(FIREWALLS))
    t.test(`cleanup, ${mode}, ${firewall}`, { skip: labUnavailable() }, async (t) => {
      const lab = Lab.open('cl-');
      t.teardown(() => lab.close());
      const host = await addHost(lab, 1);
      await lab.run(host.ns, 'ip', ['-batch', '-'], { input: FOREIGN_OBJECTS });
      for (const line of FOREIGN_RULES) await lab.run(host.ns, line.split(' ')[0], line.split(' ').slice(1));

      // A BPF file system, for the lane, with pins of another network namespace.
      const mount =
        'mount -t bpf bpf /sys/fs/bpf && mkdir -p /sys/fs/bpf/twill/1-flannel0; echo done; sleep 600';
      const files = await lab.spawnUntil(host.ns, 'unshare', ['-m', 'sh', '-c', mount], /done/);
      const inside = ['-m', '-t', String(files.child.pid), '--'];
      const see = async (command: string): Promise<string> =>
        (await lab.run(host.ns, 'nsenter', [...inside, 'sh', '-c', command])).stdout;
      const kernel = async (): Promise<string[]> => {
        const text = await see(
          'ip -d address; ip -4 route show table all; ip -6 route show table all; ip rule; ip -6 rule;' +
            'ip neigh show nud permanent; bridge fdb; nft -s list ruleset; iptables-save; ip6tables-save;' +
            'find /sys/fs/bpf | sort',
        );
        return text
          .replace(/^#.*/gm, '')
          .replace(/\[\d+:\d+\]/g, '')
          .split('\n');
      };
      await waitFor(() => !/tentative/.test(lab.ip(host.ns, '-6 address')), 'no address to be tentative');
      const before = await kernel();

      const backend = { Type: mode };
      const { config, leases } = tableOf(DUAL, [host, { ...host, index: 2 }], backend);
      const data = { VNI: 1, VtepMAC: '02:00:00:00:00:02' };
      const peer = { ...leases[1], publicIPv6: 'fd00:aa::2', backendData: data, backendV6Data: data };
      const file = join(host.dir, 'static.json');
      writeTable(file, {
        config: { ...config, EnableNFTables: firewall === 'nft' },
        leases: [leases[0], peer],
      });
      const args = daemonArguments(host, file, ['--ip-masq', '--ip-blackhole-route', '--path-probes=false']);
      const daemon = await lab.spawnUntil(
        host.ns,
        'nsenter',
        [...inside, process.execPath, ...args],
        /ready after/,
      );
      const cleanup = async (...flags: string[]): Promise<string[]> => {
        const command = [
          process.execPath,
          join(PROJECT_ROOT, 'dist/cli/main.js'),
          'cleanup',
          '--json',
          ...flags,
        ];
        const { stdout } = await lab.run(host.ns, 'nsenter', [...inside, ...command]);
        const steps = JSON.parse(stdout) as Record<'kind' | 'name' | 'result', string>[];
        return steps.map(({ kind, name, result }) => `${result}: ${kind} ${name}`).sort();
      };
      const { backend: status } = await statusOf(lab, host);
      const lane = mode === 'udp' && status.lane.mode !== 'off' ? ['lane of flannel0'] : [];
      const ours = [...objects, ...HOLES, ...rules, ...lane];
      const wanted = (result: string): string[] => ours.map((what) => `${result}: ${what}`).sort();
      let listed: string[] = [];
      await waitFor(async () => {
        listed = await cleanup('--dry-run');
        return listed.length >= ours.length;
      }, 'all that the daemon makes').catch((error: Error) => t.comment(error.message, daemon.log()));
      t.strictSame(listed, wanted('would be removed'));
      if (mode === 'udp')
        for (const words of ['route show 10.5.0.0/16', '-6 route show fd00:5::/48'])
          t.match(lab.ip(host.ns, words), 'dev flannel0', words);
      t.equal(await lab.end(daemon), 0);
      t.strictSame(await cleanup(), wanted('removed'));
      t.strictSame(await kernel(), before, 'the host is what it was');
      t.strictSame(await cleanup(), [], 'nothing is left');
    });
