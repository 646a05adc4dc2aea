// Hosts in the udp mode whose network is of IPv4, of IPv6 or of both, and who send to each other over either.
//
//   container ── cni0 ── host 1 ══ flannel0 ══ host 2 ── cni0 ── container
//                172.20.0.1, fd00:aa::1   172.20.0.2, fd00:aa::2
//
// Host N owns 10.5.N.0/24 and fd00:5:0:N::/64. Between two hosts all packets take one way, over IPv4 where both have a
// public IP of it.

import { join } from 'node:path';
import type { Test } from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import { type Host, Lab, type Task, waitFor } from './lab.js';
import { startDaemon, type StaticTable, statusOf, writeTable } from './twill-hosts.js';

/** What the packets are of, and what the datagrams. */
export interface Way {
  readonly name: string;
  readonly inner: readonly FamilyName[];
  readonly outer: FamilyName;
}

export const WAYS: readonly Way[] = [
  { name: 'v4', inner: ['v4'], outer: 'v4' },
  { name: 'v6', inner: ['v6'], outer: 'v6' },
  { name: 'dual over v4', inner: ['v4', 'v6'], outer: 'v4' },
  { name: 'dual over v6', inner: ['v4', 'v6'], outer: 'v6' },
];

/** What datagrams add: IP and UDP. */
export const OUTER_BYTES = { v4: 28, v6: 48 } as const;

/** IP and ICMP headers before the payload of an echo. */
const ECHO_BYTES = { v4: 28, v6: 48 } as const;

const CONTAINER = { v4: (host: number) => `10.5.${host}.2`, v6: (host: number) => `fd00:5:0:${host}::2` };

/** Address of the container of a host. */
export function containerAddress(host: number, family: FamilyName): string {
  return CONTAINER[family](host);
}

/** The hosts of the table publish the addresses of `outer`, and both when it is IPv4 in a network of both. */
export function tableOf(
  { inner, outer }: Way,
  hosts: readonly Host[],
  backend: Readonly<Record<string, unknown>> = { Type: 'udp' },
): StaticTable {
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
      Backend: backend,
    },
    leases: leases as unknown as StaticTable['leases'],
  };
}

/** A host whose uplink and container have addresses of IPv6 as well. */
export async function addHost(lab: Lab, index: number): Promise<Host> {
  const host = lab.addHost(index);
  await lab.run(host.ns, 'sysctl', ['-qw', 'net.ipv6.conf.all.forwarding=1']);
  lab.ip(host.ns, `address add fd00:aa::${index}/64 dev eth0 nodad`);
  lab.ip(host.ns, `address add fd00:5:0:${index}::1/64 dev cni0 nodad`);
  lab.ip(host.containerNs, `address add fd00:5:0:${index}::2/64 dev eth0 nodad`);
  lab.ip(host.containerNs, `route add default via fd00:5:0:${index}::1`);
  return host;
}

/** Writes the table that the daemon of a host runs by; the path. */
export function writeTableOf(way: Way, hosts: readonly Host[], host: Host): string {
  const { config, leases } = tableOf(way, hosts);
  // A host of the table has its own row as it publishes itself, with all that the network needs.
  const own = tableOf({ ...way, outer: way.inner[0] }, [host]).leases;
  const file = join(host.dir, 'static.json');
  writeTable(file, { config, leases: leases.map((lease, i) => (i === host.index - 1 ? own[0] : lease)) });
  return file;
}

/** Two hosts in a lab of their own, with running daemons that have heard each other. */
export async function openHosts(
  t: Test,
  way: Way,
  prefix: string,
  flags: readonly string[] = [],
): Promise<{ lab: Lab; hosts: [Host, Host]; daemons: Task[] }> {
  const lab = Lab.open(prefix);
  t.teardown(() => lab.close());
  const hosts: [Host, Host] = [await addHost(lab, 1), await addHost(lab, 2)];
  const daemons = await Promise.all(
    hosts.map((host) => startDaemon(lab, host, writeTableOf(way, hosts, host), flags)),
  );
  for (const host of hosts)
    await waitFor(async () => {
      const { peers } = await statusOf(lab, host);
      return peers.length === 1 && peers[0].state === 'programmed' && peers[0].reachability.state === 'ok';
    }, 'the peer to be heard');
  return { lab, hosts, daemons };
}

/** Whether an echo of a family comes back to the container of one host from that of another. */
export async function reaches(lab: Lab, from: Host, to: Host, family: FamilyName): Promise<boolean> {
  const args = ['-n', '-c', '1', '-W', '1', containerAddress(to.index, family)];
  return (await lab.run(from.containerNs, 'ping', args, { mustSucceed: false })).code === 0;
}

/**
 * What ping says of echoes of this size, headers of IP included, from the container of one host to that of the other;
 * they must not be fragmented.
 */
export async function ping(
  lab: Lab,
  from: Host,
  family: FamilyName,
  bytes: number,
  count = 1,
): Promise<string> {
  const size = ['-M', 'do', '-s', String(bytes - ECHO_BYTES[family])];
  const to = containerAddress(3 - from.index, family);
  const args = ['-n', '-c', String(count), '-i', '0.2', '-W', '2', ...size, to];
  const { stdout, stderr } = await lab.run(from.containerNs, 'ping', args, { mustSucceed: false });
  return stdout + stderr;
}
