// Removal from an open-addressing table: the one piece that its three kinds in a side share.

import { SLOTS } from './table-layout.js';

/** What is done to a table of SLOTS slots. */
export interface OpenSlots {
  isEmpty(slot: number): boolean;
  /** The slot that what is in `slot` would have if it were alone. */
  homeOf(slot: number): number;
  move(from: number, to: number): void;
  clear(slot: number): void;
}

export function nextSlot(slot: number): number {
  return (slot + 1) & (SLOTS - 1);
}

/** Linear probing without tombstones: later entries of the cluster move up (Knuth, volume 3, 6.4 algorithm R). */
export function removeSlot(table: OpenSlots, removed: number): void {
  let hole = removed;
  for (let slot = nextSlot(hole); !table.isEmpty(slot); slot = nextSlot(slot)) {
    const home = table.homeOf(slot);
    // Does its home lie cyclically after the hole? Then it must stay.
    if (((slot - home) & (SLOTS - 1)) < ((slot - hole) & (SLOTS - 1))) continue;
    table.move(slot, hole);
    hole = slot;
  }
  table.clear(hole);
}
