// What a mirror of nodes has done so far.

/** Why all nodes were listed again. */
export type RelistReason =
  /** The events after our version are no longer kept (410). */
  | 'expired'
  /** The store is older than what we have seen of it: etcd was restored or wiped. */
  | 'rewound'
  /** The server does not understand the version it gave us, as another one in its place would not. */
  | 'refused'
  /** The comparison found more differences than are worth a request each. */
  | 'differences';

/** Counters of one mirror; they only grow. */
export interface MirrorCounters {
  /** Full lists that were read to their end, the first one included. */
  lists: number;
  relists: Record<RelistReason, number>;
  /** Watches that the server accepted. */
  watches: number;
  /** Changes that a watch told, reports of kubelets not included. */
  events: number;
  /** Changes of a node in which nothing of interest differed. */
  unchanged: number;
  /** Events dropped because what they tell was known. */
  replays: number;
  /** Nodes without a usable name or version. */
  malformed: number;
  /** Nodes left out because too many are held. */
  refused: number;
  /** Comparisons with a list that were made to their end. */
  checks: number;
  /** Nodes that a comparison had to put right. */
  repairs: number;
}

/** All zero. */
export function newMirrorCounters(): MirrorCounters {
  return {
    lists: 0,
    relists: { expired: 0, rewound: 0, refused: 0, differences: 0 },
    watches: 0,
    events: 0,
    unchanged: 0,
    replays: 0,
    malformed: 0,
    refused: 0,
    checks: 0,
    repairs: 0,
  };
}
