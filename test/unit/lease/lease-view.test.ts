// What is believed, and that the diffs always lead to it.

import t from 'tap';
import type { Lease, LeaseEvent } from '../../../src/lease/lease.js';
import { LeaseView } from '../../../src/lease/lease-view.js';
import { isBogon } from '../../../src/net/bogons.js';
import { ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import {
  formatPrefix,
  maskOf,
  parsePrefix,
  prefixCovers,
  prefixesOverlap,
  prefixOf,
} from '../../../src/net/prefix.js';
import { parseIpv6 } from '../../../src/net/ipv6.js';
import { leaseOf } from '../../support/leases.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;
const LEASABLE = { first: parseIpv4('10.5.1.0')!, last: parseIpv4('10.5.255.255')! };
const OWN = parsePrefix('10.5.1.0/24')!;
const OWN_IP = parseIpv4('172.20.0.1')!;

function lease(subnet: string, publicIp: string, backendData?: unknown): Lease {
  return leaseOf({ subnet, publicIp, backendData, created: 0n });
}

function view(): LeaseView {
  return new LeaseView({
    networks: { v4: NETWORK },
    leasable: { v4: LEASABLE },
    own: { v4: OWN },
    ownPublicIp: { v4: OWN_IP },
  });
}

const names = (leases: readonly Lease[]): string[] => leases.map(({ subnets }) => formatPrefix(subnets.v4!));

t.test('LeaseView.apply() refuses what cannot be another host’s subnet, each with its reason', (t) => {
  const rows: [string, string, string][] = [
    ['10.6.2.0/24', '172.20.0.2', 'outside-network'],
    ['10.5.0.0/16', '172.20.0.2', 'not-longer-than-network'],
    ['10.0.0.0/8', '172.20.0.2', 'not-longer-than-network'],
    ['0.0.0.0/0', '172.20.0.2', 'not-longer-than-network'],
    ['128.0.0.0/1', '172.20.0.2', 'outside-network'],
    ['10.5.2.1/24', '172.20.0.2', 'host-bits'],
    ['10.5.1.0/24', '172.20.0.2', 'overlaps-own'],
    ['10.5.1.128/25', '172.20.0.2', 'overlaps-own'],
    ['10.5.0.0/20', '172.20.0.2', 'overlaps-own'],
    ['10.5.2.0/24', '127.0.0.1', 'bad-public-ip'],
    ['10.5.2.0/24', '0.0.0.0', 'bad-public-ip'],
    ['10.5.2.0/24', '224.0.0.9', 'bad-public-ip'],
    ['10.5.2.0/24', '172.20.0.1', 'own-public-ip'],
    ['10.5.2.0/24', '10.5.2.1', 'public-ip-in-overlay'],
  ];
  for (const [subnet, publicIp, code] of rows) {
    const leases = view();
    const { diff, refusals } = leases.apply({
      kind: 'snapshot',
      leases: [lease(subnet, publicIp), lease('10.5.7.0/24', '172.20.0.7')],
    });
    t.same(names(diff.added), ['10.5.7.0/24'], `${subnet} of ${publicIp}: the others are not harmed`);
    t.match(refusals, [{ code, lease: { id: subnet.replace('/', '-') } }]);
    t.same(leases.refusals(), refusals);
  }
  t.end();
});

t.test(
  'LeaseView.apply() of a renewal: nothing changed, and the lease that the backend holds knows of it',
  (t) => {
    const leases = view();
    const words = { subnet: '10.5.2.0/24', publicIp: '172.20.0.2', created: 1n };
    const known = leaseOf({ ...words, written: 5n });
    t.same(leases.apply({ kind: 'snapshot', leases: [known] }).diff.added, [known]);
    const renewed = leaseOf({ ...words, written: 9n });
    t.same(leases.apply({ kind: 'events', events: [{ kind: 'put', lease: renewed }] }).diff.changed, []);
    t.same(known.seniority, { created: 1n, written: 9n });
    t.equal([...leases.accepted()][0], known);
    t.end();
  },
);

t.test('LeaseView.ownPublicIpChanged() judges every lease anew', (t) => {
  const leases = view();
  const own = lease('10.5.1.0/24', '172.20.0.1');
  const refused = lease('10.5.2.0/24', '172.20.0.1');
  const accepted = lease('10.5.3.0/24', '172.20.0.9');
  const other = lease('10.5.4.0/24', '172.20.0.4');
  leases.apply({ kind: 'snapshot', leases: [own, refused, accepted, other] });
  const { diff, refusals } = leases.ownPublicIpChanged({ v4: parseIpv4('172.20.0.9')! });
  t.same(diff, { added: [refused], changed: [], removed: [accepted] });
  t.match(refusals, [{ code: 'own-public-ip', lease: { id: '10.5.3.0-24' } }]);
  t.same(leases.ownPublicIp, { v4: parseIpv4('172.20.0.9') });
  // The own lease, before and after it is published: no peer, and no refusal.
  for (const publicIp of ['172.20.0.1', '172.20.0.9']) {
    const event: LeaseEvent = { kind: 'put', lease: lease('10.5.1.0/24', publicIp) };
    const change = leases.apply({ kind: 'events', events: [event] });
    t.same(change, { diff: { added: [], changed: [], removed: [] }, refusals: [] });
  }
  const foreign: LeaseEvent = { kind: 'put', lease: lease('10.5.1.0/24', '172.20.0.77') };
  t.match(leases.apply({ kind: 'events', events: [foreign] }).refusals, [{ code: 'overlaps-own' }]);
  t.end();
});

t.test('LeaseView.apply() says what changed, once', (t) => {
  const leases = view();
  const two = lease('10.5.2.0/24', '172.20.0.2');
  t.same(
    names(leases.apply({ kind: 'snapshot', leases: [lease('10.5.1.0/24', '172.20.0.1'), two] }).diff.added),
    ['10.5.2.0/24'],
  );
  t.same(leases.apply({ kind: 'snapshot', leases: [two] }).diff, { added: [], changed: [], removed: [] });
  t.same(leases.apply({ kind: 'events', events: [{ kind: 'put', lease: two }] }).diff.changed, []);
  const moved = lease('10.5.2.0/24', '172.20.0.9', { VtepMAC: 'a' });
  t.same(leases.apply({ kind: 'events', events: [{ kind: 'put', lease: moved }] }).diff.changed, [moved]);
  const bad = lease('10.5.2.0/24', '127.0.0.1');
  const refused = leases.apply({ kind: 'events', events: [{ kind: 'put', lease: bad }] });
  t.same(names(refused.diff.removed), ['10.5.2.0/24']);
  t.equal(refused.refusals.length, 1);
  t.equal(
    leases.apply({ kind: 'events', events: [{ kind: 'put', lease: bad }] }).refusals.length,
    0,
    'not told again',
  );
  const several: LeaseEvent[] = [
    { kind: 'put', lease: two },
    { kind: 'delete', id: two.id },
    { kind: 'put', lease: moved },
  ];
  t.same(leases.apply({ kind: 'events', events: several }).diff, {
    added: [moved],
    changed: [],
    removed: [],
  });
  t.same(leases.refusals(), []);
  t.end();
});

t.test('LeaseView.alarms() names hosts whose subnets nest, in whatever order they came', (t) => {
  for (const order of [
    [0, 1],
    [1, 0],
  ]) {
    const leases = view();
    const pair = [lease('10.5.16.0/20', '172.20.0.2'), lease('10.5.17.0/24', '172.20.0.3')];
    for (const i of order) leases.apply({ kind: 'events', events: [{ kind: 'put', lease: pair[i] }] });
    t.match(leases.alarms(), [
      /10\.5\.17\.0\/24 of 172\.20\.0\.3 lies inside 10\.5\.16\.0\/20 of 172\.20\.0\.2/,
    ]);
    leases.apply({ kind: 'events', events: [{ kind: 'delete', id: pair[0].id }] });
    t.same(leases.alarms(), []);
  }
  t.end();
});

t.test('through 20,000 random updates the diffs lead to what a naive judge accepts', (t) => {
  let state = 12345;
  const random = (limit: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const leases = view();
  const store = new Map<string, Lease>();
  const applied = new Map<string, number>();
  const keyOf = ({ id }: Lease): string => id;
  const randomLease = (): Lease => {
    const address = ipv4(0x0a050000 + random(0x10000 + 0x200) - 0x100);
    const length = [8, 16, 20, 24, 24, 24, 24, 26, 30, 32][random(10)];
    const subnet = random(20) === 0 ? { address, length } : prefixOf(address, length);
    const publicIp = ipv4(
      [0xac140001, 0xac140002, 0xac140003, 0x7f000001, 0x0a050203, 0xac140004][random(6)],
    );
    return leaseOf({ subnet: formatPrefix(subnet), publicIp });
  };
  const isAccepted = ({ subnets, host }: Lease): boolean => {
    const subnet = subnets.v4!;
    return (
      (subnet.address & ~maskOf(subnet.length)) === 0 &&
      subnet.length > NETWORK.length &&
      prefixCovers(NETWORK, subnet) &&
      !prefixesOverlap(subnet, OWN) &&
      !isBogon(host.publicIp.v4!) &&
      host.publicIp.v4 !== OWN_IP &&
      !prefixCovers(NETWORK, { address: host.publicIp.v4!, length: 32 })
    );
  };
  for (let i = 0; i < 20_000; i++) {
    const events: LeaseEvent[] = [];
    for (let n = 1 + random(3); n > 0; n--) {
      const known = [...store.values()];
      if (random(3) === 0 && known.length > 0) {
        const gone = known[random(known.length)];
        store.delete(keyOf(gone));
        events.push({ kind: 'delete', id: gone.id });
      } else {
        const put = randomLease();
        store.set(keyOf(put), put);
        events.push({ kind: 'put', lease: put });
      }
    }
    const update =
      random(50) === 0
        ? ({ kind: 'snapshot', leases: [...store.values()] } as const)
        : ({ kind: 'events', events } as const);
    const { diff } = leases.apply(update);
    for (const item of diff.removed)
      if (!applied.delete(keyOf(item))) return t.fail(`removed twice: ${keyOf(item)}`);
    for (const item of diff.added) {
      if (applied.has(keyOf(item))) return t.fail(`added twice: ${keyOf(item)}`);
      applied.set(keyOf(item), item.host.publicIp.v4!);
    }
    for (const item of diff.changed) {
      if (!applied.has(keyOf(item))) return t.fail(`changed but unknown: ${keyOf(item)}`);
      applied.set(keyOf(item), item.host.publicIp.v4!);
    }
    if (i % 50 !== 0) continue;
    const expected = [...store]
      .filter(([, item]) => isAccepted(item))
      .map(([key, item]) => `${key} ${item.host.publicIp.v4}`);
    t.same([...applied].map(([key, ip]) => `${key} ${ip}`).sort(), expected.sort());
    if (store.size > 300) {
      store.clear();
      for (const item of leases.apply({ kind: 'snapshot', leases: [] }).diff.removed)
        applied.delete(keyOf(item));
    }
  }
  t.end();
});

t.test('a lease refused again for the same reason, with other words, is not told again', (t) => {
  const leases = view();
  let told = 0;
  for (let n = 1; n <= 1_000; n++) {
    const bad = lease('10.5.2.0/24', `127.0.${n >> 8}.${n & 255}`);
    told += leases.apply({ kind: 'events', events: [{ kind: 'put', lease: bad }] }).refusals.length;
  }
  t.equal(told, 1);
  t.match(leases.refusals()[0].text, /127\.0\.3\.232/, 'but the words are of the last one');
  t.end();
});

t.test(
  'LeaseView.apply() of one subnet under two ids: the elder is used, in whatever order they come',
  (t) => {
    const words = { subnet: '10.5.2.0/24', created: 5n };
    const elder = leaseOf({ ...words, id: 'elder', publicIp: '172.20.0.2' });
    const younger = leaseOf({ ...words, id: 'younger', publicIp: '172.20.0.3', created: 6n });
    const youngest = leaseOf({ ...words, id: 'youngest', publicIp: '172.20.0.4', created: 7n });
    const put = (...all: Lease[]): LeaseEvent[] => all.map((one) => ({ kind: 'put', lease: one }));
    for (const order of [
      [elder, younger, youngest],
      [youngest, younger, elder],
      [younger, youngest, elder],
      [younger, elder, youngest],
    ]) {
      for (const isSnapshot of [true, false]) {
        const leases = view();
        const ids = (): string[] => [...leases.accepted()].map(({ id }) => id);
        const refused = (): string[] => leases.refusals().map(({ lease: { id }, code }) => `${id} ${code}`);
        if (isSnapshot) leases.apply({ kind: 'snapshot', leases: order });
        else for (const one of order) leases.apply({ kind: 'events', events: put(one) });
        t.same(ids(), ['elder']);
        t.same(refused().sort(), ['younger same-subnet', 'youngest same-subnet']);
        const gone = leases.apply({ kind: 'events', events: [{ kind: 'delete', id: 'elder' }] });
        t.same(gone.diff, { added: [younger], changed: [], removed: [elder] }, 'the next eldest comes in');
        t.same(refused(), ['youngest same-subnet']);
        const back = leases.apply({ kind: 'events', events: put(elder) });
        t.same(
          back.diff,
          { added: [elder], changed: [], removed: [younger] },
          'and goes for one that is elder',
        );
        t.match(back.refusals[0].text, /^10\.5\.2\.0\/24 of 172\.20\.0\.3: lease elder, which is older, has/);
        leases.apply({ kind: 'snapshot', leases: [] });
        t.same([ids(), refused()], [[], []]);
      }
    }
    t.end();
  },
);

t.test('LeaseView.apply() of an id whose subnet is another now: the old one goes, the new one comes', (t) => {
  const leases = view();
  const words = { id: 'host', publicIp: '172.20.0.2', created: 1n };
  const first = leaseOf({ ...words, subnet: '10.5.2.0/24' });
  const second = leaseOf({ ...words, subnet: '10.5.3.0/24' });
  const waiting = leaseOf({ id: 'waiting', publicIp: '172.20.0.9', created: 2n, subnet: '10.5.2.0/24' });
  leases.apply({ kind: 'snapshot', leases: [first, waiting] });
  const { diff } = leases.apply({ kind: 'events', events: [{ kind: 'put', lease: second }] });
  t.same(diff.removed, [first]);
  t.same(
    diff.added.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    [second, waiting],
  );
  t.same(diff.changed, []);
  t.same(leases.refusals(), []);
  const gone = leases.apply({ kind: 'events', events: [{ kind: 'delete', id: 'host' }] });
  t.same(gone.diff, { added: [], changed: [], removed: [second] });
  t.end();
});

t.test('LeaseView.apply() of a lease of no common family refuses it', (t) => {
  const leases = view();
  const known = lease('10.5.2.0/24', '172.20.0.2');
  leases.apply({ kind: 'snapshot', leases: [known] });
  const v6 = parsePrefix('fd00:5:2::/64', 6)!;
  const publicIp = { v6: parseIpv6('2001:db8::2')! };
  const dual = { ...known, subnets: { v6 }, host: { ...known.host, publicIp } };
  const change = leases.apply({ kind: 'events', events: [{ kind: 'put', lease: dual }] });
  t.same(change.diff, { added: [], changed: [], removed: [known] });
  t.match(change.refusals, [
    { code: 'no-common-family', text: /^fd00:5:2::\/64 of 2001:db8::2: has no subnet/ },
  ]);
  t.end();
});

t.test('LeaseView.apply() of data in another order: nothing changed', (t) => {
  const leases = view();
  leases.apply({ kind: 'snapshot', leases: [lease('10.5.2.0/24', '172.20.0.2', { VNI: 1, VtepMAC: 'a' })] });
  const turned = lease('10.5.2.0/24', '172.20.0.2', { VtepMAC: 'a', VNI: 1 });
  t.same(leases.apply({ kind: 'events', events: [{ kind: 'put', lease: turned }] }).diff.changed, []);
  t.end();
});

t.test('LeaseView.apply() of a holder that was made anew: the elder of its rivals wins', (t) => {
  const leases = view();
  const holder = { id: 'a', publicIp: '172.20.0.2', subnet: '10.5.2.0/24' };
  const rival = leaseOf({ id: 'b', publicIp: '172.20.0.9', created: 5n, subnet: '10.5.2.0/24' });
  leases.apply({ kind: 'snapshot', leases: [leaseOf({ ...holder, created: 1n }), rival] });
  t.match(leases.refusals(), [{ lease: { id: 'b' }, code: 'same-subnet' }]);
  const anew = leaseOf({ ...holder, created: 9n });
  const { diff } = leases.apply({ kind: 'events', events: [{ kind: 'put', lease: anew }] });
  t.match(diff.added, [{ id: 'b' }]);
  t.match(diff.removed, [{ id: 'a' }]);
  t.match(leases.refusals(), [{ lease: { id: 'a' }, code: 'same-subnet' }]);
  t.end();
});
