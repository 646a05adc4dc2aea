import pino from 'pino';
import t from 'tap';
import type { Lease, LeaseUpdate } from '../../../../src/lease/lease.js';
import { firstOf } from '../../../../src/net/dual.js';
import { formatAddress, formatPrefix } from '../../../../src/net/prefix.js';
import type { KvEntry } from '../../../../src/store/etcd/etcd-kv.js';
import { keyLayout } from '../../../../src/store/etcd/keys.js';
import { leaseKeyId, trimEntry } from '../../../../src/store/etcd/lease-entry.js';
import { LeaseTable } from '../../../../src/store/etcd/lease-table.js';
import type { MirrorEvent } from '../../../../src/store/etcd/mirror-diff.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { textsOf } from '../../../support/conditions.js';

const LAYOUT = keyLayout('/net');
const key = (name: string): string => `/net/subnets/${name}`;
const idOf = (name: string): string => leaseKeyId(LAYOUT, key(name));

function entry(name: string, publicIp: string | undefined): KvEntry {
  const value =
    publicIp === undefined ? undefined : publicIp.includes('.') ? `{"PublicIP":"${publicIp}"}` : publicIp;
  return trimEntry(LAYOUT, {
    key: key(name),
    value,
    valueBytes: value?.length ?? 99_999,
    createRevision: 1n,
    modRevision: 1n,
    leaseId: 0n,
  });
}

const put = (name: string, publicIp: string | undefined): MirrorEvent => ({
  kind: 'put',
  key: idOf(name),
  entry: entry(name, publicIp),
});
const del = (name: string): MirrorEvent => ({ kind: 'delete', key: idOf(name) });
const vanished = (name: string): MirrorEvent => ({ kind: 'vanished', key: idOf(name) });

const wordsOf = ({ subnets, host }: Lease): string =>
  `${formatPrefix(firstOf(subnets))} ${formatAddress(firstOf(host.publicIp))}`;

function open(maxLeases?: number): { table: LeaseTable; clock: FakeClock; out: string[]; log: string[] } {
  const clock = new FakeClock();
  const out: string[] = [];
  const log: string[] = [];
  const table = new LeaseTable({
    layout: LAYOUT,
    clock,
    log: pino({}, { write: (line: string) => log.push((JSON.parse(line) as { msg: string }).msg) }),
    graceMs: 10_000,
    ...(maxLeases === undefined ? {} : { maxLeases }),
    emit: (update: LeaseUpdate) => {
      if (update.kind === 'snapshot') out.push(`snapshot ${update.leases.length}`);
      else {
        for (const event of update.events) {
          if (event.kind === 'delete') out.push(`delete ${event.id.replace('-', '/')}`);
          else out.push(`put ${wordsOf(event.lease)}`);
        }
      }
    },
  });
  return { table, clock, out, log };
}

t.test('LeaseTable turns entries into leases and leaves the bad ones out', (t) => {
  const { table, out } = open();
  const rows = [
    ['10.5.1.0-24', '1.1.1.1'],
    ['10.5.2.0-24', 'x'],
    ['foo', '1.1.1.2'],
    ['10.5.3.0-24', undefined],
  ] as const;
  table.applySnapshot(new Map(rows.map(([name, value]) => [idOf(name), entry(name, value)])));
  table.applyEvents([
    put('10.5.4.0-24', '1.1.1.4'),
    put('10.5.4.7-24', '1.1.1.4'),
    del('10.5.1.0-24'),
    del('10.5.9.0-24'),
  ]);
  t.strictSame(out, ['snapshot 1', 'put 10.5.4.0/24 1.1.1.4', 'delete 10.5.1.0/24']);
  t.strictSame(table.badKeys, { total: 4, current: 4 });
  t.equal(table.listBadKeys().length, 4);
  t.match(table.listBadKeys()[0], { key: /10\.5\.2\.0-24/, problem: /./ });
  t.end();
});

t.test('LeaseTable keeps the last good value of a key that turns bad', (t) => {
  const { table, out } = open();
  table.applyEvents([put('10.5.1.0-24', '1.1.1.1')]);
  table.applyEvents([put('10.5.1.0-24', 'bad')]);
  t.equal(table.size, 1);
  table.applyEvents([put('10.5.1.0-24', '1.1.1.2')]);
  t.equal(table.badKeys.current, 0);
  t.strictSame(table.listBadKeys(), []);
  t.strictSame(out, ['put 10.5.1.0/24 1.1.1.1', 'put 10.5.1.0/24 1.1.1.2']);
  t.end();
});

t.test('LeaseTable keeps vanished leases for the grace period', async (t) => {
  const { table, clock, out } = open();
  table.applyEvents(['1', '2', '3', '4', '5'].map((i) => put(`10.5.${i}.0-24`, `1.1.1.${i}`)));
  out.length = 0;
  table.applyEvents(['1', '2', '3', '4'].map((i) => vanished(`10.5.${i}.0-24`)));
  t.strictSame(out, []);
  t.match(textsOf(table), [/^4 leases vanished/]);
  table.applyEvents([put('10.5.1.0-24', '1.1.1.1')]);
  table.applyEvents([put('10.5.77.0-24', '1.1.1.2')]);
  table.applyEvents([del('10.5.3.0-24')]);
  t.strictSame(out, [
    'put 10.5.1.0/24 1.1.1.1',
    'delete 10.5.2.0/24',
    'put 10.5.77.0/24 1.1.1.2',
    'delete 10.5.3.0/24',
  ]);
  await clock.advance(10_000);
  t.equal(out.at(-1), 'delete 10.5.4.0/24');
  t.equal(table.size, 3);
  t.strictSame(textsOf(table), []);
  table.applyEvents([vanished('10.5.5.0-24')]);
  table.close();
  t.equal(clock.pending, 0);
});

t.test('LeaseTable holds at most maxLeases', (t) => {
  const { table } = open(2);
  table.applyEvents([
    put('10.5.1.0-24', '1.1.1.1'),
    put('10.5.2.0-24', '1.1.1.2'),
    put('10.5.3.0-24', '1.1.1.3'),
  ]);
  table.applyEvents([put('10.5.1.0-24', '1.1.1.9')]);
  t.equal(table.size, 2);
  t.match(textsOf(table), [/full: 2 held, 1 refused/]);
  t.end();
});

t.test('LeaseTable logs each bad key once and never floods', async (t) => {
  const { table, clock, log } = open();
  for (let round = 0; round < 3; round++) {
    table.applyEvents(Array.from({ length: 1000 }, (_, i) => put(`bad-${i}`, '1.1.1.1')));
  }
  t.equal(log.length, 5);
  t.equal(table.badKeys.total, 1000);
  await clock.advance(30_000);
  table.applyEvents([put('another', '1.1.1.1')]);
  t.equal(log.length, 6);
  t.match(log[5], /"\/net\/subnets\/another"/);
});

t.test('LeaseTable keeps one object for a lease that was only renewed', (t) => {
  const { table } = open();
  const first = entry('10.5.2.0-24', '172.20.0.2');
  table.applySnapshot(new Map([[idOf('10.5.2.0-24'), first]]));
  const [lease] = table.leases();
  table.applyEvents([
    { kind: 'put', key: idOf('10.5.2.0-24'), entry: { ...first, modRevision: 7n, leaseId: 9n } },
  ]);
  t.equal([...table.leases()][0], lease);
  t.equal(lease.seniority?.written, 7n);
  const moved = { ...entry('10.5.2.0-24', '172.20.0.3'), modRevision: 8n };
  table.applyEvents([{ kind: 'put', key: idOf('10.5.2.0-24'), entry: moved }]);
  t.equal([...table.leases()][0].seniority?.written, 8n);
  t.equal(lease.seniority?.written, 7n, 'another lease is another object');
  t.end();
});

t.test('LeaseTable.listBadKeys() names a hundred, however many there are', (t) => {
  const { table } = open();
  table.applyEvents(Array.from({ length: 500 }, (_, i) => put(`bad-${i}`, '1.1.1.1')));
  t.equal(table.badKeys.current, 500);
  t.equal(table.listBadKeys().length, 100);
  t.end();
});
