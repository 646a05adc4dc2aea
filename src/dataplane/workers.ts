// The worker threads of one data path: each is started, waited for, and never left without somebody who knows of it.
//
// A worker that does not end when it is told to keeps the device and the socket. Node joins every thread when it exits,
// so the process is then ended in another way, or it would hang with the thread.

import { Worker } from 'node:worker_threads';
import type { SourceCheck } from '../config/options.js';
import { OverlayError } from '../core/errors.js';
import { withinTime } from '../core/waiting.js';
import { native } from '../native/native.js';
import type { OwnHost } from './inbound.js';
import type { Direction } from './loop.js';
import { type PathMtuEvent, pathMtuOf } from './path-mtu.js';
import type { RouteTable } from './route-table.js';
import type { WorkerMessage, WorkerTask } from './worker.js';

// A worker is ready some 50 ms after it was made; on a machine without a free core it may take a second. Many begin
// together, and each takes its 50 ms of a core.
const READY_MS = 10_000;
const READY_EACH_MS = 200;

// A worker wakes at once and needs a moment for its last batch; terminate() helps where it is JavaScript that does not
// end. Together less than the second in which SIGTERM is to be obeyed.
const STOP_MS = 500;
const TERMINATE_MS = 250;

export const DIRECTIONS: readonly Direction[] = ['outbound', 'inbound'];

export interface WorkersOptions {
  /** Id of the engine they work for. */
  readonly engine: number;
  readonly own: OwnHost;
  readonly sourceCheck: SourceCheck;
  readonly table: RouteTable;
  /** Whether they wait for release() before they touch a packet. */
  readonly isHeld: boolean;
  /** Of the workers before them, as of Native.turns(); open until they have ended. Empty without any. */
  readonly turns: readonly number[];
  readonly onPathMtu: (event: PathMtuEvent) => void;
  /** A worker has met this errno, a negative number, and ends. */
  readonly onErrno: (worker: string, errno: number) => void;
  /** A worker threw, or ended. */
  readonly onEnd: (reason: string) => void;
}

/** Told of a worker that does not end, with the moment when it does. */
export type OnStuck = (worker: string, ended: Promise<void>) => void;

export function workerName(direction: Direction, queue: number): string {
  return `${direction} worker of queue ${queue}`;
}

/** Those that have loaded their code and wait for a task. */
const SPARE: Worker[] = [];

/** Starts workers for a data path that is to open in a hurry some time. */
export function keepSpareWorkers(queues: number): void {
  while (SPARE.length < DIRECTIONS.length * queues) {
    const worker = newWorker();
    worker.unref();
    const forget = (): void => void SPARE.splice(0, Infinity, ...SPARE.filter((other) => other !== worker));
    worker.once('error', forget);
    worker.once('exit', forget);
    SPARE.push(worker);
  }
}

function newWorker(): Worker {
  // The loop allocates nothing, so the smallest heap will do.
  return new Worker(new URL('./worker.js', import.meta.url), {
    resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 },
  });
}

interface Running {
  readonly name: string;
  /** Its thread has ended. */
  readonly ended: Promise<void>;
  /** It touches no packet any more. */
  readonly quiet: Promise<void>;
}

export class Workers {
  readonly #options: WorkersOptions;
  /** Those that run, with the end of each. */
  readonly #running = new Map<Worker, Running>();
  readonly #gate = new Int32Array(new SharedArrayBuffer(4));

  constructor(options: WorkersOptions) {
    this.#options = options;
    if (!options.isHeld) this.release();
  }

  /** Lets them begin. Idempotent. */
  release(): void {
    Atomics.store(this.#gate, 0, 1);
    Atomics.notify(this.#gate, 0);
  }

  get areHeld(): boolean {
    return Atomics.load(this.#gate, 0) === 0;
  }

  /**
   * Starts a worker for each direction of each queue. Resolves when all are ready.
   *
   * @throws OverlayError E_TUN when one cannot be started, ended, or is not ready within 10 s, or 0.2 s for each.
   */
  async start(queues: number): Promise<void> {
    const ready: Promise<void>[] = [];
    const readyMs = Math.max(READY_MS, READY_EACH_MS * DIRECTIONS.length * queues);
    for (let queue = 0; queue < queues; queue++) {
      for (const direction of DIRECTIONS) ready.push(this.#spawn(queue, direction, readyMs));
    }
    await Promise.all(ready);
  }

  /**
   * Waits until those that the engine has told to stop touch no packet any more, which is long before their threads
   * have ended. False when one does not within half a second.
   */
  async areQuiet(): Promise<boolean> {
    this.release();
    const all = Promise.all(Array.from(this.#running.values(), ({ quiet }) => quiet));
    return (await withinTime(all, STOP_MS)) !== undefined;
  }

  /** Waits for those that the engine has told to stop; within a second it gives up and tells `onStuck` of the rest. */
  async stop(onStuck: OnStuck | undefined): Promise<void> {
    this.release();
    await this.#allEnd(STOP_MS);
    for (const worker of this.#running.keys()) void worker.terminate();
    await this.#allEnd(TERMINATE_MS);
    for (const [worker, { name, ended }] of this.#running) {
      onStuck?.(name, ended);
      worker.unref();
    }
    if (this.#running.size === 0) return;
    // Node joins every thread when it exits.
    const leave = (code: number): void => void native.exitNow(code);
    process.once('exit', leave);
    void Promise.all(this.#ends()).then(() => process.off('exit', leave));
  }

  #ends(): Promise<void>[] {
    return Array.from(this.#running.values(), ({ ended }) => ended);
  }

  /** Waits until all workers have ended, or as long as that. */
  async #allEnd(timeoutMs: number): Promise<void> {
    await withinTime(Promise.all(this.#ends()), timeoutMs);
  }

  async #spawn(queue: number, direction: Direction, readyMs: number): Promise<void> {
    const { table } = this.#options;
    const reader = table.takeReader();
    const name = workerName(direction, queue);
    let worker: Worker;
    try {
      const spare = SPARE.pop();
      spare?.ref();
      worker = spare ?? newWorker();
      worker.postMessage(this.#task(queue, direction, reader));
    } catch (error) {
      // No thread can be had. The number goes back, or retries would use up all of them.
      table.returnReader(reader);
      throw new OverlayError('E_TUN', `The ${name} cannot be started: ${String(error)}`, { cause: error });
    }
    const ended = new Promise<void>((resolve) =>
      worker.once('exit', () => {
        this.#running.delete(worker);
        table.returnReader(reader);
        resolve();
      }),
    );
    const quiet = new Promise<void>((resolve) => {
      worker.on('message', ({ kind }: WorkerMessage) => kind === 'ended' && resolve());
      void ended.then(resolve);
    });
    this.#running.set(worker, { name, ended, quiet });
    await this.#isReady(worker, name, readyMs);
  }

  #task(queue: number, direction: Direction, reader: number): WorkerTask {
    const { engine, table, own, sourceCheck, turns } = this.#options;
    const turn = turns.at(DIRECTIONS.length * queue + DIRECTIONS.indexOf(direction));
    const gate = this.#gate;
    return { engine, queue, direction, table: table.buffer, reader, own, sourceCheck, gate, turn };
  }

  /** Resolves when the worker says that it is ready; listens to it from then on. */
  async #isReady(worker: Worker, name: string, readyMs: number): Promise<void> {
    const { onPathMtu, onErrno, onEnd } = this.#options;
    let late: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      late = setTimeout(
        () => reject(new OverlayError('E_TUN', `The ${name} was not ready within ${readyMs} ms`)),
        readyMs,
      );
      worker.on('message', (message: WorkerMessage) => {
        if (message.kind === 'ready') resolve();
        else if (message.kind === 'path-mtu') onPathMtu(pathMtuOf(message.event));
        else onErrno(name, message.error);
      });
      worker.on('error', (error) => {
        reject(new OverlayError('E_TUN', `The ${name} failed: ${String(error)}`, { cause: error }));
        onEnd(`${name}: ${String(error)}`);
      });
      worker.once('exit', () => {
        reject(new OverlayError('E_TUN', `The ${name} ended before it was ready`));
        onEnd(`${name} ended`);
      });
    }).finally(() => clearTimeout(late));
  }
}
