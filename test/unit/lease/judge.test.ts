import t from 'tap';
import { Judge, type RefusalCode } from '../../../src/lease/judge.js';
import { type Ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { leaseOf } from '../../support/leases.js';

const ip = (text: string): Ipv4 => parseIpv4(text)!;

const open = (ownPublicIp = '172.20.0.1'): Judge =>
  new Judge({
    networks: { v4: parsePrefix('10.5.0.0/16')! },
    leasable: { v4: { first: ip('10.5.16.0'), last: ip('10.5.255.255') } },
    own: { v4: parsePrefix('10.5.20.0/24')! },
    ownPublicIp: { v4: ip(ownPublicIp) },
  });

t.test('Judge.judge() of a lease by itself', (t) => {
  const judge = open();
  const rows: [subnet: string, publicIp: string, code: RefusalCode | undefined][] = [
    ['10.5.21.0/24', '172.20.0.2', undefined],
    ['10.5.1.0/24', '172.20.0.2', undefined],
    ['10.5.32.0/20', '172.20.0.2', undefined],
    ['10.5.21.0/24', '10.5.0.9', undefined],
    ['10.5.21.7/24', '172.20.0.2', 'host-bits'],
    ['10.6.21.0/24', '172.20.0.2', 'outside-network'],
    ['11.0.0.0/8', '172.20.0.2', 'outside-network'],
    ['10.5.0.0/16', '172.20.0.2', 'not-longer-than-network'],
    ['10.0.0.0/8', '172.20.0.2', 'not-longer-than-network'],
    ['0.0.0.0/1', '172.20.0.2', 'not-longer-than-network'],
    ['10.5.20.0/24', '172.20.0.2', 'overlaps-own'],
    ['10.5.20.128/25', '172.20.0.2', 'overlaps-own'],
    ['10.5.16.0/20', '172.20.0.2', 'overlaps-own'],
    ['10.5.21.0/24', '0.0.0.0', 'bad-public-ip'],
    ['10.5.21.0/24', '127.0.0.1', 'bad-public-ip'],
    ['10.5.21.0/24', '224.0.0.1', 'bad-public-ip'],
    ['10.5.21.0/24', '255.255.255.255', 'bad-public-ip'],
    ['10.5.21.0/24', '172.20.0.1', 'own-public-ip'],
    ['10.5.21.0/24', '10.5.16.0', 'public-ip-in-overlay'],
    ['10.5.21.0/24', '10.5.255.255', 'public-ip-in-overlay'],
  ];
  for (const [subnet, publicIp, code] of rows) {
    const lease = leaseOf({ subnet, publicIp });
    const refusal = judge.judge(lease);
    t.equal(refusal?.code, code, `${subnet} of ${publicIp}`);
    if (refusal === undefined) continue;
    t.equal(refusal.lease, lease);
    t.ok(refusal.text.startsWith(`${subnet} of ${publicIp}: `), refusal.text);
  }
  t.end();
});

t.test('Judge.isOwn() is our subnet at an address that is or was ours', (t) => {
  const judge = open();
  const isOwn = (subnet: string, publicIp: string): boolean => judge.isOwn(leaseOf({ subnet, publicIp }));
  t.ok(isOwn('10.5.20.0/24', '172.20.0.1'));
  t.notOk(isOwn('10.5.20.0/24', '172.20.0.2'));
  t.notOk(isOwn('10.5.21.0/24', '172.20.0.1'));
  judge.ownPublicIpChanged({ v4: ip('172.20.0.9') });
  t.same(judge.ownPublicIp, { v4: ip('172.20.0.9') });
  t.ok(isOwn('10.5.20.0/24', '172.20.0.9'));
  t.ok(isOwn('10.5.20.0/24', '172.20.0.1'), 'until the new one is published');
  t.equal(
    judge.judge(leaseOf({ subnet: '10.5.21.0/24', publicIp: '172.20.0.1' })),
    undefined,
    'another’s now',
  );
  t.end();
});

t.test('Judge.judgeCover() refuses a lease over a host, ours included, while that is there', (t) => {
  const judge = open('10.5.0.1');
  const code = (subnet: string): RefusalCode | undefined =>
    judge.judgeCover(leaseOf({ subnet, publicIp: '172.20.0.2' }))?.code;
  t.equal(code('10.5.0.0/24'), 'covers-host');
  t.equal(code('10.5.1.0/24'), undefined);
  t.equal(code('10.5.21.0/24'), undefined, 'no host can be there');
  t.same(judge.noteHost('a', { v4: ip('10.5.1.7') }), [ip('10.5.1.7')]);
  t.same(judge.noteHost('b', { v4: ip('10.5.1.7') }), [], 'a second lease of that host');
  t.equal(code('10.5.1.0/24'), 'covers-host');
  t.equal(code('10.5.1.6/31'), 'covers-host');
  t.equal(code('10.5.1.8/31'), undefined);
  t.same(judge.noteHost('a', undefined), []);
  t.equal(code('10.5.1.0/24'), 'covers-host');
  t.same(judge.noteHost('b', { v4: ip('172.20.0.5') }), [ip('10.5.1.7')], 'it moved out of the Network');
  t.equal(code('10.5.1.0/24'), undefined);
  t.same(judge.ownPublicIpChanged({ v4: ip('10.5.2.1') }), [ip('10.5.0.1'), ip('10.5.2.1')]);
  t.equal(code('10.5.0.0/24'), undefined);
  t.equal(code('10.5.2.0/24'), 'covers-host');
  t.end();
});
