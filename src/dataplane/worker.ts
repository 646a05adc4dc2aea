// A worker thread: one direction of one queue. It blocks in the addon and returns here once per batch, so it
// never reaches its event loop until it ends; messages to the main thread are posted from inside the loop.

import { parentPort } from 'node:worker_threads';
import type { SourceCheck } from '../config/options.js';
import type { PathMtuEvent } from '../native/arena.js';
import type { OwnHost } from './inbound.js';
import { type Direction, runLoop } from './loop.js';
import { native } from '../native/native.js';
import { RouteReader } from './route-table.js';

/** What the main thread gives a worker. */
export interface WorkerTask {
  readonly engine: number;
  readonly queue: number;
  readonly direction: Direction;
  readonly table: SharedArrayBuffer;
  /** Its own number as a reader of the table. */
  readonly reader: number;
  readonly own: OwnHost;
  readonly sourceCheck: SourceCheck;
  /** It begins when the first word is no longer 0: until then an earlier data path may read what it would. */
  readonly gate: Int32Array;
  /** Of the worker before it, as of Native.turns(): it begins when that one has ended, too. */
  readonly turn: number | undefined;
}

/** What a worker tells the main thread. `ended` is the last: `error` is the -errno that ended the loop. */
export type WorkerMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'path-mtu'; readonly event: PathMtuEvent }
  | { readonly kind: 'ended'; readonly error: number };

/** A worker that takes longer hangs, and so does not read either. */
const TURN_MS = 1_000;

function run(task: WorkerTask, post: (message: WorkerMessage) => void): number {
  const context = {
    table: new RouteReader(task.table, task.reader),
    own: task.own,
    sourceCheck: task.sourceCheck,
    report: (event: PathMtuEvent) => post({ kind: 'path-mtu', event }),
  };
  native.nameThread(`${task.direction}-${task.queue}`);
  return runLoop(native, task.engine, task.queue, task.direction, context, () => {
    post({ kind: 'ready' });
    Atomics.wait(task.gate, 0, 0);
    if (task.turn !== undefined) native.awaitTurn(task.turn, TURN_MS);
  });
}

if (parentPort !== null) {
  const main = parentPort;
  const post = (message: WorkerMessage): void => main.postMessage(message);
  // One task a worker: without a listener it ends.
  main.once('message', (task: WorkerTask) => post({ kind: 'ended', error: run(task, post) }));
}
