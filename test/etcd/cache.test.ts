// The table on disk: a start while etcd is down.

import t from 'tap';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatPrefix, parsePrefix } from '../../src/net/ipv4.js';
import { startEtcd } from './etcd-server.js';
import {
  attributesOf,
  converged,
  makeStore,
  putConfig,
  putLease,
  Recorder,
  startStore,
  until,
} from './store-fixture.js';

t.setTimeout(60_000);
const OWN = { previousSubnet: parsePrefix('10.5.1.0/24')! };

t.test('E18 etcd absent at the start: the saved table, flagged; reconciled when etcd is back', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), `twill-table-${process.pid}-`));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const tablePath = join(dir, 'run', 'subnet.env.leases');
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  for (let i = 2; i < 6; i++) await putLease(etcd, `10.5.${i}.0-24`, `172.20.0.${i}`);
  const first = await startStore({ endpoints: etcd.url, ...OWN, store: { tablePath } });
  await putLease(etcd, '10.5.6.0-24', '172.20.0.6');
  await converged(etcd, first.recorder);
  const saved = first.recorder.lines();
  await first.store.close();
  t.equal(statSync(tablePath).mode & 0o777, 0o600);
  await etcd.kill();

  const { store } = makeStore({ endpoints: etcd.url, store: { tablePath } });
  const startedAtMs = performance.now();
  const cached = store.cached()!;
  t.ok(performance.now() - startedAtMs < 50, `${Math.round(performance.now() - startedAtMs)} ms`);
  t.equal(formatPrefix(cached.ownSubnet), '10.5.1.0/24');
  t.equal(cached.ownAttributes.publicIp, attributesOf({}).publicIp);
  const model = new Recorder();
  model.onLeases({ kind: 'snapshot', leases: cached.leases });
  t.strictSame(model.lines(), saved);
  const reading = store.readConfig(AbortSignal.timeout(20_000));
  await until(() => store.degraded().some((reason) => reason.startsWith('etcd unreachable')), 'reason');
  t.ok(store.degraded().some((reason) => /^lease table of \d{4}-.* in use/.test(reason)));

  etcd.start();
  await etcd.ready();
  await etcd.ctl('del', '/coreos.com/network/subnets/10.5.6.0-24');
  const config = await reading;
  const subnet = await store.acquire(
    { config, attributes: cached.ownAttributes, previousSubnet: cached.ownSubnet },
    AbortSignal.timeout(10_000),
  );
  t.strictSame(subnet, cached.ownSubnet);
  const recorder = new Recorder();
  store.watch(recorder);
  await converged(etcd, recorder);
  t.strictSame(store.degraded(), []);
  await store.close();
});
