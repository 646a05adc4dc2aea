// An etcd in memory with real semantics: revisions, compare-and-swap, leases.

import { pino } from 'pino';
import { EtcdFault } from '../../src/store/etcd/faults.js';
import type { FaultKind } from '../../src/store/etcd/faults.js';
import type { KvEntry, KvList, LeaseKv, TxnOutcome } from '../../src/store/etcd/etcd-kv.js';
import { keyLayout, type KeyRange } from '../../src/store/etcd/keys.js';
import type { WatchAnswer } from '../../src/store/etcd/watch-codec.js';
import { FakeClock } from './fake-clock.js';

/** An answer of a watch that says nothing. */
export const EMPTY_ANSWER: WatchAnswer = {
  position: { revision: 0n, clusterId: '0' },
  isCreated: false,
  isCanceled: false,
  isFragment: false,
  compactRevision: 0n,
  cancelReason: '',
  events: [],
};

/** Fails the call of `method`: before it takes effect, or after (the answer is lost). */
export interface Failure {
  readonly method: keyof LeaseKv;
  readonly when: 'before' | 'after';
  readonly kind: FaultKind;
}

export class FakeKv implements LeaseKv {
  revision = 1n;
  readonly entries = new Map<string, KvEntry>();
  readonly leases = new Set<bigint>();
  readonly failures: Failure[] = [];
  readonly calls: string[] = [];
  /** Runs before a method takes effect: what another host does at that moment. */
  interfere: (method: keyof LeaseKv) => void = () => undefined;

  put(key: string, value: string, leaseId = 0n): KvEntry {
    this.revision++;
    const entry: KvEntry = {
      key,
      value,
      valueBytes: value.length,
      createRevision: this.entries.get(key)?.createRevision ?? this.revision,
      modRevision: this.revision,
      leaseId,
    };
    this.entries.set(key, entry);
    return entry;
  }

  delete(key: string): void {
    this.revision++;
    this.entries.delete(key);
  }

  /** What etcd does when an etcd lease runs out or is revoked. */
  expire(leaseId: bigint): void {
    this.leases.delete(leaseId);
    for (const entry of [...this.entries.values()]) if (entry.leaseId === leaseId) this.delete(entry.key);
  }

  list<T>(
    range: KeyRange,
    _signal: AbortSignal,
    take: (entry: KvEntry) => T | undefined,
  ): Promise<KvList<T>> {
    return this.#run('list', () => ({
      entries: [...this.entries.values()]
        .filter(({ key }) =>
          range.end === undefined ? key === range.start : key >= range.start && key < range.end,
        )
        .sort((a, b) => (a.key < b.key ? -1 : 1))
        .flatMap((entry) => take(entry) ?? []),
      revision: this.revision,
      clusterId: '1',
    }));
  }

  get(key: string): Promise<KvEntry | undefined> {
    return this.#run('get', () => this.entries.get(key));
  }

  create(key: string, value: string, leaseId: bigint): Promise<TxnOutcome> {
    return this.#run('create', () => this.#putIf(!this.entries.has(key), key, value, leaseId));
  }

  replace(key: string, value: string, leaseId: bigint, modRevision: bigint): Promise<TxnOutcome> {
    return this.#run('replace', () =>
      this.#putIf(this.entries.get(key)?.modRevision === modRevision, key, value, leaseId),
    );
  }

  remove(key: string, modRevision: bigint): Promise<TxnOutcome> {
    return this.#run('remove', () => {
      const isDone = this.entries.get(key)?.modRevision === modRevision;
      if (isDone) this.delete(key);
      return { isDone, revision: this.revision };
    });
  }

  grant(id: bigint, ttlSeconds: number): Promise<number> {
    return this.#run('grant', () => {
      this.leases.add(id);
      return ttlSeconds;
    });
  }

  revoke(id: bigint): Promise<void> {
    return this.#run('revoke', () => this.expire(id));
  }

  attachedKeys(id: bigint): Promise<number> {
    return this.#run(
      'attachedKeys',
      () => [...this.entries.values()].filter(({ leaseId }) => leaseId === id).length,
    );
  }

  #putIf(isDone: boolean, key: string, value: string, leaseId: bigint): TxnOutcome {
    if (isDone && leaseId !== 0n && !this.leases.has(leaseId))
      throw new EtcdFault('lease-missing', 'requested lease not found');
    if (isDone) this.put(key, value, leaseId);
    return { isDone, revision: this.revision };
  }

  async #run<T>(method: keyof LeaseKv, effect: () => T): Promise<T> {
    this.calls.push(method);
    await Promise.resolve();
    this.interfere(method);
    const at = this.failures.findIndex((failure) => failure.method === method);
    const failure = at < 0 ? undefined : this.failures.splice(at, 1)[0];
    if (failure?.when === 'before') throw new EtcdFault(failure.kind, `${method} failed`);
    const result = effect();
    if (failure !== undefined) throw new EtcdFault(failure.kind, `answer of ${method} lost`);
    return result;
  }
}

/** What acquireLease() is given below the prefix /net: a clock that stands still, and the first of all free subnets. */
export function acquireContext(kv: FakeKv, savedLeaseId = 0n) {
  return {
    kv,
    clock: new FakeClock(),
    layout: keyLayout('/net'),
    log: pino({ level: 'silent' }),
    random: () => 0,
    leaseTtlSeconds: 60,
    savedLeaseId: () => savedLeaseId,
  };
}
