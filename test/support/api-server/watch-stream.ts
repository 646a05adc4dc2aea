// One watch that is open: frames in order, bookmarks, its end.
//
// A client that does not read makes frames wait; when too many do, nothing more is taken, and the stream ends cleanly
// after those that wait, as the watch cache ends a watcher whose channel is full.

import type { Clock } from '../../../src/core/waiting.js';
import type { Answer, Ending } from './answer.js';
import type { ApiObject } from './api-object.js';
import type { Form } from './negotiation.js';
import { EMPTY_NODE_STATUS } from './object-rules.js';
import type { Change, ObjectStore } from './object-store.js';
import { NODES, type Resource } from './resources.js';
import type { Selection } from './selectors.js';
import { StoredObject } from './stored-object.js';

export interface WatchTimes {
  /** @default 60000 */
  readonly bookmarkMs: number;
  /** How long before the end by timeoutSeconds the last bookmark comes. @default 2000 */
  readonly bookmarkBeforeEndMs: number;
  /** Frames that wait for a client which does not read. @default 1000 */
  readonly slowReaderEvents: number;
}

export interface WatchRequest {
  readonly resource: Resource;
  readonly selection: Selection;
  readonly form: Form;
  /** Only changes after it are sent; it may lie in the future. */
  readonly after: number;
  readonly hasBookmarks: boolean;
  readonly timeoutMs: number;
}

type EventType = Change['type'] | 'BOOKMARK' | 'ERROR';

export class WatchStream {
  readonly request: WatchRequest;
  readonly #answer: Answer;
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #times: WatchTimes;
  readonly #endsAtMs: number;
  #queue: Buffer[] = [];
  #state: 'idle' | 'flushing' | 'waiting' = 'idle';
  #isEnding = false;
  /** Of the last initial event, or where it began: a bookmark goes beyond it, or is none. */
  #begunAt: number;
  /** How the next frame breaks off, in its middle. */
  #truncation: Ending | undefined;
  #cancelBookmark = (): void => undefined;
  #cancelEnd = (): void => undefined;

  constructor(request: WatchRequest, answer: Answer, store: ObjectStore, clock: Clock, times: WatchTimes) {
    this.request = request;
    this.#answer = answer;
    this.#store = store;
    this.#clock = clock;
    this.#times = times;
    this.#begunAt = request.after;
    this.#endsAtMs = clock.nowMs() + request.timeoutMs;
    answer.onDrain(() => {
      this.#state = 'idle';
      this.#schedule();
    });
    void answer.closed.then(() => this.#stop());
  }

  /** Sends the head of the answer, and starts its timers. */
  open(): void {
    this.#answer.begin(200);
    this.#cancelEnd = this.#clock.after(this.request.timeoutMs, () => this.end());
    if (this.request.hasBookmarks) this.#planBookmark();
  }

  get isOver(): boolean {
    return this.#isEnding || this.#answer.isOver;
  }

  /** Sends the change as this watch sees it: what starts to match is added, what no longer does is deleted. */
  deliver(change: Change): void {
    const { resource, selection, after } = this.request;
    if (change.version <= after || change.object.resource !== resource) return;
    const { previous, object, version } = change;
    const was = previous !== undefined && selection.includes(previous);
    const is = change.type !== 'DELETED' && selection.includes(object);
    if (is) this.send(was ? 'MODIFIED' : 'ADDED', object);
    else if (was && change.type === 'DELETED') this.send('DELETED', object);
    else if (was) this.send('DELETED', StoredObject.encode(resource, previous.json(), version));
  }

  send(type: Change['type'], object: StoredObject): void {
    this.#push(type, object.parts(this.request.form === 'metadata' ? 'metadata' : 'full'));
  }

  /** The initial events, those that there were when it began, end at `version`. */
  begin(version: number): void {
    this.#begunAt = version;
  }

  /**
   * A bookmark says how far the watch has come: none is sent to one that looks into the future, nor while nothing was
   * written since it began. On a real 1.20.2 no bookmark comes in 130 s in which no node changes.
   */
  bookmark(annotations?: Readonly<Record<string, string>>): void {
    const { resource, form } = this.request;
    if (annotations === undefined && this.#store.version <= this.#begunAt) return;
    const metadata = {
      resourceVersion: `${this.#store.version}`,
      creationTimestamp: null,
      ...(annotations === undefined ? {} : { annotations }),
    };
    const object =
      form === 'metadata'
        ? { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata }
        : { kind: resource.kind, apiVersion: 'v1', metadata, ...emptyParts(resource) };
    this.#push('BOOKMARK', [Buffer.from(JSON.stringify(object))]);
  }

  /** One ERROR event, and the end. */
  fail(status: ApiObject): void {
    this.#push('ERROR', [Buffer.from(JSON.stringify(status))]);
    this.end();
  }

  /** Cleanly, after what waits. */
  end(): void {
    this.#isEnding = true;
    this.#cancelBookmark();
    this.#cancelEnd();
    this.#schedule();
  }

  break(ending: Ending): void {
    if (ending === 'end') return this.end();
    this.#answer.break(ending);
  }

  /** The next frame is sent by half, and the stream ends so. */
  truncateNext(ending: Ending): void {
    this.#truncation = ending;
  }

  #push(type: EventType, parts: readonly Buffer[]): void {
    if (this.isOver) return;
    const frame = Buffer.concat([Buffer.from(`{"type":"${type}","object":`), ...parts, FRAME_END]);
    if (this.#truncation !== undefined) {
      const half = frame.length >> 1;
      this.#answer.truncate(
        half + this.#queue.reduce((bytes, { length }) => bytes + length, 0),
        this.#truncation,
      );
    }
    this.#queue.push(frame);
    if (this.#queue.length > this.#times.slowReaderEvents) this.end();
    else this.#schedule();
  }

  /** What comes in one turn of the event loop is written at once. */
  #schedule(): void {
    if (this.#state !== 'idle') return;
    this.#state = 'flushing';
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#state = 'idle';
    const frames = this.#queue;
    this.#queue = [];
    if (frames.length > 0 && !this.#answer.write(Buffer.concat(frames))) this.#state = 'waiting';
    if (this.#isEnding) this.#answer.end();
  }

  #planBookmark(): void {
    const untilLastMs = this.#endsAtMs - this.#clock.nowMs() - this.#times.bookmarkBeforeEndMs;
    if (untilLastMs <= 0) return;
    this.#cancelBookmark = this.#clock.after(Math.min(this.#times.bookmarkMs, untilLastMs), () => {
      this.bookmark();
      this.#planBookmark();
    });
  }

  #stop(): void {
    this.#isEnding = true;
    this.#cancelBookmark();
    this.#cancelEnd();
  }
}

const FRAME_END = Buffer.from('}\n');

function emptyParts(resource: Resource): ApiObject {
  if (resource === NODES) return { spec: {}, status: EMPTY_NODE_STATUS };
  return resource.hasStatus ? { spec: { containers: null }, status: {} } : {};
}
