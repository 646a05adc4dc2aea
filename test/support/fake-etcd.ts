// An etcd in memory, behind the client that the store uses: revisions with their history, transactions, compaction,
// leases that run out on a clock that moves when told to, watches, users, alarms, and members that can be reached or
// not.
//
// All members show one store. What a member answers, and in which words, is etcd's and gRPC's.

import { EventEmitter } from 'node:events';
import type {
  ICompare,
  IKeyValue,
  IRangeRequest,
  IRangeResponse,
  IResponseHeader,
  ITxnRequest,
  IWatchRequest,
} from 'etcd3';
import type {
  ClientSettings,
  EtcdClient,
  EtcdUser,
  OpenClient,
  WatchDuplex,
} from '../../src/store/etcd/client.js';
import { entryOf, positionOf } from '../../src/store/etcd/etcd-kv.js';
import type { WatchAnswer, WatchEvent } from '../../src/store/etcd/watch-codec.js';
import type { FakeClock } from './fake-clock.js';
import { EMPTY_ANSWER } from './etcd-fakes.js';

/** `up`; nobody listens; what is sent is lost; no quorum. */
export type MemberState = 'up' | 'refusing' | 'silent' | 'leaderless';

interface Version {
  readonly key: string;
  readonly revision: bigint;
  /** Undefined: deleted. */
  readonly kv: IKeyValue | undefined;
}

interface Watcher {
  readonly stream: FakeStream;
  readonly isInside: (key: string) => boolean;
  next: bigint;
}

export class FakeEtcd {
  readonly clock: FakeClock;
  /** Every change since the last compaction, and what was there then. */
  #versions: Version[] = [];
  readonly #current = new Map<string, IKeyValue>();
  readonly #leases = new Map<string, () => void>();
  readonly #states = new Map<string, MemberState>();
  readonly #watchers = new Set<Watcher>();
  readonly #clients = new Set<FakeClient>();
  #revision = 1n;
  #compacted = 0n;
  #clusterId = 1;
  /** Names, such as NOSPACE. */
  alarms: string[] = [];
  /** The one user there is; undefined: authentication is disabled. */
  user: EtcdUser | undefined;
  /** So many writes take effect, and the connection breaks before their answer. */
  answersToLose = 0;
  /** What was asked of which member. */
  readonly calls: string[] = [];

  constructor(clock: FakeClock) {
    this.clock = clock;
  }

  readonly openClient: OpenClient = (settings) => {
    const client = new FakeClient(this, settings, () => this.#clients.delete(client));
    this.#clients.add(client);
    return Promise.resolve(client);
  };

  get revision(): bigint {
    return this.#revision;
  }

  /** Ids of all etcd leases. */
  get leases(): string[] {
    return [...this.#leases.keys()];
  }

  /** Sessions that were not closed. */
  get clients(): number {
    return this.#clients.size;
  }

  /** Values by key. */
  contents(): Record<string, string> {
    return Object.fromEntries(Array.from(this.#current, ([key, { value }]) => [key, value.toString()]));
  }

  /** The etcd lease of a key; "0" for none. */
  leaseOf(key: string): string | undefined {
    return this.#current.get(key)?.lease;
  }

  put(key: string, value: string): void {
    this.#write([{ key, value: Buffer.from(value), lease: '0' }]);
  }

  delete(...keys: string[]): void {
    this.#write(keys.map((key) => ({ key })));
  }

  /** Forgets the history. */
  compact(): void {
    this.#compacted = this.#revision;
    this.#versions = [];
  }

  /** Another, empty store takes the place of this one. */
  wipe(): void {
    this.#clusterId++;
    this.#revision = 1n;
    this.#compacted = 0n;
    this.#versions = [];
    this.#current.clear();
    for (const id of this.leases) this.#forget(id);
    this.#breakStreams(() => true, unavailable('read ECONNRESET'));
  }

  /** An etcd lease runs out. */
  expire(id: string): void {
    this.#forget(id);
    this.delete(...Array.from(this.#current).flatMap(([key, kv]) => (kv.lease === id ? [key] : [])));
  }

  stateOf(url: string): MemberState {
    return this.#states.get(url) ?? 'up';
  }

  /** What becomes of a member, or of all that have been given a state or a client. */
  set(state: MemberState, url?: string): void {
    const urls = url === undefined ? [...this.#clients].map((client) => client.url) : [url];
    for (const each of [...urls, ...(url === undefined ? this.#states.keys() : [])])
      this.#states.set(each, state);
    const isMeant = (at: string): boolean => url === undefined || at === url;
    if (state === 'refusing') this.#breakStreams(isMeant, unavailable('read ECONNRESET'));
    if (state === 'leaderless') this.#breakStreams(isMeant, failure(14, 'etcdserver: no leader'));
    if (state === 'up') this.#deliver();
  }

  /** Ends all timers of its own. */
  stop(): void {
    for (const cancel of this.#leases.values()) cancel();
    this.#leases.clear();
  }

  header(): IResponseHeader {
    const revision = String(this.#revision);
    return { cluster_id: String(this.#clusterId), member_id: '1', revision, raft_term: '1' };
  }

  range(request: IRangeRequest): IRangeResponse {
    const at = BigInt(request.revision ?? 0) || this.#revision;
    if (at < this.#compacted) throw failure(11, 'etcdserver: mvcc: required revision has been compacted');
    const state = at === this.#revision ? this.#current : this.#stateAt(at);
    const isInside = insideOf(request);
    const kvs = [...state.values()]
      .filter(({ key }) => isInside(key.toString('latin1')))
      .sort((a, b) => Buffer.compare(a.key, b.key));
    const limit = Number(request.limit ?? 0) || kvs.length;
    const isCount = request.count_only === true;
    return {
      header: this.header(),
      kvs: isCount ? [] : kvs.slice(0, limit),
      more: kvs.length > limit,
      count: String(kvs.length),
    };
  }

  txn({ compare = [], success = [] }: ITxnRequest): boolean {
    if (this.alarms.includes('NOSPACE') && success.some(({ request_put: put }) => put !== undefined))
      throw failure(8, 'etcdserver: mvcc: database space exceeded');
    for (const { request_put: put } of success) {
      const lease = String(put?.lease ?? '0');
      if (lease !== '0' && !this.#leases.has(lease))
        throw failure(5, 'etcdserver: requested lease not found');
    }
    if (!compare.every((one) => this.#holds(one))) return false;
    this.#write(
      success.map(({ request_put: put, request_delete_range: gone }) =>
        put === undefined
          ? { key: textOf(gone?.key) }
          : { key: textOf(put.key), value: put.value ?? Buffer.alloc(0), lease: String(put.lease ?? '0') },
      ),
    );
    return true;
  }

  grant(id: string, ttlSeconds: number): void {
    if (this.#leases.has(id)) throw failure(9, 'etcdserver: lease already exists');
    this.#leases.set(
      id,
      this.clock.after(ttlSeconds * 1000, () => this.expire(id)),
    );
  }

  revoke(id: string): void {
    if (!this.#leases.has(id)) throw failure(5, 'etcdserver: requested lease not found');
    this.expire(id);
  }

  keysOf(id: string): Buffer[] {
    return [...this.#current.values()].filter(({ lease }) => lease === id).map(({ key }) => key);
  }

  /** A message of a watch stream. */
  receive(stream: FakeStream, { create_request: create, progress_request: progress }: IWatchRequest): void {
    if (create !== undefined) {
      const next = BigInt(create.start_revision ?? 0) || this.#revision + 1n;
      if (next <= this.#compacted) {
        stream.answer(this.header(), { isCanceled: true, compactRevision: this.#compacted });
        return;
      }
      stream.answer(this.header(), { isCreated: true });
      this.#watchers.add({ stream, isInside: insideOf(create), next });
      this.#deliver();
    } else if (progress !== undefined) stream.answer(this.header(), {});
  }

  forgetStream(stream: FakeStream): void {
    for (const watcher of this.#watchers) if (watcher.stream === stream) this.#watchers.delete(watcher);
  }

  /** One revision for all of them. */
  #write(changes: readonly { key: string; value?: Buffer; lease?: string }[]): void {
    const real = changes.filter(({ key, value }) => value !== undefined || this.#current.has(key));
    if (real.length === 0) return;
    const revision = ++this.#revision;
    for (const { key, value, lease = '0' } of real) {
      const was = this.#current.get(key);
      const kv =
        value === undefined
          ? undefined
          : {
              key: Buffer.from(key, 'latin1'),
              value,
              lease,
              create_revision: was?.create_revision ?? String(revision),
              mod_revision: String(revision),
              version: String(Number(was?.version ?? 0) + 1),
            };
      if (kv === undefined) this.#current.delete(key);
      else this.#current.set(key, kv);
      this.#versions.push({ key, revision, kv });
    }
    this.#deliver();
  }

  #deliver(): void {
    for (const watcher of this.#watchers) {
      if (this.stateOf(watcher.stream.url) !== 'up') continue;
      const { next, isInside, stream } = watcher;
      watcher.next = this.#revision + 1n;
      const events = this.#versions
        .filter(({ revision, key }) => revision >= next && isInside(key))
        .map(eventOf);
      if (events.length > 0) stream.answer(this.header(), { events });
    }
  }

  #stateAt(revision: bigint): Map<string, IKeyValue> {
    const state = new Map(this.#current);
    // Backwards from what is there now, to what was there before each later change.
    for (const version of this.#versions.filter((one) => one.revision > revision).reverse()) {
      const before = this.#versions.findLast(
        ({ key, revision: at }) => key === version.key && at < version.revision,
      );
      if (before?.kv === undefined) state.delete(version.key);
      else state.set(version.key, before.kv);
    }
    return state;
  }

  #holds({ key, target, version, mod_revision: modRevision }: ICompare): boolean {
    const kv = this.#current.get(textOf(key));
    return target === 'Version'
      ? String(kv?.version ?? '0') === String(version)
      : String(kv?.mod_revision ?? '0') === String(modRevision);
  }

  #forget(id: string): void {
    this.#leases.get(id)?.();
    this.#leases.delete(id);
  }

  #breakStreams(isMeant: (url: string) => boolean, error: Error): void {
    for (const { stream } of [...this.#watchers]) if (isMeant(stream.url)) stream.break(error);
  }
}

export class FakeStream extends EventEmitter implements WatchDuplex {
  readonly url: string;
  readonly #etcd: FakeEtcd;
  #isOver = false;

  constructor(etcd: FakeEtcd, url: string) {
    super();
    this.#etcd = etcd;
    this.url = url;
  }

  write(request: IWatchRequest): void {
    if (!this.#isOver && this.#etcd.stateOf(this.url) === 'up') this.#etcd.receive(this, request);
  }

  end(): void {
    this.cancel();
  }

  cancel(): void {
    this.#isOver = true;
    this.#etcd.forgetStream(this);
  }

  answer(header: IResponseHeader, more: Partial<WatchAnswer>): void {
    const response: WatchAnswer = { ...EMPTY_ANSWER, position: positionOf(header), ...more };
    queueMicrotask(() => {
      if (!this.#isOver) this.emit('data', response);
    });
  }

  break(error: Error): void {
    this.cancel();
    queueMicrotask(() => this.emit('error', error));
  }
}

class FakeClient implements EtcdClient {
  readonly #etcd: FakeEtcd;
  readonly #settings: ClientSettings;
  readonly #onClosed: () => void;
  readonly #closing = new AbortController();

  constructor(etcd: FakeEtcd, settings: ClientSettings, onClosed: () => void) {
    this.#etcd = etcd;
    this.#settings = settings;
    this.#onClosed = onClosed;
  }

  get url(): string {
    return this.#settings.endpoint.url;
  }

  readonly kv: EtcdClient['kv'] = {
    range: (request) => this.#call('range', () => this.#etcd.range(request)),
    txn: (request) =>
      this.#write('txn', () => {
        const succeeded = this.#etcd.txn(request);
        return { header: this.#etcd.header(), succeeded, responses: [] };
      }),
  };

  readonly leases: EtcdClient['leases'] = {
    leaseGrant: ({ ID = '0', TTL = 0 }) =>
      this.#write('grant', () => {
        this.#etcd.grant(String(ID), Number(TTL));
        return { header: this.#etcd.header(), ID: String(ID), TTL: String(TTL), error: '' };
      }),
    leaseRevoke: ({ ID = '0' }) =>
      this.#write('revoke', () => {
        this.#etcd.revoke(String(ID));
        return { header: this.#etcd.header() };
      }),
    leaseTimeToLive: ({ ID = '0' }) =>
      this.#call('time-to-live', () => {
        const keys = this.#etcd.keysOf(String(ID));
        return { header: this.#etcd.header(), ID: String(ID), TTL: '1', grantedTTL: '1', keys };
      }),
  };

  readonly maintenance: EtcdClient['maintenance'] = {
    status: () =>
      this.#call('status', () => ({
        header: this.#etcd.header(),
        leader: this.#etcd.stateOf(this.url) === 'leaderless' ? '0' : '1',
        errors: this.#etcd.alarms.map((name) => `memberID:1 alarm:${name} `),
        ...{ version: '3.5.0', dbSize: '0', raftIndex: '1', raftTerm: '1', raftAppliedIndex: '1' },
        ...{ dbSizeInUse: '0', isLearner: false },
      })),
  };

  openWatch(): Promise<WatchDuplex> {
    return this.#call('watch', () => {
      const stream = new FakeStream(this.#etcd, this.url);
      this.#closing.signal.addEventListener('abort', () => stream.cancel(), { once: true });
      return stream;
    });
  }

  close(): void {
    this.#closing.abort(new Error('The client was already closed'));
    this.#onClosed();
  }

  #write<T>(name: string, effect: () => T): Promise<T> {
    return this.#call(name, () => {
      const result = effect();
      if (this.#etcd.answersToLose === 0) return result;
      this.#etcd.answersToLose--;
      throw unavailable('read ECONNRESET');
    });
  }

  async #call<T>(name: string, effect: () => T): Promise<T> {
    this.#etcd.calls.push(`${name} ${this.url}`);
    await Promise.resolve();
    this.#closing.signal.throwIfAborted();
    const state = this.#etcd.stateOf(this.url);
    if (state === 'silent') return this.#never();
    if (state === 'refusing') throw unavailable(`connect ECONNREFUSED ${this.#settings.endpoint.target}`);
    if (state === 'leaderless' && name !== 'status') throw failure(14, 'etcdserver: no leader');
    this.#authenticate();
    return effect();
  }

  #authenticate(): void {
    const { user: asked } = this.#settings;
    const { user } = this.#etcd;
    if (user === undefined && asked !== undefined)
      throw failure(9, 'etcdserver: authentication is not enabled');
    const isSame = user?.username === asked?.username && user?.password === asked?.password;
    if (!isSame) throw failure(3, 'etcdserver: authentication failed, invalid user ID or password');
  }

  #never(): Promise<never> {
    const { signal } = this.#closing;
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  }
}

function insideOf({
  key,
  range_end: end,
}: Pick<IRangeRequest, 'key' | 'range_end'>): (key: string) => boolean {
  const first = textOf(key);
  if (end === undefined) return (name) => name === first;
  return (name) => name >= first && name < textOf(end);
}

function eventOf({ key, revision, kv }: Version): WatchEvent {
  if (kv !== undefined) return { isPut: true, entry: entryOf(kv) };
  const gone = { value: '', valueBytes: 0, createRevision: 0n, leaseId: 0n };
  return { isPut: false, entry: { key, modRevision: revision, ...gone } };
}

function textOf(key: Buffer | undefined): string {
  return key?.toString('latin1') ?? '';
}

function unavailable(last: string): Error {
  return failure(14, `No connection established. Last error: ${last}`);
}

function failure(code: number, text: string): Error {
  return Object.assign(new Error(`${code} ERROR: ${text}`), { code });
}
