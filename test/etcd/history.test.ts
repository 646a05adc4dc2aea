// The store's history changes under us: wiped, restored from a snapshot, events lost.

import t from 'tap';
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { parsePrefix } from '../../src/net/prefix.js';
import { cleanEnv, startEtcd } from '../support/etcd-server.js';
import type { EtcdServer } from '../support/etcd-server.js';
import type { Fixture } from '../support/store-fixture.js';
import {
  converged,
  leaseValue,
  PREFIX,
  putConfig,
  putLease,
  reasonsOf,
  startStore,
  until,
} from '../support/store-fixture.js';
import { TcpProxy } from '../support/tcp-proxy.js';

t.setTimeout(90_000);
const OWN = { previousSubnet: parsePrefix('10.5.1.0/24')! };
const counter = ({ store }: Pick<Fixture, 'store'>, name: string): number =>
  store.metrics().find((family) => family.name === name)!.values[0].value;
const ownValue = async (etcd: EtcdServer): Promise<string> =>
  (await etcd.ctl('get', '--print-value-only', `${PREFIX}/subnets/10.5.1.0-24`)).trim();

t.test(
  'E14 store wiped: noticed, own lease published again, peers kept until they return or the grace ends',
  async (t) => {
    const etcd = await startEtcd();
    t.teardown(() => etcd.remove());
    await putConfig(etcd);
    for (let i = 2; i < 6; i++) await putLease(etcd, `10.5.${i}.0-24`, `172.20.0.${i}`);
    const bench = await startStore({ endpoints: etcd.url, ...OWN, tuning: { graceMs: 4000 } });
    t.teardown(() => bench.store.close());
    t.equal(bench.recorder.table.size, 5);
    await etcd.wipe();
    etcd.start();
    await etcd.ready();
    const ms = await until(
      async () => (await ownValue(etcd)) === leaseValue('172.20.0.1'),
      'own lease published again',
    );
    t.ok(ms < 5000, `${Math.round(ms)} ms`);
    t.equal(counter(bench, 'etcd_history_rewritten_total'), 1);
    t.equal(bench.recorder.table.size, 5, 'peers are kept');
    t.ok(reasonsOf(bench.store).some((reason) => reason.startsWith('4 leases vanished')));
    // The config has a watch of its own, which may come after.
    await until(
      () => reasonsOf(bench.store).some((reason) => reason.includes('is gone from etcd')),
      'the missing config to be told',
    );
    await putConfig(etcd);
    await putLease(etcd, '10.5.2.0-24', '172.20.0.2');
    await putLease(etcd, '10.5.33.0-24', '172.20.0.3');
    await until(() => bench.recorder.table.has('10.5.33.0/24'), 'a host that is back under another subnet');
    t.notOk(bench.recorder.table.has('10.5.3.0/24'), 'its vanished lease goes at once');
    t.ok(bench.recorder.table.has('10.5.4.0/24'), 'others are kept still');
    await converged(etcd, bench.recorder);
    t.strictSame(reasonsOf(bench.store), []);
  },
);

t.test('E14 store restored from an older snapshot: compared, not believed to be unchanged', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  await putLease(etcd, '10.5.2.0-24', '172.20.0.2');
  const snapshot = join(etcd.dataDir, '..', `twill-snapshot-${process.pid}.db`);
  t.teardown(() => rmSync(snapshot, { force: true }));
  await etcd.ctl('snapshot', 'save', snapshot);
  const bench = await startStore({ endpoints: etcd.url, ...OWN, tuning: { graceMs: 1500 } });
  t.teardown(() => bench.store.close());
  await putLease(etcd, '10.5.2.0-24', '172.20.0.22');
  await putLease(etcd, '10.5.3.0-24', '172.20.0.3');
  await converged(etcd, bench.recorder);
  await etcd.remove();
  execFileSync(
    'etcdctl',
    [
      ...['snapshot', 'restore', snapshot, '--data-dir', etcd.dataDir, '--name', 'm0'],
      ...['--initial-cluster', `m0=http://127.0.0.1:${etcd.peerPort}`],
      ...['--initial-advertise-peer-urls', `http://127.0.0.1:${etcd.peerPort}`],
    ],
    { env: cleanEnv(), stdio: 'pipe' },
  );
  etcd.start();
  await etcd.ready();
  await until(async () => (await ownValue(etcd)) !== '', 'own lease published again');
  t.equal(counter(bench, 'etcd_history_rewritten_total'), 1);
  await converged(etcd, bench.recorder);
  t.ok(bench.recorder.lines()[1].includes('172.20.0.2"'), 'the older value is what the store says');
});

t.test('E14 wiped and far ahead of us again: found by the periodic comparison', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  await putLease(etcd, '10.5.2.0-24', '172.20.0.2');
  const proxy = await TcpProxy.open(etcd.clientPort);
  t.teardown(() => proxy.close());
  const bench = await startStore({ endpoints: proxy.url, ...OWN, tuning: { resyncMs: 1500, graceMs: 1000 } });
  t.teardown(() => bench.store.close());
  proxy.refuse(); // we must not look before the new store has overtaken us
  await etcd.wipe();
  etcd.start();
  await etcd.ready();
  await putConfig(etcd);
  for (let i = 0; i < 12; i++) await putLease(etcd, '10.5.4.0-24', `172.20.0.${i + 40}`);
  proxy.heal();
  await until(() => bench.recorder.table.has('10.5.4.0/24'), 'the new lease');
  t.equal(counter(bench, 'etcd_history_rewritten_total'), 0, 'not to be seen at once');
  await until(async () => (await ownValue(etcd)) !== '', 'own lease published again');
  await converged(etcd, bench.recorder);
  t.notOk(bench.recorder.table.has('10.5.2.0/24'));
  t.ok(counter(bench, 'etcd_resync_repairs_total') > 0);
});
