// What a part of the daemon has opened, in order: closed in the reverse order and in bounded time, whatever hangs.

import type { Logger } from './log.js';

/** What can be closed; it may take time and may fail. */
export interface Closable {
  close(): unknown;
}

interface Opened {
  readonly name: string;
  readonly resource: Closable;
}

/**
 * Resources by name, for the log. Each is closed after those that were added later, since they may use it.
 *
 * ```ts
 * const closing = new ClosingStack(log, 800);
 * const server = closing.add('health server', await openServer());
 * await closing.close();
 * ```
 */
export class ClosingStack {
  readonly #log: Logger;
  readonly #limitMs: number;
  readonly #opened: Opened[] = [];
  #closed: Promise<void> | undefined;

  /** `limitMs` is for all resources together; those that have not ended by then are told to close and not awaited. */
  constructor(log: Logger, limitMs: number) {
    this.#log = log;
    this.#limitMs = limitMs;
  }

  /** Takes over the resource, and gives it back for use. One that comes after close() is closed at once. */
  add<T extends Closable>(name: string, resource: T): T {
    if (this.#closed === undefined) this.#opened.push({ name, resource });
    else void this.#close({ name, resource });
    return resource;
  }

  /** Closes all, the last one first. What fails or takes too long is logged; never rejects. Idempotent. */
  close(): Promise<void> {
    return (this.#closed ??= this.#closeAll());
  }

  async #closeAll(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const isOver = new Promise<'over'>((resolve) => {
      timer = setTimeout(() => resolve('over'), this.#limitMs);
    });
    for (const opened of this.#opened.reverse()) {
      if ((await Promise.race([this.#close(opened), isOver])) === 'over')
        this.#log.error(`closing the ${opened.name} takes longer than the end may: going on without`);
    }
    clearTimeout(timer);
  }

  async #close({ name, resource }: Opened): Promise<void> {
    try {
      await resource.close();
    } catch (error) {
      this.#log.error({ err: error }, `closing the ${name} failed`);
    }
  }
}
