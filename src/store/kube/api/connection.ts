// One connection, or with HTTP/1.1 a few, to the API server: what both kinds have in common.
//
// The head of an answer comes first, then its body is read or the answer discarded; one of the two must be done, and
// within the same turn of the event loop.

import type { Readable } from 'node:stream';
import { WayFault } from './faults.js';
import { toWayFault } from './way-errors.js';

export interface Ask {
  readonly method: 'GET' | 'PATCH' | 'POST';
  /** With the query. */
  readonly path: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | undefined;
}

export interface Answer {
  readonly status: number;
  /** A header by its name in lower case; of several of one name the first. */
  header(name: string): string | undefined;
  /**
   * Calls `onChunk` for each piece of the body until its end. Rejects with WayFault when the body does not come to a
   * clean end, or when `idleMs` pass without a byte; with what `onChunk` throws; with the signal's reason.
   */
  read(onChunk: (chunk: Buffer) => void, idleMs: number | undefined, signal: AbortSignal): Promise<void>;
  discard(): void;
}

export interface Connection {
  /** Whether the next request should go this way. */
  readonly isUsable: boolean;
  /** Whether nothing of it is left. */
  readonly isOver: boolean;
  /** Resolves with the head of the answer. Rejects with WayFault, or with the signal's reason. */
  request(ask: Ask, signal: AbortSignal): Promise<Answer>;
  /** Takes no more requests, and closes with the end of the last. */
  retire(): void;
  /** Everything on it fails with `fault`. Idempotent. */
  destroy(fault: WayFault): void;
}

/** How the body of an answer is read, which is a stream that may have failed for a reason of the connection's. */
export interface Body {
  readonly stream: Readable;
  /** After 'close': whether the other side has ended it as the protocol has it. */
  readonly isWhole: () => boolean;
  /** Why the connection was given up, if it was. */
  readonly fault: () => WayFault | undefined;
  readonly cancel: () => void;
}

/** Answer.read() for both kinds. */
export function readBody(
  { stream, isWhole, fault, cancel }: Body,
  onChunk: (chunk: Buffer) => void,
  idleMs: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    let timer: NodeJS.Timeout | undefined;
    const finish = (settle: () => void): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      settle();
    };
    const fail = (error: Error): void => {
      finish(() => reject(error));
      cancel();
    };
    const onAbort = (): void => fail(signal.reason as Error);
    const cutOff = (): WayFault => fault() ?? new WayFault('broken', 'the answer was cut off');
    if (signal.aborted) return onAbort();
    if (stream.destroyed) return fail(cutOff());
    signal.addEventListener('abort', onAbort, { once: true });
    if (idleMs !== undefined)
      timer = setTimeout(() => fail(new WayFault('timeout', `no byte within ${idleMs} ms`)), idleMs);
    stream.on('data', (chunk: Buffer) => {
      if (isOver) return;
      timer?.refresh();
      try {
        onChunk(chunk);
      } catch (error) {
        fail(error as Error);
      }
    });
    let hasEnd = false;
    stream.once('end', () => (hasEnd = true));
    stream.once('error', (error) => fail(fault() ?? toWayFault(error, 'use')));
    stream.once('close', () => {
      const isGood = hasEnd && isWhole() && fault() === undefined;
      finish(() => (isGood ? resolve() : reject(cutOff())));
    });
  });
}
