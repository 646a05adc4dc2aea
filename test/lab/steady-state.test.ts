// In steady traffic the worker loops allocate nothing: V8 has nothing to collect in their heaps.

import t from 'tap';
import { Lab, labUnavailable } from '../support/lab.js';
import { measureTcp, startIperfServer } from '../support/measure.js';
import { daemonArguments, startDaemon, tableOf, writeTable } from '../support/twill-hosts.js';

const SECONDS = 10;
// A worker loads its modules and its loop is compiled.
const WARM_UP_MS = 3_000;
// It starts at most so long after its process; at its end it may collect.
const WORKER_START_MS = 1_000;

interface Collection {
  readonly isolate: string;
  /** Since that isolate began. */
  readonly ms: number;
}

/** What --trace-gc printed: "[pid:isolate]   133 ms: Scavenge …". */
function collections(log: string): Collection[] {
  const lines = log.matchAll(/^\[\d+:(0x[0-9a-f]+)\]\s+(\d+) ms:/gm);
  return [...lines].map(([, isolate, ms]) => ({ isolate, ms: Number(ms) }));
}

t.test('no garbage collection in the workers under traffic', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('gc-');
  t.teardown(() => lab.close());
  const [a, b] = [lab.addHost(1), lab.addHost(2)];
  const file = `${lab.dir}/static.json`;
  writeTable(file, tableOf([a, b]));
  await startDaemon(lab, b, file);
  const startedMs = Date.now();
  const traced = await lab.spawnUntil(
    a.ns,
    process.execPath,
    ['--trace-gc', ...daemonArguments(a, file)],
    /ready after/,
  );
  await startIperfServer(lab, b.containerNs);
  await measureTcp(lab, a.containerNs, b.containerIp, SECONDS / 2, 4);
  await measureTcp(lab, a.containerNs, b.containerIp, SECONDS / 2, 4, true);
  const trafficEndMs = Date.now() - startedMs - WORKER_START_MS;
  await lab.end(traced); // what it printed is complete only then
  const found = collections(traced.log());
  const [main] = found;
  t.ok(main, 'the trace was on');
  const workers = found.filter(({ isolate }) => isolate !== main.isolate);
  t.ok(workers.length > 0, 'the workers were traced, too: they collect while they load');
  t.same(
    workers.filter(({ ms }) => ms > WARM_UP_MS && ms < trafficEndMs),
    [],
    'afterwards the main thread may collect, the workers do not',
  );
});
