// Hosts whose network has IPv6, alone or beside IPv4: pods by the CNI plugin with Debian's real bridge and host-local,
// and what `twill` says of such hosts.
//
//   pod ── cni0 ── host 1 ══ flannel.1, flannel-v6.1 or flannel0 ══ host 2 ── cni0 ── pod
//                    172.20.0.1, fd00:aa::1     172.20.0.2, fd00:aa::2          etcd

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Finding } from '../../src/cli/doctor/finding.js';
import { callCni, CNI_NETWORK, cniConfig, type CniPod } from '../support/cni-pods.js';
import { CNI_PLUGIN } from '../support/cni-plugin.js';
import { ETCD_PROGRAMS, startEtcd, startEtcdDaemon } from '../support/etcd-hosts.js';
import { printedStatus, type Schema, violations } from '../support/json-schema.js';
import { type Host, Lab, labUnavailable, PROJECT_ROOT } from '../support/lab.js';
import { ensurePackages } from '../support/packages.js';

const SCHEMA = JSON.parse(readFileSync(join(PROJECT_ROOT, 'docs/status.schema.json'), 'utf8')) as Schema;
const TWILL = join(PROJECT_ROOT, 'dist/cli/main.js');

const V4 = { Network: '10.5.0.0/16' };
const V6 = { EnableIPv6: true, IPv6Network: 'fd00:5::/48' };
const VXLAN = { v4: 'flannel.1', v6: 'flannel-v6.1' };
const IPV6 = { config: { ...V6, EnableIPv4: false }, families: ['v6'] } as const;
const DUAL = { config: { ...V4, ...V6 }, families: ['v4', 'v6'] } as const;
/** The udp mode has one way between two hosts, over IPv4 where it can. */
const NETWORKS = [
  { name: 'vxlan, IPv6', type: 'vxlan', ...IPV6, mtu: 1430 },
  { name: 'vxlan, dual stack', type: 'vxlan', ...DUAL, mtu: 1430 },
  { name: 'host-gw, dual stack', type: 'host-gw', ...DUAL, mtu: 1500 },
  { name: 'udp, IPv6', type: 'udp', ...IPV6, mtu: 1452 },
  { name: 'udp, dual stack', type: 'udp', ...DUAL, mtu: 1472 },
] as const;

const OF_FAMILY = {
  v4: { network: '10.5.0.0/16', uplink: /^172\.20\.0\.1$/, of: '-4' },
  v6: { network: 'fd00:5::/48', uplink: /^fd00:aa::1$/, of: '-6' },
} as const;

interface Pod extends CniPod {
  /** By family, in the order of the network's. */
  readonly addresses: readonly string[];
  readonly result: string;
}

interface Printed {
  readonly subnets: Readonly<Record<string, string>>;
  readonly publicIps: Readonly<Record<string, string>>;
}

for (const { name, type, config, families, mtu } of NETWORKS) {
  t.test(name, { skip: labUnavailable() }, async (t) => {
    ensurePackages(ETCD_PROGRAMS);
    const lab = Lab.open(`cni6${type[0]}${families.length}`);
    t.teardown(() => lab.close());
    await startEtcd(lab, { ...config, Backend: { Type: type } });
    const hosts = [1, 2].map((index) => lab.addHost(index, { subnet: undefined }));
    for (const host of hosts) {
      lab.ip(host.ns, 'link delete cni0'); // the bridge plugin makes its own
      lab.ip(host.ns, `address add fd00:aa::${host.index}/64 dev eth0 nodad`);
      if (!families.some((family) => family === 'v4')) {
        // etcd is asked over IPv4, by an address that the daemon cannot choose.
        lab.ip(host.ns, `address delete 172.20.0.${host.index}/24 dev eth0`);
        lab.ip(host.ns, `address add 172.20.0.${host.index}/24 dev eth0 scope link`);
      }
      await lab.run(host.ns, 'sysctl', ['-qw', 'net.ipv6.conf.all.forwarding=1']);
      await startEtcdDaemon(lab, host);
    }
    const call = (pod: CniPod, command: string, extra: object = {}, version = '1.0.0') =>
      callCni(lab, pod, command, [CNI_PLUGIN], { ...cniConfig(pod.host, version), ...extra });
    const addPod = async (host: Host, id: string): Promise<Pod> => {
      const pod = { host, id, ns: lab.addNamespace(id) };
      const { code, stdout } = await call(pod, 'ADD');
      t.equal(code, 0, `${id} is added: ${stdout}`);
      const { ips } = JSON.parse(stdout) as { readonly ips: readonly { readonly address: string }[] };
      return { ...pod, addresses: ips.map(({ address }) => address.split('/')[0]), result: stdout };
    };
    const twill = (host: Host, ...args: string[]) =>
      lab.run(host.ns, process.execPath, [TWILL, ...args], { mustSucceed: false });
    const json = async <T>(host: Host, command: string, ...args: string[]): Promise<T> =>
      JSON.parse((await twill(host, command, '--json', ...args)).stdout) as T;
    const one = await addPod(hosts[0], 'pod1');
    const two = await addPod(hosts[1], 'pod2');

    await t.test('a pod has an address, and a route to the network, of each family', async (t) => {
      t.equal(one.addresses.length, families.length);
      for (const [index, family] of families.entries()) {
        const { network, of } = OF_FAMILY[family];
        const address = one.addresses[index];
        const bridge = address.replace(/[^.:]+$/, '1');
        t.match(lab.ip(hosts[0].ns, `${of} address show cni0`), `${bridge}/`, 'the bridge is the gateway');
        const routes = lab.ip(one.ns, `${of} route show`);
        t.match(routes, `${network} via ${bridge}`);
        t.match(routes, `default via ${bridge}`);
        const ping = ['-c1', '-W5', '-M', 'do', '-s', String(mtu - (family === 'v4' ? 28 : 48))];
        const answer = await lab.run(one.ns, 'ping', [...ping, two.addresses[index]]);
        t.match(answer.stdout, ' 0% packet loss', `${family}: the largest packet, across the hosts`);
      }
      t.match(lab.ip(one.ns, 'link show eth0'), `mtu ${mtu} `);
    });

    await t.test('CHECK of a pod that is well, and of one that is not', async (t) => {
      const prevResult: unknown = JSON.parse(one.result);
      const well = await call(one, 'CHECK', { prevResult });
      t.equal(well.code, 0, well.stdout);
      const last = families[families.length - 1];
      lab.ip(one.ns, `${OF_FAMILY[last].of} route delete ${OF_FAMILY[last].network}`);
      const broken = await call(one, 'CHECK', { prevResult });
      t.equal(broken.code, 1);
      t.match(broken.stdout, OF_FAMILY[last].network.replace(/\/.*/, ''), 'a route is gone');
    });

    await t.test('what twill says of them', async (t) => {
      const status = await json<Record<string, unknown>>(hosts[0], 'status');
      t.same(violations(status, printedStatus(SCHEMA), SCHEMA), []);
      const peers = await json<Printed[]>(hosts[0], 'peers');
      t.same(violations(peers, { items: SCHEMA.$defs!['peer'] }, SCHEMA), []);
      const { lease, interface: uplink, networks, backend } = status as Record<string, never>;
      const ofFamilies = (values: (family: 'v4' | 'v6') => unknown): object =>
        Object.fromEntries(families.map((family) => [family, values(family)]));
      t.same(
        networks,
        ofFamilies((family) => OF_FAMILY[family].network),
      );
      if (type === 'vxlan')
        t.same(
          (backend as { devices: unknown }).devices,
          ofFamilies((family) => VXLAN[family]),
        );
      t.match(
        (uplink as Printed).publicIps,
        ofFamilies((family) => OF_FAMILY[family].uplink),
      );
      t.same(Object.keys((lease as Printed).subnets), families);
      t.equal(peers.length, 1);
      t.same(Object.keys(peers[0].subnets), families);
      const leases = await json<{ state: string; subnet: string }[]>(hosts[0], 'leases');
      t.same(leases.map(({ state }) => state).sort(), ['own', 'used']);
      t.ok(leases.every(({ subnet }) => subnet.includes('fd00:5:0:')));
    });

    await t.test('doctor looks at each family', async (t) => {
      const failures = async (): Promise<string[]> => {
        const findings = await json<Finding[]>(
          hosts[0],
          'doctor',
          '--',
          '--etcd-endpoints=http://172.20.0.250:2379',
        );
        t.equal(findings.filter(({ check }) => check === 'forwarding').length, families.length);
        return findings.filter(({ state }) => state === 'fail').map(({ text }) => text);
      };
      t.same(await failures(), []);
      const set = (setting: string) => lab.run(hosts[0].ns, 'sysctl', ['-qw', setting]);
      await set('net.ipv6.conf.default.disable_ipv6=1');
      t.match(await failures(), [/^net\.ipv6\.conf\.default\.disable_ipv6 is 1/]);
      await set('net.ipv6.conf.default.disable_ipv6=0');
      await set('net.ipv6.conf.all.forwarding=0');
      t.ok((await failures()).includes('net.ipv6.conf.all.forwarding is not 1'));
    });

    await t.test('removed without a trace', async (t) => {
      for (const pod of [one, two]) {
        t.equal((await call(pod, 'DEL')).code, 0);
        t.notMatch(lab.ip(pod.ns, 'link show'), /eth0/);
        t.same(readdirSync(join(pod.host.dir, 'flannel')), [], 'no state file');
        const kept = readdirSync(join(pod.host.dir, 'networks', CNI_NETWORK));
        t.same(
          kept.filter((file) => /^[\da-f]/.test(file) && /[.:]/.test(file)),
          [],
          'no address',
        );
      }
    });
  });
}
