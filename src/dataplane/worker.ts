// A worker thread: one direction of one queue. It blocks in the addon and returns here once per batch, so it
// never reaches its event loop until it ends; messages to the main thread are posted from inside the loop.

import { parentPort, workerData } from 'node:worker_threads';
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
}

/** What a worker tells the main thread. `ended` is the last: `error` is the -errno that ended the loop. */
export type WorkerMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'path-mtu'; readonly event: PathMtuEvent }
  | { readonly kind: 'ended'; readonly error: number };

function run(task: WorkerTask, post: (message: WorkerMessage) => void): number {
  const context = {
    table: new RouteReader(task.table, task.reader),
    own: task.own,
    sourceCheck: task.sourceCheck,
    report: (event: PathMtuEvent) => post({ kind: 'path-mtu', event }),
  };
  native.nameThread(`${task.direction}-${task.queue}`);
  post({ kind: 'ready' });
  return runLoop(native, task.engine, task.queue, task.direction, context);
}

if (parentPort !== null) {
  const main = parentPort;
  const post = (message: WorkerMessage): void => main.postMessage(message);
  post({ kind: 'ended', error: run(workerData as WorkerTask, post) });
}
