import pino from 'pino';
import t from 'tap';
import { formatLeaseValue } from '../../../../src/lease/lease-codec.js';
import { keyLayout, leaseKey } from '../../../../src/store/etcd/keys.js';
import { OwnLease } from '../../../../src/store/etcd/own-lease.js';
import { writeOwnKey } from '../../../../src/store/etcd/own-key.js';
import { FakeKv } from '../../../support/etcd-fakes.js';
import { FakeClock, settle } from '../../../support/fake-clock.js';
import { textsOf } from '../../../support/conditions.js';
import { hostOf, prefixesOf } from '../../../support/leases.js';

const layout = keyLayout('/net');
const HOUR_MS = 3_600_000;

/** What this host has in networks of each kind. */
const KINDS = {
  v4: ownIn('10.5.0.0/16', '10.5.1.0/24', '172.20.0.1'),
  v6: ownIn('fd00:5::/48', 'fd00:5:0:1::/64', 'fd00:aa::1'),
  dual: ownIn('10.5.0.0/16&fd00:5::/48', '10.5.1.0/24&fd00:5:0:1::/64', '172.20.0.1&fd00:aa::1'),
} as const;
type Kind = keyof typeof KINDS;

function ownIn(network: string, subnet: string, publicIp: string) {
  const [networks, subnets, host] = [prefixesOf(network), prefixesOf(subnet), hostOf({ publicIp })];
  return { networks, subnets, host, key: leaseKey(layout, subnets), value: formatLeaseValue(host) };
}

// Where the family does not matter, it is IPv4.
const { host, key: KEY, value: VALUE } = KINDS.v4;

interface Bench {
  readonly kv: FakeKv;
  readonly clock: FakeClock;
  readonly own: OwnLease;
  readonly lost: string[];
  readonly warnings: string[];
}

interface Margin {
  readonly marginMinutes?: number;
  readonly leaseTtlSeconds?: number;
  readonly random?: number;
}

async function open(leaseId = 7n, margin: Margin = {}, kind: Kind = 'v4'): Promise<Bench> {
  const { networks, subnets, host, key, value } = KINDS[kind];
  const { marginMinutes = 60, leaseTtlSeconds = 86_400, random = 0 } = margin;
  const kv = new FakeKv();
  const clock = new FakeClock();
  const warnings: string[] = [];
  const log = pino(
    { level: 'warn' },
    { write: (line: string) => warnings.push((JSON.parse(line) as { msg: string }).msg) },
  );
  const context = { kv, clock, log, leaseTtlSeconds };
  const written = await writeOwnKey(
    context,
    { key, value, over: undefined, newLeaseId: leaseId },
    new AbortController().signal,
  );
  const lost: string[] = [];
  const own = new OwnLease({
    ...context,
    layout,
    random: () => random,
    renewMarginMs: marginMinutes * 60_000,
    networks,
    subnets,
    host,
    own: written!,
    onWritten: () => undefined,
    onLost: (reason) => lost.push(reason),
  });
  return { kv, clock, own, lost, warnings };
}

t.test('OwnLease renews 23 h after the grant, with a new etcd lease, and revokes the old one', async (t) => {
  const { kv, clock, own } = await open();
  await clock.advance(23 * HOUR_MS - 1000);
  t.equal(kv.entries.get(KEY)!.leaseId, 7n);
  await clock.advance(2000);
  t.not(kv.entries.get(KEY)!.leaseId, 7n);
  t.equal(kv.entries.get(KEY)!.value, VALUE);
  t.equal(kv.leases.size, 1);
  t.equal(own.counters.renewals, 1);
  await clock.advance(23 * HOUR_MS);
  t.equal(own.counters.renewals, 2);
  await own.close();
  t.equal(clock.pending, 0);
});

t.test('OwnLease renews as long before the end as --subnet-lease-renew-margin says', async (t) => {
  const cases: [marginMinutes: number, grantedSeconds: number, earliest: number, latest: number][] = [
    // In minutes after the grant: the margin, and up to a tenth of it, or of what is left, earlier.
    [1, 86_400, 1438.9, 1439],
    [60, 86_400, 1374, 1380],
    [1080, 86_400, 324, 360],
    [1081, 86_400, 323.1, 359],
    [1200, 86_400, 216, 240],
    [1439, 86_400, 0.9, 1],
    [60, 4200, 9, 10],
    // More than was granted: a quarter of it.
    [60, 3600, 15, 15],
    [60, 600, 2.5, 2.5],
  ];
  for (const [marginMinutes, leaseTtlSeconds, earliest, latest] of cases) {
    for (const random of [0, 1]) {
      const name = `${marginMinutes} min of ${leaseTtlSeconds} s, ${random}`;
      const { clock, own, warnings } = await open(7n, { marginMinutes, leaseTtlSeconds, random });
      const dueMs = (random === 0 ? latest : earliest) * 60_000;
      t.match(own.status(), { renewsInSeconds: Number }, name);
      t.ok(Math.abs((own.status().renewsInSeconds as number) * 1000 - dueMs) < 1000, name);
      await clock.advance(dueMs - 1000);
      t.equal(own.counters.renewals, 0, `${name}: not before`);
      await clock.advance(2500);
      t.equal(own.counters.renewals, 1, `${name}: then`);
      await clock.advance(dueMs);
      t.equal(own.counters.renewals, 2, `${name}: and again`);
      t.equal(warnings.length, leaseTtlSeconds <= marginMinutes * 60 ? 1 : 0, `${name}: said once`);
      await own.close();
    }
  }
});

t.test('OwnLease on a machine that was suspended: renewed soon after it wakes', async (t) => {
  for (const [sleptMs, renewals] of [
    [300_000, 0],
    [22 * HOUR_MS, 0],
    [23.5 * HOUR_MS, 1],
  ] as const) {
    const { kv, clock, own } = await open();
    await clock.advance(60_000);
    clock.suspend(sleptMs);
    await clock.advance(31_000);
    t.equal(own.counters.renewals, renewals, `${sleptMs / HOUR_MS} h`);
    t.ok(kv.leases.has(7n) === (renewals === 0));
    t.match(own.status(), { expiresInSeconds: renewals === 0 ? 86_400 - 91 - sleptMs / 1000 : Number });
    // And on time from then on.
    await clock.advance(23 * HOUR_MS + 1000 - (renewals === 0 ? sleptMs : 0));
    t.equal(own.counters.renewals, renewals + 1);
    await own.close();
  }
});

t.test('OwnLease on a machine that slept past the end: the same subnet again', async (t) => {
  const { kv, clock, own, lost } = await open();
  clock.suspend(30 * HOUR_MS);
  kv.expire(7n);
  await clock.advance(31_000);
  t.equal(kv.entries.get(KEY)!.value, VALUE);
  t.equal(own.counters.recreated, 1);
  t.strictSame(lost, []);
  await own.close();
});

t.test('OwnLease never renews a reservation', async (t) => {
  const { kv, clock, own } = await open(0n);
  await clock.advance(100 * 24 * HOUR_MS);
  t.equal(own.counters.renewals, 0);
  t.equal(kv.leases.size, 0);
  await own.close();
});

t.test('OwnLease keeps the etcd lease it left when somebody attached a key to it', async (t) => {
  const { kv, clock, own } = await open();
  kv.put('/elsewhere', 'x', 7n);
  await clock.advance(23 * HOUR_MS);
  t.ok(kv.leases.has(7n));
  t.ok(kv.entries.has('/elsewhere'));
  await own.close();
});

t.test('OwnLease after a renewal whose answer is lost, or that is refused', async (t) => {
  const cases = [
    { failure: { method: 'replace', when: 'after', kind: 'timeout' }, renewedAtOnce: true },
    { failure: { method: 'replace', when: 'before', kind: 'timeout' }, renewedAtOnce: false },
    { failure: { method: 'replace', when: 'before', kind: 'no-space' }, renewedAtOnce: false },
    { failure: { method: 'grant', when: 'after', kind: 'unreachable' }, renewedAtOnce: false },
    { failure: { method: 'grant', when: 'before', kind: 'no-space' }, renewedAtOnce: false },
    { failure: { method: 'attachedKeys', when: 'before', kind: 'timeout' }, renewedAtOnce: true },
  ] as const;
  for (const { failure, renewedAtOnce } of cases) {
    const { kv, clock, own } = await open();
    kv.failures.push(failure);
    await clock.advance(23 * HOUR_MS + 100);
    t.equal(own.counters.renewals, renewedAtOnce ? 1 : 0, JSON.stringify(failure));
    t.equal(textsOf(own).length, renewedAtOnce ? 0 : 1);
    await clock.advance(60_000);
    t.equal(own.counters.renewals, 1);
    t.strictSame(textsOf(own), []);
    t.equal(kv.leases.size, failure.method === 'attachedKeys' ? 2 : 1, 'no etcd lease is left behind');
    t.equal(kv.entries.get(KEY)!.value, VALUE);
    await own.close();
  }
});

t.test('OwnLease while etcd refuses writes: at most one try a second, at least one in 30', async (t) => {
  const { kv, clock, own } = await open();
  for (let i = 0; i < 40; i++) kv.failures.push({ method: 'grant', when: 'before', kind: 'no-space' });
  await clock.advance(23 * HOUR_MS);
  const before = own.counters.renewalFailures;
  await clock.advance(300_000);
  const tries = own.counters.renewalFailures - before;
  t.ok(tries >= 10 && tries <= 300, `${tries} tries in 300 s`);
  await own.close();
});

t.test('OwnLease.observe() of a deletion makes the same key again', async (t) => {
  for (const kind of ['v4', 'v6', 'dual'] as const) {
    const { kv, clock, own, lost } = await open(7n, {}, kind);
    const { key, value } = KINDS[kind];
    kv.expire(7n);
    own.observe(undefined);
    await clock.advance(0);
    t.equal(kv.entries.get(key)!.value, value, kind);
    t.equal(own.counters.recreated, 1);
    t.strictSame(lost, []);
    own.observe(undefined); // the event comes late: the key is there
    await clock.advance(0);
    t.equal(own.counters.recreated, 1);
    await own.close();
  }
});

t.test('OwnLease.observe() of a deletion, when another host was faster or overlaps', async (t) => {
  const other = formatLeaseValue(hostOf({ publicIp: '172.20.0.99&fd00:aa::99' }));
  const overlaps: readonly (readonly [what: string, key: string, kinds: readonly Kind[]])[] = [
    ['larger', '10.5.0.0-23', ['v4', 'dual']],
    ['smaller', '10.5.1.64-26', ['v4', 'dual']],
    ['larger, of IPv6', '0.0.0.0-0&fd00:5::-63', ['v6', 'dual']],
    ['smaller, of IPv6', '0.0.0.0-0&fd00:5:0:1:8000::-65', ['v6', 'dual']],
    ['the same of IPv6 alone', '10.5.9.0-24&fd00:5:0:1::-64', ['v6', 'dual']],
    ['in a longer form', '10.5.9.0-24&fd00:5:0:1:0:0:0:0-64', ['v6', 'dual']],
    ['the same of IPv4 alone', '10.5.1.0-24&fd00:5:0:9::-64', ['v4', 'dual']],
  ];
  for (const kind of ['v4', 'v6', 'dual'] as const) {
    const { key, value } = KINDS[kind];
    const cases = [
      { name: 'same key', act: (kv: FakeKv) => kv.put(key, other) },
      {
        name: 'same key, at the last moment',
        act: (kv: FakeKv) =>
          (kv.interfere = (method) => method === 'create' && !kv.entries.has(key) && kv.put(key, other)),
      },
      ...overlaps
        .filter(([, , kinds]) => kinds.includes(kind))
        .map(([name, held]) => ({ name, act: (kv: FakeKv) => kv.put(`/net/subnets/${held}`, other) })),
    ];
    for (const { name, act } of cases) {
      const { kv, clock, own, lost } = await open(7n, {}, kind);
      kv.expire(7n);
      act(kv);
      own.observe(undefined);
      await clock.advance(0);
      t.equal(lost.length, 1, `${kind}: ${name}`);
      t.match(lost[0], 'PublicIP 172.20.0.99');
      await clock.advance(48 * HOUR_MS);
      t.equal(lost.length, 1, 'said once, nothing done afterwards');
      t.not(kv.entries.get(key)?.value, value);
      await own.close();
    }
  }
});

t.test('OwnLease is not lost to keys outside the network, nor to its own', async (t) => {
  const outside = [
    '0.0.0.0-0',
    '10.0.0.0-8',
    '10.5.0.0-16',
    '0.0.0.0-0&fd00::-16',
    '10.6.1.0-24&fd00:5::-48',
  ];
  const ofOther = {
    v4: '10.6.1.0-24&fd00:5:0:1::-64',
    v6: '10.5.1.0-24',
    dual: '10.5.2.0-24&fd00:5:0:2::-64',
  };
  for (const kind of ['v4', 'v6', 'dual'] as const) {
    const { kv, clock, own, lost } = await open(7n, {}, kind);
    for (const name of [...outside, ofOther[kind]]) kv.put(`/net/subnets/${name}`, 'x');
    kv.expire(7n);
    own.observe(undefined);
    await clock.advance(0);
    t.strictSame(lost, [], kind);
    t.ok(kv.entries.has(KINDS[kind].key));
    await own.close();
  }
});

t.test(
  'OwnLease.observe() of a foreign value: alarm at once, never written over, ends when it is ours again',
  async (t) => {
    const { kv, clock, own, lost } = await open();
    own.observe(kv.put(KEY, 'garbage'));
    t.match(textsOf(own), [/was overwritten/]);
    await settle();
    await clock.advance(48 * HOUR_MS);
    t.equal(kv.entries.get(KEY)!.value, 'garbage');
    t.equal(own.counters.overwritten, 1);
    t.strictSame(lost, []);
    const entry = kv.put(KEY, VALUE);
    own.observe(entry);
    await clock.advance(0);
    t.strictSame(textsOf(own), []);
    await own.close();
  },
);

t.test('OwnLease takes the key back from a twin that is gone, and the alarm with it', async (t) => {
  const { kv, clock, own } = await open();
  own.observe(kv.put(KEY, VALUE, 99n));
  await clock.advance(0);
  t.match(textsOf(own), [/another daemon publishes the own public IP/]);
  await clock.advance(61_000);
  t.strictSame(textsOf(own), []);
  t.not(kv.entries.get(KEY)!.leaseId, 99n);
  await own.close();
});

t.test('OwnLease does not fight a twin that is there', async (t) => {
  const { kv, clock, own } = await open();
  let takeovers = 0;
  own.observe(kv.put(KEY, VALUE, 99n));
  for (let minute = 0; minute < 23 * 60; minute++) {
    await clock.advance(60_000);
    if (kv.entries.get(KEY)!.leaseId === 99n) continue;
    takeovers++;
    own.observe(kv.put(KEY, VALUE, 99n));
    await clock.advance(0);
  }
  t.ok(takeovers >= 5 && takeovers <= 12, `${takeovers} takeovers in 23 hours`);
  t.match(textsOf(own), [/another daemon publishes/]);
  await own.close();
});

t.test('OwnLease takes its own write for its own before the answer is here', async (t) => {
  const { kv, clock, own } = await open();
  kv.interfere = (method) => {
    if (method === 'attachedKeys') own.observe(kv.entries.get(KEY));
  };
  await clock.advance(23 * HOUR_MS);
  t.equal(own.counters.renewals, 1);
  t.equal(own.counters.twins + own.counters.overwritten, 0);
  t.strictSame(textsOf(own), []);
  await own.close();
});

const MOVED = hostOf({ publicIp: '172.20.0.101' });
const MOVED_VALUE = formatLeaseValue(MOVED);

/** "done" or the error's message once `promise` settled; "pending" until then. */
function outcomeOf(promise: Promise<void>): () => string {
  let outcome = 'pending';
  promise.then(
    () => (outcome = 'done'),
    (error: Error) => (outcome = error.message),
  );
  return () => outcome;
}

t.test('OwnLease.publish() writes another host in place, at once, as a renewal', async (t) => {
  const { kv, clock, own, lost } = await open();
  const { createRevision } = kv.entries.get(KEY)!;
  kv.interfere = (method) => {
    // The event comes before the answer.
    if (method === 'attachedKeys') own.observe(kv.entries.get(KEY));
  };
  const outcome = outcomeOf(own.publish(MOVED));
  await clock.advance(0);
  t.equal(outcome(), 'done');
  t.equal(kv.entries.get(KEY)!.value, MOVED_VALUE);
  t.equal(kv.entries.get(KEY)!.createRevision, createRevision, 'the same key');
  t.equal(kv.leases.size, 1, 'the etcd lease before is revoked');
  t.strictSame(
    own.conditions().map(({ text }) => text),
    [],
  );
  await clock.advance(23 * HOUR_MS + 1000);
  t.equal(own.counters.renewals, 2, 'renewed as before');
  t.equal(kv.entries.get(KEY)!.value, MOVED_VALUE);
  kv.expire(kv.entries.get(KEY)!.leaseId);
  own.observe(undefined);
  await clock.advance(0);
  t.equal(kv.entries.get(KEY)!.value, MOVED_VALUE, 'made again with the new address');
  t.strictSame(lost, []);
  await own.close();
});

t.test(
  'OwnLease.publish() while etcd refuses: tried until it stands, the lease before is ours',
  async (t) => {
    const { kv, clock, own } = await open();
    for (let i = 0; i < 3; i++) kv.failures.push({ method: 'grant', when: 'before', kind: 'no-space' });
    const outcome = outcomeOf(own.publish(MOVED));
    await clock.advance(0);
    own.observe(kv.entries.get(KEY)); // what stands is the old value
    await clock.advance(0);
    t.equal(outcome(), 'pending');
    t.equal(own.counters.overwritten + own.counters.twins, 0);
    t.match(
      own.conditions().map(({ text }) => text),
      [/not renewed: grant failed/],
    );
    await clock.advance(60_000);
    t.equal(outcome(), 'done');
    t.equal(kv.entries.get(KEY)!.value, MOVED_VALUE);
    t.strictSame(
      own.conditions().map(({ text }) => text),
      [],
    );
    await own.close();
  },
);

t.test('OwnLease.publish() of another value while one is on its way: the last one stands', async (t) => {
  for (const last of [host, hostOf({ publicIp: '172.20.0.102' })]) {
    const { kv, clock, own } = await open();
    const outcomes: (() => string)[] = [];
    kv.interfere = (method) => {
      if (method !== 'replace' || outcomes.length === 2) return;
      outcomes.push(outcomeOf(own.publish(last)));
    };
    outcomes.unshift(outcomeOf(own.publish(MOVED)));
    await clock.advance(100);
    t.strictSame(
      outcomes.map((outcome) => outcome()),
      ['done', 'done'],
    );
    t.equal(kv.entries.get(KEY)!.value, formatLeaseValue(last));
    t.equal(kv.leases.size, 1);
    t.strictSame(
      own.conditions().map(({ text }) => text),
      [],
    );
    await own.close();
  }
});

t.test('OwnLease.publish() never writes over what is not ours', async (t) => {
  const other = formatLeaseValue(hostOf({ publicIp: '172.20.0.99' }));
  const cases: { name: string; act: (kv: FakeKv) => void; expected: string; outcome: string | RegExp }[] = [
    { name: 'overwritten', act: (kv) => kv.put(KEY, other), expected: other, outcome: 'pending' },
    {
      name: 'made anew by another host',
      act: (kv) => {
        kv.expire(7n);
        kv.put(KEY, other);
      },
      expected: other,
      outcome: /held by another host/,
    },
    {
      name: 'made a reservation for the address before',
      act: (kv) => kv.put(KEY, VALUE),
      expected: VALUE,
      outcome: /is a reservation/,
    },
  ];
  for (const { name, act, expected, outcome } of cases) {
    const { kv, clock, own } = await open();
    act(kv);
    const publishing = outcomeOf(own.publish(MOVED));
    await clock.advance(48 * HOUR_MS);
    t.match(publishing(), outcome, name);
    t.equal(kv.entries.get(KEY)!.value, expected, name);
    await own.close();
    t.not(publishing(), 'done');
    t.not(publishing(), 'pending', 'ends with the lease');
  }
});

t.test('OwnLease.publish() leaves a reservation to the operator', async (t) => {
  const { kv, own } = await open(0n);
  await t.rejects(own.publish(MOVED), { code: 'E_LEASE', message: /is a reservation/ });
  t.equal(kv.entries.get(KEY)!.value, VALUE);
  await own.close();
});

t.test('OwnLease.close() ends a wait', async (t) => {
  const { clock, own } = await open();
  await own.close();
  await own.close();
  t.equal(clock.pending, 0);
});
