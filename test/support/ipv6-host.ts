// Addresses of IPv6 for the hosts of a lab, beside those of IPv4 that they have.

import { execFileSync } from 'node:child_process';
import type { Host, Lab } from './lab.js';

/** What a host has of IPv6. */
export interface Ipv6Host {
  readonly underlayIp: string;
  readonly containerIp: string;
  readonly subnet: string;
}

/** A network of IPv6 alone, as a config says it. */
export const IPV6_NETWORK = { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00:5::/48' } as const;

/** Gives a host, its bridge port and its container addresses of IPv6, usable at once. */
export function addIpv6(lab: Lab, { index, ns, containerNs }: Host): Ipv6Host {
  const underlayIp = `fd00:172:20::${index.toString(16)}`;
  const base = `fd00:5:0:${index.toString(16)}::`;
  execFileSync('ip', ['netns', 'exec', ns, 'sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1']);
  lab.ip(ns, `address add ${underlayIp}/64 dev eth0 nodad`);
  lab.ip(ns, `address add ${base}1/64 dev cni0 nodad`);
  lab.ip(containerNs, `address add ${base}2/64 dev eth0 nodad`);
  lab.ip(containerNs, `-6 route add default via ${base}1`);
  return { underlayIp, containerIp: `${base}2`, subnet: `${base}/64` };
}
