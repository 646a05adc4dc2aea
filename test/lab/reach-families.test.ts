// Whether each way to a peer works, in networks of IPv4 and IPv6 and of IPv6 alone: two hosts on one switch. The kernel
// modes have a way for each family, the udp mode one for both. See test/support/lab.ts.

import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import type { PeerStatus } from '../../src/ops/status.js';
import { addIpv6, IPV6_NETWORK } from '../support/ipv6-host.js';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, waitFor } from '../support/lab.js';
import {
  countIn,
  metricsOf,
  startDaemon,
  type StaticTable,
  statusOf,
  writeTable,
} from '../support/twill-hosts.js';

const skip = labUnavailable();
const TWILL = join(PROJECT_ROOT, 'dist/cli/main.js');

interface Case {
  readonly mode: 'udp' | 'vxlan' | 'host-gw';
  readonly families: readonly FamilyName[];
  /** What a host drops whose way of IPv6 is closed; the mode's own packets. */
  readonly closed: string;
}

const VXLAN_6 = 'meta nfproto ipv6 udp dport 8472 drop';
const ECHO_6 = 'icmpv6 type echo-request drop';
const CASES: readonly Case[] = [
  { mode: 'vxlan', families: ['v4', 'v6'], closed: VXLAN_6 },
  { mode: 'host-gw', families: ['v4', 'v6'], closed: ECHO_6 },
  { mode: 'vxlan', families: ['v6'], closed: VXLAN_6 },
  { mode: 'host-gw', families: ['v6'], closed: ECHO_6 },
];

interface Hosts {
  readonly lab: Lab;
  readonly a: Host;
  readonly b: Host;
}

/**
 * Two hosts with addresses of both families on one static table, which has those of `families`. With `outer` of IPv6,
 * each knows the other's public IP of IPv6 alone.
 */
async function openHosts(
  t: Test,
  { mode, families }: Pick<Case, 'mode' | 'families'>,
  outer: FamilyName = 'v4',
): Promise<Hosts> {
  const lab = Lab.open(`rf${CASES.findIndex((one) => one.mode === mode && one.families === families)}-`);
  t.teardown(() => lab.close());
  const hosts = [1, 2].map((index) => lab.addHost(index));
  const [has4, has6] = [families.includes('v4'), families.includes('v6')];
  const leases = hosts.map((host) => {
    const v6 = addIpv6(lab, host);
    return {
      ...(has4 && { subnet: host.subnet }),
      ...(has4 && outer === 'v4' && { publicIP: host.underlayIp }),
      ...(has6 && { ipv6Subnet: v6.subnet, publicIPv6: v6.underlayIp }),
    };
  });
  const networks = has4 ? { Network: '10.5.0.0/16', ...IPV6_NETWORK, EnableIPv4: true } : IPV6_NETWORK;
  const table = { config: { ...networks, Backend: { Type: mode } }, leases };
  for (const host of hosts) {
    const file = join(host.dir, 'static.json');
    // A host of the table has its own row as it publishes itself.
    const own = { ...leases[host.index - 1], ...(has4 && { publicIP: host.underlayIp }) };
    const rows = leases.map((lease, i) => (i === host.index - 1 ? own : lease));
    writeTable(file, { ...table, leases: rows } satisfies StaticTable<object>);
    await startDaemon(lab, host, file);
  }
  const [a, b] = hosts;
  return { lab, a, b };
}

const peerOf = async ({ lab, a }: Hosts): Promise<PeerStatus> => (await statusOf(lab, a)).peers[0];

async function becomes(hosts: Hosts, states: readonly string[], ms = 20_000): Promise<PeerStatus> {
  let peer: PeerStatus | undefined;
  const isSo = async (): Promise<boolean> => {
    peer = await peerOf(hosts);
    const { reachability, reachabilities } = peer;
    const both = reachabilities && [reachabilities.v4.state, reachabilities.v6.state];
    return [reachability.state, ...(both ?? [])].join() === states.join();
  };
  await waitFor(isSo, `the peer to be ${states.join()}`, ms);
  return peer!;
}

t.jobs = CASES.length + 1; // they only wait

for (const one of CASES) {
  const { mode, families, closed } = one;
  const isDual = families.length === 2;

  t.test(`${mode}, ${families.join(' and ')}: each way is asked`, { skip }, async (t) => {
    const hosts = await openHosts(t, one);
    const { lab, a, b } = hosts;
    const ok = await becomes(hosts, isDual ? ['ok', 'ok', 'ok'] : ['ok']);
    t.ok(ok.reachability.rttMs! > 0);
    await waitFor(async () => {
      const { path, paths } = await peerOf(hosts);
      return (paths?.v6 ?? path)?.mtuBytes === 1500;
    }, 'the path MTU of IPv6');
    t.equal((await peerOf(hosts)).paths === undefined, !isDual);

    const chain = `chain in {\ntype filter hook input priority -300; ${closed}\n}`;
    await lab.run(b.ns, 'nft', ['-f', '-'], { input: `table inet wall {\n${chain}\n}\n` });
    const { reachability } = await becomes(
      hosts,
      isDual ? ['silent since', 'ok', 'silent since'] : ['silent since'],
    );
    const { stdout } = await lab.run(a.ns, process.execPath, [TWILL, 'peers', '--wide']);
    if (isDual) {
      t.match(reachability.reason, /^over IPv6 \(IPv4: ok\)/);
      t.match(stdout, /silent since \S+: over IPv6 \(IPv4: ok\)/);
    } else t.match(stdout, /silent since \S+/);
    const { conditions } = await statusOf(lab, a);
    t.match(
      conditions.filter(({ code }) => code === 'peer-unreachable'),
      [{ text: /fd00:5:0:2::\/64 of fd00:172:20::2: silent/, count: 1 }],
    );

    await lab.run(b.ns, 'nft', ['delete', 'table', 'inet', 'wall']);
    await becomes(hosts, isDual ? ['ok', 'ok', 'ok'] : ['ok']);
  });
}

t.test('udp, v4 and v6 over IPv6: the way in use is asked and measured', { skip }, async (t) => {
  const hosts = await openHosts(t, { mode: 'udp', families: ['v4', 'v6'] }, 'v6');
  const { reachabilities } = await becomes(hosts, ['ok']);
  t.equal(reachabilities, undefined, 'one way for both');
  await waitFor(async () => (await peerOf(hosts)).path?.mtuBytes === 1500, 'the path MTU');
  t.equal((await peerOf(hosts)).mtuBytes, 1452);
  const metrics = await metricsOf(hosts.lab, hosts.a);
  t.equal(countIn(metrics, 'path_mtu_bytes{peer="fd00:172:20::2"}'), 1500);
});
