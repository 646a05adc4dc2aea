// The peers a measurement compares: each a pair of hosts of its own on the lab's switch, with a container behind each.
// All are up at the same time, so that rounds can go A B C A B C; an idle one costs nothing.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { type Host, type Lab } from './lab.js';
import { startDaemon, tableOf, writeTable } from './twill-hosts.js';

/** A way between two containers. */
export interface Peer {
  readonly name: string;
  readonly hosts: readonly [Host, Host];
}

export interface PeerKind {
  readonly name: string;
  /** What this peer does that others do not, or "". */
  readonly note: string;
  /** Why it cannot run here, or undefined. */
  readonly missing: () => string | undefined;
  readonly start: (lab: Lab, hosts: readonly [Host, Host]) => Promise<void>;
}

function twill(name: string, note: string, extra: readonly string[]): PeerKind {
  return {
    name,
    note,
    missing: () => undefined,
    start: async (lab, hosts) => {
      const file = join(hosts[0].dir, 'static.json');
      writeTable(file, tableOf(hosts));
      for (const host of hosts) await startDaemon(lab, host, file, extra);
    },
  };
}

/** Kernel vxlan as flannel sets it up: learning off, neighbour and FDB entries by hand. */
async function startVxlan(lab: Lab, hosts: readonly [Host, Host]): Promise<void> {
  const mac = (host: Host): string => `0e:00:00:00:00:${host.index.toString(16).padStart(2, '0')}`;
  for (const host of hosts) {
    const link = `type vxlan id 1 dev eth0 local ${host.underlayIp} dstport 8472 nolearning`;
    lab.ip(host.ns, `link add flannel.1 address ${mac(host)} mtu 1450 ${link}`);
    lab.ip(host.ns, `address add 10.5.${host.index}.0/32 dev flannel.1`);
    lab.ip(host.ns, 'link set flannel.1 up');
    for (const [ns, device] of [
      [host.ns, 'cni0'],
      [host.containerNs, 'eth0'],
    ]) {
      lab.ip(ns, `link set ${device} mtu 1450`);
    }
  }
  for (const [host, other] of [hosts, [hosts[1], hosts[0]]]) {
    lab.ip(host.ns, `neigh add 10.5.${other.index}.0 lladdr ${mac(other)} dev flannel.1 nud permanent`);
    execFileSync('ip', [
      'netns',
      'exec',
      host.ns,
      'bridge',
      'fdb',
      'append',
      mac(other),
      'dev',
      'flannel.1',
      'dst',
      other.underlayIp,
    ]);
    lab.ip(host.ns, `route add ${other.subnet} via 10.5.${other.index}.0 dev flannel.1 onlink`);
  }
  await Promise.resolve();
}

async function startHostGw(lab: Lab, hosts: readonly [Host, Host]): Promise<void> {
  for (const [host, other] of [hosts, [hosts[1], hosts[0]]]) {
    lab.ip(host.ns, `route add ${other.subnet} via ${other.underlayIp}`);
  }
  await Promise.resolve();
}

/** In the order in which results are shown. */
export const PEER_KINDS: readonly PeerKind[] = [
  twill('twill', '', []),
  twill('twill --offload=off', 'no segmentation offload', ['--offload=off']),
  { name: 'kernel vxlan', note: 'in the kernel', missing: () => undefined, start: startVxlan },
  { name: 'host-gw', note: 'no tunnel', missing: () => undefined, start: startHostGw },
];

/** Starts the kinds that can run here, each on two hosts of its own. */
export async function startPeers(lab: Lab, kinds: readonly PeerKind[]): Promise<Peer[]> {
  const peers: Peer[] = [];
  for (const kind of kinds) {
    const why = kind.missing();
    if (why !== undefined) {
      console.log(`${kind.name}: missing (${why})`);
      continue;
    }
    const first = peers.length * 2 + 1;
    const hosts: [Host, Host] = [lab.addHost(first), lab.addHost(first + 1)];
    await kind.start(lab, hosts);
    peers.push({ name: kind.name, hosts });
  }
  return peers;
}
