// The way to etcd breaks in ways that gRPC calls INTERNAL, UNKNOWN and the like: the next endpoint is used.
//
//   store ─► front (breaks) ─► etcd ◄─ second endpoint

import t from 'tap';
import { startEtcd } from '../support/etcd-server.js';
import { Http2Front } from '../support/http2-front.js';
import type { Break } from '../support/http2-front.js';
import { converged, putConfig, putLease, startStore, until } from '../support/store-fixture.js';

t.setTimeout(90_000);

t.test('E4 streams that are ended on the way: the session moves to the next endpoint', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  const ways: readonly [string, Break][] = [
    ['a reset without a status', { rst: 0 }],
    ['a protocol error', { rst: 1 }],
    ['an internal error', { rst: 2 }],
    ['cancelled', { rst: 8 }],
    ['enhance your calm', { rst: 11 }],
    ["a proxy's 403", { status: 403 }],
    ["a proxy's 500", { status: 500 }],
    ["a proxy's 502", { status: 502 }],
  ];
  for (const [index, [name, broken]] of ways.entries()) {
    const front = await Http2Front.open(etcd.url);
    const start = () => startStore({ endpoints: `${front.url},${etcd.url}` });
    let bench = await start();
    // On a busy machine the first endpoint may be so late that the second is asked, too.
    for (let i = 0; i < 5 && bench.store.status().connectedTo !== front.url; i++) {
      await bench.store.close();
      bench = await start();
    }
    t.equal(bench.store.status().connectedTo, front.url, name);
    front.breakWith(broken);
    const movedMs = await until(() => bench.store.status().connectedTo === etcd.url, `${name}: moved`);
    await putLease(etcd, `10.5.${100 + index}.0-24`, '172.20.0.9');
    await converged(etcd, bench.recorder);
    t.ok(movedMs < 2000, `${name}: ${Math.round(movedMs)} ms`);
    t.equal(bench.recorder.snapshots, 1, 'and nothing is listed again');
    t.equal(bench.recorder.deletes, 0);
    const warnings = bench.log.filter((line) => line.level === 'warn');
    t.ok(warnings.length <= 1, JSON.stringify(warnings));
    await bench.store.close();
    await front.close();
  }
});
