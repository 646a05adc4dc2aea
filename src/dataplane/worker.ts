// A worker thread: one direction of one queue. It blocks in the addon and returns here once per batch, so it never
// reaches its event loop until it ends; messages to the main thread are posted from inside the loop.

import { parentPort, workerData } from 'node:worker_threads';
import type { PathMtuEvent } from './arena.js';
import type { SourceCheck } from '../config/options.js';
import { type OwnHost, newInboundArena, runInbound } from './inbound.js';
import { native } from './native.js';
import { newOutboundArena, runOutbound } from './outbound.js';
import { RouteReader } from './route-table.js';

/** What the main thread gives a worker. */
export interface WorkerTask {
  readonly engine: number;
  readonly queue: number;
  readonly direction: 'outbound' | 'inbound';
  readonly table: SharedArrayBuffer;
  readonly own: OwnHost;
  readonly sourceCheck: SourceCheck;
}

/** What a worker tells the main thread. `ended` is the last: `error` is the -errno that ended the loop. */
export type WorkerMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'path-mtu'; readonly event: PathMtuEvent }
  | { readonly kind: 'ended'; readonly error: number };

function run(task: WorkerTask, post: (message: WorkerMessage) => void): number {
  const report = (event: PathMtuEvent): void => post({ kind: 'path-mtu', event });
  const isOutbound = task.direction === 'outbound';
  const table = new RouteReader(task.table, task.queue * 2 + (isOutbound ? 0 : 1));
  const arena = isOutbound ? newOutboundArena() : newInboundArena();
  const Port = isOutbound ? native.OutboundPort : native.InboundPort;
  const port = new Port(task.engine, task.queue, arena.buffer as ArrayBuffer);
  try {
    post({ kind: 'ready' });
    return isOutbound
      ? runOutbound(port, arena, table, task.own, report)
      : runInbound(port, arena, table, task.own, task.sourceCheck, report);
  } finally {
    port.close();
  }
}

if (parentPort !== null) {
  const main = parentPort;
  const post = (message: WorkerMessage): void => main.postMessage(message);
  post({ kind: 'ended', error: run(workerData as WorkerTask, post) });
}
