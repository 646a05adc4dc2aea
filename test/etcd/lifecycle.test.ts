// Acquire, renew, watch and the bytes in etcd, against one etcd without faults.

import t from 'tap';
import { readFileSync } from 'node:fs';
import { formatPrefix, parsePrefix } from '../../src/net/prefix.js';
import { startEtcd } from '../support/etcd-server.js';
import type { EtcdServer } from '../support/etcd-server.js';
import {
  converged,
  leaseValue,
  listed,
  makeStore,
  pause,
  PREFIX,
  putConfig,
  putLease,
  reasonsOf,
  startStore,
  until,
} from '../support/store-fixture.js';

let etcd: EtcdServer;
t.before(async () => (etcd = await startEtcd()));
t.teardown(() => etcd.remove());
t.beforeEach(async () => {
  await etcd.ctl('del', '--prefix', '/');
  await putConfig(etcd);
});

interface Kv {
  key: string;
  value: string;
  lease?: string;
  mod_revision: string;
}

async function kvs(): Promise<Map<string, Kv>> {
  const text = await etcd.ctl('get', '--prefix', '/', '-w', 'json');
  // Lease ids exceed what JSON.parse keeps exact.
  const json = JSON.parse(text.replaceAll(/"(lease|mod_revision)":(\d+)/g, '"$1":"$2"')) as { kvs?: Kv[] };
  return new Map((json.kvs ?? []).map((kv) => [Buffer.from(kv.key, 'base64').toString(), kv]));
}

async function ttl(lease: string): Promise<{ ttl: number; granted: number }> {
  const out = await etcd.ctl('lease', 'timetolive', BigInt(lease).toString(16), '-w', 'json');
  const json = JSON.parse(out) as { ttl: number; 'granted-ttl': number };
  return { ttl: json.ttl, granted: json['granted-ttl'] };
}

const leaseCount = async (): Promise<number> =>
  Number(/found (\d+) leases/.exec(await etcd.ctl('lease', 'list'))?.[1]);

t.test('EtcdStore: join() writes the bytes that flanneld writes, per backend', async (t) => {
  const golden = (backend: string): Map<string, string> => {
    const rows = readFileSync(new URL(`golden/${backend}.txt`, import.meta.url), 'utf8').split('\n');
    return new Map(
      rows.flatMap((row, i) => (i % 2 === 0 && row !== '' ? [[row, rows[i + 1]] as const] : [])),
    );
  };
  const cases = [
    { backend: 'udp', host: { backendType: '' } },
    { backend: 'host-gw', host: { backendType: 'host-gw' } },
    {
      backend: 'vxlan',
      host: { backendType: 'vxlan', backendData: { VNI: 1, VtepMAC: 'da:cf:2f:a4:f8:4a' } },
    },
  ];
  for (const { backend, host } of cases) {
    const key = `${PREFIX}/subnets/10.5.1.0-24`;
    const { store, subnet } = await startStore({
      endpoints: etcd.url,
      host,
      previousSubnet: parsePrefix('10.5.1.0/24')!,
    });
    t.equal(formatPrefix(subnet), '10.5.1.0/24');
    const kv = (await kvs()).get(key)!;
    t.equal(Buffer.from(kv.value, 'base64').toString(), golden(backend).get(key), backend);
    t.equal((await ttl(kv.lease!)).granted, 86_400);
    await store.close();
    await etcd.ctl('del', '--prefix', `${PREFIX}/subnets`);
  }
  t.strictSame([...(await kvs()).keys()], [`${PREFIX}/config`], 'no other key was ever written');
});

t.test('EtcdStore: join() uses the own lease again and leaves no etcd lease behind', async (t) => {
  const before = await leaseCount();
  const first = await startStore({ endpoints: etcd.url });
  await first.store.close();
  const again = await startStore({ endpoints: etcd.url });
  t.strictSame(again.subnet, first.subnet);
  await until(async () => (await leaseCount()) === before + 1, 'one etcd lease is left');
  await again.store.close();
});

t.test('EtcdStore: join() takes the first own lease that fits, by key', async (t) => {
  await putLease(etcd, '10.5.9.0-24', '172.20.0.1');
  await putLease(etcd, '10.5.10.0-24', '172.20.0.1');
  await putLease(etcd, '10.5.1.0-25', '172.20.0.1');
  const { store, subnet } = await startStore({ endpoints: etcd.url });
  t.equal(formatPrefix(subnet), '10.5.10.0/24', 'byte order: 10 before 9');
  await store.close();
});

t.test('EtcdStore: a reservation stays one', async (t) => {
  await etcd.ctl('put', `${PREFIX}/subnets/10.5.77.0-24`, '{"PublicIP":"172.20.0.1"}');
  const { store, subnet } = await startStore({
    endpoints: etcd.url,
    previousSubnet: parsePrefix('10.5.3.0/24')!,
    tuning: { leaseTtlSeconds: 2 },
  });
  t.equal(formatPrefix(subnet), '10.5.77.0/24');
  const kv = (await kvs()).get(`${PREFIX}/subnets/10.5.77.0-24`)!;
  t.equal(kv.lease, undefined);
  t.equal(Buffer.from(kv.value, 'base64').toString(), leaseValue('172.20.0.1'));
  t.match(store.status(), { ownLease: { isReservation: true, expiresInSeconds: null } });
  await store.close();
});

t.test('EtcdStore: join() asks for the previous subnet only when nobody overlaps it', async (t) => {
  await putLease(etcd, '10.5.4.0-23', '172.20.0.9');
  const { store, subnet } = await startStore({
    endpoints: etcd.url,
    previousSubnet: parsePrefix('10.5.5.0/24')!,
  });
  t.notOk(['10.5.4.0/24', '10.5.5.0/24'].includes(formatPrefix(subnet)), formatPrefix(subnet));
  await store.close();
});

t.test('EtcdStore: join() deletes an own lease that no longer fits and takes another', async (t) => {
  const lease = /lease (\w+) granted/.exec(await etcd.ctl('lease', 'grant', '600'))![1];
  await etcd.ctl('put', `--lease=${lease}`, `${PREFIX}/subnets/10.5.16.0-20`, leaseValue('172.20.0.1'));
  const { store, subnet } = await startStore({ endpoints: etcd.url });
  t.equal(subnet.length, 24);
  t.notOk((await kvs()).has(`${PREFIX}/subnets/10.5.16.0-20`));
  await store.close();
});

t.test('EtcdStore renews: new etcd lease, same key, old etcd lease revoked', async (t) => {
  const { store, subnet, recorder } = await startStore({
    endpoints: etcd.url,
    tuning: { leaseTtlSeconds: 4 },
  });
  const key = `${PREFIX}/subnets/${formatPrefix(subnet).replace('/', '-')}`;
  const first = (await kvs()).get(key)!.lease!;
  await until(async () => (await kvs()).get(key)?.lease !== first, 'renewed');
  await t.rejects(
    ttl(first).then(({ ttl }) => (ttl < 0 ? Promise.reject(new Error('gone')) : undefined)),
    { message: 'gone' },
  );
  await pause(4500);
  t.ok((await kvs()).has(key), 'outlives its first etcd lease');
  t.equal(recorder.deletes, 0);
  t.strictSame(reasonsOf(store), []);
  await store.close();
});

t.test('EtcdMembership.watch() reports snapshot, then puts and deletes, each once', async (t) => {
  await putLease(etcd, '10.5.2.0-24', '172.20.0.2');
  const { store, recorder } = await startStore({
    endpoints: etcd.url,
    previousSubnet: parsePrefix('10.5.1.0/24')!,
  });
  t.equal(recorder.snapshots, 1);
  t.equal(recorder.table.size, 2);
  await putLease(etcd, '10.5.3.0-24', '172.20.0.3');
  await putLease(etcd, '10.5.2.0-24', '172.20.0.22');
  await etcd.ctl('del', `${PREFIX}/subnets/10.5.3.0-24`);
  await converged(etcd, recorder);
  t.equal(recorder.puts, 2);
  t.equal(recorder.deletes, 1);
  t.strictSame(await listed(etcd), [
    `10.5.1.0/24 ${leaseValue('172.20.0.1')}`,
    `10.5.2.0/24 ${leaseValue('172.20.0.22')}`,
  ]);
  await store.close();
});

t.test('EtcdStore.readConfig() waits for a missing key and says which', async (t) => {
  await etcd.ctl('del', `${PREFIX}/config`);
  const { store } = makeStore({ endpoints: etcd.url });
  const reading = store.readConfig(AbortSignal.timeout(10_000));
  await until(
    () => reasonsOf(store).some((reason) => reason.includes(`"${PREFIX}/config"`)),
    'the reason names the key',
  );
  await putConfig(etcd);
  t.equal((await reading).config.networks.v4?.subnetLength, 24);
  t.strictSame(reasonsOf(store), []);
  store.close();
});

t.test('EtcdStore.readConfig() rejects an invalid config naming key and value', async (t) => {
  await putConfig(etcd, '{"Network":"10.5.0.0/99"}');
  const { store } = makeStore({ endpoints: etcd.url });
  await t.rejects(store.readConfig(AbortSignal.timeout(5000)), { code: 'E_CONFIG' });
  store.close();
});

t.test('EtcdStore reports config changes, and keeps the last good one', async (t) => {
  const { store, recorder } = await startStore({ endpoints: etcd.url });
  await putConfig(etcd, '{"Network":"10.5.0.0/16","SubnetLen":25}');
  await until(() => recorder.configs.length === 1, 'onConfig');
  t.equal(recorder.configs[0].networks.v4?.subnetLength, 25);
  await putConfig(etcd, '{"Network":');
  await until(
    () => reasonsOf(store).some((reason) => reason.includes('network config in etcd is invalid')),
    'invalid',
  );
  await etcd.ctl('del', `${PREFIX}/config`);
  await until(() => reasonsOf(store).some((reason) => reason.includes('is gone from etcd')), 'gone');
  await putConfig(etcd, '{"Network":"10.5.0.0/16","SubnetLen":25}');
  await until(() => reasonsOf(store).length === 0, 'good again');
  t.equal(recorder.configs.length, 1, 'the same text again is no change');
  await store.close();
});

t.test('EtcdStore works with another prefix, and cleans it as Go does', async (t) => {
  await etcd.ctl('put', '/atomic.io/network/config', '{"Network":"10.5.0.0/16"}');
  const { store } = await startStore({
    endpoints: `http://127.0.0.1:1, ${etcd.url}/ ,`,
    store: { prefix: '//atomic.io/network/' },
  });
  t.match(
    [...(await kvs()).keys()],
    [/^\/atomic\.io\/network\/config$/, /^\/atomic\.io\/network\/subnets\/10\.5\.\d+\.0-24$/],
  );
  await store.close();
  await store.close();
});
