// The subnets of a node: spec.podCIDRs, one for each address family at most. Pure.

import type { Decoded } from '../../lease/lease-codec.js';
import { hasHostBits, parseCidr, type Prefix } from '../../net/prefix.js';

/** More, of any family, are no cluster's: the API server allows one of each. */
const MAX_CIDRS = 2;

/** The IPv4 subnet among `podCidrs`; undefined when the node has none at all yet. */
export function podSubnet(podCidrs: readonly string[]): Decoded<Prefix | undefined> {
  if (podCidrs.length === 0) return { ok: true, value: undefined };
  const shown = podCidrs.slice(0, 3).join(', ');
  if (podCidrs.length > MAX_CIDRS)
    return { ok: false, problem: `podCIDRs are ${shown}: expected one for each address family` };
  const subnet = podCidrs.map((text) => parseCidr(text)).find((cidr) => cidr !== undefined);
  if (subnet === undefined) return { ok: false, problem: `podCIDRs are ${shown}: expected an IPv4 one` };
  // 31 is the longest that holds a host; flannel's own leases are at most that.
  if (hasHostBits(subnet) || subnet.length < 1 || subnet.length > 31)
    return { ok: false, problem: `podCIDR is ${shown}: expected a network such as 10.244.1.0/24` };
  return { ok: true, value: subnet };
}
