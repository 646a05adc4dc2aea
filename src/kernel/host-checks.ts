// Settings of the host that the overlay needs and that are not ours to make: flanneld does not touch them either. They
// are read, and what is wrong becomes a condition. Each look reads two or three files under /proc and starts no
// process.

import { existsSync, readFileSync } from 'node:fs';
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import { type Condition, condition } from '../core/conditions.js';
import { parseIpv4 } from '../net/ipv4.js';
import { type Prefix, prefixContains } from '../net/prefix.js';

export interface HostCheckOptions {
  /** The device of the backend; undefined in host-gw mode. */
  readonly device: string | undefined;
  readonly ownSubnet: Prefix;
  /** Rules of iptables are in use on this host, ours or kube-proxy's; nft's do not depend on br_netfilter. */
  readonly usesIptables: boolean;
}

/** What is asked of the host; the tests have another. */
export interface HostState {
  /** Text of a file, trimmed; undefined when there is none. */
  read(path: string): string | undefined;
  addresses(): Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>;
  isBridge(name: string): boolean;
}

const THIS_HOST: HostState = {
  read: (path) => {
    try {
      return readFileSync(path, 'latin1').trim();
    } catch {
      return undefined;
    }
  },
  addresses: networkInterfaces,
  isBridge: (name) => existsSync(`/sys/class/net/${name}/bridge`),
};

/** What is wrong with the host now. */
export function checkHost(options: HostCheckOptions, host: HostState = THIS_HOST): Condition[] {
  const found: Condition[] = [];
  const off = forwardingOff(options.device, host);
  if (off !== undefined) found.push(condition('forwarding-off', `${off} is 0: packets are not forwarded`));
  if (options.usesIptables) {
    const key = 'net.bridge.bridge-nf-call-iptables';
    const value = host.read('/proc/sys/net/bridge/bridge-nf-call-iptables');
    // Interfaces are listed only when something is wrong: a host of many pods has many.
    const bridge = value === '1' ? undefined : ownBridge(options.ownSubnet, host);
    if (bridge !== undefined) {
      const why = value === undefined ? 'br_netfilter is not loaded' : `${key} is ${value}`;
      found.push(condition('bridge-filter-off', `${why}, and pods of this host share the bridge ${bridge}`));
    }
  }
  return found;
}

/** The setting that stops forwarding: for all interfaces, or for ours. */
function forwardingOff(device: string | undefined, host: HostState): string | undefined {
  if (host.read('/proc/sys/net/ipv4/ip_forward') === '0') return 'net.ipv4.ip_forward';
  if (device === undefined) return undefined;
  const isOff = host.read(`/proc/sys/net/ipv4/conf/${device}/forwarding`) === '0';
  return isOff ? `net.ipv4.conf.${device}.forwarding` : undefined;
}

/** The bridge that holds an address of the own subnet. */
function ownBridge(subnet: Prefix, host: HostState): string | undefined {
  for (const [name, addresses = []] of Object.entries(host.addresses())) {
    const isInside = addresses.some(({ family, address }) => {
      const parsed = family === 'IPv4' ? parseIpv4(address) : undefined;
      return parsed !== undefined && prefixContains(subnet, parsed);
    });
    if (isInside && host.isBridge(name)) return name;
  }
  return undefined;
}
