// All watches that are open, and how one begins: from a version on, or with what there is.

import type { Clock } from '../../../src/core/waiting.js';
import type { Answer, Ending } from './answer.js';
import { invalidOption, tooOldStatus } from './failures.js';
import { negotiate } from './negotiation.js';
import type { Change, ObjectStore } from './object-store.js';
import { parseVersion } from './reads.js';
import type { RequestInfo } from './request-info.js';
import type { Resource } from './resources.js';
import { parseSelection } from './selectors.js';
import { type WatchRequest, WatchStream, type WatchTimes } from './watch-stream.js';

/** Of a watch without timeoutSeconds: between one and two times --min-request-timeout. */
const DEFAULT_TIMEOUT_MS = 2_700_000;

const INITIAL_EVENTS_END = { 'k8s.io/initial-events-end': 'true' };

export class Watches {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #times: WatchTimes;
  readonly #open = new Set<WatchStream>();
  /** Whether sendInitialEvents works (the feature gate WatchList). */
  hasWatchList: boolean;
  /** Changes that no open watch is told of. */
  #toDrop = 0;

  constructor(store: ObjectStore, clock: Clock, times: WatchTimes, hasWatchList: boolean) {
    this.#store = store;
    this.#clock = clock;
    this.#times = times;
    this.hasWatchList = hasWatchList;
    store.onChange((change) => this.#deliver(change));
  }

  /** How many are open. */
  get count(): number {
    return [...this.#open].filter((watch) => !watch.isOver).length;
  }

  /** Throws ApiFailure (400, 406, 422, 500); a version that is too old is an event. */
  start(resource: Resource, info: RequestInfo, accept: string | undefined, answer: Answer): void {
    const { query } = info;
    const version = parseVersion(query.get('resourceVersion'));
    const isWatchList = isTrue(query.get('sendInitialEvents'));
    if (query.has('sendInitialEvents') && !this.hasWatchList) {
      const why = 'sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled';
      throw invalidOption('sendInitialEvents', why);
    }
    const isFromNow = version === undefined || version === 0 || isWatchList;
    const seconds = Number(query.get('timeoutSeconds') ?? 0);
    const request: WatchRequest = {
      resource,
      form: negotiate(accept, resource, false),
      selection: parseSelection(resource, info.namespace, query),
      after: isFromNow ? this.#store.version : version,
      hasBookmarks: isTrue(query.get('allowWatchBookmarks')),
      timeoutMs: seconds > 0 ? seconds * 1000 : DEFAULT_TIMEOUT_MS,
    };
    const watch = new WatchStream(request, answer, this.#store, this.#clock, this.#times);
    watch.open();
    if (!isFromNow && version < this.#store.watchFloor)
      return watch.fail(tooOldStatus(version, this.#store.watchFloor));
    if (isFromNow) {
      for (const object of this.#store.list(resource))
        if (request.selection.includes(object)) watch.send('ADDED', object);
    } else {
      const missed = this.#store.changesAfter(version).filter(({ object }) => object.resource === resource);
      for (const change of missed) watch.deliver(change);
      if (missed.length > 0) watch.begin(missed[missed.length - 1].version);
    }
    if (isWatchList) watch.bookmark(INITIAL_EVENTS_END);
    this.#open.add(watch);
    void answer.closed.then(() => this.#open.delete(watch));
  }

  /** The next `count` changes reach no watch that is open; they are in the history, and in lists. */
  dropEvents(count: number): void {
    this.#toDrop += count;
  }

  /** Those of a resource, or all. */
  end(ending: Ending, resource?: Resource): void {
    for (const watch of this.#those(resource)) watch.break(ending);
  }

  truncateNext(ending: Ending, resource?: Resource): void {
    for (const watch of this.#those(resource)) watch.truncateNext(ending);
  }

  /** To each watch that asked for bookmarks, now. */
  bookmark(): void {
    for (const watch of this.#open) if (watch.request.hasBookmarks) watch.bookmark();
  }

  #those(resource: Resource | undefined): WatchStream[] {
    return [...this.#open].filter(({ request }) => resource === undefined || request.resource === resource);
  }

  #deliver(change: Change): void {
    if (this.#toDrop > 0) return void this.#toDrop--;
    for (const watch of this.#open) watch.deliver(change);
  }
}

function isTrue(text: string | null): boolean {
  return text === 'true' || text === '1';
}
