// Rules case by case, and a view fed with seeded random updates against a model that keeps the raw table and judges
// all of it anew each time.

import t from 'tap';
import type { Lease, LeaseEvent, LeaseUpdate, PeerDiff } from '../../../src/lease/lease.js';
import type { RefusalCode } from '../../../src/lease/judge.js';
import { LeaseView } from '../../../src/lease/lease-view.js';
import { isBogon } from '../../../src/net/bogons.js';
import { formatIpv4, ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import {
  formatPrefix,
  lastOf,
  maskOf,
  parsePrefix,
  type Prefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  prefixOf,
} from '../../../src/net/prefix.js';
import { leaseOf } from '../../support/leases.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;
const LEASABLE = { first: parseIpv4('10.5.1.0')!, last: parseIpv4('10.5.255.255')! };
const OWN = parsePrefix('10.5.1.0/24')!;
const OWN_IP = parseIpv4('172.20.0.1')!;
const NOTHING: PeerDiff = { added: [], changed: [], removed: [] };

function openView(): LeaseView {
  return new LeaseView({
    networks: { v4: NETWORK },
    leasable: { v4: LEASABLE },
    own: { v4: OWN },
    ownPublicIp: { v4: OWN_IP },
  });
}

/** "10.5.2.0/24 172.20.0.2" as a lease. */
function lease(words: string, backendData?: unknown): Lease {
  const [subnet, publicIp] = words.split(' ');
  return leaseOf({ subnet, publicIp, backendData, created: 1n });
}

const words = ({ subnets, host }: Lease): string =>
  `${formatPrefix(subnets.v4!)} ${formatIpv4(host.publicIp.v4!)}`;
const put = (text: string, data?: unknown): LeaseEvent => ({ kind: 'put', lease: lease(text, data) });
const del = (subnet: string): LeaseEvent => ({ kind: 'delete', id: subnet.replace('/', '-') });
const events = (...list: LeaseEvent[]): LeaseUpdate => ({ kind: 'events', events: list });
const snapshot = (...list: string[]): LeaseUpdate => ({
  kind: 'snapshot',
  leases: list.map((text) => lease(text)),
});
const accepted = (view: LeaseView): string[] => [...view.accepted()].map(words).sort();

function shown({ added, changed, removed }: PeerDiff): Record<string, string[]> {
  return { added: added.map(words), changed: changed.map(words), removed: removed.map(words) };
}

const REFUSED: readonly (readonly [string, RefusalCode])[] = [
  ['10.5.2.1/24 172.20.0.2', 'host-bits'],
  ['10.6.2.0/24 172.20.0.2', 'outside-network'],
  ['10.4.255.0/24 172.20.0.2', 'outside-network'],
  ['192.168.0.0/16 172.20.0.2', 'outside-network'],
  ['10.5.0.0/16 172.20.0.2', 'not-longer-than-network'],
  ['10.0.0.0/8 172.20.0.2', 'not-longer-than-network'],
  ['0.0.0.0/0 172.20.0.2', 'not-longer-than-network'],
  ['10.5.1.0/24 172.20.0.2', 'overlaps-own'],
  ['10.5.1.128/25 172.20.0.2', 'overlaps-own'],
  ['10.5.0.0/23 172.20.0.2', 'overlaps-own'],
  ['10.5.0.0/17 172.20.0.1', 'overlaps-own'],
  ['10.5.2.0/24 0.0.0.0', 'bad-public-ip'],
  ['10.5.2.0/24 127.0.0.1', 'bad-public-ip'],
  ['10.5.2.0/24 224.0.0.1', 'bad-public-ip'],
  ['10.5.2.0/24 255.255.255.255', 'bad-public-ip'],
  ['10.5.2.0/24 172.20.0.1', 'own-public-ip'],
  ['10.5.2.0/24 10.5.2.1', 'public-ip-in-overlay'],
  ['10.5.2.0/24 10.5.255.255', 'public-ip-in-overlay'],
];

void t.test('LeaseView.apply() refuses, each with its code', (t) => {
  for (const [text, code] of REFUSED) {
    for (const update of [snapshot(text), events(put(text))]) {
      const view = openView();
      const change = view.apply(update);
      t.strictSame(change.diff, NOTHING, text);
      t.strictSame(accepted(view), [], text);
      const [refusal] = view.refusals();
      t.equal(refusal.code, code, text);
      t.equal(refusal.lease.id, text.split(' ')[0].replace('/', '-'));
      t.ok(refusal.text.startsWith(`${text.replace(' ', ' of ')}: `), refusal.text);
      t.strictSame(change.refusals, [refusal]);
    }
  }
  t.end();
});

void t.test('LeaseView.apply() reports a refusal once, and again when its reason changes', (t) => {
  const view = openView();
  const codes = (update: LeaseUpdate): string[] => view.apply(update).refusals.map(({ code }) => code);
  t.strictSame(codes(snapshot('10.5.2.0/24 127.0.0.1')), ['bad-public-ip']);
  t.strictSame(codes(snapshot('10.5.2.0/24 127.0.0.1')), []);
  t.strictSame(codes(events(put('10.5.2.0/24 127.0.0.1'))), []);
  t.strictSame(codes(events(put('10.5.2.0/24 10.5.9.9'))), ['public-ip-in-overlay']);
  t.strictSame(codes(events(del('10.5.2.0/24'))), []);
  t.strictSame(view.refusals(), []);
  t.strictSame(codes(events(put('10.5.2.0/24 10.5.9.9'))), ['public-ip-in-overlay'], 'gone and back');
  t.end();
});

void t.test('LeaseView.apply() leaves the own lease out, in silence', (t) => {
  const view = openView();
  const own = '10.5.1.0/24 172.20.0.1';
  for (const update of [snapshot(own), events(put(own)), events(del('10.5.1.0/24'))]) {
    t.strictSame(view.apply(update), { diff: NOTHING, refusals: [] });
    t.strictSame(accepted(view), []);
    t.strictSame(view.refusals(), []);
  }
  view.apply(events(put('10.5.1.0/24 172.20.0.9')));
  t.equal(view.refusals().length, 1);
  view.apply(events(put(own)));
  t.strictSame(view.refusals(), [], 'ours again');
  t.end();
});

void t.test('LeaseView.apply() judges a lease anew with each change', (t) => {
  const view = openView();
  const step = (event: LeaseEvent): unknown => shown(view.apply(events(event)).diff);
  const good = '10.5.2.0/24 172.20.0.2';
  t.strictSame(step(put('10.5.2.0/24 127.0.0.1')), shown(NOTHING));
  t.strictSame(step(put(good)), { ...shown(NOTHING), added: [good] });
  t.strictSame(view.refusals(), []);
  t.strictSame(step(put(good)), shown(NOTHING));
  t.strictSame(step(put('10.5.2.0/24 127.0.0.1')), { ...shown(NOTHING), removed: [good] });
  t.equal(view.refusals().length, 1);
  t.strictSame(step(put(good, { VNI: 1 })), { ...shown(NOTHING), added: [good] });
  t.strictSame(step(put(good, { VNI: 2 })), { ...shown(NOTHING), changed: [good] });
  t.strictSame(step(put('10.5.2.0/24 172.20.0.3')), {
    ...shown(NOTHING),
    changed: ['10.5.2.0/24 172.20.0.3'],
  });
  t.strictSame(step(del('10.5.2.0/24')), { ...shown(NOTHING), removed: ['10.5.2.0/24 172.20.0.3'] });
  t.strictSame(step(del('10.5.2.0/24')), shown(NOTHING), 'unknown subnet');
  t.end();
});

void t.test('LeaseView.apply() reduces several events about one subnet to one change', (t) => {
  const a = '10.5.2.0/24 172.20.0.2';
  const b = '10.5.2.0/24 172.20.0.3';
  const bad = '10.5.2.0/24 127.0.0.1';
  const gone = del('10.5.2.0/24');
  const cases: readonly (readonly [
    string | undefined,
    LeaseEvent[],
    Partial<Record<keyof PeerDiff, string[]>>,
  ])[] = [
    [undefined, [put(a), gone], {}],
    [undefined, [put(a), put(b)], { added: [b] }],
    [undefined, [put(a), put(bad)], {}],
    [undefined, [put(bad), put(a)], { added: [a] }],
    [a, [gone, put(a)], {}],
    [a, [gone, put(b)], { changed: [b] }],
    [a, [put(b), put(a)], {}],
    [a, [put(b), gone], { removed: [a] }],
    [a, [put(bad), put(b)], { changed: [b] }],
    [a, [gone, put(b), put(bad)], { removed: [a] }],
  ];
  for (const [before, list, expected] of cases) {
    const view = openView();
    if (before !== undefined) view.apply(snapshot(before));
    const { diff } = view.apply(events(...list));
    t.strictSame(shown(diff), { ...shown(NOTHING), ...expected });
  }
  t.end();
});

void t.test(
  'LeaseView.apply() emits nothing for an identical snapshot, and the difference for another',
  (t) => {
    const view = openView();
    const table = ['10.5.2.0/24 172.20.0.2', '10.5.3.0/24 172.20.0.3', '10.5.4.0/24 127.0.0.1'];
    view.apply(snapshot(...table));
    t.strictSame(view.apply(snapshot(...table.toReversed())), { diff: NOTHING, refusals: [] });
    const { diff } = view.apply(snapshot('10.5.3.0/24 172.20.0.9', '10.5.5.0/24 172.20.0.5'));
    t.strictSame(shown(diff), {
      added: ['10.5.5.0/24 172.20.0.5'],
      changed: ['10.5.3.0/24 172.20.0.9'],
      removed: ['10.5.2.0/24 172.20.0.2'],
    });
    t.strictSame(view.refusals(), []);
    t.end();
  },
);

const OUTER = '10.5.16.0/20 172.20.0.2';
const MIDDLE = '10.5.20.0/22 172.20.0.3';
const INNER = '10.5.21.0/24 172.20.0.4';
const INNER_ALARM =
  'lease 10.5.21.0/24 of 172.20.0.4 lies inside 10.5.16.0/20 of 172.20.0.2: the longer one is used';

void t.test('LeaseView.alarms() names a nested pair whichever came first, until it is gone', (t) => {
  for (const order of [
    [OUTER, INNER],
    [INNER, OUTER],
  ]) {
    for (const last of ['10.5.16.0/20', '10.5.21.0/24']) {
      const view = openView();
      for (const text of order) view.apply(events(put(text)));
      t.strictSame(view.alarms(), [INNER_ALARM]);
      t.strictSame(accepted(view).length, 2, 'both are used');
      view.apply(events(del(last)));
      t.strictSame(view.alarms(), []);
    }
  }
  t.end();
});

void t.test('LeaseView.alarms() follows when one of a pair changes hands', (t) => {
  const steps: readonly (readonly [string, LeaseEvent[], number])[] = [
    ['the shorter goes to the host of the longer', [put('10.5.16.0/20 172.20.0.4')], 0],
    ['the longer goes to the host of the shorter', [put('10.5.21.0/24 172.20.0.2')], 0],
    ['the shorter is refused', [put('10.5.16.0/20 127.0.0.1')], 0],
    ['the longer is refused', [put('10.5.21.0/24 127.0.0.1')], 0],
    ['away and back in one update', [del('10.5.16.0/20'), put(OUTER)], 1],
    ['one host at first, two then', [put('10.5.16.0/20 172.20.0.4'), put(OUTER)], 1],
  ];
  for (const [name, list, count] of steps) {
    const view = openView();
    view.apply(snapshot(OUTER, INNER));
    view.apply(events(...list));
    t.equal(view.alarms().length, count, name);
  }
  t.end();
});

void t.test('LeaseView.alarms() finds the next shorter lease when the one between goes', (t) => {
  const view = openView();
  view.apply(snapshot(INNER, OUTER, MIDDLE));
  t.equal(view.alarms().length, 2);
  view.apply(events(del('10.5.20.0/22')));
  t.strictSame(view.alarms(), [INNER_ALARM]);
  view.apply(events(put('10.5.20.0/22 172.20.0.4')));
  t.strictSame(view.alarms(), [
    'lease 10.5.20.0/22 of 172.20.0.4 lies inside 10.5.16.0/20 of 172.20.0.2: the longer one is used',
  ]);
  t.end();
});

void t.test('LeaseView.apply() refuses a lease that covers a host, while the host is there', (t) => {
  const host = '10.5.2.0/24 10.5.0.7';
  const cover = '10.5.0.0/24 172.20.0.9';
  for (const order of [
    [host, cover],
    [cover, host],
  ]) {
    for (const updates of [[snapshot(...order)], order.map((text) => events(put(text)))]) {
      const view = openView();
      for (const update of updates) view.apply(update);
      t.strictSame(accepted(view), [host]);
      t.strictSame(
        view.refusals().map(({ code, text }) => `${code} ${text}`),
        ['covers-host 10.5.0.0/24 of 172.20.0.9: covers the address 10.5.0.7 of a host'],
      );
      t.strictSame(shown(view.apply(events(del('10.5.2.0/24'))).diff), {
        added: [cover],
        changed: [],
        removed: [host],
      });
      t.strictSame(shown(view.apply(events(put(host))).diff), {
        added: [host],
        changed: [],
        removed: [cover],
      });
      t.strictSame(
        shown(view.apply(events(put('10.5.2.0/24 172.20.0.2'))).diff),
        { added: [cover], changed: ['10.5.2.0/24 172.20.0.2'], removed: [] },
        'the host has moved',
      );
    }
  }
  const view = openView();
  view.apply(events(put('10.5.0.0/25 10.5.0.7')));
  t.strictSame(accepted(view), [], 'nor its own');
  t.end();
});

void t.test('LeaseView.apply() refuses a lease that covers this host', (t) => {
  const view = new LeaseView({
    networks: { v4: NETWORK },
    leasable: { v4: LEASABLE },
    own: { v4: OWN },
    ownPublicIp: { v4: parseIpv4('10.5.0.1')! },
  });
  view.apply(events(put('10.5.0.0/24 172.20.0.9'), put('10.5.2.0/24 10.5.0.2')));
  t.strictSame(accepted(view), ['10.5.2.0/24 10.5.0.2']);
  t.end();
});

// --- against a model ------------------------------------------------------------------------------------------------

function judge({ subnets, host }: Lease): RefusalCode | undefined {
  const subnet = subnets.v4!;
  const publicIp = host.publicIp.v4!;
  if ((subnet.address & ~maskOf(subnet.length)) !== 0) return 'host-bits';
  if (!prefixCovers(NETWORK, subnet) || subnet.length === NETWORK.length)
    return prefixesOverlap(NETWORK, subnet) ? 'not-longer-than-network' : 'outside-network';
  if (prefixesOverlap(subnet, OWN)) return 'overlaps-own';
  if (isBogon(publicIp)) return 'bad-public-ip';
  if (publicIp === OWN_IP) return 'own-public-ip';
  return publicIp >= LEASABLE.first && publicIp <= LEASABLE.last ? 'public-ip-in-overlay' : undefined;
}

/** Everything the store holds, judged from nothing at each question. */
class Model {
  readonly table = new Map<string, Lease>();

  apply(update: LeaseUpdate): void {
    if (update.kind === 'snapshot') {
      this.table.clear();
      for (const item of update.leases) this.table.set(item.id, item);
      return;
    }
    for (const event of update.events) {
      if (event.kind === 'put') this.table.set(event.lease.id, event.lease);
      else this.table.delete(event.id);
    }
  }

  /** Whether a lease covers the address of a host, its own or another's. */
  #judge(item: Lease): RefusalCode | undefined {
    const own = judge(item);
    if (own !== undefined) return own;
    const hosts = [...this.table.values()].filter((other) => judge(other) === undefined);
    return hosts.some((host) => prefixContains(item.subnets.v4!, host.host.publicIp.v4!))
      ? 'covers-host'
      : undefined;
  }

  accepted(): Lease[] {
    return [...this.table.values()].filter((item) => this.#judge(item) === undefined);
  }

  refusals(): string[] {
    const isOwn = (item: Lease): boolean => words(item) === '10.5.1.0/24 172.20.0.1';
    const all = [...this.table.values()].filter((item) => !isOwn(item) && this.#judge(item) !== undefined);
    return all.map((item) => `${words(item)} ${this.#judge(item)}`).sort();
  }

  /** Pairs of a lease and the nearest shorter one, when two hosts hold them. */
  nested(): string[] {
    const all = this.accepted();
    const found: string[] = [];
    for (const inner of all) {
      const outer = all
        .filter(
          ({ subnets: { v4 } }) =>
            v4!.length < inner.subnets.v4!.length && prefixCovers(v4!, inner.subnets.v4!),
        )
        .sort((a, b) => b.subnets.v4!.length - a.subnets.v4!.length)
        .at(0);
      if (outer !== undefined && outer.host.publicIp.v4 !== inner.host.publicIp.v4)
        found.push(`${formatPrefix(inner.subnets.v4!)} in ${formatPrefix(outer.subnets.v4!)}`);
    }
    return found.sort();
  }
}

const IPS = [
  '172.20.0.1',
  '172.20.0.2',
  '172.20.0.3',
  '172.20.0.4',
  '127.0.0.1',
  '10.5.3.3',
  '10.5.0.7',
  '10.5.0.9',
];

function randomLease(next: (below: number) => number): Lease {
  const length = [15, 16, 20, 21, 22, 23, 24, 24, 24, 25][next(10)];
  // A /20 of the Network, so that the same subnets come again; now and then another, or host bits.
  const base = next(20) === 0 ? 0x0a060000 : 0x0a050000;
  const address = ipv4((base | (next(4096) & (next(20) === 0 ? -1 : maskOf(length)))) >>> 0);
  const isCut = next(20) !== 0;
  const subnet: Prefix = isCut ? prefixOf(address, length) : { address, length };
  const publicIp = IPS[next(IPS.length)];
  const backendData = next(2);
  return leaseOf({ subnet: formatPrefix(subnet), publicIp, backendData, created: BigInt(next(100)) });
}

void t.test('LeaseView agrees with the model after each of many updates', (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    let state = seed;
    const next = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const view = openView();
    const model = new Model();
    const programmed = new Map<string, string>();
    const full = (item: Lease): string => `${words(item)} ${JSON.stringify(item.host.backend.data.v4)}`;
    for (let round = 0; round < 100; round++) {
      const update: LeaseUpdate =
        next(10) === 0
          ? { kind: 'snapshot', leases: Array.from({ length: next(30) }, () => randomLease(next)) }
          : events(
              ...Array.from({ length: 1 + next(6) }, (): LeaseEvent => {
                const item = randomLease(next);
                return next(3) === 0 ? { kind: 'delete', id: item.id } : { kind: 'put', lease: item };
              }),
            );
      model.apply(update);
      const { diff } = view.apply(update);
      const wrong: string[] = [];
      for (const item of diff.removed) if (!programmed.delete(item.id)) wrong.push(`removed ${words(item)}`);
      for (const item of diff.added) {
        if (programmed.has(item.id)) wrong.push(`added ${words(item)}`);
        programmed.set(item.id, full(item));
      }
      for (const item of diff.changed) {
        if ((programmed.get(item.id) ?? full(item)) === full(item)) wrong.push(`changed ${words(item)}`);
        programmed.set(item.id, full(item));
      }
      const actual = {
        wrong,
        programmed: [...programmed.values()].sort(),
        accepted: [...view.accepted()].map(full).sort(),
        refusals: view
          .refusals()
          .map((refusal) => `${words(refusal.lease)} ${refusal.code}`)
          .sort(),
        nested: view
          .alarms()
          .map((text) => text.replace(/^lease (\S+) of \S+ lies inside (\S+) .*$/, '$1 in $2'))
          .sort(),
      };
      const table = model.accepted().map(full).sort();
      const expected = {
        wrong: [],
        programmed: table,
        accepted: table,
        refusals: model.refusals(),
        nested: model.nested(),
      };
      if (JSON.stringify(actual) !== JSON.stringify(expected)) {
        t.strictSame(actual, expected, `seed ${seed}, round ${round}`);
        t.end();
        return;
      }
    }
  }
  t.pass('20 seeds of 100 updates');
  t.end();
});

void t.test('LeaseView.apply() of one event does not look at the whole table', (t) => {
  const COUNT = 10_000;
  const network = parsePrefix('10.0.0.0/8')!;
  const view = new LeaseView({
    networks: { v4: network },
    leasable: { v4: { first: parseIpv4('10.0.1.0')!, last: lastOf(network) } },
    own: { v4: parsePrefix('10.255.255.0/24')! },
    ownPublicIp: { v4: OWN_IP },
  });
  const leaseAt = (index: number): Lease => {
    const address = ipv4(network.address + index * 256);
    return leaseOf({ subnet: formatPrefix({ address, length: 24 }), publicIp: ipv4(0xac140002 + index) });
  };
  let reads = 0;
  // Counts how often a lease of the table is looked at.
  const counted = (index: number): Lease => {
    const lease = leaseAt(index);
    return {
      ...lease,
      get subnets() {
        reads++;
        return lease.subnets;
      },
      get host() {
        reads++;
        return lease.host;
      },
    };
  };
  view.apply({ kind: 'snapshot', leases: Array.from({ length: COUNT }, (_, index) => counted(index)) });
  t.equal([...view.accepted()].length, COUNT);
  const check = (name: string, update: LeaseUpdate, most: number): void => {
    reads = 0;
    view.apply(update);
    t.ok(reads <= most, `${name}: ${reads} reads, expected at most ${most}`);
  };
  for (const index of [0, 5_000, COUNT - 1]) {
    const { id, subnets } = leaseAt(index);
    check('same put', events({ kind: 'put', lease: counted(index) }), 50);
    check(
      'changed put',
      events({ kind: 'put', lease: { ...lease('10.0.0.0/24 172.30.0.1'), id, subnets } }),
      50,
    );
    check('delete', events({ kind: 'delete', id }), 50);
    check('put', events({ kind: 'put', lease: counted(index) }), 50);
  }
  check('a shorter lease over 16', events(put('10.1.0.0/20 172.30.0.2')), 16 * 10);
  check('and its end', events(del('10.1.0.0/20')), 16 * 10);
  t.end();
});
