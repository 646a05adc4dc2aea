// The two decisions for packets of either family that travel over either, as tables, beside those of IPv4 over IPv4
// (lookups.test.ts).

import t from 'tap';
import { SOURCE_CHECKS } from '../../../src/config/options.js';
import { wordsOf } from '../../../src/net/address-words.js';
import { judgeInbound, newInboundArena, type OwnHost } from '../../../src/dataplane/inbound.js';
import { judgeOutbound, newOutboundArena } from '../../../src/dataplane/outbound.js';
import { ownHostOf } from '../../../src/dataplane/own-host.js';
import { RouteReader, RouteTable } from '../../../src/dataplane/route-table.js';
import {
  INBOUND_CAPACITY,
  InboundField,
  OUTBOUND_CAPACITY,
  OUTBOUND_CONTROL,
  OutboundField,
} from '../../../src/native/arena.js';
import { INBOUND_COUNTERS, OUTBOUND_COUNTERS } from '../../../src/native/counters.js';
import { parseIpv4 } from '../../../src/net/ipv4.js';
import { parseIpv6 } from '../../../src/net/ipv6.js';
import { maskOf, parsePrefix } from '../../../src/net/prefix.js';

const word = (address: string): number => parseIpv4(address)! | 0;

const OWN: OwnHost = {
  network: word('10.5.1.0'),
  mask: word('255.255.255.0'),
  publicIp: word('192.0.2.1'),
  ifaceAddress: word('172.20.0.1'),
  wide: { network: wordsOf(parseIpv6('fd00:5:0:1::')!), mask: wordsOf(maskOf(64, 6)) },
  wideHost: {
    publicIp: wordsOf(parseIpv6('2001:db8::1')!),
    ifaceAddress: wordsOf(parseIpv6('fd00:99::1')!),
  },
};

const table = new RouteTable({ v4: parsePrefix('10.5.0.0/16')!, v6: parsePrefix('fd00:5::/48', 6)! });
const LEASES: [string, string][] = [
  ['fd00:5:0:2::/64', '172.20.0.2'],
  ['fd00:5:0:3::/64', '172.20.0.3'],
  ['fd00:5:0:2:8000::/65', '172.20.0.4'], // nested in another host's
];
for (const [subnet, peer] of LEASES)
  table.set(parsePrefix(subnet, 6)!, { address: parseIpv4(peer)!, port: 8285, mtuBytes: 1472 });
// Reached over IPv6. As IPv4 the first word of the peer would be 172.20.0.9.
const WIDE_PEER = { address: parseIpv6('ac14:9::1')!, port: 8285, mtuBytes: 1452 };
table.set(parsePrefix('fd00:5:0:9::/64', 6)!, WIDE_PEER);
table.set(parsePrefix('10.5.9.0/24')!, WIDE_PEER);
table.set(parsePrefix('10.5.8.0/24')!, { address: parseIpv4('172.20.0.9')!, port: 8285, mtuBytes: 1472 });
table.publish();
const reader = new RouteReader(table.buffer, 0);

/** Writes an address of either family into an arena. */
function put(
  arena: Int32Array,
  address: string,
  wide: number,
  first: number,
  rest: number,
  stride: number,
): void {
  const isWide = address.includes(':');
  const words = isWide ? wordsOf(parseIpv6(address)!) : [word(address), -1, -1, -1];
  arena[wide] = isWide ? 1 : 0;
  arena[first] = words[0];
  for (let i = 1; i < 4; i++) arena[rest + (i - 1) * stride] = words[i];
}

function describeOutbound(arena: Int32Array, i: number, source: string, destination: string): void {
  const { WIDE, SOURCE, SOURCE_REST, DESTINATION, DESTINATION_REST } = OutboundField;
  put(arena, source, WIDE + i, SOURCE + i, SOURCE_REST + i, OUTBOUND_CAPACITY);
  put(arena, destination, WIDE + i, DESTINATION + i, DESTINATION_REST + i, OUTBOUND_CAPACITY);
}

t.test('judgeOutbound() of packets of both families in one batch', (t) => {
  const own = 'fd00:5:0:1::2';
  const rows: [string, string, string, string][] = [
    [own, 'fd00:5:0:2::2', 'send', '172.20.0.2'],
    ['10.5.1.2', '10.5.8.1', 'send', '172.20.0.9'],
    [own, 'fd00:5:0:2:8000::', 'send', '172.20.0.4'],
    [own, 'fd00:5:0:3:ffff:ffff:ffff:ffff', 'send', '172.20.0.3'],
    ['2001:db8::7', 'fd00:5:0:3::1', 'send', '172.20.0.3'],
    [own, 'fd00:5:0:77::1', 'drop_no_route', ''],
    [own, '2001:db8::1', 'drop_no_route', ''],
    [own, 'fd00:5:0:1::9', 'drop_own_subnet', ''],
    ['fd00:5:0:2::2', 'fd00:5:0:3::1', 'drop_hairpin', ''],
    ['fd00:5:0:2::2', 'fd00:5:0:1::9', 'drop_hairpin', ''],
    [own, 'fd00:5:0:9::1', 'send', 'ac14:9::1'],
    ['10.5.1.2', '10.5.9.1', 'send', 'ac14:9::1'],
    ['10.5.1.2', '10.5.9.1', 'send', 'ac14:9::1'], // by what its neighbour was told
    ['10.5.1.2', '10.5.8.1', 'send', '172.20.0.9'],
    // Neighbours whose first words are equal, of different families.
    ['253.0.0.5', '253.0.0.5', 'drop_no_route', ''],
    [own, 'fd00:5:0:2::2', 'send', '172.20.0.2'],
    ['253.0.0.5', '253.0.0.5', 'drop_no_route', ''],
  ];
  const arena = newOutboundArena().fill(-1, 0, OUTBOUND_CONTROL); // as an earlier batch may have left it
  for (const [i, [source, destination]] of rows.entries()) describeOutbound(arena, i, source, destination);
  reader.enter();
  judgeOutbound(arena, rows.length, reader, OWN);
  reader.leave();
  for (const [i, [source, destination, expected, peer]] of rows.entries()) {
    const verdict = arena[OutboundField.VERDICT + i];
    const name = `${source} to ${destination}`;
    t.equal(verdict === 0 ? 'send' : OUTBOUND_COUNTERS[verdict], expected, name);
    if (verdict !== 0) continue;
    const isWide = peer.includes(':');
    t.equal(arena[OutboundField.OUTER_WIDE + i], isWide ? 1 : 0, name);
    const [first, ...others] = isWide ? wordsOf(parseIpv6(peer)!) : [word(peer)];
    t.equal(arena[OutboundField.PEER_ADDRESS + i], first, name);
    for (const [word, other] of others.entries())
      t.equal(arena[OutboundField.PEER_ADDRESS_REST + word * OUTBOUND_CAPACITY + i], other, name);
    t.equal(arena[OutboundField.PEER_PORT + i], 8285, name);
    t.equal(arena[OutboundField.PEER_MTU + i], isWide ? 1452 : 1472, name);
  }
  const { REPLY_SOURCE, REPLY_SOURCE_REST } = OutboundField;
  const rest = [0, 1, 2].map((i) => arena[REPLY_SOURCE_REST + i * OUTBOUND_CAPACITY + 2]);
  t.strictSame([arena[REPLY_SOURCE + 2], ...rest], wordsOf(parseIpv6('fd00:5:0:2:8000::')!));
  t.end();
});

t.test('judgeInbound()', (t) => {
  const container = 'fd00:5:0:1::2';
  // outer, inner source, inner destination, strict, loose
  const rows: [string, string, string, string, string][] = [
    ['172.20.0.2', 'fd00:5:0:2::2', container, 'deliver', 'deliver'],
    ['172.20.0.4', 'fd00:5:0:2:8000::9', container, 'deliver', 'deliver'],
    ['172.20.0.2', 'fd00:5:0:2:8000::9', container, 'drop_spoofed_source', 'drop_spoofed_source'],
    ['172.20.0.2', 'fd00:5:0:3::3', container, 'drop_spoofed_source', 'drop_spoofed_source'],
    ['172.20.0.2', 'fd00:5:0:77::7', container, 'drop_unowned_source', 'deliver'],
    ['172.20.0.2', '2001:db8::8', container, 'drop_unowned_source', 'deliver'],
    // Its first word is the sender's public IP.
    ['172.20.0.2', 'ac14:2::1', container, 'drop_unowned_source', 'deliver'],
    ['172.20.0.2', container, container, 'drop_own_source', 'drop_own_source'],
    ['172.20.0.7', 'fd00:5:0:2::2', container, 'drop_unknown_peer', 'drop_unknown_peer'],
    ['192.0.2.1', 'fd00:5:0:2::2', container, 'drop_own_outer', 'drop_own_outer'],
    ['172.20.0.2', 'fd00:5:0:2::2', 'fd00:5:0:3::3', 'drop_not_ours', 'drop_not_ours'],
    ['172.20.0.2', 'fd00:5:0:2::2', '2001:db8::1', 'drop_not_ours', 'drop_not_ours'],
    // A peer of IPv4 that has the first word of a peer of IPv6 owns nothing of it, in either family.
    ['172.20.0.9', 'fd00:5:0:9::1', container, 'drop_spoofed_source', 'drop_spoofed_source'],
    ['172.20.0.9', '10.5.9.1', '10.5.1.2', 'drop_spoofed_source', 'drop_spoofed_source'],
    ['172.20.0.9', '10.5.8.1', '10.5.1.2', 'deliver', 'deliver'],
    // Over IPv6; the others of the first word, or of all but the last one, are strangers.
    ['ac14:9::1', 'fd00:5:0:9::1', container, 'deliver', 'deliver'],
    ['ac14:9::1', '10.5.9.1', '10.5.1.2', 'deliver', 'deliver'],
    ['ac14:9::1', 'fd00:5:0:2::2', container, 'drop_spoofed_source', 'drop_spoofed_source'],
    ['ac14:9::1', '10.5.8.1', '10.5.1.2', 'drop_spoofed_source', 'drop_spoofed_source'],
    ['ac14:9::1', 'fd00:5:0:77::7', container, 'drop_unowned_source', 'deliver'],
    ['ac14:9::1', 'ac14:9::1', container, 'deliver', 'deliver'], // its public IP
    ['ac14:9::1', 'ac14:9::2', container, 'drop_unowned_source', 'deliver'],
    ['ac14:9::1', '172.20.0.9', '10.5.1.2', 'drop_unowned_source', 'deliver'],
    ['ac14:9::1', container, container, 'drop_own_source', 'drop_own_source'],
    ['ac14:9::1', '2001:db8::1', container, 'drop_own_source', 'drop_own_source'],
    ['172.20.0.2', 'fd00:99::1', container, 'drop_own_source', 'drop_own_source'],
    ['ac14:9::1', '192.0.2.1', '10.5.1.2', 'drop_own_source', 'drop_own_source'],
    ['ac14:9::1', 'fd00:5:0:9::1', 'fd00:5:0:9::2', 'drop_not_ours', 'drop_not_ours'],
    ['ac14:9::2', 'fd00:5:0:9::1', container, 'drop_unknown_peer', 'drop_unknown_peer'],
    ['ac14:9:1::1', 'fd00:5:0:9::1', container, 'drop_unknown_peer', 'drop_unknown_peer'],
    ['ac14:2::', 'fd00:5:0:2::2', container, 'drop_unknown_peer', 'drop_unknown_peer'],
    ['2001:db8::1', 'fd00:5:0:9::1', container, 'drop_own_outer', 'drop_own_outer'],
    ['fd00:99::1', '10.5.9.1', '10.5.1.2', 'drop_own_outer', 'drop_own_outer'],
  ];
  const { WIDE, INNER_SOURCE, INNER_SOURCE_REST, INNER_DESTINATION, INNER_DESTINATION_REST } = InboundField;
  const { OUTER_WIDE, OUTER_SOURCE, OUTER_SOURCE_REST } = InboundField;
  for (const check of SOURCE_CHECKS) {
    const arena = newInboundArena();
    for (const [i, [outer, source, destination]] of rows.entries()) {
      put(arena, outer, OUTER_WIDE + i, OUTER_SOURCE + i, OUTER_SOURCE_REST + i, INBOUND_CAPACITY);
      put(arena, source, WIDE + i, INNER_SOURCE + i, INNER_SOURCE_REST + i, INBOUND_CAPACITY);
      put(arena, destination, WIDE + i, INNER_DESTINATION + i, INNER_DESTINATION_REST + i, INBOUND_CAPACITY);
    }
    reader.enter();
    judgeInbound(arena, rows.length, reader, OWN, check);
    reader.leave();
    for (const [i, [outer, source, destination, strict, loose]] of rows.entries()) {
      const name = `${check}: ${source} to ${destination} from host ${outer}`;
      const verdict = arena[InboundField.VERDICT + i];
      const expected = { strict, loose, audit: 'deliver', off: 'deliver' }[check];
      t.equal(verdict === 0 ? 'deliver' : INBOUND_COUNTERS[verdict], expected, name);
      t.equal(arena[InboundField.AUDIT + i], check === 'audit' && strict !== 'deliver' ? 1 : 0, name);
    }
  }
  t.end();
});

t.test('ownHostOf() of a host without IPv4 has no subnet and no address of it', (t) => {
  const own = ownHostOf({
    listen: { v6: parseIpv6('fd00:99::1')! },
    publicIp: { v6: parseIpv6('2001:db8::1')! },
    own: { v6: parsePrefix('fd00:5:0:1::/64', 6)! },
  });
  t.match(own, { wide: OWN.wide, wideHost: OWN.wideHost });
  for (const address of ['0.0.0.0', '0.0.0.1', '10.5.1.1', '255.255.255.255'])
    t.not(word(address) & own.mask, own.network, address);
  t.strictSame(
    ownHostOf({
      listen: { v4: parseIpv4('172.20.0.1')! },
      publicIp: { v4: parseIpv4('192.0.2.1')! },
      own: { v4: parsePrefix('10.5.1.0/24')! },
    }),
    { network: OWN.network, mask: OWN.mask, publicIp: OWN.publicIp, ifaceAddress: OWN.ifaceAddress },
  );
  t.end();
});

t.test('a host without a subnet of IPv6 lets none in', (t) => {
  const { wide, ...own } = OWN;
  t.ok(wide);
  const arena = newInboundArena();
  arena[InboundField.OUTER_SOURCE] = word('172.20.0.2');
  const { WIDE, INNER_SOURCE, INNER_SOURCE_REST, INNER_DESTINATION, INNER_DESTINATION_REST } = InboundField;
  put(arena, 'fd00:5:0:2::2', WIDE, INNER_SOURCE, INNER_SOURCE_REST, INBOUND_CAPACITY);
  put(arena, 'fd00:5:0:1::2', WIDE, INNER_DESTINATION, INNER_DESTINATION_REST, INBOUND_CAPACITY);
  reader.enter();
  judgeInbound(arena, 1, reader, own, 'strict');
  reader.leave();
  t.equal(INBOUND_COUNTERS[arena[InboundField.VERDICT]], 'drop_not_ours');
  t.end();
});
