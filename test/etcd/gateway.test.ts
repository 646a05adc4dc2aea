// What stands between the daemon and etcd and lacks a part of it: etcd's own proxy and gateway, and one without Status.
//
//   stores ─► grpc-proxy | gateway | front ─► etcd ◄─ etcdctl

import t from 'tap';
import { startEtcd, startFront } from '../support/etcd-server.js';
import { Http2Front } from '../support/http2-front.js';
import { converged, putConfig, putLease, startStore, until } from '../support/store-fixture.js';
import type { Fixture } from '../support/store-fixture.js';

t.setTimeout(120_000);

const PROGRESS_MS = 300;
const tuning = { progressMs: PROGRESS_MS };

const counter = ({ store }: Fixture, name: string): number =>
  store.metrics().find((row) => row.name.includes(name))!.values[0].value;

/** Long enough idle that a reconnect at each unanswered sign of life would show several times. */
async function idle(): Promise<void> {
  const startedMs = performance.now();
  await until(() => performance.now() - startedMs > 10 * PROGRESS_MS, 'ten silences');
}

for (const kind of ['grpc-proxy', 'gateway'] as const) {
  t.test(`E18 etcd ${kind}: followed as etcd itself is`, async (t) => {
    const etcd = await startEtcd();
    t.teardown(() => etcd.remove());
    await putConfig(etcd);
    const front = await startFront(kind, etcd);
    t.teardown(() => front.close());
    const benches: Fixture[] = [];
    for (const publicIp of ['172.20.0.1', '172.20.0.2']) {
      const bench = await startStore({ endpoints: front.url, publicIp, tuning });
      t.teardown(() => bench.store.close());
      benches.push(bench);
    }
    await idle();
    for (const [index, bench] of benches.entries()) {
      const { store, log } = bench;
      t.equal(store.status()['sessionsOpened'], 1, `store ${index} keeps its connection`);
      t.equal(counter(bench, 'etcd_watches_started_total'), 1, 'and its watch');
      t.equal(counter(bench, 'etcd_lists_total'), 1);
      t.strictSame(store.conditions(), []);
      const said = log.filter(({ msg }) => msg.includes('progress requests'));
      t.equal(said.length, kind === 'grpc-proxy' ? 1 : 0, JSON.stringify(said));
      t.strictSame(
        log.filter(({ level }) => level === 'warn'),
        [],
      );
    }
    await putLease(etcd, '10.5.77.0-24', '172.20.0.77');
    for (const { recorder } of benches) await converged(etcd, recorder);
    await etcd.ctl('del', '/coreos.com/network/subnets/10.5.77.0-24');
    for (const { recorder } of benches) await converged(etcd, recorder);
  });
}

t.test('E18 a gateway that lacks the Maintenance service is used all the same', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  const front = await Http2Front.open(etcd.url);
  t.teardown(() => front.close());
  front.lacks = '/etcdserverpb.Maintenance/';
  const bench = await startStore({ endpoints: front.url, tuning: { ...tuning, recheckMs: 200 } });
  t.teardown(() => bench.store.close());
  await idle();
  await putLease(etcd, '10.5.77.0-24', '172.20.0.77');
  await converged(etcd, bench.recorder);
  t.equal(bench.store.status()['sessionsOpened'], 1);
  t.strictSame(bench.store.conditions(), []);
  front.breakWith({ rst: 2 });
  await until(() => bench.store.conditions().length > 0, 'a broken one is noticed');
});
