// The client against the stand-in of an API server: TLS, HTTP/2 and HTTP/1.1 are real.

import { unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ApiObject, WatchEvent } from '../../../../../src/store/kube/api/client.js';
import type { KubeFault } from '../../../../../src/store/kube/api/faults.js';
import { HttpKubeClient } from '../../../../../src/store/kube/api/http-client.js';
import { TIMING, type Timing } from '../../../../../src/store/kube/api/timing.js';
import { ApiServer, type ApiServerOptions } from '../../../../support/api-server.js';
import { until } from '../../../../support/store-fixture.js';
import { folderOf } from '../../../../support/folder.js';

const never = new AbortController().signal;

interface Bench {
  readonly server: ApiServer;
  readonly client: HttpKubeClient;
  /** Files the client reads: ca.crt, token. */
  readonly dir: string;
}

interface BenchOptions {
  readonly server?: ApiServerOptions;
  readonly timing?: Partial<Timing>;
  readonly environment?: Readonly<Record<string, string>>;
}

async function startBench(t: Test, options: BenchOptions = {}): Promise<Bench> {
  const server = await ApiServer.open(options.server);
  const isTls = server.url.startsWith('https');
  const dir = folderOf(t, {
    'ca.crt': isTls ? server.authority.cert : '',
    token: `${server.tokens.admin}\n`,
    kubeconfig: JSON.stringify({
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'x', user: 'u' } }],
      clusters: [
        {
          name: 'x',
          cluster: { server: server.url, ...(isTls ? { 'certificate-authority': 'ca.crt' } : {}) },
        },
      ],
      users: [{ name: 'u', user: { tokenFile: 'token' } }],
    }),
  });
  const client = await HttpKubeClient.open(
    { apiUrl: '', kubeconfigFile: join(dir, 'kubeconfig') },
    options.environment ?? {},
    { ...TIMING, ...options.timing },
  );
  t.teardown(async () => {
    client.close();
    await server.close();
  });
  return { server, client, dir };
}

/** A watch of nodes that is open, with what it told; `ended` never rejects. */
async function openWatch(client: HttpKubeClient, signal = never, resourceVersion = '0') {
  const events: WatchEvent[] = [];
  let opened: () => void = () => undefined;
  const isOpen = new Promise<void>((resolve) => (opened = resolve));
  const onEvent = (event: WatchEvent): void => void events.push(event);
  const ended = client
    .watch('/api/v1/nodes', { resourceVersion }, { onOpen: () => opened(), onEvent }, signal)
    .then(
      () => 'ended' as const,
      (error: unknown) => error as KubeFault,
    );
  await Promise.race([isOpen, ended]);
  return { events, ended };
}

interface Wanted {
  readonly name?: string;
  readonly status?: number;
  readonly reason?: string;
  readonly retryAfterMs?: number;
  readonly message?: RegExp | string;
}

async function refuses(t: Test, call: Promise<unknown>, wanted: Wanted, what = ''): Promise<void> {
  const fault: unknown = await call.then(
    () => new Error('it did not reject'),
    (error: unknown) => error,
  );
  t.match(fault, wanted, what);
}

const nameOf = (object: ApiObject): unknown => (object['metadata'] as ApiObject)['name'];

const HTTP1: BenchOptions = { environment: { DISABLE_HTTP2: '1' } };
const KINDS: readonly (readonly [string, BenchOptions, string])[] = [
  ['HTTP/2', {}, '2.0'],
  ['HTTP/1.1 over TLS', HTTP1, '1.1'],
  ['plain HTTP', { server: { scheme: 'http' } }, '1.1'],
];

for (const [kind, options, httpVersion] of KINDS) {
  t.test(`over ${kind} the client gets, patches, creates, lists and watches`, async (t) => {
    const { server: api, client } = await startBench(t, options);
    t.equal(client.server, api.url);
    t.equal(await client.isListening(), true);
    for (const name of ['n1', 'n2', 'n3']) api.createNode(name, { podCidrs: [`10.1.${name[1]}.0/24`] });
    t.equal(nameOf(await client.get('/api/v1/nodes/n1', never)), 'n1');
    const patch = { metadata: { annotations: { 'flannel.alpha.coreos.com/backend-type': 'ü' } } };
    t.match(await client.patch('/api/v1/nodes/n1/status', patch, never), patch);
    const made = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n4' } };
    t.equal(nameOf(await client.create('/api/v1/nodes', made, never)), 'n4');

    const names: unknown[] = [];
    const end = await client.list('/api/v1/nodes', { limit: '3' }, (item) => names.push(nameOf(item)), never);
    t.same(names, ['n1', 'n2', 'n3']);
    t.type(end.continueToken, 'string');
    const query = { limit: '3', continue: end.continueToken! };
    const last = await client.list('/api/v1/nodes', query, (item) => names.push(nameOf(item)), never);
    t.same(names, ['n1', 'n2', 'n3', 'n4']);
    t.equal(last.continueToken, undefined);

    const items: ApiObject[] = [];
    const add = (item: ApiObject): void => void items.push(item);
    await client.list('/api/v1/nodes', {}, add, never, { metadataOnly: true });
    t.equal(items.length, 4);
    t.notOk('spec' in items[0], 'metadata only');

    const watch = await openWatch(client, never, last.resourceVersion);
    api.createNode('n5');
    api.deleteNode('n2');
    api.endWatches('end');
    t.equal(await watch.ended, 'ended');
    t.same(
      watch.events.map(({ type, object }) => [type, nameOf(object)]),
      [
        ['ADDED', 'n5'],
        ['DELETED', 'n2'],
      ],
    );
    const seen = api.requests.list();
    t.same(
      seen.map(({ verb, resource }) => `${verb} ${resource}`),
      [
        ...['get nodes', 'patch nodes/status', 'create nodes'],
        ...['list nodes', 'list nodes', 'list nodes', 'watch nodes'],
      ],
    );
    t.same([...new Set(seen.map((request) => request.httpVersion))], [httpVersion]);
    t.equal(seen[1].headers['content-type'], 'application/strategic-merge-patch+json');
    t.match(seen[0].headers['user-agent'], /^twilld\/\d/);
    t.equal(seen[0].headers['accept-encoding'], undefined);
    t.equal(api.connections, 1 + 1, 'one for all of it, and that of isListening()');
  });
}

t.test('a list whose answer breaks off is a fault, however cleanly the stream ends', async (t) => {
  for (const [kind, options] of KINDS) {
    const { server, client } = await startBench(t, options);
    for (let i = 0; i < 20; i++) server.createNode(`n${i}`);
    for (const ending of ['end', 'reset', 'cut'] as const) {
      const names: unknown[] = [];
      // A reset can be faster than the head of the answer, and then the client asks once more.
      server.faults.truncateNext(4000, ending, { verb: 'list', times: 2 });
      const listed = client.list('/api/v1/nodes', {}, (item) => names.push(nameOf(item)), never);
      await refuses(t, listed, { name: 'KubeFault', status: 0, reason: 'broken' }, `${kind}, ${ending}`);
      t.ok(names.length < 20, `${names.length} items before it`);
      server.faults.clear();
      server.faults.truncateNext(100, ending, { verb: 'get', times: 2 });
      await refuses(
        t,
        client.get('/api/v1/nodes/n1', never),
        { reason: 'broken' },
        `${kind}, get, ${ending}`,
      );
      server.faults.clear();
    }
    server.faults.truncateNext(4000, 'end', { verb: 'list' });
    await refuses(
      t,
      client.list('/api/v1/nodes', {}, () => undefined, never),
      { message: /^cannot list nodes at https?:\/\/127\.0\.0\.1:\d+: the list is cut off after \d items$/ },
    );
  }
});

t.test('a watch that breaks off rejects, or ends, and its last line is dropped', async (t) => {
  for (const [kind, options] of KINDS) {
    const { server, client } = await startBench(t, options);
    server.createNode('n1');
    const first = await openWatch(client);
    server.createNode('n2');
    server.endWatches('reset');
    t.match(await first.ended, { status: 0, reason: 'broken' }, `${kind}: reset`);
    const second = await openWatch(client);
    server.cutConnections('reset');
    t.match(await second.ended, { status: 0, reason: 'broken' }, `${kind}: connection reset`);
    const third = await openWatch(client);
    server.cutConnections('cut');
    t.match(await third.ended, { status: 0, reason: 'broken' }, `${kind}: connection closed`);
    server.faults.truncateNext(2500, 'end', { verb: 'watch' });
    for (let i = 3; i < 10; i++) server.createNode(`n${i}`);
    const fourth = await openWatch(client);
    t.equal(await fourth.ended, 'ended', kind);
    t.ok(fourth.events.length > 0 && fourth.events.length < 9, `${fourth.events.length} whole events`);
  }
});

t.test('a watch of a version that is gone rejects with the code of its ERROR event', async (t) => {
  const { server, client } = await startBench(t, { server: { historyLimit: 1 } });
  for (let i = 0; i < 5; i++) server.createNode(`n${i}`);
  const watch = await openWatch(client, never, '1');
  const fault = await watch.ended;
  t.match(fault, { name: 'KubeFault', status: 410, reason: 'Expired' });
  t.match(
    (fault as KubeFault).message,
    /^cannot watch nodes at https:.*: 410 Expired: too old resource version/,
  );
  t.same(watch.events, []);
});

t.test('refusals come with status, reason, verb and resource', async (t) => {
  const { server, client, dir } = await startBench(t);
  server.createNode('n1');
  const get = (): Promise<ApiObject> => client.get('/api/v1/nodes/n1', never);
  await refuses(t, client.get('/api/v1/nodes/none', never), { status: 404, reason: 'NotFound' });
  server.faults.failNext(429);
  await refuses(t, get(), {
    status: 429,
    reason: '',
    retryAfterMs: 1000,
    message: /^cannot get nodes .*: 429 Too/,
  });
  server.faults.failNext(500, { verb: 'list' });
  await refuses(
    t,
    client.list('/api/v1/nodes', {}, () => undefined, never),
    { status: 500 },
  );
  writeFileSync(join(dir, 'token'), server.tokens.nobody);
  await refuses(t, client.patch('/api/v1/nodes/n1/status', {}, never), {
    status: 403,
    reason: 'Forbidden',
    message:
      /^cannot patch nodes\/status at https:.*: 403 Forbidden: .*cannot patch resource "nodes\/status"/,
  });
  await refuses(
    t,
    client.list('/api/v1/nodes', {}, () => undefined, never),
    {
      message: /^cannot list nodes at .*: 403 Forbidden: .*cannot list resource "nodes"/,
    },
  );
  t.match(await (await openWatch(client)).ended, { status: 403, message: /^cannot watch nodes at / });
});

t.test('a token is read for each request, and a 401 is asked once more', async (t) => {
  const { server, client, dir } = await startBench(t);
  server.createNode('n1');
  const get = (): Promise<ApiObject> => client.get('/api/v1/nodes/n1', never);
  await get();
  writeFileSync(join(dir, 'token'), '');
  await get();
  writeFileSync(join(dir, 'token'), server.tokens.admin);
  const watch = await openWatch(client);
  server.access.revokeToken(server.tokens.admin);
  await refuses(t, get(), { status: 401, reason: 'Unauthorized' });
  t.equal(server.requests.list('get').length, 4, 'the last one twice');
  writeFileSync(join(dir, 'token'), '');
  await refuses(
    t,
    get(),
    { status: 0, message: /token file ".*": it is empty/ },
    'the refused one is no help',
  );
  writeFileSync(join(dir, 'token'), `  ${server.tokens.flannel}\n`);
  await get();
  writeFileSync(join(dir, 'token'), 'two\nlines');
  await refuses(t, get(), {
    status: 0,
    reason: 'credentials',
    message: /: Cannot use token file ".*": expected letters/,
  });
  t.equal(server.connections, 1);
  server.endWatches('end');
  t.equal(await watch.ended, 'ended', 'a watch outlives its token');
});

t.test('a token whose file is gone serves until it is refused, and then the file is named', async (t) => {
  const { server: api, client, dir } = await startBench(t);
  api.createNode('n1');
  await client.get('/api/v1/nodes/n1', never);
  unlinkSync(join(dir, 'token'));
  await client.get('/api/v1/nodes/n1', never);
  api.access.revokeToken(api.tokens.admin);
  const message = /cannot get nodes at https:.*: Cannot read token file ".*token": ENOENT/;
  await refuses(t, client.get('/api/v1/nodes/n1', never), { status: 0, reason: 'credentials', message });
  writeFileSync(join(dir, 'token'), api.access.issueToken('system:admin'));
  await refuses(t, client.get('/api/v1/nodes/n1', never), { status: 403 }, 'the new one is sent');
});

t.test('a black hole is noticed by ping', async (t) => {
  const { server, client } = await startBench(t, { timing: { pingMs: 100, pongMs: 100 } });
  server.createNode('n1');
  const watch = await openWatch(client);
  const alive = await Promise.race([
    watch.ended,
    new Promise((resolve) => setTimeout(resolve, 500, 'alive')),
  ]);
  t.equal(alive, 'alive', 'pings are answered');
  server.blackHoleExisting();
  const startedMs = performance.now();
  t.match(await watch.ended, { status: 0, reason: 'broken', message: /no answer to a ping within 100 ms/ });
  t.ok(performance.now() - startedMs < 1000);
  await client.get('/api/v1/nodes/n1', never);
  t.equal(server.connections, 2, 'the next one has a new connection');
});

t.test(
  'a server that accepts and never answers is a timeout, and one that is gone unreachable',
  async (t) => {
    for (const [kind, options] of KINDS) {
      const { server, client } = await startBench(t, {
        ...options,
        timing: { callMs: 800, idleMs: 300, connectMs: 200 },
      });
      server.createNode('n1');
      const get = (): Promise<ApiObject> => client.get('/api/v1/nodes/n1', never);
      await get();
      const release = server.faults.hold();
      await refuses(t, get(), { reason: 'timeout', message: /: no answer within 800 ms$/ }, kind);
      release();
      await get();
      const releaseList = server.faults.hold({ verb: 'list' });
      await refuses(
        t,
        client.list('/api/v1/nodes', {}, () => undefined, never),
        { reason: 'timeout' },
        kind,
      );
      releaseList();
      server.blackHole();
      client.renew();
      await refuses(t, get(), { reason: kind === 'plain HTTP' ? 'timeout' : 'unreachable' }, kind);
      server.heal();
      await server.stop();
      t.equal(await client.isListening(), false);
      await refuses(t, get(), { reason: 'unreachable', message: /ECONNREFUSED/ }, kind);
      await server.start();
      t.equal(await client.isListening(), true);
      await get();
    }
  },
);

t.test('GOAWAY: what is open goes on, the next request has a new connection', async (t) => {
  const { server, client } = await startBench(t);
  server.createNode('n1');
  const watch = await openWatch(client);
  server.goAway();
  await until(async () => {
    await client.get('/api/v1/nodes/n1', never);
    return server.connections === 2;
  }, 'a second connection');
  server.createNode('n2');
  await until(() => watch.events.length === 2, 'the watch goes on');
  t.equal(server.connections, 2);
});

t.test('renew() ends what is under way; close() ends everything, for ever', async (t) => {
  for (const [kind, options] of KINDS) {
    const { server, client } = await startBench(t, options);
    server.createNode('n1');
    const watch = await openWatch(client);
    client.renew();
    t.match(await watch.ended, { status: 0, reason: 'broken' }, `${kind}: renew`);
    const next = await openWatch(client);
    t.equal(server.requests.list().at(-1)?.connection, 2, kind);
    const release = server.faults.hold();
    const get = client.get('/api/v1/nodes/n1', never);
    await until(() => server.requests.list('get').length === 1, 'asked');
    client.close();
    client.close();
    await refuses(t, get, { status: 0, reason: 'closed' }, kind);
    t.match(await next.ended, { status: 0, reason: 'closed' }, kind);
    await refuses(t, client.get('/api/v1/nodes/n1', never), { status: 0, reason: 'closed' }, kind);
    release();
    client.renew();
  }
});

t.test('a call ends with its signal, and with the error of its listener', async (t) => {
  for (const [kind, options] of KINDS) {
    const { server, client } = await startBench(t, options);
    server.createNode('n1');
    const ended = new Error('enough');
    const aborted = AbortSignal.abort(ended);
    await refuses(t, client.get('/api/v1/nodes/n1', aborted), ended, kind);
    const release = server.faults.hold();
    const abort = new AbortController();
    const get = client.get('/api/v1/nodes/n1', abort.signal);
    await until(() => server.requests.list('get').length === 1, 'asked');
    const watch = await openWatch(client, abort.signal);
    abort.abort(ended);
    await refuses(t, get, ended, kind);
    t.equal(await watch.ended, ended);
    release();
    const fail = (): never => {
      throw ended;
    };
    await refuses(t, client.list('/api/v1/nodes', {}, fail, never), ended, kind);
    for (const listener of [
      { onOpen: fail, onEvent: () => undefined },
      { onOpen: () => undefined, onEvent: fail },
    ])
      await refuses(t, client.watch('/api/v1/nodes', { resourceVersion: '0' }, listener, never), ended, kind);
    await until(() => server.watches.count === 0, 'the server sees the watches go');
    await client.get('/api/v1/nodes/n1', never);
  }
});

t.test('more requests than there are places wait for one', async (t) => {
  const { server, client } = await startBench(t);
  server.createNode('n1');
  const release = server.faults.hold({ times: 16 });
  const gets = Array.from({ length: 20 }, () => client.get('/api/v1/nodes/n1', new AbortController().signal));
  await until(() => server.requests.list().length === 16, '16 are asked');
  const abort = new AbortController();
  const waiting = client.get('/api/v1/nodes/n1', abort.signal);
  abort.abort(new Error('gave up'));
  await refuses(t, waiting, { message: 'gave up' });
  t.equal(server.requests.list().length, 16);
  release();
  await Promise.all(gets);
  t.equal(server.requests.list().length, 20);
});

t.test('an API server that starts anew is found again, also with another certificate', async (t) => {
  const { server, client, dir } = await startBench(t);
  server.createNode('n1');
  const get = (): Promise<ApiObject> => client.get('/api/v1/nodes/n1', never);
  await get();
  server.useNewCertificate();
  await server.restart();
  await until(
    () =>
      get().then(
        () => true,
        () => false,
      ),
    'the same CA',
  );
  const former = server.authority.cert;
  server.useNewAuthority();
  await server.restart();
  await until(
    () =>
      get().then(
        () => true,
        (error: KubeFault) => error.reason === 'tls',
      ),
    'refused',
  );
  await refuses(t, get(), { reason: 'tls', message: /^cannot get nodes at https:.*(?:CERT|SIGNATURE)/ });
  writeFileSync(join(dir, 'ca.crt'), 'rubbish');
  await refuses(t, get(), { reason: 'tls' }, 'what cannot be used leaves the CA before');
  writeFileSync(join(dir, 'ca.crt'), former + server.authority.cert);
  await get();
});
