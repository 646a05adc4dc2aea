// One watch on one raw etcd stream, from creation to whatever ends it. RangeMirror makes the next one.
//
//   create(start_revision) ─► created ─► batches of events … ─► end: compacted | rewound | fault
//
// What etcd3's own watcher gets wrong and this does not:
// - A batch is delivered when it is complete (fragment=false), and only its own events say how far we are. A response
//   header names the store's revision, which runs ahead of a catch-up sent in batches of 1,000 revisions; "created" and
//   progress answers are proof of life and nothing else.
// - Silence is not health: after `progressMs` without a message the server is asked for progress, and after another
//   `progressMs` without answer the stream is given up. What does not know such requests, a proxy say, is asked for a
//   key as well or instead (progress-support.ts).
// - The session opens streams that a member without quorum ends, instead of going quiet.

import { toBytes } from './etcd-kv.js';
import type { StorePosition } from './etcd-kv.js';
import type { WatchDuplex } from './client.js';
import type { Session } from './session.js';
import { EtcdFault, kindOfText, toFault } from './faults.js';
import { showKey } from './keys.js';
import type { KeyRange } from './keys.js';
import type { WatchAnswer, WatchEvent } from './watch-codec.js';
import type { Clock } from '../../core/waiting.js';

export interface WatchRequest {
  readonly range: KeyRange;
  /** First revision to deliver. */
  readonly startRevision: bigint;
  /** The store that the range was listed from. */
  readonly clusterId: string;
  readonly progressMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** The server has accepted the watch. */
  onCreated(): void;
  /** All events of one or more whole revisions, in order. */
  onEvents(events: readonly WatchEvent[]): void;
  /** The server answered a progress request; in etcd before 3.4.25 and 3.5.8 it may run ahead of events. */
  onProgress(position: StorePosition): void;
  /** The server lacks progress answers, so only a list can tell whether events are missing. */
  onUnproven(): void;
}

export type WatchEnd =
  /** Events before this revision are gone: list again. */
  | { readonly kind: 'compacted' }
  /** The server is behind what we have seen, or is another store: list again and compare. */
  | { readonly kind: 'rewound' }
  | { readonly kind: 'fault'; readonly fault: EtcdFault }
  | { readonly kind: 'aborted' };

/** A running watch. `ended` resolves once and never rejects. */
export interface RunningWatch {
  readonly ended: Promise<WatchEnd>;
  /** Asks the server for its position; answered by onProgress. */
  requestProgress(): void;
}

/** Starts a watch on `session`. */
export function startWatch(session: Session, request: WatchRequest): RunningWatch {
  const watch = new Watch(session, request);
  return { ended: watch.ended, requestProgress: () => watch.requestProgress() };
}

class Watch {
  readonly ended: Promise<WatchEnd>;
  readonly #session: Session;
  readonly #request: WatchRequest;
  #finish!: (end: WatchEnd) => void;
  #isEnded = false;
  #stream: WatchDuplex | undefined;
  #fragments: WatchEvent[] = [];
  #heardAtMs: number;
  #askedAtMs: number | undefined;
  #isReadable = false;
  #cancelTimer: () => void = () => undefined;
  readonly #onAbort = (): void => this.#end({ kind: 'aborted' });
  readonly #onClosed = (): void => this.#fail(this.#session.closed.reason);

  constructor(session: Session, request: WatchRequest) {
    this.#session = session;
    this.#request = request;
    this.#heardAtMs = request.clock.nowMs();
    this.ended = new Promise((resolve) => (this.#finish = resolve));
    if (request.signal.aborted) this.#onAbort();
    else if (session.closed.aborted) this.#onClosed();
    else this.#open();
  }

  #open(): void {
    const request = this.#request;
    const session = this.#session;
    request.signal.addEventListener('abort', this.#onAbort, { once: true });
    session.closed.addEventListener('abort', this.#onClosed, { once: true });
    this.#armTimer(request.progressMs);
    session.openWatch().then(
      (stream) => this.#attach(stream),
      (error: unknown) => this.#fail(error),
    );
  }

  requestProgress(): void {
    if (!this.#isEnded && !this.#session.progress.isLacking) this.#stream?.write({ progress_request: {} });
  }

  #attach(stream: WatchDuplex): void {
    stream.on('error', (error) => this.#broken(error));
    if (this.#isEnded) return cancelSoon(stream);
    this.#stream = stream;
    stream.on('end', () => this.#broken(new Error('the server ended the stream')));
    stream.on('data', (answer) => this.#receive(answer));
    const { range, startRevision } = this.#request;
    stream.write({
      create_request: {
        key: toBytes(range.start),
        ...(range.end === undefined ? {} : { range_end: toBytes(range.end) }),
        start_revision: startRevision.toString(),
        progress_notify: true,
        fragment: true,
      },
    });
  }

  #receive(answer: WatchAnswer): void {
    if (this.#isEnded) return;
    const wasAsked = this.#askedAtMs !== undefined;
    this.#heardAtMs = this.#request.clock.nowMs();
    this.#askedAtMs = undefined;
    if (answer.isCanceled) {
      if (wasAsked) this.#session.progress.noteEnd();
      return this.#canceled(answer);
    }
    const { position } = answer;
    // A proxy that joins our watch with another one makes up the header of its answer: a cluster of 0, a low revision.
    const isMadeUp = position.clusterId === '0';
    if (
      !isMadeUp &&
      (position.clusterId !== this.#request.clusterId || position.revision + 1n < this.#request.startRevision)
    ) {
      return this.#end({ kind: 'rewound' });
    }
    if (answer.isCreated) this.#request.onCreated();
    if (answer.events.length > 0) this.#receiveEvents(answer);
    else if (!answer.isCreated) {
      if (wasAsked) this.#session.progress.noteAnswer();
      this.#request.onProgress(position);
    }
  }

  #receiveEvents({ events, isFragment }: WatchAnswer): void {
    if (!isFragment && this.#fragments.length === 0) return this.#request.onEvents(events);
    for (const event of events) this.#fragments.push(event);
    if (isFragment) return;
    const all = this.#fragments;
    this.#fragments = [];
    this.#request.onEvents(all);
  }

  #canceled(answer: WatchAnswer): void {
    if (answer.compactRevision > 0n) return this.#end({ kind: 'compacted' });
    const reason = answer.cancelReason || 'no reason given';
    const fault = new EtcdFault(
      kindOfText(reason) ?? 'unreachable',
      `${this.#action()} at ${this.#session.endpoint.url}: refused by the server: ${reason}`,
    );
    this.#end({ kind: 'fault', fault });
  }

  #armTimer(delayMs: number): void {
    const dueMs = this.#request.clock.nowMs() + delayMs;
    this.#cancelTimer = this.#request.clock.after(delayMs, () => this.#checkLife(dueMs));
  }

  #checkLife(dueMs: number): void {
    const { clock, progressMs } = this.#request;
    const nowMs = clock.nowMs();
    // We were stopped ourselves (SIGSTOP, a blocked loop): answers may lie unread in the socket, so count anew.
    if (nowMs - dueMs > progressMs / 2) {
      this.#heardAtMs = nowMs;
      this.#askedAtMs = undefined;
    }
    if (this.#askedAtMs !== undefined && nowMs - this.#askedAtMs >= progressMs) {
      this.#session.progress.noteSilence(this.#isReadable);
      if (this.#isReadable) {
        this.#heardAtMs = nowMs;
        this.#askedAtMs = undefined;
        this.#request.onUnproven();
        return this.#armTimer(progressMs);
      }
      return this.#fail(
        new EtcdFault(
          'timeout',
          `${this.#action()} at ${this.#session.endpoint.url}: ` +
            `no sign of life for ${Math.round(nowMs - this.#heardAtMs)} ms`,
        ),
      );
    }
    if (this.#askedAtMs === undefined && nowMs - this.#heardAtMs >= progressMs) {
      this.#askedAtMs = nowMs;
      this.#isReadable = false;
      this.requestProgress();
      if (!this.#session.progress.isKnown) {
        this.#session.read().then(
          () => (this.#isReadable = true),
          () => undefined,
        );
      }
    }
    this.#armTimer(Math.max(10, (this.#askedAtMs ?? this.#heardAtMs) + progressMs - nowMs));
  }

  #action(): string {
    return `Cannot watch "${showKey(this.#request.range.start)}"`;
  }

  #broken(error: unknown): void {
    if (!this.#isEnded && this.#askedAtMs !== undefined) this.#session.progress.noteEnd();
    this.#fail(error);
  }

  #fail(error: unknown): void {
    this.#end({ kind: 'fault', fault: toFault(error, this.#action(), this.#session.endpoint.url) });
  }

  #end(end: WatchEnd): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#cancelTimer();
    this.#request.signal.removeEventListener('abort', this.#onAbort);
    this.#session.closed.removeEventListener('abort', this.#onClosed);
    if (this.#stream !== undefined) cancelSoon(this.#stream);
    this.#finish(end);
  }
}

/**
 * Not at once: what ends a watch may be a reset of another stream, out of whose reading we are called. To close a
 * stream there that has something left to send makes Node's HTTP/2 (20.20) send empty frames for ever, and nothing else
 * runs any more (nodejs/node#52952 has the same loop).
 */
function cancelSoon(stream: WatchDuplex): void {
  setImmediate(() => stream.cancel());
}
