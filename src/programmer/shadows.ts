// Routes of others that take packets of peers before ours do. Pure.

import { ROUTE_PROTOCOL } from '../kernel/ip.js';
import { describeShadow } from '../kernel/network-route.js';
import type { Route } from '../kernel/route.js';
import { type Address, formatPrefix, type Prefix, prefixKey, prefixOf } from '../net/prefix.js';

/**
 * The peers that lose packets to a route, in words. A subnet is asked for by the routes inside it: those of the pods
 * here are many, those inside a peer's none.
 */
export function findShadows(subnets: Iterable<Prefix<Address>>, routes: readonly Route[]): string[] {
  const byKey = new Map<number | bigint, Prefix<Address>>();
  const lengths = new Set<number>();
  for (const subnet of subnets) {
    byKey.set(prefixKey(subnet), subnet);
    lengths.add(subnet.length);
  }
  const found = new Map<number | bigint, string>();
  for (const route of routes) {
    if (route.protocol === ROUTE_PROTOCOL) continue;
    for (const length of lengths) {
      if (length >= route.prefix.length) continue;
      const key = prefixKey(prefixOf(route.prefix.address, length));
      const subnet = byKey.get(key);
      const shadow = subnet && describeShadow(subnet, [route], length);
      if (subnet !== undefined && shadow !== undefined)
        found.set(key, `peer ${formatPrefix(subnet)} ${shadow}`);
    }
  }
  return [...found.values()];
}
