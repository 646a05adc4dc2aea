// The health server: /healthz, /readyz, /metrics, /status. Plain HTTP, reading only, on an address or on a unix socket.
//
// It may listen on an address that strangers reach, so it is bounded in every way: GET and HEAD only, small headers,
// no bodies, two seconds for a request, few connections. It shares no thread with the data path.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { OverlayError } from '../core/errors.js';
import type { ActiveCondition, Health } from './health.js';
import type { Logger } from '../core/log.js';
import type { Metrics } from './metrics.js';

const MAX_HEADER_BYTES = 4096;
const REQUEST_MS = 2_000;
const KEEP_ALIVE_MS = 5_000;
/**
 * Connections of one source, and of all. Whoever opens more loses its own oldest: what one neighbour holds open is
 * taken from nobody else, and a probe from a new address is always let in.
 */
const MAX_PER_SOURCE = 8;
const MAX_CONNECTIONS = 64;
const MAX_LINES = 20;
const MAX_TEXT = 600;
/** The first line, and without conditions the whole: flanneld's words for a probe that compares them. */
const HEADINGS = {
  starting: 'flanneld is not ready yet',
  ready: 'flanneld is ready',
  degraded: 'flanneld is degraded',
} as const;
const TEXT = 'text/plain; charset=utf-8';

/** A port of 0 lets the kernel choose one. */
export type ListenAddress = { readonly ip: string; readonly port: number } | { readonly path: string };

export interface HttpOptions {
  readonly listen: ListenAddress;
  readonly health: Health;
  readonly metrics: Metrics;
  readonly status: () => object;
  readonly log: Logger;
  /** Only these are served; others are 404. @default all */
  readonly paths?: ReadonlySet<string>;
  /** Paths whose answer lasts until who asked goes away: what begins then, and returns its end. @default none */
  readonly held?: ReadonlyMap<string, () => () => void>;
  /** Who gets the connection of a request for another protocol, by path. @default nobody: it is closed */
  readonly upgrades?: ReadonlyMap<string, (socket: Socket, protocol: string | undefined) => void>;
}

export interface HttpServer {
  /** 0 on a unix socket. */
  readonly port: number;
  /** Ends open connections too. Idempotent. */
  close(): Promise<void>;
}

interface Answer {
  readonly code: number;
  readonly type: string;
  readonly body: string;
}

/** Listens. Rejects with OverlayError E_SOCKET when the address cannot be had. */
export async function openHttpServer(options: HttpOptions): Promise<HttpServer> {
  const { listen, log } = options;
  const limits = {
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: REQUEST_MS,
    requestTimeout: REQUEST_MS,
    connectionsCheckingInterval: 500,
  };
  const server = createServer(limits, (request, response) => {
    const begin = request.method === 'GET' ? options.held?.get(pathOf(request)) : undefined;
    if (begin !== undefined) return hold(response, begin());
    handle(request, options).then(
      (answer) => send(request, response, answer),
      (error: unknown) => {
        log.error({ err: error }, 'health server');
        send(request, response, { code: 500, type: TEXT, body: 'internal error\n' });
      },
    );
  });
  // With a listener, requests of other paths that ask for another protocol come here too, and get no answer.
  const upgraded = new Set<object>();
  if (options.upgrades !== undefined)
    server.on('upgrade', (request, socket) => {
      upgraded.add(socket);
      socket.once('close', () => upgraded.delete(socket));
      const begin = options.upgrades?.get(pathOf(request));
      if (begin === undefined) socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n');
      else begin(socket as Socket, request.headers.upgrade);
    });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  boundConnections(server);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const message = `Cannot listen on ${describeListen(listen)}: ${error.code ?? error.message}`;
      reject(new OverlayError('E_SOCKET', message, { cause: error }));
    });
    if ('path' in listen) server.listen(listen.path, resolve);
    else server.listen(listen.port, listen.ip, resolve);
  });
  server.on('error', (error) => log.error({ err: error }, 'health server'));
  const address = server.address() as AddressInfo | string;
  return {
    port: typeof address === 'string' ? 0 : address.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
        // Those belong to who got them, and go on.
        if (upgraded.size > 0) resolve();
      }),
  };
}

/** The newest connection always fits: the oldest goes of its source, or else of the source that holds most. */
function boundConnections(server: Server): void {
  const bySource = new Map<string, Set<Socket>>();
  let count = 0;
  server.on('connection', (socket) => {
    // A unix socket has no address: all its users are root, and count as one.
    const source = (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
    let own = bySource.get(source);
    if (own === undefined) bySource.set(source, (own = new Set()));
    own.add(socket);
    count++;
    socket.once('close', () => {
      count--;
      own.delete(socket);
      if (own.size === 0 && bySource.get(source) === own) bySource.delete(source);
    });
    const limit = source === '' ? MAX_CONNECTIONS : MAX_PER_SOURCE;
    if (own.size > limit) evictOldest(own);
    else if (count > MAX_CONNECTIONS) evictOldest(largest(bySource));
  });
}

function largest(bySource: ReadonlyMap<string, Set<Socket>>): Set<Socket> {
  let found = new Set<Socket>();
  for (const sockets of bySource.values()) if (sockets.size > found.size) found = sockets;
  return found;
}

/** It leaves the set at once: `close` comes later, and a burst must not evict the same one twice. */
function evictOldest(sockets: Set<Socket>): void {
  const [oldest] = sockets;
  sockets.delete(oldest);
  oldest.destroy();
}

function describeListen(listen: ListenAddress): string {
  return 'path' in listen ? listen.path : `${listen.ip}:${listen.port} for health checks`;
}

function pathOf({ url = '/' }: IncomingMessage): string {
  return url.split('?', 1)[0];
}

/** Answers that it has begun, and ends it with the connection. */
function hold(response: ServerResponse, end: () => void): void {
  response.once('close', end);
  response.writeHead(200, { 'Content-Type': TEXT, 'Cache-Control': 'no-store' });
  response.flushHeaders();
}

async function handle(request: IncomingMessage, options: HttpOptions): Promise<Answer> {
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return { code: 405, type: TEXT, body: 'only GET and HEAD\n' };
  const path = pathOf(request);
  switch (options.paths?.has(path) === false ? undefined : path) {
    case '/healthz':
      return { code: 200, type: TEXT, body: 'flanneld is running' };
    case '/readyz':
      return readiness(options.health);
    case '/metrics':
      return await metrics(options.metrics);
    case '/status':
      return { code: 200, type: 'application/json', body: `${JSON.stringify(options.status(), null, 2)}\n` };
    default:
      return { code: 404, type: TEXT, body: 'not found\n' };
  }
}

async function metrics(source: Metrics): Promise<Answer> {
  const { contentType, body } = await source.render();
  return { code: 200, type: contentType, body };
}

function readiness(health: Health): Answer {
  const { state, isReady, conditions } = health.look();
  const lines = conditions.slice(0, MAX_LINES).map(lineOf);
  if (conditions.length > MAX_LINES) lines.push(`and ${conditions.length - MAX_LINES} more`);
  return { code: isReady ? 200 : 503, type: TEXT, body: [HEADINGS[state], ...lines].join('\n') };
}

function lineOf({ severity, scope, code, sinceMs, text, action }: ActiveCondition): string {
  const since = new Date(sinceMs).toISOString();
  // Names and values in the store are other people's text: one line each, and not at any length.
  const words = text.replace(/\p{Cc}/gu, ' ').slice(0, MAX_TEXT);
  return `${severity} ${scope} ${code} since ${since}: ${words}; what to do: ${action}`;
}

function send(request: IncomingMessage, response: ServerResponse, { code, type, body }: Answer): void {
  const headers: Record<string, string | number> = {
    'Content-Type': type,
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  };
  if (code === 405) headers['Allow'] = 'GET, HEAD';
  // A body was announced: nobody reads it, so the connection cannot go on.
  if (request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined) {
    headers['Connection'] = 'close';
  }
  response.writeHead(code, headers);
  response.end(request.method === 'HEAD' ? undefined : body);
}
