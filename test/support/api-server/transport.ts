// HTTP over the gate: TLS with HTTP/2 or HTTP/1.1 as ALPN has it, or plain HTTP/1.1.
//
// Each connection has an HTTP server of its own, which gets no other: so a request knows its connection, and another
// certificate is that of the next connection without a word.

import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { Http2ServerRequest, Http2ServerResponse, ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Connection } from './gate.js';

/** PEM. `ca` signs client certificates. */
export interface ServerCertificate {
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
}

export type Incoming = IncomingMessage | Http2ServerRequest;
export type Outgoing = ServerResponse | Http2ServerResponse;
export type Handle = (request: Incoming, answer: Outgoing, peer: Peer) => void;

/** Who is at the other end. */
export interface Peer {
  readonly connection: Connection;
  /** Common name of a client certificate that `ca` signed. */
  readonly certificateName: string | undefined;
}

/** As Go's HTTP/2 server has it. */
const CONCURRENT_STREAMS = 250;
/** MB. Node refuses streams beyond it; the lists of a large cluster wait in memory while a client reads them. */
const SESSION_MEMORY = 1000;

export class Transport {
  readonly #handle: Handle;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** Undefined: plain HTTP. Of connections that come from now on. */
  certificate: ServerCertificate | undefined;
  /** What ALPN offers. */
  protocols: readonly ('h2' | 'http/1.1')[] = ['h2', 'http/1.1'];

  constructor(handle: Handle, certificate: ServerCertificate | undefined) {
    this.#handle = handle;
    this.certificate = certificate;
  }

  serve(socket: Socket, connection: Connection): void {
    socket.on('error', () => socket.destroy());
    if (this.certificate === undefined) {
      const peer = { connection, certificateName: undefined };
      createServer((request, answer) => this.#handle(request, answer, peer)).emit('connection', socket);
      return;
    }
    const { key, cert, ca } = this.certificate;
    let certificateName: string | undefined;
    const server = createSecureServer({
      ...{ key, cert, ca, requestCert: true, rejectUnauthorized: false },
      ...{ allowHTTP1: true, ALPNProtocols: [...this.protocols] },
      ...{ maxSessionMemory: SESSION_MEMORY, settings: { maxConcurrentStreams: CONCURRENT_STREAMS } },
    });
    server.on('secureConnection', (secure: TLSSocket) => (certificateName = nameOf(secure)));
    server.on('request', (request, answer) => this.#handle(request, answer, { connection, certificateName }));
    server.on('session', (session) => {
      this.#sessions.add(session);
      session.on('error', () => undefined);
      session.on('close', () => this.#sessions.delete(session));
    });
    server.on('tlsClientError', () => socket.destroy());
    server.emit('connection', socket);
  }

  /**
   * Sends GOAWAY on each HTTP/2 connection. With code 0 streams may go on and new ones must go elsewhere.
   *
   * @param code - HTTP/2 error code.
   */
  goAway(code = 0): void {
    for (const session of this.#sessions) session.goaway(code);
  }
}

function nameOf(socket: TLSSocket): string | undefined {
  if (!socket.authorized) return undefined;
  const { CN } = socket.getPeerCertificate().subject as { CN?: string | string[] };
  return Array.isArray(CN) ? CN[0] : CN;
}
