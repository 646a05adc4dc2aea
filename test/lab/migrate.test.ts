// From flanneld to twilld on one host, as docs/migrate.md tells it. What flanneld left is rebuilt from what a real one
// left (test/fixtures/golden): device, neighbours, FDB, routes, firewall, subnet.env and keys; test/lab/flanneld.cc
// holds what goes with its process. Host 2 is its mirror image.
//
//   container 1 ── host 1 (flanneld, then twilld) ── switch ── host 2 (flanneld's kernel state) ── container 2
//                                                      └── etcd

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test as Tap } from 'tap';
import type { Finding } from '../../src/cli/doctor/finding.js';
import {
  ETCD_PREFIX,
  ETCD_URL,
  etcdctl,
  type LabEtcd,
  startEtcd,
  startEtcdDaemon,
} from '../support/etcd-hosts.js';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, type Task, waitFor } from '../support/lab.js';

const TWILL = join(PROJECT_ROOT, 'dist/cli/main.js');
const GOLDEN = join(PROJECT_ROOT, 'test/fixtures/golden');
const MODES = ['vxlan', 'host-gw', 'udp'] as const;
type Mode = (typeof MODES)[number];

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
async function leave(lab: Lab, mode: Mode, host: Host): Promise<void> {
  const kernel = mirrored(golden(`${mode}/kernel.txt`), host.index);
  const ip = (lines: readonly string[]): Promise<unknown> =>
    lab.run(host.ns, 'ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` });
  if (mode === 'vxlan') {
    const mac = /link\/ether (\S+)/.exec(kernel)![1];
    await ip([
      `link add flannel.1 address ${mac} mtu 1450 type vxlan id 1 local ${host.underlayIp} dev eth0 ` +
        'dstport 8472 nolearning',
      `addr add 10.5.${host.index}.0/32 dev flannel.1`,
      'link set flannel.1 up',
      ...sectionOf(kernel, 'ip neigh').map(
        (line) => `neigh add ${line.replace('PERMANENT', 'nud permanent')}`,
      ),
    ]);
    for (const line of sectionOf(kernel, 'bridge fdb (flannel device)').concat())
      await lab.run(host.ns, 'bridge', ['fdb', 'add', ...line.split(' ')]);
  }
  if (mode !== 'udp') await ip(sectionOf(kernel, 'ip route').map((line) => `route add ${line}`));
  const rules = mirrored(golden(`${mode}-iptables-save.txt`), host.index);
  await lab.run(host.ns, 'iptables-restore', [], { input: rules });
  writeFileSync(join(host.dir, 'subnet.env'), mirrored(golden(`${mode}/subnet.env`), host.index));
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
async function writeLeases(lab: Lab, mode: Mode, etcd: LabEtcd): Promise<void> {
  const lines = golden(`${mode}/etcd.txt`).trim().split('\n');
  for (let i = 2; i < lines.length; i += 2) {
    const id = /lease (\w+) granted/.exec(await etcdctl(lab, etcd, ['lease', 'grant', '86400']))![1];
    await etcdctl(lab, etcd, ['put', `--lease=${id}`, lines[i], lines[i + 1]]);
  }
}

const ruleLines = (text: string): string[] => text.split('\n').filter((line) => /^-A|^:FLANNEL/.test(line));

for (const mode of MODES) {
  t.test(`migrate.md: ${mode}`, { skip: labUnavailable() }, async (t) => {
    const lab = Lab.open('migrate-');
    t.teardown(() => lab.close());
    const program = lab.compile('test/lab/flanneld.cc');
    const [a, b] = [1, 2].map((index) => lab.addHost(index));
    const config = JSON.parse(golden(`${mode}/etcd.txt`).split('\n')[1]) as Record<string, unknown>;
    const etcd = await startEtcd(lab, config);
    await Promise.all([writeLeases(lab, mode, etcd), leave(lab, mode, a), leave(lab, mode, b)]);
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

    await t.test('step 2: the doctor says what is true', async (t) => {
      const { code, findings } = await doctor(...args);
      t.same(
        findings.filter(({ state }) => state !== 'ok'),
        [],
      );
      t.equal(code, 0);
      const texts = findings.map(({ check, text }) => `${check}: ${text}`);
      const port = {
        vxlan: 'port: UDP 8472 is held by the vxlan device flannel.1',
        'host-gw': 'port: host-gw needs none',
        udp: /port: UDP 8285 is held by flanneld, process \d+, until it is stopped/,
      }[mode];
      for (const wanted of [
        port,
        /^etcd: \S+: \{"health":"true"/,
        'daemon: twilld does not run yet',
        `config: network 10.5.0.0/16, backend ${mode}`,
        'interface: eth0 172.20.0.1, public IP 172.20.0.1',
        'lease: 10.5.1.0/24 is that of 172.20.0.1: twilld keeps it',
        `subnet file: ${join(a.dir, 'subnet.env')} says 10.5.1.0/24`,
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
    if (mode === 'vxlan') await t.test('step 2: the doctor says what would go wrong', wouldFail);

    // Steps 3 and 4.
    const isKernelMode = mode !== 'udp';
    const device = (): unknown =>
      mode === 'vxlan' &&
      (JSON.parse(lab.ip(a.ns, '-j link show flannel.1')) as Record<string, unknown>[]).map(
        ({ ifindex, address, mtu }) => ({ ifindex, address, mtu }),
      );
    const deviceBefore = device();
    const echo = ['-n', '-q', '-i', '0.005', '-W', '1', b.containerIp];
    const pinging = isKernelMode ? lab.spawn(a.containerNs, 'ping', echo) : undefined;
    if (pinging === undefined) await startEtcdDaemon(lab, b, ['--ip-masq=true']);
    t.equal(await lab.end(flanneld), 128);
    if (mode === 'udp')
      t.throws(() => lab.ip(a.ns, 'link show flannel0'), 'the udp device goes with flanneld');
    const twilld = await startEtcdDaemon(lab, a, ['--ip-masq=true']);
    if (pinging === undefined) {
      await waitFor(
        async () =>
          (await lab.run(a.containerNs, 'ping', ['-c1', '-W1', b.containerIp], { mustSucceed: false }))
            .code === 0,
        'packets to flow',
      );
    } else {
      await waitFor(
        () => /proto 94/.test(lab.ip(a.ns, 'route show 10.5.2.0/24')),
        'the route to be taken over',
      );
      await lab.end(pinging, 'SIGINT');
      t.match(pinging.log(), / 0% packet loss/, 'no packet is lost meanwhile');
    }
    t.equal(
      readFileSync(join(a.dir, 'subnet.env'), 'utf8'),
      golden(`${mode}/subnet.env`),
      'subnet.env is the same',
    );
    t.equal(await keys(), before, 'and every key');
    t.same(device(), deviceBefore, 'the device is the same one');
    t.equal(lab.ip(a.ns, 'route show 10.5.2.0/24').trim().split('\n').length, 1, 'one route or none');
    const { stdout: rules } = await lab.run(a.ns, 'iptables-save', []);
    t.same(
      ruleLines(rules).sort(),
      ruleLines(golden(`${mode}-iptables-save.txt`)).sort(),
      'no rule is there twice',
    );

    // Back.
    t.equal(await lab.end(twilld), 0);
    if (mode === 'vxlan') await lab.run(a.ns, 'nft', ['delete', 'table', 'ip', 'twill-vxlan']);
    if (mode === 'udp') await lab.run(a.ns, process.execPath, [TWILL, 'cleanup']);
    t.same(device(), deviceBefore, 'the device stays for flanneld');
    const left = await lab.run(a.containerNs, 'ping', ['-c1', '-W1', b.containerIp], { mustSucceed: false });
    t.equal(left.code, isKernelMode ? 0 : 1);
  });
}
