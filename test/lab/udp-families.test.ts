// The udp mode in networks of IPv4, of IPv6 and of both, over IPv4 and over IPv6: one description for all of them.
//
//   container ── cni0 ── host 1 ══ flannel0 ══ host 2 ── cni0 ── container
//                172.20.0.1, fd00:aa::1   172.20.0.2, fd00:aa::2
//
// Between two hosts all packets take one way, over IPv4 where both have a public IP of it.

import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import { sendStream } from '../support/stream.js';
import { dropsOf, startDaemon, type StaticTable, statusOf, writeTable } from '../support/twill-hosts.js';

const MEBIBYTES_256 = 256 * 2 ** 20;
/** What datagrams add. */
const OVERHEAD = { v4: 28, v6: 48 } as const;
/** IP and ICMP headers before the payload of an echo. */
const ECHO_BYTES = { v4: 28, v6: 48 } as const;

interface Case {
  readonly name: string;
  readonly inner: readonly FamilyName[];
  readonly outer: FamilyName;
}

const CASES: readonly Case[] = [
  { name: 'v4', inner: ['v4'], outer: 'v4' },
  { name: 'v6', inner: ['v6'], outer: 'v6' },
  { name: 'dual over v4', inner: ['v4', 'v6'], outer: 'v4' },
  { name: 'dual over v6', inner: ['v4', 'v6'], outer: 'v6' },
];

const CONTAINER = { v4: (host: number) => `10.5.${host}.2`, v6: (host: number) => `fd00:5:0:${host}::2` };

/** The hosts of the table publish the addresses of `outer`, and both when it is IPv4 in a network of both. */
function tableOf({ inner, outer }: Case, hosts: readonly Host[]): StaticTable {
  const has = (family: FamilyName): boolean => inner.includes(family);
  const leases = hosts.map(({ index }) => ({
    ...(has('v4') && { subnet: `10.5.${index}.0/24` }),
    ...(has('v6') && { ipv6Subnet: `fd00:5:0:${index}::/64` }),
    ...(has('v4') && outer === 'v4' && { publicIP: `172.20.0.${index}` }),
    ...(has('v6') && { publicIPv6: `fd00:aa::${index}` }),
  }));
  return {
    config: {
      ...(has('v4') ? { Network: '10.5.0.0/16' } : { EnableIPv4: false }),
      ...(has('v6') && { EnableIPv6: true, IPv6Network: 'fd00:5::/48' }),
      Backend: { Type: 'udp' },
    },
    leases: leases as unknown as StaticTable['leases'],
  };
}

/** A host whose uplink and container have addresses of IPv6 as well. */
async function addHost(lab: Lab, index: number): Promise<Host> {
  const host = lab.addHost(index);
  await lab.run(host.ns, 'sysctl', ['-qw', 'net.ipv6.conf.all.forwarding=1']);
  lab.ip(host.ns, `address add fd00:aa::${index}/64 dev eth0 nodad`);
  lab.ip(host.ns, `address add fd00:5:0:${index}::1/64 dev cni0 nodad`);
  lab.ip(host.containerNs, `address add fd00:5:0:${index}::2/64 dev eth0 nodad`);
  lab.ip(host.containerNs, `route add default via fd00:5:0:${index}::1`);
  return host;
}

async function ping(lab: Lab, from: Host, family: FamilyName, bytes: number, count = 1): Promise<string> {
  const size = ['-M', 'do', '-s', String(bytes - ECHO_BYTES[family])];
  const args = [
    '-n',
    '-c',
    String(count),
    '-i',
    '0.2',
    '-W',
    '2',
    ...size,
    CONTAINER[family](3 - from.index),
  ];
  const { stdout, stderr } = await lab.run(from.containerNs, 'ping', args, { mustSucceed: false });
  return stdout + stderr;
}

/** Both hosts with running daemons that know of each other. */
async function openHosts(t: Test, one: Case, prefix: string): Promise<{ lab: Lab; hosts: Host[] }> {
  const lab = Lab.open(prefix);
  t.teardown(() => lab.close());
  const hosts = [await addHost(lab, 1), await addHost(lab, 2)];
  for (const host of hosts) {
    // A host of the table has its own row as it publishes itself, with all that the network needs.
    const { config, leases } = tableOf(one, hosts);
    const own = tableOf({ ...one, outer: one.inner[0] }, [host]).leases;
    const file = join(host.dir, 'static.json');
    writeTable(file, { config, leases: leases.map((lease, i) => (i === host.index - 1 ? own[0] : lease)) });
    await startDaemon(lab, host, file);
  }
  for (const host of hosts)
    await waitFor(async () => {
      const { peers } = await statusOf(lab, host);
      return peers.length === 1 && peers[0].state === 'programmed' && peers[0].reachability.state === 'ok';
    }, 'the peer to be heard');
  return { lab, hosts };
}

for (const [number, one] of CASES.entries()) {
  t.test(`udp, ${one.name}`, { skip: labUnavailable() }, async (t) => {
    const { lab, hosts } = await openHosts(t, one, `uf${number}-`);
    const [a, b] = hosts;
    const mtuBytes = 1500 - OVERHEAD[one.outer];
    const deviceMtu = 1500 - OVERHEAD[one.inner[0]];

    const { peers, backend, ready } = await statusOf(lab, a);
    t.ok(ready);
    t.match(peers, [{ mtuBytes, port: 8285 }]);
    t.equal(backend.mtuBytes, deviceMtu);
    const known = peers[0].path?.mtuBytes;
    if (known !== undefined) t.equal(known, 1500, 'measured by probes of the outer family');

    const file = join(lab.dir, 'outer.pcap');
    const capture = lab.spawn(lab.switchNs, 'tcpdump', [
      '-n',
      '-i',
      'p1',
      '-U',
      '--immediate-mode',
      '-w',
      file,
      'udp port 8285',
    ]);
    await waitFor(() => capture.log().includes('listening'), 'the capture');
    for (const family of one.inner) {
      t.match(await ping(lab, a, family, 84, 3), '3 received', `${family}: echoes`);
      t.match(await ping(lab, a, family, mtuBytes), '1 received', `${family}: the largest packet`);
      // The container's own link takes more than the way to the peer: it is told what fits.
      for (const [ns, device] of [
        [a.ns, 'cni0'],
        [a.containerNs, 'eth0'],
      ])
        lab.ip(ns, `link set ${device} mtu 1500`);
      t.match(await ping(lab, a, family, 1500), /mtu ?= ?|too long/i, `${family}: refused in words`);
      // The device of this host is as wide as the way to most hosts.
      if (deviceMtu > mtuBytes) await ping(lab, a, family, deviceMtu);
      const told = lab.ip(a.containerNs, `route get ${CONTAINER[family](2)}`);
      t.match(told, ` mtu ${mtuBytes} `, `${family}: the path's MTU`);
      const of = family === 'v4' ? '-4' : '-6';
      const path = await lab.run(a.containerNs, 'tracepath', [of, '-n', CONTAINER[family](2)]);
      t.match(path.stdout, `pmtu ${mtuBytes}`, `${family}: tracepath`);
    }
    capture.child.kill('SIGINT');
    await capture.exited;
    const shown = await lab.run(lab.switchNs, 'tcpdump', ['-n', '-r', file]);
    const lines = shown.stdout.split('\n').filter((line) => line !== '');
    const way =
      one.outer === 'v4'
        ? / IP 172\.20\.0\.\d\.\d+ > 172\.20\.0\.\d\.8285/
        : / IP6 fd00:aa::\d\.\d+ > fd00:aa::\d\.8285/;
    t.ok(lines.length >= 8 * one.inner.length, 'four echoes and their answers');
    t.strictSame(
      lines.filter((line) => !way.test(line)),
      [],
      'nothing takes another way',
    );
    t.strictSame(
      lines.filter((line) => /frag/.test(line)),
      [],
      'and none is in fragments',
    );

    for (const family of one.inner) {
      const to = { ns: b.containerNs, ip: CONTAINER[family](2) };
      const sent = await sendStream(lab, a.containerNs, to, MEBIBYTES_256, 120_000);
      t.equal(sent.receivedHash, sent.sentHash, `${family}: 256 MiB arrive unchanged`);
    }
    for (const host of hosts) {
      const { inbound, outbound } = (await statusOf(lab, host)).backend.counters;
      t.equal(inbound.packets_in, inbound.packets_out + dropsOf(inbound));
      t.equal(outbound.packets_in, outbound.packets_out + dropsOf(outbound));
      t.equal(inbound.checksum_bad, 0);
    }
  });
}
