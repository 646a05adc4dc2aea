// The faults of the stand-in, each as a client sees it, over both transports where they differ.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { ApiServer, type ApiServerOptions } from '../../../support/api-server.js';
import { type Asked, ask1, ask2, openSession, type Question } from '../../../support/api-server/asker.js';
import type { ApiObject } from '../../../support/api-server/api-object.js';
import { ApiFailure } from '../../../support/api-server/failures.js';
import { FakeClock } from '../../../support/fake-clock.js';

interface World {
  readonly server: ApiServer;
  ask(path: string, question?: Partial<Question>): Asked;
}

async function open(
  t: { teardown(close: () => Promise<void>): void },
  ask: typeof ask1,
  options: ApiServerOptions = {},
): Promise<World> {
  const server = await ApiServer.open(options);
  t.teardown(() => server.close());
  return {
    server,
    ask: (path, question) =>
      ask({ url: server.url, ca: caOf(server) }, { path, token: server.tokens.admin, ...question }),
  };
}

function caOf(server: ApiServer): string | undefined {
  return server.url.startsWith('https') ? server.authority.cert : undefined;
}

const LIST = '/api/v1/nodes';
const WATCH = '/api/v1/nodes?watch=true&resourceVersion=1';
/** How a client sees that a stream was reset, or its connection lost. */
const BROKEN = /ECONNRESET|ERR_HTTP2_STREAM_ERROR|closed|aborted/;

async function openWatch(world: World, path = WATCH): Promise<Asked> {
  const asked = world.ask(path);
  await asked.reply.until(({ status }) => status === 200);
  return asked;
}

for (const ask of [ask1, ask2]) {
  const transport = `HTTP/${ask === ask1 ? '1.1' : '2'}`;

  t.test(`failNext() answers as many as it was told, over ${transport}`, async (t) => {
    const world = await open(t, ask);
    world.server.faults.failNext(500, { verb: 'list', resource: 'nodes', times: 2 });
    const statuses: number[] = [];
    for (let i = 0; i < 3; i++) statuses.push((await world.ask(LIST).reply.done).status);
    t.same(statuses, [500, 500, 200]);
    t.same(
      world.server.requests.list('list').map(({ status }) => status),
      statuses,
    );
  });

  t.test(`truncateNext(): a body that breaks off, over ${transport}`, async (t) => {
    const world = await open(t, ask);
    for (let i = 0; i < 5; i++) world.server.createNode(`n${i}`);
    const whole = (await world.ask(LIST).reply.done).text;
    for (const ending of ['end', 'reset', 'cut'] as const) {
      world.server.faults.truncateNext(100, ending);
      const { text, outcome } = await world.ask(LIST).reply.done;
      if (ending === 'end') t.equal(text, whole.slice(0, 100));
      else t.ok(whole.slice(0, 100).startsWith(text));
      // Over HTTP/2 a lost connection shows as the end of the stream.
      t.match(
        outcome,
        ending === 'end' || (ending === 'cut' && ask === ask2) ? /ended|closed/ : BROKEN,
        ending,
      );
    }
  });

  t.test(`a frame of a watch that breaks off, over ${transport}`, async (t) => {
    for (const ending of ['end', 'reset', 'cut'] as const) {
      const world = await open(t, ask);
      const { reply } = await openWatch(world);
      world.server.createNode('n1');
      await reply.until(({ frames }) => frames.length === 1);
      world.server.watches.truncateNext(ending);
      world.server.createNode('n2');
      await reply.done;
      t.equal(reply.frames.length, 1);
      if (ending === 'end') {
        t.equal(reply.outcome, 'ended');
        t.notMatch(reply.text, /\n$/);
        t.match(
          reply.text,
          '{"type":"ADDED","object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"n2"',
        );
      }
    }
  });

  t.test(`endWatches(): cleanly, by reset, by the loss of the connection, over ${transport}`, async (t) => {
    const world = await open(t, ask);
    for (const ending of ['end', 'reset', 'cut'] as const) {
      const { reply } = await openWatch(world);
      world.server.endWatches(ending);
      const { outcome } = await reply.done;
      t.match(
        outcome,
        ending === 'end' || (ending === 'cut' && ask === ask2) ? /ended|closed/ : BROKEN,
        ending,
      );
    }
    await openWatch(world);
    t.equal(world.server.watches.count, 1);
  });

  t.test(`cutConnections(), over ${transport}`, async (t) => {
    const world = await open(t, ask);
    for (const how of ['cut', 'reset'] as const) {
      const { reply } = await openWatch(world);
      world.server.cutConnections(how);
      t.ok((await reply.done).outcome);
    }
  });

  t.test(`blackHole(): accepted, and never answered, until heal(), over ${transport}`, async (t) => {
    const world = await open(t, ask);
    const watch = await openWatch(world);
    world.server.blackHole();
    const { reply } = world.ask(LIST);
    world.server.createNode('unseen');
    while (world.server.connections < 2) await turn();
    t.equal(reply.outcome, undefined);
    t.equal(watch.reply.text, '');
    world.server.heal();
    t.ok((await reply.done).outcome, 'a connection with a gap is cut');
    t.ok((await watch.reply.done).outcome);
    t.equal((await world.ask(LIST).reply.done).status, 200);
    t.same(world.server.requests.list('list').length, 1, 'what was swallowed was not seen');
  });

  t.test(`blackHoleExisting(): new connections work, over ${transport}`, async (t) => {
    const world = await open(t, ask);
    const watch = await openWatch(world);
    world.server.blackHoleExisting();
    world.server.createNode('unseen');
    t.equal((await world.ask(LIST).reply.done).status, 200);
    t.same([watch.reply.text, watch.reply.outcome], ['', undefined]);
    watch.end();
  });

  t.test(`stopReading(): nothing is read, and nothing lost, over ${transport}`, async (t) => {
    const world = await open(t, ask);
    const watch = await openWatch(world);
    world.server.stopReading();
    const { reply } = world.ask(LIST);
    world.server.createNode('late');
    while (world.server.connections < 2) await turn();
    t.same([reply.status, watch.reply.text], [0, '']);
    world.server.heal();
    t.equal((await reply.done).status, 200);
    await watch.reply.until(({ frames }) => frames.length === 1);
    t.equal(watch.reply.outcome, undefined);
    watch.end();
  });

  t.test(
    `a slow reader: the stream ends cleanly, and goes on from the last version, over ${transport}`,
    async (t) => {
      const world = await open(t, ask, { slowReaderEvents: 100 });
      const { server } = world;
      const watch = await openWatch(world);
      watch.pause();
      const filler = { annotations: { 'a.b/filler': 'x'.repeat(100_000) } };
      server.createNode('big', filler);
      let sent = 1;
      // Until the sockets between are full, and a hundred wait behind them.
      while (server.watches.count > 0) {
        server.updateNode('big', { metadata: { labels: { round: `${sent++}` } } });
        await turn();
      }
      server.updateNode('big', { metadata: { labels: { round: `${sent++}` } } });
      watch.resume();
      await watch.reply.done;
      t.equal(watch.reply.outcome, 'ended');
      const { frames } = watch.reply;
      t.ok(frames.length < sent, `${frames.length} of ${sent}`);
      const last = (frames[frames.length - 1].object.metadata as ApiObject).resourceVersion as string;
      const next = await openWatch(world, `/api/v1/nodes?watch=true&resourceVersion=${last}`);
      await next.reply.until(({ frames: more }) => more.length === sent - frames.length);
      next.end();
    },
  );

  t.test(`hold(): no answer until it is released, over ${transport}`, async (t) => {
    const world = await open(t, ask);
    const release = world.server.faults.hold({ verb: 'list' });
    const { reply } = world.ask(LIST);
    t.equal((await world.ask('/api/v1/nodes/n1').reply.done).status, 404);
    t.equal(reply.status, 0);
    release();
    t.equal((await reply.done).status, 200);
  });

  t.test(`a client that gives up is not answered, over ${transport}`, async (t) => {
    const world = await open(t, ask);
    const releases = ['get', 'list', 'watch'].map((verb) =>
      world.server.faults.hold({ verb: verb as 'get' }),
    );
    for (const path of ['/api/v1/nodes/n1', LIST, WATCH]) {
      const { reply, end } = world.ask(path);
      while (world.server.requests.list().every(({ path: seen, query }) => !asks(path, seen, query)))
        await turn();
      end();
      t.ok((await reply.done).outcome);
    }
    for (const release of releases) release();
    t.equal((await world.ask(LIST).reply.done).status, 200);
    t.equal(world.server.watches.count, 0);
  });

  t.test(`another certificate, over ${transport}`, async (t) => {
    const world = await open(t, ask);
    const { server } = world;
    const ca = server.authority.cert;
    server.useNewCertificate();
    t.equal((await world.ask(LIST).reply.done).status, 200);
    server.useNewAuthority();
    await server.restart();
    const { reply } = ask({ url: server.url, ca }, { path: LIST, token: server.tokens.admin });
    t.match((await reply.done).outcome, /CERT|SELF_SIGNED|ERR_SSL|ERR_OSSL/);
    t.equal((await world.ask(LIST).reply.done).status, 200, 'by whom the new authority is trusted');
  });
}

function asks(path: string, seen: string, query: Readonly<Record<string, string>>): boolean {
  return path.split('?')[0] === seen && path.includes('watch') === 'watch' in query;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

t.test('failNext() with Retry-After, and with words of a proxy', async (t) => {
  const world = await open(t, ask2);
  const { faults } = world.server;
  faults.failNext({ code: 503, retryAfterSeconds: 7 });
  t.equal((await world.ask(LIST).reply.done).headers['retry-after'], '7');
  faults.failNext({ code: 429, retryAfterSeconds: 9 });
  const busy = await world.ask(LIST).reply.done;
  t.same(
    [busy.status, busy.headers['retry-after'], busy.headers['content-type']?.toString()],
    [429, '9', 'text/plain; charset=utf-8'],
  );
  faults.failNext(new ApiFailure(502, '<h1>Bad Gateway</h1>', { 'content-type': 'text/html' }));
  t.match(await world.ask(LIST).reply.done, { status: 502, text: '<h1>Bad Gateway</h1>' });
});

t.test('goAway(): streams go on, and the client is told', async (t) => {
  const { server } = await open(t, ask2);
  const to = { url: server.url, ca: server.authority.cert };
  const session = openSession(to);
  t.teardown(() => session.destroy());
  const { reply } = ask2(to, { path: WATCH, token: server.tokens.admin }, session);
  await reply.until(({ status }) => status === 200);
  const told = new Promise<number>((resolve) => session.once('goaway', resolve));
  server.goAway();
  t.equal(await told, 0);
  server.createNode('n1');
  await reply.until(({ frames }) => frames.length === 1);
  server.endWatches();
  t.equal((await reply.done).outcome, 'ended');
});

t.test('dropEvents(): lost to watches that are open, not to those that resume', async (t) => {
  const world = await open(t, ask2);
  const { server } = world;
  const watch = await openWatch(world);
  server.watches.dropEvents(1);
  server.createNode('lost');
  server.createNode('told');
  await watch.reply.until(({ frames }) => frames.length === 1);
  t.equal((watch.reply.frames[0].object.metadata as ApiObject).name, 'told');
  const resumed = await openWatch(world);
  await resumed.reply.until(({ frames }) => frames.length === 2);
  for (const { end } of [watch, resumed]) end();
});

t.test('store.compact(): what a watch and an exact list asked from is gone', async (t) => {
  const world = await open(t, ask2);
  const { server } = world;
  for (let i = 0; i < 4; i++) server.createNode(`n${i}`);
  server.store.compact();
  const [frame] = (await world.ask(WATCH).reply.done).frames;
  t.match(frame, { type: 'ERROR', object: { code: 410, reason: 'Expired' } });
  t.equal((await world.ask(`${LIST}?resourceVersion=2&resourceVersionMatch=Exact`).reply.done).status, 410);
});

t.test('restart(): a watch goes on from the last version alone, a list from any', async (t) => {
  const world = await open(t, ask2);
  const { server } = world;
  server.createNode('n1');
  server.createNode('n2');
  await server.restart();
  t.match((await world.ask(WATCH).reply.done).frames, [{ type: 'ERROR', object: { code: 410 } }]);
  const { json } = await world.ask(`${LIST}?resourceVersion=2&resourceVersionMatch=Exact`).reply.done;
  t.equal((json.items as unknown[]).length, 1);
  const watch = await openWatch(world, `/api/v1/nodes?watch=true&resourceVersion=${server.store.version}`);
  server.createNode('n3');
  await watch.reply.until(({ frames }) => frames.length === 1);
  watch.end();
});

t.test(
  'restore(): history goes back; a watch from a later version is silent, a list from it is told',
  async (t) => {
    const clock = new FakeClock();
    const world = await open(t, ask2, { clock });
    const { server } = world;
    server.createNode('old');
    const backup = server.store.backup();
    for (let i = 0; i < 3; i++) server.createNode(`n${i}`);
    const version = server.store.version;
    await server.restore(backup);
    t.equal(server.node('n1'), undefined);
    t.equal(server.store.version, backup.version);
    const watch = await openWatch(world, `${LIST}?watch=true&resourceVersion=${version}&timeoutSeconds=90`);
    server.createNode('again');
    const list = world.ask(`${LIST}?resourceVersion=${version}`);
    while (server.requests.list('list').length === 0) await clock.advance(0);
    await clock.advance(3_000);
    t.equal((await list.reply.done).status, 504);
    await clock.advance(90_000);
    await watch.reply.done;
    t.same([watch.reply.text, watch.reply.outcome], ['', 'ended']);
  },
);

t.test('a watch from the future begins with the first change beyond it', async (t) => {
  const world = await open(t, ask2);
  const { server } = world;
  const watch = await openWatch(world, `${LIST}?watch=true&resourceVersion=${server.store.version + 2}`);
  for (const name of ['a', 'b', 'c']) server.createNode(name);
  await watch.reply.until(({ frames }) => frames.length === 1);
  t.equal((watch.reply.frames[0].object.metadata as ApiObject).name, 'c');
  watch.end();
});

t.test('plain HTTP, and HTTP/1.1 alone', async (t) => {
  const plain = await open(t, ask1, { scheme: 'http' });
  t.equal((await plain.ask(LIST).reply.done).status, 200);
  const old = await open(t, ask1, { protocols: ['http/1.1'] });
  t.equal((await old.ask(LIST).reply.done).status, 200);
  t.equal(old.server.requests.list()[0].httpVersion, '1.1');
});

t.test('15 KB a node: the fixture comes back as it was', async (t) => {
  const world = await open(t, ask2);
  const url = new URL('../../../fixtures/kube/api/node-as-kubelet-reports.jsonl', import.meta.url);
  const node = JSON.parse(readFileSync(url, 'utf8')) as ApiObject;
  const { reply } = world.ask(LIST, { method: 'POST', body: node });
  await reply.done;
  t.equal(reply.status, 201);
  for (const part of ['spec', 'status'] as const) t.same(reply.json[part], node[part]);
  const { managedFields } = reply.json.metadata as ApiObject;
  t.same(managedFields, (node.metadata as ApiObject).managedFields);
});
