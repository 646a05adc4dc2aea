// Which subnets of the network are still free, and a random one of them. Pure; the randomness is passed in.
//
// The network is cut into slots of one subnet each, from SubnetMin to SubnetMax inclusive. A slot is free when no range
// in use overlaps it, whatever the size of that range. Work is done on the slots in use, sorted, so that a /8 cut into
// millions of slots costs no more than the number of leases in it. flanneld looks at the first 100 free slots only and
// so crowds the low end; any free one is compatible. Each family of a network is cut by itself.

import type { FamilyNetwork, NetworkConfig } from '../config/network-config.js';
import {
  type Address,
  type DualPrefix,
  lastOf,
  type Prefix,
  prefixCovers,
  stepped,
  stepsBetween,
} from '../net/prefix.js';

/** An IPv6 network may have more: then its first ones are looked at. */
const MAX_SLOTS = 2 ** 32;

/** Slots `first` to `last`, inclusive. */
interface Run {
  readonly first: number;
  readonly last: number;
}

/** Whether flannel would keep `subnets`: one that fits of each family of the network, and no other. */
export function fitsConfig({ networks }: Pick<NetworkConfig, 'networks'>, subnets: DualPrefix): boolean {
  const { v4, v6 } = networks;
  return fitsHalf(v4, subnets.v4) && fitsHalf(v6, subnets.v6);
}

function fitsHalf(network: FamilyNetwork<Address> | undefined, subnet: Prefix<Address> | undefined): boolean {
  return network === undefined || subnet === undefined ? network === subnet : fitsNetwork(network, subnet);
}

/** Whether flannel would keep `subnet`: the right length, and from SubnetMin to SubnetMax. */
export function fitsNetwork(network: FamilyNetwork<Address>, subnet: Prefix<Address>): boolean {
  return (
    subnet.length === network.subnetLength &&
    subnet.address >= network.subnetMin &&
    subnet.address <= network.subnetMax
  );
}

/** Number of slots in the network's range that are looked at; 0 when SubnetMin is above SubnetMax. */
export function countSlots({ subnetMin, subnetMax, subnetLength }: FamilyNetwork<Address>): number {
  const slots = stepsBetween<Address>(subnetMin, subnetMax, subnetLength) + 1;
  return Math.min(MAX_SLOTS, Math.max(0, slots));
}

/**
 * A free subnet, each with the same chance, or undefined when there is none. `random` yields [0, 1).
 * Ranges in `taken` that are not inside the network, or as large as it, block nothing: one key 0.0.0.0-0 would
 * otherwise keep every new host out. O(n log n) in `taken`.
 */
export function pickFreeSubnet<A extends Address>(
  network: FamilyNetwork<A>,
  taken: readonly Prefix<Address>[],
  random: () => number,
): Prefix<A> | undefined {
  const slots = countSlots(network);
  const runs = takenRuns(network, taken, slots);
  let free = slots;
  for (const run of runs) free -= run.last - run.first + 1;
  if (free <= 0) return undefined;
  let slot = Math.min(free - 1, Math.floor(random() * free));
  for (const run of runs) {
    if (run.first > slot) break;
    slot += run.last - run.first + 1;
  }
  const length = network.subnetLength;
  return { address: stepped(network.subnetMin, length, slot), length };
}

/** The slots in use as sorted runs that do not touch each other's slots. */
function takenRuns(
  { network, subnetMin, subnetLength }: FamilyNetwork<Address>,
  taken: readonly Prefix<Address>[],
  slots: number,
): Run[] {
  const runs: Run[] = [];
  for (const range of taken) {
    if (range.length <= network.length || !prefixCovers(network, range)) continue;
    const first = Math.max(0, stepsBetween(subnetMin, range.address, subnetLength));
    const last = Math.min(slots - 1, stepsBetween(subnetMin, lastOf(range), subnetLength));
    if (first <= last) runs.push({ first, last });
  }
  runs.sort((a, b) => a.first - b.first);
  const merged: Run[] = [];
  for (const run of runs) {
    const previous = merged.at(-1);
    if (previous !== undefined && run.first <= previous.last) {
      merged[merged.length - 1] = { first: previous.first, last: Math.max(previous.last, run.last) };
    } else merged.push(run);
  }
  return merged;
}
