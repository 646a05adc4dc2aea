// subnet.env as the CNI plugin reads it: what the daemon of this host, twilld or flanneld, wrote about its subnet.
//
// The rules are those of flannel's plugin: lines are split at the first "=", keys match exactly, values are neither
// quoted nor trimmed. A dual-stack flanneld writes IPv6 lines too; they are passed on to the delegate's IPAM.

import { isIPv6 } from 'node:net';
import { formatPrefix, parseCidr, prefixOf } from '../net/prefix.js';
import { CNI_ERROR, CniError } from './cni-error.js';

export interface SubnetEnv {
  /** Networks of the overlay in CIDR notation, IPv4 before IPv6. */
  readonly networks: readonly string[];
  /** This host's subnets, masked, IPv4 before IPv6. */
  readonly subnets: readonly string[];
  readonly mtuBytes: number;
  readonly ipMasq: boolean;
}

/** Reads the text of a subnet.env. Throws CniError that names the file and what is missing or wrong in it. */
export function parseSubnetEnv(text: string, path: string): SubnetEnv {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) values.set(line.slice(0, at), line.slice(at + 1));
  }
  const wrong = (key: string, expected: string): CniError =>
    new CniError(
      CNI_ERROR.badConfig,
      `${path}: ${key} is ${JSON.stringify(values.get(key))}: expected ${expected}`,
    );
  const cidrs = (key: string, mask: (text: string) => string | undefined): string[] =>
    (values.get(key) ?? '')
      .split(',')
      .filter((part) => part !== '')
      .map((part) => {
        const network = mask(part);
        if (network === undefined) throw wrong(key, 'networks in CIDR notation');
        return network;
      });

  const networks = [
    ...new Set([...cidrs('FLANNEL_NETWORK', maskIpv4), ...cidrs('FLANNEL_IPV6_NETWORK', maskIpv6)]),
  ];
  const subnets = [...cidrs('FLANNEL_SUBNET', maskIpv4), ...cidrs('FLANNEL_IPV6_SUBNET', maskIpv6)];
  const missing = [
    ...(networks.length === 0 ? ['FLANNEL_NETWORK', 'FLANNEL_IPV6_NETWORK'] : []),
    ...(subnets.length === 0 ? ['FLANNEL_SUBNET', 'FLANNEL_IPV6_SUBNET'] : []),
    ...['FLANNEL_MTU', 'FLANNEL_IPMASQ'].filter((key) => !values.has(key)),
  ];
  if (missing.length > 0) {
    throw new CniError(CNI_ERROR.badConfig, `${path} is missing ${missing.join(', ')}`);
  }
  const mtu = values.get('FLANNEL_MTU')!;
  if (!/^\d{1,10}$/.test(mtu) || Number(mtu) > 0xffffffff) throw wrong('FLANNEL_MTU', 'a number of bytes');
  return { networks, subnets, mtuBytes: Number(mtu), ipMasq: values.get('FLANNEL_IPMASQ') === 'true' };
}

function maskIpv4(text: string): string | undefined {
  const cidr = parseCidr(text);
  return cidr && formatPrefix(prefixOf(cidr.address, cidr.length));
}

const GROUPS = 8;
const GROUP_BITS = 16;

/** "2001:db8::1/64" → "2001:db8::/64"; undefined when it is none. */
function maskIpv6(text: string): string | undefined {
  const match = /^([0-9a-fA-F:.]+)\/(\d{1,3})$/.exec(text);
  const length = Number(match?.[2]);
  if (match === null || !isIPv6(match[1]) || length > GROUPS * GROUP_BITS) return undefined;
  const [head, tail] = canonicalIpv6(match[1]).split('::');
  const groups = (part: string | undefined): number[] =>
    part === undefined || part === '' ? [] : part.split(':').map((group) => parseInt(group, 16));
  const [first, last] = [groups(head), groups(tail)];
  const all = [...first, ...new Array<number>(GROUPS - first.length - last.length).fill(0), ...last];
  const masked = all.map((group, i) => {
    const kept = Math.min(GROUP_BITS, Math.max(0, length - i * GROUP_BITS));
    return group & ((0xffff << (GROUP_BITS - kept)) & 0xffff);
  });
  return `${canonicalIpv6(masked.map((group) => group.toString(16)).join(':'))}/${length}`;
}

/** The shortest form (RFC 5952), in hexadecimal groups only. */
function canonicalIpv6(address: string): string {
  const url = new URL(`http://[${address}]`);
  return url.hostname.slice(1, -1);
}
