// A TCP proxy between a client and etcd that can misbehave: cut, black-hole, delay, refuse.

import { execFile } from 'node:child_process';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

type Mode = 'pass' | 'blackhole' | 'refuse';

/** Listens on a free loopback port from open() to close(). */
export class TcpProxy {
  readonly #targetPort: number;
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #dead = new WeakSet<readonly [Socket, Socket]>();
  #mode: Mode = 'pass';
  #refusedPid: number | undefined;
  /** Applies to each chunk towards the client. */
  delayMs = 0;
  connections = 0;

  private constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#server = createServer((client) => this.#accept(client));
  }

  static async open(targetPort: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(targetPort);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Closes all connections; new ones are accepted. */
  cut(): void {
    for (const [client, upstream] of this.#pairs) {
      client.destroy();
      upstream.destroy();
    }
    this.#pairs.clear();
  }

  /** Swallows every byte, in both directions, also of new connections. */
  blackhole(): void {
    this.#mode = 'blackhole';
  }

  /** Swallows every byte of the connections that exist now; new ones work. */
  blackholeExisting(): void {
    for (const pair of this.#pairs) this.#dead.add(pair);
  }

  /** Accepts and closes at once. */
  refuse(): void {
    this.#mode = 'refuse';
    this.cut();
  }

  /** Refuses what process `pid` opens, and closes what it has open; others pass. Until heal(). */
  async refusePid(pid: number): Promise<void> {
    this.#refusedPid = pid;
    await Promise.all([...this.#pairs].map(([client]) => this.#refuseIfOwned(client)));
  }

  /** Passes again what comes from now on; a connection that was black-holed has a gap and is cut. */
  heal(): void {
    if (this.#mode === 'blackhole') this.cut();
    this.#mode = 'pass';
    this.#refusedPid = undefined;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(client: Socket): void {
    this.connections++;
    if (this.#mode === 'refuse') return void client.destroy();
    if (this.#refusedPid === undefined) return this.#connect(client);
    // Nothing may pass before it is known whose connection it is: one vote request is enough to unseat a leader.
    client.on('error', () => client.destroy());
    void this.#refuseIfOwned(client).then(() => client.destroyed || this.#connect(client));
  }

  #connect(client: Socket): void {
    const upstream = connect(this.#targetPort, '127.0.0.1');
    const pair = [client, upstream] as const;
    this.#pairs.add(pair);
    const isSwallowed = (): boolean => this.#mode === 'blackhole' || this.#dead.has(pair);
    client.on('data', (chunk) => isSwallowed() || upstream.write(chunk));
    upstream.on('data', (chunk) => {
      if (isSwallowed()) return;
      if (this.delayMs === 0) client.write(chunk);
      else setTimeout(() => !client.destroyed && !isSwallowed() && client.write(chunk), this.delayMs);
    });
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => {
        if (!isSwallowed()) other.destroy();
        this.#pairs.delete(pair);
      });
    }
  }

  async #refuseIfOwned(client: Socket): Promise<void> {
    const out = await new Promise<string>((resolve, reject) => {
      execFile('ss', ['-tnpH', `sport = :${client.remotePort}`], (error, stdout) =>
        error ? reject(new Error('ss failed', { cause: error })) : resolve(stdout),
      );
    });
    if (out.includes(`pid=${this.#refusedPid},`)) client.destroy();
  }
}
