// NodeMirror on a server without a wire: what it asks for, what it makes of the end of a watch, and what it tells.

import t from 'tap';
import { KubeFault } from '../../../../../src/store/kube/api/faults.js';
import { settle } from '../../../../support/fake-clock.js';
import { FakeKube } from '../../../../support/fake-kube-client.js';
import { ip, MirrorBench } from '../../../../support/node-mirror-bench.js';

function twoNodes(): FakeKube {
  const kube = new FakeKube();
  kube.put('a', ip('1'), ['10.0.1.0/24']); // 101
  kube.put('b', ip('2'), ['10.0.2.0/24']); // 102
  return kube;
}

const watchLine = (version: number, seconds = 300): string =>
  `watch nodes allowWatchBookmarks=true resourceVersion=${version} timeoutSeconds=${seconds}`;

t.test('NodeMirror lists once and then watches from there', async (t) => {
  const kube = twoNodes();
  const bench = await MirrorBench.open(kube);
  const { mirror, seen } = bench;
  t.strictSame(kube.requests, ['list nodes limit=500 resourceVersion=0', watchLine(102)]);
  t.ok(mirror.isLive);
  t.equal(mirror.fault, undefined);
  t.equal(mirror.lastHeardMs, bench.clock.nowMs());
  kube.put('c', ip('3'));
  kube.put('a', ip('9'));
  kube.put('c', {}, ['10.0.3.0/24']);
  kube.delete('b');
  t.strictSame(seen, [
    'snapshot a=1@101 b=2@102',
    'put c=3@103',
    'put a=9@104',
    'put c=3@105',
    'delete b uid-2',
  ]);
  t.match(bench.table.get('c'), { podCidrs: ['10.0.3.0/24'] });
  t.equal(mirror.version, '106');
  t.equal(mirror.size, 2);
  await mirror.close();
  t.equal(bench.clock.pending, 0);
  t.notOk(mirror.isLive);
});

t.test('NodeMirror tells nothing of unchanged and keeps no version of them from moving', async (t) => {
  const kube = twoNodes();
  const { mirror, seen, nextWatch } = bound(await MirrorBench.open(kube));
  for (let i = 0; i < 1000; i++) kube.put(i % 2 === 0 ? 'a' : 'b');
  kube.put('a', { 'somebody.else/annotation': 'x' });
  t.equal(seen.length, 1);
  t.equal(mirror.counters.unchanged, 1001);
  t.equal(mirror.counters.events, 0);
  kube.open[0].end();
  await nextWatch();
  t.equal(kube.requests.at(-1), watchLine(1103));
  await mirror.close();
});

t.test('NodeMirror asks for watches of random length', async (t) => {
  for (const [random, seconds] of [
    [0, 300],
    [0.5, 450],
    [0.9999, 600],
  ]) {
    const kube = twoNodes();
    const { mirror } = await MirrorBench.open(kube, {}, () => random);
    t.equal(kube.requests.at(-1), watchLine(102, seconds));
    await mirror.close();
  }
});

t.test('NodeMirror resumes after the last event or bookmark, however a watch ends', async (t) => {
  const kube = twoNodes();
  const { mirror, seen, nextWatch } = bound(await MirrorBench.open(kube));
  const ends = [undefined, new KubeFault(0, 'broken', 'reset'), new KubeFault(500, 'InternalError', 'oh')];
  for (const end of ends) {
    kube.put('a', ip(`${kube.revision}`));
    kube.open[0].end(end);
    kube.put('b', ip(`${kube.revision}`)); // while there is none
    await nextWatch();
    t.equal(kube.requests.at(-1), watchLine(kube.revision - 1), 'not from the version of the last list');
  }
  for (let i = 0; i < 10; i++) kube.writeElsewhere();
  kube.bookmarkAll();
  kube.open[0].bookmark('5');
  kube.open[0].bookmark('');
  kube.open[0].end();
  await nextWatch();
  t.equal(kube.requests.at(-1), watchLine(118), 'a bookmark never moves it back');
  t.strictSame(seen, [
    'snapshot a=1@101 b=2@102',
    'put a=102@103',
    'put b=103@104',
    'put a=104@105',
    'put b=105@106',
    'put a=106@107',
    'put b=107@108',
  ]);
  t.equal(mirror.counters.lists, 1);
  t.equal(mirror.counters.watches, 5);
  await mirror.close();
});

t.test('NodeMirror drops what is told again', async (t) => {
  const kube = twoNodes();
  const { mirror, seen } = await MirrorBench.open(kube);
  kube.open[0].mangle = (event) => [event, event];
  kube.put('a', ip('3')); // 103
  const older = kube.put('a', ip('4')); // 104
  kube.delete('b'); // 105
  kube.open[0].send({ type: 'MODIFIED', object: older });
  t.strictSame(seen.slice(1), ['put a=3@103', 'put a=4@104', 'delete b uid-2']);
  t.equal(mirror.counters.replays, 5);
  await mirror.close();
});

t.test('NodeMirror lists and tells the difference when its version is too old', async (t) => {
  const kube = twoNodes();
  kube.put('gone');
  const { mirror, seen, nextWatch } = bound(await MirrorBench.open(kube));
  kube.open[0].isHeld = true;
  kube.put('a', ip('9')); // 104
  kube.delete('b');
  kube.put('b', ip('2')); // another uid, 106
  kube.delete('gone');
  kube.put('new'); // 108
  kube.compact();
  kube.open[0].end();
  await nextWatch();
  t.strictSame(seen.slice(1), [
    'delete gone uid-3',
    'put a=9@104',
    'delete b uid-2',
    'put b=2@106',
    'put new=-@108',
  ]);
  t.strictSame(kube.requests.slice(-3), [watchLine(103), 'list nodes resourceVersion=103', watchLine(108)]);
  t.equal(mirror.counters.relists.expired, 1);
  kube.open[0].isHeld = true;
  kube.delete('new');
  kube.open[0].end(new KubeFault(410, 'Gone', 'as a status'));
  await nextWatch();
  t.strictSame(seen.slice(-1), ['delete new uid-5']);
  t.equal(mirror.counters.relists.expired, 2);
  await mirror.close();
});

t.test('NodeMirror spreads lists after a gap over a time that grows with the cluster', async (t) => {
  const kube = new FakeKube();
  for (let i = 0; i < 1000; i++) kube.put(`n${i}`);
  const bench = await MirrorBench.open(kube, {}, () => 0.99);
  kube.compact();
  kube.open[0].end(new KubeFault(410, 'Expired', ''));
  await bench.clock.advance(1900);
  t.equal(kube.requests.length, 2);
  await bench.nextWatch();
  t.equal(kube.requests.length, 4);
  await bench.mirror.close();
});

t.test('NodeMirror takes the answer of etcd where a server is behind', async (t) => {
  const kube = twoNodes();
  const bench = await MirrorBench.open(kube);
  let isBehind = true;
  kube.onRequest = (verb, { resourceVersion = '' }) => {
    if (verb !== 'list' || !isBehind || !(Number(resourceVersion) > 0)) return;
    throw new KubeFault(504, 'Timeout', 'Timeout: Too large resource version: 102, current: 90', {
      retryAfterMs: 1,
    });
  };
  kube.open[0].isHeld = true;
  kube.delete('b');
  kube.compact();
  kube.open[0].end();
  await bench.nextWatch();
  isBehind = false;
  t.strictSame(kube.requests.slice(-3), [
    'list nodes resourceVersion=102',
    'list nodes limit=500',
    watchLine(103),
  ]);
  t.strictSame(bench.seen.slice(1), ['delete b uid-2'], 'deleted and not vanished');
  t.equal(bench.mirror.fault, undefined);
  await bench.mirror.close();
});

t.test('NodeMirror keeps apart what was deleted and what vanished as history went back', async (t) => {
  const kube = twoNodes();
  const backup = kube.snapshot();
  kube.put('c', ip('3')); // 103
  kube.put('a', ip('9')); // 104
  const bench = await MirrorBench.open(kube);
  for (let i = 0; i < 10; i++) kube.put('b'); // unchanged up to 114
  kube.restore(backup);
  await bench.nextWatch();
  t.equal(kube.requests.at(-1), watchLine(114), 'no server says that this is the future');
  await bench.clock.advance(95_000);
  await bench.nextWatch();
  t.strictSame(kube.requests.slice(-3), [
    'list nodes metadata limit=1',
    'list nodes limit=500',
    watchLine(102),
  ]);
  t.strictSame(bench.seen.slice(1), ['vanished c', 'put a=1@101']);
  t.equal(bench.mirror.counters.relists.rewound, 1);
  kube.put('b', ip('7')); // 103, far below what was seen of it before
  kube.put('c', ip('3'));
  t.strictSame(bench.seen.slice(3), ['put b=7@103', 'put c=3@104'], 'is believed from now on');
  t.match(bench.logged, [/no.* event/, /listing/, /history .* went back/]);
  await bench.mirror.close();
});

t.test('NodeMirror sees a restored store at a list, too', async (t) => {
  for (const reason of ['expired', 'contradicted']) {
    const kube = twoNodes();
    const backup = kube.snapshot();
    kube.put('a', ip('9')); // 103
    kube.put('c', ip('3'));
    const bench = await MirrorBench.open(kube);
    kube.open[0].isHeld = true;
    kube.restore(backup);
    if (reason === 'contradicted') for (let i = 0; i < 9; i++) kube.put('b'); // beyond 104
    kube.onRequest = (verb) => {
      if (verb !== 'watch') return;
      kube.onRequest = () => undefined;
      throw new KubeFault(410, 'Expired', 'too old');
    };
    await bench.nextWatch();
    t.strictSame(bench.seen.slice(1), ['vanished c', 'put a=1@101'], reason);
    t.match(bench.logged.at(-1), /went back/);
    await bench.mirror.close();
  }
});

t.test('NodeMirror reopens a silent watch, and asks for a new connection the second time', async (t) => {
  const kube = twoNodes();
  const bench = await MirrorBench.open(kube);
  const { clock, mirror } = bench;
  for (let i = 0; i < 4; i++) {
    await clock.advance(60_000);
    kube.bookmarkAll();
  }
  t.equal(kube.watches.length, 1, 'bookmarks are enough');
  await clock.advance(89_000);
  t.equal(kube.watches.length, 1);
  await clock.advance(1_500);
  await bench.nextWatch();
  t.equal(kube.watches.length, 2);
  t.strictSame(kube.requests.slice(-2), ['list nodes metadata limit=1', watchLine(102)]);
  t.equal(kube.renewed, 0);
  await clock.advance(91_000);
  t.equal(kube.renewed, 1);
  t.match(bench.logged, [/cannot watch nodes at https:\/\/paper:6443: neither event nor bookmark for 90 s/]);
  t.equal(mirror.counters.lists, 1);
  kube.put('a', ip('5'));
  await clock.advance(91_000);
  t.equal(kube.renewed, 1, 'counted anew after an event');
  await mirror.close();
});

t.test('NodeMirror counts anew when the process itself was stopped', async (t) => {
  const kube = twoNodes();
  const { clock, mirror } = await MirrorBench.open(kube, { checkMs: [1e9, 1e9] });
  clock.stall(200_000);
  await clock.advance(80_000);
  t.equal(kube.watches.length, 1);
  await mirror.close();
});

t.test('NodeMirror gives up a watch that is never accepted', async (t) => {
  const kube = twoNodes();
  let isStuck = true;
  const stuck = new Promise<void>(() => undefined);
  kube.onRequest = (verb) => (verb === 'watch' && isStuck ? stuck : undefined);
  const bench = new MirrorBench(kube);
  await bench.clock.advance(29_000);
  t.equal(bench.kube.requests.length, 2);
  t.notOk(bench.mirror.isLive);
  isStuck = false;
  await bench.clock.advance(1_100);
  t.strictSame(kube.requests.slice(-2), ['list nodes metadata limit=1', watchLine(102)]);
  t.ok(bench.mirror.isLive);
  await bench.mirror.close();
});

t.test('NodeMirror leaves a busy server alone as long as it asks for, within bounds', async (t) => {
  for (const [status, retryAfterMs, silentMs] of [
    [429, 7_000, 7_000],
    [503, 3_600_000, 60_000],
    [429, -5, 0],
    [429, undefined, 0],
  ] as const) {
    const kube = twoNodes();
    let times = 0;
    kube.onRequest = () => {
      if (times++ === 0) throw new KubeFault(status, '', 'busy', { retryAfterMs });
    };
    const bench = new MirrorBench(kube, {}, () => 0.5);
    await settle();
    t.equal(bench.mirror.fault, 'busy');
    if (silentMs > 0) await bench.clock.advance(silentMs - 10);
    t.equal(kube.requests.length, 1);
    await bench.clock.advance(100);
    t.match(bench.seen, [/snapshot/], `${status} ${retryAfterMs}`);
    await bench.mirror.close();
  }
});

t.test('NodeMirror asks slowly, and says why, while it may not', async (t) => {
  const kube = twoNodes();
  const text = 'cannot watch nodes at https://paper:6443: 403 Forbidden: nodes is forbidden';
  let isForbidden = true;
  kube.onRequest = (verb) => {
    if (verb === 'watch' && isForbidden) throw new KubeFault(403, 'Forbidden', text);
  };
  const bench = new MirrorBench(kube, {}, () => 0.999);
  await bench.clock.advance(600_000);
  t.equal(bench.mirror.fault, text);
  t.ok(kube.requests.length < 30, `${kube.requests.length} requests`);
  t.equal(bench.mirror.counters.lists, 1, 'the list is not repeated');
  t.strictSame(bench.logged, [text], 'said once');
  isForbidden = false;
  await bench.clock.advance(31_000);
  t.ok(bench.mirror.isLive);
  await bench.mirror.close();
});

t.test('NodeMirror tries quickly and then less often while there is no server', async (t) => {
  const kube = twoNodes();
  kube.onRequest = () => {
    throw new KubeFault(0, 'unreachable', 'cannot list nodes: ECONNREFUSED');
  };
  const bench = new MirrorBench(kube, {}, () => 0.999);
  await bench.clock.advance(1_000);
  t.equal(kube.requests.length, 5); // after 0, 50, 150, 350, 750 ms
  await bench.clock.advance(60_000);
  t.ok(kube.requests.length < 22, `${kube.requests.length} requests`);
  kube.onRequest = () => undefined;
  await bench.clock.advance(5_000);
  t.match(bench.seen, [/snapshot/]);
  await bench.mirror.close();
});

t.test('NodeMirror goes slower when watches end at once, and quick again after a good one', async (t) => {
  const kube = twoNodes();
  const bench = await MirrorBench.open(kube, {}, () => 0.999);
  for (let i = 0; i < 100; i++) {
    kube.open.at(-1)?.end();
    await bench.clock.advance(100);
  }
  t.ok(kube.watches.length < 15, `${kube.watches.length} watches in 10 s`);
  await bench.nextWatch();
  await bench.clock.advance(20_000);
  const { length } = kube.watches;
  kube.open[0].end();
  await bench.clock.advance(60);
  t.equal(kube.watches.length, length + 1);
  await bench.mirror.close();
});

t.test('NodeMirror lists anew on a server that does not know its version', async (t) => {
  const kube = twoNodes();
  const bench = await MirrorBench.open(kube);
  kube.open[0].end();
  kube.onRequest = (_verb, { resourceVersion }) => {
    if (resourceVersion === '102') throw new KubeFault(500, '', 'resourceVersion: Invalid value: "102"');
  };
  kube.restore({ revision: 7, nodes: new Map() });
  await bench.nextWatch();
  t.strictSame(bench.seen.slice(1), ['vanished a', 'vanished b']);
  t.equal(kube.requests.at(-1), watchLine(7));
  await bench.mirror.close();
});

t.test('NodeMirror reads a list in pages where a server makes some', async (t) => {
  const kube = new FakeKube();
  for (let i = 0; i < 1203; i++) kube.put(`n${i}`);
  const bench = await MirrorBench.open(kube, { silenceMs: 1000 });
  kube.restore({ ...kube.snapshot(), revision: 10 });
  await bench.clock.advance(5_000);
  t.match(
    kube.requests.filter((line) => line.startsWith('list nodes limit=500')),
    [
      'list nodes limit=500 resourceVersion=0',
      'list nodes limit=500',
      /^list nodes limit=500 continue=500@10$/,
      /^list nodes limit=500 continue=1000@10$/,
    ],
  );
  t.equal(bench.mirror.size, 1203);
  t.equal(bench.seen.length, 1);
  await bench.mirror.close();
});

t.test('NodeMirror holds no more nodes than it may, and says how many it refused', async (t) => {
  const kube = twoNodes();
  kube.put('c');
  kube.put('d');
  const bench = await MirrorBench.open(kube, { maxNodes: 3 });
  kube.put('e');
  t.equal(bench.mirror.size, 3);
  t.equal(bench.mirror.counters.refused, 2);
  kube.delete('a');
  kube.put('f'); // there is room now
  kube.compact();
  kube.open[0].end(new KubeFault(410, '', ''));
  await bench.nextWatch();
  t.strictSame([...bench.table.keys()], ['b', 'c', 'f'], 'who was there stays');
  await bench.mirror.close();
});

t.test('NodeMirror leaves out nodes without a usable name or version', async (t) => {
  const kube = twoNodes();
  const bench = await MirrorBench.open(kube);
  for (const metadata of [
    {},
    { name: 'x' },
    { resourceVersion: '500' },
    { name: 'A b', resourceVersion: '500' },
  ]) {
    kube.open[0].send({ type: 'MODIFIED', object: { metadata } });
    kube.open[0].send({ type: 'DELETED', object: { metadata } });
  }
  kube.open[0].send({ type: 'BOOKMARK', object: {} });
  t.equal(bench.seen.length, 1);
  t.equal(bench.mirror.counters.malformed, 8);
  t.equal(bench.mirror.version, '102');
  await bench.mirror.close();
});

t.test('NodeMirror gets along with versions that are no numbers', async (t) => {
  const kube = twoNodes();
  const bench = await MirrorBench.open(kube);
  const node = kube.nodes.get('a')!;
  const send = (resourceVersion: string, publicIp: string): void => {
    const metadata = { ...node.metadata, resourceVersion, annotations: ip(publicIp) };
    kube.open[0].send({ type: 'MODIFIED', object: { ...node, metadata } });
  };
  send('x7', '3');
  send('x7', '3');
  send('x8', '4');
  kube.open[0].bookmark('x9');
  t.strictSame(bench.seen.slice(1), ['put a=3@x7', 'put a=4@x8']);
  t.equal(bench.mirror.version, 'x9');
  await bench.mirror.close();
});

t.test('NodeMirror tells nothing after close()', async (t) => {
  const kube = twoNodes();
  const bench = new MirrorBench(kube);
  const closed = bench.mirror.close();
  await bench.clock.advance(1_000);
  await closed;
  t.strictSame(bench.seen, []);
  t.equal(bench.clock.pending, 0);
  await bench.mirror.close();
});

function bound(bench: MirrorBench): Pick<MirrorBench, 'mirror' | 'seen' | 'nextWatch'> {
  return { mirror: bench.mirror, seen: bench.seen, nextWatch: () => bench.nextWatch() };
}
