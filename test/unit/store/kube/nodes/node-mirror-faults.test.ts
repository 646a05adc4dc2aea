// NodeMirror under whatever may go wrong with a server, in any order: in the end it has told what the server has, each
// write once, and in order.

import t from 'tap';
import { KubeFault } from '../../../../../src/store/kube/api/faults.js';
import { FakeKube, type FakeSnapshot } from '../../../../support/fake-kube-client.js';
import { ip, MirrorBench, showServed, Witness } from '../../../../support/node-mirror-bench.js';
import { randomOf } from '../../../../support/random.js';

const FAULTS: readonly KubeFault[] = [
  new KubeFault(0, 'broken', 'reset'),
  new KubeFault(0, 'unreachable', 'refused'),
  new KubeFault(0, 'tls', 'certificate'),
  new KubeFault(429, '', 'busy', { retryAfterMs: 1000 }),
  new KubeFault(503, '', 'away', { retryAfterMs: 500 }),
  new KubeFault(500, 'InternalError', 'oh'),
  new KubeFault(401, 'Unauthorized', 'token'),
  new KubeFault(403, 'Forbidden', 'role'),
  new KubeFault(504, 'Timeout', 'Too large resource version'),
  new KubeFault(410, 'Expired', 'too old'),
];

/** One random thing that befalls the server or the way to it. */
function misfortune(kube: FakeKube, random: () => number, backups: FakeSnapshot[]): 'restored' | undefined {
  const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)];
  const watch = kube.open.at(-1);
  const luck = random();
  if (luck < 0.2) watch?.end(random() < 0.5 ? undefined : pick(FAULTS));
  else if (luck < 0.35) {
    const fault = pick(FAULTS);
    let times = 1 + Math.floor(random() * 4);
    kube.onRequest = () => {
      if (times-- > 0) throw fault;
    };
  } else if (luck < 0.45 && watch !== undefined) watch.isHeld = true;
  else if (luck < 0.6 && watch !== undefined) {
    const isLossy = random() < 0.5;
    watch.mangle = (event) => {
      if (random() < 0.5) return [event];
      return isLossy ? [] : [event, event];
    };
  } else if (luck < 0.7) kube.compact();
  else if (luck < 0.8)
    kube.cache = kube.snapshot(); // and from now on it stays behind
  else if (luck < 0.85) kube.cache = undefined;
  else if (luck < 0.9) backups.push(kube.snapshot());
  else if (luck < 0.93 && backups.length > 0) {
    kube.restore(pick(backups));
    backups.length = 0;
    return 'restored';
  }
  return undefined;
}

function writeSome(kube: FakeKube, random: () => number): void {
  for (let i = Math.floor(random() * 6); i > 0; i--) {
    const name = `n${Math.floor(random() * 12)}`;
    const luck = random();
    if (luck < 0.15) kube.delete(name);
    else if (luck < 0.5)
      kube.put(name); // a heartbeat
    else if (luck < 0.6) kube.put(name, ip(undefined));
    else if (luck < 0.7 && kube.nodes.get(name)?.spec.podCIDRs === undefined) {
      kube.put(name, {}, [`10.0.${kube.revision}.0/24`]);
    } else kube.put(name, ip(`${kube.revision}`));
  }
}

t.test('NodeMirror ends up with what the server has, and tells each write once', async (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = randomOf(seed);
    const kube = new FakeKube();
    writeSome(kube, random);
    const bench = await MirrorBench.open(kube, { checkMs: [30_000, 60_000] }, random);
    const witness = new Witness(bench.table.values());
    bench.onEvent = (event) => witness.take(event);
    const backups: FakeSnapshot[] = [];
    let hasLosses = false;
    for (let step = 0; step < 200; step++) {
      writeSome(kube, random);
      if (misfortune(kube, random, backups) === 'restored') {
        hasLosses = true;
        bench.onEvent = () => undefined; // versions mean nothing any more
      }
      if (random() < 0.3) kube.bookmarkAll();
      if (random() < 0.2) for (const watch of kube.open) kube.release(watch);
      await bench.clock.advance(Math.floor(random() * (random() < 0.1 ? 100_000 : 4_000)));
    }
    // Peace, but for the servers that stay behind.
    kube.onRequest = () => undefined;
    for (const watch of kube.open) {
      watch.mangle = (event) => [event];
      kube.release(watch);
    }
    for (let i = 0; i < 30; i++) {
      await bench.clock.advance(50_000);
      if (i === 5) kube.cache = undefined;
      kube.bookmarkAll();
    }
    t.strictSame(bench.lines, [...kube.nodes.values()].map(showServed).sort(), `seed ${seed}`);
    t.strictSame(witness.faults, [], `seed ${seed}${hasLosses ? ', until the restore' : ''}`);
    t.ok(bench.mirror.isLive);
    await bench.mirror.close();
    t.equal(bench.clock.pending, 0);
  }
});
