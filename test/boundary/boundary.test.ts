// Both sides of the boundary agree, and the addon survives wrong calls, a thousand lives, and a worker that is killed.

import { readdirSync } from 'node:fs';
import t from 'tap';
import * as arena from '../../src/native/arena.js';
import { OFFLOAD_FEATURES, type OffloadSwitches } from '../../src/config/options.js';
import { INBOUND_COUNTERS, LANE_TOTALS, OUTBOUND_COUNTERS } from '../../src/native/counters.js';
import { native, type NativeLaneOptions } from '../../src/native/native.js';
import { PROVEN_MS } from '../../src/dataplane/lane.js';
import { MAX_ROWS } from '../../src/dataplane/route-table.js';
import { UDP_OVERHEAD_BYTES } from '../../src/net/mtu.js';
import { Lab, labUnavailable } from '../support/lab.js';

const ALL_ON = Object.fromEntries(OFFLOAD_FEATURES.map((feature) => [feature, true])) as OffloadSwitches;

t.test('constants are equal on both sides', (t) => {
  const { layout } = native;
  t.same(layout.outboundCounters, OUTBOUND_COUNTERS);
  t.same(layout.inboundCounters, INBOUND_COUNTERS);
  t.same(layout.laneTotals, LANE_TOTALS);
  t.equal(layout.outboundCapacity, arena.OUTBOUND_CAPACITY);
  t.equal(layout.inboundCapacity, arena.INBOUND_CAPACITY);
  t.equal(layout.outboundFields, arena.OUTBOUND_FIELDS);
  t.equal(layout.inboundFields, arena.INBOUND_FIELDS);
  t.equal(layout.outboundArenaWords, arena.OUTBOUND_ARENA_WORDS);
  t.equal(layout.inboundArenaWords, arena.INBOUND_ARENA_WORDS);
  t.equal(layout.controlWords, arena.CONTROL_WORDS);
  t.equal(layout.laneProofMs, PROVEN_MS);
  t.equal(layout.maxRows, MAX_ROWS);
  t.equal(layout.outerHeaderBytes, UDP_OVERHEAD_BYTES.v4);
  t.equal(layout.outerHeaderBytesV6, UDP_OVERHEAD_BYTES.v6);
  t.end();
});

t.test('wrong calls are refused, and do no harm', (t) => {
  const calls: [string, () => unknown][] = [
    ['open()', () => (native.open as () => unknown)()],
    ['open(1)', () => (native.open as (x: unknown) => unknown)(1)],
    ['probe()', () => (native.probe as () => unknown)()],
    ...[native.OutboundPort, native.InboundPort].flatMap((Port): [string, () => unknown][] => [
      [`new ${Port.name}()`, () => new (Port as unknown as new () => unknown)()],
      [`new ${Port.name} of no engine`, () => new Port(999999, 0, new ArrayBuffer(8))],
    ]),
    ['openLane()', () => (native.openLane as () => unknown)()],
    ['attachLane()', () => (native.attachLane as () => unknown)()],
    ['setLaneMode()', () => (native.setLaneMode as () => unknown)()],
    ['updateLane()', () => (native.updateLane as () => unknown)()],
    ['readLaneTotals()', () => (native.readLaneTotals as () => unknown)()],
    ['readLaneHeard()', () => (native.readLaneHeard as () => unknown)()],
    ['nameThread()', () => (native.nameThread as () => unknown)()],
    ['exitNow()', () => (native.exitNow as () => unknown)()],
    ['sdNotify()', () => (native.sdNotify as () => unknown)()],
    ['new IcmpSocket()', () => new (native.IcmpSocket as unknown as new () => unknown)()],
    [
      'new IcmpSocket without room for a packet',
      () => new native.IcmpSocket(new ArrayBuffer(1500), new Uint32Array(1), () => undefined),
    ],
    [
      'new IcmpSocket without ends',
      () => new native.IcmpSocket(new ArrayBuffer(65_535), new Uint32Array(0), () => undefined),
    ],
  ];
  for (const [name, call] of calls) t.throws(call, TypeError, name);
  t.equal(native.stop(999999), -2, 'ENOENT');
  t.equal(native.forgetDevice(999999), -2);
  t.equal(native.readCounters(999999, true, new Float64Array(1), new Uint32Array(1)), -2);
  t.equal(native.readPeers(999999, new Float64Array(4)), -2);
  t.equal(native.readPeers(999999, new Float64Array(4), 5), -2);
  t.equal(native.readBeats(999999, new Uint32Array(2)), -2);
  t.equal(native.socketDrops(999999), 0);
  t.match(native.openLane(999999, {} as NativeLaneOptions), { errno: 2 });
  t.equal(native.attachLane(999999), -2);
  t.equal(native.setLaneMode(999999, 0), -2);
  t.equal(native.updateLane(999999, new Int32Array(7)), -2);
  t.equal(native.readLaneTotals(999999, new Float64Array(1)), -2);
  t.equal(native.readLaneHeard(999999, new Float64Array(1), 0), -2);
  t.doesNotThrow(() => native.close(999999));
  t.equal(native.sdNotify('/nonexistent/socket', 'READY=1'), -2);
  t.equal(native.sdNotify('x'.repeat(200), 'READY=1'), -22);
  const icmp = new native.IcmpSocket(new ArrayBuffer(65_535), new Uint32Array(1), () => undefined);
  t.throws(() => (icmp.send as () => unknown)(), TypeError, 'send()');
  t.throws(() => icmp.send(0x7f000001, 'text' as unknown as Uint8Array), TypeError, 'send() of no bytes');
  t.equal(icmp.send(0x7f000001, new Uint8Array(8)), -9, 'EBADF: not open');
  t.doesNotThrow(() => icmp.close());
  t.doesNotThrow(() => icmp.close(), 'twice');
  t.equal(icmp.open(), -9, 'closed for good');
  const bad = native.open({
    device: '',
    listen: { v4: 0 },
    port: 0,
    queues: 0,
    offload: ALL_ON,
    inner: { v4: { replySource: 0, ownAddress: 0, broadcast: 0 } },
    reserved: false,
    anyOption: false,
    auditOptions: false,
    bufferBytes: 0,
  });
  t.match(bad, { errno: 22 });
  t.end();
});

const LIVES = `
  import { readdirSync } from 'node:fs';
  import { Worker } from 'node:worker_threads';
  const { native } = await import(process.argv[1] + '/dist/native/native.js');
  const options = { device: 'flannel0', listen: { v4: 0x7f000001 }, port: 8285, queues: 2,
    offload: ${JSON.stringify(ALL_ON)}, inner: { v4: { replySource: 0,
    ownAddress: 0x0a050100, broadcast: 0 } }, bufferBytes: 65536 };
  const count = (what) => readdirSync('/proc/self/' + what).length;
  const life = () => {
    const engine = native.open(options);
    if ('errno' in engine) throw new Error(engine.operation + ' ' + engine.errno);
    const port = new native.OutboundPort(engine.id, 1, new ArrayBuffer(native.layout.outboundArenaWords * 4));
    native.probe(engine.id);
    native.stop(engine.id);
    if (port.step() !== -125) throw new Error('a step went on after the end');
    native.close(engine.id);
    port.close();
  };
  life();
  const before = { fd: count('fd'), task: count('task') };
  for (let i = 0; i < 1000; i++) life();
  console.log(JSON.stringify({ before, after: { fd: count('fd'), task: count('task') } }));
  // A worker that sleeps in a step ends when its engine is stopped, and when the main environment goes.
  const source = 'const { parentPort, workerData } = require("node:worker_threads");'
    + 'const native = require(workerData.addon);'
    + 'const port = new native.InboundPort(workerData.id, 0, new ArrayBuffer(native.layout.inboundArenaWords * 4));'
    + 'parentPort.postMessage("waiting"); parentPort.postMessage(port.step());';
  const engine = native.open(options);
  const spawn = (id) => new Worker(source, { eval: true, execArgv: [], workerData: { id, addon: process.argv[2] } });
  const worker = spawn(engine.id);
  await new Promise((resolve) => worker.once('message', resolve));
  const answer = new Promise((resolve) => worker.once('message', resolve));
  const startedMs = performance.now();
  native.stop(engine.id);
  console.log(JSON.stringify({ answer: await answer, ms: performance.now() - startedMs }));
  native.open({ ...options, device: 'flannel1', port: 8286 });
  const second = spawn(engine.id + 1);
  await new Promise((resolve) => second.once('message', resolve));
  console.log('leaving');
  process.exit(0);
`;

t.test('a thousand lives leak nothing, and a blocked worker ends', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('bnd-');
  t.teardown(() => lab.close());
  const ns = lab.addNamespace('x');
  const root = new URL('../..', import.meta.url).pathname;
  const [addon] = readdirSync(`${root}/build/Release`).filter((name) => name.endsWith('.node'));
  const args = ['--input-type=module', '-e', LIVES, root, `${root}/build/Release/${addon}`];
  const { stdout } = await lab.run(ns, process.execPath, args, { timeoutMs: 60_000 });
  const [lives, stopped, leaving] = stdout.trim().split('\n');
  const { before, after } = JSON.parse(lives) as { before: unknown; after: unknown };
  t.same(after, before);
  const { answer, ms } = JSON.parse(stopped) as { answer: number; ms: number };
  t.equal(answer, -125);
  t.ok(ms < 100, `${ms} ms`);
  t.equal(leaving, 'leaving', 'the process ends although a worker is blocked');
});
