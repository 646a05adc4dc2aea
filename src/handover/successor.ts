// The side of the daemon that runs, for one that takes over from it. The other side and the protocol: predecessor.ts.

import { createInterface } from 'node:readline';
import type { Socket } from 'node:net';
import type { Logger } from '../core/log.js';
import { native } from '../native/native.js';
import { namedDescriptors } from './descriptors.js';
import type { LeftDataPath } from './handover.js';

export const HANDOVER_PATH = '/handover';
export const HANDOVER_PROTOCOL = 'twill-handover/1';

/** A daemon that asks to take over, after its request was read. */
export class Successor {
  readonly #socket: Socket;
  readonly #fd: number;

  private constructor(socket: Socket, fd: number) {
    this.#socket = socket;
    this.#fd = fd;
  }

  /**
   * The one at the other end of an upgraded connection. Somebody else's is answered, told to the log and closed: it may
   * be root, or whoever this daemon runs as.
   */
  static of(socket: Socket, protocol: string | undefined, log: Logger): Successor | undefined {
    socket.on('error', () => undefined);
    const { fd = -1 } = (socket as unknown as { readonly _handle?: { readonly fd?: number } })._handle ?? {};
    const user = fd < 0 ? -1 : native.peerUser(fd);
    const isAllowed = user === 0 || user === process.getuid?.();
    if (!isAllowed) log.warn(`user ${user} asked for the descriptors of the data path, and was refused`);
    if (isAllowed && protocol === HANDOVER_PROTOCOL) return new Successor(socket, fd);
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
    // A space in front of JSON changes nothing, and each descriptor needs a byte to go with.
    for (const [, fd] of named) messages.push([' ', [fd]]);
    messages.push([`${names}\n`, []]);
    for (const [text, fds] of messages) if (native.sendMessage(this.#fd, text, fds) < 0) return false;
    return await this.#untilTaken(path, signal);
  }

  async #untilTaken(path: LeftDataPath, signal: AbortSignal): Promise<boolean> {
    const lines = createInterface({ input: this.#socket });
    try {
      return await new Promise<boolean>((resolve) => {
        const isGone = (): void => resolve(false);
        lines.once('close', isGone);
        this.#socket.once('close', isGone);
        signal.addEventListener('abort', isGone, { once: true });
        if (this.#socket.destroyed || signal.aborted) isGone();
        const stop = async (): Promise<void> => {
          this.#socket.write(`${JSON.stringify((await path.stop()) ?? null)}\n`);
        };
        lines.on('line', (line) => {
          if (line === '"stop"') void stop();
          else if (line === '"taken"') resolve(true);
        });
      });
    } finally {
      lines.close();
      this.#socket.destroy();
    }
  }
}

function refuse(socket: Socket, why: string): void {
  socket.end(`HTTP/1.1 409 Conflict\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n${why}\n`);
}
