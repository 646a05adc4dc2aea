// What can happen to the own lease: deleted, expired while cut off, taken, overwritten, shared; and the race for
// subnets.

import t from 'tap';
import { formatPrefixes, parsePrefix } from '../../src/net/prefix.js';
import { startEtcd } from '../support/etcd-server.js';
import type { EtcdServer } from '../support/etcd-server.js';
import {
  ownHostOf,
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
  until,
} from '../support/store-fixture.js';
import type { Fixture } from '../support/store-fixture.js';
import { TcpProxy } from '../support/tcp-proxy.js';

t.setTimeout(90_000);
let etcd: EtcdServer;
t.before(async () => (etcd = await startEtcd()));
t.teardown(() => etcd.remove());
t.beforeEach(async () => {
  await etcd.ctl('del', '--prefix', '/');
  await putConfig(etcd);
});

const OWN_KEY = `${PREFIX}/subnets/10.5.1.0-24`;
const OWN = { previousSubnet: parsePrefix('10.5.1.0/24')! };
const counter = ({ store }: Pick<Fixture, 'store'>, name: string): number =>
  store.metrics().find((family) => family.name === name)!.values[0].value;
const valueOf = async (key: string): Promise<string> =>
  (await etcd.ctl('get', '--print-value-only', key)).trim();
const leaseCount = async (): Promise<number> =>
  Number(/found (\d+) leases/.exec(await etcd.ctl('lease', 'list'))?.[1]);

t.test('E12 own key deleted by an operator: the same subnet again, at once', async (t) => {
  const bench = await startStore({ endpoints: etcd.url, ...OWN });
  await etcd.ctl('del', OWN_KEY);
  const ms = await until(async () => (await valueOf(OWN_KEY)) !== '', 'own key is back');
  t.ok(ms < 1000, `${Math.round(ms)} ms`);
  await converged(etcd, bench.recorder);
  t.equal(counter(bench, 'lease_recreated_total'), 1);
  t.strictSame(bench.recorder.lost, []);
  t.strictSame(reasonsOf(bench.store), []);
  await bench.store.close();
});

t.test('E11 expired while cut off: created again after the cut, the table kept meanwhile', async (t) => {
  const proxy = await TcpProxy.open(etcd.clientPort);
  t.teardown(() => proxy.close());
  const bench = await startStore({ endpoints: proxy.url, ...OWN, tuning: { leaseTtlSeconds: 2 } });
  await putLease(etcd, '10.5.2.0-24', '172.20.0.2');
  await converged(etcd, bench.recorder);
  proxy.blackhole();
  await until(async () => (await valueOf(OWN_KEY)) === '', 'expired');
  t.equal(bench.recorder.table.size, 2);
  proxy.heal();
  const ms = await until(async () => (await valueOf(OWN_KEY)) !== '', 'own key is back');
  t.ok(ms < 4000, `${Math.round(ms)} ms after the cut was healed`);
  await converged(etcd, bench.recorder);
  t.strictSame(bench.recorder.lost, []);
  await bench.store.close();
});

t.test('P15 the wall clock is set: the lease is renewed, and nothing expires', async (t) => {
  const realNow = Date.now;
  t.teardown(() => (Date.now = realNow));
  const bench = await startStore({ endpoints: etcd.url, ...OWN, tuning: { leaseTtlSeconds: 2 } });
  await putLease(etcd, '10.5.2.0-24', '172.20.0.2');
  for (const seconds of [86_400, -86_400, 1, -1]) {
    Date.now = () => realNow() + seconds * 1_000;
    const before = counter(bench, 'lease_renewals_total');
    const ms = await until(() => counter(bench, 'lease_renewals_total') > before, 'renewal');
    t.ok(ms < 2_000, `${seconds} s: renewed after ${Math.round(ms)} ms`);
  }
  Date.now = realNow;
  await putLease(etcd, '10.5.3.0-24', '172.20.0.3');
  await converged(etcd, bench.recorder);
  t.equal(bench.recorder.table.size, 3);
  t.equal(counter(bench, 'lease_recreated_total'), 0);
  t.strictSame(bench.recorder.lost, []);
  t.strictSame(reasonsOf(bench.store), []);
  await bench.store.close();
});

t.test('E11 expired while cut off and taken by another host: lost, never overwritten', async (t) => {
  const proxy = await TcpProxy.open(etcd.clientPort);
  t.teardown(() => proxy.close());
  const bench = await startStore({ endpoints: proxy.url, ...OWN, tuning: { leaseTtlSeconds: 2 } });
  proxy.blackhole();
  await until(async () => (await valueOf(OWN_KEY)) === '', 'expired');
  await putLease(etcd, '10.5.1.0-24', '172.20.0.99');
  proxy.heal();
  await until(() => bench.recorder.lost.length > 0, 'onOwnLeaseLost');
  t.match(bench.recorder.lost, [/10\.5\.1\.0\/24 .*PublicIP 172\.20\.0\.99/]);
  await pause(500);
  t.equal(await valueOf(OWN_KEY), leaseValue('172.20.0.99'));
  await bench.store.close();
});

t.test('E12 deleted and an overlapping lease made: lost', async (t) => {
  const bench = await startStore({ endpoints: etcd.url, ...OWN });
  await etcd.ctlInput(
    `\ndel ${OWN_KEY}\nput ${PREFIX}/subnets/10.5.1.0-25 ${JSON.stringify(leaseValue('172.20.0.9'))}\n\n\n`,
    'txn',
  );
  await until(() => bench.recorder.lost.length > 0, 'onOwnLeaseLost');
  t.match(bench.recorder.lost, [/10\.5\.1\.0\/25 overlaps it/]);
  t.equal(await valueOf(OWN_KEY), '');
  await bench.store.close();
});

t.test('E13 own key overwritten: alarm within a second, not written over, ends with the cause', async (t) => {
  const bench = await startStore({ endpoints: etcd.url, ...OWN, tuning: { leaseTtlSeconds: 3 } });
  for (const value of [leaseValue('172.20.0.99'), 'garbage']) {
    await etcd.ctl('put', OWN_KEY, value);
    const ms = await until(
      () => reasonsOf(bench.store).some((reason) => reason.includes('was overwritten')),
      'alarm',
    );
    t.ok(ms < 1000, `${Math.round(ms)} ms`);
  }
  t.ok(bench.log.some((line) => line.level === 'error' && line.msg.includes('PublicIP 172.20.0.99')));
  t.equal(counter(bench, 'lease_overwritten_total'), 2);
  await pause(3500);
  t.equal(await valueOf(OWN_KEY), 'garbage', 'renewal did not write over it');
  t.strictSame(bench.recorder.lost, []);
  await etcd.ctl('del', OWN_KEY);
  await until(() => reasonsOf(bench.store).length === 0, 'alarm ends');
  t.equal(await valueOf(OWN_KEY), leaseValue('172.20.0.1'));
  await bench.store.close();
});

t.test('Two daemons with one public IP: the same subnet, both say so, neither fights', async (t) => {
  const one = await startStore({ endpoints: etcd.url, ...OWN });
  const two = await startStore({ endpoints: etcd.url });
  t.strictSame(two.subnet, one.subnet);
  const ms = await until(
    () => reasonsOf(one.store).some((reason) => reason.includes('another daemon publishes')),
    'alarm',
  );
  t.ok(ms < 1000);
  await pause(1000);
  t.equal(counter(one, 'lease_duplicate_public_ip_total'), 1);
  t.equal(counter(two, 'lease_duplicate_public_ip_total'), 0, 'no ping-pong');
  await Promise.all([one.store.close(), two.store.close()]);
});

t.test('An operator turns the lease into a reservation: adopted, and no longer renewed', async (t) => {
  const bench = await startStore({ endpoints: etcd.url, ...OWN, tuning: { leaseTtlSeconds: 3 } });
  const { etcdLease } = bench.store.status().ownLease as { etcdLease: string };
  await etcd.ctl('put', OWN_KEY, '{"PublicIP": "172.20.0.1"}');
  await until(() => (bench.store.status().ownLease as { isReservation: boolean }).isReservation, 'adopted');
  await pause(3500);
  t.equal(await valueOf(OWN_KEY), '{"PublicIP": "172.20.0.1"}');
  t.notMatch(await etcd.ctl('lease', 'list'), etcdLease, 'its old etcd lease is gone');
  t.strictSame(reasonsOf(bench.store), []);
  await bench.store.close();
});

t.test('An answer that is lost: the write is read back, not repeated', async (t) => {
  const proxy = await TcpProxy.open(etcd.clientPort);
  t.teardown(() => proxy.close());
  const before = await leaseCount();
  const { store } = makeStore({ endpoints: proxy.url });
  const signal = AbortSignal.timeout(20_000);
  const network = await store.readConfig(signal);
  // Requests pass, answers take 300 ms: cut when the key stands in etcd, before its answer is here.
  proxy.delayMs = 300;
  const joining = network.join({ host: ownHostOf({}), previousSubnets: { v4: OWN.previousSubnet } }, signal);
  await until(async () => (await valueOf(OWN_KEY)) !== '', 'written');
  proxy.delayMs = 0;
  proxy.cut();
  const member = await joining;
  t.equal(formatPrefixes(member.own), '10.5.1.0/24');
  t.match(await etcd.ctl('get', OWN_KEY, '-w', 'json'), '"version":1');
  t.equal(await leaseCount(), before + 1, 'no etcd lease without a key');
  await member.close();
  store.close();
});

async function race(t: Tap, hosts: number, free: number): Promise<void> {
  await putConfig(etcd, `{"Network":"10.5.0.0/16","SubnetMin":"10.5.10.0","SubnetMax":"10.5.${9 + free}.0"}`);
  const before = await leaseCount();
  const stores = Array.from({ length: hosts }, (_, i) => ({
    ...makeStore({ endpoints: etcd.url }),
    publicIp: `172.20.1.${i + 1}`,
  }));
  const signal = AbortSignal.timeout(30_000);
  const outcomes = await Promise.allSettled(
    stores.map(({ store, publicIp }) => joinStore(store, { publicIp }, signal)),
  );
  const members = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  const subnets = members.map(({ own }) => formatPrefixes(own));
  const errors = outcomes.flatMap((outcome) =>
    outcome.status === 'rejected' ? [outcome.reason as Error] : [],
  );
  t.equal(subnets.length, free);
  t.equal(new Set(subnets).size, free, 'all different');
  t.equal(errors.length, hosts - free);
  for (const error of errors)
    t.match(error, { code: 'E_LEASE', message: /10\.5\.0\.0\/16: out of subnets \(19 of \/24/ });
  await Promise.all(members.map((member) => member.close()));
  for (const { store } of stores) store.close();
  await until(async () => (await leaseCount()) === before + free, 'no etcd lease without a key');
}
type Tap = { equal: typeof t.equal; match: typeof t.match };

t.test('E22 20 daemons at once, 20 free subnets: 20 different subnets', (t) => race(t, 20, 20));
t.test('E22 20 daemons at once, 19 free subnets: 19 and one clear error', (t) => race(t, 20, 19));
