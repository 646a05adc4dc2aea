// NodeMirror through HttpKubeClient against the stand-in of an API server, with all faults in any order.

import t from 'tap';
import { Witness } from '../../../../support/node-mirror-bench.js';
import { openWorld, type World } from '../../../../support/node-mirror-world.js';
import { randomOf } from '../../../../support/random.js';

const STEPS = 60;

type Pick = <T>(of: readonly T[]) => T;

function writeSome(world: World, random: () => number): void {
  const { server } = world;
  for (let i = Math.floor(random() * 12); i > 0; i--) {
    const name = `n${Math.floor(random() * 30)}`;
    if (server.node(name) === undefined) server.createNode(name);
    else if (random() < 0.2) server.deleteNode(name);
    else if (random() < 0.5)
      server.updateNode(name, { status: { phase: `${random()}` } }); // a heartbeat
    else world.annotate(name, `${Math.floor(random() * 1e6)}`);
  }
}

function misfortunesOf({ server }: World, random: () => number, pick: Pick): (() => void | Promise<void>)[] {
  return [
    () => server.endWatches(pick(['end', 'reset', 'cut'])),
    () => server.cutConnections(pick(['cut', 'reset'])),
    () => server.blackHoleExisting(),
    () => server.restart(),
    () => server.useNewCertificate(),
    () => server.store.compact(),
    () => server.watches.dropEvents(1 + Math.floor(random() * 3)),
    () => server.watches.truncateNext(pick(['end', 'reset', 'cut'])),
    () =>
      server.faults.failNext(pick([401, 403, 410, 500, 503]), { verb: pick(['list', 'watch']), times: 2 }),
    () =>
      server.faults.truncateNext(Math.floor(random() * 5_000), pick(['end', 'reset', 'cut']), {
        verb: 'list',
      }),
    () => server.store.skipVersions(50),
    () => server.watches.bookmark(),
  ];
}

for (const [seed, hasRestores] of [
  [1, false],
  [2, true],
] as const) {
  t.test(`NodeMirror ends up with what the server has, restores: ${hasRestores}`, async (t) => {
    const random = randomOf(seed);
    const pick: Pick = (of) => of[Math.floor(random() * of.length)];
    const world = await openWorld(t, { server: { bookmarkMs: 500, slowReaderEvents: 50 } });
    const { server } = world;
    const misfortunes = misfortunesOf(world, random, pick);
    const witness = new Witness(world.table.values());
    if (!hasRestores) world.onEvent = (event) => witness.take(event);
    let backup = server.store.backup();
    for (let step = 0; step < STEPS; step++) {
      writeSome(world, random);
      await pick(misfortunes)();
      writeSome(world, random);
      if (hasRestores && random() < 0.1) await server.restore(backup);
      if (random() < 0.1) backup = server.store.backup();
      if (random() < 0.3) await world.agree(`step ${step}`);
    }
    server.faults.clear();
    await world.agree('peace');
    t.strictSame(witness.faults, [], 'each write was told once, and in order');
    t.comment(JSON.stringify(world.mirror.counters));
  });
}
