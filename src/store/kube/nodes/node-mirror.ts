// The nodes of a cluster, mirrored: listed once, then followed by a watch for ever.
//
//   list ─► snapshot ─► watch from the list's version ─► events …
//     ▲                    │    ▲
//     │                    │    ├── ended, fault: from the last version
//     │                    │    └── silent: the same, unless etcd's version is a former one ─┐
//     └────────────────────┴── expired, refused, differences, rewound ◄─────────────────────┘
//
// **Invariant:** every change of a node that counts (KubeNode) reaches the listener exactly once and in order, or as
// part of a difference after a gap. The version moves with delivered events and bookmarks only.
//
// - A list after a gap is not to be older than what was seen: a server that is behind would undo it. Where no server is
//   as far any more, etcd itself is asked; if it is behind, too, it was restored, and who is missing has vanished.
// - A watch from a version that the store has not reached is silent for ever; so after silence etcd's version is read.
// - What ends for one host ends for all: a list after a gap waits for a random time that grows with the cluster.
// - Every 5 to 10 minutes the metadata of all nodes is compared (node-check.ts).
// Work per event does not grow with the cluster.

import type { Logger } from '../../../core/log.js';
import { type Clock, nap } from '../../../core/waiting.js';
import type { KubeClient, WatchEvent } from '../api/client.js';
import { KubeFault } from '../api/faults.js';
import { readGapList } from './gap-list.js';
import { HeldNodes } from './held-nodes.js';
import { type NodeEvent, type NodeListener, type NodeReading, readNode, readVersion } from './kube-node.js';
import { type MirrorCounters, newMirrorCounters, type RelistReason } from './mirror-counters.js';
import { MirrorRetry, RETRY_DELAYS, type RetryDelays, versionVerdict } from './mirror-retry.js';
import { checkNodes } from './node-check.js';
import { readNewestVersion } from './node-list.js';
import { followWatch } from './node-watch.js';
import { isLater } from './resource-version.js';

export interface NodeMirrorTuning {
  /** How long a watch may stay without event or bookmark. @default 90 s */
  readonly silenceMs: number;
  /** How long the server may take to accept a watch. @default 30 s */
  readonly openMs: number;
  /** Least and greatest time between comparisons. @default 5 and 10 min */
  readonly checkMs: readonly [least: number, greatest: number];
  /** How long a difference may be on its way to us. @default 5 s */
  readonly settleMs: number;
  /** Between attempts. @default 50 ms to 5 s; 1 to 30 s while somebody has to do something */
  readonly retry: RetryDelays;
  /** Nodes beyond are left out, and counted. @default MAX_NODES */
  readonly maxNodes: number;
}

export interface NodeMirrorOptions {
  readonly client: KubeClient;
  readonly reading: NodeReading;
  readonly listener: NodeListener;
  readonly log: Logger;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly tuning?: Partial<NodeMirrorTuning>;
}

const DEFAULT_TUNING: Omit<NodeMirrorTuning, 'maxNodes'> = {
  silenceMs: 90_000, // a bookmark comes about every 60 s
  openMs: 30_000,
  checkMs: [300_000, 600_000],
  settleMs: 5_000,
  retry: RETRY_DELAYS,
};

/** As flannel's library asks for: seconds after which the server ends a watch. */
const WATCH_SECONDS = [300, 600] as const;

/** A watch that lived so long was a good one, even if nothing happened. */
const GOOD_WATCH_MS = 10_000;

/** A full list of 5,000 nodes is 76 MB, and as many hosts want one: they spread over 10 s. */
const SPREAD_MS_PER_NODE = 2;
const MAX_SPREAD_MS = 60_000;

/** What is to be done next. */
type Task = 'list' | 'ask for the version' | 'watch';

/** See the head of this file. Runs from construction until close(). */
export class NodeMirror {
  readonly counters: MirrorCounters = newMirrorCounters();
  readonly #options: NodeMirrorOptions;
  readonly #tuning: typeof DEFAULT_TUNING;
  readonly #held: HeldNodes;
  readonly #retry: MirrorRetry;
  readonly #closing = new AbortController();
  readonly #done: Promise<unknown>;
  #task: Task = 'list';
  #relist: RelistReason | undefined;
  #watch: AbortController | undefined;
  #isLive = false;
  #fault: KubeFault | undefined;
  #heardAtMs: number | undefined;
  #silences = 0;

  constructor(options: NodeMirrorOptions) {
    this.#options = options;
    this.#tuning = { ...DEFAULT_TUNING, ...options.tuning };
    this.#held = new HeldNodes(this.counters, options.tuning?.maxNodes);
    this.#retry = new MirrorRetry(options.random, this.#tuning.retry);
    this.#done = Promise.all([this.#run(), this.#checkAgain()]);
  }

  /** Whether a watch is established right now. */
  get isLive(): boolean {
    return this.#isLive;
  }

  /** The version up to which everything is known; "" before the first list. */
  get version(): string {
    return this.#held.position;
  }

  /** Nodes held. */
  get size(): number {
    return this.#held.size;
  }

  /** Why the nodes are not followed right now; undefined when they are, or when nothing went wrong yet. */
  get fault(): string | undefined {
    return this.#isLive ? undefined : this.#fault?.message;
  }

  /** When the server was last heard of the nodes, on the clock; undefined: not yet. */
  get lastHeardMs(): number | undefined {
    return this.#heardAtMs;
  }

  /** Nothing is told any more. Idempotent. */
  async close(): Promise<void> {
    const reason = new KubeFault(0, 'closed', 'mirror closed');
    this.#closing.abort(reason);
    this.#watch?.abort(reason);
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      let delayMs: number;
      try {
        delayMs = await this.#doNext();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof KubeFault)) throw error; // a bug
        delayMs = this.#afterFault(error);
      }
      if (delayMs > 0) await nap(delayMs, signal, this.#options.clock);
    }
  }

  /** Resolves to how long to wait before what is to be done after it. */
  async #doNext(): Promise<number> {
    if (this.#task === 'watch') return this.#follow();
    if (this.#task === 'list') await this.#list();
    else if (await this.#isHistoryBehind()) return this.#listAgain('rewound');
    this.#task = 'watch';
    return 0;
  }

  #afterFault(fault: KubeFault): number {
    const verdict = this.#task === 'watch' ? versionVerdict(fault) : undefined;
    if (verdict === 'expired') return this.#listAgain('expired');
    this.#note(fault);
    if (verdict === 'refused') return this.#listAgain('refused');
    if (verdict === 'ahead') this.#task = 'ask for the version';
    return this.#retry.delayAfter(fault);
  }

  /** Logs a fault unless it was the last one, too. */
  #note(fault: KubeFault): void {
    const { status, reason, message } = fault;
    if (message !== this.#fault?.message) this.#options.log.warn({ status, reason }, message);
    this.#fault = fault;
  }

  #heard(): void {
    this.#heardAtMs = this.#options.clock.nowMs();
    this.#fault = undefined;
  }

  async #list(): Promise<void> {
    const { client, reading, listener, log } = this.#options;
    const was = this.version;
    const isRewound = this.#relist === 'rewound';
    const { signal } = this.#closing;
    const gap = await readGapList({ client, reading, held: this.#held, isRewound, signal });
    if (signal.aborted) return;
    this.counters.lists++;
    this.#relist = undefined;
    this.#heard();
    const { events, isRewritten } = this.#held.adoptList(gap.list, gap.version, gap.isRewound);
    if (was === '') {
      listener.onSnapshot(events.flatMap((event) => (event.kind === 'put' ? [event.node] : [])));
      return;
    }
    if (isRewritten) {
      const text = `history of the nodes at ${client.server} went back: comparing with what is there now`;
      log.warn({ was, is: gap.version }, text);
    }
    this.#tell(events);
  }

  async #isHistoryBehind(): Promise<boolean> {
    const was = this.version;
    return isLater(was, await readNewestVersion(this.#options.client, this.#closing.signal));
  }

  /** All nodes are to be listed again; returns how long to wait before that. */
  #listAgain(reason: RelistReason): number {
    const { random, log, client } = this.#options;
    this.#task = 'list';
    this.#relist = reason;
    this.counters.relists[reason]++;
    log.info({ reason, version: this.version }, `listing the nodes at ${client.server} again`);
    const spreadMs = Math.min(this.#held.size * SPREAD_MS_PER_NODE, MAX_SPREAD_MS) * random();
    return spreadMs + this.#retry.delayAfter();
  }

  async #follow(): Promise<number> {
    const { client, reading, clock, random } = this.#options;
    const { openMs, silenceMs } = this.#tuning;
    const [least, greatest] = WATCH_SECONDS;
    const startedAtMs = clock.nowMs();
    this.#watch = new AbortController();
    const { signal } = this.#watch;
    try {
      const end = await followWatch({
        ...{ client, reading, clock, openMs, silenceMs, signal, version: this.version },
        timeoutSeconds: Math.floor(least + (greatest - least + 1) * random()),
        onOpen: () => this.#opened(),
        onEvent: (event) => this.#take(event),
      });
      if (clock.nowMs() - startedAtMs >= GOOD_WATCH_MS) this.#retry.reset();
      if (end === 'silent') return this.#afterSilence();
      if (end === 'stopped' && this.#relist !== undefined) return this.#listAgain(this.#relist);
      return this.#retry.delayAfter();
    } finally {
      this.#watch = undefined;
      this.#isLive = false;
    }
  }

  #opened(): void {
    this.#isLive = true;
    this.counters.watches++;
    this.#heardAtMs = this.#options.clock.nowMs();
  }

  #take({ type, object }: WatchEvent): void {
    this.#heard();
    this.#retry.reset();
    this.#silences = 0;
    if (type === 'BOOKMARK') this.#held.moveTo(readVersion(object));
    else this.#tell(this.#held.applyEvent(type, readNode(object, this.#options.reading)));
  }

  #tell(events: readonly NodeEvent[]): void {
    if (events.length > 0 && !this.#closing.signal.aborted) this.#options.listener.onEvents(events);
  }

  #afterSilence(): number {
    const { client } = this.#options;
    const { silenceMs } = this.#tuning;
    const text = `cannot watch nodes at ${client.server}: neither event nor bookmark for ${silenceMs / 1000} s`;
    this.#note(new KubeFault(0, 'timeout', text));
    this.#task = 'ask for the version';
    // Something between us and the server may have lost it.
    if (++this.#silences > 1) client.renew();
    return this.#retry.delayAfter();
  }

  async #checkAgain(): Promise<void> {
    const { clock, random, log } = this.#options;
    const { signal } = this.#closing;
    const [least, greatest] = this.#tuning.checkMs;
    for (;;) {
      await nap(least + (greatest - least) * random(), signal, clock);
      if (signal.aborted) return;
      if (!this.#isLive) continue; // the gap that is being closed now does the same
      try {
        await this.#check();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof KubeFault)) throw error; // a bug
        log.debug({ error: error.message }, 'comparison with the API server not done');
      }
    }
  }

  async #check(): Promise<void> {
    const { client, reading, clock, log } = this.#options;
    const { signal } = this.#closing;
    const reason = await checkNodes({
      ...{ client, reading, clock, log, signal, held: this.#held, counters: this.counters },
      settleMs: this.#tuning.settleMs,
      onEvents: (events) => this.#tell(events),
    });
    if (reason === undefined || this.#watch === undefined) return;
    this.#relist = reason;
    this.#watch.abort(new KubeFault(0, 'closed', 'the nodes are listed again'));
  }
}
