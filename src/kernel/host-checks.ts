// Settings of the host that the overlay needs and that are not ours to make: flanneld does not touch them either. They
// are read, and what is wrong becomes a condition. Each look reads two or three files under /proc and starts no
// process.

import { existsSync, readFileSync } from 'node:fs';
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import { type Condition, condition } from '../core/conditions.js';
import { familiesOf, type FamilyName } from '../net/dual.js';
import { formatIpv6, type Ipv6 } from '../net/ipv6.js';
import { type DualPrefix, parseAnyAddress, prefixContains } from '../net/prefix.js';

export interface HostCheckOptions {
  /** The device of the backend; undefined in host-gw mode. */
  readonly device: string | undefined;
  readonly ownSubnets: DualPrefix;
  /** The interface between hosts, and its IPv6 address; undefined where it has none that we use. */
  readonly uplink: { readonly name: string; readonly address: Ipv6 | undefined };
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

/** The settings of a family. */
const SETTINGS = {
  v4: { forwarding: 'net/ipv4/ip_forward', ofDevices: 'net/ipv4/conf', bridges: 'bridge-nf-call-iptables' },
  v6: {
    forwarding: 'net/ipv6/conf/all/forwarding',
    ofDevices: 'net/ipv6/conf',
    bridges: 'bridge-nf-call-ip6tables',
  },
} as const satisfies Record<FamilyName, Readonly<Record<string, string>>>;

/** What is wrong with the host now. */
export function checkHost(options: HostCheckOptions, host: HostState = THIS_HOST): Condition[] {
  const found: Condition[] = [];
  const families = familiesOf(options.ownSubnets);
  const off = families
    .map((family) => forwardingOff(family, options.device, host))
    .filter((key) => key !== undefined);
  if (off.length > 0) {
    const are = off.length === 1 ? 'is' : 'are';
    found.push(condition('forwarding-off', `${off.join(' and ')} ${are} 0: packets are not forwarded`));
  }
  const unheard = unheardRouter(options.uplink, host);
  if (unheard !== undefined) found.push(condition('accept-ra-off', unheard));
  if (!options.usesIptables) return found;
  for (const family of families) {
    const { bridges } = SETTINGS[family];
    const value = host.read(`/proc/sys/net/bridge/${bridges}`);
    // Interfaces are listed only when something is wrong: a host of many pods has many.
    const bridge = value === '1' ? undefined : ownBridge(options.ownSubnets, host);
    if (bridge === undefined) continue;
    const why = value === undefined ? 'br_netfilter is not loaded' : `net.bridge.${bridges} is ${value}`;
    found.push(condition('bridge-filter-off', `${why}, and pods of this host share the bridge ${bridge}`));
    break;
  }
  return found;
}

/** The setting that stops forwarding: for all interfaces, or for ours. */
function forwardingOff(family: FamilyName, device: string | undefined, host: HostState): string | undefined {
  const { forwarding, ofDevices } = SETTINGS[family];
  // In the vxlan mode each family has a device of its own: this one may be without IPv6.
  const isOurs = device !== undefined && host.read(`/proc/sys/${ofDevices}/${device}/disable_ipv6`) !== '1';
  const keys = [forwarding, ...(isOurs ? [`${ofDevices}/${device}/forwarding`] : [])];
  return keys.find((key) => host.read(`/proc/sys/${key}`) === '0')?.replaceAll('/', '.');
}

/**
 * A kernel that forwards takes router advertisements only where accept_ra is 2 (ip-sysctl.rst), and an address that
 * comes of them ends with the lifetime that the last one gave it. Those who look after such an address themselves, as
 * systemd-networkd, set accept_ra to 0.
 */
function unheardRouter({ name, address }: HostCheckOptions['uplink'], host: HostState): string | undefined {
  const isOne = (key: string): boolean =>
    host.read(`/proc/sys/${SETTINGS.v6.ofDevices}/${name}/${key}`) === '1';
  if (address === undefined || !isOne('accept_ra') || !isOne('forwarding') || !willExpire(address, host))
    return undefined;
  const setting = `net.ipv6.conf.${name.replaceAll('.', '/')}.accept_ra`;
  return `${setting} is 1, and the host forwards: no router renews ${formatIpv6(address)}`;
}

/** Whether the address has a lifetime. A line of /proc/net/if_inet6 is address, index, length, scope, flags, name. */
function willExpire(address: Ipv6, host: HostState): boolean {
  const IFA_F_PERMANENT = 0x80; // linux/if_addr.h
  const start = `${address.toString(16).padStart(32, '0')} `;
  const own = host
    .read('/proc/net/if_inet6')
    ?.split('\n')
    .find((line) => line.startsWith(start));
  return own !== undefined && (parseInt(own.split(/ +/)[4], 16) & IFA_F_PERMANENT) === 0;
}

/** The bridge that holds an address of an own subnet. */
function ownBridge(subnets: DualPrefix, host: HostState): string | undefined {
  for (const [name, addresses = []] of Object.entries(host.addresses())) {
    const isInside = addresses.some(({ address }) => {
      const parsed = parseAnyAddress(address);
      return parsed !== undefined && familiesOf(subnets).some((one) => prefixContains(subnets[one]!, parsed));
    });
    if (isInside && host.isBridge(name)) return name;
  }
  return undefined;
}
