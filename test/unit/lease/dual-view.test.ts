// Leases of both families: what is judged of each, what is cut off, and who gives way to whom.

import t from 'tap';
import { leasableRange, parseNetworkConfig, prefixesOf } from '../../../src/config/network-config.js';
import type { Lease, LeaseEvent } from '../../../src/lease/lease.js';
import { LeaseView } from '../../../src/lease/lease-view.js';
import { formatAddresses, formatPrefixes } from '../../../src/net/prefix.js';
import { leaseOf } from '../../support/leases.js';

const IPV4 = '"Network":"10.5.0.0/16","SubnetMin":"10.5.16.0"';
const IPV6 = '"EnableIPv6":true,"IPv6Network":"fd00:5::/48","IPv6SubnetMin":"fd00:5:0:10::"';
const OWN = { dual: '10.5.20.0/24&fd00:5:0:20::/64', v4: '10.5.20.0/24', v6: 'fd00:5:0:20::/64' };
const OWN_IP = { dual: '172.20.0.1&2001:db8::1', v4: '172.20.0.1', v6: '2001:db8::1' };

function openView(kind: 'dual' | 'v4' | 'v6'): LeaseView {
  const text = { dual: `{${IPV4},${IPV6}}`, v4: `{${IPV4}}`, v6: `{"EnableIPv4":false,${IPV6}}` }[kind];
  const config = parseNetworkConfig(text, 'test');
  const own = leaseOf({ subnet: OWN[kind], publicIp: OWN_IP[kind] });
  return new LeaseView({
    networks: prefixesOf(config),
    leasable: leasableRange(config),
    own: own.subnets,
    ownPublicIp: own.host.publicIp,
  });
}

const put = (lease: Lease): LeaseEvent => ({ kind: 'put', lease });
const shown = ({ subnets, host }: Lease): string =>
  `${formatPrefixes(subnets)} of ${formatAddresses(host.publicIp)}`;

t.test('LeaseView.apply() of a lease by itself, in a network of both families', (t) => {
  const rows: [subnet: string, publicIp: string, expected: string][] = [
    ['10.5.21.0/24&fd00:5:0:21::/64', '172.20.0.2&2001:db8::2', 'used'],
    ['10.5.21.0/24', '172.20.0.2', 'used'],
    ['fd00:5:0:21::/64', '2001:db8::2', 'used'],
    ['10.5.21.0/24', '2001:db8::2', 'used'],
    ['10.5.21.0/24&fd00:5:0:21::/64', '172.20.0.2', 'used'],
    ['fd00:5:0:21::/64', 'fc00::2', 'used'],
    ['fd00:5:0:21::/64', 'fd00:5:0:f::1', 'used'],
    ['10.5.21.7/24&fd00:5:0:21::/64', '172.20.0.2', 'host-bits: 10.5.21.7/24 of 172.20.0.2'],
    [
      '10.5.21.0/24&fd00:5:0:21::7/64',
      '172.20.0.2&2001:db8::2',
      'host-bits: fd00:5:0:21::7/64 of 2001:db8::2',
    ],
    ['fd00:6:0:21::/64', '2001:db8::2', 'outside-network: fd00:6:0:21::/64 of 2001:db8::2'],
    ['10.6.21.0/24&fd00:5:0:21::/64', '172.20.0.2', 'outside-network: 10.6.21.0/24 of 172.20.0.2'],
    ['fd00:5::/48', '2001:db8::2', 'not-longer-than-network: fd00:5::/48 of 2001:db8::2'],
    ['10.5.21.0/24&fd00::/16', '172.20.0.2', 'not-longer-than-network: fd00::/16 of 172.20.0.2'],
    ['10.5.21.0/24&fd00:5:0:20::/64', '172.20.0.2', 'overlaps-own: fd00:5:0:20::/64 of 172.20.0.2'],
    ['fd00:5:0:20:8000::/65', '2001:db8::2', 'overlaps-own: fd00:5:0:20:8000::/65 of 2001:db8::2'],
    ['10.5.20.0/24&fd00:5:0:21::/64', '172.20.0.2', 'overlaps-own: 10.5.20.0/24 of 172.20.0.2'],
    ['fd00:5:0:21::/64', '::1', 'bad-public-ip: fd00:5:0:21::/64 of ::1'],
    ['fd00:5:0:21::/64', 'fe80::2', 'bad-public-ip: fd00:5:0:21::/64 of fe80::2'],
    ['fd00:5:0:21::/64', 'ff02::2', 'bad-public-ip: fd00:5:0:21::/64 of ff02::2'],
    ['fd00:5:0:21::/64', '::ffff:172.20.0.2', 'bad-public-ip: fd00:5:0:21::/64 of ::ffff:172.20.0.2'],
    ['10.5.21.0/24', '172.20.0.2&2001:db8::1', 'own-public-ip: 10.5.21.0/24 of 2001:db8::1'],
    ['fd00:5:0:21::/64', '2001:db8::1', 'own-public-ip: fd00:5:0:21::/64 of 2001:db8::1'],
    ['fd00:5:0:21::/64', 'fd00:5:0:10::1', 'public-ip-in-overlay: fd00:5:0:21::/64 of fd00:5:0:10::1'],
    ['10.5.21.0/24', '172.20.0.2&fd00:5:0:ffff::', 'public-ip-in-overlay: 10.5.21.0/24 of fd00:5:0:ffff::'],
  ];
  for (const [subnet, publicIp, expected] of rows) {
    const view = openView('dual');
    const { diff, refusals } = view.apply({ kind: 'events', events: [put(leaseOf({ subnet, publicIp }))] });
    const found = [
      ...diff.added.map(() => 'used'),
      ...refusals.map(({ code, text }) => `${code}: ${text.slice(0, text.indexOf(': '))}`),
    ];
    t.strictSame(found, [expected], `${subnet} of ${publicIp}`);
  }
  t.end();
});

t.test('a peer has nothing of a family that the network has not', (t) => {
  const dual = leaseOf({
    subnet: '10.5.21.0/24&fd00:5:0:21::/64',
    publicIp: '172.20.0.2&2001:db8::2',
    backendType: 'vxlan',
    backendData: { VNI: 1 },
    backendV6Data: { VNI: 6 },
  });
  const rows: ['dual' | 'v4' | 'v6', string, object][] = [
    [
      'dual',
      '10.5.21.0/24 and fd00:5:0:21::/64 of 172.20.0.2 and 2001:db8::2',
      { v4: { VNI: 1 }, v6: { VNI: 6 } },
    ],
    ['v4', '10.5.21.0/24 of 172.20.0.2', { v4: { VNI: 1 } }],
    ['v6', 'fd00:5:0:21::/64 of 2001:db8::2', { v6: { VNI: 6 } }],
  ];
  for (const [kind, expected, data] of rows) {
    const view = openView(kind);
    view.apply({ kind: 'snapshot', leases: [dual] });
    const [peer] = view.accepted();
    t.equal(shown(peer), expected);
    t.strictSame(peer.host.backend.data, data, kind);
    // What changes in the other family changes nothing.
    const backend = { ...dual.host.backend, data: { ...dual.host.backend.data, v6: { VNI: 7 } } };
    const host = { ...dual.host, backend };
    const { diff } = view.apply({ kind: 'events', events: [put({ ...dual, host })] });
    t.equal(diff.changed.length, kind === 'v4' ? 0 : 1, kind);
  }
  const foreign: ['v4' | 'v6', string, string, RegExp][] = [
    ['v4', 'fd00:5:0:21::/64', '2001:db8::2', /has no subnet and public IP in IPv4$/],
    ['v4', 'fd00:5:0:21::/64', '172.20.0.2', /in IPv4$/],
    ['v4', '10.5.21.0/24', '2001:db8::2', /in IPv4$/],
    ['v6', '10.5.21.0/24', '172.20.0.2', /^10\.5\.21\.0\/24 of 172\.20\.0\.2: has no .* in IPv6$/],
  ];
  for (const [kind, subnet, publicIp, text] of foreign) {
    const view = openView(kind);
    const { diff, refusals } = view.apply({ kind: 'snapshot', leases: [leaseOf({ subnet, publicIp })] });
    t.match({ diff, refusals }, { diff: { added: [] }, refusals: [{ code: 'no-common-family', text }] });
  }
  t.end();
});

t.test('the own lease is no peer, whatever else it has', (t) => {
  for (const kind of ['dual', 'v4', 'v6'] as const) {
    const view = openView(kind);
    const own = leaseOf({ subnet: OWN.dual, publicIp: OWN_IP.dual });
    const { diff, refusals } = view.apply({ kind: 'snapshot', leases: [own] });
    t.strictSame([diff.added, refusals], [[], []], kind);
  }
  t.end();
});

t.test('a lease that covers a host of either family waits until that is gone', (t) => {
  const view = openView('dual');
  const cover = leaseOf({ subnet: 'fd00:5:0:8::/62', publicIp: '2001:db8::3' });
  const inside = leaseOf({ subnet: '10.5.22.0/24', publicIp: 'fd00:5:0:9::1' });
  view.apply({ kind: 'snapshot', leases: [cover, inside] });
  t.match(view.refusals(), [{ code: 'covers-host', text: /covers the address fd00:5:0:9::1 of a host$/ }]);
  const { diff } = view.apply({ kind: 'events', events: [{ kind: 'delete', id: inside.id }] });
  t.strictSame(diff.added.map(shown), ['fd00:5:0:8::/62 of 2001:db8::3']);
  t.end();
});

t.test('leases of two hosts that nest are alarms in either family', (t) => {
  const view = openView('dual');
  view.apply({
    kind: 'snapshot',
    leases: [
      leaseOf({ subnet: '10.5.32.0/20&fd00:5:0:40::/60', publicIp: '172.20.0.2' }),
      leaseOf({ subnet: '10.5.33.0/24&fd00:5:0:41::/64', publicIp: '172.20.0.3' }),
    ],
  });
  t.strictSame(view.alarms(), [
    'lease 10.5.33.0/24 of 172.20.0.3 lies inside 10.5.32.0/20 of 172.20.0.2: the longer one is used',
    'lease fd00:5:0:41::/64 of 172.20.0.3 lies inside fd00:5:0:40::/60 of 172.20.0.2: the longer one is used',
  ]);
  t.end();
});

t.test(
  'of leases that share a subnet of either family the elder is used, after each of many updates',
  (t) => {
    for (let seed = 1; seed <= 40; seed++) {
      let state = seed;
      const next = (below: number): number => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * below);
      };
      const view = openView('dual');
      const stored = new Map<string, Lease>();
      const used = new Set<string>();
      for (let round = 0; round < 100; round++) {
        const host = next(8);
        const v4 = `10.5.${32 + next(4)}.0/24`;
        const v6 = `fd00:5:0:${32 + next(4)}::/64`;
        const lease = leaseOf({
          id: `host${host}`,
          subnet: [`${v4}&${v6}`, v4, v6][next(3)],
          publicIp: `172.20.1.${host}`,
          created: BigInt(next(20)),
        });
        const isDelete = next(4) === 0;
        if (isDelete) stored.delete(lease.id);
        else stored.set(lease.id, lease);
        const event: LeaseEvent = isDelete ? { kind: 'delete', id: lease.id } : put(lease);
        const { diff } = view.apply({ kind: 'events', events: [event] });
        for (const { id } of diff.removed) used.delete(id);
        for (const { id } of diff.added) used.add(id);
        const expected = eldest([...stored.values()]);
        const found = { accepted: [...view.accepted()].map(({ id }) => id).sort(), used: [...used].sort() };
        if (JSON.stringify(found) === JSON.stringify({ accepted: expected, used: expected })) continue;
        t.strictSame(found, { accepted: expected, used: expected }, `seed ${seed}, round ${round}`);
        t.end();
        return;
      }
    }
    t.pass('40 seeds of 100 updates');
    t.end();
  },
);

/** Ids of those used: from the eldest on, each that shares no subnet with one before. */
function eldest(leases: readonly Lease[]): string[] {
  const taken = new Set<string>();
  const age = ({ seniority, id }: Lease): [bigint, string] => [seniority!.created, id];
  const sorted = leases.toSorted((a, b) => {
    const [[one, oneId], [other, otherId]] = [age(a), age(b)];
    return one === other ? (oneId < otherId ? -1 : 1) : one < other ? -1 : 1;
  });
  const used = sorted.filter(({ subnets }) => {
    const texts = formatPrefixes(subnets).split(' and ');
    if (texts.some((text) => taken.has(text))) return false;
    for (const text of texts) taken.add(text);
    return true;
  });
  return used.map(({ id }) => id).sort();
}
