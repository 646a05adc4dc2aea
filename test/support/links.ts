// Links of a host that is not there, as `ip` would list them.

import type { Link, LinkAddress } from '../../src/kernel/link.js';
import { parseCidr } from '../../src/net/prefix.js';

/** eth0, index 2, up; `cidrs` as "192.0.2.1/24". */
export function linkOf(cidrs: readonly string[] = [], more: Partial<Link> = {}): Link {
  return {
    index: 2,
    name: 'eth0',
    mac: '02:00:00:00:00:01',
    mtuBytes: 1500,
    txQueueLength: 1000,
    isUp: true,
    isLoopback: false,
    isEthernet: true,
    alias: '',
    kind: '',
    data: {},
    addresses: cidrs.map((cidr) => addressOf(cidr)),
    ...more,
  };
}

/** A permanent address of the whole world. */
export function addressOf(cidr: string, more: Partial<LinkAddress> = {}): LinkAddress {
  const fixed = {
    scope: 'global',
    isDeprecated: false,
    isPermanent: true,
    isTentative: false,
    isDuplicate: false,
    isTemporary: false,
    isStablePrivacy: false,
    isSecondary: false,
  } as const;
  return { ...parseCidr(cidr, cidr.includes(':') ? 6 : 4)!, ...fixed, ...more };
}
