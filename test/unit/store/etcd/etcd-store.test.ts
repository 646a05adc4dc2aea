// EtcdStore over an etcd in memory, from the config to the loss of the lease, on a clock that moves when told to.

import { join } from 'node:path';
import pino from 'pino';
import t from 'tap';
import { EtcdStore } from '../../../../src/store/etcd/etcd-store.js';
import type { EtcdMembership } from '../../../../src/store/etcd/membership.js';
import { formatPrefixes, parsePrefix } from '../../../../src/net/prefix.js';
import { codesOf, textsOf } from '../../../support/conditions.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { FakeEtcd } from '../../../support/fake-etcd.js';
import { hostOf } from '../../../support/leases.js';
import { leaseValue, NETWORK, PREFIX, Recorder } from '../../../support/store-fixture.js';
import { folderOf } from '../../../support/folder.js';
import { prefixesOf } from '../../../../src/config/network-config.js';

const CONFIG = `${PREFIX}/config`;
const key = (n: number): string => `${PREFIX}/subnets/10.5.${n}.0-24`;
const OWN = key(1);
const HOUR_MS = 3_600_000;
const HOST = hostOf({ publicIp: '172.20.0.1' });
const ASKED = { host: HOST, previousSubnets: { v4: parsePrefix('10.5.1.0/24')! } };

interface Bench {
  readonly etcd: FakeEtcd;
  readonly clock: FakeClock;
  readonly store: EtcdStore;
  readonly end: AbortController;
}

function open(leaseTtlSeconds = 86_400, tablePath?: string, etcd?: FakeEtcd): Bench {
  const clock = etcd?.clock ?? new FakeClock();
  etcd ??= new FakeEtcd(clock);
  etcd.put(CONFIG, NETWORK);
  const store = new EtcdStore({
    endpoints: 'http://a:2379',
    prefix: PREFIX,
    tls: { keyFile: '', certFile: '', caFile: '' },
    username: '',
    password: '',
    renewMarginMinutes: 60,
    tablePath,
    log: pino({ level: 'silent' }),
    tuning: { clock, random: () => 0, openClient: etcd.openClient, leaseTtlSeconds },
  });
  return { etcd, clock, store, end: new AbortController() };
}

/** What a promise comes to while the clock moves on, a minute at most. */
async function soon<T>(clock: FakeClock, promise: Promise<T>): Promise<T> {
  let isOver = false;
  promise.catch(() => undefined).finally(() => (isOver = true));
  for (let i = 0; i < 1200 && !isOver; i++) await clock.advance(i === 0 ? 0 : 50);
  if (!isOver) throw new Error('not within a minute');
  return promise;
}

interface Watching extends Bench {
  readonly member: EtcdMembership;
  readonly recorder: Recorder;
  readonly close: () => Promise<void>;
}

/** A lease that lasts a minute, and is renewed after a quarter of it. */
const SHORT_S = 60;

async function watching(
  prepare: (etcd: FakeEtcd) => void = () => undefined,
  leaseTtlSeconds?: number,
): Promise<Watching> {
  const bench = open(leaseTtlSeconds);
  const { etcd, clock, store, end } = bench;
  prepare(etcd);
  const network = await soon(clock, store.readConfig(end.signal));
  const member = await soon(clock, network.join(ASKED, end.signal));
  const recorder = new Recorder();
  member.watch(recorder);
  await clock.advance(0);
  const close = async (): Promise<void> => {
    await member.close();
    store.close();
    etcd.stop();
    t.equal(clock.pending, 0, 'no timer is left');
    t.equal(etcd.clients, 0, 'no session is left');
  };
  return { ...bench, member, recorder, close };
}

const counter = (part: Pick<EtcdMembership, 'metrics'>, name: string): number =>
  part.metrics().find((family) => family.name === name)!.values[0].value;

t.test('EtcdStore.readConfig() waits for etcd, then for the config, and says so', async (t) => {
  const { etcd, clock, store, end } = open();
  etcd.delete(CONFIG);
  etcd.set('refusing', 'http://a:2379');
  const reading = store.readConfig(end.signal);
  await clock.advance(5000);
  t.strictSame(codesOf(store), ['store-unreachable']);
  etcd.set('up');
  await clock.advance(3000);
  t.strictSame(codesOf(store), ['config-missing']);
  etcd.put(CONFIG, NETWORK);
  t.equal(formatPrefixes(prefixesOf((await soon(clock, reading)).config)), '10.5.0.0/16');
  t.strictSame(codesOf(store), []);
  etcd.put(CONFIG, '{"Network":"10.5.0.0/99"}');
  await t.rejects(soon(clock, store.readConfig(end.signal)), { code: 'E_CONFIG' });
  store.close();
  t.equal(clock.pending, 0);
});

t.test('EtcdStore.readConfig() and join() end with their signal, and with the store', async (t) => {
  for (const how of ['signal', 'close'] as const) {
    const { etcd, clock, store, end } = open();
    const network = await soon(clock, store.readConfig(end.signal));
    etcd.set('refusing');
    const refused = [
      t.rejects(store.readConfig(end.signal), how),
      t.rejects(network.join(ASKED, end.signal), how),
    ];
    await clock.advance(2000);
    t.strictSame(codesOf(store), ['store-unreachable', 'starting', 'lease-not-acquired']);
    if (how === 'signal') end.abort(new Error('enough'));
    else store.close();
    await Promise.all(refused);
    store.close();
    await clock.advance(0);
    t.equal(clock.pending, 0);
  }
});

t.test('EtcdStore: a member has a lease in etcd before it watches, and renews it', async (t) => {
  const { etcd, clock, store, end } = open();
  const network = await soon(clock, store.readConfig(end.signal));
  const member = await soon(clock, network.join(ASKED, end.signal));
  t.equal(formatPrefixes(member.own), '10.5.1.0/24');
  t.equal(etcd.contents()[OWN], leaseValue('172.20.0.1'));
  t.match(member.status(), { kind: 'etcd', watchEstablished: false, leases: 0, revision: '0' });
  t.match(member.status().ownLease, { subnet: '10.5.1.0/24', isReservation: false, renewsInSeconds: 82_800 });
  const first = etcd.leaseOf(OWN);
  await clock.advance(23 * HOUR_MS + 60_000);
  t.not(etcd.leaseOf(OWN), first);
  t.strictSame(etcd.leases, [etcd.leaseOf(OWN)], 'the one before is revoked');
  t.equal(counter(member, 'lease_renewals_total'), 1);
  await member.close();
  store.close();
  etcd.stop();
  t.equal(clock.pending, 0);
});

t.test('EtcdStore reports what is there, and each change once', async (t) => {
  const { etcd, clock, member, recorder, close } = await watching((etcd) => {
    etcd.put(key(2), leaseValue('172.20.0.2'));
    etcd.put(`${PREFIX}/subnets/nonsense`, 'x');
  });
  t.equal(recorder.snapshots, 1);
  t.equal(recorder.table.size, 2);
  t.strictSame(codesOf(member), ['lease-unreadable']);
  etcd.put(key(3), leaseValue('172.20.0.3'));
  etcd.put(key(2), leaseValue('172.20.0.22'));
  etcd.delete(key(3), `${PREFIX}/subnets/nonsense`);
  await clock.advance(0);
  t.strictSame([recorder.puts, recorder.deletes, recorder.snapshots], [2, 1, 1]);
  t.strictSame(recorder.lines(), [
    `10.5.1.0/24 ${leaseValue('172.20.0.1')}`,
    `10.5.2.0/24 ${leaseValue('172.20.0.22')}`,
  ]);
  t.strictSame(codesOf(member), []);
  t.match(member.status(), { watchEstablished: true, leases: 2, revision: String(etcd.revision) });
  await close();
});

t.test('EtcdStore reports another config, and keeps the last good one', async (t) => {
  const { etcd, clock, member, recorder, close } = await watching();
  etcd.put(CONFIG, '{"Network":"10.6.0.0/16"}');
  await clock.advance(0);
  t.strictSame(
    recorder.configs.map((config) => formatPrefixes(prefixesOf(config))),
    ['10.6.0.0/16'],
  );
  etcd.put(CONFIG, '{}');
  await clock.advance(0);
  t.strictSame(codesOf(member), ['config-invalid']);
  etcd.put(CONFIG, '{"Network":"10.6.0.0/16"}');
  await clock.advance(0);
  t.strictSame(codesOf(member), []);
  t.equal(recorder.configs.length, 1);
  await close();
});

t.test(
  'EtcdStore cut off: events that were missed come once, by watch or, after a compaction, by list',
  async (t) => {
    for (const isCompacted of [false, true]) {
      const { etcd, clock, member, recorder, close } = await watching((etcd) => {
        etcd.put(key(2), leaseValue('172.20.0.2'));
      });
      etcd.set('refusing');
      await clock.advance(10_000);
      t.strictSame(codesOf(member), ['store-unreachable']);
      etcd.delete(key(2));
      etcd.put(key(3), leaseValue('172.20.0.3'));
      etcd.put(key(3), leaseValue('172.20.0.33'));
      if (isCompacted) etcd.compact();
      etcd.set('up');
      await clock.advance(5000);
      t.strictSame(codesOf(member), []);
      t.strictSame(recorder.lines(), [
        `10.5.1.0/24 ${leaseValue('172.20.0.1')}`,
        `10.5.3.0/24 ${leaseValue('172.20.0.33')}`,
      ]);
      t.strictSame([recorder.snapshots, recorder.deletes, recorder.puts], [1, 1, isCompacted ? 1 : 2]);
      t.equal(counter(member, 'etcd_watch_compacted_total'), isCompacted ? 1 : 0);
      await close();
    }
  },
);

t.test('EtcdStore notices a watch that has gone quiet', async (t) => {
  const { etcd, clock, member, recorder, close } = await watching();
  etcd.set('silent');
  await clock.advance(4000);
  t.strictSame(codesOf(member), []);
  await clock.advance(20_000);
  t.strictSame(codesOf(member), ['store-unreachable']);
  etcd.put(key(2), leaseValue('172.20.0.2'));
  etcd.set('up');
  await clock.advance(20_000);
  t.equal(recorder.table.size, 2);
  t.strictSame(codesOf(member), []);
  await close();
});

t.test('EtcdStore.publish() of another address keeps subnet and key, over a new session', async (t) => {
  const { etcd, clock, member, close } = await watching();
  const created = etcd.revision;
  await soon(clock, member.publish(hostOf({ publicIp: '172.20.0.9' })));
  t.equal(etcd.contents()[OWN], leaseValue('172.20.0.9'));
  t.equal(member.status().sessionsOpened, 2);
  t.ok(etcd.revision > created);
  t.equal(etcd.leases.length, 1);
  await close();
});

t.test('EtcdStore makes an own lease again that was deleted, or ran out while it was cut off', async (t) => {
  const { etcd, clock, member, recorder, close } = await watching(undefined, SHORT_S);
  etcd.delete(OWN);
  await clock.advance(1000);
  t.equal(etcd.contents()[OWN], leaseValue('172.20.0.1'));
  etcd.set('refusing');
  await clock.advance(90_000);
  t.strictSame(codesOf(member), ['store-unreachable']);
  t.notOk(OWN in etcd.contents(), 'run out');
  etcd.set('up');
  await clock.advance(60_000);
  t.equal(etcd.contents()[OWN], leaseValue('172.20.0.1'));
  t.equal(counter(member, 'lease_recreated_total'), 2);
  t.strictSame(recorder.lost, []);
  t.strictSame(codesOf(member), []);
  await close();
});

t.test(
  'EtcdStore has lost a lease that another host took meanwhile: said once, nothing is written',
  async (t) => {
    const { etcd, clock, member, recorder, close } = await watching(undefined, SHORT_S);
    etcd.set('refusing');
    await clock.advance(90_000);
    etcd.put(OWN, leaseValue('172.20.0.99'));
    etcd.set('up');
    await clock.advance(60_000);
    t.match(recorder.lost, [/^Own lease lost: own lease 10\.5\.1\.0\/24 .*PublicIP 172\.20\.0\.99/]);
    t.equal(recorder.lost.length, 1);
    t.equal(etcd.contents()[OWN], leaseValue('172.20.0.99'));
    await t.rejects(member.publish(HOST), { code: 'E_LEASE' });
    await close();
  },
);

t.test('EtcdStore tells of a loss before watch() when it is watched', async (t) => {
  const { etcd, clock, store, end } = open(SHORT_S);
  const network = await soon(clock, store.readConfig(end.signal));
  const member = await soon(clock, network.join(ASKED, end.signal));
  etcd.delete(OWN);
  etcd.put(OWN, leaseValue('172.20.0.99'));
  await clock.advance(20_000); // nobody tells of it before it is renewed
  const recorder = new Recorder();
  member.watch(recorder);
  t.match(recorder.lost, [/PublicIP 172\.20\.0\.99/]);
  t.throws(() => member.watch(recorder), TypeError);
  await member.close();
  store.close();
  etcd.stop();
});

t.test(
  'EtcdStore wiped: the own lease is published again, the others are kept for their grace',
  async (t) => {
    const { etcd, clock, member, recorder, close } = await watching((etcd) => {
      etcd.put(key(2), leaseValue('172.20.0.2'));
      etcd.put(key(3), leaseValue('172.20.0.3'));
    });
    etcd.wipe();
    etcd.put(CONFIG, NETWORK);
    await clock.advance(5000);
    t.equal(etcd.contents()[OWN], leaseValue('172.20.0.1'));
    t.equal(recorder.table.size, 3);
    t.strictSame(codesOf(member), ['leases-vanished']);
    etcd.put(key(2), leaseValue('172.20.0.2'));
    await clock.advance(600_000);
    t.strictSame([...recorder.table.keys()].sort(), ['10.5.1.0/24', '10.5.2.0/24']);
    t.equal(counter(member, 'etcd_history_rewritten_total'), 1);
    t.strictSame(recorder.lost, []);
    t.strictSame(codesOf(member), []);
    await close();
  },
);

t.test('EtcdStore.join() whose answer is lost reads back, and leaves no etcd lease behind', async (t) => {
  for (const lost of [1, 2]) {
    const { etcd, clock, store, end } = open();
    const network = await soon(clock, store.readConfig(end.signal));
    etcd.answersToLose = lost;
    const member = await soon(clock, network.join(ASKED, end.signal));
    t.equal(formatPrefixes(member.own), '10.5.1.0/24');
    t.strictSame(etcd.leases, [etcd.leaseOf(OWN)]);
    await member.close();
    store.close();
    etcd.stop();
  }
});

t.test(
  'EtcdStore out of space: the alarm, then the lease that is not renewed, then well again',
  async (t) => {
    const { etcd, clock, member, close } = await watching(undefined, SHORT_S);
    etcd.alarms = ['NOSPACE'];
    await clock.advance(5000);
    t.strictSame(codesOf(member), [], 'nobody has written');
    await clock.advance(15_000);
    t.strictSame(codesOf(member), ['store-alarm', 'lease-expiring']);
    t.match(textsOf(member)[1], /database space exceeded/);
    etcd.alarms = [];
    await clock.advance(45_000);
    t.strictSame(codesOf(member), []);
    t.ok(counter(member, 'lease_renewals_total') > 0);
    await close();
  },
);

t.test('EtcdStore saves what is known, and nothing before the first list of the next run', async (t) => {
  const tablePath = join(folderOf(t), 'subnet.env.leases');
  const first = open(SHORT_S, tablePath);
  first.etcd.put(key(2), leaseValue('172.20.0.2'));
  t.equal(first.store.savedStart?.table(), undefined);
  const network = await soon(first.clock, first.store.readConfig(first.end.signal));
  const member = await soon(first.clock, network.join(ASKED, first.end.signal));
  member.watch(new Recorder());
  await first.clock.advance(0);
  await member.close();
  first.store.close();

  const next = open(SHORT_S, tablePath, first.etcd);
  t.same(next.store.savedStart?.formerPublicIp(), HOST.publicIp);
  t.match(next.store.savedStart?.table(), { ownSubnets: member.own, leases: { length: 2 } });
  const again = await soon(next.clock, next.store.readConfig(next.end.signal));
  const unwatched = await soon(next.clock, again.join(ASKED, next.end.signal));
  await next.clock.advance(20_000);
  t.equal(counter(unwatched, 'lease_renewals_total'), 1, 'which is worth saving');
  await unwatched.close();
  next.store.close();
  t.match(next.store.savedStart?.table(), { leases: { length: 2 } }, 'but not without the other leases');
  first.etcd.stop();
});
