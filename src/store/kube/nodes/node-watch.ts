// One watch of the nodes, from the request to whatever ends it. NodeMirror makes the next one.
//
// Silence is not health. A server that has nothing to tell sends a bookmark about once a minute, so a watch without
// event or bookmark for `silenceMs` is given up although its connection lives: a proxy may have lost the server, and a
// watch from a version that the store has not reached (a restored etcd) says nothing at all.

import { type Clock, orAbort } from '../../../core/waiting.js';
import type { KubeClient, WatchEvent } from '../api/client.js';
import { KubeFault } from '../api/faults.js';
import type { NodeReading } from './kube-node.js';
import { NODES_PATH } from './node-list.js';

export interface NodeWatchRequest {
  readonly client: KubeClient;
  readonly reading: NodeReading;
  /** Events after this version are told. */
  readonly version: string;
  /** How long the server is to keep the watch. */
  readonly timeoutSeconds: number;
  /** How long the server may take to accept it. */
  readonly openMs: number;
  /** How long it may say nothing then. */
  readonly silenceMs: number;
  readonly clock: Clock;
  /** Ends the watch; nothing is told after it. */
  readonly signal: AbortSignal;
  onOpen(): void;
  onEvent(event: WatchEvent): void;
}

/**
 * Resolves when the watch has ended: "ended" by the server as it may at any time, "silent", or "stopped" by the signal.
 * Rejects with KubeFault.
 */
export async function followWatch(request: NodeWatchRequest): Promise<'ended' | 'silent' | 'stopped'> {
  const { client, reading, version, timeoutSeconds, signal } = request;
  if (signal.aborted) return 'stopped';
  const ending = new AbortController();
  const onAbort = (): void => ending.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const life = new LifeTimer(request, () => ending.abort(new KubeFault(0, 'timeout', 'the watch is silent')));
  const query = {
    allowWatchBookmarks: 'true',
    resourceVersion: version,
    timeoutSeconds: String(timeoutSeconds),
  };
  const listener = {
    onOpen: (): void => {
      life.opened();
      if (!ending.signal.aborted) request.onOpen();
    },
    onEvent: (event: WatchEvent): void => {
      life.heard();
      if (!ending.signal.aborted) request.onEvent(event);
    },
  };
  try {
    const { statusOf } = reading;
    await orAbort(client.watch(NODES_PATH, query, listener, ending.signal, { statusOf }), ending.signal);
    return 'ended';
  } catch (error) {
    if (signal.aborted) return 'stopped';
    if (ending.signal.aborted) return 'silent';
    throw error;
  } finally {
    life.stop();
    signal.removeEventListener('abort', onAbort);
  }
}

/** Calls `onSilence` once, when nothing was heard for too long. */
class LifeTimer {
  readonly #clock: Clock;
  readonly #silenceMs: number;
  readonly #onSilence: () => void;
  #patienceMs: number;
  #heardAtMs: number;
  #cancel: () => void = () => undefined;

  constructor({ clock, openMs, silenceMs }: NodeWatchRequest, onSilence: () => void) {
    this.#clock = clock;
    this.#silenceMs = silenceMs;
    this.#onSilence = onSilence;
    this.#patienceMs = openMs;
    this.#heardAtMs = clock.nowMs();
    this.#arm(openMs);
  }

  opened(): void {
    this.#patienceMs = this.#silenceMs;
    this.heard();
    this.#cancel();
    this.#arm(this.#silenceMs);
  }

  heard(): void {
    this.#heardAtMs = this.#clock.nowMs();
  }

  stop(): void {
    this.#cancel();
  }

  #arm(delayMs: number): void {
    const dueMs = this.#clock.nowMs() + delayMs;
    this.#cancel = this.#clock.after(delayMs, () => this.#look(dueMs));
  }

  #look(dueMs: number): void {
    const nowMs = this.#clock.nowMs();
    // We were stopped ourselves (SIGSTOP, a blocked loop): events may lie unread in the socket, so count anew.
    if (nowMs - dueMs > this.#patienceMs / 2) this.heard();
    const leftMs = this.#heardAtMs + this.#patienceMs - nowMs;
    if (leftMs <= 0) this.#onSilence();
    else this.#arm(leftMs);
  }
}
