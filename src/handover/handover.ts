// What one data path leaves to the next, in this process or in another: descriptors that stay open, so that packets
// wait in their queues meanwhile, and what was counted.
//
//   from              service manager (after a crash, a restart)  inheritedDescriptors()
//                     a daemon that runs (--takeover)             predecessor.ts; it goes on until it is stopped
//                     a data path of this process that failed     retain()
//   to                service manager                             keep()
//                     a daemon that asks                          successor.ts
//
// take() gives them away: whoever has them closes them.

import type { Descriptors } from './descriptors.js';

/** Who works with the descriptors at present. */
export interface Predecessor {
  /** It reads no more, for good. What it tells of itself, JSON; undefined when it is gone without a word. */
  stop(): Promise<unknown>;
  /** Resolves when it has let go of all descriptors, also when nobody has stopped it. */
  readonly gone: Promise<void>;
}

/** A data path that goes on without the rest of its daemon. */
export interface LeftDataPath {
  readonly device: string;
  readonly descriptors: Descriptors;
  /** Reads no more, what it has read is sent. Returns what the next one goes on counting from, JSON. */
  stop(): Promise<unknown>;
}

/** What a mode leaves whose data path is the kernel's. */
export const NOTHING_LEFT: LeftDataPath = {
  device: '',
  descriptors: { tun: [], udp4: [], udp6: [], turns: [] },
  stop: () => Promise.resolve(undefined),
};

/** What there is to take over, if anything. */
export interface Handover {
  readonly predecessor: Predecessor | undefined;
  /** Processes before this one that have died without a word within the last minute. */
  readonly recentCrashes: number;
  /** Packets wait in queues that nobody reads at present: the daemon before this one has died. */
  readonly isUrgent: boolean;
  /** Whether take() would give any. */
  has(device: string): boolean;
  /** The descriptors of a device; the caller closes them, by discard(). Those of it that make no set are closed. */
  take(device: string): Descriptors | undefined;
  /** Closes what take() gave. The data path that was made from them has duplicates of its own. */
  discard(taken: Descriptors): void;
  /** These are in use: kept for the next process, instead of what was kept for the device before. */
  keep(device: string, descriptors: Descriptors): void;
  /** These are of no use to anybody: what take() gave does not fit, or the data path is given up. */
  forget(device: string, descriptors: Descriptors): void;
  /** Whatever is kept is of no use any more. */
  forgetAll(): void;
  /**
   * Another daemon, which answers at that control socket, goes on with the data path, or none does after all: whether
   * whoever keeps descriptors is to start nobody when this process ends.
   */
  leave(successor: string | undefined): void;
  /** The data path that has these closes, and another one is opened with duplicates. */
  retain(device: string, descriptors: Descriptors): void;
  /** What was saved for a device by a daemon that has died since; JSON, undefined for nothing. */
  saved(device: string): unknown;
  /** Kept for the next process, with the descriptors. Does nothing where nobody keeps them. */
  save(device: string, state: () => object): void;
  /**
   * All that is wanted was taken: what nobody has taken is closed, for a device whose queue nobody reads swallows
   * packets. A daemon that had nothing of use is ended.
   */
  settle(): Promise<void>;
  /** This process ends of itself: it has not crashed. */
  ended(): void;
}

/** Nothing to take over, and nobody who keeps anything. */
export const NO_HANDOVER: Handover = {
  predecessor: undefined,
  recentCrashes: 0,
  isUrgent: false,
  has: () => false,
  take: () => undefined,
  discard: () => undefined,
  keep: () => undefined,
  forget: () => undefined,
  forgetAll: () => undefined,
  leave: () => undefined,
  retain: () => undefined,
  saved: () => undefined,
  save: () => undefined,
  settle: () => Promise.resolve(),
  ended: () => undefined,
};
