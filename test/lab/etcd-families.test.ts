// Networks of both families and of IPv6 alone on a real etcd: three hosts lease their subnets and reach each other,
// keys and values are flannel's, leases as flanneld writes them are peers, and a restart keeps the subnets. Then the
// way from IPv4 to both and back.
//
//   host 1 ┐                          ┌ etcd 172.20.0.250
//   host 2 ┼ switch: 172.20.0.<host>, ┤
//   host 3 ┘         fd00:aa::<host>  └ host 200: two leases as flanneld writes them, and nothing but a capture

import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import {
  addBareHost,
  connectIpv6,
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  etcdctl,
  type LabEtcd,
  leasedSubnet,
  startEtcd,
  startEtcdDaemon,
} from '../support/etcd-hosts.js';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import { ensurePackages } from '../support/packages.js';
import { checkSums, statusOf } from '../support/twill-hosts.js';

const IPV6 = { EnableIPv6: true, IPv6Network: 'fd00:5::/48' };
const NETWORKS = [
  { name: 'both families', families: ['v4', 'v6'], config: { Network: '10.5.0.0/16', ...IPV6 } },
  { name: 'IPv6 alone', families: ['v6'], config: { EnableIPv4: false, ...IPV6 } },
] as const;

/** Leases of host 200: of both families, and as a flanneld without IPv6 writes it. */
const FLANNELS = {
  '10.5.201.0-24&fd00:5:0:201::-64': '{"PublicIP":"172.20.0.200","PublicIPv6":"fd00:aa::200"}',
  '10.5.200.0-24': '{"PublicIP":"172.20.0.200","PublicIPv6":null}',
} as const;

interface Member {
  readonly host: Host;
  readonly daemon: Task;
  readonly file: string;
  /** Of the container. */
  readonly address: Readonly<Partial<Record<FamilyName, string>>>;
  /** As etcd has it. */
  readonly key: string;
}

const environment = (host: Host): string => readFileSync(join(host.dir, 'subnet.env'), 'utf8');

/** A host joins: its daemon leases subnets, its container gets an address of each. */
async function join6(lab: Lab, index: number, families: readonly FamilyName[]): Promise<Member> {
  const bare = await addBareHost(lab, index);
  const daemon = await startEtcdDaemon(lab, bare);
  const file = environment(bare);
  const host = families.includes('v4') ? lab.connectContainer(bare, leasedSubnet(bare)) : bare;
  const base = connectIpv6(lab, host);
  const v4 = families.includes('v4') ? { v4: host.containerIp } : {};
  const key = `${host.subnet.replace('/', '-') || '0.0.0.0-0'}&${base}-64`;
  return { host, daemon, file, address: { ...v4, v6: `${base}2` }, key };
}

async function leasesIn(lab: Lab, etcd: LabEtcd): Promise<Record<string, string>> {
  const lines = (await etcdctl(lab, etcd, ['get', '--prefix', `${ETCD_PREFIX}/subnets/`])).trim().split('\n');
  const names = lines.map((line) => line.replace(`${ETCD_PREFIX}/subnets/`, ''));
  return Object.fromEntries(names.flatMap((name, i) => (i % 2 === 0 ? [[name, lines[i + 1]]] : [])));
}

async function ping(lab: Lab, from: Pick<Member, 'host'>, to: string): Promise<string> {
  const args = ['-n', '-c', '1', '-W', '1', to];
  return (await lab.run(from.host.containerNs, 'ping', args, { mustSucceed: false })).stdout;
}

for (const { name, families, config } of NETWORKS) {
  t.test(`a network of ${name} on etcd`, { skip: labUnavailable() }, async (t) => {
    ensurePackages(ETCD_PROGRAMS);
    const lab = Lab.open(`ef${families.length}-`);
    t.teardown(() => lab.close());
    const etcd = await startEtcd(lab, { ...config, Backend: { Type: 'udp' } });
    const members: Member[] = [];
    for (const index of [1, 2, 3]) members.push(await join6(lab, index, families));
    const [first, , third] = members;
    const hasV4 = families.length === 2;

    const publicIpOf = (index: number) => (hasV4 ? `172.20.0.${index}` : '0.0.0.0');
    const expected = members.map(
      ({ key, host: { index } }) =>
        [key, `{"PublicIP":"${publicIpOf(index)}","PublicIPv6":"fd00:aa::${index}"}`] as const,
    );
    t.same(await leasesIn(lab, etcd), Object.fromEntries(expected), 'what flanneld would write');
    t.equal(new Set(members.map(({ address }) => address.v6)).size, 3);

    await t.test('every container reaches every other', async (t) => {
      for (const from of members)
        for (const to of members.filter((member) => member !== from))
          for (const family of families) {
            const reaches = async () => / 1 received/.test(await ping(lab, from, to.address[family]!));
            await waitFor(reaches, `${from.host.index} to ${to.host.index}, ${family}`);
          }
      for (const { host } of members) {
        const { peers } = await statusOf(lab, host);
        t.equal(peers.length, 2);
        await checkSums(t, lab, host);
      }
    });

    await t.test('a lease of one family is sent that one alone', async (t) => {
      const ns = lab.addServer('f', 200);
      lab.ip(ns, 'address add fd00:aa::200/64 dev eth0 nodad');
      const capture = lab.spawn(ns, 'tcpdump', [
        '-nlv',
        '-i',
        'eth0',
        '--immediate-mode',
        'dst port 8285',
        '-x',
      ]);
      await waitFor(() => capture.log().includes('listening'), 'the capture');
      for (const [key, value] of Object.entries(FLANNELS))
        await etcdctl(lab, etcd, ['put', `${ETCD_PREFIX}/subnets/${key}`, value]);
      // In a network of IPv6 alone the one without it is no peer, and IPv4 of the other goes unused.
      await waitFor(
        async () => (await statusOf(lab, first.host)).peers.length === (hasV4 ? 4 : 3),
        'the leases',
      );
      const echoes = hasV4 ? ['10.5.200.2', '10.5.201.2', 'fd00:5:0:201::2'] : ['fd00:5:0:201::2'];
      for (const to of echoes) t.match(await ping(lab, first, to), ' 0 received', to);
      // The addresses of containers, in the words of a hexadecimal dump.
      const words: Readonly<Record<string, RegExp>> = {
        '10.5.200.2': /0a05 c802/,
        '10.5.201.2': /0a05 c902/,
        'fd00:5:0:201::2': /fd00 0005 0000 0201/,
      };
      const dump = () => capture.log().replaceAll(/\n\s+0x[0-9a-f]+:  /g, ' ');
      for (const [to, bytes] of Object.entries(words))
        if (echoes.includes(to)) await waitFor(() => bytes.test(dump()), `a datagram with ${to}`);
        else t.notMatch(dump(), bytes, to);
      t.match(await ping(lab, first, 'fd00:5:0:200::2'), /No route/, 'nobody has its IPv6');
      t.notMatch(dump(), /fd00 0005 0000 0200/);
    });

    await t.test('a restart keeps the subnets, with and without subnet.env', async (t) => {
      let { daemon } = third;
      for (const isKept of [true, false]) {
        await lab.end(daemon);
        if (!isKept) rmSync(join(third.host.dir, 'subnet.env'));
        daemon = await startEtcdDaemon(lab, third.host);
        t.equal(environment(third.host), third.file);
        for (const family of families) {
          const reaches = async () => / 1 received/.test(await ping(lab, first, third.address[family]!));
          await waitFor(reaches, `host 3 again, ${family}`);
        }
      }
      const keys = Object.keys(await leasesIn(lab, etcd)).sort();
      t.same(keys, [...members.map(({ key }) => key), ...Object.keys(FLANNELS)].sort());
    });
  });
}

for (const type of ['udp', 'vxlan'])
  t.test(
    `${type}: a network of IPv4 gets IPv6 host by host, and loses it again`,
    { skip: labUnavailable() },
    async (t) => {
      ensurePackages(ETCD_PROGRAMS);
      const lab = Lab.open(`eft${type[0]}-`);
      t.teardown(() => lab.close());
      const v4 = { Network: '10.5.0.0/16', Backend: { Type: type } };
      const etcd = await startEtcd(lab, v4);
      const hosts: Host[] = [];
      const daemons: Task[] = [];
      for (const index of [1, 2]) {
        const bare = await addBareHost(lab, index);
        daemons.push(await startEtcdDaemon(lab, bare));
        hosts.push(lab.connectContainer(bare, leasedSubnet(bare)));
      }
      const before = hosts.map(({ subnet }) => subnet.replace('/', '-'));
      t.same(Object.keys(await leasesIn(lab, etcd)).sort(), [...before].sort());
      const restart = async (index: number): Promise<void> => {
        await lab.end(daemons[index]);
        daemons[index] = await startEtcdDaemon(lab, hosts[index]);
        t.equal(leasedSubnet(hosts[index]), hosts[index].subnet, `host ${index + 1} keeps its IPv4 subnet`);
      };
      const reach = async (name: string, to: readonly string[]): Promise<void> => {
        for (const [index, host] of hosts.entries())
          await waitFor(async () => / 1 received/.test(await ping(lab, { host }, to[1 - index])), name);
      };
      const addresses = hosts.map(({ containerIp }) => containerIp);
      const putConfig = (config: object) =>
        etcdctl(lab, etcd, ['put', `${ETCD_PREFIX}/config`, JSON.stringify(config)]);

      await putConfig({ ...v4, ...IPV6 });
      await restart(0);
      const first = `${before[0]}&${connectIpv6(lab, hosts[0])}-64`;
      t.same(Object.keys(await leasesIn(lab, etcd)).sort(), [first, before[1]].sort());
      await reach('IPv4 between a host of both and one of IPv4', addresses);
      await restart(1);
      const second = `${before[1]}&${connectIpv6(lab, hosts[1])}-64`;
      t.same(Object.keys(await leasesIn(lab, etcd)).sort(), [first, second].sort());
      await reach('IPv4', addresses);
      const wide = [first, second].map((key) => key.replace(/^.*&(.*)-64$/, '$12'));
      await reach('IPv6', wide);

      await putConfig(v4);
      for (const index of [0, 1]) {
        await restart(index);
        await reach('IPv4 on the way back', addresses);
      }
      t.same(Object.keys(await leasesIn(lab, etcd)).sort(), [...before].sort());
      for (const { ns } of hosts) {
        t.notMatch(lab.ip(ns, '-6 route show table all'), /proto 94|dev flannel/, 'no routes of IPv6');
        t.notMatch(lab.ip(ns, 'link show'), 'flannel-v6');
        t.notMatch((await lab.run(ns, 'ip6tables-save', [])).stdout, 'FLANNEL', 'no rules of IPv6');
      }
    },
  );
