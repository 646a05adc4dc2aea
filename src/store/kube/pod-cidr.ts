// The subnets of a node: spec.podCIDRs, one for each address family at most. Pure.

import type { Decoded } from '../../lease/lease-codec.js';
import { dualOf, type FamilyName } from '../../net/dual.js';
import {
  type AddressOf,
  type DualPrefix,
  type Family,
  hasHostBits,
  parseCidr,
  type Prefix,
} from '../../net/prefix.js';

/** More, of any family, are no cluster's: the API server allows one of each. */
const MAX_CIDRS = 2;
/** The longest that hold a host; flannel's own leases are at most that. */
const LONGEST = { 4: 31, 6: 127 } as const;
const EXAMPLES = { 4: '10.244.1.0/24', 6: 'fd00:244:0:1::/64' } as const;

/** The subnets among `podCidrs` of these families, one at least; undefined when the node has none at all yet. */
export function podSubnets(
  podCidrs: readonly string[],
  families: readonly FamilyName[],
): Decoded<DualPrefix | undefined> {
  if (podCidrs.length === 0) return { ok: true, value: undefined };
  const shown = podCidrs.slice(0, 3).join(', ');
  if (podCidrs.length > MAX_CIDRS)
    return { ok: false, problem: `podCIDRs are ${shown}: expected one for each address family` };
  const v4 = families.includes('v4') ? podSubnet(podCidrs, 4) : undefined;
  const v6 = families.includes('v6') ? podSubnet(podCidrs, 6) : undefined;
  if (v4?.ok === false) return v4;
  if (v6?.ok === false) return v6;
  if (v4?.value !== undefined || v6?.value !== undefined)
    return { ok: true, value: dualOf(v4?.value, v6?.value) };
  const names = families.map((family) => NAMES[family]).join(' or ');
  return { ok: false, problem: `podCIDRs are ${shown}: expected an ${names} one` };
}

/** What `subnets` lack of the families of a network, such as "no IPv6 podCIDR"; undefined when they have all. */
export function lackOf(subnets: DualPrefix | undefined, families: readonly FamilyName[]): string | undefined {
  if (subnets === undefined) return 'no podCIDR';
  const missing = families.find((family) => subnets[family] === undefined);
  return missing && `no ${NAMES[missing]} podCIDR`;
}

const NAMES = { v4: 'IPv4', v6: 'IPv6' } as const;

function podSubnet<F extends Family>(
  podCidrs: readonly string[],
  family: F,
): Decoded<Prefix<AddressOf[F]> | undefined> {
  const subnet = podCidrs.map((text) => parseCidr(text, family)).find((cidr) => cidr !== undefined);
  if (subnet === undefined) return { ok: true, value: undefined };
  if (!hasHostBits(subnet) && subnet.length >= 1 && subnet.length <= LONGEST[family])
    return { ok: true, value: subnet };
  const shown = podCidrs.join(', ');
  return { ok: false, problem: `podCIDR is ${shown}: expected a network such as ${EXAMPLES[family]}` };
}
