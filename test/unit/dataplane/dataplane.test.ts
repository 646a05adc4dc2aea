// The owner of a data path on an addon and worker threads that are fakes: starts that fail, failures that come late.

import { EventEmitter } from 'node:events';
import { syncBuiltinESMExports } from 'node:module';
import { mock } from 'node:test';
import threads from 'node:worker_threads';
import t from 'tap';
import { OFFLOAD_FEATURES, type OffloadSwitches } from '../../../src/config/options.js';
import { Dataplane, type DataplaneOptions } from '../../../src/dataplane/dataplane.js';
import { RouteTable } from '../../../src/dataplane/route-table.js';
import { native } from '../../../src/native/native.js';
import { ipv4 } from '../../../src/net/ipv4.js';
import { parsePrefix } from '../../../src/net/prefix.js';

const EIO = 5;

/** A thread that does what the test says, and ends when the engine is stopped unless it hangs. */
class FakeWorker extends EventEmitter {
  static all: FakeWorker[] = [];
  hangs = false;
  isTerminated = false;
  #hasEnded = false;

  constructor() {
    super();
    FakeWorker.all.push(this);
  }

  ready(): void {
    this.emit('message', { kind: 'ready' });
  }

  end(error: number): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.emit('message', { kind: 'ended', error });
    this.emit('exit', 0);
  }

  postMessage(): void {
    // what it is to do, the test says
  }

  terminate(): Promise<number> {
    this.isTerminated = true;
    return new Promise(() => undefined);
  }

  unref(): void {
    // nothing keeps the test alive
  }
}

let beats = [0, 0];

// In place of the addon's functions, and of Node's threads, in this process.
Object.assign(native, {
  open: () => ({ id: 1, deviceIndex: 7 }),
  stop: () => {
    for (const worker of FakeWorker.all) if (!worker.hangs) worker.end(-125);
    return 0;
  },
  close: () => undefined,
  readCounters: () => 0,
  readPeers: () => 0,
  readBeats: (_id: number, values: Uint32Array) => values.set(beats),
  exitNow: () => undefined,
  socketDrops: () => 0,
});
Object.assign(threads, { Worker: FakeWorker });
syncBuiltinESMExports();

t.beforeEach(() => (FakeWorker.all = []));

function optionsOf(failures: string[]): DataplaneOptions {
  return {
    device: 'flannel0',
    listen: { v4: ipv4(0xc0000201) },
    publicIp: { v4: ipv4(0xc0000201) },
    port: 8285,
    queues: 1,
    offload: Object.fromEntries(OFFLOAD_FEATURES.map((feature) => [feature, true])) as OffloadSwitches,
    sourceCheck: 'strict',
    networks: { v4: parsePrefix('10.5.0.0/16')! },
    own: { v4: parsePrefix('10.5.1.0/24')! },
    table: new RouteTable(parsePrefix('10.5.0.0/16')!),
    onPathMtu: () => undefined,
    onFailure: (reason) => failures.push(reason),
  };
}

t.test('a start that fails rejects, and is no failure of a running data path', async (t) => {
  for (const [how, act] of [
    ['a worker throws', ([first]: FakeWorker[]) => first.emit('error', new Error('no memory'))],
    ['a worker ends', ([first]: FakeWorker[]) => first.end(-EIO)],
    [
      'a worker ends after it was ready',
      ([first, second]: FakeWorker[]) => {
        first.ready();
        first.end(-EIO);
        second.ready();
      },
    ],
  ] as const) {
    FakeWorker.all = [];
    const failures: string[] = [];
    const dataplane = Dataplane.open(optionsOf(failures));
    const started = dataplane.start();
    act(FakeWorker.all);
    await t.rejects(started, { code: 'E_TUN' }, how);
    await dataplane.close();
    t.same(failures, [], how);
  }
});

t.test('start() does not wait for a worker that hangs', async (t) => {
  const dataplane = Dataplane.open(optionsOf([]));
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const started = dataplane.start();
  FakeWorker.all[0].ready();
  mock.timers.tick(10_000);
  await t.rejects(started, { code: 'E_TUN', message: /inbound worker of queue 0 was not ready/ });
  mock.timers.reset();
  await dataplane.close();
});

t.test('a failure is told once, and never of a data path that is closed', async (t) => {
  const failures: string[] = [];
  const dataplane = Dataplane.open(optionsOf(failures));
  const started = dataplane.start();
  for (const worker of FakeWorker.all) worker.ready();
  await started;
  FakeWorker.all[0].end(-EIO);
  FakeWorker.all[1].emit('error', new Error('late'));
  t.same(failures, ['outbound worker of queue 0: EIO']);
  await dataplane.close();
  const second = Dataplane.open(optionsOf(failures));
  const restarted = second.start();
  for (const worker of FakeWorker.all.slice(2)) worker.ready();
  await restarted;
  await second.close();
  t.equal(failures.length, 1);
});

t.test('close() does not wait for a worker that hangs', async (t) => {
  const options = optionsOf([]);
  const dataplane = Dataplane.open(options);
  const started = dataplane.start();
  const [outbound, inbound] = FakeWorker.all;
  for (const worker of FakeWorker.all) worker.ready();
  await started;
  outbound.hangs = true;
  const listeners = process.listeners('exit');
  const startedMs = performance.now();
  const stuck: string[] = [];
  await dataplane.close({ onStuck: (worker) => stuck.push(worker) });
  t.ok(performance.now() - startedMs < 1_000, 'within a second');
  t.same(stuck, ['outbound worker of queue 0']);
  t.ok(outbound.isTerminated);
  t.notOk(inbound.isTerminated);
  t.equal(
    options.table.takeReader(),
    1,
    'the number of the thread that is left behind is not given out again',
  );
  t.equal(options.table.takeReader(), 2);
  const added = process.listeners('exit').filter((listener) => !listeners.includes(listener));
  t.equal(added.length, 1, 'the exit will not join it');
  for (const listener of added) process.off('exit', listener);
});

t.test('hungWorkers() names the worker that stands still', async (t) => {
  const dataplane = Dataplane.open(optionsOf([]));
  const started = dataplane.start();
  for (const worker of FakeWorker.all) worker.ready();
  await started;
  const seen: (readonly string[])[] = [];
  for (let second = 0; second < 5; second++) {
    beats = [second, second === 4 ? 1 : 0];
    seen.push(dataplane.hungWorkers(second * 1000));
  }
  t.same(seen, [[], [], [], ['inbound worker of queue 0'], []]);
  await dataplane.close();
});
