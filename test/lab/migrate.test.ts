// From flanneld to twilld on one host, and back, as docs/migrate.md tells it. What flanneld left is rebuilt from what a
// real one left (test/fixtures/golden): device, neighbours, FDB, routes, firewall, subnet.env and keys;
// test/lab/flanneld.cc holds what goes with its process. Host 2 is its mirror image. In a network of both families
// flanneld leaves the same of IPv6 beside it, with a device of its own.
//
//   container 1 ── host 1 (flanneld, then twilld) ── switch ── host 2 (flanneld's kernel state) ── container 2
//                                                      └── etcd

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test as Tap } from 'tap';
import type { Finding } from '../../src/cli/doctor/finding.js';
import type { FamilyName } from '../../src/net/dual.js';
import {
  ETCD_PREFIX,
  ETCD_URL,
  etcdctl,
  type LabEtcd,
  startEtcd,
  startEtcdDaemon,
} from '../support/etcd-hosts.js';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, type Task, waitFor } from '../support/lab.js';
import { addHost, containerAddress } from '../support/ways.js';

const TWILL = join(PROJECT_ROOT, 'dist/cli/main.js');
const GOLDEN = join(PROJECT_ROOT, 'test/fixtures/golden');
/** flanneld's udp mode has no IPv6. */
const CASES = [
  { mode: 'vxlan', families: ['v4'] },
  { mode: 'host-gw', families: ['v4'] },
  { mode: 'udp', families: ['v4'] },
  { mode: 'vxlan', families: ['v4', 'v6'] },
  { mode: 'host-gw', families: ['v4', 'v6'] },
] as const;
type Mode = (typeof CASES)[number]['mode'];
type Families = readonly FamilyName[];

const OF_FAMILY = {
  v4: { of: '-4', iptables: 'iptables', device: 'flannel.1', peer: '10.5.2.0/24', alone: 32 },
  v6: { of: '-6', iptables: 'ip6tables', device: 'flannel-v6.1', peer: 'fd00:5:0:2::/64', alone: 128 },
} as const;

const golden = (name: string): string => readFileSync(join(GOLDEN, name), 'utf8');

/** What a recording of host 1 is at host 2. */
function mirrored(text: string, index: number): string {
  if (index === 1) return text;
  const swaps: Readonly<Record<string, string>> = {
    ...{ '10.5.1.': '10.5.2.', '10.5.2.': '10.5.1.', '172.20.0.1': '172.20.0.2', '172.20.0.2': '172.20.0.1' },
    ...{ 'da:cf:2f:a4:f8:4a': 'ba:03:de:30:80:71', 'ba:03:de:30:80:71': 'da:cf:2f:a4:f8:4a' },
  };
  return text.replace(/10\.5\.[12]\.|172\.20\.0\.[12]\b|(?:da:cf|ba:03)[\w:]+/g, (found) => swaps[found]);
}

/** A recording of IPv4 as one of this family. */
function inFamily(text: string, family: FamilyName): string {
  if (family === 'v4') return text;
  return text
    .replaceAll('10.5.0.0/16', 'fd00:5::/48')
    .replace(/10\.5\.(\d)\.0([/-])24/g, 'fd00:5:0:$1::$264')
    .replace(/10\.5\.(\d)\.0/g, 'fd00:5:0:$1::')
    .replace(/10\.5\.(\d)\.1\/24/g, 'fd00:5:0:$1::1/64')
    .replace(/172\.20\.0\.(\d)\b/g, 'fd00:aa::$1')
    .replaceAll('224.0.0.0/4', 'ff00::/8')
    .replaceAll('flannel.1', 'flannel-v6.1')
    .replaceAll('da:cf:2f:a4:f8:4a', '2a:c1:f4:16:0c:c6')
    .replaceAll('ba:03:de:30:80:71', 'aa:cd:65:ed:c1:d6');
}

/** subnet.env with the lines of both families before those that are of none. */
function subnetEnv(mode: Mode, families: Families, index: number): string {
  const lines = mirrored(golden(`${mode}/subnet.env`), index).split('\n');
  const v6 = lines.slice(0, 2).map((line) => inFamily(line.replace('FLANNEL_', 'FLANNEL_IPV6_'), 'v6'));
  return [...lines.slice(0, 2), ...(families.length === 2 ? v6 : []), ...lines.slice(2)].join('\n');
}

/** What `keys` prints: config, then each lease. */
function etcdLines(mode: Mode, families: Families): string[] {
  const lines = golden(`${mode}/etcd.txt`).trim().split('\n');
  if (families.length === 1) return lines;
  return lines.map((line, i) => {
    const v6 = inFamily(line, 'v6');
    if (i === 1) return line.replace('{', '{"EnableIPv6":true,"IPv6Network":"fd00:5::/48",');
    if (i % 2 === 0) return i === 0 ? line : `${line}&${/[^/]+$/.exec(v6)![0]}`;
    const { PublicIP, BackendData } = JSON.parse(v6) as Record<string, unknown>;
    const data = BackendData === undefined ? {} : { BackendV6Data: BackendData };
    return JSON.stringify({ ...(JSON.parse(line) as object), PublicIPv6: PublicIP, ...data });
  });
}

/** Lines of a section of kernel.txt that speak of the overlay. */
function sectionOf(kernel: string, name: string): string[] {
  const text = kernel.split(/^# /m).find((part) => part.startsWith(`${name}\n`)) ?? '';
  return text
    .split('\n')
    .slice(1)
    .map((line) => line.trim())
    .filter((line) => /flannel|10\.5\.\d\.\d\/24 via/.test(line));
}

/** The host as flanneld leaves it, but for what goes with its process. */
async function leave(lab: Lab, mode: Mode, families: Families, host: Host): Promise<void> {
  for (const family of families) {
    const { iptables, device, alone } = OF_FAMILY[family];
    const here = (text: string): string => inFamily(mirrored(text, host.index), family);
    const kernel = golden(`${mode}/kernel.txt`);
    const section = (name: string): string[] => sectionOf(kernel, name).map(here);
    const ip = (lines: readonly string[]): Promise<unknown> =>
      lab.run(host.ns, 'ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` });
    if (mode === 'vxlan') {
      const mac = here(/link\/ether (\S+)/.exec(kernel)![1]);
      await ip([
        `link add ${device} address ${mac} mtu 1450 type vxlan id 1 local ${here('172.20.0.1')} dev eth0 ` +
          'dstport 8472 nolearning',
        `addr add ${here('10.5.1.0')}/${alone} dev ${device}`,
        `link set ${device} up`,
        ...section('ip neigh').map((line) => `neigh add ${line.replace('PERMANENT', 'nud permanent')}`),
      ]);
      for (const line of section('bridge fdb (flannel device)'))
        await lab.run(host.ns, 'bridge', ['fdb', 'add', ...line.split(' ')]);
    }
    if (mode !== 'udp') await ip(section('ip route').map((line) => `route add ${line}`));
    const rules = here(golden(`${mode}-iptables-save.txt`));
    await lab.run(host.ns, `${iptables}-restore`, [], { input: rules });
  }
  writeFileSync(join(host.dir, 'subnet.env'), subnetEnv(mode, families, host.index));
}

/** The process, and in the udp mode what lives as long as it. */
async function startFlanneld(
  lab: Lab,
  mode: Mode,
  host: Host,
  program: string,
  args: readonly string[],
): Promise<Task> {
  const held = mode === 'udp' ? ['TUN=flannel0', 'PORT=8285'] : [];
  const task = await lab.spawnUntil(host.ns, 'env', [...held, program, ...args], /holding/);
  if (mode !== 'udp') return task;
  lab.ip(host.ns, 'address add 10.5.1.0/32 dev flannel0');
  lab.ip(host.ns, 'link set flannel0 mtu 1472 up');
  lab.ip(host.ns, 'route add 10.5.0.0/16 dev flannel0');
  return task;
}

/** The config is there already. */
async function writeLeases(lab: Lab, lines: readonly string[], etcd: LabEtcd): Promise<void> {
  for (let i = 2; i < lines.length; i += 2) {
    const id = /lease (\w+) granted/.exec(await etcdctl(lab, etcd, ['lease', 'grant', '86400']))![1];
    await etcdctl(lab, etcd, ['put', `--lease=${id}`, lines[i], lines[i + 1]]);
  }
}

const ruleLines = (text: string): string[] => text.split('\n').filter((line) => /^-A|^:FLANNEL/.test(line));

for (const { mode, families } of CASES) {
  t.test(`migrate.md: ${mode}, ${families.join(' and ')}`, { skip: labUnavailable() }, async (t) => {
    const lab = Lab.open('migrate-');
    t.teardown(() => lab.close());
    const program = lab.compile('test/lab/flanneld.cc');
    const isDual = families.length === 2;
    const [a, b] = isDual ? [await addHost(lab, 1), await addHost(lab, 2)] : [lab.addHost(1), lab.addHost(2)];
    const lines = etcdLines(mode, families);
    const etcd = await startEtcd(lab, JSON.parse(lines[1]) as Record<string, unknown>);
    await Promise.all([
      writeLeases(lab, lines, etcd),
      ...[a, b].map((host) => leave(lab, mode, families, host)),
    ]);
    const keys = (): Promise<string> => etcdctl(lab, etcd, ['get', '--prefix', ETCD_PREFIX]);
    const before = await keys();
    const shared = ['--iface=eth0', '--ip-masq=true', `--etcd-endpoints=${ETCD_URL}`];
    const args = [...shared, `--subnet-file=${join(a.dir, 'subnet.env')}`];
    const flanneld = await startFlanneld(lab, mode, a, program, args);
    const doctor = async (...settings: string[]): Promise<{ code: number; findings: Finding[] }> => {
      const command = [TWILL, 'doctor', '--before-migration', '--json', '--', ...settings];
      const { stdout, code } = await lab.run(a.ns, process.execPath, command, { mustSucceed: false });
      return { code, findings: JSON.parse(stdout) as Finding[] };
    };

    const both = (text: string): string => families.map((family) => inFamily(text, family)).join(' and ');
    await t.test('step 2: the doctor says what is true', async (t) => {
      const { code, findings } = await doctor(...args);
      t.same(
        findings.filter(({ state }) => state !== 'ok'),
        [],
      );
      t.equal(code, 0);
      const texts = findings.map(({ check, text }) => `${check}: ${text}`);
      const port = {
        vxlan: /port: UDP 8472 is held by the vxlan device flannel(?:\.|-v6\.)1/,
        'host-gw': 'port: host-gw needs none',
        udp: /port: UDP 8285 is held by flanneld, process \d+, until it is stopped/,
      }[mode];
      for (const wanted of [
        port,
        /^etcd: \S+: \{"health":"true"/,
        'daemon: twilld does not run yet',
        `config: network ${both('10.5.0.0/16')}, backend ${mode}`,
        `interface: eth0 ${both('172.20.0.1')}, public IP ${both('172.20.0.1')}`,
        `lease: ${both('10.5.1.0/24')} is that of ${both('172.20.0.1')}: twilld keeps it`,
        `subnet file: ${join(a.dir, 'subnet.env')} says ${both('10.5.1.0/24')}`,
        /flanneld: twilld takes its flags and variables \(process \d+\)/,
        /forward policy: /,
      ])
        t.ok(
          texts.some((text) => (typeof wanted === 'string' ? text === wanted : wanted.test(text))),
          String(wanted),
        );
    });

    const wouldFail = async (t: Tap): Promise<void> => {
      const wireguard = '{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard"}}';
      await etcdctl(lab, etcd, ['put', '/wg/config', wireguard]);
      const cases: [string[], string[]][] = [
        [
          ['--etcd-prefix=/other'],
          [
            'fail config none in etcd at "/other/config"',
            'warn flanneld has another --etcd-prefix: "/coreos.com/network", twilld "/other"',
          ],
        ],
        [
          ['--public-ip=172.20.0.9', '--ip-masq=false'],
          [
            'fail lease 10.5.1.0/24 of the subnet file is leased to 172.20.0.1, and twilld would be 172.20.0.9',
            'warn flanneld has another --public-ip: "", twilld "172.20.0.9"',
            'warn flanneld has another --ip-masq: "true", twilld "false"',
          ],
        ],
        [
          ['--etcd-prefix=/wg'],
          [
            'fail config Backend.Type is "wireguard": expected one of udp, vxlan, host-gw',
            'warn flanneld has another --etcd-prefix: "/coreos.com/network", twilld "/wg"',
          ],
        ],
      ];
      for (const [changes, wanted] of cases) {
        const names = changes.map((word) => word.split('=')[0]);
        const kept = args.filter((word) => !names.includes(word.split('=')[0]));
        const { code, findings } = await doctor(...kept, ...changes);
        const said = findings.filter(({ check }) => ['config', 'lease', 'flanneld'].includes(check));
        t.same(
          said
            .flatMap(({ check, state, text }) => (state === 'ok' ? [] : [`${state} ${check} ${text}`]))
            .sort(),
          wanted.sort(),
        );
        t.equal(code, 1);
      }
      t.equal(await keys(), before, 'nothing was written');
    };
    // As each mode would have it.
    if (mode === 'vxlan' && !isDual) await t.test('step 2: the doctor says what would go wrong', wouldFail);

    // Steps 3 and 4.
    const isKernelMode = mode !== 'udp';
    const devices = (): Readonly<Record<string, unknown>>[] =>
      families.flatMap((family) => {
        if (mode !== 'vxlan') return [];
        const link = lab.ip(a.ns, `-j link show ${OF_FAMILY[family].device}`);
        const [{ ifindex, address, mtu }] = JSON.parse(link) as Record<string, unknown>[];
        return [{ ifindex, address, mtu }];
      });
    const reaches = async (family: FamilyName): Promise<boolean> => {
      const words = ['-c1', '-W1', containerAddress(b.index, family)];
      return (await lab.run(a.containerNs, 'ping', words, { mustSucceed: false })).code === 0;
    };
    const routes = (family: FamilyName): string[] => {
      const { of, peer } = OF_FAMILY[family];
      return lab.ip(a.ns, `${of} route show ${peer}`).trim().split('\n');
    };
    // Datagrams of IPv6 have 20 bytes more, which flanneld does not take off.
    const sameDevices = devices().map((device, i) => (i === 0 ? device : { ...device, mtu: 1430 }));
    const echo = ['-n', '-q', '-i', '0.005', '-W', '1'];
    const pings = isKernelMode
      ? families.map((family) =>
          lab.spawn(a.containerNs, 'ping', [...echo, containerAddress(b.index, family)]),
        )
      : [];
    if (!isKernelMode) await startEtcdDaemon(lab, b, ['--ip-masq=true']);
    t.equal(await lab.end(flanneld), 128);
    if (mode === 'udp')
      t.throws(() => lab.ip(a.ns, 'link show flannel0'), 'the udp device goes with flanneld');
    const twilld = await startEtcdDaemon(lab, a, ['--ip-masq=true']);
    if (isKernelMode)
      await waitFor(
        () => families.every((family) => /proto 94/.test(routes(family)[0])),
        'the routes to be taken over',
      );
    else await waitFor(() => reaches('v4'), 'packets to flow');
    for (const ping of pings) {
      await lab.end(ping, 'SIGINT');
      t.match(ping.log(), / 0% packet loss/, 'no packet is lost meanwhile');
    }
    const env = readFileSync(join(a.dir, 'subnet.env'), 'utf8');
    const formerEnv = subnetEnv(mode, families, 1);
    const sameEnv = isDual ? formerEnv.replace('MTU=1450', 'MTU=1430') : formerEnv;
    t.equal(env, sameEnv, 'subnet.env is the same');
    t.equal(await keys(), before, 'and every key');
    t.same(devices(), sameDevices, 'the devices are the same ones');
    for (const family of families) {
      const { iptables } = OF_FAMILY[family];
      t.equal(routes(family).length, 1, `${family}: one route or none`);
      const { stdout: rules } = await lab.run(a.ns, `${iptables}-save`, []);
      const former = inFamily(golden(`${mode}-iptables-save.txt`), family);
      t.same(ruleLines(rules).sort(), ruleLines(former).sort(), `${family}: no rule is there twice`);
    }

    // Back.
    t.equal(await lab.end(twilld), 0);
    if (mode === 'vxlan')
      for (const family of families)
        await lab.run(a.ns, 'nft', ['delete', 'table', family === 'v4' ? 'ip' : 'ip6', 'twill-vxlan']);
    if (mode === 'udp') await lab.run(a.ns, process.execPath, [TWILL, 'cleanup']);
    t.notMatch(
      (await lab.run(a.ns, 'nft', ['list', 'tables'])).stdout,
      'twill',
      'nobody is refused any more',
    );
    t.same(devices(), sameDevices, 'the devices stay for flanneld');
    for (const family of families) t.equal(await reaches(family), isKernelMode, family);
    if (!isKernelMode) return;
    // What flanneld does first, for each peer: it takes the place of ours.
    for (const family of families) {
      const [line] = sectionOf(golden(`${mode}/kernel.txt`), 'ip route');
      lab.ip(a.ns, `route replace ${inFamily(line, family)}`);
      t.equal(routes(family).length, 1, `${family}: one route`);
      t.notMatch(routes(family)[0], 'proto 94');
      t.ok(await reaches(family), family);
    }
  });
}
