// The connections to one API server: made when a request needs one, and given up when something speaks against it.
//
//   none ─ send() ─► connecting ─► in use ─ GOAWAY, another client certificate ─► retired: what runs on it goes on
//                        ▲            │
//                        └─ send() ◄──┴─ dead, closed, renew(): what runs on it fails
//
// Requests that come while a connection is being made share it. A failed attempt is told to all of them and forgotten:
// the pauses between attempts are the callers'.

import { orAbort } from '../../../core/waiting.js';
import type { Answer, Ask, Connection } from './connection.js';
import { type ClientCertificate, dial, type Dialled, type Protocol, type Trust } from './dial.js';
import { WayFault } from './faults.js';
import { Http1Connections } from './http1-connections.js';
import { Http2Connection } from './http2-connection.js';
import type { ServerAddress } from './server-address.js';
import type { Timing } from './timing.js';
import type { WebProxy } from './web-proxy.js';

/** How an API server is reached. */
export interface Way {
  readonly server: ServerAddress;
  readonly proxy: WebProxy | undefined;
  /** Whether HTTP/2 may be spoken over TLS. */
  readonly mayUseHttp2: boolean;
  /** What to trust, read anew for each connection. The same object as before when nothing changed. */
  readonly readTrust: () => Promise<Trust>;
}

interface Open {
  readonly connection: Connection;
  readonly certificate: ClientCertificate | undefined;
}

interface Connecting {
  readonly opened: Promise<Open>;
  readonly abort: AbortController;
}

export class Transport {
  readonly #way: Way;
  readonly #timing: Timing;
  readonly #closing = new AbortController();
  #open: Open | undefined;
  /** Retired ones may still carry requests. */
  readonly #all = new Set<Connection>();
  #connecting: Connecting | undefined;

  constructor(way: Way, timing: Timing) {
    this.#way = way;
    this.#timing = timing;
  }

  /**
   * Sends `ask` as whoever `certificate` stands for, and resolves with the head of the answer. A request that the
   * server has not carried out because it closed the connection is sent once more, on a new one. Rejects with WayFault,
   * or with the signal's reason.
   */
  async send(ask: Ask, certificate: ClientCertificate | undefined, signal: AbortSignal): Promise<Answer> {
    const { connection } = await this.#usable(certificate, signal);
    try {
      return await connection.request(ask, signal);
    } catch (error) {
      if (signal.aborted || !(error instanceof WayFault && error.mayResend)) throw error;
      connection.retire();
      const { connection: next } = await this.#usable(certificate, signal);
      return next.request(ask, signal);
    }
  }

  /** Requests under way fail with "broken"; the next one makes a new connection. */
  renew(): void {
    this.#drop(new WayFault('broken', 'the connection was given up for a new one'));
  }

  /** The next request makes a new connection; those under way end on theirs. */
  retire(): void {
    this.#open?.connection.retire();
    this.#open = undefined;
  }

  /** Everything fails with "closed". Idempotent. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    const fault = new WayFault('closed', 'the client was closed');
    this.#closing.abort(fault);
    this.#drop(fault);
  }

  #drop(fault: WayFault): void {
    this.#open = undefined;
    this.#connecting?.abort.abort(fault);
    this.#connecting = undefined;
    for (const connection of this.#all) connection.destroy(fault);
    this.#all.clear();
  }

  async #usable(certificate: ClientCertificate | undefined, signal: AbortSignal): Promise<Open> {
    for (;;) {
      this.#closing.signal.throwIfAborted();
      const open = this.#open;
      if (open?.connection.isUsable && open.certificate === certificate) return open;
      this.retire();
      this.#connecting ??= this.#begin(certificate);
      const opened = await orAbort(this.#connecting.opened, signal);
      // One that was begun for somebody with another certificate is not ours to use.
      if (opened.certificate === certificate) return opened;
    }
  }

  #begin(certificate: ClientCertificate | undefined): Connecting {
    const abort = new AbortController();
    const opened = this.#connect(certificate, abort.signal).finally(() => {
      if (this.#connecting === connecting) this.#connecting = undefined;
    });
    const connecting = { abort, opened };
    return connecting;
  }

  async #connect(certificate: ClientCertificate | undefined, signal: AbortSignal): Promise<Open> {
    const { server, mayUseHttp2 } = this.#way;
    const dialled = await this.#dial(certificate, mayUseHttp2 ? ['h2', 'http/1.1'] : ['http/1.1'], signal);
    const connection =
      dialled.protocol === 'h2'
        ? new Http2Connection(server.url, dialled, this.#timing)
        : new Http1Connections(server.target, dialled.socket, async () => {
            const { socket } = await this.#dial(certificate, ['http/1.1'], this.#closing.signal);
            return socket;
          });
    for (const known of this.#all) if (known.isOver) this.#all.delete(known);
    this.#all.add(connection);
    this.#open = { connection, certificate };
    return this.#open;
  }

  async #dial(
    certificate: ClientCertificate | undefined,
    protocols: readonly Protocol[],
    signal: AbortSignal,
  ): Promise<Dialled> {
    const { server, proxy, readTrust } = this.#way;
    const trust = await readTrust();
    const dialled = await dial(
      { server, proxy, trust, certificate, protocols, timing: this.#timing },
      signal,
    );
    if (!signal.aborted) return dialled;
    dialled.socket.destroy();
    throw signal.reason;
  }
}
