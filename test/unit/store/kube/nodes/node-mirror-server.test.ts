// NodeMirror through HttpKubeClient against the stand-in of an API server, one fault at a time.

import t from 'tap';
import type { ApiServer } from '../../../../support/api-server.js';
import { Witness } from '../../../../support/node-mirror-bench.js';
import { openWorld, type WorldOptions } from '../../../../support/node-mirror-world.js';
import { until } from '../../../../support/store-fixture.js';

const KINDS: readonly (readonly [string, WorldOptions])[] = [
  ['HTTP/2', {}],
  ['HTTP/1.1 over TLS', { environment: { DISABLE_HTTP2: '1' } }],
  ['plain HTTP', { server: { scheme: 'http' } }],
];

for (const [kind, options] of KINDS) {
  t.test(`NodeMirror over ${kind} follows, and resumes after restarts and breaks`, async (t) => {
    const world = await openWorld(t, options);
    const { server, mirror, seen } = world;
    const witness = new Witness(world.table.values());
    world.onEvent = (event) => witness.take(event);
    // A list of the watch cache is in no order.
    t.match(seen, [/^snapshot [ab]=-@\d+ [ab]=-@\d+$/]);
    server.createNode('c');
    world.annotate('a', '1');
    server.updateNode('c', { spec: { podCIDR: '10.244.3.0/24', podCIDRs: ['10.244.3.0/24'] } });
    await world.agree('changes');
    t.equal(seen.length, 4);
    for (const ending of ['end', 'reset', 'cut'] as const) {
      server.endWatches(ending);
      server.deleteNode('c');
      server.createNode('c');
      world.annotate('b', ending);
      await world.agree(ending);
    }
    t.equal(mirror.counters.lists, 1, 'all by resuming');
    await server.stop();
    world.annotate('a', '2');
    server.deleteNode('b');
    await until(() => mirror.fault !== undefined, 'a fault');
    t.match(mirror.fault, /watch nodes at .*127\.0\.0\.1/);
    await server.start();
    await world.agree('a restart');
    t.equal(mirror.counters.relists.expired, 1, 'the new server does not know the events before it');
    t.match(seen.slice(-2), [/^delete b /, /^put a=2@/]);
    t.strictSame(witness.faults, []);
  });
}

t.test('NodeMirror takes no list that breaks off, and no event', async (t) => {
  for (const ending of ['end', 'reset', 'cut'] as const) {
    const prepare = (server: ApiServer): void =>
      server.faults.truncateNext(700, ending, { verb: 'list', times: 2 });
    const world = await openWorld(t, { prepare });
    await world.agree(`a list that ends by ${ending}`);
    t.equal(world.seen.length, 1);
    t.equal(world.mirror.counters.lists, 1);
    world.server.watches.truncateNext(ending);
    world.annotate('a', '1');
    world.annotate('b', '2');
    await world.agree(`a watch that ends by ${ending}`);
    t.match(world.seen.slice(1), [/^put a=1/, /^put b=2/]);
  }
});

t.test('NodeMirror does as it is told by 429, and waits out what is refused', async (t) => {
  const prepare = (server: ApiServer): void => {
    server.faults.failNext(429, { verb: 'list' });
    server.faults.failNext(500, { verb: 'list' });
    server.faults.failNext(503, { verb: 'watch' });
  };
  const world = await openWorld(t, { prepare });
  const startedAtMs = performance.now();
  await world.agree('busy answers');
  t.ok(performance.now() - startedAtMs > 900, 'Retry-After is 1 s');
  t.equal(world.seen.length, 1);
});

t.test('NodeMirror says what it may not, and follows when it may', async (t) => {
  const world = await openWorld(t);
  world.write('token', world.server.tokens.nobody);
  world.server.endWatches();
  await until(() => world.mirror.fault !== undefined, 'a fault');
  t.match(world.mirror.fault, /cannot watch nodes .*403/);
  world.annotate('a', '1');
  world.write('token', 'unknown');
  await until(() => /401/.test(world.mirror.fault ?? ''), 'another fault');
  world.write('token', world.server.tokens.flannel);
  await world.agree('allowed again');
  t.equal(world.mirror.counters.lists, 1);
});

t.test('NodeMirror follows through changes of certificates', async (t) => {
  const world = await openWorld(t);
  const { server, mirror } = world;
  server.useNewCertificate();
  server.cutConnections();
  world.annotate('a', '1');
  await world.agree('another certificate');
  server.useNewAuthority();
  server.cutConnections('reset');
  world.annotate('a', '2');
  await until(() => mirror.fault !== undefined && /certificate/.test(mirror.fault), 'a fault');
  world.write('ca.crt', server.authority.cert);
  await world.agree('another authority');
  t.equal(mirror.counters.lists, 1);
  server.goAway();
  world.annotate('a', '3');
  await world.agree('GOAWAY');
});

t.test('NodeMirror is out of a black hole as soon as there is a way', async (t) => {
  const world = await openWorld(t, { tuning: { silenceMs: 60_000, checkMs: [60_000, 60_000] } });
  const { server, mirror } = world;
  server.blackHoleExisting();
  world.annotate('a', '1');
  await world.agree('a connection that swallows everything');
  server.blackHole();
  world.annotate('a', '2');
  await until(() => mirror.fault !== undefined, 'a fault');
  server.heal();
  server.cutConnections();
  await world.agree('healed');
  t.equal(mirror.counters.lists, 1);
});

t.test('NodeMirror finds an event that was lost', async (t) => {
  const world = await openWorld(t);
  const { server, mirror } = world;
  server.watches.dropEvents(3);
  world.annotate('a', '1');
  server.deleteNode('b');
  server.createNode('c');
  await world.agree('lost events');
  t.equal(mirror.counters.repairs, 3);
  t.match(world.logged, ['comparison with the API server found differences: repaired']);
  world.annotate('a', '2');
  await world.agree('the next event');
  t.strictSame(
    world.seen
      .slice(1)
      .map((line) => line.replace(/@.*/, ''))
      .sort(),
    ['put a=1', 'put a=2', 'put c=-', 'vanished b'],
  );
});

t.test('NodeMirror finds that history went back, by silence and by comparing', async (t) => {
  for (const tuning of [{ checkMs: [60_000, 60_000] as const }, { silenceMs: 60_000 }]) {
    const world = await openWorld(t, { tuning });
    const { server, mirror } = world;
    const backup = server.store.backup();
    server.createNode('c');
    for (let i = 0; i < 9; i++) world.annotate('a', `${i}`);
    await world.agree('what will be lost');
    await server.restore(backup);
    world.annotate('b', 'after');
    await world.agree('restored');
    t.equal(mirror.counters.relists.rewound + mirror.counters.relists.expired, 1);
    t.match(world.seen.slice(-3), [/^vanished c/, /^put a=-/, /^put b=after/]);
    world.annotate('b', 'again');
    await world.agree('events after that');
  }
});

t.test('NodeMirror loses nothing by being slow', async (t) => {
  const world = await openWorld(t, { server: { slowReaderEvents: 20 } });
  for (let i = 0; i < 500; i++) world.server.createNode(`n${i}`); // in one turn of the event loop
  await world.agree('500 nodes at once');
  t.equal(world.seen.length, 501);
  t.ok(world.mirror.counters.watches > 1, 'the server ended the watch');
  t.equal(world.mirror.counters.lists, 1);
});

t.test('NodeMirror lists again when its version is compacted away', async (t) => {
  const world = await openWorld(t);
  const { server, mirror } = world;
  server.faults.failNext(503, { verb: 'watch', times: 2 });
  server.endWatches();
  server.deleteNode('a');
  server.createNode('a');
  server.deleteNode('b');
  server.store.compact();
  await world.agree('a gap');
  t.equal(mirror.counters.relists.expired, 1);
  t.match(world.seen.slice(1), [/^delete b/, /^delete a/, /^put a/]);
});
