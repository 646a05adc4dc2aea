// A key of etcd as it is handed on here, whether a list or a watch told of it.

/** One key as stored. */
export interface KvEntry {
  /** Binary string, see keys.ts. */
  readonly key: string;
  /** What stands for the key in messages, where `key` is a mere id (lease-entry.ts). */
  readonly shownKey?: string;
  /** Why this can be no lease, where that was found out before. */
  readonly problem?: string;
  /** Text of the value; undefined when it is longer than any lease may be. */
  readonly value: string | undefined;
  readonly valueBytes: number;
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  /** The etcd lease it is attached to; 0n for none. */
  readonly leaseId: bigint;
}

/** Where a store stood when it answered. */
export interface StorePosition {
  readonly revision: bigint;
  readonly clusterId: string;
}
