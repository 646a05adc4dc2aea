// Tells when something in the kernel's links, addresses, routes or neighbours has changed. It runs `ip monitor`.
//
// It does not tell what has changed: the listener compares the kernel with what it wants and repairs the difference, so
// a missed or merged event costs nothing. Events are gathered for DEBOUNCE_MS, and the pause after a call grows with
// what the call took, so that a busy host spends no more than a tenth of its time on this. Every ARP transition on a
// host with many pods is a neighbour event, hence neighbours count only on devices named like ours.
//
// The child must not outlive us, not even a SIGKILL. Where util-linux's setpriv exists, it runs under
// `setpriv --pdeathsig KILL` (PR_SET_PDEATHSIG, kept over execve, see prctl(2)); the signal follows the thread that
// forked, and Node forks on the thread that calls spawn: open monitors on the main thread only. Elsewhere (BusyBox)
// the child's stdout is the bound: our end of the pipe is gone with us, so its next event ends it with SIGPIPE.

import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { runCommand, startTool } from './command.js';
import type { Logger } from '../core/log.js';

export interface MonitorOptions {
  readonly log: Logger;
  /** Neighbour events on devices with this prefix count; others are dropped. @default 'flannel' */
  readonly devicePrefix?: string;
  /** What to run instead of `ip monitor`. */
  readonly command?: readonly string[];
  /** Whether a line of it counts. @default all but the neighbours of others */
  readonly isRelevant?: (line: string) => boolean;
  /** @default 50 */
  readonly debounceMs?: number;
  /** The longest pause after a call. @default 1000 */
  readonly pauseMaxMs?: number;
}

export interface Monitor {
  /** Whether a child is listening now; false while one is being (re)started. */
  isListening(): boolean;
  /** Ends the child and waits for its end. Idempotent. */
  close(): Promise<void>;
}

/** 50 ms joins the burst that one `ip link delete` or one batch makes, and is far below the 1 s allowed for repair. */
const DEBOUNCE_MS = 50;

/** The pause after a call: nine times as long as it took, but never so long that a repair would take seconds. */
const PAUSE_FACTOR = 9;
const PAUSE_MAX_MS = 1_000;

/** Restart delays: 100 ms doubling to 5 s; a child that lived for 10 s counts as healthy again. */
const RESTART_MIN_MS = 100;
const RESTART_MAX_MS = 5_000;
const HEALTHY_MS = 10_000;

const IP_MONITOR = ['ip', '-oneline', 'monitor', 'label', 'link', 'address', 'route', 'neigh'];

/**
 * Starts to listen. `onChange` is called at most once per `debounceMs` and never again before the promise it returned
 * has settled; also once after each (re)start of the child, because nothing was heard before it. It must neither throw
 * nor reject. Trouble with the child is logged and answered by a restart.
 */
export function openMonitor(onChange: () => void | Promise<void>, options: MonitorOptions): Monitor {
  return new ToolMonitor(onChange, options);
}

class ToolMonitor implements Monitor {
  readonly #calls: PacedCalls;
  readonly #log: Logger;
  readonly #command: readonly string[];
  readonly #isRelevant: (line: string) => boolean;
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #restartTimer: NodeJS.Timeout | undefined;
  #restartMs = RESTART_MIN_MS;
  #isClosed = false;

  constructor(onChange: () => void | Promise<void>, options: MonitorOptions) {
    const { debounceMs = DEBOUNCE_MS, pauseMaxMs = PAUSE_MAX_MS } = options;
    this.#calls = new PacedCalls(onChange, debounceMs, pauseMaxMs);
    this.#log = options.log;
    this.#command = options.command ?? IP_MONITOR;
    const sign = ` dev ${options.devicePrefix ?? 'flannel'}`;
    this.#isRelevant = options.isRelevant ?? ((line) => !line.startsWith('[NEIGH]') || line.includes(sign));
    this.#ended = this.#start();
  }

  isListening(): boolean {
    return this.#child !== undefined;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#calls.close();
    clearTimeout(this.#restartTimer);
    this.#child?.kill('SIGKILL');
    await this.#ended;
  }

  async #start(): Promise<void> {
    const words = (await hasParentDeathSignal())
      ? ['setpriv', '--pdeathsig', 'KILL', ...this.#command]
      : this.#command;
    if (this.#isClosed) return;
    const startedAt = performance.now();
    const reason = await startTool(words[0], words.slice(1), ['ignore', 'pipe', 'pipe']).then(
      (child) => this.#listen(child),
      (error: Error) => error.message,
    );
    this.#child = undefined;
    if (this.#isClosed) return;
    if (performance.now() - startedAt > HEALTHY_MS) this.#restartMs = RESTART_MIN_MS;
    const fields = { tool: this.#command[0], reason, restartMs: this.#restartMs };
    this.#log.warn(fields, 'kernel monitor ended, restarting');
    this.#restartTimer = setTimeout(() => {
      this.#ended = this.#start();
    }, this.#restartMs);
    this.#restartMs = Math.min(this.#restartMs * 2, RESTART_MAX_MS);
  }

  /** Resolves with why the child ended. */
  #listen(child: ChildProcess): Promise<string> {
    this.#child = child;
    if (this.#isClosed) child.kill('SIGKILL');
    createInterface({ input: child.stdout! }).on('line', (line) => this.#onLine(line));
    // ENOBUFS is reported here and means that events were lost: look at everything.
    let lastMessage = '';
    createInterface({ input: child.stderr! }).on('line', (line) => {
      lastMessage = line;
      this.#calls.soon();
    });
    this.#calls.soon();
    return new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (status, killedBy) =>
        resolve(`${killedBy ?? `exit status ${status}`} ${lastMessage}`.trim()),
      );
    });
  }

  #onLine(line: string): void {
    if (this.#isRelevant(line)) this.#calls.soon();
  }
}

/** Joins events to one call, never two at once, with a pause after each that grows with what the call took. */
class PacedCalls {
  readonly #call: () => void | Promise<void>;
  readonly #debounceMs: number;
  readonly #pauseMaxMs: number;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #isPending = false;
  #isCalling = false;
  /** No call before this time, of performance.now(). */
  #pausedUntil = 0;

  constructor(call: () => void | Promise<void>, debounceMs: number, pauseMaxMs: number) {
    this.#call = call;
    this.#debounceMs = debounceMs;
    this.#pauseMaxMs = pauseMaxMs;
  }

  soon(): void {
    this.#isPending = true;
    if (!this.#isCalling) this.#arm(Math.max(this.#debounceMs, this.#pausedUntil - performance.now()));
  }

  /** No call begins any more. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #arm(delayMs: number): void {
    if (this.#isClosed || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.#run(), delayMs);
  }

  async #run(): Promise<void> {
    this.#isPending = false;
    this.#isCalling = true;
    const startedAt = performance.now();
    await this.#call();
    const pauseMs = Math.min((performance.now() - startedAt) * PAUSE_FACTOR, this.#pauseMaxMs);
    this.#timer = undefined;
    this.#isCalling = false;
    this.#pausedUntil = performance.now() + pauseMs;
    if (this.#isPending) this.#arm(Math.max(this.#debounceMs, pauseMs));
  }
}

let parentDeathSignal: Promise<boolean> | undefined;

/** Whether this host's setpriv knows --pdeathsig; asked once. */
function hasParentDeathSignal(): Promise<boolean> {
  parentDeathSignal ??= runCommand('setpriv', ['--pdeathsig', 'KILL', 'ip', '-V']).then(
    (result) => result.status === 0,
    () => false, // no setpriv here: the pipe is the bound, see above
  );
  return parentDeathSignal;
}
