// Which subnets of the network are still free, and a random one of them. Pure; the randomness is passed in.
//
// The network is cut into slots of one subnet each, from SubnetMin to SubnetMax inclusive. A slot is free when no range
// in use overlaps it, whatever the size of that range. Work is done on the slots in use, sorted, so that a /8 cut into
// millions of slots costs no more than the number of leases in it. flanneld looks at the first 100 free slots only and
// so crowds the low end; any free one is compatible.

import type { FamilyNetwork } from '../config/network-config.js';
import { ipv4 } from '../net/ipv4.js';
import { type Prefix, prefixCovers, sizeOf } from '../net/prefix.js';

/** Slots `first` to `last`, inclusive. */
interface Run {
  readonly first: number;
  readonly last: number;
}

/** Whether flannel would keep `subnet` under this config: the right length, and from SubnetMin to SubnetMax. */
export function fitsConfig(config: FamilyNetwork, subnet: Prefix): boolean {
  return (
    subnet.length === config.subnetLength &&
    subnet.address >= config.subnetMin &&
    subnet.address <= config.subnetMax
  );
}

/** Number of slots in the config's range; 0 when SubnetMin is above SubnetMax. */
export function countSlots(config: FamilyNetwork): number {
  const size = sizeOf(config.subnetLength);
  return Math.max(0, Math.floor((config.subnetMax - config.subnetMin) / size) + 1);
}

/**
 * A free subnet, each with the same chance, or undefined when there is none. `random` yields [0, 1).
 * Ranges in `taken` that are not inside the network, or as large as it, block nothing: one key 0.0.0.0-0 would
 * otherwise keep every new host out. O(n log n) in `taken`.
 */
export function pickFreeSubnet(
  config: FamilyNetwork,
  taken: readonly Prefix[],
  random: () => number,
): Prefix | undefined {
  const slots = countSlots(config);
  const runs = takenRuns(config, taken, slots);
  let free = slots;
  for (const run of runs) free -= run.last - run.first + 1;
  if (free <= 0) return undefined;
  let slot = Math.min(free - 1, Math.floor(random() * free));
  for (const run of runs) {
    if (run.first > slot) break;
    slot += run.last - run.first + 1;
  }
  return {
    address: ipv4(config.subnetMin + slot * sizeOf(config.subnetLength)),
    length: config.subnetLength,
  };
}

/** The slots in use as sorted runs that do not touch each other's slots. */
function takenRuns(config: FamilyNetwork, taken: readonly Prefix[], slots: number): Run[] {
  const size = sizeOf(config.subnetLength);
  const runs: Run[] = [];
  for (const range of taken) {
    if (range.length <= config.network.length || !prefixCovers(config.network, range)) continue;
    const first = Math.max(0, Math.floor((range.address - config.subnetMin) / size));
    const last = Math.min(
      slots - 1,
      Math.floor((range.address + sizeOf(range.length) - 1 - config.subnetMin) / size),
    );
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
