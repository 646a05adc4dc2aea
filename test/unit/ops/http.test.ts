import { connect, type Socket } from 'node:net';
import pino from 'pino';
import t from 'tap';
import { type Condition, condition } from '../../../src/core/conditions.js';
import { Health } from '../../../src/ops/health.js';
import { type HttpServer, openHttpServer } from '../../../src/ops/http.js';
import { Metrics } from '../../../src/ops/metrics.js';

async function open(
  health: Health,
  held?: ReadonlyMap<string, () => () => void>,
): Promise<HttpServer & { url: string }> {
  const family = (
    direction: string,
  ): {
    name: string;
    help: string;
    type: 'counter';
    values: { labels: Record<string, string>; value: number }[];
  } => ({
    name: 'dropped_packets_total',
    help: 'Drops.',
    type: 'counter',
    values: [{ labels: { direction, reason: 'no_route' }, value: 7 }],
  });
  const metrics = new Metrics({
    families: () => [family('outbound'), family('inbound')],
    version: '1.2.3',
  });
  const log = pino({ level: 'silent' });
  const server = await openHttpServer({
    listen: { ip: '127.0.0.1', port: 0 },
    health,
    metrics,
    status: () => ({ hello: 1 }),
    log,
    ...(held !== undefined && { held }),
  });
  return { ...server, url: `http://127.0.0.1:${server.port}` };
}

t.test('the endpoints', async (t) => {
  const health = new Health(() => 0);
  const found: Condition[] = [];
  health.addSource('store', () => found);
  const server = await open(health);
  t.teardown(() => server.close());
  const get = async (path: string, method = 'GET'): Promise<[number, string]> => {
    const response = await fetch(server.url + path, { method });
    return [response.status, await response.text()];
  };
  t.same(await get('/healthz'), [200, 'flanneld is running']);
  t.same(await get('/readyz'), [503, 'flanneld is not ready yet']);
  health.setStarted(true);
  t.same(await get('/readyz'), [200, 'flanneld is ready']);
  found.push(condition('lease-refused', 'lease 10.5.9.0/24: it\nwas', 3));
  const refused =
    'warning peer lease-refused since 1970-01-01T00:00:00.000Z: lease 10.5.9.0/24: it was; what to do: twill leases';
  t.same(await get('/readyz'), [200, `flanneld is ready\n${refused}`], "another host's fault");
  found.push(condition('store-unreachable', 'etcd is away'));
  const [code, body] = await get('/readyz');
  t.equal(code, 503, 'what this host cannot do');
  const [heading, first, second] = body.split('\n');
  t.equal(heading, 'flanneld is degraded');
  t.match(
    first,
    'error node store-unreachable since 1970-01-01T00:00:00.000Z: etcd is away; what to do: see',
  );
  t.equal(second, refused);
  t.same(await get('/status'), [200, '{\n  "hello": 1\n}\n']);
  t.equal((await get('/nowhere'))[0], 404);
  t.same(await get('/healthz', 'HEAD'), [200, '']);
  t.equal((await get('/healthz', 'POST'))[0], 405);
  const [, metrics] = await get('/metrics');
  t.match(metrics, /twill_dropped_packets_total\{direction="outbound",reason="no_route"\} 7/);
  t.match(metrics, /twill_dropped_packets_total\{direction="inbound",reason="no_route"\} 7/);
  t.match(metrics, /twill_build_info\{version="1\.2\.3"\} 1/);
  t.equal(metrics.match(/# TYPE twill_dropped_packets_total/g)!.length, 1, 'one family');
});

t.test('what is held ends with its connection, or with the server', async (t) => {
  let holders = 0;
  let onEnd = () => undefined as void;
  const begin = () => {
    holders++;
    return () => {
      holders--;
      onEnd();
    };
  };
  const server = await open(new Health(), new Map([['/capture', begin]]));
  const url = `${server.url}/capture`;
  const ask = new AbortController();
  t.equal((await fetch(url, { signal: ask.signal })).status, 200);
  t.equal((await fetch(url, { method: 'HEAD' })).status, 404, 'it has to be asked for');
  await fetch(url);
  t.equal(holders, 2);
  await new Promise<void>((resolve) => {
    onEnd = resolve;
    ask.abort();
  });
  t.equal(holders, 1);
  const last = new Promise<void>((resolve) => (onEnd = resolve));
  await Promise.all([last, server.close()]);
  t.equal(holders, 0);
});

t.test('a client that sends nothing is cut off, and close() waits for nobody', async (t) => {
  const server = await open(new Health());
  const slow = connect(server.port, '127.0.0.1');
  slow.write('GET /healthz HTTP/1.1\r\nHost:');
  const startedMs = Date.now();
  await new Promise((resolve) => slow.once('close', resolve).resume());
  t.ok(Date.now() - startedMs < 4_000, `${Date.now() - startedMs} ms`);
  const idle = connect(server.port, '127.0.0.1');
  await new Promise((resolve) => idle.once('connect', resolve));
  const gone = new Promise((resolve) =>
    idle
      .once('close', resolve)
      .on('error', () => undefined)
      .resume(),
  );
  await server.close();
  await gone;
  t.pass('both ended');
});

t.test('a port that is taken is an error that names it', async (t) => {
  const first = await open(new Health());
  t.teardown(() => first.close());
  const metrics = new Metrics({ families: () => [], version: '' });
  const again = openHttpServer({
    listen: { ip: '127.0.0.1', port: first.port },
    health: new Health(),
    metrics,
    status: () => ({}),
    log: pino({ level: 'silent' }),
  });
  await t.rejects(again, {
    code: 'E_SOCKET',
    message: new RegExp(`127\\.0\\.0\\.1:${first.port} for health checks: EADDRINUSE`),
  });
});

t.test('slow connections of one neighbour cost only its own', async (t) => {
  const health = new Health();
  health.setStarted(true);
  const server = await open(health);
  const slow: Socket[] = [];
  t.teardown(async () => {
    for (const socket of slow) socket.destroy();
    await server.close();
  });
  let ended = 0;
  for (let i = 0; i < 400; i++) {
    const socket = connect({ port: server.port, host: '127.0.0.1', localAddress: '127.0.0.2' });
    socket.on('error', () => undefined).once('close', () => ended++);
    socket.once('connect', () => socket.write('GET /healthz HTTP/1.1\r\nHost:'));
    slow.push(socket.resume());
  }
  for (let i = 0; i < 20; i++) {
    const startedMs = Date.now();
    const answer = await fetch(`${server.url}/healthz`, { headers: { connection: 'close' } });
    t.equal(answer.status, 200);
    t.ok(Date.now() - startedMs < 1_000, `${Date.now() - startedMs} ms`);
  }
  while (ended < 392) await new Promise((resolve) => setTimeout(resolve, 10));
  const others = Array.from({ length: 100 }, (_, i) =>
    connect({ port: server.port, host: '127.0.0.1', localAddress: `127.0.1.${i + 1}` }),
  );
  for (const socket of others) slow.push(socket.on('error', () => undefined).resume());
  const last = await fetch(`${server.url}/healthz`, { headers: { connection: 'close' } });
  t.equal(last.status, 200, 'nor do those of a hundred');
});

t.test('a listener of its own serves nothing but its paths', async (t) => {
  const metrics = new Metrics({ families: () => [], version: '1' });
  const server = await openHttpServer({
    listen: { ip: '127.0.0.1', port: 0 },
    health: new Health(),
    metrics,
    status: () => ({}),
    log: pino({ level: 'silent' }),
    paths: new Set(['/metrics']),
  });
  t.teardown(() => server.close());
  for (const [path, code] of [
    ['/metrics', 200],
    ['/status', 404],
    ['/readyz', 404],
    ['/healthz', 404],
  ] as const)
    t.equal((await fetch(`http://127.0.0.1:${server.port}${path}`)).status, code, path);
});
