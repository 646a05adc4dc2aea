// The slow comparison of NodeMirror: what a watch lost is found, and what is just on its way is let alone.

import t from 'tap';
import { KubeFault } from '../../../../../src/store/kube/api/faults.js';
import { settle } from '../../../../support/fake-clock.js';
import { FakeKube, type FakeNode, type FakeWatch } from '../../../../support/fake-kube-client.js';
import { ip, MirrorBench } from '../../../../support/node-mirror-bench.js';

const CHECK_MS = 300_000;
const SETTLE_MS = 5_000;

/** A bench whose watch stays alive by bookmarks that move nothing. */
class CheckBench extends MirrorBench {
  get watch(): FakeWatch {
    return this.kube.open[0];
  }

  /** Lets time pass, with a bookmark of an old version every 50 s. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 50_000) {
      await this.clock.advance(Math.min(left, 50_000));
      this.watch.bookmark('1');
    }
  }

  /** To the end of the next comparison. */
  async check(): Promise<void> {
    const requests = this.kube.requests.length;
    const isListed = (): boolean =>
      this.kube.requests.slice(requests).some((line) => line.includes('metadata'));
    while (!isListed()) await this.pass(10_000);
    await this.pass(SETTLE_MS + 1_000);
  }
}

async function open(): Promise<CheckBench> {
  const kube = new FakeKube();
  kube.put('a', ip('1'), ['10.0.1.0/24']); // 101
  kube.put('b', ip('2'), ['10.0.2.0/24']); // 102
  const bench = new CheckBench(kube);
  await bench.nextWatch();
  return bench;
}

/** What the watch loses from now on. */
const LOST = (): [] => [];

t.test('checkNodes() comes every 5 to 10 minutes, and finds nothing where nothing was lost', async (t) => {
  for (const [random, atMs] of [
    [0, 300_000],
    [0.999, 599_700],
  ]) {
    const kube = new FakeKube();
    for (let i = 0; i < 20; i++) kube.put(`n${i}`, ip(`${i}`), [`10.0.${i}.0/24`]);
    const bench = new CheckBench(kube, {}, () => random);
    await bench.nextWatch();
    kube.requests.length = 0;
    await bench.pass(atMs - 1_000);
    t.strictSame(kube.requests, []);
    for (let i = 0; i < 20; i++) kube.put(`n${i}`); // unchanged
    await bench.pass(2_000);
    t.strictSame(kube.requests, ['list nodes metadata limit=500 resourceVersion=0']);
    t.equal(bench.mirror.counters.checks, 1);
    await bench.check();
    t.equal(bench.mirror.counters.checks, 2);
    t.equal(bench.seen.length, 1);
    await bench.mirror.close();
    t.equal(bench.clock.pending, 0);
  }
});

t.test('checkNodes() repairs what the watch lost, once', async (t) => {
  const bench = await open();
  const { kube, seen, mirror } = bench;
  bench.watch.mangle = LOST;
  kube.put('a', ip('9')); // 103
  kube.put('c', ip('3')); // 104
  kube.delete('b');
  await bench.check();
  t.strictSame(seen.slice(1), ['put a=9@103', 'put c=3@104', 'vanished b'], 'a deletion nobody told');
  t.equal(mirror.counters.repairs, 3);
  t.strictSame(kube.requests.slice(-4), [
    'list nodes metadata limit=500 resourceVersion=0',
    'get nodes/a',
    'get nodes/c',
    'get nodes/b',
  ]);
  t.strictSame(bench.logged, ['comparison with the API server found differences: repaired']);
  await bench.check();
  t.equal(mirror.counters.repairs, 3);
  t.equal(mirror.version, '102', 'a repair does not move it');
  // The watch tells it all again, from before the repairs.
  bench.watch.end();
  await bench.nextWatch();
  t.equal(seen.length, 4);
  t.equal(mirror.counters.replays, 2);
  await mirror.close();
});

t.test('checkNodes() finds a node made anew and a podCIDR that was assigned', async (t) => {
  const bench = await open();
  const { kube, seen } = bench;
  kube.put('c', ip('3')); // 103, without podCIDR
  bench.watch.mangle = LOST;
  kube.put('c', {}, ['10.0.3.0/24']); // 104
  kube.delete('b');
  kube.put('b', ip('2')); // 106
  await bench.check();
  t.strictSame(seen.slice(2), ['delete b uid-2', 'put b=2@106', 'put c=3@104']);
  t.strictSame(bench.table.get('c')?.podCidrs, ['10.0.3.0/24']);
  await bench.mirror.close();
});

t.test('checkNodes() lets alone what is on its way', async (t) => {
  const bench = await open();
  const { kube, seen, mirror, watch } = bench;
  await bench.pass(CHECK_MS - 1_000);
  watch.isHeld = true; // a reader that is slow
  kube.put('a', ip('9'));
  kube.put('c', ip('3'));
  kube.delete('b');
  await bench.pass(2_000); // the list is read
  kube.release(watch);
  await bench.pass(SETTLE_MS);
  t.strictSame(seen.slice(1), ['put a=9@103', 'put c=3@104', 'delete b uid-2']);
  t.equal(mirror.counters.repairs, 0);
  t.equal(mirror.counters.checks, 1);
  t.notMatch(kube.requests.join(), /get/);
  await mirror.close();
});

t.test('checkNodes() undoes no event that is newer than the list', async (t) => {
  const bench = await open();
  const { kube, seen, mirror } = bench;
  const old = kube.snapshot();
  kube.put('c', ip('3')); // 103
  kube.put('a', ip('9')); // 104
  kube.delete('b'); // 105
  kube.cache = old;
  await bench.check();
  t.strictSame(seen.slice(1), ['put c=3@103', 'put a=9@104', 'delete b uid-2']);
  t.strictSame(
    kube.requests.slice(-3),
    ['list nodes metadata limit=500 resourceVersion=0', 'list nodes metadata limit=1', 'get nodes/b'],
    'the server is behind, and etcd is not',
  );
  t.equal(mirror.counters.repairs, 0);
  await mirror.close();
});

t.test('checkNodes() undoes no event that comes while a node is asked for', async (t) => {
  const bench = await open();
  const { kube, seen, mirror, watch } = bench;
  watch.mangle = LOST;
  for (const name of ['a', 'b', 'c', 'd']) kube.put(name, ip('8')); // up to 106
  watch.mangle = (event) => [event];
  const answers = new Map<string, FakeNode | undefined>();
  const get = kube.get.bind(kube);
  kube.get = async (path, signal) => {
    const object = (await get(path, signal)) as FakeNode;
    const { name } = object.metadata;
    answers.set(name, object);
    // While the answer is on its way:
    if (name === 'a') kube.put(name, ip('9'));
    if (name === 'b' || name === 'c') kube.delete(name);
    return object;
  };
  await bench.check();
  t.strictSame([...answers.keys()], ['a', 'b', 'c', 'd']);
  t.strictSame(seen.slice(1), ['put a=9@107', 'delete b uid-2', 'put d=8@106']);
  t.strictSame([...bench.table.keys()], ['a', 'd']);
  await mirror.close();
});

t.test('checkNodes() believes no missing node that was seen again meanwhile', async (t) => {
  const bench = await open();
  const { kube, seen, watch } = bench;
  watch.mangle = LOST;
  kube.delete('b');
  watch.mangle = (event) => [event];
  kube.onRequest = (verb, _query, path) => {
    if (verb !== 'get') return;
    kube.onRequest = () => undefined;
    t.equal(path, '/api/v1/nodes/b');
    kube.put('b', ip('5')); // 104
    throw new KubeFault(404, 'NotFound', 'it was so');
  };
  await bench.check();
  t.strictSame(seen.slice(1), ['delete b uid-2', 'put b=5@104']);
  await bench.mirror.close();
});

t.test('checkNodes() lists everything where very much was lost', async (t) => {
  const bench = await open();
  const { kube, seen, mirror } = bench;
  bench.watch.mangle = LOST;
  for (let i = 0; i < 100; i++) kube.put(`n${i}`);
  kube.delete('a');
  await bench.check();
  await bench.nextWatch();
  t.notMatch(kube.requests.join(), /get/);
  t.equal(mirror.counters.relists.differences, 1);
  t.equal(mirror.size, 101);
  t.equal(seen.length, 102);
  await mirror.close();
});

t.test('checkNodes() sees that the store was restored', async (t) => {
  for (const sign of ['list', 'get']) {
    const bench = await open();
    const { kube, seen, mirror, clock } = bench;
    const backup = kube.snapshot();
    kube.put('c', ip('3')); // 103
    kube.put('a', ip('9')); // 104
    kube.restore(backup);
    await bench.nextWatch();
    if (sign === 'get') {
      while (kube.revision < 200) kube.writeElsewhere();
    }
    await bench.check();
    await clock.advance(1_000);
    t.equal(mirror.counters.relists.rewound, 1, sign);
    t.strictSame(seen.slice(3), ['vanished c', 'put a=1@101'], sign);
    await mirror.close();
  }
});

t.test('checkNodes() sees a restored store that has written more than the lost one', async (t) => {
  const bench = await open();
  const { kube, mirror, clock } = bench;
  kube.put('c', ip('3')); // 103
  const backup = kube.snapshot();
  kube.writeElsewhere();
  kube.put('c', {}, ['10.0.3.0/24']); // 105
  kube.restore(backup);
  kube.put('c', {}, ['10.0.4.0/24']); // 104: the metadata differ in nothing but the version
  while (kube.revision < 200) kube.writeElsewhere();
  await bench.nextWatch();
  t.equal(mirror.version, '105', 'a watch from there is nothing unusual');
  await bench.check();
  await clock.advance(1_000);
  t.equal(mirror.counters.relists.rewound, 1);
  t.strictSame(bench.table.get('c')?.podCidrs, ['10.0.4.0/24']);
  await mirror.close();
});

t.test('checkNodes() finds what no metadata show, as soon as the watch has come past it', async (t) => {
  const bench = await open();
  const { kube, seen, mirror, watch } = bench;
  watch.mangle = LOST;
  kube.put('a', {}, ['10.0.9.0/24']); // 103; the API forbids it
  kube.put('b'); // 104, a heartbeat
  await bench.check();
  t.equal(mirror.counters.checks, 1);
  t.equal(seen.length, 1, 'it may be on its way still');
  watch.mangle = (event) => [event];
  kube.put('b'); // 105
  kube.put('a', { 'somebody.else/annotation': 'x' }); // 106
  watch.mangle = LOST;
  kube.put('a'); // 107
  watch.mangle = (event) => [event];
  kube.put('b'); // 108
  t.strictSame(seen.slice(1), ['put a=1@106']);
  await bench.check();
  await bench.check();
  t.strictSame(
    kube.requests.filter((line) => line.startsWith('get')),
    ['get nodes/a'],
    'asked for once',
  );
  t.equal(mirror.counters.repairs, 0, 'nothing was wrong with it');
  await mirror.close();
});

t.test('checkNodes() gives up what it cannot finish, and comes again', async (t) => {
  const bench = await open();
  const { kube, seen, mirror, watch } = bench;
  watch.mangle = LOST;
  kube.put('a', ip('9')); // 103
  kube.put('b', ip('9')); // 104
  let isBusy = true;
  kube.onRequest = (verb, _query, path) => {
    if (isBusy && verb === 'get' && path.endsWith('b')) throw new KubeFault(429, '', 'busy');
  };
  await bench.check();
  t.strictSame(seen.slice(1), ['put a=9@103']);
  t.equal(mirror.counters.checks, 0);
  t.ok(mirror.isLive);
  isBusy = false;
  await bench.check();
  t.strictSame(seen.slice(1), ['put a=9@103', 'put b=9@104']);
  await mirror.close();
});

t.test('checkNodes() steps back from a list that closes a gap', async (t) => {
  const bench = await open();
  const { kube, seen, mirror, watch } = bench;
  watch.mangle = LOST;
  kube.put('a', ip('9')); // 103
  await bench.pass(CHECK_MS + 1_000);
  watch.end(new KubeFault(410, 'Expired', ''));
  await bench.nextWatch();
  t.strictSame(seen.slice(1), ['put a=9@103']);
  await bench.pass(SETTLE_MS);
  t.equal(mirror.counters.repairs, 0);
  t.notMatch(kube.requests.join(), /get/);
  await mirror.close();
});

t.test('checkNodes() does not ask for nodes for which there is no room', async (t) => {
  const kube = new FakeKube();
  for (let i = 0; i < 9; i++) kube.put(`n${i}`);
  const bench = new CheckBench(kube, { maxNodes: 4 });
  await bench.nextWatch();
  kube.put('n0', ip('1')); // held
  kube.put('n9', ip('1')); // not held
  await bench.check();
  t.notMatch(kube.requests.join(), /get/);
  t.equal(bench.mirror.counters.checks, 1);
  await bench.mirror.close();
});

t.test('checkNodes() is not begun without a watch, and ends with the mirror', async (t) => {
  const bench = await open();
  const { kube, clock, mirror } = bench;
  kube.onRequest = (verb) => {
    if (verb === 'watch') throw new KubeFault(503, '', 'away');
  };
  bench.watch.end();
  await clock.advance(CHECK_MS * 3);
  t.notMatch(kube.requests.join(), /metadata/);
  kube.onRequest = () => undefined;
  await bench.nextWatch();
  kube.onRequest = (_verb, _query, path) =>
    path.endsWith('metadata') ? new Promise<void>(() => undefined) : undefined;
  await bench.pass(CHECK_MS + 1_000);
  t.match(kube.requests.at(-1), /metadata/);
  await mirror.close();
  await settle();
  t.equal(clock.pending, 0);
});
