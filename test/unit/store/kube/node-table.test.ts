import pino from 'pino';
import t from 'tap';
import type { Lease, LeaseUpdate } from '../../../../src/lease/lease.js';
import type { FamilyName } from '../../../../src/net/dual.js';
import { formatAddresses, formatPrefixes } from '../../../../src/net/prefix.js';
import { NodeTable } from '../../../../src/store/kube/node-table.js';
import { codesOf } from '../../../support/conditions.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { hostOf } from '../../../support/leases.js';
import { nodeOf, type NodeWords, udpAnnotations } from '../../../support/kube-nodes.js';

const wordsOf = ({ id, subnets, host }: Lease): string =>
  `${id} ${formatPrefixes(subnets)} ${formatAddresses(host.publicIp)}`;

function open(maxLeases?: number, families: readonly FamilyName[] = ['v4']) {
  const clock = new FakeClock();
  const out: string[] = [];
  const log: string[] = [];
  const table = new NodeTable({
    families,
    clock,
    log: pino({}, { write: (line: string) => log.push((JSON.parse(line) as { msg: string }).msg) }),
    graceMs: 10_000,
    own: { node: 'us', host: () => hostOf({ publicIp: '172.30.0.1' }) },
    ...(maxLeases === undefined ? {} : { maxLeases }),
    emit: (update: LeaseUpdate) => {
      if (update.kind === 'snapshot') out.push(`snapshot ${update.leases.map(wordsOf).join(', ')}`);
      else
        for (const event of update.events)
          out.push(event.kind === 'put' ? `put ${wordsOf(event.lease)}` : `delete ${event.id}`);
    },
  });
  const put = (words: NodeWords): void => table.applyEvents([{ kind: 'put', node: member(words) }]);
  return { table, clock, out, log, put };
}

const member = (words: NodeWords) => nodeOf({ annotations: udpAnnotations('172.30.0.11'), ...words });

t.test('members have leases, and others none', (t) => {
  const { table, out, put } = open();
  table.applySnapshot([
    member({}),
    nodeOf({ name: 'bare' }),
    member({ name: 'no-cidr', podCidrs: [] }),
    member({ name: 'dual', podCidrs: ['fd00:244:3::/64', '10.244.3.0/24'] }),
  ]);
  put({ name: 'bare', podCidrs: ['10.244.2.0/24'], annotations: udpAnnotations('172.30.0.12') });
  t.strictSame(out, [
    'snapshot node1 10.244.1.0/24 172.30.0.11, dual 10.244.3.0/24 172.30.0.11',
    'put bare 10.244.2.0/24 172.30.0.12',
  ]);
  t.equal(table.size, 3);
  t.end();
});

t.test('the own lease says what this host publishes, whatever stands in the annotation', (t) => {
  const { table, out, put } = open();
  table.applySnapshot([member({ name: 'us', annotations: udpAnnotations('198.51.100.1') })]);
  put({ name: 'us', annotations: udpAnnotations('198.51.100.2') });
  t.strictSame(out, ['snapshot us 10.244.1.0/24 172.30.0.1', 'put us 10.244.1.0/24 172.30.0.1']);
  t.end();
});

t.test('what flannel misses is seen: a lost flag, another podCIDR, a deletion', (t) => {
  const { table, out, put } = open();
  table.applySnapshot([member({})]);
  put({ podCidrs: ['10.244.9.0/24'], uid: 'uid-2' });
  put({ podCidrs: ['10.244.9.0/24'], uid: 'uid-2', annotations: {} });
  put({ podCidrs: ['10.244.9.0/24'], uid: 'uid-2' });
  put({ uid: 'uid-2', annotations: { ...udpAnnotations('172.30.0.11'), 'kube-subnet-manager': 'TRUE' } });
  put({ uid: 'uid-2' });
  table.applyEvents([{ kind: 'delete', name: 'node1', uid: 'uid-2' }]);
  t.strictSame(out.slice(1), [
    'put node1 10.244.9.0/24 172.30.0.11',
    'delete node1',
    'put node1 10.244.9.0/24 172.30.0.11',
    'delete node1',
    'put node1 10.244.1.0/24 172.30.0.11',
    'delete node1',
  ]);
  t.equal(table.size, 0);
  t.end();
});

t.test('garbage keeps the last good lease of the same Node object, and of no other', (t) => {
  const { table, out, log, put } = open();
  table.applySnapshot([member({}), member({ name: 'bad', annotations: udpAnnotations('127.0.0.1') })]);
  const garbage = udpAnnotations('::::');
  put({ annotations: garbage });
  put({ annotations: garbage });
  put({ podCidrs: ['10.244.1.0/24', '10.244.2.0/24', '10.244.3.0/24'] });
  put({ podCidrs: ['10.244.1.7/24'] });
  t.equal(table.size, 1);
  t.equal(table.badNodes.current, 2);
  t.strictSame(codesOf(table), ['lease-unreadable']);
  put({ annotations: garbage, uid: 'uid-2' });
  t.strictSame(out, ['snapshot node1 10.244.1.0/24 172.30.0.11', 'delete node1']);
  t.match(log[0], /^ignoring node "bad": annotations: PublicIP 127.0.0.1/);
  table.applyEvents([
    { kind: 'delete', name: 'node1', uid: 'uid-2' },
    { kind: 'delete', name: 'bad', uid: 'uid-1' },
  ]);
  t.equal(table.badNodes.current, 0);
  t.strictSame(table.listBadNodes(), []);
  t.end();
});

t.test('two nodes with one podCIDR are two leases, and the end of one leaves the other', (t) => {
  const { table, out, put } = open();
  table.applySnapshot([member({})]);
  put({ name: 'node2', uid: 'uid-2', createdMs: 2000, annotations: udpAnnotations('172.30.0.12') });
  table.applyEvents([{ kind: 'delete', name: 'node1', uid: 'uid-1' }]);
  t.strictSame(out.slice(1), ['put node2 10.244.1.0/24 172.30.0.12', 'delete node1']);
  const [left] = table.leases();
  t.strictSame(left.seniority, { created: 2000n, written: 1n });
  t.end();
});

t.test('a node that vanished is kept a while, unless its host is back under another name', async (t) => {
  const { table, clock, out, put } = open();
  table.applySnapshot([
    member({}),
    member({ name: 'node2', podCidrs: ['10.244.2.0/24'], annotations: udpAnnotations('172.30.0.12') }),
  ]);
  table.applyEvents([
    { kind: 'vanished', name: 'node1' },
    { kind: 'vanished', name: 'node2' },
    { kind: 'vanished', name: 'stranger' },
  ]);
  t.equal(table.vanished, 2);
  t.strictSame(codesOf(table), ['leases-vanished']);
  put({ name: 'node3', podCidrs: ['10.244.3.0/24'], annotations: udpAnnotations('172.30.0.12') });
  await clock.advance(10_001);
  t.strictSame(out.slice(1), ['delete node2', 'put node3 10.244.3.0/24 172.30.0.12', 'delete node1']);
  table.close();
  t.equal(clock.pending, 0);
});

t.test('in a dual-stack network a node is known by the families that it has', (t) => {
  const { table, out, log, put } = open(undefined, ['v4', 'v6']);
  const both = { ...udpAnnotations('172.30.0.11'), 'public-ipv6': 'FD30::11' };
  const [v4, v6] = ['10.244.1.0/24', 'FD00:244:0:1:0::/64'];
  table.applySnapshot([
    member({ name: 'both', podCidrs: [v6, v4], annotations: both }),
    member({ name: 'v4', podCidrs: ['10.244.2.0/24'], annotations: both }),
    member({ name: 'udp', podCidrs: ['10.244.3.0/24', 'fd00:244:0:3::/64'] }),
    member({ name: 'us', podCidrs: [v4], annotations: both }),
  ]);
  put({ name: 'both', podCidrs: [v6, v4], annotations: { ...both, 'public-ipv6': 'ff02::1' } });
  // As flanneld says where it finds no other address: its IPv4 is as good as before.
  put({ name: 'both', podCidrs: [v6, v4], annotations: { ...both, 'public-ipv6': 'fe80::1' } });
  put({ name: 'us', podCidrs: ['10.244.9.0/24', 'fd00:244:0:9::/64'], annotations: both });
  t.strictSame(out, [
    'snapshot both 10.244.1.0/24 and fd00:244:0:1::/64 172.30.0.11 and fd30::11, ' +
      'v4 10.244.2.0/24 172.30.0.11 and fd30::11, udp 10.244.3.0/24 and fd00:244:0:3::/64 172.30.0.11',
    'put both 10.244.1.0/24 and fd00:244:0:1::/64 172.30.0.11',
    'put us 10.244.9.0/24 and fd00:244:0:9::/64 172.30.0.1',
  ]);
  t.match(log, ['ignoring node "both": annotations: PublicIPv6 ff02::1 is no address a host can have']);
  t.end();
});

t.test('a host that vanished is back under another name with another IPv6 address', (t) => {
  const { table, out, put } = open(undefined, ['v4', 'v6']);
  const addresses = (v6: string) => ({ ...udpAnnotations('172.30.0.11'), 'public-ipv6': v6 });
  table.applySnapshot([member({ annotations: addresses('fd30::11') })]);
  table.applyEvents([{ kind: 'vanished', name: 'node1' }]);
  put({ name: 'node2', uid: 'uid-2', podCidrs: ['10.244.2.0/24'], annotations: addresses('fd30::12') });
  t.strictSame(out.slice(1), ['delete node1', 'put node2 10.244.2.0/24 172.30.0.11 and fd30::12']);
  t.equal(table.vanished, 0);
  t.end();
});

t.test('of a family that the network has not, nothing is looked at', (t) => {
  const { table, out, log } = open();
  const garbage = { 'public-ipv6': 'x', 'backend-v6-data': '{', 'public-ipv6-overwrite': 'y' };
  table.applySnapshot([
    member({
      podCidrs: ['10.244.1.0/24', 'fd00::1/64'],
      annotations: { ...udpAnnotations('172.30.0.11'), ...garbage },
    }),
  ]);
  t.strictSame(out, ['snapshot node1 10.244.1.0/24 172.30.0.11']);
  t.strictSame(log, []);
  t.end();
});

t.test('a full table refuses, and says so', (t) => {
  const { table } = open(2);
  table.applySnapshot([1, 2, 3].map((i) => member({ name: `node${i}`, podCidrs: [`10.244.${i}.0/24`] })));
  t.equal(table.size, 2);
  t.strictSame(codesOf(table), ['leases-too-many']);
  t.end();
});
