// HTTP/1.1: one connection per request at a time, kept for the next. For http:// URLs, and for load balancers and
// proxies before an API server that do not offer HTTP/2.
//
// A dead connection is found by TCP's keepalive (dial.ts), also while a watch is silent.

import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Answer, type Ask, type Connection, readBody } from './connection.js';
import type { WayFault } from './faults.js';
import { toWayFault } from './way-errors.js';

const MAX_IDLE = 2;

/** Makes one more connection; rejects with WayFault. */
export type DialMore = () => Promise<Socket>;

export class Http1Connections implements Connection {
  readonly #pool: Pool;
  readonly #host: string;
  #isRetired = false;
  #fault: WayFault | undefined;

  /** `host` is what requests name; `first` is the connection that showed which protocol is spoken. */
  constructor(host: string, first: Socket, dialMore: DialMore) {
    this.#host = host;
    this.#pool = new Pool(first, dialMore);
  }

  /** Without any connection left the next one may as well be asked for HTTP/2 again. */
  get isUsable(): boolean {
    return !this.#isRetired && this.#pool.isOpen;
  }

  get isOver(): boolean {
    return !this.#pool.isOpen;
  }

  request(ask: Ask, signal: AbortSignal): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const { method, path, headers, body } = ask;
      const length: Record<string, string> = body === undefined ? {} : { 'content-length': `${body.length}` };
      const asked = request({
        agent: this.#pool,
        method,
        path,
        headers: { host: this.#host, ...headers, ...length },
      });
      const onAbort = (): void => {
        reject(signal.reason as Error);
        asked.destroy();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      asked.on('error', (error) => {
        signal.removeEventListener('abort', onAbort);
        reject(this.#faultOf(ask, asked, error));
      });
      asked.once('response', (message) => {
        signal.removeEventListener('abort', onAbort);
        resolve(this.#answerOf(message));
      });
      asked.end(body);
    });
  }

  retire(): void {
    this.#isRetired = true;
    this.#pool.retire();
  }

  destroy(fault: WayFault): void {
    this.#fault ??= fault;
    this.#isRetired = true;
    this.#pool.destroy();
  }

  #answerOf(message: IncomingMessage): Answer {
    const cancel = (): void => void message.destroy();
    message.on('error', () => undefined); // until somebody reads
    const body = { stream: message, isWhole: () => message.complete, fault: () => this.#fault, cancel };
    return {
      status: message.statusCode ?? 0,
      header: (name) => [message.headers[name]].flat()[0],
      read: (onChunk, idleMs, signal) => readBody(body, onChunk, idleMs, signal),
      discard: cancel,
    };
  }

  /** The server may have closed a kept connection while we wrote: what changes nothing can be sent again. */
  #faultOf({ method }: Ask, { reusedSocket }: ClientRequest, error: Error): WayFault {
    return this.#fault ?? toWayFault(error, 'use', reusedSocket && method === 'GET');
  }
}

/** Node's pool of connections, over ours. */
class Pool extends Agent {
  readonly #dialMore: DialMore;
  readonly #open = new Set<Socket>();
  #first: Socket | undefined;
  #dialling = 0;
  #isClosed = false;

  constructor(first: Socket, dialMore: DialMore) {
    super({ keepAlive: true, keepAliveMsecs: 5000, maxFreeSockets: MAX_IDLE, scheduling: 'lifo' });
    this.#dialMore = dialMore;
    this.#first = first;
    this.#adopt(first);
  }

  get isOpen(): boolean {
    return this.#open.size > 0 || this.#dialling > 0;
  }

  override createConnection(
    _options: unknown,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): Duplex | undefined {
    const first = this.#first;
    this.#first = undefined;
    if (first !== undefined && !first.destroyed) return first;
    this.#dialling++;
    this.#dialMore()
      .finally(() => this.#dialling--)
      .then(
        (socket) => {
          this.#adopt(socket);
          if (this.#isClosed) socket.destroy();
          callback?.(null, socket);
        },
        (error: Error) => callback?.(error, undefined as never),
      );
    return undefined;
  }

  /** Idle connections end, the others when they become idle. */
  retire(): void {
    this.maxFreeSockets = 0;
    this.#first?.destroy();
    for (const free of Object.values(this.freeSockets)) for (const socket of free ?? []) socket.destroy();
  }

  override destroy(): void {
    this.#isClosed = true;
    super.destroy();
    for (const socket of this.#open) socket.destroy();
  }

  #adopt(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    socket.on('error', () => undefined);
  }
}
