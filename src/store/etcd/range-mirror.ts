// A key range of etcd, mirrored: listed once, then followed by a watch for ever.
//
//   list ─► snapshot ─► watch from list revision + 1 ─► events …
//     ▲                        │
//     │  compacted | rewound   │ fault: new session, watch from last event + 1
//     └────────────────────────┘
//
// **Invariant:** every change of the range reaches the listener exactly once, in order of revision, or as part of a
// difference after a gap. The next revision moves with delivered events only; an event below it is a replay and is
// dropped. Released etcd versions have lost and replayed watch events, so the range is also listed and compared every
// `resyncMs` while the watch runs; what differs is repaired, counted and logged.

import type { Logger } from '../../core/log.js';
import type { SessionSource } from './connection.js';
import type { Session } from './session.js';
import type { KvEntry, KvList, LeaseKv, StorePosition } from './etcd-kv.js';
import { EtcdFault, toFault } from './faults.js';
import { showKey } from './keys.js';
import type { KeyRange } from './keys.js';
import { diffList, sameStamp, stampOf } from './mirror-diff.js';
import type { MirrorDiff, MirrorEvent, Row, Stamp } from './mirror-diff.js';
import { startWatch } from './watch-stream.js';
import type { WatchEvent } from './watch-codec.js';
import type { RunningWatch, WatchEnd } from './watch-stream.js';
import { Backoff, nap } from '../../core/waiting.js';
import type { Clock } from '../../core/waiting.js';

export interface MirrorListener {
  /** The range as it is; once, before any events. */
  onSnapshot(entries: ReadonlyMap<string, KvEntry>): void;
  onEvents(events: readonly MirrorEvent[]): void;
}

/** What becomes of entries before they are handed on, so that a list of large ones is never held. */
export interface Trimming {
  /** What a key is known by. */
  id(key: string): string;
  /** The entry to hand on. */
  entry(entry: KvEntry): KvEntry;
}

const NO_TRIMMING: Trimming = { id: (key) => key, entry: (entry) => entry };

export interface MirrorOptions {
  readonly connection: SessionSource;
  readonly kv: Pick<LeaseKv, 'list'>;
  readonly range: KeyRange;
  readonly listener: MirrorListener;
  /** @default entries as they are */
  readonly trimming?: Trimming;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  /** Silence after which the server is asked for a sign of life, and how long it may take. */
  readonly progressMs: number;
  readonly resyncMs: number;
}

export interface MirrorCounters {
  eventsApplied: number;
  eventsReplayed: number;
  lists: number;
  compactions: number;
  historyRewritten: number;
  resyncRepairs: number;
  watchesStarted: number;
}

const MIN_RETRY_MS = 50;
const MAX_RETRY_MS = 2000;
const UNPROVEN_RESYNC_MS = 60_000; // where nothing but a list tells that the watch is alive

/** Before the first list. */
const NOWHERE: StorePosition = { revision: 0n, clusterId: '' };

/** See the head of this file. Runs from construction until close(). */
export class RangeMirror {
  readonly counters: MirrorCounters = {
    eventsApplied: 0,
    eventsReplayed: 0,
    lists: 0,
    compactions: 0,
    historyRewritten: 0,
    resyncRepairs: 0,
    watchesStarted: 0,
  };
  readonly #options: MirrorOptions;
  readonly #closing = new AbortController();
  readonly #trimming: Trimming;
  readonly #stamps = new Map<string, Stamp>();
  readonly #backoff: Backoff;
  readonly #done: Promise<void>;
  #position: StorePosition = NOWHERE;
  #watch: RunningWatch | undefined;
  #isLive = false;
  #isUnproven = false;
  #fault: EtcdFault | undefined;
  #recentDeletes: Map<string, bigint> | undefined;
  #progressWaiter: ((position: StorePosition) => void) | undefined;
  #cancelResync: () => void = () => undefined;

  constructor(options: MirrorOptions) {
    this.#options = options;
    this.#trimming = options.trimming ?? NO_TRIMMING;
    this.#backoff = new Backoff(MIN_RETRY_MS, MAX_RETRY_MS, options.random);
    this.#done = this.#run();
    this.#scheduleResync();
  }

  /** Whether a watch is established right now. */
  get isLive(): boolean {
    return this.#isLive;
  }

  /** The revision up to which everything is known; 0n before the first list. */
  get revision(): bigint {
    return this.#position.revision;
  }

  /** Why the range is not followed right now; undefined when it is. */
  get fault(): string | undefined {
    return this.#isLive || this.#fault === undefined ? undefined : this.#fault.message;
  }

  async close(): Promise<void> {
    this.#cancelResync();
    this.#closing.abort(new EtcdFault('closed', 'mirror closed'));
    await this.#done;
  }

  async #run(): Promise<void> {
    const { connection, kv, range, log } = this.#options;
    const signal = this.#closing.signal;
    let mustList = true;
    while (!signal.aborted) {
      try {
        if (mustList) {
          this.#applyGap(await kv.list(range, signal, (entry) => this.#rowOf(entry)));
          mustList = false;
        }
        const end = await this.#follow(await connection.session(signal));
        if (end.kind === 'compacted' || end.kind === 'rewound') {
          mustList = true;
          if (end.kind === 'compacted') this.counters.compactions++;
          log.info(
            { key: showKey(range.start), revision: String(this.revision) },
            `watch ${end.kind}: listing again`,
          );
        } else if (end.kind === 'fault') this.#note(end.fault);
      } catch (error) {
        if (!signal.aborted) this.#note(toFault(error, `Cannot follow "${showKey(range.start)}"`, 'etcd'));
      }
      if (!signal.aborted) await nap(this.#backoff.next(), signal, this.#options.clock);
    }
  }

  #note(fault: EtcdFault): void {
    // Connection faults are logged by the connection; here only what it cannot know, once per cause.
    if (!fault.breaksSession && fault.message !== this.#fault?.message) {
      this.#options.log.warn({ kind: fault.kind }, fault.message);
    }
    this.#fault = fault;
  }

  async #follow(session: Session): Promise<WatchEnd> {
    const { range, clock, progressMs, connection } = this.#options;
    this.counters.watchesStarted++;
    this.#watch = startWatch(session, {
      range,
      startRevision: this.#position.revision + 1n,
      clusterId: this.#position.clusterId,
      progressMs,
      clock,
      signal: this.#closing.signal,
      onCreated: () => {
        this.#isLive = true;
        this.#fault = undefined;
      },
      onEvents: (events) => {
        this.#backoff.reset();
        this.#applyEvents(events);
      },
      onProgress: (position) => {
        this.#backoff.reset();
        this.#progressWaiter?.(position);
      },
      onUnproven: () => {
        if (this.#isUnproven) return;
        this.#isUnproven = true;
        this.#scheduleResync();
      },
    });
    const end = await this.#watch.ended;
    this.#watch = undefined;
    this.#isLive = false;
    this.#isUnproven = false;
    if (end.kind === 'fault') connection.report(session, end.fault);
    return end;
  }

  #applyEvents(events: readonly WatchEvent[]): void {
    const applied: MirrorEvent[] = [];
    let last = this.#position.revision;
    // Of keys deleted in this response: nothing else would tell that a put behind it is the older of the two.
    const deleted = new Map<string, bigint>();
    for (const { isPut, entry } of events) {
      const { modRevision } = entry;
      if (modRevision > last) last = modRevision;
      const key = this.#trimming.id(entry.key);
      const known = this.#stamps.get(key)?.modRevision ?? deleted.get(key);
      if (modRevision <= this.#position.revision || (known !== undefined && known >= modRevision)) {
        this.counters.eventsReplayed++;
        continue;
      }
      if (isPut) {
        this.#stamps.set(key, stampOf(entry));
        applied.push({ kind: 'put', key, entry: this.#trimming.entry(entry) });
      } else {
        this.#recentDeletes?.set(key, modRevision);
        deleted.set(key, modRevision);
        this.#stamps.delete(key);
        applied.push({ kind: 'delete', key });
      }
    }
    this.#position = { revision: last, clusterId: this.#position.clusterId };
    this.counters.eventsApplied += applied.length;
    if (applied.length > 0) this.#options.listener.onEvents(applied);
  }

  #rowOf(entry: KvEntry): Row {
    const key = this.#trimming.id(entry.key);
    const stamp = stampOf(entry);
    const known = this.#stamps.get(key);
    return known !== undefined && sameStamp(known, stamp)
      ? { key, stamp, entry: undefined }
      : { key, stamp, entry: this.#trimming.entry(entry) };
  }

  #applyGap(list: KvList<Row>): void {
    this.counters.lists++;
    this.#fault = undefined;
    if (this.#position === NOWHERE) {
      const entries = new Map<string, KvEntry>();
      for (const { key, stamp, entry } of list.entries) {
        this.#stamps.set(key, stamp);
        if (entry !== undefined) entries.set(key, entry);
      }
      this.#position = { revision: list.revision, clusterId: list.clusterId };
      this.#options.listener.onSnapshot(entries);
      return;
    }
    const diff = diffList(
      { stamps: this.#stamps, position: this.#position, recentDeletes: new Map() },
      list,
      'gap',
    );
    if (diff.isRewritten) {
      this.counters.historyRewritten++;
      this.#options.log.warn(
        { was: String(this.#position.revision), is: String(list.revision) },
        'etcd store was wiped or restored: comparing with what it holds now',
      );
    }
    this.#position = { revision: list.revision, clusterId: list.clusterId };
    this.#adopt(diff);
  }

  #adopt({ events, stamps }: MirrorDiff): void {
    for (const [key, stamp] of stamps) this.#stamps.set(key, stamp);
    for (const event of events) {
      if (event.kind !== 'put') this.#stamps.delete(event.key);
    }
    if (events.length > 0) this.#options.listener.onEvents(events);
  }

  #scheduleResync(): void {
    const jitter = 0.9 + 0.2 * this.#options.random();
    const { resyncMs } = this.#options;
    const delayMs = jitter * (this.#isUnproven ? Math.min(resyncMs, UNPROVEN_RESYNC_MS) : resyncMs);
    this.#cancelResync();
    this.#cancelResync = this.#options.clock.after(delayMs, () => {
      void this.#resync().finally(() => {
        if (!this.#closing.signal.aborted) this.#scheduleResync();
      });
    });
  }

  /** Compares with a fresh list while the watch goes on. */
  async #resync(): Promise<void> {
    const { kv, range, log } = this.#options;
    const watch = this.#watch;
    if (watch === undefined || !this.#isLive) return; // the gap that is being closed now does the same
    this.#recentDeletes = new Map();
    try {
      const list = await kv.list(range, this.#closing.signal, (entry) => this.#rowOf(entry));
      await this.#watchReaches(watch, list.revision);
      // Another watch took over meanwhile: it listed or resumed by itself.
      if (this.#watch !== watch) return;
      const held = { stamps: this.#stamps, position: this.#position, recentDeletes: this.#recentDeletes };
      const diff = diffList(held, list, 'check');
      if (diff.isRewritten) this.counters.historyRewritten++;
      if (diff.events.length === 0) return;
      this.counters.resyncRepairs += diff.events.length;
      log.warn(
        { repairs: diff.events.length, key: showKey(range.start) },
        'comparison with etcd found differences: repaired',
      );
      this.#adopt(diff);
    } catch (error) {
      if (!this.#closing.signal.aborted)
        log.debug({ error: (error as Error).message }, 'comparison with etcd not done');
    } finally {
      this.#recentDeletes = undefined;
    }
  }

  /** Waits until the watch has passed `revision`, as far as the server says so; at most `progressMs`. */
  async #watchReaches(watch: RunningWatch, revision: bigint): Promise<void> {
    if (this.revision >= revision) return;
    const { clock, progressMs } = this.#options;
    const reached = new AbortController();
    this.#progressWaiter = (position) => {
      if (position.revision >= revision) reached.abort();
    };
    const stop = (): void => reached.abort();
    this.#closing.signal.addEventListener('abort', stop);
    watch.requestProgress();
    await nap(progressMs, reached.signal, clock);
    this.#closing.signal.removeEventListener('abort', stop);
    this.#progressWaiter = undefined;
  }
}
