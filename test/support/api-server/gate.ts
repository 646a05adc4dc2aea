// What stands between clients and the server: it listens on TCP and passes bytes on, so that a connection can be
// misused below TLS, where neither side of Node's HTTP lets us in.
//
//   client ── TCP ── gate ── unix socket ── server
//
// A unix socket, as the loopback of a lab's network namespace may be down.

import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** `pass`; accept and swallow every byte; accept and read nothing, so that a sender's window closes. */
export type GateMode = 'pass' | 'swallow' | 'stall';

/** One connection of a client. */
export interface Connection {
  /** 1 for the first. */
  readonly number: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Ends it, as the kernel does for a process that was killed. */
  cut(): void;
  /** Ends it by RST. */
  reset(): void;
}

interface Pair extends Connection {
  readonly outer: Socket;
  readonly inner: Socket;
  isDoomed: boolean;
}

export class Gate {
  readonly #dir = mkdtempSync(join(tmpdir(), `twill-api-${process.pid}-`));
  readonly #path = join(this.#dir, 'api');
  readonly #inner: Server;
  readonly #outer: Server;
  readonly #pairs = new Set<Pair>();
  /** Pairs whose inner end was connected, and not accepted yet: a unix socket accepts in order. */
  readonly #arriving: Pair[] = [];
  #mode: GateMode = 'pass';
  #accepted = 0;
  #port = 0;
  #address = '';

  /** `serve` gets the server's end of each connection. */
  constructor(serve: (socket: Socket, connection: Connection) => void) {
    this.#inner = createServer((socket) => serve(socket, this.#arriving.shift()!));
    this.#outer = createServer((socket) => this.#accept(socket));
  }

  /** Port 0: a free one, which a later open() takes again. */
  async open(address: string, port: number): Promise<void> {
    await new Promise<void>((resolve) => this.#inner.listen(this.#path, resolve));
    this.#address = address;
    this.#port = port;
    await this.listen();
  }

  /** Listens after pause(), on the same port. */
  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#outer.once('error', reject);
      this.#outer.listen(this.#port, this.#address, resolve);
    });
    this.#port = this.port;
  }

  /** Stops listening, and ends what there is: connection refused. */
  async pause(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#outer.close(() => resolve()));
    this.cut();
    await closed;
  }

  async close(): Promise<void> {
    if (this.#outer.listening) await this.pause();
    await new Promise<void>((resolve) => this.#inner.close(() => resolve()));
    rmSync(this.#dir, { recursive: true, force: true });
  }

  get port(): number {
    return (this.#outer.address() as AddressInfo | null)?.port ?? this.#port;
  }

  /** Connections so far. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Of the connections that exist, and of new ones. After `swallow` those that exist have a gap, and are cut. */
  set mode(mode: GateMode) {
    const wasSwallowing = this.#mode === 'swallow';
    this.#mode = mode;
    for (const pair of this.#pairs) {
      if (mode !== 'pass') pair.isDoomed ||= mode === 'swallow';
      else if (wasSwallowing && pair.isDoomed) pair.cut();
      this.#steer(pair);
    }
  }

  /** Swallows every byte of the connections that exist; new ones work. */
  swallowExisting(): void {
    for (const pair of this.#pairs) pair.isDoomed = true;
  }

  cut(): void {
    for (const pair of this.#pairs) pair.cut();
  }

  reset(): void {
    for (const pair of this.#pairs) pair.reset();
  }

  #accept(outer: Socket): void {
    const inner = connect(this.#path);
    const pair: Pair = {
      number: ++this.#accepted,
      remoteAddress: outer.remoteAddress ?? '',
      remotePort: outer.remotePort ?? 0,
      outer,
      inner,
      isDoomed: this.#mode === 'swallow',
      cut: () => [inner, outer].forEach((socket) => void socket.destroy()),
      reset: () => {
        outer.resetAndDestroy();
        inner.destroy();
      },
    };
    this.#arriving.push(pair);
    this.#pairs.add(pair);
    this.#pass(pair, outer, inner);
    this.#pass(pair, inner, outer);
    this.#steer(pair);
  }

  #pass(pair: Pair, from: Socket, to: Socket): void {
    from.setNoDelay();
    from.on('data', (chunk) => {
      if (pair.isDoomed || to.destroyed || to.write(chunk)) return;
      from.pause();
    });
    to.on('drain', () => this.#steer(pair));
    from.on('end', () => !pair.isDoomed && to.end());
    from.on('error', () => from.destroy());
    from.on('close', () => {
      // A client that goes is gone; a server that goes is not seen behind a black hole.
      if (pair.isDoomed && from === pair.inner) return;
      to.destroySoon();
      this.#pairs.delete(pair);
    });
  }

  #steer({ outer, inner, isDoomed }: Pair): void {
    for (const [from, to] of [
      [outer, inner],
      [inner, outer],
    ]) {
      const isFull = to.writableNeedDrain && !isDoomed;
      if (this.#mode === 'stall' || isFull) from.pause();
      else from.resume();
    }
  }
}
