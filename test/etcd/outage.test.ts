// etcd goes away, freezes, is cut off or slow; the verdict is always that the table equals a fresh list afterwards,
// that no event was lost and none applied twice.

import t from 'tap';
import type { Test } from 'tap';
import { parsePrefix } from '../../src/net/prefix.js';
import { startEtcd } from '../support/etcd-server.js';
import type { EtcdServer } from '../support/etcd-server.js';
import type { Fixture, FixtureOptions } from '../support/store-fixture.js';
import {
  converged,
  leaseValue,
  joinStore,
  makeStore,
  pause,
  PREFIX,
  putConfig,
  putLease,
  reasonsOf,
  startStore,
  txn,
  until,
} from '../support/store-fixture.js';
import { TcpProxy } from '../support/tcp-proxy.js';

const OWN = { previousSubnet: parsePrefix('10.5.1.0/24')! };

interface Bench extends Fixture {
  readonly etcd: EtcdServer;
  readonly proxy: TcpProxy;
}

/** An etcd, a proxy before it, and a store behind that, with one peer. */
async function open(t: Test, options: Partial<FixtureOptions> = {}): Promise<Bench> {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  const proxy = await TcpProxy.open(etcd.clientPort);
  t.teardown(() => proxy.close());
  await putConfig(etcd);
  await putLease(etcd, '10.5.2.0-24', '172.20.0.2');
  const fixture = await startStore({ endpoints: proxy.url, ...OWN, ...options });
  t.teardown(() => fixture.store.close());
  return { etcd, proxy, ...fixture };
}

const isLive = (store: Fixture['store']): boolean => store.status().watchEstablished === true;
const counter = (bench: Fixture, name: string): number =>
  bench.store.metrics().find((family) => family.name === name)!.values[0].value;

/** `count` leases from 10.5.100.0 on, as txn operations. */
function puts(count: number, host: (i: number) => string): string[] {
  return Array.from({ length: count }, (_, i) => {
    const name = `10.5.${100 + (i >> 4)}.${(i & 15) * 16}-28`;
    return `put ${PREFIX}/subnets/${name} ${JSON.stringify(leaseValue(host(i)))}`;
  });
}

t.jobs = 2;
t.setTimeout(120_000);

t.test('E1 killed and restarted: the table stays, the cause is named, changes arrive', async (t) => {
  const bench = await open(t);
  const cpuBefore = process.cpuUsage();
  await bench.etcd.kill();
  await until(
    () => reasonsOf(bench.store).some((reason) => reason.startsWith('etcd unreachable: ')),
    'reason',
  );
  await pause(3000);
  t.equal(bench.recorder.table.size, 2, 'fail static');
  const cpu = process.cpuUsage(cpuBefore);
  t.comment(`cpu of this process during the outage: ${(cpu.user + cpu.system) / 1000} ms`);
  bench.etcd.start();
  await bench.etcd.ready();
  t.ok((await until(() => isLive(bench.store), 'live again')) < 2500);
  await putLease(bench.etcd, '10.5.3.0-24', '172.20.0.3');
  await converged(bench.etcd, bench.recorder);
  t.equal(bench.recorder.puts, 1);
  t.equal(bench.recorder.deletes, 0);
  t.strictSame(reasonsOf(bench.store), []);
});

t.test('a loss of etcd and its end are told once each, however often it comes and goes', async (t) => {
  const bench = await open(t);
  const count = (text: RegExp) => bench.log.filter(({ msg }) => text.test(msg)).length;
  for (let i = 0; i < 3; i++) {
    await bench.etcd.kill();
    await until(() => reasonsOf(bench.store).length > 0, 'reason');
    bench.etcd.start();
    await bench.etcd.ready();
    await until(() => isLive(bench.store), 'live again');
  }
  const again = count(/^connected to etcd again$/);
  t.equal(count(/^connected to etcd$/), 1);
  t.ok(again > 0 && again <= 3, `${again} times again`);
  const lost = bench.log.filter(({ level, kind }) => level === 'warn' && kind !== undefined).length;
  t.ok(again <= lost, `not more often than the ${lost} times it was lost`);
});

t.test('E2 frozen: noticed by silence, recovered after SIGCONT', async (t) => {
  const bench = await open(t);
  bench.etcd.signal('SIGSTOP');
  const noticedMs = await until(() => !isLive(bench.store), 'noticed', 5000);
  t.ok(noticedMs < 4000, `noticed after ${Math.round(noticedMs)} ms with progress every 1,000 ms`);
  await until(() => reasonsOf(bench.store).length > 0, 'reason');
  t.match(reasonsOf(bench.store)[0], /^etcd (does not answer|unreachable): /);
  bench.etcd.signal('SIGCONT');
  t.ok((await until(() => isLive(bench.store), 'live again', 20_000)) < 7000);
  await putLease(bench.etcd, '10.5.3.0-24', '172.20.0.3');
  await converged(bench.etcd, bench.recorder);
  t.equal(bench.recorder.puts, 1);
});

t.test(
  'E3 black hole of the live connection: a lease written meanwhile is learnt over a new one',
  async (t) => {
    const bench = await open(t);
    bench.proxy.blackholeExisting();
    await putLease(bench.etcd, '10.5.3.0-24', '172.20.0.3');
    const learntMs = await until(() => bench.recorder.table.has('10.5.3.0/24'), 'learnt');
    t.ok(learntMs < 5000, `${Math.round(learntMs)} ms`);
    await converged(bench.etcd, bench.recorder);
    t.equal(bench.recorder.puts, 1);
  },
);

t.test('E4 two seconds per reply: start and renewal work', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  const proxy = await TcpProxy.open(etcd.clientPort);
  t.teardown(() => proxy.close());
  await putConfig(etcd);
  proxy.delayMs = 2000;
  const { store } = makeStore({ endpoints: proxy.url, tuning: { leaseTtlSeconds: 30, progressMs: 5000 } });
  const joined = await joinStore(store, {}, AbortSignal.timeout(30_000));
  t.teardown(() => joined.close());
  t.match(await etcd.ctl('get', '--prefix', `${PREFIX}/subnets/`), /172\.20\.0\.1/);
});

t.test('E5 compacted while cut off: list and difference, the own lease untouched', async (t) => {
  const bench = await open(t);
  await txn(
    bench.etcd,
    puts(20, () => '172.20.0.50'),
  );
  await converged(bench.etcd, bench.recorder);
  bench.proxy.refuse();
  await txn(
    bench.etcd,
    puts(1000, (i) => `172.20.${1 + (i >> 8)}.${i & 255}`),
  );
  await bench.etcd.ctl('del', `${PREFIX}/subnets/10.5.2.0-24`);
  await bench.etcd.ctl('put', '/elsewhere', '1');
  const out = await bench.etcd.ctl('get', '/elsewhere', '-w', 'json');
  await bench.etcd.ctl(
    'compact',
    String((JSON.parse(out) as { header: { revision: number } }).header.revision),
  );
  bench.proxy.heal();
  await converged(bench.etcd, bench.recorder);
  t.equal(bench.recorder.snapshots, 1, 'told as a difference');
  t.equal(counter(bench, 'etcd_watch_compacted_total'), 1);
  t.equal(bench.recorder.puts, 20 + 1000, 'a changed host is told too');
  t.equal(bench.recorder.deletes, 1);
  t.ok(bench.recorder.table.has('10.5.1.0/24'));
  t.equal(counter(bench, 'etcd_leases_vanished'), 0, 'deleted, not vanished');
});

t.test('W1 cut in the middle of a catch-up of 3,000 revisions: none lost, none twice', async (t) => {
  const bench = await open(t);
  bench.proxy.refuse();
  const seen: string[] = [];
  for (let i = 0; i < 3000; i += 100) {
    const requests = Array.from({ length: 100 }, (_, j) => putOne(bench.etcd, i + j));
    await Promise.all(requests);
  }
  let cuts = 0;
  bench.recorder.onUpdate = (update) => {
    if (update.kind !== 'events') return;
    for (const event of update.events)
      if (event.kind === 'put') seen.push(String(event.lease.host.publicIp.v4));
    if (cuts < 2) {
      cuts++;
      bench.proxy.cut();
    }
  };
  bench.proxy.heal();
  await converged(bench.etcd, bench.recorder, 20_000);
  t.equal(cuts, 2);
  t.equal(seen.length, 3000);
  t.equal(new Set(seen).size, 3000);
});

t.test('W2 cut right after "created": the events since are delivered', async (t) => {
  const bench = await open(t);
  const delaysMs = [0, 3, 6, 9, 12, 15, 20, 25, 30, 40];
  for (const [round, delayMs] of delaysMs.entries()) {
    bench.proxy.refuse();
    await putLease(bench.etcd, `10.5.${30 + round}.0-24`, '172.20.0.3');
    const before = bench.proxy.connections;
    bench.proxy.heal();
    await until(() => bench.proxy.connections > before, 'connected again');
    await pause(delayMs);
    bench.proxy.cut();
  }
  await converged(bench.etcd, bench.recorder);
  t.equal(bench.recorder.puts, delaysMs.length);
});

/** One put in a revision of its own, over etcd's JSON gateway (etcdctl takes 20 ms each). */
async function putOne(etcd: EtcdServer, i: number): Promise<void> {
  const key = Buffer.from(`${PREFIX}/subnets/10.5.${200 + (i & 7)}.0-24`).toString('base64');
  const value = Buffer.from(leaseValue(`172.21.${i >> 8}.${i & 255}`)).toString('base64');
  const response = await fetch(`${etcd.url}/v3/kv/put`, {
    method: 'POST',
    body: JSON.stringify({ key, value }),
  });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`put ${i}: ${response.status}`);
}
