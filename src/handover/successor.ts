// The side of the daemon that runs, for one that takes over from it. The other side and the protocol: predecessor.ts.

import { closeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { errnoName } from '../core/errno.js';
import type { Logger } from '../core/log.js';
import { nap } from '../core/waiting.js';
import { native } from '../native/native.js';
import { namedDescriptors } from './descriptors.js';
import type { LeftDataPath } from './handover.js';

export const HANDOVER_PATH = '/handover';
export const HANDOVER_PROTOCOL = 'twill-handover/1';
/** What a daemon that takes over is told when this one goes on instead. */
export const LATE = '"late"';

// Descriptors of one message: less than half of what the kernel lets pass (SCM_MAX_FD, net/scm.h).
const MAX_PASSED = 64;
const MAX_TEXT = 4_096;
const FULL_PAUSE_MS = 5;

/** How long a daemon that takes over may take for each step. */
export interface Patience {
  /** Until its table is whole and its workers are ready; and so long more for each queue. */
  readonly readyMs: number;
  readonly queueMs: number;
  /** Until it ends after it was told that it is too late, or has begun after it was told that this one has stopped. */
  readonly endMs: number;
}

// A start takes half a second, and some seconds on a busy machine. All of that time nobody follows the store.
const PATIENCE: Patience = { readyMs: 20_000, queueMs: 400, endMs: 5_000 };

/** A daemon that asks to take over, after its request was read. */
export class Successor {
  readonly #socket: Socket;
  readonly #fd: number;
  readonly #log: Logger;
  readonly #patience: Patience;
  /** A descriptor of the process, -errno where it cannot be seen. */
  readonly #process: number;

  private constructor(socket: Socket, fd: number, log: Logger, patience: Patience) {
    this.#socket = socket;
    this.#fd = fd;
    this.#log = log;
    this.#patience = patience;
    this.#process = native.peerProcess(fd);
    socket.once('close', () => this.#process >= 0 && closeSync(this.#process));
  }

  /**
   * The one at the other end of an upgraded connection. Somebody else's is answered, told to the log and closed: it may
   * be root, or whoever this daemon runs as.
   */
  static of(
    socket: Socket,
    protocol: string | undefined,
    log: Logger,
    patience = PATIENCE,
  ): Successor | undefined {
    socket.on('error', () => undefined);
    const { fd = -1 } = (socket as unknown as { readonly _handle?: { readonly fd?: number } })._handle ?? {};
    const user = fd < 0 ? -1 : native.peerUser(fd);
    const isAllowed = user === 0 || user === process.getuid?.();
    if (!isAllowed) log.warn(`user ${user} asked for the descriptors of the data path, and was refused`);
    if (isAllowed && protocol === HANDOVER_PROTOCOL) return new Successor(socket, fd, log, patience);
    refuse(socket, isAllowed ? `expected Upgrade: ${HANDOVER_PROTOCOL}` : 'not allowed');
    return undefined;
  }

  refuse(why: string): void {
    refuse(this.#socket, why);
  }

  /**
   * Gives it the data path. Resolves with true when it goes on with it, which has ended here then; with false when it
   * went away before, and the data path is as it was, or is stopped.
   */
  async give(path: LeftDataPath, signal: AbortSignal): Promise<boolean> {
    const named = namedDescriptors(path.device, path.descriptors);
    const head = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', `Upgrade: ${HANDOVER_PROTOCOL}`];
    const names = JSON.stringify({ names: named.map(([name]) => name) });
    const messages: (readonly [string, readonly number[]])[] = [[`${head.join('\r\n')}\r\n\r\n`, []]];
    // A space in front of JSON changes nothing, and descriptors need a byte to go with.
    const fds = named.map(([, fd]) => fd);
    for (let at = 0; at < fds.length; at += MAX_PASSED) messages.push([' ', fds.slice(at, at + MAX_PASSED)]);
    const text = `${names}\n`;
    for (let at = 0; at < text.length; at += MAX_TEXT) messages.push([text.slice(at, at + MAX_TEXT), []]);
    try {
      for (const message of messages) if (!(await this.#send(message, signal))) return false;
      return await this.#untilTaken(path, signal);
    } finally {
      this.#socket.destroy();
    }
  }

  /** False when it has gone away, or does not read. */
  async #send([text, fds]: readonly [string, readonly number[]], signal: AbortSignal): Promise<boolean> {
    const untilMs = performance.now() + this.#patience.endMs;
    for (;;) {
      const sent = native.sendMessage(this.#fd, text, fds);
      if (sent === 0) return true;
      const isFull = sent === -constants.errno.EAGAIN;
      if (!isFull || signal.aborted || this.#socket.destroyed || performance.now() > untilMs) {
        this.#log.warn(`the daemon that is to take over cannot be given the data path: ${errnoName(sent)}`);
        return false;
      }
      await nap(FULL_PAUSE_MS, signal);
    }
  }

  async #untilTaken(path: LeftDataPath, signal: AbortSignal): Promise<boolean> {
    const lines = createInterface({ input: this.#socket });
    const { queueMs, endMs } = this.#patience;
    const readyMs = this.#patience.readyMs + queueMs * path.descriptors.tun.length;
    let timer: NodeJS.Timeout | undefined;
    const within = (ms: number, then: () => void): void => {
      clearTimeout(timer);
      timer = setTimeout(then, ms);
    };
    try {
      return await new Promise<boolean>((resolve) => {
        const isGone = (): void => resolve(false);
        lines.once('close', isGone);
        lines.on('error', isGone); // the socket's, when it was killed
        this.#socket.once('close', isGone);
        signal.addEventListener('abort', isGone, { once: true });
        if (this.#socket.destroyed || signal.aborted) isGone();
        const stop = async (): Promise<void> => {
          within(endMs, () => this.#end());
          this.#socket.write(`${JSON.stringify((await path.stop()) ?? null)}\n`);
        };
        let isLate = false;
        within(readyMs, () => {
          isLate = true;
          this.#log.warn(`the daemon that takes over is not ready after ${readyMs} ms: it is told to end`);
          this.#socket.write(`${LATE}\n`);
          within(endMs, () => this.#end());
        });
        lines.on('line', (line) => {
          if (isLate) return;
          if (line === '"stop"') void stop();
          else if (line === '"taken"') resolve(true);
        });
      });
    } finally {
      clearTimeout(timer);
      lines.close();
    }
  }

  /** It hangs, and goes on one day with what it was given: this daemon can do so only once it has ended. */
  #end(): void {
    const result = this.#process < 0 ? this.#process : native.killProcess(this.#process);
    if (result === 0) this.#log.error('the daemon that takes over hangs: it was killed');
    else {
      const why = errnoName(result);
      this.#log.error(`the daemon that takes over hangs, and cannot be killed (${why}): end it by hand`);
    }
  }
}

function refuse(socket: Socket, why: string): void {
  socket.end(`HTTP/1.1 409 Conflict\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n${why}\n`);
}
