// Ways that the kernel has by itself.

import { execFileSync } from 'node:child_process';
import type { Host } from '../../test/support/lab.js';
import {
  betweenHosts,
  bothWays,
  isThere,
  pair,
  type Peer,
  type PeerKind,
  type Place,
  setInnerMtu,
} from './peer.js';

/** Kernel vxlan as flannel sets it up: learning off, neighbour and FDB entries by hand. */
export function kernelVxlan(mtuBytes = 1500): PeerKind {
  const start = (place: Place): Promise<Omit<Peer, 'name'>> => {
    const { lab } = place;
    const hosts = pair(place, mtuBytes);
    const mac = (host: Host): string => `0e:00:00:00:00:${host.index.toString(16).padStart(2, '0')}`;
    for (const host of hosts) {
      const link = `type vxlan id 1 dev eth0 local ${host.underlayIp} dstport 8472 nolearning`;
      lab.ip(host.ns, `link add flannel.1 address ${mac(host)} mtu ${mtuBytes - 50} ${link}`);
      lab.ip(host.ns, `address add 10.5.${host.index}.0/32 dev flannel.1`);
      lab.ip(host.ns, 'link set flannel.1 up');
      setInnerMtu(lab, host, mtuBytes - 50);
    }
    for (const [host, other] of bothWays(hosts)) {
      lab.ip(host.ns, `neigh add 10.5.${other.index}.0 lladdr ${mac(other)} dev flannel.1 nud permanent`);
      const entry = ['fdb', 'append', mac(other), 'dev', 'flannel.1', 'dst', other.underlayIp];
      execFileSync('ip', ['netns', 'exec', host.ns, 'bridge', ...entry]);
      lab.ip(host.ns, `route add ${other.subnet} via 10.5.${other.index}.0 dev flannel.1 onlink`);
    }
    return Promise.resolve(betweenHosts(hosts));
  };
  return { name: 'kernel vxlan', missing: isThere, start };
}

export function hostGw(mtuBytes = 1500): PeerKind {
  const start = (place: Place): Promise<Omit<Peer, 'name'>> => {
    const { lab } = place;
    const hosts = pair(place, mtuBytes);
    for (const [host, other] of bothWays(hosts)) {
      lab.ip(host.ns, `route add ${other.subnet} via ${other.underlayIp}`);
    }
    return Promise.resolve(betweenHosts(hosts));
  };
  return { name: 'host-gw', missing: isThere, start };
}

/** Two namespaces and a cable: what the machine itself can do. */
export const BARE_VETH: PeerKind = {
  name: 'bare veth',
  missing: isThere,
  start: ({ lab, first }) => {
    const namespaces = [lab.addNamespace(`v${first}`), lab.addNamespace(`v${first + 1}`)];
    lab.ip(namespaces[0], `link add eth0 type veth peer name eth0 netns ${namespaces[1]}`);
    const ends = namespaces.map((ns, i) => ({ ns, ip: `10.6.0.${i + 1}` }));
    for (const { ns, ip } of ends) {
      lab.ip(ns, `address add ${ip}/24 dev eth0`);
      lab.ip(ns, 'link set eth0 up');
    }
    return Promise.resolve({ ends: [ends[0], ends[1]], hosts: [], daemons: [] });
  },
};
