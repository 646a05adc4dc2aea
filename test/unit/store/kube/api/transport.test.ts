// The way to the API server below HTTP: proxies, TLS, and connections that die unheard.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer as createHttp, type IncomingMessage } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTls } from 'node:tls';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Answer, Ask } from '../../../../../src/store/kube/api/connection.js';
import { dial, type DialOptions, type Trust } from '../../../../../src/store/kube/api/dial.js';
import { WayFault } from '../../../../../src/store/kube/api/faults.js';
import { Http2Connection } from '../../../../../src/store/kube/api/http2-connection.js';
import { boundedLookup } from '../../../../../src/store/kube/api/name-lookup.js';
import { parseServer } from '../../../../../src/store/kube/api/server-address.js';
import { TIMING } from '../../../../../src/store/kube/api/timing.js';
import { Transport, type Way } from '../../../../../src/store/kube/api/transport.js';
import { parseProxy, type WebProxy } from '../../../../../src/store/kube/api/web-proxy.js';
import { ApiServer } from '../../../../support/api-server.js';
import { Authority } from '../../../../support/api-server/certificates.js';
import { until } from '../../../../support/store-fixture.js';
import { folderOf } from '../../../../support/folder.js';

const never = new AbortController().signal;
const HEALTH: Ask = { method: 'GET', path: '/healthz', headers: {}, body: undefined };
const SOURCE = { name: 'a test', code: 'E_USAGE' } as const;

const trustIn = (ca: string, more: Partial<Trust> = {}): Trust => ({
  ca: Buffer.from(ca),
  isUnverified: false,
  serverName: undefined,
  ...more,
});

function transportTo(t: Test, url: string, trust: Trust, more: Partial<Way> = {}): Transport {
  const server = parseServer(url, SOURCE, 'https');
  const way = {
    server,
    proxy: undefined,
    mayUseHttp2: true,
    readTrust: () => Promise.resolve(trust),
    ...more,
  };
  const transport = new Transport(way, { ...TIMING, connectMs: 1000 });
  t.teardown(() => transport.close());
  return transport;
}

async function bodyOf(answer: Answer): Promise<string> {
  let text = '';
  await answer.read((chunk) => (text += chunk.toString()), 5000, never);
  return text;
}

const health = async (transport: Transport): Promise<string> =>
  bodyOf(await transport.send(HEALTH, undefined, never));

const problemOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => '',
    (error: unknown) =>
      error instanceof WayFault ? `${error.reason}: ${error.message}` : `strange: ${String(error)}`,
  );

async function listen(t: Test, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function startServer(t: Test): Promise<ApiServer> {
  const server = await ApiServer.open();
  t.teardown(() => server.close());
  return server;
}

interface Proxy {
  readonly asked: IncomingMessage[];
  /** For Proxy-Authorization; undefined: nobody is refused. */
  wanted: string | undefined;
}

/** What a web proxy does with CONNECT; over TLS when there is a certificate. */
async function startProxy(t: Test, tls?: { cert: string; key: string }): Promise<Proxy & { port: number }> {
  const proxy: Proxy = { asked: [], wanted: undefined };
  const server = tls === undefined ? createHttp() : createHttps(tls);
  server.on('connect', (request: IncomingMessage, client: Socket) => {
    proxy.asked.push(request);
    if (request.headers['proxy-authorization'] !== proxy.wanted)
      return client.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
    const { hostname, port } = new URL(`http://${request.url}`);
    const upstream = connect(Number(port), hostname, () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    upstream.on('error', () => client.destroy());
    client.on('error', () => upstream.destroy());
    client.on('close', () => upstream.destroy());
  });
  return Object.assign(proxy, { port: await listen(t, server) });
}

t.test('a proxy is asked for a tunnel, with a user when it has one', async (t) => {
  const server = await startServer(t);
  const trust = trustIn(server.authority.cert);
  const proxy = await startProxy(t);
  const through = (url: string, mayUseHttp2 = true): Transport => {
    const way: { proxy: WebProxy; mayUseHttp2: boolean } = { proxy: parseProxy(url, SOURCE), mayUseHttp2 };
    return transportTo(t, server.url, trust, way);
  };
  for (const mayUseHttp2 of [true, false]) {
    proxy.wanted = undefined;
    const plain = through(`http://127.0.0.1:${proxy.port}`, mayUseHttp2);
    t.equal(await health(plain), 'ok');
    t.equal(await health(plain), 'ok');
    t.match(proxy.asked.at(-1), {
      url: `127.0.0.1:${server.port}`,
      headers: { host: `127.0.0.1:${server.port}` },
    });
    proxy.wanted = `Basic ${Buffer.from('me:pass').toString('base64')}`;
    plain.renew();
    t.equal(
      await problemOf(health(plain)),
      `unreachable: proxy http://127.0.0.1:${proxy.port}: 407 Proxy Authentication Required`,
    );
    t.equal(await health(through(`http://me:pass@127.0.0.1:${proxy.port}`, mayUseHttp2)), 'ok');
  }
  t.equal(proxy.asked.length, 6);
  const dead = through('http://127.0.0.1:1');
  t.match(await problemOf(health(dead)), /^unreachable: connect ECONNREFUSED 127\.0\.0\.1:1/);
});

t.test('a proxy that speaks TLS, and one that says something else', async (t) => {
  const server = await startServer(t);
  const authority = new Authority('proxy');
  t.teardown(() => authority.close());
  const proxy = await startProxy(t, authority.issue({ commonName: 'proxy', names: ['IP:127.0.0.1'] }));
  const trust = trustIn(server.authority.cert);
  const way = { proxy: parseProxy(`https://127.0.0.1:${proxy.port}`, SOURCE) };
  const { cert } = authority;
  const known = { readTrust: () => Promise.resolve({ ...trust, proxyCa: Buffer.from(cert) }) };
  t.match(await problemOf(health(transportTo(t, server.url, trust, way))), /^tls: .*certificate/);
  t.equal(await health(transportTo(t, server.url, trust, { ...way, ...known })), 'ok');
  const liar = createServer((socket) =>
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\nhello')),
  );
  const port = await listen(t, liar);
  const lied = transportTo(t, server.url, trust, { proxy: parseProxy(`http://127.0.0.1:${port}`, SOURCE) });
  t.match(
    await problemOf(health(lied)),
    /^unreachable: proxy http:\/\/127\.0\.0\.1:\d+: bytes before we sent any$/,
  );
  const silent = await listen(t, createServer());
  const waiting = transportTo(t, server.url, trust, {
    proxy: parseProxy(`http://127.0.0.1:${silent}`, SOURCE),
  });
  t.equal(await problemOf(health(waiting)), 'unreachable: no connection within 1000 ms');
});

t.test('servers without ALPN, without TLS, and that nobody knows', async (t) => {
  const authority = new Authority('test');
  t.teardown(() => authority.close());
  const pair = authority.issue({ commonName: 'server', names: ['IP:127.0.0.1'] });
  const trust = trustIn(authority.cert);
  const old = createHttps({ ...pair, ALPNProtocols: [] }, (_request, answer) => answer.end('old'));
  t.equal(await health(transportTo(t, `https://127.0.0.1:${await listen(t, old)}`, trust)), 'old');

  const plain = await listen(
    t,
    createHttp((_request, answer) => answer.end('plain')),
  );
  t.equal(
    await problemOf(health(transportTo(t, `https://127.0.0.1:${plain}`, trust))),
    'tls: the server does not speak TLS (an http:// URL?)',
  );
  t.equal(await health(transportTo(t, `http://127.0.0.1:${plain}`, trust)), 'plain');

  const other = new Authority('other');
  t.teardown(() => other.close());
  const secured = await listen(
    t,
    createTls(pair, (socket) => socket.on('error', () => undefined)),
  );
  const refused = transportTo(t, `https://127.0.0.1:${secured}`, trustIn(other.cert));
  t.match(await problemOf(health(refused)), /^tls: .*\(UNABLE_TO_[A-Z_]+\)$/);
  const unchecked = process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  t.match(await problemOf(health(refused)), /^tls: /, 'whatever the environment says');
  if (unchecked === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];

  const closing = await listen(
    t,
    createServer((socket) => socket.end()),
  );
  t.match(await problemOf(health(transportTo(t, `https://127.0.0.1:${closing}`, trust))), /^unreachable: /);
  const strict = createHttps({ ...pair, ca: other.cert, requestCert: true }, (_request, answer) =>
    answer.end(),
  );
  const nobody = transportTo(t, `https://127.0.0.1:${await listen(t, strict)}`, trust);
  t.match(await problemOf(health(nobody)), /^tls: TLS: .*alert/, 'a client certificate is wanted');
});

t.test('a CA file that holds an intermediate alone is enough, as it is for Go', async (t) => {
  const dir = folderOf(t, {
    ext: 'basicConstraints=critical,CA:TRUE\n',
    san: 'subjectAltName=IP:127.0.0.1\n',
  });
  const make = (name: string, ca: string | undefined, extensions: string): void => {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`];
    const run = (...args: string[]): void => void execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
    if (ca === undefined) return run('req', '-x509', ...key, '-subj', `/CN=${name}`, '-out', `${name}.crt`);
    run('req', ...key, '-subj', `/CN=${name}`, '-out', 'csr');
    const signer = ['-CA', `${ca}.crt`, '-CAkey', `${ca}.key`, '-CAcreateserial', '-extfile', extensions];
    run('x509', '-req', '-in', 'csr', ...signer, '-out', `${name}.crt`);
  };
  make('root', undefined, '');
  make('middle', 'root', 'ext');
  make('server', 'middle', 'san');
  const read = (name: string): Buffer => readFileSync(join(dir, name));
  const server = createHttps({ cert: read('server.crt'), key: read('server.key') }, (_request, answer) =>
    answer.end('ok'),
  );
  const url = `https://127.0.0.1:${await listen(t, server)}`;
  const problem = await problemOf(health(transportTo(t, url, trustIn(read('middle.crt').toString()))));
  // Node has the option since 20.18; before, the whole chain has to be in the file.
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || minor >= 18) t.equal(problem, '');
  else t.match(problem, /^tls: /);
});

const dialled = (server: ApiServer): DialOptions => ({
  server: parseServer(server.url, SOURCE, 'https'),
  proxy: undefined,
  trust: trustIn(server.authority.cert),
  certificate: undefined,
  protocols: ['h2', 'http/1.1'],
  timing: TIMING,
});

t.test('an idle HTTP/2 connection is pinged, and given up in a black hole', async (t) => {
  const server = await startServer(t);
  const way = await dial(dialled(server), never);
  t.equal(way.protocol, 'h2');
  const connection = new Http2Connection(server.url, way, { ...TIMING, pingMs: 50, pongMs: 200 });
  t.teardown(() => connection.destroy(new WayFault('closed', 'the test is over')));
  await bodyOf(await connection.request(HEALTH, never));
  const { bytesRead } = way.wire;
  await until(() => way.wire.bytesRead >= bytesRead + 3 * 17, 'three answers to pings, and TLS around them');
  t.ok(connection.isUsable);
  server.blackHoleExisting();
  await until(() => connection.isOver, 'given up');
  t.notOk(connection.isUsable);
  t.ok(way.wire.destroyed);
  const late = connection.request(HEALTH, never);
  t.equal(await problemOf(late), 'broken: no answer to a ping within 200 ms');
});

// HTTP/2 by hand (RFC 9113, section 6), for what no server of Node's does.
const [DATA, HEADERS, SETTINGS, GOAWAY] = [0, 1, 4, 7];
const [END_STREAM, END_HEADERS] = [1, 4];
const STATUS_200 = Buffer.of(0x88); // the eighth of HPACK's static table

function frame(type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

t.test('a slow line is no dead one: any byte is an answer', async (t) => {
  // Head and body of an answer; pings get none.
  let isTrickling = true;
  const port = await listen(
    t,
    createServer((socket) => {
      socket.resume();
      socket.write(Buffer.concat([frame(SETTINGS, 0, 0), frame(HEADERS, END_HEADERS, 1, STATUS_200)]));
      const timer = setInterval(() => {
        if (isTrickling) socket.write(frame(DATA, 0, 1, Buffer.from('x')));
      }, 20);
      socket.on('close', () => clearInterval(timer));
    }),
  );
  const wire = connect(port, '127.0.0.1');
  await new Promise<void>((resolve) => wire.once('connect', () => resolve()));
  const way = { protocol: 'h2', socket: wire, wire } as const;
  const connection = new Http2Connection('http://127.0.0.1', way, { ...TIMING, pingMs: 20, pongMs: 100 });
  const answer = await connection.request(HEALTH, never);
  let bytes = 0;
  const read = answer.read((chunk) => (bytes += chunk.length), undefined, never);
  const problem = problemOf(read);
  await until(() => bytes >= 30, 'more than four times what a ping may take');
  t.ok(connection.isUsable);
  isTrickling = false;
  t.equal(await problem, 'broken: no answer to a ping within 100 ms');
});

t.test('TCP looks after every connection: keepalive after 5 s, then each second', async (t) => {
  const server = await startServer(t);
  const { wire, socket } = await dial(dialled(server), never);
  t.teardown(() => socket.destroy());
  const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0');
  const ends = `0100007F:${hex(wire.localPort!)} 0100007F:${hex(server.port)}`;
  const timer = (): string =>
    readFileSync('/proc/net/tcp', 'utf8')
      .split('\n')
      .find((line) => line.includes(ends))
      ?.trim()
      .split(/\s+/)[5] ?? '';
  // 02 is the keepalive timer (Documentation/networking/proc_net_tcp.rst), in ticks of 10 ms.
  await until(() => timer().startsWith('02:'), 'the keepalive timer runs');
  t.ok(Number.parseInt(timer().slice(3), 16) <= 500, timer());
});

t.test('what is under way when a connection is retired ends there', async (t) => {
  const server = await startServer(t);
  const transport = transportTo(t, server.url, trustIn(server.authority.cert));
  await health(transport);
  const release = server.faults.hold();
  const held = health(transport);
  await until(() => server.requests.list().length === 2, 'it is asked');
  transport.retire();
  t.equal(await health(transport), 'ok');
  t.equal(server.connections, 2);
  release();
  t.equal(await held, 'ok');
  transport.renew();
  const both = await Promise.all([health(transport), health(transport)]);
  t.same(both, ['ok', 'ok']);
  t.equal(server.connections, 3, 'they share an attempt');
});

t.test('what a server certainly has not carried out is sent again, once', async (t) => {
  const authority = new Authority('test');
  t.teardown(() => authority.close());
  const pair = authority.issue({ commonName: 'server', names: ['IP:127.0.0.1'] });
  let refusals = 1;
  let connections = 0;
  const going = createTls({ ...pair, ALPNProtocols: ['h2'] }, (socket) => {
    connections++;
    const isGoing = refusals-- > 0;
    socket.on('error', () => undefined);
    socket.write(frame(SETTINGS, 0, 0));
    socket.once('data', () => {
      if (isGoing)
        socket.end(frame(GOAWAY, 0, 0, Buffer.alloc(8))); // the last stream that counts is 0: none
      else socket.write(frame(HEADERS, END_STREAM | END_HEADERS, 1, STATUS_200));
    });
  });
  const transport = transportTo(t, `https://127.0.0.1:${await listen(t, going)}`, trustIn(authority.cert));
  const patch: Ask = { ...HEALTH, method: 'PATCH', body: Buffer.from('{}') };
  t.equal((await transport.send(patch, undefined, never)).status, 200);
  t.equal(connections, 2);
  transport.renew();
  refusals = 2;
  t.match(
    await problemOf(transport.send(patch, undefined, never)),
    /^broken: the server refused the stream$/,
  );
  t.equal(connections, 4);

  // HTTP/1.1: a connection that is kept may be closed while the next request is on its way.
  let asked = 0;
  const known = new WeakSet<Socket>();
  const forgetful = createHttp(({ socket }, answer) => {
    asked++;
    if (known.has(socket)) socket.destroy();
    else answer.end('ok');
    known.add(socket);
  });
  const kept = transportTo(t, `http://127.0.0.1:${await listen(t, forgetful)}`, trustIn(''));
  t.equal(await health(kept), 'ok');
  t.equal(await health(kept), 'ok', 'on another connection');
  t.equal(asked, 3);
  t.match(await problemOf(kept.send(patch, undefined, never)), /^broken: /, 'a change is not');
  t.equal(asked, 4);
});

t.test('boundedLookup() gives up on a name server that does not answer', async (t) => {
  const ask = (name: string, all: boolean): Promise<unknown> =>
    new Promise((resolve, reject) => {
      boundedLookup(3000)(name, { all }, (error, address, family) => {
        if (error !== null) reject(error);
        else resolve(all ? address : [address, family]);
      });
    });
  t.match(await ask('localhost', true), [{ address: /^(?:127\.0\.0\.1|::1)$/ }]);
  t.match(await ask('localhost', false), [/^(?:127\.0\.0\.1|::1)$/, /^[46]$/]);
  await t.rejects(
    new Promise((_resolve, reject) => boundedLookup(0)('name.invalid', {}, (error) => reject(error!))),
    { message: /^name "name\.invalid" not resolved within 0 ms$|ENOTFOUND|EAI_AGAIN/ },
  );
});
