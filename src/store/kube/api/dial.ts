// One new connection to the API server: TCP, the tunnel of a web proxy if there is one, TLS.
//
//   name ─ TCP ─► [ TLS of the proxy ─ CONNECT ─► ] TLS with ALPN ─► HTTP/2 or HTTP/1.1
//
// What Node would take from its environment is not left to it: certificates are verified whatever
// NODE_TLS_REJECT_UNAUTHORIZED says, and with CAs given NODE_EXTRA_CA_CERTS adds none. Nagle's delay is off. TCP's
// keepalive begins after 5 s of silence; libuv has ten probes follow at 1 s, so a dead peer is known after 15 s.

import { request } from 'node:http';
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { WayFault } from './faults.js';
import { boundedLookup } from './name-lookup.js';
import type { ServerAddress } from './server-address.js';
import type { Timing } from './timing.js';
import { toWayFault } from './way-errors.js';
import type { WebProxy } from './web-proxy.js';

const KEEPALIVE_MS = 5000;
/** Between the attempts at several addresses of one name. */
const NEXT_ADDRESS_MS = 1000;

/** PEM. */
export interface ClientCertificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** What the server's certificate is held against. */
export interface Trust {
  /** PEM; undefined: the CAs that Node brings along. */
  readonly ca: Buffer | undefined;
  /** insecure-skip-tls-verify: any certificate will do. */
  readonly isUnverified: boolean;
  /** The name the certificate has to have; undefined: the host's. */
  readonly serverName: string | undefined;
  /** PEM, for a web proxy that is spoken to over TLS: what counts beside `ca`. */
  readonly proxyCa?: Buffer | undefined;
}

export interface DialOptions {
  readonly server: ServerAddress;
  readonly proxy: WebProxy | undefined;
  readonly trust: Trust;
  readonly certificate: ClientCertificate | undefined;
  /** In the order of preference; nothing else is taken. */
  readonly protocols: readonly Protocol[];
  readonly timing: Timing;
}

export type Protocol = 'h2' | 'http/1.1';

export interface Dialled {
  readonly protocol: Protocol;
  readonly socket: Socket;
  /** Below TLS: its bytesRead tells that the other side lives. The same as `socket` without TLS. */
  readonly wire: Socket;
}

/** Rejects with WayFault: in `timing.connectMs` at the latest, or at once with the signal's reason. */
export async function dial(options: DialOptions, signal: AbortSignal): Promise<Dialled> {
  const { server, proxy, timing } = options;
  const attempt = new Attempt(signal, timing.connectMs);
  try {
    const wire = await attempt.ready(openTcp(proxy ?? server, timing), 'connect');
    wire.setNoDelay(true);
    wire.setKeepAlive(true, KEEPALIVE_MS);
    const way = proxy === undefined ? wire : await openTunnel(attempt, wire, proxy, options);
    if (!server.isTls) return attempt.won({ protocol: 'http/1.1', socket: way, wire });
    const socket = openTls(way, options);
    await attempt.ready(socket, 'secureConnect');
    return attempt.won({ protocol: socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1', socket, wire });
  } catch (error) {
    throw attempt.lost(error);
  }
}

function openTcp({ host, port }: { host: string; port: number }, timing: Timing): Socket {
  const lookup = boundedLookup(timing.resolveMs);
  return connect({ host, port, lookup, autoSelectFamilyAttemptTimeout: NEXT_ADDRESS_MS });
}

async function openTunnel(
  attempt: Attempt,
  wire: Socket,
  proxy: WebProxy,
  { server: { target }, trust }: DialOptions,
): Promise<Socket> {
  let socket = wire;
  if (proxy.isTls) {
    const name = isIP(proxy.host) === 0 ? { servername: proxy.host } : {};
    // As Go, which knows no other CAs for a proxy than for what is behind it; and those of the system.
    const cas = [trust.ca, trust.proxyCa].filter((ca) => ca !== undefined);
    const ca = cas.length === 0 ? {} : { ca: cas };
    const secured = connectTls({ socket: wire, host: proxy.host, ...name, ...ca, rejectUnauthorized: true });
    await attempt.ready(secured, 'secureConnect');
    socket = secured;
  }
  const auth = proxy.authorization === undefined ? {} : { 'proxy-authorization': proxy.authorization };
  return attempt.until(
    new Promise((resolve, reject) => {
      const asked = request({
        method: 'CONNECT',
        path: target,
        headers: { host: target, ...auth },
        createConnection: () => socket,
      });
      asked.once('error', (error) =>
        reject(new WayFault('unreachable', `proxy ${proxy.url}: ${error.message}`)),
      );
      asked.once('connect', ({ statusCode, statusMessage }, _socket, head) => {
        asked.removeAllListeners('error').on('error', () => undefined);
        if (statusCode !== 200)
          reject(new WayFault('unreachable', `proxy ${proxy.url}: ${statusCode} ${statusMessage ?? ''}`));
        else if (head.length > 0)
          reject(new WayFault('unreachable', `proxy ${proxy.url}: bytes before we sent any`));
        else resolve(socket);
      });
      asked.end();
    }),
  );
}

function openTls(socket: Socket, { server, trust, certificate, protocols }: DialOptions): TLSSocket {
  const name = trust.serverName ?? (isIP(server.host) === 0 ? server.host : undefined);
  return connectTls({
    socket,
    host: name ?? server.host,
    // An address is no name to send (RFC 6066, section 3); it is still what the certificate must have.
    ...(name === undefined || isIP(name) !== 0 ? {} : { servername: name }),
    secureContext: secureContextOf(trust, certificate),
    ALPNProtocols: [...protocols],
    rejectUnauthorized: !trust.isUnverified,
  });
}

// A context with all the CAs of the system takes tens of milliseconds to make, and most connections are made with what
// the one before had.
let lastContext:
  { trust: Trust; certificate: ClientCertificate | undefined; context: SecureContext } | undefined;

function secureContextOf(trust: Trust, certificate: ClientCertificate | undefined): SecureContext {
  if (lastContext?.trust === trust && lastContext.certificate === certificate) return lastContext.context;
  try {
    const context = createSecureContext({
      ...(trust.ca === undefined ? {} : { ca: trust.ca }),
      ...(certificate === undefined ? {} : certificate),
      // As Go: what is in the CA file is trusted, also when it is not the root of its chain. Node 20.18 and newer.
      allowPartialTrustChain: true,
    });
    lastContext = { trust, certificate, context };
    return context;
  } catch {
    // OpenSSL's text adds nothing an operator can use, and it must never quote a key.
    throw new WayFault(
      'credentials',
      'CA, client certificate or its key cannot be used: expected PEM, and a pair',
    );
  }
}

/** Sockets and one bound of time for all the steps to a connection; what was begun is destroyed when one fails. */
class Attempt {
  readonly #signal: AbortSignal;
  readonly #ended: Promise<never>;
  readonly #timer: NodeJS.Timeout;
  readonly #sockets: Socket[] = [];
  #onAbort: () => void = () => undefined;

  constructor(signal: AbortSignal, timeoutMs: number) {
    this.#signal = signal;
    let end: (error: unknown) => void = () => undefined;
    this.#ended = new Promise<never>((_resolve, reject) => (end = reject));
    this.#ended.catch(() => undefined);
    this.#timer = setTimeout(
      () => end(new WayFault('unreachable', `no connection within ${timeoutMs} ms`)),
      timeoutMs,
    );
    this.#onAbort = () => end(signal.reason);
    if (signal.aborted) this.#onAbort();
    else signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  until<T>(step: Promise<T>): Promise<T> {
    return Promise.race([step, this.#ended]);
  }

  /** `socket` once it has emitted `event`. */
  ready<S extends Socket>(socket: S, event: 'connect' | 'secureConnect'): Promise<S> {
    this.#sockets.push(socket);
    return this.until(
      new Promise((resolve, reject) => {
        socket.on('error', reject); // stays: an error that nobody listens to would end the process
        socket.once('close', () => reject(new WayFault('unreachable', 'the connection was closed at once')));
        socket.once(event, () => resolve(socket));
      }),
    );
  }

  won(dialled: Dialled): Dialled {
    this.#release();
    return dialled;
  }

  lost(error: unknown): unknown {
    this.#release();
    for (const socket of this.#sockets.reverse()) socket.destroy();
    return this.#signal.aborted ? error : toWayFault(error, 'connect');
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.#onAbort);
  }
}
