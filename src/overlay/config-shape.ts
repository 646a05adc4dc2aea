// What of a network config the device, the lease and the rules are made of. Pure.

import { type NetworkConfig, prefixesOf } from '../config/network-config.js';
import { sameSubnets } from '../lease/lease.js';
import { fitsConfig } from '../lease/subnet-picker.js';
import { type DualPrefix, prefixCovers } from '../net/prefix.js';
import { familiesOf, type FamilyName } from '../net/dual.js';

/**
 * Fields in which `after` shapes another overlay than `before`, for a host that holds `own`; empty when what was
 * made from `before` serves `after` as it is. Other limits for subnets do not matter while the own one is within them.
 */
export function shapeChanges(before: NetworkConfig, after: NetworkConfig, own: DualPrefix): string[] {
  const networks = prefixesOf(after);
  const isInside = (family: FamilyName): boolean =>
    own[family] !== undefined && prefixCovers(networks[family]!, own[family]);
  const fits = after.subnetsFrom === 'store' ? familiesOf(networks).every(isInside) : fitsConfig(after, own);
  const differs = {
    Network: !sameSubnets(prefixesOf(before), prefixesOf(after)),
    'SubnetLen, SubnetMin or SubnetMax': !fits,
    'Backend.Type': before.backendType !== after.backendType,
    Backend: canonical(before.backend) !== canonical(after.backend),
    EnableNFTables: before.enableNftables !== after.enableNftables,
  };
  return Object.entries(differs).flatMap(([field, isOther]) => (isOther ? [field] : []));
}

/** JSON of `value` with sorted keys: the order in which an operator wrote them says nothing. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    typeof item === 'object' && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}
