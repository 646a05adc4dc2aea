// What a host lets in from the underlay: every combination of outer source, inner source, inner destination and mode,
// malformed packets of every kind, loops, and floods. A host that is no member, 172.20.0.9, does the sending; for a
// spoofed outer source it owns the address of a peer as well.
//
// The expectation is written down here as its own table, not taken from the code; docs/dataplane.md has it in words.

import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import { dualTable, openScene, PEER, settled, STRANGER, VICTIM } from '../support/admission-scene.js';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import {
  laneCount,
  startDaemon,
  type StaticTable,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';
import { checksum } from '../support/pcap.js';
import { buildPacket, buildPacket6, inject, type Injection } from '../support/packets.js';

const skip = labUnavailable();

const SOURCES = {
  peer: '10.5.2.2',
  otherPeer: '10.5.3.2',
  own: '10.5.1.2',
  ownTun: '10.5.1.0',
  unowned: '10.5.9.9',
  outside: '8.8.8.8',
  peerPublicIp: PEER,
  loopback: '127.0.0.1',
  zero: '0.1.2.3',
  multicast: '224.0.0.5',
  reserved: '240.0.0.1',
} as const;

const DESTINATIONS = {
  container: '10.5.1.2',
  ownTun: '10.5.1.0',
  underlay: VICTIM,
  otherPeer: '10.5.3.3',
  outside: '8.8.4.4',
  multicast: '224.0.0.1',
  broadcast: '255.255.255.255',
  loopback: '127.0.0.1',
  zero: '0.1.2.3',
  reserved: '240.0.0.1',
} as const;

type Mode = 'strict' | 'loose' | 'audit' | 'off';

/** The same of IPv6. Its own hosts have fd00:aa::<host> on the underlay. */
const SOURCES_6 = {
  peer: 'fd00:5:0:2::2',
  otherPeer: 'fd00:5:0:3::2',
  own: 'fd00:5:0:1::2',
  ownTun: 'fd00:5:0:1::',
  ownPublicIp: 'fd00:aa::1',
  unowned: 'fd00:5:0:9::9',
  outside: '2001:db8::8',
  uniqueLocal: 'fd77::1',
  siteLocal: 'fec0::1',
  peerPublicIp: 'fd00:aa::2',
  loopback: '::1',
  zero: '::',
  mapped: '::ffff:10.5.2.2',
  linkLocal: 'fe80::1',
  multicast: 'ff02::1',
} as const;

const DESTINATIONS_6 = {
  container: 'fd00:5:0:1::2',
  ownTun: 'fd00:5:0:1::',
  underlay: 'fd00:aa::1',
  otherPeer: 'fd00:5:0:3::3',
  outside: '2001:db8::4',
  multicast: 'ff02::1',
  loopback: '::1',
  zero: '::',
  linkLocal: 'fe80::2',
  mapped: '::ffff:10.5.1.2',
} as const;

type SourceName = keyof typeof SOURCES | keyof typeof SOURCES_6;
type DestinationName = keyof typeof DESTINATIONS | keyof typeof DESTINATIONS_6;

const MARTIAN_SOURCES: readonly SourceName[] = [
  ...(['loopback', 'zero', 'multicast', 'reserved', 'mapped', 'linkLocal'] as const),
];
const MARTIAN_DESTINATIONS: readonly DestinationName[] = [
  ...(['multicast', 'broadcast', 'loopback', 'zero', 'reserved', 'linkLocal', 'mapped'] as const),
];

/** What travels in what, and who sends it there. */
const WAYS = {
  'v4 in v4': { sources: SOURCES, destinations: DESTINATIONS, outers: [STRANGER, PEER], to: VICTIM },
  'v6 in v4': { sources: SOURCES_6, destinations: DESTINATIONS_6, outers: [STRANGER, PEER], to: VICTIM },
  'v4 in v6': {
    sources: SOURCES,
    destinations: DESTINATIONS,
    outers: ['fd00:aa::9', 'fd00:aa::2'],
    to: 'fd00:aa::1',
  },
  'v6 in v6': {
    ...{ sources: SOURCES_6, destinations: DESTINATIONS_6 },
    ...{ outers: ['fd00:aa::9', 'fd00:aa::2'], to: 'fd00:aa::1' },
  },
} as const;

type Way = keyof typeof WAYS;

/** Counter in which a packet must end. */
function expectedEnd(
  mode: Mode,
  way: Way,
  outer: string,
  source: SourceName,
  destination: DestinationName,
): string {
  if (MARTIAN_SOURCES.includes(source)) return 'drop_martian_source';
  if (MARTIAN_DESTINATIONS.includes(destination)) return 'drop_martian_destination';
  if (mode === 'off' || mode === 'audit') return 'packets_out';
  if (outer === WAYS[way].outers[0]) return 'drop_unknown_peer';
  if (source === 'own' || source === 'ownTun' || source === 'ownPublicIp') return 'drop_own_source';
  if (source === 'otherPeer') return 'drop_spoofed_source';
  // A peer has one public IP here, that of the family it sends over.
  const isPublicIp = source === 'peerPublicIp' && (way === 'v4 in v4' || way === 'v6 in v6');
  if (mode === 'strict' && source !== 'peer' && !isPublicIp) return 'drop_unowned_source';
  return destination === 'container' || destination === 'ownTun' ? 'packets_out' : 'drop_not_ours';
}

/** Every source check by the workers and by a kernel lane, and what the lane takes by the strictest. */
const MATRIX: readonly { readonly mode: Mode; readonly lane: 'off' | 'sparse' | 'all'; readonly way: Way }[] =
  [
    ...(['strict', 'loose', 'audit', 'off'] as const).flatMap((mode) =>
      (['off', 'all'] as const).map((lane) => ({ mode, lane, way: 'v4 in v4' as const })),
    ),
    { mode: 'strict', lane: 'sparse', way: 'v4 in v4' },
    ...(['strict', 'loose', 'audit', 'off'] as const).flatMap((mode) =>
      (['v6 in v4', 'v4 in v6', 'v6 in v6'] as const).map((way) => ({ mode, lane: 'off' as const, way })),
    ),
  ];

for (const { mode, lane, way } of MATRIX) {
  t.test(`injection matrix, ${way}, --source-check=${mode}, --lane=${lane}`, { skip }, async (t) => {
    const name = `m${mode[0]}${lane[0]}${way.replace(/\D/g, '')}-`;
    const { lab, victim, strangerNs } = await openScene(
      t,
      name,
      [`--source-check=${mode}`, `--lane=${lane}`],
      way === 'v4 in v4' ? undefined : (table) => dualTable(table, way.endsWith('v4') ? 'v4' : 'v6'),
    );
    const isUnchecked = lane !== 'off';
    const items: Injection[] = [];
    const expected = new Map<string, number>();
    let refusable = 0;
    const { sources, destinations, outers, to } = WAYS[way];
    const build = way.startsWith('v4') ? buildPacket : buildPacket6;
    for (const from of outers) {
      for (const [source, sourceText] of Object.entries(sources) as [SourceName, string][]) {
        for (const [destination, text] of Object.entries(destinations) as [DestinationName, string][]) {
          items.push({ from, payload: build({ source: sourceText, destination: text }), isUnchecked });
          const end = expectedEnd(mode, way, from, source, destination);
          expected.set(end, (expected.get(end) ?? 0) + 1);
          const isChecked = !MARTIAN_SOURCES.includes(source) && !MARTIAN_DESTINATIONS.includes(destination);
          if (isChecked && expectedEnd('strict', way, from, source, destination) !== 'packets_out')
            refusable++;
        }
      }
    }
    await inject(lab, strangerNs, to, items);
    const { inbound, outbound } = await settled(lab, victim, items.length);
    const ends = Object.entries(inbound).filter(
      ([name, value]) => value > 0 && (name === 'packets_out' || name.startsWith('drop_')),
    );
    t.same(Object.fromEntries(ends), Object.fromEntries(expected));
    t.equal(inbound.audit_would_drop, mode === 'audit' ? refusable : 0);
    // A packet of the peer's to the container, and one to the TUN device: the rest is for the workers to judge. These
    // two as well while a worker is late, which they must not overtake: so once more, alone.
    const taken = await laneIn(lab, victim);
    if (taken !== undefined) {
      t.ok(taken <= 2, `at most two taken by the lane, not ${taken}`);
      await takesBoth(lab, strangerNs, victim, taken);
    }
    // The container answers what reached it ("port unreachable"); nothing else may leave.
    if (mode === 'strict' || mode === 'loose')
      t.ok(outbound.packets_out <= inbound.packets_out, 'nothing leaves again');
  });
}

const GOOD_4 = { source: SOURCES.peer, destination: DESTINATIONS.container };
const GOOD_6 = { source: SOURCES_6.peer, destination: DESTINATIONS_6.container };
/** A header with one option of IPv6. */
const optionOf = (header: 'hopByHop' | 'destination', option: readonly number[]) =>
  [[header === 'hopByHop' ? 0 : 60, [0, 0, ...option]]] as const;
const routeOf = (type: number) => [[43, [0, 2, type, 1, ...new Array<number>(20).fill(0)]]] as const;
const PADDING: readonly [number, readonly number[]] = [60, [0, 0, 1, 4, 0, 0, 0, 0]];
const fragmentOf = (word: number) => [[44, [0, 0, word >> 8, word & 255, 0, 0, 0, 7]]] as const;

const ROUTERS = [{ source: 'fe80::1', destination: 'ff02::1' }];

function edited(packet: Buffer, change: (packet: Buffer) => void): Buffer {
  change(packet);
  return packet;
}

/** Packets that a peer may send and may not, and where they end. */
const MALFORMED: Readonly<Record<FamilyName, readonly (readonly [end: string, packet: Buffer])[]>> = {
  v4: [
    ['drop_short', Buffer.alloc(0)],
    ['drop_short', Buffer.from([0x45])],
    ['drop_short', buildPacket(GOOD_4).subarray(0, 19)],
    ['drop_version', edited(buildPacket(GOOD_4), (p) => (p[0] = 0x65))],
    ['drop_version', Buffer.alloc(20)],
    ['drop_header_length', edited(buildPacket(GOOD_4), (p) => (p[0] = 0x44))],
    ['drop_header_length', edited(buildPacket(GOOD_4), (p) => (p[0] = 0x4f))],
    ['drop_total_length', edited(buildPacket(GOOD_4), (p) => p.writeUInt16BE(p.length + 1, 2))],
    ['drop_total_length', edited(buildPacket(GOOD_4), (p) => p.writeUInt16BE(65535, 2))],
    ['drop_header_length', edited(buildPacket(GOOD_4), (p) => p.writeUInt16BE(19, 2))],
    ['drop_options', buildPacket({ ...GOOD_4, options: Buffer.from([131, 7, 4, 10, 5, 1, 2, 0]) })],
    ['drop_options', buildPacket({ ...GOOD_4, options: Buffer.from([7, 7, 4, 0, 0, 0, 0, 0]) })],
    ['drop_options', buildPacket({ ...GOOD_4, options: Buffer.from([68, 4, 5, 0]) })],
    ['packets_out', buildPacket({ ...GOOD_4, options: Buffer.from([148, 4, 0, 0]) })],
    ['packets_out', buildPacket({ ...GOOD_4, options: Buffer.from([136, 4, 0, 1]) })],
    ['packets_out', buildPacket({ ...GOOD_4, options: Buffer.from([1, 1, 1, 0]) })],
    ['drop_fragment_overflow', buildPacket({ ...GOOD_4, fragment: 0x1fff, payload: Buffer.alloc(100) })],
    ['packets_out', buildPacket({ ...GOOD_4, fragment: 0x2000 })],
    ['drop_ttl_zero', buildPacket({ ...GOOD_4, ttl: 0 })],
    ['drop_ttl_expired', buildPacket({ ...GOOD_4, ttl: 1 })],
    ['packets_out', buildPacket({ ...GOOD_4, ttl: 2 })],
    ['packets_out', Buffer.concat([buildPacket(GOOD_4), Buffer.from('trailing bytes are cut off')])],
    ['packets_out', buildPacket({ ...GOOD_4, payload: Buffer.alloc(65507 - 28) })],
  ],
  v6: [
    ['drop_short', buildPacket6(GOOD_6).subarray(0, 39)],
    ['drop_version', edited(buildPacket6(GOOD_6), (p) => (p[0] = 0x50))],
    ['drop_total_length', edited(buildPacket6(GOOD_6), (p) => p.writeUInt16BE(p.length - 39, 4))],
    ['drop_total_length', edited(buildPacket6(GOOD_6), (p) => p.writeUInt16BE(65535, 4))],
    ['drop_header_length', buildPacket6({ ...GOOD_6, extensions: [[60, [0, 9, 1, 4, 0, 0, 0, 0]]] })],
    ['drop_header_length', buildPacket6({ ...GOOD_6, extensions: Array.from({ length: 9 }, () => PADDING) })],
    ['packets_out', buildPacket6({ ...GOOD_6, extensions: Array.from({ length: 8 }, () => PADDING) })],
    ['drop_header_length', buildPacket6({ ...GOOD_6, extensions: [PADDING, [0, PADDING[1]]] })],
    ['drop_options', buildPacket6({ ...GOOD_6, extensions: routeOf(0) })],
    ['drop_options', buildPacket6({ ...GOOD_6, extensions: routeOf(2) })],
    ['drop_options', buildPacket6({ ...GOOD_6, extensions: optionOf('hopByHop', [0x26, 4, 0, 0, 0, 0]) })],
    ['drop_options', buildPacket6({ ...GOOD_6, extensions: optionOf('hopByHop', [0xc2, 4, 0, 1, 0, 0]) })],
    ['drop_options', buildPacket6({ ...GOOD_6, extensions: optionOf('destination', [0xc9, 4, 0, 0, 0, 0]) })],
    ['drop_options', buildPacket6({ ...GOOD_6, extensions: optionOf('destination', [1, 5, 0, 0, 0, 0]) })],
    ['packets_out', buildPacket6({ ...GOOD_6, extensions: optionOf('hopByHop', [5, 2, 0, 0, 1, 0]) })],
    ['packets_out', buildPacket6({ ...GOOD_6, extensions: optionOf('destination', [4, 1, 4, 1, 1, 0]) })],
    [
      'drop_fragment_overflow',
      buildPacket6({ ...GOOD_6, extensions: fragmentOf(0xfff8), payload: Buffer.alloc(100) }),
    ],
    ['packets_out', buildPacket6({ ...GOOD_6, extensions: fragmentOf(1) })],
    ['drop_ttl_zero', buildPacket6({ ...GOOD_6, ttl: 0 })],
    ['drop_ttl_expired', buildPacket6({ ...GOOD_6, ttl: 1 })],
    ['packets_out', buildPacket6({ ...GOOD_6, ttl: 2 })],
    ['packets_out', Buffer.concat([buildPacket6(GOOD_6), Buffer.from('trailing bytes are cut off')])],
    ['packets_out', buildPacket6({ ...GOOD_6, payload: Buffer.alloc(65507 - 48) })],
  ],
};

for (const family of ['v4', 'v6'] as const) {
  const title = `malformed packets of ${family} are counted by reason, and nothing else happens`;
  t.test(title, { skip }, async (t) => {
    const change = (table: StaticTable): StaticTable => dualTable(table, 'v4');
    const { lab, victim, strangerNs } = await openScene(
      t,
      `b${family}-`,
      [],
      family === 'v4' ? undefined : change,
    );
    const cases = MALFORMED[family];
    await inject(
      lab,
      strangerNs,
      VICTIM,
      cases.map(([, payload]) => ({ from: PEER, payload })),
    );
    const { inbound } = await settled(lab, victim, cases.length);
    const expected = new Map<string, number>();
    for (const [end] of cases) expected.set(end, (expected.get(end) ?? 0) + 1);
    const ends = Object.entries(inbound).filter(
      ([name, value]) => value > 0 && (name === 'packets_out' || name.startsWith('drop_')),
    );
    t.same(Object.fromEntries(ends), Object.fromEntries(expected));
  });
}

for (const [network, end] of [
  ['IPv4', 'drop_version'],
  ['both families', 'drop_martian_source'],
] as const) {
  const title = `IPv6 router advertisements and redirects leave the IPv6 of a host of ${network} as it was`;
  t.test(title, { skip }, async (t) => {
    const change = (table: StaticTable): StaticTable => dualTable(table, 'v4');
    const isDual = network === 'both families';
    const { lab, victim, strangerNs } = await openScene(
      t,
      `ra${network.length}-`,
      ['--source-check=off'],
      isDual ? change : undefined,
    );
    const before = lab.ip(victim.ns, '-6 route show');
    const addresses = lab.ip(victim.ns, '-6 address show dev flannel0');
    // A router's address is link-local in both (RFC 4861 sections 4.2 and 4.5). From another one a host ignores them.
    const sources = isDual ? [...ROUTERS, { ...GOOD_6, destination: SOURCES_6.ownTun }] : ROUTERS;
    const items = sources.flatMap((ends) =>
      [134, 137].map((type): Injection => {
        const message = buildPacket6({ ...ends, ttl: 255, payload: Buffer.alloc(24) });
        message[6] = 58;
        message.set([type, 0, 0, 0, 64, 0, 0x07, 0x08], 40);
        const pseudo = Buffer.concat([message.subarray(8), Buffer.from([0, 0, 0, 32, 0, 0, 0, 58])]);
        message.writeUInt16BE(checksum(pseudo), 42);
        return { from: STRANGER, payload: message, times: 5 };
      }),
    );
    await inject(lab, strangerNs, VICTIM, items);
    const { inbound } = await settled(lab, victim, 5 * items.length);
    t.equal(inbound[end], 10);
    t.equal(inbound.packets_out, isDual ? 10 : 0);
    t.equal(lab.ip(victim.ns, '-6 route show'), before);
    t.equal(lab.ip(victim.ns, '-6 address show dev flannel0'), addresses);
    t.equal(addresses.includes('fe80'), false, 'no link-local address');
    t.equal(addresses.trim() === '', !isDual);
  });
}

t.test('a million bad packets write at most 100 log lines', { skip }, async (t) => {
  const { lab, victim, strangerNs, log } = await openScene(t, 'flood-', []);
  const linesBefore = log().split('\n').length;
  const bad = buildPacket({ source: SOURCES.outside, destination: DESTINATIONS.container });
  await inject(lab, strangerNs, VICTIM, [
    { from: STRANGER, payload: bad, times: 500_000 },
    { from: PEER, payload: bad, times: 250_000 },
    { from: PEER, payload: Buffer.from('junk'), times: 250_000 },
  ]);
  await waitFor(async () => {
    const { inbound, socketDrops } = (await statusOf(lab, victim)).backend.counters;
    return inbound.packets_in + socketDrops >= 1_000_000;
  }, 'all packets to be counted');
  t.ok(log().split('\n').length - linesBefore <= 100, `${log().split('\n').length - linesBefore} lines`);
  t.match(log(), /packets dropped: sent from an address that is the public IP of no lease/);
});

t.test('loops end: at most two packets for one', { skip }, async (t) => {
  await t.test('a lease whose public IP lies in the overlay is refused', async (t) => {
    const poison = { subnet: '10.5.98.0/24', publicIP: '10.5.98.1' };
    const { lab, victim } = await openScene(t, 'l1-', [], (table) => ({
      ...table,
      leases: [...table.leases, poison],
    }));
    await expectFew(t, lab, victim, '10.5.98.5');
    const { degraded } = await statusOf(lab, victim);
    t.same(degraded, [], 'a bad lease of another host does not make this one unready');
  });

  await t.test('a peer that is reached through the overlay device is not sent to', async (t) => {
    const poison = { subnet: '10.5.97.0/24', publicIP: '172.30.0.1' };
    const { lab, victim, staticFile } = await openScene(t, 'l2-', []);
    lab.ip(victim.ns, 'route add 172.30.0.0/24 dev flannel0');
    const table = tableOf([victim]);
    writeTable(staticFile, { ...table, leases: [...table.leases, poison] });
    const refused = async () =>
      (await statusOf(lab, victim)).conditions.find(({ code }) => code === 'peer-route-loop');
    await waitFor(async () => (await refused()) !== undefined, 'the lease to be refused');
    await expectFew(t, lab, victim, '10.5.97.5');
    t.match((await refused())!.text, /172\.30\.0\.1 is reached through flannel0 itself/);
    t.same((await statusOf(lab, victim)).degraded, [], 'nor does this one');
  });

  await t.test('two hosts that each hold the other for the owner', async (t) => {
    const lab = Lab.open('l3-');
    t.teardown(() => lab.close());
    const [a, b] = [lab.addHost(1), lab.addHost(2)];
    for (const [self, other] of [
      [a, b],
      [b, a],
    ]) {
      const file = join(self.dir, 'static.json');
      const table = tableOf([a, b]);
      writeTable(file, {
        ...table,
        leases: [...table.leases, { subnet: '10.5.50.0/24', publicIP: other.underlayIp }],
      });
      await startDaemon(lab, self, file, ['--path-probes=false']);
    }
    await expectFew(t, lab, a, '10.5.50.5');
    const { inbound } = (await statusOf(lab, b)).backend.counters;
    t.ok(inbound.drop_not_ours > 0);
  });
});

/** Ten pings from the container make at most two datagrams each, on the whole underlay. */
async function expectFew(t: Test, lab: Lab, host: Host, destination: string): Promise<void> {
  const sentBefore = underlayPackets(lab, host);
  await lab.run(host.containerNs, 'ping', ['-c', '10', '-i', '0.05', '-W', '1', destination], {
    mustSucceed: false,
  });
  const sent = underlayPackets(lab, host) - sentBefore;
  t.ok(sent <= 20 + 10, `${sent} frames, ARP included`);
}

function underlayPackets(lab: Lab, host: Host): number {
  const [link] = JSON.parse(lab.ip(host.ns, '-s -j link show eth0')) as {
    stats64: { tx: { packets: number } };
  }[];
  return link.stats64.tx.packets;
}

/** Packets that the lane has let in; undefined where there is none, by --lane=off or on an old kernel. */
async function laneIn(lab: Lab, host: Host): Promise<number | undefined> {
  if ((await statusOf(lab, host)).backend.lane.mode === 'off') return undefined;
  return await laneCount(lab, host, 'inbound');
}

/** Sends the two packets that the lane may take until it does; it has taken `before` of them. */
async function takesBoth(lab: Lab, from: string, to: Host, before: number): Promise<void> {
  const pair = [DESTINATIONS.container, DESTINATIONS.ownTun].map((destination) => ({
    from: PEER,
    payload: buildPacket({ source: SOURCES.peer, destination }),
    isUnchecked: true,
  }));
  let taken = before;
  await waitFor(async () => {
    const last = taken;
    await inject(lab, from, VICTIM, pair);
    taken = (await laneIn(lab, to)) ?? 0;
    return taken - last === pair.length;
  }, 'the lane to take two packets that come alone');
}
