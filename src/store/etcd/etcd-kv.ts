// The few unary calls that the lease store makes, typed and bounded.
//
// Reads may be repeated by whoever calls; writes are one attempt each, and after an uncertain outcome (EtcdFault
// .isUncertain) the caller reads back. Revisions and lease ids are bigint: they are 64-bit, and etcd3 yields text.

import { randomBytes } from 'node:crypto';
import type { IKeyValue, IRangeResponse, IResponseHeader } from 'etcd3';
import { MAX_VALUE_BYTES } from '../../lease/lease-codec.js';
import type { EtcdConnection } from './connection.js';
import { EtcdFault } from './faults.js';
import { showKey } from './keys.js';
import type { KeyRange } from './keys.js';
import type { KvEntry, StorePosition } from './kv-entry.js';

export type { KvEntry, StorePosition } from './kv-entry.js';

/** Keys per page of a list. */
export const PAGE_KEYS = 1000;

/** Keys of the first page, before anything is known of their size, and the size that later pages aim at. */
const FIRST_PAGE_KEYS = 100;
const PAGE_BYTES = 1 << 20;

export interface KvList<T> extends StorePosition {
  readonly entries: readonly T[];
}

export interface TxnOutcome {
  /** Whether the comparison held and the write was made. */
  readonly isDone: boolean;
  /** Store revision; the entry's mod revision when the write was made. */
  readonly revision: bigint;
}

/** What acquisition and renewal need of a store. Every method makes one attempt and rejects with EtcdFault. */
export interface LeaseKv {
  /**
   * `take` says what is kept of each key, undefined being nothing; it may see a key twice, when a list is begun anew.
   */
  list<T>(range: KeyRange, signal: AbortSignal, take: (entry: KvEntry) => T | undefined): Promise<KvList<T>>;
  get(key: string, signal: AbortSignal): Promise<KvEntry | undefined>;
  /** Put if the key does not exist. */
  create(key: string, value: string, leaseId: bigint, signal: AbortSignal): Promise<TxnOutcome>;
  /** Put if the key was last modified at `modRevision`. */
  replace(
    key: string,
    value: string,
    leaseId: bigint,
    modRevision: bigint,
    signal: AbortSignal,
  ): Promise<TxnOutcome>;
  /** Delete if the key was last modified at `modRevision`. */
  remove(key: string, modRevision: bigint, signal: AbortSignal): Promise<TxnOutcome>;
  /** Grants the etcd lease `id`; yields the granted seconds, which may be more than asked for. */
  grant(id: bigint, ttlSeconds: number, signal: AbortSignal): Promise<number>;
  /** Ends an etcd lease; one that does not exist is no error. */
  revoke(id: bigint, signal: AbortSignal): Promise<void>;
  /** Number of keys attached to an etcd lease; 0 when it does not exist. */
  attachedKeys(id: bigint, signal: AbortSignal): Promise<number>;
}

/** LeaseKv over etcd. */
export class EtcdKv implements LeaseKv {
  readonly #connection: EtcdConnection;
  #pageKeys: number;

  constructor(connection: EtcdConnection, pageKeys = PAGE_KEYS) {
    this.#connection = connection;
    this.#pageKeys = pageKeys;
  }

  /** All keys of `range` at one revision, page by page. Starts over by itself when that revision is compacted away. */
  async list<T>(
    range: KeyRange,
    signal: AbortSignal,
    take: (entry: KvEntry) => T | undefined,
  ): Promise<KvList<T>> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#listOnce(range, signal, take);
      } catch (error) {
        if (!(error instanceof EtcdFault && error.kind === 'compacted') || attempt === 2) throw error;
      }
    }
  }

  async #listOnce<T>(
    range: KeyRange,
    signal: AbortSignal,
    take: (entry: KvEntry) => T | undefined,
  ): Promise<KvList<T>> {
    const entries: T[] = [];
    let position: StorePosition | undefined;
    let start = range.start;
    let limit = Math.min(this.#pageKeys, FIRST_PAGE_KEYS);
    for (;;) {
      let page: IRangeResponse;
      try {
        page = await this.#connection.call(`Cannot list "${showKey(range.start)}"`, signal, (client) =>
          client.kv.range({
            key: toBytes(start),
            ...(range.end === undefined ? {} : { range_end: toBytes(range.end) }),
            limit,
            ...(position === undefined ? {} : { revision: position.revision.toString() }),
          }),
        );
      } catch (error) {
        // Values up to etcd's 1.5 MiB may lie in the range; a page of them can exceed what we agree to buffer.
        if (!(error instanceof EtcdFault && error.kind === 'too-large') || limit === 1) throw error;
        limit = Math.max(1, limit >> 2);
        this.#pageKeys = limit; // the next list meets the same values
        continue;
      }
      position ??= positionOf(page.header);
      let bytes = 1;
      for (const kv of page.kvs) {
        const entry = take(entryOf(kv));
        if (entry !== undefined) entries.push(entry);
        bytes += kv.key.length + kv.value.length;
      }
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return { ...position, entries };
      start = `${last.key.toString('latin1')}\0`; // the smallest key after the last one
      const wanted = Math.floor((page.kvs.length * PAGE_BYTES) / bytes);
      limit = Math.min(this.#pageKeys, Math.max(1, wanted));
    }
  }

  async get(key: string, signal: AbortSignal): Promise<KvEntry | undefined> {
    const answer = await this.#connection.call(`Cannot read "${showKey(key)}"`, signal, (client) =>
      client.kv.range({ key: toBytes(key) }),
    );
    return answer.kvs[0] === undefined ? undefined : entryOf(answer.kvs[0]);
  }

  create(key: string, value: string, leaseId: bigint, signal: AbortSignal): Promise<TxnOutcome> {
    return this.#putIf(key, value, leaseId, { target: 'Version', version: 0 }, signal);
  }

  replace(
    key: string,
    value: string,
    leaseId: bigint,
    modRevision: bigint,
    signal: AbortSignal,
  ): Promise<TxnOutcome> {
    return this.#putIf(key, value, leaseId, { target: 'Mod', mod_revision: modRevision.toString() }, signal);
  }

  async #putIf(
    key: string,
    value: string,
    leaseId: bigint,
    compare: { target: 'Version'; version: number } | { target: 'Mod'; mod_revision: string },
    signal: AbortSignal,
  ): Promise<TxnOutcome> {
    const answer = await this.#connection.call(`Cannot write "${showKey(key)}"`, signal, (client) =>
      client.kv.txn({
        compare: [{ key: toBytes(key), result: 'Equal', ...compare }],
        success: [
          {
            request_put: { key: toBytes(key), value: Buffer.from(value, 'utf8'), lease: leaseId.toString() },
          },
        ],
      }),
    );
    return { isDone: answer.succeeded, revision: BigInt(answer.header.revision) };
  }

  async remove(key: string, modRevision: bigint, signal: AbortSignal): Promise<TxnOutcome> {
    const answer = await this.#connection.call(`Cannot delete "${showKey(key)}"`, signal, (client) =>
      client.kv.txn({
        compare: [
          { key: toBytes(key), result: 'Equal', target: 'Mod', mod_revision: modRevision.toString() },
        ],
        success: [{ request_delete_range: { key: toBytes(key) } }],
      }),
    );
    return { isDone: answer.succeeded, revision: BigInt(answer.header.revision) };
  }

  async grant(id: bigint, ttlSeconds: number, signal: AbortSignal): Promise<number> {
    const answer = await this.#connection.call('Cannot grant an etcd lease', signal, (client) =>
      client.leases.leaseGrant({ ID: id.toString(), TTL: ttlSeconds }),
    );
    return Number(answer.TTL);
  }

  async revoke(id: bigint, signal: AbortSignal): Promise<void> {
    try {
      await this.#connection.call('Cannot revoke an etcd lease', signal, (client) =>
        client.leases.leaseRevoke({ ID: id.toString() }),
      );
    } catch (error) {
      if (!(error instanceof EtcdFault && error.kind === 'lease-missing')) throw error;
    }
  }

  async attachedKeys(id: bigint, signal: AbortSignal): Promise<number> {
    const answer = await this.#connection.call('Cannot ask for an etcd lease', signal, (client) =>
      client.leases.leaseTimeToLive({ ID: id.toString(), keys: true }),
    );
    return answer.keys.length;
  }
}

/** A random etcd lease id. We choose it ourselves, so that an unanswered grant can still be revoked. */
export function newLeaseId(): bigint {
  const id = randomBytes(8).readBigUInt64BE() & 0x7fff_ffff_ffff_ffffn; // positive: etcd prints and parses it as int64
  return id === 0n ? 1n : id;
}

/** `kv` without its buffers, which would pin the whole received message. */
export function entryOf(kv: IKeyValue): KvEntry {
  const valueBytes = kv.value.length;
  const modRevision = BigInt(kv.mod_revision);
  return {
    key: kv.key.toString('latin1'),
    value: valueBytes > MAX_VALUE_BYTES ? undefined : kv.value.toString('utf8'),
    valueBytes,
    // One object until the first renewal: there may be 65,000 of each.
    createRevision: kv.create_revision === kv.mod_revision ? modRevision : BigInt(kv.create_revision),
    modRevision,
    leaseId: BigInt(kv.lease),
  };
}

export function positionOf(header: IResponseHeader): StorePosition {
  return { revision: BigInt(header.revision), clusterId: header.cluster_id };
}

/** Bytes of a binary string. */
export function toBytes(key: string): Buffer {
  return Buffer.from(key, 'latin1');
}
