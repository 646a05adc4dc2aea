// An HTTP/2 front before etcd, such as a load balancer, that can end every stream in the ways that gRPC gives a status
// of its own: what a client sees is then no word of etcd's.

import { connect, createServer } from 'node:http2';
import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';

/** How it breaks: streams reset with an HTTP/2 error code, or answered with an HTTP status. */
export type Break = { readonly rst: number } | { readonly status: number };

/** Listens on a free loopback port from open() to close(). */
export class Http2Front {
  readonly #server: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #streams = new Set<ServerHttp2Stream>();
  #broken: Break | undefined;
  /** Paths that begin so are answered with UNIMPLEMENTED, as a gateway does that does not know them. */
  lacks: string | undefined;
  /** Streams that were broken. */
  broken = 0;

  private constructor(targetUrl: string) {
    this.#server = createServer();
    this.#server.on('session', (session) => {
      this.#sessions.add(session);
      session.on('error', () => undefined);
      session.on('close', () => this.#sessions.delete(session));
    });
    this.#server.on('stream', (stream, headers) => this.#accept(stream, headers, targetUrl));
  }

  static async open(targetUrl: string): Promise<Http2Front> {
    const front = new Http2Front(targetUrl);
    await new Promise<void>((resolve) => front.#server.listen(0, '127.0.0.1', resolve));
    return front;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** From now on every stream ends this way, those that are open too (by a reset). */
  breakWith(broken: Break): void {
    this.#broken = broken;
    for (const stream of this.#streams) this.#break(stream);
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #break(stream: ServerHttp2Stream): void {
    const broken = this.#broken!;
    this.broken++;
    if ('rst' in broken) return stream.close(broken.rst);
    if (stream.headersSent) return stream.close(2);
    stream.respond({ ':status': broken.status, 'content-type': 'text/html' }, { endStream: true });
  }

  #accept(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, targetUrl: string): void {
    stream.on('error', () => undefined);
    if (this.#broken !== undefined) return this.#break(stream);
    if (this.lacks !== undefined && headers[':path']?.startsWith(this.lacks)) {
      const status = {
        'content-type': 'application/grpc',
        'grpc-status': '12',
        'grpc-message': 'unknown service',
      };
      return stream.respond({ ':status': 200, ...status }, { endStream: true });
    }
    this.#streams.add(stream);
    const client = connect(targetUrl);
    client.on('error', () => stream.close(8));
    const upstream = client.request(headers);
    let trailers: IncomingHttpHeaders = {};
    upstream.on('error', () => undefined);
    upstream.on('response', (answer) => {
      if (!stream.destroyed && !stream.closed) stream.respond(answer, { waitForTrailers: true });
    });
    upstream.on('trailers', (last: IncomingHttpHeaders) => (trailers = last));
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.pipe(upstream);
    upstream.pipe(stream);
    stream.on('close', () => {
      this.#streams.delete(stream);
      client.destroy();
    });
  }
}
